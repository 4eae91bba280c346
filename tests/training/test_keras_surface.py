"""The rows of docs/keras.md: what Keras code does with a flow, right or refused."""

import copy
import gc
import json
import pickle
import re
import subprocess
import sys
import warnings
import weakref
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from scipy import sparse

import tfp_flows as tfpf
from tfp_flows.bijectors.tree import layers_in

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


def labelled(**options):
    encoder = keras.layers.Embedding(3, 4)
    model = compiled(condition_shape=(), encoder=encoder)
    model.compile("adam", **options)
    model.adapt(X, LABELS)
    return model


def after_others(arguments):
    """Keras's function, traced for labels, forgets their rank when it sees others."""
    model = labelled()
    model.fit(X, LABELS, verbose=0)
    model.fit(*arguments(), verbose=0)


def one_hot_pairs():
    yield X, np.eye(3)[LABELS]


def unbatched():
    return tf.data.Dataset.from_tensor_slices(X)


def batched(labels):
    return tf.data.Dataset.from_tensor_slices((X, labels)).batch(10)


def plateau(model):
    callback = keras.callbacks.ReduceLROnPlateau("nll")
    model.fit(X, callbacks=[callback], verbose=0)


def lora_in_repeat():
    dense = keras.layers.Dense(2)
    net = keras.Sequential([keras.Input((1,)), dense])
    step = tfpf.AffineCoupling(tfpf.masks.half(2), net)
    base = tfd.MultivariateNormalDiag([0.0, 0.0], [1.0, 1.0])
    model = tfpf.FlowModel(tfd.TransformedDistribution(base, tfpf.Repeat(step, 2)))
    dense.enable_lora(1)
    model.compile("adam")
    model.fit(X, verbose=0)


def raw_and_stateless():
    model = tfpf.FlowModel(tfpf.nice((2,), steps=2, hidden_units=(4,)))
    values = [v.value for v in model.trainable_variables]
    model.stateless_call(values, [], tf.constant(X))


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
    "one-hot labels, after others": (
        lambda: after_others(lambda: (X, np.eye(3)[LABELS])),
        r"`condition` must have shape \[batch\]",
    ),
    "a generator of one-hot labels, after others": (
        lambda: after_others(lambda: (one_hot_pairs(),)),
        r"`condition` must have shape \[batch\]",
    ),
    "words": (
        lambda: conditional().fit(X, C.astype("U"), verbose=0),
        "`y` must be a dense array of real numbers",
    ),
    "ragged rows": (
        lambda: compiled().fit(tf.ragged.constant([[1.0], [1.0, 2.0]]), verbose=0),
        "`x` must be a dense array of real numbers",
    ),
    "labels out of range": (
        lambda: labelled().evaluate(X, LABELS + 1, verbose=0),
        "`condition` must hold labels, whole numbers from 0 to 2",
    ),
    "labels out of range, in a loop": (
        lambda: labelled().train_on_batch(X, LABELS - 1),
        "`condition` must hold labels, whole numbers from 0 to 2",
    ),
    "labels out of range, under XLA": (
        lambda: labelled(jit_compile=True).fit(X, LABELS + 1, verbose=0),
        "`condition` must hold labels, whole numbers from 0 to 2",
    ),
    "labels out of range, in a dataset under XLA": (
        lambda: labelled(jit_compile=True).fit(batched(LABELS + 1), verbose=0),
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
    "an empty dataset": (
        lambda: compiled().fit(unbatched().take(0).batch(2), verbose=0),
        "`x` must hold a batch",
    ),
    "class_weight without labels": (
        lambda: compiled().fit(X, class_weight={0: 2.0}, verbose=0),
        "`class_weight` must go with labels",
    ),
    "class_weight with vectors": (
        lambda: conditional().fit(X, C, class_weight={0: 2.0}, verbose=0),
        "`class_weight` must go with labels",
    ),
    "two columns of weights": (
        lambda: compiled().fit(X, sample_weight=np.ones((20, 2)), verbose=0),
        r"`sample_weight` must have shape \[batch\]",
    ),
    "complex numbers": (
        lambda: compiled().fit(X + 1j, verbose=0),
        "`x` must be a dense array of real numbers",
    ),
    "sparse matrices": (
        lambda: compiled().predict(sparse.csr_matrix(X), verbose=0),
        "`x` must be a dense array of real numbers",
    ),
    "stateless_call of raw variables": (
        raw_and_stateless,
        "`distribution` must have Keras's weights only",
    ),
    "quantize": (lambda: compiled().quantize("int8"), "`mode` must be left to"),
    "HDF5": (lambda: compiled().save("flow.h5"), "must end in '.keras'"),
    "LoRA inside Repeat, later": (lora_in_repeat, "none made inside of `Repeat`"),
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
    assert model.metrics_names == ["loss", "nll", "bits_per_dim"]
    assert model.evaluate(data, verbose=0) == [logs[n] for n in model.metrics_names]


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


def test_what_was_frozen_stays_frozen(tmp_path):
    """Before a flow was made of it, around raw variables, in files and copies."""
    encoder = keras.layers.Dense(3)
    encoder.build((None, 3))
    encoder.trainable = False
    model = compiled(condition_shape=(3,), encoder=encoder)
    flow = model.distribution
    assert len(model.trainable_variables) == len(flow.trainable_variables)
    raw = tfpf.FlowModel(tfpf.nice((2,), steps=2, hidden_units=(4,)))
    raw.trainable = False
    assert not raw.distribution.trainable_variables
    model.layers[-2].trainable = False
    model.save(tmp_path / "model.keras")
    tfpf.save_distribution(flow, tmp_path / "flow.keras")
    loaded = [
        keras.models.load_model(tmp_path / "model.keras"),
        copy.deepcopy(model),
        tfpf.load_distribution(tmp_path / "flow.keras"),
    ]
    for other in loaded:
        assert len(other.trainable_variables) == len(model.trainable_variables)
        assert len(other.variables) >= len(flow.variables)


def test_models_that_were_trained_are_freed():
    model = compiled()
    model.fit(X, verbose=0)
    held = weakref.ref(model)
    del model
    keras.backend.clear_session()
    gc.collect()
    assert held() is None


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


def changed(path, change):
    """Rewrites the configuration in a `.keras` file, as another version might."""
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(files["config.json"])
    text = json.dumps(change(config) or config)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, text if name == "config.json" else content)


