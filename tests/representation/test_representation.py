"""Features are the flow's own latents, and probes find what there is to find."""

import json
import math

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

import tfp_flows as tfpf
from benchmarks.representation import probes
from benchmarks.representation.probes import ProbeReport, ProbeRow
from tfp_flows import representation

tfb, tfd = tfp.bijectors, tfp.distributions

CLASSES = 3


@pytest.fixture(scope="module")
def glow():
    """A Glow of three levels in float64, moved away from its start."""
    flow = tfpf.glow(
        (8, 8, 1),
        levels=3,
        steps=1,
        hidden_channels=4,
        preprocess=tfpf.logit(17.0, dtype="float64"),
        dtype="float64",
    )
    generator = np.random.default_rng(0)
    for variable in flow.trainable_variables:
        variable.assign_add(0.1 * generator.normal(size=variable.shape))
    return flow


@pytest.fixture(scope="module")
def images():
    whole = np.random.default_rng(1).integers(0, 17, (7, 8, 8, 1))
    return whole + 0.5


@pytest.fixture(scope="module")
def groups():
    """Three clusters in 5 dimensions, and labels: training and test rows."""

    def draw(n, seed):
        generator = np.random.default_rng(seed)
        labels = np.arange(n) % CLASSES
        centres = 4.0 * np.eye(CLASSES, 5)
        return centres[labels] + generator.normal(size=(n, 5)), labels

    return draw(300, 0), draw(600, 1)


def test_features_are_the_latents_in_order(glow, images):
    latents = np.asarray(glow.bijector.inverse(images))
    found = representation.features(tfpf.FlowModel(glow), images, batch_size=3)
    np.testing.assert_allclose(found, latents, rtol=1e-9, atol=1e-9)


def test_levels_are_the_parts_of_the_latents_coarsest_first(glow, images):
    pyramid = next(b for b in glow.bijector.bijectors if isinstance(b, tfpf.MultiScale))
    parts = [representation.features(glow, images, level=level) for level in range(3)]
    sizes = [math.prod(shape) for shape in pyramid.latent_shapes]
    assert [part.shape for part in parts] == [(7, size) for size in sizes]
    whole = representation.features(glow, images)
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), whole)


def test_only_the_finest_latents_move_with_what_left_first(glow, images):
    """Other values for the part that left first keep all the coarser ones."""
    latents = representation.features(glow, images)
    finest = representation.features(glow, images, level=2).shape[1]
    latents[:, -finest:] += 0.1 * np.random.default_rng(2).normal(size=(7, finest))
    changed = glow.bijector.forward(latents)
    for level in (0, 1):
        np.testing.assert_allclose(
            representation.features(glow, changed, level=level),
            representation.features(glow, images, level=level),
            atol=1e-6,
        )
    again = representation.features(glow, changed, level=2)
    np.testing.assert_allclose(again, latents[:, -finest:], atol=1e-6)


def test_levels_of_a_conditional_flow_and_of_labels():
    flow = tfpf.glow(
        (4, 4, 1),
        levels=2,
        steps=1,
        hidden_channels=4,
        condition_shape=(),
        encoder=keras.layers.Embedding(3, 2),
    )
    x = np.random.default_rng(0).normal(size=(5, 4, 4, 1)).astype("float32")
    labels = np.array([0, 1, 2, 0, 1])
    coarse = representation.features(flow, x, level=0, condition=labels)
    latents = tfpf.condition(flow, labels).bijector.inverse(x)
    np.testing.assert_allclose(coarse, latents[:, :8], rtol=1e-5, atol=1e-5)


def test_flows_without_levels_or_latents_are_refused(glow, images):
    vectors = tfpf.nice((2,), couplings=2, hidden_units=(4,))
    assert representation.features(vectors, np.zeros([3, 2])).shape == (3, 2)
    with pytest.raises(ValueError, match="`level` must be None unless.*Scale"):
        representation.features(vectors, np.zeros([3, 2]), level=0)
    for level in (3, -1, 1.0, True):
        with pytest.raises(ValueError, match="`level` must be None or an integer"):
            representation.features(glow, images, level=level)
    with pytest.raises(TypeError, match="`flow` must have a bijector"):
        representation.features(tfd.Normal(tf.zeros([2]), 1.0), np.zeros([3, 2]))
    with pytest.raises(ValueError, match=r"`x` must have shape \[n, 8, 8, 1\]"):
        representation.features(glow, images[..., 0])


