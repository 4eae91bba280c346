"""From a spectrogram back to audio, of any length."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows.bijectors.conditional import LocalCondition
from tfp_flows.bijectors.reshape import Grouped
from tfp_flows.bijectors.tree import nested_bijectors
from tfp_flows.distributions.bases import standard_normal
from tfp_flows.internal.arguments import checked_integer
from tfp_flows.speech.spectrogram import mel_spectrogram
from tfp_flows.training import sampling
from tfp_flows.training.model import FlowModel

tfd = tfp.distributions


def at_length(flow: Any, length: int) -> tfd.TransformedDistribution:
    """Returns a flow of audio of another length, with the same weights.

    Args:
        flow: A flow of `waveglow`, or a `FlowModel` of one.
        length: Number of samples, a multiple of the flow's hop.

    Returns:
        The flow of events `[length]`.

    Raises:
        ValueError: If `flow` is none of `waveglow`, or the length does not divide.
    """
    flow = _distribution(flow)
    group, _ = _parts(flow)
    hop = hop_of(flow)
    if checked_integer("length", length) % hop:
        raise ValueError(
            f"Argument `length` must be a multiple of {hop} samples. "
            f"Received: length={length}"
        )
    base = standard_normal((length // group.group, group.group), flow.dtype)
    return tfd.TransformedDistribution(base, flow.bijector, name=flow.name)


def hop_of(flow: Any) -> int:
    """Returns the number of samples to a frame, or to a group without condition."""
    group, local = _parts(_distribution(flow))
    return group.group * (1 if local is None else local.stride)


def synthesize_mel(
    flow: Any, mel: Any, *, temperature: float = 0.8, seed: Any = 0
) -> np.ndarray:
    """Draws audio for spectrograms.

    Args:
        flow: A conditional flow of `waveglow`, or a `FlowModel` of one.
        mel: What `mel_spectrogram` returned, `[..., frames, mels]`.
        temperature: Factor on the spread of the latents.
        seed: None, an integer or a pair of integers; equal seeds, equal audio.

    Returns:
        Amplitudes in [-1, 1), `[..., frames * hop]`.
    """
    flow = _distribution(flow)
    if _parts(flow)[1] is None:
        raise ValueError(
            "Argument `flow` must take spectrograms, as `waveglow(mels=40)` does. "
            f"Received: the flow '{flow.name}' without condition"
        )
    mel = tf.convert_to_tensor(mel, flow.dtype)
    longer = at_length(flow, mel.shape[-2] * hop_of(flow))
    drawn = _drawn(longer, mel, temperature, seed)
    return np.clip(drawn.numpy(), -1.0, np.nextafter(np.float32(1.0), np.float32(0.0)))


def copy_synthesis(
    flow: Any, audio: Any, rate: int = 8000, *, temperature: float = 0.8, seed: Any = 0
) -> np.ndarray:
    """Takes the spectrogram of audio and draws other audio that has it.

    What a spectrogram does not tell, above all phases, the flow makes up.

    Args:
        flow: A conditional flow of `waveglow`, or a `FlowModel` of one.
        audio: Amplitudes `[t]` of any length.
        rate: Number of samples in a second, as in training.
        temperature: Factor on the spread of the latents.
        seed: None, an integer or a pair of integers; equal seeds, equal audio.

    Returns:
        Amplitudes in [-1, 1), `[t]`.

    Raises:
        ValueError: If the flow takes no spectrograms, or the audio is not one row.
    """
    audio = np.asarray(audio, np.float32)
    if audio.ndim != 1 or not len(audio):
        raise ValueError(
            "Argument `audio` must be one row of samples [t]. "
            f"Received: an array of shape {audio.shape}"
        )
    hop, (_, local) = hop_of(flow), _parts(_distribution(flow))
    mels = 1 if local is None else local.condition_shape[-1]
    padded = np.pad(audio, [0, -len(audio) % hop])
    mel = mel_spectrogram(padded, rate, hop=hop, mels=mels)
    return synthesize_mel(flow, mel, temperature=temperature, seed=seed)[: len(audio)]


def _drawn(flow: Any, mel: tf.Tensor, temperature: float, seed: Any) -> tf.Tensor:
    """Draws one piece of audio for each spectrogram, as one graph."""

    @tf.function(autograph=False)
    def draw(mel: tf.Tensor) -> tf.Tensor:
        return sampling.sample(flow, 1, seed, temperature, mel)[0]

    return draw(mel)


def _distribution(flow: Any) -> tfd.Distribution:
    return flow.distribution if isinstance(flow, FlowModel) else flow


def _parts(flow: Any) -> tuple[Grouped, LocalCondition | None]:
    """Returns what groups the samples of a flow, and what upsamples its frames."""
    bijector = getattr(flow, "bijector", None)
    parts = [] if bijector is None else list(nested_bijectors(bijector))
    group = next((part for part in parts if isinstance(part, Grouped)), None)
    if group is None:
        raise ValueError(
            "Argument `flow` must be a flow of `tfpf.speech.waveglow`. "
            f"Received: {flow!r}"
        )
    local = (part for part in parts if isinstance(part, LocalCondition))
    return group, next(local, None)
