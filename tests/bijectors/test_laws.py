"""One table of bijectors x laws. A new bijector is one more row of `TABLE`.

All rows are built in float64 with weights moved away from their initial values:
a fresh flow is near the identity, for which every law holds.
"""

import dataclasses
import functools
from collections.abc import Callable

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import tfp_flows as tff
from tfp_flows.bijectors.base import nested_layers
from tfp_flows.bijectors.conditioning import condition_arguments

tfb, tfd = tfp.bijectors, tfp.distributions

ROUND_TRIP, LOG_DET = 1e-10, 1e-8
HALF, FLIP = tff.masks.half(4), tff.masks.half(4, flip=True)
IMAGE = (4, 4, 2)
CHANNEL, CHECKERBOARD = tff.masks.channel(IMAGE), tff.masks.checkerboard(IMAGE)
CONDITION = (3,)


@dataclasses.dataclass
class Row:
    """A bijector of the table.

    Attributes:
        make: Builds it; `net()` gives a fresh conditioner that counts its calls.
        shape: Shape of one input of `forward`.
        condition: Shape of one condition, or None.
        calls: Conditioner calls that a value with its log-det may cost; None stands
            for one of each network.
        traced: The same in a graph, where a loop counts once; None stands for `calls`.
        bound: Inputs are drawn from [-bound, bound].
        xla: Whether XLA knows all of its ops.
    """

    make: Callable
    shape: tuple = (4,)
    condition: tuple | None = None
    calls: int | None = None
    traced: int | None = None
    bound: float = 3.0
    xla: bool = True


def pair(net, condition_shape=None):
    """Two affine couplings that move both halves."""
    keywords = {"condition_shape": condition_shape}
    return tfb.Chain([tff.AffineCoupling(m, net(), **keywords) for m in (HALF, FLIP)])


def glow_step(net, mask=HALF, condition_shape=None):
    """Actnorm, 1x1 convolution and affine coupling."""
    channels = mask.event_shape[-1]
    coupling = tff.AffineCoupling(mask, net(), condition_shape=condition_shape)
    parts = [tff.ActNorm(channels), tff.InvertibleConv1x1(channels), coupling]
    return tfb.Chain(parts)


def among_tfps(net):
    """A coupling between TFP's own bijectors."""
    shift = tfb.Shift(np.array([1.0, 0.0, -1.0, 2.0]))
    parts = [tfb.Sigmoid(), shift, tfb.Permute([2, 0, 3, 1])]
    return tfb.Chain([*parts, tff.AffineCoupling(HALF, net())])


def batch_norm(net):
    """Statistics of some data, not the initial zeros and ones."""
    norm = tff.BatchNorm(4)
    norm.adapt(tf.random.stateless_normal([50, 4], [1, 2], 1.0, 3.0, tf.float64))
    return norm


def two_levels(net):
    """A Glow of two levels."""
    steps = [glow_step(net, tff.masks.channel(s)) for s in [(2, 2, 8), (1, 1, 16)]]
    return tff.MultiScale(IMAGE, [tfb.Chain([tff.Squeeze(), step]) for step in steps])


def standard_normal(shape):
    zero, one = tf.zeros([], tf.float64), tf.ones([], tf.float64)
    return tfd.Sample(tfd.Normal(zero, one), shape)


def conditioned(net):
    """A conditional coupling with its condition filled in."""
    coupling = tff.AffineCoupling(HALF, net(), condition_shape=CONDITION)
    flow = tfd.TransformedDistribution(standard_normal([4]), coupling)
    return tff.condition(flow, np.array([0.3, -1.0, 2.0])).bijector


def prior(net):
    """A class-conditional prior of an image."""
    dense = keras.layers.Dense(2 * IMAGE[-1])
    return tff.ConditionalAffine(IMAGE, dense, condition_shape=CONDITION)


def conv_coupling(net):
    """A coupling of an image by a convolutional network."""
    return tff.AffineCoupling(CHECKERBOARD, tff.nets.ConvNet(4, "tanh"))


def masked_autoregressive(net, **keywords):
    """An autoregressive layer with a network that knows the order of values."""
    made = tff.nets.MADE((8,), "tanh")
    return tff.MaskedAutoregressive(4, made, bins=4, **keywords)


