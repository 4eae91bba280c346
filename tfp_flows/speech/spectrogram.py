"""`mel_spectrogram`: how loud audio is at which pitch, frame by frame."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from tfp_flows.internal.arguments import checked_integer


def mel_spectrogram(
    audio: Any,
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
    audio, so that there is a frame to each `hop` samples.

    Args:
        audio: Amplitudes `[..., t]`, t a multiple of `hop`.
        rate: Number of samples in a second.
        hop: Number of samples from frame to frame.
        frame_length: Number of samples of a frame; None for `4 hop`.
        mels: Number of bands.
        floor: What silence counts for.

    Returns:
        Natural logarithms `[..., t / hop, mels]`, from `log(floor)` up.

    Raises:
        ValueError: If t is no multiple of `hop`, or a count no positive integer.

    Reference:
        Stevens, Volkmann, Newman: A scale for the measurement of the psychological
        magnitude pitch, 1937. `tf.signal` has the transform and the triangles.
    """
    checked_integer("hop", hop)
    frame_length = 4 * hop if frame_length is None else frame_length
    checked_integer("frame_length", frame_length, minimum=hop)
    checked_integer("mels", mels)
    audio = tf.convert_to_tensor(audio, dtype_hint=keras.config.floatx())
    if (audio.shape[-1] or 0) % hop:
        raise ValueError(
            f"Argument `audio` must have a multiple of hop={hop} samples. "
            f"Received: audio of shape {audio.shape}"
        )
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
