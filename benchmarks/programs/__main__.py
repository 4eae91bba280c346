"""Runs random programs and prints what failed.

python -m benchmarks.programs --count 1000 --seed 1
python -m benchmarks.programs --program '{"event": [2], ...}'
"""

from __future__ import annotations

import argparse
import collections
import json
import time
from pathlib import Path

import hypothesis

from benchmarks.programs.draw import programs
from benchmarks.programs.run import reduced, run

RESULTS = Path(__file__).parents[1] / "results" / "programs.json"


def drawn(count: int, seed: int, costly: bool = True) -> list[dict]:
    """Draws different programs, the same ones for a seed."""
    found: dict[str, dict] = {}

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=2 * count,
        database=None,
        deadline=None,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(programs(costly))
    def collect(program: dict) -> None:
        if len(found) < count:
            found.setdefault(json.dumps(program), program)

    collect()
    return list(found.values())


def main() -> None:
    """Runs, prints, writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cheap", action="store_true")
    parser.add_argument("--program")
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    if arguments.program:
        print(run(json.loads(arguments.program)))
        return
    counts: collections.Counter = collections.Counter()
    faults: dict[str, dict] = {}
    start = time.monotonic()
    chosen = drawn(arguments.count, arguments.seed, not arguments.cheap)
    for i, program in enumerate(chosen):
        verdict = run(program)
        counts[verdict.kind] += 1
        if verdict.kind not in ("right", "skipped"):
            row = faults.get(verdict.signature)
            if row is None:
                row = {"count": 0, "fault": verdict.is_fault, "detail": verdict.detail}
                if verdict.is_fault:
                    program = reduced(program, verdict)
                    print(
                        f"{i} {verdict.detail}\n    {json.dumps(program)}", flush=True
                    )
                row["program"] = program
                faults[verdict.signature] = row
            row["count"] += 1
        if i % 25 == 24 or i == len(chosen) - 1:
            seconds = time.monotonic() - start
            print(f"{i + 1} in {seconds:.0f} s: {dict(counts)}", flush=True)
            report = {
                "seed": arguments.seed,
                "programs": i + 1,
                "seconds": round(seconds),
                "verdicts": dict(counts),
                "findings": faults,
            }
            arguments.out.write_text(json.dumps(report, indent=1) + "\n")
    print(dict(counts))


if __name__ == "__main__":
    main()
