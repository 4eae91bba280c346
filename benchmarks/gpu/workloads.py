"""What is timed on a GPU, and how much arithmetic it is. It imports no framework."""

import dataclasses
import math

from benchmarks.speed.workloads import WORKLOADS as ON_CPU
from benchmarks.speed.workloads import Workload

WORKLOADS = {
    **ON_CPU,
    "glow32": Workload("glow32", "glow", (32, 32, 3), 32, 512, 64, 64, levels=3),
    "glow64": Workload("glow64", "glow", (64, 64, 3), 32, 512, 16, 16, levels=4),
}
PRECISIONS = ("float32", "tf32", "bfloat16")
MODES = ("auto", "unrolled", "loop", "reversible")


def workload(name, small=False, batch=None):
    """Returns a workload, shrunk for a test or with another training batch."""
    w = WORKLOADS[name]
    if small:
        w = dataclasses.replace(w, layers=2, width=8, train_batch=4, batch=4)
        if w.kind == "glow":
            w = dataclasses.replace(w, event_shape=(8, 8, 1), levels=2)
    return dataclasses.replace(w, train_batch=batch) if batch else w


def conditioners(w):
    """Yields the matrices of each conditioner, in words: (positions, inputs, outputs).

    A 3x3 convolution is a matrix with nine times the inputs, at every position.
    """
    if w.kind == "glow":
        height, width, channels = w.event_shape
        for level in range(w.levels):
            height, width, channels = height // 2, width // 2, channels * 4
            kept = channels // 2
            for _ in range(w.layers):
                for inputs, outputs in (
                    (9 * (channels - kept), w.width),
                    (w.width, w.width),
                    (9 * w.width, channels),
                ):
                    yield height * width, inputs, outputs
            channels -= kept if level + 1 < w.levels else 0
        return
    parameters = 3 * w.bins - 1 if w.kind == "spline" else 2
    for index in range(w.layers):
        kept = w.kept if index % 2 == 0 else w.features - w.kept
        yield 1, kept, w.width
        yield 1, w.width, w.width
        yield 1, w.width, (w.features - kept) * parameters


def network_flops(w):
    """Returns the operations of the conditioners in a training step.

    Two for each multiplication with an addition; forward once, and backward twice, for
    the gradients of inputs and of weights. What reversible back-propagation computes
    again does not count, nor does any other arithmetic: it is the same number for every
    library.
    """
    return 6 * w.train_batch * sum(math.prod(matrix) for matrix in conditioners(w))
