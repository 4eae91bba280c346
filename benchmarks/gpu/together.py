"""Times everything on one GPU in little time: compiles side by side, times in turn.

    python benchmarks/gpu/together.py EXPORTED --compile-for 240 --stop-after 540

Needs JAX and PyTorch with normflows and nflows, no TensorFlow. A process takes one
step. All processes compile at once, as far as the processor's cores go, and wait; then
each is timed alone. What has not compiled in time is ended and named.
"""

import argparse
import dataclasses
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
IMAGES = ("W3", "glow32", "glow64")
PRECISIONS = ("float32", "tf32", "bfloat16")


@dataclasses.dataclass
class Job:
    """A process, and the path of its gate."""

    name: str
    command: list
    gate: Path
    process: subprocess.Popen = None

    def start(self, log):
        memory = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
        self.process = subprocess.Popen(
            [sys.executable, *self.command, "--gate", str(self.gate)],
            env=os.environ | memory,
            stdout=log,
            stderr=subprocess.STDOUT,
        )

    def ready(self):
        return Path(f"{self.gate}.ready").exists()

    def over(self):
        return self.process is not None and self.process.poll() is not None

    def end(self):
        if self.process is not None and not self.over():
            self.process.kill()
            self.process.wait()


def jobs(exported, options, gates):
    """Returns all jobs, the most wanted first."""
    shared = ["--seconds", str(options.seconds), "--results", str(options.results)]
    if options.matmul_size:
        shared += ["--matmul-size", str(options.matmul_size)]
    peers = ["--small", "--cpu"] if options.small_cpu else []
    commands = {}
    for folder in sorted(exported.iterdir()):
        precisions = ("tf32", "float32") if "float32" in folder.name else ("tf32",)
        for precision in precisions:
            commands[f"{folder.name} {precision}"] = [
                *(str(HERE / "run_exported.py"), str(folder)),
                *("--precision", precision, *shared),
            ]
    for workload in options.workloads:
        image = workload in IMAGES
        ways = ["eager", "channels_last"] if image else ["eager"]
        if workload in options.torch_compile:
            ways += [f"compile {w}" if w != "eager" else "compile" for w in ways]
        for library in ("normflows",) if image else ("normflows", "nflows"):
            for way in ways:
                # Products of small matrices hardly differ between float32 and TF32.
                for precision in PRECISIONS if image else ("float32", "bfloat16"):
                    commands[f"{library} {workload} {way} {precision}"] = [
                        *(str(HERE / "torch_peers.py"), "--workload", workload),
                        *("--libraries", library, "--ways", way),
                        *("--precisions", precision, *peers, *shared),
                    ]
    names = sorted(commands, key=lambda name: wanted(name, options.workloads))
    return [Job(n, commands[n], gates / str(i)) for i, n in enumerate(names)]


def wanted(name, workloads):
    """Sorts by workload; the slow compilations of PyTorch start last."""
    order = next((i for i, w in enumerate(workloads) if w in name), len(workloads))
    return " compile" in name, order, name


def compile_all(waiting, log, until, at_once):
    """Starts jobs, some at a time, until all are ready or time is up."""
    pending, busy = list(waiting), []
    while (pending or busy) and time.monotonic() < until:
        busy = [job for job in busy if not (job.ready() or job.over())]
        while pending and len(busy) < at_once:
            busy.append(pending.pop(0))
            busy[-1].start(log)
        time.sleep(0.1)
    for job in (*busy, *pending):
        job.end()
        print(f"{job.name}: not compiled in time", flush=True)


def time_each(ready, until):
    """Lets one process after another take its turn."""
    for job in ready:
        if job.over() or time.monotonic() > until:
            print(f"{job.name}: not timed", flush=True)
        else:
            Path(f"{job.gate}.go").touch()
            try:
                job.process.wait(timeout=max(1.0, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                print(f"{job.name}: cut while it was timed", flush=True)
        job.end()


def main():
    """Runs what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("exported", type=Path, help="folder of what `export` wrote")
    parser.add_argument(
        "--workloads",
        nargs="+",
        default=["W3", "glow32", "W1", "W2", "W4", "glow64"],
        help="of the peers; the first ones are timed first",
    )
    parser.add_argument(
        "--torch-compile",
        nargs="*",
        default=["W1", "W2", "W3", "W4"],
        metavar="WORKLOAD",
        help="where to try torch.compile, which takes very long for deep Glows",
    )
    parser.add_argument("--compile-for", type=float, default=600.0, metavar="SECONDS")
    parser.add_argument("--stop-after", type=float, default=3600.0, metavar="SECONDS")
    parser.add_argument("--at-once", type=int, default=os.cpu_count())
    parser.add_argument("--seconds", type=float, default=5.0, help="of timing, each")
    parser.add_argument("--matmul-size", type=int)
    parser.add_argument("--small-cpu", action="store_true", help="a trial, no GPU")
    parser.add_argument("--results", type=Path, default=HERE.parent / "results/gpu")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by a signal"))
    begin = time.monotonic()
    options.results.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as gates,
        (options.results / "log.txt").open("w") as log,
    ):
        all_jobs = jobs(options.exported, options, Path(gates))
        try:
            compile_all(all_jobs, log, begin + options.compile_for, options.at_once)
            print(f"compiled in {time.monotonic() - begin:.0f} s", flush=True)
            time_each([j for j in all_jobs if j.process], begin + options.stop_after)
        finally:
            for job in all_jobs:  # none is left to wait for a turn, and to hold memory
                job.end()


if __name__ == "__main__":
    main()
