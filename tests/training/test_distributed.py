"""`tf.distribute`: replicas and workers train what one device trains."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfp_flows as tfpf

X = (
    np.random.default_rng(0).normal(size=(96, 2)) @ [[1.5, 1.0], [0.0, 0.3]] + 3.0
).astype("float32")
WORKER = Path(__file__).with_name("multi_worker.py")


def reduced_in_one_place():
    """Without collective operations, whose numbers two models would share."""
    mirrored()
    reduce = tf.distribute.ReductionToOneDevice()
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"], cross_device_ops=reduce)


def mirrored():
    if len(tf.config.list_logical_devices("CPU")) < 2:
        pytest.skip("needs two virtual CPUs, which conftest.py makes")
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])


def model_under(strategy, **arguments):
    with strategy.scope():
        keras.utils.set_random_seed(0)
        # In float64: Adam makes whole steps of float32's noise where gradients vanish.
        sizes = {"steps": 2, "hidden_units": (8,), "dtype": "float64"}
        flow = tfpf.glow((2,), **sizes, **arguments)
        model = tfpf.FlowModel(flow)
        model.compile(optimizer=tfpf.optimizer(0.01, clip_norm=50.0, ema=0.9))
    return model


def replicas(model, strategy):
    """The weights on each replica."""
    return [
        [np.array(part) for part in strategy.experimental_local_results(v._value)]
        for v in model.weights
    ]


def fitted(strategy, fit=None, **arguments):
    model = model_under(strategy, **arguments)
    batches = tf.data.Dataset.from_tensor_slices(X).batch(32)
    if fit is None:
        averages = [tfpf.AveragedWeights()]
        history = model.fit(
            batches, validation_data=batches, epochs=2, verbose=0, callbacks=averages
        )
    else:
        history = fit(model, batches, validation_data=batches, epochs=2)
    return model, history.history


@pytest.fixture(scope="module")
def alone():
    """What one device makes of it."""
    return fitted(tf.distribute.get_strategy())


def check_equal(model, history, alone):
    for name in ("loss", "nll", "bits_per_dim", "val_nll"):
        # Keras counts metrics in float32 whatever the model computes in.
        np.testing.assert_allclose(history[name], alone[1][name], rtol=1e-5)
    for a, b in zip(model.get_weights(), alone[0].get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=0.0, atol=1e-10)


@pytest.mark.parametrize(
    "mode",
    [
        "loop",
        *(pytest.param(m, marks=pytest.mark.slow) for m in ("unrolled", "reversible")),
    ],
)
def test_two_replicas_equal_one_device(mode, alone):
    strategy = mirrored()
    model, history = fitted(strategy, mode=mode)
    check_equal(model, history, alone)
    for parts in replicas(model, strategy):
        assert len(parts) == 2
        np.testing.assert_array_equal(parts[0], parts[1])


def test_replicas_predict_each_row_once():
    model = model_under(mirrored(), condition_shape=(3,))
    c = np.random.default_rng(1).normal(size=(96, 3))
    expected = tfpf.condition(model.distribution, c).log_prob(X)
    for found in (model.predict((X, c), verbose=0), model.predict_on_batch((X, c))):
        np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_actnorm_is_initialized_once_and_equal_on_all_replicas():
    strategy = mirrored()
    model = model_under(strategy)
    assert not model.is_adapted
    model.adapt(X)
    latents = model.distribution.bijector.inverse(X)
    np.testing.assert_allclose(np.mean(latents, axis=0), 0.0, atol=1e-4)
    before = [np.array(w) for w in model.weights]
    model.optimizer.learning_rate = 0.0
    model.fit(X, batch_size=32, verbose=0)
    for parts, value in zip(replicas(model, strategy), before, strict=True):
        np.testing.assert_array_equal(parts[0], parts[1])
        # Weights end as their own averages, which round.
        np.testing.assert_allclose(parts[0], value, rtol=1e-14, atol=1e-14)


def test_the_written_out_loop_does_what_fit_does(alone):
    def fit(model, data, **arguments):
        averages = [tfpf.AveragedWeights()]
        return tfpf.fit_distributed(model, data, callbacks=averages, **arguments)

    strategy = mirrored()
    model, history = fitted(strategy, fit)
    check_equal(model, history, alone)
    assert len(history["nll"]) == 2


def test_wrong_arguments_are_named():
    model = tfpf.FlowModel(tfpf.nice((2,), couplings=2, hidden_units=(4,)))
    with pytest.raises(ValueError, match="`model` must be a compiled"):
        tfpf.fit_distributed(model, tf.data.Dataset.from_tensors(X))
    model.compile(optimizer="adam")
    with pytest.raises(ValueError, match="`data` must be a `tf.data.Dataset`"):
        tfpf.fit_distributed(model, X)
    batches = tf.data.Dataset.from_tensors(X)
    with pytest.raises(ValueError, match="`validation_data` must be arrays or a"):
        tfpf.fit_distributed(model, batches, validation_data=iter(batches))
    model.compile(keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(1.0, 2)))
    plateau = keras.callbacks.ReduceLROnPlateau("val_nll")
    with pytest.raises(ValueError, match="must set no learning rate"):
        tfpf.fit_distributed(model, batches, callbacks=[plateau])


def small_model(**options):
    keras.utils.set_random_seed(0)
    model = tfpf.FlowModel(tfpf.nice((2,), couplings=2, hidden_units=(4,)))
    model.compile(optimizer=tfpf.optimizer(0.01, **options))
    return model


BATCHES = tf.data.Dataset.from_tensor_slices(X).batch(32)


def test_callbacks_know_the_metrics_and_arrays_are_held_out():
    model = small_model()
    stop = keras.callbacks.EarlyStopping("val_nll", patience=0, min_delta=100.0)
    plateau = keras.callbacks.ReduceLROnPlateau("nll")
    history = tfpf.fit_distributed(
        model, BATCHES, epochs=4, validation_data=X, callbacks=[stop, plateau]
    ).history
    assert len(history["val_nll"]) == 2
    expected = model.evaluate(X, verbose=0, return_dict=True)["nll"]
    np.testing.assert_allclose(history["val_nll"][-1], expected, rtol=1e-5)


class Stop(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 1:
            raise KeyboardInterrupt


def test_keras_backups_go_on_from_the_weights_not_their_averages(tmp_path):
    def run(*more):
        averages = tfpf.AveragedWeights()
        backup = keras.callbacks.BackupAndRestore(tmp_path / "backup")
        model = small_model(ema=0.9)
        arguments = {"epochs": 2, "validation_data": BATCHES}
        arguments["callbacks"] = [averages, *((backup, *more) if more else ())]
        history = tfpf.fit_distributed(model, BATCHES, **arguments)
        return model, history.epoch

    with pytest.raises(KeyboardInterrupt):
        run(Stop())
    resumed, epochs = run(keras.callbacks.Callback())
    assert epochs == [1]
    for a, b in zip(resumed.get_weights(), run()[0].get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("steps", "epochs"), [(2, 2), (3, 1)])
def test_data_that_end_stop_training(steps, epochs):
    with pytest.warns(UserWarning, match="The data ended before"):
        history = tfpf.fit_distributed(
            small_model(), BATCHES, epochs=4, steps_per_epoch=steps
        ).history
    assert len(history["nll"]) == epochs
    assert np.isfinite(history["nll"]).all()


def free_ports(n):
    sockets = [socket.socket() for _ in range(n)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def start_worker(folder, cluster=None, index=0):
    folder.mkdir()
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(sys.path),
        "CUDA_VISIBLE_DEVICES": "-1",
    }
    if cluster:
        task = {"type": "worker", "index": index}
        environment["TF_CONFIG"] = json.dumps({"cluster": cluster, "task": task})
    return subprocess.Popen(
        [sys.executable, str(WORKER), str(folder)],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(process):
    try:
        _, errors = process.communicate(timeout=300)
    finally:
        process.kill()
    assert process.returncode == 0, errors[-3000:]


def results(folder):
    with np.load(folder / "weights.npz") as arrays:
        weights = [arrays[name] for name in arrays]
    return weights, json.loads((folder / "history.json").read_text())


@pytest.mark.slow
def test_two_processes_over_loopback_equal_one(tmp_path):
    """`MultiWorkerMirroredStrategy`, two workers that begin with other weights."""
    cluster = {"worker": [f"127.0.0.1:{port}" for port in free_ports(2)]}
    folders = [tmp_path / "chief", tmp_path / "other"]
    workers = [start_worker(f, cluster, i) for i, f in enumerate(folders)]
    try:
        for worker in workers:
            finished(worker)
    finally:
        for worker in workers:
            worker.kill()
    finished(start_worker(tmp_path / "alone"))

    (chief, history), (other, other_history) = map(results, folders)
    for a, b in zip(chief, other, strict=True):
        np.testing.assert_array_equal(a, b)
    assert history == other_history
    weights, alone = results(tmp_path / "alone")
    assert set(history) == set(alone)
    for name, values in alone.items():
        np.testing.assert_allclose(history[name], values, rtol=1e-5, err_msg=name)
    for a, b in zip(chief, weights, strict=True):
        np.testing.assert_allclose(a, b, rtol=0.0, atol=1e-10)
    written = [[p.name for p in (f / "backup").glob("*")] for f in folders]
    assert written == [["epoch-00000002.npz"], []]


class Around(keras.Model):
    """A flow model as a part of another, which scores samples in its `call`."""

    def __init__(self):
        super().__init__()
        flow = tfpf.real_nvp((2,), steps=2, hidden_units=(8,))
        self.flow = tfpf.FlowModel(flow)

    def call(self, x):
        log_prob = self.flow.log_prob(x)
        self.add_loss(-tf.reduce_mean(log_prob))
        return log_prob


@pytest.mark.parametrize("eagerly", [True, False])
def test_a_flow_model_inside_of_another(eagerly):
    strategy = tf.distribute.get_strategy() if eagerly else reduced_in_one_place()
    with strategy.scope():
        model = Around()
        model.compile(keras.optimizers.Adam(1e-2), run_eagerly=eagerly)
    x = np.random.default_rng(0).normal(3.0, 2.0, (64, 2)).astype("float32")
    model.fit(x, batch_size=32, epochs=10, verbose=0)
    scores = model.flow.distribution.log_prob(x)
    assert np.mean(scores) > -6.0  # -12 at the start
    np.testing.assert_allclose(model.flow.log_prob(x), scores, rtol=1e-5)


def test_values_held_from_before_a_tape_have_gradients_in_a_replica():
    strategy = reduced_in_one_place()
    with strategy.scope():
        flow = tfpf.real_nvp((2,), steps=2, hidden_units=(8,))

    def gradients():
        samples = flow.sample(8, seed=(0, 1))
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(flow.log_prob(samples))
        weights = flow.trainable_variables
        return [g is None for g in tape.gradient(loss, weights)]

    assert not any(gradients())
    missing = strategy.run(gradients)
    assert not any(np.ravel([strategy.experimental_local_results(m) for m in missing]))
