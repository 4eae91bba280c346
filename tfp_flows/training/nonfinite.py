"""What happens when a loss is not finite: training stops and says where."""

from __future__ import annotations

import warnings
import weakref
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

from tfp_flows.bijectors import chain
from tfp_flows.bijectors.tree import clear_caches
from tfp_flows.distributions.surjections import Surjection
from tfp_flows.internal.arguments import Condition
from tfp_flows.internal.compat import Holder
from tfp_flows.training.sampling import log_prob

_ALL_FINITE = "all weights are finite."


class NonFiniteData(FloatingPointError, ValueError):
    """Names rows that are not finite: a refused argument and a failed computation."""


class NonFiniteGuard:
    """Stops a training step before a non-finite loss reaches the weights.

    The check is one `tf.cond` on the loss; only its failing side looks at the data.
    Compiled steps (XLA) cannot call back into Python: there `StopAtNonFinite` reads
    the epoch's loss instead.
    """

    def __init__(self) -> None:
        self._message: str | None = None
        # Held so that Keras neither reports nor saves it.
        self._far = Holder(keras.metrics.Sum(dtype="float32"))

    def count(self, far: tf.Tensor) -> None:
        """Adds to the number of rows of an epoch that do not count."""
        self._far.value.update_state(tf.cast(far, tf.float32))

    def warn_of_far_rows(self) -> None:
        """Says how many rows of the epoch did not count, if any, and starts anew."""
        n = int(self._far.value.result())
        self._far.value.reset_state()
        if n:
            warnings.warn(
                f"{n} rows of this epoch lie so far from the others that they did not "
                "count (see `FlowModel.fit`). Leave sentinels and errors out of the "
                "data, or transform columns with such tails.",
                stacklevel=2,
            )

    def checked(
        self,
        model: Any,
        loss: tf.Tensor,
        weight: tf.Tensor | None,
        x: tf.Tensor,
        condition: Condition,
    ) -> tf.Tensor:
        """Returns `loss`, whose gradient exists only if it is finite."""
        weight = tf.ones([1]) if weight is None else weight
        given = [x] if condition is None else [x, condition]
        # TensorFlow keeps what it calls for as long as the process lives.
        guard, weakly = weakref.ref(self), weakref.ref(model)
        step = tf.cast(tf.convert_to_tensor(model.optimizer.iterations), tf.int64)

        def diagnose(
            value: tf.Tensor, step: tf.Tensor, weight: tf.Tensor, *batch: tf.Tensor
        ) -> None:
            model, self = weakly(), guard()
            if model is None or self is None:
                raise FloatingPointError(f"The loss is {float(value)}.")
            where = first_non_finite_weight(model)
            if not is_finite(weight):
                where = f"`sample_weight` is not finite ({non_finite_rows(weight)})."
            elif where == _ALL_FINITE:
                where = model.where_not_finite(*batch)
            self._message = (
                f"The loss of training step {int(step) + 1} is {float(value)}: "
                f"{where} The weights are those before this step."
            )
            raise FloatingPointError(self._message)

        def stop() -> tf.Tensor:
            called = tf.py_function(diagnose, [loss, step, weight, *given], [])
            with tf.control_dependencies([called] if called is not None else []):
                return tf.constant(False)

        @tf.custom_gradient
        def gate(value: tf.Tensor) -> Any:
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


def far_rows(losses: tf.Tensor) -> tf.Tensor:
    """Returns which losses `[n]` are above `1e5 + 1e3 |median|`, at most half of them.

    Rows that are NaN are not: they stop training.
    """
    return tf.cond(
        tf.reduce_max(losses) > 1e5,  # takes less time to see than a median
        lambda: losses > 1e5 + 1e3 * tf.abs(_lower_median(losses)),
        lambda: tf.zeros_like(losses, tf.bool),
    )


