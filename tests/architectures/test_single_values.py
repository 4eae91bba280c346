"""Events of one value: the density of a number, given features."""

import numpy as np
import pytest

import tfp_flows as tfpf

TRUE = 0.5 * np.log(2.0 * np.pi * np.e * 0.25)  # entropy of Normal(c, 0.5)


@pytest.mark.parametrize("make", [tfpf.spline_flow, tfpf.maf])
def test_the_density_of_a_number_given_features_is_learned(make):
    rng = np.random.default_rng(0)
    c = rng.uniform(-1.0, 1.0, (4000, 1)).astype("float32")
    y = (c + 0.5 * rng.normal(size=c.shape)).astype("float32")
    flow = make((1,), condition_shape=(1,), hidden_units=(16,), steps=2)
    model = tfpf.FlowModel(flow)
    model.compile(tfpf.optimizer(1e-2))
    model.fit(y, c, epochs=6, batch_size=256, verbose=0)
    nll = model.evaluate(y, c, verbose=0, return_dict=True)["nll"]
    exact = 0.5 * np.mean(((y - c) / 0.5) ** 2) + np.log(0.5 * np.sqrt(2.0 * np.pi))
    assert abs(nll - exact) < 0.03
    assert abs(exact - TRUE) < 0.05


@pytest.mark.parametrize("make", [tfpf.spline_flow, tfpf.maf])
def test_a_single_value_needs_no_condition(make):
    flow = make((1,), steps=2)
    assert flow.log_prob(np.zeros([3, 1], "float32")).shape == (3,)
    assert flow.sample(5, seed=1).shape == (5, 1)


@pytest.mark.parametrize("make", [tfpf.nice, tfpf.real_nvp, tfpf.glow])
def test_others_say_what_to_use(make):
    with pytest.raises(ValueError, match="for single values use `tfpf.spline_flow`"):
        make((1,))
