"""What both sides share: the clock, the schedule, the log. It imports no framework."""

import argparse
import csv
import json
import math
import os
import platform
import time
from pathlib import Path

import numpy as np

DATA_FILE = "fashion_mnist.npz"
WARM_UP = 0.02  # share of the budget in which the learning rate rises
LAST = 0.02  # the last learning rate as a share of the highest


def arguments(description: str) -> argparse.ArgumentParser:
    """Returns the options that both sides take."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--minutes", type=float, default=20.0, help="training budget")
    parser.add_argument("--levels", type=int, default=2, help="L")
    parser.add_argument("--steps", type=int, default=8, help="K")
    parser.add_argument("--hidden-channels", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--clip", type=float, help="largest norm of a step's gradient")
    parser.add_argument(
        "--one-core", action="store_true", help="one thread; minutes of CPU time"
    )
    parser.add_argument("--alpha", type=float, default=1e-3, help="of the logit")
    parser.add_argument(
        "--data", type=Path, required=True, help=f"{DATA_FILE}'s folder"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for the logs")
    parser.add_argument("--seed", type=int, default=0)
    return parser


def load(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Returns training and test images, uint8 `[n, 28, 28, 1]`."""
    with np.load(folder / DATA_FILE) as arrays:
        return arrays["train"], arrays["test"]


def dequantized(images: np.ndarray, seed: int) -> np.ndarray:
    """Adds uniform noise to whole pixel values."""
    noise = np.random.default_rng(seed).random(images.shape, np.float32)
    # The float below 1, so that no value reaches the next pixel's.
    return images + np.minimum(noise, np.float32(1 - 2**-16))


class Clock:
    """Counts training time: all of it, graph building included, but no evaluation."""

    def __init__(self, minutes: float, one_core: bool = False) -> None:
        self.budget = 60.0 * minutes
        self.now = time.process_time if one_core else time.monotonic
        self._start = self.now()
        self._paused = 0.0

    def seconds(self) -> float:
        """Returns the seconds spent on training."""
        return self.now() - self._start - self._paused

    def share(self) -> float:
        """Returns the spent share of the budget."""
        return self.seconds() / self.budget

    def pause(self, seconds: float) -> None:
        """Takes an evaluation out of the count."""
        self._paused += seconds


def learning_rate(highest: float, share: float) -> float:
    """Rises linearly, then falls along a cosine as the time runs out."""
    if share < WARM_UP:
        return highest * max(share / WARM_UP, 1e-3)
    turn = min(1.0, (share - WARM_UP) / (1.0 - WARM_UP))
    return highest * (LAST + (1.0 - LAST) * 0.5 * (1.0 + math.cos(math.pi * turn)))


class Log:
    """A CSV file with a line for each evaluation, and a JSON file for the result."""

    def __init__(self, folder: Path, name: str, options: argparse.Namespace) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / f"{name}.csv"
        self._result = folder / f"{name}.json"
        self._facts = {
            "name": name,
            **{
                key: value
                for key, value in vars(options).items()
                if not isinstance(value, Path)
            },
            "machine": platform.machine(),
            "cores": os.cpu_count(),
            "python": platform.python_version(),
        }
        with self._path.open("w", newline="") as file:
            csv.writer(file).writerow(["seconds", "images", "train_bits", "test_bits"])

    def row(self, seconds: float, images: int, train: float, test: float) -> None:
        """Adds a line, and prints it."""
        values = [round(seconds, 1), images, round(train, 4), round(test, 4)]
        with self._path.open("a", newline="") as file:
            csv.writer(file).writerow(values)
        print(f"{seconds:7.0f} s {images:9d} images: train {train:.3f} test {test:.3f}")

    def finish(self, **result: object) -> None:
        """Writes the final figures."""
        self._result.write_text(json.dumps({**self._facts, **result}, indent=1) + "\n")
        print(result)
