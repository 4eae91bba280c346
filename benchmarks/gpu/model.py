"""This package's flow on a workload, as a compiled Keras model with its batch."""

import keras
import numpy as np
import tensorflow as tf

import tfp_flows as tfpf
from benchmarks.gpu import arguments
from benchmarks.speed.adapters import tfp_flows
from benchmarks.speed.workloads import LEARNING_RATE

POLICIES = {
    "float32": "float32",
    "tf32": "float32",
    "bfloat16": "mixed_bfloat16",
}
SMALLEST_SCALE = 1e-3  # of a drawn kernel: last layers start at zero
LARGE = 256  # values of a kernel that is worth drawing instead of storing


def build(w, precision, mode, jit=True):
    """Returns the model, its batch, and how its large kernels were drawn.

    Under bfloat16 the networks run under Keras's `mixed_bfloat16`; weights, optimizer
    and the flow's own arithmetic stay in float32.
    """
    keras.utils.set_random_seed(0)
    keras.config.set_dtype_policy(POLICIES[precision])
    model = tfpf.FlowModel(tfp_flows.flow(w, mode))
    model.compile(optimizer=keras.optimizers.Adam(LEARNING_RATE), jit_compile=jit)
    draws = draw_kernels(model)
    shape = (w.train_batch, *w.event_shape)
    batch = np.random.default_rng(0).standard_normal(shape, np.float32)
    model.adapt(batch)
    model.optimizer.build(model.trainable_variables)
    return model, tf.constant(batch), draws


def draw_kernels(model):
    """Draws large kernels so that another machine can draw them again.

    No kernel is zero afterwards: every weight of the flow has a gradient.
    """
    draws = {}
    for seed, variable in enumerate(model.trainable_variables):
        values = variable.numpy()
        if variable.name.startswith("kernel") and values.size >= LARGE:
            scale = max(float(values.std()), SMALLEST_SCALE)
            draws[id(variable.value)] = {"seed": seed, "scale": scale}
            variable.assign(arguments.drawn(draws[id(variable.value)], values.shape))
        elif not values.any():
            noise = arguments.drawn(
                {"seed": seed, "scale": SMALLEST_SCALE}, values.shape
            )
            variable.assign(noise)
    return draws


def train_function(model, jit):
    """Returns Keras's own training step as one function of a batch."""

    @tf.function(jit_compile=jit, autograph=False)
    def train(batch):
        return model.train_step((batch,))

    return train
