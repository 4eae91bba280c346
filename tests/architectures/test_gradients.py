"""Every weight of every architecture is reached, in every precision."""

import contextlib

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_flows as tfpf
from tfp_flows.cli.recipes import FLOWS
from tfp_flows.testing.laws import missed_weights

tfd = tfp.distributions

ARCHITECTURES = [
    *("nice", "real_nvp", "real_nvp_image", "glow", "glow_image"),
    *("spline_flow", "maf", "iaf", "ffjord", "ffjord_image"),
]
# Every kind of condition in single precision, some in the others.
CASES = [
    ("float32", kind) for kind in ("unconditional", "vector", "label", "image")
] + [
    ("float64", "unconditional"),
    ("float64", "vector"),
    ("mixed_bfloat16", "vector"),
    ("mixed_float16", "unconditional"),
]
# Gradients in float16 need a scaled loss, as `FlowModel.compile` gives them.
LOSS_SCALE = 16.0


def missed(model, inputs):
    """Names what the gradient of the loss that `fit` minimizes does not reach."""
    weights = model.trainable_weights
    assert len(weights) == len(model.distribution.trainable_variables) > 0
    # Parts of equal names have weights of equal paths.
    weights = {f"{i} {weight.path}": weight.value for i, weight in enumerate(weights)}
    return missed_weights(
        weights, lambda: -LOSS_SCALE * tf.reduce_mean(model(inputs, training=True))
    )


@pytest.mark.parametrize(("precision", "kind"), CASES)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_weight_gets_a_gradient(architecture, precision, kind, make_flow, draw):
    double = precision == "float64"
    policy = contextlib.nullcontext() if double else tfpf.network_precision(precision)
    with policy:
        flow = make_flow(architecture, kind, **({"dtype": "float64"} if double else {}))
        x, condition = draw(flow, kind, 24)
    model = tfpf.FlowModel(flow)
    inputs = x if condition is None else (x, condition)
    assert model(inputs).dtype == (tf.float64 if double else tf.float32)
    if precision.startswith("mixed"):
        assert model.dtype_policy.name == precision
    assert missed(model, inputs) == ([], [])


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name == "residual_flow" else pytest.mark.slow)
        for name in FLOWS
        if name not in ("tarflow", "jet")
    ],
)
def test_gradients_under_xla_are_those_without(name):
    """From the weights that training starts with: zeros among them."""
    tf.random.set_seed(0)
    flow = getattr(tfpf, name)((3,), steps=2)
    x = tf.random.stateless_normal([8, 3], (0, 1))
    flow.log_prob(x)

    def gradients():
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(flow.log_prob(x))
        return tape.gradient(loss, flow.trainable_variables)

    compiled = tf.function(gradients, autograph=False, jit_compile=True)()
    for found, expected in zip(compiled, gradients(), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


def test_a_weight_without_gradient_is_found(make_flow):
    """The test above can fail: a variable in no use, a head of zeros before others."""
    flow = tfd.Sample(tfd.Normal(tf.Variable(0.0), 1.0), [2])
    flow.idle = tf.Variable(1.0, name="idle")
    unreached, _ = missed(tfpf.FlowModel(flow), tf.ones([3, 2]))
    assert len(unreached) == 1
    fresh = tfpf.real_nvp((4,), steps=2, hidden_units=(6,))
    unreached, _ = missed(tfpf.FlowModel(fresh), tf.ones([2, 4]))
    assert len(unreached) > 1
