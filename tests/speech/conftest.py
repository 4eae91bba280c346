"""Sounds with harmonics, made without a synthesiser, and small flows of them."""

import numpy as np
import pytest
import tensorflow as tf

import tfp_flows as tfpf

RATE = 8000


def harmonic_sound(seconds, seed):
    """A voice of sorts: five harmonics of a gliding pitch, louder and softer."""
    generator = np.random.default_rng(seed)
    t = np.arange(int(seconds * RATE)) / RATE
    glide = np.interp(t, np.linspace(0, seconds, 5), generator.uniform(90, 220, 5))
    phase = 2 * np.pi * np.cumsum(glide) / RATE
    voice = sum(np.sin(k * phase + k) / k for k in range(1, 6))
    loudness = np.interp(
        t, np.linspace(0, seconds, 9), generator.uniform(0.02, 0.25, 9)
    )
    return (loudness * voice + 2e-3 * generator.normal(size=t.shape)).astype("float32")


@pytest.fixture(scope="session")
def sounds():
    """Sounds to train on, and others."""
    train = [harmonic_sound(1.5, seed) for seed in range(12)]
    return train, [harmonic_sound(1.5, seed) for seed in range(100, 104)]


@pytest.fixture
def tiny():
    """Builds a flow small enough for automatic differentiation."""

    def build(length=32, dtype="float64", **options):
        sizes = {
            "mels": 3,
            "hop": 16,
            "group": 4,
            "steps": 3,
            "early_every": 2,
            "early_channels": 1,
            "channels": 6,
            "depth": 2,
            "condition_channels": 4,
            "prediction": 3,
        }
        flow = tfpf.speech.waveglow(length, dtype=dtype, **(sizes | options))
        for k, weight in enumerate(flow.trainable_variables):
            noise = tf.random.stateless_normal(weight.shape, [7, k], dtype=weight.dtype)
            weight.assign_add(0.2 * noise)
        return flow

    return build
