"""Entropies and mutual information, as flows have learned them, in nats.

Each function returns an estimate and its standard error, from data that the flows were
not trained on. A flow that misses the truth adds its divergence from it: entropies come
out too large, differences by that of either flow.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import tensorflow as tf

from tfp_flows.internal.arguments import TensorLike, invalid
from tfp_flows.training.sampling import distribution_of, log_prob


def entropy(
    flow: Any, x: TensorLike, condition: TensorLike | None = None
) -> tuple[float, float]:
    """Returns the entropy `H = -E log p(x)`, given a condition the conditional one.

    Args:
        flow: A flow, or a model of one.
        x: Data `[n, *event]`.
        condition: Conditions `[n, *condition_shape]` of a conditional flow.

    Example:
        >>> from tensorflow_probability import distributions as tfd
        >>> x = tf.random.stateless_normal([4000], [1, 2])
        >>> nats = entropy(tfd.Normal(0.0, 1.0), x)[0]  # 0.5 log(2 pi e) = 1.419
        >>> abs(nats - 1.419) < 0.05
        True
    """
    return _mean(-_log_prob(flow, x, condition))


def mutual_information(
    conditional: Any, marginal: Any, x: TensorLike, condition: TensorLike
) -> tuple[float, float]:
    """Returns what conditions say about data: `I = E[log p(x | c) - log p(x)]`.

    Args:
        conditional: A flow of data given conditions, or a model of one.
        marginal: A flow of the data alone.
        x: Data `[n, *event]`.
        condition: Conditions `[n, *condition_shape]`.
    """
    given = _log_prob(conditional, x, condition)
    return _mean(given - _log_prob(marginal, x))


def total_correlation(
    joint: Any, independent: Any, x: TensorLike
) -> tuple[float, float]:
    """Returns what values say about each other: `T = E[log p(x) - sum_i log p_i(x_i)]`.

    Args:
        joint: A flow of data, or a model of one.
        independent: One that has each value by itself, such as a chain of
            `tfpf.Elementwise` behind independent noise.
        x: Data `[n, *event]`.
    """
    return _mean(_log_prob(joint, x) - _log_prob(independent, x))


def _log_prob(
    flow: Any, x: TensorLike, condition: TensorLike | None = None
) -> np.ndarray:
    distribution = distribution_of(flow, "flow")
    x = tf.cast(tf.convert_to_tensor(x), distribution.dtype)
    return np.asarray(log_prob(distribution, x, condition), np.float64)


def _mean(values: np.ndarray) -> tuple[float, float]:
    if values.ndim != 1 or len(values) < 2:
        raise invalid("x", "be two rows or more, [n, *event]", got=f"{values.shape}")
    return float(values.mean()), float(values.std(ddof=1) / math.sqrt(len(values)))
