"""The folder of one training run: what is in it while training and afterwards.

While a run trains, everything lies in `.training`: its settings, the whole state
after the last epoch and the history so far. The results are written at the end, each
file atomically, `report.json` last; then `.training` goes.
"""

from __future__ import annotations

import contextlib
import csv
import json
import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import keras

from tfp_flows.cli import files
from tfp_flows.internal.files import atomic_write
from tfp_flows.training.callbacks import Backup, averaged_weights, keeps_averages

SCRATCH = ".training"


class RunDirectory:
    """A run's folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._scratch = path / SCRATCH
        self._settings = self._scratch / "settings.json"
        self._log = self._scratch / "history.csv"
        self._best = self._scratch / "best.weights.h5"
        self._backup = Backup(self._scratch / "backup")

    @classmethod
    def start(cls, path: Path, settings: Mapping[str, object]) -> RunDirectory:
        """Makes the folder of a new run, which must be empty or not exist yet."""
        run = cls(path)
        if run._settings.is_file():
            raise ValueError(
                f"Option `--out` must be a new or empty folder, or go with `--resume`. "
                f"Received: {path}, which holds an interrupted run"
            )
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise ValueError(
                f"Option `--out` must be a new or empty folder. Received: {path}, "
                f"which holds other files"
            )
        run._scratch.mkdir(parents=True)
        files.write_json(run._settings, settings)
        return run

    @classmethod
    def resume(cls, path: Path, settings: Mapping[str, object]) -> RunDirectory:
        """Opens the folder of an interrupted run, which must have the same settings."""
        run = cls(path)
        if not run._settings.is_file():
            raise ValueError(
                f"Option `--resume` must name an interrupted run with `--out`. "
                f"Received: {path}, which holds none"
            )
        before = json.loads(run._settings.read_text(encoding="utf-8"))
        now = json.loads(json.dumps(settings))
        for name in sorted(before.keys() | now.keys()):
            if before.get(name) != now.get(name):
                raise ValueError(
                    f"Setting `{name}` must be {before.get(name)!r}, as in the "
                    f"interrupted run in {path}. Received: {now.get(name)!r}"
                )
        run._write_log(run._rows())
        return run

    def callbacks(self) -> list[keras.callbacks.Callback]:
        """Keras callbacks that keep the history and the state after every epoch."""
        return [keras.callbacks.CSVLogger(str(self._log), append=True), self._backup]

    def restore(self, model: keras.Model) -> int:
        """Gives a model the state after the last whole epoch; returns how many were.

        The history forgets a later epoch, whose state was not written: it comes again.
        """
        epochs = self._backup.restore(model)
        self._write_log([row for row in self._rows() if int(row["epoch"]) < epochs])
        return epochs

    def keep_best(self) -> keras.callbacks.Callback:
        """A Keras callback that keeps the weights with the lowest `val_nll`."""
        return _BestWeights(self._best, min(self.history().get("val_nll", [math.inf])))

    def stop_early(self, patience: int) -> StopEarly:
        """A Keras callback that ends training once `val_nll` gets no lower."""
        return StopEarly(patience, self.history().get("val_nll", []))

    def restore_best(self, model: keras.Model) -> None:
        """Gives a model the weights that `keep_best` kept."""
        model.load_weights(self._best)

    def history(self) -> dict[str, list[float]]:
        """The metrics of all epochs, by name, across interruptions."""
        rows = self._rows()
        names = [name for name in (rows[0] if rows else {}) if name != "epoch"]
        return {name: [float(row[name]) for row in rows] for name in names}

    def finish(self) -> None:
        """Removes what only an interrupted run needs."""
        shutil.rmtree(self._scratch)

    def _rows(self) -> list[dict[str, str]]:
        """Whole lines of the log, the last one of each epoch."""
        if not self._log.is_file():
            return []
        with self._log.open(newline="", encoding="utf-8") as file:
            lines = list(csv.DictReader(file))
        whole = [line for line in lines if all(line.values())]
        return list({line["epoch"]: line for line in whole}.values())

    def _write_log(self, rows: list[dict[str, str]]) -> None:
        """Rewrites the log: a kill may have cut its last line short."""
        if rows:
            files.write_csv(self._log, list(rows[0]), [r.values() for r in rows])
        else:
            self._log.unlink(missing_ok=True)


class _BestWeights(keras.callbacks.Callback):
    """Writes the weights of the best epoch so far, atomically."""

    model: keras.Model

    def __init__(self, path: Path, best: float) -> None:
        super().__init__()
        self._path, self._best = path, best

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Keeps the weights if no earlier epoch did better."""
        nll = (logs or {}).get("val_nll", math.inf)
        if nll < self._best or not self._path.exists():
            self._best = nll
            averaged = keeps_averages(self.model.optimizer)
            weights = averaged_weights if averaged else contextlib.nullcontext
            with atomic_write(self._path) as file, weights(self.model):
                self.model.save_weights(file)


class StopEarly(keras.callbacks.Callback):
    """Ends training after epochs without progress, across calls of `fit`."""

    model: keras.Model

    def __init__(self, patience: int, before: Sequence[float]) -> None:
        super().__init__()
        self._patience, self._values = patience, list(before)

    @property
    def is_out_of_patience(self) -> bool:
        """Whether so many epochs have passed since the best one."""
        if not self._values:
            return False
        best = min(range(len(self._values)), key=lambda i: self._values[i])
        return len(self._values) - 1 - best >= self._patience

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Counts an epoch."""
        self._values.append((logs or {}).get("val_nll", math.inf))
        if self.is_out_of_patience:
            self.model.stop_training = True


def default_path(data_name: str, flow: str, resume: bool) -> Path:
    """Returns `runs/<data>-<flow>[-<number>]`: a free one, or the newest to resume."""
    stem = Path(data_name).stem.replace(":", "-")
    names = [f"{stem}-{flow}"]
    while (Path("runs") / names[-1]).exists():
        names.append(f"{stem}-{flow}-{len(names) + 1}")
    chosen = names[-2] if resume and len(names) > 1 else names[-1]
    return Path("runs") / chosen
