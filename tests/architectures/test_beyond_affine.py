"""Flows beyond affine couplings: shapes, identity at the start, bad arguments."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_flows as tfpf
from tfp_flows.testing.subject import perturb

tfd = tfp.distributions

SMALL = {"hidden_units": (8,)}
STEPS = tfpf.FixedStep("rk4", 2)
FLOWS = {
    "spline_flow": lambda shape, **k: tfpf.spline_flow(
        shape, steps=2, bins=4, **SMALL, **k
    ),
    "maf": lambda shape, **k: tfpf.maf(shape, steps=3, **SMALL, **k),
    "maf_spline": lambda shape, **k: tfpf.maf(
        shape, steps=2, transform="spline", bins=4, **SMALL, **k
    ),
    "iaf": lambda shape, **k: tfpf.maf(shape, steps=2, inverse=True, **SMALL, **k),
    "ffjord": lambda shape, **k: tfpf.ffjord(shape, solver=STEPS, **SMALL, **k),
    "coupling_flow": lambda shape, **k: tfpf.coupling_flow(
        shape, transform=tfpf.transforms.QuadraticSpline(4), steps=2, **SMALL, **k
    ),
    "bernstein_flow": lambda shape, **k: tfpf.bernstein_flow(
        shape, degree=4, steps=2, **SMALL, **k
    ),
    "sos_flow": lambda shape, **k: tfpf.sos_flow(shape, steps=2, **SMALL, **k),
    "squashed": lambda shape, **k: tfpf.autoregressive_flow(
        shape, steps=3, squash=2.0, **SMALL, **k
    ),
    "unaf": lambda shape, **k: tfpf.unaf(shape, integrand_units=(4,), **SMALL, **k),
    "naf": lambda shape, **k: tfpf.naf(shape, units=4, **SMALL, **k),
    "gaussianization_flow": lambda shape, **k: tfpf.gaussianization_flow(
        shape, components=4, steps=2, **SMALL, **k
    ),
    "bnaf": lambda shape, **k: tfpf.bnaf(shape, hidden_units=(4,), **k),
    "residual_flow": lambda shape, **k: tfpf.residual_flow(
        shape, steps=2, **SMALL, **k
    ),
    "sylvester_flow": lambda shape, **k: tfpf.sylvester_flow(
        shape, steps=2, **SMALL, **k
    ),
    "sylvester_flow for inference": lambda shape, **k: tfpf.sylvester_flow(
        shape, steps=2, inverse=True, **SMALL, **k
    ),
}
# No rotation at parameters of 0: components differ there, or outliers are squashed.
NEAR = (
    "naf",
    "squashed",
    "bernstein_flow",
    "sos_flow",
    "gaussianization_flow",
    "bnaf",
    "residual_flow",
)


@pytest.mark.parametrize("shape", [(3,), (2, 2, 1)])
@pytest.mark.parametrize("name", FLOWS)
def test_starts_as_a_rotation_of_the_base(name, shape):
    flow = FLOWS[name](shape)
    assert tuple(flow.event_shape) == shape
    x = np.random.default_rng(0).normal(size=(5, *shape)).astype("float32")
    standard = tfd.Sample(tfd.Normal(0.0, 1.0), shape)
    tolerance = {"atol": 3.0} if name in NEAR else {"rtol": 1e-4}
    np.testing.assert_allclose(flow.log_prob(x), standard.log_prob(x), **tolerance)
    assert flow.sample(4, seed=1).shape == (4, *shape)


@pytest.mark.parametrize("name", FLOWS)
def test_conditions_and_float64(name):
    flow = perturb(FLOWS[name]((2,), condition_shape=(3,), dtype="float64"))
    x = tf.constant([[0.5, -1.0]], tf.float64)
    given = [tfpf.condition(flow, np.full(3, value)) for value in (0.0, 1.0)]
    low, high = (g.log_prob(x) for g in given)
    assert low.dtype == tf.float64
    assert np.abs(low - high).max() > 1e-4


def test_ffjord_estimates_the_trace_of_long_events():
    assert tfpf.ffjord((8,), **SMALL).bijector.bijectors[1].get_config()["trace"] == (
        "exact"
    )
    assert tfpf.ffjord((9,), **SMALL).bijector.bijectors[1].get_config()["trace"] == (
        "rademacher"
    )


def test_ffjord_has_velocities_of_its_own_and_images_convolutions():
    flow = tfpf.ffjord((4, 4, 1), steps=2, hidden_units=(3,))
    first, second = flow.bijector.bijectors[1:3]
    assert first.velocity is not second.velocity
    assert first.velocity.kernel_size == 3
    assert isinstance(first.velocity, keras.Layer)


@pytest.mark.parametrize(
    ("make", "argument"),
    [
        (lambda: tfpf.spline_flow((2,), steps=0), "steps"),
        (lambda: tfpf.spline_flow((0,)), "event_shape"),
        (lambda: tfpf.spline_flow((2,), bins=1), "bins"),
        (lambda: tfpf.maf((2,), steps=1), "steps"),
        (lambda: tfpf.ffjord((2,), steps=0), "steps"),
    ],
)
def test_names_the_argument_that_is_wrong(make, argument):
    with pytest.raises(ValueError, match=f"`{argument}`.*Received"):
        make()
