"""Rows are written as they come, and read in shards, whatever their number."""

import json

import numpy as np
import pyarrow.parquet
import pytest

import tfp_flows as tfpf
from tfp_flows import data as flow_data
from tfp_flows.cli import files
from tfp_flows.cli.evaluate import _as_trained
from tfp_flows.data import files as data_files


@pytest.mark.parametrize("name", ["x.npy", "x.csv", "x.parquet"])
@pytest.mark.parametrize("n", [None, 7])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_written_rows_are_read_back(name, n, dtype, tmp_path):
    x = (1e7 + np.random.default_rng(0).normal(size=(7, 3))).astype(dtype)
    names = ("a", "b", "c")
    with files.rows(tmp_path / name, n, (3,), names, dtype) as append:
        for part in (x[:1], x[1:4], x[4:]):
            append(part)
    found = flow_data.read_file(tmp_path / name, for_training=False)
    assert np.array_equal(found.x, x)
    if name != "x.npy":
        assert found.columns == names
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["x.npy", "x.csv", "x.parquet"])
def test_an_interruption_leaves_nothing(name, tmp_path):
    def interrupted():
        with files.rows(tmp_path / name, None, (2,), ("a", "b")) as append:
            append(np.zeros((3, 2), np.float32))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def small_shards(monkeypatch):
    monkeypatch.setattr(data_files, "SHARD_VALUES", 512)


def write(path, x):
    with files.rows(path, len(x), x.shape[1:], ("a", "b")) as append:
        append(x)


@pytest.mark.parametrize("name", ["x.npy", "x.csv", "x.parquet"])
def test_shards_together_are_the_file(name, tmp_path, small_shards):
    x = np.random.default_rng(0).normal(size=(1000, 2)).astype(np.float32)
    write(tmp_path / name, x)
    found = list(flow_data.read_shards(tmp_path / name))
    assert np.array_equal(np.concatenate([shard.x for shard in found]), x)
    # pyarrow reads CSV by blocks of a megabyte.
    assert len(found) == (1 if name == "x.csv" else 4)
    assert len({shard.columns for shard in found}) == 1


def test_images_are_whole_or_fractions_in_every_shard(tmp_path, small_shards):
    images = np.random.default_rng(0).integers(0, 256, (600, 2, 2, 1))
    np.save(tmp_path / "whole.npy", images.astype(np.float64))
    fractions = images.astype(np.float32)
    fractions[-1, 0, 0, 0] = 0.5
    np.save(tmp_path / "fractions.npy", fractions)
    for name, dtype in (("whole", np.uint8), ("fractions", np.float32)):
        found = list(flow_data.read_shards(tmp_path / f"{name}.npy"))
        assert len(found) > 1
        assert {shard.x.dtype for shard in found} == {np.dtype(dtype)}


def test_whole_numbers_first_and_fractions_much_later(tmp_path):
    path = tmp_path / "late.csv"
    lines = ["a,b"] + ["1,2"] * 400_000 + ["0.5,-2e3"]
    path.write_text("\n".join(lines))
    found = list(flow_data.read_shards(path))
    assert len(found) > 1
    assert sum(len(shard.x) for shard in found) == 400_001
    assert found[-1].x[-1].tolist() == [0.5, -2000.0]


def test_what_is_wrong_in_a_later_shard_is_said_with_its_row(tmp_path, small_shards):
    x = np.zeros((1000, 2), np.float32)
    x[700, 1] = np.nan
    for name in ("x.npy", "x.parquet"):
        write(tmp_path / name, x)
        with pytest.raises(ValueError, match="nan in row 701, column"):
            list(flow_data.read_shards(tmp_path / name))
    (tmp_path / "text.csv").write_text("a,b\n1,red\n")
    with pytest.raises(ValueError, match="Column 'b' of .* must hold numbers"):
        list(flow_data.read_shards(tmp_path / "text.csv"))
    (tmp_path / "pickled.npy").write_bytes(b"not an array")
    with pytest.raises(ValueError, match="must be a NumPy file of plain numbers"):
        list(flow_data.read_shards(tmp_path / "pickled.npy"))
    (tmp_path / "empty.csv").write_text("a,b\n")
    with pytest.raises(ValueError, match="at least 1 rows"):
        list(flow_data.read_shards(tmp_path / "empty.csv"))


