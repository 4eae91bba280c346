"""Bijectors x laws: all rows of `tfp_flows.testing.catalogue`, in float64."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import tfp_flows as tfpf
from tfp_flows.bijectors.chain import condition_kwargs
from tfp_flows.bijectors.tree import layers_in
from tfp_flows.distributions.bases import standard_normal
from tfp_flows.testing.catalogue import FLIP, HALF, TABLE, built, move

tfb, tfd = tfp.bijectors, tfp.distributions

ROUND_TRIP, LOG_DET = 1e-10, 1e-8


class Case:
    """A row with its bijector, its counted networks and its compiled measurements."""

    def __init__(self, name, counting):
        self.name = name
        self.row = TABLE[name]
        self.nets = []
        self.bijector = built(self.row, lambda: self._net(counting))
        self.ndims = len(self.row.shape)

    def _net(self, counting):
        self.nets.append(counting(tfpf.nets.MLP((8,), activation="tanh")))
        return self.nets[-1]

    def forward(self, x, c=None, bijector=None):
        b = bijector or self.bijector
        x, keywords = tf.identity(x), condition_kwargs(b, c)
        y = b.forward(x, **keywords)
        return y, b.forward_log_det_jacobian(x, self.ndims, **keywords)

    def inverse(self, y, c=None, bijector=None):
        b = bijector or self.bijector
        y, keywords = tf.identity(y), condition_kwargs(b, c)
        x = b.inverse(y, **keywords)
        ndims = b.forward_event_ndims(self.ndims)
        return x, b.inverse_log_det_jacobian(y, ndims, **keywords)

    def both(self, x, c=None, bijector=None):
        """Returns `y, fldj` and, of that y, `x, ildj`."""
        y, fldj = self.forward(x, c, bijector)
        return (y, fldj, *self.inverse(y, c, bijector))

    @functools.cached_property
    def eager(self):
        return self.both(*self.row.inputs())

    @functools.cached_property
    def measured(self):
        """`both`, `forward(x)` again, and the log-dets by autodiff, in one graph."""
        shapes = [s for s in (self.row.shape, self.row.condition) if s is not None]
        specs = [tf.TensorSpec([None, *shape], tf.float64) for shape in shapes]

        @tf.function(input_signature=specs, autograph=False)
        def measure(x, c=None):
            y, fldj, back, ildj = self.both(x, c)
            again, _ = self.forward(back, c)
            exact = true_log_det(self.forward, x, c)
            exact_back = true_log_det(self.inverse, y, c)
            return (y, fldj, back, ildj), again, exact, exact_back

        return measure


def true_log_det(function, x, c):
    """Differentiates each output in a batch entry of its own."""
    size = int(np.prod(x.shape[1:]))
    x, c = (None if t is None else tf.repeat(t, size, axis=0) for t in (x, c))
    with tf.GradientTape() as tape:
        tape.watch(x)
        values = tf.reshape(function(x, c)[0], [-1, size, size])
        diagonal = tf.reduce_sum(tf.linalg.diag_part(values))
    jacobian = tf.reshape(tape.gradient(diagonal, x), [-1, size, size])
    return tf.linalg.slogdet(jacobian)[1]


def assert_near(found, expected, atol, what):
    """Compares tensors after broadcasting, as TFP's constant log-dets need."""
    off = np.max(np.abs(np.asarray(found) - np.asarray(expected)))
    assert off <= atol, f"{what}: off by {off:.3g}"


def assert_all_near(found, expected, atol, what):
    for name, a, b in zip(("y", "fldj", "x", "ildj"), found, expected, strict=True):
        assert_near(a, b, atol, f"{what}, {name}")


@pytest.fixture(autouse=True, scope="module")
def _in_float64():
    floatx = keras.config.floatx()
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_floatx(floatx)
    keras.config.set_dtype_policy(floatx)


@pytest.fixture(scope="module")
def cases(counting):
    """Builds a row's case once."""
    return functools.cache(lambda name: Case(name, counting))


@pytest.fixture(scope="module", params=TABLE)
def case(request, cases):
    return cases(request.param)


def test_round_trips_and_log_dets(case):
    elements = st.floats(-case.row.bound, case.row.bound, width=64)

    @settings(max_examples=10)
    @given(arrays("float64", (2, *case.row.shape), elements=elements))
    def check(x):
        conditions = case.row.inputs()[1:]
        (y, fldj, back, ildj), again, exact, exact_back = case.measured(x, *conditions)
        assert_near(back, x, ROUND_TRIP, "inverse(forward(x))")
        assert_near(again, y, ROUND_TRIP, "forward(inverse(y))")
        assert_near(fldj, exact, LOG_DET, "forward log-det")
        assert_near(ildj, exact_back, LOG_DET, "inverse log-det")

    check()


