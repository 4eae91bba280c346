"""Every bijector of the package, small, with the shapes of its inputs.

A new bijector is one more row of `TABLE`: the tests hold every row to the laws, and
`benchmarks.laws.run` prints by how much each row misses them.
"""

import dataclasses
import functools
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_flows as tfpf

tfb, tfd = tfp.bijectors, tfp.distributions

HALF, FLIP = tfpf.masks.half(4), tfpf.masks.half(4, flip=True)
IMAGE = (4, 4, 2)
CHANNEL, CHECKERBOARD = tfpf.masks.channel(IMAGE), tfpf.masks.checkerboard(IMAGE)
CONDITION = (3,)


@dataclasses.dataclass
class Row:
    """A bijector of the table.

    Attributes:
        make: Builds it in Keras's float type; `net()` gives a fresh conditioner.
        shape: Shape of one input of `forward`.
        condition: Shape of one condition, or None.
        calls: Conditioner calls that a value with its log-det may cost; None stands
            for one of each network.
        traced: The same in a graph, where a loop counts once; None stands for `calls`.
        bound: Inputs are drawn from [-bound, bound].
        xla: Whether XLA knows all of its ops.
    """

    make: Callable
    shape: tuple = (4,)
    condition: tuple | None = None
    calls: int | None = None
    traced: int | None = None
    bound: float = 3.0
    xla: bool = True

    def inputs(self, batch=(2,)):
        """Returns inputs of `forward`, and conditions where there are any."""
        generator = np.random.default_rng(3)
        dtype = keras.config.floatx()
        x = generator.uniform(-self.bound, self.bound, (*batch, *self.shape))
        if self.condition is None:
            return (tf.constant(x, dtype),)
        c = generator.normal(size=(*batch, *self.condition))
        return tf.constant(x, dtype), tf.constant(c, dtype)


def built(row, net, seed=1):
    """Builds the bijector of a row, its weights moved away from their start.

    A fresh flow is near the identity, for which every law holds.

    Args:
        row: The row.
        net: Function without arguments that gives a fresh conditioner.
        seed: Seed of the weights.
    """
    keras.utils.set_random_seed(seed)
    bijector = row.make(net)
    move(bijector, 0.3)
    return bijector


def move(bijector, spread):
    """Adds noise to every weight."""
    generator = np.random.default_rng(2)
    for variable in bijector.trainable_variables:
        noise = spread * generator.standard_normal(variable.shape)
        variable.assign_add(tf.cast(noise, variable.dtype))


def standard_normal(shape):
    """A base in Keras's float type."""
    dtype = keras.config.floatx()
    return tfd.Sample(tfd.Normal(tf.zeros([], dtype), tf.ones([], dtype)), shape)


def pair(net, condition_shape=None):
    """Two affine couplings that move both halves."""
    keywords = {"condition_shape": condition_shape}
    return tfb.Chain([tfpf.AffineCoupling(m, net(), **keywords) for m in (HALF, FLIP)])


def glow_step(net, mask=HALF, condition_shape=None):
    """Actnorm, 1x1 convolution and affine coupling."""
    channels = mask.event_shape[-1]
    coupling = tfpf.AffineCoupling(mask, net(), condition_shape=condition_shape)
    parts = [tfpf.ActNorm(channels), tfpf.InvertibleConv1x1(channels), coupling]
    return tfb.Chain(parts)


def among_tfps(net):
    """A coupling between TFP's own bijectors."""
    shift = tfb.Shift(np.array([1.0, 0.0, -1.0, 2.0], keras.config.floatx()))
    parts = [tfb.Sigmoid(), shift, tfb.Permute([2, 0, 3, 1])]
    return tfb.Chain([*parts, tfpf.AffineCoupling(HALF, net())])


def batch_norm(net):
    """Statistics of some data, not the initial zeros and ones."""
    norm = tfpf.BatchNorm(4)
    dtype = keras.config.floatx()
    norm.adapt(tf.random.stateless_normal([50, 4], [1, 2], 1.0, 3.0, dtype))
    return norm


def two_levels(net):
    """A Glow of two levels."""
    steps = [glow_step(net, tfpf.masks.channel(s)) for s in [(2, 2, 8), (1, 1, 16)]]
    return tfpf.MultiScale(IMAGE, [tfb.Chain([tfpf.Squeeze(), step]) for step in steps])


def conditioned(net):
    """A conditional coupling with its condition filled in."""
    coupling = tfpf.AffineCoupling(HALF, net(), condition_shape=CONDITION)
    flow = tfd.TransformedDistribution(standard_normal([4]), coupling)
    given = np.array([0.3, -1.0, 2.0], keras.config.floatx())
    return tfpf.condition(flow, given).bijector


def encoded(net):
    """A coupling that sees its conditions through another network."""
    coupling = tfpf.AffineCoupling(HALF, net(), condition_shape=(2,))
    encoder = keras.layers.Dense(2, "tanh")
    return tfpf.EncodedCondition(coupling, encoder, condition_shape=CONDITION)


