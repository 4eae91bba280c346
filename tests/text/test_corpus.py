"""From files to windows of numbers, and the sentences for what is none."""

import gzip

import numpy as np
import pytest
import tensorflow as tf

import tfp_flows as tfpf
from tfp_flows.text.corpus import checked_windows, numbers, strings


def test_numbers_and_strings_are_inverse():
    text = "the quick brown fox jumps over the lazy dog"
    found = numbers(text)
    assert found.min() == 0
    assert found.max() == 26
    assert strings([found]) == [text]


def test_cleaning_is_that_of_text8():
    assert tfpf.text.clean("  Lord's 2nd  DAY!\n\nSaid he. ") == "lord s nd day said he"
    assert tfpf.text.clean("Caf\u00e9, cafe\u0301, na\u00efve") == "cafe cafe naive"
    # An alphabet with capitals keeps them, one with accents too.
    assert (
        tfpf.text.clean("Ja, \u00c9t\u00e9", " Jat\u00c9\u00e9") == "Ja \u00c9t\u00e9"
    )
    assert tfpf.text.clean("A b-C", "abc") == "abc"


def test_files_are_read_plain_and_compressed(tmp_path):
    text = "In the beginning\nGod created the heaven and the earth.\n"
    (tmp_path / "plain.txt").write_text(text, encoding="utf-8")
    with gzip.open(tmp_path / "packed.txt.gz", "wt", encoding="utf-8") as file:
        file.write(text)
    expected = "in the beginning god created the heaven and the earth"
    assert tfpf.text.load(tmp_path / "plain.txt") == expected
    assert tfpf.text.load(str(tmp_path / "packed.txt.gz")) == expected
    assert (
        tfpf.text.load(tmp_path / "plain.txt", " aei") == "i e e i i ea e e ea e a e ea"
    )


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("missing.txt", None, "must be an existing text file"),
        ("latin.txt", "\u00e4".encode("latin-1"), "cannot be read as text in UTF-8"),
        ("no.txt.gz", b"not compressed", "cannot be read as text in UTF-8"),
        (
            "cut.txt.gz",
            gzip.compress(b"text " * 99, mtime=0)[:-9],
            "cannot be read as text",
        ),
        ("empty.txt", b"", "at least two different characters"),
        ("digits.txt", b"1234 5678", "at least two different characters"),
    ],
)
def test_files_that_are_no_text(tmp_path, name, content, words):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=words):
        tfpf.text.load(tmp_path / name)


def test_parts_and_windows_lose_and_share_nothing():
    text = "abcdefghij" * 10
    first, last = tfpf.text.split(text, 0.25)
    assert first + last == text
    assert len(last) == 25
    rows = tfpf.text.windows(first, 7)
    assert rows.shape == (10, 7)
    assert "".join(strings(rows)) == first[:70]
    over = tfpf.text.windows(first, 7, stride=2)
    assert over.shape == (35, 7)
    assert strings(over[3:4]) == [first[6:13]]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: tfpf.text.windows("abc", 4), "at least `length=4` characters"),
        (lambda: tfpf.text.windows("abC", 2), "the character 'C'"),
        (lambda: tfpf.text.windows("abc", 0), "`length` must be an integer"),
        (lambda: tfpf.text.split("abc", 1.0), "`held_out` must be"),
        (lambda: tfpf.text.clean("abc", "aa"), "each of them once"),
        (lambda: checked_windows("abc"), "must be a list of strings"),
        (lambda: checked_windows(["ab", "abc"]), "strings of 2 characters"),
        (lambda: checked_windows([[0, 27]]), "from 0 to 26"),
        (lambda: checked_windows([[0.5, 1.0]]), "must hold integers"),
        (lambda: checked_windows(np.zeros([3, 4]), 5), r"shape \[n, 5\]"),
        (lambda: checked_windows([]), r"shape \[n, length\]"),
    ],
)
def test_wrong_arguments_are_named(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_letters_that_stand_for_two_keep_both():
    assert tfpf.text.clean("\u0153uvre \ufb01re Stra\u00dfe") == "oeuvre fire strasse"


@pytest.mark.parametrize(
    "windows",
    [
        np.array(["abab", "cccc"]),
        [b"abab", b"cccc"],
        tf.constant(["abab", "cccc"]),
        [list("abab"), list("cccc")],
    ],
    ids=["array", "bytes", "tensor", "characters"],
)
def test_strings_come_in_any_container(windows):
    expected = checked_windows(["abab", "cccc"], 4)
    np.testing.assert_array_equal(checked_windows(windows, 4), expected)


def test_strings_come_as_a_column_of_pandas():
    pandas = pytest.importorskip("pandas")
    series = pandas.Series(["abab", "cccc"], index=[7, 9])
    expected = checked_windows(["abab", "cccc"], 4)
    np.testing.assert_array_equal(checked_windows(series, 4), expected)
