"""`check_bijector` passes what is right and names what is wrong."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_flows as tfpf
from tfp_flows.testing.check_bijector import check_bijector
from tfp_flows.testing.report import CheckReport, CheckResult

tfb = tfp.bijectors

X = np.random.default_rng(0).normal(size=(6, 4)).astype("float32")


def failed(report):
    """The names of the failed rows, with their messages."""
    return {row.name: row.message for row in report.rows if row.ok is False}


@keras.saving.register_keras_serializable(package="tfp_flows_tests")
class Stretch(tfb.Bijector):
    """`y = x exp(s)` as a stranger would write it: TFP alone, nothing of ours."""

    def __init__(self, name="stretch"):
        parameters = dict(locals())
        self.s = tf.Variable([0.1, -0.2, 0.3, 0.4], name="s")
        super().__init__(
            forward_min_event_ndims=1,
            parameters=parameters,
            name=name,
            dtype=tf.float32,
        )

    def _forward(self, x):
        return x * tf.exp(self.s)

    def _inverse(self, y):
        return y * tf.exp(-self.s)

    def _forward_log_det_jacobian(self, x):
        return tf.reduce_sum(self.s) + tf.zeros(tf.shape(x)[:-1], x.dtype)

    def get_config(self):
        return {"name": self.name}


@keras.saving.register_keras_serializable(package="tfp_flows_tests")
class WrongLogDet(Stretch):
    def _forward_log_det_jacobian(self, x):
        return 1.01 * super()._forward_log_det_jacobian(x)


@keras.saving.register_keras_serializable(package="tfp_flows_tests")
class Outside(Stretch):
    """Its log-det is computed where no tape sees it."""

    def _forward_log_det_jacobian(self, x):
        return tf.stop_gradient(super()._forward_log_det_jacobian(x))


@keras.saving.register_keras_serializable(package="tfp_flows_tests")
class NoInverse(Stretch):
    def _inverse(self, y):
        return y * tf.exp(-1.1 * self.s)


@keras.saving.register_keras_serializable(package="tfp_flows_tests")
class Unreached(Stretch):
    def __init__(self, name="unreached"):
        super().__init__(name=name)
        self.idle = tf.Variable([1.0], name="idle")


class Unregistered(Stretch):
    pass


@keras.saving.register_keras_serializable(package="tfp_flows_tests")
class Raises(Stretch):
    def _inverse(self, y):
        raise RuntimeError("The inverse fell over.\n\nA long story follows.")


@keras.saving.register_keras_serializable(package="tfp_flows_tests")
class PerBatch(Stretch):
    """Only ever thought of two axes."""

    def _forward_log_det_jacobian(self, x):
        return tf.reduce_sum(self.s) * tf.ones(x.shape[0], x.dtype)


@keras.saving.register_keras_serializable(package="tfp_flows_tests")
class TwoMethods(tfb.Bijector):
    """A coupling in TFP's own manner: value and log-det each call the network."""

    def __init__(self, net=None, name="two_methods"):
        parameters = dict(locals())
        self.net = net or keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
        super().__init__(forward_min_event_ndims=1, parameters=parameters, name=name)

    def _scale(self, identity):
        flat = tf.reshape(identity, [-1, 2])
        return tf.reshape(tf.tanh(self.net(flat)), tf.shape(identity))

    def _forward(self, x):
        identity, transformed = tf.split(x, 2, -1)
        return tf.concat([identity, transformed * tf.exp(self._scale(identity))], -1)

    def _inverse(self, y):
        identity, transformed = tf.split(y, 2, -1)
        return tf.concat([identity, transformed * tf.exp(-self._scale(identity))], -1)

    def _forward_log_det_jacobian(self, x):
        return tf.reduce_sum(self._scale(x[..., :2]), -1)

    def get_config(self):
        return {"net": self.net, "name": self.name}


@keras.saving.register_keras_serializable(package="tfp_flows_tests")
class Wasteful(tfpf.AffineCoupling):
    """Calls its network twice where once would do."""

    def _forward_and_log_det(self, x, condition=None):
        super()._forward_and_log_det(x)
        return super()._forward_and_log_det(x)


@pytest.fixture(scope="module")
def chain_report():
    """A conditional chain of ours and TFP's, and the weights before and after."""
    step = tfb.Chain(
        [
            tfpf.AffineCoupling(
                tfpf.masks.half(4), tfpf.nets.MLP((8,)), condition_shape=(3,)
            ),
            tfpf.InvertibleConv1x1(4),
        ]
    )
    chain = tfb.Chain([tfb.Shift([0.5, 0.0, 0.0, 1.0]), tfpf.Repeat(step, 2)])
    before = [variable.numpy() for variable in chain.variables]
    report = check_bijector(chain, X, condition=X[:, :3])
    return report, before, [variable.numpy() for variable in chain.variables]


