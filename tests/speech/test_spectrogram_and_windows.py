"""Spectrograms say what is loud at which pitch; windows keep audio and frames."""

import numpy as np
import pytest

import tfp_flows as tfpf

RATE = 8000


def sine(frequency, amplitude=0.5, length=4096):
    return amplitude * np.sin(2 * np.pi * frequency * np.arange(length) / RATE)


def band_of(frequency, mels=40):
    """The band in whose middle a frequency lies, by the formula of the mel scale."""
    mel = 1127.0 * np.log1p(np.array([frequency, RATE / 2]) / 700.0)
    return mel[0] / mel[1] * (mels + 1) - 1


@pytest.mark.parametrize("frequency", [250.0, 1000.0, 3000.0])
def test_a_sine_is_loud_in_its_band_and_nowhere_else(frequency):
    mel = np.array(tfpf.speech.mel_spectrogram(sine(frequency)))
    assert mel.shape == (32, 40)
    middle = mel[16]
    assert abs(int(middle.argmax()) - band_of(frequency)) <= 0.75
    far = np.abs(np.arange(40) - band_of(frequency)) > 4
    assert middle[far].max() < middle.max() - 4.0


def test_twice_the_amplitude_is_log_two_more():
    soft, loud = (
        np.array(tfpf.speech.mel_spectrogram(sine(1000.0, a))) for a in (0.2, 0.4)
    )
    peak = int(soft[16].argmax())
    assert loud[16, peak] - soft[16, peak] == pytest.approx(np.log(2.0), abs=1e-3)


def test_silence_is_the_floor():
    mel = np.array(tfpf.speech.mel_spectrogram(np.zeros([2, 256]), floor=1e-3))
    assert mel.shape == (2, 2, 40)
    np.testing.assert_allclose(mel, np.log(1e-3), rtol=1e-6)


def test_frames_lie_where_the_sound_is():
    audio = np.zeros(2048)
    audio[1024:1152] = sine(1000.0, length=128)
    mel = np.array(tfpf.speech.mel_spectrogram(audio, hop=128))
    assert mel.max(axis=1).argmax() == 8


def test_windows_are_pieces_of_audio_and_frames(sounds):
    utterances = [sounds[0][0], sounds[0][1][:900], sounds[0][2][:5000]]
    x, mel = tfpf.speech.windows(utterances, 1024, hop=128, mels=20, stride=512)
    assert x.shape[1:] == (1024,)
    assert mel.shape[1:] == (8, 20)
    # 12000 samples are 93 hops, 5000 are 39; 900 are no window.
    assert (
        len(x)
        == len(mel)
        == (93 * 128 - 1024) // 512 + 1 + (39 * 128 - 1024) // 512 + 1
    )
    np.testing.assert_array_equal(x[1], utterances[0][512:1536])
    whole = np.array(tfpf.speech.mel_spectrogram(utterances[0][: 93 * 128], mels=20))
    np.testing.assert_allclose(mel[1], whole[4:12], atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"length": 1000}, "`length` must be a multiple of hop=128"),
        ({"length": 1024, "stride": 100}, "`stride` must be a multiple"),
        ({"length": 128_000}, "none as long"),
    ],
)
def test_wrong_windows_are_named(sounds, arguments, words):
    with pytest.raises(ValueError, match=words):
        tfpf.speech.windows(sounds[0], **arguments)


def test_wrong_audio_is_named():
    with pytest.raises(ValueError, match="multiple of hop=128"):
        tfpf.speech.mel_spectrogram(np.zeros(100))
