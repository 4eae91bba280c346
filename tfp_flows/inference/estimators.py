"""What posteriors and likelihoods share: prior, pairs, rounds, and their files."""

from __future__ import annotations

import os
import reprlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows.inference.density import ConditionalDensity, Regression, Scaling
from tfp_flows.inference.surrogate import unpacking
from tfp_flows.internal.arguments import (
    Arrays,
    Config,
    Seed,
    TensorLike,
    check_dense,
    check_event,
    checked_integer,
    invalid,
)
from tfp_flows.internal.compat import coerced
from tfp_flows.internal.seeds import stateless_seed
from tfp_flows.saving.files import load_archive, reading, save_model, written_by
from tfp_flows.training.model import FlowModel

tfb, tfd = tfp.bijectors, tfp.distributions

# Parameters with a leading axis to data with that axis.
Simulator = Callable[[Arrays], TensorLike]
SUPPORT = "support"


class Estimator:
    """What `NeuralPosterior` and `NeuralLikelihood` share: a prior, a density, data."""

    _given = "prior"  # the argument by which a user gives the prior

    def __init__(self, prior: tfd.Distribution, density: ConditionalDensity) -> None:
        batch = prior.batch_shape
        if isinstance(batch, tf.TensorShape) and batch.rank:
            must = "have no batch shape, as `tfd.Independent` makes events of it"
            raise invalid("prior", must, batch)
        self.prior = prior
        self._unpack, self._size = _whitening(prior, self._given)
        self._density = density
        self._scaling: Scaling | None = None

    @property
    def models(self) -> list[FlowModel]:
        """The trained flows, of standardized values."""
        return self._density.models

    def save(self, path: str | os.PathLike) -> None:
        """Writes what was trained to a `.keras` archive: all but the prior.

        `load` reads it into an estimator that was made with the same prior.
        """
        arrays = {SUPPORT: self._support()}
        for part in (self._density.regression, self._scaling):
            if part is not None:
                kind, found = type(part).__name__, vars(part).items()
                arrays |= {f"{kind}.{k}": v for k, v in found if v is not None}
        kind = type(self).__name__
        save_estimator(path, SavedEstimator(self.models, arrays, kind))

    def load(self, path: str | os.PathLike) -> None:
        """Reads what `save` wrote; a prior of another support is refused."""
        held = load_estimator(path, type(self).__name__, self._support())
        parts: dict[str, dict[str, np.ndarray]] = {"Regression": {}, "Scaling": {}}
        for name, array in held.arrays.items():
            part, field = name.split(".")
            parts[part][field] = array
        self._density.loaded(held.flows, Regression(**parts["Regression"]))
        self._scaling = Scaling(**parts["Scaling"]) if parts["Scaling"] else None

    def _support(self) -> np.ndarray:
        """Returns parameters that tell the supports of priors apart."""
        u = tf.cast(
            tf.linspace(-1.0, 1.0, self._size), tf.nest.flatten(self.prior.dtype)[0]
        )
        values = tf.nest.flatten(self._unpack.forward(u))
        return np.concatenate([np.ravel(v) for v in values])

    def _pairs(self, theta: Arrays, x: TensorLike) -> tuple[np.ndarray, np.ndarray]:
        """Returns unconstrained parameters `[n, d]` and data, checked."""
        theta = self._parameters(theta)
        u = np.asarray(self._unpack.inverse(theta))
        u = _from_edges(u, theta, self.prior)
        u = _finite("theta", u, "lie within the prior's support")
        x = _finite("x", _data(x), "be finite")
        if len(u) != len(x):
            raise invalid("x", f"have {len(u)} rows, as `theta`", x)
        return u, x

    def _parameters(self, theta: Arrays) -> Arrays:
        """Returns parameters in the prior's structure and dtypes."""
        dtypes, shapes = self.prior.dtype, self.prior.event_shape

        def cast(dtype: tf.DType, shape: tf.TensorShape, part: TensorLike) -> tf.Tensor:
            # Lists of numbers would be tensors of float32 first.
            part = part if tf.is_tensor(part) else np.asarray(part)
            check_dense(part, "theta")
            check_event(part, shape, "the prior", "theta")
            return tf.cast(part, dtype)

        try:
            theta = coerced(dtypes, theta)
        except (TypeError, ValueError) as e:
            must = f"have the prior's structure, {dtypes}"
            raise invalid("theta", must, got=reprlib.repr(theta)) from e
        return keras.tree.map_structure_up_to(dtypes, cast, dtypes, shapes, theta)

    def _scaled(self, x: np.ndarray) -> np.ndarray:
        return x if self._scaling is None else self._scaling(x)

    def fit_rounds(
        self,
        simulator: Simulator,
        x: TensorLike,
        *,
        rounds: int = 5,
        simulations: int = 1000,
        seed: Seed = 0,
        **kwargs: Any,
    ) -> list[int]:
        """Trains in rounds on what matters for one observation.

        The first round draws parameters from the prior, each later one where the
        present posterior given `x` has mass; it trains on the pairs of all rounds.

        Args:
            simulator: From parameters `[n, ...]` to data `[n, *shape]`.
            x: The observation, `[*shape]`.
            rounds: Number of rounds.
            simulations: New pairs of each round.
            seed: Integer from which the draws follow.
            **kwargs: Further arguments of `fit`.

        Returns:
            How many draws each round took to choose from.
        """
        checked_integer("rounds", rounds)
        checked_integer("simulations", simulations)
        seeds = tfp.random.split_seed(stateless_seed(seed), n=rounds)
        thetas: list[Arrays] = []
        data: list[np.ndarray] = []
        taken = []
        for index, now in enumerate(seeds):
            theta, drawn = (
                self._proposed(x, simulations, now)
                if index
                else (self.prior.sample(simulations, seed=now), simulations)
            )
            thetas.append(theta)
            data.append(_data(simulator(theta)))
            taken.append(drawn)
            together = tf.nest.map_structure(lambda *v: tf.concat(v, 0), *thetas)
            self.fit(together, np.concatenate(data), again=index > 0, **kwargs)
        return taken

    def fit(self, theta: Arrays, x: TensorLike, **kwargs: Any) -> Any:
        """Trains on pairs."""
        raise NotImplementedError

    def _proposed(self, x: TensorLike, n: int, seed: tf.Tensor) -> tuple[Arrays, int]:
        """Returns parameters for the next round, and how many were drawn for them."""
        raise NotImplementedError


