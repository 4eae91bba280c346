"""Draws docs/architecture.png: the rooms of the package, floor on floor.

    python docs/architecture_picture.py

An arrow of import may only point down. The sizes are counted from the sources.
"""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

HERE = Path(__file__).parent
PACKAGE = HERE.parent / "tfp_flows"

# From the ground up; what stands on one floor does not import its neighbours.
FLOORS = (
    ("ground floor", ("internal",), "checks, files, batches, seeds, private names"),
    ("networks", ("nets",), "Keras layers that compute parameters"),
    ("concepts", ("bijectors",), "FlowBijector, transforms, structures, tree, chain"),
    ("concepts", ("distributions",), "bases, resampled, surjections"),
    ("flows", ("architectures",), "nice, real_nvp, glow, spline_flow, maf, ffjord"),
    ("Keras", ("saving", "training"), "files; FlowModel.fit"),
    ("use", ("serving", "testing", "inference", "interop"), ""),
    (
        "use",
        ("images", "tables", "text", "speech", "latent", "anomaly", "representation"),
        "",
    ),
    ("surface", ("data", "plotting", "cli"), "what the command line adds"),
)
COLOURS = {
    "ground floor": "#d9d9d9",
    "networks": "#c6dbef",
    "concepts": "#fdd0a2",
    "flows": "#fdae6b",
    "Keras": "#c7e9c0",
    "use": "#e7e1ef",
    "surface": "#f2f0f7",
}
WIDTH, HEIGHT, GAP = 12.0, 0.9, 0.12


def size(room: str) -> tuple[int, int]:
    """Counts the files and lines of a room."""
    files = list((PACKAGE / room).rglob("*.py"))
    return len(files), sum(len(f.read_text().splitlines()) for f in files)


def draw() -> Figure:
    """Returns the picture."""
    figure = Figure(figsize=(10, 7), layout="constrained")
    axes = figure.add_subplot()
    for level, (kind, rooms, words) in enumerate(FLOORS):
        each = (WIDTH - GAP * (len(rooms) - 1)) / len(rooms)
        y = level * (HEIGHT + GAP)
        for i, room in enumerate(rooms):
            x = i * (each + GAP)
            box = FancyBboxPatch(
                (x, y),
                each,
                HEIGHT,
                boxstyle="round,pad=0,rounding_size=0.08",
                facecolor=COLOURS[kind],
                edgecolor="#666666",
                linewidth=0.8,
            )
            axes.add_patch(box)
            files, lines = size(room)
            small = f"{files} files, {lines:,} lines"
            middle = x + each / 2
            axes.text(middle, y + 0.6, room, ha="center", va="center", fontsize=11)
            axes.text(middle, y + 0.28, small, ha="center", va="center", fontsize=7)
            if words and len(rooms) == 1:
                right = x + each - 0.2
                axes.text(right, y + 0.45, words, ha="right", va="center", fontsize=9)
    top = len(FLOORS) * (HEIGHT + GAP)
    axes.annotate(
        "imports",
        xy=(-0.5, 0.0),
        xytext=(-0.5, top - 0.4),
        rotation=90,
        va="center",
        ha="center",
        arrowprops={"arrowstyle": "->", "color": "#444444"},
    )
    axes.set(xlim=(-0.9, WIDTH + 0.1), ylim=(-0.1, top))
    axes.set_axis_off()
    return figure


if __name__ == "__main__":
    draw().savefig(HERE / "architecture.png", dpi=130)
