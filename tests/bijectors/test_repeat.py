"""`Repeat`: many copies are what as many separate steps would be."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_flows as tfpf
from tfp_flows.testing.subject import perturb

tfb, tfd = tfp.bijectors, tfp.distributions


def make_step(dropout=0.0, condition_shape=None):
    return tfb.Chain(
        [
            tfpf.ActNorm(3, dtype="float64"),
            tfpf.InvertibleConv1x1(3, dtype="float64"),
            tfpf.AffineCoupling(
                tfpf.masks.half(3),
                tfpf.nets.MLP((8,), dropout=dropout, dtype="float64"),
                condition_shape=condition_shape,
                dtype="float64",
            ),
            tfb.Permute([2, 0, 1]),
        ]
    )


perturbed = functools.partial(perturb, spread=0.2)


@pytest.fixture(params=["unrolled", "loop", "reversible"])
def repeat(request):
    keras.utils.set_random_seed(0)
    return perturbed(tfpf.Repeat(make_step(), 4, mode=request.param))


Y = np.random.default_rng(1).normal(size=(5, 3))


def test_copies_equal_separate_steps(repeat):
    chain = tfb.Chain(repeat.steps())
    np.testing.assert_allclose(repeat.inverse(Y), chain.inverse(Y), rtol=1e-12)
    np.testing.assert_allclose(
        repeat.inverse_log_det_jacobian(Y),
        chain.inverse_log_det_jacobian(Y, 1),
        rtol=1e-12,
    )


def test_round_trip_and_gradients(repeat):
    x = repeat.inverse(Y)
    np.testing.assert_allclose(repeat.forward(tf.identity(x)), Y, atol=1e-12)
    with tf.GradientTape() as tape:
        z, ildj = repeat.inverse(Y + 0), repeat.inverse_log_det_jacobian(Y)
        loss = tf.reduce_sum(z**2) - tf.reduce_sum(ildj)
    gradients = tape.gradient(loss, repeat.trainable_variables)
    for gradient in gradients:
        # Every copy of every weight, not only some slice of the stack.
        per_copy = tf.reduce_max(tf.abs(tf.reshape(gradient, [4, -1])), axis=1)
        assert np.all(per_copy.numpy() > 0)


@pytest.mark.parametrize("jit", [False, True])
def test_graph_equals_eager(repeat, jit):
    f = tf.function(lambda y: (repeat.inverse(y), repeat.forward(y)), jit_compile=jit)
    for traced, eager in zip(
        f(tf.constant(Y)), (repeat.inverse(Y), repeat.forward(Y)), strict=True
    ):
        np.testing.assert_allclose(traced, eager, rtol=1e-11, atol=1e-12)


C = np.random.default_rng(2).normal(size=(5, 2))


def values_and_gradients(repeat, y, condition):
    with tf.GradientTape() as tape:
        tape.watch([y, condition])
        x = repeat.inverse(y, condition=condition)
        ildj = repeat.inverse_log_det_jacobian(y, 1, condition=condition)
        loss = tf.reduce_sum(x**2) - tf.reduce_sum(ildj * tf.range(5, dtype=y.dtype))
    sources = [y, condition, *repeat.trainable_variables]
    return [loss, *tape.gradient(loss, sources)]


@pytest.mark.parametrize("mode", ["loop", "reversible"])
@pytest.mark.parametrize("how", ["eager", "graph", "xla"])
def test_gradients_equal_those_of_unrolled_copies(mode, how):
    results = []
    for each in ("unrolled", mode):
        keras.utils.set_random_seed(0)
        repeat = perturbed(tfpf.Repeat(make_step(condition_shape=(2,)), 6, mode=each))

        def f(y, c, repeat=repeat):
            return values_and_gradients(repeat, y, c)

        if how != "eager" and each != "unrolled":
            f = tf.function(f, jit_compile=how == "xla")
        results.append(f(tf.constant(Y), tf.constant(C)))
    for expected, found in zip(*results, strict=True):
        scale = np.abs(expected).max()
        np.testing.assert_allclose(found, expected, atol=1e-9 * scale)


@pytest.mark.parametrize("mode", ["loop", "reversible"])
def test_loops_of_loops_whose_log_dets_are_constants(mode):
    scale = tfb.Scale(np.array([1.5, 2.0]))
    repeat = tfpf.Repeat(tfpf.Repeat(scale, 2, mode=mode), 3, mode=mode)
    score = tf.function(lambda y: repeat.inverse_log_det_jacobian(y, 1))
    for y in (np.zeros(2), np.zeros((3, 2))):
        np.testing.assert_allclose(score(tf.constant(y)), -6.0 * np.log(3.0))


def test_forward_mode_goes_through_a_reversible_gradient():
    """Hessian-vector products by forward-over-reverse are those of nested tapes."""
    flow = tfpf.real_nvp(
        (2,), steps=4, hidden_units=(4,), dtype="float64", mode="reversible"
    )
    perturb(flow)
    z, v = (
        tf.constant([[0.4, -0.9]], tf.float64),
        tf.constant([[0.3, -0.7]], tf.float64),
    )

    def slope():
        with tf.GradientTape() as tape:
            tape.watch(z)
            value = flow.log_prob(tf.identity(z))
        return tape.gradient(value, z)

    with tf.autodiff.ForwardAccumulator(z, v) as forward:
        found = forward.jvp(slope())
    with tf.GradientTape() as tape:
        tape.watch(z)
        along = tf.reduce_sum(v * slope())
    np.testing.assert_allclose(found, tape.gradient(along, z), rtol=1e-9)


def test_reversible_gradients_in_float32():
    results = []
    for mode in ("unrolled", "reversible"):
        keras.utils.set_random_seed(0)
        flow = tfpf.real_nvp((4,), couplings=16, hidden_units=(16,), mode=mode)
        perturbed(flow.bijector.bijectors[0])
        y = np.random.default_rng(3).normal(size=(32, 4)).astype("float32")
        with tf.GradientTape() as tape:
            loss = -tf.reduce_mean(flow.log_prob(y))
        results.append(tape.gradient(loss, flow.trainable_variables))
    for expected, found in zip(*results, strict=True):
        error = np.linalg.norm(expected - found) / np.linalg.norm(expected)
        assert error < 1e-3


def test_drifted_inputs_fall_back_to_ordinary_gradients():
    """A shift of 1e9 in float32 loses the value: it cannot be run backwards."""

    def coupling(flip):
        mask = tfpf.masks.half(2, flip)
        return tfpf.AffineCoupling(mask, tfpf.nets.MLP((4,), activation="tanh"))

    results = []
    for mode in ("unrolled", "reversible"):
        keras.utils.set_random_seed(0)
        step = tfb.Chain([coupling(False), coupling(True)])
        repeat = perturbed(tfpf.Repeat(step, 1, mode=mode))
        second_head = [v for v in repeat.trainable_variables if v.shape == (1, 2)][-1]
        second_head.assign([[1e9, 0.0]])
        with tf.GradientTape() as tape:
            x = repeat.inverse(tf.constant([[0.5, 1.0], [0.3, -2.0]]))
            loss = tf.reduce_sum(x[:, 1] ** 2)
        first_kernel = repeat.trainable_variables[0]
        results.append(tape.gradient(loss, first_kernel))
    np.testing.assert_allclose(results[0], results[1], rtol=1e-4)


def test_every_copy_has_its_own_draw():
    repeat = tfpf.Repeat(make_step(), 3)
    kernels = [v for v in repeat.trainable_variables if v.shape[1:] == (1, 8)]
    assert len(kernels) == 1
    a, b, c = kernels[0].numpy()
    assert np.abs(a - b).max() > 1e-3
    assert np.abs(b - c).max() > 1e-3


def test_only_the_stacks_are_tracked():
    repeat = tfpf.Repeat(make_step(), 5)
    assert all(v.shape[0] == 5 for v in repeat.variables)
    base = tfd.Sample(tfd.Normal(tf.zeros([], tf.float64), 1.0), 3)
    flow = tfd.TransformedDistribution(base, repeat)
    assert len(flow.trainable_variables) == len(repeat.trainable_variables) == 7


def test_adapt_normalizes_every_copy():
    keras.utils.set_random_seed(0)
    repeat = perturbed(tfpf.Repeat(make_step(), 3))
    assert not repeat.is_adapted
    y = np.random.default_rng(2).normal(5.0, 3.0, (200, 3))
    latents = repeat.adapt(y)
    assert repeat.is_adapted
    np.testing.assert_allclose(latents, repeat.inverse(y), rtol=1e-12)
    value = tf.constant(y)
    for step in repeat.steps():
        normalized = step.bijectors[0].inverse(value)
        np.testing.assert_allclose(np.mean(normalized, 0), 0.0, atol=1e-12)
        np.testing.assert_allclose(np.std(normalized, 0), 1.0, atol=1e-9)
        value = step.inverse(value)


def test_dropout_keeps_a_state_for_each_copy():
    repeat = tfpf.Repeat(make_step(dropout=0.5), 3)
    perturbed(repeat)
    state = next(v for v in repeat.variables if "seed" in v.name)
    assert len({tuple(row) for row in state.numpy()}) == 3
    before = state.numpy().copy()

    class Training(keras.layers.Layer):
        def call(self, x):
            return repeat.inverse(x)

    layer = Training(dtype="float64")
    layer.built = True
    first, second = layer(Y, training=True), layer(Y + 0, training=True)
    assert np.abs(first - second).max() > 1e-6
    assert np.all(np.any(state.numpy() != before, axis=1))
    np.testing.assert_array_equal(layer(Y + 0), layer(Y + 0))
    repeat = tfpf.Repeat(make_step(dropout=0.5), 2, mode="loop")
    with pytest.raises(ValueError, match="`mode` must be 'unrolled'"):
        layer(Y + 0, training=True)


def test_conditions_reach_every_copy(repeat):
    conditional = perturbed(
        tfpf.Repeat(make_step(condition_shape=(2,)), 3, mode=repeat._mode)
    )
    assert conditional.condition_shape == (2,)
    zero = conditional.inverse(Y, condition=np.zeros((5, 2)))
    one = conditional.inverse(Y, condition=np.ones((5, 2)))
    assert np.abs(zero - one).max() > 1e-3


def test_nested_repeats():
    keras.utils.set_random_seed(0)
    nested = perturbed(tfpf.Repeat(tfpf.Repeat(make_step(), 2), 3))
    x = nested.inverse(Y)
    np.testing.assert_allclose(nested.forward(tf.identity(x)), Y, atol=1e-11)
    assert all(v.shape[:2] == (3, 2) for v in nested.variables)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: tfpf.Repeat("step", 2), "`step` must be a bijector"),
        (lambda: tfpf.Repeat(tfb.Exp(), 0), "`n` must be an integer of at least 1"),
        (lambda: tfpf.Repeat(tfb.Exp(), 2, mode="fast"), "`mode` must be one of"),
        (
            lambda: tfpf.Repeat(tfb.Scale(tf.Variable(2.0, name="factor")), 2),
            "raw variable 'factor",
        ),
        (
            lambda: tfpf.Repeat(tfb.Reshape([2, 2], event_shape_in=[4]), 2),
            "rank that it takes",
        ),
    ],
)
def test_wrong_arguments_are_named(make, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make()


@pytest.mark.parametrize("mode", ["unrolled", "loop", "reversible"])
@pytest.mark.parametrize("part", [tfb.Scale, tfb.Shift])
def test_a_batch_of_parameters_of_tfp_is_one_of_the_whole(mode, part):
    values = np.array([[1.0], [2.0], [10.0]])
    base = tfd.Sample(tfd.Normal(tf.zeros([], tf.float64), 1.0), 3)

    def flow(values):
        keras.utils.set_random_seed(0)
        step = tfb.Chain([part(values), *make_step().bijectors])
        repeat = perturbed(tfpf.Repeat(step, 2, mode=mode))
        return tfd.TransformedDistribution(base, repeat)

    many, single = flow(values), [flow(value) for value in values]
    assert many.batch_shape == tuple(many.batch_shape_tensor()) == (3,)
    x = many.sample(4, seed=(0, 1))
    assert x.shape == (4, 3, 3)
    expected = [one.log_prob(x[:, k]) for k, one in enumerate(single)]
    np.testing.assert_allclose(many.log_prob(x), np.stack(expected, 1), rtol=1e-10)
    expected = [one.log_prob(Y[0]) for one in single]
    for log_prob in (many.log_prob, tf.function(many.log_prob)):
        np.testing.assert_allclose(log_prob(tf.constant(Y[0])), expected, rtol=1e-10)
    with pytest.raises(NotImplementedError, match="has no slices.*Received"):
        many[0]


def test_an_entropy_is_that_of_the_chain():
    parts = [tfb.Scale([[1.0], [2.0], [10.0]]), tfpf.ActNorm(2)]
    base = tfd.Sample(tfd.Normal(0.0, 1.0), 2)
    chain, repeat = tfb.Chain(parts), tfpf.Repeat(tfb.Chain(parts), 1)
    expected, found = (
        tfd.TransformedDistribution(base, one).entropy() for one in (chain, repeat)
    )
    np.testing.assert_allclose(found, expected, rtol=1e-6)
