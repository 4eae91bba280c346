"""`supported`: densities that are 0 outside of the support, where TFP's are not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows.bijectors import chain
from tfp_flows.bijectors.conditional import within_support
from tfp_flows.internal import compat

tfb, tfd = tfp.bijectors, tfp.distributions


def supported(distribution: tfd.Distribution) -> tfd.Distribution:
    """Returns a distribution whose `log_prob` is `-inf` outside of the support.

    TFP's is NaN there, as behind `tfb.Exp` for negative values or of `tfd.Gamma`, and
    of `tfd.Exponential` a number. It is looked for in containers of TFP.
    """
    return _rebuilt(distribution, _bounded, _within_range)


def forced(distribution: tfd.Distribution) -> tfd.Distribution:
    """Sets TFP's `force_probs_to_zero_outside_support` wherever it is not set.

    Training drives latents to where a density outside of the support is large.
    """
    return _rebuilt(distribution, _forced, lambda _: {})


def _rebuilt(
    distribution: tfd.Distribution,
    leaf: Callable[[tfd.Distribution], tfd.Distribution],
    around: Callable[[tfd.Distribution], dict[str, Any]],
) -> tfd.Distribution:
    """Puts what `leaf` returns in the place of the parts of TFP's containers."""
    # What a subclass of one's own overrides stays as it is.
    if not type(distribution).__module__.startswith("tensorflow_probability."):
        return distribution
    held = distribution.parameters
    names = [name for name in _PARTS if isinstance(held.get(name), _DISTRIBUTIONS)]
    if not names:
        return leaf(distribution)
    if not isinstance(distribution, compat.TRANSPARENT):
        return distribution

    def each(part: Any) -> Any:
        known = isinstance(part, tfd.Distribution)
        return _rebuilt(part, leaf, around) if known else part

    changed = around(distribution)
    for name in names:
        new = tf.nest.map_structure(each, held[name])
        both = zip(tf.nest.flatten(held[name]), tf.nest.flatten(new), strict=True)
        if any(old is not part for old, part in both):
            changed[name] = new
    return distribution.copy(**changed) if changed else distribution


# Names of parts, in the containers of TFP.
_PARTS = ("distribution", "distributions", "components", "components_distribution")
_DISTRIBUTIONS = (tfd.Distribution, list, tuple)


def _within_range(distribution: tfd.Distribution) -> dict[str, Any]:
    """Returns the bijector of a distribution anew, if one of TFP inside it may end."""
    bijector = getattr(distribution, "bijector", None)
    bounded = None if bijector is None else within_support(bijector)
    return {} if bounded is bijector else {"bijector": bounded}


def _forced(distribution: tfd.Distribution) -> tfd.Distribution:
    name = "force_probs_to_zero_outside_support"
    if distribution.dtype.is_integer or distribution.parameters.get(name, True):
        return distribution
    return distribution.copy(**{name: True})


# Whose density TFP has right everywhere; that of angles goes round.
_RIGHT = (
    *(tfd.Uniform, tfd.Triangular, tfd.Bates, tfd.ContinuousBernoulli, tfd.VonMises),
    *(tfd.TruncatedNormal, tfd.TruncatedCauchy, tfd.Pareto),
    *(tfd.HalfNormal, tfd.HalfCauchy, tfd.HalfStudentT),
)


def _bounded(distribution: tfd.Distribution) -> tfd.Distribution:
    shape = distribution.event_shape
    scalar = isinstance(shape, tf.TensorShape) and shape.rank == 0
    if not scalar or isinstance(distribution, _RIGHT):
        return distribution
    try:
        onto = distribution.experimental_default_event_space_bijector()
    except NotImplementedError:
        return distribution
    bends = onto is not None and chain.bends(onto)
    return _Bounded(distribution, onto) if bends else distribution


class _Bounded(tfd.Distribution):
    """The density of another distribution of single values, 0 outside of its support.

    The support is the range of an elementwise bijector; at its ends the density is the
    other's own, where it has one.
    """

    def __init__(self, inner: tfd.Distribution, onto: tfb.Bijector) -> None:
        super().__init__(
            dtype=inner.dtype,
            reparameterization_type=inner.reparameterization_type,
            validate_args=False,
            allow_nan_stats=True,
            parameters={},
            name=inner.name,
        )
        self._inner, self._onto = inner, onto

    def _log_prob(self, x: tf.Tensor) -> tf.Tensor:
        latent = self._onto.inverse(tf.stop_gradient(x))
        outside = tf.logical_and(tf.math.is_finite(x), tf.math.is_nan(latent))
        inside = tf.stop_gradient(self._onto.forward(tf.zeros_like(x)))
        density = self._inner.log_prob(tf.where(outside, inside, x))
        at_end = tf.logical_and(tf.math.is_finite(x), tf.math.is_inf(latent))
        none = outside | (at_end & tf.math.is_nan(density))
        return tf.where(none, tf.cast(-np.inf, density.dtype), density)

    def _sample_n(self, n: tf.Tensor, seed: Any = None) -> tf.Tensor:
        return self._inner.sample(n, seed=seed)  # `tfd.Blockwise` asks for shapes so

    def _event_shape(self) -> tf.TensorShape:
        return self._inner.event_shape

    def _event_shape_tensor(self) -> tf.Tensor:
        return self._inner.event_shape_tensor()

    def _batch_shape(self) -> tf.TensorShape:
        return self._inner.batch_shape

    def _batch_shape_tensor(self) -> tf.Tensor:
        return self._inner.batch_shape_tensor()
