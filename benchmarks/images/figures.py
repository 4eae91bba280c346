"""Draws what a trained image flow of Fashion-MNIST can do.

    python -m benchmarks.images.figures --model LOGS/glow.keras --out FOLDER

`ours` leaves such a model. The images are those of the test set, which no training
saw; TFDS's variable TFDS_DATA_DIR says where they are.
"""

import argparse
from pathlib import Path

import numpy as np

import tfp_flows as tfpf
from tfp_flows import images, plotting

TEMPERATURES = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
STRENGTHS = (0.0, 0.4, 0.8, 1.2, 1.6, 2.0)
FOR_A_VECTOR = 500  # images of each kind

TSHIRT, TROUSER, PULLOVER, DRESS, COAT, SANDAL, _, SNEAKER, BAG, BOOT = range(10)


class HeldOut:
    """Test images, dequantized, by class."""

    def __init__(self, data):
        self.images = np.concatenate(list(data.test.as_numpy_iterator()))
        self.labels = data.labels_test

    def of(self, label, start, count=1):
        """Returns `count` images of a class from the `start`-th on."""
        chosen = np.flatnonzero(self.labels == label)[start : start + count]
        return self.images[chosen]

    def each(self, *labels, start=0):
        """Returns one image of each of the classes."""
        return np.concatenate([self.of(label, start) for label in labels])


def samples(flow, held_out):
    """Real images beside samples at temperature 1."""
    sampled = tfpf.FlowModel(flow).sample(100, seed=0)
    return plotting.real_and_sampled_images(held_out.images[:100], sampled)


def temperature(flow, held_out):
    """The same latents at several temperatures."""
    return plotting.image_grid(
        images.temperature_series(flow, 6, TEMPERATURES, seed=5),
        title="one latent a row, at several temperatures",
        column_titles=[f"{t:g}" for t in TEMPERATURES],
    )


def interpolation(flow, held_out):
    """Interpolates between pairs of images."""
    start = held_out.each(TSHIRT, SNEAKER, TROUSER, PULLOVER, BAG, COAT)
    end = held_out.each(COAT, BOOT, DRESS, TSHIRT, SANDAL, BAG, start=3)
    return plotting.image_grid(
        images.interpolate(flow, start, end, steps=10),
        title="test images at both ends, the model's between",
    )


def attributes(flow, held_out):
    """Sleeves and shafts grow, and shrink."""
    rows = []
    for without, having in ((TSHIRT, PULLOVER), (SNEAKER, BOOT)):
        examples = [held_out.of(k, 0, FOR_A_VECTOR) for k in (without, having)]
        has = np.arange(2 * FOR_A_VECTOR) >= FOR_A_VECTOR
        vector = images.attribute_vector(flow, np.concatenate(examples), has)
        new = held_out.of(without, FOR_A_VECTOR, 3)
        rows.append(images.add_attribute(flow, new, vector, STRENGTHS))
    return plotting.image_grid(
        np.concatenate(rows),
        title="more sleeve (above), more shaft (below)",
        column_titles=[f"{s:g}" for s in STRENGTHS],
    )


def inpainting(flow, held_out):
    """Fills in the right half."""
    known = np.zeros((28, 28, 1), bool)
    known[:, :14] = True
    shown = held_out.each(TSHIRT, PULLOVER, DRESS, BOOT, BAG, start=7)
    return plotting.image_grid(
        images.inpainting_series(flow, shown, known, 2),
        title="the right half is missing",
        column_titles=["known", "likely", "drawn", "drawn", "original"],
    )


def super_resolution(flow, held_out):
    """Enlarges from 7 x 7 pixels."""
    shown = held_out.each(TSHIRT, PULLOVER, DRESS, BOOT, BAG, start=7)
    return plotting.image_grid(
        images.super_resolution_series(flow, shown, 4, 2),
        title="from 7 x 7 to 28 x 28 pixels",
        column_titles=["7 x 7", "likely", "drawn", "drawn", "original"],
    )


FIGURES = (
    samples,
    temperature,
    interpolation,
    attributes,
    inpainting,
    super_resolution,
)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="a `.keras` file")
    parser.add_argument("--out", type=Path, required=True, help="folder of the PNGs")
    parser.add_argument("--only", nargs="*", help="names of some of the figures")
    options = parser.parse_args()
    flow = tfpf.load_distribution(options.model)
    held_out = HeldOut(tfpf.data.load("fashion_mnist"))
    options.out.mkdir(parents=True, exist_ok=True)
    for draw in FIGURES:
        if options.only is None or draw.__name__ in options.only:
            path = options.out / f"glow_{draw.__name__}.png"
            plotting.save(draw(flow, held_out), path, dpi=120)
            print(path, f"{path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
