"""Callbacks: averaged weights, resumable backups, grids of samples."""

from __future__ import annotations

import contextlib
import json
import os
import re
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfp_flows.bijectors.tree import clear_caches
from tfp_flows.internal.arguments import TensorLike, checked_integer
from tfp_flows.internal.files import atomic_write
from tfp_flows.internal.pictures import picture_grid, write_png


@contextlib.contextmanager
def averaged_weights(model: keras.Model) -> Iterator[keras.Model]:
    """Puts the optimizer's averaged weights into a model for the time of a block.

    An optimizer made with `use_ema=True`, such as `tfpf.optimizer(ema=0.999)`, puts the
    averages in place when `fit` ends. Inside this block they are there already: what is
    evaluated, drawn, saved or exported is the average. Afterwards the weights are back,
    bit for bit.

    Example:
        >>> import numpy as np, tfp_flows as tfpf
        >>> model = tfpf.FlowModel(tfpf.real_nvp((2,), couplings=2))
        >>> model.compile(optimizer=tfpf.optimizer(ema=0.9))
        >>> history = model.fit(np.eye(8, 2, dtype="float32"), verbose=0)
        >>> with averaged_weights(model):
        ...     model.save_weights("ema.weights.h5")  # doctest: +SKIP
    """
    _check_keeps_averages(model.optimizer)
    before = _put_averages(model)
    try:
        yield model
    finally:
        _put(model, before)


def _put_averages(model: keras.Model) -> list[np.ndarray]:
    """Gives a model the averages, and returns the weights that it had."""
    weights, optimizer = model.trainable_weights, model.optimizer
    before = [np.array(keras.ops.convert_to_numpy(weight)) for weight in weights]
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    if int(keras.ops.convert_to_numpy(inner.iterations)):  # else there is no average
        optimizer.finalize_variable_values(weights)
        constrain(model)
        _forget(model)
    return before


def constrain(model: keras.Model) -> None:
    """Holds weights to their constraints, which Keras's averages do not know of."""
    for weight in model.trainable_weights:
        if weight.constraint is not None:
            weight.assign(weight.constraint(weight))


def _put(model: keras.Model, values: list[np.ndarray]) -> None:
    for weight, value in zip(model.trainable_weights, values, strict=True):
        weight.assign(value)
    _forget(model)


# The weights of models in which `AveragedWeights` has put the averages.
_RAW: weakref.WeakKeyDictionary[keras.Model, list[np.ndarray]] = (
    weakref.WeakKeyDictionary()
)
# The models that `fit` trains with `AveragedWeights` at the moment.
_IN_FIT: weakref.WeakSet[keras.Model] = weakref.WeakSet()


def _put_raw(model: keras.Model) -> None:
    """Gives a model its weights back, if the averages are in their place."""
    if model in _RAW:
        _put(model, _RAW.pop(model))


@contextlib.contextmanager
def raw_after_errors(model: keras.Model, fits: bool = False) -> Iterator[None]:
    """Leaves a model its weights, not averages of them, where a block breaks off."""
    try:
        yield
    except BaseException:  # an interruption too
        if fits or model not in _IN_FIT:  # `fit` goes on where a callback caught it
            _IN_FIT.discard(model)
            _put_raw(model)
        raise


class AveragedWeights(keras.callbacks.Callback):
    """A callback with which `fit` evaluates and keeps the averaged weights (EMA).

    The averages stand in the model from the validation of an epoch until the next one
    begins, for `EarlyStopping` and `ModelCheckpoint` to keep what they saw the metrics
    of. Training, and what `tfpf.Backup` writes, go on from the weights, bit for bit
    (Keras's own `SwapEMAWeights` swaps by additions that round, and takes the averages
    out before others keep them, so `fit` with held-out data takes it for this one).

    Example:
        >>> import numpy as np, tfp_flows as tfpf
        >>> x = np.random.default_rng(0).normal(size=(64, 2)).astype("float32")
        >>> model = tfpf.FlowModel(tfpf.real_nvp((2,), couplings=2))
        >>> model.compile(optimizer=tfpf.optimizer(ema=0.9))
        >>> averages = AveragedWeights()
        >>> history = model.fit(x, validation_data=x, callbacks=averages, verbose=0)
    """

    model: keras.Model

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Refuses an optimizer that keeps no averages before any time is spent."""
        _check_keeps_averages(self.model.optimizer)
        _RAW.pop(self.model, None)  # of a `fit` that broke off: others may be set since
        _IN_FIT.add(self.model)

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Puts the weights back."""
        _put_raw(self.model)

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        """Leaves in place what `fit` ends with: averages, or the best of them."""
        _RAW.pop(self.model, None)
        _IN_FIT.discard(self.model)

    def on_test_begin(self, logs: dict[str, float] | None = None) -> None:
        """Puts the averages into the model."""
        self._enter()

    def on_test_end(self, logs: dict[str, float] | None = None) -> None:
        """Puts the weights back, unless other callbacks are to see the averages."""
        if self.model not in _IN_FIT:
            _put_raw(self.model)

    def on_predict_begin(self, logs: dict[str, float] | None = None) -> None:
        """Puts the averages into the model."""
        self._enter()

    def on_predict_end(self, logs: dict[str, float] | None = None) -> None:
        """Puts the weights back."""
        _put_raw(self.model)

    def _enter(self) -> None:
        _put_raw(self.model)  # the averages may be there already
        _RAW[self.model] = _put_averages(self.model)


