"""What `fit`, `evaluate` and `predict` take, in batches."""

from __future__ import annotations

import contextlib
import inspect
import math
import types
from collections.abc import Callable, Sequence
from typing import TypeVar

import keras
import numpy as np
import tensorflow as tf

from tfp_flows.internal.arguments import (
    Arrays,
    Condition,
    Config,
    Shape,
    TensorLike,
    check_dense,
    invalid,
)
from tfp_flows.internal.batching import minibatches

Size = TypeVar("Size")

_BATCH_SIZE = 32  # Keras's own
_FEW = 64  # batches that need no dataset
# A mean and a deviation for each channel need no more rows than this.
_ROWS = 2048


def split_inputs(inputs: Arrays) -> tuple[Arrays, Arrays]:
    """Returns data and conditions; the conditions are None where there are none.

    They come as `x`, `(x, condition)`, or a dictionary of "x" and "condition"; a list
    of Python's numbers, or of lists of them, is `x`.
    """
    if isinstance(inputs, dict):
        if "x" not in inputs or set(inputs) - {"x", "condition"}:
            raise ValueError(
                "Argument `x` given as a dictionary must have the keys 'x' and, for a "
                f"conditional flow, 'condition'. Received: keys {sorted(inputs)}"
            )
        return inputs["x"], inputs.get("condition")
    if is_rows(inputs):
        with contextlib.suppress(ValueError):
            return np.asarray(inputs), None
        must = "be rows of equal length, or a tuple `(x, condition)` of such lists"
        raise invalid("x", must, got="a list of lists of unequal lengths")
    if isinstance(inputs, list | tuple):
        if len(inputs) not in (1, 2):
            raise ValueError(
                "Argument `x` given as a sequence must be `(x,)` or `(x, condition)`. "
                f"Received: a sequence of {len(inputs)}"
            )
        return inputs[0], inputs[1] if len(inputs) == 2 else None
    return inputs, None


def is_rows(value: object) -> bool:
    """Whether a value is a list of Python's numbers, or of lists of them."""
    return isinstance(value, list) and bool(value) and all(map(_is_row, value))


def _is_row(value: object) -> bool:
    """Whether a list's element is a number or a list of Python's, not an array."""
    nested = isinstance(value, list) and all(map(_is_row, value))
    return nested or isinstance(value, int | float)


def is_stream(x: object) -> bool:
    """Whether `x` brings batches of its own, as datasets and generators do."""
    array = hasattr(x, "__array__") or hasattr(x, "toarray") or tf.is_tensor(x)
    return not (array or isinstance(x, list | tuple | dict | keras.Variable))


def first_batch(x: Arrays, y: Arrays, takes_condition: bool) -> tuple[Arrays, Arrays]:
    """Returns data and conditions, or None, of what `fit` was given as `x` and `y`.

    If `takes_condition`, targets are conditions where `x` holds none.
    """
    if isinstance(x, tf.data.Dataset | tf.distribute.DistributedDataset):
        batch = tf.nest.map_structure(
            lambda part: part.values[0] if hasattr(part, "values") else part,
            next(iter(x), None),
        )
        if batch is None:
            raise invalid("x", "hold a batch to initialize weights from", x)
        x, y, _ = keras.utils.unpack_x_y_sample_weight(batch)
    elif isinstance(x, keras.utils.PyDataset):
        x, y, _ = keras.utils.unpack_x_y_sample_weight(x[0])
    elif is_stream(x):
        raise ValueError(
            "Argument `x` must not be a generator while weights wait for data: call "
            "`model.adapt(batch)` before `fit`. "
            f"Received: x of type {type(x).__name__}"
        )
    x, condition = split_inputs(x)
    if condition is None and takes_condition:
        condition = y
    known = None if condition is None else _spread(condition, "condition")
    return _spread(x, "x"), known


def numbers(array: Arrays, name: str) -> TensorLike:
    """Returns an array or a tensor of numbers; refuses words and ragged rows.

    Pandas keeps numbers as objects where columns are of several types.
    """
    made = array = array.value if isinstance(array, keras.Variable) else array
    if masked := np.ma.count_masked(array) if np.ma.isMaskedArray(array) else 0:
        got = f"{masked} masked values"
        raise invalid(name, "have no masked values: fill them or drop rows", got=got)
    if not tf.is_tensor(array):
        with contextlib.suppress(ValueError, TypeError):
            made = np.asarray(array)
            # TensorFlow has no wider floats.
            wide = made.dtype.kind == "f" and made.dtype.itemsize > 8
            made = made.astype("float64") if wide or made.dtype == object else made
    check_dense(made, name)
    return made


