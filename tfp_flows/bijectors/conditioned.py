"""`condition`: binds conditions to a conditional flow."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows.bijectors.nested import known_dtype, nested_bijectors
from tfp_flows.bijectors.wrapped import Wrapped

tfb, tfd = tfp.bijectors, tfp.distributions

# Read anew at each use, so that gradients reach them and training moves them.
_REFERENCES = (tf.Variable, tfp.util.DeferredTensor)


@keras.saving.register_keras_serializable(package="tfp_flows")
class Conditioned(Wrapped):
    """A conditional bijector with its condition filled in.

        forward:  y = f(x; c)
        inverse:  x = f^-1(y; c)
        log-det:  that of f at c

    The batch axes of the condition are batch axes of the bijector.
    """

    def __init__(
        self, bijector: tfb.Bijector, condition: Any, name: str | None = None
    ) -> None:
        """Binds `condition` to `bijector`.

        Args:
            bijector: A bijector, or chain of them, that takes a condition.
            condition: Tensor `[..., *condition_shape]`; gradients flow to it. A
                `tf.Variable` is kept as such and is a weight of the bijector.
            name: Name of the bijector.
        """
        parameters = dict(locals())
        super().__init__(bijector, parameters, name=name)
        self._condition = _kept(condition)

    def _inner_condition(self, condition: Any) -> tf.Tensor:
        return tf.convert_to_tensor(self._condition)

    def _batch_shape(self, x_event_ndims: Any) -> tf.TensorShape:
        return self._condition.shape[: self._batch_ndims(x_event_ndims)]

    def _batch_shape_tensor(self, x_event_ndims: Any) -> tf.Tensor:
        shape = tf.shape(tf.convert_to_tensor(self._condition))
        return shape[: self._batch_ndims(x_event_ndims)]

    def _batch_ndims(self, x_event_ndims: Any) -> int:
        """Counts the batch axes of the condition that are none of the event's."""
        batch_ndims = self._condition.shape.rank - len(
            condition_shape(self._bijector) or ()
        )
        return max(batch_ndims - (x_event_ndims - self.forward_min_event_ndims), 0)


def condition_shape(bijector: tfb.Bijector) -> tuple[int, ...] | None:
    """Returns the shape of one condition, or None for an unconditional bijector."""
    taker = _taker(bijector)
    return None if taker is None else taker.condition_shape


def condition_dtype(bijector: tfb.Bijector) -> tf.DType:
    """Returns the dtype of conditions: the flow's, unless they are labels."""
    dtype = getattr(_taker(bijector), "condition_dtype", None)
    return tf.as_dtype(dtype or known_dtype(bijector) or keras.config.floatx())


def label_count(bijector: tfb.Bijector) -> int | None:
    """Returns how many labels a flow knows whose conditions are labels, else None."""
    return getattr(_taker(bijector), "labels", None)


def _taker(bijector: tfb.Bijector) -> Any:
    """Returns the outermost part that takes a condition and has none yet."""
    parts = list(nested_bijectors(bijector))
    bound = {
        id(inside)
        for part in parts
        if isinstance(part, Conditioned)
        for inside in nested_bijectors(part.bijector)
    }
    for part in parts:
        taken = getattr(part, "condition_shape", None) is not None
        if taken and id(part) not in bound:
            return part
    return None


def condition(
    flow: tfd.Distribution, c: Any, name: str | None = None
) -> tfd.TransformedDistribution:
    """Returns the distribution of a conditional flow given the condition `c`.

    Args:
        flow: A conditional flow, such as `tff.glow((2,), condition_shape=(3,))`.
        c: Tensor `[*batch, *condition_shape]`; gradients flow to it. A `tf.Variable`
            becomes a weight of the distribution, to be trained with the others or
            alone.
        name: Name of the distribution; None leaves it to a joint distribution.

    Returns:
        A `tfd.TransformedDistribution` of batch shape `batch`, to be used like any
        other: `log_prob`, `sample`, in joint distributions.

    Raises:
        ValueError: If the flow takes no condition, or `c` has another shape.

    Example:
        >>> import tfp_flows as tff
        >>> flow = tff.real_nvp((2,), couplings=2, condition_shape=(3,))
        >>> tff.condition(flow, [[0.0, 1.0, 2.0]]).batch_shape
        TensorShape([1])
    """
    bijector = getattr(flow, "bijector", None)
    shape = None if bijector is None else condition_shape(bijector)
    if shape is None:
        raise ValueError(
            "Argument `flow` must be a conditional flow, built with "
            f"`condition_shape=(...)`. Received: {flow}"
        )
    c = _kept(c, condition_dtype(bijector))
    if (
        c.shape.rank is None
        or c.shape.rank < len(shape)
        or not (c.shape[c.shape.rank - len(shape) :].is_compatible_with(shape))
    ):
        words = ", ".join(map(str, ("...", *shape)))
        raise ValueError(
            f"Argument `c` must have shape [{words}]. Received: c of shape {c.shape}"
        )
    return tfd.TransformedDistribution(
        flow.distribution, Conditioned(bijector, c), name=name
    )


def _kept(c: Any, dtype: tf.DType | None = None) -> Any:
    """Returns a tensor of `dtype`, or the variable that `c` is."""
    if isinstance(c, _REFERENCES):
        return c
    c = tf.convert_to_tensor(c, dtype_hint=dtype)
    return c if dtype is None else tf.cast(c, dtype)
