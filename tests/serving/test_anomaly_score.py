"""The signature `anomaly_score`, from the fitted model to C and to REST."""

import math
from pathlib import Path

import keras
import numpy as np
import pytest
import requests
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_flows as tfpf
from tfp_flows.serving import export_saved_model, read_metadata
from tfp_flows.serving.protos import read_warmup
from tfp_flows.serving.server import LocalServer

SHAPE = (4, 4, 1)
X = np.random.default_rng(0).uniform(0.0, 255.0, (40, *SHAPE)).astype("float32")


def glow():
    return tfpf.glow(
        SHAPE, levels=1, steps=1, hidden_channels=4, preprocess=tfpf.logit(256.0)
    )


@pytest.fixture(scope="module")
def exported(shaken, tmp_path_factory):
    """A model whose scorer has weights, through its file, and the export of that."""
    folder = tmp_path_factory.mktemp("anomaly")
    model = tfpf.FlowModel(shaken(glow()))
    scorer = tfpf.anomaly.RatioScorer(glow())
    tfpf.anomaly.fit_scorer(model, scorer, X, false_alarm_rate=0.1)
    model.save(folder / "flow.keras")
    loaded = keras.models.load_model(folder / "flow.keras")
    return model, export_saved_model(loaded, folder / "flow")


def test_c_equals_python(exported, c_runner):
    model, version = exported
    answer = c_runner(version).run("anomaly_score", x=X)
    scores = tfpf.anomaly.anomaly_scores(model, X)
    np.testing.assert_allclose(answer["anomaly_score"], scores, rtol=1e-5, atol=1e-3)
    np.testing.assert_array_equal(
        answer["is_anomaly"], answer["anomaly_score"] > model.anomaly_scorer.threshold
    )
    assert answer["is_finite"].all()
    assert 0.0 < answer["is_anomaly"].mean() <= 0.1


def test_png_sizes_are_computed_in_c_as_well(shaken, c_runner, tmp_path):
    model = tfpf.FlowModel(shaken(glow()))
    scorer = tfpf.anomaly.ComplexityScorer()
    tfpf.anomaly.fit_scorer(model, scorer, X, false_alarm_rate=0.1)
    runner = c_runner(export_saved_model(model, tmp_path, warmup=False))
    flat = np.full((1, *SHAPE), 9.5, np.float32)
    x = np.concatenate([X, flat])
    answer = runner.run("anomaly_score", x=x)["anomaly_score"]
    expected = tfpf.anomaly.anomaly_scores(model, x)
    np.testing.assert_allclose(answer, expected, rtol=1e-5, atol=1e-2)


def test_wrong_requests_are_answered_with_a_message(exported, c_runner):
    runner = c_runner(exported[1])
    wrong = {
        "expected shape \\[batch, 4, 4, 1\\]": np.zeros((2, 4, 4, 3), np.float32),
        "expected at least one row": X[:0],
        "expected finite numbers": X[:1] * np.nan,
    }
    for message, x in wrong.items():
        with pytest.raises(Exception, match=f"x: {message}") as refusal:
            runner.run("anomaly_score", x=x)
        assert refusal.value.code == 3


def test_rest_answers_rows(exported):
    model, version = exported
    with LocalServer(Path(version).parent) as server:
        answer = requests.post(
            f"{server.rest_address}/v1/models/flow:predict",
            json={"signature_name": "anomaly_score", "instances": X.tolist()},
            timeout=60,
        )
    rows = answer.json()["predictions"]
    assert set(rows[0]) == {"anomaly_score", "is_anomaly", "is_finite"}
    scores = [row["anomaly_score"] for row in rows]
    np.testing.assert_allclose(
        scores, tfpf.anomaly.anomaly_scores(model, X), rtol=1e-5, atol=1e-3
    )
    assert {type(row["is_anomaly"]) for row in rows} == {bool}


def test_comes_with_metadata_and_a_warm_up_request(exported):
    model, version = exported
    metadata = read_metadata(version)
    assert metadata["anomaly_scorer"] == {
        "scorer": "RatioScorer",
        "threshold": model.anomaly_scorer.threshold,
        "false_alarm_rate": 0.1,
    }
    assert metadata["signatures"]["anomaly_score"] == {
        "x": {"dtype": "float32", "shape": [None, *SHAPE]}
    }
    # The weights of the background, a flow of the same size, are counted too.
    trained = sum(math.prod(weight.shape) for weight in model.trainable_weights)
    assert metadata["weights"]["count"] >= 2 * trained
    requests_by_name = dict(read_warmup(Path(version)))
    assert requests_by_name["anomaly_score"]["x"].shape == (1, *SHAPE)


def test_conditional_model_takes_the_condition(tmp_path, c_runner):
    flow = tfpf.real_nvp((2,), couplings=2, hidden_units=(4,), condition_shape=(1,))
    model = tfpf.FlowModel(flow)
    generator = np.random.default_rng(1)
    x = generator.normal(size=(50, 2)).astype("float32")
    c = generator.normal(size=(50, 1)).astype("float32")
    tfpf.anomaly.fit_scorer(
        model,
        tfpf.anomaly.TypicalityScorer(),
        x,
        condition=c,
        false_alarm_rate=0.1,
    )
    runner = c_runner(export_saved_model(model, tmp_path, warmup=False))
    answer = runner.run("anomaly_score", x=x, condition=c)["anomaly_score"]
    expected = tfpf.anomaly.anomaly_scores(model, x, condition=c)
    np.testing.assert_allclose(answer, expected, rtol=1e-5, atol=1e-5)


def test_thresholds_keep_their_digits(tmp_path):
    """As a float32 it would flag another row than Python does."""
    x = np.random.default_rng(1).normal(size=(500, 2))
    normal = tfp.distributions.MultivariateNormalDiag(np.zeros(2), np.ones(2))
    model = tfpf.FlowModel(normal)
    scorer = tfpf.anomaly.NllScorer()
    tfpf.anomaly.fit_scorer(model, scorer, x, false_alarm_rate=0.1)
    version = export_saved_model(model, tmp_path / "normal", warmup=False)
    served = tf.saved_model.load(str(version)).signatures["anomaly_score"]
    found = served(x=tf.constant(x))["is_anomaly"]
    np.testing.assert_array_equal(found, tfpf.anomaly.is_anomaly(model, x))
