"""Trains our flows on the splits; see the package's docstring."""

import functools

import keras
import tensorflow as tf

import tfp_flows as tfpf
from benchmarks.quality import protocol

HIDDEN = {"hidden_units": (64, 64)}


def bound(features):
    """Where splines end, in standard deviations: the toys have no tails, tables do."""
    return 3.0 if features == 2 else 5.0


def squash(features):
    """Scale of a squash behind each layer: the toys have no outliers, tables do."""
    return None if features == 2 else 2.0


def maf(features):
    """Without an actnorm, as zuko's."""
    kind = {"actnorm": False, "squash": squash(features)}
    return tfpf.maf((features,), steps=6, **kind, **HIDDEN)


def spline(features):
    return tfpf.spline_flow((features,), steps=6, bound=bound(features), **HIDDEN)


def maf_spline(features):
    kind = {"transform": "spline", "bound": bound(features)}
    return tfpf.maf((features,), steps=3, **kind, **HIDDEN)


def continuous(features, activation="elu", trace=None, solver_steps=4):
    solver = tfpf.FixedStep("rk4", solver_steps)
    kind = {"activation": activation, "trace": trace, "actnorm": False}
    return tfpf.ffjord((features,), solver=solver, **kind, **HIDDEN)


def matched(features, **kind):
    return continuous(features, "tanh" if features == 2 else "elu", **kind)


def like_zukos(make, d, **kind):
    """Three autoregressive layers without actnorms."""
    return make((d,), steps=3, actnorm=False, **kind, **HIDDEN)


def squashed(make, d, **kind):
    return like_zukos(make, d, squash=squash(d), **kind)


def polynomial(make, d):
    return squashed(make, d, bound=bound(d))


MODELS = {
    "nice": lambda d: tfpf.nice((d,), steps=8, **HIDDEN),
    "real_nvp": lambda d: tfpf.real_nvp((d,), steps=8, **HIDDEN),
    "glow": lambda d: tfpf.glow((d,), steps=8, **HIDDEN),
    "spline": spline,
    "maf": maf,
    "maf_spline": maf_spline,
    "ffjord": continuous,
    "flow_matching": matched,
    "naf": functools.partial(squashed, tfpf.naf),
    "unaf": functools.partial(
        squashed, tfpf.unaf, features=16, integrand_units=(64, 64)
    ),
    "sos": functools.partial(polynomial, tfpf.sos_flow),
    "bernstein": functools.partial(polynomial, tfpf.bernstein_flow),
    "gaussianization": lambda d: tfpf.gaussianization_flow((d,), components=8),
    "bnaf": lambda d: tfpf.bnaf((d,), hidden_units=(8, 8)),
    "residual": lambda d, **kind: tfpf.residual_flow((d,), **kind, **HIDDEN),
}
# Likelihoods of continuous and residual flows are reported exactly, by finer solvers.
FINER = {"trace": "exact", "solver_steps": 20}
JUDGED = {"ffjord": FINER, "flow_matching": FINER, "residual": {"log_det": "exact"}}
# A loss without a solver in it takes more draws in a step and a higher rate. These, and
# the activations, were chosen by the first split of each set.
MATCHING = {"draws": 8, "times": "late"}
MATCHING_RATE = 2e-2


@functools.cache
def compiled(name, features):
    """Returns a model and its compiled functions, made once for all seeds and sets."""
    model = built(name, features)
    optimizer = tfpf.optimizer(protocol.RATE)
    optimizer.build(model.trainable_variables)
    variables = [v.value for v in model.trainable_variables]

    @tf.function(autograph=False, jit_compile=True)
    def step(batch, rate):
        optimizer.learning_rate.assign(rate)
        with tf.GradientTape() as tape:
            if isinstance(model, tfpf.FlowMatchingModel):
                loss = tf.reduce_mean(model.matching_loss(batch))
            else:  # in training: Hutchinson's probes are drawn anew
                loss = -tf.reduce_mean(model(batch, training=True))
        optimizer.apply(tape.gradient(loss, variables), model.trainable_variables)

    judge = model
    if name in JUDGED:
        judge = tfpf.FlowModel(MODELS[name](features, **JUDGED[name]))

    @tf.function(autograph=False)
    def log_prob(rows):
        return judge.distribution.log_prob(rows)

    def score(rows):
        if judge is not model:
            for theirs, trained in zip(learned(judge), learned(model), strict=True):
                theirs.assign(trained)
        return log_prob(tf.constant(rows)).numpy()

    return model, optimizer, step, score


def learned(model):
    """All variables but the states of random numbers, which exact log-dets lack."""
    return [v for v in model.variables if "seed_generator" not in v.path]


def built(name, features):
    flow = MODELS[name](features)
    if name == "flow_matching":
        return tfpf.FlowMatchingModel(flow, **MATCHING)
    return tfpf.FlowModel(flow)


def train_one(name, train, validation, test, seed, every, steps):
    model, optimizer, step, score = compiled(name, train.shape[1])
    # The weights of a model of this seed, in the model whose functions are compiled.
    keras.utils.set_random_seed(seed)
    fresh = built(name, train.shape[1])
    fresh.adapt(train)
    for variable, value in zip(model.variables, fresh.variables, strict=True):
        variable.assign(value)
    for variable in optimizer.variables:
        variable.assign(tf.zeros_like(variable))
    matching = isinstance(model, tfpf.FlowMatchingModel)
    found = protocol.fit(
        train,
        validation,
        test,
        step=lambda batch, rate: step(tf.constant(batch), tf.constant(rate)),
        nll=lambda rows: float(-score(rows).mean()),
        steps=steps,
        seed=seed,
        every=every,
        rate=MATCHING_RATE if matching else protocol.RATE,
        patience=protocol.PATIENCE,
    )
    weights = sum(int(tf.size(v.value)) for v in model.trainable_variables)
    return {"nll": found, "weights": weights}


if __name__ == "__main__":
    protocol.main("ours", MODELS, train_one)