def with_raw_weights(callbacks: list) -> None:
    """Lets Keras's backups keep the weights that training goes on from."""
    for callback in callbacks:
        if isinstance(callback, keras.callbacks.BackupAndRestore):
            keep = type(callback).on_epoch_end

            def on_epoch_end(
                epoch: int, logs: Any = None, callback: Any = callback, keep: Any = keep
            ) -> None:
                averages = None
                if callback.model in _RAW:
                    weights = callback.model.trainable_weights
                    averages = [
                        np.array(keras.ops.convert_to_numpy(w)) for w in weights
                    ]
                    _put(callback.model, _RAW[callback.model])
                try:
                    keep(callback, epoch, logs)
                finally:
                    if averages is not None:
                        _put(callback.model, averages)

            callback.on_epoch_end = on_epoch_end


def keeps_averages(optimizer: keras.optimizers.Optimizer) -> bool:
    """Whether an optimizer, or the one that it scales the loss for, keeps averages."""
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    return bool(getattr(inner, "use_ema", False))


def _check_keeps_averages(optimizer: keras.optimizers.Optimizer) -> None:
    if not keeps_averages(optimizer):
        raise ValueError(
            "The model must be compiled with an optimizer that averages its weights, "
            "such as `tfpf.optimizer(ema=0.999)` or any Keras optimizer made with "
            f"`use_ema=True`. Received: optimizer={optimizer!r}"
        )


def _forget(model: keras.Model) -> None:
    """Clears what bijectors have computed with the other weights."""
    distribution = getattr(model, "distribution", None)
    if distribution is not None:
        clear_caches(distribution)


_NAME = re.compile(r"epoch-(\d+)\.npz")
_METADATA = "facts"  # the name in files


class Backup(keras.callbacks.Callback):
    """A callback that keeps what training needs to go on as if never stopped.

    After each epoch it writes, atomically, one file with every variable of the model
    and of the optimizer, and the states of all seed generators (dropout, probes,
    noise), which Keras's weight files leave out. Of several workers only the chief
    writes.

    A run that goes on equals the uninterrupted one bit for bit on a CPU if the order
    and noise of its data depend on the number of the epoch alone, as those of
    `tfpf.data.Data.epochs` do, and if its other callbacks keep no count of their own,
    as `EarlyStopping` does.

    Example:
        >>> import tempfile, tfp_flows as tfpf
        >>> data = tfpf.data.load("two_moons", batch_size=1000)
        >>> model = tfpf.FlowModel(tfpf.real_nvp((2,), couplings=2))
        >>> model.compile(optimizer="adam")
        >>> backup = tfpf.Backup(tempfile.mkdtemp())
        >>> done = backup.restore(model)  # 0, or the number of finished epochs
        >>> history = model.fit(
        ...     data.epochs(done),
        ...     steps_per_epoch=data.steps,
        ...     initial_epoch=done,
        ...     epochs=2,
        ...     callbacks=[backup],
        ...     verbose=0,
        ... )
        >>> backup.restore(model)
        2
    """

    model: keras.Model

    def __init__(self, folder: str | os.PathLike) -> None:
        super().__init__()
        self.folder = Path(folder)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Writes the state after `epoch + 1` epochs."""
        if is_chief(self.model.distribute_strategy):
            self.save(self.model, epoch + 1)

    def save(self, model: keras.Model, epochs: int) -> None:
        """Writes the state of a compiled model after so many epochs."""
        self.folder.mkdir(parents=True, exist_ok=True)
        variables = _variables(model)
        values = {id(v): keras.ops.convert_to_numpy(v) for v in variables}
        if model in _RAW:
            values |= zip(map(id, model.trainable_weights), _RAW[model], strict=True)
        arrays = {
            f"{i}": _as_written(values[id(v)], v) for i, v in enumerate(variables)
        }
        metadata = json.dumps({"variables": _described(variables)})
        with atomic_write(self.folder / f"epoch-{epochs:08d}.npz") as written:
            np.savez(written, **arrays, **{_METADATA: np.array(metadata)})
        for number, other in self._files():
            if number != epochs:
                other.unlink()

    def restore(self, model: keras.Model) -> int:
        """Gives a compiled model of equal flow and optimizer the newest state, if any.

        Returns the finished epochs, for `fit(initial_epoch=...)`; 0 without a state.
        """
        files = self._files()
        if not files:
            return 0
        epochs, path = files[-1]
        variables = _variables(model)
        with np.load(path, allow_pickle=False) as arrays:
            described = json.loads(str(arrays[_METADATA]))["variables"]
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


def _as_written(value: np.ndarray, variable: keras.Variable) -> np.ndarray:
    # NumPy's files know no bfloat16: its bits are kept.
    return value.view(np.uint16) if variable.dtype == "bfloat16" else value


def _as_stored(array: np.ndarray, variable: keras.Variable) -> np.ndarray:
    if variable.dtype != "bfloat16":
        return array
    return array.view(tf.bfloat16.as_numpy_dtype)


def _described(variables: list[keras.Variable]) -> list[list]:
    return [[list(variable.shape), str(variable.dtype)] for variable in variables]


def _check_equal(path: Path, before: list, now: list) -> None:
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


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process is the one that writes files: the chief, or the only one."""
    return bool(strategy.extended.should_checkpoint)


