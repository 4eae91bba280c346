"""Wrong input becomes one sentence and the exit code 2."""

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import typer

P = ParamSpec("P")
R = TypeVar("R")

WRONG_INPUT = 2
FAILED = 1


class BrokenExport(Exception):
    """An exported flow that gives other log-densities than the trained one."""


def one_sentence(verb: Callable[P, R]) -> Callable[P, R]:
    """Makes a verb report wrong input in one sentence, without a traceback.

    The package's own errors about arguments and data are `ValueError`s and
    `TypeError`s of one line. Anything longer comes from inside and is shown whole.

    Args:
        verb: The function behind a command.

    Returns:
        The same command, which exits with 2 on wrong input and with 1 when training
        breaks down, a file cannot be written, or a package is missing.
    """

    @functools.wraps(verb)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return verb(*args, **kwargs)
        except (ValueError, TypeError) as error:
            message = str(error).strip()
            if not message or "\n" in message:
                raise
            typer.echo(f"tfp-flows: {message}", err=True)
            raise typer.Exit(WRONG_INPUT) from error
        except (FloatingPointError, ImportError, OSError, BrokenExport) as error:
            typer.echo(f"tfp-flows: {error}", err=True)
            raise typer.Exit(FAILED) from error

    return wrapped
