"""Tables go to files and come back with their columns' types."""

import numpy as np
import pyarrow as pa
import pytest

import tfp_flows as tfpf


@pytest.fixture
def table():
    return pa.table(
        {
            "size": np.array([1.5, -2.25, 1e-300]),
            "count": pa.array([1, 2, 3]),
            "yes": pa.array([True, False, True]),
            "word": pa.array(["a, b", 'c "d"', ""]),
            "day": pa.array([0, 1, 18_000], pa.int32()).cast(pa.date32()),
        }
    )


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_round_trip(table, ending, tmp_path):
    path = tmp_path / f"table.{ending}"
    tfpf.data.write_table(table, path)
    again = tfpf.data.read_table(path)
    assert again.schema.equals(table.schema)
    assert again.to_pydict() == table.to_pydict()
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_parquet_keeps_what_csv_cannot(tmp_path):
    table = pa.table(
        {
            "short": pa.array([1, 2], pa.int8()),
            "single": pa.array([0.5, 0.25], pa.float32()),
            "label": pa.array(["x", "y"]).dictionary_encode(),
        }
    )
    tfpf.data.write_table(table, tmp_path / "t.parquet")
    assert tfpf.data.read_table(tmp_path / "t.parquet").schema.equals(table.schema)
    tfpf.data.write_table(table, tmp_path / "t.csv")
    again = tfpf.data.read_table(tmp_path / "t.csv")
    assert again["label"].to_pylist() == ["x", "y"]
    assert again["short"].type == pa.int64()


def test_wrong_files_are_named(table, tmp_path):
    with pytest.raises(ValueError, match=r"`path` must end in one of .csv, .parquet"):
        tfpf.data.read_table(tmp_path / "table.npy")
    with pytest.raises(ValueError, match="must be an existing file"):
        tfpf.data.read_table(tmp_path / "none.csv")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1")
    with pytest.raises(ValueError, match="cannot be read as a table"):
        tfpf.data.read_table(tmp_path / "broken.parquet")
    with pytest.raises(ValueError, match="in an existing folder"):
        tfpf.data.write_table(table, tmp_path / "none" / "table.csv")
    with pytest.raises(ValueError, match=r"`path` must end in one of .csv, .parquet"):
        tfpf.data.write_table(table, tmp_path / "table.json")
