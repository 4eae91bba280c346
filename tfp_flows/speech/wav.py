"""WAV files of 16 bits, and the step from integers to densities."""

from __future__ import annotations

import os
import wave
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tfp_flows.internal.arguments import invalid
from tfp_flows.internal.files import atomic_write

STEPS = 2**15
"""Steps from 0 to full scale; a sample of 16 bits is an integer in [-2^15, 2^15)."""


def read_wav(path: str | os.PathLike) -> tuple[np.ndarray, int]:
    """Reads integers `[t]` and the rate of a WAV file of one channel and 16 bits."""
    path = Path(path)
    if not path.is_file():
        raise invalid("path", "be an existing WAV file", str(path))
    try:
        with wave.open(str(path), "rb") as file:
            kind = file.getnchannels(), 8 * file.getsampwidth()
            rate, data = file.getframerate(), file.readframes(file.getnframes())
    except (wave.Error, EOFError) as error:
        raise ValueError(f"{path} cannot be read as a WAV file: {error}") from error
    if kind != (1, 16):
        raise ValueError(
            f"{path} must have one channel of 16 bits. "
            f"Received: {kind[0]} channels of {kind[1]} bits"
        )
    return np.frombuffer(data, "<i2").astype(np.int16), rate


def write_wav(path: str | os.PathLike, audio: npt.ArrayLike, rate: int) -> None:
    """Writes a WAV file of one channel and 16 bits by an atomic write.

    Audio is integers of 16 bits, or amplitudes `[t]`, clipped to [-1, 1).
    """
    samples = np.asarray(audio)
    if not np.issubdtype(samples.dtype, np.integer):
        samples = quantized(samples)
    elif samples.size and not -STEPS <= samples.min() <= samples.max() < STEPS:
        must = "be integers of 16 bits, or amplitudes"
        got = f"integers from {samples.min()} to {samples.max()}"
        raise invalid("audio", must, got=got)
    if samples.ndim != 1:
        must = "be one row of samples [t]"
        raise invalid("audio", must, got=f"audio of shape {samples.shape}")
    with atomic_write(path) as written, wave.open(str(written), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(int(rate))
        file.writeframes(samples.astype("<i2").tobytes())


def check_amplitudes(name: str, audio: npt.ArrayLike | tf.Tensor) -> None:
    """Refuses the integers of a WAV file where amplitudes are meant."""
    dtype = tf.as_dtype(
        audio.dtype if hasattr(audio, "dtype") else np.asarray(audio).dtype
    )
    if dtype.is_integer:
        must = "hold amplitudes in [-1, 1): `tfpf.speech.dequantized` makes them"
        raise invalid(name, must, got=f"integers, {dtype.name}")


def quantized(audio: npt.ArrayLike) -> np.ndarray:
    """Returns amplitudes as integers of 16 bits: `floor(2^15 x)`, clipped."""
    check_amplitudes("audio", audio)
    audio = np.asarray(audio, np.float64)
    if broken := np.sum(~np.isfinite(audio)):
        raise invalid("audio", "be finite", got=f"{broken} samples that are not")
    return np.clip(np.floor(audio * STEPS), -STEPS, STEPS - 1).astype(np.int16)


def dequantized(samples: npt.ArrayLike, seed: int | list[int] = 0) -> np.ndarray:
    """Returns amplitudes in [-1, 1), with uniform noise for what rounding took.

        x = (s + u) / 2^15,    u ~ Uniform[0, 1)

    A density of x in nats is a bound on the probability of s: on average
    `log P(s) >= log p(x) - log 2^15`, so that `15 - nats / log 2` is bits a sample.
    `quantized` returns s.
    """
    samples = np.asarray(samples)
    if samples.dtype != np.int16:
        must = "be integers of 16 bits, as `read_wav` returns"
        raise invalid("samples", must, got=f"samples of {samples.dtype}")
    noise = np.random.default_rng(seed).random(samples.shape)
    x = ((samples + noise) / STEPS).astype(np.float32)
    # Rounding to single precision must not lift a sample to the next integer.
    highest = np.nextafter((samples + np.float32(1.0)) / STEPS, np.float32(-2.0))
    return np.minimum(x, highest.astype(np.float32))