def _spread(array: Arrays, name: str) -> Arrays:
    """Takes rows evenly over the whole array, which may be sorted by class."""
    array = numbers(array, name)
    if len(array) <= _ROWS:
        return array
    return tf.gather(array, np.linspace(0, len(array) - 1, _ROWS).astype(int))


def named_arguments(method: Callable, *args: object, **kwargs: object) -> Config:
    """Returns the arguments of a call of one of `keras.Model`'s methods by name."""
    bound = inspect.signature(method).bind(None, *args, **kwargs).arguments
    bound.pop("self")
    rest = bound.pop("kwargs", {})
    return {**bound, **rest}


def with_split(arguments: Config) -> Config:
    """Puts `validation_data` in the place of `validation_split`, the last rows."""
    arguments = dict(arguments)
    if is_stream(arguments.get("x")):
        return arguments  # Keras refuses a split
    share = arguments.pop("validation_split", None)
    if not share or arguments.get("validation_data") is not None:
        return arguments
    data = _tensors(*(arguments.get(name) for name in _PACKED))
    n = _rows(data)
    first = math.floor(n * (1.0 - share))
    if not 0 < first < n:
        must = f"leave some of {n} rows to train on, and hold some out"
        raise invalid("validation_split", must, share)

    def part(rows: slice) -> tuple[Arrays, ...]:
        x, condition, *others = (None if a is None else a[rows] for a in data)
        return _joined(x, condition), *others

    arguments["validation_data"] = part(slice(first, n))
    return arguments | dict(zip(_PACKED, part(slice(first)), strict=True))


def with_batches(arguments: Config, dtype: tf.DType, shuffle: bool = False) -> Config:
    """Puts batches in the place of arrays in the arguments of `fit` and the like.

    Keras would round real numbers to its default float type; here they become `dtype`.
    Datasets and other streams are left as they are.
    """
    size = arguments.get("batch_size") or _BATCH_SIZE
    arguments = with_split(arguments)
    held_out = arguments.get("validation_data")
    if not is_stream(arguments.get("x")):
        data = _tensors(*(arguments.pop(n, None) for n in _PACKED), dtype)
        arguments.pop("batch_size", None)
        arguments["x"] = _batches(data, size, shuffle)
        if shuffle:  # is done: Keras warns of it where a dataset brings its own order
            arguments["shuffle"] = False
    else:
        arguments["x"] = _without_none(arguments.get("x"))
    if held_out is not None:
        x, y, weight = keras.utils.unpack_x_y_sample_weight(held_out)
        if not is_stream(x):
            size = arguments.get("validation_batch_size") or size
            made = _batches(_tensors(x, y, weight, dtype), size)
            arguments["validation_data"] = made
        elif y is None:
            arguments["validation_data"] = _without_none(x)
    return arguments


def _mapped(x: object, function: Callable[[Arrays], Arrays]) -> object:
    """Returns a stream with a function of each batch in its place.

    Streams are datasets, generators and `keras.utils.PyDataset`s; others stay.
    """
    if isinstance(x, tf.data.Dataset):
        return x.map(tf.autograph.experimental.do_not_convert(function))
    if isinstance(x, types.GeneratorType):
        return (function(batch) for batch in x)
    return _Mapped(x, function) if isinstance(x, keras.utils.PyDataset) else x


def _without_none(x: object) -> object:
    """Gives targets to batches `(x, None, weights)`, of which Keras makes no tensors.

    Those of Python; a `tf.data.Dataset` has none.
    """
    return x if isinstance(x, tf.data.Dataset) else _mapped(x, _targeted)


class _Mapped(keras.utils.PyDataset):
    """A function of the batches of another one."""

    def __init__(
        self, inner: keras.utils.PyDataset, function: Callable[[Arrays], Arrays]
    ) -> None:
        names = ("workers", "use_multiprocessing", "max_queue_size")
        super().__init__(**{name: getattr(inner, name) for name in names})
        self._inner, self._function = inner, function

    def __getitem__(self, index: int) -> Arrays:
        return self._function(self._inner[index])

    @property
    def num_batches(self) -> int | None:
        return self._inner.num_batches

    def on_epoch_begin(self) -> None:
        self._inner.on_epoch_begin()

    def on_epoch_end(self) -> None:
        self._inner.on_epoch_end()


