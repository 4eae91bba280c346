"""`show_export`: prints what an export says about itself."""

from __future__ import annotations

import os
from typing import Any

from rich.console import Console
from rich.table import Table

from tfp_flows.serving.metadata import read_metadata


def show_export(path: str | os.PathLike, console: Console | None = None) -> None:
    """Prints the metadata and the signatures of an export.

    Args:
        path: A version directory, or a model's directory (its newest version).
        console: Where to print; None for the terminal.

    Raises:
        ValueError: If `path` is no export of this package.
    """
    metadata = read_metadata(path)
    signatures = metadata.pop("signatures")
    table = Table(
        title=f"{metadata.pop('name')}, version {metadata.pop('version')}",
        show_header=False,
        title_justify="left",
    )
    for key, value in metadata.items():
        table.add_row(key.replace("_", " "), _text(value))
    requests = Table("signature", "input", "dtype", "shape", title_justify="left")
    for signature, inputs in signatures.items():
        for index, (name, spec) in enumerate(inputs.items()):
            shape = ["batch" if size is None else size for size in spec["shape"]]
            first = signature if index == 0 else ""
            requests.add_row(first, name, spec["dtype"], _text(shape))
    console = console or Console()
    console.print(table)
    console.print(requests)


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return (
            "\n".join(f"{key}: {_text(inner)}" for key, inner in value.items()) or "-"
        )
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return "\n".join(", ".join(_text(inner).splitlines()) for inner in value)
    if isinstance(value, list):
        # A doubled bracket: rich takes a single one for markup.
        return "\\[" + ", ".join(map(str, value)) + "]"
    return "-" if value is None else str(value)
