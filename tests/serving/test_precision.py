"""Smaller weights and LiteRT files: still the same flow, or refused."""

import os

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_flows as tff
from tfp_flows.serving import export_saved_model, export_tflite, read_metadata
from tfp_flows.serving.precision import ReducedFlow, compare
from tfp_flows.serving.served_flow import ServedFlow
from tfp_flows.serving.tflite import run_tflite

tfb, tfd = tfp.bijectors, tfp.distributions

FLOWS = {
    "nice": lambda: tff.nice((4,), couplings=2, hidden_units=(32,)),
    "glow": lambda: tff.glow((3,), steps=2, hidden_units=(32,)),
    "spline": lambda: tff.spline_flow((2,), couplings=2, hidden_units=(32,)),
    "image": lambda: tff.glow((4, 4, 1), levels=1, steps=2, hidden_channels=16),
    "conditional": lambda: tff.real_nvp(
        (2,), couplings=2, hidden_units=(32,), condition_shape=(3,)
    ),
}


@pytest.fixture(params=FLOWS)
def flow(request, shaken):
    return shaken(FLOWS[request.param]())


@pytest.mark.parametrize("precision", ["float16", "bfloat16", "int8"])
def test_reduced_weights_are_smaller_and_close(flow, precision):
    reduced = ReducedFlow(flow, precision)
    x, condition = ServedFlow(flow).examples(32)
    bound = {"float16": 0.002, "bfloat16": 0.02, "int8": 0.02}[precision]
    report = compare(ServedFlow(flow), reduced, precision, x, condition)
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
    reduced = ReducedFlow(flow, "bfloat16")
    x = flow.sample(8, seed=(1, 2))
    back = reduced.decode(reduced.encode(x))
    np.testing.assert_allclose(back, x, atol=1e-5)
    # Training goes on with the weights as they were.
    np.testing.assert_array_equal(ServedFlow(flow).encode(x), flow.bijector.inverse(x))


def test_too_large_a_change_is_refused_and_leaves_nothing(shaken, tmp_path):
    flow = shaken(FLOWS["image"]())
    with pytest.raises(ValueError, match="`max_bits_change` must not be exceeded"):
        export_saved_model(flow, tmp_path, precision="int8", max_bits_change=1e-9)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_precision_is_named(tmp_path):
    with pytest.raises(ValueError, match="`precision` must be one of float32, float16"):
        export_saved_model(FLOWS["nice"](), tmp_path, precision="float8")


def test_tflite_answers_as_the_flow_does(flow, tmp_path):
    content = open(export_tflite(flow, tmp_path / "flow.tflite"), "rb").read()
    served = ServedFlow(flow)
    given, condition = {}, None
    if served.condition_shape is not None:
        condition = np.float32([[0.5, -1.0, 2.0]] * 5)
        given = {"condition": condition}
    z = np.random.default_rng(0).normal(size=(5, *served.latent_shape))
    latent = z.astype("float32")
    x = run_tflite(content, "decode", {"latent": latent, **given})["samples"]
    np.testing.assert_allclose(
        x, served.decode(latent, condition), rtol=1e-4, atol=1e-4
    )
    log_prob = run_tflite(content, "log_prob", {"x": x, **given})["log_prob"]
    expected = served.log_prob(x, condition)
    np.testing.assert_allclose(log_prob, expected, rtol=1e-4, atol=1e-4)
    assert os.listdir(tmp_path) == ["flow.tflite"]


def test_ops_that_litert_lacks_are_refused_and_leave_nothing(tmp_path):
    flow = tfd.TransformedDistribution(tfd.Normal(0.0, 1.0), tfb.NormalCDF())
    with pytest.raises(ValueError, match="must use only ops that LiteRT has built in"):
        export_tflite(flow, tmp_path / "flow.tflite")
    assert list(tmp_path.iterdir()) == []


def test_a_difference_above_the_tolerance_is_refused(shaken, tmp_path):
    flow = shaken(FLOWS["image"]())
    with pytest.raises(ValueError, match="`tolerance` must not be exceeded"):
        export_tflite(flow, tmp_path / "flow.tflite", tolerance=-1.0)
    assert list(tmp_path.iterdir()) == []


def test_float64_flow_has_no_litert_file_of_wrong_numbers(tmp_path):
    base = tfd.Sample(tfd.Normal(tf.constant(0.0, tf.float64), 1.0), [2])
    flow = tfd.TransformedDistribution(base, tfb.Shift(tf.constant(1.0, tf.float64)))
    content = open(export_tflite(flow, tmp_path / "flow.tflite"), "rb").read()
    x = np.array([[0.25, 0.5]])
    answer = run_tflite(content, "log_prob", {"x": x})["log_prob"]
    np.testing.assert_allclose(answer, flow.log_prob(x), rtol=1e-12)
