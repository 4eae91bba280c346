"""The whole flow: laws, gradients, its condition, training, saving."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfp_flows as tfpf
from benchmarks.speech import baselines


def audio(n=3, length=32, seed=0):
    return 0.1 * np.random.default_rng(seed).normal(size=[n, length])


def frames(n=3, number=2, seed=1):
    return np.random.default_rng(seed).normal(size=[n, number, 3]) - 6.0


def adapted(flow, condition=True):
    """A model whose filter and actnorms have seen data."""
    model = tfpf.FlowModel(flow)
    model.adapt(audio(20, seed=5), frames(20, seed=6) if condition else None)
    return model


@pytest.mark.parametrize("options", [{}, {"early_channels": 0}, {"prediction": 0}])
def test_there_and_back_and_the_log_det(tiny, options):
    flow = adapted(tiny(**options)).distribution
    x, mel = tf.constant(audio()), frames()
    given = tfpf.condition(flow, mel)
    z = given.bijector.inverse(x)
    assert z.shape == (3, 8, 4)
    np.testing.assert_allclose(given.bijector.forward(tf.identity(z)), x, atol=1e-9)
    with tf.GradientTape() as tape:
        tape.watch(x)
        # Not `x` itself, whose latents TFP remembers from outside of the tape.
        flat = tf.reshape(given.bijector.inverse(tf.identity(x)), [3, -1])
    jacobians = tape.batch_jacobian(flat, x)
    expected = np.linalg.slogdet(jacobians.numpy())[1]
    found = given.bijector.inverse_log_det_jacobian(x, event_ndims=1)
    np.testing.assert_allclose(found, expected, atol=1e-8)
    # And the density is the change of variables.
    base = -0.5 * np.sum(flat.numpy() ** 2 + np.log(2 * np.pi), axis=1)
    np.testing.assert_allclose(given.log_prob(x), base + expected, atol=1e-8)


@pytest.mark.parametrize("mels", [3, None])
def test_every_weight_gets_a_gradient(tiny, mels):
    model = adapted(tiny(mels=mels), condition=mels is not None)
    with tf.GradientTape() as tape:
        inputs = {"x": audio()} | ({} if mels is None else {"condition": frames()})
        loss = -tf.reduce_mean(model(inputs))
    assert len(model.trainable_variables) > 20
    for variable, gradient in zip(
        model.trainable_variables,
        tape.gradient(loss, model.trainable_variables),
        strict=True,
    ):
        assert gradient is not None, variable.path
        assert np.all(np.isfinite(gradient)), variable.path
        assert np.any(np.abs(gradient) > 0), variable.path


def test_the_condition_matters(tiny):
    model = adapted(tiny())
    x = audio()
    one, other = (model({"x": x, "condition": frames(seed=s)}) for s in (1, 2))
    assert np.all(np.abs(one - other) > 1e-3)
    with pytest.raises(ValueError, match="must come with conditions"):
        model({"x": x})


def test_samples_have_shapes_and_follow_seed_and_temperature(tiny):
    model = adapted(tiny())
    drawn = model.sample(4, seed=1, condition=frames())
    assert drawn.shape == (4, 3, 32)
    np.testing.assert_array_equal(drawn, model.sample(4, seed=1, condition=frames()))
    still = np.array(model.sample(2, seed=1, temperature=0.0, condition=frames()))
    np.testing.assert_allclose(still[0], still[1], atol=1e-12)
    assert np.abs(drawn[0] - drawn[1]).max() > 1e-3


def test_it_starts_as_an_autoregressive_process():
    """Before training, what is behind the filter changes next to nothing."""
    generator = np.random.default_rng(2)
    x = np.cumsum(generator.normal(size=[40, 256]), axis=1)
    x = (0.02 * (x - np.pad(x, [[0, 0], [7, 0]])[:, :-7])).astype("float32")
    mel = np.array(tfpf.speech.mel_spectrogram(x, hop=64, mels=10))
    flow = tfpf.speech.waveglow(256, mels=10, hop=64, steps=4, channels=8, depth=2)
    model = tfpf.FlowModel(flow)
    model.adapt(x, mel)
    found = tfpf.speech.nats_per_sample(model, x, mel)
    expected = baselines.autoregression(x, 10).nats_per_sample(x)
    assert found.mean() == pytest.approx(expected.mean(), abs=0.02)


@pytest.mark.slow
def test_it_learns_more_than_linear_prediction(sounds):
    train, test = (tfpf.speech.windows(part, 512, mels=20) for part in sounds)
    flow = tfpf.speech.waveglow(512, mels=20, steps=4, channels=16, depth=3)
    model = tfpf.FlowModel(flow)
    model.compile(optimizer=tfpf.optimizer(5e-3, clip_norm=512.0))
    model.adapt(*train)
    before = tfpf.speech.nats_per_sample(model, *test).mean()
    model.fit(*train, epochs=4, batch_size=16, verbose=0)
    after = tfpf.speech.nats_per_sample(model, *test).mean()
    baseline = baselines.autoregression(train[0], 10).mean_nats(test[0])
    assert before == pytest.approx(baseline, abs=0.1)
    assert after > baseline + 0.1


def test_it_is_saved_bit_for_bit(tiny, tmp_path):
    model = adapted(tiny(dtype="float32"))
    x, mel = audio().astype("float32"), frames().astype("float32")
    model.save(tmp_path / "flow.keras")
    loaded = keras.models.load_model(tmp_path / "flow.keras")
    assert loaded.is_adapted
    np.testing.assert_array_equal(
        loaded({"x": x, "condition": mel}), model({"x": x, "condition": mel})
    )
    one, other = (np.array(m.sample(2, seed=3, condition=mel)) for m in (model, loaded))
    np.testing.assert_array_equal(one, other)
    longer = frames(1, 5).astype("float32")
    np.testing.assert_array_equal(
        tfpf.speech.synthesize_mel(loaded, longer),
        tfpf.speech.synthesize_mel(model, longer),
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"length": 1000}, "`length` must be a multiple of hop=128"),
        ({"hop": 100}, "`hop` must be a multiple of group=8"),
        ({"steps": 16, "early_every": 2}, "`early_channels` must leave at least 2"),
        ({"group": 1}, "`group`"),
        ({"prediction": -1}, "`prediction`"),
        ({"mels": 0}, "`mels`"),
    ],
)
def test_wrong_arguments_are_named(arguments, words):
    with pytest.raises(ValueError, match=words):
        tfpf.speech.waveglow(**arguments)
