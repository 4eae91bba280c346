"""Linear prediction by least squares: the arithmetic, without any model around it."""

from __future__ import annotations

from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from tfp_flows.bijectors.normalization import Adaptable
from tfp_flows.internal.arguments import (
    Condition,
    Mapped,
    TensorLike,
    checked_integer,
    invalid,
)


class PredictionFilters(NamedTuple):
    """The best linear predictions of a sample from the 0, 1, ..., p before it.

    Attributes:
        mean: Mean of all samples, a number.
        coefficients: Row k predicts from k samples: entry j - 1 is the weight of the
            sample j steps before, `[p + 1, p]`; the entries beyond k are 0.
        deviations: Standard deviation of what is left, `[p + 1]`.
    """

    mean: float
    coefficients: np.ndarray
    deviations: np.ndarray


def prediction_filters(windows: TensorLike, order: int) -> PredictionFilters:
    """Fits predictions of all orders up to `order` by least squares.

    With `m` the mean and `t` over all samples of all windows that have p before them,
    row k of the coefficients minimizes

        sum_t (y_t - sum_{j=1..k} a_j y_{t-j})^2,    y = x - m,

    and the squared deviation is the mean of what it leaves.

    Windows are audio `[n, length]`, with `length` above `order`.
    """
    checked_integer("order", order, minimum=0)
    x = checked_audio(windows, least=order + 1)
    mean = float(x.mean())
    second = _lagged_moments(x - mean, order)
    coefficients = np.zeros([order + 1, order])
    deviations = np.zeros(order + 1)
    for k in range(order + 1):
        among, with_now = second[1 : k + 1, 1 : k + 1], second[1 : k + 1, 0]
        best = np.linalg.lstsq(among, with_now, rcond=None)[0]
        coefficients[k, :k] = best
        left = second[0, 0] - 2.0 * best @ with_now + best @ among @ best
        # Of a signal that is all predictable, rounding is left.
        deviations[k] = np.sqrt(max(left, 1e-14 * second[0, 0]))
    if not np.all(deviations > 0):
        must = "hold more than silence"
        raise invalid("windows", must, got=f"{len(x)} windows of the one value {mean}")
    return PredictionFilters(mean, coefficients, deviations)


def checked_audio(windows: TensorLike, least: int = 1) -> np.ndarray:
    """Returns windows of audio in double precision, `[n, length]`."""
    x = np.asarray(windows, np.float64)
    if x.ndim != 2 or not len(x) or x.shape[1] < least or not np.all(np.isfinite(x)):
        must = f"be finite audio [n, length] of at least {least} samples each"
        raise invalid("windows", must, got=f"an array of shape {x.shape}")
    return x


def stable(coefficients: np.ndarray, most: float = 0.999) -> np.ndarray:
    """Returns a filter `[p]` that leaves the same, and whose recursion dies out.

    Synthesis runs `y_t = e_t + sum_j a_j y_{t-j}`, which grows without end if a root of
    `z^p - sum_j a_j z^{p-j}` lies outside of the unit circle: such a root is mirrored
    there, and none stays nearer to it than `most`.
    """
    roots = np.roots([1.0, *-np.asarray(coefficients)])
    size = np.abs(roots)
    if np.all(size <= most):
        return np.asarray(coefficients)
    inside = np.minimum(np.where(size > 1.0, 1.0 / np.maximum(size, 1.0), size), most)
    shrunk = roots * inside / np.maximum(size, np.finfo(float).tiny)
    return -np.poly(shrunk)[1:].real


def _lagged_moments(y: np.ndarray, order: int) -> np.ndarray:
    """Returns the means of `y_{t-i} y_{t-j}` for lags up to `order`."""
    length = y.shape[1]
    lagged = [y[:, order - lag : length - lag] for lag in range(order + 1)]
    second = np.empty([order + 1, order + 1])
    for i, one in enumerate(lagged):
        for j in range(i, order + 1):
            second[i, j] = second[j, i] = np.mean(one * lagged[j])
    return second


# Samples that the synthesis filter makes by one matrix product.
_BLOCK = 64


