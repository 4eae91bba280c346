"""What the JAX libraries share."""

import jax
import numpy as np

from benchmarks.speed.workloads import Steps


def batches(w):
    """Returns a training batch and one to score, drawn from a standard normal."""
    rng = np.random.default_rng(0)
    return tuple(
        jax.device_put(rng.normal(size=(n, *w.event_shape)).astype("float32"))
        for n in (w.train_batch, w.batch)
    )


def finished(call):
    """Waits for JAX, which returns before its work is done."""
    return lambda: jax.block_until_ready(call())


def count(tree):
    """How many numbers a tree of arrays holds."""
    return sum(int(np.size(leaf)) for leaf in jax.tree_util.tree_leaves(tree))


def steps(parameters, train, log_prob, sample):
    """Wraps three functions that return arrays."""
    return Steps(parameters, finished(train), finished(log_prob), finished(sample))
