"""Surjections of real values: signs, orders, maxima and latent values left to chance.

With `v = s(x)` what a flow `p` models of data `x`, and `P(x | v)` for the rest,

    log P(x) = log p(v) + log P(x | v) + log |dv/dx|

exactly, where `v` follows from `x`; else it is the bound of `Surjection`.
"""

from __future__ import annotations

import math

import keras
import tensorflow as tf
import tensorflow_probability as tfp
from tensorflow_probability import distributions as tfd

from tfp_flows.bijectors.conditional import condition
from tfp_flows.bijectors.reshape import depth_to_space, space_to_depth
from tfp_flows.distributions.surjections import Surjection
from tfp_flows.internal.arguments import Seed, checked_choice, invalid


class Chance(Surjection):
    """A surjection whose samples leave something to chance, given the flow's.

    A subclass writes `dequantize` and `draw(v, seed)`, which returns `x ~ P(x | v)`.
    """

    def draw(self, v: tf.Tensor, seed: Seed) -> tf.Tensor:
        """Draws data given values of the flow."""
        raise NotImplementedError

    def _sample_n(self, n: int | tf.Tensor, seed: Seed = None) -> tf.Tensor:
        of_flow, of_rest = tfp.random.split_seed(seed, n=2)
        return self.draw(self.flow.sample(n, seed=of_flow), of_rest)


@keras.saving.register_keras_serializable(package="tfp_flows")
class Folded(Chance):
    """Data whose values have signs at random, given a flow of their sizes.

        v = |x|,    log P(x) = log p(v) - D log 2

    exactly, for D values. The flow is one of positive values, as of
    `tfpf.on("positive", flow)`: what it has elsewhere is lost.

    Shapes: those of the flow.

    Reference: Nielsen et al.: SurVAE Flows, 2020, arXiv:2007.02731 (absolute values).

    Example:
        >>> import tfp_flows as tfpf
        >>> Folded(tfpf.on("positive", tfpf.real_nvp((2,), steps=2))).sample(3).shape
        TensorShape([3, 2])
    """

    def __init__(
        self,
        flow: tfd.Distribution,
        *,
        samples: int = 1,
        validate_args: bool = False,
        name: str = "folded",
    ) -> None:
        """Takes a flow of positive values."""
        super().__init__(flow, samples=samples)

    def dequantize(self, x: tf.Tensor, seed: Seed) -> tuple[tf.Tensor, tf.Tensor]:
        """Takes signs away."""
        coins = math.prod(self.event_shape) * math.log(2.0)
        return tf.abs(x), tf.constant(coins, x.dtype)

    def draw(self, v: tf.Tensor, seed: Seed) -> tf.Tensor:
        """Gives each value one of two signs."""
        heads = tf.random.stateless_uniform(tf.shape(v), seed, dtype=v.dtype) < 0.5
        return tf.where(heads, v, -v)


