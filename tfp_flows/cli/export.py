"""`tfp-flows export`: a SavedModel for TF Serving."""

from pathlib import Path
from typing import Annotated

import typer

from tfp_flows.cli import models, options
from tfp_flows.cli.errors import one_sentence
from tfp_flows.serving.export import export_saved_model


@one_sentence
def export(
    model: options.Model,
    out: Annotated[
        Path, typer.Option(help="The served model's folder; versions are inside.")
    ],
    version: Annotated[
        int | None, typer.Option(help="Version number (default: the next one)")
    ] = None,
    max_samples: Annotated[
        int, typer.Option(help="Most samples that one request may ask for.")
    ] = 1024,
    warmup: Annotated[
        bool, typer.Option(help="Write requests for the server to warm up with.")
    ] = True,
) -> None:
    """Export a trained flow as a SavedModel.

    The new version appears in the folder whole or not at all.

    For example:

      tfp-flows export runs/digits-glow --out models/digits
    """
    trained, _ = models.load(model)
    path = export_saved_model(
        trained, out, version=version, max_samples=max_samples, warmup=warmup
    )
    typer.echo(path)
