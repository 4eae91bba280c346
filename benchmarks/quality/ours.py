"""Trains our flows on the splits; see the package's docstring."""

import functools

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


@functools.cache
def compiled(name, features):
    """Returns a model and its compiled functions, made once for all seeds and sets."""
    model = built(name, features)
    optimizer = keras.optimizers.Adam(protocol.RATE)
    optimizer.build(model.trainable_variables)
    variables = [v.value for v in model.trainable_variables]

    @tf.function(autograph=False, jit_compile=True)
    def step(batch, rate):
        optimizer.learning_rate.assign(rate)
        with tf.GradientTape() as tape:
            if isinstance(model, tff.FlowMatchingModel):
                loss = tf.reduce_mean(model.matching_loss(batch))
            else:
                loss = -tf.reduce_mean(model.distribution.log_prob(batch))
        optimizer.apply(tape.gradient(loss, variables), model.trainable_variables)

    @tf.function(autograph=False)
    def nll(rows):
        return -tf.reduce_mean(model.distribution.log_prob(rows))

    return model, optimizer, step, nll


def built(name, features):
    kind = tff.FlowMatchingModel if name == "flow_matching" else tff.FlowModel
    return kind(MODELS[name](features))


def train_one(name, train, validation, test, seed, every, steps):
    features = train.shape[1]
    model, optimizer, step, nll = compiled(name, features)
    # The weights of a model of this seed, in the model whose functions are compiled.
    keras.utils.set_random_seed(seed)
    fresh = built(name, features)
    fresh.adapt(train)
    for variable, value in zip(model.variables, fresh.variables, strict=True):
        variable.assign(value)
    for variable in optimizer.variables:
        variable.assign(tf.zeros_like(variable))
    found = protocol.fit(
        train,
        validation,
        test,
        step=lambda batch, rate: step(tf.constant(batch), tf.constant(rate)),
        nll=lambda rows: float(nll(tf.constant(rows))),
        steps=steps,
        seed=seed,
        every=every,
    )
    weights = sum(int(tf.size(v.value)) for v in model.trainable_variables)
    return {"nll": found, "weights": weights}


def main():
    options = protocol.arguments(MODELS)

    def one(name, *parts):
        return train_one(name, *parts, steps=options.steps)

    protocol.run("ours", options, one)


if __name__ == "__main__":
    main()