def test_a_flow_in_float64_scores_and_samples_in_it(invoke, tmp_path):
    x = 1.7e9 + np.random.default_rng(0).normal(size=(300, 2))
    np.save(tmp_path / "x.npy", x)
    flow = tfpf.real_nvp((2,), couplings=2, hidden_units=(4,), dtype="float64")
    model = tfpf.FlowModel(flow)
    model.adapt(x)
    path = tmp_path / "flow.keras"
    model.save(path)
    scores = tmp_path / "scores.npy"
    score = ("evaluate", path, "--data", tmp_path / "x.npy", "--out", scores)
    assert invoke(*score).exit_code == 0
    np.testing.assert_allclose(np.load(scores), flow.log_prob(x), rtol=1e-9)
    for name in ("s.npy", "s.parquet"):
        assert invoke("sample", path, "--out", tmp_path / name).exit_code == 0
        drawn = data_files.read_file(tmp_path / name).x
        np.testing.assert_allclose(drawn.std(axis=0), 1.0, atol=0.3)


@pytest.mark.parametrize("levels", [None, 32, 256, 17])
def test_pixels_are_taken_as_in_the_training(levels, invoke, tmp_path):
    """Without a word about bits: as fractions, or with the levels of the run."""
    known = {"levels": levels}
    pixels = np.random.default_rng(0).integers(0, 256, (10, 2, 2, 1))
    np.save(tmp_path / "x.npy", pixels.astype(np.float32))
    data = flow_data.load(tmp_path / "x.npy", to_score=True)
    taken = _as_trained(data, known)
    assert taken.pixel_levels == levels
    assert taken.x_test.dtype == (np.float32 if levels is None else np.uint8)
    assert np.array_equal(taken.x_test, pixels >> (3 if levels == 32 else 0))
    assert _as_trained(data, {}).pixel_levels == 256

    flow = tfpf.nice((2, 2, 1), steps=2, hidden_units=(4,))
    tfpf.FlowModel(flow).save(tmp_path / "flow.keras")
    (tmp_path / "report.json").write_text(json.dumps({"data": known}))
    refused = invoke("evaluate", tmp_path, "--data", tmp_path / "x.npy", "--n-bits", 4)
    assert refused.exit_code == 2
    wanted = f"{levels} levels" if levels else "fractions"
    assert f"`--data` must hold pixels of {wanted}, as" in refused.stderr


def test_a_file_in_shards_scores_as_in_one(run, invoke, tmp_path, monkeypatch):
    flow = tfpf.load_distribution(run / "flow.keras")
    x = flow.sample(1000, seed=(0, 1)).numpy()
    with files.rows(
        tmp_path / "x.parquet", None, (3,), ("acid", "sugar", "colour")
    ) as append:
        append(x)
    arguments = ("evaluate", run, "--data", tmp_path / "x.parquet", "--json")
    whole = json.loads(invoke(*arguments).stdout)
    monkeypatch.setattr(data_files, "SHARD_VALUES", 1024)
    out = tmp_path / "scores.parquet"
    shards = json.loads(invoke(*arguments, "--out", out).stdout)
    assert shards["examples"] == whole["examples"] == 1000
    for key in ("nll", "standard_error", "bits_per_dim"):
        assert shards[key] == pytest.approx(whole[key], rel=1e-5)
    scores = pyarrow.parquet.read_table(out)["log_prob"].to_numpy()
    np.testing.assert_allclose(scores, flow.log_prob(x), rtol=1e-4, atol=1e-4)
