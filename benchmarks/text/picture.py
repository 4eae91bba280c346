"""The picture: held-out bits a character while training, and samples beside it."""

from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#E69F00", "#009E73")
STYLES = ("--", ":", "-.")


def draw(document: dict, path) -> None:
    """Writes the picture as a PNG file."""
    figure = Figure(figsize=(11, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[1.15, 1])
    _curves(left, document)
    _samples(right, document)
    figure.savefig(path, dpi=110)


def _curves(axis, document: dict) -> None:
    for colour, (name, points) in zip(
        COLOURS, document["curves"].items(), strict=False
    ):
        last = document["rows"][name]["bits_per_char"]
        label = f"{name} ({last:.2f})"
        axis.plot(
            points["steps"], points["bits"], "o-", ms=3.5, color=colour, label=label
        )
    counted = [name for name in document["rows"] if name not in document["curves"]]
    for style, name in zip(STYLES, counted, strict=False):
        bits = document["rows"][name]["bits_per_char"]
        label = f"{name} ({bits:.2f})"
        axis.axhline(bits, color="0.35", ls=style, lw=1.2, label=label)
    axis.set(
        xlabel="training step",
        ylabel="bits a character, held-out text",
        title=f"{document['text']['name']}: lower is better",
    )
    axis.grid(alpha=0.25)
    axis.legend(frameon=False)


def _samples(axis, document: dict, each: int = 3) -> None:
    axis.set_axis_off()
    axis.set_title("samples", loc="left")
    lines = []
    for name, samples in document["samples"].items():
        lines += [name, *(f"    {text}" for text in samples["texts"][:each]), ""]
    axis.text(
        0.0, 1.0, "\n".join(lines), family="monospace", fontsize=8.2, va="top",
        transform=axis.transAxes,
    )  # fmt: skip
