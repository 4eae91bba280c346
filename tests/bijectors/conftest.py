"""The laws that a bijector obeys, as one fixture."""

import numpy as np
import pytest
import tensorflow as tf


def perturb(bijector, scale=0.3, seed=0):
    """Moves every weight, since a flow that starts as the identity hides errors."""
    rng = np.random.default_rng(seed)
    for variable in bijector.trainable_variables:
        noise = scale * rng.normal(size=variable.shape)
        variable.assign_add(tf.cast(noise, variable.dtype))


def log_det_by_autodiff(function, x, event_ndims):
    """Returns `log |det|` of the Jacobian of `function`, over flattened events."""
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = function(x)
    n = int(np.prod(x.shape[x.shape.rank - event_ndims :]))
    jacobian = tf.reshape(tape.batch_jacobian(y, x), [-1, n, n])
    return tf.linalg.slogdet(jacobian)[1]


def check_laws(
    bijector,
    y,
    condition=None,
    *,
    round_trip=1e-10,
    log_det=1e-8,
    xla=True,
    scale=0.3,
):
    """Checks round trip, log-det, gradients and equality of all execution modes."""
    perturb(bijector, scale)
    y = tf.convert_to_tensor(y)
    ndims = bijector.forward_min_event_ndims
    keywords = {} if condition is None else {"condition": tf.convert_to_tensor(condition)}

    def inverse(v):
        x = bijector.inverse(v, **keywords)
        return x, bijector.inverse_log_det_jacobian(v, ndims, **keywords)

    def forward(v):
        z = bijector.forward(v, **keywords)
        return z, bijector.forward_log_det_jacobian(v, ndims, **keywords)

    x, ildj = inverse(y)
    again, fldj = forward(tf.identity(x))
    assert np.abs(again - y).max() < round_trip, "round trip"
    ones = np.ones(y.shape[: y.shape.rank - ndims])
    np.testing.assert_allclose(ildj * ones, -fldj * ones, atol=max(log_det, round_trip))

    true = log_det_by_autodiff(lambda v: bijector.inverse(v, **keywords), y + 0, ndims)
    np.testing.assert_allclose(ildj * ones, true, atol=log_det, err_msg="ildj")
    true = log_det_by_autodiff(lambda v: bijector.forward(v, **keywords), x + 0, ndims)
    np.testing.assert_allclose(fldj * ones, true, atol=log_det, err_msg="fldj")

    for jit in (False, True) if xla else (False,):
        for function, at in ((inverse, y), (forward, x)):
            eager = function(tf.identity(at))
            traced = tf.function(function, jit_compile=jit)(tf.identity(at))
            for a, b in zip(eager, traced, strict=True):
                np.testing.assert_allclose(a, b, atol=1e-9, err_msg=f"jit={jit}")

    with tf.GradientTape() as tape:
        x, ildj = inverse(y + 0)
        loss = tf.reduce_mean(tf.square(x) * 0.7 + 0.1 * x) - tf.reduce_mean(ildj)
    gradients = tape.gradient(loss, bijector.trainable_variables)
    for variable, gradient in zip(
        bijector.trainable_variables, gradients, strict=True
    ):
        assert gradient is not None, f"{variable.name} gets no gradient"
        assert np.isfinite(gradient).all(), f"{variable.name} has a bad gradient"
        assert np.abs(gradient).max() > 0, f"{variable.name} has a zero gradient"


@pytest.fixture
def laws():
    """The function `check_laws(bijector, y, condition=None, ...)`."""
    return check_laws


@pytest.fixture
def perturbed():
    """The function `perturb(bijector, scale)`."""
    return perturb
