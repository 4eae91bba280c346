"""Reading files: what is right comes back whole, what is wrong is named."""

import contextlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from tfp_flows.data import arrow, datasets, files

TABLE = np.random.default_rng(0).normal(size=(12, 3)).astype(np.float32)
IMAGES = np.random.default_rng(1).integers(0, 256, (12, 4, 4, 3), np.uint8)


def write_csv(path, lines):
    path.write_text("\n".join(lines) + "\n")
    return path


def rows(table=TABLE):
    return [",".join(map(repr, row)) for row in table.tolist()]


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_npy_table(tmp_path, dtype):
    np.save(tmp_path / "t.npy", TABLE.astype(dtype))
    data = files.read_file(tmp_path / "t.npy")
    assert np.array_equal(data.x, TABLE.astype(dtype).astype(np.float32))
    assert data.x.dtype == np.float32
    assert data.columns == ("x0", "x1", "x2")


@pytest.mark.parametrize(
    ("x", "dtype"),
    [
        (1.7e9 + TABLE.astype(np.float64), np.float64),
        (20_000_000 + np.arange(24).reshape(12, 2), np.float64),
        (np.c_[TABLE, 1e9 + np.arange(12)], np.float64),
        (1e-40 * TABLE.astype(np.float64), np.float64),
        (2020 + np.arange(24).reshape(12, 2), np.float32),
        (1e20 * TABLE.astype(np.float64), np.float32),
    ],
)
def test_float32_where_it_tells_rows_apart_else_float64(tmp_path, x, dtype):
    np.save(tmp_path / "t.npy", x)
    found = files.read_file(tmp_path / "t.npy").x
    assert found.dtype == dtype
    assert np.array_equal(found, x.astype(dtype))
    (shard,) = files.read_shards(tmp_path / "t.npy")
    assert np.array_equal(shard.x, x)


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float32])
def test_npy_whole_pixels_come_back_as_uint8(tmp_path, dtype):
    np.save(tmp_path / "i.npy", IMAGES.astype(dtype))
    data = files.read_file(str(tmp_path / "i.npy"))
    assert data.x.dtype == np.uint8
    assert np.array_equal(data.x, IMAGES)
    assert data.columns is None


def test_npy_continuous_images_stay_as_they_are(tmp_path):
    np.save(tmp_path / "i.npy", IMAGES / 255.0)
    data = files.read_file(tmp_path / "i.npy")
    assert np.array_equal(data.x, (IMAGES / 255.0).astype(np.float32))


@pytest.mark.parametrize("name", ["a.npy", "a.npz", "a.csv"])
def test_one_number_a_row_is_a_table_of_one_column(tmp_path, name):
    path, column = tmp_path / name, TABLE[:, 0]
    {".npy": np.save, ".npz": np.savez, ".csv": np.savetxt}[path.suffix](path, column)
    data = files.read_file(path)
    (shard,) = files.read_shards(path)
    assert data.columns == shard.columns == ("x0",)
    assert np.array_equal(data.x, column[:, None])
    assert np.array_equal(shard.x, column[:, None])


def test_npz_keys(tmp_path):
    path = tmp_path / "t.npz"
    np.savez(path, a=TABLE)
    assert np.array_equal(files.read_file(path).x, TABLE)
    np.savez(path, a=TABLE, b=2 * TABLE)
    assert np.array_equal(files.read_file(path, key="b").x, 2 * TABLE)
    for key in (None, "c"):
        with pytest.raises(ValueError, match=r"`key` must name one of.*\(a, b\)"):
            files.read_file(path, key=key)
    np.save(tmp_path / "t.npy", TABLE)
    write_csv(tmp_path / "t.csv", rows())
    for name in (tmp_path / "t.npy", tmp_path / "t.csv"):
        for read in (datasets.load, datasets.load_shards, files.read_file):
            with pytest.raises(ValueError, match=r"`key` must be None for .*no .npz"):
                next(iter(read(name, key="b")))


def test_csv_with_and_without_names(tmp_path):
    named = files.read_file(write_csv(tmp_path / "a.csv", ["u,v w,z", *rows()]))
    bare = files.read_file(write_csv(tmp_path / "b.csv", rows()))
    assert named.columns == ("u", "v w", "z")
    assert len(bare.columns) == 3
    for data in (named, bare):
        assert np.array_equal(data.x, TABLE)


def test_csv_of_whole_numbers_spaces_and_windows_line_ends(tmp_path):
    path = tmp_path / "a.csv"
    lines = [f"{i}, {i * i}" for i in range(12)]
    path.write_bytes("\r\n".join(["n,square", *lines]).encode())
    data = files.read_file(path)
    assert np.array_equal(data.x[:, 1], np.arange(12.0) ** 2)


