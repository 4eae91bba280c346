"""Image tools against flows whose answers are known in closed form."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_flows as tfpf
from tfp_flows import images
from tfp_flows.images import latents, restoration
from tfp_flows.testing.subject import perturb

tfb, tfd = tfp.bijectors, tfp.distributions

SHAPE = (4, 4, 1)


def gaussian_flow():
    """Pixels of mean 100; all share one part, each has a part of its own."""
    covariance = 900.0 * np.ones((16, 16)) + 25.0 * np.eye(16)
    tril = tf.constant(np.linalg.cholesky(covariance))
    normal = tfd.Normal(tf.constant(0.0, tf.float64), 1.0)
    parts = [
        tfb.Shift(tf.constant(100.0, tf.float64)),
        tfb.Reshape(SHAPE, event_shape_in=[16]),
        tfb.ScaleMatvecTriL(tril),
    ]
    return tfd.TransformedDistribution(tfd.Sample(normal, 16), tfb.Chain(parts))


@pytest.fixture(scope="module")
def glow():
    flow = tfpf.glow(
        SHAPE, levels=1, steps=2, hidden_channels=4, preprocess=tfpf.center(256)
    )
    rng = np.random.default_rng(0)
    for variable in flow.trainable_variables:
        variable.assign_add(0.1 * rng.normal(size=variable.shape).astype("float32"))
    return flow


PIXELS = np.random.default_rng(0).uniform(0.0, 256.0, (3, *SHAPE)).astype("float32")


def test_interpolation_ends_where_it_should(glow):
    for spherical in (False, True):
        walk = images.interpolate(
            glow, PIXELS[:2], PIXELS[1:], steps=5, spherical=spherical
        )
        assert walk.shape == (2, 5, *SHAPE)
        np.testing.assert_allclose(walk[:, 0], PIXELS[:2], atol=0.02)
        np.testing.assert_allclose(walk[:, -1], PIXELS[1:], atol=0.02)


def test_arc_keeps_the_length_and_straight_line_does_not():
    flow = gaussian_flow()
    z = np.zeros((2, 16))
    z[0, 0] = z[1, 1] = 4.0
    a, b = images.decode(flow, z[:1]), images.decode(flow, z[1:])
    arc = images.encode(flow, images.interpolate(flow, a, b, 3))
    np.testing.assert_allclose(np.linalg.norm(arc[0], axis=-1), 4.0, rtol=1e-9)
    line = images.encode(flow, images.interpolate(flow, a, b, 3, spherical=False))
    np.testing.assert_allclose(line[0, 1, :2], 2.0, rtol=1e-9)


def test_arc_between_equal_latents_is_finite():
    flow = gaussian_flow()
    same = images.interpolate(flow, PIXELS[:1], PIXELS[:1], 4)
    np.testing.assert_allclose(same[0], np.repeat(PIXELS[:1], 4, 0), atol=1e-6)


def test_arc_from_the_latent_without_a_direction_is_the_line():
    flow = gaussian_flow()
    middle = images.temperature_series(flow, 1, (0.0,), seed=0)[:, 0]
    for ends in ((middle, PIXELS[:1]), (PIXELS[:1], middle), (middle, middle)):
        walk = images.interpolate(flow, *ends, 3)
        line = images.interpolate(flow, *ends, 3, spherical=False)
        np.testing.assert_array_equal(walk, line)


def test_attribute_vector_finds_a_shift():
    flow = gaussian_flow()
    z = np.random.default_rng(0).normal(size=(400, 16))
    has = np.arange(400) % 2 == 0
    z[has, 3] += 2.0
    vector = images.attribute_vector(flow, images.decode(flow, z), has)
    expected = z[has].mean(0) - z[~has].mean(0)
    np.testing.assert_allclose(vector, expected, atol=1e-9)
    x = images.decode(flow, z[:2])
    moved = images.add_attribute(flow, x, vector, strengths=(0.0, 1.0))
    np.testing.assert_allclose(moved[:, 0], x, atol=1e-9)
    np.testing.assert_allclose(
        images.encode(flow, moved[:, 1]), z[:2] + vector, atol=1e-9
    )


def test_temperature_scales_one_latent():
    flow = gaussian_flow()
    series = images.temperature_series(flow, 5, (0.0, 0.5, 1.0), seed=3)
    assert series.shape == (5, 3, *SHAPE)
    np.testing.assert_allclose(series[:, 0], 100.0)
    np.testing.assert_allclose(series[:, 1] - 100, 0.5 * (series[:, 2] - 100))
    model = tfpf.FlowModel(flow)
    np.testing.assert_allclose(series[:, 2], model.sample(5, seed=3))


def conditional(x, known, sigma):
    """Mean and deviation of a Gaussian's pixels given noisy values of some."""
    covariance = 900.0 * np.ones((16, 16)) + 25.0 * np.eye(16)
    k = np.flatnonzero(known)
    noise = sigma**2 * np.eye(len(k))
    gain = covariance[:, k] @ np.linalg.inv(covariance[np.ix_(k, k)] + noise)
    mean = 100.0 + gain @ (x.ravel()[k] - 100.0)
    variance = np.diag(covariance - gain @ covariance[k])
    return mean.reshape(SHAPE), np.sqrt(variance).reshape(SHAPE)


