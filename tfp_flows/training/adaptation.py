"""Data-dependent weights, such as those of `ActNorm`, initialized from a batch."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows.bijectors import paired
from tfp_flows.bijectors.nested import clear_caches, nested_bijectors
from tfp_flows.training.inputs import check_event
from tfp_flows.training.nonfinite import non_finite_rows

tfd = tfp.distributions


def is_adapted(distribution: tfd.Distribution) -> bool:
    """Returns whether no data-dependent weight waits for a batch."""
    parts = nested_bijectors(distribution)
    return all(getattr(part, "is_adapted", True) for part in parts)


def adapt(distribution: tfd.Distribution, x: Any, condition: Any = None) -> None:
    """Initializes every data-dependent weight inside `distribution`.

    Args:
        distribution: Any distribution; one without bijectors has nothing to adapt.
        x: A batch of data `[n, *event]`.
        condition: The conditions of that batch, for a conditional flow.

    Raises:
        ValueError: If the batch has another event shape or is not finite.
    """
    bijector = getattr(distribution, "bijector", None)
    # A distribution around flows, such as `tff.Dequantized`, adapts its own.
    adapts_itself = getattr(distribution, "adapt", None)
    if bijector is None and adapts_itself is None:
        return
    x = tf.convert_to_tensor(x, dtype_hint=distribution.dtype)
    x = tf.cast(x, distribution.dtype)
    event_shape = tuple(distribution.event_shape)
    check_event(x, event_shape, distribution.name)
    if not bool(tf.reduce_all(tf.math.is_finite(x))):
        raise ValueError(
            "Argument `data` must be finite to initialize weights from it. "
            f"Received: {non_finite_rows(x)}"
        )
    if adapts_itself is not None:
        adapts_itself(x)
    else:
        paired.adapt(bijector, x, len(event_shape), condition)
    clear_caches(nested_bijectors(distribution))
