"""A run's folder: started, interrupted, resumed, finished."""

import json
import os
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest

from tfp_flows.cli.run_directory import RunDirectory, default_path

SETTINGS = {"epochs": 4, "architecture": {"hidden_units": (8, 8)}}
HEADER = "epoch,nll,val_nll\n"


def test_start_needs_a_new_or_empty_folder(tmp_path):
    RunDirectory.start(tmp_path / "a" / "run", SETTINGS)
    (tmp_path / "empty").mkdir()
    RunDirectory.start(tmp_path / "empty", SETTINGS)
    with pytest.raises(ValueError, match="holds an interrupted run"):
        RunDirectory.start(tmp_path / "empty", SETTINGS)
    (tmp_path / "file").write_text("mine")
    for path in (tmp_path, tmp_path / "file"):
        with pytest.raises(ValueError, match="holds other files"):
            RunDirectory.start(path, SETTINGS)


def test_resume_needs_the_same_settings(tmp_path):
    RunDirectory.start(tmp_path / "run", SETTINGS)
    RunDirectory.resume(tmp_path / "run", SETTINGS)
    with pytest.raises(ValueError, match="`epochs` must be 4, as in the interrupted"):
        RunDirectory.resume(tmp_path / "run", SETTINGS | {"epochs": 5})
    with pytest.raises(ValueError, match="which holds none"):
        RunDirectory.resume(tmp_path / "other", SETTINGS)


def test_history_survives_a_line_cut_short_and_a_repeated_epoch(tmp_path):
    RunDirectory.start(tmp_path, SETTINGS)
    log = tmp_path / ".training" / "history.csv"
    log.write_text(HEADER + "0,3.0,3.5\n1,2.0,2.5\n1,2.25,2.75\n2,1.")
    run = RunDirectory.resume(tmp_path, SETTINGS)
    assert log.read_text() == HEADER + "0,3.0,3.5\n1,2.25,2.75\n"
    assert run.history() == {"nll": [3.0, 2.25], "val_nll": [3.5, 2.75]}


def test_finish_leaves_only_results(tmp_path):
    run = RunDirectory.start(tmp_path, SETTINGS)
    (tmp_path / "report.json").write_text("{}")
    run.finish()
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]


def test_default_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = []
    for resume in (False, False, True):
        path = default_path("data/wine.csv", "glow", resume)
        names.append(path.as_posix())
        path.mkdir(parents=True, exist_ok=True)
    assert names == ["runs/wine-glow", "runs/wine-glow-2", "runs/wine-glow-2"]
    assert default_path("rings", "glow", True).as_posix() == "runs/rings-glow"


@pytest.fixture(scope="module")
def image_file(tmp_path_factory):
    """A file of 200 images of 8x8 pixels."""
    images = np.random.default_rng(0).integers(0, 256, (200, 8, 8, 1), np.uint8)
    path = tmp_path_factory.mktemp("images") / "images.npy"
    np.save(path, images // 2)
    return path


KILLED = {
    "table": ["--flow", "real_nvp", "--couplings", "2", "--hidden-units", "8"],
    "image_file": [
        "--flow", "glow", "--levels", "1", "--steps", "1", "--hidden-channels", "4",
    ],
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("data", ["table", "image_file"])
def test_resume_after_a_kill_goes_on_to_the_end(tmp_path, data, request):
    """`kill -9` in the middle of training, then `--resume`."""
    arguments = [
        sys.executable, "-c", "from tfp_flows.cli import main; main()", "train",
        "--data", str(request.getfixturevalue(data)), *KILLED[data],
        "--batch-size", "16", "--epochs", "40",
    ]  # fmt: skip
    folder = tmp_path / "killed"
    command = [*arguments, "--out", str(folder)]
    log = folder / ".training" / "history.csv"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}

    def epochs_logged():
        return len(log.read_text().splitlines()) - 1 if log.exists() else 0

    with subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:
        deadline = time.monotonic() + 240
        while epochs_logged() < 3 and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not (folder / "report.json").exists()
    logged = epochs_logged()
    assert 3 <= logged < 40

    resumed = subprocess.run(
        [*command, "--resume"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert resumed.returncode == 0, resumed.stderr
    assert "Epoch 1/40" not in resumed.stdout
    report = json.loads((folder / "report.json").read_text())
    # Training may end early, once the part held back gets no better.
    assert logged < report["epochs"] <= 40
    assert f"Epoch {report['epochs']}/40" in resumed.stdout
    assert not (folder / ".training").exists()


def test_the_best_weights_are_kept_across_interruptions(tmp_path):
    class Logged(keras.Model):
        def __init__(self):
            super().__init__()
            self.layer = keras.layers.Dense(1)
            self.layer.build([None, 1])
            self.built = True

    model = Logged()
    model.compile(optimizer="adam")
    run = RunDirectory.start(tmp_path, SETTINGS)
    log = tmp_path / ".training" / "history.csv"

    def epochs(run, values):
        keep = run.keep_best()
        keep.set_model(model)
        for nll in values:
            model.layer.bias.assign([nll])
            keep.on_epoch_end(0, {"val_nll": nll})

    epochs(run, [3.0, 1.0, 2.0])
    log.write_text(HEADER + "0,3.0,3.0\n1,1.0,1.0\n2,2.0,2.0\n")
    epochs(RunDirectory.resume(tmp_path, SETTINGS), [1.5, 4.0])
    run.restore_best(model)
    assert float(model.layer.bias[0]) == 1.0
    epochs(RunDirectory.resume(tmp_path, SETTINGS), [0.5, 4.0])
    run.restore_best(model)
    assert float(model.layer.bias[0]) == 0.5
