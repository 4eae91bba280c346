"""`MADE`: what each output sees."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfp_flows as tfpf


def connected(reverse=False, condition_shape=None):
    net = tfpf.nets.MADE((16, 12), "tanh", reverse)
    net.connect((4,), (8,), condition_shape)
    rng = np.random.default_rng(0)
    for weight in net.weights:
        weight.assign(rng.normal(size=weight.shape))
    return net


def sees(net, **keywords):
    """Returns whether output i of value k depends on input j: `[4, 2, 4]`."""
    x = tf.constant(np.random.default_rng(1).normal(size=(1, 4)), tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = net(x, **keywords)
    return np.reshape(tape.jacobian(y, x)[0, :, 0], [4, 2, 4]) != 0


@pytest.mark.parametrize("reverse", [False, True])
def test_outputs_see_exactly_the_values_before_theirs(reverse):
    before = np.tri(4, 4, -1, dtype=bool)
    expected = before[::-1, ::-1] if reverse else before
    for i in range(2):
        np.testing.assert_array_equal(sees(connected(reverse))[:, i], expected)


def test_all_outputs_see_the_condition():
    net = connected(condition_shape=(3,))
    c = tf.constant([[0.1, 0.2, 0.3]])
    x = tf.constant([[1.0, -1.0, 0.5, 2.0]])
    with tf.GradientTape() as tape:
        tape.watch(c)
        y = net(x, condition=c)
    assert np.all(tape.jacobian(y, c)[0, :, 0] != 0)
    np.testing.assert_array_equal(
        sees(net, condition=c)[:, 0], np.tri(4, 4, -1, dtype=bool)
    )


def test_starts_at_zero_and_copies_by_its_config():
    net = tfpf.nets.MADE((8,))
    net.connect((3,), (3, 2))
    np.testing.assert_array_equal(net(np.ones((2, 3))), np.zeros((2, 3, 2)))
    again = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(net)
    )
    assert [w.shape for w in again.weights] == [w.shape for w in net.weights]


def test_needs_vectors():
    with pytest.raises(ValueError, match="MADE.*Received"):
        tfpf.nets.MADE((8,)).connect((1,), (2,))