def _targeted(batch: Arrays) -> tuple[Arrays, ...]:
    """Returns what Keras makes tensors of; a weight `[]` or `[n, 1]` becomes `[n]`."""
    x, y, weight = keras.utils.unpack_x_y_sample_weight(batch)
    if weight is None:
        return (x,) if y is None else (x, y)
    weight = np.asarray(weight)
    if weight.ndim == 0:
        weight = np.full(len(keras.tree.flatten(x)[0]), weight)
    weight = weight[:, 0] if weight.shape[1:] == (1,) else weight
    return x, _no_target(weight) if y is None else y, weight


def _no_target(weight: TensorLike) -> TensorLike:
    """Keras forgets weights without a target, and strategies do not take None."""
    if isinstance(weight, np.ndarray):  # TensorFlow does not run in forked workers
        return np.zeros([len(weight), 0], "float32")
    return tf.zeros([tf.shape(weight)[0], 0])


def few_batches(
    arguments: Config, dtype: tf.DType, whole: bool = False
) -> list[Arrays] | None:
    """Returns what `with_batches` would, as a list, for few batches of arrays.

    None says that there are many, or a stream; `whole` makes one batch of all rows.
    """
    if is_stream(arguments.get("x")) or arguments.get("steps") is not None:
        return None
    data = _tensors(arguments["x"], None, None, dtype)[:2]
    n = _rows(data)
    size = arguments.get("batch_size") or _BATCH_SIZE
    unseen = arguments.get("batch_size") is None and not arguments.get("callbacks")
    if whole or (unseen and n <= 2 * _BATCH_SIZE):  # one call costs half of two
        size = n
    if n > _FEW * size:
        return None
    packed = keras.utils.pack_x_y_sample_weight(_joined(*data))
    if n <= size:
        return [packed]
    return [
        keras.tree.map_structure(lambda a, i=i: a[i : i + size], packed)
        for i in range(0, n, size)
    ]


_PACKED = ("x", "y", "sample_weight")


def as_one_batch(arguments: Config, dtype: tf.DType) -> Config:
    """Puts tensors in the place of the arrays of one batch."""
    data = _tensors(*(arguments.get(name) for name in _PACKED), dtype)
    return arguments | dict(zip(_PACKED, (_joined(*data[:2]), *data[2:]), strict=True))


def _joined(x: tf.Tensor, condition: Condition) -> Arrays:
    """Undoes `split_inputs`."""
    return x if condition is None else (x, condition)


def with_class_weight(arguments: Config, condition_shape: Shape | None) -> Config:
    """Turns weights of classes into weights of rows, whose labels are in the arguments.

    Labels are targets or conditions; one that has no weight counts once. Rows that are
    held out count once, as everywhere in Keras.
    """
    given, x = arguments.get("class_weight"), arguments.get("x")
    if given is None or arguments.get("sample_weight") is not None:
        return arguments

    def weighted(*batch: Arrays) -> tuple[Arrays, ...]:
        x, y, weight = keras.utils.unpack_x_y_sample_weight(_one(batch))
        if weight is not None:
            raise invalid("class_weight", "go without weights of rows", given)
        looked_for = y is None or condition_shape is not None
        condition = split_inputs(x)[1] if looked_for else None
        targets = condition_shape is None or condition is not None
        weight = _weights_of(condition if y is None else y, given, targets)
        return x, _no_target(weight) if y is None else y, weight

    if is_stream(x):
        made = _mapped(x, weighted)
        if made is x:
            return arguments  # Keras says what else takes weights
        return arguments | {"x": made, "class_weight": None}
    weight = weighted((x, arguments.get("y")))[2]
    return arguments | {"class_weight": None, "sample_weight": weight}


def _weights_of(labels: Arrays, weights: dict, targets: bool) -> TensorLike:
    """Returns weights `[n]` of labels `[n]`; of targets also `[n, 1]` and one-hot."""
    traced = tf.is_tensor(labels) and not hasattr(labels, "numpy")
    labels = labels if traced else np.asarray(labels)
    rank = tf.TensorShape(labels.shape).rank
    if rank == 2 and targets:
        argmax = tf.argmax if traced else np.argmax
        labels = labels[:, 0] if labels.shape[1] == 1 else argmax(labels, axis=1)
        rank = 1
    kind = np.dtype(labels.dtype.as_numpy_dtype if traced else labels.dtype).kind
    numbers = rank == 1 and kind in "biuf"
    if not numbers or (not traced and np.any(labels != np.round(labels))):
        must = "go with labels, a whole number for each row, as in `fit(x, labels, "
        raise invalid("class_weight", f"{must}class_weight=...)`", weights)
    if not traced:
        return np.asarray([weights.get(int(label), 1.0) for label in labels])
    labels = tf.cast(labels, tf.float64)
    found = tf.ones_like(labels)
    for label, weight in weights.items():
        found = tf.where(labels == float(label), tf.cast(weight, found.dtype), found)
    return found


