"""Tables and a picture of what `run` measured."""

import json
import statistics
from pathlib import Path

from benchmarks.speed.peers import PEERS

LABELS = {peer.name: peer.label for peer in PEERS}
OURS = {peer.name for peer in PEERS if peer.ours}
# What users choose between, by `jit_compile` and by TensorFlow's number of threads.
WAYS = ("tfp_flows", "tfp_flows_jit", "tfp_flows_one_thread")


def median(times):
    times = [t for t in times or [] if t is not None]
    return statistics.median(times) if times else None


def paired(ours, theirs):
    """Returns the median of the ratios within rounds, and its quartiles."""
    ratios = sorted(
        a / b for a, b in zip(ours, theirs, strict=True) if a is not None and b
    )
    if not ratios:
        return None
    quarter = len(ratios) // 4
    return statistics.median(ratios), ratios[quarter], ratios[-1 - quarter]


def best(rows, names, what):
    """Returns which of the names is fastest at something, or None."""
    times = {
        name: median(rows[name]["ms"].get(what))
        for name in names
        if name in rows and "error" not in rows[name]
    }
    times = {name: value for name, value in times.items() if value is not None}
    return min(times, key=times.get) if times else None


def ratios(rows, what):
    """Compares the fastest of our ways with the fastest peer and the floor."""
    ours = best(rows, WAYS, what)
    found = {}
    for key, names in (
        ("fastest peer", [n for n in rows if n not in OURS]),
        ("floor", ["floor", "floor_jit"]),
    ):
        other = best(rows, names, what)
        if ours and other:
            ratio = paired(rows[ours]["ms"][what], rows[other]["ms"][what])
            found[key] = (ours, other, ratio)
    return found


def number(value, digits=1):
    return "" if value is None else f"{value:,.{digits}f}"


def table(results):
    """Formats everything as Markdown."""
    lines = []
    for workload, rows in results.items():
        lines += [
            f"### {workload}",
            "",
            "| library | weights | train ms | log_prob ms | sample ms | fit ms/step "
            "| first step s | peak MB above built |",
            "|---|---:|---:|---:|---:|---:|---:|---:|",
        ]
        for name, row in rows.items():
            if "error" in row:
                lines.append(f"| {LABELS[name]} | failed: {row['error'][:60]} |")
                continue
            times = [
                number(median(row["ms"].get(what)))
                for what in ("train", "log_prob", "sample", "fit")
            ]
            lines.append(
                f"| {LABELS[name]} | {row['parameters']:,} | {' | '.join(times)} "
                f"| {number(row['first_step_s'])} "
                f"| {number(row['peak_above_built_mb'], 0)} |"
            )
        lines += ["", *ratio_lines(rows), ""]
    return "\n".join(lines)


def ratio_lines(rows):
    lines = []
    for what in ("train", "log_prob", "sample"):
        for key, (ours, other, ratio) in ratios(rows, what).items():
            if ratio:
                middle, low, high = ratio
                lines.append(
                    f"- {what}: {LABELS[ours]} takes {middle:.2f}x ({low:.2f} to "
                    f"{high:.2f}) of {key} ({LABELS[other]})."
                )
    for name in WAYS:
        times = rows.get(name, {}).get("ms", {})
        if times.get("fit") and times.get("train"):
            ratio = median(times["fit"]) / median(times["train"])
            lines.append(f"- fit: {LABELS[name]} takes {ratio:.2f}x of its bare step.")
    return lines


def color_of(name):
    """This package, the floor, and the others."""
    if name.startswith("floor"):
        return "#9ecae1"
    return "#0072B2" if name in OURS else "darkgrey"


def picture(results, path: Path):
    """Draws the medians of all libraries, one panel a workload and thing."""
    import matplotlib.pyplot as plt

    columns = ("train", "log_prob", "sample")
    figure, grid = plt.subplots(
        len(results),
        len(columns),
        figsize=(12, 1.0 + 2.6 * len(results)),
        layout="constrained",
        squeeze=False,
    )
    for axes, (workload, rows) in zip(grid, results.items(), strict=True):
        for axis, what in zip(axes, columns, strict=True):
            times = {
                LABELS[name]: (median(row["ms"].get(what)), color_of(name))
                for name, row in rows.items()
                if "error" not in row
            }
            times = {k: v for k, v in times.items() if v[0] is not None}
            values, colors = zip(*times.values(), strict=True)
            axis.barh(list(times), values, color=colors)
            axis.invert_yaxis()
            axis.set(title=f"{workload} {what}", xlabel="ms")
    figure.savefig(path, dpi=130)


def write(results, machine, settings, path: Path):
    """Keeps the results, beside older ones of other workloads."""
    kept = json.loads(path.read_text()) if path.exists() else {}
    for workload, rows in results.items():
        kept[workload] = {"machine": machine, "settings": settings, "rows": rows}
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(kept, indent=1) + "\n")
