"""`FlowBijector`: one conditioner call, honest caches, tracked weights."""

import gc

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_flows as tfpf
from tfp_flows.bijectors import chain
from tfp_flows.bijectors.tree import clear_caches

tfb, tfd = tfp.bijectors, tfp.distributions


class CountingNet(keras.layers.Layer):
    """A linear conditioner that counts how often it is called or traced."""

    def __init__(self, outputs):
        super().__init__()
        self.dense = keras.layers.Dense(outputs)
        self.calls = 0

    def build(self, shape):
        self.dense.build(shape)

    def compute_output_shape(self, shape):
        return (*shape[:-1], self.dense.units)

    def call(self, inputs):
        self.calls += 1
        return self.dense(inputs)


@pytest.fixture
def counted():
    net = CountingNet(4)
    bijector = tfpf.AffineCoupling(tfpf.masks.half(4), net)
    net.calls = 0
    return net, bijector


def flow_of(bijector):
    return tfd.TransformedDistribution(tfd.Sample(tfd.Normal(0.0, 1.0), [4]), bijector)


@pytest.mark.parametrize("wrap", [lambda b: b, lambda b: tfb.Chain([b, tfb.Tanh()])])
def test_log_prob_calls_the_conditioner_once(counted, wrap):
    net, bijector = counted
    flow = flow_of(wrap(bijector))
    x = tf.ones([3, 4])
    flow.log_prob(x)
    assert net.calls == 1
    tf.function(flow.log_prob)(x + 0)
    assert net.calls == 2


def test_sample_and_log_prob_call_the_conditioner_once(counted):
    net, bijector = counted
    flow = flow_of(bijector)
    flow.experimental_sample_and_log_prob(3, seed=1)
    assert net.calls == 1
    sample = flow.sample(3, seed=2)
    flow.log_prob(sample)  # the latents of a sample are remembered
    assert net.calls == 2


def test_log_det_alone_in_a_traced_chain_calls_the_conditioner_once(counted):
    net, bijector = counted
    chain = tfb.Chain([bijector, tfb.Shift(1.0)])
    tf.function(lambda y: chain.inverse_log_det_jacobian(y, 1))(tf.ones([3, 4]))
    assert net.calls == 1


def test_log_det_of_a_held_input_follows_the_weights(counted):
    net, bijector = counted
    y = tf.ones([3, 4])
    before = bijector.inverse_log_det_jacobian(y)
    net.dense.kernel.assign(net.dense.kernel * 2.0)
    gc.collect()
    after = bijector.inverse_log_det_jacobian(y)
    assert np.abs(before - after).max() > 1e-3


def test_a_held_latent_is_recomputed_after_the_caches_are_cleared(counted):
    net, bijector = counted
    chain = tfb.Chain([bijector])
    y = tf.ones([3, 4])
    before = chain.inverse(y)
    net.dense.kernel.assign(net.dense.kernel * 2.0)
    clear_caches(chain)
    assert np.abs(before - chain.inverse(y)).max() > 1e-3


def test_a_traced_value_never_leaks_into_eager_code(counted):
    _, bijector = counted
    y = tf.ones([3, 4])
    kept_alive = []

    @tf.function
    def f():
        kept_alive.append(bijector.inverse(y))
        return kept_alive[-1]

    np.testing.assert_array_equal(f(), bijector.inverse(y))
    assert hasattr(bijector.inverse(y), "numpy")


def test_weights_are_listed_as_tf_variables_at_every_level(counted):
    net, bijector = counted
    expected = {id(v._value) for v in net.trainable_variables}
    for owner in (bijector, tfb.Chain([bijector]), flow_of(bijector)):
        assert {id(v) for v in owner.trainable_variables} == expected
        assert all(isinstance(v, tf.Variable) for v in owner.variables)


def test_a_plain_tensorflow_loop_trains_a_flow():
    keras.utils.set_random_seed(0)
    flow = tfpf.real_nvp((2,), couplings=2, hidden_units=(16,))
    x = np.random.default_rng(0).normal(3.0, 0.5, (256, 2)).astype("float32")
    optimizer = keras.optimizers.Adam(0.05)
    # TFP's own minimizer, with a Keras optimizer and TFP's list of variables.
    losses = tfp.math.minimize(
        lambda: -tf.reduce_mean(flow.log_prob(x)),
        num_steps=40,
        optimizer=optimizer,
        trainable_variables=flow.trainable_variables,
    )
    assert losses[-1] < losses[0] - 2.0


def test_copy_shares_weights_and_config_builds_fresh_ones():
    bijector = tfpf.ActNorm(3, name="first")
    copied = bijector.copy(name="second")
    assert copied.name == "second"
    assert copied.trainable_variables[0] is bijector.trainable_variables[0]
    config = bijector.get_config()
    assert config == {
        "channels": 3,
        "epsilon": 0.0,
        "trainable": True,
        "dtype": "float32",
        "validate_args": False,
        "name": "first",
    }
    fresh = tfpf.ActNorm.from_config(config)
    assert fresh.trainable_variables[0] is not bijector.trainable_variables[0]


def test_copies_keep_their_dtype_whatever_the_default_is_then():
    keras.config.set_floatx("float64")
    bijector = tfpf.ActNorm(2)
    keras.config.set_floatx("float32")
    assert bijector.copy(name="second").dtype == tf.float64
    assert tfpf.ActNorm.from_config(bijector.get_config()).dtype == tf.float64


