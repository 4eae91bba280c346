"""`tfp-flows sample`: new data from a trained flow."""

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from tfp_flows import plotting
from tfp_flows.cli import models, options, output
from tfp_flows.cli.errors import one_sentence
from tfp_flows.training.model import FlowModel

FORMATS = (".npy", ".csv", ".png", ".pdf", ".svg")
AT_ONCE = 1_000


@one_sentence
def sample(
    model: options.Model,
    out: Annotated[
        Path, typer.Option(help="A .npy or .csv file, or a .png, .pdf or .svg picture.")
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

    The same seed gives the same samples. Images in a .csv file are flattened, one a
    line.

    For example:

      tfp-flows sample runs/digits-glow --out digits.png

      tfp-flows sample runs/wine --out wine.csv -n 10000 --seed 1
    """
    output.checked_target(out, FORMATS)
    trained, known = models.load(model)
    picture = out.suffix.lower() not in (".npy", ".csv")
    if picture and not _drawable(trained.event_shape):
        raise ValueError(
            f"`--out` must end in .npy or .csv for samples that are neither images nor "
            f"points in the plane. Received: {out} for samples of the shape "
            f"{trained.event_shape}."
        )
    x = _samples(trained, n, seed, temperature)
    if picture:
        _draw(out, trained, x, levels or known.get("levels") or 256)
    elif out.suffix.lower() == ".npy":
        output.write_npy(out, x)
    else:
        flat = x.reshape(len(x), -1)
        names = known.get("columns") or [f"x{i}" for i in range(flat.shape[1])]
        output.write_csv(out, names, flat.tolist())
    typer.echo(f"{n:,} samples are in {out}")


def _samples(model: FlowModel, n: int, seed: int, temperature: float) -> np.ndarray:
    """Draws in pieces, so that memory does not grow with their number."""
    pieces = []
    for piece, start in enumerate(range(0, n, AT_ONCE)):
        count = min(AT_ONCE, n - start)
        # Every piece is drawn whole: the first of many samples are those of few.
        drawn = model.sample(
            AT_ONCE if n > AT_ONCE else count, (seed, piece), temperature
        )
        pieces.append(drawn.numpy()[:count])
    return np.concatenate(pieces)


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
