"""The flow over positions: laws with every kind of step, and causality."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_flows as tfpf

tfb = tfp.bijectors
T, D, H = 4, 2, 5


def mixture_step(dtype):
    net = keras.layers.Dense(3, dtype=dtype)
    return tfpf.text.ConditionalMixture(
        D, net, components=3, condition_shape=(H,), scale=0.5, dtype=dtype
    )


def spline_step(dtype):
    net = tfpf.nets.MADE((8,), dtype=dtype)
    return tfpf.MaskedAutoregressive(
        D, net, transform="spline", bins=4, condition_shape=(H,), dtype=dtype
    )


def chain_step(dtype):
    """A chain of which one part knows the past and another has a constant log-det."""
    net = tfpf.nets.MLP((6,), dtype=dtype)
    coupling = tfpf.AffineCoupling(
        tfpf.masks.half(D), net, condition_shape=(H,), dtype=dtype
    )
    return tfb.Chain([tfpf.ActNorm(D, dtype=dtype), coupling])


STEPS = {"mixture": mixture_step, "spline": spline_step, "chain": chain_step}


def causal(step, dtype="float64", units=(7, H)):
    net = tfpf.text.CausalLSTM(units, features=6, dtype=dtype)
    bijector = tfpf.text.Causal((T, D), STEPS[step](dtype), net)
    for k, weight in enumerate(bijector.trainable_variables):
        noise = tf.random.stateless_normal(weight.shape, [3, k], dtype=weight.dtype)
        weight.assign_add(0.2 * noise)
    return bijector


@pytest.mark.parametrize("step", STEPS)
def test_directions_are_inverse_and_log_dets_exact(step, jacobian_log_det):
    bijector = causal(step)
    x = np.random.default_rng(2).logistic(size=(3, T, D))
    y = bijector.forward(x)
    np.testing.assert_allclose(bijector.inverse(y + 0.0), x, atol=1e-9)
    fldj = bijector.forward_log_det_jacobian(x)
    ildj = bijector.inverse_log_det_jacobian(y + 0.0)
    np.testing.assert_allclose(ildj, -fldj, rtol=1e-9)
    np.testing.assert_allclose(jacobian_log_det(bijector.forward, x), fldj, rtol=1e-8)
    np.testing.assert_allclose(jacobian_log_det(bijector.inverse, y), ildj, rtol=1e-8)


@pytest.mark.slow
@pytest.mark.parametrize("step", STEPS)
def test_it_keeps_all_laws(step):
    x = np.random.default_rng(2).logistic(size=(3, T, D))
    report = tfpf.check_bijector(causal(step), x)
    assert report.ok, str(report)


@pytest.mark.parametrize("step", STEPS)
def test_latents_depend_on_no_later_vector(step):
    bijector = causal(step)
    y = np.random.default_rng(3).normal(size=(2, T, D))
    changed = y.copy()
    changed[:, 2] += 0.5
    x, other = (np.array(bijector.inverse(v)) for v in (y, changed))
    np.testing.assert_array_equal(x[:, :2], other[:, :2])
    # And they do depend on the earlier ones.
    assert np.all(np.abs(x[:, 2:] - other[:, 2:]).max(axis=-1) > 1e-6)
    again, back = (np.array(bijector.forward(v)) for v in (x, other))
    np.testing.assert_array_equal(again[:, :2], back[:, :2])
    np.testing.assert_allclose(back, changed, atol=1e-9)


def test_stepping_equals_the_whole_sequence():
    net = causal("spline").net
    v = tf.constant(np.random.default_rng(4).normal(size=(3, T, D)))
    states, before, found = net.start(3), tf.zeros([3, D], tf.float64), []
    for t in range(T):
        h, states = net.step(before, t, states)
        found.append(h)
        before = v[:, t]
    np.testing.assert_allclose(tf.stack(found, axis=1), net(v), atol=1e-12)
    # A vector of zeros in front is not the same as none.
    moved = tf.concat([tf.zeros([3, 1, D], tf.float64), v[:, :-1]], axis=1)
    assert np.abs(net(moved)[:, 1] - net(moved)[:, 0]).max() > 1e-3


def test_data_reach_what_waits_for_them():
    bijector = causal("chain")
    assert not bijector.bijector.bijectors[0].is_adapted
    y = 5.0 + 3.0 * np.random.default_rng(5).normal(size=(64, T, D))
    flow = tfp.distributions.TransformedDistribution(
        tfp.distributions.Sample(
            tfp.distributions.Normal(np.float64(0), np.float64(1)), [T, D]
        ),
        bijector,
    )
    tfpf.FlowModel(flow).adapt(y)
    actnorm = bijector.bijector.bijectors[0]
    normed = np.array(actnorm.inverse(y.reshape(-1, D)))
    np.testing.assert_allclose(normed.mean(axis=0), 0.0, atol=1e-6)
    np.testing.assert_allclose(normed.std(axis=0), 1.0, atol=1e-3)


def wrong_net():
    return tfpf.text.Causal((T, D), spline_step("float32"), tfpf.nets.MLP((H,)))


def wrong_units():
    net = tfpf.text.CausalLSTM((H + 1,))
    return tfpf.text.Causal((T, D), spline_step("float32"), net)


def wrong_step():
    return tfpf.text.Causal((T, D), tfpf.ActNorm(D), tfpf.text.CausalLSTM((H,)))


def wrong_batch():
    scale = tfp.bijectors.Scale(np.float32([[1.0], [2.0]]))
    step = tfp.bijectors.Chain([scale, spline_step("float32")])
    return tfpf.text.Causal((T, D), step, tfpf.text.CausalLSTM((H,)))


def wrong_shape():
    net = tfpf.text.CausalLSTM((H,))
    return tfpf.text.Causal((T,), spline_step("float32"), net)


@pytest.mark.parametrize(
    ("build", "error", "words"),
    [
        (wrong_net, TypeError, "must be a causal network"),
        (wrong_units, ValueError, "gives 6 values a position"),
        (wrong_step, ValueError, "with vectors for conditions"),
        (wrong_batch, ValueError, r"no batch of parameters.*shape \(2,\)"),
        (wrong_shape, ValueError, r"must be \(length, d\)"),
        (lambda: tfpf.text.CausalLSTM(()), ValueError, "`units`"),
        (lambda: tfpf.text.CausalLSTM((0,)), ValueError, "`units`"),
    ],
)
def test_wrong_arguments_are_named(build, error, words):
    with pytest.raises(error, match=words):
        build()


def test_wrong_sequences_are_named():
    with pytest.raises(ValueError, match=r"must have shape \[..., 4, 2\]"):
        causal("spline").inverse(np.zeros([2, 5, 2]))
