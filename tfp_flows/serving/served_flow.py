"""`ServedFlow`: what an exported graph needs to know about a distribution."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows.bijectors.chain import condition_kwargs
from tfp_flows.bijectors.conditional import (
    condition_dtype,
    condition_shape,
    label_count,
)
from tfp_flows.training import sampling

tfd = tfp.distributions


class ServedFlow:
    """A distribution, seen from the server: tensors in, tensors out.

    `latent_shape` is the event shape of the base, which without a bijector is the
    distribution itself; `has_temperature` is false where the base has no mean to
    scale the draws about.

    Args:
        model_or_distribution: A `tfpf.FlowModel`, a `tfd.TransformedDistribution`,
            or any other `tfd.Distribution` over one floating point tensor.

    Raises:
        TypeError: If it is neither, or does not draw one floating point tensor.
        ValueError: If its event shape is not fixed, or it stands for a batch of
            distributions.
    """

    def __init__(self, model_or_distribution: Any) -> None:
        distribution = getattr(
            model_or_distribution, "distribution", model_or_distribution
        )
        # A TransformedDistribution has a `distribution` too: its base.
        if isinstance(model_or_distribution, tfd.Distribution):
            distribution = model_or_distribution
        _check_servable(distribution)
        self.distribution = distribution
        self.dtype: tf.DType = distribution.dtype
        self.event_shape = tuple(distribution.event_shape)
        # No `isinstance`: TFP makes a transformed distribution of another class where
        # the bijector is not a composite tensor.
        self.has_latent = hasattr(distribution, "bijector")
        self._base = distribution.distribution if self.has_latent else distribution
        self.latent_shape = tuple(self._base.event_shape)
        self.condition_shape: tuple[int, ...] | None = None
        self.condition_dtype: tf.DType = self.dtype
        self.labels: int | None = None
        if self.has_latent:
            self.condition_shape = condition_shape(distribution.bijector)
        if self.condition_shape is not None:
            self.condition_dtype = condition_dtype(distribution.bijector)
            self.labels = label_count(distribution.bijector)
        self.has_temperature = _has_mean(self._base)
        self._inverse = self._traced(self.trace_inverse, self.event_shape)
        self._forward = self._traced(self.trace_forward, self.latent_shape)

    @property
    def data_bijector(self) -> tfp.bijectors.Bijector | None:
        """What leads from the data to the latents, if it is a bijector."""
        return getattr(self.distribution, "bijector", None)

    @property
    def event_size(self) -> int:
        """Number of numbers in one row of data."""
        return math.prod(self.event_shape)

    def log_prob(self, x: tf.Tensor, condition: Any = None) -> tf.Tensor:
        """Log-density of `x`, in nats, `[batch]`."""
        return self._inverse(x, condition)[1]

    def encode(self, x: tf.Tensor, condition: Any = None) -> tf.Tensor:
        """The latents of `x`, `[batch, *latent_shape]`."""
        return self._inverse(x, condition)[0]

    def decode(self, latent: tf.Tensor, condition: Any = None) -> tf.Tensor:
        """The data of `latent`, `[batch, *event_shape]`."""
        return self._forward(latent, condition)

    def sample(
        self,
        n: tf.Tensor,
        seed: tf.Tensor,
        temperature: tf.Tensor,
        condition: Any = None,
    ) -> tf.Tensor:
        """`n` draws from one seed and one condition, `[n, *event_shape]`."""
        if condition is not None:
            condition = tf.repeat(condition[tf.newaxis], n, axis=0)
        return self._forward(self._draw(n, seed, temperature), condition)

    def sample_rows(
        self, seeds: tf.Tensor, temperature: tf.Tensor, condition: Any = None
    ) -> tf.Tensor:
        """One draw a row from a seed of its own, `[batch, *event_shape]`.

        A row depends on its seed alone, not on what it is batched with. Only the
        draws from the base run row by row; the flow runs once over the batch.
        """
        draws = tf.map_fn(
            lambda row: self._draw(1, *row)[0],
            (seeds, temperature),
            fn_output_signature=tf.TensorSpec(self.latent_shape, self.dtype),
        )
        return self._forward(draws, condition)

    def examples(self, rows: int) -> tuple[tf.Tensor, tf.Tensor | None]:
        """Draws data to try the flow on, with conditions of zero where it takes any."""
        condition, conditions = None, None
        if self.condition_shape is not None:
            condition = tf.zeros(self.condition_shape, self.condition_dtype)
            conditions = tf.repeat(condition[tf.newaxis], rows, axis=0)
        seed, temperature = tf.constant([0, 1]), tf.ones([], self.dtype)
        return self.sample(tf.constant(rows), seed, temperature, condition), conditions

    def _draw(self, n: Any, seed: tf.Tensor, temperature: tf.Tensor) -> tf.Tensor:
        # A base without a mean is only sampled as it is.
        heat = temperature if self.has_temperature else 1.0
        return sampling.sample(self._base, n, seed, heat)

    # Each direction is traced once and called from every signature that needs it.

    def trace_inverse(self, x: tf.Tensor, condition: Any = None) -> tuple:
        """The latents of `x` and its log-density, in one walk."""
        if not self.has_latent:
            return x, self.distribution.log_prob(x)
        keywords = condition_kwargs(self.distribution.bijector, condition)
        # First the latents: the log-density then finds them in TFP's cache.
        latent = self.distribution.bijector.inverse(x, **keywords)
        return latent, self.distribution.log_prob(x, bijector_kwargs=keywords)

    def trace_forward(self, latent: tf.Tensor, condition: Any = None) -> tf.Tensor:
        """The data of `latent`."""
        if not self.has_latent:
            return latent
        keywords = condition_kwargs(self.distribution.bijector, condition)
        return self.distribution.bijector.forward(latent, **keywords)

    def _traced(self, function: Callable, shape: tuple[int, ...]) -> Callable:
        inputs = [tf.TensorSpec([None, *shape], self.dtype)]
        if self.condition_shape is not None:
            conditions = [None, *self.condition_shape]
            inputs.append(tf.TensorSpec(conditions, self.condition_dtype))
        traced = tf.function(function, input_signature=inputs, autograph=False)
        return lambda x, condition: traced(*[x, condition][: len(inputs)])


def _check_servable(distribution: Any) -> None:
    if not isinstance(distribution, tfd.Distribution):
        raise TypeError(
            "Argument `model_or_distribution` must be a `tfpf.FlowModel` or a "
            f"`tfd.Distribution`. Received: {type(distribution).__name__}"
        )
    dtype = distribution.dtype
    if not isinstance(dtype, tf.DType) or not dtype.is_floating:
        raise TypeError(
            "Argument `model_or_distribution` must draw one floating point tensor. "
            f"Received: a {type(distribution).__name__} with dtype={dtype}"
        )
    if not distribution.event_shape.is_fully_defined():
        raise ValueError(
            "Argument `model_or_distribution` must have a fixed event shape. "
            f"Received: event_shape={distribution.event_shape}"
        )
    if distribution.batch_shape.rank != 0:
        raise ValueError(
            "Argument `model_or_distribution` must be a single distribution; turn a "
            "batch of them into one with `tfd.Independent`. "
            f"Received: batch_shape={distribution.batch_shape}"
        )


def _has_mean(distribution: tfd.Distribution) -> bool:
    try:
        distribution.mean()
    except NotImplementedError:
        return False
    return True
