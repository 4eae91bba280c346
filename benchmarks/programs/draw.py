"""What a program is, and hypothesis strategies that draw one.

A program is plain data, so that JSON shows it and reads it:

    event, batch, condition    shapes; the condition may be None
    dtype, floatx              of the flow, and Keras's own
    distribution               nested lists `[kind, argument, ...]`, see `build`
    history                    how weights move before, with old outputs held
    entry                      how the log-densities are asked for
    data                       as what the data comes
"""

from __future__ import annotations

from hypothesis import strategies as st

COUPLINGS = ("additive", "affine", "affine_sigmoid", "spline", "coupling_mixture")
AUTOREGRESSIVE = ("maf", "maf_spline", "autoregressive")
ELEMENTWISE = ("elementwise_affine", "elementwise_spline", "elementwise_mixture")
CHANNELS = ("actnorm", "batchnorm", "sinh_arcsinh", "leaky_relu", "planar", "radial")
LINEAR = ("conv_lu", "conv_matrix", "conv_permutation", "linear_lu", "linear_full")
LINEAR = (*LINEAR, "linear_triangular", "linear_householder")
TFPS = (
    "scale",
    "scale_one",
    "shift",
    "softplus",
    "tanh",
    "sigmoid",
    "exp",
    "scale_variable",
)
VECTOR_TFPS = ("reversal", "matvec_tril", "tfp_spline", "reshape", "cumsum")
BASES = ("standard_normal", "diagonal_normal", "student_t", "independent", "tril")
BASES = (*BASES, "logistic", "uniform", "full_normal", "normal_mixture")
CHEAP = ("log_prob", "prob", "sample_and_log_prob", "gradient", "call", "deepcopy")
CHEAP = (*CHEAP, "pickle", "copy", "tape", "held_function", "save_distribution")
COSTLY = ("predict", "evaluate", "fit", "saved", "exported", "clone", "jit")
COSTLY = (*COSTLY, "predict_on_batch", "function")
HISTORY = ("set_weights", "assign", "optimizer", "load_weights", "adapt")
COSTLY_HISTORY = ("train_on_batch", "fit")
DATA = ("array", "list", "dataset", "float64", "tensor")


def _takers(event):
    """Returns the leaves that can be conditional."""
    takers = [*ELEMENTWISE, "conditional_affine"]
    if event[-1] >= 2:
        takers += COUPLINGS
    if len(event) == 1 and event[-1] >= 2:
        takers += AUTOREGRESSIVE
    return takers


@st.composite
def bijectors(draw, event, depth, conditional):
    """Draws a bijector of events `event`; `conditional` parts are one in two."""
    d = event[-1] if event else 1
    containers = ["chain", "chain", "invert", "repeat"]
    if len(event) == 1 and d >= 2:
        containers.append("blockwise")
    if conditional and event:
        containers.append("encoded")
    if depth and draw(st.booleans()):
        kind = draw(st.sampled_from(containers))
        inner = bijectors(event, depth - 1, conditional)
        if kind == "chain":
            return [kind, draw(st.lists(inner, min_size=1, max_size=3))]
        if kind == "repeat":
            mode = draw(st.sampled_from(["auto", "unrolled", "loop", "reversible"]))
            return [kind, draw(inner), draw(st.integers(1, 3)), mode]
        if kind == "blockwise":
            first = draw(st.integers(1, d - 1))
            parts = [
                draw(bijectors([n], depth - 1, conditional)) for n in (first, d - first)
            ]
            return [kind, parts, [first, d - first]]
        if kind == "encoded":
            taker = [draw(st.sampled_from(_takers(event))), True]
            return [kind, ["chain", [taker, draw(inner)]]]
        return [kind, draw(inner)]
    kinds = list(TFPS)
    if event:
        kinds += 2 * [*ELEMENTWISE, *CHANNELS, *LINEAR]
    if len(event) == 1:
        kinds += VECTOR_TFPS
    if d >= 2:
        kinds += 2 * COUPLINGS
    if len(event) == 1 and d >= 2:
        kinds += AUTOREGRESSIVE
    if len(event) == 3:
        kinds += ["multiscale", "squeezed"]
    if conditional and event and draw(st.booleans()):
        return [draw(st.sampled_from(_takers(event))), True]
    return [draw(st.sampled_from(kinds)), False]


@st.composite
def distributions(draw, event, batch, depth, conditional):
    """Draws a distribution of events and batches of these shapes."""
    kinds = ["base", "transformed", "transformed", "transformed", "transformed"]
    if depth and not conditional:
        kinds += ["mixture_same_family", "mixture", "batch_reshape"]
        if event:
            kinds += ["independent_of", "sample"]
    kind = draw(st.sampled_from(kinds if depth > 0 else ["base"]))
    if conditional:
        kind = "transformed" if depth > 0 else "base"
    if kind == "base":
        some = BASES if len(event) == 1 else BASES[:2] + ("independent", "uniform")
        return ["base", draw(st.sampled_from(some)), event, batch]
    if kind == "transformed":
        inner = draw(st.sampled_from([0, 0, depth - 1]))
        base = draw(distributions(event, batch, inner, conditional and inner > 0))
        return [kind, base, draw(bijectors(event, 2, conditional))]
    if kind == "mixture":
        inner = distributions(event, batch, depth - 1, False)
        return [kind, [draw(inner), draw(inner)], batch]
    if kind == "mixture_same_family":
        return [kind, draw(distributions(event, [*batch, 2], depth - 1, False)), batch]
    if kind == "batch_reshape":
        size = 1
        for n in batch:
            size *= n
        return [kind, draw(distributions(event, [size], depth - 1, False)), batch]
    inner = distributions(event[1:], [*batch, event[0]], depth - 1, False)
    if kind == "sample":
        inner = distributions(event[1:], batch, depth - 1, False)
        return [kind, draw(inner), event[0]]
    return [kind, draw(inner)]


def takes_condition(spec: object) -> bool:
    """Says whether a part of a description is conditional."""
    if not isinstance(spec, list) or not spec:
        return False
    if len(spec) == 2 and spec[1] is True or spec[0] == "encoded":
        return True
    return any(map(takes_condition, spec))


@st.composite
def programs(draw, costly=True):
    """Draws a program; without `costly`, one that takes a fraction of a second."""
    events = [[2], [2], [3], [4], [1], [2, 2, 2], [3, 2], []]
    event = draw(st.sampled_from(events))
    condition = draw(st.sampled_from([None, None, [2], [1], [2, 2]])) if event else None
    entries = [*CHEAP, *COSTLY] if costly else CHEAP
    history = [*HISTORY, *COSTLY_HISTORY] if costly else HISTORY
    entry = draw(st.sampled_from(entries))
    batch = draw(st.sampled_from([[], [], [], [2], [3, 2], [1]]))
    if entry in COSTLY or condition:
        batch = []
    spec = draw(distributions(event, batch, 3, condition is not None))
    return {
        "event": event,
        "batch": batch,
        "condition": condition if takes_condition(spec) else None,
        "dtype": draw(st.sampled_from(["float32", "float64"])),
        "floatx": draw(st.sampled_from(["float32", "float32", "float64"])),
        "distribution": spec,
        "history": draw(st.lists(st.sampled_from(history), max_size=2)),
        "entry": entry,
        "data": draw(st.sampled_from(DATA)),
        "held": draw(st.booleans()),
    }
