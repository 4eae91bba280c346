"""Trains our flows on the splits; see the package's docstring."""

import keras
import tensorflow as tf

import tfp_flows as tff
from benchmarks.quality import protocol

HIDDEN = {"hidden_units": (64, 64)}
VELOCITY = {"hidden_units": (64, 64), "trace": "exact"}
MODELS = {
    "nice": lambda d: tff.nice((d,), couplings=8, **HIDDEN),
    "real_nvp": lambda d: tff.real_nvp((d,), couplings=8, **HIDDEN),
    "glow": lambda d: tff.glow((d,), steps=8, **HIDDEN),
    "spline": lambda d: tff.spline_flow((d,), couplings=6, **HIDDEN),
    "maf": lambda d: tff.maf((d,), layers=6, **HIDDEN),
    "maf_spline": lambda d: tff.maf((d,), layers=3, transform="spline", **HIDDEN),
    "ffjord": lambda d: tff.ffjord((d,), **VELOCITY),
    "flow_matching": lambda d: tff.ffjord((d,), **VELOCITY),
}


def train_one(name, train, validation, test, seed, steps):
    keras.utils.set_random_seed(seed)
    matching = name == "flow_matching"
    kind = tff.FlowMatchingModel if matching else tff.FlowModel
    model = kind(MODELS[name](train.shape[1]))
    model.adapt(train)
    optimizer = keras.optimizers.Adam(protocol.RATE)
    optimizer.build(model.trainable_variables)
    variables = [v.value for v in model.trainable_variables]

    @tf.function(autograph=False, jit_compile=True)
    def step(batch, rate):
        optimizer.learning_rate.assign(rate)
        with tf.GradientTape() as tape:
            if matching:
                loss = tf.reduce_mean(model.matching_loss(batch))
            else:
                loss = -tf.reduce_mean(model.distribution.log_prob(batch))
        optimizer.apply(tape.gradient(loss, variables), model.trainable_variables)

    @tf.function(autograph=False)
    def nll(rows):
        return -tf.reduce_mean(model.distribution.log_prob(rows))

    found = protocol.fit(
        train,
        validation,
        test,
        step=lambda batch, rate: step(tf.constant(batch), tf.constant(rate)),
        nll=lambda rows: float(nll(tf.constant(rows))),
        steps=steps,
        seed=seed,
    )
    weights = sum(int(tf.size(v)) for v in variables)
    return {"nll": found, "weights": weights}


def main():
    options = protocol.arguments(MODELS)

    def one(name, *parts):
        return train_one(name, *parts, steps=options.steps)

    protocol.run("ours", options, one)


if __name__ == "__main__":
    main()
