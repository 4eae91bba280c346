"""The laws: what makes a map a bijector, and what it goes through in use.

`LAWS` names them. Each takes a `Subject` and a tolerance, or None for that of the
subject's float type, and returns a `CheckResult`.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from tensorflow_probability import bijectors as tfb

from tfp_flows.bijectors.autoregressive import Autoregressive
from tfp_flows.bijectors.tree import bijectors_in
from tfp_flows.internal.compat import counted_calls
from tfp_flows.saving.files import load_bijector, save_bijector
from tfp_flows.testing.report import CheckResult, Skip, checked, measured, message_of
from tfp_flows.testing.subject import Outputs, Subject

# A Jacobian has size x size numbers for each input.
_LARGEST_JACOBIAN = 256
_JACOBIAN_ROWS = 4
_CURVED_ROWS = 5
_DIFFERENCES = 1e-4  # that far those of gradients are from derivatives
# A network that is called this often in one direction belongs to a solver.
_ITERATIVE = 4
_AUTOREGRESSIVE = (Autoregressive, tfb.MaskedAutoregressiveFlow)

Law = Callable[[Subject, "float | None"], CheckResult]


def difference(found: npt.ArrayLike, expected: npt.ArrayLike) -> float:
    """Returns the largest `|a - b| / (1 + |b|)`; infinite where one is not finite."""
    a, b = np.asarray(found, "float64"), np.asarray(expected, "float64")
    if a.shape != b.shape:
        raise ValueError(f"Expected an output of shape {b.shape}. Received: {a.shape}")
    with np.errstate(invalid="ignore"):
        off = np.where(a == b, 0.0, np.abs(a - b) / (1.0 + np.abs(b)))
    return float(np.max(np.where(np.isfinite(off), off, np.inf), initial=0.0))


def _equal(
    subject: Subject,
    tolerance: float | None,
    found: Sequence[tf.Tensor],
    expected: Sequence[tf.Tensor],
    message: str,
    note: str = "",
) -> CheckResult:
    off = max(difference(a, b) for a, b in zip(found, expected, strict=True))
    limit = subject.tolerance if tolerance is None else tolerance
    return measured(off, limit, message, note)


# Values and log-dets.


def forward_runs(subject: Subject, tolerance: float | None = None) -> CheckResult:
    """Passes if `forward` raises nothing."""
    subject.run("forward", *subject.inputs, log_det=False)
    return CheckResult(ok=True)


def finite(subject: Subject, tolerance: float | None = None) -> CheckResult:
    """Counts values and log-dets that are not finite, in both directions."""
    count = sum(int(np.sum(~np.isfinite(part.numpy()))) for part in subject.expected)
    return measured(count, 0, f"{count} outputs are NaN or infinite.")


def log_det(
    subject: Subject, tolerance: float | None = None, *, direction: str
) -> CheckResult:
    """Compares a log-det with that of the Jacobian by automatic differentiation."""
    subject, note = subject.in_double
    size = int(np.prod(subject.input_of(direction).shape[1:]))
    if size > _LARGEST_JACOBIAN:
        raise Skip(
            f"Events of more than {_LARGEST_JACOBIAN} values have too large a "
            "Jacobian; check the bijector on smaller events."
        )
    subject = subject.first(max(_JACOBIAN_ROWS, _LARGEST_JACOBIAN // size))
    jacobian, claimed = _jacobian(subject, direction)
    if jacobian.shape[1] != jacobian.shape[2]:
        raise Skip("The event changes its size, so its Jacobian is not square.")
    _, exact = np.linalg.slogdet(jacobian)
    wrong = (
        f"The log-det of `{direction}` is {claimed[0]:.6g} where the Jacobian's is "
        f"{exact[0]:.6g}."
    )
    return _equal(subject, tolerance, [claimed], [exact], wrong, note)


def _jacobian(subject: Subject, direction: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns the Jacobians `[n, outputs, inputs]` and the claimed log-dets `[n]`.

    Each input is repeated once for each output, so that one gradient of the batch
    holds all rows: output k is differentiated in repetition k.
    """
    x, condition = subject.input_of(direction), subject.condition
    value, claimed = subject.run(direction, x, condition)
    rows, outputs = x.shape[0], int(np.prod(value.shape[1:]))
    repeated = tf.repeat(x, outputs, axis=0)
    if condition is not None:
        condition = tf.repeat(condition, outputs, axis=0)
    with tf.GradientTape() as tape:
        tape.watch(repeated)
        values, _ = subject.run(direction, repeated, condition)
        values = tf.reshape(values, [rows, outputs, outputs])
        diagonal = tf.reduce_sum(tf.linalg.diag_part(values))
    jacobian = tape.gradient(diagonal, repeated, unconnected_gradients="zero")
    return np.reshape(jacobian, [rows, outputs, -1]), claimed.numpy()


