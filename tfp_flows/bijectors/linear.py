"""Linear maps of channels: `InvertibleConv1x1` and `Linear`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfp_flows.bijectors.base import FlowBijector, log_abs_det, reshaped
from tfp_flows.bijectors.planar import Parametrized, reflected
from tfp_flows.internal.arguments import (
    Condition,
    DType,
    Mapped,
    check_last_axis,
    check_no_trace,
    checked_choice,
    checked_integer,
)

KINDS = ("lu", "matrix", "permutation", "reverse")


@keras.saving.register_keras_serializable(package="tfp_flows")
class InvertibleConv1x1(FlowBijector):
    """Invertible 1x1 convolution: a learned linear map of the channels.

    With channels as rows and `W` the learned `c x c` matrix,

        inverse:  x = y W          (data to latent: one matmul)
        forward:  y = x W^-1       (latent to data: one matmul, one inverse a call)
        log-det:  log |det W| for each position (inverse), minus that (forward)

    `kind` says how `W` is parametrized:

    * `"lu"`: `W = P L (U + diag(sign exp(d)))`, `P` a fixed permutation, `L` unit
      lower and `U` strictly upper triangular. `log |det W| = sum(d)` costs O(c),
      and `W` cannot become singular. `L`, `U` and `d` are packed into `c^2` weights.
    * `"matrix"`: `W` itself, `c^2` weights, `log |det W|` in O(c^3).
    * `"permutation"`: a random fixed order of the channels, nothing trained.
    * `"reverse"`: the channels in reverse order, nothing trained.

    `W` starts as a random rotation, so the log-det starts at 0.

    Shapes: `[..., channels]`, images too. The log-det is a scalar for one position,
    which TFP multiplies by the number of positions in the event.

    Reference: Kingma, Dhariwal: Glow, 2018, arXiv:1807.03039, section 3.2.
    """

    _WEIGHTS = "Conv1x1Weights"

    def __init__(self, channels: int, *, kind: str = "lu", **kwargs: Any) -> None:
        """Draws the initial matrix."""
        self.channels = checked_integer("channels", channels)
        self._kind = checked_choice("kind", kind, KINDS)
        super().__init__(event_ndims=1, is_constant_jacobian=True, **kwargs)
        check_no_trace(self)
        if kind == "permutation":
            order = np.argsort(keras.random.uniform((channels,)))
            self._order = self._fixed("order", order, "int32")
        elif kind != "reverse":
            shape = (channels, channels)
            rotation = np.array(keras.initializers.Orthogonal()(shape, "float32"))
            if kind == "matrix":
                self._matrix = self.add_weight(shape, rotation, name="matrix")
            else:
                lu, sign, order = lu_parts(rotation)
                self._lu = self.add_weight(shape, lu, name="lu")
                self._sign = self._fixed("sign", sign)
                self._order = self._fixed("order", order, "int32")

    def set_matrix(self, matrix: np.ndarray) -> None:
        """Sets `W`, of kind `"lu"` or `"matrix"`, to an invertible matrix."""
        if self._kind == "matrix":
            self._matrix.assign(matrix)
            return
        weights = self._lu, self._sign, self._order
        for weight, value in zip(weights, lu_parts(matrix), strict=True):
            weight.assign(value)

    def _fixed(
        self, name: str, value: np.ndarray, dtype: DType = None
    ) -> keras.Variable:
        return self.add_weight(
            value.shape, value, name=name, dtype=dtype, trainable=False
        )

    def _inverse_and_log_det(self, y: tf.Tensor) -> Mapped:
        check_last_axis(self, y, self.channels)
        if not self.has_matrix:
            return self._reordered(y, back=False), tf.zeros([], y.dtype)
        matrix, log_det = self.matrix_and_log_det()
        return mix_channels(y, matrix), log_det

    def _forward_and_log_det(self, x: tf.Tensor) -> Mapped:
        check_last_axis(self, x, self.channels)
        if not self.has_matrix:
            return self._reordered(x, back=True), tf.zeros([], x.dtype)
        matrix, log_det = self.inverse_matrix_and_log_det()
        return mix_channels(x, matrix), log_det

    def _reordered(self, x: tf.Tensor, back: bool) -> tf.Tensor:
        if self._kind == "reverse":
            return tf.reverse(x, [-1])
        order = tf.convert_to_tensor(self._order)
        return permute_channels(x, tf.argsort(order) if back else order)

    @property
    def has_matrix(self) -> bool:
        """Whether `W` is learned, and not an order of the channels."""
        return self._kind in ("lu", "matrix")

    def inverse_matrix_and_log_det(self) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns `W^-1` and `-log |det W|`, where `W` is learned."""
        matrix, log_det = self.matrix_and_log_det()
        return self._inverted(matrix), -log_det

    def matrix_and_log_det(self) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns `W` and `log |det W|`, where `W` is learned."""
        if self._kind == "matrix":
            matrix = tf.convert_to_tensor(self._matrix)
            return matrix, log_abs_det(matrix)
        lower, upper, log_diagonal = self._triangles()
        order = tf.convert_to_tensor(self._order)
        matrix = tf.gather(tf.matmul(lower, upper), order, axis=0)
        return matrix, tf.reduce_sum(log_diagonal)

    def _triangles(self) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        lu = tf.convert_to_tensor(self._lu)
        # Products with constants: TensorFlow's functions of diagonals are made of
        # more operations, each of which has to be traced.
        kind = lu.dtype.as_numpy_dtype
        strictly_lower = np.tril(np.ones(lu.shape, kind), -1)
        identity = tf.constant(np.eye(lu.shape[0], dtype=kind))
        log_diagonal = tf.reduce_sum(lu * identity, axis=0)
        diagonal = self._sign * tf.exp(log_diagonal)
        lower = lu * strictly_lower + identity
        upper = lu * strictly_lower.T + identity * diagonal
        return lower, upper, log_diagonal

    def _inverted(self, matrix: tf.Tensor) -> tf.Tensor:
        if self._kind == "matrix":
            return tf.linalg.inv(matrix)
        # W^-1 = U^-1 L^-1 P^T: two triangular solves of the identity.
        lower, upper, _ = self._triangles()
        eye = tf.eye(lower.shape[0], dtype=lower.dtype)
        inverse = tf.linalg.triangular_solve(lower, eye)
        inverse = tf.linalg.triangular_solve(upper, inverse, lower=False)
        return tf.gather(inverse, tf.convert_to_tensor(self._order), axis=1)


def permute_channels(x: tf.Tensor, order: tf.Tensor) -> tf.Tensor:
    """Puts the last axis of `x` in another order.

    The gradient of a gather is a scatter, since entries could be taken twice; that
    of a permutation is the permutation back, which is much faster.
    """

    @tf.custom_gradient
    def permuted(x: tf.Tensor) -> Any:
        def gradient(upstream: tf.Tensor) -> tf.Tensor:
            return permute_channels(upstream, tf.argsort(order))

        return tf.gather(x, order, axis=-1), gradient

    return permuted(x)


def lu_parts(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Decomposes an invertible matrix into the weights of kind `"lu"`.

    They are the packed triangles with the logarithms of the diagonal, the signs of the
    diagonal, and the order of the rows.
    """
    lu, order = (np.array(part) for part in tf.linalg.lu(matrix.astype("float64")))
    diagonal = np.diag(lu)
    packed = lu - np.diag(diagonal) + np.diag(np.log(np.abs(diagonal)))
    return packed, np.sign(diagonal), np.argsort(order)


