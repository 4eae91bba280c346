"""Densities by a flow of other values: `Surjection`, and its cases."""

from __future__ import annotations

import math
from typing import Any

import keras
import tensorflow as tf
import tensorflow_probability as tfp
from tensorflow_probability import distributions as tfd

from tfp_flows.bijectors import chain
from tfp_flows.bijectors.conditional import (
    Conditioned,
    EncodedCondition,
    condition,
    condition_shape,
    taking_conditions,
)
from tfp_flows.bijectors.elementwise import ConditionalAffine
from tfp_flows.distributions.base import LayeredDistribution
from tfp_flows.distributions.bases import standard_logistic, standard_normal
from tfp_flows.distributions.supports import supported
from tfp_flows.internal.arguments import (
    Condition,
    DType,
    Seed,
    Shape,
    TensorLike,
    checked_integer,
    checked_number,
    float_dtype,
    invalid,
)
from tfp_flows.internal.seeds import dequantized
from tfp_flows.nets.conditioner import size
from tfp_flows.nets.sequence import code_table


class Surjection(LayeredDistribution):
    """Data `x`, often discrete, that real values `v` of a flow `p` are read as.

        P(x) = E[w],    w = p(v) P(x | v) / q(v | x),    v ~ q(. | x)
        log P(x) >= E[ log mean_k w_k ]

    `log_prob` returns an estimate of that lower bound in nats, with fresh draws in
    each call, and `-inf` for an `x` that no `v` is read as. `P(x | v)` is 1 where `v`
    can be read as one `x` only.

    Where `p` takes conditions, so does this: `tfpf.condition` binds them, `FlowModel`
    takes them beside the data.

    A subclass writes `dequantize` and `quantize`, and takes `name` and `validate_args`.
    `FlowModel` trains `p` and `q` together; `sample` draws whole values.

    Reference: Nielsen, Jaini, Hoogeboom, Winther, Welling: SurVAE Flows, 2020,
    arXiv:2007.02731. Burda, Grosse, Salakhutdinov: Importance Weighted Autoencoders,
    2015, arXiv:1509.00519 (several draws).
    """

    def __init__(
        self,
        flow: tfd.Distribution,
        *,
        samples: int = 1,
        **options: Any,
    ) -> None:
        """Takes the flow `p`; see `LayeredDistribution` for the other arguments.

        Args:
            samples: Number k of draws for each value of `log_prob`.
        """
        self._samples = checked_integer("samples", samples)
        super().__init__(flow, **options)

    @property
    def flow(self) -> tfd.Distribution:
        """The flow of real values."""
        return self._inner

    @property
    def scoring_samples(self) -> int:
        """Number of draws for a score that has to be the same in every call."""
        return self._samples

    @property
    def children(self) -> tuple[tfd.Distribution, ...]:
        """The distributions that this one is made of, `p` first."""
        return (self.flow,)

    def given(self, c: TensorLike) -> Surjection:
        """Returns the distribution given conditions `[*batch, *condition_shape]`."""
        return self.copy(flow=condition(self.flow, c))

    def dequantize(self, x: tf.Tensor, seed: Seed) -> tuple[tf.Tensor, tf.Tensor]:
        """Draws `v ~ q(. | x)` for data `[..., *event]` in the dtype of the flow.

        Returns `v`, and `log q(v | x) - log P(x | v)` in nats, a scalar or `[...]`.
        """
        raise NotImplementedError

    def quantize(self, v: tf.Tensor) -> tf.Tensor:
        """Returns the `x` that `v` is read as: the most probable one."""
        raise NotImplementedError

    def outside(self, x: tf.Tensor) -> tf.Tensor | None:
        """Returns where no `v` is read as `x`, `[...]`; None where there always is."""
        return None

    def log_weight(self, x: tf.Tensor, seed: Seed = None) -> tf.Tensor:
        """Returns one draw of `log w` in nats, `[...]`; without a seed a fresh one."""
        seed, x = tfp.random.sanitize_seed(seed), tf.cast(x, self.dtype)
        v, log_q = self.dequantize(x, seed)
        log_weight = supported(self.flow).log_prob(v) - log_q
        outside = self.outside(x)
        if outside is None:
            return log_weight
        return tf.where(outside, tf.constant(-math.inf, self.dtype), log_weight)

    def bound(
        self, x: tf.Tensor, samples: int | tf.Tensor | None = None, seed: Seed = None
    ) -> tf.Tensor:
        """Returns `log mean_k w_k` of so many draws in nats, `[...]`.

        Without a number of draws there are `scoring_samples`.
        """
        x = tf.cast(x, self.dtype)
        samples = self.scoring_samples if samples is None else samples
        several = tf.broadcast_to(x, tf.concat([[samples], tf.shape(x)], axis=0))
        known = tf.get_static_value(samples)
        several = tf.ensure_shape(several, [known, *x.shape])
        total = tf.reduce_logsumexp(self.log_weight(several, seed), axis=0)
        return total - tf.math.log(tf.cast(samples, total.dtype))

    def adapt(self, x: tf.Tensor, condition: Condition = None) -> None:
        """Initializes data-dependent weights from data `[n, *event]`."""
        seed = tfp.random.sanitize_seed(None)
        v, _ = self.dequantize(tf.cast(x, self.dtype), seed)
        chain.adapt_distribution(self.flow, v, condition)

    def _log_prob(self, x: tf.Tensor) -> tf.Tensor:
        if self._samples == 1:
            return self.log_weight(x)
        return self.bound(x, self._samples)

    def _sample_n(self, n: int | tf.Tensor, seed: Seed = None) -> tf.Tensor:
        return self.quantize(self.flow.sample(n, seed=seed))


