"""Writes the tables of TFP's classes in `serialization.md` anew.

    python docs/serialization.py

What is saved and what is refused is what `tests/saving/test_tfp_classes.py` tests; what
containers can do is what `tests/bijectors/test_abilities.py` does.
"""

from __future__ import annotations

import runpy
from pathlib import Path

DOCUMENT = Path(__file__).with_suffix(".md")
TESTS = Path(__file__).parents[1] / "tests"
CLASSES = TESTS / "saving" / "test_tfp_classes.py"
BEGIN, END = "<!-- begin -->", "<!-- end -->"


def table(title: str, prefix: str, saved: dict, refused: dict) -> str:
    """Formats the classes of a module of TFP as Markdown."""
    names = ", ".join(f"`{name}`" for name in sorted(saved))
    rows = [f"| `{prefix}.{name}` | {refused[name][2]} |" for name in sorted(refused)]
    head = [f"### {title}", "", f"Saved ({len(saved)}): {names}.", ""]
    head += [f"| refused ({len(refused)}) | why |", "|---|---|"]
    return "\n".join([*head, *rows]) + "\n"


def abilities(containers: dict, names: dict, refused: dict) -> str:
    """Formats what each container does, or by which words it refuses."""
    head = ["### Containers", "", "| | " + " | ".join(names) + " |"]
    head.append("|---" * (len(names) + 1) + "|")
    rows = [
        " | ".join([f"`{c}`", *("no" if (c, n) in refused else "yes" for n in names)])
        for c in containers
    ]
    return "\n".join([*head, *(f"| {row} |" for row in rows)]) + "\n"


def main() -> None:
    """Replaces what stands between the marks."""
    found = runpy.run_path(str(CLASSES))
    kinds = [("Bijectors", "tfb"), ("Distributions", "tfd")]
    tables = [
        table(kind, prefix, found[kind.upper()], found[f"REFUSED_{kind.upper()}"])
        for kind, prefix in kinds
    ]
    cells = runpy.run_path(str(TESTS / "bijectors" / "test_abilities.py"))
    names = ("CONTAINERS", "ABILITIES", "REFUSED")
    tables.append(abilities(*(cells[name] for name in names)))
    text = DOCUMENT.read_text(encoding="utf-8")
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    parts = [before + BEGIN, "", *tables, END + after]
    DOCUMENT.write_text("\n".join(parts), encoding="utf-8")


if __name__ == "__main__":
    main()
