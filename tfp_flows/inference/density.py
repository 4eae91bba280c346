"""Conditional densities of vectors, with what their training takes."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows.architectures.autoregressive import maf
from tfp_flows.architectures.continuous import ffjord
from tfp_flows.architectures.coupling import spline_flow
from tfp_flows.bijectors.conditional import condition
from tfp_flows.internal.arguments import (
    TensorLike,
    checked_choice,
    checked_integer,
    checked_number,
    checked_shape,
)
from tfp_flows.training.flow_matching import FlowMatchingModel
from tfp_flows.training.model import FlowModel

tfb, tfd = tfp.bijectors, tfp.distributions

Flow = Callable[..., tfd.Distribution]
Summary = Callable[[], keras.Layer]
OBJECTIVES = ("likelihood", "flow_matching")

# Standardized values beyond it grow like logarithms: outliers of heavy tails.
_FAR = 4.0
_PENALTIES = np.logspace(-1.0, 5.0, 7)
# From so many pairs on, so many units in each hidden layer. Fewer pairs of many values
# are overfitted: their held-out log-density rises with a dropout, by 0.7 nats on slcp;
# that of two values falls.
_MANY_PAIRS, _MANY_VALUES, _DROPOUT = 30_000, 5, 0.1


def splines(event_shape: int | Sequence[int], **options: Any) -> tfd.Distribution:
    """Builds a flow of splines: in couplings for few values, else autoregressive."""
    if math.prod(checked_shape("event_shape", event_shape)) < _MANY_VALUES:
        return spline_flow(event_shape, **options)
    return maf(event_shape, transform="spline", **options)


@dataclasses.dataclass
class Scaling:
    """Columns of data in a form in which networks see them well, one to one.

        z = (g(x) - mean g(x)) / std g(x),    y = z, or sign(z) (4 + log(|z| - 3))

    where `g(x) = log(x + more)` of columns in `logs` and `g(x) = x` of others; the
    second form of `y` is for `|z| > 4`.
    """

    logs: np.ndarray
    more: np.ndarray
    mean: np.ndarray
    scale: np.ndarray

    @classmethod
    def of(cls, x: np.ndarray) -> Scaling:
        """Fits it to `[n, k]`; logarithms of positive columns that are less skewed."""
        positive = np.where(x > 0.0, x, np.inf).min(axis=0)
        none = x.min(axis=0) > 0.0
        more = np.where(none | np.isinf(positive), 0.0, positive / 2.0)
        possible = (x.min(axis=0) >= 0.0) & (np.ptp(x, axis=0) > 0.0)
        as_logs = np.where(possible, x, 1.0) + more
        logs = possible & (_skewness(x) > _skewness(np.log(as_logs)))
        found = cls(logs, more, np.zeros(x.shape[1]), np.ones(x.shape[1]))
        values = found._curved(x)
        std = values.std(axis=0)
        scale = np.where(std > 0.0, std, 1.0)
        return dataclasses.replace(found, mean=values.mean(axis=0), scale=scale)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Returns scaled data, `[..., k]`."""
        z = (self._curved(x) - self.mean) / self.scale
        far = np.log1p(np.maximum(abs(z) - _FAR, 0.0))
        return np.clip(z, -_FAR, _FAR) + np.sign(z) * far

    def log_det(self, x: np.ndarray) -> np.ndarray:
        """Returns `log |dy/dx|`, `[...]`."""
        z = (self._curved(x) - self.mean) / self.scale
        each = -np.log(self.scale) - np.log1p(np.maximum(abs(z) - _FAR, 0.0))
        logs = np.log(np.where(self.logs, x + self.more, 1.0))
        return (each - logs).sum(axis=-1)

    def _curved(self, x: np.ndarray) -> np.ndarray:
        x = np.asarray(x, np.float64)
        inside = np.where(self.logs, np.maximum(x, 0.0) + self.more, 1.0)
        return np.where(self.logs, np.log(np.maximum(inside, 1e-30)), x)


def _skewness(x: np.ndarray) -> np.ndarray:
    std = x.std(axis=0)
    z = (x - x.mean(axis=0)) / np.where(std > 0.0, std, 1.0)
    return abs(np.mean(z**3, axis=0))


