"""`tfp-flows export`: a SavedModel for TF Serving."""

import enum
from pathlib import Path
from typing import Annotated

import typer

from tfp_flows.cli import models, options
from tfp_flows.cli.errors import one_sentence
from tfp_flows.serving.export import export_saved_model
from tfp_flows.serving.metadata import show_export


class Precision(str, enum.Enum):
    """How an export stores weights."""

    float32 = "float32"
    float16 = "float16"
    bfloat16 = "bfloat16"
    int8 = "int8"


@one_sentence
def export(
    model: options.Model,
    out: Annotated[
        Path | None,
        typer.Option(
            help="The served model's folder; versions are inside.", show_default=False
        ),
    ] = None,
    version: Annotated[
        int | None,
        typer.Option(help="Version number (default: the next one)", show_default=False),
    ] = None,
    max_samples: Annotated[
        int, typer.Option(help="Most samples that one request may ask for.")
    ] = 1024,
    warmup: Annotated[
        bool, typer.Option(help="Write requests for the server to warm up with.")
    ] = True,
    precision: Annotated[
        Precision,
        typer.Option(help="How to store weights; what it changes is measured."),
    ] = Precision.float32,
    show: Annotated[
        bool,
        typer.Option("--show", help="Print what MODEL, an export, says about itself."),
    ] = False,
) -> None:
    """Export a trained flow as a SavedModel, or show what is in one.

    The new version appears in the folder whole or not at all.

    For example:

      tfp-flows export runs/digits-glow --out models/digits

      tfp-flows export runs/digits-glow --out models/digits --precision float16

      tfp-flows export models/digits --show
    """
    if show:
        show_export(model)
        return
    if out is None:
        raise ValueError(
            "`--out` must be the served model's folder, unless `--show` is given. "
            "Received: none."
        )
    trained, _ = models.load(model, conditional=True)
    path = export_saved_model(
        trained,
        out,
        version=version,
        max_samples=max_samples,
        warmup=warmup,
        precision=precision.value,
    )
    typer.echo(path)
