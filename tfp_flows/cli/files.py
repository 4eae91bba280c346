"""Files of the verbs: trained models, reports, and rows written as they come."""

from __future__ import annotations

import contextlib
import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike

from tfp_flows.internal.files import atomic_write
from tfp_flows.training.model import FlowModel, load_model

MODEL_FILE, REPORT_FILE = "flow.keras", "report.json"
Append = Callable[[np.ndarray], None]


def load(path: Path, *, conditional: bool = False) -> tuple[FlowModel, dict]:
    """Loads a `.keras` file or a run, and the data part of its report, if any."""
    given, path = path, path / MODEL_FILE if path.is_dir() else path
    if not path.is_file() or path.suffix != ".keras":
        raise ValueError(
            f"Argument `MODEL` must be a .keras file or the folder of a finished run "
            f"with {MODEL_FILE} in it. Received: {given}"
            + ("" if given.exists() else ", which does not exist")
        )
    model = load_model(path)
    if model.condition_shape is not None and not conditional:
        raise ValueError(
            f"Argument `MODEL` must be a flow without conditions; use it from Python "
            f"with `tfpf.condition`. Received: {path}, whose conditions have the shape "
            f"{model.condition_shape}"
        )
    report = path.parent / REPORT_FILE
    if not report.is_file():
        return model, {}
    return model, json.loads(report.read_text(encoding="utf-8")).get("data", {})


def write_json(path: Path, content: Mapping[str, object]) -> None:
    """Writes strict JSON: numbers that are not finite raise a `ValueError`."""
    _write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def write_csv(path: Path, names: Sequence[str], rows: Iterable[Iterable]) -> None:
    """Writes a header line and one line a row."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    writer.writerows(rows)
    _write_text(path, text.getvalue())


def _write_text(path: Path, text: str) -> None:
    with atomic_write(path) as file:
        file.write_text(text, encoding="utf-8")


@contextlib.contextmanager
def rows(
    path: Path,
    n: int | None,
    row_shape: Sequence[int],
    names: Sequence[str],
    dtype: DTypeLike = np.float32,
) -> Iterator[Append]:
    """Yields what takes the next rows `[k, *row_shape]` of a file, written atomically.

    Memory does not grow with the number of rows, which is `n`, or not known yet.
    Tables get rows flattened, under the `names` of their columns. Text keeps all digits
    of values, whatever the `dtype`.
    """
    with atomic_write(path) as written:
        if path.suffix.lower() == ".npy":
            opened = _npy(written, n, tuple(row_shape), np.dtype(dtype))
        elif path.suffix.lower() == ".csv":
            opened = _csv(written, list(names))
        else:
            opened = _parquet(written, list(names), np.dtype(dtype))
        with opened as append:
            yield append


@contextlib.contextmanager
def _npy(
    path: Path, n: int | None, row_shape: tuple[int, ...], dtype: np.dtype
) -> Iterator[Append]:
    """Writes the values behind a header, which is written anew with their count."""
    count, dtype = 0, dtype.newbyteorder("<")

    def header(count: int) -> dict:
        shape = (count, *row_shape)
        return {"descr": dtype.str, "fortran_order": False, "shape": shape}

    with path.open("w+b") as file:
        # The format leaves room in a header for a larger count.
        np.lib.format.write_array_header_1_0(file, header(n or 0))
        start = file.tell()

        def append(x: np.ndarray) -> None:
            nonlocal count
            count += len(x)
            np.ascontiguousarray(x, dtype).tofile(file)

        yield append
        file.flush()
        if count != (n or 0):
            file.seek(0)
            np.lib.format.write_array_header_1_0(file, header(count))
            if file.tell() != start:
                raise OSError(f"{path.name} has more rows than its header has room for")


@contextlib.contextmanager
def _csv(path: Path, names: list[str]) -> Iterator[Append]:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(names)
        yield lambda x: writer.writerows(x.reshape(len(x), -1).tolist())


@contextlib.contextmanager
def _parquet(path: Path, names: list[str], dtype: np.dtype) -> Iterator[Append]:
    import pyarrow as pa
    import pyarrow.parquet

    schema = pa.schema([(name, pa.from_numpy_dtype(dtype)) for name in names])
    with pyarrow.parquet.ParquetWriter(path, schema) as writer:

        def append(x: np.ndarray) -> None:
            columns = x.reshape(len(x), -1).astype(dtype).T
            arrays = [pa.array(np.ascontiguousarray(column)) for column in columns]
            writer.write_table(pa.table(arrays, schema=schema))

        yield append
