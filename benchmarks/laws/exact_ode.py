"""Continuous flows beside SciPy's solution of the same equation to 1e-12."""

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
from scipy.integrate import solve_ivp
from sklearn.datasets import make_moons

import tfp_flows as tfpf
from tfp_flows.distributions.bases import standard_normal
from tfp_flows.testing.subject import perturb

TOLERANCES = (1e-3, 1e-5, 1e-7, 1e-9)
STEPS = (5, 10, 20, 40)
EXACT = 1e-12
POINTS = 64


def bent(features=3):
    """A flow whose weights are large enough to bend its paths."""
    keras.utils.set_random_seed(1)
    net = tfpf.nets.VelocityNet((16, 16), dtype="float64")
    return perturb(tfpf.ContinuousFlow(net, (features,), dtype="float64"), seed=2)


def trained(epochs=6):
    """A flow that has learned the two moons."""
    keras.utils.set_random_seed(0)
    rows, _ = make_moons(10_000, noise=0.05, random_state=0)
    rows = (rows - rows.mean(0)) / rows.std(0)
    net = tfpf.nets.VelocityNet((32, 32), dtype="float64")
    bijector = tfpf.ContinuousFlow(net, (2,), dtype="float64")
    base = standard_normal(2)
    model = tfpf.FlowModel(tfp.distributions.TransformedDistribution(base, bijector))
    model.compile(optimizer=tfpf.optimizer(5e-3))
    model.fit(rows, batch_size=256, epochs=epochs, verbose=0)
    return bijector


# Each with the number of its values.
FLOWS = {"random weights": (bent, 3), "two moons": (trained, 2)}


def latents(features, n=POINTS):
    """Points to start from."""
    return np.random.default_rng(3).normal(size=(n, features))


def integrated(bijector, x):
    """Integrates points and the trace of the whole Jacobian from time 0 to 1.

    Nothing of the package is used but the network's values.

    Returns:
        Points `[n, d]` and log-dets `[n]`.
    """
    n, d = x.shape

    @tf.function(autograph=False)
    def field(t, z):
        with tf.GradientTape() as tape:
            tape.watch(z)
            f = bijector.velocity_at(t, z)
        return f, tf.linalg.trace(tape.batch_jacobian(f, z))

    def derivative(t, state):
        z = tf.constant(state[: n * d].reshape(n, d))
        f, trace = field(tf.constant(t, tf.float64), z)
        return np.concatenate([np.ravel(f), trace])

    start = np.concatenate([x.ravel(), np.zeros(n)])
    end = solve_ivp(
        derivative, (0.0, 1.0), start, method="DOP853", rtol=EXACT, atol=EXACT
    ).y[:, -1]
    return end[: n * d].reshape(n, d), end[n * d :]


def errors(bijector, x, true_y, true_log_det):
    """Returns the errors of one solver, as `|a - b| / (1 + |b|)`.

    That is the measure of a solver with `rtol = atol`. The round trip is given by its
    largest value and by its root mean square, which is what TFP's solvers hold to the
    tolerance in each of their steps.

    Args:
        bijector: The flow with that solver.
        x: Latents.
        true_y: The exact ends of their paths.
        true_log_det: The exact log-dets.
    """

    @tf.function(autograph=False)
    def there_and_back(x):
        y = bijector.forward(x)
        log_det = bijector.forward_log_det_jacobian(x)
        return y, log_det, bijector.inverse(tf.identity(y))

    y, log_det, back = (part.numpy() for part in there_and_back(tf.constant(x)))

    def off(a, b):
        return np.abs(a - b) / (1.0 + np.abs(b))

    return {
        "round_trip_rms": float(np.sqrt(np.mean(off(back, x) ** 2))),
        "round_trip": float(np.max(off(back, x))),
        "forward": float(np.max(off(y, true_y))),
        "log_det": float(np.max(off(log_det, true_log_det))),
    }


def measured():
    """Measures every solver on every flow.

    Returns:
        One dictionary for each: flow, solver, tolerance or None, and errors.
    """
    solvers = {
        f"adaptive, {t:.0e}": (tfpf.Adaptive(rtol=t, atol=t), t) for t in TOLERANCES
    } | {f"RK4, {n} steps": (tfpf.FixedStep("rk4", n), None) for n in STEPS}
    rows = []
    for flow, (make, features) in FLOWS.items():
        bijector, x = make(), latents(features)
        exact = integrated(bijector, x)
        for name, (solver, tolerance) in solvers.items():
            found = errors(bijector.copy(solver=solver), x, *exact)
            rows.append({"flow": flow, "solver": name, "tolerance": tolerance} | found)
    return rows
