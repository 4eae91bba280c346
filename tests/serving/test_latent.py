"""An export of a latent model: what it holds and says, and what it refuses."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

import tfp_flows as tfpf
from tfp_flows.serving.metadata import read_metadata
from tfp_flows.serving.protos import read_warmup

SIGNATURES = {
    "latent_log_prob": {"x"},
    "elbo": {"x", "seed"},
    "encode": {"x"},
    "decode": {"latent"},
    "sample": {"n", "seed", "temperature"},
    "sample_batch": {"seed", "temperature"},
}


def small_vae(**options):
    return tfpf.latent.LatentVAE(
        (4, 4, 1), latent_dim=3, pixel_levels=17, channels=(4, 4), **options
    )


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A trained VAE, its images, and its version."""
    model = small_vae()
    x = np.random.default_rng(0).uniform(0, 17, (32, 4, 4, 1)).astype("float32")
    model.compile(optimizer="adam")
    model.fit(x, verbose=0)
    base = tmp_path_factory.mktemp("models") / "vae"
    return model, x, tfpf.export_saved_model(model, base, max_samples=8)


def test_says_what_it_is(exported):
    model, _, version = exported
    metadata = read_metadata(version)
    assert metadata["event_shape"] == [4, 4, 1]
    assert metadata["latent_shape"] == [3]
    assert metadata["limits"]["max_samples"] == 8
    assert set(metadata["training"]) == {"elbo", "reconstruction_nll", "latent_nll"}
    inputs = {name: set(spec) for name, spec in metadata["signatures"].items()}
    assert inputs == SIGNATURES
    weights = sum(w.shape.num_elements() for w in served_weights(model))
    assert metadata["weights"]["count"] == weights


def served_weights(model):
    parts = (model.encoder, model.decoder, model.prior_model, model.likelihood)
    return [w.value for part in parts for w in part.weights]


def test_warm_up_replays(exported):
    model, _, version = exported
    loaded = tf.saved_model.load(version)
    records = dict(read_warmup(Path(version)))
    assert set(records) == {*SIGNATURES, "serving_default"}
    for name, inputs in records.items():
        outputs = loaded.signatures[name](
            **{key: tf.constant(value) for key, value in inputs.items()}
        )
        assert np.all(outputs["is_finite"])


def test_row_of_the_bound_is_its_own(exported):
    model, x, version = exported
    elbo = tf.saved_model.load(version).signatures["elbo"]
    seeds = tf.constant([[1, 2], [3, 4], [5, 6]])
    together = elbo(x=tf.constant(x[:3]), seed=seeds)["elbo"]
    alone = elbo(x=tf.constant(x[2:3]), seed=seeds[2:])["elbo"]
    np.testing.assert_allclose(together[2], alone[0], rtol=1e-6)
    np.testing.assert_allclose(alone[0], model.elbo(x[2:3], (5, 6))[0], rtol=1e-6)


def test_what_is_not_finite_never_leaves(exported, tmp_path):
    model, x, _ = exported
    broken = small_vae()
    broken.set_weights(model.get_weights())
    broken.encoder.layers[-1].bias.assign(np.full(6, np.inf, "float32"))
    version = tfpf.export_saved_model(broken, tmp_path, warmup=False)
    signatures = tf.saved_model.load(version).signatures
    outputs = signatures["latent_log_prob"](x=tf.constant(x[:2]))
    assert not np.any(outputs["is_finite"])
    assert np.all(np.isfinite(outputs["latent_log_prob"]))
    outputs = signatures["encode"](x=tf.constant(x[:2]))
    np.testing.assert_array_equal(outputs["latent"], np.zeros([2, 3]))


@pytest.mark.parametrize(
    "option",
    [
        {"precision": "float16"},
        {"scorer": tf.function(lambda x, log_prob, latent: -log_prob)},
    ],
)
def test_what_it_cannot_have_is_named(option, tmp_path):
    with pytest.raises(ValueError, match=f"`{next(iter(option))}` must be"):
        tfpf.export_saved_model(small_vae(), tmp_path / "vae", **option)
    assert not (tmp_path / "vae").exists()
