"""How hidden layers start: wide for few values, smooth for many."""

import numpy as np
import pytest

import tfp_flows as tfpf


def connected(kind, values, conditions=None):
    shape = conditions and (conditions,)
    if kind == "mlp":
        net = tfpf.nets.MLP((64, 64))
        net.connect((values,), (values,), shape)
    elif kind == "made":
        net = tfpf.nets.MADE((64, 64))
        net.connect((values,), (2 * values,), shape)
    else:
        net = tfpf.nets.VelocityNet((64, 64))
        net.connect((values,), (values,), shape)
    return net


def hidden_kernels(net, values):
    """The kernels of both hidden layers; a velocity has those of the time too."""
    shapes = [(values, 64), (64, 64)]
    return [w.numpy() for w in net.weights if tuple(w.shape) in shapes][:2]


@pytest.mark.parametrize("kind", ["mlp", "made", "velocity"])
@pytest.mark.parametrize(("values", "gain"), [(2, 6.0), (4, 6.0), (5, 1.0), (30, 1.0)])
def test_kernels_are_wide_for_few_values_only(kind, values, gain):
    for kernel in hidden_kernels(connected(kind, values), values):
        bound = (gain / kernel.shape[0]) ** 0.5
        assert 0.9 * bound < np.abs(kernel).max() <= bound


@pytest.mark.parametrize("kind", ["mlp", "made", "velocity"])
def test_conditions_count_as_values(kind):
    kernel = hidden_kernels(connected(kind, 2, conditions=3), 2)[-1]
    assert np.abs(kernel).max() <= 64**-0.5


@pytest.mark.parametrize("kind", ["mlp", "made"])
def test_biases_lie_apart(kind):
    net = connected(kind, 2)
    biases = [w.numpy() for w in net.weights if tuple(w.shape) == (64,)]
    for bias, inputs in zip(biases, (2, 64), strict=True):
        assert 0.9 * inputs**-0.5 < np.abs(bias).max() <= inputs**-0.5
        assert len(np.unique(bias)) == 64
