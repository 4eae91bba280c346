"""The estimator keeps scikit-learn's contract, and finds what does not belong."""

import functools
import pickle
import random

import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn.base import clone
from sklearn.datasets import make_moons
from sklearn.utils.estimator_checks import estimator_checks_generator

import tfp_flows as tfpf
from tfp_flows.anomaly import FlowAnomalyDetector


@pytest.fixture
def eagerly():
    """Without tracing, which takes longer than these fits."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


def tiny():
    return FlowAnomalyDetector(epochs=2, random_state=0)


CHECKS = {
    f"{index}-{getattr(check, 'func', check).__name__}": check
    for index, (_, check) in enumerate(estimator_checks_generator(tiny()))
}


@pytest.mark.slow
@pytest.mark.usefixtures("eagerly")
@pytest.mark.filterwarnings("ignore:Even though the")
@pytest.mark.parametrize("name", CHECKS)
def test_scikit_learns_checks(name):
    CHECKS[name](tiny())


@pytest.fixture(scope="module")
def moons():
    x, _ = make_moons(600, noise=0.05, random_state=0)
    return np.float64([100.0, 0.01]) * x + [-1000.0, 5.0]


@pytest.fixture(scope="module")
def fitted(moons):
    detector = FlowAnomalyDetector(
        epochs=60, patience=60, false_alarm_rate=0.1, batch_size=64, random_state=0
    )
    return detector.fit(moons)


def test_finds_what_lies_between_the_moons(fitted, moons):
    fresh, _ = make_moons(1000, noise=0.05, random_state=1)
    fresh = np.float64([100.0, 0.01]) * fresh + [-1000.0, 5.0]
    assert np.mean(fitted.predict(fresh) == -1) == pytest.approx(0.1, abs=0.06)
    # Inside the box of the data, and not near any of it.
    between = np.float64([100.0, 0.01]) * [[1.5, 0.9], [-0.5, -0.3]] + [-1000.0, 5.0]
    np.testing.assert_array_equal(fitted.predict(between), -1)
    far = moons + [1e4, 0.0]
    np.testing.assert_array_equal(fitted.predict(far), -1)


def test_scores_are_densities_in_the_units_of_the_data(fitted, moons):
    scores = fitted.score_samples(moons)
    np.testing.assert_allclose(
        scores, fitted.model_.distribution.log_prob(moons), rtol=1e-9
    )
    np.testing.assert_allclose(
        fitted.decision_function(moons), scores - fitted.offset_, rtol=1e-12
    )
    assert fitted.model_.anomaly_scorer.threshold == -fitted.offset_
    # Two moons of this noise have an entropy near 0 nats per standardized unit.
    assert -3.0 < -scores.mean() < 3.0


@pytest.mark.slow
def test_equal_seeds_give_equal_detectors(moons):
    """Whatever Python's global generator is at; it is not seeded on the way."""
    found, states = [], []
    for start in (1, 2):
        random.seed(start)
        found.append(tiny().fit(moons).score_samples(moons))
        states.append(random.getstate())
    # TensorFlow adds in whatever order its threads finish: equal to rounding.
    np.testing.assert_allclose(*found, rtol=1e-9)
    assert states[0] != states[1]
    other = tiny().set_params(random_state=1).fit(moons).score_samples(moons)
    assert np.abs(other - found[0]).max() > 1e-6


def test_pickles_and_clones(fitted, moons):
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(
        again.decision_function(moons), fitted.decision_function(moons)
    )
    fresh = clone(fitted)
    assert fresh.get_params() == fitted.get_params()
    assert not hasattr(fresh, "model_")


def test_its_model_is_saved_and_served_with_the_scorer(fitted, moons, tmp_path):
    fitted.model_.save(tmp_path / "moons.keras")
    loaded = keras.models.load_model(tmp_path / "moons.keras")
    np.testing.assert_array_equal(
        tfpf.anomaly.is_anomaly(loaded, moons), fitted.predict(moons) == -1
    )
    path = tfpf.export_saved_model(fitted.model_, tmp_path / "moons", warmup=False)
    served = tf.saved_model.load(path).signatures["anomaly_score"]
    answer = served(x=tf.constant(moons))
    np.testing.assert_allclose(
        answer["anomaly_score"], -fitted.score_samples(moons), rtol=1e-9
    )


@pytest.mark.parametrize(
    "scorer",
    [
        "typicality",
        pytest.param("latent_norm", marks=pytest.mark.slow),
        pytest.param("latent_norm_centered", marks=pytest.mark.slow),
    ],
)
def test_other_scorers_and_flows(scorer, moons):
    detector = FlowAnomalyDetector(
        tfpf.real_nvp, scorer=scorer, epochs=1, random_state=0
    ).fit(moons)
    assert detector.predict(moons + [1e5, 0.0]).max() == -1
    assert detector.fit_predict(moons).shape == (600,)


@pytest.mark.slow
def test_one_column_needs_a_flow_for_it():
    x = np.random.default_rng(0).normal(size=(50, 1))
    with pytest.raises(ValueError, match=r"1 feature\(s\) .* minimum of 2"):
        tiny().fit(x)
    flow = functools.partial(tfpf.ffjord, hidden_units=(4,))
    detector = tiny().set_params(make_flow=flow, epochs=1).fit(x)
    np.testing.assert_array_equal(detector.predict([[50.0], [-50.0]]), -1)


@pytest.mark.slow
def test_few_rows_promise_what_they_can():
    x = np.random.default_rng(0).normal(size=(20, 2))
    detector = FlowAnomalyDetector(epochs=1, random_state=0, false_alarm_rate=0.01)
    assert detector.fit(x).false_alarm_rate_ == 0.2


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"scorer": "luck"}, "`scorer` must be one of"),
        ({"false_alarm_rate": 1.0}, "`false_alarm_rate` must be"),
        ({"calibration_fraction": 0.95}, "leave rows to train on"),
        ({"validation_fraction": 0.0}, "leave rows to train on"),
    ],
)
def test_wrong_parameters_are_named(moons, parameters, message):
    with pytest.raises(ValueError, match=message):
        FlowAnomalyDetector(**parameters).fit(moons)
