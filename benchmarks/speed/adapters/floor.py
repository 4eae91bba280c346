"""The floor: the same networks alone, one after another, forward and backward.

Each network reads what the one before it wrote, as in a flow, so that they cannot run
side by side. There is no other arithmetic but the same Adam's.
"""

import keras
import numpy as np
import tensorflow as tf

import tfp_flows as tfpf
from benchmarks.speed.workloads import LEARNING_RATE, Steps


def networks(w):
    """Returns pairs of a network and the shape that it reads."""
    if w.kind == "glow":
        found = []
        height, width, channels = w.event_shape
        for level in range(w.levels):
            height, width, channels = height // 2, width // 2, channels * 4
            # The kept half goes to the next level.
            kept = channels // 2
            for _ in range(w.layers):
                net = tfpf.nets.ConvNet(w.width)
                net.connect((height, width, channels - kept), (height, width, channels))
                found.append((net, (height, width, channels - kept)))
            channels -= kept if level + 1 < w.levels else 0
        return found
    found = []
    parameters = 3 * w.bins - 1 if w.kind == "spline" else 2
    for index in range(w.layers):
        kept = w.kept if index % 2 == 0 else w.features - w.kept
        net = tfpf.nets.MLP((w.width, w.width))
        net.connect((kept,), ((w.features - kept) * parameters,))
        found.append((net, (kept,)))
    return found


def chained(nets, first):
    """Feeds each network with the start of what the last one wrote."""
    value = first
    for net, shape in nets:
        size = int(np.prod(shape))
        flat = tf.reshape(value, [len(first), -1])
        copies = -(-size // flat.shape[1])
        flat = tf.tile(flat, [1, copies]) if copies > 1 else flat
        value = net(tf.reshape(flat[:, :size], [len(first), *shape]))
    return value


def build(w, jit=False):
    keras.utils.set_random_seed(0)
    nets = networks(w)
    for net, _ in nets:  # fresh last layers are zero
        for variable in net.trainable_weights:
            variable.assign_add(keras.random.normal(variable.shape, stddev=0.01))
    weights = [v for net, _ in nets for v in net.trainable_weights]
    optimizer = tfpf.optimizer(LEARNING_RATE)
    optimizer.build(weights)
    rng = np.random.default_rng(0)

    def inputs(n):
        return tf.constant(rng.normal(size=(n, *nets[0][1])).astype("float32"))

    batch, many = inputs(w.train_batch), inputs(w.batch)

    def function(body):
        return tf.function(body, jit_compile=jit, autograph=False)

    @function
    def train():
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(chained(nets, batch) ** 2)
        gradients = tape.gradient(loss, [v.value for v in weights])
        optimizer.apply(gradients, weights)
        return loss

    score = function(lambda: chained(nets, many))
    return Steps(
        parameters=sum(int(np.prod(v.shape)) for v in weights),
        train=lambda: float(train()),
        log_prob=lambda: score().numpy(),
        sample=lambda: score().numpy(),
    )
