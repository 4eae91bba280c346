"""`Repeat`: many equal steps with stacked weights."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows.bijectors import chain as paired
from tfp_flows.bijectors import reversible as walks
from tfp_flows.bijectors.base import FlowBijector
from tfp_flows.bijectors.tree import known_dtype, nested_bijectors, nested_layers
from tfp_flows.bijectors.weights import Weights
from tfp_flows.nets.conditioner import broadcast_batch, keras_variables

tfb = tfp.bijectors


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


MODES = ("auto", "unrolled", "loop", "reversible")
# Above this many copies the loop's steps are as fast as written-out ones, and the first
# one comes far sooner: `python -m benchmarks depth`.
_LOOP_ABOVE = 8


@keras.saving.register_keras_serializable(package="tfp_flows")
class Repeat(FlowBijector):
    """n copies of a template step, one behind the other.

    With `f_k` the step under the k-th slice of the stacked weights,

        forward:  y = f_0(f_1(... f_{n-1}(x)))      (copy 0 is nearest to the data)
        inverse:  x = f_{n-1}^-1(... f_0^-1(y))
        log-det:  the sum of the copies' log-dets

    The step is any bijector or chain, ours or TFP's, whose weights are Keras
    weights. Its code does not know of the copies: each runs inside
    `keras.StatelessScope` with its slice of the stack. Every copy has its own
    initial draw. Stacking also means that an optimizer updates a few large weights
    instead of n times as many small ones.

    `mode` says how the copies run: `"unrolled"` writes them all into the graph,
    `"loop"` runs them in a `tf.while_loop`, so that the graph and the time to the
    first step do not grow with n; `"reversible"` is the loop with reversible
    back-propagation: nothing is stored but the output, and each copy's input is
    recomputed by its inverse, so that memory does not grow with n (see
    `walks.reversible`); `"auto"` takes the loop for more than 8 copies, unless the
    step keeps state, as dropout does.

    Shapes: those of the step.
    """

    _TF_MODULE_IGNORED_PROPERTIES = FlowBijector._TF_MODULE_IGNORED_PROPERTIES.union(
        ("_step", "_template")
    )

    def __init__(
        self,
        step: tfb.Bijector,
        n: int,
        *,
        mode: str = "auto",
        validate_args: bool = False,
        name: str | None = None,
    ) -> None:
        """Stacks n draws of the step's weights.

        Args:
            step: The template. It belongs to this bijector from now on.
            n: Number of copies, at least 1.
            mode: `"auto"`, `"unrolled"`, `"loop"` or `"reversible"`; see above.
            validate_args: Whether to check outputs for finiteness.
            name: Name of the bijector.

        Raises:
            TypeError: If `step` is not a bijector.
            ValueError: If `n` or `mode` is not understood, the step changes the
                rank of events, or it holds a raw `tf.Variable`.
        """
        parameters = dict(locals())
        _check_arguments(step, n, mode)
        super().__init__(
            event_ndims=int(step.forward_min_event_ndims),
            dtype=known_dtype(step),
            is_constant_jacobian=bool(step.is_constant_jacobian),
            validate_args=validate_args,
            parameters=parameters,
            name=name,
        )
        layers = nested_layers(step)
        self._step = self._no_dependency(_Hidden(step))
        self._n = n
        self._mode = mode
        self._template = self._no_dependency(distinct_variables(layers))
        _refuse_raw_variables(step, self._template)
        self._own("_stacked", StackedWeights(layers, n, name="stacked"))

    @property
    def step(self) -> tfb.Bijector:
        """The template. Its own weights are only a workplace for the copies."""
        return self._step.value

    @property
    def n(self) -> int:
        """Number of copies."""
        return self._n

    @property
    def condition_shape(self) -> tuple[int, ...] | None:
        """Shape of one condition if any part of the step takes one."""
        for part in nested_bijectors(self.step):
            shape = getattr(part, "condition_shape", None)
            if shape is not None:
                return shape
        return None

    def _forward_and_log_det(
        self, x: tf.Tensor, condition: Any = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        return self._run(
            x,
            condition,
            walks.Walk(paired.forward_and_log_det, paired.inverse_and_log_det),
            reverse=True,
        )

    def _inverse_and_log_det(
        self, y: tf.Tensor, condition: Any = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        return self._run(
            y,
            condition,
            walks.Walk(paired.inverse_and_log_det, paired.forward_and_log_det),
            reverse=False,
        )

    def _run(
        self, x: tf.Tensor, condition: Any, walk: walks.Walk, reverse: bool
    ) -> tuple[tf.Tensor, tf.Tensor]:
        stacks = [tf.convert_to_tensor(stack) for stack in self._stacked.stacks]
        order = list(range(self._n))
        if reverse:
            order.reverse()
        if condition is not None:
            condition = tf.convert_to_tensor(condition)
        mode = self._resolved_mode()
        if mode == "unrolled":
            return self._unrolled(walk.there, x, stacks, order, condition)
        run = walks.looped if mode == "loop" else walks.reversible
        copy, uncopy = (
            self._stateless_copy(direction) for direction in (walk.there, walk.back)
        )
        x = self._over_condition(x, condition)
        return run(copy, uncopy, x, stacks, order, condition, self._zero_log_det(x))

    def _resolved_mode(self) -> str:
        if self._mode != "auto":
            return self._mode
        stateful = any("seed" in v.path for v in self._template)
        return "loop" if self._n > _LOOP_ABOVE and not stateful else "unrolled"

    def _in_scope(
        self, direction: Callable, x: tf.Tensor, slices: list[tf.Tensor], condition: Any
    ) -> tuple[tf.Tensor, tf.Tensor, keras.StatelessScope]:
        """Runs the template with the weights of one copy."""
        scope = keras.StatelessScope(collect_losses=True, initialize_variables=False)
        # Not through the constructor: under a mixed precision policy it would round
        # the slices to 16 bits, and `_keep_state` would store them so.
        for variable, value in zip(self._template, slices, strict=True):
            scope.add_update((variable, value))
        with scope:
            event_ndims = self.forward_min_event_ndims
            value, log_det = direction(self.step, x, event_ndims, condition)
        return value, log_det, scope

    def _unrolled(
        self,
        direction: Callable,
        x: tf.Tensor,
        stacks: list[tf.Tensor],
        order: list[int],
        condition: Any,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        slices = [tf.unstack(stack) for stack in stacks]
        log_dets, new_slices = [], [list(each) for each in slices]
        for k in order:
            mine = [each[k] for each in slices]
            x, log_det, scope = self._in_scope(direction, x, mine, condition)
            log_dets.append(log_det)
            for new, variable in zip(new_slices, self._template, strict=True):
                new[k] = scope.get_current_value(variable)
            for loss in scope.losses:
                self._stacked.add_loss(loss)
        self._keep_state(slices, new_slices)
        return x, tf.add_n(log_dets) if len(log_dets) > 1 else log_dets[0]

    def _keep_state(self, old: list[list], new: list[list]) -> None:
        """Writes back what a step has updated, such as the state of its dropout."""
        for stack, before, after in zip(self._stacked.stacks, old, new, strict=True):
            if any(b is not a for b, a in zip(before, after, strict=True)):
                stack.assign(tf.stack(after))

    def _stateless_copy(self, direction: Callable) -> walks.Copy:
        """Returns a function of value, weights and condition, and of nothing else."""

        def copy(
            x: tf.Tensor, slices: list[tf.Tensor], condition: Any
        ) -> tuple[tf.Tensor, tf.Tensor]:
            value, log_det, scope = self._in_scope(direction, x, slices, condition)
            self._refuse_updates(slices, scope)
            return value, log_det

        return copy

    def _refuse_updates(self, slices: list[tf.Tensor], scope: Any) -> None:
        for variable, value in zip(self._template, slices, strict=True):
            if scope.get_current_value(variable) is not value:
                raise ValueError(
                    "Argument `mode` must be 'unrolled' for a step that updates its "
                    f"state, as '{variable.path}' is. Received: mode={self._mode!r}"
                )
        if scope.losses:
            raise ValueError(
                "Argument `mode` must be 'unrolled' for a step that adds losses. "
                f"Received: mode={self._mode!r}"
            )

    def _over_condition(self, x: tf.Tensor, condition: Any) -> tf.Tensor:
        """Gives `x` the condition's batch axes first: a loop's shapes are fixed."""
        if condition is None:
            return x
        event_ndims, ndims = self.forward_min_event_ndims, len(self.condition_shape)
        return broadcast_batch(x, event_ndims, condition, ndims)[0]

    def _zero_log_det(self, x: tf.Tensor) -> tf.Tensor:
        if self.is_constant_jacobian:
            return tf.zeros([], x.dtype)
        batch_ndims = x.shape.rank - self.forward_min_event_ndims
        zeros = tf.zeros(tf.shape(x)[:batch_ndims], x.dtype)
        zeros.set_shape(x.shape[:batch_ndims])
        return zeros

    # Data-dependent initialization, copy by copy.

    def _load(self, k: int) -> None:
        for variable, stack in zip(self._template, self._stacked.stacks, strict=True):
            variable.assign(stack[k])

    def each_step(self) -> Iterator[tfb.Bijector]:
        """Yields the template under each copy's weights in turn, data side first.

        It is one object all the time: look at it before taking the next.
        """
        for k in range(self._n):
            self._load(k)
            yield self.step

    @property
    def is_adapted(self) -> bool:
        """Whether no copy waits for `adapt`."""
        return all(
            getattr(part, "is_adapted", True)
            for step in self.each_step()
            for part in nested_bijectors(step)
        )

    def adapt(self, y: tf.Tensor, condition: Any = None) -> tf.Tensor:
        """Adapts the copies in turn, each to the latents of the one before."""
        y = tf.convert_to_tensor(y)
        rows = [[] for _ in self._template]
        for step in self.each_step():
            y = paired.adapt(step, y, self.forward_min_event_ndims, condition)
            for row, variable in zip(rows, self._template, strict=True):
                row.append(copied(variable))
        for stack, row in zip(self._stacked.stacks, rows, strict=True):
            stack.assign(np.stack(row))
        return y


class _Hidden:
    """Keeps an object out of reach of `tf.Module`'s search for variables."""

    def __init__(self, value: Any) -> None:
        self.value = value


