"""`Rows`: data with its log-densities and latents, computed once for all scorers."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tfp_flows.internal.arguments import invalid, words
from tfp_flows.internal.batching import map_rows
from tfp_flows.training.model import FlowModel
from tfp_flows.training.sampling import distribution_of, latents_and_log_prob


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


def evaluate_rows(
    flow: FlowModel | tfd.Distribution,
    x: npt.ArrayLike,
    *,
    condition: npt.ArrayLike | None = None,
    batch_size: int = 256,
) -> Rows:
    """Computes log-densities and latents of at least one row."""
    distribution = distribution_of(flow, "flow")
    dtype = distribution.dtype.as_numpy_dtype
    x = np.asarray(x, dtype)
    event = tuple(distribution.event_shape)
    if x.ndim != len(event) + 1 or x.shape[1:] != event or not len(x):
        must = f"have shape [{words(('n', *event))}] with at least one row"
        raise invalid("x", must, got=f"x of shape {x.shape}")
    arrays = [x] if condition is None else [x, np.asarray(condition, dtype)]

    def evaluate(*tensors: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return latents_and_log_prob(distribution, *map(tf.convert_to_tensor, tensors))

    # Tracing takes longer than one batch, and pays from the second on. It is decided by
    # the number of rows alone: equal questions get answers that are equal to the bit.
    if len(x) > batch_size:
        # Of any number of rows: a last, smaller batch needs no trace of its own.
        signature = [tf.TensorSpec([None, *a.shape[1:]], a.dtype) for a in arrays]
        evaluate = tf.function(evaluate, autograph=False, input_signature=signature)
    latent, log_prob = map_rows(evaluate, *arrays, rows=batch_size)
    return Rows(x, log_prob, latent)
