"""`Servable`: a model as an exported graph sees it, tensors in and tensors out."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Protocol, runtime_checkable

import keras
import tensorflow as tf
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

from tfp_flows.bijectors import chain
from tfp_flows.bijectors.conditional import (
    condition_dtype,
    condition_shape,
    label_count,
    taking_conditions,
)
from tfp_flows.internal.arguments import Shape, invalid
from tfp_flows.training.sampling import (
    distribution_of,
    latents_and_log_prob,
    mean_of,
    sample,
)

Model = keras.Model | tfd.Distribution
Condition = tf.Tensor | None


_ANY = 8  # How long an example of conditions of any length is.


@dataclasses.dataclass(frozen=True, eq=False)
class Servable:
    """What an exported graph computes, on which shapes.

    Attributes:
        distribution: Distribution of the data, or of a latent model's latents.
        event_shape: Shape of one row of data.
        inverse_function: From data `[batch, *event]` and conditions to latents and
            the log-density that is served.
        forward_function: From latents and conditions to data.
        bijector: What leads from data to latents, if it is a bijector.
        elbo_function: From data and seeds `[batch, 2]` to one draw of the bound on
            the log-density, for a latent model. There the density that is served is
            that of the latents, and `decode(encode(x))` is not `x`.
        condition_shape: Shape of one condition; None for an unconditional flow.
        labels: Number of labels, where conditions are labels.
        has_temperature: Whether draws have a mean to be scaled about.
        pixel_offset: What is added to whole pixel values before they are data.
    """

    distribution: tfd.Distribution
    base: tfd.Distribution
    event_shape: Shape
    inverse_function: Callable[..., tuple[tf.Tensor, tf.Tensor]]
    forward_function: Callable[..., tf.Tensor]
    bijector: tfb.Bijector | None = None
    elbo_function: Callable[[tf.Tensor, tf.Tensor], tf.Tensor] | None = None
    condition_shape: Shape | None = None
    condition_dtype: tf.DType = tf.float32
    labels: int | None = None
    has_temperature: bool = True
    pixel_offset: float = 0.5

    @property
    def dtype(self) -> tf.DType:
        """Dtype of data and latents."""
        return self.distribution.dtype

    @property
    def latent_shape(self) -> Shape:
        """Shape of one latent; that of the data without a bijector."""
        return tuple(self.base.event_shape)

    @property
    def has_latent(self) -> bool:
        """Whether latents are something else than the data."""
        return self.bijector is not None or self.elbo_function is not None

    @property
    def event_size(self) -> int:
        """Number of values in one row of data."""
        return math.prod(self.event_shape)

    def inverse(
        self, x: tf.Tensor, condition: Condition = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Latents `[batch, *latent_shape]` and log-densities `[batch]` of data."""
        return self._inverse(x, condition)

    def log_prob(self, x: tf.Tensor, condition: Condition = None) -> tf.Tensor:
        """Log-density of `x`, in nats, `[batch]`."""
        return self.inverse(x, condition)[1]

    def encode(self, x: tf.Tensor, condition: Condition = None) -> tf.Tensor:
        """The latents of `x`, `[batch, *latent_shape]`."""
        return self.inverse(x, condition)[0]

    def decode(self, latent: tf.Tensor, condition: Condition = None) -> tf.Tensor:
        """The data of `latent`, `[batch, *event_shape]`."""
        return self._forward(latent, condition)

    def sample(
        self,
        n: tf.Tensor,
        seed: tf.Tensor,
        temperature: tf.Tensor,
        condition: Condition = None,
    ) -> tf.Tensor:
        """`n` draws from one seed and one condition, `[n, *event_shape]`."""
        if condition is not None:
            if self.bijector is None:
                return sample(self.base, n, seed, 1.0, condition)
            condition = tf.repeat(condition[tf.newaxis], n, axis=0)
        return self._forward(self._latents(n, seed, temperature), condition)

    def sample_rows(
        self, seed: tf.Tensor, temperature: tf.Tensor, condition: Condition = None
    ) -> tf.Tensor:
        """One draw for each row of seeds and temperatures, `[batch, *event_shape]`.

        A row depends on its seed alone. Only draws from the base run row by row.
        """
        if condition is not None and self.bijector is None:
            return tf.map_fn(
                lambda row: sample(self.base, 1, row[0], 1.0, row[1])[0],
                (seed, condition),
                fn_output_signature=tf.TensorSpec(self.event_shape, self.dtype),
            )
        latents = tf.map_fn(
            lambda row: self._latents(1, *row)[0],
            (seed, temperature),
            fn_output_signature=tf.TensorSpec(self.latent_shape, self.dtype),
        )
        return self._forward(latents, condition)

    def examples(self, rows: int) -> tuple[tf.Tensor, Condition]:
        """Draws data to try the model on, with conditions of zero if it takes any."""
        condition, conditions = None, None
        if self.condition_shape is not None:
            shape = [_ANY if size is None else size for size in self.condition_shape]
            condition = tf.zeros(shape, self.condition_dtype)
            conditions = tf.repeat(condition[tf.newaxis], rows, axis=0)
        seed, temperature = tf.constant([0, 1]), tf.ones([], self.dtype)
        return self.sample(tf.constant(rows), seed, temperature, condition), conditions

    def _latents(
        self, n: tf.Tensor | int, seed: tf.Tensor, temperature: tf.Tensor
    ) -> tf.Tensor:
        return sample(self.base, n, seed, temperature if self.has_temperature else 1.0)

    # Each direction is traced once and called from every signature that needs it.

    @functools.cached_property
    def _inverse(self) -> Callable:
        return self._traced(self.inverse_function, self.event_shape)

    @functools.cached_property
    def _forward(self) -> Callable:
        return self._traced(self.forward_function, self.latent_shape)

    def _traced(self, function: Callable, shape: Shape) -> Callable:
        inputs = [tf.TensorSpec([None, *shape], self.dtype)]
        if self.condition_shape is not None:
            conditions = [None, *self.condition_shape]
            inputs.append(tf.TensorSpec(conditions, self.condition_dtype))
        traced = tf.function(function, input_signature=inputs, autograph=False)
        return lambda x, condition: traced(*[x, condition][: len(inputs)])


