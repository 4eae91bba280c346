"""`FlowMatchingModel`: trains a continuous flow without solving its equation."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

from tfp_flows.bijectors import chain
from tfp_flows.bijectors.conditional import EncodedCondition
from tfp_flows.bijectors.conditional import condition as conditioned
from tfp_flows.bijectors.continuous import ContinuousFlow
from tfp_flows.bijectors.tree import bijectors_in
from tfp_flows.internal.arguments import (
    Arrays,
    Condition,
    Config,
    Seed,
    TensorLike,
    checked_choice,
    checked_integer,
    checked_number,
    invalid,
)
from tfp_flows.internal.batching import map_rows
from tfp_flows.internal.compat import Chain
from tfp_flows.internal.seeds import stateless_seed
from tfp_flows.training.data import (
    first_batch,
    in_shards,
    is_stream,
    named_arguments,
    split_inputs,
)
from tfp_flows.training.model import FlowModel
from tfp_flows.training.nonfinite import is_finite, not_finite_data, which_rows
from tfp_flows.training.pairing import PAIRINGS, paired

_NAME = "flow_matching"
TIMES = ("uniform", "late")
PATHS = ("straight", "variance_preserving")
# The fractional parts of its multiples fill [0, 1) evenly, however many there are.
_GOLDEN = (5.0**0.5 - 1.0) / 2.0
# Late times have a uniform log(1 + _LATE - t).
_LATE = 0.01


@keras.saving.register_keras_serializable(package="tfp_flows")
class FlowMatchingModel(FlowModel):
    """A `FlowModel` of which `fit` minimizes the flow-matching loss.

    The velocity `v` of the flow is regressed on paths from latents `x_0`, drawn from
    the base distribution, to data `x_1`:

        loss = mean |v(t, x_t) - dx_t/dt|^2,    t in [0, 1]
        x_t = (1 - (1 - sigma_min) t) x_0 + t x_1             path="straight"
        x_t = cos(pi t / 2) x_0 + sin(pi t / 2) x_1           "variance_preserving"

    No equation is solved while training, and no derivative of the network taken, so an
    example can have several times and latents in a step: `draws`.

    `pairing` says which latents of a batch go with which data. Straight flows, which
    a solver follows in few steps, come of all but the first:

    * `"independent"`: any with any;
    * `"optimal_transport"`: those whose distances have the least sum of squares; above
      1,000 rows as the next;
    * `"sinkhorn"`: nearly those, drawn from a transport plan with entropy, which XLA
      compiles;
    * given: `fit(pairs)`, with `pairs` of shape `[n, 2, *event]`, latent and data, such
      as those of `pairs()` (reflow).

    The latents that go with a condition `c` must stay draws of the base distribution.
    So pairs of unlike conditions cost more, `condition_weight` times the standardized
    square distance, and of other labels (integers) too much. The larger the weight, the
    smaller is the error of the conditional density, and the less straight its flow.

    `times` gives the density of the times:

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
        sigma_min: Width of a straight path's end around a data point, in [0, 1).
        seed: Integer from which the training noise follows; None for any.

    Reference: Lipman, Chen, Ben-Hamu, Nickel, Le: Flow Matching for Generative
    Modeling, 2022, arXiv:2210.02747. Albergo, Vanden-Eijnden: Building normalizing
    flows with stochastic interpolants, 2022, arXiv:2209.15571 (variance-preserving).
    Tong et al.: Improving and generalizing flow-based generative models with minibatch
    optimal transport, 2023, arXiv:2302.00482. Kerrigan, Migliorini, Smyth: Dynamic
    conditional optimal transport through simulation-free flows, 2024, arXiv:2404.04240.
    Liu, Gong, Liu: Flow straight and fast, 2022, arXiv:2209.03003 (reflow).

    Example:
        >>> import numpy as np, tfp_flows as tfpf
        >>> model = FlowMatchingModel(tfpf.ffjord((2,), hidden_units=(16,)))
        >>> model.compile(optimizer="adam")
        >>> x = np.random.default_rng(0).normal(size=(64, 2)).astype("float32")
        >>> sorted(model.fit(x, verbose=0).history)
        ['flow_matching', 'loss']
    """

    falling = (*FlowModel.falling, _NAME)

    def __init__(
        self,
        distribution: tfd.Distribution,
        sigma_min: float = 0.0,
        seed: int | None = None,
        *,
        draws: int = 1,
        times: str = "uniform",
        path: str = "straight",
        pairing: str = "independent",
        condition_weight: float = 100.0,
        **kwargs: Any,
    ) -> None:
        checked_number("sigma_min", sigma_min, minimum=0.0, below=1.0)
        checked_choice("path", path, PATHS)
        if sigma_min and path != "straight":
            raise invalid("sigma_min", f"be 0 for the path {path!r}", sigma_min)
        super().__init__(distribution, **kwargs)
        self._path = path
        self._pairing = checked_choice("pairing", pairing, PAIRINGS)
        self._weight = checked_number("condition_weight", condition_weight, minimum=0.0)
        self._on_pairs = False
        self.supports_jit = pairing != "optimal_transport"
        self._sigma_min = float(sigma_min)
        self._draws = checked_integer("draws", draws)
        self._times = checked_choice("times", times, TIMES)
        self._data_side, self._flow, self._latent_side = _around_the_flow(distribution)
        self._encoding = _encoding(distribution)
        self._noise = keras.random.SeedGenerator(seed)
        self._seed = seed
        self._matching = keras.metrics.Mean(name=_NAME)

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Configures training; see `FlowModel.compile`."""
        keras_s = {n: v for n, v in kwargs.items() if n != "shards"}
        given = named_arguments(keras.Model.compile, *args, **keras_s)
        if given.get("jit_compile") is True and not self.supports_jit:
            must = 'not be True with an exact pairing: choose `pairing="sinkhorn"`'
            raise invalid("jit_compile", must, True)
        super().compile(*args, **kwargs)

    def fit(
        self, x: Arrays = None, y: Arrays = None, *args: object, **kwargs: Any
    ) -> keras.callbacks.History:
        """Trains the model on data, or on pairs; see `FlowModel.fit`."""
        pairs = self._are_pairs(_first_of(x))
        if pairs != self._on_pairs:
            # Keras's function would be traced anew with no shapes at all.
            self.train_function, self._on_pairs = None, pairs
        return super().fit(x, y, *args, **kwargs)

    def adapt(self, data: Arrays, condition: TensorLike | None = None) -> None:
        """Initializes weights from data, or those of pairs; see `FlowModel.adapt`."""
        takes_condition = self.condition_shape is not None
        x, condition = first_batch(data, condition, takes_condition)
        super().adapt(x[:, 1] if self._are_pairs(x) else x, condition)

    def check(self, batch: Arrays) -> None:
        """Refuses data, pairs or conditions of another shape."""
        inputs, y, weight = keras.utils.unpack_x_y_sample_weight(batch)
        x, condition = split_inputs(inputs)
        if self._are_pairs(x):
            x = tf.TensorSpec((x.shape[0], *x.shape[2:]), x.dtype)
        super().check(((x, condition), y, weight))

    def _are_pairs(self, x: Arrays) -> bool:
        shape = tf.TensorShape(getattr(x, "shape", None))
        return shape.rank == len(self.event_shape) + 2 and shape[1] == 2

    def call(self, inputs: Arrays, training: bool | None = None) -> Arrays:
        """Returns `log_prob`; in training, a dictionary with each example's loss."""
        x, condition = split_inputs(inputs)
        latents = None
        if self._are_pairs(x):
            latents, x = tf.unstack(x, axis=1)
        if not training:
            return super().call(x if condition is None else (x, condition))
        x, condition = self._checked(x, condition)
        loss = in_shards(self.matching_loss, self._shards)
        return {_NAME: loss(x, condition, latents)}

    def matching_loss(
        self,
        x: tf.Tensor,
        condition: Condition = None,
        latents: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Draws times, and latents if none are given; returns squared errors `[n]`."""
        raw = self._repeated(condition)
        if condition is not None and self.condition_shape == ():
            raw = tf.cast(raw, tf.int32)  # labels
        if self._encoding is not None:
            condition = self._encoding.encode(condition)
        x = tf.cast(x, self._distribution.dtype)
        x_1, outside = _through(self._data_side, x, len(self.event_shape), condition)
        x_1, condition = self._repeated(x_1), self._repeated(condition)
        n = tf.shape(x_1)[0]
        seeds = tfp.random.split_seed(tf.cast(self._noise.next(), tf.int32), 3)
        if latents is None:
            x_0 = self._at_the_flow(self._base.sample(n, seed=seeds[0]), condition)
            x_0 = paired(self._pairing, x_0, x_1, raw, self._weight, seeds[2])
        else:
            z = tf.reshape(latents, [-1, *self._base.event_shape])
            x_0 = self._at_the_flow(self._repeated(tf.cast(z, x.dtype)), condition)
        t = tf.cast(self._times_of(n, seeds[1]), x_1.dtype)
        x_t, velocity = self._on_path(t, x_0, x_1)
        error = self._flow.velocity_at(t, x_t, condition) - velocity
        square = tf.reduce_sum(tf.square(error), axis=list(range(1, error.shape.rank)))
        loss = tf.reduce_mean(tf.reshape(square, [-1, self._draws]), axis=1)
        # No path leads there: as infinite as minus the log-density.
        return tf.where(outside, tf.constant(math.inf, loss.dtype), loss)

    def _on_path(
        self, t: tf.Tensor, x_0: tf.Tensor, x_1: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the points of paths at times `[n]`, and their velocities."""
        t = tf.reshape(t, [-1] + [1] * (x_1.shape.rank - 1))
        if self._path == "straight":
            speed = 1.0 - self._sigma_min
            return (1.0 - speed * t) * x_0 + t * x_1, x_1 - speed * x_0
        right = tf.constant(math.pi / 2.0, t.dtype)
        cos, sin = tf.cos(right * t), tf.sin(right * t)
        return cos * x_0 + sin * x_1, right * (cos * x_1 - sin * x_0)

    def pairs(
        self,
        n: int,
        seed: Seed = None,
        condition: TensorLike | None = None,
        batch_size: int = 1000,
    ) -> np.ndarray:
        """Draws latents and carries them through the flow, `[n, 2, *event]`.

        `fit` on them trains the flow, or another, to go straight from the one to the
        other: a reflow. As exact as the flow's solver.

        Args:
            n: Number of pairs.
            seed: As for `sample`.
            condition: A condition for each pair, `[n, *condition_shape]`; give the
                same to `fit`.
            batch_size: Number of pairs that are solved for at once.
        """
        n = checked_integer("n", n)
        shape = self.condition_shape
        expected = None if shape is None else (n, *shape)
        found = None if condition is None else np.shape(condition)
        if found != expected:
            must = "be None" if expected is None else f"have shape {expected}"
            got = "None" if found is None else f"shape {found}"
            raise invalid("condition", must, got=got)
        z = self._base.sample(n, seed=stateless_seed(seed))

        @tf.function(autograph=False, reduce_retracing=True)
        def carried(z: tf.Tensor, *c: tf.Tensor) -> tf.Tensor:
            flow = conditioned(self._distribution, *c) if c else self._distribution
            return flow.bijector.forward(z)

        arrays = [z] if condition is None else [z, tf.convert_to_tensor(condition)]
        x = map_rows(carried, *arrays, rows=batch_size)
        return np.stack([np.reshape(z, x.shape), x], axis=1)

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

    def _at_the_flow(self, z: tf.Tensor, condition: Condition) -> tf.Tensor:
        """Brings draws of the base distribution to the flow's latent end."""
        ndims = self._base.event_shape.rank
        for part in reversed(self._latent_side):
            z, _ = chain.forward_and_log_det(part, z, ndims, condition)
            ndims = part.forward_event_ndims(ndims)
        return z

    @property
    def _base(self) -> tfd.Distribution:
        return self._distribution.distribution

    def where_not_finite(self, *batch: tf.Tensor) -> str:
        """Says whether data, the way to the flow, or velocities are not finite."""
        x = tf.unstack(batch[0], axis=1)[1] if self._are_pairs(batch[0]) else batch[0]
        x = tf.cast(x, self._distribution.dtype)
        if not is_finite(x):
            return not_finite_data(x)
        condition = batch[1] if len(batch) > 1 else None
        if condition is not None and self._encoding is not None:
            condition = self._encoding.encode(condition)
        _, outside = _through(self._data_side, x, len(self.event_shape), condition)
        if tf.reduce_any(outside):
            return f"{which_rows(outside)}, lie outside of the support of the flow."
        return "the flow's velocities are too far from those of the paths."

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
            values, weight = self._that_count(y_pred[_NAME], y_pred, sample_weight)
            self._matching.update_state(values, sample_weight=weight)
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
            "path": self._path,
            "pairing": self._pairing,
            "condition_weight": self._weight,
            "seed": self._seed,
        }


def _first_of(x: Arrays) -> Arrays:
    """Returns the data, or what says their shape, of arrays or a dataset."""
    if isinstance(x, tf.data.Dataset):
        x = keras.utils.unpack_x_y_sample_weight(x.element_spec)[0]
    return None if is_stream(x) else split_inputs(x)[0]


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
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the flow's end of data, and which rows lie outside of the support."""
    outside = tf.zeros(tf.shape(x)[:1], tf.bool)
    for part in parts:
        x, log_det = chain.inverse_and_log_det(part, x, event_ndims, condition)
        outside |= tf.equal(log_det, -math.inf)
        event_ndims = part.inverse_event_ndims(event_ndims)
    return tf.stop_gradient(x), outside
