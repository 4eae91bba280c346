"""C2ST of TFP Flows' estimators on ten tasks of simulation-based inference.

    python -m benchmarks.sbibm FOLDER --tasks two_moons slcp --simulations 1000

FOLDER holds `sbibm/tasks`, unpacked from the wheel of `sbibm` 1.1.0. Each result goes
to `benchmarks/results/sbibm.json` at once; what is there is not run again. `npe` and
`nle` train once for all observations, `tsnpe` and `snle` in ten rounds for each.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np

import tfp_flows as tfpf
from benchmarks.default_runs import machine
from benchmarks.sbibm.tasks import TASKS

RESULTS = Path(__file__).parents[1] / "results" / "sbibm.json"
ROUNDS = 10


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=TASKS)
    parser.add_argument("--simulations", nargs="+", type=int, default=[1000, 10_000])
    parser.add_argument("--observations", nargs="+", type=int, default=range(1, 11))
    parser.add_argument(
        "--method", default="npe", choices=["npe", "nle", "tsnpe", "snle"]
    )
    parser.add_argument("--draws", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    report = json.loads(options.out.read_text()) if options.out.exists() else {}
    report["machine"] = machine()
    runs = report.setdefault("runs", {})
    for simulations in options.simulations:
        for name in options.tasks:
            key = f"{name}/{simulations}/{options.method}/{options.draws}"
            run = runs.setdefault(key, {"c2st": {}, "cpu_seconds": {}})
            for _ in measured(TASKS[name](options.folder), simulations, options, run):
                options.out.write_text(json.dumps(report, indent=1) + "\n")
            print(key, round(np.mean(list(run["c2st"].values())), 4), flush=True)


def measured(task, simulations, options, run):
    """Adds C2ST and seconds of the observations that a run lacks, one by one."""
    left = [n for n in options.observations if str(n) not in run["c2st"]]
    if not left:
        return
    sequential = options.method in ("tsnpe", "snle")
    draw = None
    for number in left:
        if sequential or draw is None:
            start = time.process_time()
            draw = trained(task, simulations, number, options)
            seconds = time.process_time() - start
            run["cpu_seconds"][str(number) if sequential else "training"] = seconds
        start = time.process_time()
        draws = draw(task.observed(number), options.draws)
        run["cpu_seconds"][f"draws {number}"] = time.process_time() - start
        reference = task.reference(number)[: options.draws]
        run["c2st"][str(number)] = tfpf.inference.c2st(reference, draws, seed=1)
        yield number


def trained(task, simulations, number, options):
    """Trains an estimator; returns a function from data and a number to draws."""
    likelihood = options.method in ("nle", "snle")
    room = tfpf.inference
    estimator = (room.NeuralLikelihood if likelihood else room.NeuralPosterior)(
        task.prior
    )
    if options.method in ("npe", "nle"):
        theta, x = task.pairs(simulations, options.seed)
        estimator.fit(theta, x, seed=options.seed, verbose=0)
    else:
        seeds = iter(np.random.SeedSequence([options.seed, number]).spawn(ROUNDS))
        estimator.fit_rounds(
            lambda theta: task.data(theta, next(seeds)),
            task.observed(number),
            rounds=ROUNDS,
            simulations=simulations // ROUNDS,
            seed=options.seed,
            verbose=0,
        )
    if likelihood:
        return lambda x, n: estimator.sample(x, n, seed=options.seed).numpy()
    return lambda x, n: estimator(x).sample(n, seed=(0, options.seed)).numpy()


if __name__ == "__main__":
    main()
