"""NICE, RealNVP and Glow on vectors: sizes, starts, arguments."""

import math

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_flows as tfpf

tfd = tfp.distributions

D, H = 5, 8


def trainable(flow):
    return sum(math.prod(v.shape) for v in flow.trainable_variables)


def mlp(inputs, outputs):
    return (inputs + 1) * H + (H + 1) * outputs


def test_parameter_counts_are_the_papers():
    low, high = D // 2, D - D // 2
    nice = tfpf.nice((D,), steps=4, hidden_units=(H,), actnorm=False)
    assert trainable(nice) == 2 * (mlp(high, low) + mlp(low, high)) + D
    nvp = tfpf.real_nvp((D,), steps=4, hidden_units=(H,), actnorm=False)
    assert trainable(nvp) == 2 * (mlp(low, 2 * high) + mlp(high, 2 * low))
    glow = tfpf.glow((D,), steps=3, hidden_units=(H,))
    assert trainable(glow) == 3 * (2 * D + D * D + mlp(low, 2 * high))


@pytest.mark.parametrize("make", [tfpf.nice, tfpf.real_nvp])
def test_a_new_flow_is_near_its_base(make):
    flow = make((D,), hidden_units=(H,))
    x = np.random.default_rng(0).normal(size=(7, D)).astype("float32")
    base = tfd.MultivariateNormalDiag(tf.zeros(D), tf.ones(D))
    np.testing.assert_allclose(flow.log_prob(x), base.log_prob(x), rtol=1e-4)


def test_a_new_glow_only_rotates():
    flow = tfpf.glow((D,), steps=3, hidden_units=(H,))
    x = np.random.default_rng(0).normal(size=(7, D)).astype("float32")
    z = flow.bijector.inverse(x)
    np.testing.assert_allclose(
        np.linalg.norm(z, axis=1), np.linalg.norm(x, axis=1), rtol=1e-4
    )


def test_density_of_preprocessed_data_is_in_data_units():
    """By hand: a standard normal behind u = logit(a/2 + (1-a) y/17)."""
    alpha, levels = 0.1, 17
    flow = tfpf.nice((2,), hidden_units=(H,), preprocess=tfpf.logit(levels, alpha))
    y = np.array([[3.2, 16.5]])
    u = alpha / 2 + (1 - alpha) * y / levels
    x = np.log(u / (1 - u))
    derivative = (1 - alpha) / levels / (u * (1 - u))
    expected = np.sum(
        -0.5 * x**2 - 0.5 * np.log(2 * np.pi) + np.log(derivative), axis=1
    )
    np.testing.assert_allclose(flow.log_prob(y.astype("float32")), expected, rtol=1e-4)


def test_center_maps_levels_to_the_unit_interval():
    x = tfpf.center(256).inverse(np.array([0.0, 128.0, 256.0], "float32"))
    np.testing.assert_allclose(x, [-0.5, 0.0, 0.5], atol=1e-6)


@pytest.mark.parametrize(
    ("make", "once"),
    [
        (tfpf.nice, "couplings"),
        (tfpf.real_nvp, "couplings"),
        (tfpf.spline_flow, "couplings"),
        (tfpf.maf, "layers"),
        (tfpf.ffjord, "blocks"),
    ],
)
def test_steps_have_their_old_name_too(make, once):
    options = {"hidden_units": (H,), "condition_shape": (1,)}
    flow = make((2,), steps=3, **options)
    assert make.renamed == {once: "steps"}
    again = make((2,), **{once: 3}, **options)
    assert trainable(again) == trainable(flow)


def test_pixel_levels_have_their_old_name_too():
    y = np.array([0.0, 100.0], "float32")
    for make in (tfpf.logit, tfpf.center):
        np.testing.assert_array_equal(make(levels=256).inverse(y), make(256).inverse(y))


def test_any_base_and_float64():
    base = tfd.Sample(tfd.Logistic(tf.constant(0.0, tf.float64), 1.0), [D])
    flow = tfpf.nice((D,), hidden_units=(H,), base=base, dtype="float64")
    assert flow.log_prob(np.zeros(D)).dtype == tf.float64


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: tfpf.nice((1,)), "`event_shape`"),
        (lambda: tfpf.nice("digits"), "`event_shape`"),
        (lambda: tfpf.real_nvp((2,), steps=1), "`steps`"),
        (lambda: tfpf.glow((2,), steps=0), "`steps`"),
        (lambda: tfpf.nice((2,), base=tfd.Normal(0.0, 1.0)), "`base`"),
        (lambda: tfpf.logit(17, alpha=0.0), "`alpha`"),
        (lambda: tfpf.condition(tfpf.nice((2,)), [[1.0]]), "`flow`"),
        (
            lambda: tfpf.condition(tfpf.nice((2,), condition_shape=(3,)), [[1.0]]),
            "`c`",
        ),
    ],
)
def test_wrong_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
