"""`ConvolutionExponential`: invertible convolutions of more than one pixel."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfp_flows.bijectors.base import FlowBijector, reshaped
from tfp_flows.internal.arguments import (
    Mapped,
    check_last_axis,
    checked_integer,
    invalid,
)


@keras.saving.register_keras_serializable(package="tfp_flows")
class ConvolutionExponential(FlowBijector):
    """The exponential of a convolution of images.

        forward:  y = x + K x + K K x / 2! + K K K x / 3! + ...
        inverse:  x = y - K y + K K y / 2! - K K K y / 3! + ...
        log-det:  h w trace(k[middle]) (forward), minus that

    with `K x` the convolution of an image, zeros around it, with a learned kernel `k`.
    As `det exp(K) = exp(tr K)`, the log-det is exact. The kernel shrinks where the sum
    of the Frobenius norms of its taps, which bounds the norm of `K`, is above 1: the
    series then ends by rounding after 10 terms in float32 and 17 in float64. It starts
    as the identity.

    Shapes: `[..., h, w, channels]`; log-dets are scalars.

    Reference: Hoogeboom, Garcia Satorras, Tomczak, Welling: The Convolution Exponential
    and Generalized Sylvester Flows, 2020, arXiv:2006.01910.

    Example:
        >>> ConvolutionExponential(2).forward(tf.ones([1, 4, 4, 2])).shape
        TensorShape([1, 4, 4, 2])
    """

    def __init__(self, channels: int, *, kernel_size: int = 3, **kwargs: Any) -> None:
        """Makes the kernel.

        Args:
            kernel_size: Side of the kernel, odd.
        """
        self.channels = checked_integer("channels", channels)
        if checked_integer("kernel_size", kernel_size) % 2 == 0:
            raise invalid("kernel_size", "be odd", kernel_size)
        super().__init__(event_ndims=3, is_constant_jacobian=True, **kwargs)
        shape = (kernel_size, kernel_size, channels, channels)
        self._kernel = self.add_weight(shape, "zeros", name="kernel")

    def _forward_and_log_det(self, x: tf.Tensor) -> Mapped:
        return self._series(x, 1.0)

    def _inverse_and_log_det(self, y: tf.Tensor) -> Mapped:
        return self._series(y, -1.0)

    def _series(self, x: tf.Tensor, sign: float) -> Mapped:
        check_last_axis(self, x, self.channels)
        kernel = tf.convert_to_tensor(self._kernel)
        squares = tf.reduce_sum(tf.square(kernel), axis=[-2, -1])
        bound = tf.reduce_sum(tf.sqrt(squares + 1e-24))
        kernel = tf.cast(sign * kernel / tf.maximum(bound, 1.0), x.dtype)
        term = images = tf.reshape(x, tf.concat([[-1], tf.shape(x)[-3:]], 0))
        for k in range(1, _terms(x.dtype) + 1):
            term = tf.nn.conv2d(term, kernel, 1, "SAME") / k
            images += term
        middle = int(kernel.shape[0]) // 2
        trace = tf.linalg.trace(kernel[middle, middle])
        pixels = tf.cast(tf.reduce_prod(tf.shape(x)[-3:-1]), x.dtype)
        return reshaped(images, tf.shape(x), x.shape), pixels * trace


def _terms(dtype: tf.DType) -> int:
    """Returns how many terms are above rounding, for a norm of 1."""
    eps = np.finfo(dtype.as_numpy_dtype).eps
    return next(n for n in range(1, 99) if 1.0 / math.factorial(n + 1) < eps)