def test_probe_is_the_logistic_regression_of_scaled_features(groups):
    (x, y), (x_test, y_test) = groups
    row = probes.probe(
        {"clusters": (x, x_test)}, y, y_test, inverse_penalties=(2.0,)
    ).row("clusters")
    centred = x - x.mean(axis=0)
    length = np.sqrt(np.mean(np.sum(centred**2, axis=1)))
    by_hand = LogisticRegression(C=2.0, max_iter=1000).fit(centred / length, y)
    expected = by_hand.score((x_test - x.mean(axis=0)) / length, y_test)
    assert row.accuracy == pytest.approx(expected)
    assert row.accuracy > 0.95
    assert row.standard_error == pytest.approx(
        math.sqrt(expected * (1 - expected) / 600)
    )
    assert (row.size, row.labels_per_class, row.inverse_penalty) == (5, None, 2.0)


def test_units_offsets_and_rotations_change_nothing(groups):
    (x, y), (x_test, y_test) = groups
    turn = np.linalg.qr(np.random.default_rng(3).normal(size=(5, 5)))[0]
    moved = {
        "clusters": (x, x_test),
        "moved": (1e4 * x @ turn + 50.0, 1e4 * x_test @ turn + 50.0),
    }
    for report in (
        probes.probe(moved, y, y_test),
        probes.few_labels(moved, y, y_test, per_class=(2,), draws=3),
    ):
        first, second = report.rows
        np.testing.assert_allclose(first.accuracies, second.accuracies, atol=0.004)
        assert first.inverse_penalty == second.inverse_penalty


def test_noise_is_told_from_signal(groups):
    (x, y), (x_test, y_test) = groups
    generator = np.random.default_rng(4)
    noise = generator.normal(size=x.shape), generator.normal(size=x_test.shape)
    both = {"clusters": (x, x_test), "noise": noise}
    report = probes.few_labels(both, y, y_test, per_class=(1, 20), draws=8, seed=5)
    # A coin has a third; 600 test rows have a standard error of 0.019.
    assert abs(report.row("noise", 20).accuracy - 1 / 3) < 0.08
    assert report.row("clusters", 20).accuracy > 0.95
    assert report.row("clusters", 1).accuracy < report.row("clusters", 20).accuracy
    one, twenty = report.leads("clusters", "noise")
    assert (one.labels_per_class, twenty.labels_per_class) == (1, 20)
    assert twenty.accuracy > 10 * twenty.standard_error > 0.0
    back = report.leads("noise", "clusters")[1]
    assert back.accuracy == pytest.approx(-twenty.accuracy)
    assert abs(probes.probe(both, y, y_test).row("noise").accuracy - 1 / 3) < (0.08)


def test_standard_errors_are_those_of_the_draws(groups):
    (x, y), (x_test, y_test) = groups
    arguments = {"per_class": (1,), "draws": 6}
    both = {"all": (x, x_test), "first": (x[:, :1], x_test[:, :1])}
    report = probes.few_labels(both, y, y_test, **arguments)
    row = report.row("all", 1)
    assert len(row.accuracies) == 6
    assert len(set(row.accuracies)) > 1, "every draw took the same rows"
    spread = np.std(row.accuracies, ddof=1) / np.sqrt(6)
    assert row.standard_error == pytest.approx(spread)
    assert probes.few_labels(both, y, y_test, **arguments) == report
    other = probes.few_labels(both, y, y_test, seed=1, **arguments)
    assert other.row("all", 1).accuracies != row.accuracies


