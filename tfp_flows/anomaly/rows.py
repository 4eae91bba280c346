"""`Rows`: data with its log-densities and latents, computed once for all scorers."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tfp_flows.bijectors.conditional import condition_shape, taking_conditions
from tfp_flows.internal.arguments import invalid, words
from tfp_flows.internal.batching import map_rows
from tfp_flows.training.data import is_stream
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
    """Computes log-densities and latents of at least one row.

    A condition is one for each row, or one for all. Estimated log-densities are drawn
    from a fixed seed.
    """
    distribution = distribution_of(flow, "flow")
    dtype = distribution.dtype.as_numpy_dtype
    if is_stream(x):
        raise invalid("x", "be an array: give a dataset's batches one by one", x)
    x = np.asarray(flow.encoded(x) if isinstance(flow, FlowModel) else x, dtype)
    event = tuple(distribution.event_shape)
    if x.ndim != len(event) + 1 or x.shape[1:] != event or not len(x):
        must = f"have shape [{words(('n', *event))}] with at least one row"
        raise invalid("x", must, got=f"x of shape {x.shape}")
    arrays = [x]
    if condition is not None:
        arrays.append(_for_each_row(distribution, np.asarray(condition, dtype), len(x)))

    def evaluate(*tensors: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        *given, seed = map(tf.convert_to_tensor, tensors)
        return latents_and_log_prob(distribution, *given, seed=seed)

    # Tracing takes longer than one batch, and pays from the second on. It is decided by
    # the number of rows alone: equal questions get answers that are equal to the bit.
    if len(x) > batch_size:
        # Of any number of rows: a last, smaller batch needs no trace of its own.
        signature = [tf.TensorSpec([None, *a.shape[1:]], a.dtype) for a in arrays]
        signature.append(tf.TensorSpec([2], tf.int32))
        evaluate = tf.function(evaluate, autograph=False, input_signature=signature)
    latent, log_prob = map_rows(evaluate, *arrays, rows=batch_size, seed=0)
    return Rows(x, log_prob, latent)


def _for_each_row(distribution: tfd.Distribution, c: np.ndarray, n: int) -> np.ndarray:
    bijector = taking_conditions(distribution)
    shape = None if bijector is None else condition_shape(bijector)
    if shape is None:
        raise invalid("condition", "be None, as the flow takes none", c)
    if c.shape not in (shape, (1, *shape), (n, *shape)):
        must = f"have shape {(n, *shape)}, or {shape} for all rows"
        raise invalid("condition", must, got=f"condition of shape {c.shape}")
    return np.broadcast_to(c, (n, *shape))
