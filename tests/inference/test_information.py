"""Entropies and mutual information against closed forms."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_flows as tfpf

tfd = tfp.distributions
RHO = 0.8
X = np.random.default_rng(0).multivariate_normal([0, 0], [[1, RHO], [RHO, 1]], 4000)
TRUTH = -0.5 * np.log(1.0 - RHO**2)


def near(found, truth):
    value, error = found
    assert 0.0 < error < 0.03
    assert abs(value - truth) < 4.0 * error


def test_of_correlated_normals():
    one = tfd.MultivariateNormalDiag(tf.zeros([1], tf.float64))
    both = tfd.Sample(tfd.Normal(tf.zeros([], tf.float64), 1.0), 2)
    joint = tfd.MultivariateNormalFullCovariance(
        tf.zeros([2], tf.float64), [[1.0, RHO], [RHO, 1.0]]
    )
    given = tfpf.bases.conditional_normal(1, (1,), dtype="float64")
    kernel, bias = given.bijector.trainable_variables
    kernel.assign([[RHO, 0.0]])
    bias.assign([0.0, 0.5 * np.log(1.0 - RHO**2)])
    x, c = X[:, :1], X[:, 1:]
    half = 0.5 * np.log(2.0 * np.pi * np.e)
    near(tfpf.inference.entropy(one, x), half)
    near(tfpf.inference.entropy(given, x, c), half - TRUTH)
    near(tfpf.inference.mutual_information(given, one, x, c), TRUTH)
    near(tfpf.inference.total_correlation(joint, both, X), TRUTH)
    with pytest.raises(ValueError, match="`x`.*Received"):
        tfpf.inference.entropy(one, x[0])
