"""`FlowModel`: any TFP distribution as a Keras model that trains all of it."""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import functools
import math
import os
import re
import types
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows import saving as serialization
from tfp_flows.bijectors import chain
from tfp_flows.bijectors.conditional import (
    checked_labels,
    condition_dtype,
    condition_shape,
    label_count,
    taking_conditions,
)
from tfp_flows.bijectors.ode import UNSOLVED
from tfp_flows.bijectors.tree import clear_caches, layers_in, list_variables, walk
from tfp_flows.bijectors.weights import is_adapted, keep_moved
from tfp_flows.internal.arguments import (
    Arrays,
    Config,
    Seed,
    TensorLike,
    check_dense,
    check_event,
    checked_instance,
    checked_integer,
    invalid,
    with_rank,
    words,
)
from tfp_flows.internal.compat import (
    QuantizedDistribution,
    exact_loss,
    forget_layer,
    in_replica,
    is_injective,
    tf_variables,
)
from tfp_flows.saving.files import (
    FROZEN,
    WRITTEN_BY,
    AdoptedVariables,
    SavedObject,
    freeze,
    frozen,
    load_archive,
    name_package,
    reading,
    written_by,
)
from tfp_flows.training import sampling
from tfp_flows.training.callbacks import (
    AveragedWeights,
    constrain,
    raw_after_errors,
    with_raw_weights,
)
from tfp_flows.training.data import (
    as_one_batch,
    checked_batch_size,
    few_batches,
    first_batch,
    in_shards,
    is_rows,
    is_stream,
    named_arguments,
    split_inputs,
    with_batches,
    with_class_weight,
    with_split,
)
from tfp_flows.training.nonfinite import (
    NonFiniteData,
    NonFiniteGuard,
    StopAtNonFinite,
    far_rows,
    first_non_finite,
    non_finite_rows,
    without_sentinels,
)
from tfp_flows.training.optimizers import has_schedule
from tfp_flows.training.precision import policy_of
from tfp_flows.training.summary import summary_table

tfd = tfp.distributions


# What `fit` takes as `callbacks`.
Callbacks = keras.callbacks.CallbackList | keras.callbacks.Callback | Sequence | None


_WAITING = "Weights that wait for data are trained from where they stand."
_SETS_RATE = (
    keras.callbacks.LearningRateScheduler,
    keras.callbacks.ReduceLROnPlateau,
)


@contextlib.contextmanager
def refusals() -> Iterator[None]:
    """Leaves of an argument's failing check its sentence, whatever ran the check."""
    try:
        yield
    except (ValueError, tf.errors.InvalidArgumentError) as error:
        # TensorFlow has it in brackets, and says more after them.
        said = r"[^\n\x1b]*"
        if isinstance(error, tf.errors.OpError):
            said = r"(?:[^][\n]|\[[^][]*\])*"
        found = re.search(rf"Argument `\w+` must {said}", str(error))
        if found is None:
            raise
        raise ValueError(found[0]) from None


def takes_log_likelihoods(metric: object) -> bool:
    """Whether a metric can be one: Keras's own compare predictions with targets."""
    if not isinstance(metric, keras.metrics.Metric):
        return metric is None or callable(metric)
    own = type(metric).__module__.startswith("keras.")
    return not own or type(metric) is keras.metrics.MeanMetricWrapper


@dataclasses.dataclass
class _Step:
    """A step that is taken, or traced: its kind, and which rows `[n]` it leaves out."""

    learns: bool
    left_out: tf.Tensor | None = None


# Of a thread: each replica has its own.
_STEP: contextvars.ContextVar[_Step | None] = contextvars.ContextVar(
    "step", default=None
)


def _taken(step: Callable, learns: bool) -> Callable:
    """Returns a model's method `train_step` or `test_step` that is known as such."""

    @functools.wraps(step)
    def taken(self: keras.Model, *args: Any, **kwargs: Any) -> Any:
        token = _STEP.set(_Step(learns))
        try:
            return step.__get__(self, type(self))(*args, **kwargs)
        finally:
            _STEP.reset(token)

    return taken


