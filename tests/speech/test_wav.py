"""WAV files come back as they were written, and dequantization undoes rounding."""

import wave

import numpy as np
import pytest

import tfp_flows as tfpf


def every_level():
    return np.arange(-(2**15), 2**15).astype(np.int16)


def test_integers_come_back(tmp_path):
    samples = np.random.default_rng(0).permutation(every_level())
    tfpf.speech.write_wav(tmp_path / "a.wav", samples, 11025)
    read, rate = tfpf.speech.read_wav(tmp_path / "a.wav")
    assert read.dtype == np.int16
    assert rate == 11025
    np.testing.assert_array_equal(read, samples)
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]


def test_the_file_is_what_others_expect(tmp_path):
    tfpf.speech.write_wav(tmp_path / "a.wav", np.array([0.0, 0.5, -1.0, 7.0]), 8000)
    with wave.open(str(tmp_path / "a.wav")) as file:
        assert file.getparams()[:4] == (1, 2, 8000, 4)
        data = file.readframes(4)
    assert data == np.array([0, 16384, -32768, 32767], "<i2").tobytes()


def test_quantizing_undoes_dequantizing():
    samples = every_level()
    for seed in range(5):
        x = tfpf.speech.dequantized(samples, seed)
        assert x.dtype == np.float32
        assert x.min() >= -1.0
        assert x.max() < 1.0
        np.testing.assert_array_equal(tfpf.speech.quantized(x), samples)


def test_noise_is_uniform_within_a_step():
    x = tfpf.speech.dequantized(np.full(20_000, 3, np.int16), 1).astype(float)
    within = x * 2**15 - 3.0
    assert 0.0 <= within.min() < 0.001
    assert 0.999 < within.max() < 1.0
    assert within.mean() == pytest.approx(0.5, abs=0.01)
    assert within.std() == pytest.approx(12**-0.5, abs=0.01)


def stereo(path):
    with wave.open(str(path), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(bytes(8))
    return path


def test_other_files_are_refused(tmp_path):
    with pytest.raises(ValueError, match="existing WAV file"):
        tfpf.speech.read_wav(tmp_path / "none.wav")
    (tmp_path / "text.wav").write_text("no sound at all")
    with pytest.raises(ValueError, match="cannot be read as a WAV file"):
        tfpf.speech.read_wav(tmp_path / "text.wav")
    with pytest.raises(ValueError, match="Received: 2 channels of 16 bits"):
        tfpf.speech.read_wav(stereo(tmp_path / "two.wav"))


@pytest.mark.parametrize(
    ("audio", "words"),
    [(np.zeros([2, 3]), r"shape \(2, 3\)"), (np.array([np.nan, 0.0]), "1 samples")],
)
def test_other_audio_is_refused(tmp_path, audio, words):
    with pytest.raises(ValueError, match=words):
        tfpf.speech.write_wav(tmp_path / "a.wav", audio, 8000)
    assert not list(tmp_path.iterdir())


def test_only_integers_are_dequantized():
    with pytest.raises(ValueError, match="integers of 16 bits"):
        tfpf.speech.dequantized(np.zeros(3))


def test_integers_are_not_taken_for_amplitudes(tmp_path):
    pcm = tfpf.speech.quantized(0.5 * np.sin(np.arange(1024)))
    tfpf.speech.write_wav(tmp_path / "a.wav", pcm.astype(np.int64), 8000)
    np.testing.assert_array_equal(tfpf.speech.read_wav(tmp_path / "a.wav")[0], pcm)
    with pytest.raises(ValueError, match="`audio` must be integers of 16 bits"):
        tfpf.speech.write_wav(tmp_path / "b.wav", np.array([40000]), 8000)
    calls = (
        lambda: tfpf.speech.windows([pcm], 512),
        lambda: tfpf.speech.mel_spectrogram(pcm),
        lambda: tfpf.speech.quantized(pcm),
        lambda: tfpf.speech.nats_per_sample(None, pcm[None]),
        lambda: tfpf.speech.copy_synthesis(None, pcm),
    )
    for call in calls:
        with pytest.raises(ValueError, match="must hold amplitudes in"):
            call()
