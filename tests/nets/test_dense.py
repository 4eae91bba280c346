"""`Dense` computes what Keras's layer computes, and so do its gradients."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfp_flows.nets.dense import Dense

# One input; fewer outputs than inputs; neither.
SHAPES = [(1, 5), (1, 1), (6, 2), (3, 4)]


def twins(n, units, **options):
    """Returns both layers with equal weights, in float64."""
    layers = [
        kind(units, bias_initializer="normal", dtype="float64", **options)
        for kind in (Dense, keras.layers.Dense)
    ]
    for layer in layers:
        layer.build((None, n))
    layers[0].set_weights(layers[1].get_weights())
    return layers


def values(rows, n):
    return tf.constant(np.random.default_rng(0).normal(size=(rows, n)))


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("options", [{}, {"activation": "tanh"}, {"use_bias": False}])
@pytest.mark.parametrize(("n", "units"), SHAPES)
def test_value_and_gradients(n, units, options, jit):
    x = values(7, n)
    results = []
    for layer in twins(n, units, **options):

        def both(x, layer=layer):
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = layer(x)
                loss = tf.reduce_sum(tf.sin(y))
            weights = [w.value for w in layer.trainable_weights]
            return (y, *tape.gradient(loss, [x, *weights]))

        results.append(tf.function(both, jit_compile=jit)(x))
    for mine, theirs in zip(*results, strict=True):
        assert mine.shape == theirs.shape
        np.testing.assert_allclose(mine, theirs, atol=1e-12)


@pytest.mark.parametrize(("n", "units"), SHAPES)
def test_second_and_forward_derivatives(n, units):
    x = values(4, n)
    results = []
    for layer in twins(n, units, activation="tanh"):
        kernel = layer.kernel.value
        with tf.GradientTape() as outer:
            with tf.GradientTape() as inner:
                inner.watch(x)
                loss = tf.reduce_sum(tf.sin(layer(x)))
            squares = tf.reduce_sum(tf.square(inner.gradient(loss, x)))
        with tf.autodiff.ForwardAccumulator(x, tf.cos(x)) as accumulator:
            y = layer(x)
        results.append((outer.gradient(squares, kernel), accumulator.jvp(y)))
    for mine, theirs in zip(*results, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-12)


def test_higher_ranks_empty_batches_and_unknown_sizes():
    mine, theirs = twins(1, 3)
    x = tf.reshape(values(12, 1), [3, 4, 1])
    np.testing.assert_allclose(mine(x), theirs(x))
    assert mine(x[0, :0]).shape == (0, 3)
    graph = tf.function(mine, input_signature=[tf.TensorSpec([None, 1], tf.float64)])
    np.testing.assert_allclose(graph(x[0]), theirs(x[0]))


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("n", [1, 6])
def test_sixteen_bits(n, policy):
    mine, theirs = (kind(2, dtype=policy) for kind in (Dense, keras.layers.Dense))
    x = tf.cast(values(5, n), tf.float32)
    for layer in (mine, theirs):
        layer.build((None, n))
    mine.set_weights(theirs.get_weights())
    assert mine(x).dtype == theirs(x).dtype == mine.compute_dtype
    np.testing.assert_allclose(
        tf.cast(mine(x), tf.float32), tf.cast(theirs(x), tf.float32), atol=0.03
    )


def test_low_rank_adaptation_stays_keras_s():
    mine, theirs = twins(6, 2)
    for layer in (mine, theirs):
        layer.enable_lora(1)
    theirs.set_weights(mine.get_weights())
    x = values(5, 6)
    np.testing.assert_allclose(mine(x), theirs(x), atol=1e-12)


def test_archives_know_it_by_keras_s_name(tmp_path):
    # Files that hold `keras.layers.Dense` inside a network load into this one.
    class Net(keras.Model):
        def __init__(self, kind):
            super().__init__()
            self.parts = [kind(4), kind(2)]

        def call(self, x):
            return self.parts[1](self.parts[0](x))

    x = tf.ones([2, 3])
    old, new = Net(keras.layers.Dense), Net(Dense)
    expected = old(x)
    new(x)
    old.save_weights(tmp_path / "old.weights.h5")
    new.load_weights(tmp_path / "old.weights.h5")
    np.testing.assert_allclose(new(x), expected, rtol=1e-6)
