"""Attention over tokens: `AttentionBlock`, `Transformer`, `CausalTransformer`."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfp_flows.internal.arguments import (
    Activation,
    DescribedLayer,
    checked_choice,
    checked_integer,
    checked_number,
    invalid,
)
from tfp_flows.nets.conditioner import Conditioner, Shape, ops, wide_gain
from tfp_flows.nets.dense import built, cast, dropout_layer
from tfp_flows.nets.sequence import CausalConditioner, States, at_each_step

POSITIONS = ("learned", "rotary", "none")
_BASE = 10_000.0  # of rotary frequencies, as published
_WIDTH = 64


@keras.saving.register_keras_serializable(package="tfp_flows")
class AttentionBlock(DescribedLayer):
    """A pre-norm block of a transformer over tokens.

        h <- h + O softmax(q k^T / sqrt(w / heads)) v,     q, k, v = Q LN(h)
        h <- h + V f(U LN(h))

    with attention for each head apart. With `causal=True` a token attends to itself
    and those before it; `step` then adds one token, given the keys and values of
    those before. With `rotary=True` the pair i of a head's query and key at position t
    is turned by the angle `t 10000^(-2 i heads / w)`, so that products depend on
    distances only. `V` and `O` start small.

    Shapes: `[n, length, w]` to the same.

    Reference: Vaswani et al.: Attention Is All You Need, 2017, arXiv:1706.03762. Xiong
    et al.: On Layer Normalization in the Transformer Architecture, 2020,
    arXiv:2002.04745 (pre-norm). Su et al.: RoFormer, 2021, arXiv:2104.09864 (rotary).

    Example:
        >>> block = AttentionBlock(heads=2, causal=True)
        >>> block(ops.zeros([1, 5, 8])).shape
        TensorShape([1, 5, 8])
    """

    def __init__(
        self,
        heads: int = 4,
        *,
        causal: bool = False,
        rotary: bool = False,
        expansion: int = 4,
        activation: Activation = "gelu",
        dropout: float = 0.0,
        **kwargs: Any,
    ) -> None:
        """Configures the block.

        Args:
            heads: Number of heads, which divides the width.
            expansion: Width of the layer between `U` and `V`, in widths of a token.
            dropout: Share dropped of what either line adds, while training.
        """
        super().__init__(**kwargs)
        self.heads = checked_integer("heads", heads)
        self.causal, self.rotary = bool(causal), bool(rotary)
        self.expansion = checked_integer("expansion", expansion)
        self.activation: Any = keras.activations.get(activation)
        self.dropout = checked_number("dropout", dropout, minimum=0.0, below=1.0)

    def build(self, input_shape: Shape) -> None:
        """Makes the layers for tokens `[n, length, w]`."""
        *_, width = input_shape
        self._size, rest = divmod(width, self.heads)
        if rest or (self.rotary and self._size % 2):
            must = "divide the width of a token, into even numbers for rotary positions"
            raise invalid("heads", must, f"{self.heads} for a width of {width}")
        policy, small = self.dtype_policy, keras.initializers.RandomNormal(0.0, 0.02)
        norm = {"epsilon": 1e-5, "dtype": policy}
        self._norms = [
            built(keras.layers.LayerNormalization(**norm), width) for _ in range(2)
        ]
        dense, hidden = keras.layers.Dense, self.expansion * width
        self._qkv = built(dense(3 * width, dtype=policy), width)
        self._out = built(dense(width, kernel_initializer=small, dtype=policy), width)
        self._up = built(dense(hidden, self.activation, dtype=policy), width)
        self._down = built(dense(width, kernel_initializer=small, dtype=policy), hidden)
        self._drop = dropout_layer(self.dropout, policy, None, width)
        self.built = True

    def call(self, h: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Maps `[n, length, w]` to the same."""
        length = ops.shape(h)[1]
        q, k, v = self._parts(h, ops.arange(length))
        seen = ops.dot_product_attention(q, k, v, scale=1.0, is_causal=self.causal)
        return self._added(h, seen, training)

    def start(self, n: int | tf.Tensor, length: int) -> list[tf.Tensor]:
        """Returns room for the keys and values of `n` sequences."""
        shape = (length, n, self.heads, self._size)
        return [ops.zeros(shape, dtype=self.compute_dtype) for _ in range(2)]

    def step(
        self, h: tf.Tensor, position: int | tf.Tensor, cache: list[tf.Tensor]
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """Maps the token `[n, w]` at a position, given the cache of those before it."""
        h = h[:, None]
        q, k, v = self._parts(h, ops.reshape(position, [1]))
        place = tf.reshape(tf.cast(position, tf.int32), [1, 1])
        keys, values = (
            tf.tensor_scatter_nd_update(old, place, new[None, :, 0])
            for old, new in zip(cache, (k, v), strict=True)
        )
        logits = tf.einsum("nhd,tnhd->nht", q[:, 0], keys)
        past = tf.range(tf.shape(keys)[0]) <= tf.cast(position, tf.int32)
        logits = tf.where(past, logits, logits.dtype.min)
        at_least = tf.float64 if logits.dtype == tf.float64 else tf.float32
        shares = tf.nn.softmax(tf.cast(logits, at_least), axis=-1)
        seen = tf.einsum("nht,tnhd->nhd", tf.cast(shares, values.dtype), values)
        return self._added(h, seen[:, None], False)[:, 0], [keys, values]

    def _parts(self, h: tf.Tensor, positions: tf.Tensor) -> list[tf.Tensor]:
        """Returns query, key and value of each head, `[n, length, heads, size]`."""
        length = ops.shape(h)[1]
        qkv = at_each_step(self._qkv, self._norms[0](h))
        qkv = ops.reshape(qkv, (-1, length, 3, self.heads, self._size))
        q, k, v = (qkv[:, :, i] for i in range(3))
        if self.rotary:
            rates = _BASE ** -np.arange(0.0, 1.0, 2.0 / self._size)
            angles = cast(positions, "float32")[:, None, None] * rates.astype("float32")
            q, k = (_turned(part, angles) for part in (q, k))
        # Keras would round its `scale` to float32.
        return [q * self._size**-0.5, k, v]

    def _added(self, h: tf.Tensor, seen: tf.Tensor, training: bool | None) -> tf.Tensor:
        seen = ops.reshape(seen, (-1, ops.shape(h)[1], self.heads * self._size))
        h = h + self._dropped(at_each_step(self._out, seen), training)
        inner = at_each_step(self._up, self._norms[1](h))
        return h + self._dropped(at_each_step(self._down, inner), training)

    def _dropped(self, h: tf.Tensor, training: bool | None) -> tf.Tensor:
        return h if self._drop is None else self._drop(h, training=training)


def _turned(x: tf.Tensor, angles: tf.Tensor) -> tf.Tensor:
    """Turns pairs, the first of which are the first half, by angles `[t, 1, pairs]`."""
    a, b = ops.split(x, 2, axis=-1)
    cos, sin = cast(ops.cos(angles), x.dtype), cast(ops.sin(angles), x.dtype)
    return ops.concatenate([a * cos - b * sin, a * sin + b * cos], axis=-1)


class _Tokens(Conditioner):
    """What both transformers share: tokens in, positions, conditions and blocks."""

    causal = False

    def __init__(
        self,
        width: int = 64,
        layers: int = 2,
        heads: int = 4,
        *,
        positions: str = "learned",
        expansion: int = 4,
        activation: Activation = "gelu",
        dropout: float = 0.0,
        **kwargs: Any,
    ) -> None:
        """Configures the network; weights are made when it is connected.

        Args:
            width: Features w of a token.
            layers: Number of `AttentionBlock`s; see there for `heads`, `expansion` and
                `dropout`.
            positions: What tells tokens apart: `"learned"` features of each position,
                `"rotary"` or `"none"`.
        """
        super().__init__(**kwargs)
        self.width = checked_integer("width", width)
        self.layers = checked_integer("layers", layers)
        self.heads = checked_integer("heads", heads)
        self.positions = checked_choice("positions", positions, POSITIONS)
        self.expansion = checked_integer("expansion", expansion)
        self.activation: Any = keras.activations.get(activation)
        self.dropout = checked_number("dropout", dropout, minimum=0.0, below=1.0)
        if width % heads or (positions == "rotary" and width // heads % 2):
            must = "be divisible by `heads`, into even numbers for rotary positions"
            raise invalid("width", must, f"{width}, heads={heads}")

    def _make(self, length: int, values: int, condition_shape: Shape | None) -> None:
        width, policy = self.width, self.dtype_policy
        self._enter = self.dense(width, values)
        self._positions = None
        if self.positions == "learned":
            start = keras.initializers.RandomNormal(0.0, 0.02)
            self._positions = self.add_weight((length, width), start, name="positions")
        self._project = None
        if condition_shape is not None:
            whole = len(condition_shape) == 1 or condition_shape[0] == length
            if len(condition_shape) not in (1, 2) or not whole:
                must = f"be (c,), or ({length}, c) with values for each token"
                raise invalid("condition_shape", must, condition_shape)
            self._project = self.dense(width, condition_shape[-1], use_bias=False)
        self._blocks = [
            built(
                AttentionBlock(
                    self.heads,
                    causal=self.causal,
                    rotary=self.positions == "rotary",
                    expansion=self.expansion,
                    activation=self.activation,
                    dropout=self.dropout,
                    dtype=policy,
                ),
                length,
                width,
            )
            for _ in range(self.layers)
        ]
        gain = keras.initializers.Constant(wide_gain(width, _WIDTH))
        options = {"gamma_initializer": gain, "epsilon": 1e-5, "dtype": policy}
        self._norm = built(keras.layers.LayerNormalization(**options), width)

    def _placed(self, h: tf.Tensor, condition: tf.Tensor | None) -> tf.Tensor:
        """Adds positions and condition to the features of all tokens."""
        if self._positions is not None:
            h = h + cast(self._positions, h.dtype)
        return h if condition is None else h + self._projected(condition, h.dtype)

    def _projected(self, condition: tf.Tensor, dtype: Any) -> tf.Tensor:
        """Returns features of a condition, `[n, 1, w]` or `[n, length, w]`."""
        c = cast(condition, dtype)
        if len(c.shape) == 3:
            return at_each_step(self._project, c)
        return self._project(c)[:, None]  # type: ignore[misc]

    def _run(self, h: tf.Tensor, training: bool | None) -> tf.Tensor:
        for block in self._blocks:
            h = block(h, training=training)
        return self._norm(h)


@keras.saving.register_keras_serializable(package="tfp_flows")
class Transformer(_Tokens):
    """Attention of all tokens to all: the conditioner of couplings of tokens.

        h_t = E x_t + p_t + C c,    h <- AttentionBlock(h)  `layers` times
        output_t = D LN(h_t)

    with learned features `p_t` of positions, and a condition `c` of the event, or one
    of each token. `D` starts at zero, the gain of `LN` at `min(1, 64 / w)`: a step of
    Adam moves each weight as far, so couplings of wide networks would jump in the first
    steps. Where more tokens come out than go in, zeros
    stand for those that are missing; where fewer, the last are left out.

    Of n input and m output values a token it has `(n + 1) w + length w +
    layers ((4 + 2 e) w + 9 + e) w + 2 w + (w + 1) m` weights, with e the `expansion`.

    Shapes: `[batch, length, n]` to `[batch, length', m]`.

    Reference: Dosovitskiy et al.: An Image is Worth 16x16 Words, 2020,
    arXiv:2010.11929. Kolesnikov, Pinto, Tschannen: Jet, 2024, arXiv:2412.15129.

    Example:
        >>> net = Transformer(width=8, layers=1, heads=2)
        >>> net.connect(input_shape=(4, 6), output_shape=(4, 12))
        >>> net(ops.zeros([1, 4, 6])).shape
        TensorShape([1, 4, 12])
    """

    def build_network(
        self, input_shape: Shape, output_shape: Shape, condition_shape: Shape | None
    ) -> None:
        """Makes the layers for tokens of the given shapes."""
        if len(input_shape) != 2 or len(output_shape) != 2:
            raise ValueError(
                "A `Transformer` maps tokens (length, n) to tokens (length, m). "
                f"Received: inputs of shape {input_shape}, outputs of shape "
                f"{output_shape}"
            )
        self._more = max(output_shape[0] - input_shape[0], 0)
        self._make(input_shape[0] + self._more, input_shape[1], condition_shape)
        self._head = self.dense(
            output_shape[-1], self.width, kernel_initializer="zeros"
        )
        self._tokens = output_shape[0]

    def call(
        self,
        inputs: tf.Tensor,
        condition: tf.Tensor | None = None,
        training: bool | None = None,
    ) -> tf.Tensor:
        """Maps `[batch, length, n]` to `[batch, length', m]`."""
        if self._more:
            inputs = ops.pad(inputs, [[0, 0], [0, self._more], [0, 0]])
        h = self._placed(at_each_step(self._enter, inputs), condition)
        h = self._run(h, training)
        return at_each_step(self._head, h[:, : self._tokens])


@keras.saving.register_keras_serializable(package="tfp_flows")
class CausalTransformer(_Tokens, CausalConditioner):
    """Attention of each token to those before it, one token late.

        h_1 = s + p_1 + C c,    h_t = E v_{t-1} + p_t + C c
        output_t = LN(causal AttentionBlocks(h)_t)

    with a learned start `s`; the gain of `LN` starts as in `Transformer`. `call` gives
    all positions at once; `step` one after the other, from the keys and values that it
    keeps: the same numbers for `length` times less work.

    Shapes: `[n, length, d]` to `[n, length, width]`; conditions `[n, c]`, or
    `[n, length, c]` for each position its own.

    Reference: Vaswani et al.: Attention Is All You Need, 2017, arXiv:1706.03762. Zhai
    et al.: Normalizing Flows are Capable Generative Models, 2024, arXiv:2412.06329.

    Example:
        >>> net = CausalTransformer(width=8, layers=1, heads=2)
        >>> net.connect(input_shape=(5, 3), output_shape=(5, 8))
        >>> net(ops.zeros([2, 5, 3])).shape
        TensorShape([2, 5, 8])
    """

    causal = True

    def summary_shape(self, length: int) -> Shape:
        """Returns `(length, width)`."""
        return (length, self.width)

    def build_network(
        self, input_shape: Shape, output_shape: Shape, condition_shape: Shape | None
    ) -> None:
        """Makes the layers for sequences of the given shapes."""
        self._check_connection(input_shape, output_shape)
        self._length, d = input_shape
        self._make(self._length, d, condition_shape)
        start = keras.initializers.RandomNormal(0.0, 0.02)
        self._first = self.add_weight((self.width,), start, name="first")

    def call(
        self,
        inputs: tf.Tensor,
        condition: tf.Tensor | None = None,
        training: bool | None = None,
    ) -> tf.Tensor:
        """Maps `[n, length, d]` to `[n, length, width]`."""
        h = at_each_step(self._enter, inputs)
        first = ops.zeros_like(h[:, :1]) + cast(self._first, h.dtype)
        h = ops.concatenate([first, h[:, :-1]], axis=1)
        return self._run(self._placed(h, condition), training)

    def start(self, n: int | tf.Tensor) -> States:
        """Returns room for the keys and values of all positions of `n` sequences."""
        return [block.start(n, self._length) for block in self._blocks]

    def step(
        self,
        before: tf.Tensor,
        position: int | tf.Tensor,
        states: States,
        condition: tf.Tensor | None = None,
    ) -> tuple[tf.Tensor, States]:
        """Goes on by one position: see `CausalConditioner`."""
        dtype = self.compute_dtype
        h = self._enter(cast(before, dtype))
        h = tf.where(tf.equal(position, 0), cast(self._first, dtype), h)
        if self._positions is not None:
            h = h + cast(ops.take(self._positions, position, axis=0), dtype)
        if condition is not None:
            if len(condition.shape) == 3:
                condition = ops.take(condition, position, axis=1)
            h = h + self._projected(condition, dtype)[:, 0]
        following = []
        for block, cache in zip(self._blocks, states, strict=True):
            h, cache = block.step(h, position, cache)
            following.append(cache)
        return self._norm(h), following
