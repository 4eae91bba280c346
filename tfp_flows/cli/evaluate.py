"""`tfp-flows evaluate` and `tfp-flows check`: judge a trained flow."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tfp_flows.cli import options

if TYPE_CHECKING:
    from tfp_flows.data import Data

CHECKED_ROWS = 16


@options.command
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
    from tfp_flows import data as flow_data
    from tfp_flows.cli import files, scoring

    if out is not None:
        options.checked_target(out, options.TABLES)
    trained, known = files.load(model)
    settings: dict[str, Any] = {"batch_size": batch_size, "seed": seed}
    settings |= {"n_bits": n_bits, "key": key}
    if flow_data.is_file(data):
        flow_data.check_image_size(data, image_size)
        shards = flow_data.load_shards(data, **settings)
    else:
        settings |= {"image_size": image_size, "data_dir": data_dir}
        shards = iter([flow_data.load(data, **settings)])
    first = next(shards)
    total = scoring.Total(first.event_shape)
    with contextlib.ExitStack() as stack:
        append = None
        if out is not None:
            dtype = trained.distribution.dtype.as_numpy_dtype
            written = files.rows(out, None, (), ["log_prob"], dtype)
            append = stack.enter_context(written)
        for shard in options.shown(itertools.chain([first], shards), "scoring"):
            _check_fits(shard, trained.event_shape, known.get("columns"))
            nll = total.add(trained, _as_trained(shard, known))
            if append is not None:
                append(-nll)
    result = {"data": first.name, **total.score()}
    if first.true_entropy is not None:
        result["true_entropy"] = first.true_entropy
    if as_json:
        typer.echo(json.dumps(result, indent=2))
    else:
        _print_table(result)


@options.command
def check(model: options.Model, seed: options.Seed = 0) -> None:
    """Check that a trained flow keeps the laws of change of variables.

    Inverse, log-determinant against automatic differentiation, gradients, saving and
    export; the exit code is 1 if a check fails. A conditional flow is checked with
    conditions drawn from a standard normal, or labels drawn evenly.

    For example:

      tfp-flows check runs/digits-glow
    """
    import tensorflow as tf

    from tfp_flows.bijectors.conditional import label_count
    from tfp_flows.cli import files
    from tfp_flows.testing.check_bijector import check_bijector

    trained, _ = files.load(model, conditional=True)
    flow = trained.distribution
    bijector = getattr(flow, "bijector", None)
    if bijector is None:
        raise ValueError(
            f"Argument `MODEL` must hold a transformed distribution. "
            f"Received: {flow.name}"
        )
    latents = flow.distribution.sample(CHECKED_ROWS, seed=(0, seed))
    condition = None
    if trained.condition_shape is not None:
        shape = (CHECKED_ROWS, *trained.condition_shape)
        condition = tf.random.stateless_normal(shape, (1, seed), dtype=latents.dtype)
        if (labels := label_count(bijector)) is not None:
            uniform = tf.random.stateless_uniform
            condition = uniform(shape, (1, seed), 0, labels, tf.int32)
    report = check_bijector(bijector, latents, condition=condition)
    typer.echo(str(report))
    if not report.ok:
        raise typer.Exit(options.FAILED)


def _check_fits(
    data: Data, event_shape: tuple[int, ...], columns: list[str] | None
) -> None:
    if data.event_shape != event_shape:
        raise ValueError(
            f"Option `--data` must have examples of the shape {event_shape} that the "
            f"flow was trained on. Received: {data.name} with examples of "
            f"{data.event_shape}"
        )
    if data.columns and columns and list(data.columns) != columns:
        raise ValueError(
            f"Option `--data` must have the columns that the flow was trained on, "
            f"{', '.join(columns)}. Received: {', '.join(data.columns)}"
        )


def _as_trained(data: Data, known: Mapping[str, Any]) -> Data:
    """Takes 8-bit images as the flow's training took its own, and refuses others.

    Whole values may be fractions that only look like pixels, or of fewer levels.
    """
    from tfp_flows.data import reduce_bits

    found, levels = data.pixel_levels, known.get("levels", data.pixel_levels)
    if found not in (levels, 256):
        wanted, got = (f"{n} levels" if n else "fractions" for n in (levels, found))
        raise ValueError(
            f"Option `--data` must hold pixels of {wanted}, as the flow was trained "
            f"on (see `--n-bits`). Received: {data.name} with {got}"
        )
    x = data.x_test
    if found == 256 and levels is None:
        x = x.astype("float32")
    elif found == 256 and levels.bit_count() == 1:
        x = reduce_bits(x, levels.bit_length() - 1)
    return dataclasses.replace(data, x_test=x, pixel_levels=levels)


def _print_table(result: Mapping[str, object]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for name, value in result.items():
        shown = f"{value:.4f}" if isinstance(value, float) else f"{value}"
        table.add_row(name.replace("_", " "), shown)
    Console().print(table)
