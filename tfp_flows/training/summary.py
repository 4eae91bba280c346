"""A table of the bijectors of a distribution and their weights."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf
from rich.console import Console
from rich.table import Table
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

from tfp_flows.bijectors.conditional import Wrapped
from tfp_flows.bijectors.repeat import Repeat
from tfp_flows.internal.compat import Chain, Invert


def summary_table(
    distribution: tfd.Distribution,
    title: str,
    print_fn: Callable | None = None,
    width: int | None = None,
) -> None:
    """Prints the bijectors from the data to the latents with their weight counts.

    `print_fn` is called once with the text, and None prints to the terminal; `width` is
    that of a line in characters.
    """
    table = Table(title=f'Model: "{title}"', title_justify="left")
    table.add_column("Bijector (data to latent)")
    table.add_column("Event", justify="right")
    table.add_column("Weights", justify="right")
    table.add_column("Trainable", justify="right")
    bijector = getattr(distribution, "bijector", None)
    base = distribution if bijector is None else distribution.distribution
    if bijector is not None:
        for depth, part, shape in _rows(bijector, distribution.event_shape):
            table.add_row("  " * depth + _label(part), *_cells(part, shape))
    table.add_row(f"{_class_name(base)} (base)", *_cells(base, base.event_shape))
    table.add_section()
    table.add_row("Total", *_cells(distribution, distribution.event_shape))
    if print_fn is None:
        Console(width=width).print(table)
        return
    console = Console(width=width or 100, record=True, file=io.StringIO())
    console.print(table)
    print_fn(console.export_text())


def _rows(part: tfb.Bijector, shape: tuple, depth: int = 0) -> Iterator[tuple]:
    if isinstance(part, Chain):
        for inner in part.bijectors:
            yield from _rows(inner, shape, depth)
            shape = inner.inverse_event_shape(shape)
        return
    yield depth, part, shape
    if isinstance(part, Repeat):
        yield from _rows(part.step, shape, depth + 1)
    if isinstance(part, Wrapped):
        yield from _rows(part.bijector, shape, depth + 1)


def _label(part: tfb.Bijector) -> str:
    if isinstance(part, Repeat):
        return f"Repeat x {part.n}"
    if isinstance(part, Invert):
        return f"Invert({_class_name(part.bijector)})"
    return _class_name(part)


def _class_name(part: object) -> str:
    return type(part).__name__.lstrip("_")


def _cells(part: tfb.Bijector | tfd.Distribution, shape: tf.TensorShape) -> list[str]:
    groups = (part.variables, part.trainable_variables)
    counts = (sum(int(np.prod(v.shape)) for v in group) for group in groups)
    return [str(tuple(shape)), *(f"{count:,}" for count in counts)]