@keras.saving.register_keras_serializable(package="tfp_flows")
class SavedEstimator(keras.Model):
    """A Keras model that holds an estimator's flows and arrays, and does nothing else.

    The arrays stand in the configuration: each is as exact as its dtype.
    """

    def __init__(
        self,
        models: Sequence[FlowModel],
        arrays: Mapping[str, np.ndarray],
        kind: str,
        **kwargs: Any,
    ) -> None:
        super().__init__(autocast=False, **kwargs)
        self.flows, self.arrays, self.kind = list(models), dict(arrays), kind
        self.built = True

    def get_config(self) -> Config:
        """Describes flows and arrays."""
        return {
            "models": [keras.saving.serialize_keras_object(f) for f in self.flows],
            "arrays": {
                name: {"dtype": str(array.dtype), "values": array.tolist()}
                for name, array in self.arrays.items()
            },
            "kind": self.kind,
            "name": self.name,
            **written_by(),
        }

    @classmethod
    def from_config(
        cls, config: Config, custom_objects: Config | None = None
    ) -> SavedEstimator:
        """Builds the model that `get_config` described, with fresh weights."""
        with reading(config), keras.saving.custom_object_scope(custom_objects or {}):
            models = map(keras.saving.deserialize_keras_object, config["models"])
            arrays = {
                name: np.asarray(array["values"], array["dtype"])
                for name, array in config["arrays"].items()
            }
            return cls(list(models), arrays, config["kind"], name=config["name"])


def save_estimator(path: str | os.PathLike, saved: SavedEstimator) -> None:
    """Writes flows and arrays to a `.keras` archive, by an atomic write."""
    if not saved.flows:
        raise ValueError(
            "The estimator must be trained before it is saved: call `fit(theta, x)`. "
            "Received: no training"
        )
    save_model(saved, path)


def load_estimator(
    path: str | os.PathLike, kind: str, support: np.ndarray
) -> SavedEstimator:
    """Reads flows and arrays; refuses those of another class or support."""
    held = load_archive(path)
    if not isinstance(held, SavedEstimator) or held.kind != kind:
        found = getattr(held, "kind", type(held).__name__)
        raise invalid("path", f"name a file with a {kind}", got=f"a {found} in {path}")
    found = held.arrays.pop(SUPPORT)
    if found.shape != support.shape or not np.allclose(found, support):
        must = "name a file of an estimator whose prior had the same support"
        raise invalid("path", must, str(path))
    return held


def _whitening(prior: tfd.Distribution, name: str) -> tuple[tfb.Bijector, int]:
    """Returns the bijector from vectors to parameters, and the vectors' size.

    Uniform parameters become normal ones: the logits of a default bijector have long
    tails wherever a posterior meets an edge of the box.
    """
    unpack, size = unpacking(prior, name)
    kind = prior
    while isinstance(kind, tfd.Sample | tfd.Independent):
        kind = kind.distribution
    if isinstance(kind, tfd.Uniform) and len(prior.event_shape) == 1:
        unpack = tfp.experimental.bijectors.make_distribution_bijector(prior)
    return unpack, size


def _data(x: TensorLike) -> np.ndarray:
    """Returns data `[n, ...]` in float64: they are rounded once they are scaled."""
    x = np.asarray(x, np.float64)
    return x[:, np.newaxis] if x.ndim == 1 else x


def _from_edges(u: np.ndarray, theta: Arrays, prior: tfd.Distribution) -> np.ndarray:
    """Moves draws that were rounded to an edge of the support to the draws nearest it.

    Their unconstrained values are infinite, and so are those of draws outside, unless
    the prior's density is 0 there.
    """
    rows = np.asarray(np.isinf(u).any(axis=1) & ~np.isnan(u).any(axis=1))
    if not rows.any():
        return u
    density = getattr(prior, "unnormalized_log_prob", None) or prior.log_prob
    drawn = tf.nest.map_structure(lambda v: tf.boolean_mask(v, rows), theta)
    rows[rows] = np.asarray(density(drawn)) > -np.inf
    known = np.where(np.isfinite(u), u, 0.0)
    at_edge = np.where(u > 0.0, known.max(axis=0), known.min(axis=0))
    return np.where(rows[:, np.newaxis] & np.isinf(u), at_edge, u).astype(u.dtype)


def _finite(name: str, values: TensorLike, must: str) -> np.ndarray:
    array = np.asarray(values)
    bad = ~np.isfinite(array.reshape(len(array), -1)).all(axis=1)
    if bad.any():
        rows = f"{np.count_nonzero(bad)} of {len(bad)} rows are not"
        raise ValueError(f"Argument `{name}` must {must}. Received: {rows}")
    return array
