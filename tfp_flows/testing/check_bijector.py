"""`check_bijector`: says in one table what is wrong with a bijector."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import tensorflow as tf
from tensorflow_probability import bijectors as tfb

from tfp_flows.testing import laws
from tfp_flows.testing.report import CheckReport, CheckResult, message_of
from tfp_flows.testing.subject import Subject

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

# More inputs than this only take longer.
_ROWS = 64


def check_bijector(
    bijector: tfb.Bijector,
    x: ArrayLike,
    *,
    condition: ArrayLike | None = None,
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

    It works on any bijector from one tensor to one tensor. Weights that are all zero
    are small random values for the time of the check: the identity keeps every law.

    Args:
        x: A batch of inputs of `forward` (latents), `[n, *event]`, or one event. At
            most 64 of them are used, and fewer for a large Jacobian. Batch entries
            must be independent.
        condition: The conditions of those inputs, for a conditional bijector.
        tolerance: Largest `|a - b| / (1 + |b|)` that passes. Defaults to 1e-8 in
            float64 and 1e-3 in float32 or with a `ContinuousFlow`; give more for an
            iterative solver of your own.

    Returns:
        A report: `report.ok`, `report.rows`, and a table as `str(report)`. An exception
        inside a check becomes the message of a failed row.

    Example:
        >>> import tensorflow_probability as tfp
        >>> check_bijector(tfp.bijectors.Exp(), [[0.0, 1.0]]).ok
        True
    """
    name = f"{type(bijector).__name__} '{getattr(bijector, 'name', bijector)}'"
    try:
        subject = Subject(bijector, x, condition).first(_ROWS)
    except Exception as error:  # a report tells what is wrong, whatever it is
        failed = CheckResult("inputs", ok=False, message=message_of(error))
        return CheckReport(name, (failed,))
    with _quiet(), subject.off_the_identity():
        return CheckReport(name, tuple(laws.check(subject, tolerance=tolerance)))


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
