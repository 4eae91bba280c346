"""`FlowModel`: any TFP distribution as a Keras model that trains all of it."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows import saving as serialization
from tfp_flows.bijectors import chain
from tfp_flows.bijectors.chain import condition_kwargs
from tfp_flows.bijectors.conditional import condition_shape
from tfp_flows.bijectors.tree import bijectors_in, clear_caches, layers_in
from tfp_flows.saving.files import (
    AdoptedVariables,
    SavedObject,
    load_archive,
    raw_variables,
)
from tfp_flows.training import sampling
from tfp_flows.training.data import (
    check_event,
    check_lanes,
    first_batch,
    for_fit,
    for_one_pass,
    in_lanes,
    split_inputs,
    with_weights,
)
from tfp_flows.training.nonfinite import (
    NonFiniteGuard,
    StopAtNonFinite,
    non_finite_rows,
)
from tfp_flows.training.precision import policy_of
from tfp_flows.training.summary import summary_table

tfd = tfp.distributions


@keras.saving.register_keras_serializable(package="tfp_flows")
class NegativeLogLikelihood(keras.losses.Loss):
    """Mean of `-log p(x)` in nats, with Keras's sample weights and replicas."""

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        """Returns `-y_pred`: the model's prediction is the log-likelihood itself."""
        return -y_pred


class MeanNll(keras.metrics.Mean):
    """Mean negative log-likelihood of an epoch, in nats."""

    def __init__(self) -> None:
        """Starts empty, under the name `nll`."""
        super().__init__(name="nll")


class BitsPerDim(keras.metrics.Metric):
    """`nll / (D ln 2)`: the same figure in bits for each of an event's D values."""

    def __init__(self, nll: MeanNll, values: int) -> None:
        """Reports `nll` for events of `values` values."""
        super().__init__(name="bits_per_dim")
        self._nll = nll
        self._nats = values * math.log(2.0)

    def update_state(self, *args: Any, **kwargs: Any) -> None:
        """Does nothing: the nats are counted once, by `nll`."""

    def result(self) -> tf.Tensor:
        """Returns the bits per value so far."""
        return self._nll.result() / self._nats


def is_adapted(distribution: tfd.Distribution) -> bool:
    """Returns whether no data-dependent weight waits for a batch."""
    parts = bijectors_in(distribution)
    return all(getattr(part, "is_adapted", True) for part in parts)


def adapt(distribution: tfd.Distribution, x: Any, condition: Any = None) -> None:
    """Initializes every data-dependent weight inside `distribution`.

    Args:
        distribution: Any distribution; one without bijectors has nothing to adapt.
        x: A batch of data `[n, *event]`.
        condition: The conditions of that batch, for a conditional flow.

    Raises:
        ValueError: If the batch has another event shape or is not finite.
    """
    bijector = getattr(distribution, "bijector", None)
    # A distribution around flows, such as `tfpf.Dequantized`, adapts its own.
    adapts_itself = getattr(distribution, "adapt", None)
    if bijector is None and adapts_itself is None:
        return
    x = tf.convert_to_tensor(x, dtype_hint=distribution.dtype)
    x = tf.cast(x, distribution.dtype)
    event_shape = tuple(distribution.event_shape)
    check_event(x, event_shape, distribution.name)
    if not bool(tf.reduce_all(tf.math.is_finite(x))):
        raise ValueError(
            "Argument `data` must be finite to initialize weights from it. "
            f"Received: {non_finite_rows(x)}"
        )
    if adapts_itself is not None:
        adapts_itself(x)
    else:
        chain.adapt(bijector, x, len(event_shape), condition)
    clear_caches(distribution)


_FALLING = ("nll", "bits_per_dim")


def less_is_better(callbacks: Any) -> list[keras.callbacks.Callback]:
    """Lists the callbacks, told that our figures should fall.

    Keras works this out only for metrics that were given to `compile`.
    """
    if callbacks is None:
        return []
    listed = callbacks if isinstance(callbacks, list | tuple) else [callbacks]
    for callback in listed:
        monitored = str(getattr(callback, "monitor", "")).removeprefix("val_")
        automatic = getattr(callback, "mode", None) == "auto"
        if automatic and monitored in _FALLING:
            callback.mode = "min"
    return list(listed)


