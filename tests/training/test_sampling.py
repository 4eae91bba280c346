"""What every use of a flow asks: its distribution, and latents with densities."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_flows as tfpf
from tfp_flows.training.sampling import distribution_of, latents_and_log_prob, sample

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


@pytest.mark.parametrize(
    "base",
    [
        lambda: tfpf.bases.student_t(2, 0.8),
        lambda: tfd.Sample(tfd.Cauchy(0.0, 1.0), 2),
        lambda: tfd.Sample(tfd.Pareto(0.5, 1.0), 2),
    ],
    ids=["student_t", "cauchy", "pareto"],
)
def test_samples_of_a_base_without_a_mean(base, tmp_path):
    flow = tfpf.real_nvp((2,), steps=2, hidden_units=(4,), base=base())
    model = tfpf.FlowModel(flow)
    drawn = model.sample(50, seed=1)
    np.testing.assert_array_equal(drawn, flow.sample(50, seed=(0, 1)))
    with pytest.raises(ValueError, match=r"`temperature` must be 1.*no finite mean"):
        model.sample(3, temperature=0.5)
    path = tfpf.export_saved_model(model, tmp_path, warmup=False)
    served = tf.saved_model.load(path).signatures["sample"]
    assert served(n=3, seed=[0, 1], temperature=1.0)["is_finite"].numpy().all()


@pytest.mark.parametrize("kind", [float, np.float32, np.array, tf.constant])
@pytest.mark.parametrize("value", [np.inf, np.nan, -1.0])
def test_temperatures_are_finite_and_not_negative(kind, value):
    normal = tfd.MultivariateNormalDiag([0.0, 0.0])
    with pytest.raises(ValueError, match="`temperature` must be finite and not neg"):
        sample(normal, 3, temperature=kind(value))
    assert sample(normal, 3, temperature=kind(0.0)).shape == (3, 2)


def test_latents_of_a_joint_distribution(tmp_path):
    one = [tfd.Sample(tfd.Normal(0.0, 1.0), 1) for _ in range(2)]
    flow = tfpf.real_nvp((2,), steps=2, hidden_units=(4,))
    parts = [flow.bijector, tfb.Invert(tfb.Split(2))]
    joint = tfd.JointDistributionSequential(one)
    model = tfpf.FlowModel(tfd.TransformedDistribution(joint, tfb.Chain(parts)))
    assert model.sample(3, temperature=0.5).shape == (3, 2)
    with pytest.raises(ValueError, match=r"must have latents that are one tensor"):
        tfpf.export_saved_model(model, tmp_path)


def test_seeds_are_kerass_too_or_named():
    flow = tfpf.real_nvp((2,), steps=2, hidden_units=(4,))
    model = tfpf.FlowModel(flow)
    first, second = (
        model.sample(3, seed=keras.random.SeedGenerator(1)) for _ in range(2)
    )
    np.testing.assert_array_equal(first, second)
    for seed in (1.5, "a"):
        with pytest.raises(ValueError, match="`seed` must be an integer"):
            model.sample(3, seed=seed)
