"""Every weight of every architecture is reached, in every precision."""

import contextlib

import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_flows as tfpf
from tfp_flows.testing.laws import missed_weights

tfd = tfp.distributions

ARCHITECTURES = [
    *("nice", "real_nvp", "real_nvp_image", "glow", "glow_image"),
    *("spline_flow", "maf", "iaf", "ffjord", "ffjord_image"),
]
# Every kind of condition in single precision, with and without one in the others.
CASES = [
    ("float32", kind) for kind in ("unconditional", "vector", "label", "image")
] + [
    (precision, kind)
    for precision in ("float64", "mixed_bfloat16", "mixed_float16")
    for kind in ("unconditional", "vector")
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


def test_a_weight_without_gradient_is_found(make_flow):
    """The test above can fail: a variable in no use, a head of zeros before others."""
    flow = tfd.Sample(tfd.Normal(tf.Variable(0.0), 1.0), [2])
    flow.idle = tf.Variable(1.0, name="idle")
    unreached, _ = missed(tfpf.FlowModel(flow), tf.ones([3, 2]))
    assert len(unreached) == 1
    fresh = tfpf.real_nvp((4,), steps=2, hidden_units=(6,))
    unreached, _ = missed(tfpf.FlowModel(fresh), tf.ones([2, 4]))
    assert len(unreached) > 1
