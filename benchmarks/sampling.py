"""Times samples of autoregressive flows: rounds of all values at once, and caches.

    python -m benchmarks.sampling
    python -m benchmarks.sampling --python peers/bin/python --rounds 3

A MAF of three layers of 2x256 units is trained for some epochs on digits, of 64 values,
and on the same enlarged to 784. Its samples are timed as this package draws them, and
as TFP's own class does with the same weights, value by value; the two are compared. So
are samples of zuko and nflows, of equal sizes, which call each network 64 or 784 times,
whatever the weights. The ways take turns, and the time is that of the processor, of all
threads, so that other work on the machine counts little. Then one step of a TarFlow of
49 tokens samples with its cache and without.
"""

import argparse
import functools
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

RESULTS = Path(__file__).parent / "results" / "sampling.json"
LAYERS, WIDTH = 3, 256
BATCH = {64: 100, 784: 16}
EPOCHS = {64: 60, 784: 30}
PEERS = ("zuko", "nflows")
OURS = ("tfp_flows", "tfp_flows, XLA", "cached")


def milliseconds(call, seconds):
    """Calls for so long, twice at least, and returns the median processor time."""
    times = []
    while len(times) < 2 or sum(times) < 1e3 * seconds:
        start = time.process_time()
        call()
        times.append(1e3 * (time.process_time() - start))
    return statistics.median(times)


def digits(d):
    """Returns digits with noise, `[1797, d]`, of unit range."""
    import scipy.ndimage
    from sklearn.datasets import load_digits

    images = load_digits().images
    if d == 784:
        images = scipy.ndimage.zoom(images, (1, 3.5, 3.5), order=1)
    noise = np.random.default_rng(0).uniform(size=images.shape)
    return ((images + noise) / 17.0 - 0.5).reshape(-1, d).astype("float32")


def peer_sampler(name, d):
    """Builds the MAF of a library on PyTorch, and returns a function that samples."""
    import torch

    torch.manual_seed(0)
    torch.set_num_threads(1)
    if name == "zuko":
        import zuko

        module = zuko.flows.MAF(d, transforms=LAYERS, hidden_features=(WIDTH, WIDTH))
        sample = lambda: module().sample((BATCH[d],))  # noqa: E731
    else:
        from nflows.distributions.normal import StandardNormal
        from nflows.flows.base import Flow
        from nflows.transforms.autoregressive import (
            MaskedAffineAutoregressiveTransform,
        )
        from nflows.transforms.base import CompositeTransform

        parts = [
            MaskedAffineAutoregressiveTransform(
                d, WIDTH, num_blocks=2, use_residual_blocks=False
            )
            for _ in range(LAYERS)
        ]
        module = Flow(CompositeTransform(parts), StandardNormal([d]))
        sample = lambda: module.sample(BATCH[d])  # noqa: E731

    def draw():
        with torch.no_grad():
            return sample().numpy()

    return draw


def serve_peer(name, d):
    """Answers each line with the median milliseconds of a sample."""
    draw = peer_sampler(name, d)
    draw()
    print("ready", flush=True)
    for line in sys.stdin:
        print(milliseconds(draw, float(line)), flush=True)


