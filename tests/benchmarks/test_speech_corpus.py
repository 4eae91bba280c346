"""Speech from folders, and from espeak-ng where it is installed."""

import shutil

import numpy as np
import pytest

import tfp_flows as tfpf
from benchmarks.speech import corpus
from benchmarks.speech.sentences import SENTENCES

SPOKEN = pytest.mark.skipif(
    shutil.which("espeak-ng") is None, reason="espeak-ng is not installed"
)


@pytest.fixture
def folder(tmp_path):
    """Twelve sentences in two voices: sentence k is filled with k."""
    for k in range(12):
        for voice in range(2):
            path = tmp_path / f"sentence_{k:03d}_voice_{voice}.wav"
            tfpf.speech.write_wav(path, np.full(50 + voice, k, np.int16), 8000)
    return tmp_path


def heard(utterances):
    return sorted({int(tfpf.speech.quantized(each)[0]) for each in utterances})


def test_sentences_are_held_out_in_all_voices(folder):
    speech = corpus.read_speech(folder, held_out=0.25)
    assert speech.rate == 8000
    assert heard(speech.train) == list(range(9))
    assert heard(speech.test) == [9, 10, 11]
    assert [len(each) for each in speech.test] == [50, 51] * 3
    again = corpus.read_speech(folder, held_out=0.25)
    np.testing.assert_array_equal(speech.train[3], again.train[3])


def test_a_folder_can_be_named_in_the_environment(folder, monkeypatch):
    monkeypatch.setenv("TFP_FLOWS_SPEECH", str(folder))
    assert len(corpus.example_speech().train) == 22


def test_wrong_folders_are_named(folder, tmp_path):
    with pytest.raises(ValueError, match="at least 2 sentences"):
        corpus.read_speech(tmp_path / "none")
    with pytest.raises(ValueError, match="`held_out`"):
        corpus.read_speech(folder, held_out=1.0)
    tfpf.speech.write_wav(folder / "other.wav", np.zeros(9, np.int16), 11025)
    with pytest.raises(ValueError, match=r"\[8000, 11025\]"):
        corpus.read_speech(folder)


def test_without_the_program_there_is_advice(monkeypatch, tmp_path):
    monkeypatch.delenv("TFP_FLOWS_SPEECH", raising=False)
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(ValueError, match="apt-get install espeak-ng"):
        corpus.example_speech()


def test_sentences_are_many_and_different():
    assert len(set(SENTENCES)) == len(SENTENCES) == 80


@SPOKEN
def test_it_speaks_and_says_the_same_again(tmp_path):
    options = {"sentences": SENTENCES[:2], "voices": corpus.VOICES[:2]}
    files = corpus.synthesize(tmp_path / "a", **options)
    assert [file.name for file in files][:2] == [
        "sentence_000_voice_0.wav",
        "sentence_000_voice_1.wav",
    ]
    again = corpus.synthesize(tmp_path / "b", **options)
    assert [f.read_bytes() for f in files] == [f.read_bytes() for f in again]
    samples, rate = tfpf.speech.read_wav(files[0])
    assert rate == 8000
    assert 1.5 < len(samples) / rate < 8.0
    assert np.abs(samples / 2**15).max() == pytest.approx(0.6, abs=0.01)
    # Neither end is silent, and no pause is without noise.
    assert np.abs(samples[:80]).max() > 100
    assert np.all(
        np.abs(samples[: len(samples) // 80 * 80].reshape(-1, 80)).max(1) > 30
    )
    assert files[0].read_bytes() != files[1].read_bytes()


@SPOKEN
def test_an_unknown_voice_is_named(tmp_path):
    with pytest.raises(ValueError, match="voices of espeak-ng"):
        corpus.synthesize(tmp_path, voices=[("xx-none", 150, 50)])
