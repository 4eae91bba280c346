"""`fit_distributed`: training by several processes, in TensorFlow's own loop.

Keras 3's `fit` stops in its first step under `tf.distribute`'s multi-worker strategy:
it reduces scalar metrics along an axis that they do not have. Everything around that
line works, so the loop is written out here as TensorFlow documents it.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterable, Iterator

import keras
import tensorflow as tf

from tfp_flows.internal.arguments import Arrays, invalid
from tfp_flows.internal.compat import finished_epochs
from tfp_flows.training.callbacks import constrain, is_chief
from tfp_flows.training.model import Callbacks, FlowModel

__all__ = ["adapt_once", "fit_distributed", "is_chief", "send_weights"]


def fit_distributed(
    model: FlowModel,
    data: tf.data.Dataset,
    *,
    epochs: int = 1,
    initial_epoch: int = 0,
    steps_per_epoch: int | None = None,
    validation_data: Arrays | None = None,
    callbacks: Callbacks = (),
    verbose: int = 0,
) -> keras.callbacks.History:
    """Trains a `FlowModel` under any `tf.distribute` strategy, several workers too.

    Every worker runs the same program. Data-dependent weights are initialized once, by
    the chief from the first whole batch, and sent to all; gradients are summed over all
    replicas in every step, so that these stay equal. The metrics are those of all
    workers.

    Args:
        model: A model that was made and compiled inside `strategy.scope()`.
        data: Batches for all replicas together, the same dataset on every worker: a
            batch of 64 on two workers is 32 examples each. Batches that all replicas
            share evenly give exactly the gradient of one device.
        epochs: Number of the last epoch.
        initial_epoch: Number of epochs that are finished already.
        steps_per_epoch: Batches an epoch, for endless data; the data then goes on
            from one epoch to the next, and training stops where it ends. None for all
            of the data.
        validation_data: What to evaluate after each epoch, a dataset of batches or
            arrays, or None.
        callbacks: Keras callbacks, called on every worker as `fit` calls them.
            `tfpf.Backup` writes on the chief alone; others that write should be given
            to the chief alone (`is_chief(strategy)`).
    """
    if not isinstance(model, FlowModel) or not model.compiled:
        raise invalid("model", "be a compiled `tfpf.FlowModel`", model)
    if not isinstance(data, tf.data.Dataset):
        must = "be a `tf.data.Dataset` of batches, to be shared out among workers"
        raise invalid("data", must, data)
    strategy = model.distribute_strategy
    test = _validation(model, validation_data)
    callbacks = model._callbacks(callbacks, test is not None)
    adapt_once(model, data)
    with strategy.scope():
        if not model.optimizer.built:
            model.optimizer.build(model.trainable_variables)
    train = _Epochs(model, model.train_step, data, steps_per_epoch)
    if not isinstance(callbacks, keras.callbacks.CallbackList):
        callbacks = keras.callbacks.CallbackList(
            callbacks,
            add_history=True,
            add_progbar=bool(verbose),
            verbose=verbose,
            epochs=epochs,
            steps=steps_per_epoch,
            model=model,
        )
    model.stop_training = False
    callbacks.on_train_begin()
    logs: dict[str, float] = {}
    with model.guarded():
        for epoch in range(max(initial_epoch, finished_epochs(model)), epochs):
            callbacks.on_epoch_begin(epoch)
            found = train.run(
                callbacks.on_train_batch_begin, callbacks.on_train_batch_end
            )
            if not found:
                break
            logs = found
            if test is not None:
                callbacks.on_test_begin()
                values = test.run(
                    callbacks.on_test_batch_begin, callbacks.on_test_batch_end
                )
                callbacks.on_test_end(values)
                logs |= {f"val_{name}": value for name, value in values.items()}
            callbacks.on_epoch_end(epoch, logs)
            if model.stop_training:
                break
        model.optimizer.finalize_variable_values(model.trainable_weights)
        constrain(model)
    callbacks.on_train_end(logs)
    return model.history


def _validation(model: FlowModel, data: Arrays | None) -> _Epochs | None:
    if data is None:
        return None
    # Arrays become batches, as for `fit`.
    given = model._arguments("fit", None, validation_data=data)
    found = model._in_batches(given)["validation_data"]
    found = keras.utils.unpack_x_y_sample_weight(found)[0]
    if not isinstance(found, tf.data.Dataset):
        must = "be arrays or a `tf.data.Dataset` of batches"
        raise invalid("validation_data", must, data)
    return _Epochs(model, model.test_step, found, None)


def adapt_once(model: FlowModel, data: tf.data.Dataset) -> None:
    """Initializes data-dependent weights on the chief, for all workers."""
    if model.waits_for_data():
        model.adapt(data)
    send_weights(model)


def send_weights(model: keras.Model) -> None:
    """Gives the variables of a model on all workers the values of the chief.

    Called on every worker. Within one process there is nothing to do: an assignment
    reaches all replicas.
    """
    strategy = model.distribute_strategy
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return
    variables = model.variables

    def first() -> list[tf.Tensor]:
        context = tf.distribute.get_replica_context()
        chosen = tf.equal(context.replica_id_in_sync_group, 0)
        values = [tf.convert_to_tensor(v.value) for v in variables]
        # Whole numbers and truth values as int64, which every strategy can sum.
        values = [v if v.dtype.is_floating else tf.cast(v, tf.int64) for v in values]
        mine = [tf.where(chosen, value, tf.zeros_like(value)) for value in values]
        # A sum in which all others are zero: the chief's bits. One type at a time,
        # since strategies join the tensors of one call into one.
        sums: list = [None] * len(mine)
        for dtype in {value.dtype: None for value in mine}:
            places = [i for i, value in enumerate(mine) if value.dtype == dtype]
            total = context.all_reduce(
                tf.distribute.ReduceOp.SUM, [mine[i] for i in places]
            )
            for i, value in zip(places, total, strict=True):
                sums[i] = value
        return sums

    sent = tf.function(lambda: strategy.run(first), autograph=False)()
    for variable, value in zip(variables, sent, strict=True):
        chiefs = strategy.experimental_local_results(value)[0]
        variable.assign(tf.cast(chiefs, variable.dtype))


class _Epochs:
    """Runs a Keras step on all replicas, over the batches of an epoch."""

    def __init__(
        self, model: FlowModel, step: Callable, data: tf.data.Dataset, steps: int | None
    ) -> None:
        strategy = model.distribute_strategy
        options = tf.data.Options()
        # By examples: there are no files to be shared out.
        options.experimental_distribute.auto_shard_policy = (
            tf.data.experimental.AutoShardPolicy.DATA
        )
        self._data = strategy.experimental_distribute_dataset(
            data.with_options(options)
        )
        self._model, self._steps = model, steps
        self._endless: Iterator | None = None

        def on_all(batch: Arrays) -> None:
            strategy.run(step, args=(batch,))

        self._on_all = tf.function(on_all, reduce_retracing=True, autograph=False)

    def run(self, begin: Callable, end: Callable) -> dict[str, float]:
        """Runs one epoch and returns the metrics of all workers, or nothing.

        Without a batch there are no metrics.
        """
        model, done = self._model, 0
        model.reset_metrics()
        for batch in self._batches():
            begin(done)
            self._on_all(batch)
            end(done, {})
            done += 1
        if self._steps is not None and done < self._steps:
            warnings.warn(
                "The data ended before `steps_per_epoch * epochs` batches, and so does "
                "training. Repeat the dataset, or give `steps_per_epoch=None`.",
                stacklevel=3,
            )
            model.stop_training = True
        metrics = model.get_metrics_result() if done else {}
        return {name: float(value) for name, value in metrics.items()}

    def _batches(self) -> Iterable:
        if self._steps is None:
            return self._data
        if self._endless is None:
            self._endless = iter(self._data)
        return itertools.islice(self._endless, self._steps)
