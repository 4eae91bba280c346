"""Which latent a data point is matched with: optimal transport within a batch."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfp_flows.internal.arguments import Condition

PAIRINGS = ("independent", "optimal_transport", "sinkhorn")
# Above so many rows an exact assignment would cost more than the step it serves.
MOST_ASSIGNED = 1000
# Entropy's weight, of the mean cost; rounds until the marginals are this near to even.
_SMOOTHING, _ROUNDS, _UNEVEN = 0.02, 500, 0.05
_NEVER = 1e6  # mean costs


def paired(
    kind: str,
    x_0: tf.Tensor,
    x_1: tf.Tensor,
    condition: Condition,
    weight: float,
    seed: tf.Tensor,
) -> tf.Tensor:
    """Returns latents `[n, *event]` in the order of the data that they go with.

    `"optimal_transport"` finds the permutation `s` that minimizes the cost

        sum_j C[j, s(j)],   C[j, i] = |x_1j - x_0i|^2 + weight k |c_j - c_i|^2,

    where `k` makes the means of both terms equal, labels must be the same, and both
    ends are taken around their means, which changes no minimum. Above 1,000 rows, and
    by `"sinkhorn"` always, latents are drawn from the plan that minimizes the cost with
    an entropy, `E_P[C] - 0.02 m H(P)`, with `m` the mean of `|x_1j - x_0i|^2`.

    References: Tong et al.: Improving and generalizing flow-based generative models
    with minibatch optimal transport, 2023, arXiv:2302.00482. Kerrigan, Migliorini,
    Smyth: Dynamic conditional optimal transport through simulation-free flows, 2024,
    arXiv:2404.04240. Cuturi: Sinkhorn distances, 2013, arXiv:1306.0895.
    """
    if kind == "independent":
        return x_0
    distance = tf.stop_gradient(_squares(x_1, x_0))
    cost = distance + tf.stop_gradient(_apart(distance, condition, weight))

    def drawn() -> tf.Tensor:
        return _drawn(cost, _SMOOTHING * tf.reduce_mean(distance), seed)

    if kind == "sinkhorn":
        return tf.gather(x_0, drawn())
    few = tf.shape(cost)[0] <= MOST_ASSIGNED
    return tf.gather(x_0, tf.cond(few, lambda: _assigned(cost), drawn))


def _apart(distance: tf.Tensor, condition: Condition, weight: float) -> tf.Tensor:
    """Returns what different conditions add to the cost, `[n, n]`."""
    if condition is None:
        return tf.zeros_like(distance)
    mean = tf.reduce_mean(distance)
    c = tf.convert_to_tensor(condition)
    if c.dtype.is_floating:
        apart = _squares(tf.cast(c, distance.dtype), tf.cast(c, distance.dtype))
        return weight * tf.math.divide_no_nan(mean, tf.reduce_mean(apart)) * apart
    c = tf.reshape(c, [tf.shape(c)[0], -1])
    differ = tf.reduce_any(tf.not_equal(c[:, tf.newaxis], c[tf.newaxis]), axis=-1)
    return _NEVER * mean * tf.cast(differ, distance.dtype)


def _squares(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """Computes `|a_j - b_i|^2`, `[n, n]`, for points around their own means."""
    a, b = (tf.reshape(x, [tf.shape(x)[0], -1]) for x in (a, b))
    a, b = (x - tf.reduce_mean(x, axis=0) for x in (a, b))
    square = [tf.reduce_sum(tf.square(x), axis=1) for x in (a, b)]
    inner = tf.matmul(a, b, transpose_b=True)
    return tf.maximum(square[0][:, tf.newaxis] + square[1] - 2.0 * inner, 0.0)


def _assigned(cost: tf.Tensor) -> tf.Tensor:
    def assign(cost: np.ndarray) -> np.ndarray:
        from scipy.optimize import linear_sum_assignment

        # What is not finite shows in the loss, where it is named.
        return linear_sum_assignment(np.nan_to_num(cost))[1].astype(np.int32)

    order = tf.numpy_function(assign, [cost], tf.int32, stateful=False)
    order.set_shape(cost.shape[:1])
    return order


def _drawn(cost: tf.Tensor, smoothing: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Draws for each row a column from the entropic plan, `[n]`."""
    scaled = -tf.math.divide_no_nan(cost, smoothing)
    # What is not finite shows in the loss, where it is named.
    scaled = tf.where(tf.math.is_finite(scaled), scaled, tf.zeros_like(scaled))
    rows = tf.zeros_like(scaled[:, :1])
    columns = tf.zeros_like(scaled[:1])

    def uneven(_: tf.Tensor, columns: tf.Tensor) -> tf.Tensor:
        share = tf.reduce_sum(tf.nn.softmax(scaled + columns, axis=1), axis=0)
        return tf.reduce_max(tf.abs(share - 1.0)) > _UNEVEN

    def sinkhorn(_: tf.Tensor, columns: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        rows = -tf.reduce_logsumexp(scaled + columns, axis=1, keepdims=True)
        return rows, -tf.reduce_logsumexp(scaled + rows, axis=0, keepdims=True)

    _, columns = tf.while_loop(
        uneven, sinkhorn, (rows, columns), maximum_iterations=_ROUNDS
    )
    order = tf.random.stateless_categorical(scaled + columns, 1, seed, dtype=tf.int32)
    return order[:, 0]
