"""`ContinuousFlow`: laws, solvers, traces, gradients, regularizers."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfp_flows as tfpf
from tfp_flows.bijectors import continuous as divergence


def flow(solver=None, d=2, dtype="float64", style="concatsquash", **kwargs):
    net = tfpf.nets.VelocityNet((8, 8), style=style, dtype=dtype)
    return tfpf.ContinuousFlow(net, (d,), solver=solver, dtype=dtype, **kwargs)


def graph(function):
    """Traces a function."""
    return tf.function(function, autograph=False)


def points(n=6, d=2, seed=1):
    return tf.constant(np.random.default_rng(seed).normal(size=(n, d)))


LAWS = ("round trip of x", "forward log-det", "inverse log-det", "inverse gradients")


@pytest.mark.parametrize("style", ["concat", "concatsquash"])
def test_laws_of_fixed_steps(laws, style):
    bijector = flow(tfpf.FixedStep("rk4", 20), style=style)
    laws(bijector, points(), tolerance=1e-6, names=LAWS, graphs=True)


def test_graphs_equal_eager_execution(laws):
    # The loops of a solver are slow in eager execution.
    bijector = flow(tfpf.FixedStep("rk4", 2), style="concat")
    laws(bijector, points(), names=("unknown batch size", "XLA"))


def test_laws_of_the_adaptive_solver(perturbed):
    tolerance = 1e-9
    bijector = flow(tfpf.Adaptive(rtol=tolerance, atol=tolerance))
    perturbed(bijector, 0.3)
    y = points()
    inverse = graph(bijector.inverse)
    log_det = graph(bijector.inverse_log_det_jacobian)(y)
    again = graph(bijector.forward)(inverse(y))
    assert np.abs(again - y).max() < 10 * tolerance
    # The determinant of the true map, to the error of central differences.
    step = 1e-4
    columns = [
        (inverse(y + step * e) - inverse(y - step * e)) / (2 * step) for e in np.eye(2)
    ]
    true = np.linalg.slogdet(np.stack(columns, -1))[1]
    np.testing.assert_allclose(log_det, true, atol=1e-7)


def test_condition_adds_batch_axes(perturbed):
    bijector = flow(condition_shape=(3,))
    perturbed(bijector)
    one = points(1)[0]
    many = bijector.inverse(one, condition=points(5, 3))
    again = bijector.inverse(tf.tile(one[None], [5, 1]), condition=points(5, 3))
    np.testing.assert_allclose(many, again)


def test_image_laws(laws):
    net = tfpf.nets.VelocityNet((3,), kernel_size=3, dtype="float64")
    bijector = tfpf.ContinuousFlow(
        net, (2, 2, 1), solver=tfpf.FixedStep("rk4", 20), dtype="float64"
    )
    y = np.random.default_rng(0).normal(size=(3, 2, 2, 1))
    laws(bijector, y, tolerance=1e-6, names=LAWS, graphs=True)


@pytest.mark.parametrize(
    ("method", "order"), [("euler", 1), ("midpoint", 2), ("rk4", 4)]
)
def test_error_falls_with_the_order_of_the_method(perturbed, method, order):
    bijector = flow(tfpf.FixedStep("rk4", 100))
    perturbed(bijector, 0.5)
    x = points()
    true = graph(bijector.forward)(x)
    coarse = [bijector.copy(solver=tfpf.FixedStep(method, n)) for n in (8, 16)]
    errors = [np.abs(graph(b.forward)(x) - true).max() for b in coarse]
    assert np.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.35)


@pytest.mark.parametrize(
    "solver",
    [
        tfpf.FixedStep("rk4", 40, "adjoint"),
        pytest.param(tfpf.Adaptive(rtol=1e-8, atol=1e-8), marks=pytest.mark.slow),
    ],
)
def test_adjoint_gradients_equal_direct_ones(perturbed, solver):
    direct = flow(tfpf.FixedStep("rk4", 40), condition_shape=(1,))
    perturbed(direct, 0.5)
    y, c = points(), points(6, 1)

    @graph
    def gradients(bijector):
        with tf.GradientTape() as tape:
            tape.watch([y, c])
            x = bijector.inverse(y + 0, condition=c)
            log_det = bijector.inverse_log_det_jacobian(y + 0, condition=c)
            loss = tf.reduce_sum(x**2) - tf.reduce_sum(log_det * y[:, 0])
        return tape.gradient(loss, [y, c, *bijector.trainable_variables])

    adjoint = direct.copy(solver=solver)
    assert adjoint.velocity is direct.velocity
    for a, b in zip(gradients(adjoint), gradients(direct), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_bdf_agrees_with_fixed_steps(perturbed):
    bijector = flow(tfpf.FixedStep("rk4", 40))
    perturbed(bijector)
    stiff = bijector.copy(solver=tfpf.Adaptive("bdf", 1e-7, 1e-7))
    x = points(2)
    true = graph(bijector.forward)(x)
    np.testing.assert_allclose(graph(stiff.forward)(x), true, atol=1e-4)


def test_exact_trace_is_the_trace_of_the_jacobian():
    matrix = points(4, 4)
    z = points(3, 4, seed=2)
    f, trace, norm = divergence.exact(lambda v, _: v @ matrix, z)
    np.testing.assert_allclose(f, z @ matrix)
    np.testing.assert_allclose(trace, [np.trace(matrix)] * 3)
    np.testing.assert_allclose(norm, [np.sum(np.square(matrix))] * 3)


@pytest.mark.parametrize("kind", ["rademacher", "gaussian"])
def test_estimated_trace_is_unbiased(kind):
    matrix = points(4, 4)
    z = tf.zeros([40_000, 4], tf.float64)
    probe = divergence.Probe(kind, seed=3)(z)
    _, trace, norm = divergence.hutchinson(lambda v, _: v @ matrix, z, None, probe)
    for sample, true in ((trace, np.trace(matrix)), (norm, np.sum(matrix**2))):
        assert np.mean(sample) == pytest.approx(true, abs=4 * np.std(sample) / 200)


def test_estimated_log_det_is_reproducible_and_consistent(perturbed):
    bijector = flow(tfpf.FixedStep("rk4", 20), d=5, trace="rademacher", seed=7)
    perturbed(bijector)
    y = points(6, 5)
    first = bijector.inverse_log_det_jacobian(y)
    again = graph(bijector.inverse_log_det_jacobian)(y + 0)
    np.testing.assert_allclose(first, again, atol=1e-12)
    x = graph(bijector.inverse)(y)
    back = graph(bijector.forward_log_det_jacobian)(x)
    np.testing.assert_allclose(first, -back, atol=1e-5)


def test_keras_draws_new_probes_while_it_trains():
    probe = divergence.Probe("gaussian", seed=1)
    z = tf.zeros([4, 2])
    assert np.abs(probe(z, training=True) - probe(z, training=True)).max() > 0
    np.testing.assert_array_equal(probe(z), probe(z))


def trained(jit=False, **kwargs):
    distribution = tfpf.ffjord((2,), hidden_units=(8,), actnorm=False, **kwargs)
    model = tfpf.FlowModel(distribution)
    model.compile(optimizer=keras.optimizers.Adam(1e-2), jit_compile=jit)
    x = np.random.default_rng(0).normal(2.0, 0.5, (256, 2)).astype("float32")
    history = model.fit(x, epochs=4, batch_size=64, verbose=0).history
    return model, history, x


@pytest.mark.parametrize(
    ("solver", "jit"),
    [
        (tfpf.FixedStep("rk4", 4), True),
        pytest.param(tfpf.FixedStep("rk4", 4, "adjoint"), True, marks=pytest.mark.slow),
        pytest.param(
            tfpf.Adaptive(rtol=1e-3, atol=1e-3), False, marks=pytest.mark.slow
        ),
    ],
)
def test_trains_under_keras(solver, jit):
    _, history, _ = trained(jit, solver=solver)
    assert history["nll"][-1] < history["nll"][0] - 0.1
    if isinstance(solver, tfpf.FixedStep):
        assert history["nfe"] == [16.0] * 4
    else:
        assert history["nfe"][0] >= 7


@pytest.mark.slow
def test_regularizers_add_to_the_loss_and_shorten_paths():
    _, plain, _ = trained()
    np.testing.assert_allclose(plain["loss"], plain["nll"], rtol=1e-5)
    model, costly, x = trained(kinetic=1.0, jacobian=0.1)
    assert costly["loss"][-1] > costly["nll"][-1]
    still, _, _ = trained(kinetic=100.0)
    moved = [
        np.abs(graph(m.distribution.bijector.inverse)(x) - x).mean()
        for m in (model, still)
    ]
    assert moved[1] < moved[0]
    # Outside of training nothing is added.
    evaluated = model.evaluate(x, verbose=0, return_dict=True)
    assert evaluated["loss"] == pytest.approx(evaluated["nll"], rel=1e-5)


def test_saves_and_loads(tmp_path):
    model, _, x = trained(
        trace="rademacher", kinetic=0.1, solver=tfpf.FixedStep("rk4", 4)
    )
    model.save(tmp_path / "flow.keras")
    again = keras.models.load_model(tmp_path / "flow.keras")
    np.testing.assert_array_equal(
        again.predict(x, verbose=0), model.predict(x, verbose=0)
    )


@pytest.mark.parametrize(
    "solver",
    [
        tfpf.FixedStep("rk4", 4),
        pytest.param(tfpf.Adaptive(rtol=1e-4, atol=1e-4), marks=pytest.mark.slow),
    ],
)
def test_exports_to_a_saved_model(tmp_path, solver):
    distribution = tfpf.ffjord((2,), hidden_units=(8,), solver=solver)
    module = tf.Module()
    module.weights = distribution.variables
    signature = [tf.TensorSpec([None, 2])]
    module.log_prob = tf.function(distribution.log_prob, input_signature=signature)
    tf.saved_model.save(module, str(tmp_path / "flow"))
    x = tf.random.stateless_normal([5, 2], [1, 2])
    again = tf.saved_model.load(str(tmp_path / "flow"))
    np.testing.assert_allclose(again.log_prob(x), distribution.log_prob(x), rtol=1e-6)


@pytest.mark.slow
def test_inside_repeat(laws):
    repeated = tfpf.Repeat(flow(tfpf.FixedStep("rk4", 20)), 2, mode="unrolled")
    laws(repeated, points(), tolerance=1e-5, names=LAWS, graphs=True)


@pytest.mark.parametrize(
    ("argument", "value", "error"),
    [
        ("velocity", tfpf.nets, TypeError),
        ("solver", "rk4", TypeError),
        ("trace", "none", ValueError),
        ("kinetic", -1.0, ValueError),
    ],
)
def test_names_the_argument_that_is_wrong(argument, value, error):
    arguments = {
        "velocity": tfpf.nets.VelocityNet((4,)),
        "event_shape": (2,),
        argument: value,
    }
    with pytest.raises(error, match=f"`{argument}`.*Received"):
        tfpf.ContinuousFlow(**arguments)


@pytest.mark.parametrize(
    ("make", "argument"),
    [
        (lambda: tfpf.FixedStep("rk5"), "method"),
        (lambda: tfpf.FixedStep("rk4", 0), "steps"),
        (lambda: tfpf.FixedStep(gradient="none"), "gradient"),
        (lambda: tfpf.Adaptive("euler"), "method"),
        (lambda: tfpf.Adaptive(rtol=0.0), "rtol"),
    ],
)
def test_solvers_name_the_argument_that_is_wrong(make, argument):
    with pytest.raises(ValueError, match=f"`{argument}`.*Received"):
        make()


@keras.saving.register_keras_serializable(package="tests")
class Normalized(tfpf.nets.Conditioner):
    """A network with a normalization layer of Keras's, as image models have."""

    def build_network(self, input_shape, output_shape, condition_shape):
        (d,) = input_shape
        self.layers = [
            keras.layers.Dense(6, "tanh", dtype="float64"),
            keras.layers.LayerNormalization(dtype="float64"),
            keras.layers.Dense(d, dtype="float64"),
        ]
        for layer, width in zip(self.layers, (d + 1, 6, 6), strict=True):
            layer.build((None, width))

    def call(self, inputs, t):
        times = tf.broadcast_to(tf.reshape(t, [-1, 1]), [tf.shape(inputs)[0], 1])
        h = tf.concat([inputs, times], axis=1)
        for layer in self.layers:
            h = layer(h)
        return h


