"""Image architectures: laws of the whole, weight counts, variants, errors."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_flows as tfpf
from tfp_flows.bijectors.repeat import Repeat
from tfp_flows.bijectors.tree import bijectors_in
from tfp_flows.testing import laws
from tfp_flows.testing.subject import Subject, perturb

tfd = tfp.distributions

PIXELS = np.random.default_rng(0).uniform(0.0, 256.0, (8, 32, 32, 3))


def convnet(n, w, m):
    return (9 * n + 1) * w + (w + 1) * w + (9 * w + 2) * m


def plain_residual(n, w, m, blocks):
    return (9 * n + 1) * w + 2 * blocks * (9 * w + 1) * w + (w + 2) * m


def glow_count(channels, levels, steps, width, learned_prior=True):
    """The paper's formula: per step 2 c + c^2 weights and the coupling's network."""
    total, c = 0, channels
    for level in range(1, levels + 1):
        c *= 4
        total += steps * (2 * c + c**2 + convnet(c // 2, width, c))
        if level < levels:
            total += learned_prior * (9 * (c // 2) * c + 2 * c)
            c //= 2
    return total


def real_nvp_count(channels, levels, width, blocks, norm, published=False):
    """The paper's: 3 checkerboards and 3 channel masks a level, 4 at the end.

    As published, networks get wider and have batch normalizations inside, and each
    coupling learns a factor of its log-scales.
    """
    total, c, w = 0, channels, width

    def residual(n, w, m, blocks):
        more = published * ((2 * blocks + 1) * 2 * w + 1)
        return plain_residual(n, w, m, blocks) + more

    for _ in range(levels - 1):
        # Checkerboards fold the kept pixels of 2 x 2 blocks into 2 c channels.
        total += 3 * (residual(2 * c, w, 4 * c, blocks) + norm * c)
        w *= 1 + published
        total += 3 * (residual(2 * c, w, 4 * c, blocks) + norm * 4 * c)
        c *= 2
    return total + 4 * (residual(2 * c, w, 4 * c, blocks) + norm * c)


def nice_count(d, couplings, widths):
    """The paper's: couplings of one half by a network of the other, and d scales."""
    half = d // 2
    sizes = (half, *widths, half)
    layers = sum((n + 1) * m for n, m in zip(sizes[:-1], sizes[1:], strict=True))
    return couplings * layers + d


def trained_count(flow):
    return sum(math.prod(v.shape) for v in flow.trainable_variables)


FLOWS = {
    "glow": lambda **k: tfpf.glow(levels=2, steps=2, hidden_channels=8, **k),
    "glow additive": lambda **k: tfpf.glow(
        levels=2, steps=2, hidden_channels=8, coupling="additive", **k
    ),
    "glow reverse": lambda **k: tfpf.glow(
        levels=1,
        steps=2,
        hidden_channels=8,
        permutation="reverse",
        split_prior="normal",
        top_prior="learned",
        log_scale="sigmoid",
        **k,
    ),
    "glow matrix": lambda **k: tfpf.glow(
        levels=2, steps=1, hidden_channels=8, permutation="matrix", residual=True, **k
    ),
    "real_nvp": lambda **k: tfpf.real_nvp(levels=2, hidden_channels=8, blocks=1, **k),
    "real_nvp batchnorm": lambda **k: tfpf.real_nvp(
        levels=2,
        hidden_channels=8,
        blocks=1,
        batchnorm=True,
        split_prior="learned",
        **k,
    ),
    "real_nvp as published": lambda **k: tfpf.real_nvp(
        levels=2,
        hidden_channels=4,
        blocks=1,
        widen=True,
        normalized=True,
        log_scale="tanh",
        batchnorm=True,
        **k,
    ),
    "real_nvp additive": lambda **k: tfpf.real_nvp(
        levels=2, hidden_channels=4, blocks=1, coupling="additive", **k
    ),
    "glow of splines": lambda **k: tfpf.glow(
        levels=2,
        steps=1,
        hidden_channels=4,
        coupling=tfpf.transforms.RationalQuadraticSpline(4),
        **k,
    ),
    "glow permuted": lambda **k: tfpf.glow(
        levels=2,
        steps=2,
        hidden_channels=8,
        permutation="permutation",
        log_scale="exp",
        **k,
    ),
    "nice": lambda **k: tfpf.nice(hidden_units=(16,), **k),
}


