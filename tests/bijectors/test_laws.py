"""Bijectors x laws: all rows of `tfp_flows.testing.catalogue`, in float64."""

import functools

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import tfp_flows as tfpf
from tfp_flows.bijectors.tree import layers_in
from tfp_flows.testing import laws
from tfp_flows.testing.catalogue import FLIP, HALF, TABLE
from tfp_flows.testing.report import CheckReport
from tfp_flows.testing.subject import Subject, float_type, perturb

tfb = tfp.bijectors

TOLERANCE = 1e-11
VALUES = ("finite outputs", "round trip of x", "round trip of y")
VALUES = (*VALUES, "forward log-det", "inverse log-det")
CALLS = ("forward network calls", "inverse network calls")
# The benchmarks export every row, too.
USES = [n for n in laws.LAWS if n not in (*VALUES, "graph", "export and load")]


@pytest.fixture(autouse=True, scope="module")
def _in_float64():
    with float_type("float64"):
        yield


ROWS = [
    pytest.param(name, marks=pytest.mark.slow) if row.slow else name
    for name, row in TABLE.items()
]


@functools.cache
def subject_of(name):
    return TABLE[name].subject()


def assert_laws(subject, names):
    report = CheckReport("", laws.check(subject, names, TOLERANCE))
    assert report.ok, str(report)
    return {row.name: row for row in report.rows}


@pytest.mark.parametrize("name", ROWS)
def test_round_trips_and_log_dets(name):
    row, subject = TABLE[name], subject_of(name)
    elements = st.floats(-row.bound, row.bound, width=64)

    conditions = row.subject(5).condition

    @settings(max_examples=3)
    @given(arrays("float64", (5, *row.shape), elements=elements))
    def check(x):
        rows = assert_laws(Subject(subject.bijector, x, conditions), VALUES)
        assert all(row.ok for row in rows.values()), "a law did not apply"

    check()


@pytest.mark.parametrize("name", ROWS)
def test_weights_networks_batches_graphs_and_files(name):
    subject = subject_of(name)
    rows = assert_laws(subject, USES)
    assert rows["XLA"].ok
    held = [layer.trainable_weights for layer in layers_in(subject.bijector)]
    trainable = subject.bijector.trainable_variables
    assert len(trainable) == sum(map(len, held)), "not every Keras weight is listed"
    chain = tfb.Chain([tfb.Scale(np.float64(2.0)), subject.bijector])
    in_chain = assert_laws(Subject(chain, *subject.inputs), CALLS)
    for law in CALLS:
        # No fewer either, unless value goes by value.
        assert in_chain[law].value == rows[law].value
        value = rows[law].value
        assert value in (None, 1) or value >= 4


@pytest.mark.parametrize("name", ROWS)
def test_a_copy_shares_the_weights(name):
    subject = subject_of(name)
    copy = subject.bijector.copy(name="another")
    assert copy.name == "another"
    shared = zip(copy.variables, subject.bijector.variables, strict=True)
    assert all(a is b for a, b in shared)
    found = Subject(copy, *subject.inputs).expected
    for a, b in zip(found, subject.expected, strict=True):
        np.testing.assert_array_equal(a, b)


@settings(max_examples=10)
@given(arrays("float32", (8, 4), elements=st.floats(-10, 10, width=32)))
def test_float32_survives_32_couplings(x):
    y, back, again = through_32_couplings()(x)
    np.testing.assert_allclose(back, x, rtol=0, atol=1e-4)
    np.testing.assert_allclose(again, y, rtol=0, atol=1e-4)


@functools.cache
def through_32_couplings():
    net = functools.partial(tfpf.nets.MLP, (32,), activation="tanh", dtype="float32")
    couplings = [tfpf.AffineCoupling(m, net(), dtype="float32") for m in (HALF, FLIP)]
    chain = perturb(tfpf.Repeat(tfb.Chain(couplings), 16), 0.05)

    @tf.function(autograph=False)
    def there_and_back(x):
        y = chain.forward(x)
        back = chain.inverse(tf.identity(y))
        return y, back, chain.forward(tf.identity(back))

    return there_and_back
