"""Who is shown what bijectors compute: see `chain.watching`."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf
from tensorflow_probability import bijectors as tfb

from tfp_flows.internal.arguments import Mapped

# Called with each bijector that runs, its value and its log-det.
WATCHERS: list[Callable[[tfb.Bijector, tf.Tensor, tf.Tensor], None]] = []


def watched(bijector: tfb.Bijector, value: tf.Tensor, log_det: tf.Tensor) -> Mapped:
    """Shows a result to the watchers."""
    for watcher in WATCHERS:
        watcher(bijector, value, log_det)
    return value, log_det
