"""What any model of text has to beat: counts of characters and of their pairs."""

from __future__ import annotations

from typing import Any

import numpy as np

from tfp_flows.internal.arguments import checked_integer
from tfp_flows.text.corpus import LETTERS, checked_alphabet, checked_windows, strings


class NGram:
    """Each character given the `order - 1` before it, by smoothed counts.

        P(x_t | b) = (count(b, x_t) + 1) / (sum_x count(b, x) + A)

    with `b` the `order - 1` characters before, at the start of a window as many as
    there are, and `A` the number of characters (add-one smoothing).

    Example:
        >>> model = NGram(1, "ab").fit(["aaab", "abaa"])
        >>> print(f"{model.bits_per_char(['aa']):.3f}")
        0.515
    """

    def __init__(self, order: int, alphabet: str = LETTERS) -> None:
        """Starts without counts.

        Args:
            order: 1 for single characters, 2 for pairs; the table has `A^order`
                entries.
            alphabet: The characters.

        Raises:
            ValueError: If `order` is not a positive integer, or the table too large.
        """
        self.order = checked_integer("order", order)
        self.alphabet = checked_alphabet(alphabet)
        if len(alphabet) ** order > 10**8:
            raise ValueError(
                "Argument `order` must be small enough for a table of 1e8 entries. "
                f"Received: order={order} with {len(alphabet)} characters"
            )
        self._log2: list[np.ndarray] = []

    def fit(self, windows: Any) -> NGram:
        """Counts the characters of windows, `[n, length]` or strings; returns itself.

        Raises:
            ValueError: If a window is shorter than `order` or has other characters.
        """
        rows = checked_windows(windows, None, self.alphabet)
        if rows.shape[1] < self.order:
            raise ValueError(
                f"Argument `windows` must have at least `order={self.order}` "
                f"characters each. Received: windows of {rows.shape[1]}"
            )
        self._log2 = [self._table(rows, before) for before in range(self.order)]
        return self

    def _table(self, rows: np.ndarray, before: int) -> np.ndarray:
        """Returns `log2 P`, a row for each string of `before` characters."""
        size = len(self.alphabet)
        places = self._strings(rows, before) * size + rows[:, before:]
        counts = np.bincount(places.ravel(), minlength=size ** (before + 1))
        smoothed = counts.reshape(-1, size) + 1.0
        return np.log2(smoothed / smoothed.sum(axis=1, keepdims=True))

    def _strings(self, rows: np.ndarray, before: int) -> np.ndarray:
        """Numbers the strings of `before` characters before each later position."""
        positions = rows.shape[1] - before
        found = np.zeros([len(rows), positions], np.int64)
        for k in range(before):
            found = found * len(self.alphabet) + rows[:, k : k + positions]
        return found

    def window_bits(self, windows: Any) -> np.ndarray:
        """Returns the mean of `-log2 P` over the characters of each window, `[n]`.

        Raises:
            RuntimeError: If nothing has been counted.
        """
        if not self._log2:
            raise RuntimeError("Call `fit(windows)` before anything is predicted.")
        rows = checked_windows(windows, None, self.alphabet)
        most = self.order - 1
        total = np.zeros(len(rows))
        for before in range(min(most, rows.shape[1])):
            context = self._strings(rows[:, : before + 1], before)[:, 0]
            total -= self._log2[before][context, rows[:, before]]
        if rows.shape[1] > most:
            later = self._log2[most][self._strings(rows, most), rows[:, most:]]
            total -= later.sum(axis=1)
        return total / rows.shape[1]

    def bits_per_char(self, windows: Any) -> float:
        """Returns the mean of `-log2 P` over all characters of windows, in bits."""
        return float(np.mean(self.window_bits(windows)))

    def sample(self, n: int, length: int, seed: int = 0) -> list[str]:
        """Draws `n` texts of `length` characters."""
        if not self._log2:
            raise RuntimeError("Call `fit(windows)` before anything is drawn.")
        generator = np.random.default_rng(seed)
        rows = np.zeros([n, 0], np.int64)
        for position in range(length):
            before = min(position, self.order - 1)
            context = np.zeros([n, 1], np.int64)
            if before:
                context = self._strings(
                    np.pad(rows[:, -before:], [(0, 0), (0, 1)]), before
                )
            p = np.exp2(self._log2[before][context[:, 0]])
            # The first character whose cumulative probability exceeds the draw.
            reached = np.cumsum(p, axis=1) < generator.random([n, 1])
            drawn = np.minimum(reached.sum(axis=1), len(self.alphabet) - 1)
            rows = np.concatenate([rows, drawn[:, np.newaxis]], axis=1)
        return strings(rows, self.alphabet)


def unigram(windows: Any, alphabet: str = LETTERS) -> NGram:
    """Returns the frequencies of single characters in windows."""
    return NGram(1, alphabet).fit(windows)


def bigram(windows: Any, alphabet: str = LETTERS) -> NGram:
    """Returns the frequencies of characters after each other one in windows."""
    return NGram(2, alphabet).fit(windows)
