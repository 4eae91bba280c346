"""`example_text`: the text that the notebook and the benchmark read."""

from __future__ import annotations

import os
import re
import shutil
import subprocess

from tfp_flows.text import LETTERS, clean, load

VARIABLE = "TFP_FLOWS_TEXT"

_PROGRAM = "bible"
_ALL = "gen1:1-rev22:21"


def example_text(path: str | os.PathLike | None = None, alphabet: str = LETTERS) -> str:
    """Returns a text to learn from: yours, or the King James Bible.

    Args:
        path: A text file, as `load` reads it. None for the one that the environment
            variable `TFP_FLOWS_TEXT` names or, if there is none, for the King James
            Bible (public domain) of the program `bible`, which Debian's package
            `bible-kjv` brings.
        alphabet: The characters to reduce the text to; see `clean`.

    Returns:
        The text, in characters of the alphabet only.

    Raises:
        ValueError: If there is no such file, or neither file nor program.
    """
    path = path or os.environ.get(VARIABLE)
    if path:
        return load(path, alphabet)
    program = shutil.which(_PROGRAM) or shutil.which(_PROGRAM, path="/usr/games")
    if program is None:
        raise ValueError(
            "There is no text to learn from. Install the King James Bible with "
            "`apt-get install bible-kjv`, or name a text file in UTF-8: by the "
            f"argument `path` or in the environment variable {VARIABLE}."
        )
    answer = subprocess.run(
        [program, "-f", _ALL],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return clean(without_references(answer.stdout), alphabet)


def without_references(verses: str) -> str:
    """Drops what a verse's line starts with: book, chapter and number."""
    return re.sub(r"^\S+?\d+:\d+ ", "", verses, flags=re.MULTILINE)