TABLE = {
    "additive": Row(lambda net: tff.AdditiveCoupling(HALF, net())),
    "affine": Row(lambda net: tff.AffineCoupling(HALF, net())),
    "affine_sigmoid": Row(
        lambda net: tff.AffineCoupling(FLIP, net(), log_scale="sigmoid")
    ),
    "affine_exp": Row(lambda net: tff.AffineCoupling(HALF, net(), log_scale="exp")),
    "affine_tanh": Row(lambda net: tff.AffineCoupling(HALF, net(), log_scale="tanh")),
    "affine_odd": Row(lambda net: tff.AffineCoupling(tff.masks.half(5), net()), (5,)),
    "affine_condition": Row(
        lambda net: tff.AffineCoupling(HALF, net(), condition_shape=CONDITION),
        condition=CONDITION,
    ),
    "affine_channel": Row(lambda net: tff.AffineCoupling(CHANNEL, net()), IMAGE),
    "additive_checkerboard": Row(
        lambda net: tff.AdditiveCoupling(CHECKERBOARD, net()), IMAGE
    ),
    "affine_conv": Row(conv_coupling, IMAGE),
    "spline": Row(lambda net: tff.SplineCoupling(HALF, net(), bins=4), bound=6.0),
    "spline_circular": Row(
        lambda net: tff.SplineCoupling(HALF, net(), bins=4, tails="circular")
    ),
    "maf": Row(masked_autoregressive),
    "maf_spline": Row(functools.partial(masked_autoregressive, transform="spline")),
    "maf_condition": Row(
        functools.partial(masked_autoregressive, condition_shape=CONDITION),
        condition=CONDITION,
    ),
    "iaf": Row(lambda net: tfb.Invert(masked_autoregressive(net))),
    "linear_full": Row(lambda net: tff.Linear(4, kind="full"), xla=False),
    "linear_triangular": Row(lambda net: tff.Linear(4, kind="triangular")),
    "linear_lu": Row(lambda net: tff.Linear(4, kind="lu")),
    "linear_householder": Row(
        lambda net: tff.Linear(4, kind="householder", reflections=3)
    ),
    "sinh_arcsinh": Row(lambda net: tff.SinhArcsinh(4)),
    "leaky_relu": Row(lambda net: tff.LeakyReLU(4)),
    "planar": Row(lambda net: tff.Planar(4)),
    "radial": Row(lambda net: tff.Radial(4)),
    "actnorm": Row(lambda net: tff.ActNorm(4)),
    "actnorm_image": Row(lambda net: tff.ActNorm(2), IMAGE),
    "conv1x1": Row(lambda net: tff.InvertibleConv1x1(4)),
    "conv1x1_image": Row(lambda net: tff.InvertibleConv1x1(2), IMAGE),
    "conv1x1_matrix": Row(
        lambda net: tff.InvertibleConv1x1(4, kind="matrix"), xla=False
    ),
    "permutation": Row(lambda net: tff.InvertibleConv1x1(4, kind="permutation")),
    "reverse": Row(lambda net: tff.InvertibleConv1x1(4, kind="reverse")),
    "batch_norm": Row(batch_norm),
    "squeeze": Row(lambda net: tff.Squeeze(order="channel"), (2, 2, 8)),
    "conditional_affine": Row(prior, IMAGE, CONDITION),
    "conditioned": Row(conditioned),
    "multiscale": Row(two_levels, (32,)),
    "repeat": Row(lambda net: tff.Repeat(pair(net), 2, mode="unrolled"), calls=4),
    "repeat_loop": Row(
        lambda net: tff.Repeat(glow_step(net), 3, mode="loop"), calls=3, traced=1
    ),
    "repeat_condition": Row(
        lambda net: tff.Repeat(pair(net, CONDITION), 1), condition=CONDITION
    ),
    "inverted": Row(lambda net: tfb.Invert(tff.AffineCoupling(HALF, net()))),
    "among_tfps": Row(among_tfps),
}


class Case:
    """A row with its bijector, its counted networks and its compiled measurements."""

    def __init__(self, name, counting):
        self.name = name
        self.row = TABLE[name]
        self.nets = []
        keras.utils.set_random_seed(1)
        self.bijector = self.row.make(lambda: self._net(counting))
        moved(self.bijector, 0.3)
        self.ndims = len(self.row.shape)

    def _net(self, counting):
        self.nets.append(counting(tff.nets.MLP((8,), activation="tanh")))
        return self.nets[-1]

    def inputs(self, batch=(2,)):
        """Inputs that are no draw of hypothesis, with their conditions."""
        generator = np.random.default_rng(3)
        bound = self.row.bound
        x = generator.uniform(-bound, bound, (*batch, *self.row.shape))
        if self.row.condition is None:
            return (tf.constant(x),)
        c = generator.normal(size=(*batch, *self.row.condition))
        return tf.constant(x), tf.constant(c)

    def forward(self, x, c=None, bijector=None):
        b = bijector or self.bijector
        x, keywords = tf.identity(x), condition_arguments(b, c)
        y = b.forward(x, **keywords)
        return y, b.forward_log_det_jacobian(x, self.ndims, **keywords)

    def inverse(self, y, c=None, bijector=None):
        b = bijector or self.bijector
        y, keywords = tf.identity(y), condition_arguments(b, c)
        x = b.inverse(y, **keywords)
        ndims = b.forward_event_ndims(self.ndims)
        return x, b.inverse_log_det_jacobian(y, ndims, **keywords)

    def both(self, x, c=None, bijector=None):
        """Returns `y, fldj` and, of that y, `x, ildj`."""
        y, fldj = self.forward(x, c, bijector)
        return (y, fldj, *self.inverse(y, c, bijector))

    @functools.cached_property
    def eager(self):
        return self.both(*self.inputs())

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


