"""`ConvNet` and `ZeroConv2D`: weight counts, shapes, conditions, saving."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfp_flows as tfpf


def plain_count(n, w, m):
    return (9 * n + 1) * w + (w + 1) * w + (9 * w + 2) * m


def residual_count(n, w, m, blocks):
    return (9 * n + 1) * w + 2 * blocks * (9 * w + 1) * w + (w + 2) * m


def connected(n=2, m=4, condition_shape=None, kind="ConvNet", **kwargs):
    net = getattr(tfpf.nets, kind)(**kwargs)
    net.connect((8, 6, n), (8, 6, m), condition_shape)
    return net


@pytest.mark.parametrize(("n", "w", "m"), [(2, 16, 4), (6, 512, 12)])
def test_weight_count_of_the_plain_network(n, w, m):
    net = connected(n, m, hidden_channels=w)
    assert net.count_params() == plain_count(n, w, m)


def test_the_docstring_counts_right():
    count = plain_count(6, 512, 12)
    assert count == 346_136
    assert f"{count:,}" in tfpf.nets.ConvNet.__doc__
    kept = 4 * 16 * 16 * (6 + 2 * 512 + 12)
    assert f"{kept / 1e6:.1f} MB an image" in tfpf.nets.ConvNet.__doc__


@pytest.mark.parametrize("blocks", [1, 3])
def test_weight_count_of_the_residual_network(blocks):
    net = connected(3, 6, hidden_channels=8, residual=True, blocks=blocks)
    assert net.count_params() == residual_count(3, 8, 6, blocks)


@pytest.mark.parametrize("blocks", [1, 3])
def test_weight_counts_of_gated_and_dense_networks(blocks):
    n, w, m = 3, 8, 6
    first, conv, last = (9 * n + 1) * w, (9 * w + 1) * w, (9 * w + 2) * m
    gated = first + blocks * (conv + (w + 1) * 2 * w + 2 * w) + last
    sizes = {"hidden_channels": w, "blocks": blocks}
    assert connected(n, m, kind="GatedConvNet", **sizes).count_params() == gated
    narrow = sum((k * w + 1) * w for k in range(1, blocks + 1))
    dense = first + narrow + blocks * conv + (9 * (blocks + 1) * w + 2) * m
    net = connected(n, m, kind="DenseNet", **sizes)
    assert net.count_params() == dense
    again = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(net)
    )
    assert [w.shape for w in again.weights] == [w.shape for w in net.weights]


@pytest.mark.parametrize("blocks", [1, 3])
def test_weight_count_of_the_normalized_network(blocks):
    net = connected(
        3, 6, hidden_channels=8, residual=True, blocks=blocks, normalized=True
    )
    trained = sum(int(np.prod(v.shape)) for v in net.trainable_variables)
    more = (2 * blocks + 1) * 2 * 8  # gains and shifts; lengths replace biases
    assert trained == residual_count(3, 8, 6, blocks) + more


def test_weight_normalization_keeps_the_direction_and_learns_the_length():
    conv = tfpf.nets.WeightNormConv2D(5, dtype="float64")
    conv.build((None, 4, 4, 2))
    assert conv.count_params() == 9 * 2 * 5 + 5
    kernel, length = (v.numpy() for v in conv.trainable_variables)
    x = np.random.default_rng(0).normal(size=(2, 4, 4, 2))
    norm = np.sqrt(np.sum(kernel**2, axis=(0, 1, 2)))
    expected = tf.nn.conv2d(x, kernel / norm * length, 1, "SAME")
    np.testing.assert_allclose(conv(x), expected, atol=1e-12)
    before = conv(x)
    conv.set_weights([7.0 * kernel, length])
    np.testing.assert_allclose(conv(x), before, atol=1e-12)


def test_batch_normalization_follows_keras_training():
    net = connected(hidden_channels=8, residual=True, normalized=True, dtype="float64")
    rng = np.random.default_rng(0)
    for variable in net.trainable_variables:
        variable.assign_add(0.1 * rng.normal(size=variable.shape))
    x = rng.normal(3.0, 2.0, size=(6, 8, 6, 2))
    state = [v.numpy() for v in net.non_trainable_variables]
    at_rest = net(x)
    for old, new in zip(state, net.non_trainable_variables, strict=True):
        np.testing.assert_array_equal(old, new)
    assert np.abs(net(x, training=True) - at_rest).max() > 1e-3
    assert all(
        np.abs(old - new.numpy()).max() > 1e-4
        for old, new in zip(state, net.non_trainable_variables, strict=True)
    )


def test_condition_adds_weights():
    plain = connected(hidden_channels=8).count_params()
    vector = connected(hidden_channels=8, condition_shape=(5,))
    assert vector.count_params() == plain + 5 * 8
    image = connected(hidden_channels=8, condition_shape=(16, 12, 3))
    assert image.count_params() == plain + 9 * 12 * 8


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"residual": True},
        {"residual": True, "normalized": True},
        {"kind": "GatedConvNet", "blocks": 2},
        {"kind": "DenseNet", "blocks": 2},
    ],
)
def test_it_starts_at_zero_and_every_weight_then_learns(options):
    net = connected(hidden_channels=8, dtype="float64", **options)
    x = np.random.default_rng(0).normal(size=(3, 8, 6, 2))
    np.testing.assert_array_equal(net(x), np.zeros((3, 8, 6, 4)))
    rng = np.random.default_rng(1)
    for variable in net.trainable_variables:
        variable.assign_add(0.1 * rng.normal(size=variable.shape))
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(tf.square(net(x)))
    variables = [v.value for v in net.trainable_variables]
    for variable, gradient in zip(
        variables, tape.gradient(loss, variables), strict=True
    ):
        assert np.abs(gradient).max() > 0, variable.name


@pytest.mark.parametrize("kind", ["ConvNet", "GatedConvNet", "DenseNet"])
@pytest.mark.parametrize("condition_shape", [(5,), (8, 6, 1), (16, 12, 1)])
def test_conditions_change_the_output(condition_shape, kind):
    net = connected(hidden_channels=8, condition_shape=condition_shape, kind=kind)
    rng = np.random.default_rng(0)
    for variable in net.trainable_variables:
        variable.assign_add(0.1 * rng.normal(size=variable.shape))
    x = rng.normal(size=(3, 8, 6, 2)).astype("float32")
    conditions = rng.normal(size=(2, 3, *condition_shape)).astype("float32")
    a, b = (net(x, condition=c) for c in conditions)
    assert a.shape == (3, 8, 6, 4)
    assert np.abs(a - b).max() > 1e-3


def test_the_gain_is_exp_of_three_logs():
    net = tfpf.nets.ZeroConv2D(3, dtype="float64")
    net.build((None, 4, 4, 2))
    assert net.count_params() == 9 * 2 * 3 + 2 * 3
    rng = np.random.default_rng(0)
    kernel, bias, logs = (rng.normal(size=v.shape) for v in net.trainable_variables)
    x = rng.normal(size=(2, 4, 4, 2))
    net.set_weights([kernel, bias, np.zeros(3)])
    before = net(x)
    np.testing.assert_allclose(before, tf.nn.conv2d(x, kernel, 1, "SAME") + bias)
    net.set_weights([kernel, bias, logs])
    np.testing.assert_allclose(net(x), before * np.exp(3 * logs), rtol=1e-12)


def test_dropout_acts_in_training_only():
    net = connected(hidden_channels=64, dropout=0.5)
    for variable in net.trainable_variables:
        if variable.name == "kernel":
            variable.assign_add(tf.ones(variable.shape))
    x = np.ones((2, 8, 6, 2), "float32")
    np.testing.assert_array_equal(net(x), net(x))
    assert np.abs(net(x, training=True) - net(x)).max() > 1e-3


def test_mixed_precision_computes_in_bfloat16():
    net = connected(hidden_channels=8, dtype="mixed_bfloat16")
    assert net(np.ones((2, 8, 6, 2), "float32")).dtype == tf.bfloat16
    assert {v.dtype for v in net.variables} == {"float32"}


def test_config_round_trip():
    net = connected(
        hidden_channels=8,
        activation="tanh",
        residual=True,
        blocks=1,
        dropout=0.1,
        normalized=True,
    )
    again = tfpf.nets.ConvNet.from_config(net.get_config())
    again.build_from_config(net.get_build_config())
    assert again.get_config() == net.get_config()
    assert [v.shape for v in again.variables] == [v.shape for v in net.variables]
    for layer in (tfpf.nets.ZeroConv2D(3, 1), tfpf.nets.WeightNormConv2D(3, 1)):
        config = keras.saving.serialize_keras_object(layer)
        copied = keras.saving.deserialize_keras_object(config)
        assert copied.get_config() == layer.get_config()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: tfpf.nets.ConvNet(0), "`hidden_channels` must be an integer"),
        (lambda: tfpf.nets.ConvNet(8, blocks=-1), "`blocks` must be an integer"),
        (
            lambda: tfpf.nets.ConvNet(8, dropout=1.0),
            "`dropout` must be a finite number at least 0 and below 1",
        ),
        (lambda: tfpf.nets.ConvNet(8, normalized=True), "`normalized` must be False"),
        (lambda: tfpf.nets.ConvNet(8).connect((4,), (8,)), "must map images"),
        (
            lambda: connected(condition_shape=(5, 5, 1)),
            "`condition_shape` must be that of a vector",
        ),
    ],
)
def test_wrong_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def moved_by_a_step(net, x):
    """Returns how far one step of Adam at 1e-3 moves the outputs, which start at 0."""
    optimizer = keras.optimizers.Adam(1e-3)
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(net(x))
    variables = net.trainable_variables
    gradients = tape.gradient(loss, [v.value for v in variables])
    optimizer.apply(gradients, variables)
    return float(tf.reduce_max(abs(net(x))))


NETWORKS = {
    "plain": lambda w: tfpf.nets.ConvNet(w),
    "dense": lambda w: tfpf.nets.DenseNet(w),
    "gated": lambda w: tfpf.nets.GatedConvNet(w, blocks=1),
    "transformer": lambda w: tfpf.nets.Transformer(w, layers=1),
}


@pytest.mark.parametrize("kind", NETWORKS)
def test_a_first_step_moves_wide_networks_no_further_than_narrow_ones(kind):
    rng = np.random.default_rng(0)
    images = kind != "transformer"
    shape, outputs = ((4, 4, 3), (4, 4, 6)) if images else ((16, 3), (16, 6))
    x = tf.constant(rng.normal(size=(8, *shape)), tf.float32)
    moved = []
    for width in (64, 512):
        net = NETWORKS[kind](width)
        net.connect(shape, outputs)
        moved.append(moved_by_a_step(net, x))
    assert moved[1] < 2.0 * moved[0]
