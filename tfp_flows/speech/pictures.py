"""One picture of copy-synthesis: waveforms and spectrograms, original and drawn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import signal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LINE = "#0072B2"
_DECIBELS = 60.0  # between the darkest and the brightest colour


def spectrogram_figure(
    audios: Mapping[str, Any], rate: int = 8000, *, frame_length: int = 256
) -> Figure:
    """Draws waveform and spectrogram of each of some audios, one beside the other.

    Colours are on one scale: decibels below the loudest point of the first audio.

    Args:
        audios: Amplitudes `[t]` by title, such as `{"original": x, "copy": y}`.
        rate: Number of samples in a second.
        frame_length: Samples of a frame of the pictures. Short frames show the pulses
            of a voice, long ones its harmonics.

    Returns:
        A `matplotlib.figure.Figure`, to be saved by its `savefig`.

    Raises:
        ValueError: If there is no audio.
    """
    # Only pictures need matplotlib, which takes its time to import.
    from matplotlib.figure import Figure

    if not audios:
        raise ValueError(f"Argument `audios` must hold audio. Received: {audios!r}")
    figure = Figure(figsize=(4.4 * len(audios) + 0.8, 4.8), layout="constrained")
    above, below = figure.subplots(
        2, len(audios), squeeze=False, sharex="col", sharey="row", height_ratios=[1, 2]
    )
    loudest, image = None, None
    for column, (title, audio) in enumerate(audios.items()):
        audio = np.asarray(audio, np.float64)
        seconds = np.arange(len(audio)) / rate
        above[column].plot(seconds, audio, color=_LINE, lw=0.5)
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


def _show(axes: Axes, decibels: np.ndarray, extent: list[float]) -> Any:
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
