"""TFP's own flows: `tfb.RealNVP` with tf_keras networks, `tfb.Glow`."""

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
import tf_keras

from benchmarks.speed.workloads import LEARNING_RATE, Steps

tfb, tfd = tfp.bijectors, tfp.distributions


def network(w, outputs):
    return tf_keras.Sequential(
        [
            tf_keras.layers.Dense(w.width, activation="relu"),
            tf_keras.layers.Dense(w.width, activation="relu"),
            tf_keras.layers.Dense(outputs),
        ]
    )


def coupling(w):
    kept, parameters = w.kept, 3 * w.bins - 1 if w.kind == "spline" else 2
    moved = w.features - kept
    net = network(w, moved * parameters)
    net.build([None, kept])

    def affine(x, _units, **_):
        shift, log_scale = tf.split(net(x), 2, axis=-1)
        return tfb.Shift(shift)(tfb.Scale(log_scale=log_scale))

    def spline(x, _units, **_):
        raw = tf.reshape(net(x), [*tf.unstack(tf.shape(x)[:-1]), moved, parameters])
        widths, heights, slopes = tf.split(raw, [w.bins, w.bins, w.bins - 1], axis=-1)

        def sizes(value):
            share = tf.nn.softmax(value) * (1 - 1e-3 * w.bins) + 1e-3
            return 2 * w.bound * share

        return tfb.RationalQuadraticSpline(
            sizes(widths), sizes(heights), tf.nn.softplus(slopes) + 1e-3, -w.bound
        )

    bijector_fn = spline if w.kind == "spline" else affine
    part = tfb.RealNVP(num_masked=kept, bijector_fn=bijector_fn)
    return part, net


def vectors(w):
    """Returns a flow of vectors, and its networks."""
    parts, nets = [], []
    for _ in range(w.layers):
        part, net = coupling(w)
        nets.append(net)
        parts += [part, tfb.Permute(list(range(w.features))[::-1])]
    base = tfd.Sample(tfd.Normal(0.0, 1.0), w.event_shape)
    return tfd.TransformedDistribution(base, tfb.Chain(parts)), nets


def build(w, jit=False):
    tf_keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    x = tf.constant(rng.normal(size=(w.train_batch, *w.event_shape)), tf.float32)
    many = tf.constant(rng.normal(size=(w.batch, *w.event_shape)), tf.float32)
    if w.kind == "glow":
        bijector = tfb.Glow(
            output_shape=w.event_shape,
            num_glow_blocks=w.levels,
            num_steps_per_block=w.layers,
            coupling_bijector_fn=tfb.GlowDefaultNetwork,
            exit_bijector_fn=tfb.GlowDefaultExitNetwork,
            grab_after_block=[0.5] * w.levels,
        )
        nets = []
        base = tfd.Sample(tfd.Normal(0.0, 1.0), int(np.prod(w.event_shape)))
        flow = tfd.TransformedDistribution(base, bijector)
    else:
        flow, nets = vectors(w)
    flow.log_prob(x)
    variables = [*flow.trainable_variables]
    variables += [v for net in nets for v in net.trainable_variables]
    optimizer = tf_keras.optimizers.Adam(LEARNING_RATE)
    optimizer.build(variables)

    def function(body):
        return tf.function(body, jit_compile=jit, autograph=False)

    @function
    def train():
        with tf.GradientTape() as tape:
            loss = -tf.reduce_mean(flow.log_prob(x))
        gradients = tape.gradient(loss, variables)
        optimizer.apply_gradients(zip(gradients, variables, strict=True))
        return loss

    log_prob = function(lambda: flow.log_prob(many))
    sample = function(lambda: flow.sample(w.batch))
    return Steps(
        parameters=sum(int(np.prod(v.shape)) for v in variables),
        train=lambda: float(train()),
        log_prob=lambda: log_prob().numpy(),
        sample=lambda: sample().numpy(),
    )
