"""Speech to learn from: read by a synthesiser, or from files of your own."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import signal

from benchmarks.speech.sentences import SENTENCES
from tfp_flows.internal.arguments import checked_integer
from tfp_flows.speech.wav import STEPS, dequantized, quantized, read_wav, write_wav

VARIABLE = "TFP_FLOWS_SPEECH"

_PROGRAM = "espeak-ng"
# What is this much softer than the loudest sample, at both ends, counts as silence.
_SILENCE = 0.01
_PEAK = 0.6


class Voice(NamedTuple):
    """A voice of espeak-ng.

    Attributes:
        name: Language and variant, such as `"en-us+f3"`.
        speed: Words in a minute.
        pitch: From 0 to 99.
    """

    name: str
    speed: int
    pitch: int


VOICES = (
    Voice("en-gb+m3", 150, 35),
    Voice("en-us+f2", 155, 55),
)


class Speech(NamedTuple):
    """Utterances to train on and to judge by, and their rate.

    Attributes:
        train: Amplitudes in [-1, 1), one array `[t]` an utterance.
        test: The same, of sentences that are not among those of `train`.
        rate: Number of samples in a second.
    """

    train: list[np.ndarray]
    test: list[np.ndarray]
    rate: int


def synthesize(
    folder: str | os.PathLike,
    *,
    sentences: Sequence[str] = SENTENCES,
    voices: Sequence[Voice] = VOICES,
    rate: int = 8000,
    noise: float = 1e-3,
    seed: int = 0,
) -> list[Path]:
    """Has espeak-ng read sentences, and writes a WAV file of each.

    The program is Debian's package `espeak-ng`, a formant synthesiser: what it says is
    *synthetic* speech, and the same every time. Each utterance is brought to `rate`,
    cut where it is silent at its ends, scaled to a peak of 0.6, and given white noise
    of deviation `noise` (60 dB below full scale, as of a quiet room), without which
    pauses would be digital silence, whose density has no bound.

    Args:
        folder: Where to; it is made if need be. Files are called
            `sentence_000_voice_0.wav` and so on.
        sentences: What is read.
        voices: By whom; every voice reads every sentence.
        rate: Number of samples in a second.
        noise: Standard deviation of the noise.
        seed: Seed of the noise.

    Returns:
        The files, sentence by sentence.

    Raises:
        ValueError: If espeak-ng is not there, or does not know a voice.
    """
    checked_integer("rate", rate)
    if not noise > 0:
        raise ValueError(f"Argument `noise` must be positive. Received: noise={noise}")
    program = shutil.which(_PROGRAM)
    if program is None:
        raise ValueError(
            "Speech needs a folder or a synthesiser. Install the speech synthesiser "
            "with `apt-get install espeak-ng`, or name a folder of WAV files in the "
            f"environment variable {VARIABLE}."
        )
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for number, sentence in enumerate(sentences):
        for which, voice in enumerate(voices):
            samples, own = _read_aloud(program, sentence, Voice(*voice))
            audio = _resampled(samples / STEPS, own, rate)
            audio = _without_silence(audio)
            audio *= _PEAK / np.abs(audio).max()
            generator = np.random.default_rng([seed, number, which])
            audio += noise * generator.normal(size=audio.shape)
            path = folder / f"sentence_{number:03d}_voice_{which}.wav"
            # Rounded, not cut off: half a step lies above each integer.
            write_wav(path, quantized(audio + 0.5 / STEPS), rate)
            made.append(path)
    return made


def read_speech(folder: str | os.PathLike, held_out: float = 0.1) -> Speech:
    """Reads a folder of WAV files, all of one rate, and holds the last ones out.

    Files are taken in the order of their names. Names that agree up to `_voice` are
    readings of one sentence, which is held out in all voices or in none.

    Args:
        folder: The folder.
        held_out: Share of the sentences to hold out, between 0 and 1.

    Returns:
        Dequantized utterances, by fixed noise.

    Raises:
        ValueError: If there are fewer than two sentences, or files of several rates.
    """
    if not 0.0 < held_out < 1.0:
        raise ValueError(
            "Argument `held_out` must lie between 0 and 1. "
            f"Received: held_out={held_out}"
        )
    files = sorted(Path(folder).glob("*.wav"))
    sentences = sorted({_sentence(file) for file in files})
    if len(sentences) < 2:
        raise ValueError(
            "Argument `folder` must hold WAV files of at least 2 sentences. "
            f"Received: {str(folder)!r} with {len(sentences)}"
        )
    read = [read_wav(file) for file in files]
    rates = {rate for _, rate in read}
    if len(rates) > 1:
        raise ValueError(
            "Argument `folder` must hold WAV files of one rate. "
            f"Received: {str(folder)!r} with rates {sorted(rates)}"
        )
    training = len(sentences) - max(1, round(held_out * len(sentences)))
    first = set(sentences[: max(training, 1)])
    parts: dict[bool, list[np.ndarray]] = {True: [], False: []}
    for number, (file, (samples, _)) in enumerate(zip(files, read, strict=True)):
        parts[_sentence(file) in first].append(dequantized(samples, [1, number]))
    return Speech(parts[True], parts[False], rates.pop())


def example_speech(
    folder: str | os.PathLike | None = None, held_out: float = 0.1
) -> Speech:
    """Returns speech to learn from: yours, or what espeak-ng reads.

    Args:
        folder: Folder of WAV files of 16 bits and one channel, as `read_speech` takes
            it. None for the one that the environment variable `TFP_FLOWS_SPEECH`
            names or, if there is none, for synthetic speech: `SENTENCES` read by
            `VOICES` with espeak-ng (Debian's package `espeak-ng`).
        held_out: Share of the sentences to hold out.

    Returns:
        Utterances to train on and to judge by.

    Raises:
        ValueError: If there is neither folder nor program.
    """
    folder = folder or os.environ.get(VARIABLE)
    if folder:
        return read_speech(folder, held_out)
    with tempfile.TemporaryDirectory(prefix="speech-") as made:
        synthesize(made)
        return read_speech(made, held_out)


def _sentence(file: Path) -> str:
    return file.stem.partition("_voice")[0]


def _read_aloud(program: str, sentence: str, voice: Voice) -> tuple[np.ndarray, int]:
    """Returns what a voice makes of a sentence, and at which rate."""
    with tempfile.TemporaryDirectory(prefix="read-") as folder:
        path = Path(folder) / "read.wav"
        options = ["-v", voice.name, "-s", str(voice.speed), "-p", str(voice.pitch)]
        answer = subprocess.run(
            [program, *options, "-w", str(path), sentence],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if answer.returncode or not path.is_file():
            raise ValueError(
                "Argument `voices` must name voices of espeak-ng. "
                f"Received: {voice}, of which it says: {answer.stderr.strip()}"
            )
        return read_wav(path)


def _resampled(audio: np.ndarray, own: int, rate: int) -> np.ndarray:
    common = np.gcd(own, rate)
    return signal.resample_poly(audio, rate // common, own // common)


def _without_silence(audio: np.ndarray) -> np.ndarray:
    """Cuts both ends up to the first and last sample that can be heard."""
    loud = np.flatnonzero(np.abs(audio) > _SILENCE * np.abs(audio).max())
    if not len(loud):
        raise ValueError("espeak-ng has said nothing: a sentence must have words.")
    return audio[loud[0] : loud[-1] + 1].copy()
