"""The anomaly benchmark: its digits, its clock and its picture."""

import numpy as np
import PIL.Image

import tfp_flows as tfpf
from benchmarks.anomaly import picture
from benchmarks.anomaly.flows import OutOfTime, dequantized
from benchmarks.anomaly.images import digits


def test_digits_are_framed_and_use_all_greys():
    images = digits()
    assert images.shape == (1797, 28, 28, 1)
    assert images.dtype == np.uint8
    assert not images[:, :4].any()
    assert not images[:, :, -4:].any()
    assert (images.min(), images.max()) == (0, 255)
    # A digit is still itself: it shrinks to what it was made from.
    small = images[:, 4:24, 4:24, 0].reshape(-1, 20, 20)
    assert 30.0 < small.mean() < 120.0


def test_noise_stays_within_a_pixel():
    images = digits()[:5]
    noisy = dequantized(images, seed=1)
    np.testing.assert_array_equal(np.floor(noisy), images)
    assert noisy.dtype == np.float32


def test_training_ends_when_its_time_is_over():
    model = tfpf.FlowModel(tfpf.real_nvp((2,), couplings=2, hidden_units=(4,)))
    model.compile(optimizer="adam")
    x = np.zeros([64, 2], np.float32) + np.random.default_rng(0).random([64, 2])
    history = model.fit(
        x.astype("float32"),
        batch_size=8,
        epochs=500,
        verbose=0,
        callbacks=[OutOfTime(minutes=1e-3, rate=1e-3)],
    )
    assert len(history.epoch) < 500


def test_picture_has_every_scorer_and_set(tmp_path):
    generator = np.random.default_rng(0)
    kinds = ("normal", "inverted", "constant", "noise", "digits")
    scores = {
        kind: {name: generator.normal(size=40) for name in ("nll", "typicality")}
        for kind in kinds
    }
    normal = scores.pop("normal")
    report = tfpf.anomaly.detection_report(normal, scores, resamples=10)
    bits = {kind: generator.normal(size=40) for kind in kinds}
    sets = {kind: generator.integers(0, 256, (5, 6, 6, 1)) for kind in kinds}
    picture.draw(report, bits, sets, tmp_path / "anomaly.png")
    with PIL.Image.open(tmp_path / "anomaly.png") as image:
        assert image.size[0] > 800
        assert len(set(image.convert("L").tobytes())) > 50
