"""Bits per dimension in data units, against cases that are computed by hand."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_flows as tfpf

tfb, tfd = tfp.bijectors, tfp.distributions

SHAPE, D, LEVELS, ALPHA = (4, 4, 1), 16, 32, 0.1
Y = np.random.default_rng(0).uniform(0.0, LEVELS, (20, *SHAPE)).astype("float32")

# What stands between pixels y and the values x of the flow, and dx / dy.
BY_HAND = {
    "none": (None, lambda y: y, np.ones_like),
    "center": (
        tfpf.center(LEVELS),
        lambda y: y / LEVELS - 0.5,
        lambda y: np.full_like(y, 1 / LEVELS),
    ),
    "logit": (
        tfpf.logit(LEVELS, ALPHA),
        lambda y: np.log(unit(y) / (1 - unit(y))),
        lambda y: (1 - ALPHA) / LEVELS / (unit(y) * (1 - unit(y))),
    ),
    "a user's own": (
        tfb.Chain([tfb.Exp(), tfb.Scale(2.0)]),
        lambda y: np.log(y) / 2,
        lambda y: 0.5 / y,
    ),
}
# New flows rotate at most, which the standard normal does not notice.
FLOWS = {
    "nice": lambda **k: tfpf.nice(SHAPE, hidden_units=(8,), **k),
    "real_nvp": lambda **k: tfpf.real_nvp(SHAPE, levels=2, hidden_channels=4, **k),
    # The identity to begin with, as the others are.
    "glow": lambda **k: tfpf.glow(
        SHAPE, levels=2, steps=2, hidden_channels=4, log_scale="exp", **k
    ),
}


def unit(y):
    return ALPHA / 2 + (1 - ALPHA) * y / LEVELS


def evaluated_bits(flow, data):
    """The figure that Keras shows."""
    model = tfpf.FlowModel(flow)
    model.compile(optimizer=keras.optimizers.Adam())
    return model.evaluate(data, verbose=0, return_dict=True)["bits_per_dim"]


@pytest.mark.parametrize("architecture", FLOWS)
@pytest.mark.parametrize("preprocess", BY_HAND)
def test_bits_are_in_data_units_whatever_the_preprocessing(architecture, preprocess):
    bijector, to_latent, derivative = BY_HAND[preprocess]
    y = Y.astype("float64")
    log_normal = -0.5 * to_latent(y) ** 2 - 0.5 * math.log(2 * math.pi)
    expected = -np.mean(log_normal + np.log(derivative(y))) / math.log(2)
    flow = FLOWS[architecture](preprocess=bijector)
    assert evaluated_bits(flow, Y) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("n_bits", [None, 8, 5, 1])
def test_uniform_pixels_cost_as_many_bits_as_they_have(tmp_path, n_bits):
    """Logistic latents behind a logit are uniform pixels: b bits cost b bits.

    The logit leaves `alpha` of the unit interval unused, which costs a little more.
    """
    pixels = np.random.default_rng(1).integers(0, 256, (60, *SHAPE), np.uint8)
    np.save(tmp_path / "images.npy", pixels)
    data = tfpf.data.load(tmp_path / "images.npy", n_bits=n_bits)
    flow = tfpf.nice(
        SHAPE,
        hidden_units=(8,),
        base=tfd.Sample(tfd.Logistic(0.0, 1.0), [D]),
        preprocess=tfpf.logit(data.pixel_levels, alpha=1e-4),
    )
    bits = evaluated_bits(flow, data.test)
    assert bits == pytest.approx((n_bits or 8) - math.log2(1 - 1e-4), abs=1e-3)


def test_fewer_bits_of_the_same_images_cost_fewer_bits():
    """Merging pairs of values removes one bit: the same density, half the units."""
    fine = tfpf.glow(
        SHAPE, levels=1, steps=1, log_scale="exp", preprocess=tfpf.center(256)
    )
    coarse = tfpf.glow(
        SHAPE, levels=1, steps=1, log_scale="exp", preprocess=tfpf.center(128)
    )
    y = np.random.default_rng(2).uniform(0.0, 256.0, (20, *SHAPE)).astype("float32")
    difference = evaluated_bits(fine, y) - evaluated_bits(coarse, y / 2)
    assert difference == pytest.approx(1.0, abs=1e-4)


def test_dequantization_bounds_the_bits_of_whole_pixels():
    """A flow with exact probabilities by hand: bits of the bound, not below them."""
    scale = tf.constant(3.0)
    normal = tfd.Sample(tfd.Normal(LEVELS / 2, scale), [D])
    flow = tfd.TransformedDistribution(normal, tfb.Reshape(SHAPE, event_shape_in=[D]))
    whole = np.random.default_rng(3).integers(10, 22, (200, *SHAPE)).astype("float32")
    mass = tfd.Normal(LEVELS / 2, scale)
    exact = -np.mean(np.log2(mass.cdf(whole + 1.0) - mass.cdf(whole)))
    bound = evaluated_bits(tfpf.Dequantized(flow, pixel_levels=LEVELS), whole)
    assert exact < bound < exact + 0.05
