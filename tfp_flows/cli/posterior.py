"""`tfp-flows posterior`: from simulations to posterior draws, pictures, diagnostics."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tfp_flows.cli import options

if TYPE_CHECKING:
    from tfp_flows.cli.posterior_run import Report


@options.command
def posterior(
    observed: Annotated[
        Path,
        typer.Option(
            help="The observation: a row with the columns of --x; of several rows each "
            "is an observation of its own.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path, typer.Option(help="Folder to make: new, or empty.", show_default=False)
    ],
    theta: Annotated[
        Path | None,
        typer.Option(help="Parameters drawn from the prior, a row a simulation."),
    ] = None,
    x: Annotated[
        Path | None,
        typer.Option(help="What the simulator made of each row of --theta."),
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option(
            help="The folder of an earlier call, instead of --theta and --x: nothing "
            "is trained."
        ),
    ] = None,
    low: Annotated[
        str | None,
        typer.Option(
            help="Where the prior of the parameters begins: a number, or one for each, "
            "such as 0,-inf,0 (default: nowhere)"
        ),
    ] = None,
    high: Annotated[
        str | None, typer.Option(help="Where it ends (default: nowhere)")
    ] = None,
    draws: Annotated[
        int, typer.Option(min=1, help="Posterior draws for each observation.")
    ] = 10_000,
    members: Annotated[
        int,
        typer.Option(min=1, help="Flows, of which the posterior is the mixture."),
    ] = 1,
    epochs: Annotated[
        int, typer.Option(min=1, help="Most passes over the simulations.")
    ] = 500,
    seed: options.Seed = 0,
    quiet: Annotated[
        bool, typer.Option("--quiet", help="No progress while training.")
    ] = False,
) -> None:
    """Learn the posterior of a simulator's parameters, and say whether to trust it.

    The files hold tables: .csv or .parquet with a line of names, or .npy. The prior is
    what the rows of --theta were drawn from; only its bounds are told, and no draw is
    beyond them. A tenth of the simulations, at most 1,000, is held out of training, to
    judge the posterior: of the true parameters 90 % must lie in their 90 % intervals,
    and p tests their ranks among posterior draws for uniformity. Contraction is the
    share of the prior's variance that an observation takes away.

    Writes into --out: draws.csv, posterior.png, calibration.png, report.json, and
    posterior.keras, which a later call takes by --model.

    For example:

      tfp-flows posterior --theta theta.csv --x x.csv --observed obs.csv --out fit

      tfp-flows posterior --theta theta.csv --x x.csv --observed obs.csv --out fit
      --low=-inf,0,0 --high inf,inf,1

      tfp-flows posterior --model fit --observed tomorrow.csv --out fit2
    """
    import sys

    from rich.console import Console

    from tfp_flows.cli import posterior_run as run

    run.check_folder(out)
    if (model is None) == (theta is None and x is None):
        raise ValueError(
            "Option `--model` must be given, or else `--theta` and `--x`, not both. "
            f"Received: {'neither' if model is None else 'both'}"
        )
    if model is not None:
        for name, value in (("--low", low), ("--high", high)):
            if value is not None:
                raise ValueError(
                    f"Option `{name}` must not go with `--model`, whose bounds are "
                    f"known. Received: {value}"
                )
        fitted = run.load(model)
        seen = fitted.observed(observed)
    else:
        pairs = run.read_pairs(theta, x)
        fitted = run.new(pairs, low, high, members)
        seen = fitted.observed(observed)
        # Keras's moving bar on a terminal, a line an epoch elsewhere.
        verbose = 0 if quiet else 1 if sys.stdout.isatty() else 2
        fitted.train(pairs, epochs=epochs, seed=seed, verbose=verbose)
    report: Report = run.write(out, fitted, seen, draws, seed)
    console = Console()
    console.print(run.table(fitted, report))
    for sentence in [*run.remarks(report), f"Everything is in {out}"]:
        typer.echo(sentence)
