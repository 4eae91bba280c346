"""The laws of the bijectors that `test_laws.py` cannot hold to its tolerances."""

import numpy as np
import pytest
import tensorflow as tf


def perturb(bijector, scale=0.3, seed=0):
    """Moves every weight, since a flow that starts as the identity hides errors."""
    rng = np.random.default_rng(seed)
    for variable in bijector.trainable_variables:
        noise = scale * rng.normal(size=variable.shape)
        variable.assign_add(tf.cast(noise, variable.dtype))


def log_det_by_autodiff(function, x, n):
    """Differentiates each of the n outputs in a batch entry of its own."""
    x = tf.repeat(x, n, axis=0)
    with tf.GradientTape() as tape:
        tape.watch(x)
        values = tf.reshape(function(x), [-1, n, n])
        diagonal = tf.reduce_sum(tf.linalg.diag_part(values))
    jacobian = tf.reshape(tape.gradient(diagonal, x), [-1, n, n])
    return tf.linalg.slogdet(jacobian)[1]


def check_laws(
    bijector, y, *, round_trip=1e-10, log_det=1e-8, xla=False, eager=True, scale=0.3
):
    """Checks round trip, log-det, gradients and equality of execution modes."""
    perturb(bijector, scale)
    y = tf.convert_to_tensor(y)
    ndims = bijector.forward_min_event_ndims
    n = int(np.prod(y.shape[y.shape.rank - ndims :]))
    weights = bijector.trainable_variables

    def inverse(v):
        v = tf.identity(v)
        return bijector.inverse(v), bijector.inverse_log_det_jacobian(v, ndims)

    def forward(v):
        v = tf.identity(v)
        return bijector.forward(v), bijector.forward_log_det_jacobian(v, ndims)

    @tf.function(autograph=False)
    def measure(y):
        with tf.GradientTape() as tape:
            x, ildj = inverse(y)
            loss = tf.reduce_sum(tf.sin(x)) + tf.reduce_sum(ildj)
        again, fldj = forward(x)
        exact = log_det_by_autodiff(lambda v: inverse(v)[0], y, n)
        back = log_det_by_autodiff(lambda v: forward(v)[0], x, n)
        return (x, ildj, again, fldj), exact, back, tape.gradient(loss, weights)

    (x, ildj, again, fldj), exact, back, gradients = measure(y)
    assert np.abs(again - y).max() < round_trip, "round trip"
    ones = np.ones(y.shape[: y.shape.rank - ndims])
    np.testing.assert_allclose(ildj * ones, exact, atol=log_det, err_msg="ildj")
    np.testing.assert_allclose(fldj * ones, back, atol=log_det, err_msg="fldj")
    for variable, gradient in zip(weights, gradients, strict=True):
        assert gradient is not None, f"{variable.name} gets no gradient"
        assert np.isfinite(gradient).all(), f"{variable.name} has a bad gradient"
        assert np.abs(gradient).max() > 0, f"{variable.name} has a zero gradient"

    others = [inverse] if eager else []
    if xla:
        others.append(tf.function(inverse, autograph=False, jit_compile=True))
    for other in others:
        for a, b in zip(other(y), (x, ildj), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-9)


@pytest.fixture
def laws():
    """The function `check_laws(bijector, y, ...)`."""
    return check_laws


@pytest.fixture
def perturbed():
    """The function `perturb(bijector, scale)`."""
    return perturb
