"""`python -m benchmarks continuous`: W5, a continuous flow by fixed and adaptive steps.

Two FFJORD flows of two moons with a velocity of two hidden layers of 64 tanh units,
exact trace, batches of 256 and Adam: ours with the fixed-step solver, with and without
XLA, and TFP's own `tfb.FFJORD` with its Dormand-Prince solver at a tolerance of 1e-5
and a tf_keras network (XLA cannot compile its training). All start from the same
velocity, are trained on the same batches and scored on the same held-out points with
the adaptive solver at 1e-7. Our layers see the time each, TFP's the first one only: the
66 weights more start at zero.
The times of a step are taken in turn, and each ratio within a round.
"""

import json
import statistics
import time
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
import tf_keras
from rich.console import Console

import tfp_flows as tfpf

tfb, tfd = tfp.bijectors, tfp.distributions

UNITS, BATCH, RATE, TOLERANCE, EXACT = 64, 256, 2e-3, 1e-5, 1e-7
HELD_OUT = 10_000


def ours(jit, solver_steps, start):
    """Returns our training step, and the held-out nll as a function.

    Args:
        jit: Whether XLA compiles the step.
        solver_steps: Steps of the solver.
        start: Weights of TFP's network, to begin with.
    """
    velocity = tfpf.nets.VelocityNet((UNITS, UNITS), "tanh", "concat")
    velocity.connect((2,), (2,))
    assign(velocity, start)

    def flow(solver):
        bijector = tfpf.ContinuousFlow(velocity, (2,), solver=solver, trace="exact")
        base = tfd.Sample(tfd.Normal(0.0, 1.0), [2])
        return tfd.TransformedDistribution(base, bijector)

    trained = flow(tfpf.FixedStep("rk4", solver_steps))
    scored = flow(tfpf.Adaptive(atol=EXACT, rtol=EXACT))
    variables = velocity.trainable_variables
    optimizer = keras.optimizers.Adam(RATE)
    optimizer.build(variables)

    @tf.function(jit_compile=jit, autograph=False)
    def step(batch):
        with tf.GradientTape() as tape:
            loss = -tf.reduce_mean(trained.log_prob(batch))
        gradients = tape.gradient(loss, [v.value for v in variables])
        optimizer.apply(gradients, variables)
        return loss

    count = sum(int(np.prod(v.shape)) for v in variables)
    return step, tf.function(lambda x: -tf.reduce_mean(scored.log_prob(x))), count


def assign(velocity, start):
    """Gives our network the kernels and biases of one that sees `[x, t]` at first."""
    (first, *kernels), biases = start[::2], start[1::2]
    times = [first[2:], *(np.zeros([1, k.shape[1]]) for k in kernels)]
    parts = zip([first[:2], *kernels], biases, times, strict=True)
    values = [value for layer in parts for value in layer]
    for variable, value in zip(velocity.trainable_variables, values, strict=True):
        variable.assign(value)


def tfps():
    """Returns the training step of TFP's own flow, and its held-out nll."""
    tf_keras.utils.set_random_seed(0)
    layers = [tf_keras.layers.Dense(UNITS, activation="tanh") for _ in range(2)]
    net = tf_keras.Sequential([*layers, tf_keras.layers.Dense(2)])
    net.build([None, 3])

    def velocity(at, state):
        times = at * tf.ones_like(state[:, :1])
        return net(tf.concat([state, times], -1))

    def flow(tolerance):
        solver = tfp.math.ode.DormandPrince(atol=tolerance, rtol=tolerance)
        bijector = tfb.FFJORD(
            velocity,
            ode_solve_fn=solver.solve,
            trace_augmentation_fn=tfb.ffjord.trace_jacobian_exact,
        )
        base = tfd.Sample(tfd.Normal(0.0, 1.0), [2])
        return tfd.TransformedDistribution(base, bijector)

    trained, scored = flow(TOLERANCE), flow(EXACT)
    optimizer = tf_keras.optimizers.Adam(RATE)
    optimizer.build(net.trainable_variables)

    @tf.function(autograph=False)
    def step(batch):
        with tf.GradientTape() as tape:
            loss = -tf.reduce_mean(trained.log_prob(batch))
        gradients = tape.gradient(loss, net.trainable_variables)
        pairs = zip(gradients, net.trainable_variables, strict=True)
        optimizer.apply_gradients(pairs)
        return loss

    count = sum(int(np.prod(v.shape)) for v in net.trainable_variables)
    nll = tf.function(lambda x: -tf.reduce_mean(scored.log_prob(x)))
    return (step, nll, count), [v.numpy() for v in net.trainable_variables]


def compare(training_steps, rounds, solver_steps):
    """Trains all flows and times their steps in turn.

    Args:
        training_steps: Steps of Adam.
        rounds: How often the step of each is timed.
        solver_steps: Steps of our fixed-step solver.

    Returns:
        A row for each flow: weights, nll, and times in milliseconds.
    """
    console = Console(stderr=True)
    theirs, start = tfps()
    flows = {
        "tfp_flows, RK4": ours(False, solver_steps, start),
        "tfp_flows, RK4, XLA": ours(True, solver_steps, start),
        "TFP, Dormand-Prince": theirs,
    }
    x = tfpf.data.sample("two_moons", training_steps * BATCH, seed=0)
    x = tf.constant((x - x.mean(0)) / x.std(0), tf.float32)
    held_out = tfpf.data.sample("two_moons", HELD_OUT, seed=1)
    held_out = (held_out - held_out.mean(0)) / held_out.std(0)
    rows = {}
    for name, (step, nll, count) in flows.items():
        console.print(f"W5: {name} trains")
        for index in range(training_steps):
            step(x[index * BATCH : (index + 1) * BATCH])
        value = float(nll(tf.constant(held_out, tf.float32)))
        rows[name] = {"parameters": count, "nll": value, "ms": []}
    for index in range(rounds):
        console.print(f"W5: round {index + 1} of {rounds}")
        for name, (step, _, _) in flows.items():
            rows[name]["ms"].append(_milliseconds(step, x[:BATCH]))
    return rows


def _milliseconds(step, batch, calls=20):
    times = []
    for _ in range(calls):
        start = time.perf_counter()
        float(step(batch))
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times)


def table(rows):
    """Formats the rows as Markdown, each with its ratio to TFP's."""
    theirs = rows["TFP, Dormand-Prince"]["ms"]
    lines = [
        "| flow | weights | held-out nll (nats) | ms a step | ratio to TFP |",
        "|---|---:|---:|---:|---:|",
    ]
    for name, row in rows.items():
        ratio = statistics.median(a / b for a, b in zip(row["ms"], theirs, strict=True))
        lines.append(
            f"| {name} | {row['parameters']:,} | {row['nll']:.3f} "
            f"| {statistics.median(row['ms']):.1f} | {ratio:.2f} |"
        )
    return "\n".join(lines)


def write(rows, machine: str, path: Path):
    """Keeps the rows."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n")