def test_equality_is_identity():
    a, b = tfpf.ActNorm(2), tfpf.ActNorm(2)
    assert a == a
    assert a != b
    assert len({a, b}) == 2


def test_validate_args_refuses_non_finite_outputs():
    bijector = tfpf.ActNorm(2, validate_args=True)
    with pytest.raises(tf.errors.InvalidArgumentError, match="ActNorm 'act_norm'"):
        bijector.inverse([[np.nan, 1.0]])


@pytest.mark.parametrize(
    ("make", "argument"),
    [
        (lambda: tfpf.ActNorm(0), "`channels`"),
        (lambda: tfpf.ActNorm(2, dtype="int32"), "`dtype`"),
        (lambda: tfpf.ActNorm(2, dtype=tf.bfloat16), "`dtype`.*network_precision"),
        (lambda: tfpf.real_nvp((2,), dtype="mixed_float16"), "`dtype`.*float64"),
        (lambda: tfpf.InvertibleConv1x1(2, kind="qr"), "`kind`"),
        (lambda: tfpf.AffineCoupling("half", tfpf.nets.MLP()), "`mask`"),
        (lambda: tfpf.AffineCoupling(tfpf.masks.half(2), "mlp"), "`conditioner`"),
        (
            lambda: tfpf.AffineCoupling(tfpf.masks.half(2), keras.layers.Dense(3)),
            "`conditioner`",
        ),
        (
            lambda: tfpf.AffineCoupling(
                tfpf.masks.half(2), tfpf.nets.MLP(), log_scale="cube"
            ),
            "`log_scale`",
        ),
        (lambda: tfpf.nets.MLP(hidden_units=()), "`hidden_units`"),
        (lambda: tfpf.nets.MLP(dropout=1.0), "`dropout`"),
        (lambda: tfpf.masks.half(1), "at least 2 values"),
        (lambda: tfpf.masks.checkerboard((3, 4, 1)), "`event_shape`"),
    ],
)
def test_wrong_arguments_are_named(make, argument):
    with pytest.raises((ValueError, TypeError), match=argument) as caught:
        make()
    assert "Received" in str(caught.value)


def test_wrong_width_is_named():
    with pytest.raises(ValueError, match="expected 3 channels"):
        tfpf.ActNorm(3).forward(tf.ones([2, 4]))
    coupling = tfpf.AdditiveCoupling(tfpf.masks.half(4), tfpf.nets.MLP((4,)))
    with pytest.raises(ValueError, match=r"must have shape \[..., 4\]"):
        coupling.inverse(tf.ones([2, 3]))


def test_a_condition_is_neither_missed_nor_ignored():
    mask = tfpf.masks.half(2)
    conditional = tfpf.AdditiveCoupling(mask, tfpf.nets.MLP((4,)), condition_shape=(3,))
    with pytest.raises(ValueError, match="needs a `condition`"):
        conditional.forward(tf.ones([2, 2]))
    with pytest.raises(ValueError, match="takes no `condition`"):
        tfpf.ActNorm(2).forward(tf.ones([2, 2]), condition=tf.ones([2, 3]))


def test_paired_walk_equals_tfp_on_nested_containers():
    keras.utils.set_random_seed(1)
    inner = tfb.Chain([tfpf.InvertibleConv1x1(4), tfb.Scale(2.0)])
    bijector = tfb.Chain(
        [tfb.Invert(tfb.Softplus()), tfb.Reshape([2, 2], event_shape_in=[4]), inner]
    )
    y = np.random.default_rng(0).normal(size=(5, 2, 2)).astype("float32")
    x, ildj = chain.inverse_and_log_det(bijector, y, 2)
    np.testing.assert_allclose(x, bijector.inverse(y), rtol=1e-6)
    expected = bijector.inverse_log_det_jacobian(y, 2)
    np.testing.assert_allclose(ildj, expected, rtol=1e-5)
    y_again, fldj = chain.forward_and_log_det(bijector, x, 1)
    np.testing.assert_allclose(y_again, y, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(fldj, -expected, rtol=1e-4)


@pytest.mark.parametrize(
    "make",
    [
        lambda **kwargs: tfpf.glow((4, 4, 2), levels=1, steps=1, **kwargs),
        lambda **kwargs: tfpf.real_nvp((4, 4, 1), **kwargs),
        lambda **kwargs: tfpf.tarflow((4, 4, 1), patch=2, **kwargs),
        lambda **kwargs: tfpf.maf((3,), **kwargs),
    ],
    ids=["glow", "real_nvp", "tarflow", "maf"],
)
def test_no_rows_have_the_shapes_of_some(make):
    flow = make(condition_shape=(2,))
    shape = tuple(flow.event_shape)
    bound = tfpf.condition(flow, np.zeros((0, 2), "float32"))
    assert bound.log_prob(np.zeros((0, *shape), "float32")).shape == (0,)
    assert bound.sample().shape == (0, *shape)
    one = tfpf.condition(flow, np.zeros(2, "float32"))
    assert one.log_prob(np.zeros((3, 0, *shape), "float32")).shape == (3, 0)
    assert one.sample(0).shape == (0, *shape)


def test_the_default_dtype_is_that_of_kerass_policy():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float64")
    try:
        flow = tfpf.real_nvp((2,), steps=2, hidden_units=(4,))
    finally:
        keras.config.set_dtype_policy(before)
    assert {flow.dtype, *(w.dtype for w in flow.trainable_variables)} == {tf.float64}
