"""Actnorm and 1x1 convolution in one product: the same map, fewer operations."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_flows as tfpf
from tfp_flows.bijectors import chain as paired
from tfp_flows.bijectors.chain import LinearPair, paired_up
from tfp_flows.testing.subject import perturb

tfb = tfp.bijectors


def adapted(kind, channels=6):
    parts = [
        tfpf.ActNorm(channels, dtype="float64"),
        tfpf.InvertibleConv1x1(channels, kind=kind, dtype="float64"),
    ]
    x = tf.random.stateless_normal((50, channels), (1, 2), dtype=tf.float64)
    parts[0].adapt(30.0 + 7.0 * x)
    return [perturb(part, 0.1) for part in parts]


@pytest.mark.parametrize("kind", ["lu", "matrix"])
def test_the_pair_is_its_two_parts(kind):
    parts = adapted(kind)
    (pair,) = paired_up(parts)
    assert isinstance(pair, LinearPair)
    y = tf.random.stateless_normal((4, 3, 2, 6), (5, 6), dtype=tf.float64)
    expected, log_det = y, 0.0
    for part in parts:
        log_det += part.inverse_log_det_jacobian(expected, 1)
        expected = part.inverse(expected)
    x, ildj = paired.inverse_and_log_det(tfb.Chain(parts), y, 3)
    np.testing.assert_allclose(x, expected, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(ildj, 6 * log_det, rtol=1e-12)
    again, fldj = paired.forward_and_log_det(tfb.Chain(parts), x, 3)
    np.testing.assert_allclose(again, y, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(fldj, -ildj, rtol=1e-12)


@pytest.mark.parametrize("kind", ["lu", "matrix"])
def test_gradients_are_those_of_the_two_parts(kind):
    parts = adapted(kind)
    variables = [v for part in parts for v in part.trainable_variables]
    y = tf.random.stateless_normal((20, 6), (5, 6), dtype=tf.float64)

    def gradients(function):
        with tf.GradientTape() as tape:
            x, ildj = function(y)
            loss = tf.reduce_sum(tf.sin(x)) + ildj
        return tape.gradient(loss, variables)

    def apart(y):
        x, first = paired.inverse_and_log_det(parts[0], y, 1)
        x, second = paired.inverse_and_log_det(parts[1], x, 1)
        return x, first + second

    together = gradients(lambda y: paired.inverse_and_log_det(tfb.Chain(parts), y, 1))
    for a, b in zip(together, gradients(apart), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10)


def test_only_neighbours_with_a_matrix_pair_up():
    actnorm, conv = tfpf.ActNorm(4), tfpf.InvertibleConv1x1(4)
    order = tfpf.InvertibleConv1x1(4, kind="permutation")
    for parts in ([conv, actnorm], [actnorm, order], [actnorm, actnorm]):
        assert paired_up(parts) == parts
    assert len(paired_up([actnorm, actnorm, conv, conv])) == 3


def test_a_permutation_has_no_scatter_in_its_gradient():
    conv = tfpf.InvertibleConv1x1(5, kind="permutation")

    @tf.function(autograph=False)
    def gradient(y):
        with tf.GradientTape() as tape:
            tape.watch(y)
            loss = tf.reduce_sum(tf.range(5.0) * conv.inverse(y))
        return tape.gradient(loss, y)

    y = tf.random.stateless_normal((3, 5), (1, 2))
    where = np.argsort(conv.inverse(tf.range(5.0)).numpy())
    np.testing.assert_array_equal(gradient(y)[0], where)
    names = {op.type for op in gradient.get_concrete_function(y).graph.get_operations()}
    assert not any("Scatter" in name or "SegmentSum" in name for name in names)
