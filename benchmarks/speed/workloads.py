"""What is timed. It imports no framework, so that every library can read it."""

import dataclasses
from collections.abc import Callable


@dataclasses.dataclass(frozen=True)
class Workload:
    """A flow, and the sizes of the batches it is timed on.

    Attributes:
        name: W1 to W5.
        kind: `"affine"`, `"spline"`, `"glow"` or `"continuous"`.
        event_shape: Shape of an example, channels last.
        layers: Couplings; for Glow, steps a level (K); for W5, hidden layers.
        width: Units of each of the two hidden layers, or hidden channels.
        train_batch: Examples in a training step.
        batch: Examples that are scored or drawn at once.
        levels: Levels of Glow (L).
        bins: Bins of a spline.
        bound: The spline acts on `[-bound, bound]`.
    """

    name: str
    kind: str
    event_shape: tuple[int, ...]
    layers: int
    width: int
    train_batch: int
    batch: int
    levels: int = 1
    bins: int = 8
    bound: float = 5.0

    @property
    def features(self) -> int:
        return self.event_shape[0]

    @property
    def kept(self) -> int:
        """How many values of a vector a coupling leaves as they are."""
        return self.features // 2


WORKLOADS = {
    w.name: w
    for w in (
        Workload("W1", "affine", (2,), 8, 128, 256, 10_000),
        Workload("W2", "affine", (43,), 10, 256, 512, 10_000),
        Workload("W3", "glow", (32, 32, 3), 8, 128, 16, 16, levels=3),
        Workload("W4", "spline", (16,), 8, 128, 512, 10_000),
    )
}
# W3 with other numbers of steps a level, for what memory and start-up owe to depth.
DEPTHS = (4, 8, 16, 32)
DEEP = {
    f"W3-K{k}": dataclasses.replace(WORKLOADS["W3"], name=f"W3-K{k}", layers=k)
    for k in DEPTHS
}
# For `benchmarks.small_calls`: flows of W1's size on few rows.
SMALL_ROWS = (1, 8, 64)
SMALL = {
    f"{kind}-{n}": dataclasses.replace(WORKLOADS["W1"], kind=kind, batch=n)
    for kind in ("affine", "spline")
    for n in SMALL_ROWS
}
# For `benchmarks.against`; beside TFP it is `benchmarks continuous`'s.
CONTINUOUS = {"W5": Workload("W5", "continuous", (2,), 2, 64, 256, 256)}
# Rates do not change times; by this one 32 steps a level stay finite on noise.
LEARNING_RATE = 1e-5


class Unsupported(Exception):
    """A library that has no such flow."""


@dataclasses.dataclass
class Steps:
    """What a library does on a workload. Every call returns when its work is done.

    Attributes:
        parameters: How many numbers are trained.
        train: A step of Adam on the mean negative log-likelihood.
        log_prob: Scores a batch.
        sample: Draws a batch.
        fit: Trains for a number of steps as the library's own loop does, or None.
    """

    parameters: int
    train: Callable[[], object]
    log_prob: Callable[[], object] | None = None
    sample: Callable[[], object] | None = None
    fit: Callable[[int], object] | None = None