@pytest.mark.parametrize(
    ("gradient", "steps"),
    [("direct", 2), pytest.param("adjoint", 20, marks=pytest.mark.slow)],
)
def test_normalization_layers_leave_gradients_right(gradient, steps):
    """The log-det's has second derivatives, which TensorFlow's moments lack."""
    solver = tfpf.FixedStep("rk4", steps, gradient)
    bijector = tfpf.ContinuousFlow(
        Normalized(dtype="float64"), (3,), solver=solver, dtype="float64"
    )
    x = tf.random.stateless_normal([5, 3], [0, 1], dtype="float64")
    kernel = bijector.trainable_variables[0]
    way = tf.random.stateless_normal(kernel.shape, [2, 3], dtype="float64")

    def log_det():
        return tf.reduce_sum(bijector.inverse_log_det_jacobian(tf.identity(x), 1))

    log_det = tf.function(log_det, autograph=False)
    with tf.GradientTape() as tape:
        value = log_det()
    found = float(tf.reduce_sum(way * tape.gradient(value, kernel)))
    kernel.assign_add(1e-5 * way)
    above = float(log_det())
    kernel.assign_sub(2e-5 * way)
    assert found == pytest.approx((above - float(log_det())) / 2e-5, rel=1e-4)


def test_a_condition_that_is_not_a_number_holds_no_other_row():
    flow = tfpf.ffjord(
        (2,), hidden_units=(4,), condition_shape=(1,), solver=tfpf.Adaptive()
    )
    x = np.ones((2, 2), "float32")
    found = tfpf.condition(flow, [[0.0], [np.nan]]).log_prob(x)
    one = tfpf.condition(flow, [[0.0]]).log_prob(x[:1])
    np.testing.assert_allclose(found, [float(one[0]), np.nan], rtol=1e-5)
