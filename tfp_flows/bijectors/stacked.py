"""The stacked weights of many copies of a step, each with its own draw."""

from __future__ import annotations

import copy
from typing import Any

import keras
import numpy as np

from tfp_flows.bijectors.weights import Weights
from tfp_flows.nets.conditioner import keras_variables


class StackedWeights(Weights):
    """The weights of n copies of some layers, stacked on a first axis."""

    def __init__(self, layers: list[keras.Layer], n: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._layer_configs = [_described(layer) for layer in layers]
        self._n = n
        template = distinct_variables(layers)
        self.stacks = [
            self._stack(variable, draw, index)
            for index, (variable, draw) in enumerate(
                zip(template, _draws(layers, n), strict=True)
            )
        ]
        self.built = True

    def _stack(
        self, variable: keras.Variable, draw: np.ndarray, index: int
    ) -> keras.Variable:
        if variable.constraint is not None:
            raise ValueError(
                "Argument `step` of `Repeat` must have no weight constraints, which "
                "do not know of stacked copies. "
                f"Received: a constraint on '{variable.path}'"
            )
        stack = self.add_weight(
            draw.shape,
            "zeros",
            name=f"{variable.name}_{index}",
            dtype=keras.backend.standardize_dtype(draw.dtype),
            trainable=variable.trainable,
            regularizer=variable.regularizer,
        )
        stack.assign(draw)
        return stack

    def get_config(self) -> dict[str, Any]:
        """Says how to draw the copies anew, for a `Repeat` within a `Repeat`."""
        return {"layers": self._layer_configs, "n": self._n, "name": self.name}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> StackedWeights:
        """Draws n copies of the described layers."""
        layers = [_drawn(description) for description in config["layers"]]
        return cls(layers, config["n"], name=config["name"])


def distinct_variables(layers: list[keras.Layer]) -> list[keras.Variable]:
    """Returns the variables of some layers, each once."""
    found = {id(v): v for layer in layers for v in keras_variables(layer)}
    return list(found.values())


def _draws(layers: list[keras.Layer], n: int) -> list[np.ndarray]:
    """Draws the initial weights of n copies; copy 0 has the layers' own."""
    copies = [[copied(v) for v in distinct_variables(layers)]]
    descriptions = [_described(layer) for layer in layers]
    for _ in range(n - 1):
        fresh = distinct_variables(
            [_drawn(description) for description in descriptions]
        )
        copies.append([copied(v) for v in fresh])
    return [np.stack(rows) for rows in zip(*copies, strict=True)]


def _described(layer: keras.Layer) -> tuple[type, dict, dict | None]:
    return type(layer), layer.get_config(), layer.get_build_config()


def _drawn(description: tuple[type, dict, dict | None]) -> keras.Layer:
    cls, config, build_config = description
    layer = cls.from_config(copy.deepcopy(config))
    if build_config is not None:
        layer.build_from_config(build_config)
    return layer


def copied(variable: keras.Variable) -> np.ndarray:
    """Returns a variable's value in memory of its own."""
    # TensorFlow may hand out a view of the variable's memory, which changes with it.
    return np.array(keras.ops.convert_to_numpy(variable), copy=True)
