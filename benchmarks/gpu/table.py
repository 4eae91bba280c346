"""Prints what was measured on a GPU, and "not measured" where nothing was.

    python -m benchmarks.gpu.table
    python -m benchmarks.gpu.table --platform cpu --small   # what a trial run left

Steps whose results differ from TensorFlow's are left without times.
"""

import argparse
import json
from pathlib import Path

from benchmarks.gpu.timing import RESULTS, agrees
from benchmarks.gpu.workloads import PRECISIONS, WORKLOADS

OURS = (
    *(f"XLA program, {mode}" for mode in ("auto", "loop", "reversible")),
    *(f"{way}, {mode}" for way in ("graph", "jit") for mode in ("auto", "reversible")),
)
PEERS = ("eager", "compile", "channels_last", "compile channels_last")
NOT_MEASURED = "not measured"
HEAD = (
    "| library | way | precision | batch | step ms | pipelined ms | fit ms "
    "| examples/s | peak MB | share of matmul rate |",
    "|---|---|---|---:|---:|---:|---:|---:|---:|---:|",
)


def expected():
    """Yields what ought to be measured: workload, library, way and precision."""
    for name, w in WORKLOADS.items():
        for precision in PRECISIONS:
            yield from ((name, "tfp_flows", way, precision) for way in OURS)
            for way in PEERS:
                if w.kind == "glow" or "channels_last" not in way:
                    yield name, "normflows", way, precision
                if w.kind != "glow" and "channels_last" not in way:
                    yield name, "nflows", way, precision


def load(folder, platform="gpu", small=False):
    """Reads the results of one kind of machine."""
    results = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    return [r for r in results if (r["platform"], r["small"]) == (platform, small)]


def table(results):
    """Formats the results as Markdown, a table a workload."""
    found = {}
    for r in results:
        key = tuple(r[k] for k in ("workload", "library", "way", "precision"))
        found.setdefault(key, []).append(r)
    keys = [*expected()]
    keys += [key for key in found if key not in keys]
    lines = [f"Measured on {where}." for where in sorted({*map(machine, results)})]
    lines = lines or ["Nothing was measured yet."]
    for workload in WORKLOADS:
        lines += ["", f"### {workload}", "", *HEAD]
        for key in (k for k in keys if k[0] == workload):
            rows = sorted(found.get(key, [{}]), key=batch)
            lines += [row(key, r) for r in rows]
    return "\n".join(lines)


def machine(result):
    return f"{result['device']} with {result['versions']}, {result['date']}"


def batch(result):
    return result.get("batch", 0)


def row(key, result):
    """Formats a result, or the lack of one."""
    _, library, way, precision = key
    agreement = result.get("agreement", {})
    if agreement.get("compared") == 0:
        way += ", results not compared"
    start = f"| {library} | {way} | {precision} | {result.get('batch', '')} |"
    if not result:
        return f"{start} {NOT_MEASURED} | | | | | |"
    if "error" in result:
        return f"{start} failed: {result['error'][:60]} | | | | | |"
    if not agrees(result):
        return f"{start} results differ from TensorFlow's | | | | | |"
    share = result.get("share_of_matmul")
    # Only TensorFlow itself has a `fit`.
    fit = number(result, "fit_ms", 2) if "fit_ms" in result else ""
    cells = [
        number(result, "ms", 2),
        number(result, "pipelined_ms", 2),
        fit,
        number(result, "examples_per_second", 0),
        number(result, "peak_mb", 0),
        NOT_MEASURED if share is None else f"{100 * share:.1f}%",
    ]
    return f"{start} {' | '.join(cells)} |"


def number(result, name, digits):
    value = result.get(name)
    return NOT_MEASURED if value is None else f"{value:,.{digits}f}"


def main():
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--platform", default="gpu", choices=("gpu", "cpu"))
    parser.add_argument("--small", action="store_true", help="shrunk workloads")
    options = parser.parse_args()
    print(table(load(options.results, options.platform, options.small)))


if __name__ == "__main__":
    main()
