"""`save`: a picture file that is whole or absent."""

import os
import tempfile
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure


def save(figure: Figure, path: str | os.PathLike, dpi: int = 150) -> None:
    """Writes a figure to a file that is whole or absent.

    Args:
        figure: The figure.
        path: Where to; the ending (``.png``, ``.pdf``, ``.svg``) names the format.
        dpi: Dots per inch of a pixel format.

    Raises:
        ValueError: If the ending names no picture format or the folder is missing.
    """
    path = Path(path)
    known = FigureCanvasAgg.get_supported_filetypes()
    kind = path.suffix.lower().lstrip(".")
    if kind not in known:
        raise ValueError(
            f"`path` must end in a picture format such as .png. Received: {path}."
        )
    if not path.parent.is_dir():
        raise ValueError(
            f"`path` must lie in an existing folder. Received: {str(path)!r}."
        )
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".picture-") as folder:
        written = Path(folder) / path.name
        figure.savefig(written, dpi=dpi, format=kind)
        os.replace(written, path)
