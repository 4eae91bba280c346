"""Joint distributions and other containers of TFP around flows."""

import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_flows as tfpf
from tfp_flows.bijectors import chain
from tfp_flows.internal.compat import OWN_NAMES
from tfp_flows.testing.subject import perturb

tfb, tfd = tfp.bijectors, tfp.distributions

RNG = np.random.default_rng(0)
X = RNG.normal(3.0, 2.0, (64, 2)).astype("float32")
Root = tfd.JointDistributionCoroutine.Root


def flow(**kwargs):
    keras.utils.set_random_seed(0)
    made = tfpf.real_nvp((2,), steps=2, hidden_units=(4,), **kwargs)
    for variable in made.trainable_variables:
        variable.assign_add(tf.random.normal(variable.shape, stddev=0.1, seed=1))
    return made


# z and w, then x given z, then y given x and w; all flows have one name.
Z, W, CONDITIONAL = flow(), flow(), flow(condition_shape=(2,))
WEIGHTS = [v for one in (Z, W, CONDITIONAL) for v in one.trainable_variables]


def noise(x, w):
    return tfd.Independent(tfd.Normal(x + w, 1.0), 1)


def rooted():
    z, w = (yield Root(Z)), (yield Root(W))
    x = yield tfpf.condition(CONDITIONAL, z)
    yield noise(x, w)


def unrooted():
    z, w = (yield Z), (yield W)
    x = yield tfpf.condition(CONDITIONAL, z)
    yield noise(x, w)


SEQUENCE = [Z, W, lambda w, z: tfpf.condition(CONDITIONAL, z), noise]
NAMED = {"z": Z, "w": W, "x": lambda z: tfpf.condition(CONDITIONAL, z), "y": noise}
JOINTS = {
    "Coroutine": lambda: tfd.JointDistributionCoroutine(rooted),
    "CoroutineAutoBatched": lambda: tfd.JointDistributionCoroutineAutoBatched(unrooted),
    "Sequential": lambda: tfd.JointDistributionSequential(SEQUENCE),
    "SequentialAutoBatched": lambda: tfd.JointDistributionSequentialAutoBatched(
        SEQUENCE
    ),
    "Named": lambda: tfd.JointDistributionNamed(NAMED),
    "NamedAutoBatched": lambda: tfd.JointDistributionNamedAutoBatched(NAMED),
}


def values(draw):
    return [draw[n] for n in "zwxy"] if isinstance(draw, dict) else list(draw)


def expected(draw):
    z, w, x, y = map(tf.identity, values(draw))
    of_x = tfpf.condition(CONDITIONAL, z).log_prob(x)
    return Z.log_prob(z) + W.log_prob(w) + of_x + noise(x, w).log_prob(y)


@pytest.mark.parametrize("name", JOINTS)
def test_parts_of_a_joint_distribution_need_no_names(name):
    joint = JOINTS[name]()
    draw = joint.sample(5, seed=1)  # TFP vectorizes over no pairs of integers
    copies = tf.nest.map_structure(tf.identity, draw)
    with tf.GradientTape(persistent=True) as tape:
        found, right = joint.log_prob(copies), expected(draw)
    np.testing.assert_allclose(found, right, atol=1e-4)
    gradients = tape.gradient(found, WEIGHTS), tape.gradient(right, WEIGHTS)
    for one, other in zip(*gradients, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-2)


def test_every_default_name_is_known():
    makers = [
        getattr(tfpf, name) for name in tfpf.__all__ if callable(getattr(tfpf, name))
    ]
    makers = [f for f in makers if f.__module__.startswith("tfp_flows.architectures")]
    signatures = [inspect.signature(maker).parameters for maker in makers]
    names = {
        s["name"].default for s in signatures if "event_shape" in s and "name" in s
    }
    assert {"real_nvp", "glow", "maf"} <= names <= OWN_NAMES


@pytest.mark.parametrize(
    "name",
    [
        "Coroutine",
        "Named",
        pytest.param("SequentialAutoBatched", marks=pytest.mark.slow),
    ],
)
def test_a_pinned_joint_distribution_is_sampled_by_hmc(name):
    joint, named = JOINTS[name](), name == "Named"
    pins = ({}, {"y": X[0]}) if named else ((None, None, None, X[0]), {})
    pinned = joint.experimental_pin(*pins[0], **pins[1])
    start = list(tf.nest.flatten(pinned.sample_unpinned(seed=(0, 1))))
    order = "wxz" if named else "zwx"

    def density(*parts):
        state = dict(zip(order, parts, strict=True)) if named else parts
        return pinned.unnormalized_log_prob(state)

    at = dict(zip(order, start, strict=True))
    whole = expected([at["z"], at["w"], at["x"], tf.constant(X[0])])
    np.testing.assert_allclose(density(*start), whole, rtol=1e-5)
    kernel = tfp.mcmc.HamiltonianMonteCarlo(density, 0.1, 2)
    run = tf.function(tfp.mcmc.sample_chain, autograph=False)
    chain = run(3, start, kernel=kernel, trace_fn=None, seed=(0, 1))
    assert all(np.isfinite(part).all() and part.shape == (3, 2) for part in chain)


