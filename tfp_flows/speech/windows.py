"""`windows`: audio of any length as pieces of one length, with their spectrograms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tfp_flows.internal.arguments import checked_integer
from tfp_flows.speech.spectrogram import mel_spectrogram


def windows(
    utterances: Sequence[Any],
    length: int = 2048,
    *,
    rate: int = 8000,
    hop: int = 128,
    mels: int = 40,
    stride: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Cuts utterances into windows, and their spectrograms with them.

    A spectrogram is taken of a whole utterance, as in synthesis: frames at the border
    of a window also hear what lies behind it. What is left at the end of an utterance
    and fills no window is dropped.

    Args:
        utterances: Audio of any lengths, amplitudes `[t]` each.
        length: Number of samples of a window, a multiple of `hop`.
        rate: Number of samples in a second.
        hop: Number of samples from frame to frame.
        mels: Number of mel bands.
        stride: Number of samples from window to window, a multiple of `hop`; None for
            `length`, windows side by side.

    Returns:
        Audio `[n, length]` and `mel_spectrogram` of it `[n, length / hop, mels]`,
        single precision.

    Raises:
        ValueError: If `length` or `stride` is no multiple of `hop`, or no utterance is
            as long as a window.
    """
    stride = length if stride is None else stride
    for name, value in (("length", length), ("stride", stride)):
        if checked_integer(name, value) % hop:
            raise ValueError(
                f"Argument `{name}` must be a multiple of hop={hop}. "
                f"Received: {name}={value}"
            )
    audio, frames = [], []
    for utterance in utterances:
        utterance = np.asarray(utterance, np.float32)
        utterance = utterance[: len(utterance) // hop * hop]
        if len(utterance) < length:
            continue
        mel = np.asarray(mel_spectrogram(utterance, rate, hop=hop, mels=mels))
        for start in range(0, len(utterance) - length + 1, stride):
            audio.append(utterance[start : start + length])
            frames.append(mel[start // hop : (start + length) // hop])
    if not audio:
        raise ValueError(
            f"Argument `utterances` must have one of at least {length} samples. "
            f"Received: {len(utterances)} utterances, none as long"
        )
    return np.stack(audio), np.stack(frames)