class LikelihoodModel(keras.Model):
    """Keras's training for models that give each example a log-likelihood.

        loss = mean(weight * example_losses) + layer losses          [nats]

    A subclass defines `call`; where that returns more than log-likelihoods `[n]`, also
    `example_losses` and `example_metrics`. Data of another form than arrays, such as
    tables, becomes arrays in `encoded`. `fit`, `evaluate` and `predict` take their
    arguments in Keras's order and keep real numbers in the model's dtype.

    Args:
        metrics: Names of means over the examples of an epoch.
        data_dtype: What real numbers in the data become.
        **kwargs: Passed on to `keras.Model`, such as `name`.
    """

    # Metrics of which more is better, and less, besides the means.
    rising: Sequence[str] = ()
    falling: Sequence[str] = ("loss",)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name, learns in (("train_step", True), ("test_step", False)):
            if name in vars(cls):  # which need not call the one here
                setattr(cls, name, _taken(vars(cls)[name], learns))

    def __init__(
        self, metrics: Sequence[str], data_dtype: tf.DType | str, **kwargs: Any
    ) -> None:
        # Without autocasting, which would round the data under a mixed precision
        # policy before the flow sees it; the networks inside cast for themselves.
        super().__init__(autocast=False, **kwargs)
        self._data_dtype = tf.as_dtype(data_dtype)
        dtype = "float64" if self._data_dtype == tf.float64 else None
        self._means = {n: keras.metrics.Mean(name=n, dtype=dtype) for n in metrics}
        self._shards = 1
        self._guard = NonFiniteGuard()
        # Keras traces the call of an unbuilt model in a scratch graph, whose tensors
        # TFP's caches would then hand to the real graph.
        self.built = True

    # What a subclass may say.

    def encoded(self, x: Arrays) -> Arrays:
        """Returns data as arrays; what is an array or a dataset stays."""
        return x

    def check(self, batch: Arrays) -> None:
        """Refuses a batch of another form, which would blur the traced shapes."""

    def example_losses(self, y_pred: Arrays) -> tf.Tensor:
        """Returns the losses `[n]` of what `call` returned."""
        return -y_pred

    def example_metrics(self, y_pred: Arrays) -> dict[str, tf.Tensor]:
        """Returns values `[n]` whose means are reported, by name."""
        return {name: -y_pred for name in self._means}

    @property
    def condition_shape(self) -> tuple[int, ...] | None:
        """Shape of one condition, or None; with a shape, targets are conditions."""
        return None

    @property
    def distributions(self) -> list[tfd.Distribution]:
        """The distributions that are trained."""
        return []

    @property
    def is_adapted(self) -> bool:
        """Whether no data-dependent weight waits for `adapt`."""
        return True

    def waits_for_data(self) -> bool:
        """Returns whether training has to begin with `adapt`.

        Weights that a loop of one's own has trained, or an assignment set, have not.
        """
        for distribution in [] if self.is_adapted else self.distributions:
            keep_moved(distribution)
        return not self.is_adapted

    def adapt(self, data: Arrays, condition: TensorLike | None = None) -> None:
        """Initializes data-dependent weights; here there are none."""

    # Keras's methods.

    def compile(
        self,
        optimizer: str | keras.optimizers.Optimizer = "rmsprop",
        loss: None = None,
        *args: object,
        shards: int = 1,
        **kwargs: Any,
    ) -> None:
        """Configures training; see `keras.Model.compile`.

        Args:
            optimizer: A Keras optimizer or the name of one.
            loss: None: the model's own loss is minimized.
            *args: Further arguments of `keras.Model.compile`. `metrics` are functions
                of the targets, which may be None, and of what the model returns.
            shards: Into how many shards a batch is divided, which run side by side.
                On a CPU that runs each operation on one thread, one shard a core trains
                fastest (docs/precision_and_speed.md); otherwise leave it at 1.
                Likelihoods are the same but for rounding; parts that look at the whole
                batch, such as `BatchNorm`, look at a shard. It is not saved.
            **kwargs: See `*args`.
        """
        method = keras.Model.compile
        given = named_arguments(method, optimizer, loss, *args, **kwargs)
        for name in ("loss", "loss_weights"):
            if given.get(name) is not None:
                must = "be None: the model minimizes its negative log-likelihood"
                raise invalid(name, must, given[name])
        for name in ("metrics", "weighted_metrics"):
            for metric in keras.tree.flatten(given.get(name)):
                if not takes_log_likelihoods(metric):
                    must = "be functions of targets, or None, and log-likelihoods"
                    raise invalid(name, must, metric)
        self._shards = checked_integer("shards", shards)
        for distribution in self.distributions:
            list_variables(distribution)  # some are new, as after `enable_lora`
        super().compile(**given)
        if self._data_dtype == tf.float64:
            exact_loss(self)

    def compile_from_config(self, config: Config) -> None:
        """Compiles a loaded model as it was when saved."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.trainable_variables)

    def fit(
        self, x: Arrays = None, y: Arrays = None, *args: object, **kwargs: Any
    ) -> keras.callbacks.History:
        """Trains the model; see `keras.Model.fit`.

        Before the first step, data-dependent weights that are still waiting are
        initialized from the first batch, but those that a loop of one's own has
        trained. A loss that is not finite stops training.

        Rows far from the others count in no training step: those whose loss is above
        `1e5 + 1e3 |m|`, with `m` the median of the batch's losses; a normal density
        gives as much to 447 deviations. One such row would outweigh all others for
        hundreds of Adam's steps. A warning says how many they are. `evaluate` and
        `predict` take every row as it is.

        Args:
            x: Arrays, a `tf.data.Dataset` or a `keras.utils.PyDataset`; data and
                conditions together are `(x, condition)` or `{"x": x, "condition": c}`.
            y: The conditions of a conditional flow, if they are not in `x`; otherwise
                targets, which only metrics given to `compile` look at.
            *args: Further arguments of `keras.Model.fit`, in its order.
            **kwargs: The same by name.

        Raises:
            FloatingPointError: If the loss is not finite; the message names the
                step and the first bijector whose output is not finite.
        """
        arguments = with_split(self._arguments("fit", x, y, *args, **kwargs))
        ordered = isinstance(x, tf.data.Dataset | types.GeneratorType)
        arguments.setdefault("shuffle", not ordered)
        arguments = with_class_weight(arguments, self.condition_shape)
        if self.waits_for_data():
            self.adapt(arguments.get("x"), arguments.get("y"))
        shuffle = bool(arguments["shuffle"])
        arguments = self._in_batches(arguments, shuffle)
        validated = arguments.get("validation_data") is not None
        callbacks = self._callbacks(arguments.get("callbacks"), validated)
        arguments["callbacks"] = callbacks
        with self.guarded():
            history = super().fit(**arguments)
            constrain(self)
        return history

    def evaluate(
        self, x: Arrays = None, y: Arrays = None, *args: object, **kwargs: Any
    ) -> float | list | dict:
        """Returns the loss and the metrics; see `keras.Model.evaluate`."""
        arguments = self._arguments("evaluate", x, y, *args, **kwargs)
        with refusals(), raw_after_errors(self):
            return super().evaluate(**self._in_batches(arguments))

    def predict(self, x: Arrays, *args: object, **kwargs: Any) -> Arrays:
        """Returns what `call` does for each example; see `keras.Model.predict`."""
        arguments = self._arguments("predict", x, *args, **kwargs)
        checked_batch_size(arguments.get("batch_size"))
        with refusals(), raw_after_errors(self):
            if self.steps_per_execution == 1 == self._replicas:
                few = few_batches(arguments, self._data_dtype)
                if few is not None:
                    self.check(few[0])
                    return self._predicted(few, arguments)
            return super().predict(**self._in_batches(arguments))

    def _in_batches(self, arguments: Config, shuffle: bool = False) -> Config:
        """Puts batches in the place of arrays, and checks their form."""
        arguments = with_batches(arguments, self._data_dtype, shuffle)
        for name in ("x", "validation_data"):
            data = arguments.get(name)
            if isinstance(data, tf.data.Dataset):
                self.check(data.element_spec)
        return arguments

    def _predicted(self, batches: Sequence[Arrays], arguments: Config) -> Arrays:
        """Does what Keras's `predict` does, which makes a dataset of every call."""
        callbacks = arguments.get("callbacks")
        verbose = arguments.get("verbose", "auto")
        if not isinstance(callbacks, keras.callbacks.CallbackList):
            callbacks = keras.callbacks.CallbackList(
                callbacks,
                add_progbar=verbose != 0,
                verbose=verbose,
                epochs=1,
                steps=len(batches),
                model=self,
            )
        function = self._predict_function()
        self.stop_predicting = False
        callbacks.on_predict_begin()
        outputs = []
        for step, batch in enumerate(batches):
            callbacks.on_predict_batch_begin(step)
            outputs.append(function([batch]))
            callbacks.on_predict_batch_end(step, {"outputs": outputs[-1]})
            if self.stop_predicting:
                break
        callbacks.on_predict_end()
        return keras.tree.map_structure(
            lambda *parts: np.concatenate([*map(keras.ops.convert_to_numpy, parts)]),
            *outputs,
        )

    def train_on_batch(
        self, x: Arrays, y: Arrays = None, *args: Any, **kwargs: Any
    ) -> Any:
        """Takes one step, as `fit` does; see `keras.Model.train_on_batch`."""
        if self.waits_for_data():
            self.adapt(x, y)
        method = keras.Model.train_on_batch
        given = named_arguments(method, x, y, *args, **kwargs)
        with self._named_errors():
            given = with_class_weight(given, self.condition_shape)
            return super().train_on_batch(**self._of_one_batch(given))

    def test_on_batch(self, *args: Any, **kwargs: Any) -> Any:
        """Returns loss and metrics of a batch; see `keras.Model.test_on_batch`."""
        given = named_arguments(keras.Model.test_on_batch, *args, **kwargs)
        with refusals():
            return super().test_on_batch(**self._of_one_batch(given))

    def _of_one_batch(self, given: Config) -> Config:
        """Returns arguments with tensors of a form that is checked."""
        given = given | {"x": self.encoded(given["x"])}
        given = as_one_batch(given, self._data_dtype)
        self.check((given["x"], given["y"], given["sample_weight"]))
        return given

    def stateless_call(self, *args: Any, **kwargs: Any) -> Any:
        """Calls the model with other values; see `keras.Layer.stateless_call`."""
        for layer in self.layers:
            if isinstance(layer, AdoptedVariables) and layer.variables:
                must = "have Keras's weights only, as `tf.Variable`s keep their values"
                raise invalid("distribution", must, layer.variables[0])
        return super().stateless_call(*args, **kwargs)

    def quantize(self, mode: str, **kwargs: Any) -> None:
        """Refuses: a file would not build the quantized layers again."""
        must = "be left to `tfpf.export_saved_model(..., precision='int8')`"
        raise invalid("mode", must, mode)

    def predict_on_batch(self, x: Arrays) -> Arrays:
        """Returns what `call` does of a batch; see `keras.Model.predict_on_batch`."""
        if self._replicas > 1:  # each would run on the whole batch
            return self.predict(x, verbose=0)
        return keras.tree.map_structure(keras.ops.convert_to_numpy, self._of_batch(x))

    def _of_batch(self, x: Arrays) -> Any:
        """Returns what `call` does of a batch, compiled, as tensors."""
        with refusals():
            few = few_batches({"x": self.encoded(x)}, self._data_dtype, whole=True)
            if few is None:
                return super().predict_on_batch(x)
            self.check(few[0])
            # Keras would trace anew for every list of Python's numbers.
            return self._predict_function()(few)

    @property
    def _replicas(self) -> int:
        return self.distribute_strategy.num_replicas_in_sync

    def _predict_function(self) -> Any:
        """Returns Keras's function of a list of batches, one of them."""
        self.make_predict_function()
        return self.predict_function

    def _arguments(self, method: str, *args: object, **kwargs: object) -> Config:
        """Returns the arguments of a method by name, with encoded data."""
        given = named_arguments(getattr(keras.Model, method), *args, **kwargs)
        given["x"] = self.encoded(given.get("x"))
        if given.get("validation_data") is not None:
            held_out = given["validation_data"]
            parts = isinstance(held_out, list | tuple) and not is_rows(held_out)
            held_out = tuple(held_out) if parts else (held_out,)
            given["validation_data"] = (self.encoded(held_out[0]), *held_out[1:])
        return given

    def _callbacks(self, callbacks: Callbacks, validated: bool) -> Callbacks:
        """Lists callbacks, told whether the metrics that they watch should fall.

        Keras works this out only for metrics that were given to `compile`. Its
        `SwapEMAWeights` takes averages out again before others keep what was validated.
        """
        made = isinstance(callbacks, keras.callbacks.CallbackList)
        given = callbacks.callbacks if made else callbacks
        given = given if isinstance(given, list | tuple) else [given]
        listed = [callback for callback in given if callback is not None]
        if validated:
            swap = keras.callbacks.SwapEMAWeights
            listed = [AveragedWeights() if isinstance(c, swap) else c for c in listed]
        with_raw_weights(listed)
        for callback in listed:
            if isinstance(callback, _SETS_RATE) and has_schedule(self.optimizer):
                must = "set no learning rate: the optimizer's follows a schedule"
                raise invalid("callbacks", must, type(callback).__name__)
            watched = str(getattr(callback, "monitor", "")).removeprefix("val_")
            automatic = getattr(callback, "mode", None) == "auto"
            if automatic and watched in (*self.rising, *self.falling, *self._means):
                callback.mode = "max" if watched in self.rising else "min"
        if not any(isinstance(callback, StopAtNonFinite) for callback in listed):
            listed.append(StopAtNonFinite())
        if not made:
            return listed
        for callback in listed:
            if callback not in given:
                callback.set_model(self)
        callbacks.callbacks = listed
        return callbacks

    @contextlib.contextmanager
    def guarded(self) -> Iterator[None]:
        """Around training: errors that name what is not finite, no stale results."""
        try:
            with self._named_errors(), raw_after_errors(self, fits=True):
                yield
        finally:
            for distribution in self.distributions:
                clear_caches(distribution)

    @contextlib.contextmanager
    def _named_errors(self) -> Iterator[None]:
        """Turns what a compiled step raises into the sentence behind it."""
        try:
            with refusals():
                yield
        except tf.errors.OpError as error:
            self._guard.reraise(error)
            if unsolved := re.search(f"{UNSOLVED}[^\\]\\n]*", str(error)):
                raise FloatingPointError(unsolved[0]) from None
            raise

    @functools.partial(_taken, learns=True)
    def train_step(self, data: Arrays) -> dict[str, tf.Tensor]:
        """Takes one optimizer step on a batch."""
        x, y, weight = self._paired(data)
        first = x[0] if isinstance(x, tuple) else x
        # Under XLA it would take a ninth of a step of splines.
        plain = not self.jit_compile and tf.is_tensor(first)
        if plain and first.dtype.is_floating:
            first, left_out = without_sentinels(first)
            weight = tf.ones(tf.shape(first)[:1]) if weight is None else weight
            weight = tf.where(left_out, tf.zeros_like(weight), weight)
            _STEP.get().left_out = left_out
            x = (first, *x[1:]) if isinstance(x, tuple) else first
        return super().train_step((x, y, weight))

    @functools.partial(_taken, learns=False)
    def test_step(self, data: Arrays) -> dict[str, tf.Tensor]:
        """Evaluates a batch."""
        return super().test_step(self._paired(data))

    def predict_step(self, data: Arrays) -> Arrays:
        """Returns what `call` does of a batch."""
        return super().predict_step(self._paired(data))

    def _paired(self, data: Arrays) -> Arrays:
        """Gives a conditional flow its conditions where they came as targets."""
        x, y, weight = keras.utils.unpack_x_y_sample_weight(data)
        given = tf.TensorShape(getattr(y, "shape", None))
        y = None if 0 in (given[1:] if given.rank else ()) else y  # see `with_batches`
        shape = tf.TensorShape(getattr(weight, "shape", None))
        if shape.rank not in (None, 0) and shape[1:].num_elements() not in (None, 1):
            raise invalid("sample_weight", "have shape [batch]", shape)
        if tf.is_tensor(weight) and shape.rank != 1:  # Keras forgets it after others
            one = shape.rank == 0
            n = tf.shape(keras.tree.flatten(x)[0])[:1]
            weight = tf.fill(n, weight) if one else tf.reshape(weight, [-1])
        if y is not None and self.condition_shape is not None:
            x, condition = split_inputs(x)
            x = (x, y if condition is None else condition)
        return x, y, weight

    def compute_loss(
        self,
        x: Arrays = None,
        y: Arrays = None,
        y_pred: Arrays = None,
        sample_weight: TensorLike | None = None,
        training: bool = True,
    ) -> tf.Tensor:
        """Returns the mean of the examples' losses plus the layers' losses, in nats."""
        losses = self.example_losses(y_pred)
        n = tf.cast(tf.size(losses), losses.dtype)
        step = _STEP.get()
        training = training and (step is None or step.learns)
        if training:
            far = self._far(losses)
            losses = tf.where(far, tf.zeros_like(losses), losses)
            n -= tf.reduce_sum(tf.cast(far, n.dtype))
        if sample_weight is not None:
            weight = tf.cast(sample_weight, losses.dtype)
            sample_weight = tf.reshape(weight, tf.shape(losses))
            losses *= sample_weight
        # A replica may have no example of the last batch.
        loss = tf.math.divide_no_nan(tf.reduce_sum(losses), n)
        for extra in self.losses:
            loss += tf.reduce_sum(tf.cast(extra, loss.dtype))
        if training and not self.jit_compile:
            loss = self._guard.checked(self, loss, sample_weight, *split_inputs(x))
        return loss / tf.distribute.get_strategy().num_replicas_in_sync

    def compute_metrics(
        self,
        x: Arrays,
        y: Arrays,
        y_pred: Arrays,
        sample_weight: TensorLike | None = None,
    ) -> dict[str, tf.Tensor]:
        """Updates and returns the metrics."""
        metrics = self.example_metrics(y_pred)
        metrics, weight = self._that_count(metrics, y_pred, sample_weight)
        for name, values in metrics.items():
            self._means[name].update_state(values, sample_weight=weight)
        return super().compute_metrics(x, y, y_pred, sample_weight)

    def _that_count(
        self, values: Arrays, y_pred: Arrays, weight: TensorLike | None
    ) -> tuple[Arrays, TensorLike | None]:
        """Returns values of examples, and weights, without rows that are left out."""
        step = _STEP.get()
        if step is None or not step.learns:
            return values, weight
        losses = self.example_losses(y_pred)
        far = self._far(losses)
        self._guard.count(far)
        weight = 1.0 if weight is None else tf.reshape(weight, tf.shape(far))
        values = tf.nest.map_structure(
            lambda v: tf.where(far, tf.zeros_like(v), v), values
        )
        weight = tf.cast(weight, losses.dtype)
        return values, tf.where(far, tf.zeros_like(losses), weight)

    def _far(self, losses: tf.Tensor) -> tf.Tensor:
        """Returns which rows count in no step of training."""
        far, step = far_rows(losses), _STEP.get()
        return far if step is None or step.left_out is None else far | step.left_out

    def where_not_finite(self, *batch: tf.Tensor) -> str:
        """Says where data and conditions of a batch stop being finite."""
        return first_non_finite(getattr(self, "distribution", self), *batch)

    # Saving.

    def save(self, filepath: str | os.PathLike, *args: Any, **kwargs: Any) -> None:
        """Writes the model; see `keras.Model.save`."""
        if str(filepath).endswith((".h5", ".hdf5")):
            must = "end in '.keras': Keras cannot read a distribution from HDF5"
            raise invalid("filepath", must, str(filepath))
        self.get_config()  # what is refused is so before Keras opens the file
        super().save(filepath, *args, **kwargs)
        name_package(filepath)

    def get_config(self) -> Config:
        """Returns name and state of the model, and the version that wrote them."""
        known = {"name": self.name, "trainable": self.trainable}
        return {**known, **frozen(self), **written_by()}

    @classmethod
    def constructor_arguments(cls, config: Config) -> Config:
        """Turns descriptions in a configuration into the objects they describe."""
        return config

    @classmethod
    def from_config(
        cls, config: Config, custom_objects: Mapping[str, type] | None = None
    ) -> LikelihoodModel:
        """Builds the model that `get_config` described, with fresh weights."""
        # `lanes` stands in files from before `compile(shards=...)`.
        own = (WRITTEN_BY, FROZEN, "lanes")
        given = {k: v for k, v in config.items() if k not in own}
        trainable = given.pop("trainable", True)
        scorer = given.pop("anomaly_scorer", None)
        with reading(config), keras.saving.custom_object_scope(custom_objects or {}):
            model = cls(**cls.constructor_arguments(given))
            if scorer is not None:
                model.anomaly_scorer = keras.saving.deserialize_keras_object(scorer)
        model.trainable = trainable
        freeze(model, config)
        return model


