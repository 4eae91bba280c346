"""Training killed by SIGKILL and resumed equals training that ran through."""

import csv
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import tfp_flows as tfpf

WORKER = Path(__file__).with_name("resume_worker.py")
EPOCHS, STEPS = 24, 5
ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}


def start(folder, result):
    sizes = [str(EPOCHS), str(STEPS)]
    command = [sys.executable, str(WORKER), str(folder), str(result), *sizes]
    return subprocess.Popen(
        command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )


def run_through(folder, result):
    with start(folder, result) as process:
        process.communicate()
    assert process.returncode == 0


def kill_at_random(folder, result, dice, most_epochs):
    """Kills a worker after some batches, and a moment more; returns the batches."""
    batches = dice.randint(1, most_epochs * STEPS)
    with start(folder, result) as process:
        for seen, _ in enumerate(process.stdout, start=1):
            if seen == batches:
                break
        time.sleep(dice.uniform(0.0, 0.05))
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not Path(result).exists(), "killed before it was done"
    return batches


def killed_and_straight(tmp_path, kills):
    dice = random.Random(0)
    through, stopped = tmp_path / "through.npz", tmp_path / "stopped.npz"
    run_through(tmp_path / "straight", through)
    for _ in range(kills):
        kill_at_random(tmp_path / "killed", stopped, dice, (EPOCHS - 2) // kills)
    assert any((tmp_path / "killed").glob("epoch-*.npz")), "no state"
    run_through(tmp_path / "killed", stopped)
    with np.load(through) as a, np.load(stopped) as b:
        assert sorted(a) == sorted(b)
        for name in a:
            np.testing.assert_array_equal(a[name], b[name], err_msg=name)


@pytest.mark.slow
def test_fit_killed_once_is_bit_equal(tmp_path):
    killed_and_straight(tmp_path, 1)


@pytest.mark.slow
def test_fit_killed_at_five_random_points_is_bit_equal(tmp_path):
    killed_and_straight(tmp_path, 5)


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_the_command_line_resumes_bit_for_bit(tmp_path):
    """`tfp-flows train`, killed twice, with dropout, averages and early stopping."""
    x = np.random.default_rng(0).normal(size=(200, 3)) @ np.array(
        [[1.0, 2.0, 0.5], [0.0, 1.0, -1.0], [0.0, 0.0, 0.3]]
    )
    table = tmp_path / "table.csv"
    np.savetxt(table, x, delimiter=",", header="a,b,c", comments="")
    command = [
        sys.executable, "-c", "from tfp_flows.cli import main; main()", "train",
        "--data", str(table), "--flow", "real_nvp", "--couplings", "2",
        "--hidden-units", "8", "--dropout", "0.2", "--batch-size", "16",
        "--epochs", "30", "--ema", "0.95", "--clip-norm", "medium", "--warmup", "20",
    ]  # fmt: skip

    def run(folder, *more):
        done = subprocess.run(
            [*command, "--out", str(folder), *more],
            env=ENVIRONMENT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr

    def killed(folder, epochs, *more):
        log = folder / ".training" / "history.csv"
        with subprocess.Popen(
            [*command, "--out", str(folder), *more],
            env=ENVIRONMENT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as process:
            while process.poll() is None:
                if log.exists() and len(log.read_text().splitlines()) > epochs:
                    break
                time.sleep(0.01)
            process.send_signal(signal.SIGKILL)
        assert process.returncode == -signal.SIGKILL

    run(tmp_path / "straight")
    killed(tmp_path / "stopped", 3)
    killed(tmp_path / "stopped", 7, "--resume")
    run(tmp_path / "stopped", "--resume")
    straight, stopped = tmp_path / "straight", tmp_path / "stopped"
    assert rows(straight / "history.csv") == rows(stopped / "history.csv")
    reports = [
        json.loads((folder / "report.json").read_text())
        for folder in (straight, stopped)
    ]
    assert reports[0]["held_out"] == reports[1]["held_out"]
    flows = [
        tfpf.load_distribution(folder / "flow.keras") for folder in (straight, stopped)
    ]
    for a, b in zip(flows[0].variables, flows[1].variables, strict=True):
        np.testing.assert_array_equal(a, b)
