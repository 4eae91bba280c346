"""`tfp-flows evaluate`: the likelihood of data under a trained flow."""

import dataclasses
import json
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from tfp_flows import data as flow_data
from tfp_flows.cli import models, options, output, scoring
from tfp_flows.cli.errors import one_sentence
from tfp_flows.data import Data

FORMATS = (".csv", ".npy")


@one_sentence
def evaluate(
    model: options.Model,
    data: options.DataName,
    out: Annotated[
        Path | None,
        typer.Option(help="Write every example's log-density to a .csv or .npy file."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON instead of a table.")
    ] = False,
    batch_size: Annotated[int, typer.Option(min=1, help="Examples at once.")] = 256,
    seed: options.Seed = 0,
    n_bits: options.NBits = None,
    image_size: options.ImageSize = None,
    data_dir: options.DataDir = None,
    key: options.Key = None,
) -> None:
    """Measure how likely data are under a trained flow.

    A file is scored whole; of a named data set the held-out part is.

    For example:

      tfp-flows evaluate runs/digits-glow --data digits

      tfp-flows evaluate runs/wine --data new_wine.csv --out log_density.csv
    """
    if out is not None:
        output.checked_target(out, FORMATS)
    trained, known = models.load(model)
    loaded = flow_data.load(
        data,
        to_score=True,
        batch_size=batch_size,
        seed=seed,
        n_bits=n_bits,
        data_dir=data_dir,
        image_size=image_size,
        key=key,
    )
    _check_fits(loaded, trained.event_shape, known.get("columns"))
    nll, draws = scoring.held_out_nll(trained, loaded)
    score = scoring.summarized(nll, draws, loaded.event_shape)
    if out is not None:
        _write(out, -nll)
    result = {"data": loaded.name, **dataclasses.asdict(score)}
    if loaded.true_entropy is not None:
        result["true_entropy"] = loaded.true_entropy
    if as_json:
        typer.echo(json.dumps(result, indent=2))
    else:
        Console().print(_table(result))


def _check_fits(
    data: Data, event_shape: tuple[int, ...], columns: list[str] | None
) -> None:
    if data.event_shape != event_shape:
        raise ValueError(
            f"`--data` must have examples of the shape {event_shape} that the flow was "
            f"trained on. Received: {data.name} with examples of {data.event_shape}."
        )
    if data.columns and columns and list(data.columns) != columns:
        raise ValueError(
            f"`--data` must have the columns that the flow was trained on, "
            f"{', '.join(columns)}. Received: {', '.join(data.columns)}."
        )


def _write(path: Path, log_prob: np.ndarray) -> None:
    if path.suffix.lower() == ".npy":
        output.write_npy(path, log_prob)
    else:
        output.write_csv(path, ["log_prob"], [[float(value)] for value in log_prob])


def _table(result: dict[str, float]) -> Table:
    table = Table(show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for name, value in result.items():
        shown = f"{value:.4f}" if isinstance(value, float) else f"{value}"
        table.add_row(name.replace("_", " "), shown)
    return table
