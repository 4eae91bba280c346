"""`tfp-flows serve`: a local server, for development."""

from pathlib import Path
from typing import Annotated

import typer

from tfp_flows.cli.errors import one_sentence
from tfp_flows.serving.server import serve as run_server

PORTS = {"min": 0, "max": 65_535}


@one_sentence
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
    run_server(
        model_dir,
        name=name,
        host=host,
        grpc_port=grpc_port,
        rest_port=rest_port,
        say=typer.echo,
    )
