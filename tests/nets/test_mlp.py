"""`MLP`: sizes as documented, zero at the start, connected once."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfp_flows as tfpf
from tfp_flows.nets import conditioner as conditioners


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
    whole = conditioners.apply(net, x, 1, tf.ones([1]), 1)
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
