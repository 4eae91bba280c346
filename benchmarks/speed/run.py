"""`python -m benchmarks run`: every library on every workload, in turn.

Each pair of a library and a workload has a process of its own. In a round each of
them is timed once, in an order that changes from round to round; ratios are taken
within a round, so that what slows the machine for a while slows both sides.
"""

import contextlib
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from rich.console import Console

from benchmarks.speed.peers import PEERS, installed
from benchmarks.speed.workloads import WORKLOADS

ROOT = Path(__file__).parents[2]
WHAT = ("train", "log_prob", "sample")


class Worker:
    """A process that times one library on one workload."""

    def __init__(self, python: str, peer: str, workload: str) -> None:
        # Idle threads of one library must not spin while another is timed.
        environment = os.environ | {
            "OMP_WAIT_POLICY": "PASSIVE",
            "CUDA_VISIBLE_DEVICES": "-1",
            "TF_CPP_MIN_LOG_LEVEL": "3",
        }
        self.process = subprocess.Popen(
            [python, "-W", "ignore", "-m", "benchmarks.speed.worker", peer, workload],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE if not os.environ.get("VERBOSE") else None,
            text=True,
            cwd=ROOT,
            env=environment,
        )
        self.facts = self._reply()

    def ask(self, **request: object) -> dict:
        """Sends a request and waits for the answer."""
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            return {"error": "the process has ended"}
        return self._reply()

    def _reply(self) -> dict:
        line = self.process.stdout.readline()
        return json.loads(line) if line else {"error": "the process has ended"}

    def close(self) -> None:
        """Ends the process, and closes all pipes to it."""
        self.process.communicate(timeout=60)


def run(
    workloads: list[str],
    names: list[str],
    pythons: list[str],
    rounds: int,
    seconds: float,
    fit: bool = True,
    keep: Callable[[dict], None] | None = None,
) -> dict:
    """Times everything.

    Args:
        workloads: Names of workloads.
        names: Names of libraries; those that are not installed are left out.
        pythons: Interpreters in which to look for them.
        rounds: How often each is timed.
        seconds: For how long, each time.
        fit: Whether to time `fit` too.
        keep: Is called with the results so far, whenever there are new ones.

    Returns:
        For each workload and library its facts and a list of times for each thing.
    """
    console = Console(stderr=True)
    found = installed(pythons)
    missing = [name for name in names if name not in found]
    if missing:
        console.print(f"Not installed, left out: {', '.join(missing)}")
    results: dict = {}
    for workload in workloads:
        results[workload] = {}
        for _ in one_workload(
            console, workload, names, found, rounds, seconds, fit, results[workload]
        ):
            if keep:
                keep(results)
    return results


def one_workload(
    console: Console,
    workload: str,
    names: list[str],
    found: dict[str, str],
    rounds: int,
    seconds: float,
    fit: bool,
    rows: dict,
) -> Iterator[str]:
    """Starts all libraries on one workload, and fills `rows` one thing at a time."""
    workers = {}
    with contextlib.ExitStack() as stack:
        for name in (n for n in names if n in found):
            console.print(f"{workload}: {name} starts")
            worker = Worker(found[name], name, workload)
            stack.callback(worker.close)
            if "unsupported" in worker.facts:
                continue
            rows[name] = {**worker.facts, "ms": {}}
            if "error" in worker.facts:
                console.print(f"{workload}: {name} failed: {worker.facts['error']}")
                continue
            workers[name] = worker
        for what in (*WHAT, *(["fit"] if fit else [])):
            time_in_turn(console, workload, what, workers, rows, rounds, seconds)
            yield what


def time_in_turn(
    console: Console,
    workload: str,
    what: str,
    workers: dict[str, Worker],
    rows: dict,
    rounds: int,
    seconds: float,
) -> None:
    """Times one thing for all libraries, round by round."""
    able = []
    for name, worker in workers.items():
        if what == "fit" and not name.startswith("tfp_flows"):
            continue
        reply = worker.ask(what=what, warm=True)
        if "error" in reply:
            console.print(f"{workload}: {name} failed at {what}: {reply['error']}")
            rows[name]["ms"][what] = None
        else:
            able.append(name)
            rows[name]["ms"][what] = []
    order = random.Random(workload + what)
    for index in range(rounds):
        console.print(f"{workload}: {what}, round {index + 1} of {rounds}")
        order.shuffle(able)
        measured = {
            name: workers[name].ask(what=what, seconds=seconds) for name in able
        }
        for name, reply in measured.items():
            rows[name]["ms"][what].append(reply.get("ms"))


def default_names() -> list[str]:
    """Returns the names of all libraries."""
    return [peer.name for peer in PEERS]


def default_workloads() -> list[str]:
    """Returns the names of all workloads."""
    return list(WORKLOADS)


def default_pythons() -> list[str]:
    """Returns the interpreter that runs this."""
    return [sys.executable]
