"""TFP's cache never lies; copies have weights of their own; joint distributions."""

import contextlib
import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_flows as tfpf
from tfp_flows.bijectors.tree import layers_in
from tfp_flows.internal import compat

tfb, tfd = tfp.bijectors, tfp.distributions


def step():
    coupling = tfpf.AffineCoupling(tfpf.masks.half(2), tfpf.nets.MLP((4,)))
    return tfb.Chain([tfpf.ActNorm(2), coupling])


def flow_of(bijector):
    base = tfd.Sample(tfd.Normal(0.0, 1.0), 2)
    return tfd.TransformedDistribution(base, bijector)


FLOWS = {
    "coupling": lambda: flow_of(step().bijectors[1]),
    "chain": lambda: flow_of(step()),
    "invert": lambda: flow_of(tfb.Invert(step())),
    "repeat": lambda: flow_of(tfpf.Repeat(step(), 2)),
    "scaled": lambda: flow_of(tfb.Chain([step(), tfb.Scale(tf.Variable([1.0, 2.0]))])),
}
X = np.random.default_rng(0).normal(size=(8, 2)).astype("float32")


def move(flow):
    for variable in flow.trainable_variables:
        variable.assign_add(0.2 * tf.ones_like(variable))


def gradients(flow, x):
    with tf.GradientTape() as tape:
        loss = -tf.reduce_mean(flow.log_prob(x))
    return tape.gradient(loss, flow.trainable_variables)


@pytest.mark.parametrize("name", FLOWS)
def test_held_latents_and_samples_do_not_come_back(name):
    flow = FLOWS[name]()
    x, samples = tf.constant(X), flow.sample(4, seed=(0, 1))
    held = [flow.bijector.inverse(x), flow.log_prob(x), flow.log_prob(samples)]
    for _ in range(2):  # a tape, before and after the weights have moved
        for y in (x, samples):
            held.append(flow.bijector.inverse(y))
            new = tf.identity(y)
            np.testing.assert_array_equal(flow.log_prob(y), flow.log_prob(new))
            np.testing.assert_array_equal(
                flow.bijector.inverse(y), flow.bijector.inverse(new)
            )
            for mine, expected in zip(
                gradients(flow, y), gradients(flow, new), strict=True
            ):
                np.testing.assert_allclose(mine, expected, atol=1e-5)
        move(flow)


def test_a_latent_from_outside_of_the_tape_does_not_come_back_in_a_function():
    flow = FLOWS["chain"]()

    @tf.function(jit_compile=True)
    def with_held(x):
        held = flow.bijector.inverse(x)
        return gradients(flow, x), held

    for mine, expected in zip(
        with_held(tf.constant(X))[0], gradients(flow, X), strict=True
    ):
        np.testing.assert_allclose(mine, expected, atol=1e-4)


def test_an_inner_tape_sees_the_weights_too():
    flow, x = FLOWS["chain"](), tf.constant(X)
    with tf.GradientTape() as outer:
        outer.watch(x)
        held = flow.bijector.inverse(x)
        inner = gradients(flow, x)
    assert held is not None
    assert not any(g is None for g in inner)