@keras.saving.register_keras_serializable(package="tfp_flows")
class Exchangeable(Chance):
    """Data whose entries come in any order: values `[n]`, or points `[n, d]`.

    `by="sort"`: a flow of sorted values (points: by the first of each), exactly,

        v = sort(x),    log P(x) = log p(v) - log n!

    for a flow such as `tfpf.on("ordered", flow)`: what it has elsewhere is lost.
    `by="shuffle"`: any flow, in a random order,

        v = x in a random order,    log P(x) >= E log p(v)

    which is tight where `p` is the same for all orders.

    Shapes: those of the flow.

    Reference: Nielsen et al.: SurVAE Flows, 2020, arXiv:2007.02731 (sorting, stochastic
    permutation).

    Example:
        >>> import tfp_flows as tfpf
        >>> flow = tfpf.on("ordered", tfpf.real_nvp((3,), steps=2))
        >>> Exchangeable(flow).sample(2).shape
        TensorShape([2, 3])
    """

    def __init__(
        self,
        flow: tfd.Distribution,
        by: str = "sort",
        *,
        samples: int = 1,
        validate_args: bool = False,
        name: str = "exchangeable",
    ) -> None:
        """Takes a flow of entries in an order.

        Args:
            by: What brings data in an order: `"sort"` or `"shuffle"`.
        """
        if len(flow.event_shape) not in (1, 2):
            raise invalid("flow", "be of values (n,) or points (n, d)", flow)
        self._by = checked_choice("by", by, ("sort", "shuffle"))
        super().__init__(flow, samples=samples)

    def dequantize(self, x: tf.Tensor, seed: Seed) -> tuple[tf.Tensor, tf.Tensor]:
        """Brings entries in an order."""
        if self._by == "shuffle":
            return self.draw(x, seed), tf.zeros([], x.dtype)
        orders = math.lgamma(self.event_shape[0] + 1)
        return self._ordered(x, self._first(x)), tf.constant(orders, x.dtype)

    def draw(self, v: tf.Tensor, seed: Seed) -> tf.Tensor:
        """Shuffles entries."""
        keys = tf.random.stateless_uniform(tf.shape(self._first(v)), seed)
        return self._ordered(v, keys)

    def _first(self, x: tf.Tensor) -> tf.Tensor:
        return x if len(self.event_shape) == 1 else x[..., 0]

    def _ordered(self, x: tf.Tensor, keys: tf.Tensor) -> tf.Tensor:
        return tf.gather(
            x, tf.argsort(keys), axis=-len(self.event_shape), batch_dims=-1
        )


