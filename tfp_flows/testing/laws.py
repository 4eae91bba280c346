"""What makes a map a bijector: an inverse, a log-det, gradients, one network call."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows.bijectors.autoregressive import MaskedAutoregressive
from tfp_flows.bijectors.continuous import ContinuousFlow
from tfp_flows.bijectors.tree import bijectors_in
from tfp_flows.testing.report import Finding, judged, not_judged, sentence_of
from tfp_flows.testing.subject import Subject, in_double

tfb = tfp.bijectors

# A Jacobian has size x size numbers for each input.
LARGEST_JACOBIAN = 256
JACOBIAN_ROWS = 4
# A network that is called this often in one direction belongs to a solver.
_ITERATIVE = 4
_AUTOREGRESSIVE = (MaskedAutoregressive, tfb.MaskedAutoregressiveFlow)


def difference(a: Any, b: Any) -> float:
    """Returns the largest `|a - b| / (1 + |b|)`; infinite where one is not finite."""
    a, b = np.asarray(a, "float64"), np.asarray(b, "float64")
    if a.shape != b.shape:
        raise ValueError(f"Expected an output of shape {b.shape}. Received: {a.shape}")
    with np.errstate(invalid="ignore"):
        off = np.where(a == b, 0.0, np.abs(a - b) / (1.0 + np.abs(b)))
    return float(np.max(np.where(np.isfinite(off), off, np.inf), initial=0.0))


def tolerance(subject: Subject) -> float:
    """Returns the largest difference that rounding, or a solver, explains."""
    exact = {tf.float64: 1e-8, tf.float32: 1e-3}.get(subject.dtype, 0.1)
    solved = has_part(subject.bijector, (ContinuousFlow,))
    return max(exact, 1e-3) if solved else exact


def finite(subject: Subject) -> Finding:
    """Counts values and log-dets that are not finite, in both directions."""
    count = sum(int(np.sum(~np.isfinite(part.numpy()))) for part in subject.expected)
    return judged(count, 0, f"{count} outputs are NaN or infinite.")


def round_trip_of_x(subject: Subject, largest: float) -> Finding:
    """Compares `inverse(forward(x))` with `x`."""
    _, _, x, _ = subject.expected
    wrong = "`inverse(forward(x))` is not `x`: one of the two is wrong."
    return judged(difference(x, subject.x), largest, wrong)


def round_trip_of_y(subject: Subject, largest: float) -> Finding:
    """Compares `forward(inverse(y))` with `y = forward(x)`."""
    y, _, x, _ = subject.expected
    again, _ = subject.forward(x, subject.condition)
    wrong = "`forward(inverse(y))` is not `y`: one of the two is wrong."
    return judged(difference(again, y), largest, wrong)


def log_dets_cancel(subject: Subject, largest: float) -> Finding:
    """Adds the log-dets of both directions at one point; they must cancel."""
    _, fldj, _, ildj = subject.expected
    wrong = (
        "The log-dets of `forward` at x and of `inverse` at forward(x) do not add up "
        "to 0: one of the two is wrong."
    )
    return judged(difference(fldj, -ildj), largest, wrong)


def log_det(subject: Subject, direction: str, largest: float | None) -> Finding:
    """Compares a log-det with that of the Jacobian by automatic differentiation.

    Args:
        subject: The bijector.
        direction: `"forward"` or `"inverse"`.
        largest: Largest difference that passes, or None for the float type's own.
    """
    subject, remark = _as_exact_as_possible(subject.first(JACOBIAN_ROWS))
    inputs = _inputs(subject, direction)
    if int(np.prod(inputs.shape[1:])) > LARGEST_JACOBIAN:
        return not_judged(
            f"Events of more than {LARGEST_JACOBIAN} values have too large a Jacobian; "
            "check the bijector on smaller events."
        )
    call = getattr(subject, direction)
    jacobian, claimed = _jacobian(call, inputs, subject.condition)
    if jacobian.shape[1] != jacobian.shape[2]:
        return not_judged("The event changes its size, so its Jacobian is not square.")
    _, exact = np.linalg.slogdet(jacobian)
    off = difference(claimed, exact)
    wrong = (
        f"The log-det of `{direction}` is {claimed[0]:.6g} where the Jacobian's is "
        f"{exact[0]:.6g}."
    )
    limit = tolerance(subject) if largest is None else largest
    return judged(off, limit, wrong, remark)


def _inputs(subject: Subject, direction: str) -> tf.Tensor:
    return subject.x if direction == "forward" else subject.expected[0]


def _as_exact_as_possible(subject: Subject) -> tuple[Subject, str]:
    try:
        double = in_double(subject)
        _ = double.expected
    except Exception as error:  # any reason is one to stay in the own float type
        why = f"In {subject.dtype.name}: no float64 copy ({sentence_of(error)})"
        return subject, why
    return double, ""


def _jacobian(
    call: Callable, x: tf.Tensor, condition: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the Jacobians `[n, outputs, inputs]` and the claimed log-dets `[n]`.

    Each input is repeated once for each output, so that one gradient of the batch
    holds all rows: output k is differentiated in repetition k.
    """
    value, log_det = call(x, condition)
    rows, outputs = x.shape[0], int(np.prod(value.shape[1:]))
    repeated = tf.repeat(x, outputs, axis=0)
    if condition is not None:
        condition = tf.repeat(condition, outputs, axis=0)
    with tf.GradientTape() as tape:
        tape.watch(repeated)
        values, _ = call(repeated, condition)
        values = tf.reshape(values, [rows, outputs, outputs])
        diagonal = tf.reduce_sum(tf.linalg.diag_part(values))
    jacobian = tape.gradient(diagonal, repeated)
    return np.reshape(jacobian, [rows, outputs, -1]), log_det.numpy()


