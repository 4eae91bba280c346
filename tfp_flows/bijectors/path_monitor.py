"""`PathMonitor`: what training sees of the paths of a continuous flow."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf


class PathMonitor(keras.Layer):
    """Adds the cost of a solve's paths to the loss, and counts its evaluations.

    While Keras trains, `kinetic` times the mean of `integral |f|^2 dt` and
    `jacobian` times the mean of `integral |df/dx|_F^2 dt` become a layer loss. In
    `fit` and `evaluate`, the metric `nfe` is the mean number of evaluations of the
    velocity a solve.
    """

    def __init__(self, kinetic: float, jacobian: float, **kwargs: Any) -> None:
        super().__init__(autocast=False, **kwargs)
        self.kinetic = kinetic
        self.jacobian = jacobian
        self.nfe = keras.metrics.Mean(name="nfe")
        self.built = True

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        arguments = {"kinetic": self.kinetic, "jacobian": self.jacobian}
        return {**super().get_config(), **arguments}

    def build_from_config(self, config: dict[str, Any]) -> None:
        """Does nothing: the layer has no weights."""

    def call(
        self,
        evaluations: Any,
        energies: tuple[Any, ...],
        training: bool | None = None,
    ) -> None:
        """Takes the number of evaluations and the integrals, `[n]` each, or none."""
        if training:
            for weight, energy in zip(self._weights_in_use(), energies, strict=True):
                self.add_loss(weight * tf.reduce_mean(energy))
        if training is not None:
            self.nfe.update_state(tf.cast(evaluations, tf.float32))

    def _weights_in_use(self) -> list[float]:
        return [weight for weight in (self.kinetic, self.jacobian) if weight]
