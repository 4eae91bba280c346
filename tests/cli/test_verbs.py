"""`train`, `evaluate`, `sample`, `export` and `check` on small runs."""

import csv
import json

import keras
import matplotlib.image
import numpy as np
import pytest
import tensorflow as tf

import tfp_flows as tfpf
from tfp_flows import data as flow_data

FILES = {
    "report.json",
    "history.csv",
    "learning_curve.png",
    "real_and_sampled.png",
    "flow.keras",
    "saved_model",
}


def report_of(run):
    return json.loads((run / "report.json").read_text())


def test_train_writes_everything_and_nothing_else(run, image_run):
    for folder in (run, image_run):
        assert {path.name for path in folder.iterdir()} == FILES


def test_report_numbers(run, table):
    report = report_of(run)
    assert report["data"]["columns"] == ["acid", "sugar", "colour"]
    assert report["data"]["train_examples"] == 160
    assert report["epochs"] == 3
    assert report["recipe"]["architecture"]["hidden_units"] == [16]
    held_out = report["held_out"]
    assert held_out["examples"] == 40
    assert held_out["bits_per_dim"] == pytest.approx(held_out["nll"] / 3 / np.log(2))
    assert set(report["baselines"]) == {"full-covariance Gaussian"}
    assert report["saved_model"]["largest_log_prob_difference"] < 1e-3

    flow = tfpf.load_distribution(run / "flow.keras")
    test = flow_data.load(table).x_test
    assert held_out["nll"] == pytest.approx(-np.mean(flow.log_prob(test)), rel=1e-5)


def test_image_report_has_both_baselines_and_levels(image_run):
    report = report_of(image_run)
    assert report["data"]["levels"] == 17
    assert report["held_out"]["noise_draws"] == 16
    baselines = report["baselines"]
    assert set(baselines) == {"full-covariance Gaussian", "per-pixel histogram"}
    assert baselines["per-pixel histogram"]["bits_per_dim"] < 3.0