@keras.saving.register_keras_serializable(package="tfp_flows")
class Dequantized(Surjection):
    """Whole values `x` in `0, ..., L - 1`, modelled by a flow of real values.

        v = x + u,    u ~ q(. | x) in [0, 1)^D,    x = floor(v)

    The flow should have all of its mass in `[0, L)`, as behind `tfpf.logit(L)`: samples
    from elsewhere are clipped, and what they take is missing from `log_prob`.

    `noise=None` is uniform dequantization, `q = 1`. Otherwise `q` is a conditional
    flow, such as `dequantization_noise(event_shape)`, that learns together with
    `p` which noise makes the bound tight: variational dequantization. Its condition is
    `x / L - 1/2`. Where `p` takes conditions `c` of k values, the noise may depend on
    them too: `[h, w, channels + k]`, `c` behind the channels of every pixel. See
    `Surjection` for the bound. Events have the flow's shape.

    Reference: Ho et al.: Flow++, 2019, arXiv:1902.00275. Theis et al.: A note on the
    evaluation of generative models, 2015, arXiv:1511.01844, section 3.1.

    Example:
        >>> import tfp_flows as tfpf
        >>> flow = tfpf.glow((4, 4, 1), levels=1, steps=1, hidden_channels=4)
        >>> noise = tfpf.dequantization_noise((4, 4, 1), steps=1, hidden_channels=4)
        >>> Dequantized(flow, noise, pixel_levels=17).event_shape
        TensorShape([4, 4, 1])
    """

    renamed = {"levels": "pixel_levels"}

    def __init__(
        self,
        flow: tfd.Distribution,
        noise: tfd.Distribution | None = None,
        *,
        pixel_levels: int = 256,
        samples: int = 1,
        validate_args: bool = False,
        name: str = "dequantized",
    ) -> None:
        """Joins a flow of real values and a flow of noise.

        Args:
            flow: Flow of dequantized values in `[0, pixel_levels)`.
            noise: Conditional flow of noise in (0, 1), or None for uniform noise.
            pixel_levels: How many values L a pixel can take.
        """
        if noise is not None and noise.event_shape != flow.event_shape:
            must = f"be a flow of the event shape of `flow`, {flow.event_shape}"
            raise invalid("noise", must, got=f"{noise.event_shape}")
        self._own, self._given = _condition_shape(flow), None
        if isinstance(bound := getattr(flow, "bijector", None), Conditioned):
            self._own, self._given = condition_shape(bound.bijector), bound.condition
        self._values = 0  # of the flow's condition that the noise sees
        if noise is not None:
            shape, seen = tuple(flow.event_shape), _condition_shape(noise)
            whole = (*shape[:-1], shape[-1] + size(self._own))
            if seen not in (shape, whole):
                must = f"take conditions of shape {shape}, the image, or {whole}, with"
                must += " the flow's condition"
                raise invalid("noise", must, got=f"a flow with conditions {seen}")
            self._values = seen[-1] - shape[-1]
        self.pixel_levels = checked_integer("pixel_levels", pixel_levels, minimum=2)
        self.noise = noise
        super().__init__(flow, samples=samples)

    @property
    def children(self) -> tuple[tfd.Distribution, ...]:
        """The flow, and the flow of noise if there is one."""
        return (self.flow,) if self.noise is None else (self.flow, self.noise)

    def dequantize(self, x: tf.Tensor, seed: Seed) -> tuple[tf.Tensor, tf.Tensor]:
        """Adds noise; returns the sums and the noise's log-density."""
        if self.noise is None:
            return dequantized(x, seed), tf.zeros([], x.dtype)
        noise = condition(self.noise, self._seen(x, self._given))
        u, log_q = noise.experimental_sample_and_log_prob(seed=seed)
        return x + u, log_q

    def quantize(self, v: tf.Tensor) -> tf.Tensor:
        """Rounds down, to a value that a pixel can take."""
        return tf.clip_by_value(tf.floor(v), 0.0, self.pixel_levels - 1.0)

    def outside(self, x: tf.Tensor) -> tf.Tensor:
        """Returns where a value is no whole number from 0 to `pixel_levels - 1`."""
        wrong = (x < 0.0) | (x >= float(self.pixel_levels)) | (x > tf.floor(x))
        return tf.reduce_any(wrong, axis=list(range(-len(self.event_shape), 0)))

    def adapt(self, x: tf.Tensor, condition: Condition = None) -> None:
        """Initializes data-dependent weights of both flows from whole values `x`."""
        x = tf.cast(x, self.dtype)
        if tf.executing_eagerly() and tf.reduce_any(self.outside(x)):
            must = f"hold whole numbers from 0 to {self.pixel_levels - 1}, as "
            must += f"`pixel_levels={self.pixel_levels}` says"
            least, most = float(tf.reduce_min(x)), float(tf.reduce_max(x))
            raise invalid("data", must, got=f"values from {least:g} to {most:g}")
        of_flow, of_noise = tfp.random.split_seed(tfp.random.sanitize_seed(None))
        chain.adapt_distribution(self.flow, dequantized(x, of_flow), condition)
        if self.noise is not None:  # noise of 0 would be minus infinity to a sigmoid
            u = tf.random.stateless_uniform(tf.shape(x), of_noise, 1e-6, dtype=x.dtype)
            ndims = len(self.event_shape)
            seen = self._seen(x, condition)
            chain.adapt(self.noise.bijector, u, ndims, seen)

    def _seen(self, x: tf.Tensor, c: Condition) -> tf.Tensor:
        """Returns what the noise sees of data and of conditions of the flow."""
        centred = x / self.pixel_levels - 0.5
        if not self._values:
            return centred
        if c is None:
            raise ValueError(
                f"Dequantized '{self.name}' needs conditions: bind them with "
                "`tfpf.condition(distribution, c)`. Received: none"
            )
        c = tf.cast(tf.convert_to_tensor(c), x.dtype)
        ndims, rank = len(self.event_shape), c.shape.rank - len(self._own or ())
        ones = [1] * (ndims - 1)
        c = tf.reshape(c, tf.concat([tf.shape(c)[:rank], ones, [self._values]], 0))
        known = tf.broadcast_static_shape(x.shape[:-1], c.shape[:-1])
        shape = tf.broadcast_dynamic_shape(tf.shape(x)[:-1], tf.shape(c)[:-1])
        seen = [
            tf.ensure_shape(
                tf.broadcast_to(part, tf.concat([shape, tf.shape(part)[-1:]], 0)),
                [*known, part.shape[-1]],
            )
            for part in (centred, c)
        ]
        return tf.concat(seen, axis=-1)