def conditioned():
    return tfpf.condition(flow(condition_shape=(3,)), np.eye(2, 3, dtype="float32"))


def blocks():
    return tfd.Blockwise([flow(), flow()])


def blocks_of_functions():
    given = flow(condition_shape=(2,))
    parts = [flow(), lambda z: tfpf.condition(given, z)]
    return tfd.Blockwise(tfd.JointDistributionSequential(parts))


def blocks_of_a_coroutine():
    one, other = flow(), flow()

    def parts():
        yield Root(one)
        yield Root(other)

    return tfd.Blockwise(tfd.JointDistributionCoroutine(parts))


def reshaped():
    return tfd.Independent(tfd.BatchReshape(conditioned(), [1, 2]), 2)


CONTAINERS = {
    "blocks": blocks,
    "blocks of functions": blocks_of_functions,
    "blocks of a coroutine": blocks_of_a_coroutine,
    "independent conditions": lambda: tfd.Independent(conditioned(), 1),
    "reshaped conditions": reshaped,
    "a mixture of conditions": lambda: tfd.MixtureSameFamily(
        tfd.Categorical([0.0, 0.0]), conditioned()
    ),
    "a sample of blocks": lambda: tfd.Sample(blocks(), 2),
    "a flow of blocks": lambda: tfd.TransformedDistribution(blocks(), tfpf.ActNorm(4)),
}


