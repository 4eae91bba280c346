"""The benchmark of text: its language model is one, and its picture is drawn."""

import itertools

import numpy as np
import PIL.Image
import pytest

import tfp_flows as tfpf
from benchmarks.text import picture
from benchmarks.text.language_model import LanguageModel, language_model_of


def test_probabilities_of_all_windows_add_up():
    made = LanguageModel(3, units=5, features=4)
    every = np.array(list(itertools.product(range(3), repeat=4)), np.int32)
    assert np.exp2(-4 * made.window_bits(every)).sum() == pytest.approx(1.0, abs=1e-5)


def test_samples_follow_the_probabilities():
    made = LanguageModel(3, units=5, features=4)
    made.model.layers[-1].bias.assign([1.0, 0.0, -1.0])
    drawn = made.sample(4_000, 2, seed=1)
    every = np.array(list(itertools.product(range(3), repeat=2)), np.int32)
    shares = np.bincount(drawn @ [3, 1], minlength=9) / len(drawn)
    np.testing.assert_allclose(shares, np.exp2(-2 * made.window_bits(every)), atol=0.03)


def test_it_has_as_many_weights_as_a_flow():
    flow = tfpf.text.TextFlow(units=(64,), features=16)
    made = language_model_of(flow.count_params(), 27, 16)
    assert made.model.count_params() == pytest.approx(flow.count_params(), rel=0.02)


def test_picture_shows_curves_and_samples(tmp_path):
    names = ("unigram", "flow, mixture steps", "Keras LSTM")
    document = {
        "text": {"name": "a text"},
        "rows": {name: {"bits_per_char": 4.0 - k} for k, name in enumerate(names)},
        "curves": {
            name: {"steps": [0, 10, 20], "bits": [4.7, 3.5, 3.0]} for name in names[1:]
        },
        "samples": {name: {"texts": ["and it came to pass"] * 3} for name in names},
    }
    picture.draw(document, tmp_path / "text.png")
    with PIL.Image.open(tmp_path / "text.png") as image:
        assert image.size[0] > 800
        assert len(set(image.convert("L").tobytes())) > 50
