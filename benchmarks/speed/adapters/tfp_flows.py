"""This package: `train_step` of `FlowModel` in one `tf.function`, and `fit`."""

import keras
import numpy as np
import tensorflow as tf

import tfp_flows as tfpf
from benchmarks.speed.workloads import LEARNING_RATE, Steps, Unsupported


def flow(w, mode="auto"):
    if w.kind == "glow":
        return tfpf.glow(
            w.event_shape,
            log_scale="soft_clamp",
            levels=w.levels,
            steps=w.layers,
            hidden_channels=w.width,
            mode=mode,
        )
    if w.kind == "continuous":
        if mode != "auto":
            raise Unsupported
        hidden_units = (w.width,) * w.layers
        return tfpf.ffjord(w.event_shape, hidden_units=hidden_units, activation="tanh")
    units = {"steps": w.layers, "hidden_units": (w.width, w.width)}
    if w.kind == "spline":
        return tfpf.spline_flow(
            w.event_shape,
            **units,
            bins=w.bins,
            bound=w.bound,
            permutation="reverse",
            actnorm=False,
            mode=mode,
        )
    return tfpf.real_nvp(w.event_shape, **units, actnorm=False, mode=mode)


def build(w, jit=False, mode="auto", shards=1):
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(w.train_batch, *w.event_shape)).astype("float32")
    many = rng.normal(size=(w.batch, *w.event_shape)).astype("float32")
    model = tfpf.FlowModel(flow(w, mode))
    model.compile(
        optimizer=tfpf.optimizer(LEARNING_RATE),
        jit_compile=jit,
        shards=shards,
        # Of `fit`; the bare step is one.
        steps_per_execution=1 if w.kind == "glow" else 10,
    )
    model.adapt(x)
    # As `fit` does: a function that makes variables is traced twice.
    model.optimizer.build(model.trainable_variables)
    batch, scored = tf.constant(x), tf.constant(many)

    def function(body):
        return tf.function(body, jit_compile=jit, autograph=False)

    train = function(lambda: model.train_step((batch,)))
    score = tfpf.map_batches(model.distribution.log_prob)
    log_prob = function(lambda: score(scored))
    seed = tf.Variable([0, 0])

    decode = function(tfpf.map_batches(model.distribution.bijector.forward))

    # On a CPU XLA takes ten times as long as TensorFlow's own kernel to draw normal
    # numbers, so that only the bijector is compiled.
    @tf.function(autograph=False)
    def sample():
        return decode(model.distribution.distribution.sample(w.batch, seed=seed))

    def fit(steps):
        data = np.tile(x, (steps,) + (1,) * len(w.event_shape))
        model.fit(data, batch_size=w.train_batch, epochs=1, verbose=0)

    return Steps(
        parameters=model.count_params(),
        train=lambda: {k: float(v) for k, v in train().items()},
        log_prob=lambda: log_prob().numpy(),
        sample=lambda: sample().numpy(),
        fit=fit,
    )
