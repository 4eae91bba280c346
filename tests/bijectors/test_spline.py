"""`SplineCoupling`: laws, borders, rounding, circles."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_flows as tfpf

tfb = tfp.bijectors


def coupling(dtype="float64", **kwargs):
    net = tfpf.nets.MLP((16,), "tanh", dtype=dtype)
    return tfpf.SplineCoupling(tfpf.masks.half(5), net, bins=5, dtype=dtype, **kwargs)


def points(n=64, d=5, scale=3.0, seed=1):
    return scale * np.random.default_rng(seed).normal(size=(n, d))


def test_laws_far_from_the_identity_and_across_the_borders(laws):
    laws(coupling(bound=3.0), points(), spread=0.8)


def test_condition_adds_batch_axes(perturbed):
    bijector = coupling(condition_shape=(2,))
    perturbed(bijector)
    y, c = points(1, 5)[0], points(7, 2)
    assert bijector.inverse(y, condition=c).shape == (7, 5)


def test_circle_closes(perturbed):
    bijector = coupling(tails="circular", bound=np.pi)
    perturbed(bijector)
    y = points(3)
    y[:, 2:] = [[-np.pi] * 3, [np.pi - 1e-12] * 3, [3 * np.pi] * 3]
    y[:, :2] = 0.3
    x, log_det = bijector.inverse(y), bijector.inverse_log_det_jacobian(tf.constant(y))
    np.testing.assert_allclose(np.cos(x[:, 2:] - x[:1, 2:]), 1.0, atol=1e-9)
    np.testing.assert_allclose(log_det, [log_det[0]] * 3, atol=1e-9)


def test_image_laws(laws):
    mask = tfpf.masks.checkerboard((2, 2, 1))
    net = tfpf.nets.MLP((8,), dtype="float64")
    bijector = tfpf.SplineCoupling(mask, net, bins=3, dtype="float64")
    laws(bijector, np.random.default_rng(0).normal(size=(4, 2, 2, 1)))


def test_zero_parameters_are_the_identity():
    y = points()
    np.testing.assert_allclose(coupling().inverse(y), y, atol=1e-12)


def test_equals_the_spline_of_tfp(perturbed):
    bijector = coupling(bound=2.0)
    perturbed(bijector, 1.0)
    x = np.random.default_rng(3).uniform(-2, 2, (50, 5))
    raw = tf.reshape(bijector.conditioner(x[:, :2]), [50, 3, 14])
    widths, heights, slopes = tf.split(raw, [5, 5, 4], -1)
    reference = tfb.RationalQuadraticSpline(
        bin_widths=4 * (1e-3 + (1 - 5e-3) * tf.nn.softmax(widths)),
        bin_heights=4 * (1e-3 + (1 - 5e-3) * tf.nn.softmax(heights)),
        knot_slopes=1e-3 + tf.nn.softplus(slopes + np.log(np.expm1(1 - 1e-3))),
        range_min=-2.0,
    )
    y = bijector.forward(x)
    np.testing.assert_allclose(y[:, 2:], reference.forward(x[:, 2:]), atol=1e-10)
    np.testing.assert_allclose(
        bijector.forward_log_det_jacobian(tf.constant(x)),
        tf.reduce_sum(reference.forward_log_det_jacobian(x[:, 2:]), -1),
        atol=1e-9,
    )


@pytest.mark.parametrize("value", [-3.0, 3.0, -3.0000001, 3.1, 1e6, -1e30])
def test_gradients_at_and_outside_the_borders(perturbed, value):
    bijector = coupling("float32", bound=3.0)
    perturbed(bijector, 1.0)
    for direction in (bijector.forward, bijector.inverse):
        x = tf.constant([[0.5, -0.2, value, value, value]])
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(x)
            y = direction(x)
            loss = tf.reduce_sum(y[:, 2:])
        np.testing.assert_allclose(y, x, rtol=1e-6)
        slope = tape.gradient(loss, x)
        np.testing.assert_allclose(slope[0, 2:], 1.0, rtol=1e-3)
        for gradient in tape.gradient(loss, bijector.trainable_variables):
            assert np.isfinite(gradient).all()
            assert np.abs(gradient).max() < 1e-4


def test_float32_round_trip_is_bounded_by_the_smallest_slope(perturbed):
    bijector = coupling("float32", min_bin=0.01, min_slope=0.01)
    perturbed(bijector, 3.0)
    y = points(20_000, scale=2.0).astype("float32")
    x = bijector.inverse(y)
    again = bijector.forward(tf.identity(x))
    assert np.isfinite(x).all()
    # A slope of at most 1 / 0.01 between bins, a few roundings of values up to 10.
    assert np.abs(again - y).max() < 100 * 10 * 10 * np.finfo("float32").eps
    # In typical points far less is lost.
    assert np.median(np.abs(again - y)[:, 2:]) < 1e-5


def test_config_round_trip():
    bijector = coupling("float32", bound=2.5, tails="circular")
    config = bijector.get_config()
    assert (config["bins"], config["bound"], config["tails"]) == (5, 2.5, "circular")
    config["conditioner"] = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(config["conditioner"])
    )
    again = tfpf.SplineCoupling.from_config(config)
    assert [v.shape for v in again.variables] == [v.shape for v in bijector.variables]


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("bins", 1),
        ("bound", 0.0),
        ("tails", "flat"),
        ("min_bin", 0.2),
        ("min_slope", 1),
    ],
)
def test_names_the_argument_that_is_wrong(argument, value):
    arguments = {"bins": 5, argument: value}
    with pytest.raises(ValueError, match=f"`{argument}`.*Received"):
        tfpf.SplineCoupling(tfpf.masks.half(4), tfpf.nets.MLP((4,)), **arguments)
