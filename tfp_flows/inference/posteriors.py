"""Posteriors for any observation, trained on simulations: `amortize`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows.architectures.coupling import spline_flow
from tfp_flows.bijectors.conditional import condition
from tfp_flows.inference.surrogate import unpacking
from tfp_flows.internal import compat
from tfp_flows.internal.arguments import (
    Arrays,
    Seed,
    TensorLike,
    checked_instance,
    checked_integer,
    checked_number,
    invalid,
)
from tfp_flows.training.model import FlowModel

tfb, tfd = tfp.bijectors, tfp.distributions

# Draws a seed and parameters, with a leading axis, to data with that axis.
Simulator = Callable[..., TensorLike]


class NeuralPosterior:
    """The posterior of a model's parameters, `q(theta | x)`, for any observation `x`.

    Conditional flows of the unconstrained parameters `u`, `theta = unpack(u)`, are
    trained on pairs from the prior and the simulator,

        minimize  - mean log q(u_i | x_i),    x_i ~ p(x | theta_i),  theta_i ~ p(theta)

    whose minimum is the posterior. What the prior's support excludes no draw is: its
    default bijector makes a uniform prior's box, a positive scale, a simplex.

    With `members` above 1 the posterior is the mixture of as many flows, trained from
    different starts.

    Example:
        >>> import tfp_flows as tfpf
        >>> prior = tfd.Sample(tfd.Uniform(-1.0, 1.0), [2])
        >>> theta = prior.sample(200, seed=(0, 1))
        >>> x = theta + tfd.Normal(0.0, 0.1).sample([200, 2], seed=(0, 2))
        >>> posterior = tfpf.inference.NeuralPosterior(prior, steps=1)
        >>> _ = posterior.fit(theta, x, epochs=2, verbose=0)
        >>> posterior([0.2, -0.3]).sample(5).shape
        TensorShape([5, 2])

    Reference: Papamakarios, Murray: Fast epsilon-free inference of simulation models
    with Bayesian conditional density estimation, 2016, arXiv:1605.06376. Greenberg,
    Nonnenmacher, Macke: Automatic posterior transformation, 2019, arXiv:1905.07488.
    """

    def __init__(
        self,
        prior: tfd.Distribution,
        *,
        flow: Callable[..., tfd.Distribution] = spline_flow,
        summary: Callable[[], keras.Layer] | None = None,
        members: int = 1,
        **options: Any,
    ) -> None:
        """Chooses the flow; it is built when `fit` sees the data.

        Args:
            prior: Distribution of the parameters: of vectors, or a joint one.
            flow: Architecture: `flow((d,), condition_shape=..., encoder=...)`.
            summary: Makes a Keras layer from standardized data to a vector of features,
                such as a convolutional or recurrent network; None for none.
            members: Number of flows.
            **options: Further arguments of `flow`.
        """
        self.prior = prior
        self._unpack, self._size = unpacking(prior)
        self._make, self._summary = flow, summary
        self._members = checked_integer("members", members)
        self._options = {"steps": 5, "hidden_units": (64, 64), **options}
        self.models: list[FlowModel] = []

    def fit(
        self,
        theta: Arrays,
        x: TensorLike,
        *,
        epochs: int = 500,
        batch_size: int | None = None,
        validation_split: float = 0.1,
        patience: int = 20,
        rate: float = 1e-3,
        seed: int = 0,
        **kwargs: Any,
    ) -> list[keras.callbacks.History]:
        """Trains on pairs, until those that are held out are not better explained.

        Args:
            theta: Parameters, draws of the prior's structure, `[n, ...]`.
            x: Data simulated from them, `[n, *shape]`.
            epochs: Most passes over the data.
            batch_size: None for a fiftieth of the pairs, from 32 to 512.
            validation_split: Share of the pairs that is held out.
            patience: Passes without an improvement after which training ends.
            rate: First learning rate; it is halved after `patience / 3` such passes.
            seed: Integer from which weights and order follow.
            **kwargs: Further arguments of `FlowModel.fit`, such as `verbose`.

        Returns:
            What `fit` returned for each member.
        """
        u = _finite("theta", self._unpack.inverse(theta))
        x = _finite("x", _data(x))
        if len(u) != len(x):
            raise invalid("x", f"have {len(u)} rows, as `theta`", x)
        checked_number("validation_split", validation_split, above=0.0, below=1.0)
        order = np.random.default_rng(seed).permutation(len(u))
        held = max(1, round(validation_split * len(u)))
        train, test = order[held:], order[:held]
        batch_size = batch_size or int(np.clip(len(train) // 50, 32, 512))
        histories = []
        for member in range(self._members):
            keras.utils.set_random_seed(seed + member)
            if len(self.models) <= member:
                self.models.append(self._model(x[train]))
            model = self.models[member]
            model.compile(keras.optimizers.Adam(rate, clipnorm=5.0))
            callbacks = [
                keras.callbacks.EarlyStopping(
                    "val_loss", patience=patience, restore_best_weights=True
                ),
                keras.callbacks.ReduceLROnPlateau(
                    "val_loss", factor=0.5, patience=max(1, patience // 3)
                ),
            ]
            histories.append(
                model.fit(
                    u[train],
                    x[train],
                    epochs=epochs,
                    batch_size=batch_size,
                    validation_data=(u[test], x[test]),
                    callbacks=[*callbacks, *kwargs.pop("callbacks", [])],
                    **kwargs,
                )
            )
        return histories

    def _model(self, x: np.ndarray) -> FlowModel:
        """Builds a flow for data of this shape, which it standardizes."""
        standardized = keras.layers.Normalization(axis=-1)
        standardized.adapt(x)
        layers = (
            [standardized]
            if self._summary is None
            else [
                standardized,
                self._summary(),
            ]
        )
        encoder = keras.Sequential([keras.Input(x.shape[1:]), *layers])
        flow = self._make(
            (self._size,),
            condition_shape=x.shape[1:],
            encoder=encoder,
            **self._options,
        )
        return FlowModel(flow)

    def __call__(self, x: TensorLike) -> tfd.TransformedDistribution:
        """Returns the posterior given an observation, over the prior's structure.

        Args:
            x: One observation `[*shape]`, or a batch of them, `[*batch, *shape]`.
        """
        return self._posterior(x, self._unpack)

    def _posterior(
        self, x: TensorLike, unpack: tfb.Bijector
    ) -> tfd.TransformedDistribution:
        flat = self.unconstrained(x)
        inner = getattr(flat, "bijector", None)
        if inner is None or self._members > 1:
            return tfd.TransformedDistribution(flat, unpack, name="posterior")
        chain = tfb.Chain([unpack, inner])
        return tfd.TransformedDistribution(flat.distribution, chain, name="posterior")

    def unconstrained(self, x: TensorLike) -> tfd.Distribution:
        """Returns the posterior of the unconstrained parameters, vectors `[d]`."""
        if not self.models:
            raise ValueError(
                "The posterior must be trained before it is asked for: call "
                "`fit(theta, x)`. Received: no training"
            )
        x = np.asarray(x, self.models[0].distribution.dtype.as_numpy_dtype)
        shape = self.models[0].condition_shape
        if shape == (1,) and x.shape[-1:] != (1,):
            x = x[..., np.newaxis]
        members = [condition(model.distribution, x) for model in self.models]
        if len(members) == 1:
            return members[0]
        batch = x.shape[: x.ndim - len(shape)]
        equal = tfd.Categorical(logits=tf.zeros([*batch, len(members)], x.dtype))
        return tfd.Mixture(equal, members)

    def fit_rounds(
        self,
        simulator: Simulator,
        x: TensorLike,
        *,
        rounds: int = 5,
        simulations: int = 1000,
        outside: float = 1e-4,
        seed: Seed = 0,
        **kwargs: Any,
    ) -> list[int]:
        """Trains on what matters for one observation (truncated sequential inference).

        Each round draws parameters from the prior where the present posterior given
        `x` has mass, simulates, and trains on the pairs of all rounds. The loss stays
        that of `fit`: on the truncated prior the posterior is the same within it.

        Args:
            simulator: From parameters `[n, ...]` to data `[n, *shape]`.
            x: The observation, `[*shape]`.
            rounds: Number of rounds; the first draws from the whole prior.
            simulations: New pairs of each round.
            outside: Share of the posterior that a truncation may lose.
            seed: Integer from which the draws follow.
            **kwargs: Further arguments of `fit`.

        Returns:
            How many draws of the prior each round took.

        Reference: Deistler, Goncalves, Macke: Truncated proposals for scalable and
        hassle-free simulation-based inference, 2022, arXiv:2210.04815.
        """
        checked_integer("rounds", rounds)
        checked_integer("simulations", simulations)
        checked_number("outside", outside, above=0.0, below=1.0)
        seeds = tfp.random.split_seed(tfp.random.sanitize_seed(seed), n=rounds)
        thetas: list[Arrays] = []
        data: list[np.ndarray] = []
        taken = []
        for round_seed in seeds:
            theta, drawn = self._truncated(x, simulations, outside, round_seed)
            thetas.append(theta)
            data.append(_data(simulator(theta)))
            taken.append(drawn)
            together = tf.nest.map_structure(lambda *v: tf.concat(v, 0), *thetas)
            self.models = []
            self.fit(together, np.concatenate(data), **kwargs)
        return taken

    def _truncated(
        self, x: TensorLike, n: int, outside: float, seed: tf.Tensor
    ) -> tuple[Arrays, int]:
        """Draws from the prior where the posterior has mass; counts all draws."""
        of_q, of_prior = tfp.random.split_seed(seed)
        if not self.models:
            return self.prior.sample(n, seed=of_prior), n
        q = self.unconstrained(x)
        density = tf.function(q.log_prob, autograph=False, reduce_retracing=True)
        drawn = tf.stop_gradient(q.sample(10_000, seed=of_q))
        least = np.quantile(density(drawn), outside)
        kept: list[Arrays] = []
        count = total = 0
        while count < n:
            of_prior, now = tfp.random.split_seed(of_prior)
            theta = self.prior.sample(10_000, seed=now)
            inside = density(self._unpack.inverse(theta)) >= least
            total += 10_000
            kept.append(
                tf.nest.map_structure(lambda v, m=inside: tf.boolean_mask(v, m), theta)
            )
            count += int(tf.reduce_sum(tf.cast(inside, tf.int32)))
            if total >= _MOST_DRAWS and count < n:
                raise ValueError(
                    f"Argument `outside` must leave a part of the prior that draws "
                    f"meet: of {total} only {count} did. Received: outside={outside}"
                )
        theta = tf.nest.map_structure(lambda *v: tf.concat(v, 0)[:n], *kept)
        return theta, total


_MOST_DRAWS = 10_000_000  # of a prior, in one round


class AmortizedPosterior(NeuralPosterior):
    """The posterior of the latent parts of a joint distribution: see `amortize`."""

    def __init__(
        self, joint: tfd.Distribution, observed: Sequence[str], **options: Any
    ) -> None:
        checked_instance(
            "joint",
            joint,
            tfd.JointDistribution,
            "a joint distribution, such as `tfd.JointDistributionNamed`",
        )
        parts = _named(joint, joint.sample(1, seed=(0, 0)))
        unknown = [name for name in observed if name not in parts]
        if unknown or not observed or len(observed) == len(parts):
            must = f"name some, not all, of the parts {', '.join(parts)}"
            raise invalid("observed", must, observed)
        self._joint = joint
        self._observed: list[str] = list(observed)
        first = {name: parts[name][0] for name in observed}
        super().__init__(joint.experimental_pin(**first), **options)

    def simulate(self, n: int, seed: Seed = 0) -> tuple[Arrays, np.ndarray]:
        """Draws latent parts and data from the joint distribution, `[n, ...]`."""
        draws = self._joint.sample(n, seed=tfp.random.sanitize_seed(seed))
        parts = _named(self._joint, draws)
        latent = {name: v for name, v in parts.items() if name not in self._observed}
        theta = latent
        if not isinstance(self.prior.dtype, Mapping):
            flat = list(latent.values())
            theta = tf.nest.pack_sequence_as(self.prior.dtype, flat)
        return theta, self.encoded(parts)

    def encoded(self, observed: Mapping[str, TensorLike] | TensorLike) -> np.ndarray:
        """Returns observed parts as one array: the only one, or all of them flat."""
        if not isinstance(observed, Mapping):
            if len(self._observed) > 1:
                must = f"be a dictionary of {', '.join(self._observed)}"
                raise invalid("observed", must, observed)
            observed = {self._observed[0]: observed}
        shapes = _named(self._joint, self._joint.event_shape)
        missing = [name for name in self._observed if name not in observed]
        if missing:
            raise invalid("observed", f"have {', '.join(missing)}", list(observed))
        arrays = [np.asarray(observed[name], np.float32) for name in self._observed]
        if len(arrays) == 1 and len(shapes[self._observed[0]]):
            return arrays[0]
        flat = []
        for name, array in zip(self._observed, arrays, strict=True):
            batch = array.shape[: array.ndim - len(shapes[name])]
            flat.append(array.reshape(*batch, math.prod(shapes[name])))
        return np.concatenate(flat, axis=-1)

    def __call__(
        self, observed: Mapping[str, TensorLike] | TensorLike
    ) -> tfd.TransformedDistribution:
        """Returns the posterior of the latent parts given values of the observed ones.

        Args:
            observed: Dictionary of the observed parts, or the value of the only one.
        """
        return self._posterior(self.encoded(observed), self._unpack)


def amortize(
    joint: tfd.Distribution,
    observed: Sequence[str],
    *,
    simulations: int = 10_000,
    flow: Callable[..., tfd.Distribution] = spline_flow,
    summary: Callable[[], keras.Layer] | None = None,
    members: int = 1,
    options: Mapping[str, Any] | None = None,
    seed: int = 0,
    **kwargs: Any,
) -> AmortizedPosterior:
    """Trains the posterior of a joint distribution's latent parts, for any observation.

    It draws from the joint distribution and fits a conditional flow of the latent parts
    given the observed ones: see `NeuralPosterior`.
    The support of a latent part may depend on other latent parts, not on observed ones.

    Args:
        joint: A `tfd.JointDistribution`, not pinned.
        observed: Names of the observed parts.
        simulations: Number of draws to train on.
        flow: Architecture, see `NeuralPosterior`.
        summary: Makes a Keras layer from standardized data to features.
        members: Number of flows, of which the posterior is the mixture.
        options: Further arguments of `flow`, such as `{"steps": 8}`.
        seed: Integer from which draws and weights follow.
        **kwargs: Arguments of `NeuralPosterior.fit`, such as `epochs`.

    Returns:
        A function from observed values to a distribution of the latent parts, of their
        own structure and supports.

    Example:
        >>> import tfp_flows as tfpf
        >>> model = tfd.JointDistributionNamed(
        ...     {
        ...         "scale": tfd.LogNormal(0.0, 1.0),
        ...         "y": lambda scale: tfd.Sample(tfd.Normal(0.0, scale), [5]),
        ...     }
        ... )
        >>> posterior = tfpf.inference.amortize(
        ...     model, ["y"], simulations=200, options={"steps": 1}, epochs=2, verbose=0
        ... )
        >>> sorted(posterior({"y": [0.1, -2.0, 1.0, 0.3, 0.0]}).sample(7))
        ['scale']
    """
    made = AmortizedPosterior(
        joint,
        observed,
        flow=flow,
        summary=summary,
        members=members,
        **(options or {}),
    )
    theta, x = made.simulate(checked_integer("simulations", simulations, 20), seed)
    made.fit(theta, x, seed=seed, **kwargs)
    return made


def _named(joint: tfd.Distribution, parts: Arrays) -> dict[str, Any]:
    """Returns the parts of a joint distribution by name."""
    if isinstance(parts, Mapping):
        return dict(parts)
    return dict(zip(compat.part_names(joint), parts, strict=True))


def _data(x: TensorLike) -> np.ndarray:
    x = np.asarray(x)
    x = x.astype(np.float32) if x.dtype.kind in "iub" else x
    return x[:, np.newaxis] if x.ndim == 1 else x


def _finite(name: str, values: TensorLike) -> np.ndarray:
    array = np.asarray(values)
    bad = ~np.isfinite(array.reshape(len(array), -1)).all(axis=1)
    if bad.any():
        rows = f"{np.count_nonzero(bad)} of {len(bad)} rows are not"
        raise ValueError(f"Argument `{name}` must be finite. Received: {rows}")
    return array
