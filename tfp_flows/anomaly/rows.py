"""`Rows`: data with its log-densities and latents, computed once for all scorers."""

from __future__ import annotations

import dataclasses
import functools
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows.training.sampling import distribution_of, latents_and_log_prob

tfd = tfp.distributions

_COMPILED: weakref.WeakKeyDictionary[tfd.Distribution, dict[tuple, Callable]] = (
    weakref.WeakKeyDictionary()
)


@dataclasses.dataclass(frozen=True, eq=False)
class Rows:
    """What scorers score.

    Attributes:
        x: Data `[n, *event]`.
        log_prob: Its log-density `[n]`, in nats.
        latent: Its latents `[n, *latent]`; `x` itself without a bijector.
    """

    x: np.ndarray
    log_prob: np.ndarray
    latent: np.ndarray

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: Any) -> Rows:
        return Rows(self.x[index], self.log_prob[index], self.latent[index])

    def batches(self, batch_size: int) -> Iterator[Rows]:
        """Yields the rows in pieces of at most `batch_size`."""
        for start in range(0, len(self), batch_size):
            yield self[start : start + batch_size]


def evaluate_rows(
    flow: Any, x: Any, *, condition: Any = None, batch_size: int = 256
) -> Rows:
    """Computes log-densities and latents.

    Args:
        flow: A `tfpf.FlowModel` or a TFP distribution.
        x: Data `[n, *event]` in the flow's units, with n at least 1.
        condition: For a conditional flow, conditions `[n, *condition]`.
        batch_size: Rows at a time.

    Returns:
        The rows, in the flow's dtype.

    Raises:
        ValueError: If the shape of `x` is not that of the flow's data.
    """
    distribution = distribution_of(flow, "flow")
    dtype = distribution.dtype.as_numpy_dtype
    x = np.asarray(x, dtype)
    event = tuple(distribution.event_shape)
    if x.ndim != len(event) + 1 or x.shape[1:] != event or not len(x):
        words = ", ".join(map(str, ("n", *event)))
        raise ValueError(
            f"Argument `x` must have shape [{words}] with at least one row. "
            f"Received: x of shape {x.shape}"
        )
    given = [x] if condition is None else [x, np.asarray(condition, dtype)]

    evaluate = functools.partial(latents_and_log_prob, distribution)
    # Tracing takes longer than one batch, and pays from the second on. It is decided by
    # the number of rows alone: equal questions get answers that are equal to the bit.
    if len(x) > batch_size:
        evaluate = _compiled(distribution, [part.shape[1:] for part in given])
    answers = [
        evaluate(*(tf.constant(part[start : start + batch_size]) for part in given))
        for start in range(0, len(x), batch_size)
    ]
    latent, log_prob = (np.concatenate(part) for part in zip(*answers, strict=True))
    return Rows(x, log_prob, latent)


def _compiled(distribution: tfd.Distribution, shapes: list) -> Callable:
    """Returns the distribution's compiled function, traced once for all calls."""
    functions = _COMPILED.setdefault(distribution, {})
    key = tuple(map(tuple, shapes))
    if key not in functions:
        # The function must not keep alive the key that it is found by.
        reference = weakref.ref(distribution)

        def evaluate(x: tf.Tensor, condition: tf.Tensor | None = None) -> tuple:
            return latents_and_log_prob(reference(), x, condition)

        # Of any number of rows: a last, smaller batch needs no trace of its own.
        signature = [tf.TensorSpec([None, *s], distribution.dtype) for s in key]
        functions[key] = tf.function(
            evaluate, autograph=False, input_signature=signature
        )
    return functions[key]
