"""Every transform, elementwise: round trip, derivatives, identity, structures."""

import keras
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
from tensorflow_probability import distributions as tfd

import tfp_flows as tfpf
from tfp_flows.bijectors.transforms import roots
from tfp_flows.bijectors.transforms.base import Transform
from tfp_flows.testing.subject import perturb

transforms = tfpf.transforms


class Cubic(Transform):
    """Of which only one direction is written."""

    parameters_per_value = 1

    def forward(self, x, parameters):
        a = tf.exp(parameters[..., 0])
        return x + a * x**3, tf.math.log1p(3.0 * a * tf.square(x))


class Falling(Transform):
    """Decreasing, and written from the data's side."""

    parameters_per_value = 1

    def inverse(self, y, parameters):
        a = tf.exp(parameters[..., 0])
        return -y - a * tf.sinh(y), tf.math.log(1.0 + a * tf.cosh(y))


def _with_weights(transform):
    generator = np.random.default_rng(4)

    def add_weight(shape, *_, **__):
        return tf.constant(0.5 * generator.normal(size=shape))

    return transform.with_weights(add_weight)


TRANSFORMS = {
    "shift": transforms.Shift(),
    "affine": transforms.Affine(),
    "affine_tanh": transforms.Affine("tanh"),
    "affine_halves": transforms.Affine("sigmoid", order="halves"),
    "volume_preserving": transforms.VolumePreserving(),
    "periodic_shift": transforms.PeriodicShift(4.0),
    "leaky_relu": transforms.LeakyReLU(0.3),
    "sinh_arcsinh": transforms.SinhArcsinh(),
    "spline": transforms.RationalQuadraticSpline(5, 3.0),
    "spline_circular": transforms.RationalQuadraticSpline(5, 4.0, "circular"),
    "spline_none": transforms.RationalQuadraticSpline(5, 4.0, "none"),
    "spline_linear": transforms.LinearSpline(5, 3.0),
    "spline_quadratic": transforms.QuadraticSpline(5, 3.0),
    "spline_cubic": transforms.CubicSpline(5, 3.0),
    "spline_linear_rational": transforms.LinearRationalSpline(5, 3.0),
    "mixture": transforms.LogisticMixture(4),
    "mixture_normal": transforms.NormalMixture(4),
    "tanh_linear": transforms.Tanh(),
    "tanh_log": transforms.Tanh("log", 0.7),
    "cauchy": transforms.CauchyCDF(),
    "gaussianization": transforms.Gaussianization(4),
    "bernstein": transforms.Bernstein(7, 3.0),
    "sum_of_squares": transforms.SumOfSquares(2, 3, 3.0),
    "sigmoidal": transforms.SigmoidalNetwork(4, 1),
    "sigmoidal_deep": transforms.SigmoidalNetwork(3, 2, dense=False),
    "sigmoidal_dense": transforms.SigmoidalNetwork(3, 2),
    "monotonic": _with_weights(transforms.UnconstrainedMonotonic((5,), 3, 12, 3.5)),
    "forward_only": Cubic(),
    "inverse_only": Falling(),
}
X = np.linspace(-3.7, 3.9, 24).reshape(4, 6)


def parameters_of(transform):
    shape = (*X.shape, transform.parameters_per_value)
    return tf.constant(np.random.default_rng(0).normal(size=shape))


@pytest.mark.parametrize("direction", ["forward", "inverse"])
@pytest.mark.parametrize("name", TRANSFORMS)
def test_second_derivatives_are_those_of_the_first(name, direction):
    """Along a line; a solved direction has none and says so."""
    transform = TRANSFORMS[name]
    parameters, x = parameters_of(transform), tf.constant(0.3 * X)
    if direction == "inverse":
        x = transform.forward(x, parameters)[0]
    units = 1.0 + tf.abs(getattr(transform, direction)(x, parameters)[0])

    def slope(t):
        with tf.GradientTape() as tape:
            tape.watch(t)
            value, log_slope = getattr(transform, direction)(t + x, parameters)
            total = tf.reduce_sum(tf.sin(value / units) + log_slope)
        return tape.gradient(total, t)

    t, step = tf.constant(1e-4, tf.float64), 1e-5
    try:
        with tf.GradientTape() as tape:
            tape.watch(t)
            first = slope(t)
        second = tape.gradient(first, t)
    except NotImplementedError as error:
        if "first derivatives" in str(error):
            return
        raise
    expected = (slope(t + step) - slope(t - step)) / (2.0 * step)
    np.testing.assert_allclose(second, expected, rtol=2e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("bijector", "curvature"),
    [(lambda: tfpf.Sinh(2.0), -1.25), (lambda: tfpf.SinhArcsinh(1), -1.0)],
    ids=["sinh", "sinh_arcsinh"],
)
def test_curvature_at_0(bijector, curvature):
    flow = tfd.TransformedDistribution(tfd.Sample(tfd.Normal(0.0, 1.0), 1), bijector())
    x = tf.zeros([1])
    with tf.GradientTape() as outer:
        outer.watch(x)
        with tf.GradientTape() as inner:
            inner.watch(x)
            density = flow.log_prob(x)
        slope = inner.gradient(density, x)
    np.testing.assert_allclose(outer.gradient(slope, x), [curvature], atol=1e-5)


