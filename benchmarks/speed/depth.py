"""`python -m benchmarks depth`: what memory and start-up owe to the number of steps.

W3 (Glow on 32x32x3, L=3, batch 16) with K = 4, 8, 16 and 32 steps a level. Each pair
of a library and a depth has a process of its own, one after another.
"""

import itertools
import json
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from benchmarks.speed.peers import PEERS, installed
from benchmarks.speed.run import Worker
from benchmarks.speed.workloads import DEPTHS

NAMES = ("tfp_flows", "tfp_flows_reversible", "tfp", "normflows")
LABELS = {peer.name: peer.label for peer in PEERS}


def depth(
    pythons: list[str],
    names: tuple[str, ...] = NAMES,
    seconds: float = 3.0,
    keep: Callable[[list], object] | None = None,
):
    """Measures every depth of every library that is installed.

    Args:
        pythons: Interpreters in which to look for the libraries.
        names: Which libraries.
        seconds: For how long a training step is timed.
        keep: Is called with the rows so far after each.

    Returns:
        One row for each library and depth.
    """
    console, found, rows = Console(stderr=True), installed(pythons), []
    for name in (n for n in names if n in found):
        for k in DEPTHS:
            console.print(f"{name}, K={k}")
            worker = Worker(found[name], name, f"W3-K{k}")
            facts = worker.facts
            if "error" not in facts:
                facts |= worker.ask(what="train", seconds=seconds)
            rows.append({"library": name, "steps": k, **facts})
            worker.close()
            if keep:
                keep(rows)
    return rows


def slopes(rows, library):
    """Returns the megabytes that one more step a level costs, from depth to depth.

    No one line goes through all depths: from some on, steps run as a loop.
    """
    points = sorted(
        (row["steps"], row["peak_above_built_mb"])
        for row in rows
        if row["library"] == library and "error" not in row
    )
    return {
        (k0, k1): (peak1 - peak0) / (k1 - k0)
        for (k0, peak0), (k1, peak1) in itertools.pairwise(points)
    }


def table(rows):
    """Formats the rows as Markdown, and what follows from them."""
    lines = [
        "| library | K | weights | build s | first step s | train ms "
        "| peak MB above built |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        label = LABELS[row["library"]]
        if "error" in row:
            lines.append(f"| {label} | {row['steps']} | failed: {row['error'][:60]} |")
            continue
        lines.append(
            f"| {label} | {row['steps']} | {row['parameters']:,} "
            f"| {row['build_s']:.1f} | {row['first_step_s']:.1f} | {row['ms']:.0f} "
            f"| {row['peak_above_built_mb']:.0f} |"
        )
    lines.append("")
    for name in dict.fromkeys(row["library"] for row in rows):
        each = [
            f"{mb:.1f} from K={a} to {b}" for (a, b), mb in slopes(rows, name).items()
        ]
        if each:
            lines.append(
                f"- {LABELS[name]}: MB for each step a level: {', '.join(each)}."
            )
    return "\n".join(lines)


def picture(rows, path: Path):
    """Draws peak memory and time to the first step over the depth."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
    panels = (
        ("peak_above_built_mb", "peak memory above the built model (MB)"),
        ("first_step_s", "time to the first step (s)"),
    )
    for axis, (key, label) in zip(axes, panels, strict=True):
        for name in dict.fromkeys(row["library"] for row in rows):
            mine = [r for r in rows if r["library"] == name and "error" not in r]
            axis.plot(
                [row["steps"] for row in mine],
                [row[key] for row in mine],
                marker="o",
                label=LABELS[name],
            )
        axis.set(
            xlabel="steps a level (K)",
            ylabel=label,
            xticks=sorted({row["steps"] for row in rows}),
            ylim=(0, None),
        )
    axes[0].legend()
    figure.savefig(path, dpi=130)
    plt.close(figure)


def write(rows, machine: str, path: Path):
    """Keeps the rows, beside older ones of other libraries, and returns them all."""
    kept = json.loads(path.read_text())["rows"] if path.exists() else []
    new = {(row["library"], row["steps"]) for row in rows}
    rows = [{**row, "machine": machine} for row in rows]
    rows += [row for row in kept if (row["library"], row["steps"]) not in new]
    rows.sort(key=lambda row: (NAMES.index(row["library"]), row["steps"]))
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"rows": rows}, indent=1) + "\n")
    return rows