@pytest.mark.parametrize("name", CONTAINERS)
def test_a_container_is_initialized(name):
    model = tfpf.FlowModel(CONTAINERS[name]())
    size = model.distribution.event_shape.num_elements()
    data = np.tile(X, size // 2).reshape(-1, *model.event_shape)
    model.adapt(data)
    assert model.is_adapted
    # A normal distribution of scale 2 has log(2) + 1.42 nats.
    assert -np.mean(model.distribution.log_prob(data)) < 2.4 * size


def series(steps):
    def model(emissions):
        start = tfd.Categorical(tf.zeros(emissions.batch_shape))
        moves = tfd.Categorical(logits=[[1.0, 0.0], [0.0, 1.0]])
        return tfd.HiddenMarkovModel(start, moves, emissions, steps)

    return model


def changing(emissions):
    varying = {"time_varying_observation_distribution": True}
    start, moves = tfd.Categorical([0.0, 0.0]), tfd.Categorical([[1.0, 0.0]] * 2)
    return tfd.HiddenMarkovModel(start, moves, emissions, 3, **varying)


def mixed(parts):
    weights = tfd.Categorical(tf.zeros(parts.batch_shape))
    return tfd.Independent(tfd.MixtureSameFamily(weights, parts), 1)


def swapped(x):
    return np.swapaxes(x, 1, 2).reshape(-1, 2, 2)


# Batches of conditions, distributions of theirs, and what data are to their members.
ALIGNED = {
    "steps": ((2,), series(5), lambda x: x.reshape(-1, 1, 2)),
    "as many steps as states": ((2,), series(2), lambda x: x.reshape(-1, 1, 2)),
    "multiples of the states": ((2,), series(4), lambda x: x.reshape(-1, 1, 2)),
    "states that change": ((3, 2), changing, lambda x: x.reshape(-1, 3, 1, 2)),
    "a batch of series": (
        (4, 2),
        lambda one: tfd.Independent(series(3)(one), 1),
        lambda x: np.swapaxes(x, 1, 2).reshape(-1, 4, 1, 2),
    ),
    "samples": ((2,), lambda one: tfd.Independent(tfd.Sample(one, 4), 1), swapped),
    "a batch of mixtures": ((4, 2), mixed, lambda x: x.reshape(-1, 4, 1, 2)),
    "a last axis more": (
        (2, 1),
        lambda one: tfd.Independent(tfd.BatchBroadcast(one, [2, 4]), 2),
        lambda x: swapped(x)[:, :, np.newaxis],
    ),
    "a first axis more": (
        (2,),
        lambda one: tfd.Independent(tfd.BatchBroadcast(one, [4, 2]), 2),
        lambda x: x.reshape(-1, 2, 2),
    ),
    "other axes": (
        (4,),
        lambda one: tfd.Independent(tfd.BatchReshape(one, [2, 2]), 2),
        lambda x: x.reshape(-1, 4, 2),
    ),
}


def twins():
    """Makes two equal flows, whose second actnorm sees what conditions do."""
    options = {"steps": 4, "hidden_units": (4,), "condition_shape": (3,)}
    for _ in range(2):
        keras.utils.set_random_seed(0)
        yield perturb(tfpf.real_nvp((2,), **options), 0.5, seed=1)


def weights_of(one):
    return [v.numpy() for v in one.trainable_variables]


@pytest.mark.parametrize("name", ALIGNED)
def test_data_reach_the_members_of_a_batch_that_they_are_of(name):
    batch, container, arranged = ALIGNED[name]
    c = RNG.normal(size=(*batch, 3)).astype("float32")
    one, other = (tfpf.condition(made, c) for made in twins())
    whole = container(one)
    means = RNG.normal(scale=5.0, size=whole.event_shape)  # of each place another
    x = RNG.normal(means, size=(16, *whole.event_shape)).astype("float32")
    tfpf.FlowModel(whole).adapt(x)
    chain.adapt(other.bijector, tf.constant(arranged(x)), 1)
    for found, expected in zip(weights_of(one), weights_of(other), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


def test_a_series_is_fitted():
    model = tfpf.FlowModel(series(4)(conditioned()))
    model.compile(keras.optimizers.Adam(1e-2))
    x = np.tile(X, 2).reshape(-1, 4, 2)
    model.adapt(x)
    history = model.fit(x, epochs=3, verbose=0).history["nll"]
    assert model.is_adapted
    assert history[-1] < history[0] < 4 * 2.0 * 2.4


def test_data_reach_the_members_of_a_batch_by_a_function():
    one, other = twins()
    given = [
        tfd.Sample(tfd.Normal(0.0, 1.0), [4, 3]),
        lambda z: tfd.Independent(tfpf.condition(one, z), 1),
    ]
    z = RNG.normal(size=(16, 4, 3)).astype("float32")
    x = RNG.normal(3.0, 2.0, (16, 4, 2)).astype("float32")
    joint = tfd.JointDistributionSequential(given)
    chain.adapt_distribution(joint, [tf.constant(z), tf.constant(x)])
    chain.adapt(other.bijector, tf.constant(x), 1, tf.constant(z))
    for found, expected in zip(weights_of(one), weights_of(other), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


def test_data_of_two_batches_in_one_are_refused():
    first, second = conditioned(), conditioned()
    joined = tfd.BatchConcat([first, second], axis=0)
    model = tfpf.FlowModel(tfd.Independent(joined, 1))
    with pytest.raises(ValueError, match="cannot be given to the part.*Received"):
        model.adapt(np.tile(X, 2).reshape(-1, 4, 2))


def test_a_container_of_functions_is_trained():
    model = tfpf.FlowModel(blocks_of_functions())
    model.compile("adam")
    data = np.tile(X, 2)
    model.adapt(data)
    before = [v.numpy() for v in model.trainable_variables]
    model.fit(data, verbose=0)
    moved = zip(before, model.trainable_variables, strict=True)
    assert len(before) == 20
    assert all(np.any(old != new.numpy()) for old, new in moved)
    direct = model.distribution.log_prob(data)
    np.testing.assert_allclose(model.predict(data, verbose=0), direct, rtol=1e-4)


def a_weight_in_a_function():
    hidden = tf.Variable(1.0)
    scale = tfb.Inline(
        lambda x: x * hidden,
        lambda y: y / hidden,
        inverse_log_det_jacobian_fn=lambda y: -tf.math.log(hidden),
        forward_min_event_ndims=0,
    )
    model = tfpf.FlowModel(tfd.TransformedDistribution(flow(), scale))
    model.compile("adam")
    model.fit(X, verbose=0)


REFUSED = {
    "several tensors": (
        lambda: tfpf.FlowModel(JOINTS["Coroutine"]()),
        "event shape of one tensor, as `tfd.Blockwise",
    ),
    "a batch shape": (
        lambda: tfpf.FlowModel(tfd.Normal([0.0, 1.0], 1.0)),
        "must have no batch shape",
    ),
    "no cumulative density": (
        lambda: tfpf.FlowModel(tfd.QuantizedDistribution(flow())),
        "`tfd.QuantizedDistribution` needs single values",
    ),
    "several latents of a value": (
        lambda: tfpf.FlowModel(tfb.AbsoluteValue()(flow())),
        "one latent for a value",
    ),
    "a weight in a function": (a_weight_in_a_function, "list every weight"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_container_is_refused_in_one_sentence(name):
    call, sentence = REFUSED[name]
    with pytest.raises(ValueError, match=sentence) as caught:
        call()
    assert str(caught.value).startswith("Argument `")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["nice", "glow", "maf", "ffjord", "bnaf"])
def test_a_flow_is_not_built_while_a_function_is_traced(name):
    """Every trace would have weights of its own, which nothing trains."""

    @tfd.JointDistributionCoroutineAutoBatched
    def joint():
        z = yield getattr(tfpf, name)((2,))
        yield tfd.Normal(z[..., 0], 1.0)

    with pytest.raises(RuntimeError, match="build the flow outside of `tf.function`"):
        joint.sample(2)


def test_a_layer_builds_its_flow():
    """Keras builds layers outside of what it traces."""

    class Score(keras.Layer):
        def build(self, shape):
            self.flow = tfpf.FlowModel(tfpf.glow(shape[1:], steps=1, hidden_units=(4,)))

        def call(self, x):
            return self.flow(x)

    x = keras.Input((2,))
    model = keras.Model(x, Score()(x))
    assert model(X).shape == X.shape[:1]
    assert len(model.trainable_weights) == len(model.layers[-1].flow.trainable_weights)
