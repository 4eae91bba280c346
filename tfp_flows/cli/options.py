"""Options that several verbs share."""

from pathlib import Path
from typing import Annotated

import typer

DataName = Annotated[
    str,
    typer.Option(
        "--data",
        help="digits, two_moons, eight_gaussians, pinwheel, checkerboard, rings, the "
        "TFDS name of an image set (fashion_mnist), or a .npy, .npz, .csv or .parquet "
        "file.",
        show_default=False,
    ),
]
DataDir = Annotated[
    Path | None,
    typer.Option(
        help="Where TFDS keeps its data [default: $TFDS_DATA_DIR or "
        "~/tensorflow_datasets]",
        show_default=False,
    ),
]
NBits = Annotated[
    int | None, typer.Option(help="Keep so many of the 8 bits of each pixel.")
]
ImageSize = Annotated[
    int | None, typer.Option(help="Crop and resize a TFDS set's images to this side.")
]
Key = Annotated[str | None, typer.Option(help="Which array of an .npz file.")]
Seed = Annotated[
    int, typer.Option(min=0, max=2**31 - 1, help="Seed of all randomness.")
]
Model = Annotated[
    Path,
    typer.Argument(
        metavar="MODEL",
        help="The folder of a finished run, or a .keras file.",
        show_default=False,
    ),
]


def sizes(text: str | None) -> tuple[int, ...] | None:
    """Reads a list of layer widths such as ``128,128``.

    Args:
        text: The option's value, or None.

    Returns:
        The widths, or None.

    Raises:
        ValueError: If the text is something else.
    """
    if text is None:
        return None
    try:
        widths = tuple(int(part) for part in text.split(","))
    except ValueError:
        widths = ()
    if not widths or min(widths) < 1:
        raise ValueError(
            f"`--hidden-units` must be widths such as 128,128. Received: {text!r}."
        )
    return widths
