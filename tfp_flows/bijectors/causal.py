"""`Causal`: flows over the positions of a sequence; `Guided` by its conditions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

from tfp_flows.bijectors import chain
from tfp_flows.bijectors.base import FlowBijector, broadcast_batch, reshaped
from tfp_flows.bijectors.conditional import EncodedCondition, conditional_part
from tfp_flows.bijectors.tree import inner_dtype
from tfp_flows.internal import compat
from tfp_flows.internal.arguments import (
    Condition,
    Mapped,
    checked_instance,
    checked_number,
    checked_shape,
    invalid,
)
from tfp_flows.nets.conditioner import connect
from tfp_flows.nets.features import LabelEmbedding
from tfp_flows.nets.sequence import CausalConditioner


@keras.saving.register_keras_serializable(package="tfp_flows")
class Causal(FlowBijector):
    """An autoregressive flow over the positions of a sequence of vectors.

    With `f(.; h)` any bijector of one vector that takes a condition, and `h_t` what a
    causal network makes of the vectors before position t, and of a condition `c`,

        inverse:  x_t = f^-1(y_t; h_t),  h_t = net(y_1, ..., y_{t-1}; c)  all t at once
        forward:  y_t = f(x_t; h_t)                          one t after the other
        log-det:  sum over t of that of f at h_t

    The Jacobian is block-triangular, its blocks those of `f`. Densities are fast;
    samples take `length` steps of the network, which keeps what it knows of the
    positions before: the state of an LSTM, the keys and values of attention.

    A condition `[c, c0, w_1, w_T]` of `2 n + 2` values in the place of one of n guides
    the flow from `c0` to `c` and beyond it, as `Guided` has it:

        h_t = net(y; c) + w_t (net(y; c) - net(y; c0)),     w_t from w_1 to w_T evenly

    Shapes: sequences `[..., length, d]`; log-dets have the batch shape.

    Reference: Papamakarios, Pavlakou, Murray: Masked Autoregressive Flow, 2017,
    arXiv:1705.07057. Oliva et al.: Transformation Autoregressive Networks, 2018,
    arXiv:1801.09819 (a recurrent network for the past). Zhai et al.: Normalizing Flows
    are Capable Generative Models, 2024, arXiv:2412.06329 (attention, guidance).

    Example:
        >>> import tfp_flows as tfpf
        >>> f = tfpf.Elementwise(tfpf.transforms.Affine(), (2,), condition_shape=(16,))
        >>> net = tfpf.nets.CausalTransformer(width=16, layers=1, heads=2)
        >>> b = tfpf.Causal((5, 2), f, net)
        >>> b.inverse(tf.zeros([3, 5, 2])).shape
        TensorShape([3, 5, 2])
    """

    fills_conditions = True  # of the bijector inside, from the network

    def __init__(
        self,
        event_shape: Sequence[int],
        bijector: tfb.Bijector,
        net: CausalConditioner,
        *,
        reverse: bool = False,
        condition_shape: Sequence[int] | None = None,
        validate_args: bool = False,
        name: str | None = None,
    ) -> None:
        """Connects the network.

        Args:
            event_shape: `(length, d)`.
            bijector: A bijector of vectors of `d` values, or chain of them, with
                conditions of shape `(h,)` and parameters without batch axes.
            net: Network from sequences `[n, length, d]` to `[n, length, h]`, such as
                `tfpf.nets.CausalTransformer` and `CausalLSTM`.
            reverse: Whether the order of positions runs from the last to the first.
            condition_shape: Shape of one condition of the network, or None.
        """
        event = checked_shape("event_shape", event_shape, 2)
        if len(event) != 2:
            raise invalid("event_shape", "be (length, d)", event_shape)
        words = "a causal network, such as `tfpf.nets.CausalTransformer`"
        checked_instance("net", net, CausalConditioner, words)
        (features,) = _checked_condition(bijector)
        super().__init__(
            event_ndims=2,
            condition_shape=condition_shape,
            dtype=inner_dtype(bijector),
            validate_args=validate_args,
            name=name,
        )
        self._event_shape = event
        summaries = (event[0], features)
        connect(net, event, summaries, self.condition_shape)
        self._net = net
        self._bijector = bijector
        self._reverse = bool(reverse)

    @property
    def bijector(self) -> tfb.Bijector:
        """The bijector of one vector."""
        return self._bijector

    @property
    def net(self) -> CausalConditioner:
        """The network that sums up the past."""
        return self._net

    def _inverse_and_log_det(self, y: tf.Tensor, condition: Condition = None) -> Mapped:
        y = self._prepared(y, condition)
        h = self._summaries(y, condition)
        x, ildj = chain.inverse_and_log_det(self._bijector, y, 1, h)
        return self._ordered(x), chain.over_event(ildj, y, 1, 2)

    def _forward_and_log_det(self, x: tf.Tensor, condition: Condition = None) -> Mapped:
        x = self._prepared(x, condition)
        length, d = self._event_shape
        noise = tf.transpose(tf.reshape(x, [-1, length, d]), [1, 0, 2])
        n = tf.shape(noise)[1]
        given, weights = self._guidance(x, condition)
        copies = 1 if weights is None else 2

        def one_more(
            t: tf.Tensor,
            y: tf.Tensor,
            states: list,
            done: tf.TensorArray,
            fldj: tf.Tensor,
        ) -> tuple:
            before = tf.concat([y] * copies, axis=0)
            h, states = self._net.step(before, t, states, *given)
            h = _guided(tf.cast(h, x.dtype), None if weights is None else weights[:, t])
            y, log_det = chain.forward_and_log_det(self._bijector, noise[t], 1, h)
            return t + 1, y, states, done.write(t, y), fldj + log_det

        _, _, _, done, fldj = tf.while_loop(
            lambda t, *_: t < length,
            one_more,
            (
                tf.constant(0),
                tf.zeros_like(noise[0]),
                self._net.start(copies * n),
                tf.TensorArray(x.dtype, length, element_shape=noise.shape[1:]),
                tf.zeros([n], x.dtype),
            ),
            maximum_iterations=length,
            parallel_iterations=1,
        )
        y = tf.transpose(done.stack(), [1, 0, 2])
        return (
            self._ordered(reshaped(y, tf.shape(x), x.shape)),
            reshaped(fldj, tf.shape(x)[:-2], x.shape[:-2]),
        )

    def adapt(self, y: tf.Tensor, condition: Condition = None) -> tf.Tensor:
        """Initializes the bijector inside from the vectors of all positions."""
        y = self._prepared(y, condition)
        h = self._summaries(y, condition)
        vectors = tf.reshape(y, [-1, y.shape[-1]])
        past = tf.reshape(h, [-1, h.shape[-1]])
        x = chain.adapt(self._bijector, vectors, 1, past)
        return self._ordered(tf.reshape(x, tf.shape(y)))

    def _prepared(self, x: tf.Tensor, condition: Condition) -> tf.Tensor:
        """Returns sequences in their order, with the condition's batch axes."""
        self._check_shape(x, self._event_shape)
        return self._ordered(self._over_batch(x, 2, condition))

    def _ordered(self, x: tf.Tensor) -> tf.Tensor:
        return tf.reverse(x, [-2]) if self._reverse else x

    def _summaries(self, y: tf.Tensor, condition: Condition) -> tf.Tensor:
        """Returns `h_t` of all positions, `[..., length, h]`."""
        flat = tf.reshape(y, [-1, *self._event_shape])
        given, weights = self._guidance(y, condition)
        known = tf.concat([flat] * (1 if weights is None else 2), axis=0)
        h = _guided(tf.cast(self._net(known, *given), y.dtype), weights)
        static = y.shape[:-1].concatenate(h.shape[-1:])
        sizes = tf.concat([tf.shape(y)[:-1], h.shape[-1:]], 0)
        return reshaped(h, sizes, static)

    def _guidance(
        self, x: tf.Tensor, condition: Condition
    ) -> tuple[tuple[tf.Tensor, ...], tf.Tensor | None]:
        """Returns what else the network takes, and weights `[n, length, 1]` or None.

        Where the conditions guide, the network runs on two copies of the batch, to
        `c` and away from `c0`. The batch axes of `x`, the condition's among them,
        become one.
        """
        shape = self.condition_shape
        if shape is None:
            return (), None
        c = tf.cast(tf.convert_to_tensor(condition), x.dtype)
        ndims = len(shape)
        _, c = broadcast_batch(x, 2, c, ndims)
        c = tf.reshape(c, [-1, *c.shape[c.shape.rank - ndims :]])
        if ndims != 1 or c.shape[-1] != 2 * shape[0] + 2:
            return (c,), None
        toward, away, first, last = tf.split(c, [*shape, *shape, 1, 1], axis=-1)
        share = tf.linspace(tf.zeros([], x.dtype), 1.0, self._event_shape[0])
        weights = first + (last - first) * share
        return (tf.concat([toward, away], axis=0),), weights[..., tf.newaxis]


