"""Where the time of a step goes: networks, the flow round them, optimizer, pages."""

import json
import resource
import statistics
import subprocess
import sys
import time

PARTS = ("networks", "networks + gradients", "log_prob", "loss + gradients", "train")
SCORED_PARTS = (
    "scored batch: networks",
    "scored batch: log_prob",
    "scored batch: forward",
    "scored batch: normal numbers",
    "scored batch: sample",
)


def clocks():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return time.perf_counter(), used.ru_utime, used.ru_stime, used.ru_minflt


def timed(functions, rounds, seconds):
    """Times functions in turns; medians of wall, user and system ms, page faults."""
    for function in functions.values():
        function(), function()
    rows = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            start, calls = clocks(), 0
            while clocks()[0] - start[0] < seconds / rounds:
                function()
                calls += 1
            spent = [b - a for a, b in zip(start, clocks(), strict=True)]
            rows[name].append([value / calls for value in spent])
    return {
        name: dict(
            zip(
                ("wall_ms", "user_ms", "system_ms", "page_faults"),
                (
                    statistics.median(column) * scale
                    for column, scale in zip(
                        zip(*values, strict=True), (1e3, 1e3, 1e3, 1), strict=True
                    )
                ),
                strict=True,
            )
        )
        for name, values in rows.items()
    }


def functions(w, jit):
    """Returns the parts of a step, of scores and of samples, without arguments."""
    import keras
    import numpy as np
    import tensorflow as tf

    import tfp_flows as tfpf
    from benchmarks.speed.adapters.floor import chained, networks
    from benchmarks.speed.adapters.tfp_flows import flow
    from benchmarks.speed.workloads import LEARNING_RATE

    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)

    def normal(n):
        return tf.constant(rng.normal(size=(n, *w.event_shape)).astype("float32"))

    x, scored = normal(w.train_batch), normal(w.batch)
    nets = networks(w)
    first = tf.zeros((w.train_batch, *nets[0][1])) + 0.1
    first_scored = tf.zeros((w.batch, *nets[0][1])) + 0.1
    net_weights = [v.value for net, _ in nets for v in net.trainable_weights]
    model = tfpf.FlowModel(flow(w))
    model.compile(optimizer=tfpf.optimizer(LEARNING_RATE), jit_compile=jit)
    model.adapt(x)
    model.optimizer.build(model.trainable_variables)
    weights = [v.value for v in model.trainable_variables]

    def gradients(loss_of, variables):
        with tf.GradientTape() as tape:
            loss = loss_of()
        return tape.gradient(loss, variables)

    def networks_loss():
        return tf.reduce_mean(chained(nets, first) ** 2)

    def loss():
        return -tf.reduce_mean(model.distribution.log_prob(x))

    bodies = (
        lambda: chained(nets, first),
        lambda: gradients(
            lambda: tf.reduce_mean(chained(nets, first) ** 2), net_weights
        ),
        lambda: model.distribution.log_prob(x),
        lambda: gradients(loss, weights),
        lambda: model.train_step((x,)),
    )
    flow_, seed = model.distribution, tf.Variable([0, 0])

    def function(body, jit=jit):
        return tf.function(body, jit_compile=jit, autograph=False)

    def noise():
        return flow_.distribution.sample(w.batch, seed=seed)

    # As the package draws: XLA only compiles the bijector.
    decode = function(flow_.bijector.forward)
    scored_bodies = (
        function(lambda: chained(nets, first_scored)),
        function(lambda: flow_.log_prob(scored)),
        lambda: decode(scored),
        function(noise, jit=False),
        function(lambda: decode(noise()), jit=False),
    )
    return {
        part: function(body) for part, body in zip(PARTS, bodies, strict=True)
    } | dict(zip(SCORED_PARTS, scored_bodies, strict=True))


def measure(name, jit, rounds=5, seconds=2.0):
    """Times the parts of one workload in this process."""
    from benchmarks.speed.workloads import WORKLOADS

    return timed(functions(WORKLOADS[name], jit), rounds, seconds)


def profile(workloads, keep):
    """Times every workload with and without XLA.

    Calls `keep` with the results so far after each workload.
    """
    found = {}
    for name in workloads:
        for jit in (False, True):
            code = (
                "import json; from benchmarks.speed.profile import measure;"
                f"print(json.dumps(measure({name!r}, {jit})))"
            )
            printed = subprocess.run(
                [sys.executable, "-c", code],
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            ).stdout
            way = "XLA" if jit else "plain"
            found.setdefault(name, {})[way] = json.loads(printed.splitlines()[-1])
            print(f"profiled {name}, {way}", flush=True)
        keep(found)
    return found


def table(found):
    """Formats the parts of every workload as Markdown."""
    lines = [
        "| workload | way | part | wall ms | user ms | system ms | page faults |",
        "|---|---|---|---:|---:|---:|---:|",
    ]
    for name, ways in found.items():
        for way, parts in ways.items():
            for part, row in parts.items():
                lines.append(
                    f"| {name} | {way} | {part} | {row['wall_ms']:.1f} "
                    f"| {row['user_ms']:.1f} | {row['system_ms']:.1f} "
                    f"| {row['page_faults']:,.0f} |"
                )
    return "\n".join(lines)