LAWS = [name for name in laws.LAWS if any(w in name for w in ("trip", "log-det"))]


@pytest.mark.parametrize("name", FLOWS)
def test_laws_on_4x4x2_and_every_weight_is_in_the_model(name):
    flow = FLOWS[name](event_shape=(4, 4, 2), dtype="float64")
    y = np.random.default_rng(1).normal(size=(64, 4, 4, 2))
    model = tfpf.FlowModel(flow)
    model.adapt(y)
    perturb(flow, 0.1)
    subject = Subject(flow.bijector, flow.bijector.inverse(y[:8]))
    rows = laws.check(subject, [*LAWS, "inverse gradients"], tolerance=1e-10)
    assert all(row.ok for row in rows), rows
    found = {id(v._value) for v in model.trainable_weights}
    assert found == {id(v) for v in flow.trainable_variables}


@pytest.mark.parametrize(
    "make",
    [
        lambda: tfpf.glow(
            (32, 32, 3),
            levels=3,
            steps=8,
            hidden_channels=16,
            preprocess=tfpf.center(256),
        ),
        lambda: tfpf.real_nvp(
            (32, 32, 3), levels=3, hidden_channels=8, preprocess=tfpf.logit(256)
        ),
        lambda: tfpf.nice((32, 32, 3), hidden_units=(32,), preprocess=tfpf.logit(256)),
    ],
    ids=["glow", "real_nvp", "nice"],
)
def test_reconstruction_in_float32_at_32x32x3(make):
    keras.utils.set_random_seed(0)
    flow = perturb(make(), 0.02)
    data = tf.constant(PIXELS, tf.float32)
    tfpf.FlowModel(flow).adapt(data)
    latents = flow.bijector.inverse(data)
    again = flow.bijector.forward(tf.identity(latents))
    assert latents.shape == (8, 32 * 32 * 3)
    assert np.abs(again - data).max() < 1e-3 * 256


@pytest.mark.parametrize(
    ("shape", "levels", "steps", "width"),
    [((32, 32, 3), 3, 2, 32), ((8, 16, 1), 3, 1, 8), ((28, 28, 1), 1, 3, 8)],
)
def test_glow_has_as_many_weights_as_the_paper_says(shape, levels, steps, width):
    flow = tfpf.glow(
        shape,
        levels=levels,
        steps=steps,
        hidden_channels=width,
        log_scale="sigmoid",
    )
    assert trained_count(flow) == glow_count(shape[-1], levels, steps, width)


