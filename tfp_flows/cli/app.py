"""The `tfp-flows` program: one verb a file."""

import typer

from tfp_flows.cli.check import check
from tfp_flows.cli.evaluate import evaluate
from tfp_flows.cli.export import export
from tfp_flows.cli.sample import sample
from tfp_flows.cli.train import train

app = typer.Typer(
    name="tfp-flows",
    help="Train, judge, sample and serve normalizing flows.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for verb in (train, evaluate, sample, export, check):
    app.command()(verb)


def main() -> None:
    """Runs the program; `tfp-flows --help` shows what it can do."""
    app(prog_name="tfp-flows")
