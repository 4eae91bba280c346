"""`Whitening`: principal axes, measured on data, as the first step of a flow."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfp_flows.bijectors.actnorm import check_channels, check_last_axis
from tfp_flows.bijectors.base import FlowBijector
from tfp_flows.bijectors.conv1x1 import mix_channels
from tfp_flows.bijectors.weights import Weights


@keras.saving.register_keras_serializable(package="tfp_flows")
class WhiteningWeights(Weights):
    """Axes, scales and mean of a set of vectors; nothing in it is trained."""

    def __init__(self, d: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.d = d

    def build(self, input_shape: Any = None) -> None:
        """Makes the identity, marked as waiting for data."""
        d, fixed = self.d, {"trainable": False}
        self.axes = self.add_weight((d, d), "identity", name="axes", **fixed)
        self.scale = self.add_weight((d,), "ones", name="scale", **fixed)
        self.shift = self.add_weight((d,), "zeros", name="shift", **fixed)
        self.adapted = self.add_weight(
            (), "zeros", name="adapted", dtype="int32", **fixed
        )

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "d": self.d}


@keras.saving.register_keras_serializable(package="tfp_flows")
class Whitening(FlowBijector):
    """Turns vectors onto their principal axes, each with variance 1.

        forward:  y = V (s x) + m
        inverse:  x = V^T (y - m) / s
        log-det:  sum(log s) (forward), minus that (inverse)

    `adapt` measures `m`, the mean, the columns of `V`, the orthonormal eigenvectors
    of the covariance, and `s^2`, its eigenvalues. They are not trained.

    With it as the first bijector on the data's side, a flow starts as the Gaussian
    fitted to the data, and learns only what that misses. The latents of an
    autoencoder need this: most of them are copies of a few directions, and couplings
    that take turns in the given order first have to find those. The axes are dealt out
    in turn, the largest, third, fifth, ... to the first half, so that both halves of
    `tff.masks.half` have large ones.

    Shapes: vectors `[..., d]`; the log-det is a scalar.

    Example:
        >>> import tfp_flows as tff
        >>> flow = tff.real_nvp((4,), couplings=2, preprocess=Whitening(4))
        >>> tff.FlowModel(flow).is_adapted
        False
    """

    def __init__(
        self,
        d: int,
        *,
        epsilon: float = 1e-6,
        dtype: Any = None,
        validate_args: bool = False,
        name: str | None = None,
    ) -> None:
        """Makes the weights of an identity map.

        Args:
            d: Number of values in a vector.
            epsilon: Smallest standard deviation that `adapt` believes in; an axis
                with less keeps its scale.
            dtype: Float type; defaults to `keras.config.floatx()`.
            validate_args: Whether to check outputs for finiteness.
            name: Name of the bijector.
        """
        parameters = dict(locals())
        check_channels(d)
        super().__init__(
            event_ndims=1,
            dtype=dtype,
            is_constant_jacobian=True,
            validate_args=validate_args,
            parameters=parameters,
            name=name,
        )
        self._epsilon = float(epsilon)
        self._own("_weights", WhiteningWeights(d, dtype=self.dtype.name).made())

    def _forward_and_log_det(
        self, x: tf.Tensor, condition: Any = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        check_last_axis(self, x, self._weights.d)
        axes, scale, shift = self._parts()
        y = mix_channels(x * scale, tf.transpose(axes)) + shift
        return y, tf.reduce_sum(tf.math.log(scale))

    def _inverse_and_log_det(
        self, y: tf.Tensor, condition: Any = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        check_last_axis(self, y, self._weights.d)
        axes, scale, shift = self._parts()
        x = mix_channels(y - shift, axes) / scale
        return x, -tf.reduce_sum(tf.math.log(scale))

    def _parts(self) -> list[tf.Tensor]:
        weights = self._weights
        parts = (weights.axes, weights.scale, weights.shift)
        return [tf.convert_to_tensor(part) for part in parts]

    @property
    def is_adapted(self) -> bool:
        """Whether data has set the weights."""
        return bool(keras.ops.convert_to_numpy(self._weights.adapted))

    def adapt(self, y: tf.Tensor, condition: Any = None) -> tf.Tensor:
        """Measures mean and principal axes of vectors `[n, d]`, with n > d.

        Raises:
            ValueError: If there are too few vectors to measure a covariance.
        """
        y = tf.convert_to_tensor(y)
        d = self._weights.d
        rows = np.asarray(y, np.float64).reshape(-1, d)
        if len(rows) <= d:
            raise ValueError(
                f"Argument `y` must have more than {d} rows to measure the covariance "
                f"of {d} values. Received: {len(rows)} rows"
            )
        variances, axes = np.linalg.eigh(np.cov(rows, rowvar=False, bias=True))
        order = _dealt(d)
        deviations = np.sqrt(np.clip(variances[order], 0.0, None))
        self._weights.axes.assign(axes[:, order])
        self._weights.scale.assign(
            np.where(deviations > self._epsilon, deviations, 1.0)
        )
        self._weights.shift.assign(rows.mean(axis=0))
        self._weights.adapted.assign(1)
        return self._inverse_and_log_det(y)[0]


def _dealt(d: int) -> np.ndarray:
    """Positions in ascending order of variance, dealt out from the largest in turn."""
    descending = np.arange(d)[::-1]
    return np.concatenate([descending[::2], descending[1::2]])
