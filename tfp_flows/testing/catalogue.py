"""Bijectors of the package, small, with the shapes of their inputs.

A new bijector is one more row of `TABLE`: the tests hold every row to the laws, and
`benchmarks.laws.run` prints by how much each row misses them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial

import keras
import numpy as np
import tensorflow as tf
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

from tfp_flows.architectures.images import pixel_splines
from tfp_flows.bijectors import masks, transforms
from tfp_flows.bijectors.autoregressive import Autoregressive, MaskedAutoregressive
from tfp_flows.bijectors.block import BlockAutoregressive
from tfp_flows.bijectors.causal import Causal, Guided
from tfp_flows.bijectors.conditional import EncodedCondition, condition
from tfp_flows.bijectors.convolution import ConvolutionExponential
from tfp_flows.bijectors.coupling import (
    AdditiveCoupling,
    AffineCoupling,
    Coupling,
    SplineCoupling,
)
from tfp_flows.bijectors.domains import Onto, Wrap
from tfp_flows.bijectors.elementwise import (
    ConditionalAffine,
    Elementwise,
    LeakyReLU,
    Sinh,
    SinhArcsinh,
)
from tfp_flows.bijectors.linear import InvertibleConv1x1, Linear
from tfp_flows.bijectors.multiscale import MultiScale
from tfp_flows.bijectors.normalization import ActNorm, BatchNorm
from tfp_flows.bijectors.planar import Planar, Radial, Sylvester
from tfp_flows.bijectors.repeat import Repeat
from tfp_flows.bijectors.reshape import Squeeze
from tfp_flows.bijectors.residual import Residual
from tfp_flows.distributions.bases import standard_normal
from tfp_flows.nets.attention import CausalTransformer, Transformer
from tfp_flows.nets.conv import ConvNet, DenseNet, GatedConvNet
from tfp_flows.nets.dense import MADE, MLP
from tfp_flows.nets.features import LabelEmbedding
from tfp_flows.nets.lipschitz import LipschitzConvNet, LipschitzMLP
from tfp_flows.testing.subject import Subject, perturb

HALF, FLIP = masks.half(4), masks.half(4, flip=True)
IMAGE = (4, 4, 2)
CHANNEL, CHECKERBOARD = masks.channel(IMAGE), masks.checkerboard(IMAGE)
GRAPH = [[0, 0, 0, 0], [1, 0, 0, 0], [1, 0, 0, 0], [0, 1, 1, 0]]
CONDITION = (3,)
SPLINE = transforms.RationalQuadraticSpline(4)
CONDITIONAL = {"condition_shape": CONDITION}


@dataclasses.dataclass(frozen=True)
class Row:
    """A bijector of the table.

    Attributes:
        make: Builds it in Keras's float type.
        shape: Shape of one input of `forward`.
        bound: Inputs are drawn from [-bound, bound].
        slow: Whether the default suite leaves it to the slow one.
    """

    make: Callable[[], tfb.Bijector]
    shape: tuple[int, ...] = (4,)
    condition: tuple[int, ...] | None = None
    bound: float = 3.0
    slow: bool = False

    def subject(self, n: int = 2) -> Subject:
        """Builds the bijector, moves its weights, and draws `n` inputs for it."""
        keras.utils.set_random_seed(1)
        bijector = perturb(self.make(), seed=2)
        generator = np.random.default_rng(3)
        x = generator.uniform(-self.bound, self.bound, (n, *self.shape))
        x = x.astype(keras.config.floatx())
        if self.condition is None:
            return Subject(bijector, x)
        return Subject(bijector, x, generator.normal(size=(n, *self.condition)))


def net() -> MLP:
    """A small smooth conditioner."""
    return MLP((8,), "tanh")


def pair(condition_shape: tuple[int, ...] | None = None) -> tfb.Bijector:
    """Two affine couplings, one for each half."""
    couplings = [
        AffineCoupling(mask, net(), condition_shape=condition_shape)
        for mask in (HALF, FLIP)
    ]
    return tfb.Chain(couplings)


def glow_step(mask: masks.Mask = HALF) -> tfb.Bijector:
    """Actnorm, 1x1 convolution and affine coupling."""
    channels = mask.event_shape[-1]
    coupling = AffineCoupling(mask, net())
    return tfb.Chain([ActNorm(channels), InvertibleConv1x1(channels), coupling])


def among_tfps() -> tfb.Bijector:
    """A coupling between TFP's own bijectors."""
    shift = tfb.Shift(np.array([1.0, 0.0, -1.0, 2.0], keras.config.floatx()))
    parts = [tfb.Sigmoid(), shift, tfb.Permute([2, 0, 3, 1])]
    return tfb.Chain([*parts, AffineCoupling(HALF, net())])