def newer(config):
    config["config"] |= {"written_by": "tfp_flows 99.0", "heat": 1.0}


def of_a_part(config):
    bijector = config["config"]["distribution"]["config"]["bijector"]
    bijector["config"]["bijectors"][0]["config"]["heat"] = 1.0


def without_a_class(config):
    bijector = config["config"]["distribution"]["config"]["bijector"]
    bijector["config"]["bijectors"][0] |= {"class": "mine>Own", "module": "mine"}


CHANGES = {
    newer: r"tfp_flows 99.0 \(`pip install tfp_flows==99.0`\) cannot be read.*'heat'",
    of_a_part: r"tfp_flows>Repeat: .*unexpected keyword argument 'heat'",
    without_a_class: r"'mine>Own', which is not registered here: `import mine`",
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_another_version_wrote_is_refused_in_one_line(change, tmp_path):
    path = tmp_path / "f.keras"
    model = tfpf.FlowModel(tfpf.real_nvp((2,), steps=2, hidden_units=(4,)))
    model.save(path)
    changed(path, change)
    for load in (keras.models.load_model, tfpf.load_distribution):
        with pytest.raises(ValueError, match=CHANGES[change]) as caught:
            load(path)
        assert "\n" not in str(caught.value)
        assert tfpf.__version__ in str(caught.value)


def test_class_weights_by_labels_that_came_with_the_data():
    weights = {0: 1.0, 1: 5.0}  # and 1 for label 2
    losses = []
    for data in ((X, LABELS), ((X, LABELS),)):
        keras.utils.set_random_seed(0)
        model = labelled()
        before = -model.predict((X, LABELS), verbose=0)
        options = {"class_weight": weights, "batch_size": 20, "verbose": 0}
        losses.append(model.fit(*data, **options).history["loss"][0])
        expected = np.mean(np.array([1.0, 5.0, 1.0])[LABELS] * before)
        assert losses[-1] == pytest.approx(expected, rel=1e-5)


def test_class_weights_are_for_training_only():
    model, weight = compiled(keras.optimizers.SGD(0.0)), {0: 1.0, 1: 5.0, 2: 9.0}
    model.adapt(X)
    given = {"class_weight": weight, "validation_split": 0.5, "verbose": 0}
    logs = model.fit(X, LABELS, **given).history
    expected = -model.predict(X, verbose=0)[10:].mean()
    assert logs["val_loss"][0] == pytest.approx(expected, rel=1e-5)


class OneBatch(keras.utils.PyDataset):
    def __init__(self, batch):
        super().__init__()
        self.batch = batch

    def __len__(self):
        return 1

    def __getitem__(self, i):
        return self.batch


STREAMS = {
    "dataset": tf.data.Dataset.from_tensors,
    "pydataset": OneBatch,
    "generator": lambda batch: (batch for _ in range(1)),
}
ONE_HOT = np.eye(3)[LABELS]
# Batches with labels, and the number of vectors that condition the flow.
WITH_LABELS = {
    "x, labels": ((X, LABELS), None),
    "x, one-hot labels": ((X, ONE_HOT), None),
    "(x, c), labels": (((X, C), LABELS), 3),
    "(x, labels)": (((X, LABELS),), 0),
    "(x, labels), None": (((X, LABELS), None), 0),
    "dictionary": ({"x": X, "condition": LABELS}, 0),
}


@pytest.mark.filterwarnings("ignore:Your input ran out", "ignore:`shuffle=True` was")
@pytest.mark.parametrize("stream", STREAMS)
def test_class_weights_by_conditions_in_a_dataset(stream):
    models = {None: compiled(), 3: conditional(), 0: labelled()}
    models[None].adapt(X)
    for made in models.values():
        made.compile(keras.optimizers.SGD(0.0))
    given = {"class_weight": {0: 1.0, 1: 5.0, 2: 9.0}, "verbose": 0}
    expected = np.array([1.0, 5.0, 9.0])[LABELS]
    for name, (batch, kind) in WITH_LABELS.items():
        if "None" in name and stream == "dataset":
            continue
        data = {None: X, 3: (X, C), 0: (X, LABELS)}[kind]
        losses = -models[kind].predict(data, verbose=0)
        found = models[kind].fit(STREAMS[stream](batch), **given).history["loss"][0]
        assert found == pytest.approx(np.mean(expected * losses), rel=1e-5), name
    for batch, kind in [((X,), None), ((X, C), 3)]:
        with pytest.raises(ValueError, match="`class_weight` must go with labels"):
            models[kind].fit(STREAMS[stream](batch), **given)
    with pytest.raises(ValueError, match="`class_weight` must go without weights"):
        models[None].fit(STREAMS[stream]((X, LABELS, np.ones(20))), **given)


def test_weights_and_held_out_data_in_any_form():
    """Keras's step remembers the rank of what it saw first."""
    model, weights = compiled(), RNG.uniform(0.1, 2.0, 20)
    model.adapt(X)
    column = model.evaluate(X, sample_weight=weights[:, None], verbose=0)
    assert model.evaluate(X, sample_weight=weights, verbose=0) == column
    for form in (weights, weights[:, None]):
        batch = tf.data.Dataset.from_tensors((X, np.zeros(20), form))
        assert model.evaluate(batch, verbose=0) == pytest.approx(column)
    model.fit(X, np.zeros(20), sample_weight=weights, verbose=0)
    model.fit(X, sample_weight=weights, verbose=0)
    held = [[X, LABELS], (X, LABELS), [X, LABELS, weights]]
    logs = [model.fit(X, LABELS, validation_data=h, verbose=0).history for h in held]
    assert all("val_loss" in log for log in logs)
    pairs = conditional().fit(X, C, validation_data=[X, C, weights], verbose=0)
    assert "val_loss" in pairs.history


def test_lora_trains_what_it_adds_and_tfp_sees_it():
    dense = keras.layers.Dense(2)
    net = keras.Sequential([keras.Input((1,)), dense])
    coupling = tfpf.AffineCoupling(tfpf.masks.half(2), net)
    base = tfd.MultivariateNormalDiag([0.0, 0.0], [1.0, 1.0])
    model = tfpf.FlowModel(tfd.TransformedDistribution(base, coupling))
    dense.enable_lora(1)
    model.compile("adam")
    before = [v.numpy() for v in model.distribution.trainable_variables]
    assert len(before) == len(model.trainable_variables) == 3
    model.fit(X, epochs=2, verbose=0)
    moved = zip(before, model.distribution.trainable_variables, strict=True)
    assert all(np.any(old != new.numpy()) for old, new in moved)


def saved_and_loaded(model, tmp_path):
    model.save(tmp_path / "model.keras")
    return keras.models.load_model(tmp_path / "model.keras")


LORA_COPIES = {
    "file": saved_and_loaded,
    "deepcopy": lambda model, _: copy.deepcopy(model),
    "pickle": lambda model, _: pickle.loads(pickle.dumps(model)),
    "flow": lambda model, _: tfpf.FlowModel(copy.deepcopy(model.distribution)),
    "clone": lambda model, _: keras.models.clone_model(model),
}


@pytest.mark.parametrize("way", LORA_COPIES)
def test_copies_of_our_networks_have_their_lora(way, tmp_path):
    model = compiled()
    layers = [one for one in model._flatten_layers() if hasattr(one, "enable_lora")]
    for layer in layers:
        layer.enable_lora(1)
    model.compile("adam")
    model.fit(X, verbose=0)
    again = LORA_COPIES[way](model, tmp_path)
    inside = [one for one in again._flatten_layers() if hasattr(one, "enable_lora")]
    assert [one.lora_rank for one in inside] == [1] * len(layers)
    assert len(again.trainable_variables) == len(model.trainable_variables)
    if way != "clone":
        np.testing.assert_array_equal(again.predict(X), model.predict(X))
    before = [one._kernel.numpy() for one in inside]
    again.compile("adam")
    again.fit(X, verbose=0)
    for kernel, layer in zip(before, inside, strict=True):
        np.testing.assert_array_equal(kernel, layer._kernel.numpy())


WRAPPERS = {
    "Repeat": lambda: tfpf.Repeat(tfb.Permute([1, 0]), 2),
    "EncodedCondition": lambda: tfpf.EncodedCondition(
        tfb.Permute([1, 0]), keras.layers.Dense(2), condition_shape=(3,)
    ),
}


@pytest.mark.parametrize("name", WRAPPERS)
def test_wrappers_of_parts_without_a_dtype_take_that_of_the_flow(name, tmp_path):
    base = tfd.Sample(tfd.Normal(np.float64(0.0), 1.0), 2)
    model = tfpf.FlowModel(tfd.TransformedDistribution(base, WRAPPERS[name]()))
    x = X.astype("float64")
    data = x if name == "Repeat" else (x, C)
    expected = base.log_prob(x)
    np.testing.assert_allclose(model.predict(data, verbose=0), expected, rtol=1e-12)
    model.save(tmp_path / "f.keras")
    loaded = keras.models.load_model(tmp_path / "f.keras")
    np.testing.assert_allclose(loaded.predict(data, verbose=0), expected, rtol=1e-12)


def test_conditions_of_any_length_by_an_encoder(tmp_path):
    pooling = keras.layers.GlobalAveragePooling1D()
    encoder = keras.Sequential([keras.Input((None, 3)), pooling, keras.layers.Dense(4)])
    parts = [
        tfpf.AffineCoupling(tfpf.masks.half(2), tfpf.nets.MLP((4,)), condition_shape=c)
        for c in (None, (4,), None, (4,))
    ]
    encoded = tfpf.EncodedCondition(
        tfb.Chain(parts), encoder, condition_shape=(None, 3)
    )
    base = tfd.MultivariateNormalDiag([0.0, 0.0], [1.0, 1.0])
    model = tfpf.FlowModel(tfd.TransformedDistribution(base, encoded))
    model.compile("adam")
    series = RNG.normal(size=(20, 7, 3)).astype("float32")
    model.fit(X, series, verbose=0)
    expected = model.predict((X, series), verbose=0)
    twice = np.concatenate([series, series], axis=1)  # has the same mean
    found = model.predict((X, twice), verbose=0)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    model.save(tmp_path / "f.keras")
    loaded = keras.models.load_model(tmp_path / "f.keras")
    np.testing.assert_array_equal(loaded.predict((X, series), verbose=0), expected)
    path = tfpf.export_saved_model(loaded, tmp_path / "m", warmup=False)
    served = tf.saved_model.load(path).signatures["log_prob"]
    for c in (series, twice):
        found = served(x=tf.constant(X), condition=tf.constant(c))["log_prob"]
        np.testing.assert_allclose(found, expected, atol=1e-4)


def test_every_supported_row_has_its_test():
    text = DOCUMENT.read_text()
    supported = text[: text.index("## Refused")]
    cells = [line.split("|")[3] for line in supported.splitlines() if "|" in line]
    names = re.findall(r"`(test_\w+)`", " ".join(cells))
    assert len(names) >= supported.count("\n| `")
    sources = "".join(path.read_text() for path in Path(__file__).parent.glob("*.py"))
    for name in names:
        assert f"\ndef {name}(" in sources


@pytest.mark.filterwarnings("ignore:Your input ran out", "ignore:`shuffle=True` was")
def test_generators_end_and_plateaus_lower_the_rate():
    def pairs():
        for _ in range(3):
            yield X, C

    model = compiled(condition_shape=(3,))
    with pytest.raises(ValueError, match="Argument `x` must"):
        model.fit(pairs(), verbose=0)
    model.adapt(X, C)
    expected = model.evaluate(X, C, verbose=0)[0]
    found = model.evaluate(pairs(), steps=3, verbose=0)[0]
    assert found == pytest.approx(expected, rel=1e-6)
    plateau = keras.callbacks.ReduceLROnPlateau("loss", patience=0, min_delta=1e9)
    given = {"steps_per_epoch": 1, "epochs": 3, "callbacks": [plateau]}
    model.fit(pairs(), verbose=0, **given)
    assert float(model.optimizer.learning_rate) < 1e-3


def test_a_functional_model_around_a_flow():
    flow = tfpf.FlowModel(tfpf.maf((2,), steps=2, hidden_units=(4,)))
    inputs = keras.Input((2,))
    outer = keras.Model(inputs, -flow(inputs))
    outer.compile("sgd", loss=lambda y, found: found)
    with pytest.warns(UserWarning, match="adapt"):
        outer.fit(X, np.zeros(len(X)), verbose=0)
    flow.adapt(X)
    np.testing.assert_allclose(outer.predict(X, verbose=0), -flow.predict(X, verbose=0))
    before = outer.get_weights()
    outer.fit(X, np.zeros(len(X)), verbose=0)
    assert any(np.any(a != b) for a, b in zip(before, outer.get_weights(), strict=True))


class Around(keras.layers.Layer):
    def __init__(self, flow):
        super().__init__()
        self.flow = flow

    def call(self, x):
        model = isinstance(self.flow, keras.Model)
        return -(self.flow(x) if model else self.flow.log_prob(x))


class ModelAround(Around, keras.Model):
    pass


class OwnStep(ModelAround):
    def train_step(self, data):
        weights = [w for layer in layers_in(self.flow) for w in layer.trainable_weights]
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(self(data[0]))
        self.optimizer.apply(tape.gradient(loss, weights), weights)
        return {"loss": loss}


def functional_around(flow):
    inputs = keras.Input((2,))
    return keras.Model(inputs, Around(flow)(inputs))


def frozen_inside(flow):
    for layer in layers_in(flow):
        layer.trainable = False
    return keras.Sequential([keras.layers.Dense(2), Around(flow)])


def adapted_model(flow):
    model = tfpf.FlowModel(flow)
    model.adapt(X)
    return model


@pytest.mark.parametrize("eager", [False, True])
@pytest.mark.parametrize(
    ("outer", "held", "warned"),
    [
        (ModelAround, lambda flow: flow, True),
        (functional_around, lambda flow: flow, True),
        (OwnStep, lambda flow: flow, False),
        (frozen_inside, lambda flow: flow, False),
        (ModelAround, adapted_model, False),
        (functional_around, adapted_model, False),
    ],
)
def test_a_flow_inside_of_a_keras_model_or_layer(outer, held, warned, eager):
    flow = tfpf.real_nvp((2,), steps=2, hidden_units=(4,))
    model = outer(held(flow))
    model.compile("sgd", loss=lambda y, found: found, run_eagerly=eager)
    model.predict(X, verbose=0)
    before = [v.numpy() for v in flow.trainable_variables]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(X, np.zeros(len(X)), epochs=2, verbose=0)
    told = [w for w in caught if "trains no weights of Repeat" in str(w.message)]
    assert len(told) == warned
    after = [v.numpy() for v in flow.trainable_variables]
    pairs = zip(before, after, strict=True)
    same = all(np.array_equal(a, b) for a, b in pairs)
    assert same == (warned or outer is frozen_inside)


@pytest.mark.filterwarnings("ignore")  # KerasTuner's and Keras's own
def test_keras_tuner(tmp_path):
    tuner = pytest.importorskip("keras_tuner")

    def build(hp):
        flow = tfpf.real_nvp((2,), steps=hp.Int("steps", 2, 3), hidden_units=(4,))
        model = tfpf.FlowModel(flow)
        model.compile("adam")
        return model

    search = tuner.RandomSearch(build, "val_loss", max_trials=2, directory=tmp_path)
    search.search(X, validation_data=X, epochs=2, verbose=0)
    score = search.oracle.get_best_trials(1)[0].score
    best = search.get_best_models(1)[0]
    assert best.evaluate(X, verbose=0)[0] == pytest.approx(score, rel=1e-5)
