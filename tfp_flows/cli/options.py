"""What the verbs share: options, and what turns a function into a command."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, ParamSpec, TypeVar

import typer

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

WRONG_INPUT, FAILED = 2, 1
TABLES, PICTURES = (".npy", ".csv", ".parquet"), (".png", ".pdf", ".svg")

DataName = Annotated[
    str,
    typer.Option(
        "--data",
        help="digits, two_moons, eight_gaussians, pinwheel, checkerboard, rings, the "
        "TFDS name of an image set (fashion_mnist), or a .npy, .npz, .csv or .parquet "
        "file.",
        show_default=False,
    ),
]
DataDir = Annotated[
    Path | None,
    typer.Option(
        help="Where TFDS keeps its data [default: $TFDS_DATA_DIR or "
        "~/tensorflow_datasets]",
        show_default=False,
    ),
]
NBits = Annotated[
    int | None, typer.Option(help="Keep so many of the 8 bits of each pixel.")
]
ImageSize = Annotated[
    int | None, typer.Option(help="Crop and resize a TFDS set's images to this side.")
]
Key = Annotated[str | None, typer.Option(help="Which array of an .npz file.")]
Seed = Annotated[
    int, typer.Option(min=0, max=2**31 - 1, help="Seed of all randomness.")
]
Model = Annotated[
    Path,
    typer.Argument(
        metavar="MODEL",
        help="The folder of a finished run, or a .keras file.",
        show_default=False,
    ),
]


class BrokenExport(Exception):
    """An exported flow that gives other log-densities than the trained one."""


def command(verb: Callable[P, R]) -> Callable[P, R]:
    """Makes a verb load the package and report wrong input in one line.

    The package's own errors about arguments and data are `ValueError`s and
    `TypeError`s of one line. Anything longer comes from inside and is shown whole.
    """

    @functools.wraps(verb)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        with _without_chatter():
            import tfp_flows.api  # noqa: F401
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


@contextlib.contextmanager
def _without_chatter() -> Iterator[None]:
    """Keeps what TensorFlow logs while it is loaded from the terminal.

    `TF_CPP_MIN_LOG_LEVEL` does not reach its first lines, which come from C++ before
    logging is set up. If loading fails, they are shown.
    """
    logging.getLogger("absl").setLevel(logging.ERROR)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if "tensorflow" in sys.modules:
        yield
        return
    sys.stderr.flush()
    terminal = os.dup(2)
    with tempfile.TemporaryFile() as log:
        os.dup2(log.fileno(), 2)
        try:
            yield
        except BaseException:
            log.seek(0)
            os.write(terminal, log.read())
            raise
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)


def checked_target(path: Path, suffixes: Sequence[str]) -> None:
    """Refuses a file that could not be written, before any work is done for it."""
    if path.suffix.lower() not in suffixes:
        raise ValueError(
            f"Option `--out` must end in {', '.join(suffixes)}. Received: {path}"
        )
    if not path.parent.is_dir():
        raise ValueError(
            f"Option `--out` must lie in an existing folder. Received: {path}"
        )


def widths(text: str | None) -> tuple[int, ...] | None:
    """Reads widths of layers such as `128,128`."""
    if text is None:
        return None
    try:
        read = tuple(int(part) for part in text.split(","))
    except ValueError:
        read = ()
    if not read or min(read) < 1:
        raise ValueError(
            f"Option `--hidden-units` must be widths such as 128,128. Received: {text}"
        )
    return read


def shown(steps: Iterable[T], what: str) -> Iterable[T]:
    """Shows on a terminal how far a long loop has come."""
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    hidden = not console.is_terminal
    return track(steps, what, console=console, transient=True, disable=hidden)
