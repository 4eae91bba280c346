"""Averaged weights: what Keras averages is what is evaluated and exported."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_flows as tfpf

tfb, tfd = tfp.bijectors, tfp.distributions

X = np.random.default_rng(0).normal(size=(256, 2)).astype("float32") * 2.0 + 1.0


def model_with(optimizer, **compiling):
    keras.utils.set_random_seed(0)
    model = tfpf.FlowModel(tfpf.real_nvp((2,), couplings=2, hidden_units=(8,)))
    model.compile(optimizer=optimizer, **compiling)
    model.adapt(X)
    return model


def values(model):
    return [np.array(weight) for weight in model.trainable_weights]


def nll(model):
    return model.evaluate(X, verbose=0, return_dict=True)["nll"]


class Watch(keras.callbacks.Callback):
    """Averages by the formula what the weights are after each step."""

    def __init__(self, momentum):
        super().__init__()
        self.momentum, self.average, self.raw = momentum, None, None

    def on_train_batch_end(self, batch, logs=None):
        self.raw = values(self.model)
        old = self.raw if self.average is None else self.average
        m = self.momentum
        self.average = [m * a + (1 - m) * b for a, b in zip(old, self.raw, strict=True)]

    def on_train_batch_begin(self, batch, logs=None):
        if self.raw is not None:  # training goes on from the weights as they were
            for now, raw in zip(values(self.model), self.raw, strict=True):
                np.testing.assert_array_equal(now, raw)


def test_validation_and_the_end_of_fit_use_the_averages():
    model = model_with(tfpf.optimizer(0.05, ema=0.9))
    watch = Watch(0.9)
    history = model.fit(
        X, validation_data=X, batch_size=64, epochs=3, shuffle=False, verbose=0,
        callbacks=[tfpf.AveragedWeights(), watch],
    ).history  # fmt: skip
    for weight, average in zip(values(model), watch.average, strict=True):
        np.testing.assert_allclose(weight, average, rtol=1e-4, atol=1e-6)
    assert history["val_nll"][-1] == pytest.approx(nll(model), rel=1e-6)


@pytest.mark.parametrize("make", [tfpf.AveragedWeights, keras.callbacks.SwapEMAWeights])
def test_what_is_kept_is_what_was_reported(make, tmp_path):
    """Best weights, files and backups, whatever the order of the callbacks."""
    model = model_with(tfpf.optimizer(0.05, ema=0.9))
    path = tmp_path / "best.keras"
    raw = Watch(0.9)
    history = model.fit(
        X, validation_data=X[:128] ** 2, batch_size=64, epochs=6, verbose=0,
        callbacks=[
            keras.callbacks.EarlyStopping(
                "val_nll", patience=2, restore_best_weights=True
            ),
            tfpf.Backup(tmp_path / "backup"),
            make(),
            raw,
            keras.callbacks.ModelCheckpoint(path, "val_nll", save_best_only=True),
        ],
    ).history  # fmt: skip
    best = min(history["val_nll"])
    for kept in (model, keras.models.load_model(path)):
        figures = kept.evaluate(X[:128] ** 2, verbose=0, return_dict=True)
        assert figures["nll"] == pytest.approx(best, rel=1e-6)
    # The state from which training goes on has the weights of the last step.
    tfpf.Backup(tmp_path / "backup").restore(model)
    for weight, last in zip(values(model), raw.raw, strict=True):
        np.testing.assert_array_equal(weight, last)


def test_a_block_puts_the_averages_in_and_the_weights_back(tmp_path):
    model = model_with(tfpf.optimizer(0.05, ema=0.9))
    seen = {}

    class InTheMiddle(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            before = values(model)
            held = tf.constant(X[:4])
            raw = model.distribution.log_prob(held)
            with tfpf.averaged_weights(model):
                seen["average"] = model.distribution.log_prob(held)
                tfpf.save_distribution(model.distribution, tmp_path / "ema.keras")
            np.testing.assert_array_equal(raw, model.distribution.log_prob(held))
            for a, b in zip(before, values(model), strict=True):
                np.testing.assert_array_equal(a, b)
            assert np.abs(raw - seen["average"]).max() > 1e-4

    model.fit(X, batch_size=64, verbose=0, callbacks=[InTheMiddle()])
    loaded = tfpf.load_distribution(tmp_path / "ema.keras")
    np.testing.assert_array_equal(loaded.log_prob(X[:4]), seen["average"])
    # One epoch: the averages in the middle were those of the end.
    np.testing.assert_allclose(
        model.distribution.log_prob(X[:4]), seen["average"], rtol=1e-6
    )


def test_before_the_first_step_the_weights_are_their_own_average():
    model = model_with(tfpf.optimizer(0.05, ema=0.9))
    before = nll(model)
    for build in (False, True):
        if build:
            model.optimizer.build(model.trainable_variables)
        with tfpf.averaged_weights(model):
            assert nll(model) == before


def test_the_loss_scaling_optimizer_averages_too():
    with tfpf.network_precision("mixed_float16"):
        model = model_with(tfpf.optimizer(0.05, ema=0.9))
    assert type(model.optimizer).__name__ == "LossScaleOptimizer"
    history = model.fit(
        X, validation_data=X, batch_size=64, verbose=0,
        callbacks=[tfpf.AveragedWeights()],
    ).history  # fmt: skip
    assert history["val_nll"][-1] == pytest.approx(nll(model), rel=1e-5)


def test_an_optimizer_without_averages_is_refused():
    model = model_with(keras.optimizers.Adam())
    with pytest.raises(ValueError, match="averages its weights"):
        model.fit(X, verbose=0, callbacks=[tfpf.AveragedWeights()])
    with pytest.raises(ValueError, match="averages its weights"):
        tfpf.averaged_weights(model).__enter__()


class BreaksOff(keras.callbacks.Callback):
    """Stops `fit` or an evaluation while the averages stand in the model."""

    def on_epoch_end(self, epoch, logs=None):
        raise KeyboardInterrupt

    def on_test_batch_end(self, batch, logs=None):
        if self.model.optimizer.learning_rate == 0.0:
            raise FloatingPointError


@pytest.mark.parametrize(
    ("method", "make"),
    [
        ("fit", keras.callbacks.SwapEMAWeights),
        ("evaluate", tfpf.AveragedWeights),
    ],
)
def test_what_is_set_after_an_interruption_stays(method, make, tmp_path):
    model = model_with(tfpf.optimizer(0.05, ema=0.9))
    watch, loaded = Watch(0.9), model.get_weights()
    callbacks = [make(), watch, BreaksOff()]
    given = {"validation_data": X, "batch_size": 64, "verbose": 0}
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, callbacks=callbacks, **given)
    model.optimizer.learning_rate = 0.0
    if method == "evaluate":
        with pytest.raises(FloatingPointError):
            model.evaluate(X, callbacks=[make(), BreaksOff()], verbose=0)
    for weight, raw in zip(values(model), watch.raw, strict=True):
        np.testing.assert_array_equal(weight, raw)
    model.set_weights(loaded)
    tfpf.Backup(tmp_path).save(model, 1)
    tfpf.Backup(tmp_path).restore(model)
    model.compile(keras.optimizers.SGD(0.0, use_ema=True))
    if method == "evaluate":
        model.evaluate(X, callbacks=callbacks[:1], verbose=0)
    else:
        model.fit(X, callbacks=[make()], **given)
    for weight, right in zip(model.get_weights(), loaded, strict=True):
        np.testing.assert_array_equal(weight, right)


@pytest.mark.parametrize("ema", [None, 0.9])
@pytest.mark.parametrize("way", ["fit", "batches", "swapped", "distributed"])
def test_constraints_of_variables_hold(way, ema):
    network = tfb.AutoregressiveNetwork(params=2, hidden_units=[8])
    bijector = tfb.MaskedAutoregressiveFlow(network)  # masked by constraints
    base = tfd.Sample(tfd.Normal(0.0, 1.0), 2)
    flow = tfd.TransformedDistribution(base, bijector)
    flow.log_prob(X)  # TFP makes its weights now
    model = tfpf.FlowModel(flow)
    model.compile(tfpf.optimizer(0.05, ema=ema))
    if way == "batches":
        for _ in range(3):
            model.train_on_batch(X)
    elif way == "distributed":
        batches = tf.data.Dataset.from_tensor_slices(X).batch(64)
        tfpf.training.distributed.fit_distributed(model, batches, epochs=2)
    else:
        swapped = [tfpf.AveragedWeights()] if ema and way == "swapped" else None
        model.fit(X, validation_data=X, epochs=2, verbose=0, callbacks=swapped)
    y = tf.constant(X[:8])
    with tf.GradientTape() as tape:
        tape.watch(y)
        x = bijector.inverse(y)
    log_det = np.linalg.slogdet(tape.batch_jacobian(x, y))[1]
    found = bijector.inverse_log_det_jacobian(y, 1)
    np.testing.assert_allclose(found, log_det, rtol=1e-4, atol=1e-5)