def batch_norm() -> tfb.Bijector:
    """Statistics of some data, not the initial zeros and ones."""
    norm = BatchNorm(4)
    dtype = keras.config.floatx()
    norm.adapt(tf.random.stateless_normal([50, 4], [1, 2], 1.0, 3.0, dtype))
    return norm


def two_levels() -> tfb.Bijector:
    """A Glow of two levels."""
    steps = [glow_step(masks.channel(s)) for s in [(2, 2, 8), (1, 1, 16)]]
    return MultiScale(IMAGE, [tfb.Chain([Squeeze(), step]) for step in steps])


def conditioned() -> tfb.Bijector:
    """A conditional coupling with its condition filled in."""
    coupling = AffineCoupling(HALF, net(), **CONDITIONAL)
    flow = tfd.TransformedDistribution(standard_normal(4), coupling)
    values = np.array([0.3, -1.0, 2.0], keras.config.floatx())
    return condition(flow, values).bijector


def encoded() -> tfb.Bijector:
    """A coupling that sees its conditions through another network."""
    coupling = AffineCoupling(HALF, net(), condition_shape=(2,))
    return EncodedCondition(coupling, keras.layers.Dense(2, "tanh"), **CONDITIONAL)


def prior() -> tfb.Bijector:
    """A class-conditional prior of an image."""
    return ConditionalAffine(IMAGE, keras.layers.Dense(2 * IMAGE[-1]), **CONDITIONAL)


def maf(**options: object) -> tfb.Bijector:
    """An autoregressive layer with a network that knows the order of values."""
    return MaskedAutoregressive(4, MADE((8,), "tanh"), bins=4, **options)


TOKENS = (4, 2)


def causal(condition: tuple[int, ...] | None = None, **options: object) -> tfb.Bijector:
    """Causal attention over tokens, which transforms each given those before it."""
    one = Elementwise(transforms.Affine(), 2, (4,), keras.layers.Dense(4))
    net = CausalTransformer(4, 1, 2, **options)
    return Causal(TOKENS, one, net, reverse=True, condition_shape=condition)


def attending(mask: masks.Mask) -> tfb.Bijector:
    """A coupling of tokens by attention of all to all."""
    return Coupling(mask, Transformer(4, 1, 2), transforms.Affine())


def guided() -> tfb.Bijector:
    """Causal attention, guided away from no class, with its label filled in."""
    flow = Guided(causal((3,)), LabelEmbedding(5, 3), guidance=1.5, annealed=True)
    base = tfd.Sample(tfd.Normal(tf.zeros([], keras.config.floatx()), 1.0), TOKENS)
    return condition(tfd.TransformedDistribution(base, flow), 2).bijector


def residual(activation: str = "sin", **options: object) -> tfb.Bijector:
    """A residual step whose fixed point is found in a few dozen steps."""
    return Residual(LipschitzMLP((8,), activation, lipschitz=0.6), 2, **options)