def prior(net):
    """A class-conditional prior of an image."""
    dense = keras.layers.Dense(2 * IMAGE[-1])
    return tfpf.ConditionalAffine(IMAGE, dense, condition_shape=CONDITION)


def conv_coupling(net):
    """A coupling of an image by a convolutional network."""
    return tfpf.AffineCoupling(CHECKERBOARD, tfpf.nets.ConvNet(4, "tanh"))


def masked_autoregressive(net, **keywords):
    """An autoregressive layer with a network that knows the order of values."""
    made = tfpf.nets.MADE((8,), "tanh")
    return tfpf.MaskedAutoregressive(4, made, bins=4, **keywords)


TABLE = {
    "additive": Row(lambda net: tfpf.AdditiveCoupling(HALF, net())),
    "affine": Row(lambda net: tfpf.AffineCoupling(HALF, net())),
    "affine_sigmoid": Row(
        lambda net: tfpf.AffineCoupling(FLIP, net(), log_scale="sigmoid")
    ),
    "affine_exp": Row(lambda net: tfpf.AffineCoupling(HALF, net(), log_scale="exp")),
    "affine_tanh": Row(lambda net: tfpf.AffineCoupling(HALF, net(), log_scale="tanh")),
    "affine_odd": Row(lambda net: tfpf.AffineCoupling(tfpf.masks.half(5), net()), (5,)),
    "affine_condition": Row(
        lambda net: tfpf.AffineCoupling(HALF, net(), condition_shape=CONDITION),
        condition=CONDITION,
    ),
    "affine_channel": Row(lambda net: tfpf.AffineCoupling(CHANNEL, net()), IMAGE),
    "additive_checkerboard": Row(
        lambda net: tfpf.AdditiveCoupling(CHECKERBOARD, net()), IMAGE
    ),
    "affine_conv": Row(conv_coupling, IMAGE),
    "spline": Row(lambda net: tfpf.SplineCoupling(HALF, net(), bins=4), bound=6.0),
    "spline_circular": Row(
        lambda net: tfpf.SplineCoupling(HALF, net(), bins=4, tails="circular")
    ),
    "maf": Row(masked_autoregressive),
    "maf_spline": Row(functools.partial(masked_autoregressive, transform="spline")),
    "maf_condition": Row(
        functools.partial(masked_autoregressive, condition_shape=CONDITION),
        condition=CONDITION,
    ),
    "iaf": Row(lambda net: tfb.Invert(masked_autoregressive(net))),
    "linear_full": Row(lambda net: tfpf.Linear(4, kind="full"), xla=False),
    "linear_triangular": Row(lambda net: tfpf.Linear(4, kind="triangular")),
    "linear_lu": Row(lambda net: tfpf.Linear(4, kind="lu")),
    "linear_householder": Row(
        lambda net: tfpf.Linear(4, kind="householder", reflections=3)
    ),
    "sinh_arcsinh": Row(lambda net: tfpf.SinhArcsinh(4)),
    "leaky_relu": Row(lambda net: tfpf.LeakyReLU(4)),
    "planar": Row(lambda net: tfpf.Planar(4)),
    "radial": Row(lambda net: tfpf.Radial(4)),
    "actnorm": Row(lambda net: tfpf.ActNorm(4)),
    "actnorm_image": Row(lambda net: tfpf.ActNorm(2), IMAGE),
    "conv1x1": Row(lambda net: tfpf.InvertibleConv1x1(4)),
    "conv1x1_image": Row(lambda net: tfpf.InvertibleConv1x1(2), IMAGE),
    "conv1x1_matrix": Row(
        lambda net: tfpf.InvertibleConv1x1(4, kind="matrix"), xla=False
    ),
    "permutation": Row(lambda net: tfpf.InvertibleConv1x1(4, kind="permutation")),
    "reverse": Row(lambda net: tfpf.InvertibleConv1x1(4, kind="reverse")),
    "batch_norm": Row(batch_norm),
    "squeeze": Row(lambda net: tfpf.Squeeze(order="channel"), (2, 2, 8)),
    "conditional_affine": Row(prior, IMAGE, CONDITION),
    "conditioned": Row(conditioned),
    "multiscale": Row(two_levels, (32,)),
    "repeat": Row(lambda net: tfpf.Repeat(pair(net), 2, mode="unrolled"), calls=4),
    "repeat_loop": Row(
        lambda net: tfpf.Repeat(glow_step(net), 3, mode="loop"), calls=3, traced=1
    ),
    "repeat_condition": Row(
        lambda net: tfpf.Repeat(pair(net, CONDITION), 1), condition=CONDITION
    ),
    "repeat_reversible": Row(
        lambda net: tfpf.Repeat(glow_step(net), 3, mode="reversible"), calls=3, traced=1
    ),
    "encoded_condition": Row(encoded, condition=CONDITION),
    "sigmoid": Row(lambda net: tfb.Sigmoid()),
    "tanh": Row(lambda net: tfb.Tanh()),
    "inverted": Row(lambda net: tfb.Invert(tfpf.AffineCoupling(HALF, net()))),
    "among_tfps": Row(among_tfps),
}
