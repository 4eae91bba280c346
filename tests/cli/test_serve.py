"""`tfp-flows serve` in a process of its own, asked over REST, ended by Ctrl+C."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import requests
import tensorflow_probability as tfp

from tfp_flows.serving import export_saved_model

tfb, tfd = tfp.bijectors, tfp.distributions


@pytest.fixture
def served_folder(tmp_path):
    flow = tfd.TransformedDistribution(tfd.Normal(0.0, 1.0), tfb.Shift(1.0))
    export_saved_model(flow, tmp_path / "shifted", warmup=False)
    return tmp_path / "shifted"


def _hears_interrupts():
    """Undoes what a shell does to jobs in the background, which ignore Ctrl+C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_answers_until_interrupted(served_folder):
    process = subprocess.Popen(
        [
            sys.executable,
            "-u",
            "-W",
            "ignore",
            "-c",
            "from tfp_flows.cli import main; main()",
            "serve",
            str(served_folder),
            "--rest-port",
            "0",
            "--grpc-port",
            "0",
        ],  # fmt: skip
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        preexec_fn=_hears_interrupts,
    )
    try:
        kind, url = process.stdout.readline().split()
        assert kind == "REST"
        assert url.startswith("http://127.0.0.1:")
        assert "shifted" in process.stdout.readline()
        assert "TF Serving in production" in process.stdout.readline()
        answer = requests.post(f"{url}:predict", json={"instances": [1.0]}, timeout=30)
        (row,) = answer.json()["predictions"]
        assert row["log_prob"] == pytest.approx(-0.5 * np.log(2 * np.pi), rel=1e-5)
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 0
    finally:
        process.kill()
        process.communicate()


def test_wrong_folders_and_ports(served_folder, invoke, tmp_path):
    result = invoke("serve", tmp_path / "nowhere")
    assert result.exit_code == 2
    assert "nowhere" in result.stderr
    assert invoke("serve", served_folder, "--rest-port", "70000").exit_code == 2
    assert "TF Serving" in invoke("serve", "--help").stdout
