"""The benchmark of latent flows: what its flows start from, its clock, its figures."""

import argparse
import types

import keras
import numpy as np
import pytest

import tfp_flows as tfpf
from benchmarks.latent import run
from benchmarks.latent.flows import FLOWS, LATENTS
from benchmarks.latent.frechet import fitted_gaussian
from benchmarks.latent.schedule import HalfCosine


@pytest.fixture(scope="module")
def rows():
    """Vectors that have fewer directions than values, with a little noise."""
    generator = np.random.default_rng(0)
    few = generator.normal(size=(500, 6)) @ generator.normal(size=(6, LATENTS))
    return (few + 0.1 * generator.normal(size=few.shape)).astype("float32")


@pytest.mark.parametrize("name", ["Gaussian", "four affine couplings, whitened"])
def test_a_whitened_flow_starts_as_the_fitted_gaussian(name, rows):
    flow = FLOWS[name]()
    tfpf.FlowModel(flow).adapt(rows)
    exact = fitted_gaussian(rows).log_prob(rows)
    np.testing.assert_allclose(flow.log_prob(rows), exact, rtol=0.02)


def test_the_rate_falls_along_half_a_cosine():
    class Rates(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            seen.append(float(self.model.optimizer.learning_rate))

    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(optimizer="adam", loss="mse")
    x = np.zeros([4, 1])
    for epochs, expected in ((2, [0.4, 0.2]), (4, [0.4, 0.3414, 0.2, 0.0586])):
        seen = []
        callbacks = [HalfCosine(0.4), Rates()]
        model.fit(x, x, epochs=epochs, verbose=0, callbacks=callbacks)
        np.testing.assert_allclose(seen, expected, atol=1e-4)


@pytest.mark.slow
def test_everything_is_measured_and_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(run, "HELD_OUT", 300)
    monkeypatch.setattr(run, "RESULTS", tmp_path)
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (900, 28, 28, 1)).astype("uint8")
    labels = np.arange(900) % 10
    data = types.SimpleNamespace(
        x_train=images[:600],
        labels_train=labels[:600],
        x_test=images[600:],
        labels_test=labels[600:],
    )
    options = argparse.Namespace(
        models=tmp_path / "models",
        glow=None,
        images=300,
        epochs=1,
        noise=0.3,
        flow_epochs=1,
        vae_epochs=1,
        flows=list(FLOWS),
        vaes=["VAE, flow prior and posterior"],
        joint=True,
        choose=False,
        seed=0,
    )
    report = run.measure(data, options)
    assert len(report["bounds"]) == len(FLOWS) + 2
    distances = report["frechet_distance"]
    assert min(distances, key=distances.get) == "other training images"
    assert (tmp_path / "latent_flow.png").stat().st_size > 10_000
    whole = {"machine": "here", "seeds": {"0": report, "1": report}}
    assert run.table(whole).count("\n") == 6 + len(distances) + len(report["bounds"])
    # A second run reads every model, and finds the same.
    again = run.measure(data, options)
    for name, value in distances.items():
        np.testing.assert_allclose(again["frechet_distance"][name], value, rtol=1e-3)
    assert again["cpu_seconds"] == report["cpu_seconds"]
