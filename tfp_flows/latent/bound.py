"""The importance-weighted bound: what several draws of the posterior know of x."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows.internal.arguments import checked_integer
from tfp_flows.internal.seeds import stateless_seed
from tfp_flows.latent.arguments import check_shape
from tfp_flows.latent.chunks import ROWS
from tfp_flows.latent.model import LatentModel


def importance_weighted_bound(
    model: LatentModel, x: Any, k: int = 64, seed: Any = 0
) -> np.ndarray:
    """Estimates `log p(x)` from below, in nats for each image.

        bound_k = log 1/k sum_i p(x | z_i) p(z_i) / q(z_i | x),   z_i ~ q(z | x)

    Its mean over draws is at most log p(x), rises with k, and reaches log p(x) as k
    grows; k = 1 is the elbo.

    Args:
        model: A `LatentFlow` or `LatentVAE`.
        x: Images `[n, *event_shape]`.
        k: Number of draws for each image.
        seed: An integer or a pair of integers.

    Returns:
        The bounds `[n]`.

    Raises:
        ValueError: If `k` is not a positive integer, or `x` has the wrong shape.

    Reference:
        Burda, Grosse, Salakhutdinov: Importance Weighted Autoencoders, 2015,
        arXiv:1509.00519.
    """
    checked_integer("k", k)
    check_shape("x", x, model.event_shape)

    @tf.function(autograph=False)
    def log_weights(part: tf.Tensor, draw: tf.Tensor) -> tf.Tensor:
        return model.terms(part, draw, training=False)["elbo"]

    bounds = []
    for start in range(0, len(x), ROWS):
        part = tf.cast(x[start : start + ROWS], tf.float32)
        chunk = tf.random.experimental.stateless_fold_in(stateless_seed(seed), start)
        draws = tfp.random.split_seed(chunk, n=k)
        weights = tf.stack([log_weights(part, draws[i]) for i in range(k)])
        bounds.append(tf.reduce_logsumexp(weights, axis=0) - math.log(k))
    return np.concatenate(bounds)