@pytest.mark.parametrize("sign", [".", ","])
@pytest.mark.parametrize("mark", [";", "\t"])
def test_csv_as_spreadsheets_write_it(tmp_path, mark, sign):
    """Cells between semicolons or tabs, and commas as decimal signs."""
    cells = [[f"{value:.3f}".replace(".", sign) for value in row] for row in TABLE]
    lines = [mark.join(row) for row in cells]
    bare = write_csv(tmp_path / "a.csv", lines)
    named = write_csv(tmp_path / "b.csv", [mark.join(["u", '"v,w"', "z"]), *lines])
    one = write_csv(tmp_path / "c.csv", lines[:1])
    assert files.read_file(named).columns == ("u", "v,w", "z")
    for path, rows in ((bare, TABLE), (named, TABLE), (one, TABLE[:1])):
        x = files.read_file(path, for_training=False).x
        shards = [shard.x for shard in files.read_shards(path)]
        for found in (x, np.concatenate(shards)):
            assert np.array_equal(found.astype(np.float32), rows.round(3))


@pytest.mark.parametrize(
    ("text", "names", "first"),
    [
        ("NA,2.5\n1,2\n", ("x0", "x1"), [np.nan, 2.5]),
        (",2.5\n1,2\n", ("x0", "x1"), [np.nan, 2.5]),
        ("True,2.5\nFalse,2\n", ("x0", "x1"), [1.0, 2.5]),
        ("1,0\n2,5\n", ("x0", "x1"), [1.0, 0.0]),
        ("0\n2\n", ("x0",), [0.0]),
        ("\n\na,b\n\n1,2\n", ("a", "b"), [1.0, 2.0]),
        ("\r\n\r\n1,2\r\n3,4\r\n", ("x0", "x1"), [1.0, 2.0]),
        ("0,1\n5,6\n", ("0", "1"), [5.0, 6.0]),
        (",0,1\n0,5,6\n", ("", "0", "1"), [0.0, 5.0, 6.0]),
        ("# a,b\n1,2\n", ("a", "b"), [1.0, 2.0]),
        ('a, b ," c"\n1,2,3\n', ("a", "b", "c"), [1.0, 2.0, 3.0]),
        ("\ufeffa;b\n1;2\n1,5;2\n", ("a", "b"), [1.0, 2.0]),
        ("a\tb\n1,200\t1\n2,000\t0,5\n", ("a", "b"), [1.2, 1.0]),
        ("a\tb\n-0,200\t1\n", ("a", "b"), [-0.2, 1.0]),
    ],
)
def test_first_lines_and_commas_mean_what_they_look_like(tmp_path, text, names, first):
    path = tmp_path / "a.csv"
    path.write_bytes(text.encode())
    with contextlib.ExitStack() as stack:
        if np.isnan(first).any():
            match = "nan in row 1, column 'x0'"
            stack.enter_context(pytest.raises(ValueError, match=match))
        data = files.read_file(path, for_training=False)
        shards = list(files.read_shards(path))
        assert data.columns == shards[0].columns == names
        assert np.allclose(data.x[0], first)
        assert np.allclose(shards[0].x[0], first)
    assert files.read_table(path).column_names == list(names)


def test_text_with_semicolons_stays_text(tmp_path):
    path = write_csv(tmp_path / "a.csv", ["a,b", "1,x;y", "2,z"])
    assert files.read_table(path).to_pydict() == {"a": [1, 2], "b": ["x;y", "z"]}


def test_parquet(tmp_path):
    columns = {"a": TABLE[:, 0], "n": np.arange(12), "yes": np.arange(12) % 2 == 0}
    pa.parquet.write_table(pa.table(columns), tmp_path / "t.parquet")
    data = files.read_file(tmp_path / "t.parquet")
    assert data.columns == ("a", "n", "yes")
    assert np.array_equal(data.x[:, 0], TABLE[:, 0])
    assert np.array_equal(data.x[:, 2], [1.0, 0.0] * 6)


def broken(table, row, column, value):
    table = np.array(table, np.float64)
    table[row, column] = value
    return table


BROKEN_ARRAYS = {
    "one row short": (TABLE[:9], "must have at least 10 rows. Received: 9"),
    "empty": (TABLE[:0], "must have at least 10 rows. Received: 0"),
    "no columns": (TABLE[:, :0], "must have at least one column"),
    "nan": (broken(TABLE, 4, 1, np.nan), "nan in row 5, column 'x1' "),
    "inf": (broken(TABLE, 0, 2, -np.inf), "-inf in row 1, column 'x2' "),
    "overflow": (broken(TABLE, 2, 0, 1e300), r"1e\+300 in row 3, column 'x0' "),
    "constant": (np.c_[TABLE, np.ones(12)], "same value in every row of 'x3'"),
    "complex": (TABLE * 1j, "must hold real numbers.*complex"),
    "text": (TABLE.astype(str), "must hold real numbers"),
    "objects": (np.array([[{}]] * 12), "Python objects"),
    "scalar": (np.float32(1.0), r"2-D table or 4-D images.*\(\)"),
    "no channels": (IMAGES[..., 0], r"add a channel axis with `x\[..., None\]`"),
    "channels first": (np.moveaxis(np.tile(IMAGES, (1, 2, 2, 1)), -1, 1), "last"),
    "negative pixels": (IMAGES.astype(int) - 1, "whole numbers from -1 to"),
    "wide pixels": (IMAGES.astype(int) + 200, "whole pixel values in 0..255"),
    "nan pixel": (broken(IMAGES, 3, 1, np.nan), r"image 4 \(1 such image"),
    "constant pixel": (broken(IMAGES / 255.0, slice(None), 2, 0.5), r"at \(2, 0, 0\)"),
}


