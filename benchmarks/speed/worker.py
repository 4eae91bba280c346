"""One library on one workload, in a process of its own, told what to time by lines.

    python -m benchmarks.speed.worker zuko W1

It reads a line of JSON for each thing to time and answers with one. Between lines it
sleeps, so that the libraries can be timed in turn on one machine.
"""

import importlib
import json
import os
import resource
import sys
import time
import traceback

START = time.monotonic()
WARM_UP_CALLS = 3
FEWEST_STEPS, MOST_STEPS, FIT_SECONDS = 10, 200, 3.0


def resident_mb():
    """Returns the memory of this process."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def peak_mb():
    """Returns the most memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def milliseconds(call, seconds):
    """Calls for so long, and returns the median time of a call."""
    times, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < 5:
        start = time.perf_counter()
        call()
        times.append(1e3 * (time.perf_counter() - start))
    return sorted(times)[len(times) // 2]


def fit_steps(train):
    """Returns the length of the shorter `fit`: about three seconds at most."""
    start = time.perf_counter()
    train()
    able = int(FIT_SECONDS / (time.perf_counter() - start))
    return min(MOST_STEPS, max(FEWEST_STEPS, able))


def per_step_of_fit(steps):
    """Returns the time of a step in two calls of `fit` of different lengths.

    The difference leaves out what happens once a call.
    """
    times, short = [], fit_steps(steps.train)
    for length in (short, 3 * short):
        start = time.perf_counter()
        steps.fit(length)
        times.append(time.perf_counter() - start)
    return 1e3 * (times[1] - times[0]) / (2 * short)


def prepared(peer, workload):
    """Builds the flow, takes the first steps, and says what that cost."""
    from benchmarks.speed.workloads import CONTINUOUS, DEEP, SMALL, WORKLOADS

    adapter = importlib.import_module(f"benchmarks.speed.adapters.{peer}")
    imported = time.monotonic()
    steps = adapter.build((WORKLOADS | DEEP | SMALL | CONTINUOUS)[workload])
    built, before = time.monotonic(), resident_mb()
    steps.train()
    first = time.monotonic() - built
    for _ in range(10):
        steps.train()
    facts = {
        "parameters": steps.parameters,
        "import_s": imported - START,
        "build_s": built - imported,
        "first_step_s": first,
        "built_mb": before,
        "peak_above_built_mb": peak_mb() - before,
    }
    return steps, facts


def answer(steps, request):
    """Times what a request asks for."""
    call = getattr(steps, request["what"])
    if call is None:
        return {"ms": None}
    if request["what"] == "fit":
        if request.get("warm"):
            call(FEWEST_STEPS)
            return {}
        return {"ms": per_step_of_fit(steps)}
    if request.get("warm"):
        for _ in range(WARM_UP_CALLS):
            call()
        return {}
    return {"ms": milliseconds(call, request["seconds"])}


def main():
    # What libraries print must not come between the answers.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    from benchmarks.speed.workloads import Unsupported

    try:
        steps, facts = prepared(*sys.argv[1:3])
    except Unsupported:
        answers.write(json.dumps({"unsupported": True}) + "\n")
        return
    except Exception as error:
        traceback.print_exc()
        answers.write(json.dumps({"error": f"{type(error).__name__}: {error}"}) + "\n")
        return
    answers.write(json.dumps(facts) + "\n")
    for line in sys.stdin:
        try:
            reply = answer(steps, json.loads(line))
        except Exception as error:
            traceback.print_exc()
            reply = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(reply) + "\n")


if __name__ == "__main__":
    main()