@dataclasses.dataclass
class Regression:
    """A ridge regression `c slope + offset`, and the deviations `scale` of its errors.

    Conditions that are not vectors have no slope.
    """

    offset: np.ndarray
    scale: np.ndarray
    slope: np.ndarray | None = None

    @classmethod
    def of(
        cls, y: np.ndarray, c: np.ndarray, train: np.ndarray, test: np.ndarray
    ) -> Regression:
        """Fits it to the rows `train`; the rows `test` choose the penalty."""
        offset, slope = y[train].mean(axis=0), None
        if c.ndim == 2:
            middle, width = c[train].mean(axis=0), c[train].std(axis=0)
            z = (c - middle) / np.where(width > 0.0, width, 1.0)
            target = y - offset
            square, cross = z[train].T @ z[train], z[train].T @ target[train]
            slopes = [
                np.linalg.solve(square + penalty * np.eye(len(square)), cross)
                for penalty in _PENALTIES
            ]
            errors = [np.square(target[test] - z[test] @ a).sum() for a in slopes]
            best = slopes[int(np.argmin(errors))]
            slope = (best.T / np.where(width > 0.0, width, 1.0)).T.astype(y.dtype)
            offset = (offset - middle @ slope).astype(y.dtype)
        found = cls(offset, np.ones_like(offset), slope)
        std = (y[train] - found(c[train]).numpy()).std(axis=0)
        scale = np.where(std > 0.0, std, 1.0).astype(y.dtype)
        return dataclasses.replace(found, scale=scale)

    def __call__(self, c: TensorLike) -> tf.Tensor:
        """Returns `c slope + offset`."""
        if self.slope is None:
            return tf.convert_to_tensor(self.offset)
        return tf.linalg.matvec(self.slope, c, transpose_a=True) + self.offset


@dataclasses.dataclass
class _Member:
    """A flow, what standardizes its conditions, and its variables when it was new."""

    model: FlowModel
    standardized: Any = None
    start: list[np.ndarray] = dataclasses.field(default_factory=list)

    @property
    def variables(self) -> list[keras.Variable]:
        """Variables of the model and of its optimizer."""
        return [*self.model.variables, *self.model.optimizer.variables]


