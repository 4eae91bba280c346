"""`Linear`: `y = A x + b` with a structured matrix."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfp_flows.bijectors.actnorm import check_channels, check_last_axis
from tfp_flows.bijectors.base import FlowBijector
from tfp_flows.bijectors.conv1x1 import mix_channels
from tfp_flows.bijectors.weights import Weights

KINDS = ("full", "triangular", "lu", "householder")


@keras.saving.register_keras_serializable(package="tfp_flows")
class LinearWeights(Weights):
    """The numbers behind a linear map, for `A = I` but for reflections."""

    def __init__(self, d: int, kind: str, reflections: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.d = d
        self.kind = kind
        self.reflections = reflections

    def build(self, input_shape: Any = None) -> None:
        """Makes the matrix in its parametrization, and the shift."""
        d = self.d
        if self.kind == "householder":
            shape, start = (self.reflections, d), "random_normal"
        else:
            shape, start = (d, d), "identity" if self.kind == "full" else "zeros"
        self.matrix = self.add_weight(shape, start, name="matrix")
        self.shift = self.add_weight((d,), "zeros", name="shift")

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        arguments = {"d": self.d, "kind": self.kind, "reflections": self.reflections}
        return {**super().get_config(), **arguments}


@keras.saving.register_keras_serializable(package="tfp_flows")
class Linear(FlowBijector):
    """A learned linear map of vectors.

        forward:  y = A x + b
        inverse:  x = A^-1 (y - b)
        log-det:  log |det A| (forward), minus that (inverse)

    `kind` says what `A` is, with the weights starting at `A = I` for the first three:

    * `"full"`: any matrix; log-det and inverse in O(d^3), and nothing keeps `A`
      from becoming singular;
    * `"triangular"`: `A = L`, lower triangular with diagonal `exp(s)`;
    * `"lu"`: `A = L U`, `L` unit lower and `U` upper triangular with diagonal
      `exp(s)`, packed into one matrix;
    * `"householder"`: a product of `reflections` reflections `I - 2 v v^T / |v|^2`:
      orthogonal, log-det 0.

    Shapes: vectors `[..., d]`; the log-det is a scalar.
    """

    def __init__(
        self,
        d: int,
        *,
        kind: str = "lu",
        reflections: int | None = None,
        dtype: Any = None,
        validate_args: bool = False,
        name: str | None = None,
    ) -> None:
        """Makes the weights.

        Args:
            d: Number of values in a vector.
            kind: `"full"`, `"triangular"`, `"lu"` or `"householder"`; see above.
            reflections: Number of reflections; None for `d`, which reaches every
                rotation or reflection.
            dtype: Float type; defaults to `keras.config.floatx()`.
            validate_args: Whether to check outputs for finiteness.
            name: Name of the bijector.

        Raises:
            ValueError: If `kind` is not known.
        """
        parameters = dict(locals())
        if kind not in KINDS:
            raise ValueError(
                f"Argument `kind` must be one of {KINDS}. Received: kind={kind!r}"
            )
        check_channels(d)
        super().__init__(
            event_ndims=1,
            dtype=dtype,
            is_constant_jacobian=True,
            validate_args=validate_args,
            parameters=parameters,
            name=name,
        )
        weights = LinearWeights(d, kind, reflections or d, dtype=self.dtype.name)
        self._own("_weights", weights.made())

    def _forward_and_log_det(
        self, x: tf.Tensor, condition: Any = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        check_last_axis(self, x, self._weights.d)
        matrix, log_det = self._operator(inverse=False)
        return mix_channels(x, tf.transpose(matrix)) + self._shift(), log_det

    def _inverse_and_log_det(
        self, y: tf.Tensor, condition: Any = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        check_last_axis(self, y, self._weights.d)
        matrix, log_det = self._operator(inverse=True)
        return mix_channels(y - self._shift(), tf.transpose(matrix)), -log_det

    def _shift(self) -> tf.Tensor:
        return tf.convert_to_tensor(self._weights.shift)

    def _operator(self, inverse: bool) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns `A` or `A^-1`, and `log |det A|`."""
        raw = tf.convert_to_tensor(self._weights.matrix)
        kind = self._weights.kind
        if kind == "householder":
            matrix = _reflected(raw)
            matrix = tf.transpose(matrix) if inverse else matrix
            return matrix, tf.zeros([], raw.dtype)
        if kind == "full":
            log_det = tf.linalg.slogdet(raw)[1]
            return (tf.linalg.inv(raw) if inverse else raw), log_det
        log_diagonal = tf.linalg.diag_part(raw)
        diagonal = tf.linalg.diag(tf.exp(log_diagonal))
        strict = np.tril(np.ones(raw.shape), -1).astype(raw.dtype.as_numpy_dtype)
        eye = tf.eye(raw.shape[0], dtype=raw.dtype)
        lower = raw * strict + (diagonal if kind == "triangular" else eye)
        upper = eye if kind == "triangular" else raw * strict.T + diagonal
        log_det = tf.reduce_sum(log_diagonal)
        if not inverse:
            return lower @ upper, log_det
        inverted = tf.linalg.triangular_solve(lower, eye)
        return tf.linalg.triangular_solve(upper, inverted, lower=False), log_det


def _reflected(vectors: tf.Tensor) -> tf.Tensor:
    """Multiplies one reflection for each row."""
    matrix = tf.eye(vectors.shape[1], dtype=vectors.dtype)
    for v in tf.unstack(vectors):
        along = tf.linalg.matvec(matrix, v)[:, tf.newaxis] * v / tf.reduce_sum(v * v)
        matrix = matrix - 2.0 * along
    return matrix