def without_sentinels(x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Replaces rows whose squares would not be finite, and says which those are.

    Such a row `x_i` has `max |x_i| > 1e15 m`, `m` the lower median of the rows' maxima
    if that is not 0; the mean of the other rows takes its place. No weighting after
    the fact helps: the gradient of what is not finite is NaN, and so is `0 * NaN`.
    """
    shape = tf.shape(x)
    flat = tf.reshape(x, [shape[0], tf.reduce_prod(shape[1:])])
    size = tf.reduce_max(tf.abs(flat), axis=1)

    def replaced() -> tuple[tf.Tensor, tf.Tensor]:
        usual = _lower_median(size)
        far = (usual > 0) & (size > 1e15 * usual)
        rows = far[:, tf.newaxis]
        total = tf.reduce_sum(tf.where(rows, tf.zeros_like(flat), flat), axis=0)
        count = tf.reduce_sum(tf.cast(tf.logical_not(far), x.dtype))
        mean = tf.math.divide_no_nan(total, count)
        found = tf.reshape(tf.where(rows, mean, flat), shape)
        return tf.ensure_shape(found, x.shape), far

    # No such row without this, which costs less to see than a median.
    suspect = tf.reduce_max(size) > 1e15 * tf.reduce_min(size)
    return tf.cond(suspect, replaced, lambda: (x, tf.zeros_like(size, tf.bool)))


def _lower_median(values: tf.Tensor) -> tf.Tensor:
    """Returns that of `[n]`; that of no values is such that nothing is above."""
    return tf.reduce_max(tf.sort(values)[: (tf.size(values) + 1) // 2])


class StopAtNonFinite(keras.callbacks.Callback):
    """Stops a compiled training run at the end of an epoch with a non-finite loss."""

    model: keras.Model

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Raises `FloatingPointError` if the epoch's mean loss is not finite."""
        self.model._guard.warn_of_far_rows()
        loss = (logs or {}).get("loss", 0.0)
        if not np.isfinite(loss):
            last = int(keras.ops.convert_to_numpy(self.model.optimizer.iterations))
            raise FloatingPointError(
                f"The loss of epoch {epoch + 1} (up to training step {last}) is "
                f"{loss}: {first_non_finite_weight(self.model)} Lower the learning "
                "rate or clip gradients (`clipnorm`), and go on from a checkpoint."
            )


def first_non_finite(
    distribution: tfd.Distribution, x: tf.Tensor, condition: Condition = None
) -> str:
    """Says where a batch stops being finite on its way to the latents."""
    x = tf.cast(x, distribution.dtype)
    if not is_finite(x):
        return not_finite_data(x)
    found: list[str] = []

    def watch(part: tfb.Bijector, latent: tf.Tensor, log_det: tf.Tensor) -> None:
        for what, result in (("latent", latent), ("log-det", log_det)):
            if not found and not is_finite(result):
                layers = "".join(f" in layer {k}" for k in chain.layers()[::-1])
                found.append(
                    f"the first output that is not finite is the {what} of "
                    f"{type(part).__name__.lstrip('_')} '{part.name}'{layers}."
                )

    clear_caches(distribution)
    bijector, shape = getattr(distribution, "bijector", None), distribution.event_shape
    with chain.watching(watch):
        if bijector is not None and isinstance(shape, tf.TensorShape):
            # TFP's own chains do not show what their parts return.
            chain.inverse_and_log_det(bijector, x, len(shape), condition)
        result = log_prob(distribution, x, condition)
    clear_caches(distribution)
    if found:
        return found[0]
    base = getattr(distribution, "distribution", distribution)
    outside = distribution.outside(x) if isinstance(base, Surjection) else None
    if outside is not None and tf.reduce_any(outside):
        return f"{which_rows(outside)}, hold values that '{base.name}' never gives."
    why = ""
    if float(tf.reduce_min(result)) == -np.inf:
        why = (
            ": latents lie outside of its support. An actnorm puts them there (build "
            "the flow with `actnorm=False`), or splines with another `bound`"
        )
    return f"the base distribution '{base.name}' gives it{why}."


def which_rows(marked: tf.Tensor) -> str:
    """Says how many rows are marked and which is the first."""
    rows = np.flatnonzero(marked)
    return f"{len(rows)} of {len(marked)} rows, first row {rows[0]}"


def not_finite_data(x: tf.Tensor) -> str:
    """Says which data are not finite."""
    return f"the data itself is not finite ({non_finite_rows(x)})."


def non_finite_rows(x: tf.Tensor | np.ndarray) -> str:
    """Says how many rows of a batch are not finite and which is the first."""
    rows = np.unique(np.argwhere(~np.isfinite(x))[:, 0])
    return f"{len(rows)} of {len(x)} rows with NaN or infinity, first row {rows[0]}"


def first_non_finite_weight(model: keras.Model) -> str:
    """Says which weight is not finite."""
    for weight in model.weights:
        if not np.all(np.isfinite(keras.ops.convert_to_numpy(weight))):
            return f"the first weight that is not finite is '{weight.path}'."
    return _ALL_FINITE


def is_finite(x: tf.Tensor) -> bool:
    """Whether all values of an eager tensor are finite."""
    return bool(tf.reduce_all(tf.math.is_finite(x)))