TABLE = {
    "additive": Row(lambda: AdditiveCoupling(HALF, net())),
    "affine": Row(lambda: AffineCoupling(HALF, net())),
    "affine_sigmoid": Row(lambda: AffineCoupling(FLIP, net(), log_scale="sigmoid")),
    "affine_exp": Row(lambda: AffineCoupling(HALF, net(), log_scale="exp")),
    "affine_tanh": Row(lambda: AffineCoupling(HALF, net(), log_scale="tanh")),
    "affine_odd": Row(lambda: AffineCoupling(masks.half(5), net()), (5,)),
    "affine_condition": Row(
        lambda: AffineCoupling(HALF, net(), **CONDITIONAL), condition=CONDITION
    ),
    "affine_channel": Row(lambda: AffineCoupling(CHANNEL, net()), IMAGE),
    "additive_checkerboard": Row(lambda: AdditiveCoupling(CHECKERBOARD, net()), IMAGE),
    "affine_conv": Row(lambda: AffineCoupling(CHECKERBOARD, ConvNet(4, "tanh")), IMAGE),
    "spline": Row(lambda: SplineCoupling(HALF, net(), bins=4), bound=6.0),
    "spline_circular": Row(
        lambda: SplineCoupling(HALF, net(), bins=4, tails="circular")
    ),
    "coupling_sinh_arcsinh": Row(
        lambda: Coupling(HALF, net(), transforms.SinhArcsinh())
    ),
    "coupling_mixture": Row(
        lambda: Coupling(HALF, net(), transforms.LogisticMixture(3))
    ),
    "coupling_gated": Row(
        lambda: AffineCoupling(CHANNEL, GatedConvNet(4, 1)), IMAGE, slow=True
    ),
    "coupling_dense": Row(
        lambda: AffineCoupling(CHANNEL, DenseNet(4, 1, "tanh")), IMAGE, slow=True
    ),
    "coupling_image": Row(
        lambda: Coupling(CHANNEL, ConvNet(4, "tanh"), transforms.Affine()), IMAGE
    ),
    "coupling_volume_preserving": Row(
        lambda: Coupling(HALF, net(), transforms.VolumePreserving())
    ),
    "autoregressive_mixture": Row(
        lambda: Autoregressive(MADE((8,), "tanh"), transforms.LogisticMixture(2), 4),
        slow=True,
    ),
    "autoregressive_normals": Row(
        lambda: Autoregressive(MADE((8,), "tanh"), transforms.NormalMixture(2), 4),
        slow=True,
    ),
    "autoregressive_passes": Row(
        lambda: Autoregressive(
            MADE((8,), "tanh", order="random", passes=2), event_shape=4
        )
    ),
    "autoregressive_graph": Row(
        lambda: Autoregressive(
            MADE((8,), "tanh", adjacency=GRAPH), event_shape=4, **CONDITIONAL
        ),
        condition=CONDITION,
    ),
    "residual": Row(residual, (2,)),
    "residual_condition": Row(
        partial(residual, activation="lipswish", **CONDITIONAL),
        (2,),
        CONDITION,
        slow=True,
    ),
    "residual_image": Row(
        lambda: Residual(LipschitzConvNet((2,), "tanh", lipschitz=0.6), (2, 2, 1)),
        (2, 2, 1),
        slow=True,
    ),
    "block_autoregressive": Row(lambda: BlockAutoregressive(2, (3,)), (2,), slow=True),
    "block_condition": Row(
        lambda: BlockAutoregressive(2, (3,), **CONDITIONAL), (2,), CONDITION, slow=True
    ),
    "elementwise": Row(lambda: Elementwise(SPLINE, (4,)), bound=6.0),
    "elementwise_image": Row(
        lambda: Elementwise(transforms.Affine(), IMAGE, shared_positions=True), IMAGE
    ),
    "elementwise_condition": Row(
        lambda: Elementwise(SPLINE, (1,), CONDITION, net()), (1,), CONDITION
    ),
    "elementwise_tanh": Row(lambda: Elementwise(transforms.Tanh("log"), (4,))),
    "elementwise_cauchy": Row(
        lambda: Elementwise(transforms.CauchyCDF(), (4,), CONDITION, net()),
        condition=CONDITION,
        slow=True,
    ),
    "maf": Row(maf),
    "maf_spline": Row(partial(maf, transform="spline")),
    "maf_residual": Row(
        lambda: Autoregressive(MADE((8,), "tanh", residual=True), event_shape=4),
        slow=True,
    ),
    "maf_condition": Row(partial(maf, **CONDITIONAL), condition=CONDITION),
    "iaf": Row(lambda: tfb.Invert(maf())),
    "causal_attention": Row(causal, TOKENS, slow=True),
    "causal_rotary": Row(
        partial(causal, CONDITION, positions="rotary"), TOKENS, CONDITION, slow=True
    ),
    "guided": Row(guided, TOKENS, slow=True),
    "attention_channels": Row(lambda: attending(masks.channel(TOKENS)), TOKENS),
    "attention_positions": Row(
        lambda: attending(masks.positions((3, 2), [1])), (3, 2), slow=True
    ),
    "linear_full": Row(lambda: Linear(4, kind="full")),
    "linear_triangular": Row(lambda: Linear(4, kind="triangular")),
    "linear_lu": Row(lambda: Linear(4, kind="lu")),
    "linear_householder": Row(lambda: Linear(4, kind="householder", reflections=3)),
    "linear_exponential": Row(
        lambda: Linear(4, kind="exponential", conditioner=net(), **CONDITIONAL),
        condition=CONDITION,
    ),
    "linear_rotation": Row(lambda: Linear(4, kind="rotation"), slow=True),
    "linear_low_rank": Row(lambda: Linear(4, kind="low_rank", rank=2)),
    "linear_condition": Row(
        lambda: Linear(4, conditioner=net(), **CONDITIONAL),
        condition=CONDITION,
        slow=True,
    ),
    "sinh": Row(lambda: Sinh(0.5)),
    "sinh_arcsinh": Row(lambda: SinhArcsinh(4)),
    "leaky_relu": Row(lambda: LeakyReLU(4)),
    "planar": Row(lambda: Planar(4)),
    "planar_condition": Row(
        lambda: Planar(4, conditioner=net(), **CONDITIONAL),
        condition=CONDITION,
        slow=True,
    ),
    "radial": Row(lambda: Radial(4)),
    "radial_condition": Row(
        lambda: Radial(4, conditioner=net(), **CONDITIONAL),
        condition=CONDITION,
        slow=True,
    ),
    "sylvester": Row(
        lambda: Sylvester(3, units=2, reflections=2, conditioner=net(), **CONDITIONAL),
        (3,),
        CONDITION,
    ),
    "sylvester_triangular": Row(lambda: Sylvester(4, reflections=0), slow=True),
    "actnorm": Row(lambda: ActNorm(4)),
    "actnorm_image": Row(lambda: ActNorm(2), IMAGE),
    "conv1x1": Row(lambda: InvertibleConv1x1(4)),
    "conv1x1_image": Row(lambda: InvertibleConv1x1(2), IMAGE),
    "conv1x1_matrix": Row(lambda: InvertibleConv1x1(4, kind="matrix")),
    "convolution_exponential": Row(lambda: ConvolutionExponential(2), IMAGE),
    "permutation": Row(lambda: InvertibleConv1x1(4, kind="permutation")),
    "reverse": Row(lambda: InvertibleConv1x1(4, kind="reverse")),
    "batch_norm": Row(batch_norm),
    "squeeze": Row(lambda: Squeeze(order="channel"), (2, 2, 8)),
    "wrap": Row(Wrap, slow=True),
    "onto_positive": Row(lambda: Onto("positive"), slow=True),
    "onto_ordered": Row(lambda: Onto("ordered")),
    "squeeze_haar": Row(lambda: Squeeze(kind="haar"), (2, 2, 8)),
    "conditional_affine": Row(prior, IMAGE, CONDITION),
    "conditioned": Row(conditioned),
    "multiscale": Row(two_levels, (32,)),
    "pixel_splines": Row(
        lambda: pixel_splines((2, 2, 2), bins=2, hidden_channels=2, activation="tanh"),
        (2, 2, 2),
        slow=True,
    ),
    "repeat": Row(lambda: Repeat(pair(), 2, mode="unrolled")),
    "repeat_loop": Row(lambda: Repeat(glow_step(), 3, mode="loop")),
    "repeat_condition": Row(lambda: Repeat(pair(CONDITION), 1), condition=CONDITION),
    "repeat_reversible": Row(lambda: Repeat(glow_step(), 3, mode="reversible")),
    "encoded_condition": Row(encoded, condition=CONDITION),
    "sigmoid": Row(tfb.Sigmoid),
    "tanh": Row(tfb.Tanh),
    "inverted": Row(lambda: tfb.Invert(AffineCoupling(HALF, net()))),
    "among_tfps": Row(among_tfps),
}
