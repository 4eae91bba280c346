"""What a trained flow of audio gives: likelihoods, and audio for spectrograms."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tfp_flows.bijectors.conditional import LocalCondition
from tfp_flows.bijectors.reshape import Grouped
from tfp_flows.bijectors.tree import bijectors_in
from tfp_flows.distributions.bases import standard_normal
from tfp_flows.internal.arguments import Seed, checked_integer, invalid
from tfp_flows.speech.spectrogram import mel_spectrogram
from tfp_flows.speech.wav import check_amplitudes
from tfp_flows.training.model import FlowModel
from tfp_flows.training.sampling import distribution_of, sample

Flow: TypeAlias = "FlowModel | tfd.Distribution"


def nats_per_sample(
    model: FlowModel,
    windows: npt.ArrayLike,
    mels: npt.ArrayLike | None = None,
    *,
    batch_size: int = 32,
) -> np.ndarray:
    """Returns `log p(x | mel) / t` of each window, `[n]`, in nats a sample.

    Windows are audio `[n, t]`, their spectrograms, if the flow takes them,
    `[n, frames, mels]`. Densities are of amplitudes in [-1, 1): `15 - nats / log 2` is
    bits for a sample of 16 bits; see `tfpf.speech.dequantized`.
    """
    check_amplitudes("windows", windows)
    inputs = {"x": np.asarray(windows, np.float32)}
    if mels is not None:
        inputs["condition"] = np.asarray(mels, np.float32)
    log_density = model.predict(inputs, batch_size=batch_size, verbose=0)
    return np.asarray(log_density, np.float64) / np.shape(windows)[1]


def at_length(flow: Flow, length: int) -> tfd.TransformedDistribution:
    """Returns a `waveglow` for another length, of whole hops, with the same weights."""
    flow = distribution_of(flow, "flow")
    group, _ = _layers(flow)
    hop = hop_of(flow)
    if checked_integer("length", length) % hop:
        raise invalid("length", f"be a multiple of {hop} samples", length)
    base = standard_normal((length // group.group, group.group), flow.dtype)
    return tfd.TransformedDistribution(base, flow.bijector, name=flow.name)


def hop_of(flow: Flow) -> int:
    """Returns the number of samples to a frame, or to a group without condition."""
    group, local = _layers(distribution_of(flow, "flow"))
    return group.group * (1 if local is None else local.stride)


def synthesize_mel(
    flow: Flow,
    mel: npt.ArrayLike | tf.Tensor,
    *,
    temperature: float = 0.8,
    seed: Seed = 0,
) -> np.ndarray:
    """Draws audio for spectrograms from a conditional flow of `waveglow`.

    Args:
        mel: What `mel_spectrogram` returned, `[..., frames, mels]`.
        seed: None, an integer or a pair of integers; equal seeds, equal audio.

    Returns:
        Amplitudes in [-1, 1), `[..., frames * hop]`.
    """
    flow = distribution_of(flow, "flow")
    if _layers(flow)[1] is None:
        must = "take spectrograms, as `waveglow(mels=40)` does"
        raise invalid("flow", must, got=f"the flow '{flow.name}' without condition")
    mel = tf.convert_to_tensor(mel, flow.dtype)
    longer = at_length(flow, int(mel.shape[-2]) * hop_of(flow))
    # As one graph: eagerly, the many small layers would take longer.
    draw = tf.function(
        lambda mel: sample(longer, 1, seed, temperature, mel)[0], autograph=False
    )
    below_one = np.nextafter(np.float32(1.0), np.float32(0.0))
    return np.clip(draw(mel).numpy(), -1.0, below_one)


def copy_synthesis(
    flow: Flow,
    audio: npt.ArrayLike,
    rate: int = 8000,
    *,
    temperature: float = 0.8,
    seed: Seed = 0,
) -> np.ndarray:
    """Takes the spectrogram of audio `[t]` and draws other audio that has it.

    What a spectrogram does not tell, above all phases, the flow makes up. The length is
    any, the rate that of training; see `synthesize_mel` for the other arguments.
    """
    check_amplitudes("audio", audio)
    audio = np.asarray(audio, np.float32)
    if audio.ndim != 1 or not len(audio):
        raise invalid("audio", "be one row of samples [t]", audio)
    hop, (_, local) = hop_of(flow), _layers(distribution_of(flow, "flow"))
    mels = 1 if local is None else (local.condition_shape or (1,))[-1]
    padded = np.pad(audio, [0, -len(audio) % hop])
    mel = mel_spectrogram(padded, rate, hop=hop, mels=mels)
    return synthesize_mel(flow, mel, temperature=temperature, seed=seed)[: len(audio)]


def _layers(flow: tfd.Distribution) -> tuple[Grouped, LocalCondition | None]:
    """Returns what groups the samples of a flow, and what upsamples its frames."""
    bijector = getattr(flow, "bijector", None)
    layers = [] if bijector is None else bijectors_in(bijector)
    group = next((layer for layer in layers if isinstance(layer, Grouped)), None)
    if group is None:
        raise invalid("flow", "be a flow of `tfpf.speech.waveglow`", flow)
    local = (layer for layer in layers if isinstance(layer, LocalCondition))
    return group, next(local, None)
