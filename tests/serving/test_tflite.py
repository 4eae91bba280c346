"""LiteRT files answer as the flow does, or are refused."""

import os
from pathlib import Path

import numpy as np
import pytest
import tensorflow_probability as tfp

import tfp_flows as tfpf
from tfp_flows.serving import export_tflite
from tfp_flows.serving.servable import servable
from tfp_flows.serving.tflite import run_tflite

tfb, tfd = tfp.bijectors, tfp.distributions

FLOWS = {
    # Its last part is TFP's `Scale`, whose log-det LiteRT got wrong for open shapes.
    "nice": lambda: tfpf.nice((4,), couplings=2, hidden_units=(16,)),
    "image": lambda: tfpf.glow(
        (4, 4, 1), levels=1, steps=2, hidden_channels=8, preprocess=tfpf.logit(17.0)
    ),
    "conditional": lambda: tfpf.real_nvp(
        (2,), couplings=2, hidden_units=(16,), condition_shape=(3,)
    ),
}


@pytest.mark.parametrize("name", FLOWS)
def test_answers_as_the_flow_does(name, shaken, tmp_path):
    flow = shaken(FLOWS[name]())
    path = Path(export_tflite(flow, tmp_path / "flow.tflite", rows=5))
    assert os.listdir(tmp_path) == ["flow.tflite"]
    content, served = path.read_bytes(), servable(flow)
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


def test_plain_distribution_has_no_decode(tmp_path):
    normal = tfd.MultivariateNormalDiag([0.0, 1.0], [1.0, 2.0])
    plain = tfd.Independent(tfd.Normal([0.0, 1.0], [1.0, 2.0]), 1)
    content = Path(export_tflite(plain, tmp_path / "plain.tflite")).read_bytes()
    x = np.float32([[0.5, -0.5]])
    answer = run_tflite(content, "log_prob", {"x": x})["log_prob"]
    np.testing.assert_allclose(answer, normal.log_prob(x), rtol=1e-5)
    with pytest.raises(ValueError, match="decode"):
        run_tflite(content, "decode", {"latent": x})


def test_ops_that_litert_lacks_are_named_and_nothing_is_written(tmp_path):
    flow = tfd.TransformedDistribution(tfd.Normal(0.0, 1.0), tfb.NormalCDF())
    with pytest.raises(ValueError, match=r"ops that LiteRT has built in.*Ndtri"):
        export_tflite(flow, tmp_path / "flow.tflite")
    assert list(tmp_path.iterdir()) == []


def test_a_difference_above_the_tolerance_is_refused(tmp_path):
    flow = tfd.TransformedDistribution(tfd.Normal(0.0, 1.0), tfb.Shift(1.0))
    with pytest.raises(ValueError, match="`tolerance` must not be exceeded"):
        export_tflite(flow, tmp_path / "flow.tflite", tolerance=-1.0)
    assert list(tmp_path.iterdir()) == []
