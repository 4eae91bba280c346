"""The picture of a latent model shows what the model gives."""

import numpy as np
import pytest

from tfp_flows import latent
from tfp_flows.internal.pictures import picture_grid


@pytest.mark.parametrize("model", ["two-stage"], indirect=True)
def test_shows_images_reconstructions_and_samples(model, images, tmp_path):
    figure = latent.latent_figure(
        model, images, sample_rows=2, columns=6, seed=3, temperature=0.5
    )
    pictures = [axes.images[0].get_array() for axes in figure.axes]
    expected = [images[:6], model.reconstruct(images[:6]), model.sample(12, 3, 0.5)]
    for picture, tiles in zip(pictures, expected, strict=True):
        np.testing.assert_array_equal(picture, picture_grid(tiles, 17, 6)[..., 0])
    figure.savefig(tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 1000
