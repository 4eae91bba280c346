"""`check_bijector`: says in one table what is wrong with a bijector."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows.testing import laws, uses
from tfp_flows.testing.report import CheckReport, CheckRow, Finding, row
from tfp_flows.testing.subject import Subject

tfb = tfp.bijectors

# More inputs than this only take longer.
_ROWS = 64


def check_bijector(
    bijector: tfb.Bijector,
    x: Any,
    *,
    condition: Any = None,
    tolerance: float | None = None,
) -> CheckReport:
    """Checks whether a bijector keeps the laws of change of variables.

    With `f = bijector.forward`, the rows of the report say whether

    * all outputs are finite, `f^-1(f(x)) = x` and `f(f^-1(y)) = y`;
    * the log-dets equal `log |det df/dx|` and `log |det df^-1/dy|` of the Jacobians
      by automatic differentiation, in float64 where a copy in float64 can be made,
      and cancel each other;
    * gradients of both directions reach every trainable weight, every weight is
      made by the constructor, and a value with its log-det calls a network once;
    * inputs without a batch axis, with several, and of a batch size unknown while
      tracing give equal results, as do graphs, XLA, a `.keras` file (bit-equal) and
      a SavedModel.

    It works on any bijector from one tensor to one tensor: TFP's, a chain, or one
    of your own. Weights that are all zero, as in a fresh last layer, are given
    small random values for the time of the check, since every law holds for the
    identity.

    Args:
        bijector: The bijector.
        x: A batch of inputs of `forward` (latents), `[n, *event]`, or one event. At
            most 64 of them are used, and 4 for the Jacobian. Batch entries must be
            independent.
        condition: The conditions of those inputs, for a conditional bijector.
        tolerance: Largest `|a - b| / (1 + |b|)` that passes. Defaults to 1e-8 in
            float64 and 1e-3 in float32 or with a `ContinuousFlow`; give more for an
            iterative solver of your own.

    Returns:
        A report: `report.ok`, `report.rows`, and a table as `str(report)`. An
        exception inside a check becomes the sentence of a failed row; this function
        itself raises nothing.

    Example:
        >>> import tensorflow_probability as tfp
        >>> check_bijector(tfp.bijectors.Exp(), [[0.0, 1.0]]).ok
        True
    """
    name = f"{type(bijector).__name__} '{getattr(bijector, 'name', bijector)}'"
    made: list[Subject] = []
    first = row("inputs", lambda: _made(made, bijector, x, condition))
    if first.ok is False:
        return CheckReport(name, (first,))
    with _quiet():
        return CheckReport(name, tuple(_rows(made[0], tolerance)))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps TensorFlow from remarking that so many small graphs are traced."""
    logger = tf.get_logger()
    level = logger.level
    logger.setLevel("ERROR")
    try:
        yield
    finally:
        logger.setLevel(level)


def _made(made: list[Subject], bijector: Any, x: Any, condition: Any) -> Finding:
    """Brings the inputs into shape."""
    subject = Subject(bijector, x, condition)
    made.append(subject.first(_ROWS))
    return Finding(ok=True)


def _rows(subject: Subject, tolerance: float | None) -> Iterator[CheckRow]:
    before = set(subject.variables())
    called = row("forward runs", lambda: _runs(subject))
    yield called
    if called.ok is False:
        return
    late = partial(laws.weights_made_early, before, set(subject.variables()))
    yield row("weights made by constructor", late)
    with subject.off_the_identity():
        for name, check in _checks(subject, tolerance).items():
            yield row(name, check)


def _runs(subject: Subject) -> Finding:
    subject.forward(subject.x, subject.condition, log_det=False)
    return Finding(ok=True)


def _checks(
    subject: Subject, tolerance: float | None
) -> dict[str, Callable[[], Finding]]:
    largest = laws.tolerance(subject) if tolerance is None else tolerance
    return {
        "finite outputs": partial(laws.finite, subject),
        "round trip of x": partial(laws.round_trip_of_x, subject, largest),
        "round trip of y": partial(laws.round_trip_of_y, subject, largest),
        "forward log-det": partial(laws.log_det, subject, "forward", tolerance),
        "inverse log-det": partial(laws.log_det, subject, "inverse", tolerance),
        "log-dets cancel": partial(laws.log_dets_cancel, subject, largest),
        "forward gradients": partial(laws.gradients, subject, "forward"),
        "inverse gradients": partial(laws.gradients, subject, "inverse"),
        "forward network calls": partial(laws.network_calls, subject, "forward"),
        "inverse network calls": partial(laws.network_calls, subject, "inverse"),
        "no batch axis": partial(uses.no_batch, subject, largest),
        "several batch axes": partial(uses.several_batch_axes, subject, largest),
        "unknown batch size": partial(uses.unknown_batch_size, subject, largest),
        "graph": partial(uses.graph, subject, largest),
        "XLA": partial(uses.xla, subject, largest),
        "save and load": partial(uses.save_and_load, subject),
        "export and load": partial(uses.export_and_load, subject, largest),
    }
