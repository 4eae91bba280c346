"""What an export says about itself, and the requests it brings along."""

import io
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from rich.console import Console

import tfp_flows as tfpf
from tfp_flows.serving import export_saved_model, read_metadata, show_export
from tfp_flows.serving.metadata import data_scaling
from tfp_flows.serving.protos import read_warmup

tfb, tfd = tfp.bijectors, tfp.distributions


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A fitted image flow with logits on the data's side."""
    base = tmp_path_factory.mktemp("models") / "digits"
    flow = tfpf.nice(
        (2, 2, 1), couplings=2, hidden_units=(8,), preprocess=tfpf.logit(17.0)
    )
    model = tfpf.FlowModel(flow)
    model.compile(optimizer="adam")
    x = np.random.default_rng(0).uniform(0, 17, (32, 2, 2, 1)).astype("float32")
    history = model.fit(x, validation_data=(x,), verbose=0, epochs=2).history
    return Path(export_saved_model(model, base, version=3)), history


def test_says_what_it_is(exported):
    path, history = exported
    metadata = read_metadata(path)
    assert (metadata["name"], metadata["version"]) == ("digits", 3)
    assert metadata["event_shape"] == [2, 2, 1]
    assert metadata["latent_shape"] == [4]
    assert metadata["condition_shape"] is None
    assert metadata["training"]["nll"] == pytest.approx(history["nll"][-1])
    assert metadata["training"]["val_nll"] == pytest.approx(history["val_nll"][-1])
    assert metadata["build"]["tensorflow"] == tf.__version__
    assert metadata["weights"]["precision"] == "float32"
    assert len(metadata["weights"]["sha256"]) == 64
    assert metadata["limits"] == {"max_samples": 1024, "log_prob_floor": -1e38}
    assert metadata["signatures"]["log_prob_uint8"] == {
        "image": {"dtype": "uint8", "shape": [None, 2, 2, 1]}
    }
    scaling = metadata["data_scaling"]
    assert [step["bijector"] for step in scaling] == ["Scale", "Shift", "Sigmoid"]
    assert scaling[0]["scale"] == pytest.approx(17.0 / 0.95)


def test_the_model_directory_stands_for_its_newest_version(exported):
    path, _ = exported
    assert read_metadata(path.parent) == read_metadata(path)


def test_trained_scales_are_no_data_scaling():
    trained = tfb.Scale(tf.Variable(2.0))
    assert data_scaling(tfb.Chain([tfb.Shift(1.0), trained, tfb.Shift(3.0)])) == [
        {"bijector": "Shift", "shift": 1.0}
    ]
    assert data_scaling(None) == []


def test_given_results_take_the_place_of_the_fitted_ones(tmp_path):
    flow = tfd.TransformedDistribution(tfd.Normal(0.0, 1.0), tfb.Shift(1.0))
    path = export_saved_model(flow, tmp_path, name="toy", training={"val_nll": 1.5})
    metadata = read_metadata(path)
    assert metadata["training"] == {"val_nll": 1.5}
    assert metadata["name"] == "toy"


def test_is_shown_as_tables(exported):
    path, _ = exported
    out = io.StringIO()
    show_export(path, Console(file=out, width=100))
    for text in ("digits, version 3", "data scaling", "log_prob_uint8", "[batch, 2]"):
        assert text in out.getvalue()


def test_a_path_that_is_no_export_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"`path` must be an export.*nowhere"):
        read_metadata(tmp_path / "nowhere")


def test_warm_up_has_a_right_request_for_every_signature(exported, c_runner):
    path, _ = exported
    requests = dict(read_warmup(path))
    signatures = {"serving_default", "log_prob", "log_prob_uint8", "encode"}
    signatures |= {"decode", "sample", "sample_batch"}
    assert set(requests) == signatures
    runner = c_runner(path)
    for signature, inputs in requests.items():
        assert runner.run(signature, **inputs)["is_finite"].all()


def test_without_warm_up_there_is_no_file(tmp_path):
    flow = tfd.TransformedDistribution(tfd.Normal(0.0, 1.0), tfb.Shift(1.0))
    path = export_saved_model(flow, tmp_path, warmup=False)
    assert list(read_warmup(Path(path))) == []


def test_a_missing_package_is_a_warning_and_no_file(tmp_path, monkeypatch):
    monkeypatch.setattr("tfp_flows.serving.export.has_serving_protos", lambda: False)
    flow = tfd.TransformedDistribution(tfd.Normal(0.0, 1.0), tfb.Shift(1.0))
    with pytest.warns(UserWarning, match=r"pip install 'tfp-flows\[serving\]'"):
        path = export_saved_model(flow, tmp_path)
    assert list(read_warmup(Path(path))) == []