def _one(batch: tuple) -> Arrays:
    """Undoes what `tf.data` does of tuples, which come as several arguments."""
    return batch[0] if len(batch) == 1 else batch


def _tensors(
    x: Arrays,
    y: Arrays,
    weight: TensorLike | None,
    dtype: tf.DType | None = None,
) -> list[tf.Tensor | None]:
    """Returns data, condition, target and weight as tensors in memory.

    Real numbers become `dtype`; with None they stay what they are.
    """

    def tensor(array: Arrays, name: str) -> tf.Tensor | None:
        if array is None:
            return None
        # A list of Python's floats would lose half of their digits.
        made = tf.convert_to_tensor(numbers(array, name))
        return tf.cast(made, dtype) if dtype and made.dtype.is_floating else made

    with tf.device("CPU:0"):  # `tf.data` runs there, wherever the model does
        arrays, names = (*split_inputs(x), y, weight), ("x", "condition", *_PACKED[1:])
        *data, weight = (tensor(*pair) for pair in zip(arrays, names, strict=True))
        if weight is not None and weight.shape.rank == 2 and weight.shape[1] == 1:
            weight = weight[:, 0]  # one form: Keras's step remembers the rank
        return [*data, weight]


def _rows(data: list[tf.Tensor | None]) -> int:
    """Returns how many rows all arrays have."""
    shapes = [tuple(array.shape) for array in data if array is not None]
    counts = {shape[0] if shape else 0 for shape in shapes}
    if len(counts) != 1 or counts == {0}:
        raise ValueError(
            "Data, conditions, targets and sample weights must have equally many rows, "
            f"at least one. Received: arrays of shapes {', '.join(map(str, shapes))}"
        )
    return int(counts.pop())


def _batches(
    data: list[tf.Tensor | None], size: int, shuffle: bool = False
) -> tf.data.Dataset:
    """Returns batches of what Keras packs `x`, `y` and `sample_weight` into."""
    _rows(data)
    x, condition, y, weight = data
    if weight is not None and y is None:
        y = _no_target(weight)
    packed = keras.utils.pack_x_y_sample_weight(_joined(x, condition), y, weight)
    return minibatches(packed, size, shuffle=shuffle)


def in_shards(
    function: Callable[..., tf.Tensor], shards: int
) -> Callable[..., tf.Tensor]:
    """Writes a function of a batch into the graph once for each of some shards.

    Nothing in one shard waits for another, forward or backward, so TensorFlow runs as
    many at once as it has threads for operations. Each has an even share of the rows,
    the last one also those that are left over.

    The function maps tensors `[n, ...]`, or None, row by row, to one `[n, ...]`.
    """
    if shards == 1:
        return function

    def sharded(*tensors: tf.Tensor | None) -> tf.Tensor:
        shares = zip(*(_shares(x, shards) for x in tensors), strict=False)
        results = tf.concat([function(*share) for share in shares], axis=0)
        first = tf.convert_to_tensor(tensors[0])
        return results if first.shape[0] is not None else results[: tf.shape(first)[0]]

    return sharded


def _shares(x: tf.Tensor | None, shards: int) -> Sequence[tf.Tensor | None]:
    if x is None:
        return [None] * shards
    x = tf.convert_to_tensor(x)
    n = x.shape[0]
    if n is None:
        # None may be empty: the step of an ODE's solver, say, would have no error.
        missing = tf.maximum(shards - tf.shape(x)[0], 0)
        x = tf.concat([x, tf.repeat(x[:1], missing, axis=0)], axis=0)
        n = tf.shape(x)[0]
    elif n < shards:
        shards = max(n, 1)
    each = n // shards
    return tf.split(x, [each] * (shards - 1) + [n - each * (shards - 1)], num=shards)


def checked_batch_size(batch_size: Size) -> Size:
    """Refuses conditions in the place of `predict`'s batch size."""
    if hasattr(batch_size, "__len__") or hasattr(batch_size, "__array__"):
        raise invalid(
            "batch_size",
            "be an integer; conditions go with the data, as in `predict((x, c))`",
            batch_size,
        )
    return batch_size
