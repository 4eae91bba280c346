"""Posteriors for any observation, trained on simulations: `amortize`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows.inference.density import (
    ConditionalDensity,
    Flow,
    Regression,
    Scaling,
    Summary,
)
from tfp_flows.inference.estimators import Estimator, Simulator
from tfp_flows.inference.surrogate import unpacking
from tfp_flows.internal import compat
from tfp_flows.internal.arguments import (
    Arrays,
    Seed,
    TensorLike,
    check_event,
    checked_instance,
    checked_integer,
    checked_number,
    invalid,
)
from tfp_flows.internal.seeds import stateless_seed

tfb, tfd = tfp.bijectors, tfp.distributions


class NeuralPosterior(Estimator):
    """The posterior of a model's parameters, `q(theta | x)`, for any observation `x`.

    Conditional flows of the unconstrained parameters `u`, `theta = unpack(u)`, are
    trained on pairs from the prior and the simulator,

        minimize  - mean log q(u_i | x_i),    x_i ~ p(x | theta_i),  theta_i ~ p(theta)

    whose minimum is the posterior. What the prior's support excludes no draw is: its
    default bijector makes a uniform prior's box, a positive scale, a simplex.

    A flow has the residuals of a linear regression of `u` on the data to model. With
    `members` above 1 the posterior is the mixture of as many flows, trained from
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
    Wildberger et al.: Flow matching for scalable simulation-based inference, 2023,
    arXiv:2305.17161.
    """

    def __init__(
        self,
        prior: tfd.Distribution,
        *,
        flow: Flow | None = None,
        objective: str = "likelihood",
        summary: Summary | None = None,
        members: int = 1,
        **options: Any,
    ) -> None:
        """Chooses the flow; it is built when `fit` sees the data.

        Args:
            prior: Distribution of the parameters: of vectors, or a joint one.
            flow: Architecture: `flow((d,), condition_shape=..., encoder=...)`, such as
                `tfpf.maf` with `transform="spline"`; None for `tfpf.spline_flow`, with
                a dropout of 0.1 from 5 parameters on and below 30,000 pairs, or
                `tfpf.ffjord` if that is trained by flow matching.
            objective: `"likelihood"` or `"flow_matching"`, see `FlowMatchingModel`.
            summary: Makes a Keras layer from standardized data to a vector of features,
                such as a convolutional or recurrent network; None for none.
            members: Number of flows.
            **options: Further arguments of `flow`, such as `steps`; width and depth
                follow from the number of pairs.
        """
        density = ConditionalDensity(
            flow=flow,
            objective=objective,
            summary=summary,
            members=members,
            options=options,
        )
        super().__init__(prior, density)

    def fit(
        self,
        theta: Arrays,
        x: TensorLike,
        **kwargs: Any,
    ) -> list[keras.callbacks.History]:
        """Trains on pairs, until those that are held out are not better explained.

        Args:
            theta: Parameters, draws of the prior's structure, `[n, ...]`.
            x: Data simulated from them, `[n, *shape]`.
            epochs: Most passes over the data, 500 by default.
            batch_size: None for a fiftieth of the pairs, from 32 to 512.
            validation_split: Share of the pairs that is held out, 0.1 by default.
            patience: Passes without an improvement after which training ends, 20.
            rate: First learning rate, 2e-3; it is halved after `patience / 3` such
                passes.
            seed: Integer from which weights and order follow, 0 by default.
            **kwargs: Further arguments of `FlowModel.fit`, such as `verbose`.

        Returns:
            What `fit` returned for each member.
        """
        u, x = self._pairs(theta, x)
        self._scaling = Scaling.of(x) if x.ndim == 2 else None
        return self._density.fit(u, self._scaled(x).astype(u.dtype), **kwargs)

    def __call__(self, x: TensorLike) -> tfd.TransformedDistribution:
        """Returns the posterior given an observation, over the prior's structure.

        Args:
            x: One observation `[*shape]`, or a batch of them, `[*batch, *shape]`. What
                `amortize` returns takes a dictionary of the observed parts, whose
                batches broadcast, or the value of the only one.
        """
        return self._posterior(self.unconstrained(self.encoded(x)))

    def encoded(self, x: TensorLike) -> TensorLike:
        """Returns an observation as the array that was trained on."""
        return x

    def sample(self, x: TensorLike, n: int, *, seed: Seed = 0) -> Arrays:
        """Draws from the posterior, as `self(x).sample(n)` does, compiled.

        The first call traces, for all observations of its shape; each takes some tenth
        of the time of the other way then.

        Args:
            x: What the posterior is given, see `__call__`.
            n: Number of draws.
            seed: Integer or pair of integers from which the draws follow.

        Returns:
            Draws of the prior's structure, `[n, *batch, ...]`.
        """
        draws = self._density.traced(self._draws)
        c, fitted = self._conditions(self.encoded(x)), vars(self._density.regression)
        n = tf.constant(checked_integer("n", n))
        return draws(c, c.shape.rank, fitted, n, tf.constant(stateless_seed(seed)))

    def _draws(
        self,
        c: tf.Tensor,
        rank: int,  # that TensorFlow would forget of two of them
        fitted: dict[str, Any],
        n: tf.Tensor,
        seed: tf.Tensor,
    ) -> Arrays:
        c.set_shape([None] * rank)
        flat = self._density(c, Regression(**fitted))
        return self._posterior(flat).sample(n, seed=seed)

    def _posterior(self, flat: tfd.Distribution) -> tfd.TransformedDistribution:
        unpack = self._unpack
        if not isinstance(flat, tfd.TransformedDistribution):  # a mixture
            return tfd.TransformedDistribution(flat, unpack, name="posterior")
        chain = tfb.Chain([unpack, flat.bijector])
        return tfd.TransformedDistribution(flat.distribution, chain, name="posterior")

    def unconstrained(self, x: TensorLike) -> tfd.Distribution:
        """Returns the posterior of the unconstrained parameters, vectors `[d]`."""
        return self._density(self._conditions(x))

    def _conditions(self, x: TensorLike) -> tf.Tensor:
        shape = self._density.condition_shape
        x = np.asarray(x, np.float64)
        if shape == (1,) and x.shape[-1:] != (1,):
            x = x[..., np.newaxis]
        ends = x.shape[max(x.ndim - len(shape), 0) :]
        if not tf.TensorShape(shape).is_compatible_with(ends):
            raise invalid("x", f"have shape [..., {', '.join(map(str, shape))}]", x)
        if not np.isfinite(x).all():
            raise invalid("x", "be finite", x)
        dtype = self.models[0].distribution.dtype.as_numpy_dtype
        return tf.constant(self._scaled(x).astype(dtype))

    def fit_rounds(
        self,
        simulator: Simulator,
        x: TensorLike,
        *,
        outside: float = 1e-4,
        **kwargs: Any,
    ) -> list[int]:
        """Trains on what matters for one observation (truncated sequential inference).

        Each round draws parameters from the prior where the present posterior given
        `x` has mass, simulates, and trains on the pairs of all rounds. The loss stays
        that of `fit`: on the truncated prior the posterior is the same within it.

        Args:
            simulator: From parameters `[n, ...]` to data `[n, *shape]`.
            x: The observation, `[*shape]`.
            outside: Share of the posterior that a truncation may lose.
            **kwargs: `rounds` (5), the first of which draws from the whole prior;
                `simulations` (1000), new pairs of each; `seed`; arguments of `fit`.

        Returns:
            How many draws of the prior each round took.

        Reference: Deistler, Goncalves, Macke: Truncated proposals for scalable and
        hassle-free simulation-based inference, 2022, arXiv:2210.04815.
        """
        checked_number("outside", outside, above=0.0, below=1.0)
        self._outside = outside
        return super().fit_rounds(simulator, x, **kwargs)

    def _proposed(self, x: TensorLike, n: int, seed: tf.Tensor) -> tuple[Arrays, int]:
        of_q, of_prior = tfp.random.split_seed(seed)
        c = self._conditions(x)
        drawn = tf.stop_gradient(self._density(c).sample(10_000, seed=of_q))
        least = np.quantile(self._density.log_prob(drawn, c), self._outside)
        kept: list[Arrays] = []
        count = total = 0
        while count < n:
            of_prior, now = tfp.random.split_seed(of_prior)
            theta = self.prior.sample(10_000, seed=now)
            inside = self._density.log_prob(self._unpack.inverse(theta), c) >= least
            total += 10_000
            kept.append(
                tf.nest.map_structure(lambda v, m=inside: tf.boolean_mask(v, m), theta)
            )
            count += int(tf.reduce_sum(tf.cast(inside, tf.int32)))
            if total >= _MOST_DRAWS and count < n:
                raise ValueError(
                    f"Argument `outside` must leave a part of the prior that draws "
                    f"meet: of {total} only {count} did. Received: "
                    f"outside={self._outside}"
                )
        theta = tf.nest.map_structure(lambda *v: tf.concat(v, 0)[:n], *kept)
        return theta, total


_MOST_DRAWS = 10_000_000  # of a prior, in one round


class AmortizedPosterior(NeuralPosterior):
    """The posterior of the latent parts of a joint distribution: see `amortize`."""

    _given = "joint"

    def __init__(
        self, joint: tfd.Distribution, observed: Sequence[str], **options: Any
    ) -> None:
        checked_instance(
            "joint",
            joint,
            tfd.JointDistribution,
            "a joint distribution, such as `tfd.JointDistributionNamed`",
        )
        parts = _named(joint, joint.sample(2, seed=(0, 0)))
        unknown = [name for name in observed if name not in parts]
        once = not isinstance(observed, str) and len(set(observed)) == len(observed)
        if unknown or not observed or not once or len(observed) == len(parts):
            must = f"list some, not all, of the parts {', '.join(parts)}, each once"
            raise invalid("observed", must, observed)
        self._joint = joint
        self._observed: list[str] = list(observed)
        first, second = (
            joint.experimental_pin(**{name: parts[name][k] for name in observed})
            for k in range(2)
        )
        super().__init__(first, **options)
        if _supports_differ(first, second):
            must = "leave the latent parts' support to latent parts alone"
            raise invalid("observed", must, observed)

    def simulate(self, n: int, seed: Seed = 0) -> tuple[Arrays, np.ndarray]:
        """Draws latent parts and data from the joint distribution, `[n, ...]`."""
        draws = self._joint.sample(n, seed=stateless_seed(seed))
        parts = _named(self._joint, draws)
        latent = {name: v for name, v in parts.items() if name not in self._observed}
        theta = latent
        if not isinstance(self.prior.dtype, Mapping):
            flat = list(latent.values())
            theta = tf.nest.pack_sequence_as(self.prior.dtype, flat)
        return theta, self.encoded(parts)

    def encoded(self, observed: Mapping[str, TensorLike] | TensorLike) -> np.ndarray:
        """Returns observed parts as one array: the only one, or all of them flat."""
        shapes = _named(self._joint, self._joint.event_shape)
        if not isinstance(observed, Mapping):
            if len(self._observed) > 1:
                size = sum(math.prod(shapes[name]) for name in self._observed)
                if np.shape(observed)[-1:] == (size,):  # as `simulate` gave it
                    return np.asarray(observed, np.float64)
                must = f"be a dictionary of {', '.join(self._observed)}"
                raise invalid("observed", must, observed)
            observed = {self._observed[0]: observed}
        missing = [name for name in self._observed if name not in observed]
        if missing:
            raise invalid("observed", f"have {', '.join(missing)}", list(observed))
        arrays = [np.asarray(observed[name], np.float64) for name in self._observed]
        events = [tuple(shapes[name]) for name in self._observed]
        for name, array, event in zip(self._observed, arrays, events, strict=True):
            check_event(array, event, "the joint distribution", name)
        if len(arrays) == 1 and events[0]:
            return arrays[0]
        flat = [
            array.reshape(*array.shape[: array.ndim - len(event)], math.prod(event))
            for array, event in zip(arrays, events, strict=True)
        ]
        try:
            batch = np.broadcast_shapes(*(part.shape[:-1] for part in flat))
        except ValueError as e:
            must = "have parts of batch shapes that broadcast"
            shapes = [array.shape for array in arrays]
            got = f"parts {', '.join(self._observed)} of shapes {shapes}"
            raise invalid("observed", must, got=got) from e
        wide = [np.broadcast_to(part, (*batch, part.shape[-1])) for part in flat]
        return np.concatenate(wide, axis=-1)


def amortize(
    joint: tfd.Distribution,
    observed: Sequence[str],
    *,
    simulations: int = 100_000,
    flow: Flow | None = None,
    objective: str = "likelihood",
    summary: Summary | None = None,
    members: int = 1,
    options: Mapping[str, Any] | None = None,
    seed: int = 0,
    **kwargs: Any,
) -> AmortizedPosterior:
    """Trains the posterior of a joint distribution's latent parts, for any observation.

    It draws from the joint distribution and fits a conditional flow of the latent parts
    given the observed ones: see `NeuralPosterior`.
    The support of a latent part may depend on other latent parts; one that depends on
    observed parts is refused.

    Args:
        joint: A `tfd.JointDistribution`, not pinned.
        observed: Names of the observed parts.
        simulations: Number of draws to train on.
        flow: Architecture, see `NeuralPosterior`.
        objective: `"likelihood"` or `"flow_matching"`.
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
        objective=objective,
        summary=summary,
        members=members,
        **(options or {}),
    )
    theta, x = made.simulate(checked_integer("simulations", simulations, 20), seed)
    made.fit(theta, x, seed=seed, **kwargs)
    return made


def _supports_differ(first: tfd.Distribution, second: tfd.Distribution) -> bool:
    """Whether a vector becomes different draws of two pinned distributions."""
    (one, size), (other, _) = unpacking(first), unpacking(second)
    dtype = tf.nest.flatten(first.dtype)[0]
    u = tf.constant(np.random.default_rng(0).normal(size=size), dtype)
    values = [
        tf.nest.flatten(unpack.forward(tf.identity(u))) for unpack in (one, other)
    ]
    return any(not np.allclose(a, b) for a, b in zip(*values, strict=True))


def _named(joint: tfd.Distribution, parts: Arrays) -> dict[str, Any]:
    """Returns the parts of a joint distribution by name."""
    if isinstance(parts, Mapping):
        return dict(parts)
    return dict(zip(compat.part_names(joint), parts, strict=True))
