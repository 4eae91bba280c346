"""The command line: `tfp-flows train | evaluate | sample | ...`.

The modules of the verbs import what needs TensorFlow inside their functions: `--help`
and a wrong option are answered without it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import typer

from tfp_flows.cli.evaluate import check, evaluate
from tfp_flows.cli.export import export, serve
from tfp_flows.cli.options import WRONG_INPUT
from tfp_flows.cli.posterior import posterior
from tfp_flows.cli.sample import sample
from tfp_flows.cli.train import train

__all__ = ["app", "main"]

# What typer raises for options it cannot read; it exports only the subclass.
UsageError: type[typer.BadParameter] = typer.BadParameter.__mro__[1]
INTERRUPTED = 130

app = typer.Typer(
    name="tfp-flows",
    help="Train, judge, sample and serve normalizing flows, and infer with them.",
    add_completion=False,
    pretty_exceptions_enable=False,
)
for verb in (train, evaluate, sample, posterior, export, serve, check):
    app.command()(verb)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the program; `tfp-flows --help` shows what it can do.

    Args:
        arguments: The command line without the program's name; None for that of this
            process.

    Raises:
        SystemExit: Always: 0 when all went well, 2 for wrong input, 1 for a failure.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    try:
        code = app(arguments, prog_name="tfp-flows", standalone_mode=False)
    except UsageError as error:
        typer.echo(f"tfp-flows: {error.format_message()}", err=True)
        sys.exit(WRONG_INPUT)
    except typer.Abort:
        sys.exit(INTERRUPTED)
    sys.exit(code or 0)
