"""Texts from files: cleaned, split in two, cut into windows, and as integers.

The k-th character of an alphabet is the integer k.
"""

from __future__ import annotations

import gzip
import os
import re
import unicodedata
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tfp_flows.internal.arguments import checked_integer, checked_number, invalid

Windows = Sequence[str] | npt.ArrayLike

# What Unicode does not take apart.
_LETTERS = {"\u00e6": "ae", "\u0153": "oe", "\u00df": "ss", "\u00f8": "o"}

LETTERS = " abcdefghijklmnopqrstuvwxyz"
"""The 27 characters of `text8`: a space and the lower-case letters."""


def load(path: str | os.PathLike, alphabet: str = LETTERS) -> str:
    """Reads a text in UTF-8, also one compressed by gzip (`.gz`), and cleans it."""
    checked_alphabet(alphabet)
    path = Path(path)
    if not path.is_file():
        raise invalid("path", "be an existing text file", str(path))
    opened = gzip.open if path.suffix == ".gz" else open
    try:
        with opened(path, "rt", encoding="utf-8") as file:
            text = clean(file.read(), alphabet)
    except (UnicodeDecodeError, EOFError, OSError, zlib.error) as error:
        raise ValueError(f"{path} cannot be read as text in UTF-8: {error}") from error
    if len(set(text)) < 2:
        raise ValueError(
            f"{path} must hold at least two different characters of {alphabet!r}. "
            f"Received: {len(text)} of them after cleaning"
        )
    return text


def clean(text: str, alphabet: str = LETTERS) -> str:
    r"""Reduces a text to the characters of an alphabet, as `text8` is made.

    Capitals become small letters unless the alphabet has some; accents are dropped
    where the alphabet lacks the accented letter; each run of other characters becomes
    one space, or nothing if the alphabet has no space.

    Example:
        >>> clean("In the beginning God created -- the Cafe\u0301!")
        'in the beginning god created the cafe'
    """
    checked_alphabet(alphabet)
    if alphabet == alphabet.lower():
        text = text.lower()
    text = unicodedata.normalize("NFC", text)
    text = text.translate({ord(c): _replacement(c, alphabet) for c in set(text)})
    return re.sub(" +", " ", text).strip(" ") if " " in alphabet else text


def _replacement(character: str, alphabet: str) -> str:
    """Returns what stands for a character in a cleaned text."""
    if character in alphabet:
        return character
    plain = _LETTERS.get(character) or unicodedata.normalize("NFKD", character)
    if plain := "".join(c for c in plain if c in alphabet):
        return plain
    return " " if " " in alphabet else ""


def split(text: str, held_out: float = 0.1) -> tuple[str, str]:
    """Cuts a text in two: the first part to train on, the share `held_out` to judge by.

    Nothing of the last part is next to anything trained on but at the one cut.
    """
    held_out = checked_number("held_out", held_out, above=0, below=1)
    cut = round(len(text) * (1.0 - held_out))
    return text[:cut], text[cut:]


def windows(
    text: str, length: int = 32, *, alphabet: str = LETTERS, stride: int | None = None
) -> np.ndarray:
    """Cuts a text into windows of equal length: integers of characters, `[n, length]`.

    Their starts are `stride` characters apart, by default `length`, so that each
    character is in one window. What is left at the end is dropped.
    """
    checked_integer("length", length)
    stride = length if stride is None else checked_integer("stride", stride)
    if len(text) < length:
        must = f"have at least `length={length}` characters"
        raise invalid("text", must, got=f"a text of {len(text)}")
    rows = np.lib.stride_tricks.sliding_window_view(numbers(text, alphabet), length)
    return rows[::stride].copy()


def checked_alphabet(alphabet: str) -> str:
    """Returns `alphabet` if it is a string of at least two different characters."""
    good = isinstance(alphabet, str) and len(alphabet) > 1
    if not good or len(set(alphabet)) < len(alphabet):
        must = "be a string of at least 2 characters, each of them once"
        raise invalid("alphabet", must, alphabet)
    return alphabet


def numbers(text: str, alphabet: str = LETTERS) -> np.ndarray:
    """Returns the characters of a text as integers `[len(text)]`."""
    place = {character: k for k, character in enumerate(alphabet)}
    try:
        return np.fromiter((place[c] for c in text), np.int32, len(text))
    except KeyError as error:
        raise ValueError(
            f"Argument `text` must consist of characters of {alphabet!r}; "
            "`tfpf.text.clean` replaces others. "
            f"Received: the character {error.args[0]!r}"
        ) from error


def strings(windows: Iterable, alphabet: str = LETTERS) -> list[str]:
    """Returns the texts whose characters are the integers `windows`, `[n, length]`."""
    return ["".join(alphabet[int(k)] for k in row) for row in np.asarray(windows)]


def checked_windows(
    windows: Windows, length: int | None = None, alphabet: str = LETTERS
) -> np.ndarray:
    """Returns windows as integers in `[0, len(alphabet))`, `[n, length]`.

    They are strings of equal length, or integers; a `length` of None allows any.
    """
    if isinstance(windows, str):
        must = "be a list of strings; `tfpf.text.windows` cuts a text into windows"
        raise invalid("windows", must, got=f"a string of {len(windows)} characters")
    if (texts := _texts(windows)) is not None:
        expected = len(texts[0]) if length is None else length
        for text in texts:
            if len(text) != expected:
                must = f"hold strings of {expected} characters"
                raise invalid("windows", must, text)
        windows = [numbers(text, alphabet) for text in texts]
    rows = np.asarray(windows)
    if rows.ndim != 2 or 0 in rows.shape or length not in (None, rows.shape[1]):
        size = "length" if length is None else length
        must = f"have the shape [n, {size}]"
        raise invalid("windows", must, got=f"windows of shape {rows.shape}")
    whole = rows.astype(np.int32)
    if np.any(whole != rows) or whole.min() < 0 or whole.max() >= len(alphabet):
        must = f"hold integers from 0 to {len(alphabet) - 1}"
        raise invalid("windows", must, got=f"values from {rows.min()} to {rows.max()}")
    return whole


def _texts(windows: Windows) -> list[str] | None:
    """Returns strings, bytes or lists of characters as strings, None of numbers."""
    found = np.asarray(windows)
    if found.dtype.kind not in "SUO" or not found.size:
        return None
    rows = [np.atleast_1d(row).tolist() for row in found]
    rows = [[c.decode() if isinstance(c, bytes) else c for c in row] for row in rows]
    if not all(isinstance(c, str) for row in rows for c in row):
        return None
    return ["".join(row) for row in rows]
