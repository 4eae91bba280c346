"""Fully connected conditioners: `MLP` and the masked `MADE`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike

from tfp_flows.internal.arguments import (
    Activation,
    Config,
    DType,
    Initializer,
    checked_choice,
    checked_integer,
    checked_number,
    checked_widths,
    invalid,
    is_integer,
)
from tfp_flows.nets.conditioner import Conditioner, Shape, ops, size

# Networks of so few values start wide.
_FEW = 4


def built(layer: keras.Layer, *shape: int | None) -> Any:
    """Builds a Keras layer for inputs `[n, *shape]` and returns it."""
    layer.build((None, *shape))
    return layer


def cast(x: tf.Tensor, dtype: DType) -> tf.Tensor:
    """Is `keras.ops.cast`, annotated as a tensor of this backend."""
    return ops.cast(x, dtype)


def hidden_initializers(
    inputs: int, values: int, kernel_initializer: Initializer = None
) -> Config:
    """Returns the initializers of a hidden dense layer of so many inputs.

    With `n` inputs of the layer, biases are uniform on +-1 / sqrt(n) and kernels on
    +-sqrt(6 / n) (He et al., 2015, arXiv:1502.01852) in a network that sees few values
    in all, else on +-1 / sqrt(n) too. A `kernel_initializer` takes the kernels' place.

    Of one or two values Keras's own choice is bad: its kernels shrink with the number
    of *outputs*, and with biases of zero all rectifiers have their kinks at 0. With
    many values He's kernels learn noise sooner.
    """
    bound = max(1, inputs) ** -0.5
    uniform = keras.initializers.RandomUniform
    if kernel_initializer is not None:
        described = keras.initializers.serialize(kernel_initializer)
        kernel = keras.initializers.get(described)
    else:
        kernel = "he_uniform" if values <= _FEW else uniform(-bound, bound)
    return {"kernel_initializer": kernel, "bias_initializer": uniform(-bound, bound)}


@keras.saving.register_keras_serializable(package="tfp_flows")
class MLP(Conditioner):
    """Dense layers from the values that a bijector passes on to its parameters.

    With `n` inputs (condition included), widths `h1, ..., hk` and `m` outputs it
    has `(n + 1) h1 + (h1 + 1) h2 + ... + (hk + 1) m` weights. With
    `residual=True` each width `h` is one block `h + W2 f(W1 f(h))` of
    `2 (h + 1) h` weights behind an input layer of `(n + 1) h`, as in the residual
    networks of neural spline flows (Durkan et al., 2019, arXiv:1906.04032).

    Inputs, conditions and outputs of any rank are flattened to vectors inside.

    Example:
        >>> net = MLP(hidden_units=(16, 16), activation="tanh")
        >>> net.connect(input_shape=(2,), output_shape=(4,))
        >>> net.count_params()
        388
    """

    def __init__(
        self,
        hidden_units: Sequence[int] = (128, 128),
        activation: Activation = "relu",
        residual: bool = False,
        dropout: float = 0.0,
        kernel_initializer: Initializer = None,
        period: float | None = None,
        **kwargs: Any,
    ) -> None:
        """Configures the network; weights are made when it is connected.

        Args:
            hidden_units: Widths of the hidden layers, or of the residual blocks.
            dropout: Share of hidden values dropped while training, in [0, 1).
            kernel_initializer: Keras initializer of the hidden layers; None for He's
                in a network of up to 4 values, else uniform on +-1 / sqrt(inputs).
            period: Period of inputs that are angles, of which the network then sees
                cosines and sines; None for inputs that are not.
        """
        super().__init__(**kwargs)
        self.hidden_units = checked_widths("hidden_units", hidden_units)
        self.activation: Any = keras.activations.get(activation)
        self.residual = _checked_residual(residual, self.hidden_units)
        self.dropout = checked_number("dropout", dropout, minimum=0.0, below=1.0)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.period = checked_period(period)

    def build_network(
        self, input_shape: Shape, output_shape: Shape, condition_shape: Shape | None
    ) -> None:
        """Makes the dense layers for the given shapes."""
        each = 1 if self.period is None else 2
        width = each * size(input_shape) + size(condition_shape)
        values, self._hidden = width, []
        for units in _widths(self.hidden_units, self.residual):
            start = hidden_initializers(width, values, self.kernel_initializer)
            self._hidden.append(self.dense(units, width, **start))
            width = units
        self._head = self.dense(size(output_shape), width, kernel_initializer="zeros")
        self._drop = dropout_layer(self.dropout, self.dtype_policy, width)

    def call(
        self,
        inputs: tf.Tensor,
        condition: tf.Tensor | None = None,
        training: bool | None = None,
    ) -> tf.Tensor:
        """Maps `[batch, *input_shape]` to `[batch, *output_shape]`."""
        h = on_circle(_flat(inputs), self.period)
        if condition is not None:
            condition = cast(_flat(condition), h.dtype)
            h = ops.concatenate([h, condition], axis=-1)
        h = self._residual(h, training) if self.residual else self._plain(h, training)
        return self.unflattened(self._head(h))

    def _plain(self, h: tf.Tensor, training: bool | None) -> tf.Tensor:
        for layer in self._hidden:
            h = dropped(self._drop, self.activation(layer(h)), training)
        return h

    def _residual(self, h: tf.Tensor, training: bool | None) -> tf.Tensor:
        h = self._hidden[0](h)
        for first, second in zip(self._hidden[1::2], self._hidden[2::2], strict=True):
            inner = self.activation(first(self.activation(h)))
            h = h + second(dropped(self._drop, inner, training))
        return self.activation(h)


def _checked_residual(residual: bool, hidden_units: Shape) -> bool:
    if residual and len(set(hidden_units)) != 1:
        must = "repeat one width when `residual=True`"
        raise invalid("hidden_units", must, hidden_units)
    return bool(residual)


def _widths(hidden_units: Shape, residual: bool) -> Shape:
    """Returns the widths of all hidden layers: two a block, and one before them."""
    return hidden_units[:1] + 2 * hidden_units if residual else hidden_units


def dropout_layer(rate: float, dtype: DType, *shape: int | None) -> Any:
    """Returns a built layer, or None for no dropout: a layer keeps a seed state."""
    return built(keras.layers.Dropout(rate, dtype=dtype), *shape) if rate else None


def dropped(layer: Any, h: tf.Tensor, training: bool | None) -> tf.Tensor:
    """Returns what a layer of `dropout_layer` leaves of hidden values."""
    return h if layer is None else layer(h, training=training)


def _flat(x: tf.Tensor) -> tf.Tensor:
    return x if len(x.shape) == 2 else ops.reshape(x, (-1, size(x.shape[1:])))


class MaskedDense(keras.Layer):
    """A dense layer `y = x (W * M) + b` of which the mask `M` keeps connections."""

    def __init__(
        self,
        mask: np.ndarray,
        kernel_initializer: Initializer,
        bias_initializer: Initializer = "zeros",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._initializers = kernel_initializer, bias_initializer
        self._mask = mask.astype("float32")
        self.build((None, mask.shape[0]))

    def build(self, input_shape: Shape) -> None:
        """Makes the kernel and the bias."""
        shape = self._mask.shape
        kernel, bias = self._initializers
        self.kernel = self.add_weight(shape, kernel, name="kernel")
        self.bias = self.add_weight(shape[1:], bias, name="bias")
        self.built = True

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """Maps `[n, inputs]` to `[n, outputs]`."""
        mask = ops.cast(self._mask, x.dtype)
        return ops.matmul(x, self.kernel * mask) + self.bias


def checked_period(period: float | None) -> float | None:
    """Returns a positive period, or None."""
    return None if period is None else checked_number("period", period, above=0.0)


def on_circle(x: tf.Tensor, period: float | None) -> tf.Tensor:
    """Returns the cosines and then the sines of angles of a period; None: `x`."""
    if period is None:
        return x
    angle = x * (2.0 * np.pi / period)
    return ops.concatenate([ops.cos(angle), ops.sin(angle)], axis=-1)


ORDERS = ("left-to-right", "right-to-left", "random")


@keras.saving.register_keras_serializable(package="tfp_flows")
class MADE(Conditioner):
    """Masked dense layers: parameters of value k depend on values before k only.

    With `S_k` the set of values that the parameters of value k may see, each hidden
    unit has one of these sets: it sees the values in it, by way of units whose sets it
    holds, and is seen by the parameters of all k with a set as large. The sets go round
    among the units, so the masks follow from the shapes alone. Conditions are seen by
    all units. Which values are in `S_k`, the arguments say:

    * `order`: those before k in an order of the values;
    * `passes`: those in groups before that of k, of as many equal groups of the order;
      one group for each value is fully autoregressive, two are a coupling;
    * `adjacency`: those on which k is known to depend, in any graph without cycles.

    With `residual=True` each width is one block `h + W2 f(W1 f(h))` of masked layers
    behind a first one, all of one width, as in neural spline flows.

    A flow that inverts the network needs `network_calls` of it: as many as there are
    groups, or values on the longest path of the graph.

    Inputs are vectors `[n, d]` with `d >= 2`, outputs `[n, d * parameters]`, the
    parameters of one value beside each other. The last layer starts at zero.

    Reference: Germain, Gregor, Murray, Larochelle: MADE, 2015, arXiv:1502.03509.
    Wehenkel, Louppe: Graphical Normalizing Flows, 2020, arXiv:2006.02548 (adjacency).

    Example:
        >>> import tensorflow as tf
        >>> net = MADE(hidden_units=(16,))
        >>> net.connect(input_shape=(3,), output_shape=(6,))
        >>> net(tf.constant([[1.0, 2.0, 3.0]])).shape
        TensorShape([1, 6])
    """

    def __init__(
        self,
        hidden_units: Sequence[int] = (128, 128),
        activation: Activation = "relu",
        reverse: bool = False,
        kernel_initializer: Initializer = None,
        *,
        order: str | Sequence[int] = "left-to-right",
        seed: int = 0,
        passes: int | None = None,
        adjacency: ArrayLike | None = None,
        residual: bool = False,
        dropout: float = 0.0,
        period: float | None = None,
        **kwargs: Any,
    ) -> None:
        """Configures the network; weights are made when it is connected.

        Args:
            reverse: Whether the order of the values runs from the last to the first.
            order: `"left-to-right"`, `"right-to-left"`, `"random"` by `seed`, or the
                positions of all values, the first to come first.
            passes: Number of groups of values, from 2 to `d`; None for `d`.
            adjacency: Matrix `[d, d]` of zeros and ones, 1 in row i and column j if
                value i depends on value j; it takes the place of order and passes.
            dropout: Share of hidden values dropped while training, in [0, 1); never
                where values are found one after another.
            period: Period of inputs that are angles: see `MLP`.
        """
        super().__init__(**kwargs)
        self.hidden_units = checked_widths("hidden_units", hidden_units)
        self.activation: Any = keras.activations.get(activation)
        self.reverse = bool(reverse)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        if isinstance(order, str):
            checked_choice("order", order, ORDERS)
        elif np.ndim(order) != 1 or not all(map(is_integer, order)):
            must = (
                f"be one of {', '.join(map(repr, ORDERS))} or a sequence of positions"
            )
            raise invalid("order", must, order)
        self.order = order if isinstance(order, str) else tuple(map(int, order))
        self.seed = checked_integer("seed", seed, 0)
        self.residual = _checked_residual(residual, self.hidden_units)
        self.dropout = checked_number("dropout", dropout, minimum=0.0, below=1.0)
        self.passes = None if passes is None else checked_integer("passes", passes, 2)
        self.period = checked_period(period)
        self.adjacency = None
        if adjacency is not None:
            if self.reverse or passes is not None or self.order != ORDERS[0]:
                must = (
                    "be given without `order`, `reverse` and `passes`: it is the order"
                )
                raise invalid("adjacency", must, adjacency)
            matrix = np.asarray(adjacency)
            if matrix.ndim != 2 or not np.isin(matrix, (0, 1)).all():
                must = "be a matrix of zeros and ones"
                raise invalid("adjacency", must, adjacency)
            self.adjacency = tuple(tuple(map(int, row)) for row in matrix)

    @property
    def network_calls(self) -> int:
        """How often a flow calls the network to invert it."""
        return self._network_calls

    def build_network(
        self, input_shape: Shape, output_shape: Shape, condition_shape: Shape | None
    ) -> None:
        """Makes the masked layers for the given shapes."""
        d = input_shape[0]
        if len(input_shape) != 1 or d < 2 or size(output_shape) % d:
            raise ValueError(
                "A `MADE` needs vectors of at least 2 values and as many outputs for "
                f"each of them. Received: inputs of shape {input_shape}, outputs of "
                f"shape {output_shape}"
            )
        seen, self._network_calls = self._seen(d)
        sets = np.unique(seen, axis=0)
        sets = sets[np.lexsort((*sets.T, sets.sum(1)))]
        # Units that see no value bring the condition to the first one.
        if condition_shape is None and len(sets) > 1 and not sets[0].any():
            sets = sets[1:]
        values = d + size(condition_shape)
        before = np.eye(d, dtype=bool)
        if self.period is not None:
            before = np.tile(before, (2, 1))
        self._masked_layers = []
        for units in _widths(self.hidden_units, self.residual):
            after = sets[np.arange(units) % len(sets)]
            start = hidden_initializers(len(before), values, self.kernel_initializer)
            self._masked_layers.append(self._masked(before, after, **start))
            before = after
        last = np.repeat(seen, size(output_shape) // d, axis=0)
        self._masked_layers.append(
            self._masked(before, last, kernel_initializer="zeros")
        )
        self._drop = dropout_layer(self.dropout, self.dtype_policy, None)
        self._from_condition = None
        if condition_shape is not None:
            self._from_condition = self.dense(
                self.hidden_units[0], size(condition_shape), use_bias=False
            )

    def _seen(self, d: int) -> tuple[np.ndarray, int]:
        """Returns which values each value sees, and the length of the longest path."""
        if self.adjacency is not None:
            seen = np.array(self.adjacency, bool)
            if seen.shape != (d, d):
                must = f"have a row and a column for each of the {d} values"
                raise invalid("adjacency", must, self.adjacency)
            seen &= ~np.eye(d, dtype=bool)
            depth = np.zeros(d, int)
            for _ in range(d):
                depth = np.max(np.where(seen, depth + 1, 0), axis=1)
            if np.any(depth >= d):
                raise invalid("adjacency", "have no cycles", self.adjacency)
            return seen, int(depth.max()) + 1
        if self.order == "random":
            order = np.random.default_rng(self.seed).permutation(d)
        elif isinstance(self.order, str):
            order = np.arange(d)[:: -1 if self.order == "right-to-left" else 1]
        else:
            order = np.array(self.order)
        if sorted(order) != [*range(d)]:
            must = f"name the positions 0 to {d - 1}, each once"
            raise invalid("order", must, self.order)
        passes = d if self.passes is None else self.passes
        if passes > d:
            raise invalid("passes", f"be at most {d}, the number of values", passes)
        groups = np.empty(d, int)
        groups[order[::-1] if self.reverse else order] = np.arange(d) * passes // d
        return groups[np.newaxis, :] < groups[:, np.newaxis], passes

    def _masked(
        self, before: np.ndarray, after: np.ndarray, **initializers: Initializer
    ) -> MaskedDense:
        """Connects units whose sets `[units, d]` are held by those of later ones."""
        beyond = before.astype("float32") @ ~after.T
        return MaskedDense(beyond == 0, dtype=self.dtype_policy, **initializers)

    def call(
        self,
        inputs: tf.Tensor,
        condition: tf.Tensor | None = None,
        training: bool | None = None,
    ) -> tf.Tensor:
        """Maps `[n, d]` to `[n, *output_shape]`."""
        h = self._masked_layers[0](on_circle(inputs, self.period))
        if condition is not None and self._from_condition is not None:
            h = h + self._from_condition(cast(_flat(condition), h.dtype))
        f, (_, *middle, last) = self.activation, self._masked_layers
        if self.residual:
            for first, second in zip(middle[::2], middle[1::2], strict=True):
                h = h + second(dropped(self._drop, f(first(f(h))), training))
            return self.unflattened(last(f(h)))
        h = dropped(self._drop, f(h), training)
        for layer in middle:
            h = dropped(self._drop, f(layer(h)), training)
        return self.unflattened(last(h))
