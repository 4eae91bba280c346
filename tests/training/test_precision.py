"""Mixed precision: loss scaling, saving in every policy, switches of speed."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_flows as tfpf

tfb, tfd = tfp.bijectors, tfp.distributions

X = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")
POLICIES = ("float32", "float64", "mixed_bfloat16", "mixed_float16")
MIXED = ("mixed_bfloat16", "mixed_float16")


def built(policy, make):
    if policy == "float64":
        return make(dtype="float64")
    with tfpf.network_precision(policy):
        return make()


def small(**k):
    return tfpf.glow((4,), steps=2, hidden_units=(8,), **k)


# Loss scaling.


def scaled_model(initial_scale):
    flow = built("mixed_float16", small)
    model = tfpf.FlowModel(flow)
    inner = tfpf.optimizer(0.01)
    model.compile(optimizer=keras.optimizers.LossScaleOptimizer(inner, initial_scale))
    model.adapt(X)
    return model


def test_compile_scales_the_loss_under_float16_only():
    for policy in ("float32", *MIXED):
        model = tfpf.FlowModel(built(policy, small))
        model.compile(optimizer=tfpf.optimizer())
        scaled = isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
        assert scaled == (policy == "mixed_float16")
        assert model.dtype_policy.name == policy


def test_a_step_that_overflows_is_skipped_and_training_goes_on():
    """The scaled gradients overflow in float16; the loss itself is finite."""
    model = scaled_model(initial_scale=2.0**40)
    before = [np.array(w) for w in model.trainable_weights]
    history = model.fit(X, batch_size=64, verbose=0).history
    assert np.isfinite(history["loss"][0])
    for weight, value in zip(model.trainable_weights, before, strict=True):
        np.testing.assert_array_equal(weight, value)
    assert int(model.optimizer.inner_optimizer.iterations) == 0
    assert float(model.optimizer.dynamic_scale) == 2.0**39

    losses = model.fit(X, batch_size=64, epochs=60, verbose=0).history["loss"]
    assert np.all(np.isfinite(losses))
    assert losses[-1] < losses[0]
    assert int(model.optimizer.inner_optimizer.iterations) > 0
    assert float(model.optimizer.dynamic_scale) < 2.0**39


def test_a_loss_that_is_not_finite_still_stops():
    model = scaled_model(initial_scale=2.0**10)
    bad = X.copy()
    bad[3] = np.nan
    with pytest.raises(FloatingPointError, match="data itself is not finite"):
        model.fit(bad, batch_size=64, verbose=0)


@pytest.mark.parametrize("policy", MIXED)
def test_flow_arithmetic_stays_in_float32(policy):
    """Only the networks round: the flow of rounded networks inverts exactly."""
    flow = built(policy, small)
    for variable in flow.trainable_variables:
        variable.assign_add(0.1 * tf.random.stateless_normal(variable.shape, [1, 2]))
    z = flow.bijector.inverse(tf.constant(X))
    assert z.dtype == tf.float32
    np.testing.assert_allclose(flow.bijector.forward(tf.identity(z)), X, atol=1e-5)
    exact = built("float32", small)
    for a, b in zip(exact.variables, flow.variables, strict=True):
        a.assign(b)
    difference = np.abs(exact.log_prob(X) - flow.log_prob(X))
    assert 1e-5 < difference.max() < 1.0


# Saving.


def chain(dtype="float32"):
    """What no architecture below holds."""
    zero, one = (tf.constant(value, dtype) for value in (0.0, 1.0))
    parts = [
        part(4, dtype=dtype)
        for part in (
            tfpf.BatchNorm,
            tfpf.Linear,
            tfpf.LeakyReLU,
            tfpf.SinhArcsinh,
            tfpf.Planar,
            tfpf.Radial,
        )
    ]
    base = tfd.Sample(tfd.Normal(zero, one), 4)
    return tfd.TransformedDistribution(base, tfb.Chain(parts))


FLOWS = {
    "nice": lambda **k: tfpf.nice((4,), couplings=2, hidden_units=(6,), **k),
    "real_nvp": lambda **k: tfpf.real_nvp(
        (4,), couplings=2, hidden_units=(6,), dropout=0.1, **k
    ),
    "glow": small,
    "spline": lambda **k: tfpf.spline_flow(
        (4,), couplings=2, bins=4, hidden_units=(6,), **k
    ),
    "maf": lambda **k: tfpf.maf((4,), layers=2, hidden_units=(6,), **k),
    "ffjord": lambda **k: tfpf.ffjord(
        (4,), hidden_units=(6,), solver=tfpf.FixedStep(steps=2), **k
    ),
    "glow image": lambda **k: tfpf.glow(
        (4, 4, 1), levels=2, steps=1, hidden_channels=4, **k
    ),
    "real_nvp image": lambda **k: tfpf.real_nvp(
        (4, 4, 1), levels=2, blocks=1, hidden_channels=4, **k
    ),
    "chain": chain,
}


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(n, marks=pytest.mark.slow if n.endswith("image") else [])
        for n in FLOWS
    ],
)
def test_log_prob_is_bit_equal_after_loading(name, policy, tmp_path):
    flow = built(policy, FLOWS[name])
    rng = np.random.default_rng(1)
    for variable in flow.trainable_variables:
        variable.assign_add(
            tf.cast(0.1 * rng.normal(size=variable.shape), variable.dtype)
        )
    tfpf.save_distribution(flow, tmp_path / "flow.keras")
    # Loaded where nobody has set a policy: the file says it.
    loaded = tfpf.load_distribution(tmp_path / "flow.keras")
    x = tf.constant(rng.normal(size=(8, *flow.event_shape)), flow.dtype)
    np.testing.assert_array_equal(flow.log_prob(x), loaded.log_prob(x))
    model = tfpf.FlowModel(loaded)
    if name != "chain":
        assert model.dtype_policy.name == ("float32" if policy == "float64" else policy)


# Switches of speed.


@pytest.mark.parametrize(
    "switches", [{"jit_compile": True}, {"steps_per_execution": 3}]
)
def test_switches_of_speed_change_no_result(switches):
    def fitted(**compiling):
        keras.utils.set_random_seed(0)
        model = tfpf.FlowModel(small())
        model.compile(optimizer=tfpf.optimizer(0.01), **compiling)
        model.fit(X, batch_size=16, epochs=3, shuffle=False, verbose=0)
        return model.get_weights()

    for a, b in zip(fitted(**switches), fitted(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)
