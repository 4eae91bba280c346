"""Sampling with a seed, a temperature and a condition."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows.bijectors.conditional import condition as conditioned
from tfp_flows.internal.seeds import stateless_seed

tfb, tfd = tfp.bijectors, tfp.distributions


def sample(
    distribution: tfd.Distribution,
    n: Any,
    seed: Any = None,
    temperature: Any = 1.0,
    condition: Any = None,
) -> tf.Tensor:
    """Draws samples, with latents pulled towards their mean or pushed from it.

    A latent `z` of the base distribution becomes `mean + temperature (z - mean)`
    before it runs through the bijector. A temperature below 1 gives samples that
    are more likely and less varied (Glow, section 5).

    Args:
        distribution: A `tfd.TransformedDistribution`, or any distribution.
        n: Number of samples, an integer or a scalar tensor.
        seed: None, an integer, or a pair of integers. Equal seeds give equal
            samples; an integer `s` stands for the pair `[0, s]`.
        temperature: Factor on the spread of the latents, not negative.
        condition: For a conditional flow, its conditions `[*batch, *shape]`.

    Returns:
        Samples `[n, *batch, *event]`.

    Raises:
        ValueError: If the temperature is not 1 and the base distribution has no
            mean, or a static argument is out of range.
    """
    if isinstance(n, int) and n < 0:
        raise ValueError(f"Argument `n` must not be negative. Received: n={n}")
    if isinstance(temperature, int | float) and not temperature >= 0:
        raise ValueError(
            "Argument `temperature` must not be negative. "
            f"Received: temperature={temperature}"
        )
    if condition is not None:
        distribution = conditioned(distribution, condition)
    bijector = getattr(distribution, "bijector", None)
    if bijector is None:
        return _tempered(distribution, n, seed, temperature)
    base = distribution._maybe_broadcast_distribution_batch_shape()
    return bijector.forward(_tempered(base, n, seed, temperature))


def _tempered(base: tfd.Distribution, n: Any, seed: Any, temperature: Any) -> tf.Tensor:
    z = base.sample(n, seed=stateless_seed(seed))
    try:
        mean = base.mean()
    except NotImplementedError:
        if isinstance(temperature, int | float) and temperature == 1:
            return z
        raise ValueError(
            "Argument `temperature` must be 1, since the base distribution "
            f"'{base.name}' has no mean. Received: temperature={temperature}"
        ) from None
    return mean + tf.cast(temperature, z.dtype) * (z - mean)


def distribution_of(model_or_distribution: Any) -> tfd.Distribution:
    """Returns the distribution in a model such as `FlowModel`, or one itself.

    Raises:
        TypeError: If it is neither.
    """
    if isinstance(model_or_distribution, tfd.Distribution):
        return model_or_distribution
    found = getattr(model_or_distribution, "distribution", None)
    if not isinstance(found, tfd.Distribution):
        raise TypeError(
            "Argument `model_or_distribution` must be a `tfpf.FlowModel` or a TFP "
            f"distribution. Received: {model_or_distribution!r} of type "
            f"{type(model_or_distribution).__name__}"
        )
    return found
