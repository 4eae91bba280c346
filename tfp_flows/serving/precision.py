"""Exports with smaller weights, and what they cost in nats.

Weights are stored in fewer bits and widened when a graph reads them; arithmetic stays
in the flow's own dtype, which its log-determinants need. Since the density and the
samples read the same rounded weights, what is served is still an exact flow, only
another one: how far its log-densities are from the trained flow's is measured.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from tfp_flows.bijectors.tree import layers_in
from tfp_flows.internal.arguments import invalid
from tfp_flows.serving.servable import Condition, Servable

PRECISIONS = ("float32", "float16", "bfloat16", "int8")
_SMALLEST_INT8_FAN = 16

Array = np.ndarray | tf.Tensor
CheckData = Array | tuple[Array, Array | None] | None
Widen = Callable[[], tf.Tensor]


@dataclasses.dataclass(frozen=True)
class PrecisionReport:
    """How far the log-densities of two flows are apart on the same data.

    Attributes:
        nll_change: Its mean nll minus that of the first, in nats.
        bits_per_dim_change: The same in bits per dimension.
        largest_change: Largest change of a single log-density, in nats.
    """

    precision: str
    nll_change: float
    bits_per_dim_change: float
    largest_change: float
    rows: int

    def __str__(self) -> str:
        return (
            f"{self.precision} weights change the nll by {self.nll_change:+.4g} nats "
            f"({self.bits_per_dim_change:+.3g} bits/dim) on {self.rows} rows, a single "
            f"log-density by at most {self.largest_change:.3g} nats."
        )


def reduce_weights(
    model: Servable, precision: str, check_data: CheckData, max_bits_change: float
) -> tuple[Servable, PrecisionReport]:
    """Returns a flow with smaller weights, if that changes it little enough.

    Without `check_data`, rows or `(x, condition)`, they are compared on 256 samples.
    """
    reduced = with_stored_weights(model, precision)
    if check_data is None:
        check_data = model.examples(256)
    elif not isinstance(check_data, tuple):
        check_data = (check_data, None)
    report = compare(model, reduced, precision, *check_data)
    # `not <=`, so that NaN is refused as well.
    if not abs(report.bits_per_dim_change) <= max_bits_change:
        must = f"not be exceeded by what `precision={precision!r}` changes"
        got = f"max_bits_change={max_bits_change}; {report}"
        raise invalid("max_bits_change", must, got=got)
    return reduced, report


def with_stored_weights(model: Servable, precision: str) -> Servable:
    """Returns the same flow, reading Keras weights that are stored in fewer bits.

    "int8" keeps one scale for each column of a kernel, `w = scale q` with q in -127 to
    127, and leaves biases and other small weights as they are.
    """
    stored: list[tuple[keras.Variable, Widen]] = []
    for layer in layers_in(model.distribution):
        for weight in layer.variables:
            widen = _store(weight.numpy(), precision)
            if widen is not None:
                stored.append((weight, widen))

    def reading_them(function: Callable) -> Callable:
        def call(*inputs: Condition) -> tf.Tensor | tuple[tf.Tensor, ...]:
            mapping = [(weight, widen()) for weight, widen in stored]
            with keras.StatelessScope(state_mapping=mapping):
                return function(*inputs)

        return call

    return dataclasses.replace(
        model,
        inverse_function=reading_them(model.inverse_function),
        forward_function=reading_them(model.forward_function),
    )


def compare(
    exact: Servable,
    reduced: Servable,
    precision: str,
    data: Array,
    condition: Array | None,
) -> PrecisionReport:
    """Measures on some data what the weights of `reduced` change."""
    data = tf.cast(data, exact.dtype)
    if condition is not None:
        condition = tf.cast(condition, exact.condition_dtype)
    before = exact.log_prob(data, condition).numpy()
    after = reduced.log_prob(data, condition).numpy()
    change = float(np.mean(before - after))
    return PrecisionReport(
        precision=precision,
        nll_change=change,
        bits_per_dim_change=change / (exact.event_size * math.log(2.0)),
        largest_change=float(np.max(np.abs(before - after))),
        rows=len(before),
    )


def _store(weight: np.ndarray, precision: str) -> Widen | None:
    """Stores a weight in fewer bits, and returns what reads it; None if it stays."""
    if weight.dtype.kind != "f":
        return None
    if precision != "int8":
        half = tf.Variable(tf.cast(weight, precision), trainable=False)
        return lambda: tf.cast(half, weight.dtype)
    if weight.ndim < 2 or weight.shape[-2] < _SMALLEST_INT8_FAN:
        return None
    scale = np.max(np.abs(weight), axis=-2, keepdims=True) / 127.0
    scale = np.where(scale > 0.0, scale, 1.0).astype(weight.dtype)
    rounded = tf.Variable(np.rint(weight / scale).astype(np.int8), trainable=False)
    scales = tf.Variable(scale, trainable=False)
    return lambda: tf.cast(rounded, weight.dtype) * scales