def test_variants_change_the_weight_count_as_they_should():
    arguments = {"levels": 2, "steps": 2, "hidden_channels": 8}
    arguments["log_scale"] = "sigmoid"
    full = glow_count(1, 2, 2, 8)
    c1, c2 = 4, 8
    fixed = tfpf.glow((8, 8, 1), permutation="permutation", **arguments)
    assert trained_count(fixed) == full - 2 * (c1**2 + c2**2)
    additive = tfpf.glow((8, 8, 1), coupling="additive", **arguments)
    halved = sum(
        2 * (convnet(c // 2, 8, c) - convnet(c // 2, 8, c // 2)) for c in (c1, c2)
    )
    assert trained_count(additive) == full - halved
    normal = tfpf.glow((8, 8, 1), split_prior="normal", **arguments)
    assert trained_count(normal) == glow_count(1, 2, 2, 8, learned_prior=False)
    top = tfpf.glow((8, 8, 1), top_prior="learned", **arguments)
    assert trained_count(top) == full + 2 * c2
    classes = tfpf.glow(
        (8, 8, 1), condition_shape=(10,), condition_use="top_prior", **arguments
    )
    assert trained_count(classes) == full + 10 * 2 * c2
    both = tfpf.glow(
        (8, 8, 1),
        condition_shape=(10,),
        condition_use=("couplings", "top_prior"),
        **arguments,
    )
    assert trained_count(both) == full + 10 * 2 * c2 + 4 * 10 * 8


@pytest.mark.parametrize(("levels", "blocks"), [(1, 2), (3, 1)])
def test_real_nvp_has_as_many_weights_as_its_couplings(levels, blocks):
    options = {"levels": levels, "hidden_channels": 8, "blocks": blocks}
    flow = tfpf.real_nvp((16, 16, 3), **options)
    assert trained_count(flow) == real_nvp_count(3, levels, 8, blocks, norm=2)
    normalized = tfpf.real_nvp((16, 16, 3), batchnorm=True, **options)
    assert trained_count(normalized) == real_nvp_count(3, levels, 8, blocks, norm=0)
    options |= {"batchnorm": True, "widen": True, "normalized": True}
    paper = tfpf.real_nvp((16, 16, 3), log_scale="tanh", **options)
    expected = real_nvp_count(3, levels, 8, blocks, norm=0, published=True)
    assert trained_count(paper) == expected


@pytest.mark.parametrize(
    ("shape", "couplings", "widths"),
    [((28, 28, 1), 4, (16,) * 5), ((4, 4, 3), 3, (8,))],
)
def test_nice_has_as_many_weights_as_the_paper_says(shape, couplings, widths):
    flow = tfpf.nice(shape, steps=couplings, hidden_units=widths, actnorm=False)
    assert trained_count(flow) == nice_count(math.prod(shape), couplings, widths)


def test_class_conditional_prior_moves_the_top_latents_only():
    flow = tfpf.glow(
        (8, 8, 1),
        levels=2,
        steps=1,
        hidden_channels=8,
        condition_shape=(3,),
        condition_use="top_prior",
        dtype="float64",
    )
    perturb(flow, 0.1)
    y = np.random.default_rng(0).normal(size=(8, 8, 1))
    pyramid = flow.bijector.bijectors[0]
    a, b = pyramid.inverse(np.stack([y, y]), condition=np.eye(3)[:2])
    top = math.prod(pyramid.latent_shapes[0])
    assert np.abs(a - b)[:top].min() > 0
    np.testing.assert_array_equal(a[top:], b[top:])
    assert tfpf.condition(flow, np.eye(3)).sample(2, seed=1).shape == (2, 3, 8, 8, 1)


def test_conditions_can_be_images():
    flow = tfpf.glow(
        (8, 8, 1), levels=2, steps=1, hidden_channels=8, condition_shape=(8, 8, 2)
    )
    perturb(flow, 0.1)
    y = np.zeros((2, 8, 8, 1), "float32")
    c = np.stack([np.zeros((8, 8, 2)), np.ones((8, 8, 2))]).astype("float32")
    a, b = tfpf.condition(flow, c).log_prob(y).numpy()
    assert abs(a - b) > 1e-3


def glow_to_fit():
    return tfpf.glow(
        (8, 8, 1), levels=1, steps=2, hidden_channels=8, preprocess=tfpf.center(17)
    )


def real_nvp_to_fit():
    """As published, with statistics that move while Keras trains."""
    return tfpf.real_nvp(
        (8, 8, 1),
        levels=1,
        hidden_channels=4,
        blocks=1,
        normalized=True,
        batchnorm=True,
        log_scale="tanh",
        preprocess=tfpf.center(17),
    )


@pytest.mark.parametrize(
    "make", [glow_to_fit, pytest.param(real_nvp_to_fit, marks=pytest.mark.slow)]
)
def test_fit_save_load(tmp_path, make):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 17, (64, 8, 8, 1)) + rng.uniform(size=(64, 8, 8, 1))
    flow = make()
    model = tfpf.FlowModel(flow)
    model.compile(optimizer=keras.optimizers.Adam(1e-2))
    history = model.fit(x, batch_size=32, epochs=3, verbose=0).history
    assert history["bits_per_dim"][-1] < history["bits_per_dim"][0]
    state = [v.numpy() for v in model.non_trainable_weights]
    model.evaluate(x, verbose=0)
    for before, after in zip(state, model.non_trainable_weights, strict=True):
        np.testing.assert_array_equal(before, after)
    model.save(tmp_path / "flow.keras")
    again = keras.models.load_model(tmp_path / "flow.keras")
    np.testing.assert_array_equal(
        again.predict(x, verbose=0), model.predict(x, verbose=0)
    )


REPEATED = {
    "nice": lambda mode: tfpf.nice((3,), mode=mode),
    "real_nvp": lambda mode: tfpf.real_nvp((3,), mode=mode),
    "real_nvp image": lambda mode: tfpf.real_nvp(
        (4, 4, 1), levels=1, hidden_channels=4, blocks=1, mode=mode
    ),
    "glow": lambda mode: tfpf.glow((3,), mode=mode),
    "glow image": lambda mode: tfpf.glow((4, 4, 1), steps=2, mode=mode),
    "spline_flow": lambda mode: tfpf.spline_flow((3,), mode=mode),
    "maf": lambda mode: tfpf.maf((3,), mode=mode),
    "dequantization_noise": lambda mode: tfpf.dequantization_noise(
        (4, 4, 1), mode=mode
    ),
    "waveglow": lambda mode: tfpf.speech.waveglow(256, steps=2, mode=mode),
}


def modes(flow):
    """How the copies run in each `Repeat` of a flow."""
    parts = bijectors_in(flow)
    return {part.get_config()["mode"] for part in parts if isinstance(part, Repeat)}


@pytest.mark.parametrize("name", REPEATED)
def test_mode_reaches_every_repeated_step(name):
    assert modes(REPEATED[name]("reversible")) == {"reversible"}


def test_reversible_images_have_the_gradients_of_unrolled_ones():
    y = np.random.default_rng(1).normal(size=(3, 4, 4, 1)).astype("float32")
    results = []
    for mode in ("unrolled", "reversible"):
        keras.utils.set_random_seed(0)
        flow = perturb(REPEATED["real_nvp image"](mode))
        with tf.GradientTape() as tape:
            loss = -tf.reduce_mean(flow.log_prob(y))
        results.append((loss, *tape.gradient(loss, flow.trainable_variables)))
    for plain, reversed_ in zip(*results, strict=True):
        np.testing.assert_allclose(plain, reversed_, rtol=1e-3, atol=1e-4)


def test_hidden_units_ask_for_a_flattened_flow():
    image = tfpf.glow((8, 8, 1), steps=1)
    flat = tfpf.glow((8, 8, 1), steps=1, hidden_units=(16,))
    assert any(isinstance(part, tfpf.MultiScale) for part in image.bijector.bijectors)
    assert not any(
        isinstance(part, tfpf.MultiScale) for part in flat.bijector.bijectors
    )
    assert flat.event_shape == image.event_shape == (8, 8, 1)


def test_levels_default_to_what_fits():
    for shape, levels in {(32, 32, 3): 3, (28, 28, 1): 2, (6, 4, 1): 1}.items():
        flow = tfpf.glow(shape, steps=1, hidden_channels=4)
        assert len(flow.bijector.bijectors[0].latent_shapes) == levels


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: tfpf.glow((28, 28, 1), levels=3),
            r"pad the images by 4 rows and 4 columns to \(32, 32, 1\), or use at most "
            r"levels=2\. Received: event_shape=\(28, 28, 1\), levels=3",
        ),
        (
            lambda: tfpf.real_nvp((7, 8, 1)),
            r"levels = 2: pad the images by 1 rows and 0 columns to \(8, 8, 1\)\. ",
        ),
        (lambda: tfpf.glow((8, 8, 1), levels=0), "`levels` must be an integer of at"),
        (lambda: tfpf.glow((8, 8), levels=1), "`levels` must only be given for images"),
        (
            lambda: tfpf.glow((8, 8, 1), levels=1, hidden_units=(4,)),
            "without `hidd",
        ),
        (lambda: tfpf.glow((2,), top_prior="learned"), "`top_prior` must only be"),
        (lambda: tfpf.real_nvp((2,), blocks=2), "`blocks` must only be given for im"),
        (lambda: tfpf.real_nvp((2,), widen=True), "`widen` must only be given for"),
        (lambda: tfpf.real_nvp((8, 8, 1), steps=4), "`steps` must only be given for v"),
        (lambda: tfpf.nice((2,), steps=2, couplings=2), "`steps` and `couplings`"),
        (lambda: tfpf.glow((8, 8, 1), coupling="spline"), "`coupling` must be one of"),
        (lambda: tfpf.glow((8, 8, 1), split_prior="x"), "`split_prior` must be one"),
        (lambda: tfpf.glow((8, 8, 1), top_prior="x"), "`top_prior` must be one of"),
        (
            lambda: tfpf.glow((2,), condition_shape=(1,), condition_use="top_prior"),
            "`condition_use` must only be given for images",
        ),
        (
            lambda: tfpf.real_nvp((8, 8, 1), condition_use="split_prior"),
            "`condition_use` must not name 'split_prior' unless",
        ),
        (
            lambda: tfpf.real_nvp((8, 8, 1), condition_use="top_prior"),
            "`condition_use` must be one of 'couplings', 'split_prior'",
        ),
        (lambda: tfpf.real_nvp((8, 8, 1), coupling="x"), "`coupling` must be one of"),
        (lambda: tfpf.real_nvp((8, 8, 1), split_prior="x"), "`split_prior` must be"),
    ],
)
def test_wrong_arguments_are_named(make, message):
    with pytest.raises((TypeError, ValueError), match=message):
        make()


