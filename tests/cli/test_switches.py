"""`tfp-flows train` with averages, clipping, a warm-up and 16-bit networks."""

import json

import numpy as np
import pytest
import tensorflow as tf

import tfp_flows as tfpf
from tfp_flows import data as flow_data


@pytest.mark.parametrize(
    "precision",
    ["mixed_bfloat16", pytest.param("mixed_float16", marks=pytest.mark.slow)],
)
def test_a_run_with_all_switches_is_reported_and_exported(
    precision, table, invoke, tmp_path
):
    out = tmp_path / "run"
    result = invoke(
        "train", "--data", table, "--flow", "nice", "--couplings", 2,
        "--hidden-units", "8", "--epochs", 2, "--batch-size", 64, "--out", out,
        "--ema", 0.9, "--clip-norm", "loose", "--warmup", 2,
        "--precision", precision, "--quiet",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    recipe = json.loads((out / "report.json").read_text())["recipe"]
    switches = {"ema": 0.9, "clip_norm": 100.0, "warmup_steps": 2}
    assert recipe | switches | {"precision": precision} == recipe
    flow = tfpf.load_distribution(out / "flow.keras")
    assert tfpf.FlowModel(flow).dtype_policy.name == precision
    x = flow_data.load(table).x_test
    served = tf.saved_model.load(str(out / "saved_model" / "1"))
    log_prob = served.signatures["log_prob"](x=tf.constant(x))["log_prob"]
    np.testing.assert_allclose(log_prob, flow.log_prob(x), rtol=0.05, atol=0.05)


def test_wrong_switches_end_in_one_sentence(table, invoke, tmp_path):
    for switch, value in (
        ("--ema", "2"),
        ("--clip-norm", "soft"),
        ("--warmup", "-3"),
        ("--precision", "int8"),
    ):
        out = tmp_path / "run"
        result = invoke("train", "--data", table, switch, value, "--out", out)
        assert result.exit_code == 2
        assert f"`{switch}` must" in result.stderr
        assert "Traceback" not in result.stderr
        assert not out.exists()
