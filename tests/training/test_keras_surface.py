"""The rows of docs/keras.md: what Keras code does with a flow, right or refused."""

import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_flows as tfpf

tfb, tfd = tfp.bijectors, tfp.distributions

RNG = np.random.default_rng(0)
X = RNG.normal(size=(20, 2)).astype("float32")
C = RNG.normal(size=(20, 3)).astype("float32")
LABELS = RNG.integers(0, 3, 20)
DOCUMENT = Path(__file__).parents[2] / "docs" / "keras.md"


def compiled(optimizer="adam", **kwargs):
    flow = tfpf.real_nvp((2,), steps=2, hidden_units=(4,), **kwargs)
    model = tfpf.FlowModel(flow)
    model.compile(optimizer)
    return model


def conditional():
    model = compiled(condition_shape=(3,))
    model.adapt(X, C)
    return model


def labelled():
    encoder = keras.layers.Embedding(3, 4)
    model = compiled(condition_shape=(), encoder=encoder)
    model.adapt(X, LABELS)
    return model


def unbatched():
    return tf.data.Dataset.from_tensor_slices(X)


def plateau(model):
    callback = keras.callbacks.ReduceLROnPlateau("nll")
    model.fit(X, callbacks=[callback], verbose=0)


REFUSED = {
    "loss": (lambda: compiled().compile("adam", "mse"), "`loss` must be None"),
    "loss_weights": (
        lambda: compiled().compile("adam", loss_weights=[2.0]),
        "`loss_weights` must be None",
    ),
    "metrics by name": (
        lambda: compiled().compile("adam", metrics=["mse"]),
        "`metrics` must be functions of targets, or None, and log-likelihoods",
    ),
    "predict(x, c)": (lambda: conditional().predict(X, C), r"predict\(\(x, c\)\)"),
    "no condition": (lambda: conditional().predict(X), "must come with conditions"),
    "a condition too many": (
        lambda: compiled().predict((X, C)),
        "must go without a condition",
    ),
    "an extra axis": (
        lambda: conditional().fit(X, C[:, None], verbose=0),
        r"`condition` must have shape \[batch, 3\]",
    ),
    "one condition for a batch": (
        lambda: conditional().train_on_batch(X, C[:1]),
        "`condition` must have a row for each of x",
    ),
    "a column of labels": (
        lambda: labelled().fit(X, LABELS[:, None], verbose=0),
        r"`condition` must have shape \[batch\]",
    ),
    "one-hot labels": (
        lambda: labelled().predict((X, np.eye(3)[LABELS]), verbose=0),
        r"`condition` must have shape \[batch\]",
    ),
    "labels out of range": (
        lambda: labelled().evaluate(X, LABELS + 1, verbose=0),
        "`condition` must hold labels, whole numbers from 0 to 2",
    ),
    "labels out of range, in a loop": (
        lambda: labelled().train_on_batch(X, LABELS - 1),
        "`condition` must hold labels, whole numbers from 0 to 2",
    ),
    "fractions as labels": (
        lambda: labelled().fit(X, LABELS + 0.5, verbose=0),
        "`condition` must hold labels, whole numbers from 0 to 2",
    ),
    "fractions as labels, in TFP": (
        lambda: tfpf.condition(labelled().distribution, LABELS + 0.5),
        "`condition` must hold labels, whole numbers from 0 to 2",
    ),
    "an unbatched dataset": (
        lambda: compiled().fit(unbatched(), verbose=0),
        "datasets must be batched",
    ),
    "an unbatched dataset, predicted": (
        lambda: compiled().predict(unbatched(), verbose=0),
        "datasets must be batched",
    ),
    "a plateau against a schedule": (
        lambda: plateau(compiled(tfpf.optimizer(1e-3, warmup_steps=5))),
        "`callbacks` must set no learning rate",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_in_one_sentence(name):
    call, sentence = REFUSED[name]
    with pytest.raises(ValueError, match=sentence) as caught:
        call()
    assert str(caught.value).startswith("Argument `")
    assert "\n" not in str(caught.value)
    assert f"| {name} |" in DOCUMENT.read_text()


@pytest.mark.parametrize("source", ["array", "list", "dataset"])
def test_float64_is_kept_to_the_last_bit(source):
    x = 1.7e9 + RNG.normal(size=(20, 2))
    data = {
        "array": x,
        "list": x.tolist(),
        "dataset": tf.data.Dataset.from_tensor_slices(x).batch(7),
    }[source]
    model = compiled(dtype="float64")
    model.adapt(data)
    direct = model.distribution.log_prob(x).numpy()
    np.testing.assert_allclose(model.predict(data, verbose=0), direct, atol=1e-12)
    logs = model.evaluate(data, verbose=0, return_dict=True)
    assert logs["loss"] == pytest.approx(-direct.mean(), abs=1e-12)
    assert logs["nll"] == pytest.approx(-direct.mean(), abs=1e-12)


def test_tfp_s_lists_follow_trainable():
    net = tfpf.nets.MLP((4,))
    coupling = tfpf.AffineCoupling(tfpf.masks.half(2), net)
    repeat = tfpf.Repeat(tfb.Chain([tfpf.ActNorm(2), coupling]), 2)
    base = tfd.MultivariateNormalDiag([0.0, 0.0], [1.0, 1.0])
    flow = tfd.TransformedDistribution(base, repeat)
    model = tfpf.FlowModel(flow)
    model.adapt(X)
    net.trainable = False  # in every layer
    assert len(model.trainable_variables) == len(flow.trainable_variables) == 2
    model.trainable = False
    assert len(model.trainable_variables) == len(flow.trainable_variables) == 0
    model.trainable = True
    assert len(model.trainable_variables) == len(flow.trainable_variables) == 6


@pytest.mark.parametrize("make", [compiled, conditional])
def test_keras_s_own_export(make, tmp_path):
    model = make()
    x = X if model.condition_shape is None else (X, C)
    model.export(tmp_path / "exported", verbose=False)
    loaded = tf.saved_model.load(str(tmp_path / "exported"))
    served, expected = loaded.serve(x), model.predict(x, verbose=0)
    np.testing.assert_allclose(served, expected, atol=1e-6)


def test_a_first_step_by_hand_is_initialized():
    model = compiled()
    model.train_on_batch(1000 + 100 * X)
    assert model.is_adapted


def test_a_backup_by_keras_goes_on_from_the_weights_not_their_averages(tmp_path):
    class Stop(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                raise InterruptedError

    start, results = None, []
    for interrupted in (False, True):
        folder = tmp_path / str(interrupted)

        def train(*others, folder=folder):
            nonlocal start
            model = compiled(tfpf.optimizer(1e-2, ema=0.9))
            model.adapt(X)
            start = start or model.get_weights()
            model.set_weights(start)
            callbacks = [
                tfpf.AveragedWeights(),
                keras.callbacks.BackupAndRestore(folder),
                *others,
            ]
            options = {"epochs": 2, "shuffle": False, "verbose": 0}
            history = model.fit(X, validation_data=X, callbacks=callbacks, **options)
            return history.history["nll"][-1], history.history["val_nll"][-1]

        if interrupted:
            with pytest.raises(InterruptedError):
                train(Stop())
        results.append(train())
    assert results[0] == results[1]


@pytest.mark.parametrize("kind", ["model", "distribution"])
def test_a_bare_process_is_told_what_to_import(kind, tmp_path):
    path = tmp_path / "f.keras"
    model = tfpf.FlowModel(tfpf.real_nvp((2,), steps=2, hidden_units=(4,)))
    if kind == "model":
        model.save(path)
        loaded = keras.models.load_model(path).distribution
    else:
        tfpf.save_distribution(model.distribution, path)
        loaded = tfpf.load_distribution(path)
    np.testing.assert_array_equal(loaded.log_prob(X), model.distribution.log_prob(X))
    code = f"import keras; keras.models.load_model({str(path)!r})"
    bare = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    last = bare.stderr.strip().splitlines()[-1]
    assert "`import tfp_flows` before loading" in last
    assert tfpf.__version__ in last
    assert len(last) < 300