class BitsPerDim(keras.metrics.Metric):
    """`nll / (D ln 2)`: the mean nll in bits for each of an event's D values."""

    def __init__(self, nll: keras.metrics.Mean, values: int) -> None:
        super().__init__(name="bits_per_dim")
        self._nll = nll
        self._nats = values * math.log(2.0)

    def update_state(self, *args: object, **kwargs: object) -> None:
        """Does nothing: the nats are counted once, by `nll`."""

    def result(self) -> tf.Tensor:
        """Returns the bits per value so far."""
        return tf.convert_to_tensor(self._nll.result()) / self._nats


@keras.saving.register_keras_serializable(package="tfp_flows")
class FlowModel(LikelihoodModel):
    """A Keras model whose prediction is the log-likelihood of a distribution.

    Keras sees every weight of the distribution: those of the Keras layers inside its
    bijectors, and every raw `tf.Variable`. `fit` minimizes the exact mean negative
    log-likelihood

        loss = -mean(log p(x)) + layer losses          [nats]

    and reports `nll` in nats and `bits_per_dim = nll / (D ln 2)` for events of `D`
    values. `predict` returns `log_prob`, one value for each example.

    Data is `x` with shape `[batch, *event]`. A conditional flow takes `(x, c)`
    pairs: as `fit(x, c)`, `fit((x, c))`, as a dataset of pairs, or as a dictionary
    with the keys `"x"` and `"condition"`.

    Args:
        distribution: A flow, or any TFP distribution with a static event shape.
        **kwargs: Passed on to `keras.Model`, such as `name`.

    Raises:
        TypeError: If `distribution` is not a TFP distribution.
        ValueError: If its event shape is not known.

    Example:
        >>> import numpy as np, tfp_flows as tfpf
        >>> model = tfpf.FlowModel(tfpf.real_nvp((2,), couplings=2))
        >>> model.compile(optimizer="adam")
        >>> x = np.random.default_rng(0).normal(size=(64, 2)).astype("float32")
        >>> history = model.fit(x, verbose=0)
        >>> model.predict(x, verbose=0).shape
        (64,)
    """

    falling = ("loss", "bits_per_dim")
    _anomaly_scorer: keras.layers.Layer | None = None

    def __init__(self, distribution: tfd.Distribution, **kwargs: Any) -> None:
        checked_instance(
            "distribution",
            distribution,
            tfd.Distribution,
            "a TFP distribution, such as `tfpf.glow((2,))`",
        )
        event_shape = distribution.event_shape
        if not isinstance(event_shape, tf.TensorShape) or (
            not event_shape.is_fully_defined()
        ):
            must = "have a static event shape of one tensor, as `tfd.Blockwise(joint)`"
            must += " has of vectors from a joint distribution"
            received = str(event_shape).replace("\n", "")
            raise ValueError(
                f"Argument `distribution` must {must}. Received: {received}"
            )
        if distribution.batch_shape.num_elements() not in (None, 1):
            must = "have no batch shape, as `tfd.Independent` makes events of it"
            raise invalid("distribution", must, distribution.batch_shape)
        for part in walk(distribution):
            if isinstance(part, QuantizedDistribution) and part.event_shape.rank:
                must = "have a density: `tfd.QuantizedDistribution` needs single values"
                raise invalid("distribution", must, part)
            if not is_injective(part):
                must = f"have one latent for a value, not several as {part.name} has"
                raise invalid("distribution", must, distribution)
        taking_conditions(distribution)  # refuses conditions of two shapes
        # `compile` scales the loss if the model's policy is `mixed_float16`.
        kwargs.setdefault("dtype", policy_of(distribution))
        super().__init__(["nll"], distribution.dtype, **kwargs)
        self._distribution = distribution
        self._flow_layers = layers_in(distribution)
        self._adopted = AdoptedVariables.of(distribution)
        list_variables(distribution)
        values = math.prod(self.event_shape)
        self._bits_per_dim = BitsPerDim(self._means["nll"], values)

    @property
    def distribution(self) -> tfd.Distribution:
        """The distribution that is trained."""
        return self._distribution

    @property
    def distributions(self) -> list[tfd.Distribution]:
        """The distribution, in a list."""
        return [self._distribution]

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Shape of one data point."""
        return tuple(self._distribution.event_shape)

    @property
    def condition_shape(self) -> tuple[int, ...] | None:
        """Shape of one condition, or None."""
        bijector = taking_conditions(self._distribution)
        return None if bijector is None else condition_shape(bijector)

    def call(self, inputs: Arrays, training: bool | None = None) -> Arrays:
        """Returns `log_prob` in nats, one value for each example.

        Keras hands `training` on to the layers inside the distribution.
        """
        x, condition = self._checked(*split_inputs(inputs))
        given = (x,) if condition is None else (x, condition)
        log_prob = functools.partial(sampling.log_prob, self._distribution)
        log_prob = in_shards(log_prob, self._shards)
        if training:  # what a flow knows of this batch had another dropout
            given = tf.nest.map_structure(tf.identity, given)
        replicas = tf.distribute.has_strategy()
        if not training or tf.executing_eagerly() or replicas:
            return log_prob(*given)
        with tf.init_scope():
            if self.waits_for_data():  # in a loop or a functional model
                warnings.warn(f"{_WAITING} Call `adapt(batch)` before.", stacklevel=2)
        with tf.GradientTape() as tape:  # at no cost: it is traced once
            result = log_prob(*given)
        self._refuse_hidden(tape.watched_variables())
        return result

    def _refuse_hidden(self, used: Sequence[tf.Variable]) -> None:
        """Refuses to train around weights that only a function knows, as a lambda."""
        known = {id(variable) for variable in tf_variables([self])}
        for variable in used:
            if id(variable) not in known:
                must = "list every weight that it uses: none in a function of its own, "
                must += "none made inside of `Repeat` later, as by `enable_lora`"
                raise invalid("distribution", must, f"the weight '{variable.name}'")

    def check(self, batch: Arrays) -> None:
        """Refuses data or conditions of another shape."""
        self._check(*split_inputs(self._paired(batch)[0]))

    def _arguments(self, method: str, *args: object, **kwargs: object) -> Config:
        """Refuses wrong labels before XLA, which drops checks."""
        given = super()._arguments(method, *args, **kwargs)
        x, takes = given.get("x"), taking_conditions(self._distribution)
        labels = None if takes is None else label_count(takes)
        if labels is None or not self.jit_compile:
            return given

        def checked(*batch: Arrays) -> tuple[Arrays, ...]:
            found = split_inputs(self._paired(batch)[0])[1]
            if tf.TensorShape(getattr(found, "shape", None)).rank != 1:
                return batch  # is refused elsewhere
            with tf.control_dependencies([checked_labels(found, labels)]):
                return tf.nest.map_structure(tf.identity, batch)

        if isinstance(x, tf.data.Dataset):
            return {**given, "x": x.map(checked)}
        if not is_stream(x):
            found = split_inputs(x)[1]
            found = tf.convert_to_tensor(given.get("y") if found is None else found)
            if found.shape.rank == 1:
                checked_labels(found, labels)
        return given

    def _checked(
        self, x: Arrays, condition: TensorLike | None
    ) -> tuple[tf.Tensor, Any]:
        """Returns data in the distribution's dtype, and conditions, of right shape."""
        self._check_dense(x, condition)
        x = with_rank(x, self.event_shape, "x")
        if condition is not None and self.condition_shape is not None:
            condition = with_rank(condition, self.condition_shape, "condition")
        self._check(x, condition)
        return tf.cast(x, self._distribution.dtype), condition

    def _check(self, x: Arrays, condition: TensorLike | None) -> None:
        """Refuses data or conditions of another shape."""
        self._check_dense(x, condition)
        owner, shape = f"'{self._distribution.name}'", self.condition_shape
        leading = self._rows_of(x, self.event_shape, "x")
        check_event(x, self.event_shape, owner)
        if (condition is None) != (shape is None):
            must = "go without a condition: the distribution takes none"
            if condition is None:
                must = f"come with conditions of shape {shape}, as in `fit(x, c)`"
                must += " or `predict((x, c))`"
            raise ValueError(
                f"Argument `x` must {must}. Received: x of shape {tuple(x.shape)} "
                f"{'without' if condition is None else 'with'} conditions"
            )
        if condition is not None:
            rows = self._rows_of(condition, shape, "condition")
            check_event(condition, shape, owner, "condition")
            if not leading.is_compatible_with(rows):
                must = f"have a row for each of x, {leading[0]} of them"
                received = f"shape {tuple(condition.shape)}"
                raise ValueError(
                    f"Argument `condition` must {must}. Received: {received}"
                )

    def _check_dense(self, x: Arrays, condition: TensorLike | None) -> None:
        """Refuses complex numbers, words, ragged and sparse tensors."""
        for name, given in (("x", x), ("condition", condition)):
            if given is not None and hasattr(given, "dtype"):
                check_dense(given, name)

    def _rows_of(
        self, array: Arrays, event: Sequence[int], name: str
    ) -> tf.TensorShape:
        """Returns the one batch axis that data and conditions have."""
        shape = tf.TensorShape(array.shape)
        if shape.rank not in (None, len(event) + 1):
            must = f"have shape [{words(('batch', *event))}]"
            if tuple(event) == (1,) and shape.rank == 1 and tuple(shape) != (1,):
                must += f", as `{name}[:, None]` has"
            elif shape.rank == len(event):
                must += " and datasets must be batched"
            raise invalid(name, must, got=f"{name} of shape {shape}")
        return shape[:1] if shape.rank is not None else tf.TensorShape([None])

    # Around training.

    @property
    def is_adapted(self) -> bool:
        """Whether no data-dependent weight waits for `adapt`."""
        return is_adapted(self._distribution)

    def adapt(self, data: Arrays, condition: TensorLike | None = None) -> None:
        """Initializes data-dependent weights, such as those of `ActNorm`.

        Args:
            data: A batch `[n, *event]`, or a dataset, whose first batch is taken.
            condition: The conditions of that batch, for a conditional flow.

        Raises:
            ValueError: If the batch has another event shape, no batch axis, no rows or
                is not finite. No weight has changed then.
        """
        takes_condition = self.condition_shape is not None
        x, condition = first_batch(self.encoded(data), condition, takes_condition)
        x, condition = self._checked(x, condition)
        if 0 in x.shape:
            must = f"be a batch [n, {words(self.event_shape)}] of at least one row"
            raise invalid("data", must, f"shape {tuple(x.shape)}")
        if not bool(tf.reduce_all(tf.math.is_finite(x))):
            raise NonFiniteData(
                "Argument `data` must be finite to initialize weights from it. "
                f"Received: {non_finite_rows(x)}"
            )
        if not self.is_adapted:
            _warn_of_constants(x)
        chain.adapt_distribution(self._distribution, x, condition)
        clear_caches(self._distribution)

    def export(self, filepath: str | os.PathLike, *args: Any, **kwargs: Any) -> None:
        """Writes `call` for serving; `tfpf.export_saved_model` writes all uses."""
        given = named_arguments(keras.Model.export, filepath, *args, **kwargs)
        if given.get("input_signature") is None:
            x = tf.TensorSpec((None, *self.event_shape), self._distribution.dtype)
            shape = self.condition_shape
            if shape is not None:
                dtype = condition_dtype(taking_conditions(self._distribution))
                x = (x, tf.TensorSpec((None, *shape), dtype))
            given["input_signature"] = [x]
        super().export(**given)

    def log_prob(self, x: Arrays, condition: TensorLike | None = None) -> tf.Tensor:
        """Returns the log-densities `[n]` of a batch, in nats.

        It is `call`, compiled: traced for the first batch and once more for any number
        of rows. `distribution.log_prob`, run eagerly, goes from one operation to the
        next in Python, which takes tens of times as long for few rows. Gradients of
        the data and of the weights flow through both.

        Args:
            x: Data `[n, *event]`.
            condition: For a conditional flow, its conditions `[n, *condition_shape]`.
        """
        inputs = x if condition is None else (x, condition)
        compiled = tf.executing_eagerly() and not in_replica()
        if not compiled or self._replicas > 1:
            return self(inputs)
        return self._of_batch(inputs)

    def sample(
        self,
        n: int,
        seed: Seed = None,
        temperature: float = 1.0,
        condition: TensorLike | None = None,
    ) -> tf.Tensor:
        """Draws samples `[n, *event]`.

        Args:
            n: Number of samples.
            seed: None, an integer or a pair of integers; equal seeds, equal samples.
            temperature: Factor on the spread of the latents; 1 is the distribution.
            condition: For a conditional flow, its conditions; samples then have the
                shape `[n, *batch, *event]`.
        """
        return sampling.sample(self._distribution, n, seed, temperature, condition)

    def summary(
        self,
        line_length: int | None = None,
        positions: object = None,
        print_fn: Callable | None = None,
        expand_nested: bool = False,
        show_trainable: bool = False,
        layer_range: object = None,
    ) -> None:
        """Prints the bijectors, from the data to the latents, and their weights.

        Args:
            line_length: Characters of a line; None for those of the terminal.
            positions: Of Keras's table of layers, which this is not: no effect.
            print_fn: Called with the table's text; None prints to the terminal.
            expand_nested: See `positions`.
            show_trainable: See `positions`.
            layer_range: See `positions`.
        """
        summary_table(self._distribution, self.name, print_fn, line_length)

    # A scorer is any registered Keras layer; `tfp_flows.anomaly` has some. Its weights
    # are saved with the model's.

    @property
    def anomaly_scorer(self) -> keras.layers.Layer | None:
        """The fitted scorer that is saved and exported with the model, or None."""
        return self._anomaly_scorer

    @anomaly_scorer.setter
    def anomaly_scorer(self, scorer: keras.layers.Layer | None) -> None:
        checked_instance(
            "anomaly_scorer",
            scorer,
            (keras.layers.Layer, type(None)),
            "a Keras layer, such as `tfpf.anomaly.TypicalityScorer()`, or None",
        )
        if self._anomaly_scorer is not None:
            forget_layer(self, self._anomaly_scorer)
        self._anomaly_scorer = scorer

    def described(self) -> Config:
        """Describes the constructor's arguments, without weights."""
        return {"distribution": serialization.serialize(self._distribution)}

    def get_config(self) -> Config:
        """Describes the model, without weights; a subclass extends `described`."""
        config = {**self.described(), **super().get_config()}
        if self._anomaly_scorer is not None:
            scorer = serialization.layer_config(self._anomaly_scorer, "anomaly_scorer")
            config["anomaly_scorer"] = scorer
        return config

    @classmethod
    def constructor_arguments(cls, config: Config) -> Config:
        """Builds the distribution that `described` described."""
        distribution = serialization.deserialize(config["distribution"])
        return {**config, "distribution": distribution}


def _warn_of_constants(x: tf.Tensor) -> None:
    """Names the columns of vectors, or channels, that have one value in all rows."""
    rows = tf.reshape(x, [-1, x.shape[-1] if len(x.shape) > 1 else 1]).numpy()
    constant = np.flatnonzero(np.all(rows == rows[0], axis=0))
    if len(rows) > 1 and len(constant):
        warnings.warn(
            f"Columns {constant.tolist()} of the data are constant, so their scales "
            "stay as they are; a flow of them has a spike for a density. Leave them "
            "out or add noise.",
            stacklevel=3,
        )


def load_model(path: str | os.PathLike) -> FlowModel:
    """Reads a model from a `.keras` archive.

    Args:
        path: Name of a file that `FlowModel.save` or `save_distribution` wrote.

    Returns:
        The model; one around the distribution, where the file holds only that.

    Raises:
        ValueError: If the file is missing, damaged or holds something else.
    """
    model = load_archive(path)
    if isinstance(model, SavedObject) and isinstance(model.content, tfd.Distribution):
        return FlowModel(model.content)
    if not isinstance(model, FlowModel):
        raise ValueError(
            f"The file {path} must hold a `tfpf.FlowModel`. "
            f"Received: a {type(model).__name__}"
        )
    return model
