"""Every weight of every architecture gets a gradient, with and without conditions."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_flows as tfpf

tfd = tfp.distributions

ARCHITECTURES = [
    *("nice", "real_nvp", "real_nvp_image", "glow", "glow_image"),
    *("spline_flow", "maf", "iaf", "ffjord", "ffjord_image"),
]


def gradients(flow, x, condition):
    """Differentiates the loss that `fit` minimizes; returns weights and gradients."""
    model = tfpf.FlowModel(flow)
    inputs = (x,) if condition is None else (x, condition)
    with tf.GradientTape() as tape:
        loss = -tf.reduce_mean(model(inputs, training=True))
    weights = model.trainable_weights
    return weights, tape.gradient(loss, [weight.value for weight in weights])


# Every kind of condition in single precision, with and without one in the others.
CASES = [
    ("float32", kind) for kind in ("unconditional", "vector", "label", "image")
] + [
    (precision, kind)
    for precision in ("float64", "mixed_bfloat16")
    for kind in ("unconditional", "vector")
]


@pytest.mark.parametrize(("precision", "kind"), CASES)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_weight_gets_a_gradient(architecture, precision, kind, make_flow, draw):
    if precision == "mixed_bfloat16":
        keras.config.set_dtype_policy(precision)
    options = {"dtype": "float64"} if precision == "float64" else {}
    flow = make_flow(architecture, kind, **options)
    x, condition = draw(flow, kind, 24)
    weights, found = gradients(flow, x, condition)
    assert len(weights) == len(flow.trainable_variables) > 0
    # An embedding's gradient comes as the rows that were looked up.
    dense = [None if g is None else np.asarray(tf.convert_to_tensor(g)) for g in found]
    dead = [
        f"{weight.path} {tuple(weight.shape)}"
        for weight, gradient in zip(weights, dense, strict=True)
        if gradient is None or not np.isfinite(gradient).all() or not np.any(gradient)
    ]
    assert dead == []


def test_a_weight_without_gradient_is_found():
    """The check above, on a distribution with a variable that nobody uses."""

    flow = tfd.Sample(tfd.Normal(tf.Variable(0.0), 1.0), [2])
    flow.idle = tf.Variable(1.0)
    weights, found = gradients(flow, np.ones((3, 2), "float32"), None)
    assert [gradient is None for gradient in found].count(True) == 1
    assert len(weights) == 2
