"""`waveglow`: a flow of audio given its spectrogram."""

from __future__ import annotations

import keras
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

from tfp_flows.bijectors import masks
from tfp_flows.bijectors.conditional import LocalCondition
from tfp_flows.bijectors.coupling import AffineCoupling
from tfp_flows.bijectors.linear import InvertibleConv1x1
from tfp_flows.bijectors.linear_prediction import LinearPrediction
from tfp_flows.bijectors.multiscale import EarlyOutput
from tfp_flows.bijectors.normalization import ActNorm
from tfp_flows.bijectors.repeat import Repeat
from tfp_flows.bijectors.reshape import Grouped
from tfp_flows.distributions.bases import standard_normal
from tfp_flows.internal.arguments import DType, checked_integer, invalid
from tfp_flows.nets.sequence import WaveNet


def waveglow(
    length: int = 2048,
    *,
    mels: int | None = 40,
    hop: int = 128,
    group: int = 8,
    steps: int = 8,
    early_every: int = 4,
    early_channels: int = 2,
    channels: int = 48,
    depth: int = 4,
    condition_channels: int = 32,
    prediction: int = 10,
    mode: str = "auto",
    dtype: DType = None,
    name: str = "waveglow",
) -> tfd.TransformedDistribution:
    """Builds WaveGlow: audio from noise, all samples at once, under a spectrogram.

    From the data to the latents: linear prediction (`LinearPrediction`, not in the
    paper: the flow starts as a Gaussian AR process and need not learn one), groups of
    neighbouring samples as channels (`Grouped`), and `steps` steps of actnorm,
    invertible 1x1 convolution and affine coupling, whose conditioner (`WaveNet`) also
    sees the spectrogram, upsampled by a transposed convolution. After every
    `early_every` steps `early_channels` channels are done.

    No weight depends on the length: `tfpf.speech.at_length` makes audio of any. A
    multiple of `hop` samples takes as many frames; `hop` must be one of `group`.

    The filter and the actnorms wait for data. `FlowModel.fit` takes its first batch;
    `model.adapt(x[:500], mel[:500])` before that measures them on more.

    Args:
        mels: Number of values of a frame; None for a flow without condition.
        group: Number of neighbouring samples that become channels.
        early_every: Number of steps after which channels are done.
        early_channels: How many are; 0 for none.
        channels: Features of a position in the conditioners.
        depth: Layers of the conditioners, which reach `2^depth - 1` groups to both
            sides.
        condition_channels: Features that the upsampling makes of frames.
        prediction: Order of the linear prediction; 0 for none, as in the paper.

    Returns:
        A flow of audio `[length]`, conditioned on `mel_spectrogram`s
        `[length / hop, mels]`. Its log-density is in nats for a window of amplitudes.

    Reference: Prenger, Valle, Catanzaro: WaveGlow: A flow-based generative network for
    speech synthesis, 2018, arXiv:1811.00002.

    Example:
        >>> flow = waveglow(256, mels=20, steps=2, channels=8, depth=2)
        >>> flow.event_shape
        TensorShape([256])
    """
    _check_lengths(length, hop, group)
    checked_integer("prediction", prediction, minimum=0)
    checked_integer("condition_channels", condition_channels)
    if mels is not None:
        checked_integer("mels", mels)
    seen = None if mels is None else (None, condition_channels)

    def step(width: int) -> tfb.Bijector:
        shape = (None, width)
        coupling = AffineCoupling(
            masks.channel(shape),
            WaveNet(channels, depth, dtype=dtype),
            condition_shape=seen,
            dtype=dtype,
        )
        mixing = InvertibleConv1x1(width, dtype=dtype)
        return tfb.Chain([ActNorm(width, dtype=dtype), mixing, coupling])

    widths = _widths(steps, group, early_every, early_channels)
    inner = None
    for width, count in reversed(widths):
        parts = [Repeat(step(width), count, mode=mode)]
        if inner is not None:
            parts.append(
                EarlyOutput(inner, early_channels) if early_channels else inner
            )
        inner = tfb.Chain(parts)
    parts = [Grouped(group, dtype=dtype), inner]
    if mels is not None:
        upsampler = _upsampler(condition_channels, hop // group, dtype)
        parts[1] = LocalCondition(inner, upsampler, features=mels, stride=hop // group)
    if prediction:
        parts.insert(0, LinearPrediction(prediction, dtype=dtype))
    return tfd.TransformedDistribution(
        standard_normal((length // group, group), dtype), tfb.Chain(parts), name=name
    )


def _upsampler(features: int, stride: int, dtype: DType) -> keras.Layer:
    """A transposed convolution of logarithms that lie about -6 and spread by 2."""
    return keras.Sequential(
        [
            keras.layers.Rescaling(0.5, 3.0, dtype=dtype),
            keras.layers.Conv1DTranspose(
                features, 2 * stride, strides=stride, padding="same", dtype=dtype
            ),
        ]
    )


def _widths(
    steps: int, group: int, early_every: int, early_channels: int
) -> list[tuple[int, int]]:
    """Returns channels and number of steps of each part, from the data on."""
    checked_integer("steps", steps)
    checked_integer("early_every", early_every)
    checked_integer("early_channels", early_channels, minimum=0)
    counts = [early_every] * (steps // early_every)
    if steps % early_every:
        counts.append(steps % early_every)
    widths = [group - early_channels * part for part in range(len(counts))]
    if widths[-1] < 2:
        raise ValueError(
            "Argument `early_channels` must leave at least 2 channels to the last "
            f"steps. Received: early_channels={early_channels} after every "
            f"{early_every} of {steps} steps with group={group}"
        )
    return list(zip(widths, counts, strict=True))


def _check_lengths(length: int, hop: int, group: int) -> None:
    checked_integer("group", group, minimum=2)
    checked_integer("hop", hop)
    checked_integer("length", length)
    for name, value, unit, whole in (
        ("hop", hop, "group", group),
        ("length", length, "hop", hop),
    ):
        if value % whole:
            must = f"be a multiple of {unit}={whole}"
            raise invalid(name, must, got=f"{name}={value}")
