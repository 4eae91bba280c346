"""`Linear`, `Planar`, `Radial`, `Sylvester`: their matrices, conditions and errors."""

import numpy as np
import pytest
import scipy.linalg
import tensorflow as tf

import tfp_flows as tfpf
from tfp_flows.testing.subject import perturb

EYE = tf.eye(3, dtype=tf.float64)


@pytest.mark.parametrize("size", [0.0, 1e-3, 1.0, 30.0])
@pytest.mark.parametrize("kind", ["exponential", "rotation"])
def test_is_the_matrix_exponential(kind, size):
    linear = tfpf.Linear(3, kind=kind, dtype="float64")
    raw = size * np.random.default_rng(1).normal(size=(3, 3))
    raw -= np.trace(raw) / 3 * np.eye(3)
    linear.trainable_variables[0].assign(raw)
    exact = scipy.linalg.expm(raw - raw.T if kind == "rotation" else raw)
    found = tf.transpose(linear.forward(EYE))
    np.testing.assert_allclose(found, exact, atol=1e-11 * np.abs(exact).max())
    log_det = float(linear.forward_log_det_jacobian(EYE[0], 1))
    np.testing.assert_allclose(log_det, 0.0, atol=1e-12)


def test_low_rank_is_a_diagonal_and_an_outer_product():
    linear = perturb(tfpf.Linear(3, kind="low_rank", rank=2, dtype="float64"))
    s, *rows = linear.trainable_variables[0].numpy()
    matrix = np.diag(np.exp(s)) + np.stack(rows[:2]).T @ np.stack(rows[2:])
    shift = linear.trainable_variables[1].numpy()
    np.testing.assert_allclose(linear.forward(EYE), matrix.T + shift, atol=1e-12)
    log_det = np.linalg.slogdet(matrix)[1]
    np.testing.assert_allclose(linear.forward_log_det_jacobian(EYE, 1), log_det)


@pytest.mark.parametrize(
    "kind", [tfpf.Linear, tfpf.Planar, tfpf.Radial, tfpf.Sylvester]
)
def test_a_condition_moves_the_map_of_its_row_only(kind):
    bijector = kind(3, condition_shape=(2,), dtype="float64")
    c = np.zeros((2, 2))
    fresh = bijector.forward(EYE[:2], condition=c)
    np.testing.assert_array_equal(
        fresh, bijector.forward(EYE[:2] + 0.0, condition=c + 1.0)
    )
    perturb(bijector, 0.05)
    first = bijector.forward(EYE[:2], condition=c)
    c[1] = 1.0
    second = bijector.forward(EYE[:2] + 0.0, condition=c)
    np.testing.assert_array_equal(first[0], second[0])
    assert np.all(first[1] != second[1])
    with pytest.raises(ValueError, match="`condition_shape`.*Received"):
        kind(3, conditioner=tfpf.nets.MLP((4,)))


def test_sylvester_has_no_more_units_than_values():
    with pytest.raises(ValueError, match="`units`.*Received"):
        tfpf.Sylvester(3, units=4)
