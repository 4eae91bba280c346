"""What holds for every latent model: densities, gradients, files, seeds, training."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_flows as tfpf
from tfp_flows import latent

tfd = tfp.distributions


def log_det(function, x):
    """`log |det dy/dx|` of each row by automatic differentiation."""
    x = tf.convert_to_tensor(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = function(x)
    jacobian = tape.batch_jacobian(y, x).numpy()
    return np.linalg.slogdet(jacobian.astype("float64"))[1]


@pytest.mark.parametrize("kind", ["joint", "two-stage", "vae, flow prior"])
def test_density_of_latents_is_exact(build, images, kind):
    model = build(kind)
    for weight in model.prior_model.trainable_weights:
        weight.assign_add(0.1 * tf.random.stateless_normal(weight.shape, [1, 2]))
    x = images[:8]
    z = model.encode(x)
    flow = model.prior
    # Base density at the flow's inverse, and the inverse's Jacobian determinant.
    base = flow.distribution.log_prob(flow.bijector.inverse(z))
    expected = base + log_det(lambda v: flow.bijector.inverse(v + 0.0), z)
    np.testing.assert_allclose(model.latent_log_prob(x), expected, rtol=1e-4)


@pytest.mark.slow
def test_density_of_the_posterior_is_exact(images):
    flow = tfpf.maf(
        (4,), layers=2, hidden_units=(8,), inverse=True, condition_shape=[3]
    )
    model = latent.LatentVAE(
        (8, 8, 1), latent_dim=4, pixel_levels=17, channels=(4, 4), posterior=flow
    )
    for weight in model.posterior_model.trainable_weights:
        weight.assign_add(0.3 * tf.random.stateless_normal(weight.shape, [1, 2]))
    x = images[:8]
    z, log_q = model.posterior(x, seed=3)
    mean, raw, features = np.split(model.encoder(x).numpy(), [4, 8], axis=-1)
    given = tfpf.condition(flow, features).bijector
    u = given.inverse(z)
    width = tf.nn.softplus(raw) + 1e-4
    log_u = tf.reduce_sum(tfd.Normal(mean, width).log_prob(u), axis=-1)
    expected = log_u + log_det(lambda v: given.inverse(v + 0.0), z)
    np.testing.assert_allclose(log_q, expected, rtol=1e-4, atol=1e-4)
    # And u is where the encoder put it.
    noise = (u - mean) / width
    np.testing.assert_allclose(
        noise, tf.random.stateless_normal([8, 4], [0, 3]), atol=1e-4
    )


def test_bound_is_made_of_its_parts(model, images):
    x = images[:8]
    terms = model.terms(x, seed=1)
    z, log_q = model.posterior(x, seed=1)
    np.testing.assert_allclose(-terms["latent_nll"], model.prior.log_prob(z), rtol=1e-5)
    pixels = model.likelihood.log_prob(x, model.decoder(z))
    np.testing.assert_allclose(-terms["reconstruction_nll"], pixels, rtol=1e-5)
    total = pixels + model.prior.log_prob(z) - log_q
    np.testing.assert_allclose(terms["elbo"], total, rtol=1e-5)
    np.testing.assert_allclose(model.elbo(x, seed=1), total, rtol=1e-5)


def test_gradients_reach_every_weight(model, images):
    with tf.GradientTape() as tape:
        elbo = model(images[:32], training=True)["elbo"]
        loss = -tf.reduce_mean(elbo)
    gradients = tape.gradient(loss, [w.value for w in model.trainable_weights])
    unreached = [
        weight.path
        for weight, gradient in zip(model.trainable_weights, gradients, strict=True)
        if gradient is None or not np.any(tf.convert_to_tensor(gradient) != 0.0)
    ]
    assert unreached == []


def test_files_are_bit_equal(model, images, tmp_path):
    x = images[:8]
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert type(loaded) is type(model)
    for weight, other in zip(model.weights, loaded.weights, strict=True):
        np.testing.assert_array_equal(weight, other)
    np.testing.assert_array_equal(model.encode(x), loaded.encode(x))
    np.testing.assert_array_equal(model.elbo(x, 1), loaded.elbo(x, 1))
    np.testing.assert_array_equal(model.latent_log_prob(x), loaded.latent_log_prob(x))
    np.testing.assert_array_equal(model.sample(3, 2), loaded.sample(3, 2))


def test_samples_have_shape_range_and_seeds(model):
    samples = model.sample(5, seed=(1, 2)).numpy()
    assert samples.shape == (5, 8, 8, 1)
    assert samples.dtype == np.float32
    assert samples.min() >= 0.0
    assert samples.max() < 17.0
    np.testing.assert_array_equal(samples, model.sample(5, seed=(1, 2)))
    assert np.any(samples != model.sample(5, seed=(1, 3)).numpy())
    cold = model.sample(3, seed=1, temperature=0.0).numpy()
    np.testing.assert_allclose(cold[0], cold[2], atol=1e-6)
    # Prior, then decoder.
    z = model.prior.sample(5, seed=(1, 2))
    np.testing.assert_allclose(model.decode(z), samples, rtol=1e-5, atol=1e-4)


def test_many_images_are_like_few(model, images):
    """What runs in pieces equals what runs at once."""
    many = np.concatenate([images, images[:100]])
    z = model.encode(many).numpy()
    assert z.shape == (612, 4)
    np.testing.assert_allclose(z[:100], z[512:], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(model.encode(many[505:]), z[505:], rtol=1e-5, atol=1e-5)
    pictures = model.reconstruct(images[:3])
    np.testing.assert_allclose(
        pictures, model.decode(model.encode(images[:3])), rtol=1e-5, atol=1e-5
    )


def test_own_seed_makes_a_row_independent(model, images):
    x = tf.constant(images[:3])
    seeds = tf.constant([[1, 2], [3, 4], [5, 6]])
    rows = model.terms(x, seeds)["elbo"]
    alone = [model.elbo(images[i : i + 1], tuple(seeds[i].numpy()))[0] for i in (0, 2)]
    np.testing.assert_allclose([rows[0], rows[2]], alone, rtol=1e-5)


@pytest.mark.parametrize(
    "kind",
    [
        "joint",
        *(
            pytest.param(k, marks=pytest.mark.slow)
            for k in ("vae", "vae, flow prior", "vae, two flows")
        ),
    ],
)
def test_training_raises_the_bound(build, images, kind):
    model = build(kind)
    model.compile(optimizer=keras.optimizers.Adam(3e-3))
    before = model.evaluate(images, verbose=0, return_dict=True)
    history = model.fit(
        images, epochs=4, batch_size=64, verbose=0, validation_data=(images[:64], None)
    ).history
    after = model.evaluate(images, verbose=0, return_dict=True)
    assert set(history) >= {"loss", "elbo", "reconstruction_nll", "latent_nll"}
    assert after["elbo"] > before["elbo"] + 10.0
    np.testing.assert_allclose(after["loss"], -after["elbo"], rtol=1e-5)
    np.testing.assert_allclose(
        after["loss"], model.evaluate(images, verbose=0)[0], rtol=1e-6
    )
    assert model.prior_model.is_adapted


def test_two_stages_lower_both_losses(build, images):
    keras.utils.set_random_seed(1)
    model = build("two-stage")
    model.compile(optimizer=keras.optimizers.Adam(3e-3))
    labels = np.zeros(len(images))
    dataset = tf.data.Dataset.from_tensor_slices((images, labels)).batch(64)
    history = model.fit(
        dataset, epochs=4, flow_epochs=8, verbose=0, validation_data=dataset
    ).history
    assert len(history["latent_nll"]) == len(history["val_latent_nll"]) == 8
    assert len(history["reconstruction_nll"]) == 4
    assert history["reconstruction_nll"][-1] < history["reconstruction_nll"][0] - 5.0
    assert history["latent_nll"][-1] < history["latent_nll"][0]
    assert history["val_latent_nll"][-1] > model.noise_entropy
    # The latents are standardized over all images.
    z = model.encode(images).numpy()
    np.testing.assert_allclose(z.mean(axis=0), 0.0, atol=1e-3)
    np.testing.assert_allclose(z.std(axis=0), 1.0, atol=0.05)


@pytest.mark.slow
def test_two_stages_repeat(build, images):
    def run():
        keras.utils.set_random_seed(3)
        model = build("two-stage")
        model.compile(optimizer="adam")
        return model.fit(images[:128], epochs=2, verbose=0, batch_size=64).history

    first, again = run(), run()
    for name, values in first.items():
        np.testing.assert_allclose(values, again[name], rtol=1e-4)


def test_noise_has_the_entropy_it_should(build):
    model = build("joint")
    normal = tfd.Sample(tfd.Normal(0.0, model.noise), 4)
    assert math.isclose(model.noise_entropy, float(normal.entropy()), rel_tol=1e-6)


@pytest.mark.parametrize("kind", ["joint", "two-stage"])
def test_training_stops_at_what_is_not_finite(build, images, kind):
    model = build(kind)
    model.compile(optimizer="adam")
    broken = images[:64].copy()
    broken[3] = np.nan
    with pytest.raises((FloatingPointError, ValueError), match="finite"):
        model.fit(broken, verbose=0)


def test_weighted_images_count_as_often(build, images):
    model = build("vae")
    model.compile(optimizer=keras.optimizers.SGD(0.0))
    weight = np.zeros(64, "float32")
    weight[:8] = 8.0
    history = model.fit(
        images[:64], batch_size=64, sample_weight=weight, verbose=0
    ).history
    seed_noise = 0.05 * abs(history["loss"][0])
    only = -np.mean(model.elbo(images[:8]))
    assert abs(history["loss"][0] - only) < seed_noise


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"latent_dim": 1}, "`latent_dim` must be an integer of at least 2"),
        ({"training": "both"}, "`training` must be one of"),
        ({"noise": math.nan}, "`noise` must be a finite number above 0"),
        ({"channels": (4,)}, "`channels` must be two positive integers"),
        ({"likelihood": "bernoulli"}, "`kind` must be one of"),
        ({"flow": tfd.Normal(0.0, 1.0)}, "`flow` must be a TFP distribution of vec"),
        (
            {"flow": tfpf.real_nvp((4,), couplings=2, condition_shape=(2,))},
            "takes no condition",
        ),
        ({"encoder": "conv"}, "`encoder` must be a Keras layer"),
        ({"decoder": keras.layers.Dense(3)}, "`decoder` must turn"),
    ],
)
def test_wrong_arguments_of_a_latent_flow_are_named(arguments, message):
    with pytest.raises((TypeError, ValueError), match=message):
        latent.LatentFlow((8, 8, 1), **{"latent_dim": 4, **arguments})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"prior": tfpf.real_nvp((3,), couplings=2)}, "`prior` must be a TFP"),
        (
            {"prior": tfpf.real_nvp((4,), couplings=2, condition_shape=(2,))},
            "takes no condition",
        ),
        ({"posterior": tfpf.real_nvp((3,), couplings=2)}, "`posterior` must be a TFP"),
        (
            {"posterior": tfd.Sample(tfd.Normal(0.0, 1.0), 4)},
            "`posterior` must be a transformed",
        ),
        (
            {"posterior": tfpf.real_nvp((4,), couplings=2, condition_shape=(2, 3))},
            "`posterior` must be a transformed",
        ),
    ],
)
def test_wrong_arguments_of_a_vae_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        latent.LatentVAE((8, 8, 1), latent_dim=4, **arguments)


@pytest.mark.parametrize("shape", [(6, 8, 1), (8, 8), 8, (0, 4, 1)])
def test_shapes_that_cannot_be_halved_are_named(shape):
    with pytest.raises(ValueError, match="`event_shape` must be"):
        latent.LatentFlow(shape, latent_dim=4)


def test_wrong_calls_are_named(build, images):
    model = build("two-stage")
    with pytest.raises(ValueError, match=r"Call `compile"):
        model.fit(images, verbose=0)
    model.compile(optimizer="adam")
    with pytest.raises(ValueError, match="`x` must be a finite dataset"):
        model.fit(tf.data.Dataset.from_tensors(images).repeat())
    for name in ("sample_weight", "validation_split"):
        with pytest.raises(ValueError, match=f"`{name}` must not be given"):
            model.fit(images, **{name: 0.5})
    with pytest.raises(ValueError, match=r"`x` must have shape \[n, 8, 8, 1\]"):
        model.fit(images[:, :4], verbose=0)
    with pytest.raises(ValueError, match=r"`x` must have shape \[n, 8, 8, 1\]"):
        model.encode(images[0])
    with pytest.raises(ValueError, match=r"`z` must have shape \[n, 4\]"):
        model.decode(np.zeros([3, 5]))
    joint = build("joint")
    joint.compile(optimizer="adam")
    with pytest.raises(ValueError, match="`flow_epochs` must be None"):
        joint.fit(images, flow_epochs=2)
    with pytest.raises(ValueError, match=r"`x` must have shape \[n, 8, 8, 1\]"):
        joint.fit(images[:, :4], verbose=0)


@pytest.mark.parametrize("name", ["joint", "vae"])
def test_images_of_another_shape_are_refused_in_every_call(build, name):
    """Also when Keras has seen others, and has forgotten the shape that it traced."""
    made = build(name)
    made.compile("sgd")
    x = np.full((4, 8, 8, 1), 8.0, "float32")
    made.evaluate(x, verbose=0)
    for call in (made.evaluate, made.predict, made.fit):
        for wrong in (x[:, :, :1], x.reshape(4, 64)):
            with pytest.raises(ValueError, match=r"`x` must have shape \[n, 8, 8, 1\]"):
                call(wrong, verbose=0)


@pytest.mark.parametrize("name", ["joint", "vae"])
def test_a_diverged_loss_names_its_part(build, name):
    made = build(name)
    made.compile(keras.optimizers.SGD(1e30))
    with pytest.raises(FloatingPointError, match=r"`latent_nll`|`reconstruction_nll`"):
        made.fit(np.full((8, 8, 8, 1), 8.0), epochs=4, batch_size=4, verbose=0)


def test_every_block_of_images_has_noise_of_its_own(build):
    made = build("vae")
    x = np.full((600, 8, 8, 1), 8.0, "float32")
    assert len(np.unique(made.elbo(x))) > 590


def test_two_stages_take_what_one_takes(build):
    made = build("two-stage")
    made.compile("sgd")
    x = np.full((4, 8, 8, 1), 8.0, "float32")
    history = made.fit({"x": x}, validation_data=({"x": x},), verbose=0).history
    assert "val_latent_nll" in history
    for name, given in (("x", x[:, :4]), ("validation_data", (x[:, :4],))):
        arguments = {"x": x, name: given}
        with pytest.raises(ValueError, match=r"`x` must have shape"):
            made.fit(**arguments, verbose=0)
    with pytest.raises(ValueError, match=r"`x` must not be a generator"):
        made.fit((x for _ in range(2)), verbose=0)


@pytest.mark.parametrize("kind", [latent.LatentFlow, latent.LatentVAE])
def test_works_where_keras_computes_in_double_precision(kind):
    keras.config.set_floatx("float64")
    try:
        made = kind((8, 8, 1), latent_dim=4, pixel_levels=17, channels=(4, 4))
        made.compile("sgd")
        x = np.full((4, 8, 8, 1), 8.0)
        assert np.isfinite(made.fit(x, verbose=0).history["loss"][0])
        assert made.sample(2).shape == (2, 8, 8, 1)
    finally:
        keras.config.set_floatx("float32")