@keras.saving.register_keras_serializable(package="tfp_flows")
class Augmented(Surjection):
    """Data with noise beside them, on the last axis, in one flow of both (ANF).

        v = (x, u),    u ~ q(. | x);      log p(x) >= E[ log p(x, u) - log q(u | x) ]

    Values that a narrow flow cannot bring past each other go around in the space that
    is added. `noise=None` is standard normal noise; otherwise `q` is a conditional
    flow, of noise `[..., k]` given data, that learns together with `p`. Samples are
    exact draws: those of the flow without the noise. See `Surjection` for the bound.

    Shapes: `[..., values]` for a flow of `[..., values + k]`.

    Reference: Huang, Dinh, Courville: Augmented Normalizing Flows, 2020,
    arXiv:2002.07101.

    Example:
        >>> import tfp_flows as tfpf
        >>> Augmented(tfpf.real_nvp((5,), steps=2), values=2).event_shape
        TensorShape([2])
    """

    def __init__(
        self,
        flow: tfd.Distribution,
        values: int,
        noise: tfd.Distribution | None = None,
        *,
        samples: int = 1,
        validate_args: bool = False,
        name: str = "augmented",
    ) -> None:
        """Divides the last axis of a flow into data and noise.

        Args:
            flow: Flow of data and noise.
            values: How many values of the last axis are data; the others are noise.
            noise: Flow of noise with conditions of the shape of data, or None.
        """
        *positions, last = flow.event_shape
        self.values = checked_integer("values", values)
        if self.values >= last:
            raise invalid("values", f"be below {last}, the last axis of `flow`", values)
        data, rest = (*positions, self.values), (*positions, last - self.values)
        if noise is not None and (
            tuple(noise.event_shape) != rest or _condition_shape(noise) != data
        ):
            must = f"be a flow of shape {rest} with conditions of shape {data}"
            raise invalid("noise", must, noise)
        self.noise, self._rest = noise, rest
        super().__init__(flow, samples=samples, event_shape=tf.TensorShape(data))

    @property
    def children(self) -> tuple[tfd.Distribution, ...]:
        """The flow, and the flow of noise if there is one."""
        return (self.flow,) if self.noise is None else (self.flow, self.noise)

    def dequantize(self, x: tf.Tensor, seed: Seed) -> tuple[tf.Tensor, tf.Tensor]:
        """Puts noise beside the data; returns both and the noise's log-density."""
        if self.noise is None:
            q = standard_normal(self._rest, x.dtype)
            u = q.sample(tf.shape(x)[: x.shape.rank - len(self._rest)], seed=seed)
            log_q = q.log_prob(u)
        else:
            q = condition(self.noise, x)
            u, log_q = q.experimental_sample_and_log_prob(seed=seed)
        return tf.concat([x, u], axis=-1), log_q

    def adapt(self, x: tf.Tensor, condition: Condition = None) -> None:
        """Initializes data-dependent weights of both flows from data `x`."""
        x = tf.cast(x, self.dtype)
        if self.noise is not None:
            u = standard_normal(self._rest, x.dtype).sample(len(x))
            chain.adapt(self.noise.bijector, u, len(self._rest), x)
        super().adapt(x, condition)

    def quantize(self, v: tf.Tensor) -> tf.Tensor:
        """Returns the data without the noise."""
        return v[..., : self.values]