@runtime_checkable
class _LatentModel(Protocol):
    """Images explained by latent vectors, such as a `tfpf.latent.LatentVAE`."""

    event_shape: Shape
    prior: tfd.Distribution

    def latents(self, x: tf.Tensor) -> tf.Tensor: ...
    def decode(self, z: tf.Tensor) -> tf.Tensor: ...
    def terms(self, x: tf.Tensor, seed: tf.Tensor, training: bool) -> dict: ...


def servable(model_or_distribution: Model) -> Servable:
    """Describes a `FlowModel`, a latent model or a distribution to the exporters."""
    if isinstance(model_or_distribution, _LatentModel):
        return _of_latent_model(model_or_distribution)
    return _of_distribution(distribution_of(model_or_distribution))


def _of_distribution(distribution: tfd.Distribution) -> Servable:
    _check_servable(distribution)
    bijector = getattr(distribution, "bijector", None)
    taking = taking_conditions(distribution)

    def inverse(x: tf.Tensor, condition: Condition = None) -> tuple:
        return latents_and_log_prob(distribution, x, condition, seed=0)

    def forward(latent: tf.Tensor, condition: Condition = None) -> tf.Tensor:
        if bijector is None:
            return latent
        ndims = base.event_shape.rank
        return chain.forward_and_log_det(bijector, latent, ndims, condition)[0]

    base = distribution if bijector is None else distribution.distribution
    if not isinstance(base.event_shape, tf.TensorShape):
        must = "have latents that are one tensor, not those of a joint distribution"
        raise invalid("model_or_distribution", must, distribution)
    return Servable(
        distribution=distribution,
        base=base,
        event_shape=tuple(distribution.event_shape),
        inverse_function=inverse,
        forward_function=forward,
        bijector=bijector,
        condition_shape=None if taking is None else condition_shape(taking),
        condition_dtype=tf.float32 if taking is None else condition_dtype(taking),
        labels=None if taking is None else label_count(taking),
        # A pixel v of a flow of real values stands for the cell [v, v + 1).
        pixel_offset=0.0 if hasattr(distribution, "dequantize") else 0.5,
        has_temperature=mean_of(base) is not None,
    )


def _of_latent_model(model: _LatentModel) -> Servable:
    prior = model.prior
    _check_servable(prior)

    def inverse(x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        latent = model.latents(x)
        return latent, prior.log_prob(latent)

    def elbo(x: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        return model.terms(x, seed, training=False)["elbo"]

    return Servable(
        distribution=prior,
        base=prior,
        event_shape=tuple(model.event_shape),
        inverse_function=inverse,
        forward_function=model.decode,
        elbo_function=elbo,
        has_temperature=mean_of(getattr(prior, "distribution", prior)) is not None,
    )


def _check_servable(distribution: tfd.Distribution) -> None:
    dtype, name = distribution.dtype, "model_or_distribution"
    if not isinstance(dtype, tf.DType) or not dtype.is_floating:
        must = "draw one floating point tensor"
        raise invalid(name, must, distribution, TypeError)
    if not distribution.event_shape.is_fully_defined():
        raise invalid(name, "have a fixed event shape", distribution)
    if distribution.batch_shape.rank != 0:
        must = "be a single distribution, such as a `tfd.Independent` of a batch"
        raise invalid(name, must, distribution)
