"""`Backup`: the whole state of training after each epoch, whole or not at all."""

from __future__ import annotations

import json
import os
import re
import tempfile
from pathlib import Path
from typing import Any

import keras
import numpy as np

_NAME = re.compile(r"epoch-(\d+)\.npz")
_FACTS = "facts"


class Backup(keras.callbacks.Callback):
    """A callback that keeps what training needs to go on as if never stopped.

    After each epoch it writes one file with every variable of the model and of the
    optimizer: weights, averages, moments, step and loss scale, and the states of all
    seed generators (dropout, probes, noise), which Keras's weight files leave out.
    The file is written beside its place, synced and renamed, and only then is the one
    before it removed: a process killed at any moment leaves the state of a whole
    epoch, never half of one or one epoch's weights with another's number.

    A run that goes on equals the uninterrupted one bit for bit on a CPU if the order
    and noise of its data depend on the number of the epoch and not on what was drawn
    before, as those of `tff.data.Data.passes` do, and if its other callbacks keep no
    count of their own, as `EarlyStopping` does.

    Under `tf.distribute` with several workers only the chief writes.

    Example:
        >>> import tempfile, tfp_flows as tff
        >>> data = tff.data.load("two_moons", batch_size=1000)
        >>> model = tff.FlowModel(tff.real_nvp((2,), couplings=2))
        >>> model.compile(optimizer="adam")
        >>> backup = tff.Backup(tempfile.mkdtemp())
        >>> done = backup.restore(model)  # 0, or the number of finished epochs
        >>> history = model.fit(
        ...     data.passes(done),
        ...     steps_per_epoch=data.steps,
        ...     initial_epoch=done,
        ...     epochs=2,
        ...     callbacks=[backup],
        ...     verbose=0,
        ... )
        >>> backup.restore(model)
        2
    """

    def __init__(self, folder: str | os.PathLike) -> None:
        """Names the folder, which is made when there is something to write."""
        super().__init__()
        self.folder = Path(folder)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Writes the state after `epoch + 1` epochs."""
        if _is_chief(self.model):
            self.save(self.model, epoch + 1)

    def save(self, model: keras.Model, epochs: int) -> None:
        """Writes the state of a compiled model after so many epochs.

        Args:
            model: The model, compiled.
            epochs: How many epochs are finished.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        variables = _variables(model)
        arrays = {f"{i}": _value(variable) for i, variable in enumerate(variables)}
        facts = json.dumps({"variables": _described(variables)})
        path = self.folder / f"epoch-{epochs:08d}.npz"
        with tempfile.TemporaryDirectory(dir=self.folder, prefix=".writing-") as beside:
            written = Path(beside) / path.name
            with written.open("wb") as file:
                np.savez(file, **arrays, **{_FACTS: np.array(facts)})
                file.flush()
                os.fsync(file.fileno())
            os.replace(written, path)
        for number, other in self._files():
            if number != epochs:
                other.unlink()

    def restore(self, model: keras.Model) -> int:
        """Gives a compiled model the newest state, if there is one.

        Args:
            model: A model of the same flow, compiled with an equal optimizer.

        Returns:
            The number of finished epochs, for `fit(initial_epoch=...)`: 0 if there is
            no state.

        Raises:
            ValueError: If the state is that of another model or optimizer.
        """
        files = self._files()
        if not files:
            return 0
        epochs, path = files[-1]
        variables = _variables(model)
        with np.load(path, allow_pickle=False) as arrays:
            described = json.loads(str(arrays[_FACTS]))["variables"]
            _check_equal(path, described, _described(variables))
            for i, variable in enumerate(variables):
                variable.assign(_as_stored(arrays[f"{i}"], variable))
        return epochs

    def _files(self) -> list[tuple[int, Path]]:
        """Whole states, oldest first."""
        found = [(_NAME.fullmatch(path.name), path) for path in self.folder.glob("*")]
        return sorted((int(match[1]), path) for match, path in found if match)


def _variables(model: keras.Model) -> list[keras.Variable]:
    """Everything that changes while training, in a fixed order."""
    optimizer = model.optimizer
    if not optimizer.built:
        with model.distribute_strategy.scope():
            optimizer.build(model.trainable_variables)
    return [*model.variables, *optimizer.variables]


def _value(variable: keras.Variable) -> np.ndarray:
    value = np.asarray(keras.ops.convert_to_numpy(variable))
    # NumPy's files know no bfloat16: its bits are kept.
    return value.view(np.uint16) if variable.dtype == "bfloat16" else value


def _as_stored(array: np.ndarray, variable: keras.Variable) -> np.ndarray:
    if variable.dtype != "bfloat16":
        return array
    return array.view(keras.ops.convert_to_numpy(variable).dtype)


def _described(variables: list[keras.Variable]) -> list[list[Any]]:
    return [[list(variable.shape), str(variable.dtype)] for variable in variables]


def _check_equal(path: Path, before: list[Any], now: list[Any]) -> None:
    if before == now:
        return
    differing = next(
        (pair for pair in zip(before, now, strict=False) if pair[0] != pair[1]), None
    )
    what = (
        f"{len(now)} variables"
        if differing is None
        else f"one of shape and dtype {differing[1]} in the place of {differing[0]}"
    )
    raise ValueError(
        "Argument `model` must be the model and optimizer whose state is in "
        f"{path}, with {len(before)} variables. Received: {what}"
    )


def _is_chief(model: keras.Model) -> bool:
    return bool(model.distribute_strategy.extended.should_checkpoint)
