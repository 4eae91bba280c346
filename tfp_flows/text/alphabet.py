"""Characters as whole numbers: the k-th character of an alphabet is k."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

LETTERS = " abcdefghijklmnopqrstuvwxyz"
"""The 27 characters of `text8`: a space and the lower-case letters."""


def checked_alphabet(alphabet: Any) -> str:
    """Returns `alphabet` if it is a string of at least two different characters."""
    if (
        not isinstance(alphabet, str)
        or len(alphabet) < 2
        or len(set(alphabet)) < len(alphabet)
    ):
        raise ValueError(
            "Argument `alphabet` must be a string of at least 2 characters, each of "
            f"them once. Received: alphabet={alphabet!r}"
        )
    return alphabet


def numbers(text: str, alphabet: str = LETTERS) -> np.ndarray:
    """Returns the numbers of the characters of a text.

    Args:
        text: Any text of characters of the alphabet.
        alphabet: The characters.

    Returns:
        Whole numbers in `[0, len(alphabet))`, `[len(text)]`.

    Raises:
        ValueError: If a character is not in the alphabet.
    """
    place = {character: k for k, character in enumerate(alphabet)}
    try:
        return np.fromiter((place[c] for c in text), np.int32, len(text))
    except KeyError as error:
        raise ValueError(
            f"Argument `text` must consist of characters of {alphabet!r}; "
            "`tfpf.text.clean` replaces others. "
            f"Received: the character {error.args[0]!r}"
        ) from error


def strings(windows: Any, alphabet: str = LETTERS) -> list[str]:
    """Returns the texts whose characters have the numbers `windows`, `[n, length]`."""
    return ["".join(alphabet[int(k)] for k in row) for row in np.asarray(windows)]


def checked_windows(
    windows: Any, length: int | None = None, alphabet: str = LETTERS
) -> np.ndarray:
    """Returns windows as whole numbers.

    Args:
        windows: Strings of equal length, or numbers of characters `[n, length]`.
        length: How many characters a window must have; None for any number.
        alphabet: The characters.

    Returns:
        Whole numbers in `[0, len(alphabet))`, `[n, length]`.

    Raises:
        ValueError: If the windows are of another length or hold anything else.
    """
    if _are_strings(windows):
        _check_lengths(windows, length)
        windows = [numbers(text, alphabet) for text in windows]
    rows = np.asarray(windows)
    size = "length" if length is None else length
    if rows.ndim != 2 or 0 in rows.shape or (length not in (None, rows.shape[1])):
        raise ValueError(
            f"Argument `windows` must have the shape [n, {size}]. "
            f"Received: windows of shape {rows.shape}"
        )
    whole = rows.astype(np.int32)
    if np.any(whole != rows) or whole.min() < 0 or whole.max() >= len(alphabet):
        raise ValueError(
            "Argument `windows` must hold whole numbers from 0 to "
            f"{len(alphabet) - 1}. Received: values from {rows.min()} to {rows.max()}"
        )
    return whole


def _are_strings(windows: Any) -> bool:
    return (
        isinstance(windows, Sequence)
        and len(windows) > 0
        and all(isinstance(window, str) for window in windows)
    )


def _check_lengths(windows: Sequence[str], length: int | None) -> None:
    if isinstance(windows, str):
        raise ValueError(
            "Argument `windows` must be a list of strings; `tfpf.text.windows` cuts a "
            f"text into windows. Received: a string of {len(windows)} characters"
        )
    length = len(windows[0]) if length is None else length
    for window in windows:
        if len(window) != length:
            raise ValueError(
                f"Argument `windows` must hold strings of {length} characters. "
                f"Received: {window!r} of {len(window)}"
            )
