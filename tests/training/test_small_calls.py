"""Many calls of few rows: what Keras's own way returns, and no traces without end."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfp_flows as tfpf

RNG = np.random.default_rng(0)
X = RNG.normal(size=(70, 2)).astype("float32")
C = RNG.normal(size=(70, 3)).astype("float32")


class Watch(keras.callbacks.Callback):
    """Keeps what Keras calls, and stops after so many batches."""

    def __init__(self, most=99):
        super().__init__()
        self.seen, self.most = [], most

    def on_predict_begin(self, logs=None):
        self.seen.append("begin")

    def on_predict_batch_end(self, batch, logs=None):
        self.seen.append((batch, logs["outputs"].shape[0]))
        self.model.stop_predicting = batch + 1 >= self.most

    def on_predict_end(self, logs=None):
        self.seen.append("end")


class Frame:
    """As of pandas: no array, and it becomes one."""

    def __array__(self, dtype=None, copy=None):
        return X.astype(dtype or X.dtype)

    def __len__(self):
        return len(X)


def model_of(**options):
    return tfpf.FlowModel(tfpf.real_nvp((2,), steps=2, hidden_units=(4,), **options))


def test_predict_of_few_rows_is_that_of_a_dataset(capsys):
    model = model_of()
    long = model.predict(tf.data.Dataset.from_tensor_slices(X).batch(32), verbose=0)
    for x in (X, X.astype("f8"), X.tolist(), tf.constant(X), Frame(), {"x": X}, [X]):
        np.testing.assert_array_equal(model.predict(x, verbose=0), long)
        np.testing.assert_allclose(model.predict_on_batch(x), long, rtol=1e-5)
        np.testing.assert_allclose(model.log_prob(x), long, rtol=1e-5)
    assert model.predict(X, 8, 0, 2).shape == (16,)  # steps: Keras's own way
    halves = model.predict(X[:64], batch_size=32, verbose=0)
    np.testing.assert_allclose(model.predict(X[:64], verbose=0), halves, rtol=1e-5)
    watch = Watch()
    assert "━" not in capsys.readouterr().out
    model.predict(X, callbacks=[watch])
    assert "3/3" in capsys.readouterr().out
    assert watch.seen == ["begin", (0, 32), (1, 32), (2, 6), "end"]
    found = model.predict(X, batch_size=10, verbose=0, callbacks=[Watch(2)])
    np.testing.assert_allclose(found, long[:20], rtol=1e-5)
    for rows in (X[:0], X[0], np.zeros([3, 5], "float32")):
        with pytest.raises(ValueError, match="must have"):
            model.predict(rows, verbose=0)
    with pytest.raises(ValueError, match="come with conditions"):
        model_of(condition_shape=(3,)).predict(X, verbose=0)


def test_predict_of_few_rows_with_conditions():
    model = model_of(condition_shape=(3,))
    for variable in model.distribution.trainable_variables:
        variable.assign(0.1 * tf.random.stateless_normal(variable.shape, [0, 1]))
    pairs = tf.data.Dataset.from_tensor_slices(((X, C),)).batch(32)
    long = model.predict(pairs, verbose=0)
    for x in ((X, C), [X, C], {"x": X, "condition": C}):
        np.testing.assert_array_equal(model.predict(x, verbose=0), long)
        np.testing.assert_allclose(model.predict_on_batch(x), long, rtol=1e-5)
    np.testing.assert_allclose(model.log_prob(X, C), long, rtol=1e-5)
    with pytest.raises(ValueError, match="come with conditions"):
        model.log_prob(X)
    with pytest.raises(ValueError, match="equally many rows"):
        model.predict((X, C[:3]), verbose=0)


@pytest.mark.parametrize("compiled", [False, True])
def test_calls_do_not_trace_anew(compiled):
    model = model_of()
    if compiled:
        model.compile("adam")
    traces = []
    step = model.predict_step
    model.predict_step = lambda data: (traces.append(1), step(data))[1]
    for n in (1, 8, 64, 5, 3, 1):
        model.predict(X[:n], verbose=0)
        model.predict_on_batch(X[:n].tolist())
        model.log_prob(X[:n])
        model.predict(X[:n].tolist(), verbose=0)
    assert len(traces) <= 2  # the first shape, and any number of rows
    before = model.predict(X[:3], verbose=0)
    model.set_weights(
        [w + 0.5 if w.dtype.kind == "f" else w for w in model.get_weights()]
    )
    after = model.predict(X[:3], verbose=0)
    np.testing.assert_allclose(after, model.distribution.log_prob(X[:3]), rtol=1e-4)
    assert np.abs(after - before).max() > 1e-3


def test_gradients_flow_through_compiled_log_densities():
    model = model_of()
    x = tf.constant(X)
    weights = model.distribution.trainable_variables
    found = []
    for function in (model.log_prob, model.distribution.log_prob):
        with tf.GradientTape() as tape:
            tape.watch(x)
            total = tf.reduce_sum(function(x))
        found.append(tape.gradient(total, [x, *weights]))
    for compiled, eager in zip(*found, strict=True):
        np.testing.assert_allclose(compiled, eager, rtol=1e-4, atol=1e-4)
    inside = tf.function(lambda x: model.log_prob(x))(x)
    np.testing.assert_allclose(inside, model.log_prob(x), rtol=1e-5)