def _guided(h: tf.Tensor, weights: tf.Tensor | None) -> tf.Tensor:
    if weights is None:
        return h
    toward, away = tf.split(h, 2, axis=0)
    return toward + weights * (toward - away)


def _checked_condition(bijector: object) -> tuple[int, ...]:
    """Returns the shape of one condition of a bijector of vectors."""
    part = conditional_part(bijector) if isinstance(bijector, tfb.Bijector) else None
    shape = None if part is None else part.condition_shape
    if shape is None or len(shape) != 1 or int(bijector.forward_min_event_ndims) > 1:
        must = "be of vectors with vectors for conditions, such as "
        must += "`tfpf.MaskedAutoregressive(d, net, condition_shape=(h,))`"
        raise invalid("bijector", must, bijector)
    batch = bijector.experimental_batch_shape(1)
    if batch.rank != 0:  # against which axis of a sequence would it stand?
        must = "have no batch of parameters"
        raise invalid("bijector", must, got=f"one with a batch of shape {batch}")
    return shape


@keras.saving.register_keras_serializable(package="tfp_flows")
class Guided(EncodedCondition):
    """A class-conditional flow, guided away from the flow without a class.

    With `h(c)` what the networks of the `Causal` parts inside make of the class `c`,
    and `h(none)` of no class, every part works with

        h = h(c) + w (h(c) - h(none))

    It is a flow for every `w`: 0 is the class-conditional flow, -1 the one without a
    class, and above 0 samples are more typical of their class and less varied. Its
    log-densities are those of the guided flow.

    Shapes: those of the flow; conditions are labels `[...]`.

    Reference: Ho, Salimans: Classifier-Free Diffusion Guidance, 2022,
    arXiv:2207.12598. Zhai et al., 2024, arXiv:2412.06329, section 2.6.
    """

    def __init__(
        self,
        bijector: tfb.Bijector,
        encoder: keras.Layer,
        *,
        guidance: float = 1.0,
        annealed: bool = False,
        condition_shape: Sequence[int] = (),
        name: str | None = None,
    ) -> None:
        """Takes the parts of an `EncodedCondition` whose encoder knows of no class.

        Args:
            encoder: A `tfpf.nets.LabelEmbedding` with some `dropout`.
            guidance: The weight `w`.
            annealed: Whether `w` rises from 0 at the first position of each part to
                `guidance` at the last.
        """
        words = "a `tfpf.nets.LabelEmbedding`"
        checked_instance("encoder", encoder, LabelEmbedding, words)
        if not encoder.dropout:
            raise invalid("encoder", "have learned no class, by dropout", encoder)
        guidance = checked_number("guidance", guidance)
        super().__init__(bijector, encoder, condition_shape=condition_shape, name=name)
        self._ends = (0.0 if annealed else guidance, guidance)

    @property
    def labels(self) -> int:
        """Number of labels, without that of no class."""
        return self.encoder.labels

    def encode(self, condition: Condition) -> tf.Tensor:
        """Returns `[e(c), e(none), w, w]` of labels `[...]`."""
        toward = super().encode(condition)
        nothing = tf.cast(self.encoder.no_label, toward.dtype)
        ends = tf.constant(self._ends, toward.dtype)
        return tf.concat(
            [toward, *(tf.zeros_like(toward[..., :1]) + x for x in (nothing, ends))], -1
        )