def test_the_penalty_is_chosen_on_training_rows():
    generator = np.random.default_rng(6)
    y = np.arange(80) % 2
    x = generator.normal(size=(80, 200))
    x[:, 0] += 3.0 * y
    choices = (1e4, 10.0, 1e-3)
    arguments = {"inverse_penalties": choices, "seed": 1}
    chosen = probes.probe({"x": (x, x)}, y, y, **arguments).rows[0]
    centred = x - x.mean(axis=0)
    scaled = centred / np.sqrt(np.mean(np.sum(centred**2, axis=1)))
    fit, held = train_test_split(
        np.arange(80), test_size=0.2, random_state=1, stratify=y
    )
    scores = {
        c: LogisticRegression(C=c, max_iter=1000)
        .fit(scaled[fit], y[fit])
        .score(scaled[held], y[held])
        for c in choices
    }
    assert len(set(scores.values())) > 1, "every choice is as good"
    best = max(scores.values())
    # Of equal ones the strongest penalty, the smallest `C`.
    assert chosen.inverse_penalty == min(c for c in choices if scores[c] == best)
    # Other labels of the test rows must not matter to it.
    flipped = probes.probe({"x": (x, x)}, y, 1 - y, **arguments).rows[0]
    assert flipped.inverse_penalty == chosen.inverse_penalty
    assert flipped.accuracy == pytest.approx(1.0 - chosen.accuracy)


def test_works_with_scikit_learn_and_image_axes(groups):
    (x, y), (x_test, y_test) = groups
    pca = PCA(2).fit(x)
    both = {
        "image": (x.reshape(-1, 5, 1, 1), x_test.reshape(-1, 5, 1, 1)),
        "PCA": (pca.transform(x), pca.transform(x_test)),
    }
    report = probes.probe(both, y, y_test)
    assert [row.size for row in report.rows] == [5, 2]
    assert report.row("PCA").accuracy > 0.9


def test_is_a_table_and_json():
    few = ProbeReport(
        (
            ProbeRow("latents", 64, 1, 100.0, (0.25, 0.75), 0.25),
            ProbeRow("PCA", 20, 1, 100.0, (0.5, 1.0), 0.25),
        )
    )
    full = ProbeReport((ProbeRow("latents", 64, None, 1.0, (0.875,), 0.01),))
    text = str(ProbeReport(few.rows + full.rows))
    for words in ("latents", "PCA", "64", "1 a class", "all labels", "0.875 ± 0.010"):
        assert words in text
    assert str(few.leads("latents", "PCA")[0]) == "-0.250 ± 0.000"
    document = json.loads(json.dumps(few.to_dict()))
    assert document["rows"][1]["accuracy"] == 0.75
    assert document["rows"][0]["accuracies"] == [0.25, 0.75]
    with pytest.raises(ValueError, match="must be among.*Received: \\('pixels'"):
        few.row("pixels", 1)
    with pytest.raises(ValueError, match="`first` must name features"):
        full.leads("latents", "latents")


def test_wrong_arguments_are_named(groups):
    (x, y), (x_test, y_test) = groups
    good = {"x": (x, x_test)}
    for measure in (probes.probe, probes.few_labels):
        for bad, words in (
            ((x[1:], x_test), "a row for each of 300 and 600 labels"),
            ((x, x_test[:, 1:]), "of equal shapes"),
            ((x[:, 0], x_test[:, 0]), "Received: shapes"),
            ((x * np.nan, x_test), "finite numbers"),
            ((0.0 * x, x_test), "rows that differ"),
        ):
            with pytest.raises(ValueError, match=f"`features`.*{words}"):
                measure({"bad": bad}, y, y_test)
    for counts in ((), (0,), (101,)):
        with pytest.raises(ValueError, match="`per_class`.*smallest class, 100"):
            probes.few_labels(good, y, y_test, per_class=counts)
    for draws in (1, 2.0, True):
        with pytest.raises(ValueError, match="`draws`"):
            probes.few_labels(good, y, y_test, draws=draws)
    for choices in ((), (0.0, 1.0)):
        with pytest.raises(ValueError, match="`inverse_penalties`"):
            probes.probe(good, y, y_test, inverse_penalties=choices)