class CarriesScorer:
    """The attribute `anomaly_scorer` of a model, kept in its configuration.

    Here a scorer is any registered Keras layer; those that know what to do are in
    `tfp_flows.anomaly`. Weights that it has are saved with the model's.
    """

    _anomaly_scorer: keras.layers.Layer | None = None

    @property
    def anomaly_scorer(self) -> keras.layers.Layer | None:
        """The fitted scorer that is saved and exported with the model, or None."""
        return self._anomaly_scorer

    @anomaly_scorer.setter
    def anomaly_scorer(self, scorer: keras.layers.Layer | None) -> None:
        if scorer is not None and not isinstance(scorer, keras.layers.Layer):
            raise TypeError(
                "Argument `anomaly_scorer` must be a Keras layer, such as "
                "`tfpf.anomaly.TypicalityScorer()`, or None. "
                f"Received: {scorer!r} of type {type(scorer).__name__}"
            )
        if self._anomaly_scorer is not None:
            # Keras forgets a replaced attribute, but not the layer that it was.
            self._tracker.untrack(self._anomaly_scorer)
        self._anomaly_scorer = scorer

    def scorer_config(self) -> dict[str, Any]:
        """Describes the scorer for the model's configuration; empty without one."""
        if self._anomaly_scorer is None:
            return {}
        return {
            "anomaly_scorer": keras.saving.serialize_keras_object(self._anomaly_scorer)
        }

    def restore_scorer(self, description: dict[str, Any] | None) -> None:
        """Takes up the scorer that `scorer_config` described."""
        if description is not None:
            self.anomaly_scorer = keras.saving.deserialize_keras_object(description)


