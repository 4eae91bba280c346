"""`in_parts` changes how much is computed at a time, and no result."""

import numpy as np
import pytest
import tensorflow as tf

import tfp_flows as tfpf


def flow(condition_shape=None):
    made = tfpf.real_nvp(
        (3,),
        couplings=2,
        hidden_units=(8,),
        dtype="float64",
        condition_shape=condition_shape,
    )
    rng = np.random.default_rng(0)
    for weight in made.trainable_variables:
        weight.assign_add(rng.normal(size=weight.shape, scale=0.1))
    return made


def batch(rows, values=3):
    return tf.constant(np.random.default_rng(1).normal(size=(rows, values)))


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("rows", [0, 1, 4, 5, 8, 11, 12])
def test_scores_and_samples_of_any_number_of_rows(rows, jit):
    made, x = flow(), batch(rows)
    for function in (made.log_prob, made.bijector.forward):
        parts = tf.function(tfpf.in_parts(function, rows=4), jit_compile=jit)
        got = parts(x)
        assert got.shape == function(x).shape
        np.testing.assert_allclose(got, function(x), atol=1e-12)


@pytest.mark.parametrize("rows", [0, 3, 4, 9])
def test_rows_known_only_when_called(rows):
    made, x = flow(), batch(rows)
    score = tf.function(
        tfpf.in_parts(made.log_prob, rows=4),
        input_signature=[tf.TensorSpec([None, 3], tf.float64)],
    )
    np.testing.assert_allclose(score(x), made.log_prob(x), atol=1e-12)


def test_no_call_sees_more_rows_and_they_are_even():
    seen = []

    def function(x):
        seen.append(x.shape[0])
        return tf.reduce_sum(x, -1)

    tf.function(tfpf.in_parts(function, rows=4))(batch(9))
    assert seen == [3]  # three parts of three, in one loop
    tfpf.in_parts(function, rows=4)(batch(2))
    assert seen == [3, 2]


def test_conditions_go_along():
    made, x, c = flow((2,)), batch(7), batch(7, 2)
    score = tfpf.in_parts(lambda x, c: tfpf.condition(made, c).log_prob(x), rows=3)
    expected = tfpf.condition(made, c).log_prob(x)
    np.testing.assert_allclose(tf.function(score)(x, c), expected, atol=1e-12)


def test_gradients_are_those_of_the_whole_batch():
    made, x = flow(), batch(7)
    weights = made.trainable_variables
    found = []
    for score in (made.log_prob, tfpf.in_parts(made.log_prob, rows=3)):

        @tf.function
        def gradients(score=score):
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean(score(x))
            return tape.gradient(loss, weights)

        found.append(gradients())
    for whole, parts in zip(*found, strict=True):
        np.testing.assert_allclose(parts, whole, atol=1e-12)


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="`rows` must be positive. Received: rows=0"):
        tfpf.in_parts(tf.square, rows=0)
    with pytest.raises(ValueError, match="must have rows"):
        tfpf.in_parts(tf.square)(tf.constant(1.0))
    with pytest.raises(ValueError, match="equally many rows"):
        tfpf.in_parts(tf.add)(batch(3), batch(4))
