"""What image flows share: levels, and priors of what leaves between them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

from tfp_flows.architectures.assembly import assemble
from tfp_flows.bijectors import masks
from tfp_flows.bijectors.conditional import Supported
from tfp_flows.bijectors.coupling import AffineCoupling, Coupling
from tfp_flows.bijectors.multiscale import MultiScale
from tfp_flows.bijectors.normalization import ActNorm
from tfp_flows.bijectors.reshape import Squeeze
from tfp_flows.bijectors.transforms.spline import RationalQuadraticSpline
from tfp_flows.internal.arguments import (
    Activation,
    DType,
    Shape,
    checked_choice,
    checked_integer,
    checked_number,
    checked_shape,
    float_dtype,
    invalid,
    renamed,
)
from tfp_flows.nets.conv import ConvNet, PriorNet, ZeroConv2D

PRIORS = ("learned", "normal")

_MOST_LEVELS = 3


def checked_levels(event_shape: Shape, levels: int | None) -> int:
    """Returns `levels`, None for what fits up to 3, or says what padding they need."""
    fitting = _halvings(event_shape)
    if levels is None:
        levels = min(fitting, _MOST_LEVELS) or 1
    levels = checked_integer("levels", levels)
    if levels <= fitting:
        return levels
    unit = 2**levels
    height, width, channels = event_shape
    rows, columns = -height % unit, -width % unit
    fewer = f", or use at most levels={fitting}" if fitting else ""
    raise ValueError(
        f"Argument `event_shape` must have a height and width divisible by 2**levels = "
        f"{unit}: pad the images by {rows} rows and {columns} columns to "
        f"({height + rows}, {width + columns}, {channels}){fewer}. "
        f"Received: event_shape={event_shape}, levels={levels}"
    )


def _halvings(event_shape: Shape) -> int:
    common = math.gcd(*event_shape[:2])
    return (common & -common).bit_length() - 1


def learned_prior(
    shape: Shape, dtype: DType, condition_shape: Sequence[int] | None = None
) -> tfb.Bijector:
    """Returns Glow's prior of the second half of the channels given the first.

    It is an affine coupling: from the half `h` that stays a zero-initialised 3x3
    convolution gives mean `m(h)` and log-scale `s(h)`, and the half that leaves,
    `z = m(h) + exp(s(h)) x`, becomes a standard normal `x`.

    Args:
        shape: Shape `(h, w, c)` of both halves together.
        condition_shape: Shape of a condition that mean and scale also depend on.
    """
    mask = masks.channel(shape)
    net = ZeroConv2D(2 * mask.transformed_shape[-1], 3, dtype=dtype)
    if condition_shape is not None:
        net = PriorNet(dtype=dtype)
    return AffineCoupling(
        mask, net, log_scale="exp", condition_shape=condition_shape, dtype=dtype
    )


def multiscale_flow(
    event_shape: Shape,
    levels: int | None,
    level: Callable[[Shape, bool], tuple[list[tfb.Bijector], Shape]],
    *,
    split_prior: str,
    split_condition: Sequence[int] | None,
    dtype: DType,
    **options: Any,
) -> tfd.TransformedDistribution:
    """Builds a flow of images `(h, w, c)`, half of whose values leave at each level.

    Args:
        level: Returns a level's bijectors, from the data on, and the shape behind them,
            given the shape before them and whether it is the last level.
        split_condition: Shape of a condition that a learned prior also depends on.
    """
    checked_choice("split_prior", split_prior, PRIORS)
    parts, shape = [], event_shape
    levels = checked_levels(event_shape, levels)
    for number in range(1, levels + 1):
        bijectors, shape = level(shape, number == levels)
        if number < levels:
            if split_prior == "learned":
                bijectors.append(learned_prior(shape, dtype, split_condition))
            shape = (*shape[:-1], shape[-1] // 2)
        parts.append(tfb.Chain(bijectors) if len(bijectors) > 1 else bijectors[0])
    return assemble(
        event_shape,
        [MultiScale(event_shape, parts)],
        dtype=dtype,
        latent_shape=(math.prod(event_shape),),
        **options,
    )


@renamed(levels="pixel_levels")
def logit(
    pixel_levels: float, alpha: float = 0.05, dtype: DType = None
) -> tfb.Bijector:
    """Maps data in `[0, L]`, such as dequantized pixels, to the real line.

        inverse (data to latent):  x = logit(alpha / 2 + (1 - alpha) y / L)

    TFP's `Scale`, `Shift` and `Sigmoid` in a chain, so the likelihood of the flow stays
    in the units of the data. Outside of `[0, L]` log-densities are `-inf`, and samples
    are clipped to it. With a clipped sample `experimental_sample_and_log_prob` gives
    the log-density of the point before; `log_prob` of the sample is another.

    Args:
        pixel_levels: How many values L a pixel can take.
        alpha: Share of the unit interval that its ends lose, in (0, 1).

    Reference: Dinh, Sohl-Dickstein, Bengio: Real NVP, 2016, arXiv:1605.08803, section
    4.1.
    """
    alpha = checked_number("alpha", alpha, above=0.0, below=1.0)
    dtype = float_dtype(dtype)
    scale = tf.constant(pixel_levels / (1.0 - alpha), dtype)
    shift = tf.constant(-0.5 * alpha, dtype)
    parts = tfb.Chain([tfb.Scale(scale), tfb.Shift(shift), tfb.Sigmoid()], name="logit")
    return Supported(parts, 0.0, float(pixel_levels))


@renamed(levels="pixel_levels")
def center(pixel_levels: float, dtype: DType = None) -> tfb.Bijector:
    """Maps data in `[0, L]`, with L the `pixel_levels`, to `[-1/2, 1/2]`, as Glow does.

    inverse (data to latent):  x = y / L - 1/2
    """
    dtype = float_dtype(dtype)
    scale, shift = tf.constant(pixel_levels, dtype), tf.constant(0.5, dtype)
    return tfb.Chain([tfb.Scale(scale), tfb.Shift(shift)], name="center")


def pixel_splines(
    event_shape: Sequence[int],
    *,
    bins: int = 8,
    bound: float = 3.0,
    hidden_channels: int = 32,
    activation: Activation = "relu",
    dtype: DType = None,
) -> tfb.Bijector:
    """Builds two couplings of splines for pixels with noise, behind `logit`.

        preprocess=tfb.Chain([tfpf.logit(256), tfpf.pixel_splines((28, 28, 1))])

    Of a pixel whose level its neighbours tell, such as one of a black background, what
    is left is the uniform noise of dequantization. An affine coupling gives a uniform
    value a normal's density, which costs `log2(2 pi e / 12) / 2 = 0.25` bits; a spline
    need not. So, before a flow mixes values, each half of the pixels of a checkerboard
    gets splines that depend on the other half.

    Args:
        event_shape: Shape `(h, w, c)` of an image, with even h and w.
        bins: Bins of a spline; see `tfpf.transforms.RationalQuadraticSpline`.
        bound: Where splines end, in standard deviations of the values.
        hidden_channels: Width of both `tfpf.nets.ConvNet`s.

    Example:
        >>> pixel_splines((8, 8, 1), bins=4).forward_event_shape((8, 8, 1))
        TensorShape([8, 8, 1])
    """
    shape = checked_shape("event_shape", event_shape)
    if len(shape) != 3 or shape[0] % 2 or shape[1] % 2:
        must = "be that of images (h, w, c) with even h and w"
        raise invalid("event_shape", must, shape)
    height, width, channels = shape
    patches = (height // 2, width // 2, 4 * channels)
    squeeze = Squeeze(order="checkerboard", dtype=dtype)
    spline = RationalQuadraticSpline(bins, bound=bound)
    couplings = [
        Coupling(
            masks.channel(patches, flip),
            ConvNet(hidden_channels, activation, dtype=dtype),
            spline,
            dtype=dtype,
        )
        for flip in (False, True)
    ]
    norm = ActNorm(patches[-1], dtype=dtype)
    parts = [squeeze, norm, *couplings, tfb.Invert(squeeze)]
    return tfb.Chain(parts, name="pixel_splines")
