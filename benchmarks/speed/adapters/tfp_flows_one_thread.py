"""This package without XLA, each operation on one thread, a shard a core.

TensorFlow splits a matrix product of a hundred columns over all cores and waits for
the slowest; left whole, the products of two halves of a batch run side by side.
"""

import os

import tensorflow as tf

from benchmarks.speed.adapters import tfp_flows
from benchmarks.speed.workloads import Unsupported


def build(w):
    if w.kind == "glow":
        raise Unsupported
    tf.config.threading.set_intra_op_parallelism_threads(1)
    return tfp_flows.build(w, shards=len(os.sched_getaffinity(0)))
