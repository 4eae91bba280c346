"""`tfp-flows sample`: new data from a trained flow."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tfp_flows.cli import options

if TYPE_CHECKING:
    import numpy as np
    import tensorflow as tf

    from tfp_flows.training.model import FlowModel

# So many values are drawn at once: larger blocks are no faster.
VALUES_AT_ONCE, MOST_AT_ONCE = 2**20, 10_000


@options.command
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
    pixel_levels: Annotated[
        int | None,
        typer.Option(
            "--pixel-levels",
            "--levels",
            help="Values of a pixel in a picture (default: as trained, or 256)",
        ),
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
    import numpy as np

    from tfp_flows.cli import files

    options.checked_target(out, (*options.TABLES, *options.PICTURES))
    trained, known = files.load(model)
    picture = out.suffix.lower() in options.PICTURES
    if picture and not _drawable(trained.event_shape):
        raise ValueError(
            f"Option `--out` must end in {', '.join(options.TABLES)} for samples that "
            f"are neither images nor points in the plane. Received: {out} for samples "
            f"of the shape {trained.event_shape}"
        )
    blocks = _blocks(trained, n, seed, temperature)
    if picture:
        x = np.concatenate(list(blocks))
        _draw(out, trained, x, pixel_levels or known.get("levels") or 256)
    else:
        columns = range(math.prod(trained.event_shape))
        names = known.get("columns") or [f"x{i}" for i in columns]
        dtype = trained.distribution.dtype.as_numpy_dtype
        with files.rows(out, n, trained.event_shape, names, dtype) as append:
            for block in blocks:
                append(block)
    typer.echo(f"{n:,} samples are in {out}")


def _blocks(
    model: FlowModel, n: int, seed: int, temperature: float
) -> Iterator[np.ndarray]:
    """Draws blocks of equal sizes, with a progress bar if there are many."""
    import tensorflow as tf

    size = VALUES_AT_ONCE // math.prod(model.event_shape)
    size = min(n, max(1, min(size, MOST_AT_ONCE)))

    @tf.function(autograph=False)
    def draw(block: tf.Tensor) -> tf.Tensor:
        return model.sample(size, tf.stack([seed, block]), temperature)

    for block in options.shown(range(math.ceil(n / size)), "drawing"):
        drawn = draw(tf.constant(block)).numpy()
        # Every block is drawn whole, so that the graph is traced for one size.
        yield drawn[: n - block * size]


def _drawable(event_shape: tuple[int, ...]) -> bool:
    image = len(event_shape) == 3 and event_shape[-1] in (1, 3)
    return image or event_shape == (2,)


def _draw(path: Path, model: FlowModel, x: np.ndarray, pixel_levels: int) -> None:
    from tfp_flows import plotting
    from tfp_flows.cli import scoring

    if x.ndim == 4:
        figure = plotting.image_grid(x, pixel_levels)
    else:
        figure = plotting.density_map(scoring.log_prob_of(model), x, title="sampled")
    plotting.save(figure, path)
