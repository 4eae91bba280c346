"""The prediction filter: laws, its recursion by SciPy, and that it cannot run away."""

import numpy as np
import pytest
import tensorflow as tf
from scipy import signal

import tfp_flows as tfpf
from tfp_flows.bijectors.linear_prediction import stable


def adapted(order=3, length=150, dtype="float64"):
    audio = np.cumsum(np.random.default_rng(0).normal(size=[8, length]), axis=1)
    audio -= 0.7 * np.pad(audio, [[0, 0], [2, 0]])[:, :-2]
    bijector = tfpf.speech.LinearPrediction(order, dtype=dtype)
    bijector.adapt(tf.constant(0.05 * audio + 0.3, dtype))
    return bijector


def test_it_keeps_all_laws():
    x = np.random.default_rng(1).normal(size=[4, 20])
    report = tfpf.check_bijector(adapted(), x)
    assert report.ok, str(report)


@pytest.mark.parametrize("length", [11, 64, 74, 75, 300])
def test_there_and_back(length):
    x = np.random.default_rng(2).normal(size=[2, 3, length])
    bijector = adapted(10)
    y = bijector.forward(x)
    assert y.shape == x.shape
    np.testing.assert_allclose(bijector.inverse(tf.identity(y)), x, atol=1e-8)


def test_synthesis_is_scipys_filter():
    """Behind the first p samples it is `1 / A(z)` with the state they leave."""
    bijector = adapted(3, dtype="float64")
    x = np.random.default_rng(3).normal(size=[200])
    y = np.array(bijector.forward(x))
    mean = float(bijector._mean.numpy())
    scale = np.exp(bijector._log_scale.numpy()[-1])
    denominator = np.concatenate([[1.0], -bijector.filter])
    state = signal.lfiltic([1.0], denominator, (y - mean)[2::-1])
    expected, _ = signal.lfilter([1.0], denominator, scale * x[3:], zi=state)
    np.testing.assert_allclose(y[3:] - mean, expected, atol=1e-9)


def test_data_come_out_white():
    noise = 0.01 * np.random.default_rng(4).normal(size=[20, 400])
    train = signal.lfilter([1.0], [1.0, -1.6, 0.9], noise)
    bijector = tfpf.speech.LinearPrediction(6)
    assert not bijector.is_adapted
    x = np.array(bijector.adapt(tf.constant(train, tf.float32)))
    assert bijector.is_adapted
    assert x.std() == pytest.approx(1.0, abs=0.02)
    lagged = [np.mean(x[:, 6:-k] * x[:, 6 + k :]) for k in (1, 2, 3)]
    np.testing.assert_allclose(lagged, 0.0, atol=0.05)


@pytest.mark.parametrize(
    "roots", [[1.3, 0.5], [1.2 * np.exp(0.4j), 1.2 * np.exp(-0.4j)]]
)
def test_a_root_outside_is_mirrored(roots):
    a = -np.poly(roots)[1:].real
    found = np.roots([1.0, *-stable(a)])
    inside = [r if abs(r) < 1 else 1 / np.conj(r) for r in roots]
    np.testing.assert_allclose(np.sort_complex(found), np.sort_complex(inside))
    # What it leaves of white noise is the same but for a factor.
    spectrum = [np.abs(signal.freqz([1.0, *-b], worN=50)[1]) for b in (a, stable(a))]
    np.testing.assert_allclose(np.std(spectrum[0] / spectrum[1]), 0.0, atol=1e-9)


def test_a_stable_filter_stays_and_zeros_are_roots_too():
    a = np.array([1.2, -0.5, 0.0])
    np.testing.assert_array_equal(stable(a), a)
    found = stable(np.array([2.0, 0.0]))
    np.testing.assert_allclose(found, [0.5, 0.0])


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="`order`"):
        tfpf.speech.LinearPrediction(0)
    with pytest.raises(ValueError, match="more than 10 samples"):
        tfpf.speech.LinearPrediction(10).inverse(np.zeros([2, 10], "float32"))
