"""The bound on the probability of whole numbers: valid, tight, and in one piece."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

import tfp_flows as tfpf

A, T = 3, 3


def build(step="mixture", scale=0.2, samples=1, spread=0.5):
    """A flow of three numbers below three, its weights moved off their start."""
    flow = tfpf.text.causal_flow(
        T, 2, categories=A, units=(6,), features=4, step=step, scale=scale, bins=4,
        hidden_units=(8,),
    )  # fmt: skip
    embeddings = tfpf.text.character_embeddings(A, 2, scale=scale)
    distribution = tfpf.text.CategoricalFlow(
        flow, embeddings, categories=A, samples=samples
    )
    for k, weight in enumerate(flow.trainable_variables):
        noise = tf.random.stateless_normal(weight.shape, [5, k])
        weight.assign_add(spread * noise if weight.shape != (A, 4) else 0.0 * noise)
    return distribution


EVERY = np.array(list(itertools.product(range(A), repeat=T)), "float32")


@pytest.mark.parametrize(
    ("step", "scale", "spread"), [("mixture", 0.2, 0.5), ("spline", 0.6, 0.05)]
)
def test_weights_of_all_sequences_add_up_to_one(step, scale, spread):
    # sum_x E[w] = 1 however much the embeddings overlap and whatever the flow is. Far
    # from its start a spline flow's weights have tails that few draws reach.
    distribution = build(step, scale, spread=spread)
    many = tf.repeat(EVERY[None], 1_000, axis=0)
    weights = np.exp(distribution.log_weight(many, seed=1).numpy().astype(float))
    error = weights.sum(axis=1).std() / np.sqrt(len(weights))
    assert weights.sum(axis=1).mean() == pytest.approx(1.0, abs=5 * error + 1e-3)


def test_bound_rises_with_draws_and_stays_below():
    distribution = build(scale=0.6)
    draws = distribution.log_weight(tf.repeat(EVERY[None], 1_024, axis=0), seed=2)
    draws = draws.numpy().astype(float)
    exact = np.log(np.exp(draws).mean(axis=0))
    means = [
        np.log(np.exp(draws).reshape(-1, k, len(EVERY)).mean(axis=1)).mean(axis=0)
        for k in (1, 4, 64)
    ]
    assert np.all(means[0] < means[1])
    assert np.all(means[1] < means[2])
    assert np.all(means[2] < exact + 0.05)


def test_mixture_of_separate_embeddings_is_nearly_tight():
    # The weights of the components are then the probabilities; what is drawn matters
    # only through the network, which reads the vectors before.
    draws = build(scale=0.05).log_weight(tf.repeat(EVERY[None], 64, axis=0), seed=3)
    np.testing.assert_allclose(draws.numpy().std(axis=0), 0.0, atol=0.05)
    assert np.exp(draws).sum(axis=1).mean() == pytest.approx(1.0, abs=0.01)


def test_samples_have_the_probabilities_of_the_bound():
    distribution = build(scale=0.05)
    drawn = distribution.sample(3_000, seed=(0, 4)).numpy()
    assert drawn.dtype == np.float32
    places = (drawn @ A ** np.arange(T)[::-1]).astype(int)
    shares = np.bincount(places, minlength=len(EVERY)) / len(drawn)
    p = np.exp(distribution.log_weight(EVERY, seed=5))
    np.testing.assert_allclose(shares, p, atol=0.04)


def test_several_draws_in_log_prob():
    alone, several = build(scale=0.6), build(scale=0.6, samples=32)
    one = np.mean([alone.log_prob(EVERY) for _ in range(40)], axis=0)
    many = np.mean([several.log_prob(EVERY) for _ in range(10)], axis=0)
    assert many.shape == (len(EVERY),)
    assert many.mean() > one.mean() + 0.02
    assert several.log_prob(EVERY[0]).shape == ()


def test_vectors_are_read_as_what_they_were_drawn_for():
    distribution = build(scale=0.1)
    v = distribution.dequantize(EVERY, seed=(0, 6))[0]
    assert v.shape == (27, 3, 2)
    np.testing.assert_array_equal(distribution.quantize(v), EVERY)
    # Each position has noise of its own.
    assert len(np.unique(np.round(v, 6).reshape(-1, 2), axis=0)) == 81


def test_gradients_reach_flow_and_embeddings():
    for step in ("mixture", "spline"):
        model = tfpf.FlowModel(build(step))
        with tf.GradientTape() as tape:
            loss = -tf.reduce_mean(model(EVERY))
        gradients = tape.gradient(loss, [w.value for w in model.trainable_weights])
        unreached = [
            weight.path
            for weight, gradient in zip(model.trainable_weights, gradients, strict=True)
            if gradient is None or not np.any(tf.convert_to_tensor(gradient) != 0.0)
        ]
        assert unreached == []
        assert any("embedding" in w.path for w in model.trainable_weights)


def test_files_are_bit_equal(tmp_path):
    distribution = build("spline")
    tfpf.save_distribution(distribution, tmp_path / "flow.keras")
    loaded = tfpf.load_distribution(tmp_path / "flow.keras")
    np.testing.assert_array_equal(
        # A pair: TFP draws something new at each use of an integer.
        distribution.log_weight(EVERY, seed=(0, 1)),
        loaded.log_weight(EVERY, seed=(0, 1)),
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"categories": 1}, "`categories` must be an integer of at least 2"),
        ({"samples": 0}, "`samples` must be an integer"),
        (
            {"embeddings": tfpf.text.character_embeddings(3, 4)},
            "must be a flow of vectors",
        ),
    ],
)
def test_wrong_arguments_are_named(change, words):
    distribution = build()
    arguments = {
        "flow": distribution.flow,
        "embeddings": distribution.embeddings,
        "categories": A,
    }
    with pytest.raises(ValueError, match=words):
        tfpf.text.CategoricalFlow(**(arguments | change))


def test_unknown_steps_are_named():
    with pytest.raises(ValueError, match="`step` must be one of"):
        tfpf.text.causal_flow(4, 2, categories=3, step="affine")
