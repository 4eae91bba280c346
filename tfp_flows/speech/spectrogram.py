"""How loud audio is at which pitch, frame by frame: for flows, and as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tfp_flows.internal.arguments import checked_integer, invalid
from tfp_flows.internal.pictures import BLUE
from tfp_flows.speech.wav import check_amplitudes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

_DECIBELS = 60.0  # between the darkest and the brightest colour


def mel_spectrogram(
    audio: npt.ArrayLike | tf.Tensor,
    rate: int = 8000,
    *,
    hop: int = 128,
    frame_length: int | None = None,
    mels: int = 40,
    floor: float = 1e-5,
) -> tf.Tensor:
    """Returns the logarithm of magnitudes in bands of equal width to the ear.

    With `X_n(f)` the Fourier transform of the n-th frame under a Hann window, scaled
    so that a sine of amplitude A has a peak of A,

        c_{n, m} = log(sum_f M_m(f) |X_n(f)| + floor)

    and `M_m` triangles of equal width on the mel scale from 0 to half the rate. Frame
    n is centred on samples `n hop, ..., (n + 1) hop - 1`; silence is put around the
    audio, so that there is a frame to each `hop` samples. There are `mels` bands and
    `rate` samples in a second.

    Args:
        audio: Amplitudes `[..., t]`, t a multiple of `hop`.
        frame_length: Number of samples of a frame; None for `4 hop`.
        floor: What silence counts for.

    Returns:
        Natural logarithms `[..., t / hop, mels]`, from `log(floor)` up.

    Reference: Stevens, Volkmann, Newman: A scale for the measurement of the
    psychological magnitude pitch, 1937. `tf.signal` has the transform and the
    triangles.
    """
    checked_integer("hop", hop)
    frame_length = 4 * hop if frame_length is None else frame_length
    checked_integer("frame_length", frame_length, minimum=hop)
    checked_integer("mels", mels)
    check_amplitudes("audio", audio)
    audio = tf.convert_to_tensor(audio, dtype_hint=keras.config.floatx())
    if (audio.shape[-1] or 0) % hop:
        raise invalid("audio", f"have a multiple of hop={hop} samples", audio)
    around = frame_length - hop
    padding = [[0, 0]] * (audio.shape.rank - 1) + [[around // 2, around - around // 2]]
    padded = tf.pad(audio, padding)
    window = tf.signal.hann_window(frame_length, dtype=audio.dtype)
    transformed = tf.signal.stft(padded, frame_length, hop)
    magnitudes = 2.0 * tf.abs(transformed) / tf.reduce_sum(window)
    bands = tf.signal.linear_to_mel_weight_matrix(
        mels, magnitudes.shape[-1], rate, 0.0, rate / 2, dtype=audio.dtype
    )
    return tf.math.log(tf.matmul(magnitudes, bands) + floor)


def windows(
    utterances: Sequence[npt.ArrayLike],
    length: int = 2048,
    *,
    rate: int = 8000,
    hop: int = 128,
    mels: int = 40,
    stride: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Cuts utterances into windows of one length, and their spectrograms with them.

    A spectrogram is taken of a whole utterance, as in synthesis: frames at the border
    of a window also hear what lies behind it. What fills no window is dropped. See
    `mel_spectrogram` for `rate`, `hop` and `mels`.

    Args:
        utterances: Audio of any lengths, amplitudes `[t]` each.
        length: Number of samples of a window, a multiple of `hop`.
        stride: Number of samples from window to window, a multiple of `hop`; None for
            `length`, windows side by side.

    Returns:
        Audio `[n, length]` and `mel_spectrogram` of it `[n, length / hop, mels]`,
        single precision.
    """
    stride = length if stride is None else stride
    for name, value in (("length", length), ("stride", stride)):
        if checked_integer(name, value) % hop:
            raise invalid(name, f"be a multiple of hop={hop}", value)
    audio, frames = [], []
    for utterance in utterances:
        check_amplitudes("utterances", utterance)
        utterance = np.asarray(utterance, np.float32)
        utterance = utterance[: len(utterance) // hop * hop]
        if len(utterance) < length:
            continue
        mel = np.asarray(mel_spectrogram(utterance, rate, hop=hop, mels=mels))
        for start in range(0, len(utterance) - length + 1, stride):
            audio.append(utterance[start : start + length])
            frames.append(mel[start // hop : (start + length) // hop])
    if not audio:
        must = f"have one of at least {length} samples"
        got = f"{len(utterances)} utterances, none as long"
        raise invalid("utterances", must, got=got)
    return np.stack(audio), np.stack(frames)


def spectrogram_figure(
    audios: Mapping[str, npt.ArrayLike], rate: int = 8000, *, frame_length: int = 256
) -> Figure:
    """Draws waveform and spectrogram of each of some audios, one beside the other.

    Audios are amplitudes `[t]` by title. Colours are decibels below the loudest point
    of the first. Short frames show the pulses of a voice, long ones its harmonics.
    """
    from matplotlib.figure import Figure

    if not audios:
        raise invalid("audios", "hold audio", audios)
    figure = Figure(figsize=(4.4 * len(audios) + 0.8, 4.8), layout="constrained")
    above, below = figure.subplots(
        2, len(audios), squeeze=False, sharex="col", sharey="row", height_ratios=[1, 2]
    )
    loudest, image = None, None
    for column, (title, audio) in enumerate(audios.items()):
        audio = np.asarray(audio, np.float64)
        above[column].plot(np.arange(len(audio)) / rate, audio, color=BLUE, lw=0.5)
        above[column].set_title(title)
        decibels, extent = _decibels(audio, rate, frame_length)
        loudest = decibels.max() if loudest is None else loudest
        image = _show(below[column], decibels - loudest, extent)
        below[column].set_xlabel("seconds")
    above[0].set_ylabel("amplitude")
    below[0].set_ylabel("kHz")
    figure.colorbar(image, ax=list(below), label="dB", shrink=0.9)
    return figure


def _decibels(
    audio: np.ndarray, rate: int, frame_length: int
) -> tuple[np.ndarray, list[float]]:
    from scipy import signal

    frequencies, times, power = signal.spectrogram(
        audio,
        rate,
        window="hann",
        nperseg=frame_length,
        noverlap=frame_length * 7 // 8,
        mode="magnitude",
    )
    extent = [times[0], times[-1], frequencies[0] / 1000, frequencies[-1] / 1000]
    return 20.0 * np.log10(power + 1e-9), extent


def _show(axes: Axes, decibels: np.ndarray, extent: list[float]) -> AxesImage:
    return axes.imshow(
        decibels,
        origin="lower",
        aspect="auto",
        extent=tuple(extent),
        cmap="magma",
        vmin=-_DECIBELS,
        vmax=0.0,
        interpolation="nearest",
    )