@keras.saving.register_keras_serializable(package="tfp_flows")
class Noised(Surjection):
    """Data of which a flow knows only how they look with Gaussian noise.

        v = x + s e,    e ~ N(0, I),    log P(x) >= E log p(v)     trained and scored
        x = v + s^2 grad log p(v),      v ~ p                      sampled

    Noise lets a flow of images put its density where images are without a spike for
    each; what it learns is noisy. `log_prob` is one draw of a lower bound of the model
    that adds noise `s e'` to the draws `v` of the flow: `q(v | x)` and `P(x | v)` are
    the same density. Samples are the mean of all images that `v` may be, by Tweedie's
    formula, instead: sharper, and no draws of that model, unless `denoise=False`.

    The flow needs a density everywhere, as behind `tfpf.center`; the range of
    `tfpf.logit` ends where noise goes on.

    Shapes: those of the flow, which may take conditions.

    Reference: Zhai et al., 2024, arXiv:2412.06329, sections 2.4 and 2.5. Efron:
    Tweedie's Formula and Selection Bias, 2011.

    Example:
        >>> import tfp_flows as tfpf
        >>> flow = tfpf.tarflow((4, 4, 1), patch=2, steps=2, width=8, layers=1)
        >>> Noised(flow, 0.1).sample(2).shape
        TensorShape([2, 4, 4, 1])
    """

    def __init__(
        self,
        flow: tfd.Distribution,
        scale: float,
        *,
        denoise: bool = True,
        samples: int = 1,
        validate_args: bool = False,
        name: str = "noised",
    ) -> None:
        """Adds noise to what the flow is trained on.

        Args:
            flow: Flow of data with noise.
            scale: Standard deviation `s` of the noise, in units of the data; the paper
                has 0.05 times half the range of pixel values.
            denoise: Whether samples are denoised.
        """
        self.scale = checked_number("scale", scale, above=0.0)
        self.denoise = bool(denoise)
        super().__init__(flow, samples=samples)

    def dequantize(self, x: tf.Tensor, seed: Seed) -> tuple[tf.Tensor, tf.Tensor]:
        """Adds noise; its density is that of taking it away again."""
        noise = tf.random.stateless_normal(tf.shape(x), seed, dtype=x.dtype)
        return x + self.scale * noise, tf.zeros([], x.dtype)

    def quantize(self, v: tf.Tensor) -> tf.Tensor:
        """Returns the mean of the data that `v` may be."""
        return denoise(self.flow, v, self.scale)

    def _sample_n(self, n: int | tf.Tensor, seed: Seed = None) -> tf.Tensor:
        of_flow, of_noise = tfp.random.split_seed(seed, n=2)
        v = self.flow.sample(n, seed=of_flow)
        return self.quantize(v) if self.denoise else self.dequantize(v, of_noise)[0]


