"""`FlowMatchingModel`: trains a continuous flow without solving its equation."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf
import tensorflow_probability as tfp
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

from tfp_flows.bijectors import chain
from tfp_flows.bijectors.conditional import EncodedCondition
from tfp_flows.bijectors.continuous import ContinuousFlow
from tfp_flows.bijectors.tree import bijectors_in
from tfp_flows.internal.arguments import (
    Arrays,
    Condition,
    Config,
    TensorLike,
    checked_choice,
    checked_integer,
    checked_number,
    invalid,
)
from tfp_flows.internal.compat import Chain
from tfp_flows.training.data import in_shards, split_inputs
from tfp_flows.training.model import FlowModel

_NAME = "flow_matching"
TIMES = ("uniform", "late")
# The fractional parts of its multiples fill [0, 1) evenly, however many there are.
_GOLDEN = (5.0**0.5 - 1.0) / 2.0
# Late times have a uniform log(1 + _LATE - t).
_LATE = 0.01


@keras.saving.register_keras_serializable(package="tfp_flows")
class FlowMatchingModel(FlowModel):
    """A `FlowModel` of which `fit` minimizes the flow-matching loss.

    The velocity `v` of the flow is regressed on straight paths from latents `x_0`,
    drawn from the base distribution, to data `x_1`:

        x_t = (1 - (1 - sigma_min) t) x_0 + t x_1,    t in [0, 1]
        loss = mean |v(t, x_t) - (x_1 - (1 - sigma_min) x_0)|^2

    (the conditional optimal-transport paths of flow matching). No equation is solved
    while training, and no derivative of the network taken, so an example can have
    several times and latents in a step: `draws`. `times` gives their density:

    * `"uniform"`: all times count alike, as in the paper;
    * `"late"`: `log(1.01 - t)` is uniform, so half of the times lie in the last tenth
      of the way, where directions are squeezed in which data hardly vary: for tables
      whose columns nearly determine each other.

    The times of one batch lie evenly in it, which takes noise out of the gradients.
    `evaluate`, `predict` and `sample` are those of a `FlowModel`: `nll` and
    `bits_per_dim` stay likelihoods to the accuracy of the flow's solver.

    The distribution's bijector is a `ContinuousFlow`, or a chain with exactly one.
    Bijectors on the data's side of it, such as `tfpf.logit`, are applied to the data
    first; they get no gradient, so put none there that has to learn.

    Args:
        distribution: A flow with exactly one `ContinuousFlow`, such as
            `tfpf.ffjord(...)`.
        sigma_min: Width of the paths' end around a data point, in [0, 1).
        seed: Integer from which the training noise follows; None for any.

    Reference: Lipman, Chen, Ben-Hamu, Nickel, Le: Flow Matching for Generative
    Modeling, 2022, arXiv:2210.02747.

    Example:
        >>> import numpy as np, tfp_flows as tfpf
        >>> model = FlowMatchingModel(tfpf.ffjord((2,), hidden_units=(16,)))
        >>> model.compile(optimizer="adam")
        >>> x = np.random.default_rng(0).normal(size=(64, 2)).astype("float32")
        >>> sorted(model.fit(x, verbose=0).history)
        ['flow_matching', 'loss']
    """

    def __init__(
        self,
        distribution: tfd.Distribution,
        sigma_min: float = 0.0,
        seed: int | None = None,
        *,
        draws: int = 1,
        times: str = "uniform",
        **kwargs: Any,
    ) -> None:
        checked_number("sigma_min", sigma_min, minimum=0.0, below=1.0)
        super().__init__(distribution, **kwargs)
        self._sigma_min = float(sigma_min)
        self._draws = checked_integer("draws", draws)
        self._times = checked_choice("times", times, TIMES)
        self._data_side, self._flow, self._latent_side = _around_the_flow(distribution)
        self._encoding = _encoding(distribution)
        self._noise = keras.random.SeedGenerator(seed)
        self._seed = seed
        self._matching = keras.metrics.Mean(name=_NAME)

    def call(self, inputs: Arrays, training: bool | None = None) -> Arrays:
        """Returns `log_prob`; in training, a dictionary with each example's loss."""
        if not training:
            return super().call(inputs)
        x, condition = self._checked(*split_inputs(inputs))
        return {_NAME: in_shards(self.matching_loss, self._shards)(x, condition)}

    def matching_loss(self, x: tf.Tensor, condition: Condition = None) -> tf.Tensor:
        """Draws times and latents for data; returns squared errors `[n]`."""
        if self._encoding is not None:
            condition = self._encoding.encode(condition)
        x = tf.cast(x, self._distribution.dtype)
        x_1 = _through(self._data_side, x, len(self.event_shape), condition)
        x_1, condition = self._repeated(x_1), self._repeated(condition)
        n = tf.shape(x_1)[0]
        seeds = tfp.random.split_seed(tf.cast(self._noise.next(), tf.int32), 2)
        x_0 = self._latents(n, seeds[0], condition)
        t = tf.cast(self._times_of(n, seeds[1]), x_1.dtype)
        column = tf.reshape(t, [-1] + [1] * (x_1.shape.rank - 1))
        speed = 1.0 - self._sigma_min
        x_t = (1.0 - speed * column) * x_0 + column * x_1
        error = self._flow.velocity_at(t, x_t, condition) - (x_1 - speed * x_0)
        square = tf.reduce_sum(tf.square(error), axis=list(range(1, error.shape.rank)))
        return tf.reduce_mean(tf.reshape(square, [-1, self._draws]), axis=1)

    def _repeated(self, rows: Arrays) -> Arrays:
        if rows is None or self._draws == 1:
            return rows
        return tf.repeat(rows, self._draws, axis=0)

    def _times_of(self, n: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """Draws `n` times: each has the density asked for, together they lie evenly."""
        start = tf.random.stateless_uniform([], seed, dtype=tf.float64)
        u = tf.math.floormod(start + _GOLDEN * tf.cast(tf.range(n), tf.float64), 1.0)
        if self._times == "uniform":
            return u
        ratio = tf.constant(_LATE / (1.0 + _LATE), u.dtype)
        return (1.0 + _LATE) * (1.0 - tf.pow(ratio, u))

    def _latents(
        self, n: tf.Tensor, seed: tf.Tensor, condition: Condition
    ) -> tf.Tensor:
        """Draws latents and brings them to the flow's latent end."""
        base = self._distribution.distribution
        x_0, ndims = base.sample(n, seed=seed), base.event_shape.rank
        for part in reversed(self._latent_side):
            x_0, _ = chain.forward_and_log_det(part, x_0, ndims, condition)
            ndims = part.forward_event_ndims(ndims)
        return x_0

    def example_losses(self, y_pred: Arrays) -> tf.Tensor:
        """Returns the matching losses in training, else minus the likelihoods."""
        return y_pred[_NAME] if isinstance(y_pred, dict) else -y_pred

    def compute_metrics(
        self,
        x: Arrays,
        y: Arrays,
        y_pred: Arrays,
        sample_weight: TensorLike | None = None,
    ) -> dict[str, tf.Tensor]:
        """Returns `loss` and `flow_matching` in training, else the likelihood's."""
        if isinstance(y_pred, dict):
            self._matching.update_state(y_pred[_NAME], sample_weight=sample_weight)
            results = self.get_metrics_result()
            return {name: results[name] for name in ("loss", _NAME)}
        results = super().compute_metrics(x, y, y_pred, sample_weight)
        results.pop(_NAME)
        return results

    def described(self) -> Config:
        """Describes the constructor's arguments, without weights."""
        return {
            **super().described(),
            "sigma_min": self._sigma_min,
            "draws": self._draws,
            "times": self._times,
            "seed": self._seed,
        }


def _around_the_flow(distribution: tfd.Distribution) -> tuple:
    """Returns the bijectors on the data's side, the flow, the latent side."""
    bijector = getattr(distribution, "bijector", None)
    parts = _parts(bijector)
    places = [i for i, part in enumerate(parts) if isinstance(part, ContinuousFlow)]
    if len(places) != 1:
        must = "have exactly one `ContinuousFlow` in its chain"
        got = f"{len(places)} of them in {bijector!r}"
        raise invalid("distribution", must, got=got)
    (place,) = places
    return tuple(parts[:place]), parts[place], tuple(parts[place + 1 :])


def _encoding(distribution: tfd.Distribution) -> EncodedCondition | None:
    """Returns the part that encodes conditions, if there is one."""
    parts = bijectors_in(distribution)
    return next((part for part in parts if isinstance(part, EncodedCondition)), None)


def _parts(bijector: tfb.Bijector) -> list[tfb.Bijector]:
    if isinstance(bijector, Chain):
        return [inner for part in bijector.bijectors for inner in _parts(part)]
    if isinstance(bijector, EncodedCondition):
        return _parts(bijector.bijector)
    return [bijector]


def _through(
    parts: tuple[tfb.Bijector, ...],
    x: tf.Tensor,
    event_ndims: int,
    condition: Condition,
) -> tf.Tensor:
    for part in parts:
        x, _ = chain.inverse_and_log_det(part, x, event_ndims, condition)
        event_ndims = part.inverse_event_ndims(event_ndims)
    return tf.stop_gradient(x)
