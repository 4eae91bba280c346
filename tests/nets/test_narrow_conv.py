"""`narrow_conv` computes what TensorFlow's convolution computes."""

import numpy as np
import pytest
import tensorflow as tf

from tfp_flows.nets.conv import narrow_conv


def operands(k=3, n=5, m=2, seed=0):
    rng = np.random.default_rng(seed)
    return tf.constant(rng.normal(size=(2, 4, 6, n))), tf.constant(
        rng.normal(size=(k, k, n, m))
    )


@pytest.mark.parametrize("k", [1, 3, 5])
def test_value_and_gradients(k):
    x, kernel = operands(k)
    results = []
    for convolve in (narrow_conv, lambda x, w: tf.nn.conv2d(x, w, 1, "SAME")):
        with tf.GradientTape() as tape:
            tape.watch([x, kernel])
            y = convolve(x, kernel)
            loss = tf.reduce_sum(tf.sin(y))
        results.append((y, *tape.gradient(loss, [x, kernel])))
    for mine, theirs in zip(*results, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-12)


def test_second_derivatives():
    x, kernel = operands()
    results = []
    for convolve in (narrow_conv, lambda x, w: tf.nn.conv2d(x, w, 1, "SAME")):
        with tf.GradientTape() as outer:
            outer.watch(kernel)
            with tf.GradientTape() as inner:
                inner.watch(x)
                loss = tf.reduce_sum(tf.sin(convolve(x, kernel)))
            gradient = tf.reduce_sum(tf.square(inner.gradient(loss, x)))
        results.append(outer.gradient(gradient, kernel))
    np.testing.assert_allclose(*results, atol=1e-10)


@pytest.mark.parametrize("jit", [False, True])
def test_graphs_and_unknown_batch_size(jit):
    x, kernel = operands()
    spec = tf.TensorSpec([None, 4, 6, 5], tf.float64)

    @tf.function(input_signature=[spec], jit_compile=jit)
    def convolve(x):
        return narrow_conv(x, kernel)

    np.testing.assert_allclose(convolve(x), tf.nn.conv2d(x, kernel, 1, "SAME"))