KNOWN = (np.arange(16) < 8).reshape(SHAPE)


def test_inpainting_by_optimization_finds_the_likeliest_pixels():
    flow = gaussian_flow()
    x = flow.sample(2, seed=1).numpy()
    filled = restoration.inpaint(
        flow, np.where(KNOWN, x, -1.0), KNOWN, method="optimize", sigma=1.0, steps=600
    ).numpy()
    np.testing.assert_array_equal(filled[:, KNOWN], x[:, KNOWN])
    for image, truth in zip(filled, x, strict=True):
        expected, _ = conditional(truth, KNOWN, 1.0)
        np.testing.assert_allclose(image[~KNOWN], expected[~KNOWN], atol=1.5)


def test_inpainting_by_langevin_draws_from_the_conditional():
    flow = gaussian_flow()
    x = flow.sample(1, seed=1).numpy()
    many = np.repeat(x, 200, axis=0)
    filled = restoration.inpaint(flow, many, KNOWN, sigma=8.0, steps=500).numpy()
    np.testing.assert_array_equal(filled[:, KNOWN], many[:, KNOWN])
    mean, deviation = conditional(x[0], KNOWN, 8.0)
    unknown = filled[:, ~KNOWN]
    np.testing.assert_allclose(unknown.mean(0), mean[~KNOWN], atol=2.0)
    np.testing.assert_allclose(unknown.std(0), deviation[~KNOWN], rtol=0.2)


def test_super_resolution_keeps_the_block_means():
    flow = gaussian_flow()
    x = flow.sample(3, seed=1).numpy()
    small = tf.nn.avg_pool2d(x, 2, 2, "VALID")
    for method in restoration.METHODS:
        large = restoration.super_resolve(flow, small, method=method, sigma=0.5)
        assert large.shape == (3, *SHAPE)
        again = tf.nn.avg_pool2d(large, 2, 2, "VALID")
        np.testing.assert_allclose(again, small, atol=2.5)


def test_restoration_on_an_image_flow_is_likelier_than_where_it_began(glow):
    known = np.zeros(SHAPE, bool)
    known[:2] = True
    filled = restoration.inpaint(glow, PIXELS, known, method="optimize", steps=50)
    rough = np.where(known, PIXELS, PIXELS[:, :2].mean((1, 2), keepdims=True))
    z_filled, z_rough = images.encode(glow, filled), images.encode(glow, rough)
    base = glow.distribution
    assert np.all(base.log_prob(z_filled) >= base.log_prob(z_rough))