def black_images(n=512):
    """Images of which all pixels are one of two levels, and uniform noise."""
    rng = np.random.default_rng(0)
    levels = np.where(rng.random((n, 1, 1, 1)) < 0.5, 0.0, 12.0)
    return (levels + rng.random((n, 4, 4, 1))).astype("float32")


def test_pixel_splines_keep_the_support_and_learn_what_affine_couplings_cannot():
    keras.utils.set_random_seed(0)
    found, x = {}, black_images()
    for name, more in (("affine", []), ("splines", [tfpf.pixel_splines((4, 4, 1))])):
        flow = tfpf.glow(
            (4, 4, 1),
            levels=1,
            steps=2,
            hidden_channels=16,
            preprocess=tfp.bijectors.Chain([tfpf.logit(16), *more]),
        )
        model = tfpf.FlowModel(flow)
        model.compile(tfpf.optimizer(1e-2, clip_norm=1.0))
        model.fit(x, epochs=20, batch_size=64, verbose=0)
        found[name] = float(-np.mean(flow.log_prob(x))) / 16
    assert found["splines"] < found["affine"] - 0.1
    beyond = x[:2].copy()
    beyond[:, 0, 0, 0] = -1.0, 17.0
    assert np.all(np.isneginf(flow.log_prob(beyond)))
    samples = flow.sample(50, seed=0).numpy()
    assert samples.min() >= 0.0
    assert samples.max() <= 16.0


@pytest.mark.parametrize("shape", [(8,), (7, 8, 1), (8, 7, 1)])
def test_pixel_splines_want_even_images(shape):
    with pytest.raises(ValueError, match="Argument `event_shape` must be that of im"):
        tfpf.pixel_splines(shape)
