"""The classifier learns, keeps its features in its file, and judges pictures."""

import keras
import numpy as np
import pytest

import tfp_flows as tfpf
from benchmarks.latent.classifier import train_classifier
from tfp_flows.images import frechet_distance


@pytest.fixture(scope="module")
def digits():
    return tfpf.data.load("digits")


@pytest.fixture(scope="module")
def judge(digits):
    return train_classifier(
        digits.x_train,
        digits.labels_train,
        levels=17,
        epochs=6,
        batch_size=50,
        verbose=0,
    )


def test_learns_digits(judge, digits):
    results = judge.evaluate(
        digits.x_test, digits.labels_test, verbose=0, return_dict=True
    )
    assert results["accuracy"] > 0.9


def test_features_tell_digits_from_noise(judge, digits):
    held_out = judge.features(digits.x_test)
    assert held_out.shape == (297, 64)
    real = frechet_distance(held_out, judge.features(digits.x_train))
    noise = np.random.default_rng(0).integers(0, 17, (297, 8, 8, 1))
    fake = frechet_distance(held_out, judge.features(noise))
    assert fake > 10.0 * real


def test_file_is_bit_equal(judge, digits, tmp_path):
    judge.save(tmp_path / "judge.keras")
    loaded = keras.models.load_model(tmp_path / "judge.keras")
    np.testing.assert_array_equal(
        judge.features(digits.x_test), loaded.features(digits.x_test)
    )
    np.testing.assert_array_equal(
        judge.predict(digits.x_test, verbose=0),
        loaded.predict(digits.x_test, verbose=0),
    )