def test_series_show_what_was_given_what_was_found_and_the_truth():
    flow = gaussian_flow()
    x = flow.sample(2, seed=1).numpy()
    filled = restoration.inpainting_series(flow, x, KNOWN, 2, steps=20).numpy()
    assert filled.shape == (2, 5, *SHAPE)
    np.testing.assert_array_equal(filled[:, 4], x)
    given = np.where(KNOWN, x, x.mean((1, 2), keepdims=True))
    np.testing.assert_allclose(filled[:, 0], given, rtol=1e-6)
    for column in (1, 2, 3):
        np.testing.assert_array_equal(filled[:, column][:, KNOWN], x[:, KNOWN])
    assert np.abs(filled[:, 2] - filled[:, 3]).max() > 1.0
    enlarged = restoration.super_resolution_series(
        flow, x, factor=2, draws=2, steps=300, sigma=0.5
    )
    assert enlarged.shape == (2, 5, *SHAPE)
    np.testing.assert_array_equal(enlarged[:, 4], x)
    small = tf.nn.avg_pool2d(x, 2, 2, "VALID")
    for column in range(5):
        again = tf.nn.avg_pool2d(enlarged[:, column], 2, 2, "VALID")
        np.testing.assert_allclose(again, small, atol=2.5)
    assert np.abs(enlarged[:, 2] - enlarged[:, 3]).max() > 1.0
    for series in (filled, enlarged):
        assert images.picture_grid(series, 256).shape == (2 * 5 - 1, 5 * 5 - 1, 1)


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda f: latents.flow_of(tfpf.nice((4,))), "must be a flow of images"),
        (
            lambda f: images.encode(f, np.zeros((3, 5, 4, 1))),
            "`images` must have shape",
        ),
        (lambda f: images.interpolate(f, PIXELS, PIXELS, 1), "`steps` must be"),
        (lambda f: images.temperature_series(f, 2, (-1.0,)), "none negative"),
        (lambda f: images.temperature_series(f, 2, (np.inf,)), "all finite"),
        (
            lambda f: images.attribute_vector(f, PIXELS, [True] * 3),
            "`has_attribute` must hold",
        ),
        (lambda f: restoration.inpaint(f, PIXELS, KNOWN, method="x"), "`method` must"),
        (
            lambda f: restoration.inpaint(f, PIXELS, KNOWN, sigma=0.0),
            "`sigma` must be",
        ),
        (
            lambda f: restoration.super_resolve(f, np.zeros((1, 3, 3, 1))),
            "smaller by a whole factor",
        ),
    ],
)
def test_wrong_arguments_are_named(act, message):
    with pytest.raises((TypeError, ValueError), match=message):
        act(gaussian_flow())


def test_a_condition_belongs_to_an_image_at_every_step():
    flow = tfpf.glow(SHAPE, levels=1, steps=1, hidden_channels=4, condition_shape=(3,))
    bound = tfpf.condition(perturb(flow), np.eye(3, dtype="float32"))
    start, end = PIXELS / 100.0, PIXELS[::-1] / 100.0
    found = images.interpolate(bound, start, end, 4)
    assert found.shape == (3, 4, *SHAPE)
    np.testing.assert_allclose(found[:, 0], start, atol=1e-4)
    np.testing.assert_allclose(found[:, -1], end, atol=1e-4)
    drawn = images.temperature_series(bound, 3, (0.5, 1.0))
    assert drawn.shape == (3, 2, *SHAPE)
    moved = images.add_attribute(bound, start, tf.zeros([16]), (0.0, 1.0))
    np.testing.assert_allclose(moved[:, 1], start, atol=1e-4)


def test_latents_may_have_the_shape_of_images():
    base = tfd.Sample(tfd.Normal(0.0, 1.0), SHAPE)
    flow = tfd.TransformedDistribution(base, tfb.Scale(2.0))
    assert images.temperature_series(flow, 3).shape == (3, 4, *SHAPE)
    found = images.interpolate(flow, PIXELS, PIXELS[::-1], 5)
    np.testing.assert_allclose(found[:, -1], PIXELS[::-1], rtol=1e-4)
    filled = images.inpaint(flow, PIXELS / 100.0, KNOWN, steps=20)
    np.testing.assert_array_equal(filled.numpy()[:, KNOWN], (PIXELS / 100.0)[:, KNOWN])


def test_the_noise_of_a_measurement_follows_its_range():
    """Standardized images as those of 256 levels."""
    scale = tfb.Scale(tf.constant(0.01, tf.float64))
    small = tfd.TransformedDistribution(gaussian_flow(), scale)
    given = gaussian_flow().sample(1, seed=1)
    known = np.arange(16).reshape(SHAPE) < 8
    filled = images.inpaint(small, 0.01 * given, known, method="optimize", steps=400)
    expected = given.numpy()[:, known].mean()
    np.testing.assert_allclose(filled.numpy()[:, ~known] / 0.01, expected, atol=12.0)
