"""`tarflow`, `jet`: caches, guidance, learned noise of labels, noise and denoising."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_flows as tfpf
from tfp_flows.testing.subject import perturb
from tfp_flows.training.sampling import latents_and_log_prob

tfd = tfp.distributions
IMAGE, LEVELS, LABELS = (4, 4, 1), 8, 3
SIZES = {"patch": 2, "width": 8, "layers": 1, "heads": 2}
RNG = np.random.default_rng(0)
X = RNG.integers(0, LEVELS, (16, *IMAGE)).astype("float32")
C = RNG.integers(0, LABELS, 16)


def made(build=tfpf.tarflow, steps=2, scale=0.3, shape=IMAGE, **options):
    keras.utils.set_random_seed(0)
    flow = build(shape, steps=steps, **SIZES, **options)
    perturb(flow.bijector, scale)
    return flow


@pytest.mark.parametrize("positions", ["learned", "rotary"])
def test_steps_with_a_cache_equal_passes_without(positions):
    one = tfpf.Elementwise(tfpf.transforms.Affine(), 3, (8,))
    net = tfpf.nets.CausalTransformer(8, 2, 2, positions=positions)
    b = perturb(tfpf.Causal((6, 3), one, net, reverse=True, condition_shape=(2,)), 0.1)
    x, c = RNG.normal(size=(4, 6, 3)), RNG.normal(size=(4, 2))
    x, c = x.astype("float32"), c.astype("float32")
    y = np.zeros_like(x)
    for _ in range(6):  # after t rounds t vectors are right
        h = net(y[:, ::-1], c)
        y = one.forward(x[:, ::-1], condition=h).numpy()[:, ::-1]
    np.testing.assert_allclose(b.forward(x, condition=c), y, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(b.inverse(y, condition=c), x, rtol=1e-5, atol=1e-5)
    moved = y.copy()
    moved[:, 3] += 1.0  # what comes before it in the order is at 4 and 5
    changed = np.abs(b.inverse(moved, condition=c) - x).max((0, 2)) > 1e-4
    assert changed.tolist() == [True] * 4 + [False] * 2


@pytest.mark.parametrize("build", [tfpf.tarflow, tfpf.jet])
def test_log_dets_are_those_of_the_jacobian(build):
    flow = made(build, steps=3, shape=(2, 4, 1), dtype="float64").bijector
    z = RNG.normal(size=(2, 8))
    y = flow.forward(z)
    np.testing.assert_allclose(flow.inverse(y + 0.0), z, atol=1e-9)
    fldj = flow.forward_log_det_jacobian(z)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(z := tf.constant(z))
        flat = tf.reshape(flow.forward(z), [2, 8])
    _, exact = np.linalg.slogdet(
        tape.batch_jacobian(flat, z, experimental_use_pfor=False)
    )
    np.testing.assert_allclose(exact, fldj, atol=1e-9)
    np.testing.assert_allclose(flow.inverse_log_det_jacobian(y), -fldj, atol=1e-9)


def test_guidance_runs_from_no_class_through_the_class_and_beyond():
    flow = made(labels=LABELS)
    given = tfpf.condition(flow, C).log_prob(X)
    at = {w: tfpf.condition(tfpf.guided(flow, w), C).log_prob(X) for w in (-1, 0, 1)}
    without = tfpf.condition(flow, np.full(16, LABELS)).log_prob(X)
    np.testing.assert_allclose(at[0], given, rtol=1e-5)
    np.testing.assert_allclose(at[-1], without, rtol=1e-5)
    assert np.abs(at[1] - given).max() > 1e-3
    assert np.abs(without - given).max() > 1e-3


def test_guided_flows_share_weights_and_are_saved(tmp_path):
    flow = made(labels=LABELS)
    model = tfpf.FlowModel(tfpf.guided(flow, 1.5, annealed=True))
    shared = zip(flow.variables, model.distribution.variables, strict=True)
    assert all(a is b for a, b in shared)
    model.save(tmp_path / "flow.keras")
    again = keras.models.load_model(tmp_path / "flow.keras")
    samples = model.sample(2, seed=1, condition=C[:3])
    assert samples.shape == (2, 3, *IMAGE)
    np.testing.assert_array_equal(again.sample(2, seed=1, condition=C[:3]), samples)
    score = tfpf.condition(model.distribution, C[:3]).log_prob
    z = tfpf.condition(model.distribution, C[:3]).bijector.inverse(samples + 0.0)
    assert np.all(np.isfinite(z))
    assert np.all(np.isfinite(score(samples)))
    with pytest.raises(ValueError, match="whole numbers from 0 to 2"):
        tfpf.condition(model.distribution, LABELS)


def test_labels_are_dropped_while_training_only():
    layer = tfpf.nets.LabelEmbedding(LABELS, 4, dropout=0.5)
    rows = layer(np.zeros(2000, int), training=True).numpy()
    none = np.all(rows == layer.no_label.numpy(), axis=-1)
    assert 0.45 < none.mean() < 0.55
    assert np.all(layer(np.zeros(9, int)) == layer.embeddings[0])


def test_learned_noise_knows_image_and_label(tmp_path):
    flow = made(tfpf.jet, 3, 0.1, condition_shape=(2,), preprocess=tfpf.logit(LEVELS))
    noise = tfpf.dequantization_noise(
        IMAGE, steps=1, hidden_channels=4, condition_shape=(2,)
    )
    perturb(noise.bijector, 0.3)
    pixels = tfpf.Dequantized(flow, noise, pixel_levels=LEVELS)
    model = tfpf.FlowModel(pixels)
    model.compile(optimizer="adam", run_eagerly=True)
    c = keras.utils.to_categorical(C % 2, 2)
    before = [np.array(weight) for weight in noise.trainable_variables]
    model.fit(X, c, epochs=1, batch_size=16, verbose=0)
    moved = zip(before, noise.trainable_variables, strict=True)
    assert all(np.any(old != new) for old, new in moved)
    x = tf.constant(X)
    draws = [tfpf.condition(pixels, k).dequantize(x, (0, 1)) for k in (c, c[::-1])]
    assert np.abs(draws[0][0] - draws[1][0])[c[:, 0] != c[::-1, 0]].max() > 1e-4
    assert all(np.all(np.floor(v) == X) for v, _ in draws)
    model.save(tmp_path / "flow.keras")
    again = keras.models.load_model(tmp_path / "flow.keras")
    samples = model.sample(2, seed=1, condition=c[0])
    np.testing.assert_array_equal(again.sample(2, seed=1, condition=c[0]), samples)
    bound = tfpf.condition(pixels, c[:2])
    tfpf.save_distribution(bound, tmp_path / "bound.keras")
    bound = tfpf.load_distribution(tmp_path / "bound.keras")
    assert bound.log_prob(X[:2]).shape == (2,)


def test_denoising_is_exact_for_a_normal_and_bounds_are_bounds():
    # x ~ N(1, 4), so v = x + e of scale 1 has N(1, 5), and E[x | v] = 1 + 0.8 (v - 1).
    noisy = tfd.Sample(tfd.Normal(np.float64(1.0), 5.0**0.5), 3)
    v = RNG.normal(size=(5, 3))
    mean = tfpf.denoise(noisy, v, 1.0)
    np.testing.assert_allclose(mean, 1.0 + 0.8 * (v - 1.0), rtol=1e-12)
    model = tfpf.Noised(noisy, 1.0)
    drawn = tfpf.Noised(noisy, 1.0, denoise=False).sample(20_000, seed=(0, 1))
    np.testing.assert_allclose(np.var(drawn), 6.0, rtol=0.05)
    np.testing.assert_allclose(
        np.var(model.sample(20_000, seed=(0, 1))), 3.2, rtol=0.05
    )
    exact = tfd.Sample(tfd.Normal(np.float64(1.0), 6.0**0.5), 3).log_prob(v)
    bounds = np.mean(model.log_prob(np.stack([v] * 2000)), axis=0)
    assert np.all(bounds < exact + 0.05)


@pytest.mark.slow
def test_learned_noise_and_noised_flows_are_served(tmp_path):
    flow = made(labels=LABELS, preprocess=tfpf.center(LEVELS))
    noise = tfpf.dequantization_noise(IMAGE, steps=1, hidden_channels=4, labels=LABELS)
    c = tf.constant(C, tf.int32)
    for name, made_of in {
        "pixels": tfpf.Dequantized(flow, noise, pixel_levels=LEVELS),
        "noised": tfpf.Noised(flow, 0.1),
    }.items():
        tfpf.export_saved_model(made_of, tmp_path / name, warmup=False)
        served = tf.saved_model.load(str(tmp_path / name / "1")).signatures
        # What is served draws the same at every request.
        here = latents_and_log_prob(made_of, tf.cast(X, tf.float32), c, seed=0)[1]
        for key, data in (("log_prob", {"x": X}), ("log_prob_uint8", {"image": X})):
            inputs = {
                k: tf.cast(v, "uint8" if k == "image" else "float32")
                for k, v in data.items()
            }
            there = served[key](condition=c, **inputs)["log_prob"]
            np.testing.assert_allclose(there, here, rtol=1e-4)
        one = {"seed": [0, 1], "temperature": 1.0, "n": 3, "condition": 2}
        one = {k: tf.constant(v) for k, v in one.items()}
        assert served["sample"](**one)["samples"].shape == (3, *IMAGE)


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: tfpf.tarflow((28, 28)), "`event_shape` must be that of an image"),
        (lambda: tfpf.tarflow((28, 28, 1), patch=5), "`patch` must divide"),
        (lambda: tfpf.tarflow(IMAGE, labels=2, condition_shape=(2,)), "`labels`"),
        (lambda: tfpf.tarflow(IMAGE, width=7, heads=2), "`width` must be divisible"),
        (lambda: tfpf.tarflow(IMAGE, steps=1), "`steps`"),
        (lambda: tfpf.jet(IMAGE), "`patch` must leave at least 2 patches"),
        (lambda: tfpf.jet(IMAGE, kinds=("rows",)), "`kinds` must be one of"),
        (lambda: tfpf.guided(tfpf.real_nvp((2,)), 1.0), "`flow` must be built with"),
        (
            lambda: tfpf.guided(made(labels=2, label_dropout=0.0), 1.0),
            "have learned no class",
        ),
        (
            lambda: tfpf.Dequantized(made(), tfpf.real_nvp(IMAGE)),
            "`noise` must take conditions",
        ),
        (lambda: tfpf.Noised(made(), 0.0), "`scale`"),
        (lambda: tfpf.masks.positions((4,), [0]), r"`event_shape` must be \(length"),
    ],
)
def test_wrong_arguments_are_named(build, words):
    with pytest.raises(ValueError, match=words):
        build()