def gradients(subject: Subject, direction: str) -> Finding:
    """Names the weights that no gradient reaches in one direction."""
    weights = subject.trainable_variables()
    if not weights:
        return not_judged("There are no trainable weights.")
    inputs = _inputs(subject, direction)
    with tf.GradientTape() as tape:
        value, log_det = getattr(subject, direction)(inputs, subject.condition)
        # Random weights, so that no symmetry makes a gradient vanish.
        loss = _random_sum(value, 1) + _random_sum(log_det, 2)
    found = tape.gradient(loss, list(weights.values()))
    named = dict(zip(weights, found, strict=True))
    unreached = [name for name, gradient in named.items() if _is_nothing(gradient)]
    broken = [name for name, gradient in named.items() if _is_not_finite(gradient)]
    wrong = f"No gradient of `{direction}` reaches: {', '.join(unreached)}."
    if broken:
        wrong = f"The gradient of `{direction}` is not finite at: {', '.join(broken)}."
    return judged(len(unreached) + len(broken), 0, wrong)


def _random_sum(value: tf.Tensor, seed: int) -> tf.Tensor:
    factors = np.random.default_rng(seed).uniform(0.5, 1.5, value.shape)
    return tf.reduce_sum(value * tf.cast(factors, value.dtype))


def _is_nothing(gradient: Any) -> bool:
    return gradient is None or not np.any(tf.convert_to_tensor(gradient).numpy())


def _is_not_finite(gradient: Any) -> bool:
    if gradient is None:
        return False
    return not np.all(np.isfinite(tf.convert_to_tensor(gradient).numpy()))


def weights_made_early(names_before: set[str], names_after: set[str]) -> Finding:
    """Counts weights that did not exist before the first call."""
    late = sorted(names_after - names_before)
    wrong = (
        "These weights are made by the first call and not by the constructor, which "
        f"breaks training in a graph: {', '.join(late)}."
    )
    return judged(len(late), 0, wrong)


def network_calls(subject: Subject, direction: str) -> Finding:
    """Counts the calls of each Keras layer for a value together with its log-det."""
    due = subject.networks()
    inputs = _inputs(subject, direction)
    call = functools.partial(getattr(subject, direction), inputs, subject.condition)
    with _counted(due) as alone:
        call(log_det=False)
    with _counted(due) as together:
        call(log_det=True)
    if not any(together.values()):
        return not_judged("The bijector holds no Keras layer that it calls.")
    each = {key: together[key] / due[key][1] for key in together if together[key]}
    most = max(each, key=lambda key: each[key])
    name = due[most][0].name
    twice = [due[key][0].name for key in together if together[key] > alone[key] > 0]
    if twice:
        wrong = (
            f"`{direction}` and its log-det each call '{twice[0]}': compute both at "
        )
        return judged(each[most], 1, f"{wrong}once, as `FlowBijector` does.")
    if each[most] >= _ITERATIVE:
        return Finding(each[most], None, f"'{name}' is called by an iteration.")
    if each[most] > 1 and has_part(subject.bijector, _AUTOREGRESSIVE):
        return not_judged(f"An autoregressive `{direction}` goes value by value.")
    wrong = f"`{direction}` calls '{name}' {each[most]:g} times where once would do."
    return judged(each[most], 1, wrong)


def has_part(bijector: tfb.Bijector, kinds: tuple[type, ...]) -> bool:
    """Says whether a bijector, or one inside it, is of one of some classes."""
    return any(isinstance(part, kinds) for part in bijectors_in(bijector))


@contextlib.contextmanager
def _counted(due: dict[int, tuple[keras.Layer, int]]) -> Iterator[dict[int, int]]:
    """Counts the calls of Keras layers for a while, without touching their class."""
    calls = dict.fromkeys(due, 0)

    def counting(key: int, call: Callable) -> Callable:
        @functools.wraps(call)
        def counted(*args: Any, **kwargs: Any) -> Any:
            calls[key] += 1
            return call(*args, **kwargs)

        return counted

    try:
        for key, (layer, _) in due.items():
            vars(layer)["call"] = counting(key, layer.call)
        yield calls
    finally:
        for layer, _ in due.values():
            vars(layer).pop("call", None)
