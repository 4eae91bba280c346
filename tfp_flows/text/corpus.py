"""Texts from files: cleaned, split in two, and cut into windows."""

from __future__ import annotations

import gzip
import os
import re
import unicodedata
import zlib
from pathlib import Path

import numpy as np

from tfp_flows.internal.arguments import checked_integer
from tfp_flows.text.alphabet import LETTERS, checked_alphabet, numbers


def load(path: str | os.PathLike, alphabet: str = LETTERS) -> str:
    """Reads a text in UTF-8 and cleans it.

    Args:
        path: A text file, or one compressed by gzip whose name ends in `.gz`.
        alphabet: The characters to reduce the text to; see `clean`.

    Returns:
        The text, in characters of the alphabet only.

    Raises:
        ValueError: If the file is missing, is no text in UTF-8, or holds fewer than
            two different characters of the alphabet.
    """
    checked_alphabet(alphabet)
    path = Path(path)
    if not path.is_file():
        raise ValueError(
            f"Argument `path` must be an existing text file. Received: {str(path)!r}"
        )
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

    Args:
        text: Any text.
        alphabet: The characters to keep.

    Returns:
        The cleaned text, without spaces at its ends.

    Example:
        >>> clean("In the beginning God created -- the Cafe\u0301!")
        'in the beginning god created the cafe'
    """
    checked_alphabet(alphabet)
    if alphabet == alphabet.lower():
        text = text.lower()
    text = unicodedata.normalize("NFC", text)
    text = text.translate({ord(c): _instead(c, alphabet) for c in set(text)})
    return re.sub(" +", " ", text).strip(" ") if " " in alphabet else text


def _instead(character: str, alphabet: str) -> str:
    """Returns what stands for a character in a cleaned text."""
    if character in alphabet:
        return character
    plain = unicodedata.normalize("NFKD", character)[0]
    if plain in alphabet:
        return plain
    return " " if " " in alphabet else ""


def split(text: str, held_out: float = 0.1) -> tuple[str, str]:
    """Cuts a text in two: the first part to train on, the last to judge by.

    Nothing of the last part is next to anything trained on but at the one cut.

    Args:
        text: The text.
        held_out: Share of the text that is held out, between 0 and 1.

    Returns:
        Both parts.

    Raises:
        ValueError: If `held_out` is out of range.
    """
    if not 0.0 < held_out < 1.0:
        raise ValueError(
            "Argument `held_out` must lie between 0 and 1. "
            f"Received: held_out={held_out}"
        )
    cut = round(len(text) * (1.0 - held_out))
    return text[:cut], text[cut:]


def windows(
    text: str, length: int = 32, *, alphabet: str = LETTERS, stride: int | None = None
) -> np.ndarray:
    """Cuts a text into windows of equal length.

    Args:
        text: A text of characters of the alphabet.
        length: Number of characters in a window.
        alphabet: The characters.
        stride: Distance between the starts of windows; None for `length`, so that
            each character is in one window. What is left at the end is dropped.

    Returns:
        Numbers of characters, `[n, length]`.

    Raises:
        ValueError: If the text is shorter than a window or has other characters.
    """
    checked_integer("length", length)
    stride = length if stride is None else checked_integer("stride", stride)
    if len(text) < length:
        raise ValueError(
            f"Argument `text` must have at least `length={length}` characters. "
            f"Received: a text of {len(text)}"
        )
    rows = np.lib.stride_tricks.sliding_window_view(numbers(text, alphabet), length)
    return rows[::stride].copy()