@keras.saving.register_keras_serializable(package="tfp_flows")
class LinearPrediction(Adaptable):
    """A causal filter that predicts each sample from the p before it.

    With `k = min(t, p)` the number of samples before the t-th, counted from 0,

        inverse:  x_t = (y_t - m - sum_{j=1..k} a_kj (y_{t-j} - m)) / s_k
        forward:  y_t = m + s_k x_t + sum_{j=1..k} a_kj (y_{t-j} - m)
        log-det:  sum over t of log s_k (forward), minus that (inverse)

    The Jacobian is triangular. `adapt` measures the mean m, the weights `a` and the
    deviations `s` on audio, by least squares; they are not trained. The p-th row of
    weights is made stable, so that synthesis cannot run away (see `stable`). On noise
    of variance 1 this is a Gaussian autoregressive process, AR(p), as which a flow
    with it on the data's side starts.

    Shapes: audio `[..., length]` of any length above p; the log-det is a scalar.

    Reference: Makhoul: Linear prediction: a tutorial review, Proceedings of the IEEE
    63(4), 1975.

    Example:
        >>> b = LinearPrediction(2, dtype="float64")
        >>> y = np.cos(0.3 * np.arange(50.0))[np.newaxis]
        >>> residual = b.adapt(y)  # cos(w t) = 2 cos(w) cos(w (t-1)) - cos(w (t-2))
        >>> np.round(b.filter / [2 * np.cos(0.3), -1.0], 1)
        array([1., 1.])
    """

    def __init__(self, order: int = 10, **kwargs: Any) -> None:
        """Makes the weights of an identity map."""
        self.order = p = checked_integer("order", order)
        super().__init__(event_ndims=1, is_constant_jacobian=True, **kwargs)
        fixed = {"trainable": False}
        self._coefficients = self.add_weight((p + 1, p), name="coefficients", **fixed)
        self._log_scale = self.add_weight((p + 1,), name="log_scale", **fixed)
        self._mean = self.add_weight(name="mean", **fixed)
        self._wait_for_data()

    @property
    def filter(self) -> np.ndarray:
        """The weights of the p samples before, nearest first."""
        return np.array(keras.ops.convert_to_numpy(self._coefficients))[-1]

    def adapt(self, y: tf.Tensor, condition: Condition = None) -> tf.Tensor:
        """Measures the filters on audio `[n, length]`."""
        rows = np.asarray(y).reshape(-1, y.shape[-1])
        filters = prediction_filters(rows, self.order)
        filters.coefficients[-1] = stable(filters.coefficients[-1])
        self._coefficients.assign(filters.coefficients)
        self._log_scale.assign(np.log(filters.deviations))
        self._mean.assign(filters.mean)
        self._adapted.assign(1)
        return self.inverse_and_log_det(tf.convert_to_tensor(y))[0]

    def _inverse_and_log_det(self, y: tf.Tensor) -> Mapped:
        self._check_length(y)
        p, (a, log_scale, mean) = self.order, self._parts()
        y = y - mean
        first = y[..., :p]
        first -= tf.linalg.matvec(_by_lag(a[:p], _lags(p, p)), first)
        others = y[..., p:]
        for j in range(1, p + 1):
            others -= a[p, j - 1] * y[..., p - j : -j]
        x = tf.concat(
            [first * tf.exp(-log_scale[:p]), others * tf.exp(-log_scale[p])], axis=-1
        )
        return x, -self._log_det(y, log_scale)

    def _forward_and_log_det(self, x: tf.Tensor) -> Mapped:
        self._check_length(x)
        p, (a, log_scale, mean) = self.order, self._parts()
        first = x[..., :p] * tf.exp(log_scale[:p])
        predictions = _by_lag(a[:p], _lags(p, p))
        whole = tf.eye(p, dtype=x.dtype) - predictions
        first = tf.linalg.matvec(_inverted(whole), first)
        others = _synthesized(x[..., p:] * tf.exp(log_scale[p]), first, a[p])
        y = tf.ensure_shape(tf.concat([first, others], axis=-1), x.shape)
        return y + mean, self._log_det(x, log_scale)

    def _parts(self) -> list[tf.Tensor]:
        parts = (self._coefficients, self._log_scale, self._mean)
        return [tf.convert_to_tensor(part) for part in parts]

    def _log_det(self, x: tf.Tensor, log_scale: tf.Tensor) -> tf.Tensor:
        others = tf.cast(tf.shape(x)[-1] - self.order, x.dtype)
        return tf.reduce_sum(log_scale[:-1]) + others * log_scale[-1]

    def _check_length(self, x: tf.Tensor) -> None:
        length = x.shape[-1] if x.shape.rank else 0
        if length is not None and length <= self.order:
            raise ValueError(
                f"LinearPrediction '{self.name}' expected audio of more than "
                f"{self.order} samples. Received: input of shape {x.shape}"
            )


def _lags(rows: int, columns: int, ahead: int = 0) -> np.ndarray:
    """Says how many steps the column's sample lies before the row's."""
    return np.arange(rows)[:, np.newaxis] + ahead - np.arange(columns)


def _by_lag(a: tf.Tensor, lags: np.ndarray) -> tf.Tensor:
    """Puts weights where their lag is: `a` is one row for all, or one for each."""
    p = a.shape[-1]
    places = np.where((lags >= 1) & (lags <= p), lags, 0)
    padded = tf.pad(a, [[0, 0]] * (a.shape.rank - 1) + [[1, 0]])
    return tf.gather(padded, places, axis=-1, batch_dims=a.shape.rank - 1)


def _inverted(triangle: tf.Tensor) -> tf.Tensor:
    eye = tf.eye(triangle.shape[-1], dtype=triangle.dtype)
    return tf.linalg.triangular_solve(triangle, eye)


def _synthesized(noise: tf.Tensor, before: tf.Tensor, a: tf.Tensor) -> tf.Tensor:
    """Runs `y_t = noise_t + sum_j a_j y_{t-j}`, block by block.

    Shapes: noise and result `[..., n]`, the samples before `[..., p]`, weights `[p]`.
    """
    p = int(a.shape[0])
    block = max(_BLOCK, p)
    n = tf.shape(noise)[-1]
    flat = tf.reshape(noise, [-1, n])
    blocks = tf.pad(flat, [[0, 0], [0, tf.math.floormod(-n, block)]])
    blocks = tf.transpose(tf.reshape(blocks, [tf.shape(flat)[0], -1, block]), [1, 0, 2])
    # Within a block, (I - own) y = noise + past: `own` holds the weights of samples
    # of the same block, `past` those of the p samples before it.
    own = _by_lag(a, _lags(block, block))
    answer = _inverted(tf.eye(block, dtype=a.dtype) - own)
    past = _by_lag(a, _lags(block, p, ahead=p))

    def one_more(done: tf.Tensor, driven: tf.Tensor) -> tf.Tensor:
        driven += tf.matmul(done[:, -p:], past, transpose_b=True)
        return tf.matmul(driven, answer, transpose_b=True)

    start = tf.pad(tf.reshape(before, [-1, p]), [[0, 0], [block - p, 0]])
    made = tf.transpose(tf.scan(one_more, blocks, start), [1, 0, 2])
    made = tf.reshape(made, [tf.shape(flat)[0], -1])[:, :n]
    return tf.reshape(made, tf.shape(noise))
