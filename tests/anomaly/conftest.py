"""A flow whose densities and latents are known in closed form, and small Glows."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_flows as tfpf

tfb, tfd = tfp.bijectors, tfp.distributions


@pytest.fixture
def normal_model():
    """Two values of mean 3 and standard deviation 2, in float64."""
    base = tfd.Sample(tfd.Normal(tf.constant(0.0, tf.float64), 1.0), [2])
    loc = tf.Variable(tf.constant(3.0, tf.float64))
    scale = tf.constant(2.0, tf.float64)
    bijector = tfb.Chain([tfb.Shift(loc), tfb.Scale(scale)])
    return tfpf.FlowModel(tfd.TransformedDistribution(base, bijector))


def small_glow(seed):
    flow = tfpf.glow(
        (4, 4, 1), levels=1, steps=2, hidden_channels=4, preprocess=tfpf.logit(256.0)
    )
    generator = np.random.default_rng(seed)
    for variable in flow.trainable_variables:
        noise = 0.1 * generator.normal(size=variable.shape)
        variable.assign_add(noise.astype("float32"))
    return flow


@pytest.fixture
def glow_model():
    return tfpf.FlowModel(small_glow(1))


@pytest.fixture
def background():
    return small_glow(2)


@pytest.fixture(scope="session")
def pixels():
    """Images `[50, 4, 4, 1]` of whole pixel values, the first of one colour."""
    images = np.random.default_rng(0).integers(0, 256, (50, 4, 4, 1))
    images[0] = 77
    return images.astype("uint8")


@pytest.fixture(scope="session")
def images(pixels):
    return pixels + np.float32(0.5)
