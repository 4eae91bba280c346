"""`MaskedAutoregressive`, MAF and IAF, and TFP's class with our network."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_flows as tfpf
from tfp_flows.internal.compat import counted_calls

tfb, tfd = tfp.bijectors, tfp.distributions


def points(n=8, d=4):
    return np.random.default_rng(1).normal(size=(n, d))


def layer(dtype="float64", **kwargs):
    net = tfpf.nets.MADE((16, 16), "tanh", dtype=dtype)
    return tfpf.MaskedAutoregressive(4, net, dtype=dtype, **kwargs)


@pytest.mark.parametrize("transform", ["affine", "spline"])
def test_inverse_autoregressive_laws(laws, transform):
    laws(tfb.Invert(layer(transform=transform, bins=4)), points())


def test_equals_the_flow_of_tfp(perturbed):
    net = tfpf.nets.MADE((16,), "tanh", dtype="float64")
    ours = tfpf.MaskedAutoregressive(4, net, log_scale="exp", dtype="float64")
    perturbed(ours)

    def shift_and_log_scale(y):
        return tf.reshape(net(y), [-1, 4, 2])

    theirs = tfb.MaskedAutoregressiveFlow(shift_and_log_scale)
    x = tf.constant(points())
    np.testing.assert_allclose(ours.forward(x), theirs.forward(x))
    np.testing.assert_allclose(
        ours.inverse_log_det_jacobian(x), theirs.inverse_log_det_jacobian(x)
    )


def test_rounds_end_early_with_the_values_and_gradients_of_all(perturbed):
    d = 24
    net = tfpf.nets.MADE((16,), "tanh", dtype="float64")
    ours = tfpf.MaskedAutoregressive(d, net, log_scale="exp", dtype="float64")
    perturbed(ours, 0.3)

    def shift_and_log_scale(y):
        return tf.reshape(net(y), [-1, d, 2])

    found, x = [], tf.constant(points(5, d))
    for bijector in (ours, tfb.MaskedAutoregressiveFlow(shift_and_log_scale)):
        with counted_calls([net]) as calls, tf.GradientTape() as tape:
            tape.watch(x)
            y = bijector.forward(x)
            fldj = bijector.forward_log_det_jacobian(x, 1)
            total = tf.reduce_sum(tf.sin(y)) + tf.reduce_sum(fldj * y[:, 3])
        gradients = tape.gradient(total, [x, *net.trainable_variables])
        found.append((calls[id(net)], y, fldj, *gradients))
    (few, *values), (many, *expected) = found
    assert 2 < few < d <= many
    for value, other in zip(values, expected, strict=True):
        np.testing.assert_allclose(value, other, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kind", ["maf", "block"])
def test_gradients_of_samples_see_the_weights_of_their_layer(kind, perturbed):
    step = tfpf.BlockAutoregressive(3, (3,), dtype="float64")
    if kind == "maf":
        net = tfpf.nets.MADE((8,), "tanh", dtype="float64")
        step = tfpf.MaskedAutoregressive(3, net, dtype="float64")
    bijector = perturbed(tfpf.Repeat(step, 2), 0.5)
    jacobians, x = [], tf.constant(points(2, 3))
    for direction in (bijector.forward, bijector.inverse):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = direction(x)
        jacobians.append(tape.batch_jacobian(y, x))
        x = tf.identity(y)
    np.testing.assert_allclose(
        tf.matmul(*jacobians[::-1]), np.stack([np.eye(3)] * 2), atol=1e-9
    )


def test_the_flow_of_tfp_trains_and_saves_with_our_network(tmp_path):
    net = tfpf.nets.MADE((8,))
    net.connect((2,), (2, 2))
    flow = tfd.TransformedDistribution(
        tfd.Sample(tfd.Normal(0.0, 1.0), [2]),
        tfb.MaskedAutoregressiveFlow(shift_and_log_scale_fn=net),
    )
    model = tfpf.FlowModel(flow)
    assert len(model.trainable_weights) == 4
    model.compile(keras.optimizers.Adam(0.03))
    x = (points(256, 2) * [0.3, 2.0] + [1.0, -1.0]).astype("float32")
    nll = model.fit(x, epochs=6, verbose=0).history["nll"]
    assert nll[-1] < nll[0] - 0.3
    model.save(tmp_path / "maf.keras")
    again = keras.models.load_model(tmp_path / "maf.keras")
    np.testing.assert_array_equal(
        again.predict(x, verbose=0), model.predict(x, verbose=0)
    )


@pytest.mark.parametrize("inverse", [False, True])
def test_maf_and_iaf_train(inverse):
    flow = tfpf.maf((3,), layers=3, hidden_units=(16,), inverse=inverse)
    model = tfpf.FlowModel(flow)
    model.compile(keras.optimizers.Adam(0.02))
    mixing = np.array([[1, 0.9, 0], [0, 0.2, 0.5], [0, 0, 1]])
    x = (points(256, 3) @ mixing).astype("float32")
    nll = model.fit(x, epochs=5, verbose=0).history["nll"]
    assert nll[-1] < nll[0]
    assert flow.sample(5, seed=1).shape == (5, 3)


def test_condition_adds_batch_axes(perturbed):
    bijector = layer(condition_shape=(2,))
    perturbed(bijector)
    x, c = tf.constant(points()[0]), points(5, 2)
    y = bijector.forward(x, condition=c)
    assert y.shape == (5, 4)
    back = bijector.inverse(tf.identity(y), condition=c)
    np.testing.assert_allclose(back, [x] * 5, atol=1e-10)


GRAPH = np.array([[0, 0, 0, 0], [1, 0, 0, 0], [0, 1, 0, 0], [1, 0, 0, 1]])


@pytest.mark.parametrize(
    ("options", "sees", "calls"),
    [
        ({"order": "right-to-left"}, np.triu(np.ones((4, 4)), 1), 4),
        ({"order": (1, 3, 0, 2), "passes": 2}, [[0, 1, 0, 1], [0] * 4] * 2, 2),
        ({"passes": 3}, [[0] * 4, [0] * 4, [1, 1, 0, 0], [1, 1, 1, 0]], 3),
        ({"adjacency": GRAPH}, GRAPH - np.diag([0, 0, 0, 1]), 3),
    ],
)
def test_parameters_see_what_the_order_or_the_graph_allows(
    options, sees, calls, perturbed
):
    net = tfpf.nets.MADE((16, 16), "tanh", dtype="float64", **options)
    net.connect((4,), (4,))
    perturbed(net)
    with tf.GradientTape() as tape:
        x = tf.constant(points(3))
        tape.watch(x)
        values = net(x)
    jacobian = tape.batch_jacobian(values, x)[0]
    np.testing.assert_array_equal(jacobian != 0.0, np.array(sees, bool))
    assert net.network_calls == calls


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"adjacency": [[0, 1], [1, 0]]}, "adjacency"),
        ({"adjacency": [[0, 0], [1, 0]], "passes": 2}, "adjacency"),
        ({"adjacency": [[0, 2], [0, 0]]}, "adjacency"),
        ({"order": (0, 0)}, "order"),
        ({"order": "up"}, "order"),
        ({"order": (0.5, 1)}, "order"),
        ({"order": 3}, "order"),
        ({"adjacency": "ab"}, "adjacency"),
        ({"passes": 3}, "passes"),
    ],
)
def test_refuses_what_is_no_order(options, name):
    with pytest.raises(ValueError, match=f"`{name}`.*Received"):
        tfpf.nets.MADE((4,), **options).connect((2,), (2,))


@pytest.mark.parametrize(
    ("arguments", "error", "name"),
    [
        ({"transform": "cubic"}, ValueError, "transform"),
        ({"log_scale": "cubic"}, ValueError, "log_scale"),
        ({"conditioner": tfpf.nets.MLP()}, TypeError, "conditioner"),
    ],
)
def test_names_the_argument_that_is_wrong(arguments, error, name):
    arguments = {"d": 3, "conditioner": tfpf.nets.MADE((4,)), **arguments}
    with pytest.raises(error, match=f"`{name}`.*Received"):
        tfpf.MaskedAutoregressive(**arguments)


def test_a_dropout_acts_on_densities_in_training_alone():
    net = tfpf.nets.MADE((32,), dropout=0.5, dtype="float64")
    b = tfpf.Autoregressive(net, tfpf.transforms.Affine(), (3,), dtype="float64")
    for weight in b.trainable_variables:
        weight.assign(tf.random.stateless_normal(weight.shape, [0, 1], dtype="float64"))
    x = tf.random.stateless_normal([5, 3], [0, 2], dtype="float64")

    @keras.saving.register_keras_serializable(package="test")
    class Both(keras.layers.Layer):
        def call(self, x, training=None):
            return b.inverse(tf.identity(x)), b.forward(tf.identity(x))

    both = Both(dtype="float64")
    inverse, forward = both(x, training=False)
    np.testing.assert_allclose(b.inverse(tf.identity(x)), inverse)
    dropped, found = both(x, training=True)
    assert np.abs(dropped - inverse).max() > 1e-3
    np.testing.assert_allclose(found, forward)
    model = tfpf.FlowModel(tfpf.maf((3,), dropout=0.5, hidden_units=(8,)))
    for weight in model.distribution.trainable_variables:
        weight.assign(tf.random.stateless_normal(weight.shape, [0, 1]))
    x = tf.cast(x, tf.float32)
    still, *noisy = [model(x, training=how).numpy() for how in (False, True, True)]
    np.testing.assert_array_equal(model(x), still)
    assert np.abs(noisy[0] - still).max() > 1e-3 < np.abs(noisy[0] - noisy[1]).max()