@keras.saving.register_keras_serializable(package="tfp_flows")
class FlowModel(CarriesScorer, keras.Model):
    """A Keras model whose prediction is the log-likelihood of a distribution.

    Keras sees every weight of the distribution: those of the Keras layers inside
    its bijectors, and every raw `tf.Variable`, also of plain TFP distributions.
    `fit` minimizes the exact mean negative log-likelihood

        loss = -mean(log p(x)) + layer losses          [nats]

    and reports `nll` in nats and `bits_per_dim = nll / (D ln 2)` for events of `D`
    values. All of `keras.Model` is there: callbacks, `evaluate`, `save`, and
    `predict`, which returns `log_prob` with one value for each example.

    Data is `x` with shape `[batch, *event]`. A conditional flow takes `(x, c)`
    pairs: as `fit(x, c)`, as a dataset of pairs, or as a dictionary with the keys
    `"x"` and `"condition"`.

    Example:
        >>> import numpy as np, tfp_flows as tfpf
        >>> model = tfpf.FlowModel(tfpf.real_nvp((2,), couplings=2))
        >>> model.compile(optimizer="adam")
        >>> x = np.random.default_rng(0).normal(size=(64, 2)).astype("float32")
        >>> history = model.fit(x, verbose=0)
        >>> model.predict(x, verbose=0).shape
        (64,)
    """

    def __init__(
        self, distribution: tfd.Distribution, *, lanes: int = 1, **kwargs: Any
    ) -> None:
        """Adopts every weight of `distribution`.

        Args:
            distribution: A flow, or any TFP distribution with a static event shape.
            lanes: How many parts of a batch go through the distribution side by side.
                On a CPU that runs each operation on one thread, one lane a core
                trains fastest (docs/precision_and_speed.md); otherwise leave it at 1.
                The likelihoods are the same but for rounding; parts that look at
                the whole batch, such as `BatchNorm`, look at a lane.
            **kwargs: Passed on to `keras.Model`, such as `name`.

        Raises:
            TypeError: If `distribution` is not a TFP distribution.
            ValueError: If its event shape is not known, or `lanes` is not positive.
        """
        if not isinstance(distribution, tfd.Distribution):
            raise TypeError(
                "Argument `distribution` must be a TFP distribution, such as "
                "`tfpf.glow((2,))` or `tfd.TransformedDistribution(...)`. "
                f"Received: {distribution!r} of type {type(distribution).__name__}"
            )
        event_shape = distribution.event_shape
        if not isinstance(event_shape, tf.TensorShape) or (
            not event_shape.is_fully_defined()
        ):
            raise ValueError(
                "Argument `distribution` must have a static event shape of one tensor. "
                f"Received: event shape {event_shape}"
            )
        self._lanes = check_lanes(lanes)
        layers = layers_in(distribution)
        # `compile` scales the loss if the model's policy is `mixed_float16`.
        kwargs.setdefault("dtype", policy_of(distribution))
        # Without autocasting, which would round the data under a mixed precision
        # policy before the flow sees it; the networks inside cast for themselves.
        super().__init__(autocast=False, **kwargs)
        self._distribution = distribution
        self._flow_layers = layers
        self._adopted = AdoptedVariables(
            raw_variables(distribution, layers), name="adopted"
        )
        self._likelihood = NegativeLogLikelihood()
        self._nll = MeanNll()
        self._bits_per_dim = BitsPerDim(self._nll, math.prod(self.event_shape))
        self._guard = NonFiniteGuard()
        # Keras traces the call of an unbuilt model in a scratch graph, whose tensors
        # TFP's caches would then hand to the real graph.
        self.built = True

    @property
    def distribution(self) -> tfd.Distribution:
        """The distribution that is trained."""
        return self._distribution

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Shape of one data point."""
        return tuple(self._distribution.event_shape)

    @property
    def condition_shape(self) -> tuple[int, ...] | None:
        """Shape of one condition, or None."""
        bijector = getattr(self._distribution, "bijector", None)
        return None if bijector is None else condition_shape(bijector)

    # The likelihood, as Keras asks for it.

    def call(self, inputs: Any, training: bool | None = None) -> tf.Tensor:
        """Returns `log_prob` in nats, one value for each example.

        Keras hands `training` on to the layers inside the distribution.
        """
        x, condition = split_inputs(inputs)
        self._check_event(x)
        x = tf.cast(x, self._distribution.dtype)
        return self._in_lanes(self._log_prob, x, condition)

    def _log_prob(self, x: tf.Tensor, condition: Any = None) -> tf.Tensor:
        if condition is None:
            return self._distribution.log_prob(x)
        arguments = condition_kwargs(self._distribution.bijector, condition)
        return self._distribution.log_prob(x, bijector_kwargs=arguments)

    def _in_lanes(self, function: Callable, x: tf.Tensor, condition: Any) -> tf.Tensor:
        given = (x,) if condition is None else (x, condition)
        return in_lanes(function, self._lanes)(*given)

    def train_step(self, data: Any) -> dict[str, tf.Tensor]:
        """Takes one optimizer step on a batch."""
        return super().train_step(self._paired(data))

    def test_step(self, data: Any) -> dict[str, tf.Tensor]:
        """Evaluates a batch."""
        return super().test_step(self._paired(data))

    def predict_step(self, data: Any) -> tf.Tensor:
        """Returns the log-likelihoods of a batch."""
        return super().predict_step(self._paired(data))

    def _paired(self, data: Any) -> Any:
        """Moves what Keras calls the target of a conditional flow to its inputs."""
        x, y, weight = keras.utils.unpack_x_y_sample_weight(data)
        if self.condition_shape is not None and y is not None:
            x = x if isinstance(x, dict | tuple | list) else (x, y)
        # Keras's own packing forgets the weights where there is no target.
        return (x, y, weight)

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> tf.Tensor:
        """Returns the mean negative log-likelihood plus the layers' losses, in nats."""
        loss = self._likelihood(y_pred, y_pred, sample_weight=sample_weight)
        for extra in self.losses:
            loss += tf.cast(self._aggregate_additional_loss(extra), loss.dtype)
        if training and not self.jit_compile:
            inputs, condition = split_inputs(x)
            loss = self._guard.checked(self, loss, inputs, condition)
        return loss

    def compute_metrics(
        self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None
    ) -> dict[str, tf.Tensor]:
        """Updates and returns `loss`, `nll` and `bits_per_dim`."""
        self._nll.update_state(-y_pred, sample_weight=sample_weight)
        return self.get_metrics_result()

    def fit(
        self, x: Any = None, y: Any = None, **kwargs: Any
    ) -> keras.callbacks.History:
        """Trains the distribution; see `keras.Model.fit`.

        Before the first step, data-dependent weights that are still waiting are
        initialized from the first batch. A loss that is not finite stops training.
        Arrays, and datasets whose options do not ask for it, go without `tf.data`'s
        tuner (docs/precision_and_speed.md).

        Args:
            x: Arrays, a `tf.data.Dataset` or a `keras.utils.PyDataset`.
            y: The conditions of a conditional flow, if they are not in `x`.
            **kwargs: All other arguments of `keras.Model.fit`.

        Returns:
            Keras's history.

        Raises:
            FloatingPointError: If the loss is not finite; the message names the
                step and the first bijector whose output is not finite.
        """
        if not self.is_adapted:
            batch, conditions = first_batch(x, y, kwargs.get("batch_size"))
            self.adapt(batch, conditions)
        callbacks = kwargs.pop("callbacks", None)
        if not isinstance(callbacks, keras.callbacks.CallbackList):
            callbacks = [*less_is_better(callbacks), StopAtNonFinite()]
        y = with_weights(y, kwargs.get("sample_weight"))
        # Keras warns of its own default where a dataset brings its own order.
        kwargs.setdefault("shuffle", not isinstance(x, tf.data.Dataset))
        x, y, kwargs = for_fit(x, y, kwargs)
        try:
            return super().fit(x, y, callbacks=callbacks, **kwargs)
        except tf.errors.OpError as error:
            self._guard.reraise(error)
            raise
        finally:
            clear_caches(self._distribution)

    def evaluate(self, x: Any = None, y: Any = None, **kwargs: Any) -> Any:
        """Returns `loss`, `nll` and `bits_per_dim`; see `keras.Model.evaluate`."""
        y = with_weights(y, kwargs.get("sample_weight"))
        x, y, kwargs = for_one_pass(x, y, kwargs)
        return super().evaluate(x, y, **kwargs)

    def predict(
        self,
        x: Any,
        batch_size: int | None = None,
        verbose: Any = "auto",
        steps: int | None = None,
        callbacks: Any = None,
    ) -> Any:
        """Returns the log-likelihood of each example; see `keras.Model.predict`."""
        rest = {"batch_size": batch_size, "steps": steps}
        x, _, rest = for_one_pass(x, None, rest)
        return super().predict(x, verbose=verbose, callbacks=callbacks, **rest)

    # Around training.

    @property
    def is_adapted(self) -> bool:
        """Whether no data-dependent weight waits for `adapt`."""
        return is_adapted(self._distribution)

    def adapt(self, data: Any, condition: Any = None) -> None:
        """Initializes data-dependent weights, such as those of `ActNorm`.

        Args:
            data: A batch `[n, *event]`, or a dataset, whose first batch is taken.
            condition: The conditions of that batch, for a conditional flow.
        """
        x, condition = first_batch(data, condition, None)
        adapt(self._distribution, x, condition)

    def sample(
        self,
        n: int,
        seed: Any = None,
        temperature: float = 1.0,
        condition: Any = None,
    ) -> tf.Tensor:
        """Draws samples `[n, *event]`.

        Args:
            n: Number of samples.
            seed: None, an integer or a pair of integers; equal seeds, equal samples.
            temperature: Factor on the spread of the latents; 1 is the distribution.
            condition: For a conditional flow, its conditions; samples then have the
                shape `[n, *batch, *event]`.

        Returns:
            The samples.
        """
        return sampling.sample(self._distribution, n, seed, temperature, condition)

    def summary(self, print_fn: Any = None, **_: Any) -> None:
        """Prints the bijectors, from the data to the latents, and their weights.

        Args:
            print_fn: Called with the table's text; None prints to the terminal.
            **_: Other arguments of `keras.Model.summary` are accepted and ignored.
        """
        summary_table(self._distribution, self.name, print_fn)

    def _check_event(self, x: Any) -> None:
        check_event(x, self.event_shape, self._distribution.name)

    def get_config(self) -> dict[str, Any]:
        """Describes the distribution, without its weights."""
        return {
            "distribution": serialization.serialize(self._distribution),
            "name": self.name,
            "trainable": self.trainable,
            "lanes": self._lanes,
            **self.scorer_config(),
        }

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: Any = None
    ) -> FlowModel:
        """Builds the model that `get_config` described, with fresh weights."""
        config = dict(config)
        trainable = config.pop("trainable", True)
        scorer = config.pop("anomaly_scorer", None)
        with keras.saving.custom_object_scope(custom_objects or {}):
            config["distribution"] = serialization.deserialize(config["distribution"])
            model = cls(**config)
            model.restore_scorer(scorer)
        model.trainable = trainable
        return model


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