@pytest.mark.parametrize("made", ["without a tape", "in another tape", "inside"])
@pytest.mark.parametrize(
    ("name", "way"),
    [*((name, "eager") for name in FLOWS), ("repeat", "graph"), ("chain", "xla")],
)
def test_the_score_at_a_sample_is_that_at_its_value(name, made, way):
    flow = FLOWS[name]()
    move(flow)

    def scores(samples, latents):
        with tf.GradientTape(persistent=True) as tape:
            tape.watch((samples, latents))
            log_prob = flow.log_prob(samples)
            values = flow.bijector.forward(latents)
        return tape.gradient(log_prob, samples), tape.gradient(values, latents)

    def both():
        with (
            contextlib.nullcontext() if made == "without a tape" else tf.GradientTape()
        ):
            held = flow.sample(4, seed=(0, 1)), flow.bijector.inverse(tf.constant(X))
            copied = tuple(map(tf.identity, held))
            if made == "inside":
                return scores(*held), scores(*copied)
        return scores(*held), scores(*copied)

    run = both if way == "eager" else tf.function(both, jit_compile=way == "xla")
    for found, expected in zip(*run(), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


OUTER = {
    "one tape": lambda: [tf.GradientTape()],
    "a persistent tape": lambda: [tf.GradientTape(persistent=True)],
    "two tapes": lambda: [tf.GradientTape(), tf.GradientTape()],
    "forward mode": lambda: [tf.autodiff.ForwardAccumulator(tf.ones([2]), tf.ones(2))],
}
CONDITION = tf.constant(X[:, ::-1])


def frozen_posterior(tensor):
    """Returns a conditional flow without trainable weights, given a tensor."""
    flow = tfpf.real_nvp((2,), steps=2, hidden_units=(4,), condition_shape=(2,))
    move(flow)
    tfpf.FlowModel(flow).trainable = False
    return tfpf.condition(flow, tensor)


TAKEN = {
    "a weight": lambda _: FLOWS["chain"](),
    "a frozen flow's condition": frozen_posterior,
    "a tensor of TFP's": lambda c: flow_of(tfb.Chain([step(), tfb.Scale(tf.exp(c))])),
    "a tensor alone": lambda c: flow_of(tfb.Scale(c)),
}


@pytest.mark.parametrize("way", ["eager", "graph"])
@pytest.mark.parametrize("taken", TAKEN)
@pytest.mark.parametrize("outer", OUTER)
def test_what_an_inner_tape_asks_for_reaches_it(outer, taken, way):
    condition = tf.exp(CONDITION)
    flow = TAKEN[taken](condition)
    move(flow)
    direction = tf.ones_like(condition)

    def asked(x):
        with tf.GradientTape() as tape:
            tape.watch((x, condition))
            value = tf.reduce_sum(flow.log_prob(x))
        sources = [x, condition, *flow.trainable_variables]
        gradients = tape.gradient(value, sources, unconnected_gradients="zero")
        with tf.autodiff.ForwardAccumulator(condition, direction) as forward:
            value = flow.log_prob(x)
        return *gradients, forward.jvp(value, unconnected_gradients="zero")

    def both():
        with contextlib.ExitStack() as stack:
            for one in OUTER[outer]():
                stack.enter_context(one)
            x, sample = tf.constant(X), flow.sample(8, seed=(0, 1))
            held = flow.log_prob(x), flow.bijector.inverse(x), flow.log_prob(sample)
            found = [asked(x), asked(sample)]
        return found, [asked(tf.identity(x)), asked(tf.identity(sample))], held

    found, expected, _ = (both if way == "eager" else tf.function(both))()
    flat = map(tf.nest.flatten, (found, expected))
    for one, other in zip(*flat, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


class Shifted(keras.layers.Layer):
    """A masked network of one weight, for TFP's autoregressive flow."""

    def __init__(self):
        super().__init__()
        self.w = self.add_weight(shape=(), initializer="ones")

    def call(self, x):
        first = x[..., :1]
        none = tf.zeros_like(first)
        shift = tf.concat([none, self.w * first], -1)
        return tf.stack([shift, tf.zeros_like(shift)], -1)


class Scaled(tfpf.FlowBijector):
    """Scales by what the layers in a list give, or in a dictionary, or appended."""

    def __init__(self, kept):
        super().__init__(event_ndims=1)
        nets = [keras.layers.Dense(2), keras.layers.Dense(2)]
        for net in nets:
            net.build((None, 1))
        self.nets = {"dictionary": dict(enumerate(nets)), "list": nets}.get(kept, [])
        if kept == "appended":
            self.nets += nets

    def _scale(self):
        nets = self.nets.values() if isinstance(self.nets, dict) else self.nets
        return sum(net(tf.ones([1, 1]))[0] for net in nets)

    def _forward_and_log_det(self, x):
        return x * tf.exp(self._scale()), tf.reduce_sum(self._scale())

    def _inverse_and_log_det(self, y):
        return y * tf.exp(-self._scale()), -tf.reduce_sum(self._scale())


HOLDERS = {
    "TFP's": lambda: tfb.MaskedAutoregressiveFlow(Shifted()),
    "TFP's in a chain": lambda: tfb.Chain(
        [tfb.MaskedAutoregressiveFlow(Shifted()), tfpf.ActNorm(2)]
    ),
    **{f"a {k}": lambda k=k: Scaled(k) for k in ("list", "dictionary", "appended")},
}


@pytest.mark.parametrize("name", HOLDERS)
def test_weights_of_layers_wherever_a_bijector_holds_them(name):
    flow = flow_of(HOLDERS[name]())
    model = tfpf.FlowModel(flow)
    x = tf.constant(X)
    held = flow.bijector.inverse(x)
    model.set_weights([w + 0.5 for w in model.get_weights()])
    np.testing.assert_array_equal(flow.log_prob(x), flow.log_prob(tf.identity(x)))
    assert len(model.trainable_weights) == len(flow.trainable_variables)
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(model(x))
    assert None not in tape.gradient(loss, flow.trainable_variables)
    assert np.abs(held - flow.bijector.inverse(x)).max() > 0.1
    model.trainable = False
    assert not flow.trainable_variables


@pytest.mark.parametrize("persistent", [False, True])
@pytest.mark.parametrize("traced", [False, True])
def test_sampling_then_scoring_costs_one_pass(traced, persistent):
    flow = FLOWS["chain"]()

    def both():
        with tf.GradientTape(persistent=persistent) as tape:
            loss = tf.reduce_mean(flow.log_prob(flow.sample(4, seed=(0, 1))))
        return tape.gradient(loss, flow.trainable_variables)

    nets = [one for one in layers_in(flow) if isinstance(one, tfpf.nets.MLP)]
    with compat.counted_calls(nets) as calls:
        (tf.function(both) if traced else both)()
    assert list(calls.values()) == [1]


WAYS = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda flow: pickle.loads(pickle.dumps(flow)),
    "bijector": lambda flow: flow_of(copy.deepcopy(flow.bijector)),
    "model": lambda flow: copy.deepcopy(tfpf.FlowModel(flow)).distribution,
    "independent": lambda flow: copy.deepcopy(tfd.Independent(flow, 0)).distribution,
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", FLOWS)
def test_a_copy_has_weights_of_its_own(name, way):
    flow = FLOWS[name]()
    move(flow)
    before = flow.log_prob(X).numpy()
    twin = WAYS[way](flow)
    np.testing.assert_array_equal(twin.log_prob(X), before)
    assert len(twin.trainable_variables) == len(flow.trainable_variables)
    assert not any(g is None for g in gradients(twin, X))
    move(twin)
    np.testing.assert_array_equal(flow.log_prob(X), before)
    assert np.abs(twin.log_prob(X) - before).max() > 1e-3


def test_a_copy_of_a_frozen_part_is_frozen():
    flow = FLOWS["chain"]()
    layers_in(flow)[-1].trainable = False
    flags = [layer.trainable for layer in layers_in(copy.deepcopy(flow))]
    assert flags == [layer.trainable for layer in layers_in(flow)]


COPIES = {n: WAYS[n] for n in ("deepcopy", "pickle")}
SHARED = {
    "around": lambda: (
        f := FLOWS["repeat"](),
        tfd.TransformedDistribution(f, tfb.Exp()),
    ),
    "inside": lambda: (f := FLOWS["scaled"](), f.bijector),
    "conditions": lambda: [
        tfpf.condition(f, c)
        for f in [tfpf.nice((2,), hidden_units=(4,), condition_shape=(1,))]
        for c in ([1.0], [2.0])
    ],
    "variables": lambda: (f := FLOWS["repeat"](), f.trainable_variables),
    "variables before": lambda: ((f := FLOWS["repeat"]()).trainable_variables, f),
    "network": lambda: [
        tfpf.AdditiveCoupling(tfpf.masks.half(2, flip=flip), net)
        for net in [tfpf.nets.MLP((4,))]
        for flip in (False, True)
    ],
    "renamed": lambda: (b := tfpf.ActNorm(2), b.copy(name="other")),
    "base": lambda: (b := tfpf.bases.resampled(2, hidden_units=(4,)), trained(b)),
    "normal": lambda: (b := tfd.MultivariateNormalDiag(tf.Variable(X[0])), trained(b)),
}


def positive(flow):
    return tfd.TransformedDistribution(flow, tfb.Exp())


def trained(base):
    return tfd.TransformedDistribution(base, step())


def places(*parts):
    """Returns for each weight of the parts where it was first."""
    found = [v for part in parts for v in getattr(part, "variables", part)]
    return [next(i for i, v in enumerate(found) if v is one) for one in found]


@pytest.mark.parametrize("way", COPIES)
@pytest.mark.parametrize("name", SHARED)
def test_what_parts_share_their_copies_share(name, way):
    parts = SHARED[name]()
    twins = COPIES[way](parts)
    assert places(*twins) == places(*parts)
    apart = len(set(places(*parts)))
    assert len(set(places(*parts, *twins))) == 2 * apart
    if name == "inside":
        assert twins[0].bijector is twins[1]


class Own(tfpf.FlowBijector):
    """Is not registered with Keras."""

    def __init__(self, fold, **kwargs):
        super().__init__(event_ndims=1, **kwargs)
        self.fold, self.s = fold, self.add_weight((2,), name="s")

    def _forward_and_log_det(self, x):
        return x + self.fold(self.s), tf.zeros([])

    def _inverse_and_log_det(self, y):
        return y - self.fold(self.s), tf.zeros([])


def inline():
    return tfb.Inline(
        forward_fn=lambda x: x,
        inverse_fn=lambda y: y,
        inverse_log_det_jacobian_fn=lambda y: tf.zeros([]),
        forward_min_event_ndims=1,
    )


def encoded_by(activation):
    layers = [keras.Input((1,)), keras.layers.Dense(2, activation=activation)]
    options = {"condition_shape": (1,), "encoder": keras.Sequential(layers)}
    flow = tfpf.nice((2,), hidden_units=(4,), **options)
    return tfpf.condition(flow, [1.0])


FUNCTIONS = {
    "inline": lambda: tfd.TransformedDistribution(FLOWS["repeat"](), inline()),
    "activation": lambda: tfpf.maf((2,), hidden_units=(4,), activation=lambda v: v**2),
    "encoder": lambda: encoded_by(lambda v: v**2),
    "own": lambda: flow_of(Own(lambda s: 2.0 * s)),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_deepcopy_keeps_functions_and_needs_no_registry(name):
    flow = FUNCTIONS[name]()
    move(flow)
    twin = copy.deepcopy(flow)
    before = flow.log_prob(X).numpy()
    np.testing.assert_array_equal(twin.log_prob(X), before)
    move(twin)
    np.testing.assert_array_equal(flow.log_prob(X), before)
    assert np.abs(twin.log_prob(X) - before).max() > 1e-3
    with pytest.raises((pickle.PicklingError, AttributeError), match="Can't pickle"):
        pickle.dumps(flow)


def test_a_joint_distribution_of_functions_is_copied():
    flow = FLOWS["repeat"]()
    joint = tfd.JointDistributionSequential(
        [flow, lambda z: tfd.Normal(z[..., 0], 1.0)]
    )
    twin = copy.deepcopy(joint)
    move(twin)
    assert len(twin.trainable_variables) == len(flow.trainable_variables)
    draws = [one.sample(3, seed=(0, 1)) for one in (joint, twin)]
    assert np.abs(draws[0][0] - draws[1][0]).max() > 1e-3


def test_a_clone_is_fresh_in_its_base_too():
    base = tfd.MultivariateNormalDiag(tf.Variable([0.0, 0.0]), tf.Variable([1.0, 1.0]))
    model = tfpf.FlowModel(tfd.TransformedDistribution(base, step()))
    before = model.distribution.log_prob(X).numpy()
    clone = keras.models.clone_model(model)
    assert len(clone.trainable_variables) == len(model.trainable_variables)
    move(clone.distribution)
    np.testing.assert_array_equal(model.distribution.log_prob(X), before)


@pytest.mark.parametrize(
    "kind",
    [
        tfd.JointDistributionSequential,
        tfd.JointDistributionSequentialAutoBatched,
        tfd.JointDistributionNamed,
        tfd.JointDistributionNamedAutoBatched,
    ],
)
def test_flows_in_joint_distributions(kind):
    flow = FLOWS["chain"]()
    parts = [flow, lambda z: tfd.Independent(tfd.Normal(z, 1.0), 1)]
    if "Named" in kind.__name__:
        parts = dict(zip("zx", parts, strict=True))
    joint = kind(parts)
    draws = joint.sample(5, seed=1)
    z, x = draws if isinstance(draws, list | tuple) else (draws["z"], draws["x"])
    expected = flow.log_prob(tf.identity(z)) + parts_log_prob(z, x)
    np.testing.assert_allclose(joint.log_prob(draws), expected, atol=1e-4)
    pinned = joint.experimental_pin(x=x[0]) if isinstance(parts, dict) else None
    if pinned is not None:
        assert pinned.unnormalized_log_prob(z=z[0]).shape == ()


def parts_log_prob(z, x):
    return tfd.Independent(tfd.Normal(z, 1.0), 1).log_prob(x)


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("name", FLOWS)
def test_a_graph_sees_what_it_has_assigned(name, jit):
    """A value of before is that of other weights, in a loop and after one, too."""
    flow = FLOWS[name]()
    flow.bijector.inverse(X)

    def moved(_, x):
        before = flow.log_prob(x)
        move(flow)
        return tf.reduce_max(tf.abs(flow.log_prob(x) - before)), x

    @tf.function(jit_compile=jit)
    def run(x):
        first = flow.log_prob(x)
        move(flow)
        after = flow.log_prob(x)
        steps = tf.while_loop(lambda *_: True, moved, (0.0, x), maximum_iterations=1)
        return first, after, steps[0], flow.log_prob(x)

    first, after, change, last = run(tf.constant(X))
    assert np.abs(first - after).max() > 1e-3
    assert change > 1e-3
    np.testing.assert_allclose(last, flow.log_prob(tf.identity(X)), atol=1e-4)


@pytest.mark.parametrize(
    "kind", [tf.Variable, keras.Variable, np.array], ids=["tf", "keras", "numpy"]
)
def test_conditions_that_change(kind):
    net, half = tfpf.nets.MLP((4,)), tfpf.masks.half(2)
    bijector = tfpf.AffineCoupling(half, net, condition_shape=(2,))
    for variable in bijector.trainable_variables:
        variable.assign_add(0.3 * tf.ones_like(variable))
    x, given = tf.constant(X), kind(np.ones((8, 2), "float32"))
    held = [bijector.inverse(x, condition=given)]
    if kind is np.array:
        given[:] = 2.0
    else:
        given.assign(2.0 * tf.ones([8, 2]))
    held.append(bijector.inverse(x, condition=given))
    expected = bijector.inverse(tf.identity(x), condition=2.0 * tf.ones([8, 2]))
    np.testing.assert_array_equal(held[-1], expected)
    assert np.abs(held[0] - held[1]).max() > 1e-3


@pytest.mark.parametrize("name", ["chain", "repeat"])
def test_values_of_a_scope_are_not_those_of_the_weights(name):
    model = tfpf.FlowModel(FLOWS[name]())
    x = tf.constant(X)
    held = model.distribution.bijector.inverse(x)
    values = [variable.value + 0.3 for variable in model.trainable_variables]
    others = [variable.value for variable in model.non_trainable_variables]
    found, _ = model.stateless_call(values, others, x)
    for variable, value in zip(model.trainable_variables, values, strict=True):
        variable.assign(value)
    np.testing.assert_allclose(found, model.predict(X, verbose=0), atol=1e-5)
    del held


@pytest.mark.parametrize("make", [tfpf.maf, tfpf.residual_flow])
def test_an_open_scope_is_left_again(make):
    """By a gradient inside of it, and by a forward-mode derivative, which is none."""
    flow, x = make((2,), hidden_units=(4,)), tf.constant(X)
    with keras.StatelessScope(), tf.GradientTape() as tape:
        tape.watch(x)
        tape.gradient(flow.bijector.forward(x), x)
    with (
        pytest.raises(NotImplementedError, match="ForwardAccumulator"),
        tf.autodiff.ForwardAccumulator(x, x),
    ):
        flow.bijector.forward(x)
    assert tfpf.real_nvp((2,), hidden_units=(4,)).trainable_variables


def test_threads_do_not_share_values():
    flow, x = FLOWS["chain"](), tf.constant(X)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: flow.log_prob(x).numpy(), range(100)))
    np.testing.assert_array_equal(np.stack(found), found[:1] * 100)
