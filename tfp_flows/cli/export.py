"""`tfp-flows export` and `tfp-flows serve`: a SavedModel, and a local server of it."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated

import typer

from tfp_flows.cli import options

PORTS = {"min": 0, "max": 65_535}


class Precision(str, enum.Enum):
    """How an export stores weights."""

    float32 = "float32"
    float16 = "float16"
    bfloat16 = "bfloat16"
    int8 = "int8"


@options.command
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

    The new version appears in the folder atomically.

    For example:

      tfp-flows export runs/digits-glow --out models/digits

      tfp-flows export runs/digits-glow --out models/digits --precision float16

      tfp-flows export models/digits --show
    """
    from tfp_flows import serving
    from tfp_flows.cli import files

    if show:
        serving.show_export(model)
        return
    if out is None:
        raise ValueError(
            "Option `--out` must be the served model's folder, unless `--show` is "
            "given. Received: none"
        )
    trained, _ = files.load(model, conditional=True)
    path = serving.export_saved_model(
        trained,
        out,
        version=version,
        max_samples=max_samples,
        warmup=warmup,
        precision=precision.value,
    )
    typer.echo(path)


@options.command
def serve(
    model_dir: Annotated[
        Path,
        typer.Argument(
            metavar="MODEL_DIR",
            help="The served model's folder, with versions inside.",
            show_default=False,
        ),
    ],
    name: Annotated[
        str | None,
        typer.Option(
            help="Name under which it is served (default: the folder's)",
            show_default=False,
        ),
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; by default this machine only.")
    ] = "127.0.0.1",
    grpc_port: Annotated[
        int, typer.Option(help="Port of gRPC; 0 for a free one.", **PORTS)
    ] = 8500,
    rest_port: Annotated[
        int, typer.Option(help="Port of REST; 0 for a free one.", **PORTS)
    ] = 8501,
) -> None:
    """Serve an exported flow on this machine, for development and tests.

    It answers at TF Serving's REST paths and gRPC services, and picks up new versions
    as they are published. In production use TF Serving itself: export/README.md says
    how. Needs pip install 'tfp-flows[serving]'.

    For example:

      tfp-flows serve models/digits

      tfp-flows serve models/digits --rest-port 9001 --grpc-port 9000
    """
    from tfp_flows import serving

    serving.serve(
        model_dir,
        name=name,
        host=host,
        grpc_port=grpc_port,
        rest_port=rest_port,
        say=typer.echo,
    )
