"""A convolution to few channels as one matrix product.

The last convolution of a conditioner goes from hundreds of channels to a handful.
Convolution kernels are blocked for many output channels and leave most of the
machine idle there: on a CPU the weight gradient of a 3x3 convolution from 64 to 4
channels takes five times as long as the same sums written as a matrix product.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

# Above this many output channels TensorFlow's own convolution is as fast.
WIDEST = 48


def narrow_conv(inputs: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """Convolves with zero padding, like `tf.nn.conv2d(inputs, kernel, 1, "SAME")`.

    With n input and m output channels and a k x k kernel, each position is
    multiplied once with an n x (k^2 m) matrix, and the k^2 narrow results are
    shifted and added. Backwards it is the other way round: the narrow gradient is
    shifted, and two products give the gradients of inputs and kernel.

    Args:
        inputs: Images `[batch, h, w, n]` with static h, w and n.
        kernel: `[k, k, n, m]` with odd k.

    Returns:
        Images `[batch, h, w, m]`.
    """
    return _narrow_conv(inputs, kernel)


@tf.custom_gradient
def _narrow_conv(inputs: Any, kernel: Any) -> tuple[tf.Tensor, Any]:
    _, height, width, n = tuple(inputs.shape)
    k, _, _, m = tuple(kernel.shape)
    rows = tf.reshape(inputs, [-1, n])
    # Taps by column of the kernel, then by row.
    matrix = tf.reshape(tf.transpose(kernel, [2, 1, 0, 3]), [n, k * k * m])
    products = _framed(tf.reshape(rows @ matrix, [-1, height, width, k * k * m]), k)
    # Along the width first, for all rows of the kernel at once, then along the
    # height: 2 k shifts instead of k^2.
    sums = tf.add_n(
        [
            tf.slice(products, [0, 0, j, j * k * m], [-1, -1, width, k * m])
            for j in range(k)
        ]
    )
    outputs = tf.add_n(
        [tf.slice(sums, [0, i, 0, i * m], [-1, height, -1, m]) for i in range(k)]
    )

    def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        framed = _framed(upstream, k)
        down = [
            tf.slice(framed, [0, k - 1 - i, 0, 0], [-1, height, -1, -1])
            for i in range(k)
        ]
        rows_of_taps = tf.concat(down, axis=-1)
        across = [
            tf.slice(rows_of_taps, [0, 0, k - 1 - j, 0], [-1, -1, width, -1])
            for j in range(k)
        ]
        columns = tf.reshape(tf.concat(across, axis=-1), [-1, k * k * m])
        of_inputs = tf.matmul(columns, matrix, transpose_b=True)
        of_kernel = tf.matmul(rows, columns, transpose_a=True)
        of_kernel = tf.transpose(tf.reshape(of_kernel, [n, k, k, m]), [2, 1, 0, 3])
        return tf.reshape(of_inputs, tf.shape(inputs)), of_kernel

    return outputs, gradient


def _framed(images: tf.Tensor, k: int) -> tf.Tensor:
    """Puts a frame of zeros around images, half a kernel wide."""
    frame = [k // 2, k // 2]
    return tf.pad(images, [[0, 0], frame, frame, [0, 0]])
