"""The picture of a latent model shows what the model gives."""

import numpy as np

import tfp_flows as tfpf
from benchmarks.latent.picture import latent_figure
from tfp_flows.internal.pictures import picture_grid


def test_shows_images_reconstructions_and_samples(tmp_path):
    flow = tfpf.real_nvp((4,), couplings=2, hidden_units=(8,))
    model = tfpf.latent.LatentFlow(
        (8, 8, 1), latent_dim=4, pixel_levels=17, channels=(4, 4), flow=flow
    )
    images = np.random.default_rng(0).uniform(0.0, 17.0, (20, 8, 8, 1))
    images = images.astype("float32")
    figure = latent_figure(
        model, images, sample_rows=2, columns=6, seed=3, temperature=0.5
    )
    pictures = [axes.images[0].get_array() for axes in figure.axes]
    expected = [images[:6], model.reconstruct(images[:6]), model.sample(12, 3, 0.5)]
    for picture, tiles in zip(pictures, expected, strict=True):
        np.testing.assert_array_equal(picture, picture_grid(tiles, 17, 6)[..., 0])
    figure.savefig(tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 1000