def denoise(
    flow: tfd.Distribution,
    y: TensorLike,
    scale: float,
    condition: TensorLike | None = None,
) -> tf.Tensor:
    """Returns the mean of `x` given `y = x + scale e`, by Tweedie's formula.

        E[x | y] = y + scale^2 grad log p(y),    e ~ N(0, I)

    It is exact where `flow` has the density of the noisy data.

    Args:
        flow: Distribution of noisy data.
        y: Noisy data `[*batch, *event]`.
        scale: Standard deviation of the noise.
        condition: Conditions `[*batch, *condition_shape]` of a conditional flow.

    Reference: Efron: Tweedie's Formula and Selection Bias, 2011.

    Example:
        >>> normal = tfd.Sample(tfd.Normal(0.0, 2.0**0.5), 3)  # N(0, 1) with noise 1
        >>> print(denoise(normal, [[2.0, 0.0, -4.0]], scale=1.0).numpy())
        [[ 1.  0. -2.]]
    """
    scale = checked_number("scale", scale, minimum=0.0)
    if condition is not None:
        flow = _bound(flow, condition)
    # Under another name, for which TFP's bijectors remember no latent.
    y = tf.identity(tf.convert_to_tensor(y, dtype_hint=flow.dtype))
    with tf.GradientTape() as tape:
        tape.watch(y)
        total = tf.reduce_sum(flow.log_prob(y))
    return y + scale**2 * tape.gradient(total, y)


_bound = condition  # where arguments have its name


def _condition_shape(distribution: tfd.Distribution) -> Shape | None:
    bijector = taking_conditions(distribution)
    return None if bijector is None else condition_shape(bijector)


