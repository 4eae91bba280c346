"""Foreign images are what their names say."""

import numpy as np
import pytest
from scipy import stats

from benchmarks.anomaly.simple_images import mutated, simple_anomalies

IMAGES = np.random.default_rng(7).integers(0, 16, (300, 5, 4, 3)).astype("uint8")


def test_simple_anomalies():
    made = simple_anomalies(IMAGES, levels=16)
    assert {images.dtype for images in made.values()} == {IMAGES.dtype}
    assert {images.shape for images in made.values()} == {IMAGES.shape}
    np.testing.assert_array_equal(made["inverted"], 15 - IMAGES)
    constant = made["constant"]
    np.testing.assert_array_equal(constant, constant[:, :1, :1] + 0 * constant)
    for pixels in (constant[:, 0, 0, 1], made["noise"].ravel()):
        counts = np.bincount(pixels, minlength=16)
        assert stats.chisquare(counts).pvalue > 0.01


@pytest.mark.parametrize("rate", [0.0, 0.3, 1.0])
def test_mutated_pixels(rate):
    made = mutated(IMAGES, rate=rate, levels=16)
    # A random value is the old one once in 16.
    expected = rate * 15.0 / 16.0
    assert np.mean(made != IMAGES) == pytest.approx(expected, abs=0.01)
    assert made.dtype == IMAGES.dtype
    np.testing.assert_array_equal(made, mutated(IMAGES, rate=rate, levels=16))


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="`images` must have shape"):
        simple_anomalies(IMAGES[0])
    with pytest.raises(ValueError, match="pixel values from 0 to 7"):
        simple_anomalies(IMAGES, levels=8)
    with pytest.raises(ValueError, match="`rate` must be from 0 to 1"):
        mutated(IMAGES, rate=1.5)
