"""Every weight of every architecture is reached, in every precision."""

import numpy as np
import pytest
import tensorflow as tf

import tfp_flows as tfpf

TINY = {"hidden_units": (6,), "activation": "tanh"}
PLACES = ("couplings", "split_prior", "top_prior")
IMAGE = {"hidden_channels": 4, "activation": "tanh"}
ARCHITECTURES = {
    "nice": lambda **k: tfpf.nice((4,), steps=2, **TINY, **k),
    "real_nvp": lambda **k: tfpf.real_nvp((4,), steps=2, **TINY, **k),
    "glow": lambda **k: tfpf.glow((4,), steps=2, **TINY, **k),
    "spline_flow": lambda **k: tfpf.spline_flow((4,), steps=2, bins=4, **TINY, **k),
    "maf": lambda **k: tfpf.maf((4,), steps=2, **TINY, **k),
    "ffjord": lambda **k: tfpf.ffjord(
        (4,), hidden_units=(6,), solver=tfpf.FixedStep(steps=2), **k
    ),
    "real_nvp image": lambda **k: tfpf.real_nvp(
        (4, 4, 1), levels=2, blocks=1, **IMAGE, **k
    ),
    "glow image": lambda **k: tfpf.glow(
        (4, 4, 1),
        levels=2,
        steps=1,
        **IMAGE,
        **k,
        **(
            {"condition_use": ("couplings", "split_prior", "top_prior")}
            if "condition_shape" in k
            else {}
        ),
    ),
    "ffjord image": lambda **k: tfpf.ffjord(
        (4, 4, 1), hidden_units=(4,), solver=tfpf.FixedStep(steps=1), **k
    ),
}
PRECISIONS = ("float32", "float64", "mixed_bfloat16", "mixed_float16")
# Gradients in float16 need a scaled loss, as `FlowModel.compile` gives them.
LOSS_SCALE = 16.0


def build(name, precision, condition_shape):
    options = {} if condition_shape is None else {"condition_shape": condition_shape}
    if precision == "float64":
        return ARCHITECTURES[name](dtype="float64", **options)
    with tfpf.network_precision(precision):
        return ARCHITECTURES[name](**options)


def perturb(flow, rng):
    """Moves every weight: behind a head of zeros no gradient gets through."""
    for variable in flow.trainable_variables:
        noise = 0.1 * rng.normal(size=variable.shape)
        variable.assign_add(tf.cast(noise, variable.dtype))


def stacked(variable):
    """Whether a weight holds those of several copies of a step."""
    return "stacked" in variable.path


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("conditional", [False, True], ids=["plain", "conditional"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_weight_gets_a_gradient(name, conditional, precision):
    rng = np.random.default_rng(0)
    flow = build(name, precision, (3,) if conditional else None)
    perturb(flow, rng)
    model = tfpf.FlowModel(flow)
    x = rng.normal(size=(8, *flow.event_shape))
    inputs = (x, rng.normal(size=(8, 3))) if conditional else x
    inputs = tf.nest.map_structure(lambda part: tf.cast(part, flow.dtype), inputs)
    with tf.GradientTape() as tape:
        log_prob = model(inputs, training=True)
        loss = -LOSS_SCALE * tf.reduce_mean(log_prob)
    assert log_prob.dtype == (tf.float64 if precision == "float64" else tf.float32)
    weights = model.trainable_weights
    assert len(weights) == len(flow.trainable_variables) > 0
    gradients = tape.gradient(loss, [weight.value for weight in weights])
    for weight, gradient in zip(weights, gradients, strict=True):
        assert gradient is not None, f"{weight.path} gets no gradient"
        gradient = np.array(gradient)
        assert np.isfinite(gradient).all(), f"{weight.path} has a bad gradient"
        # In a stack each copy's part must be reached.
        parts = gradient if stacked(weight) else gradient[None]
        for part in parts:
            assert np.abs(part).max() > 0, f"{weight.path} has a zero gradient"
    if precision.startswith("mixed"):
        assert model.dtype_policy.name == precision


def test_a_weight_out_of_reach_would_be_found():
    """The test above can fail: a head of zeros stops all that lies behind it."""
    flow = build("real_nvp", "float32", None)
    x = tf.ones([2, 4])
    with tf.GradientTape() as tape:
        loss = -tf.reduce_mean(flow.log_prob(x))
    gradients = tape.gradient(loss, flow.trainable_variables)
    assert any(g is None or np.abs(g).max() == 0 for g in gradients)
