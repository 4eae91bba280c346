"""What every use of a flow asks: its distribution, latents, densities, samples."""

from __future__ import annotations

import numbers

import numpy as np
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tfp_flows.bijectors.conditional import condition as conditioned
from tfp_flows.distributions.supports import supported
from tfp_flows.distributions.surjections import Surjection
from tfp_flows.internal import compat
from tfp_flows.internal.arguments import Arrays, Seed, TensorLike, invalid
from tfp_flows.internal.seeds import stateless_seed


def distribution_of(
    model_or_distribution: object, name: str = "model_or_distribution"
) -> tfd.Distribution:
    """Returns the distribution of a model, or itself; else refuses argument `name`."""
    # First the distribution: a transformed one has a `distribution` too, its base.
    if isinstance(model_or_distribution, tfd.Distribution):
        return model_or_distribution
    found = getattr(model_or_distribution, "distribution", None)
    if not isinstance(found, tfd.Distribution):
        must = "be a `tfpf.FlowModel` or a `tfd.Distribution`"
        raise invalid(name, must, model_or_distribution, TypeError)
    return found


def latents_and_log_prob(
    distribution: tfd.Distribution,
    x: tf.Tensor,
    condition: TensorLike | None = None,
    seed: Seed = None,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns `(latent, log_prob)` of data `[*batch, *event]`, with one inverse.

    Without a bijector `x` is its own latent. What `Surjection` draws follows from the
    seed; without one it is fresh. Outside of the support, where the
    log-density is `-inf`, there is none: it is NaN. A conditional flow takes conditions
    `[*batch, *condition_shape]`.
    """
    if condition is not None:
        distribution = conditioned(distribution, condition)
    distribution = supported(distribution)
    # TFP's transformed distributions have no common public base class.
    if not hasattr(distribution, "bijector"):
        if seed is not None and isinstance(distribution, Surjection):
            return x, distribution.bound(x, seed=stateless_seed(seed))
        return x, distribution.log_prob(x)
    # First the latents: the log-density then finds them in TFP's cache.
    latent = distribution.bijector.inverse(x)
    density = distribution.log_prob(x)
    none = tf.equal(density, tf.cast(-np.inf, density.dtype))
    while none.shape.rank < latent.shape.rank:
        none = none[..., tf.newaxis]
    return tf.where(none, tf.cast(np.nan, latent.dtype), latent), density


def log_prob(
    distribution: tfd.Distribution, x: tf.Tensor, condition: TensorLike | None = None
) -> tf.Tensor:
    """Returns the log-density of data, given conditions where the flow takes them.

    That of a mixture is `log sum_k exp(log w_k + log p_k(x))`, where a component counts
    as 0 outside of its support.
    """
    if condition is not None:
        distribution = conditioned(distribution, condition)
    if isinstance(distribution, compat.Mixture):
        found = [log_prob(part, x) for part in distribution.components]
        return _mixed(distribution.cat, tf.stack(found, axis=-1))
    if isinstance(distribution, compat.MixtureSameFamily):
        axis = -1 - distribution.event_shape.rank
        parts = distribution.components_distribution
        found = log_prob(parts, tf.expand_dims(x, axis))
        return _mixed(distribution.mixture_distribution, found)
    return supported(distribution).log_prob(x)


def _mixed(weights: tfd.Categorical, found: tf.Tensor) -> tf.Tensor:
    """Returns the log-density of a mixture, from those `[..., k]` of its components."""
    # Without gradients of `inf - inf` where all components are outside.
    none = tf.reduce_all(tf.equal(found, -np.inf), axis=-1, keepdims=True)
    joint = tf.where(none, tf.zeros_like(found), found)
    joint += tf.math.log_softmax(weights.logits_parameter())
    whole = tf.reduce_logsumexp(joint, axis=-1)
    return tf.where(none[..., 0], tf.cast(-np.inf, whole.dtype), whole)


def sample(
    distribution: tfd.Distribution,
    n: int | tf.Tensor,
    seed: Seed = None,
    temperature: float | tf.Tensor = 1.0,
    condition: TensorLike | None = None,
) -> tf.Tensor:
    """Draws samples `[n, *batch, *event]`, with latents pulled towards their mean.

    A latent `z` of the base distribution becomes `mean + temperature (z - mean)` before
    it runs through the bijector. A temperature below 1 gives samples that are more
    likely and less varied (Glow, section 5). Equal seeds give equal samples; an integer
    `s` stands for the pair `[0, s]`. Conditions have the shape `[*batch, *condition]`.
    Without a finite mean of the base distribution the temperature must be 1.
    """
    if isinstance(n, int) and n < 0:
        raise invalid("n", "not be negative", n)
    known = tf.get_static_value(temperature)
    if isinstance(known, numbers.Real | np.ndarray) and not np.all(
        np.isfinite(known) & np.greater_equal(known, 0)
    ):
        raise invalid("temperature", "be finite and not negative", known)
    if condition is not None:
        distribution = conditioned(distribution, condition)
    bijector = getattr(distribution, "bijector", None)
    base = distribution if bijector is None else compat.broadcast_base(distribution)
    z = base.sample(n, seed=stateless_seed(seed))
    z = tempered(base, z, temperature)
    return z if bijector is None else bijector.forward(z)


def tempered(
    base: tfd.Distribution, z: Arrays, temperature: float | tf.Tensor
) -> Arrays:
    """Returns draws of a base distribution pulled towards its mean."""
    if isinstance(temperature, int | float) and temperature == 1:
        return z
    mean = mean_of(base)
    if mean is None:
        must = f"be 1, since the base distribution '{base.name}' has no finite mean"
        raise invalid("temperature", must, temperature)

    def pulled(mean: tf.Tensor, z: tf.Tensor) -> tf.Tensor:
        t = tf.cast(temperature, z.dtype)
        # At 1 what was drawn, to the bit, as far from the mean as it may be.
        return tf.where(tf.equal(t, 1.0), z, mean + t * (z - mean))

    return tf.nest.map_structure(pulled, mean, z)


def mean_of(base: tfd.Distribution) -> Arrays | None:
    """Returns the mean of a base distribution, None where it has no finite one."""
    try:
        mean = base.mean()
    except (NotImplementedError, ValueError):  # of a joint distribution's functions
        return None
    parts = tf.nest.flatten(mean)
    known = [value for value in map(tf.get_static_value, parts) if value is not None]
    return mean if all(np.isfinite(value).all() for value in known) else None