def moved(bijector, spread):
    """Adds noise to every weight."""
    generator = np.random.default_rng(2)
    for variable in bijector.trainable_variables:
        noise = spread * generator.standard_normal(variable.shape)
        variable.assign_add(tf.cast(noise, variable.dtype))


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
        conditions = case.inputs()[1:]
        (y, fldj, back, ildj), again, exact, exact_back = case.measured(x, *conditions)
        assert_near(back, x, ROUND_TRIP, "inverse(forward(x))")
        assert_near(again, y, ROUND_TRIP, "forward(inverse(y))")
        assert_near(fldj, exact, LOG_DET, "forward log-det")
        assert_near(ildj, exact_back, LOG_DET, "inverse log-det")

    check()


def test_every_weight_gets_a_gradient_in_both_directions(case):
    weights = case.bijector.trainable_variables
    held = [layer.trainable_weights for layer in nested_layers(case.bijector)]
    assert len(weights) == sum(map(len, held)), "not every Keras weight is listed"
    for direction, v in (("forward", case.inputs()[0]), ("inverse", case.eager[0])):
        with tf.GradientTape() as tape:
            value, log_det = getattr(case, direction)(v, *case.inputs()[1:])
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
    inputs = case.inputs()
    # y of the bijector alone will do as an input of the chain's inverse too.
    for direction, v in ((case.forward, inputs[0]), (case.inverse, case.eager[0])):
        run = functools.partial(direction, v, *inputs[1:], bijector=bijector)
        assert counted(case, run) == due
        graph = tf.function(run, autograph=False)
        assert counted(case, graph.get_concrete_function) == traced


def test_graphs_and_xla_equal_eager_execution(case):
    inputs = case.inputs()
    assert_all_near(case.measured(*inputs)[0], case.eager, 1e-11, "graph")
    if case.row.xla:
        compiled = tf.function(case.both, autograph=False, jit_compile=True)
        assert_all_near(compiled(*inputs), case.eager, 1e-11, "XLA")


def test_any_batch_shape(case):
    several = case.inputs(batch=(3, 1, 2))
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
    assert_all_near(case.both(*case.inputs(), bijector=copy), case.eager, 0.0, "copy")


@pytest.fixture(scope="module")
def reloaded(cases, tmp_path_factory):
    """Every case after a trip through a file: one chain, one file for each shape."""
    found = {}
    for shape in {row.shape for row in TABLE.values()}:
        names = [name for name, row in TABLE.items() if row.shape == shape]
        chain = tfb.Chain([cases(name).bijector for name in names])
        base = standard_normal(shape)
        path = tmp_path_factory.mktemp("laws") / "flow.keras"
        tff.save_distribution(tfd.TransformedDistribution(base, chain), path)
        loaded = tff.load_distribution(path).bijector.bijectors
        found |= dict(zip(names, loaded, strict=True))
    return found


def test_a_saved_and_loaded_bijector_is_bit_equal(case, reloaded):
    loaded = reloaded[case.name]
    assert loaded is not case.bijector
    assert_all_near(case.both(*case.inputs(), bijector=loaded), case.eager, 0.0, "file")


@settings(max_examples=10)
@given(arrays("float32", (8, 4), elements=st.floats(-10, 10, width=32)))
def test_float32_survives_32_couplings(x):
    y, back, again = through_32_couplings()(x)
    assert_near(back, x, 1e-4, "inverse(forward(x))")
    assert_near(again, y, 1e-4, "forward(inverse(y))")


@functools.cache
def through_32_couplings():
    net = functools.partial(tff.nets.MLP, (32,), activation="tanh", dtype="float32")
    couplings = [tff.AffineCoupling(m, net(), dtype="float32") for m in (HALF, FLIP)]
    chain = tff.Repeat(tfb.Chain(couplings), 16)
    moved(chain, 0.05)

    @tf.function(autograph=False)
    def there_and_back(x):
        y = chain.forward(x)
        back = chain.inverse(tf.identity(y))
        return y, back, chain.forward(tf.identity(back))

    return there_and_back
