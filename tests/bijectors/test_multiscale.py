"""`MultiScale`: laws, the order of its latents, learned and conditional priors."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_flows as tfpf
from tfp_flows.bijectors.multiscale import EarlyOutput
from tfp_flows.testing.subject import perturb

tfb, tfd = tfp.bijectors, tfp.distributions

Y = np.random.default_rng(0).normal(size=(3, 4, 4, 2))


def learned_prior(shape):
    net = tfpf.nets.ZeroConv2D(shape[-1], dtype="float64")
    mask = tfpf.masks.channel(shape)
    return tfpf.AffineCoupling(mask, net, log_scale="exp", dtype="float64")


def two_levels(condition_shape=None):
    def level(shape, prior):
        net = tfpf.nets.ConvNet(4, "tanh", dtype="float64")
        coupling = tfpf.AffineCoupling(
            tfpf.masks.channel(shape),
            net,
            condition_shape=condition_shape,
            dtype="float64",
        )
        parts = [
            tfpf.Squeeze(dtype="float64"),
            tfpf.ActNorm(shape[-1], dtype="float64"),
            tfpf.InvertibleConv1x1(shape[-1], dtype="float64"),
            coupling,
        ]
        return tfb.Chain(parts + ([learned_prior(shape)] if prior else []))

    levels = [level((2, 2, 8), True), level((1, 1, 16), False)]
    return tfpf.MultiScale((4, 4, 2), levels)


@pytest.fixture
def pyramid():
    return perturb(two_levels())


def test_laws(laws):
    laws(two_levels(), Y)


def test_latents_are_coarsest_first():
    levels = [tfpf.Squeeze(dtype="float64") for _ in range(3)]
    pyramid = tfpf.MultiScale((8, 8, 1), levels)
    assert pyramid.latent_shapes == [(1, 1, 16), (2, 2, 4), (4, 4, 2)]
    y = np.random.default_rng(0).normal(size=(8, 8, 1))
    x = pyramid.inverse(y).numpy()
    h = tfpf.Squeeze(dtype="float64").inverse(y).numpy()
    np.testing.assert_array_equal(x[-32:], h[..., 2:].ravel())
    h = tfpf.Squeeze(dtype="float64").inverse(h[..., :2]).numpy()
    np.testing.assert_array_equal(x[16:32], h[..., 4:].ravel())
    h = tfpf.Squeeze(dtype="float64").inverse(h[..., :4]).numpy()
    np.testing.assert_array_equal(x[:16], h.ravel())
    np.testing.assert_array_equal(pyramid.inverse_log_det_jacobian(y, 3), 0.0)


def test_any_distribution_of_vectors_is_a_base(pyramid):
    base = tfd.MultivariateNormalTriL(
        tf.zeros(32, tf.float64), tf.eye(32, dtype=tf.float64)
    )
    flow = tfd.TransformedDistribution(base, pyramid)
    assert flow.event_shape == (4, 4, 2)
    plain = tfd.TransformedDistribution(
        tfd.Sample(tfd.Normal(tf.constant(0.0, tf.float64), 1.0), 32), pyramid
    )
    np.testing.assert_allclose(flow.log_prob(Y), plain.log_prob(Y), rtol=1e-10)
    assert flow.sample(2, seed=1).shape == (2, 4, 4, 2)


def test_a_learned_prior_is_a_normal_given_the_half_that_stays(perturbed):
    shape = (2, 2, 4)
    prior = learned_prior(shape)
    perturbed(prior)
    h, z = np.split(np.random.default_rng(0).normal(size=(5, *shape)), 2, axis=-1)
    mean, log_scale = np.split(prior.conditioner(h), 2, axis=-1)
    normal = tfd.Normal(tf.constant(mean), np.exp(log_scale))
    flow = tfd.TransformedDistribution(
        tfd.Sample(tfd.Normal(tf.constant(0.0, tf.float64), 1.0), shape), prior
    )
    expected = np.sum(normal.log_prob(z), (1, 2, 3)) + np.sum(
        tfd.Normal(tf.constant(0.0, tf.float64), 1.0).log_prob(h), (1, 2, 3)
    )
    np.testing.assert_allclose(
        flow.log_prob(np.concatenate([h, z], -1)), expected, rtol=1e-10
    )


def test_conditions_reach_the_levels(perturbed):
    pyramid = two_levels(condition_shape=(3,))
    perturbed(pyramid)
    assert pyramid.condition_shape == (3,)
    a = pyramid.inverse(Y, condition=np.zeros((3, 3)))
    b = pyramid.inverse(Y, condition=np.ones((3, 3)))
    assert np.abs(a - b).max() > 1e-3
    np.testing.assert_allclose(
        pyramid.forward(tf.identity(b), condition=np.ones((3, 3))), Y, atol=1e-11
    )


def test_adapt_reaches_the_levels():
    pyramid = two_levels()
    y = np.random.default_rng(0).normal(4.0, 3.0, (100, 4, 4, 2))
    latents = pyramid.adapt(y)
    np.testing.assert_allclose(latents, pyramid.inverse(y), atol=1e-11)
    assert np.abs(np.mean(latents)) < 0.1
    assert np.std(latents) == pytest.approx(1.0, abs=0.1)


def test_save_and_load(tmp_path, pyramid):
    base = tfd.Sample(tfd.Normal(tf.constant(0.0, tf.float64), 1.0), 32)
    flow = tfd.TransformedDistribution(base, pyramid)
    tfpf.save_distribution(flow, tmp_path / "flow.keras")
    again = tfpf.load_distribution(tmp_path / "flow.keras")
    np.testing.assert_array_equal(again.log_prob(Y), flow.log_prob(Y))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: tfpf.MultiScale((4, 4, 1), []), "`levels` must hold at least one"),
        (
            lambda: tfpf.MultiScale((4, 4, 1), [tfb.Identity(), tfpf.Squeeze()]),
            "even number of channels.*level 1",
        ),
        (
            lambda: tfpf.MultiScale(
                (4, 4, 1), [tfb.Reshape([4, 4, 1], event_shape_in=[16])]
            ),
            "bijectors of images",
        ),
        (
            lambda: tfpf.MultiScale((4, 5, 1), [tfpf.Squeeze()]),
            "divisible by 2",
        ),
    ],
)
def test_wrong_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_dtype_follows_the_levels():
    keras.config.set_floatx("float32")
    assert two_levels().dtype == tf.float64


@pytest.mark.parametrize("place", [0, 1])
def test_a_batch_of_parameters_of_tfp_is_one_of_the_whole(place):
    def flow(scale):
        levels = [tfpf.Squeeze(dtype="float64") for _ in range(2)]
        levels[place] = tfb.Chain([levels[place], tfb.Scale(scale)])
        pyramid = tfpf.MultiScale((4, 4, 2), levels)
        base = tfd.Sample(tfd.Normal(tf.zeros([], tf.float64), 1.0), 32)
        return tfd.TransformedDistribution(base, pyramid)

    scales = np.reshape([1.0, 2.0, 10.0], (3, 1, 1, 1))
    many, single = flow(scales), [flow(scale) for scale in scales]
    assert many.batch_shape == tuple(many.batch_shape_tensor()) == (3,)
    x = many.sample(2, seed=(0, 1))
    assert x.shape == (2, 3, 4, 4, 2)
    for k, one in enumerate(single):
        expected = one.log_prob(x[:, k])
        np.testing.assert_allclose(many.log_prob(x)[:, k], expected, rtol=1e-10)
        np.testing.assert_allclose(many[k].log_prob(x[:, k]), expected, rtol=1e-10)
        np.testing.assert_allclose(many.log_prob(Y[0])[k], one.log_prob(Y[0]))


def test_a_batch_of_parameters_behind_an_early_output():
    scales = np.reshape([1.0, 2.0, 10.0], (3, 1, 1))
    early = EarlyOutput(tfb.Scale(scales), 2)
    base = tfd.Sample(tfd.Normal(tf.zeros([], tf.float64), 1.0), (5, 6))
    many = tfd.TransformedDistribution(base, early)
    assert many.batch_shape == (3,)
    x = many.sample(2, seed=(0, 1))
    assert x.shape == (2, 3, 5, 6)
    z = np.concatenate([x[..., :2], x[..., 2:] / scales], -1)
    expected = base.log_prob(z) - 20.0 * np.log(scales[:, 0, 0])
    np.testing.assert_allclose(many.log_prob(x), expected, rtol=1e-10)
    np.testing.assert_allclose(many[1].log_prob(x[:, 1]), expected[:, 1], rtol=1e-10)