class Peer:
    """A library in a process of its own."""

    def __init__(self, python, name, d):
        command = [python, "-W", "ignore", "-m", "benchmarks.sampling"]
        self.process = subprocess.Popen(
            [*command, "--serve", name, str(d)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.found = self.process.stdout.readline().strip() == "ready"

    def milliseconds(self, seconds):
        self.process.stdin.write(f"{seconds}\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())


def trained(d):
    """Trains a MAF, and returns it with its mean loss in nats a value."""
    import keras
    from tensorflow_probability import bijectors as tfb
    from tensorflow_probability import distributions as tfd

    import tfp_flows as tfpf

    keras.utils.set_random_seed(0)
    nets = [
        tfpf.nets.MADE((WIDTH, WIDTH), reverse=bool(layer % 2))
        for layer in range(LAYERS)
    ]
    layers = [tfpf.MaskedAutoregressive(d, net) for net in nets]
    base = tfpf.bases.standard_normal(d)
    flow = tfd.TransformedDistribution(base, tfb.Chain(layers))
    model = tfpf.FlowModel(flow)
    model.compile(tfpf.optimizer(1e-3))
    history = model.fit(digits(d), epochs=EPOCHS[d], batch_size=256, verbose=0)
    return flow, history.history["nll"][-1] / d


def of_tfp(flow):
    """Returns the flow with TFP's class in the place of ours, of the same networks."""
    import tensorflow as tf
    from tensorflow_probability import bijectors as tfb
    from tensorflow_probability import distributions as tfd

    import tfp_flows as tfpf
    from tfp_flows.internal import compat

    def theirs(part):
        if isinstance(part, compat.Chain):
            return tfb.Chain([*map(theirs, part.bijectors)])
        if not isinstance(part, tfpf.Autoregressive):
            return part

        def shift_and_log_scale(y, net=part.conditioner):
            t, r = tf.unstack(tf.reshape(net(y), [-1, y.shape[-1], 2]), axis=-1)
            return tf.stack([t, 2.0 * tf.tanh(0.5 * r)], axis=-1)

        return tfb.MaskedAutoregressiveFlow(shift_and_log_scale)

    return tfd.TransformedDistribution(flow.distribution, theirs(flow.bijector))


def network_calls(flow, x):
    """Returns how often each network is called for samples of given latents."""
    import tfp_flows as tfpf
    from tfp_flows.bijectors.tree import bijectors_in
    from tfp_flows.internal.compat import counted_calls

    parts = [
        b for b in bijectors_in(flow.bijector) if isinstance(b, tfpf.Autoregressive)
    ]
    with counted_calls([part.conditioner for part in parts]) as counts:
        flow.bijector.forward(x)
    return sorted(counts.values())


def maf(d, peers, rounds, seconds):
    """Measures all ways to sample a MAF of `d` values."""
    import tensorflow as tf

    flow, nll = trained(d)
    theirs = of_tfp(flow)
    z = flow.distribution.sample(BATCH[d], seed=1)
    forward = {
        "tfp_flows": tf.function(flow.bijector.forward, autograph=False),
        "tfp_flows, XLA": tf.function(
            flow.bijector.forward, autograph=False, jit_compile=True
        ),
        "TFP, the same weights": tf.function(theirs.bijector.forward, autograph=False),
    }
    values = {name: call(z).numpy() for name, call in forward.items()}
    sizes = 1.0 + np.abs(values["TFP, the same weights"])
    off = {
        name: float(np.max(np.abs(y - values["TFP, the same weights"]) / sizes))
        for name, y in values.items()
    }

    def ours(call):
        def draw():
            return call(flow.distribution.sample(BATCH[d])).numpy()

        return functools.partial(milliseconds, draw)

    calls = {name: ours(call) for name, call in forward.items()}
    calls |= {name: peer.milliseconds for name, peer in peers.items()}
    times = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            times[name].append(call(seconds))
    return {
        "batch": BATCH[d],
        "nats_a_value": nll,
        "network_calls": network_calls(flow, z),
        "off_from_tfp": off,
        "ms": times,
    }


def tarflow(rounds, seconds):
    """Measures one step of a TarFlow of 49 tokens with and without its cache."""
    import keras
    import tensorflow as tf

    import tfp_flows as tfpf
    from tfp_flows.testing.subject import perturb

    keras.utils.set_random_seed(0)
    net = tfpf.nets.CausalTransformer(width=64, layers=2, heads=4)
    one = tfpf.Elementwise(tfpf.transforms.Affine(), (16,), condition_shape=(64,))
    part = perturb(tfpf.Causal((49, 16), one, net), 0.05)
    z = tf.random.stateless_normal([16, 49, 16], [1, 2])

    def uncached(x):
        def one_more(t, y):
            return t + 1, part.bijector.forward(x, condition=part.net(y))

        start = (tf.constant(0), tf.zeros_like(x))
        return tf.while_loop(lambda t, _: t < 49, one_more, start)[1]

    ways = {"cached": part.forward, "uncached": uncached}
    graphs = {name: tf.function(way, autograph=False) for name, way in ways.items()}
    values = {name: graph(z).numpy() for name, graph in graphs.items()}
    off = np.abs(values["cached"] - values["uncached"])
    times = {name: [] for name in ways}
    for _ in range(rounds):
        for name, graph in graphs.items():
            call = functools.partial(graph, z)
            times[name].append(milliseconds(lambda c=call: c().numpy(), seconds))
    moved = float(np.max(np.abs(values["cached"] - z)))
    return {"batch": 16, "moved": moved, "off": float(np.max(off)), "ms": times}


def table(results):
    """Formats the results as Markdown."""
    lines = [
        "| flow | way | ms for a batch | of the fastest peer |",
        "|---|---|---:|---:|",
    ]
    for name, found in results["flows"].items():
        ms = {way: statistics.median(times) for way, times in found["ms"].items()}
        others = [
            t for way, t in ms.items() if way in (*PEERS, "uncached") or "TFP" in way
        ]
        lines += [
            f"| {name} | {way} | {t:.1f} | {t / min(others):.2f}x |"
            for way, t in ms.items()
        ]
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.sampling",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--python", default=sys.executable, help="has zuko and nflows")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0, help="each time")
    parser.add_argument("--serve", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve_peer(options.serve[0], int(options.serve[1]))
        return
    from benchmarks.default_runs import machine

    results = {"machine": machine(), "layers": LAYERS, "width": WIDTH, "flows": {}}
    for d in BATCH:
        peers = {name: Peer(options.python, name, d) for name in PEERS}
        peers = {name: peer for name, peer in peers.items() if peer.found}
        results["flows"][f"MAF, {d} values"] = maf(
            d, peers, options.rounds, options.seconds
        )
        for peer in peers.values():
            peer.process.communicate(timeout=600)
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    results["flows"]["TarFlow, a step, 49 tokens"] = tarflow(
        options.rounds, options.seconds
    )
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    print(table(results))


if __name__ == "__main__":
    main()