def mix_channels(x: tf.Tensor, matrix: tf.Tensor) -> tf.Tensor:
    """Multiplies the last axis of `x` by a matrix in one two-dimensional matmul."""
    if x.shape.rank == 2:
        return tf.matmul(x, matrix)
    mixed = tf.matmul(tf.reshape(x, [-1, matrix.shape[0]]), matrix)
    return reshaped(mixed, tf.shape(x), x.shape)


FACTORS = (
    *("full", "triangular", "lu", "householder"),
    *("exponential", "rotation", "low_rank"),
)


@keras.saving.register_keras_serializable(package="tfp_flows")
class Linear(Parametrized):
    """A learned linear map of vectors.

        forward:  y = A x + b
        inverse:  x = A^-1 (y - b)
        log-det:  log |det A| (forward), minus that (inverse)

    `kind` says what `A` is, with the weights starting at `A = I` but for reflections:

    * `"full"`: any matrix; log-det and inverse in O(d^3), and nothing keeps `A`
      from becoming singular;
    * `"triangular"`: `A = L`, lower triangular with diagonal `exp(s)`;
    * `"lu"`: `A = L U`, `L` unit lower and `U` upper triangular with diagonal
      `exp(s)`, packed into one matrix;
    * `"householder"`: a product of `reflections` reflections `I - 2 v v^T / |v|^2`:
      orthogonal, log-det 0;
    * `"exponential"`: `A = exp(M)`, the inverse `exp(-M)`, the log-det `tr M`;
    * `"rotation"`: `A = exp(M - M^T)`: every rotation, log-det 0;
    * `"low_rank"`: `A = diag(exp(s)) + U V^T` of `rank` columns, by Woodbury's formula
      in O(d rank); nothing keeps `A` from becoming singular.

    With `condition_shape`, a network adds to `b` and the weights of `A`.

    Shapes: vectors `[..., d]`; the log-det is a scalar, of a conditional map `[...]`.

    Reference: Hoogeboom, Garcia Satorras, Tomczak, Welling: The Convolution
    Exponential, 2020, arXiv:2006.01910 (exponential). Lu, Huang: Woodbury
    Transformations, 2020, arXiv:2002.12229.
    """

    def __init__(
        self,
        d: int,
        *,
        kind: str = "lu",
        reflections: int | None = None,
        rank: int = 1,
        condition_shape: Sequence[int] | None = None,
        conditioner: keras.Layer | None = None,
        **kwargs: Any,
    ) -> None:
        """Makes the weights.

        Args:
            reflections: Number of reflections; None for `d`, which reaches every
                rotation or reflection.
            rank: Number of columns of `U` and `V`.
        """
        self._kind = checked_choice("kind", kind, FACTORS)
        self._rank = checked_integer("rank", rank)
        rows = {"householder": reflections or d, "low_rank": 2 * rank + 1}.get(kind, d)
        starts = {"full": "identity", "householder": "random_normal"}
        start: Any = starts.get(kind, "zeros")
        if kind == "low_rank":  # of zeros U and V would have no gradient
            start = np.zeros((rows, d))
            start[1 : rank + 1] = keras.random.normal((rank, d), stddev=0.05)
        super().__init__(
            d,
            {"matrix": ((rows, d), start), "shift": ((d,), "zeros")},
            condition_shape,
            conditioner,
            is_constant_jacobian=condition_shape is None,
            **kwargs,
        )

    def _forward_and_log_det(self, x: tf.Tensor, condition: Condition = None) -> Mapped:
        x, (raw, shift) = self._values_and_parameters(x, condition)
        y, log_det = self._mapped(x, raw, inverse=False)
        return y + shift, log_det

    def _inverse_and_log_det(self, y: tf.Tensor, condition: Condition = None) -> Mapped:
        y, (raw, shift) = self._values_and_parameters(y, condition)
        x, log_det = self._mapped(y - shift, raw, inverse=True)
        return x, -log_det

    def _mapped(self, x: tf.Tensor, raw: tf.Tensor, inverse: bool) -> Mapped:
        """Returns `A x` or `A^-1 x`, and `log |det A|`."""
        if self._kind == "low_rank":
            return self._low_rank(x, raw, inverse)
        matrix, log_det = self._operator(raw, inverse)
        if self.condition_shape is None:
            return mix_channels(x, tf.transpose(matrix)), log_det
        return tf.linalg.matvec(matrix, x), log_det

    def _low_rank(self, x: tf.Tensor, raw: tf.Tensor, inverse: bool) -> Mapped:
        s, u, v = tf.split(raw, [1, self._rank, self._rank], axis=-2)
        s = s[..., 0, :]
        # Of the capacitance I + V^T D^-1 U.
        inner = tf.matmul(v, u * tf.exp(-s)[..., tf.newaxis, :], transpose_b=True)
        q, r = tf.linalg.qr(inner + tf.eye(self._rank, dtype=x.dtype))
        log_det = tf.reduce_sum(tf.math.log(tf.abs(tf.linalg.diag_part(r))), -1)
        log_det += tf.reduce_sum(s, -1)
        if not inverse:
            along = tf.linalg.matvec(v, x)
            return x * tf.exp(s) + tf.linalg.matvec(u, along, transpose_a=True), log_det
        scaled = x * tf.exp(-s)
        along = tf.linalg.matvec(q, tf.linalg.matvec(v, scaled), transpose_a=True)
        eye = tf.eye(self._rank, dtype=x.dtype) + tf.zeros_like(r)
        along = tf.linalg.matvec(tf.linalg.triangular_solve(r, eye, False), along)
        back = tf.linalg.matvec(u, along, transpose_a=True) * tf.exp(-s)
        return scaled - back, log_det

    def _operator(self, raw: tf.Tensor, inverse: bool) -> Mapped:
        """Returns `A` or `A^-1`, and `log |det A|`."""
        kind, none = self._kind, tf.zeros_like(raw[..., 0, 0])
        if kind == "householder":
            matrix = reflected(raw)
            return tf.linalg.matrix_transpose(matrix) if inverse else matrix, none
        if kind in ("exponential", "rotation"):
            if kind == "rotation":
                raw = raw - tf.linalg.matrix_transpose(raw)
            log_det = none if kind == "rotation" else tf.linalg.trace(raw)
            return _exponential(-raw if inverse else raw), log_det
        if kind == "full":
            log_det = log_abs_det(raw)
            return (tf.linalg.inv(raw) if inverse else raw), log_det
        log_diagonal = tf.linalg.diag_part(raw)
        diagonal = tf.linalg.diag(tf.exp(log_diagonal))
        strict = np.tril(np.ones((self._d, self._d), raw.dtype.as_numpy_dtype), -1)
        eye = tf.eye(self._d, dtype=raw.dtype) + tf.zeros_like(raw)
        lower = raw * strict + (diagonal if kind == "triangular" else eye)
        upper = eye if kind == "triangular" else raw * strict.T + diagonal
        log_det = tf.reduce_sum(log_diagonal, -1)
        if not inverse:
            return lower @ upper, log_det
        inverted = tf.linalg.triangular_solve(lower, eye)
        return tf.linalg.triangular_solve(upper, inverted, lower=False), log_det


_TERMS, _MOST_SQUARES = 12, 32


def _exponential(matrix: tf.Tensor) -> tf.Tensor:
    """Returns `exp(M)` of matrices `[..., d, d]`: a series of `M / 2^k`, squared.

    With `|M| / 2^k <= 1/4` the series of 12 terms is exact to rounding.
    """
    size = tf.reduce_max(tf.reduce_sum(tf.abs(tf.stop_gradient(matrix)), -1))
    squares = tf.math.ceil(tf.math.log(tf.maximum(size, 0.25)) / math.log(2.0)) + 2.0
    squares = tf.minimum(tf.cast(squares, tf.int32), _MOST_SQUARES)
    small = matrix / tf.pow(
        tf.constant(2.0, matrix.dtype), tf.cast(squares, matrix.dtype)
    )
    eye = tf.eye(matrix.shape[-1], dtype=matrix.dtype) + tf.zeros_like(matrix)
    total = eye
    for k in reversed(range(1, _TERMS + 1)):
        total = eye + tf.matmul(small, total) / k
    return tf.while_loop(
        lambda k, _: k < squares,
        lambda k, a: (k + 1, tf.matmul(a, a)),
        (tf.constant(0), total),
        maximum_iterations=_MOST_SQUARES,
    )[1]