class SampleGrid(keras.callbacks.Callback):
    """Writes a grid of samples after every few epochs, to disk and TensorBoard.

    The latents are the same each time, so that the pictures show one flow change.

    Args:
        directory: Folder for the files `samples-0001.png`, ..., by epoch.
        pixel_levels: How many values a pixel can take, such as 256.
        n: Number of samples, for each condition where there are any.
        temperature: Spread of the latents; see `FlowModel.sample`.
        condition: For a conditional flow, conditions `[m, *shape]`; the grid then
            has a column for each of them.
        log_dir: TensorBoard's folder; None to write files only.

    Example:
        >>> import keras, tfp_flows as tfpf
        >>> flow = tfpf.glow((8, 8, 1), levels=1, steps=1, hidden_channels=4)
        >>> grids = SampleGrid("samples", pixel_levels=17, every=5)
        >>> # tfpf.FlowModel(flow).fit(data, callbacks=[grids])
    """

    model: keras.Model

    def __init__(
        self,
        directory: str | os.PathLike,
        pixel_levels: float,
        *,
        every: int = 1,
        n: int = 64,
        temperature: float = 1.0,
        condition: TensorLike | None = None,
        seed: int = 0,
        log_dir: str | os.PathLike | None = None,
    ) -> None:
        super().__init__()
        checked_integer("n", n)
        self._directory = Path(directory)
        self._pixel_levels = pixel_levels
        self._every = checked_integer("every", every)
        self._arguments = {"n": n, "seed": seed, "temperature": temperature}
        self._condition = condition
        self._writer = (
            None if log_dir is None else tf.summary.create_file_writer(str(log_dir))
        )
        self._draw: Any = None

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Makes the folder, and a graph that draws with the weights of the moment."""
        self._directory.mkdir(parents=True, exist_ok=True)

        def draw() -> tf.Tensor:
            return self.model.sample(**self._arguments, condition=self._condition)

        self._draw = tf.function(draw)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Draws and writes, if it is time to."""
        if (epoch + 1) % self._every:
            return
        samples = self._draw().numpy()
        columns = None if self._condition is None else samples.shape[1]
        images = samples.reshape(-1, *samples.shape[-3:])
        picture = picture_grid(images, self._pixel_levels, columns)
        write_png(self._directory / f"samples-{epoch + 1:04d}.png", picture)
        if self._writer is not None:
            _log_image(self._writer, "samples", picture, epoch + 1)


def _log_image(
    writer: tf.summary.SummaryWriter, tag: str, picture: np.ndarray, step: int
) -> None:
    """Writes a picture for TensorBoard, which need not be installed here."""
    # What its image plugin reads: width, height, then the encoded pictures.
    height, width = picture.shape[:2]
    values = [str(width).encode(), str(height).encode(), tf.io.encode_png(picture)]
    plugin = tf.compat.v1.SummaryMetadata.PluginData(plugin_name="images")
    metadata = tf.compat.v1.SummaryMetadata(plugin_data=plugin)
    with writer.as_default():
        tf.summary.write(tag, tf.stack(values), step=step, metadata=metadata)
    writer.flush()
