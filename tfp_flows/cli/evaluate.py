"""`tfp-flows evaluate`: the likelihood of data under a trained flow."""

import contextlib
import dataclasses
import itertools
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from tfp_flows import data as flow_data
from tfp_flows.cli import models, options, output, scoring, streams
from tfp_flows.cli.errors import one_sentence
from tfp_flows.data import Data


@one_sentence
def evaluate(
    model: options.Model,
    data: options.DataName,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Write every example's log-density to a .npy, .csv or .parquet file."
        ),
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

    A file is scored whole, in memory that does not grow with it; of a named data set
    the held-out part is.

    For example:

      tfp-flows evaluate runs/digits-glow --data digits

      tfp-flows evaluate runs/wine --data new_wine.csv --out log_density.csv
    """
    if out is not None:
        output.checked_target(out, streams.FORMATS)
    trained, known = models.load(model)
    settings: dict[str, Any] = {
        "batch_size": batch_size,
        "seed": seed,
        "n_bits": n_bits,
        "key": key,
    }
    if flow_data.is_file(data):
        pieces = flow_data.load_pieces(data, **settings)
    else:
        settings |= {"image_size": image_size, "data_dir": data_dir}
        pieces = iter([flow_data.load(data, **settings)])
    first = next(pieces)
    total = scoring.Total(first.event_shape)
    with contextlib.ExitStack() as stack:
        append = None
        if out is not None:
            append = stack.enter_context(streams.rows(out, None, (), ["log_prob"]))
        for piece in _shown(itertools.chain([first], pieces)):
            _check_fits(piece, trained.event_shape, known.get("columns"))
            nll = total.add(trained, piece)
            if append is not None:
                append(-nll)
    _print({"data": first.name, **dataclasses.asdict(total.score())}, first, as_json)


def _shown(pieces: Iterable[Data]) -> Iterable[Data]:
    """Shows on a terminal how far the scoring of a large file has come."""
    console = Console(stderr=True)
    return track(
        pieces,
        "scoring",
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


def _print(result: dict[str, Any], data: Data, as_json: bool) -> None:
    if data.true_entropy is not None:
        result["true_entropy"] = data.true_entropy
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


def _table(result: dict[str, float]) -> Table:
    table = Table(show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for name, value in result.items():
        shown = f"{value:.4f}" if isinstance(value, float) else f"{value}"
        table.add_row(name.replace("_", " "), shown)
    return table