def guided(
    flow: tfd.TransformedDistribution, guidance: float, *, annealed: bool = False
) -> tfd.TransformedDistribution:
    """Returns a flow built with `labels=` under classifier-free guidance: `Guided`.

    It shares the weights of `flow`, takes the same labels as conditions, and is a
    distribution like any other: sampled, scored, saved, exported.

    Args:
        flow: A class-conditional flow of causal parts, such as
            `tfpf.tarflow((8, 8, 1), labels=10)`.
        guidance: The weight `w`; 0 leaves the flow as it is.
        annealed: See `Guided`.

    Example:
        >>> import tfp_flows as tfpf
        >>> flow = tfpf.tarflow((4, 4, 1), patch=2, steps=2, width=8, labels=3)
        >>> strong = tfpf.guided(flow, 1.5)
        >>> tfpf.condition(strong, [0, 2]).sample(seed=1).shape
        TensorShape([2, 4, 4, 1])
    """
    found = False

    def with_guidance(part: tfb.Bijector) -> tfb.Bijector:
        nonlocal found
        if isinstance(part, compat.Chain):
            return tfb.Chain([*map(with_guidance, part.bijectors)], name=part.name)
        if not isinstance(part, EncodedCondition):
            return part
        found = isinstance(part.encoder, LabelEmbedding)
        options: dict[str, Any] = {"guidance": guidance, "annealed": annealed}
        return Guided(part.bijector, part.encoder, name=part.name, **options)

    bijector = with_guidance(flow.bijector) if hasattr(flow, "bijector") else None
    if not found:
        raise invalid("flow", "be built with `labels=`", flow)
    return tfd.TransformedDistribution(flow.distribution, bijector, name=flow.name)
