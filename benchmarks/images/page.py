"""Draws samples of every flow whose log and model lie in a folder, a row each.

    python -m benchmarks.images.page --out LOGS --picture docs/image_samples.png

`ours` leaves such a folder.
"""

import argparse
import json
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import tfp_flows as tfpf

COLUMNS = 16


def rows_of(folder):
    """Yields names, logs and samples, from the best likelihood to the worst."""
    logs = [json.loads(path.read_text()) for path in folder.glob("*.json")]
    for log in sorted(logs, key=lambda log: log["test_bits_per_dim"]):
        path = folder / f"{log['name']}.keras"
        if path.exists():
            model = tfpf.FlowModel(tfpf.load_distribution(path))
            yield log, model.sample(COLUMNS, seed=0).numpy()


def draw(rows):
    """Returns the picture."""
    figure, axes = plt.subplots(
        len(rows), 1, figsize=(COLUMNS * 0.6, len(rows) * 0.85), layout="constrained"
    )
    for axis, (log, samples) in zip(np.atleast_1d(axes), rows, strict=True):
        strip = np.concatenate(list(samples[..., 0]), axis=1)
        axis.imshow(np.clip(strip, 0, 255), cmap="gray", vmin=0, vmax=255)
        axis.set(xticks=[], yticks=[])
        bits, weights = log["test_bits_per_dim"], log["weights"]
        title = f"{log['name']}: {bits:.3f} bits/dim, {weights:,} weights"
        axis.set_title(title, fontsize=8, loc="left")
    return figure


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the logs")
    parser.add_argument("--picture", type=Path, required=True)
    options = parser.parse_args()
    draw(list(rows_of(options.out))).savefig(options.picture, dpi=110)


if __name__ == "__main__":
    main()
