"""CPU seconds of training and of 10,000 draws beside peers, taking turns, with C2ST.

Draws are taken twice: the first ones of ours compile.

    python -m benchmarks.sbibm.against FOLDER --python PEERS_PYTHON

The same pairs of two_moons and slcp, one thread each, 10,000 simulations; with one
thread and an idle core CPU seconds are wall-clock seconds. The peers run in their own
interpreter. Writes `benchmarks/results/sbibm_against.json`.
"""

import argparse
import json
import os
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np

import tfp_flows as tfpf
from benchmarks.default_runs import machine
from benchmarks.sbibm.tasks import TASKS

RESULTS = Path(__file__).parents[1] / "results" / "sbibm_against.json"
DRAWS = 10_000


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--python", required=True)
    parser.add_argument("--tasks", nargs="+", default=["two_moons", "slcp"])
    parser.add_argument("--peers", nargs="*", default=["sbi", "bayesflow"])
    parser.add_argument("--simulations", type=int, default=10_000)
    parser.add_argument("--observation", type=int, default=1)
    parser.add_argument("--compared", type=int, default=DRAWS)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    report = json.loads(options.out.read_text()) if options.out.exists() else {}
    report["machine"] = machine()
    for name in options.tasks:
        task = TASKS[name](options.folder)
        reference = task.reference(options.observation)[: options.compared]
        for turn in range(options.rounds):
            pairs = task.pairs(options.simulations, turn)
            for library in ["tfp_flows", *options.peers]:
                load = os.getloadavg()[0]
                run = ours if library == "tfp_flows" else peer
                figures = run(task, *pairs, library, options)
                draws = figures.pop("draws")[: options.compared]
                figures |= {"turn": turn, "load": load}
                figures["c2st"] = tfpf.inference.c2st(reference, draws, seed=1)
                key = f"{name}/{options.simulations}/{library}"
                report.setdefault(key, []).append(figures)
                options.out.write_text(json.dumps(report, indent=1) + "\n")
                print(key, figures, flush=True)


def ours(task, theta, x, _, options):
    """Trains and draws here."""
    start = time.process_time()
    posterior = tfpf.inference.NeuralPosterior(task.prior)
    posterior.fit(theta, x, verbose=0)
    times = [time.process_time()]
    for _ in range(2):
        draws = posterior.sample(task.observed(options.observation), DRAWS).numpy()
        times.append(time.process_time())
    names = ("training", "first", "sampling")
    seconds = np.diff([start, *times]).tolist()
    return {"draws": draws, **dict(zip(names, seconds, strict=True))}


def peer(task, theta, x, library, options):
    """Trains and draws in the peer's interpreter; its start is not counted."""
    uniform = task.prior.distribution
    box = {
        name: np.full(theta.shape[1], value, "float32")
        for name, value in (("low", uniform.low), ("high", uniform.high))
    }
    with tempfile.TemporaryDirectory() as folder:
        pairs, drawn = Path(folder) / "pairs.npz", Path(folder) / "draws.npz"
        observed = task.observed(options.observation)
        np.savez(pairs, theta=theta, x=x, observed=observed, **box)
        script = Path(__file__).with_name("peer.py")
        command = [options.python, str(script), library, str(pairs), str(drawn)]
        subprocess.run(
            command,
            check=True,
            env={"PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1"},
        )
        found = np.load(drawn)
        names = ("training", "first", "sampling")
        figures = {name: float(found[name]) for name in names}
        return {"draws": found["draws"], **figures}


if __name__ == "__main__":
    main()