def test_every_weight_gets_a_gradient_in_both_directions(case):
    weights = case.bijector.trainable_variables
    held = [layer.trainable_weights for layer in layers_in(case.bijector)]
    assert len(weights) == sum(map(len, held)), "not every Keras weight is listed"
    for direction, v in (("forward", case.row.inputs()[0]), ("inverse", case.eager[0])):
        with tf.GradientTape() as tape:
            value, log_det = getattr(case, direction)(v, *case.row.inputs()[1:])
            loss = tf.reduce_sum(tf.sin(value)) + tf.reduce_sum(log_det)
        for weight, gradient in zip(weights, tape.gradient(loss, weights), strict=True):
            assert gradient is not None, f"{direction}: none reaches {weight.name}"
            assert np.all(np.isfinite(gradient)), f"{direction}: {weight.name}"
            assert np.any(gradient), f"{direction}: zero at {weight.name}"


def counted(case, run):
    for net in case.nets:
        net.calls = 0
    run()
    return sum(net.calls for net in case.nets)


@pytest.mark.parametrize("chained", [False, True], ids=["alone", "in_chain"])
def test_a_value_and_its_log_det_call_each_network_once(case, chained):
    if not case.nets:
        pytest.skip("holds no conditioner")
    due = case.row.calls or len(case.nets)
    traced = case.row.traced or due
    bijector = tfb.Chain([tfb.Scale(np.float64(2.0)), case.bijector])
    bijector = bijector if chained else case.bijector
    inputs = case.row.inputs()
    # y of the bijector alone will do as an input of the chain's inverse too.
    for direction, v in ((case.forward, inputs[0]), (case.inverse, case.eager[0])):
        run = functools.partial(direction, v, *inputs[1:], bijector=bijector)
        assert counted(case, run) == due
        graph = tf.function(run, autograph=False)
        assert counted(case, graph.get_concrete_function) == traced


def test_graphs_and_xla_equal_eager_execution(case):
    inputs = case.row.inputs()
    assert_all_near(case.measured(*inputs)[0], case.eager, 1e-11, "graph")
    if case.row.xla:
        compiled = tf.function(case.both, autograph=False, jit_compile=True)
        assert_all_near(compiled(*inputs), case.eager, 1e-11, "XLA")


def test_any_batch_shape(case):
    several = case.row.inputs(batch=(3, 1, 2))
    flat = [tf.reshape(t, [6, *t.shape[3:]]) for t in several]
    # This graph was traced without knowing the batch size.
    expected = case.measured(*flat)[0]
    for found, part in zip(case.both(*several), expected, strict=True):
        if found.shape.rank == part.shape.rank == 0:
            assert found == part, "constant log-det"
            continue
        assert found.shape == (3, 1, 2, *part.shape[1:])
        assert_near(tf.reshape(found, part.shape), part, 1e-12, "several axes")
    for found, part in zip(case.both(*[t[0] for t in flat]), expected, strict=True):
        first = part if part.shape.rank == 0 else part[0]
        assert found.shape == first.shape
        assert_near(found, first, 1e-12, "no batch axis")


def test_a_copy_shares_the_weights(case):
    copy = case.bijector.copy(name="another")
    assert copy.name == "another"
    assert [id(v) for v in copy.variables] == [id(v) for v in case.bijector.variables]
    found = case.both(*case.row.inputs(), bijector=copy)
    assert_all_near(found, case.eager, 0.0, "copy")


@pytest.fixture(scope="module")
def reloaded(cases, tmp_path_factory):
    """Every case after a trip through a file: one chain, one file for each shape."""
    found = {}
    for shape in {row.shape for row in TABLE.values()}:
        names = [name for name, row in TABLE.items() if row.shape == shape]
        chain = tfb.Chain([cases(name).bijector for name in names])
        base = standard_normal(shape)
        path = tmp_path_factory.mktemp("laws") / "flow.keras"
        tfpf.save_distribution(tfd.TransformedDistribution(base, chain), path)
        loaded = tfpf.load_distribution(path).bijector.bijectors
        found |= dict(zip(names, loaded, strict=True))
    return found


def test_a_saved_and_loaded_bijector_is_bit_equal(case, reloaded):
    loaded = reloaded[case.name]
    assert loaded is not case.bijector
    found = case.both(*case.row.inputs(), bijector=loaded)
    assert_all_near(found, case.eager, 0.0, "file")


@settings(max_examples=10)
@given(arrays("float32", (8, 4), elements=st.floats(-10, 10, width=32)))
def test_float32_survives_32_couplings(x):
    y, back, again = through_32_couplings()(x)
    assert_near(back, x, 1e-4, "inverse(forward(x))")
    assert_near(again, y, 1e-4, "forward(inverse(y))")


@functools.cache
def through_32_couplings():
    net = functools.partial(tfpf.nets.MLP, (32,), activation="tanh", dtype="float32")
    couplings = [tfpf.AffineCoupling(m, net(), dtype="float32") for m in (HALF, FLIP)]
    chain = tfpf.Repeat(tfb.Chain(couplings), 16)
    move(chain, 0.05)

    @tf.function(autograph=False)
    def there_and_back(x):
        y = chain.forward(x)
        back = chain.inverse(tf.identity(y))
        return y, back, chain.forward(tf.identity(back))

    return there_and_back
