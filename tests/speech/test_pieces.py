"""The pieces of WaveGlow: groups, early outputs, upsampled frames, the network."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfp_flows as tfpf


def coupling(width, condition=None):
    net = tfpf.speech.WaveNet(channels=5, depth=2, dtype="float64")
    made = tfpf.AffineCoupling(
        tfpf.masks.channel((None, width)),
        net,
        condition_shape=condition,
        dtype="float64",
    )
    for k, weight in enumerate(made.trainable_variables):
        noise = tf.random.stateless_normal(weight.shape, [1, k], dtype=weight.dtype)
        weight.assign_add(0.3 * noise)
    return made


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def test_groups_are_neighbours():
    y = np.arange(24.0).reshape(2, 12)
    x = tfpf.speech.Grouped(4, dtype="float64").inverse(y)
    np.testing.assert_array_equal(x, y.reshape(2, 3, 4))
    report = tfpf.check_bijector(tfpf.speech.Grouped(4, dtype="float64"), x)
    assert report.ok, str(report)


def test_early_output_keeps_all_laws():
    bijector = tfpf.speech.EarlyOutput(coupling(4), 2)
    x = normal(3, 5, 6)
    np.testing.assert_array_equal(bijector.forward(x)[..., :2], x[..., :2])
    report = tfpf.check_bijector(bijector, x)
    assert report.ok, str(report)


def upsampled(stride=2):
    inner = tfpf.speech.EarlyOutput(coupling(4, (None, 3)), 2)
    layer = keras.layers.Conv1DTranspose(
        3, 2 * stride, strides=stride, padding="same", dtype="float64"
    )
    return tfpf.speech.LocalCondition(inner, layer, features=4, stride=stride)


def test_local_condition_keeps_all_laws():
    bijector = upsampled()
    report = tfpf.check_bijector(bijector, normal(3, 6, 6), condition=normal(3, 3, 4))
    assert report.ok, str(report)


def test_a_frame_is_heard_where_it_is():
    bijector = upsampled()
    x, frames = normal(1, 40, 6), normal(1, 20, 4)
    changed = frames.copy()
    changed[:, 10] += 1.0
    moved = np.array(
        bijector.forward(x, condition=frames) - bijector.forward(x, condition=changed)
    )
    where = np.flatnonzero(np.abs(moved[0]).max(axis=1))
    # Frame 10 is positions 20 and 21; the upsampling reaches 1 further, the network 3.
    assert where.min() >= 20 - 4
    assert where.max() <= 21 + 4
    assert {20, 21} <= set(where)


def test_the_network_is_dilated_convolutions_by_keras():
    """The same weights in Keras's own convolutions give the same numbers."""
    net = tfpf.speech.WaveNet(channels=3, depth=3, dtype="float64")
    net.connect((None, 2), (None, 2))
    for k, weight in enumerate(net.trainable_variables):
        weight.assign(tf.random.stateless_normal(weight.shape, [2, k], dtype="float64"))
    inputs = tf.constant(normal(2, 20, 2))
    h, total = net._start(inputs), 0.0
    for i in range(3):
        conv = keras.layers.Conv1D(
            6, 3, dilation_rate=2**i, padding="same", dtype="float64"
        )
        conv.build((None, None, 3))
        kernel, bias = net._gates[i].get_weights()
        conv.set_weights([kernel.reshape(3, 3, 6), bias])
        f, g = tf.split(conv(h), 2, axis=-1)
        mixed = net._mixes[i](tf.tanh(f) * tf.sigmoid(g))
        if i < 2:
            on, mixed = tf.split(mixed, 2, axis=-1)
            h += on
        total += mixed
    np.testing.assert_allclose(net(inputs), net._end(total), atol=1e-12)


def test_the_network_reaches_as_far_as_it_says():
    net = tfpf.speech.WaveNet(channels=4, depth=3, dtype="float64")
    net.connect((None, 1), (None, 1))
    for k, weight in enumerate(net.trainable_variables):
        weight.assign(tf.random.stateless_normal(weight.shape, [3, k], dtype="float64"))
    x = normal(1, 41, 1)
    changed = x.copy()
    changed[0, 20] += 1.0
    where = np.flatnonzero(np.abs(np.array(net(x) - net(changed)))[0, :, 0])
    assert (where.min(), where.max()) == (20 - 7, 20 + 7)


@pytest.mark.parametrize("condition", [None, 5])
def test_the_number_of_weights_is_as_documented(condition):
    net = tfpf.speech.WaveNet(channels=6, depth=3)
    net.connect((None, 4), (None, 8), condition and (None, condition))
    n, w, d, m, c = 4, 6, 3, 8, condition or 0
    expected = (
        (n + 1) * w
        + d * (3 * w + 1 + c) * 2 * w
        + (2 * d - 1) * (w + 1) * w
        + (w + 1) * m
    )
    assert net.count_params() == expected


def early_of_nothing():
    return tfpf.speech.EarlyOutput("coupling", 2)


def early_of_images():
    return tfpf.speech.EarlyOutput(tfpf.Squeeze(), 2)


def frames_of_no_layer():
    return tfpf.speech.LocalCondition(coupling(4), abs, features=4, stride=2)


def frames_of_another_stride():
    layer = keras.layers.Conv1DTranspose(3, 4, strides=2, padding="same")
    return tfpf.speech.LocalCondition(coupling(4), layer, features=4, stride=3)


def net_of_images():
    tfpf.speech.WaveNet().connect((4, 4, 1), (4, 4, 2))


@pytest.mark.parametrize(
    ("build", "error", "words"),
    [
        (early_of_nothing, ValueError, "bijector of sequences"),
        (early_of_images, ValueError, "bijector of sequences"),
        (frames_of_no_layer, TypeError, "must be a `keras.Layer`"),
        (frames_of_another_stride, ValueError, "stride=3 positions of each frame"),
        (net_of_images, ValueError, "must map sequences"),
        (lambda: tfpf.speech.Grouped(1), ValueError, "`group`"),
        (lambda: tfpf.speech.WaveNet(depth=0), ValueError, "`depth`"),
    ],
)
def test_wrong_arguments_are_named(build, error, words):
    with pytest.raises(error, match=words):
        build()


def test_wrong_inputs_are_named():
    with pytest.raises(ValueError, match="divisible by 4"):
        tfpf.speech.Grouped(4).inverse(np.zeros([2, 6], "float32"))
    with pytest.raises(ValueError, match="groups of 4"):
        tfpf.speech.Grouped(4).forward(np.zeros([2, 6], "float32"))
    with pytest.raises(ValueError, match="more than 2 channels"):
        tfpf.speech.EarlyOutput(coupling(4), 2).inverse(np.zeros([2, 5, 2]))
