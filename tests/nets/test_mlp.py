"""`MLP` and `MADE`: sizes as documented, starts, what each output sees."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfp_flows as tfpf
from tfp_flows.bijectors.base import call_layer


def test_weight_count_is_the_documented_formula():
    n, (h1, h2), m, c = 3, (5, 7), 4, 2
    net = tfpf.nets.MLP((h1, h2))
    net.connect((n,), (m,), (c,))
    assert net.count_params() == (n + c + 1) * h1 + (h1 + 1) * h2 + (h2 + 1) * m
    h = 6
    residual = tfpf.nets.MLP((h, h), residual=True)
    residual.connect((n,), (m,))
    blocks = 2 * (2 * (h + 1) * h)
    assert residual.count_params() == (n + 1) * h + blocks + (h + 1) * m


def test_starts_at_zero_for_any_shapes():
    net = tfpf.nets.MLP((8,))
    net.connect((2, 2, 1), (2, 2, 2))
    outputs = net(np.ones((3, 2, 2, 1), "float32"))
    np.testing.assert_array_equal(outputs, np.zeros((3, 2, 2, 2)))


def test_config_rebuilds_the_network():
    net = tfpf.nets.MLP((8, 8), activation="tanh", residual=True, dropout=0.25)
    net.connect((2,), (3,))
    config = keras.saving.serialize_keras_object(net)
    again = keras.saving.deserialize_keras_object(config)
    assert [w.shape for w in again.weights] == [w.shape for w in net.weights]
    assert again.get_config() == net.get_config()


def test_a_network_has_one_connection():
    net = tfpf.nets.MLP((8,))
    with pytest.raises(ValueError, match="must be given to a bijector"):
        net(np.ones((1, 2), "float32"))
    net.connect((2,), (3,))
    net.connect((2,), (3,))
    with pytest.raises(ValueError, match="connected already"):
        net.connect((2,), (4,))


@pytest.mark.parametrize("batch", [(), (4,), (2, 3)])
def test_apply_takes_any_batch_rank_and_broadcasts_conditions(batch):
    net = tfpf.nets.MLP((8,))
    net.connect((2,), (3,), (1,))
    for weight in net.weights:
        weight.assign(tf.random.stateless_normal(weight.shape, [1, 2]))
    x = tf.random.stateless_normal([*batch, 2], [3, 4])
    whole = call_layer(net, x, 1, tf.ones([1]), 1)
    assert whole.shape == (*batch, 3)
    flat = net(
        tf.reshape(x, [-1, 2]),
        condition=tf.ones([max(1, x.shape.num_elements() // 2), 1]),
    )
    np.testing.assert_allclose(tf.reshape(whole, [-1, 3]), flat, rtol=1e-5)


def test_mixed_precision_stays_inside_the_network():
    net = tfpf.nets.MLP((8,), dtype="mixed_bfloat16")
    bijector = tfpf.AffineCoupling(tfpf.masks.half(4), net)
    x = tf.ones([2, 4])
    assert bijector.forward(x).dtype == tf.float32
    assert bijector.forward_log_det_jacobian(x).dtype == tf.float32
    assert net._head.compute_dtype == "bfloat16"


def made_of_four(reverse=False, condition_shape=None, **options):
    widths = (12, 12) if options else (16, 12)
    net = tfpf.nets.MADE(widths, "tanh", reverse, **options)
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
def test_made_s_outputs_see_exactly_the_values_before_theirs(reverse):
    before = np.tri(4, 4, -1, dtype=bool)
    expected = before[::-1, ::-1] if reverse else before
    for i in range(2):
        np.testing.assert_array_equal(sees(made_of_four(reverse))[:, i], expected)


def test_residual_made_adds_two_masked_layers_a_block():
    net = made_of_four(residual=True)
    assert net.count_params() == 5 * 12 + 4 * 13 * 12 + 13 * 8
    for i in range(2):
        np.testing.assert_array_equal(sees(net)[:, i], np.tri(4, 4, -1, dtype=bool))
    with pytest.raises(ValueError, match="`hidden_units` must repeat one width"):
        tfpf.nets.MADE((8, 9), residual=True)


def test_all_of_made_s_outputs_see_the_condition():
    net = made_of_four(condition_shape=(3,))
    c = tf.constant([[0.1, 0.2, 0.3]])
    x = tf.constant([[1.0, -1.0, 0.5, 2.0]])
    with tf.GradientTape() as tape:
        tape.watch(c)
        y = net(x, condition=c)
    assert np.all(tape.jacobian(y, c)[0, :, 0] != 0)
    np.testing.assert_array_equal(
        sees(net, condition=c)[:, 0], np.tri(4, 4, -1, dtype=bool)
    )


def test_made_starts_at_zero_and_copies_by_its_config():
    net = tfpf.nets.MADE((8,))
    net.connect((3,), (3, 2))
    np.testing.assert_array_equal(net(np.ones((2, 3))), np.zeros((2, 3, 2)))
    again = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(net)
    )
    assert [w.shape for w in again.weights] == [w.shape for w in net.weights]


def test_made_needs_vectors():
    with pytest.raises(ValueError, match="MADE.*Received"):
        tfpf.nets.MADE((8,)).connect((1,), (2,))


def connected(kind, values, conditions=None, **options):
    shape = conditions and (conditions,)
    if kind == "mlp":
        net = tfpf.nets.MLP((64, 64), **options)
        net.connect((values,), (values,), shape)
    elif kind == "made":
        net = tfpf.nets.MADE((64, 64), **options)
        net.connect((values,), (2 * values,), shape)
    else:
        net = tfpf.nets.VelocityNet((64, 64))
        net.connect((values,), (values,), shape)
    return net


def hidden_kernels(net, values):
    """The kernels of both hidden layers; a velocity has those of the time too."""
    shapes = [(values, 64), (64, 64)]
    return [w.numpy() for w in net.weights if tuple(w.shape) in shapes][:2]


@pytest.mark.parametrize("kind", ["mlp", "made", "velocity"])
@pytest.mark.parametrize(("values", "gain"), [(2, 6.0), (4, 6.0), (5, 1.0), (30, 1.0)])
def test_kernels_are_wide_for_few_values_only(kind, values, gain):
    for kernel in hidden_kernels(connected(kind, values), values):
        bound = (gain / kernel.shape[0]) ** 0.5
        assert 0.9 * bound < np.abs(kernel).max() <= bound


@pytest.mark.parametrize("kind", ["mlp", "made", "velocity"])
def test_conditions_count_as_values(kind):
    kernel = hidden_kernels(connected(kind, 2, conditions=3), 2)[-1]
    assert np.abs(kernel).max() <= 64**-0.5


@pytest.mark.parametrize("kind", ["mlp", "made"])
def test_biases_lie_apart(kind):
    net = connected(kind, 2)
    biases = [w.numpy() for w in net.weights if tuple(w.shape) == (64,)]
    for bias, inputs in zip(biases, (2, 64), strict=True):
        assert 0.9 * inputs**-0.5 < np.abs(bias).max() <= inputs**-0.5
        assert len(np.unique(bias)) == 64


@pytest.mark.parametrize("kind", ["mlp", "made"])
@pytest.mark.parametrize("given", ["orthogonal", keras.initializers.Orthogonal()])
def test_kernels_can_start_otherwise(kind, given):
    net = connected(kind, 64, kernel_initializer=given)
    first, second = hidden_kernels(net, 64)
    np.testing.assert_allclose(first @ first.T, np.eye(64), atol=1e-5)
    assert np.abs(first - second).max() > 0.1
    again = type(net).from_config(net.get_config())
    assert isinstance(again.kernel_initializer, keras.initializers.Orthogonal)