def test_a_conditional_chain_of_ours_and_tfps_passes(chain_report):
    report, _, _ = chain_report
    assert report.ok, str(report)
    rows = {row.name: row for row in report.rows}
    assert rows["forward log-det"].tolerance == 1e-8, "not compared in float64"
    assert rows["inverse network calls"].value == 1
    assert all(row.ok for row in report.rows), "a check did not apply"


def test_the_weights_are_left_as_they_were(chain_report):
    _, before, after = chain_report
    for old, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(old, new)


def test_tfps_own_bijector_without_weights_passes():
    report = check_bijector(tfb.Softplus(), X[0])
    assert report.ok, str(report)
    assert {r.name for r in report.rows if r.ok is None} == {
        "forward gradients",
        "inverse gradients",
        "forward network calls",
        "inverse network calls",
    }


@pytest.mark.parametrize(
    ("bijector", "rows", "words"),
    [
        (Stretch, set(), ""),
        (
            WrongLogDet,
            {"forward log-det", "inverse log-det"},
            "the Jacobian's is",
        ),
        (
            NoInverse,
            {"round trip of x", "round trip of y", "inverse log-det"},
            "one of the two is wrong",
        ),
        (
            Outside,
            {"forward gradients", "inverse gradients"},
            "does not have the gradient of its values",
        ),
        (Unreached, {"forward gradients", "inverse gradients"}, "reaches: idle"),
        (Unregistered, {"save and load"}, "unregistered class 'Unregistered'"),
        (
            TwoMethods,
            {"forward network calls", "inverse network calls"},
            "as `FlowBijector` does",
        ),
        (PerBatch, {"no batch axis", "several batch axes", "unknown batch size"}, ""),
        (
            lambda: Wasteful(tfpf.masks.half(4), tfpf.nets.MLP((4,))),
            {"forward network calls"},
            "2 times where once would do",
        ),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_what_is_wrong_is_named(bijector, rows, words):
    report = check_bijector(bijector(), X)
    found = failed(report)
    # A wrong bijector may break more than the law that it was written to break.
    assert rows <= set(found), str(report)
    assert report.ok == (not rows), str(report)
    assert not rows or any(words in found[name] for name in rows), str(report)


def test_an_exception_becomes_the_message_of_its_row():
    report = check_bijector(Raises(), X)
    assert failed(report)["round trip of x"] == "RuntimeError: The inverse fell over."
    assert {row.name: row.ok for row in report.rows}["forward gradients"]


def test_an_iterative_solver_needs_the_tolerance_that_it_was_given():
    class Newton(Stretch):
        def _inverse(self, y):
            return y * tf.exp(-self.s) + 3e-3

    rows = {row.name: row for row in check_bijector(Newton(), X, tolerance=0.01).rows}
    trip = rows["round trip of x"]
    assert trip.ok
    assert 1e-3 < trip.value < trip.tolerance == 0.01


@pytest.mark.parametrize(
    ("bijector", "x", "words"),
    [
        (3, X, "Argument `bijector` must be a"),
        (tfb.Exp(), np.zeros((0, 2), "float32"), "at least one input"),
        (tfb.Split(2), X, "of parts"),
        (tfpf.ActNorm(3), X, "expected 3 channels"),
    ],
)
def test_arguments_that_cannot_be_checked_raise_nothing(bijector, x, words):
    report = check_bijector(bijector, x)
    assert not report.ok
    assert words in report.rows[-1].message


def test_the_table_lines_up():
    rows = (
        CheckResult("round trip", 2.5e-7, 1e-3, True),
        CheckResult("a check with a long name", 3.0, 0.0, False, "Three are wrong."),
        CheckResult("gradients", None, None, None, "There are none."),
        CheckResult("more gradients", None, None, None, "There are none."),
    )
    assert str(CheckReport("Chain 'c'", rows)).splitlines() == [
        "Chain 'c': 1 of 4 failed",
        "",
        "check                       value  tolerance  result",
        "------------------------  -------  ---------  ------",
        "round trip                2.5e-07    1.0e-03  ok",
        "a check with a long name        3          0  FAILED",
        "gradients                       -          -  -",
        "more gradients                  -          -  -",
        "",
        "FAILED a check with a long name: Three are wrong.",
        "note gradients, more gradients: There are none.",
    ]