@keras.saving.register_keras_serializable(package="tfp_flows")
class CategoricalFlow(Surjection):
    """Sequences `x` of categories, each embedded as a vector of a flow.

    With `p(v)` the density of the flow over sequences of vectors and `q(v | c)` the
    learned embedding of category c, a vector is read as

        P(x_t = c | v_t) = q(v_t | c) / sum_c' q(v_t | c')

    so that `w = p(v) / prod_t sum_c q(v_t | c)` in the bound of `Surjection`. It is
    tight where embeddings do not overlap and the flow has the shape of them.

    Shapes: `[..., length]` for a flow of `[..., length, d]`.

    Reference: Lippe, Gavves: Categorical Normalizing Flows via Continuous
    Transformations, 2021, arXiv:2006.09790.

    Example:
        >>> import tfp_flows as tfpf
        >>> flow = tfpf.text.causal_flow(6, 2, categories=3, units=(8,), features=4)
        >>> embeddings = tfpf.text.character_embeddings(3, 2)
        >>> CategoricalFlow(flow, embeddings, categories=3).event_shape
        TensorShape([6])
    """

    renamed = {"codes": "embeddings"}

    def __init__(
        self,
        flow: tfd.Distribution,
        embeddings: tfd.Distribution,
        *,
        categories: int,
        samples: int = 1,
        validate_args: bool = False,
        name: str = "categorical_flow",
    ) -> None:
        """Joins a flow of sequences of vectors and the embeddings of the categories.

        Args:
            flow: Flow of sequences `[length, d]`.
            embeddings: Flow of vectors `[d]` whose conditions are categories, such as
                `character_embeddings(categories, d)`.
        """
        shape = tuple(flow.event_shape)
        if len(shape) != 2 or tuple(embeddings.event_shape) != shape[1:]:
            raise ValueError(
                "Argument `embeddings` must be a flow of vectors as `flow`, one of "
                "sequences [length, d], has them. Received: embeddings of shape "
                f"{embeddings.event_shape}, a flow of shape {flow.event_shape}"
            )
        self.categories = checked_integer("categories", categories, minimum=2)
        # Sorted before the flow: files know weights by their order.
        self._embeddings = embeddings
        super().__init__(flow, samples=samples, event_shape=flow.event_shape[:-1])

    @property
    def embeddings(self) -> tfd.Distribution:
        """The flow of vectors given their categories."""
        return self._embeddings

    @property
    def children(self) -> tuple[tfd.Distribution, ...]:
        """The flow of sequences and the embeddings."""
        return self.flow, self.embeddings

    def outside(self, x: tf.Tensor) -> tf.Tensor:
        """Returns where a value is no category."""
        wrong = (x < 0.0) | (x >= float(self.categories)) | (x > tf.floor(x))
        return tf.reduce_any(wrong, axis=-1)

    def log_odds(self, v: tf.Tensor) -> tf.Tensor:
        """Returns `log q(v_t | c)`, logits of `P(x_t | v_t)`: `[..., length, K]`."""
        every = condition(self.embeddings, tf.range(self.categories))
        return every.log_prob(v[..., tf.newaxis, :])

    def dequantize(self, x: tf.Tensor, seed: Seed) -> tuple[tf.Tensor, tf.Tensor]:
        """Draws vectors `[..., length, d]`; returns them and `log sum_c q(v_t | c)`."""
        v = condition(self.embeddings, tf.cast(x, tf.int32)).sample(seed=seed)
        log_sums = tf.reduce_logsumexp(self.log_odds(v), axis=-1)
        return v, tf.reduce_sum(log_sums, axis=-1)

    def quantize(self, v: tf.Tensor) -> tf.Tensor:
        """Returns the most probable categories of vectors, `[..., length]`."""
        return tf.cast(tf.argmax(self.log_odds(v), axis=-1), self.dtype)

    def _sample_n(self, n: int | tf.Tensor, seed: Seed = None) -> tf.Tensor:
        of_flow, of_categories = tfp.random.split_seed(seed, n=2)
        logits = self.log_odds(self.flow.sample(n, seed=of_flow))
        categories = tfd.Categorical(logits=logits).sample(seed=of_categories)
        return tf.cast(categories, self.dtype)


def character_embeddings(
    categories: int, d: int, *, scale: float = 0.2, dtype: DType = None
) -> tfd.TransformedDistribution:
    """Builds `q(v | c)`: a vector for a category, around a learned location.

        v = m_c + s_c e,    e ~ Logistic(0, 1)^d

    It is a conditional flow of vectors `[d]` whose conditions are whole numbers.

    Args:
        d: Number of values in a vector, at least `log2(categories)`.

    Example:
        >>> import tfp_flows as tfpf
        >>> embeddings = character_embeddings(27, 5)
        >>> tfpf.condition(embeddings, [0, 1, 2]).sample().shape
        TensorShape([3, 5])
    """
    dtype = float_dtype(dtype)
    table = code_table(categories, d, scale, dtype.name)
    affine = ConditionalAffine(
        (d,),
        # The table holds locations and log-scales as they are.
        keras.layers.Activation("linear", dtype=dtype.name),
        condition_shape=(2 * d,),
        dtype=dtype.name,
    )
    return tfd.TransformedDistribution(
        standard_logistic((d,), dtype),
        EncodedCondition(affine, table, condition_shape=()),
        name="character_embeddings",
    )