def second_derivatives(
    subject: Subject, tolerance: float | None = None, *, direction: str
) -> CheckResult:
    """Compares the gradient of a gradient with differences of the gradient.

    A gradient written by hand may have a wrong one itself, or refuse to have any.
    """
    subject, note = subject.in_double
    if note:
        raise Skip(note)
    subject = subject.first(_CURVED_ROWS)
    x, step = subject.input_of(direction), 1e-5
    # Columns may have any unit.
    way = np.random.default_rng(0).normal(size=x.shape) * (1.0 + np.abs(x))
    units = 1.0 + tf.abs(subject.run(direction, x, subject.condition)[0])

    def slope(x: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            tape.watch(x)
            value, log_det = subject.run(direction, x, subject.condition)
            total = tf.reduce_sum(tf.sin(value / units)) + tf.reduce_sum(log_det)
        return tape.gradient(total, x, unconnected_gradients="zero")

    with tf.GradientTape() as tape:
        tape.watch(x)
        along = tf.reduce_sum(way * slope(x))
    try:
        found = tape.gradient(along, x, unconnected_gradients="zero")
    except (NotImplementedError, LookupError) as error:
        raise Skip(f"There is none: {message_of(error)}") from None
    expected = (slope(x + step * way) - slope(x - step * way)) / (2.0 * step)
    found, expected = (np.reshape(part, [len(x), -1]) for part in (found, expected))
    off = np.abs(found - expected).max(1) / (1.0 + np.abs(expected).max(1))
    wrong = f"The second derivative of `{direction}` is not that of the first."
    # The median: differences across a kink, as of ReLU, say nothing.
    limit = max(_DIFFERENCES, tolerance or 0.0)
    return measured(float(np.median(off)), limit, wrong)


# Weights and networks.


def weights_made_early(subject: Subject, tolerance: float | None = None) -> CheckResult:
    """Counts weights that did not exist before the first call."""
    _ = subject.expected
    late = sorted(set(subject.variables()) - subject.first_weights)
    wrong = (
        "These weights are made by the first call and not by the constructor, which "
        f"breaks training in a graph: {', '.join(late)}."
    )
    return measured(len(late), 0, wrong)


def every_weight_gets_a_gradient(
    subject: Subject, tolerance: float | None = None, *, direction: str
) -> CheckResult:
    """Names the weights that no gradient reaches in one direction."""
    weights = subject.variables(trainable=True)
    if not weights:
        raise Skip("There are no trainable weights.")
    inputs = subject.input_of(direction)

    def loss() -> tf.Tensor:
        outputs = subject.run(direction, inputs, subject.condition)
        generator = np.random.default_rng(1)
        # Random factors, so that no symmetry makes a gradient vanish.
        factors = [generator.uniform(0.5, 1.5, part.shape) for part in outputs]
        parts = zip(factors, outputs, strict=True)
        return tf.add_n([tf.reduce_sum(tf.cast(a, b.dtype) * b) for a, b in parts])

    unreached, broken = missed_weights(weights, loss)
    wrong = f"No gradient of `{direction}` reaches: {', '.join(unreached)}."
    if broken:
        wrong = f"The gradient of `{direction}` is not finite at: {', '.join(broken)}."
    if unreached or broken:
        return measured(len(unreached) + len(broken), 0, wrong)
    return _gradient_of_log_det(subject, direction)


def _gradient_of_log_det(subject: Subject, direction: str) -> CheckResult:
    """Compares the gradient of log-dets along all weights with a difference.

    A log-det that is computed outside of the tape would be trained to nonsense.
    """
    double = subject.dtype == tf.float64
    subject, note = (subject, "") if double else subject.in_double
    weights = list(subject.variables(trainable=True).values())
    kinds = [getattr(part, "_log_det", "") for part in bijectors_in(subject.bijector)]
    if "estimate" in kinds:  # which has the gradient of the exact one
        return CheckResult(ok=True)
    # Small steps cross no kinks, as of ReLU.
    step, limit = (1e-2, 0.1) if note else (1e-7, _DIFFERENCES)
    x, c = subject.input_of(direction)[:_CURVED_ROWS], subject.condition
    c = None if c is None else c[:_CURVED_ROWS]
    generator = np.random.default_rng(1)

    def log_dets() -> tf.Tensor:
        return subject.run(direction, tf.identity(x), c)[1]

    with tf.GradientTape() as tape:
        total = tf.reduce_sum(log_dets())
    gradients = tape.gradient(total, weights, unconnected_gradients="zero")
    gradients = [tf.convert_to_tensor(gradient).numpy() for gradient in gradients]
    before = [weight.numpy() for weight in weights]
    ways = [generator.normal(size=weight.shape) for weight in weights]
    ends = []
    for size in (step, -step):
        for weight, value, way in zip(weights, before, ways, strict=True):
            weight.assign(value + (size * way).astype(value.dtype))
        ends.append(np.sum(log_dets(), dtype=np.float64))
    for weight, value in zip(weights, before, strict=True):
        weight.assign(value)
    along = sum(np.sum(g * way) for g, way in zip(gradients, ways, strict=True))
    difference = (ends[0] - ends[1]) / (2.0 * step)
    off = abs(along - difference) / (1.0 + abs(difference))
    wrong = f"The log-det of `{direction}` does not have the gradient of its values."
    return measured(float(off), limit, wrong)


def missed_weights(
    weights: Mapping[str, tf.Variable], loss: Callable[[], tf.Tensor]
) -> tuple[list[str], list[str]]:
    """Names the weights with no or a zero gradient, and those with one not finite.

    Of a weight whose name says `stacked`, as in `Repeat`, each copy must be reached.
    """
    with tf.GradientTape() as tape:
        value = loss()
    gradients = tape.gradient(value, list(weights.values()))
    unreached, broken = [], []
    for name, gradient in zip(weights, gradients, strict=True):
        if gradient is None:
            unreached.append(name)
            continue
        # That of an embedding comes as the rows that were looked up.
        gradient = tf.convert_to_tensor(gradient).numpy()
        copies = gradient if "stacked" in name else [gradient]
        if not np.all(np.isfinite(gradient)):
            broken.append(name)
        elif not all(map(np.any, copies)):
            unreached.append(name)
    return unreached, broken


def one_network_call(
    subject: Subject, tolerance: float | None = None, *, direction: str
) -> CheckResult:
    """Counts the calls of each Keras layer for a value together with its log-det."""
    due = subject.networks()
    layers = [layer for layer, _ in due.values()]
    inputs = subject.input_of(direction)
    call = partial(subject.run, direction, inputs, subject.condition)
    with counted_calls(layers) as alone:
        call(log_det=False)
    with counted_calls(layers) as together:
        call()
    with counted_calls(layers) as traced:
        tf.function(call, autograph=False).get_concrete_function()
    calls = {key: max(count, traced[key]) for key, count in together.items() if count}
    if not calls:
        raise Skip("The bijector holds no Keras layer that it calls.")
    most = max(calls, key=lambda key: calls[key] / due[key][1])
    each, name = calls[most] / due[most][1], due[most][0].name
    wrong = f"`{direction}` calls '{name}' {each:g} times where once would do."
    twice = [due[key][0].name for key in calls if together[key] > alone[key] > 0]
    if twice:
        wrong = (
            f"`{direction}` and its log-det each call '{twice[0]}': compute both at "
            "once, as `FlowBijector` does."
        )
    elif each >= _ITERATIVE:
        return CheckResult(value=each, message=f"'{name}' is called by an iteration.")
    elif each > 1 and subject.has_part(*_AUTOREGRESSIVE):
        raise Skip(f"An autoregressive `{direction}` goes value by value.")
    return measured(each, 1, wrong)


# Batches, graphs, XLA, files.


def _compiled(subject: Subject) -> Outputs:
    function = tf.function(subject.there_and_back, autograph=False, jit_compile=True)
    try:
        return function(*subject.inputs)
    except Exception as error:  # XLA is an option, and refuses in many ways
        raise Skip(f"XLA does not compile it ({message_of(error)})") from None


def _with_gradient(
    subject: Subject, run: Callable[[list[tf.Tensor]], Outputs]
) -> list[tf.Tensor]:
    """Returns outputs, and the gradient of a sum of bounded functions of them."""
    inputs = [tf.identity(part) for part in subject.inputs]
    with tf.GradientTape() as tape:
        tape.watch(inputs[0])
        outputs = list(run(inputs))
        total = tf.add_n([tf.reduce_sum(tf.tanh(part)) for part in outputs])
    gradient = tape.gradient(total, inputs[0], unconnected_gradients="zero")
    return [*outputs, tf.convert_to_tensor(gradient)]  # it may come as slices


def _spread(parts: Iterable[tf.Tensor]) -> list[tf.Tensor]:
    """Makes batches of shape `[2, n, 1]` of batches of shape `[n]`."""
    return [tf.stack([part, part])[:, :, tf.newaxis] for part in parts]


def _saved_and_loaded(subject: Subject) -> Outputs:
    with tempfile.TemporaryDirectory(prefix="check_bijector-") as folder:
        path = os.path.join(folder, "bijector.keras")
        save_bijector(subject.bijector, path)
        return Subject(load_bijector(path), *subject.inputs).expected


def _exported_and_loaded(subject: Subject) -> Outputs:
    module = tf.Module()
    module.weights = list(subject.variables().values())
    module.run = subject.open_graph
    with tempfile.TemporaryDirectory(prefix="check_bijector-") as folder:
        tf.saved_model.save(module, folder)
        loaded = tf.saved_model.load(folder)
        return loaded.run(*subject.inputs)


def _equality(
    message: str,
    found: Callable[[Subject], Sequence[tf.Tensor]],
    expected: Callable[[Subject], Sequence[tf.Tensor]] = lambda s: s.expected,
    exact: bool = False,
) -> Law:
    """Returns the law that two ways to compute the same agree."""

    def law(subject: Subject, tolerance: float | None = None) -> CheckResult:
        limit = 0.0 if exact else tolerance
        return _equal(subject, limit, found(subject), expected(subject), message)

    return law


# In the order of the report; `s.expected` is `y, fldj, x, ildj`.
LAWS: dict[str, Law] = {
    "forward runs": forward_runs,
    "weights made by constructor": weights_made_early,
    "finite outputs": finite,
    "round trip of x": _equality(
        "`inverse(forward(x))` is not `x`: one of the two is wrong.",
        lambda s: [s.expected[2]],
        lambda s: [s.x],
    ),
    "round trip of y": _equality(
        "`forward(inverse(y))` is not `y`: one of the two is wrong.",
        lambda s: s.run("forward", s.expected[2], s.condition)[:1],
        lambda s: s.expected[:1],
    ),
    "forward log-det": partial(log_det, direction="forward"),
    "inverse log-det": partial(log_det, direction="inverse"),
    "log-dets cancel": _equality(
        "The log-dets of `forward` at x and of `inverse` at forward(x) do not add up "
        "to 0: one of the two is wrong.",
        lambda s: [s.expected[1]],
        lambda s: [-s.expected[3]],
    ),
    "forward curvature": partial(second_derivatives, direction="forward"),
    "inverse curvature": partial(second_derivatives, direction="inverse"),
    "forward gradients": partial(every_weight_gets_a_gradient, direction="forward"),
    "inverse gradients": partial(every_weight_gets_a_gradient, direction="inverse"),
    "forward network calls": partial(one_network_call, direction="forward"),
    "inverse network calls": partial(one_network_call, direction="inverse"),
    "no batch axis": _equality(
        "An input without a batch axis gives another result than in a batch.",
        lambda s: s.there_and_back(*(part[0] for part in s.inputs)),
        lambda s: [part[0] for part in s.expected],
    ),
    "several batch axes": _equality(
        "Inputs with several batch axes give another result than with one.",
        lambda s: s.there_and_back(*_spread(s.inputs)),
        lambda s: _spread(s.expected),
    ),
    "vectorized": _equality(
        "`tf.vectorized_map`, as of auto-batched joint distributions, gives another "
        "result or gradient.",
        lambda s: _with_gradient(
            s, lambda x: tf.vectorized_map(lambda row: s.there_and_back(*row), x)
        ),
        lambda s: _with_gradient(s, lambda x: s.there_and_back(*x)),
    ),
    "unknown batch size": _equality(
        "A graph with an unknown batch size gives another result.",
        lambda s: s.open_graph(*s.inputs),
    ),
    "graph": _equality(
        "Graph and eager execution differ.",
        lambda s: tf.function(s.there_and_back, autograph=False)(*s.inputs),
    ),
    "XLA": _equality("XLA and eager execution differ.", _compiled),
    "save and load": _equality(
        "The loaded bijector is not bit-equal to the saved one.",
        _saved_and_loaded,
        exact=True,
    ),
    "export and load": _equality(
        "The exported bijector gives another result.", _exported_and_loaded
    ),
}


def check(
    subject: Subject, names: Iterable[str] = LAWS, tolerance: float | None = None
) -> list[CheckResult]:
    """Holds a bijector to some laws; stops after the first if that fails."""
    rows: list[CheckResult] = []
    for name in names:
        rows.append(checked(name, partial(LAWS[name], subject, tolerance)))
        if name == "forward runs" and not rows[-1].ok:
            break
    return rows
