"""The model of text: it learns to spell, keeps its files, and takes prompts."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfp_flows as tfpf
from benchmarks.text import baselines


@pytest.fixture(scope="module")
def trained(small_text):
    """A flow of the small language after a few hundred steps, and its history."""
    alphabet, train, test = small_text
    keras.utils.set_random_seed(0)
    flow = tfpf.text.TextFlow(alphabet, train.shape[1], units=(40,), features=16)
    flow.compile(optimizer=tfpf.optimizer(1e-2, clip_norm=12.0))
    history = flow.fit(
        train, batch_size=64, epochs=4, verbose=0, validation_data=test
    ).history
    return flow, history


@pytest.mark.slow
def test_it_beats_the_bigram_on_held_out_text(trained, small_text):
    flow, history = trained
    alphabet, train, test = small_text
    bits = flow.bits_per_char(test)
    assert bits < baselines.bigram(train, alphabet).bits_per_char(test) - 0.2
    # Three bits a word of 4.6 characters and a space, and the start of a window.
    assert bits > 0.5
    assert history["val_bits_per_dim"][-1] == pytest.approx(bits, abs=0.02)
    # More draws, a tighter bound; the codes have moved apart, so by very little.
    assert bits - 0.05 < flow.bits_per_char(test, samples=8) < bits + 1e-3


def test_it_writes_words(trained):
    flow, _ = trained
    texts = flow.sample(100, seed=1)
    assert texts == flow.sample(100, seed=1)
    assert texts != flow.sample(100, seed=2)
    assert {len(text) for text in texts} == {12}
    # Words with a space on either side are whole.
    whole = [word for text in texts for word in text.split(" ")[1:-1]]
    known = {"rain", "stone", "nest", "oar", "tea", "rise", "notes", "antares"}
    assert len(whole) > 50
    assert np.mean([word in known for word in whole]) > 0.8


def test_it_goes_on_from_a_prompt(trained):
    flow, _ = trained
    texts = flow.sample(40, seed=3, prompt="rain anta")
    assert all(text.startswith("rain anta") for text in texts)
    assert np.mean([text == "rain antares" for text in texts]) > 0.8
    assert flow.sample(2, prompt="rain antares") == ["rain antares"] * 2


def test_text_comes_back_from_its_latents(trained, small_text):
    flow, _ = trained
    alphabet, _, test = small_text
    texts = ["".join(alphabet[k] for k in row) for row in test[:50]]
    z = flow.to_latents(texts, seed=1)
    assert z.shape == (50, 12, 4)
    assert flow.from_latents(z) == texts
    # Under a good model they are standard logistic noise.
    many = np.array(flow.to_latents(test, seed=2))
    assert abs(many.mean()) < 0.1
    assert many.std() == pytest.approx(np.pi / np.sqrt(3), abs=0.15)


def test_bounds_are_the_distribution_s_own(fresh, small_text):
    _, _, test = small_text
    flow = fresh()
    bits = flow.window_bits(test[:20], seed=(3, 4))
    seed = tf.random.experimental.stateless_fold_in([3, 4], 0)
    seed = tf.unstack(tf.random.experimental.stateless_split(seed, 1))[0]
    nats = flow.distribution.log_weight(test[:20].astype("float32"), seed)
    np.testing.assert_allclose(bits, -nats / (12 * np.log(2.0)), rtol=1e-5)
    # Nothing is learned yet: every character is as likely as any other.
    assert bits.mean() == pytest.approx(np.log2(9), abs=0.02)


def test_chunks_change_no_figure(fresh, small_text):
    _, train, _ = small_text
    flow = fresh()
    rows = train[:612]
    np.testing.assert_allclose(
        flow.window_bits(rows)[:500], flow.window_bits(rows[:500]), rtol=1e-5
    )
    assert flow.window_bits(rows, samples=2).shape == (612,)


@pytest.mark.parametrize(
    "step", [pytest.param("mixture", marks=pytest.mark.slow), "spline"]
)
def test_files_are_bit_equal(step, fresh, small_text, tmp_path):
    _, train, test = small_text
    flow = fresh(step)
    flow.fit(train[:640], batch_size=64, epochs=1, verbose=0)
    flow.save(tmp_path / "flow.keras")
    loaded = keras.models.load_model(tmp_path / "flow.keras")
    assert type(loaded) is tfpf.text.TextFlow
    assert loaded.get_config() == flow.get_config()
    np.testing.assert_array_equal(
        flow.window_bits(test[:30], seed=1), loaded.window_bits(test[:30], seed=1)
    )
    assert loaded.sample(3, seed=1) == flow.sample(3, seed=1)


@pytest.mark.parametrize("step", ["mixture", "spline"])
def test_training_lowers_the_bound(step, fresh, small_text):
    _, train, _ = small_text
    flow = fresh(step)
    flow.compile(optimizer=tfpf.optimizer(1e-2, clip_norm=12.0))
    nll = flow.fit(train[:3_200], batch_size=64, epochs=2, verbose=0).history["nll"]
    assert nll[1] < nll[0] - 1.0


@pytest.mark.slow
def test_it_is_served_as_any_distribution(fresh, small_text, tmp_path):
    _, _, test = small_text
    flow = fresh()
    path = tfpf.export_saved_model(flow, tmp_path / "text", warmup=False)
    served = tf.saved_model.load(path).signatures
    x = tf.constant(test[:8], tf.float32)
    answer = served["log_prob"](x=x)
    nats = 12 * np.log(9.0)
    np.testing.assert_allclose(answer["log_prob"], -nats, rtol=0.05)
    drawn = served["sample"](
        n=tf.constant(5), seed=tf.constant([1, 2]), temperature=tf.constant(1.0)
    )["samples"]
    assert drawn.shape == (5, 12)
    assert set(np.unique(drawn)) <= set(range(9))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda flow: flow.sample(1, prompt="rain" * 4), "at most 12 characters"),
        (lambda flow: flow.sample(1, prompt="xyz"), "the character 'x'"),
        (lambda flow: flow.bits_per_char(["rain"]), "strings of 12 characters"),
        (lambda flow: flow.bits_per_char(["rain"] * 2, samples=0), "`samples`"),
        (lambda flow: flow.evaluate(np.zeros([2, 5])), r"shape \[n, 12\]"),
        (lambda flow: flow.fit(np.full([2, 12], 9)), "integers from 0 to 8"),
        (lambda _: tfpf.text.TextFlow("aa"), "each of them once"),
        (lambda _: tfpf.text.TextFlow("ab", 1), "`length` must be an integer"),
        (
            lambda _: tfpf.text.TextFlow("abcde", 4, dimensions=2),
            "`d` must be at least 3 for 5 embeddings",
        ),
    ],
)
def test_wrong_arguments_are_named(call, words, fresh):
    with pytest.raises(ValueError, match=words):
        call(fresh())
