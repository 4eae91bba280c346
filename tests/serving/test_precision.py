"""Smaller weights: still the same flow, or refused."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_flows as tfpf
from tfp_flows.serving import export_saved_model, read_metadata
from tfp_flows.serving.precision import compare, with_stored_weights
from tfp_flows.serving.servable import servable

tfb, tfd = tfp.bijectors, tfp.distributions

FLOWS = {
    "nice": lambda: tfpf.nice((4,), couplings=2, hidden_units=(32,)),
    "glow": lambda: tfpf.glow((3,), steps=2, hidden_units=(32,)),
    "spline": lambda: tfpf.spline_flow((2,), couplings=2, hidden_units=(32,)),
    "image": lambda: tfpf.glow((4, 4, 1), levels=1, steps=2, hidden_channels=16),
    "conditional": lambda: tfpf.real_nvp(
        (2,), couplings=2, hidden_units=(32,), condition_shape=(3,)
    ),
}


@pytest.fixture(params=FLOWS)
def flow(request, shaken):
    return shaken(FLOWS[request.param](), 0.03)


@pytest.mark.parametrize("precision", ["float16", "bfloat16", "int8"])
def test_reduced_weights_are_smaller_and_close(flow, precision):
    reduced = with_stored_weights(servable(flow), precision)
    x, condition = servable(flow).examples(32)
    bound = {"float16": 0.002, "bfloat16": 0.02, "int8": 0.02}[precision]
    report = compare(servable(flow), reduced, precision, x, condition)
    assert abs(report.bits_per_dim_change) < bound
    assert report.largest_change > 0.0, "the stored weights were not read"
    assert f"{precision} weights change the nll by" in str(report)
    graph = tf.function(lambda: reduced.log_prob(x, condition))
    read = graph.get_concrete_function().variables
    stored = sum(v.numpy().nbytes for v in read)
    assert stored < 0.85 * sum(v.numpy().nbytes for v in flow.variables)


def test_what_is_exported_is_what_was_measured(c_runner, shaken, tmp_path, capsys):
    flow = shaken(FLOWS["glow"]())
    x = flow.sample(8, seed=(1, 2)).numpy()
    path = export_saved_model(flow, tmp_path, precision="float16", check_data=x)
    assert "float16 weights change the nll by" in capsys.readouterr().out
    weights = read_metadata(path)["weights"]
    served = c_runner(path).run("log_prob", x=x)["log_prob"]
    change = np.mean(flow.log_prob(x) - served)
    assert weights["nll_change"] == pytest.approx(change, abs=1e-6)
    assert (weights["rows"], weights["precision"]) == (8, "float16")


def test_a_reduced_flow_is_a_flow_still(shaken):
    flow = shaken(FLOWS["glow"]())
    reduced = with_stored_weights(servable(flow), "bfloat16")
    x = flow.sample(8, seed=(1, 2))
    back = reduced.decode(reduced.encode(x))
    np.testing.assert_allclose(back, x, atol=1e-5)
    # Training goes on with the weights as they were.
    latents = flow.bijector.inverse(x)
    np.testing.assert_allclose(servable(flow).encode(x), latents, atol=1e-5)


def test_too_large_a_change_is_refused_and_leaves_nothing(shaken, tmp_path):
    flow = shaken(FLOWS["image"]())
    with pytest.raises(ValueError, match="`max_bits_change` must not be exceeded"):
        export_saved_model(flow, tmp_path, precision="int8", max_bits_change=1e-9)
    assert list(tmp_path.iterdir()) == []