@keras.saving.register_keras_serializable(package="tfp_flows")
class MaxPooled(Chance):
    """Images as the largest of each four pixels, and how far below the others are.

    With `m` the largest pixel of a patch of 2x2, at a place at random, and `x_j` the
    others, in their order,

        v = (m, log(e^{m - x_j} - 1)),
        log P(x) = log p(v) - N log 4 - sum log(1 - e^{x_j - m})

    exactly, for N patches, channel by channel. Equal pixels want noise first.

    Shapes: images `[..., h, w, c]` for a flow of `[..., h / 2, w / 2, 4 c]`, of which
    the first c channels are the largest pixels.

    Reference: Nielsen et al.: SurVAE Flows, 2020, arXiv:2007.02731 (max pooling).

    Example:
        >>> import tfp_flows as tfpf
        >>> flow = tfpf.glow((2, 2, 4), levels=1, steps=1, hidden_channels=4)
        >>> MaxPooled(flow).event_shape
        TensorShape([4, 4, 1])
    """

    def __init__(
        self,
        flow: tfd.Distribution,
        *,
        samples: int = 1,
        validate_args: bool = False,
        name: str = "max_pooled",
    ) -> None:
        """Takes a flow of maxima and distances."""
        shape = flow.event_shape
        if len(shape) != 3 or shape[-1] % 4:
            raise invalid("flow", "be of images (h, w, 4 c)", flow)
        height, width, channels = shape
        pixels = tf.TensorShape([2 * height, 2 * width, channels // 4])
        super().__init__(flow, samples=samples, event_shape=pixels)

    def dequantize(self, x: tf.Tensor, seed: Seed) -> tuple[tf.Tensor, tf.Tensor]:
        """Finds the largest pixels."""
        four = self._patches(space_to_depth(x, 2))
        places = tf.one_hot(tf.argmax(four, axis=-1), 4, dtype=tf.int32)
        # Those that are not the largest first, in their order.
        order = tf.argsort(places, axis=-1, stable=True)
        *others, largest = tf.unstack(tf.gather(four, order, batch_dims=-1), axis=-1)
        below = tf.stack([largest - other for other in others], axis=-2)
        steep = tf.reduce_sum(tfp.math.log1mexp(below), axis=[-1, -2, -3, -4])
        v = tf.concat(
            [largest[..., tf.newaxis, :], tfp.math.softplus_inverse(below)], -2
        )
        coins = math.prod(self.event_shape) // 4 * math.log(4.0)
        return self._flat(v), steep + coins

    def draw(self, v: tf.Tensor, seed: Seed) -> tf.Tensor:
        """Puts the largest pixel of each patch in one of four places."""
        largest, *others = tf.split(v, 4, axis=-1)
        others = [largest - tf.nn.softplus(other) for other in others]
        places = tf.random.stateless_uniform(
            tf.shape(largest), seed, maxval=4, dtype=tf.int32
        )
        order = tf.argsort(tf.one_hot(places, 4, dtype=tf.int32), axis=-1, stable=True)
        four = tf.stack([*others, largest], axis=-1)
        four = tf.gather(four, tf.argsort(order, axis=-1), batch_dims=-1)
        return depth_to_space(self._flat(tf.linalg.matrix_transpose(four)), 2)

    def _patches(self, x: tf.Tensor) -> tf.Tensor:
        """Returns `[..., h / 2, w / 2, c, 4]`."""
        return tf.stack(tf.split(x, 4, axis=-1), axis=-1)

    def _flat(self, v: tf.Tensor) -> tf.Tensor:
        """Joins the last two axes."""
        sizes = tf.concat([tf.shape(v)[:-2], [self.flow.event_shape[-1]]], 0)
        return tf.ensure_shape(
            tf.reshape(v, sizes), [*v.shape[:-2], self.flow.event_shape[-1]]
        )


@keras.saving.register_keras_serializable(package="tfp_flows")
class Decoded(Chance):
    """Data `x` that a decoder draws given the values `v` of a flow: a layer of a VAE.

        log P(x) >= E[ log p(v) + log p(x | v) - log q(v | x) ],    v ~ q(. | x)

    `p(v)` may be any flow, or a `Decoded` again, for a hierarchy. All three learn
    together.

    Shapes: events of the decoder.

    Reference: Kingma, Welling: Auto-Encoding Variational Bayes, 2013, arXiv:1312.6114.
    Nielsen et al.: SurVAE Flows, 2020, arXiv:2007.02731 (as a layer).

    Example:
        >>> import tfp_flows as tfpf
        >>> normal = tfpf.bases.conditional_normal
        >>> flow = tfpf.real_nvp((2,), steps=2)
        >>> Decoded(flow, normal(5, (2,)), normal(2, (5,))).event_shape
        TensorShape([5])
    """

    def __init__(
        self,
        flow: tfd.Distribution,
        decoder: tfd.Distribution,
        encoder: tfd.Distribution,
        *,
        samples: int = 1,
        validate_args: bool = False,
        name: str = "decoded",
    ) -> None:
        """Joins a flow of latent values and two conditional distributions.

        Args:
            decoder: Distribution of data with conditions of the shape of latents.
            encoder: Distribution of latents with conditions of the shape of data.
        """
        if encoder.event_shape != flow.event_shape:
            must = f"have the event shape of `flow`, {flow.event_shape}"
            raise invalid("encoder", must, got=f"{encoder.event_shape}")
        self.decoder, self.encoder = decoder, encoder
        super().__init__(flow, samples=samples, event_shape=decoder.event_shape)

    @property
    def children(self) -> tuple[tfd.Distribution, ...]:
        """The flow, the decoder and the encoder."""
        return self.flow, self.decoder, self.encoder

    def dequantize(self, x: tf.Tensor, seed: Seed) -> tuple[tf.Tensor, tf.Tensor]:
        """Draws latents; returns them and `log q(v | x) - log p(x | v)`."""
        encoder = condition(self.encoder, x)
        v, log_q = encoder.experimental_sample_and_log_prob(seed=seed)
        return v, log_q - condition(self.decoder, v).log_prob(x)

    def draw(self, v: tf.Tensor, seed: Seed) -> tf.Tensor:
        """Decodes."""
        return condition(self.decoder, v).sample(seed=seed)
