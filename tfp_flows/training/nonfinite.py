"""What happens when a loss is not finite: training stops and says where."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows.bijectors import chain as paired
from tfp_flows.bijectors.repeat import Repeat
from tfp_flows.internal.compat import Chain

tfb = tfp.bijectors


class NonFiniteGuard:
    """Stops a training step before a non-finite loss reaches the weights.

    The check is one `tf.cond` on the loss; only its failing side looks at the data.
    Compiled steps (XLA) cannot call back into Python: there `StopAtNonFinite` reads
    the epoch's loss instead.
    """

    def __init__(self) -> None:
        """Starts with nothing found."""
        self._message: str | None = None

    def checked(
        self, model: keras.Model, loss: tf.Tensor, x: tf.Tensor, condition: Any
    ) -> tf.Tensor:
        """Returns `loss`, whose gradient exists only if it is finite."""
        given = [x] if condition is None else [x, condition]
        step = tf.cast(tf.convert_to_tensor(model.optimizer.iterations), tf.int64)

        def diagnose(value: tf.Tensor, step: tf.Tensor, *batch: tf.Tensor) -> None:
            where = first_non_finite(getattr(model, "distribution", model), *batch)
            self._message = (
                f"The loss of training step {int(step) + 1} is {float(value)}: "
                f"{where} The weights are those before this step."
            )
            raise FloatingPointError(self._message)

        def stop() -> tf.Tensor:
            called = tf.py_function(diagnose, [loss, step, *given], [])
            with tf.control_dependencies([called] if called is not None else []):
                return tf.constant(False)

        @tf.custom_gradient
        def gate(value: tf.Tensor) -> tuple[tf.Tensor, Callable]:
            checked = tf.cond(tf.math.is_finite(value), lambda: tf.constant(True), stop)

            def gradient(upstream: tf.Tensor) -> tf.Tensor:
                # The gradient does not depend on the loss's value; it must wait.
                with tf.control_dependencies([checked]):
                    return tf.identity(upstream)

            return tf.identity(value), gradient

        return gate(loss)

    def reraise(self, error: Exception) -> None:
        """Raises what was found as a `FloatingPointError`, if anything was."""
        message, self._message = self._message, None
        if message is not None:
            raise FloatingPointError(message) from None


class StopAtNonFinite(keras.callbacks.Callback):
    """Stops a compiled training run at the end of an epoch with a non-finite loss."""

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Raises `FloatingPointError` if the epoch's mean loss is not finite."""
        loss = (logs or {}).get("loss", 0.0)
        if not np.isfinite(loss):
            last = int(keras.ops.convert_to_numpy(self.model.optimizer.iterations))
            raise FloatingPointError(
                f"The loss of epoch {epoch + 1} (up to training step {last}) is "
                f"{loss}: {first_non_finite_weight(self.model)} Lower the learning "
                "rate or clip gradients (`clipnorm`), and go on from a checkpoint."
            )


def first_non_finite(distribution: Any, x: tf.Tensor, condition: Any = None) -> str:
    """Says where a batch stops being finite on its way to the latents.

    Args:
        distribution: A distribution, or a model without one of its data.
        x: A batch.
        condition: Its conditions, for a conditional flow.
    """
    if not np.all(np.isfinite(x.numpy())):
        return f"the data itself is not finite ({non_finite_rows(x)})."
    bijector = getattr(distribution, "bijector", None)
    if bijector is None:
        return f"'{distribution.name}' gives it no finite log-likelihood."
    x, event_ndims = tf.cast(x, distribution.dtype), len(distribution.event_shape)
    for part, value, ndims, copy in _steps(bijector, x, event_ndims, condition):
        latent, log_det = paired.inverse_and_log_det(part, value, ndims, condition)
        for what, result in (("latent", latent), ("log-det", log_det)):
            if not _finite(result):
                return (
                    f"the first output that is not finite is the {what} of "
                    f"{type(part).__name__.lstrip('_')} '{part.name}'{copy}."
                )
    return f"the base distribution '{distribution.distribution.name}' gives it."


def non_finite_rows(x: tf.Tensor) -> str:
    """Says how many rows of a batch are not finite and which is the first."""
    rows = np.unique(np.argwhere(~np.isfinite(x.numpy()))[:, 0])
    return f"{len(rows)} of {len(x)} rows with NaN or infinity, first row {rows[0]}"


def first_non_finite_weight(model: keras.Model) -> str:
    """Says which weight is not finite."""
    for weight in model.weights:
        if not np.all(np.isfinite(keras.ops.convert_to_numpy(weight))):
            return f"the first weight that is not finite is '{weight.path}'."
    return "all weights are finite."


def _steps(
    bijector: tfb.Bijector,
    y: tf.Tensor,
    event_ndims: int,
    condition: Any,
    copy: str = "",
) -> Iterator[tuple[tfb.Bijector, tf.Tensor, int, str]]:
    """Yields each part with the value that reaches it from the data's side."""
    if isinstance(bijector, Chain):
        for part in bijector.bijectors:
            yield from _steps(part, y, event_ndims, condition, copy)
            y = paired.inverse_and_log_det(part, y, event_ndims, condition)[0]
            event_ndims = part.inverse_event_ndims(event_ndims)
    elif isinstance(bijector, Repeat):
        for k, step in enumerate(bijector.each_step()):
            yield from _steps(step, y, event_ndims, condition, f" in copy {k}{copy}")
            y = paired.inverse_and_log_det(step, y, event_ndims, condition)[0]
    else:
        yield bijector, y, event_ndims, copy


def _finite(x: tf.Tensor) -> bool:
    return bool(tf.reduce_all(tf.math.is_finite(x)))
