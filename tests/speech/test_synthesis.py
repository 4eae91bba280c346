"""Audio from spectrograms, of any length, and a picture of it."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfp_flows as tfpf


@pytest.fixture(scope="module")
def learned(sounds):
    """A small flow that knows the sounds a little."""
    keras.utils.set_random_seed(0)
    x, mel = tfpf.speech.windows(sounds[0], 1024, mels=20)
    flow = tfpf.speech.waveglow(1024, mels=20, steps=4, channels=24, depth=4)
    model = tfpf.FlowModel(flow)
    model.compile(optimizer=tfpf.optimizer(5e-3, clip_norm=1024.0))
    model.adapt(x, mel)
    model.fit(x, mel, epochs=40, batch_size=8, verbose=0)
    return model


@pytest.mark.slow
def test_copies_have_the_loudness_of_their_originals(learned, sounds):
    originals = sounds[1]

    def copied(sound):
        return tfpf.speech.copy_synthesis(learned, sound, temperature=0.7, seed=3)

    copies = [copied(sound) for sound in originals]
    for copy, original in zip(copies, originals, strict=True):
        assert copy.shape == original.shape
        assert copy.dtype == np.float32
        assert np.all(np.abs(copy) <= 1.0)

    def loudness(x):
        return np.log(np.sqrt(np.mean(x[:11_904].reshape(-1, 128) ** 2, axis=1)))

    # A flow that has heard 18 seconds follows each loudness loosely, no other at all.
    rows = [loudness(x) for x in (*copies, *originals)]
    correlations = np.corrcoef(rows)[:4, 4:]
    same = np.diag(correlations).mean()
    other = correlations[~np.eye(4, dtype=bool)].mean()
    assert same > 0.3
    assert abs(other) < 0.1
    np.testing.assert_array_equal(copied(originals[0]), copies[0])


def test_another_length_has_the_same_weights(tiny):
    flow = tiny()
    tfpf.FlowModel(flow).adapt(np.random.default_rng(0).normal(size=[9, 32]),
                              np.zeros([9, 2, 3]))  # fmt: skip
    longer = tfpf.speech.at_length(flow, 80)
    assert longer.event_shape == (80,)
    assert len(longer.trainable_variables) == len(flow.trainable_variables)
    mel = tf.zeros([5, 3], tf.float64)
    y = tfpf.condition(longer, mel).sample(2, seed=1)
    assert y.shape == (2, 80)
    # A window in the middle is as it would be alone, away from its borders.
    again = tfpf.condition(longer, mel).bijector.inverse(tf.identity(y))
    back = tfpf.condition(longer, mel).bijector.forward(tf.identity(again))
    np.testing.assert_allclose(back, y, atol=1e-9)


def test_a_flow_without_condition_has_other_lengths_too(tiny):
    flow = tiny(mels=None)
    assert tfpf.speech.at_length(flow, 36).sample(2, seed=1).shape == (2, 36)
    with pytest.raises(ValueError, match="multiple of 4 samples"):
        tfpf.speech.at_length(flow, 37)
    with pytest.raises(ValueError, match="without condition"):
        tfpf.speech.copy_synthesis(flow, np.zeros(100))


def test_wrong_arguments_are_named(tiny):
    with pytest.raises(ValueError, match="a flow of `tfpf.speech.waveglow`"):
        tfpf.speech.copy_synthesis(tfpf.real_nvp((4,)), np.zeros(100))
    with pytest.raises(ValueError, match=r"one row of samples \[t\]"):
        tfpf.speech.copy_synthesis(tiny(), np.zeros([2, 100]))


def test_the_picture_shows_each_audio(sounds, tmp_path):
    figure = tfpf.speech.spectrogram_figure(
        {"original": sounds[1][0], "copy": 0.1 * sounds[1][1]}
    )
    titles = [axes.get_title() for axes in figure.axes]
    assert titles[:2] == ["original", "copy"]
    images = [axes.images[0] for axes in figure.axes if axes.images]
    loud, soft = (np.median(np.asarray(image.get_array())) for image in images[:2])
    # One scale for both: a tenth of the amplitude is 20 dB less.
    assert loud - soft > 5.0
    with pytest.raises(ValueError, match="`audios`"):
        tfpf.speech.spectrogram_figure({})