class ConditionalDensity:
    """The density `q(y | c)` of vectors: a regression, and a flow of what it leaves.

        y = A c + b + s r,    r ~ flow(. | c)

    A and b are a ridge regression's, which is exact for linear Gaussian models and
    leaves to the flow what is not linear. Conditions that are not vectors have `A = 0`.
    """

    def __init__(
        self,
        *,
        flow: Flow | None = None,
        default: Flow = spline_flow,
        objective: str = "likelihood",
        summary: Summary | None = None,
        members: int = 1,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        checked_choice("objective", objective, OBJECTIVES)
        self._matching = objective == "flow_matching"
        self._own = flow is None and not self._matching
        self._make = flow or (ffjord if self._matching else default)
        self._summary, self._options = summary, dict(options or {})
        self._count = checked_integer("members", members)
        self.regression = Regression(np.zeros(()), np.ones(()))
        self._start([], ())

    def _start(self, members: list[_Member], made: tuple) -> None:
        """Takes other flows, made for `made`; nothing is traced of them yet."""
        self._members, self._made = members, made
        self._traced: dict[str, Any] = {}

    @property
    def models(self) -> list[FlowModel]:
        """The trained flows."""
        return [member.model for member in self._members]

    def fit(
        self,
        y: np.ndarray,
        c: np.ndarray,
        *,
        epochs: int = 500,
        batch_size: int | None = None,
        validation_split: float = 0.1,
        patience: int = 20,
        rate: float = 2e-3,
        seed: int = 0,
        again: bool = False,
        **kwargs: Any,
    ) -> list[keras.callbacks.History]:
        """Trains from the start until rows that are held out are not better explained.

        For the other arguments see `NeuralPosterior.fit`.

        Args:
            again: Whether the models of the call before start again, if new ones would
                be like them: what was traced of them stays, what was made of them
                changes.
        """
        checked_number("validation_split", validation_split, above=0.0, below=1.0)
        order = np.random.default_rng(seed).permutation(len(y))
        held = max(1, round(validation_split * len(y)))
        train, test = order[held:], order[:held]
        batch_size = batch_size or int(np.clip(len(train) // 50, 32, 512))
        self.regression = Regression.of(y, c, train, test)
        rest = (y - self.regression(c).numpy()) / self.regression.scale
        self._dtype = y.dtype.name
        many = len(train) >= _MANY_PAIRS
        made = (y.shape[-1], self._dtype, c.shape[1:], many, rate, seed)
        if not again or made != self._made:
            self._start([], made)
        histories, given = [], kwargs.pop("callbacks", [])
        for member in range(self._count):
            keras.utils.set_random_seed(seed + member)
            model = self._at_start(member, c[train], y.shape[-1], len(train), rate)
            monitor = "val_flow_matching" if self._matching else "val_loss"
            held_out = (rest[test], c[test])
            callbacks = [
                *([_MatchingLoss(*held_out)] if self._matching else []),
                keras.callbacks.EarlyStopping(
                    monitor, patience=patience, mode="min", restore_best_weights=True
                ),
                keras.callbacks.ReduceLROnPlateau(
                    monitor, factor=0.5, mode="min", patience=max(1, patience // 3)
                ),
            ]
            histories.append(
                model.fit(
                    rest[train],
                    c[train],
                    epochs=epochs,
                    batch_size=batch_size,
                    validation_data=None if self._matching else held_out,
                    callbacks=keras.tree.flatten([*callbacks, given]),
                    **kwargs,
                )
            )
        return histories

    def _at_start(
        self, member: int, c: np.ndarray, size: int, pairs: int, rate: float
    ) -> FlowModel:
        """Returns a new model, compiled, or that of before as it was when new."""
        if member == len(self._members):
            # Weights, where a `Normalization` would be constants in what was traced.
            layer = keras.layers.BatchNormalization(
                center=False,
                scale=False,
                epsilon=0.0,
                trainable=False,
                dtype=self._dtype,
            )
            model = self._model(layer, c.shape[1:], size, pairs)
            model.compile(keras.optimizers.Adam(rate, clipnorm=5.0))
            model.optimizer.build(model.trainable_variables)
            new = _Member(model, layer)
            new.start = [v.numpy() for v in new.variables]
            self._members.append(new)
        known = self._members[member]
        for variable, value in zip(known.variables, known.start, strict=True):
            variable.assign(value)
        axes = tuple(range(c.ndim - 1))
        variance = c.var(axis=axes)
        known.standardized.moving_mean.assign(c.mean(axis=axes))
        positive = np.where(variance > 0.0, variance, 1.0)
        known.standardized.moving_variance.assign(positive)
        return known.model

    def _model(
        self, standardized: keras.Layer, shape: tuple[int, ...], size: int, pairs: int
    ) -> FlowModel:
        summary = [] if self._summary is None else [self._summary()]
        given = keras.Input(shape, dtype=self._dtype)
        encoder = keras.Sequential([given, standardized, *summary])
        many = pairs >= _MANY_PAIRS
        units = 128 if many else 64
        defaults: dict[str, Any] = {"steps": 5, "hidden_units": (units, units)}
        if self._own and not many and size >= _MANY_VALUES:
            defaults["dropout"] = _DROPOUT
        if self._matching:
            defaults = {"hidden_units": (2 * units,) * 3, "activation": "silu"}
        if self._dtype != keras.config.floatx():
            defaults["dtype"] = self._dtype
        flow = self._make(
            (size,),
            condition_shape=shape,
            encoder=encoder,
            **{**defaults, **self._options},
        )
        return FlowMatchingModel(flow, draws=4) if self._matching else FlowModel(flow)

    def log_prob(self, y: tf.Tensor, c: tf.Tensor) -> tf.Tensor:
        """Returns `log q(y | c)`, compiled once for all that is trained again."""
        return self.traced(self._log_prob)(y, c, vars(self.regression))

    def _log_prob(
        self, y: tf.Tensor, c: tf.Tensor, fitted: dict[str, tf.Tensor]
    ) -> tf.Tensor:
        return self(c, Regression(**fitted)).log_prob(y)

    def traced(self, function: Callable) -> Callable:
        """Returns a function of these flows, compiled once for as long as they stay.

        What changes without new flows, the regression, must be among its arguments.
        """
        if (name := function.__name__) not in self._traced:
            self._traced[name] = tf.function(
                function, autograph=False, reduce_retracing=True
            )
        return self._traced[name]

    def loaded(self, models: list[FlowModel], regression: Regression) -> None:
        """Takes flows and regression from a file."""
        self._start([_Member(model) for model in models], ())
        self._count, self.regression = len(models), regression

    @property
    def condition_shape(self) -> tuple[int, ...]:
        """The shape of one condition."""
        if not self.models:
            raise ValueError(
                "The estimator must be trained before it is asked: call "
                "`fit(theta, x)`. Received: no training"
            )
        return tuple(self.models[0].condition_shape or ())

    def __call__(
        self, c: TensorLike, regression: Regression | None = None
    ) -> tfd.Distribution:
        """Returns `q(. | c)`, of batch shape `c`'s.

        Args:
            regression: The fitted one, as arguments of what is traced; None for its
                values now.
        """
        shape, regression = self.condition_shape, regression or self.regression
        c = tf.convert_to_tensor(c)
        after = [tfb.Shift(regression(c)), tfb.Scale(regression.scale)]
        members = []
        for model in self.models:
            flow = condition(model.distribution, c)
            inner = getattr(flow, "bijector", None)
            base = flow if inner is None else flow.distribution
            chain = tfb.Chain(after if inner is None else [*after, inner])
            members.append(tfd.TransformedDistribution(base, chain))
        if len(members) == 1:
            return members[0]
        batch = tf.shape(c)[: c.shape.ndims - len(shape)]
        logits = tf.zeros(tf.concat([batch, [len(members)]], 0), c.dtype)
        return tfd.Mixture(tfd.Categorical(logits=logits), members)


class _MatchingLoss(keras.callbacks.Callback):
    """Adds the flow-matching loss of rows held out: their likelihood takes an ODE."""

    def __init__(self, y: np.ndarray, c: np.ndarray, repeats: int = 8) -> None:
        super().__init__()
        self._rows = [tf.constant(np.repeat(v, repeats, axis=0)) for v in (y, c)]

    def on_train_begin(self, logs: Any = None) -> None:
        model: Any = self.model
        self._loss = tf.function(model.matching_loss, autograph=False)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        logs["val_flow_matching"] = float(tf.reduce_mean(self._loss(*self._rows)))
