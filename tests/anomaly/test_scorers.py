"""Each scorer is its formula, is saved bit by bit, and is told from its own errors."""

import io

import keras
import numpy as np
import PIL.Image
import pytest
import tensorflow as tf
from scipy import spatial, stats

import tfp_flows as tfpf
from tfp_flows import anomaly
from tfp_flows.anomaly.scorers import SCORE_CEILING, png_bytes

X = np.random.default_rng(3).normal(3.0, 2.0, (400, 2))


def nll(x):
    return -stats.norm(3.0, 2.0).logpdf(x).sum(axis=-1)


def test_nll(normal_model):
    scores = tfpf.anomaly.anomaly_scores(normal_model, X, scorer=anomaly.NllScorer())
    np.testing.assert_allclose(scores, nll(X), rtol=1e-12)


def test_typicality_is_the_distance_from_the_mean_nll(normal_model):
    scorer = anomaly.fit_scorer(normal_model, anomaly.TypicalityScorer(), X)
    assert scorer.entropy == pytest.approx(nll(X).mean())
    far = np.array([[3.0, 3.0], [9.0, -3.0]])
    expected = np.abs(nll(far) - nll(X).mean())
    np.testing.assert_allclose(anomaly.anomaly_scores(normal_model, far), expected)
    # The mode is more likely than what is usual by exactly one nat in two dimensions.
    assert expected[0] == pytest.approx(1.0, abs=0.1)


def test_entropy_leaves_out_rows_without_a_density():
    rows = anomaly.Rows(X[:3], np.array([-1.0, -np.inf, -3.0]), X[:3])
    scorer = anomaly.TypicalityScorer()
    scorer.adapt(rows)
    assert scorer.entropy == 2.0
    with pytest.raises(ValueError, match="`log_prob` must have a finite value"):
        scorer.adapt(anomaly.Rows(X[:1], np.array([np.nan]), X[:1]))


@pytest.mark.parametrize("centered", [False, True])
def test_latent_norm(normal_model, centered):
    scorer = anomaly.LatentNormScorer(centered=centered)
    anomaly.fit_scorer(normal_model, scorer, X)
    norms = np.linalg.norm((X - 3.0) / 2.0, axis=1)
    center = norms.mean() if centered else 0.0
    np.testing.assert_allclose(
        anomaly.anomaly_scores(normal_model, X), np.abs(norms - center), rtol=1e-9
    )


def test_joint_typicality_is_mahalanobis_s_distance(normal_model):
    scorer = anomaly.fit_scorer(normal_model, anomaly.JointTypicalityScorer(), X)
    found = np.stack([nll(X), np.linalg.norm((X - 3.0) / 2.0, axis=1)], axis=1)
    mean, precision = found.mean(axis=0), np.linalg.inv(np.cov(found, rowvar=False))
    expected = [spatial.distance.mahalanobis(row, mean, precision) for row in found]
    scores = anomaly.anomaly_scores(normal_model, X)
    np.testing.assert_allclose(scores, expected, rtol=1e-8)
    assert np.mean(np.square(scores)) == pytest.approx(2.0, rel=0.01)
    assert scorer.threshold < anomaly.anomaly_scores(normal_model, [[30.0, 3.0]])


def test_joint_typicality_sees_what_each_statistic_does_not():
    # A PNG of a flat image is small, and the likelihood is that of a large file.
    generator = np.random.default_rng(0)
    colours = generator.integers(0, 256, (200, 1, 1, 1))
    x = (colours + np.zeros((1, 8, 8, 1))).astype("float32")
    rough = generator.integers(0, 256, x.shape)
    share = generator.random((200, 1, 1, 1))
    x = np.where(generator.random(x.shape) < share, rough, x).astype("float32")
    sizes = png_bytes(x).numpy().astype("float64")
    log_prob = -5.0 * sizes + generator.normal(size=200)
    latent = generator.normal(size=(200, 64))
    scorer = anomaly.JointTypicalityScorer()
    scorer.adapt(anomaly.Rows(x, log_prob, latent))
    smallest = [np.argmin(sizes)]
    usual = -5.0 * sizes.mean(keepdims=True)
    odd = anomaly.Rows(x[smallest], usual, latent[smallest])
    assert scorer.scores(odd) > 10.0
    assert scorer.scores(anomaly.Rows(x, log_prob, latent)).max() < 8.0


