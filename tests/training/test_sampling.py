"""What every use of a flow asks: its distribution, and latents with densities."""

import numpy as np
import pytest
import tensorflow_probability as tfp

import tfp_flows as tfpf
from tfp_flows.training.sampling import distribution_of, latents_and_log_prob

tfb, tfd = tfp.bijectors, tfp.distributions


def test_distribution_of_a_model_or_of_itself():
    flow = tfd.TransformedDistribution(tfd.Normal(0.0, 1.0), tfb.Shift(1.0))
    assert distribution_of(flow) is flow
    model = tfpf.FlowModel(tfpf.nice((2,), couplings=2, hidden_units=(4,)))
    assert distribution_of(model) is model.distribution
    with pytest.raises(TypeError, match="`flow` must be .* Received: flow=3"):
        distribution_of(3, "flow")


def test_latents_and_log_prob():
    flow = tfd.TransformedDistribution(tfd.Normal(0.0, 1.0), tfb.Shift(1.0))
    latent, log_prob = latents_and_log_prob(flow, np.float32([1.5]))
    np.testing.assert_allclose(latent, [0.5])
    np.testing.assert_allclose(log_prob, flow.distribution.log_prob([0.5]))
    x, log_prob = latents_and_log_prob(flow.distribution, np.float32([0.5]))
    np.testing.assert_allclose(x, [0.5])