@pytest.mark.parametrize("case", BROKEN_ARRAYS)
def test_broken_arrays_are_named(tmp_path, case):
    array, message = BROKEN_ARRAYS[case]
    np.save(tmp_path / "a.npy", array, allow_pickle=True)
    with pytest.raises(ValueError, match=message) as caught:
        files.read_file(tmp_path / "a.npy")
    assert "\n" not in str(caught.value)


BROKEN_CSV = {
    "text column": (["a,b", *["1,x", "2,y"] * 6], "Column 'b' .* must hold numbers"),
    "one word": (["a,b", *[f"{i},{i}" for i in range(11)], "oops,1"], "Column 'a'"),
    "dates": (["a,b", *[f"{i},2020-01-{i + 1:02d}" for i in range(12)]], "Column 'b'"),
    "ragged": (["a,b", *["1,2"] * 11, "1,2,3"], "cannot be read as a table.*2 col"),
    "missing value": (["a,b", *[f"{i},{i}" for i in range(11)], "3,"], "row 12.*'b'"),
    "empty column": (["a,b", *[f"{i}," for i in range(12)]], "row 1, column 'b'"),
    "constant": (["a,b", *[f"{i},7" for i in range(12)]], "every row of 'b'"),
    "names only": (["a,b"], "must have at least 10 rows. Received: 0"),
    "thousands": (["a\tb", *["1,200\t0", "2,200\t1"] * 6], "whether commas are"),
    "more thousands": (["a;b", *["1,200,000;1"] * 12], "Column 'a' .* must hold num"),
    "points and thousands": (["a;b", *["0.5;1,200"] * 12], "Column 'b' .* must hold"),
    "nothing": ([], "cannot be read as a table"),
}


@pytest.mark.parametrize("case", BROKEN_CSV)
def test_broken_csv_is_named(tmp_path, case):
    lines, message = BROKEN_CSV[case]
    with pytest.raises(ValueError, match=message) as caught:
        files.read_file(write_csv(tmp_path / "a.csv", lines))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["größe,b\n1,2\n", "a,b\n1,é\n"])
@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
@pytest.mark.parametrize("seen", [3, arrow.SEEN])
def test_text_must_be_utf8(tmp_path, monkeypatch, text, encoding, seen):
    monkeypatch.setattr(arrow, "SEEN", seen)
    path = tmp_path / "a.csv"
    path.write_bytes(text.encode(encoding))
    shards = lambda path: list(files.read_shards(path))  # noqa: E731
    for read in (files.read_file, files.read_table, shards):
        with pytest.raises(ValueError, match=r"a.csv must be text in UTF-8"):
            read(path)


@pytest.mark.parametrize("suffix", files.SUFFIXES)
def test_damaged_and_missing_files(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    with pytest.raises(ValueError, match="must be an existing file"):
        files.read_file(path)
    path.write_bytes(b"PK\x03\x04\x00\xffnot what its name says\x00" * 3)
    with pytest.raises(ValueError, match="a" + suffix):
        files.read_file(path)
    path.write_bytes(b"")
    with pytest.raises(ValueError, match="a" + suffix):
        files.read_file(path)


def test_unknown_suffix(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("1 2")
    with pytest.raises(ValueError, match=r"must end in one of .npy, .npz, .csv"):
        files.read_file(path)


def test_data_to_evaluate_may_be_few_and_constant(tmp_path):
    np.save(tmp_path / "a.npy", np.ones([1, 3]))
    data = files.read_file(tmp_path / "a.npy", for_training=False)
    assert np.array_equal(data.x, np.ones([1, 3]))
    np.save(tmp_path / "a.npy", np.ones([0, 3]))
    with pytest.raises(ValueError, match="at least 1 rows"):
        files.read_file(tmp_path / "a.npy", for_training=False)


def test_no_file_is_ever_unpickled(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "exploded"), "w"))

    np.save(tmp_path / "a.npy", np.array([Bomb()]), allow_pickle=True)
    with pytest.raises(ValueError, match="plain numbers"):
        files.read_file(tmp_path / "a.npy")
    assert not (tmp_path / "exploded").exists()