def _check_arguments(step: Any, n: Any, mode: Any) -> None:
    if not isinstance(step, tfb.Bijector):
        raise TypeError(
            "Argument `step` must be a bijector, such as a `tfb.Chain` of couplings. "
            f"Received: step={step!r} of type {type(step).__name__}"
        )
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise ValueError(f"Argument `n` must be a positive integer. Received: n={n!r}")
    if mode not in MODES:
        raise ValueError(f"Argument `mode` must be one of {MODES}. Received: {mode!r}")
    ranks = step.forward_min_event_ndims, step.inverse_min_event_ndims
    if tf.nest.is_nested(ranks[0]) or ranks[0] != ranks[1]:
        raise ValueError(
            "Argument `step` must return events of the rank that it takes. "
            f"Received: a step from rank {ranks[0]} to rank {ranks[1]}"
        )


def _refuse_raw_variables(step: tfb.Bijector, template: list[keras.Variable]) -> None:
    known = {id(variable._value) for variable in template}
    for variable in step.variables:
        if id(variable) not in known:
            raise ValueError(
                "Argument `step` must hold its weights in Keras layers, so that each "
                "copy can have its own; use `tfpf.ActNorm` or another of our bijectors "
                f"in place of it. Received: the raw variable '{variable.name}' of "
                f"shape {variable.shape}"
            )