def test_joint_typicality_needs_statistics_that_vary():
    rows = anomaly.Rows(X[:9], np.zeros(9), X[:9])
    with pytest.raises(ValueError, match="2 statistics that vary"):
        anomaly.JointTypicalityScorer().adapt(rows)


def test_complexity_is_bits_beyond_a_png(glow_model, images, pixels):
    scores = anomaly.anomaly_scores(
        glow_model, images, scorer=anomaly.ComplexityScorer()
    )
    log_prob = glow_model.distribution.log_prob(images).numpy()
    sizes = png_bytes(images).numpy()
    np.testing.assert_allclose(
        scores, -log_prob / np.log(2.0) - 8.0 * sizes, rtol=1e-5, atol=1e-3
    )
    # A flat image packs best, and what is packed are the whole pixel values.
    assert sizes[0] == sizes.min() < sizes[1:].min()
    encoded = tf.io.encode_png(pixels[3], compression=9).numpy()
    assert sizes[3] == len(encoded)
    back = np.asarray(PIL.Image.open(io.BytesIO(encoded)))
    np.testing.assert_array_equal(back, pixels[3, :, :, 0])


def test_complexity_needs_images(normal_model):
    with pytest.raises(ValueError, match=r"`x` must be images of shape \[n, h, w, c\]"):
        anomaly.anomaly_scores(normal_model, X, scorer=anomaly.ComplexityScorer())


def test_ratio_against_a_background(glow_model, background, images):
    scorer = anomaly.RatioScorer(background)
    expected = background.log_prob(images) - glow_model.distribution.log_prob(images)
    scores = anomaly.anomaly_scores(glow_model, images, scorer=scorer)
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-3)


def test_background_is_a_frozen_copy(glow_model, background, images):
    scorer = anomaly.fit_scorer(
        glow_model, anomaly.RatioScorer(background), images, false_alarm_rate=0.1
    )
    trainable = len(glow_model.trainable_weights)
    kept = [weight.numpy().copy() for weight in scorer.background.weights]
    before = background.log_prob(images).numpy()
    # Setting the whole model to be trained does not thaw it.
    glow_model.trainable = True
    assert len(glow_model.trainable_weights) == trainable
    glow_model.compile(optimizer=keras.optimizers.SGD(1e-3))
    glow_model.fit(images, epochs=1, verbose=0)
    for weight, value in zip(scorer.background.weights, kept, strict=True):
        np.testing.assert_array_equal(weight, value)
    # What it was copied from can still be trained, and was not.
    assert tfpf.FlowModel(background).trainable_weights
    np.testing.assert_array_equal(background.log_prob(images), before)


def test_background_must_take_no_condition():
    flow = tfpf.real_nvp((2,), couplings=2, hidden_units=(4,), condition_shape=(1,))
    with pytest.raises(ValueError, match="must be a flow without conditions"):
        anomaly.RatioScorer(flow)


def scorers(background):
    return {
        "nll": anomaly.NllScorer(),
        "typicality": anomaly.TypicalityScorer(),
        "ratio": anomaly.RatioScorer(background),
        "complexity": anomaly.ComplexityScorer(),
        "latent norm": anomaly.LatentNormScorer(centered=True),
        "joint": anomaly.JointTypicalityScorer(),
    }


@pytest.mark.parametrize(
    "name", ["nll", "typicality", "ratio", "complexity", "latent norm", "joint"]
)
def test_travels_in_the_file_bit_by_bit(name, glow_model, background, images, tmp_path):
    scorer = scorers(background)[name]
    anomaly.fit_scorer(glow_model, scorer, images, false_alarm_rate=0.1)
    before = anomaly.anomaly_scores(glow_model, images)
    glow_model.save(tmp_path / "flow.keras")
    loaded = keras.models.load_model(tmp_path / "flow.keras")
    np.testing.assert_array_equal(anomaly.anomaly_scores(loaded, images), before)
    np.testing.assert_array_equal(
        anomaly.is_anomaly(loaded, images), before > scorer.threshold
    )
    assert type(loaded.anomaly_scorer) is type(scorer)
    assert loaded.anomaly_scorer.false_alarm_rate == 0.1
    assert len(loaded.weights) == len(glow_model.weights)


