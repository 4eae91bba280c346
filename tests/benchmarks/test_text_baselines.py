"""Smoothed counts: probabilities that add up, and figures that are known."""

import itertools

import numpy as np
import pytest

import tfp_flows as tfpf
from benchmarks.text import baselines

ALPHABET = " aeinorst"
WORDS = ("rain", "stone", "nest", "oar", "tea", "rise", "notes", "antares")


@pytest.fixture(scope="module")
def small_text():
    """An alphabet, and windows of two texts of a few words."""

    def windows(words, seed):
        text = " ".join(np.random.default_rng(seed).choice(WORDS, words))
        return tfpf.text.windows(text, 12, alphabet=ALPHABET)

    return ALPHABET, windows(8_000, 1), windows(1_000, 2)


def test_bigram_by_hand():
    model = baselines.bigram(["abab", "aabb"], "ab")
    # a follows: aa once, ab three times; b follows: ba once, bb once, each plus 1.
    first = -np.log2(5 / 10)
    after_a, after_b = -np.log2([2 / 6, 4 / 6]), -np.log2([2 / 4, 2 / 4])
    expected = [first + after_a[0] + after_a[1], first + after_b[0] + after_a[0]]
    np.testing.assert_allclose(
        model.window_bits(["aab", "baa"]), np.array(expected) / 3, rtol=1e-12
    )
    assert model.bits_per_char(["aab", "baa"]) == pytest.approx(np.mean(expected) / 3)


def test_unigram_is_the_entropy_of_its_own_counts():
    rows = np.repeat([[0, 1, 2, 2]], 10_000, axis=0)
    bits = baselines.unigram(rows, "abc").bits_per_char(rows)
    assert bits == pytest.approx(1.5, abs=1e-3)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_probabilities_of_all_windows_add_up(order, small_text):
    _, train, _ = small_text
    model = baselines.NGram(order, "abc").fit(np.minimum(train, 2))
    every = np.array(list(itertools.product(range(3), repeat=4)))
    assert np.exp2(-4 * model.window_bits(every)).sum() == pytest.approx(1.0)
    # Windows that are shorter than the context are answered from shorter ones.
    short = np.array([[0], [1], [2]])
    assert np.exp2(-model.window_bits(short)).sum() == pytest.approx(1.0)


def test_longer_contexts_know_more(small_text):
    alphabet, train, test = small_text
    bits = [
        baselines.NGram(n, alphabet).fit(train).bits_per_char(test) for n in (1, 2, 3)
    ]
    assert bits[0] > bits[1] + 0.5
    assert bits[1] > bits[2] + 0.1


def test_samples_have_the_frequencies_of_the_counts(small_text):
    alphabet, train, _ = small_text
    model = baselines.bigram(train, alphabet)
    texts = model.sample(4_000, 6, seed=1)
    assert texts == model.sample(4_000, 6, seed=1)
    assert {len(text) for text in texts} == {6}
    pairs = [text[k : k + 2] for text in texts for k in range(5)]
    real = ["".join(alphabet[i] for i in row[k : k + 2]) for row in train for k in (4,)]
    for pair in ("st", "ea", "s ", "zz"):
        share, expected = pairs.count(pair) / len(pairs), real.count(pair) / len(real)
        assert share == pytest.approx(expected, abs=0.015)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: baselines.NGram(0), ValueError, "`order` must be an integer"),
        (lambda: baselines.NGram(6), ValueError, "small enough"),
        (lambda: baselines.NGram(3).fit(["ab"]), ValueError, "`order=3` characters"),
        (lambda: baselines.NGram(2).window_bits(["ab"]), RuntimeError, "Call `fit"),
        (lambda: baselines.NGram(2).sample(1, 2), RuntimeError, "Call `fit"),
    ],
)
def test_wrong_arguments_are_named(call, error, words):
    with pytest.raises(error, match=words):
        call()