def test_history_has_a_line_an_epoch(run):
    with (run / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert {"nll", "val_nll", "bits_per_dim"} <= set(rows[0])


def test_saved_model_has_the_flow_s_log_density(run, table):
    flow = tfpf.load_distribution(run / "flow.keras")
    x = flow_data.load(table).x_test
    path = str(run / report_of(run)["saved_model"]["path"])
    served = tf.saved_model.load(path).signatures["log_prob"](x=tf.constant(x))
    np.testing.assert_allclose(served["log_prob"], flow.log_prob(x), rtol=1e-5)


def test_pictures_are_pictures(run, image_run):
    for folder in (run, image_run):
        for name in ("learning_curve.png", "real_and_sampled.png"):
            picture = matplotlib.image.imread(folder / name)
            assert picture.shape[0] > 300
            assert picture[..., :3].std() > 0.05


def test_same_seed_same_flow_in_the_default_folder(
    run, table, invoke, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    result = invoke(
        "train", "--data", table, "--flow", "real_nvp", "--couplings", 2,
        "--hidden-units", "16", "--epochs", 3, "--batch-size", 64, "--quiet",
    )  # fmt: skip
    assert result.exit_code == 0
    assert "Epoch" not in result.stdout
    again = report_of(tmp_path / "runs" / "wine-real_nvp")
    assert again["held_out"] == report_of(run)["held_out"]


def test_train_prints_progress_and_both_baselines(printed):
    stdout, _ = printed
    for words in ("6/6", "Gaussian", "per-pixel histogram", "nll", "bits/dim"):
        assert words in stdout


def test_evaluate_repeats_the_report(image_run, invoke):
    result = invoke("evaluate", image_run, "--data", "digits", "--json")
    assert result.exit_code == 0
    score = json.loads(result.stdout)
    assert score["nll"] == pytest.approx(report_of(image_run)["held_out"]["nll"])


def test_evaluate_a_file_row_by_row(run, table, invoke, tmp_path):
    x = flow_data.read_file(table).x
    expected = tfpf.load_distribution(run / "flow.keras").log_prob(x).numpy()
    for name in ("scores.csv", "scores.npy"):
        out = tmp_path / name
        result = invoke("evaluate", run / "flow.keras", "--data", table, "--out", out)
        assert result.exit_code == 0
        assert "200" in result.stdout
        got = np.load(out) if name.endswith("npy") else np.loadtxt(out, skiprows=1)
        np.testing.assert_allclose(got, expected, rtol=1e-4)


def test_evaluate_one_row(run, invoke, tmp_path):
    (tmp_path / "one.csv").write_text("acid,sugar,colour\n1.0,20.0,300.0\n")
    result = invoke("evaluate", run, "--data", tmp_path / "one.csv", "--json")
    assert json.loads(result.stdout)["examples"] == 1


def test_sample_to_files(run, invoke, tmp_path):
    npy, text = tmp_path / "x.npy", tmp_path / "x.csv"
    for out in (npy, text):
        assert invoke("sample", run, "--out", out, "-n", 30).exit_code == 0
    x = np.load(npy)
    assert x.shape == (30, 3)
    assert x.dtype == np.float32
    assert text.read_text().splitlines()[0] == "acid,sugar,colour"
    np.testing.assert_allclose(
        np.loadtxt(text, delimiter=",", skiprows=1), x, rtol=1e-6
    )


def test_many_samples_and_their_seeds(run, invoke, tmp_path):
    def draw(*options):
        out = tmp_path / "x.npy"
        assert invoke("sample", run, "--out", out, *options).exit_code == 0
        return np.load(out)

    many = draw("-n", 2500)
    assert len(np.unique(many[:, 0])) > 2400
    assert np.array_equal(many, draw("-n", 2500))
    assert not np.array_equal(many, draw("-n", 2500, "--seed", 1))
    cold = draw("-n", 500, "--temperature", 0.1)
    assert np.all(cold.std(axis=0) < 0.5 * many.std(axis=0))


def test_sample_pictures(image_run, invoke, tmp_path):
    out = tmp_path / "digits.png"
    assert invoke("sample", image_run, "--out", out, "-n", 9).exit_code == 0
    assert matplotlib.image.imread(out).shape[0] > 300
    assert [path.name for path in tmp_path.iterdir()] == ["digits.png"]


def test_export_versions(run, invoke, tmp_path):
    for version in ("1", "2"):
        result = invoke("export", run, "--out", tmp_path / "models")
        assert result.exit_code == 0
        path = tmp_path / "models" / version
        assert str(path) in result.stdout.replace("\n", "")
        signatures = tf.saved_model.load(str(path)).signatures
        assert {"log_prob", "sample", "encode", "decode"} <= set(signatures)
    result = invoke("export", run, "--out", tmp_path / "models", "--version", 2)
    assert result.exit_code == 2


def test_export_shows_itself_and_stores_smaller_weights(run, invoke, tmp_path):
    result = invoke(
        "export", run, "--out", tmp_path / "m", "--precision", "float16", "--no-warmup"
    )
    assert result.exit_code == 0
    shown = invoke("export", tmp_path / "m", "--show")
    assert shown.exit_code == 0
    for words in ("m, version 1", "float16", "log_prob", "temperature"):
        assert words in shown.stdout
    for arguments, words in (
        ((tmp_path, "--show"), "export"),
        ((run,), "`--out` must be the served model's folder"),
    ):
        result = invoke("export", *arguments)
        assert result.exit_code == 2
        assert words in result.stderr
        assert result.stderr.count("\n") == 1


@pytest.fixture
def conditional_file(tmp_path):
    flow = tfpf.real_nvp((3,), couplings=2, hidden_units=(8,), condition_shape=(2,))
    tfpf.FlowModel(flow).save(tmp_path / "conditional.keras")
    return tmp_path / "conditional.keras"


def test_conditional_flows_are_checked_and_exported_not_sampled(
    conditional_file, invoke, tmp_path
):
    result = invoke("check", conditional_file)
    assert result.exit_code == 0, result.stdout
    out = tmp_path / "served"
    assert invoke("export", conditional_file, "--out", out).exit_code == 0
    signature = tf.saved_model.load(str(out / "1")).signatures["log_prob"]
    assert set(signature.structured_input_signature[1]) == {"x", "condition"}
    result = invoke("sample", conditional_file, "--out", tmp_path / "x.npy")
    assert result.exit_code == 2
    assert "without conditions" in result.stderr


def test_check(run, invoke):
    result = invoke("check", run)
    assert result.exit_code == 0, result.stdout
    assert "FAILED" not in result.stdout
    assert "ok" in result.stdout


def test_the_flow_file_is_an_ordinary_keras_model(run):
    model = keras.models.load_model(run / "flow.keras")
    assert isinstance(model, tfpf.FlowModel)
    assert model.event_shape == (3,)