def test_fitted_threshold_raises_the_chosen_share_of_alarms(normal_model):
    scorer = anomaly.fit_scorer(
        normal_model, anomaly.NllScorer(), X, false_alarm_rate=0.05
    )
    assert normal_model.anomaly_scorer is scorer
    assert anomaly.is_anomaly(normal_model, X).mean() == pytest.approx(0.05, abs=0.003)
    fresh = np.random.default_rng(4).normal(3.0, 2.0, (20_000, 2))
    assert anomaly.is_anomaly(normal_model, fresh).mean() == pytest.approx(
        0.05, abs=2e-2
    )


@pytest.mark.slow
def test_many_batches_score_as_one(glow_model, background, images):
    for scorer in scorers(background).values():
        one = anomaly.fit_scorer(glow_model, scorer, images, false_alarm_rate=0.1)
        scores = anomaly.anomaly_scores(glow_model, images)
        many = anomaly.anomaly_scores(glow_model, images, scorer=one, batch_size=7)
        np.testing.assert_allclose(many, scores, rtol=1e-3, atol=1e-3)


def test_a_distribution_has_scores_too(normal_model):
    flow = normal_model.distribution
    scorer = anomaly.fit_scorer(flow, anomaly.NllScorer(), X)
    assert normal_model.anomaly_scorer is None
    np.testing.assert_allclose(
        anomaly.anomaly_scores(flow, X, scorer=scorer), nll(X), rtol=1e-12
    )
    plain = flow.distribution
    rows = anomaly.evaluate_rows(plain, X)
    np.testing.assert_array_equal(rows.latent, rows.x)


def test_conditional_flow():
    flow = tfpf.real_nvp(
        (2,), couplings=2, hidden_units=(4,), condition_shape=(1,), dtype="float64"
    )
    c = np.linspace(-1.0, 1.0, len(X))[:, np.newaxis]
    model = tfpf.FlowModel(flow)
    anomaly.fit_scorer(model, anomaly.NllScorer(), X, condition=c)
    scores = anomaly.anomaly_scores(model, X, condition=c, batch_size=64)
    np.testing.assert_allclose(scores, -tfpf.condition(flow, c).log_prob(X))


def test_no_density_is_as_anomalous_as_can_be():
    flow = tfpf.real_nvp(
        (2,), couplings=2, hidden_units=(4,), preprocess=tfpf.logit(1.0, 0.1)
    )
    outside = np.float32([[0.5, 0.5], [7.0, 0.5]])
    scores = anomaly.anomaly_scores(flow, outside, scorer=anomaly.NllScorer())
    assert scores[0] < 1e3
    assert scores[1] == np.float32(SCORE_CEILING)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda m: anomaly.anomaly_scores(m, X), ValueError, "`scorer` must be given"),
        (
            lambda m: anomaly.is_anomaly(m, X, scorer=anomaly.NllScorer()),
            ValueError,
            "`scorer` must have a threshold",
        ),
        (
            lambda m: anomaly.anomaly_scores(m, X, scorer=anomaly.TypicalityScorer()),
            ValueError,
            "`entropy` must be known",
        ),
        (
            lambda m: anomaly.evaluate_rows(m, X[:, :1]),
            ValueError,
            r"`x` must have shape \[n, 2\]",
        ),
        (
            lambda m: anomaly.anomaly_scores(
                m, X, scorer=anomaly.JointTypicalityScorer()
            ),
            ValueError,
            "`mean` must be known",
        ),
        (lambda m: anomaly.evaluate_rows(m, X[:0]), ValueError, "at least one row"),
        (
            lambda m: anomaly.evaluate_rows("flow", X),
            TypeError,
            "must be a `tfpf.FlowModel`",
        ),
        (
            lambda m: anomaly.fit_scorer(m, anomaly.NllScorer(), X[:9]),
            ValueError,
            r"`rate` must be at least 1 / \(n \+ 1\)",
        ),
    ],
)
def test_wrong_use_is_named(normal_model, call, error, message):
    with pytest.raises(error, match=message):
        call(normal_model)
