"""`tfp-flows sample`: new data from a trained flow."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tensorflow as tf
import typer
from rich.console import Console
from rich.progress import track

from tfp_flows import plotting
from tfp_flows.cli import models, options, output, streams
from tfp_flows.cli.errors import one_sentence
from tfp_flows.training.model import FlowModel

PICTURES = (".png", ".pdf", ".svg")
FORMATS = (*streams.FORMATS, *PICTURES)
# So many numbers are drawn at once: larger pieces are no faster.
NUMBERS_AT_ONCE, MOST_AT_ONCE = 2**20, 10_000


@one_sentence
def sample(
    model: options.Model,
    out: Annotated[
        Path,
        typer.Option(
            help="A .npy, .csv or .parquet file, or a .png, .pdf or .svg picture."
        ),
    ],
    n: Annotated[
        int, typer.Option("-n", "--n", "--number", min=1, help="How many.")
    ] = 64,
    temperature: Annotated[
        float,
        typer.Option(min=0.0, help="Factor on the spread of the latents; 1 is exact."),
    ] = 1.0,
    seed: options.Seed = 0,
    levels: Annotated[
        int | None,
        typer.Option(help="Value of white in a picture (default: as trained, or 256)"),
    ] = None,
) -> None:
    """Draw samples from a trained flow.

    The same seed gives the same samples. Memory does not grow with their number but
    for pictures. Images in a .csv or .parquet file are flattened, one a row.

    For example:

      tfp-flows sample runs/digits-glow --out digits.png

      tfp-flows sample runs/wine --out wine.csv -n 10000 --seed 1

      tfp-flows sample runs/wine --out many.parquet -n 10_000_000
    """
    output.checked_target(out, FORMATS)
    trained, known = models.load(model)
    picture = out.suffix.lower() in PICTURES
    if picture and not _drawable(trained.event_shape):
        raise ValueError(
            f"`--out` must end in {', '.join(streams.FORMATS)} for samples that are "
            f"neither images nor points in the plane. Received: {out} for samples of "
            f"the shape {trained.event_shape}."
        )
    pieces = _pieces(trained, n, seed, temperature)
    if picture:
        x = np.concatenate(list(pieces))
        _draw(out, trained, x, levels or known.get("levels") or 256)
    else:
        numbers = range(math.prod(trained.event_shape))
        names = known.get("columns") or [f"x{i}" for i in numbers]
        with streams.rows(out, n, trained.event_shape, names) as append:
            for piece in pieces:
                append(piece)
    typer.echo(f"{n:,} samples are in {out}")


def _pieces(
    model: FlowModel, n: int, seed: int, temperature: float
) -> Iterator[np.ndarray]:
    """Draws in pieces of equal sizes, with a progress bar if there are many."""
    size = NUMBERS_AT_ONCE // math.prod(model.event_shape)
    size = min(n, max(1, min(size, MOST_AT_ONCE)))

    @tf.function(autograph=False)
    def draw(piece: tf.Tensor) -> tf.Tensor:
        return model.sample(size, tf.stack([seed, piece]), temperature)

    console = Console(stderr=True)
    shown = track(
        range(math.ceil(n / size)),
        "drawing",
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    for piece in shown:
        drawn = draw(tf.constant(piece)).numpy()
        # Every piece is drawn whole, so that the graph is traced for one size.
        yield drawn[: n - piece * size]


def _drawable(event_shape: tuple[int, ...]) -> bool:
    image = len(event_shape) == 3 and event_shape[-1] in (1, 3)
    return image or event_shape == (2,)


def _draw(path: Path, model: FlowModel, x: np.ndarray, levels: Any) -> None:
    if x.ndim == 4:
        plotting.save(plotting.image_grid(x, levels), path)
        return

    def log_prob(points: np.ndarray) -> np.ndarray:
        return model.predict(points, batch_size=4096, verbose=0)

    plotting.save(plotting.density_map(log_prob, x, title="sampled"), path)
