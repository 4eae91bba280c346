"""What a bijector goes through in use: batches, graphs, XLA, files, exports."""

from __future__ import annotations

import os
import tempfile
from typing import Any

import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows.saving.files import load_distribution, save_distribution
from tfp_flows.testing.laws import difference
from tfp_flows.testing.report import Finding, judged, not_judged, sentence_of
from tfp_flows.testing.subject import Subject

tfd = tfp.distributions


def no_batch(subject: Subject, largest: float) -> Finding:
    """Compares the first input alone with the first of the batch."""
    condition = None if subject.condition is None else subject.condition[0]
    alone = subject.there_and_back(subject.x[0], condition)
    wrong = "An input without a batch axis gives another result than in a batch."
    batch = [part[0] for part in subject.expected]
    return judged(_largest(alone, batch), largest, wrong)


def several_batch_axes(subject: Subject, largest: float) -> Finding:
    """Compares a batch of shape `[2, n, 1]` with one of shape `[n]`."""

    def spread(tensor: Any) -> Any:
        return None if tensor is None else tf.stack([tensor, tensor])[:, :, tf.newaxis]

    several = subject.there_and_back(spread(subject.x), spread(subject.condition))
    one = [spread(part) for part in subject.expected]
    wrong = "Inputs with several batch axes give another result than with one."
    return judged(_largest(several, one), largest, wrong)


def unknown_batch_size(subject: Subject, largest: float) -> Finding:
    """Traces a graph whose batch size is not known until it runs."""
    wrong = "A graph with an unknown batch size gives another result."
    return judged(_against_eager(subject, subject.open_graph), largest, wrong)


def graph(subject: Subject, largest: float) -> Finding:
    """Compares a `tf.function` with eager execution."""
    traced = tf.function(subject.there_and_back, autograph=False)
    wrong = "Graph and eager execution differ."
    return judged(_against_eager(subject, traced), largest, wrong)


def xla(subject: Subject, largest: float) -> Finding:
    """Compares compiled with eager execution, where XLA knows all ops."""
    compiled = tf.function(subject.there_and_back, autograph=False, jit_compile=True)
    try:
        off = _against_eager(subject, compiled)
    except Exception as error:  # XLA is an option, and refuses in many ways
        return not_judged(f"XLA does not compile it ({sentence_of(error)})")
    return judged(off, largest, "XLA and eager execution differ.")


def save_and_load(subject: Subject) -> Finding:
    """Writes and reads a `.keras` file; values and log-dets must be bit-equal."""
    base = tfd.Sample(
        tfd.Normal(tf.zeros([], subject.dtype), tf.ones([], subject.dtype)),
        subject.x.shape[1:],
    )
    flow = tfd.TransformedDistribution(base, subject.bijector)
    with tempfile.TemporaryDirectory(prefix="check_bijector-") as folder:
        path = os.path.join(folder, "flow.keras")
        save_distribution(flow, path)
        loaded = load_distribution(path)
    copy = Subject(loaded.bijector, subject.x, subject.condition)
    off = _largest(copy.expected, subject.expected)
    return judged(off, 0, "The loaded bijector is not bit-equal to the saved one.")


def export_and_load(subject: Subject, largest: float) -> Finding:
    """Writes and reads a SavedModel of both directions."""
    module = tf.Module()
    module.weights = list(subject.variables().values())
    module.run = subject.open_graph
    with tempfile.TemporaryDirectory(prefix="check_bijector-") as folder:
        tf.saved_model.save(module, folder)
        loaded = tf.saved_model.load(folder)
        off = _against_eager(subject, loaded.run)
    return judged(off, largest, "The exported bijector gives another result.")


def _against_eager(subject: Subject, function: Any) -> float:
    # A condition that is not there is no argument of an exported function.
    given = () if subject.condition is None else (subject.condition,)
    return _largest(function(subject.x, *given), subject.expected)


def _largest(found: Any, expected: Any) -> float:
    return max(difference(a, b) for a, b in zip(found, expected, strict=True))