@pytest.mark.parametrize(
    "jit", [pytest.param(False, marks=pytest.mark.slow), True], ids=["graph", "xla"]
)
@pytest.mark.parametrize("name", TRANSFORMS)
def test_round_trip_and_derivatives(name, jit):
    transform = TRANSFORMS[name]

    @tf.function(autograph=False, jit_compile=jit)
    def measured(x, p):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y, log_slope = transform.forward(x, p)
        slope = tape.gradient(y, x)
        with tf.GradientTape() as tape:
            tape.watch(y)
            back, log_slope_back = transform.inverse(y, p)
        return y, log_slope, slope, back, log_slope_back, tape.gradient(back, y)

    y, log_slope, slope, back, log_back, slope_back = measured(
        tf.constant(X), parameters_of(transform)
    )
    np.testing.assert_allclose(back, X, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(log_slope, np.log(np.abs(slope)), atol=1e-8)
    np.testing.assert_allclose(log_back, np.log(np.abs(slope_back)), atol=1e-8)
    np.testing.assert_allclose(log_back, -log_slope, atol=1e-7)
    assert y.dtype == log_slope.dtype == tf.float64


@pytest.mark.parametrize(
    "name",
    [
        name if "normal" in name or "gauss" in name else slow
        for name in TRANSFORMS
        for slow in [pytest.param(name, marks=pytest.mark.slow)]
    ],
)
def test_far_values_in_float32_under_xla(name):
    """Special functions of XLA end earlier than TensorFlow's."""
    transform = TRANSFORMS[name]
    bounded = name in ("spline_circular", "spline_none", "periodic_shift", "tanh_log")
    far = np.linspace(-1.0, 1.0, 24).reshape(4, 6) * (3.9 if bounded else 60.0)
    p = parameters_of(transform)
    exact = transform.inverse(tf.constant(far), p)
    compiled = tf.function(transform.inverse, autograph=False, jit_compile=True)
    found = compiled(tf.constant(far, tf.float32), tf.cast(p, tf.float32))
    for one, other in zip(found, exact, strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("name", ["bernstein", "sum_of_squares", "monotonic"])
def test_outliers_are_not_stretched(name):
    """Chained slopes of ten would make 1e6 deviations of a thousand."""
    far = tf.constant([[-1e3, 1e3]], tf.float64)
    shape = (1, 2, TRANSFORMS[name].parameters_per_value)
    steep = tf.constant(np.random.default_rng(0).normal(3.0, size=shape))
    x, log_slope = TRANSFORMS[name].inverse(far, steep)
    edge = tf.sign(far) * TRANSFORMS[name].bound
    border, at_border = TRANSFORMS[name].inverse(edge, steep)
    np.testing.assert_allclose(log_slope, 0.0, atol=1e-12)
    moved = (x - border) - (far - edge)
    assert np.all(np.abs(moved) < 1.0 + np.exp(at_border))


@pytest.mark.parametrize("name", ["forward_only", "inverse_only", "mixture"])
def test_a_root_search_has_the_gradient_of_the_root(name):
    transform, p = TRANSFORMS[name], parameters_of(TRANSFORMS[name])
    searched, known = (
        (transform.inverse, transform.forward)
        if name == "forward_only"
        else (transform.forward, transform.inverse)
    )
    v = tf.constant(X)
    with tf.GradientTape() as tape:
        tape.watch(p)
        # Where one undoes the other, no parameter makes a difference.
        total = tf.reduce_sum(tf.sin(known(searched(v, p)[0], p)[0]))
    np.testing.assert_allclose(tape.gradient(total, p), 0.0, atol=1e-8)


@pytest.mark.parametrize("name", [n for n in TRANSFORMS if not n.endswith("_only")])
def test_is_a_value_with_a_configuration(name):
    transform = TRANSFORMS[name]
    described = keras.saving.serialize_keras_object(transform)
    again = keras.saving.deserialize_keras_object(described)
    assert again == transform
    assert hash(again) == hash(transform)
    assert again != Cubic()


@pytest.mark.parametrize("name", TRANSFORMS)
def test_works_in_every_structure(name):
    transform = TRANSFORMS[name]
    nets = tfpf.nets
    options = {"condition_shape": (2,), "dtype": "float64"}
    c = np.random.default_rng(2).normal(size=(4, 2))
    made = [
        tfpf.Coupling(tfpf.masks.half(6), nets.MLP((8,)), transform, **options),
        tfpf.Elementwise(transform, (6,), **options),
    ]
    if name in ("affine_halves", "volume_preserving"):
        with pytest.raises(ValueError, match="order='interleaved'"):
            tfpf.Autoregressive(nets.MADE((8,)), transform, (6,), **options)
    else:
        net = nets.MADE((8,))
        made.append(tfpf.Autoregressive(net, transform, (6,), **options))
    for bijector in made:
        perturb(bijector, spread=0.1, seed=1)
        y = bijector.forward(0.3 * X, condition=c)
        x = bijector.inverse(tf.identity(y), condition=c)
        np.testing.assert_allclose(x, 0.3 * X, rtol=1e-8, atol=1e-8)


def test_quantiles_keep_their_digits_at_both_ends():
    bijector = tfpf.Elementwise(tfpf.transforms.CauchyCDF(), (1,))
    small = np.array([[1e-9], [1e-7], [1e-3]], "float32")
    exact = -1.0 / np.tan(np.pi * small.astype("float64"))
    np.testing.assert_allclose(bijector.inverse(small), exact, rtol=1e-5)
    np.testing.assert_allclose(bijector.forward(exact), small, rtol=1e-5)
    np.testing.assert_allclose(bijector.inverse([[0.75]]), [[1.0]], rtol=1e-5)


def test_infinity_is_no_angle():
    far = [[np.inf, 0.0], [-np.inf, 0.0]]
    flow = tfpf.torus_flow((2,), steps=2, hidden_units=(4,))
    assert not np.any(np.isfinite(flow.log_prob(far)))
    assert not np.any(np.isfinite(tfpf.Wrap().forward([np.inf, -np.inf])))


@pytest.mark.parametrize("far", [1e3, 1e6, 1e10, 1e20, -1e20])
@pytest.mark.parametrize("name", ["Gaussianization", "NormalMixture"])
def test_outliers_have_log_densities(name, far):
    transform = getattr(tfpf.transforms, name)()
    elements = tfpf.Elementwise(transform, (1,))
    base = tfd.Normal(0.0, 1.0) if name == "Gaussianization" else tfd.Logistic(0.0, 1.0)
    flow = tfd.TransformedDistribution(tfd.Sample(base, 1), elements)
    assert flow.log_prob([[far]]) < -100.0


def test_rows_that_are_not_a_number_do_not_hold_the_search():
    calls = []

    def cubed(x, parameters):
        calls.append(1)
        return x**3 + x + parameters, tf.math.log(3.0 * x**2 + 1.0)

    def roots_of(target):
        calls.clear()
        x, _ = roots.solve(cubed, tf.constant(target), tf.zeros(3))
        return x.numpy(), len(calls)

    clean, least = roots_of([2.0, 10.0, 30.0])
    found, most = roots_of([2.0, np.nan, 30.0])
    np.testing.assert_allclose(clean, [1.0, 2.0, 3.0], rtol=1e-6)
    np.testing.assert_array_equal(found, [clean[0], np.nan, clean[2]])
    assert most <= least


def test_sinh_has_distribution_functions():
    flow = tfd.TransformedDistribution(tfd.Normal(0.0, 1.0), tfpf.Sinh(2.0))
    x = np.linspace(-5.0, 5.0, 11).astype("float32")
    expected = scipy.stats.norm.cdf(2.0 * np.arcsinh(x / 2.0))
    np.testing.assert_allclose(flow.cdf(x), expected, rtol=1e-5)
    np.testing.assert_allclose(flow.quantile(flow.cdf(x)), x, rtol=1e-3, atol=1e-4)
