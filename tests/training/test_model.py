"""`FlowModel`: Keras trains every weight of any TFP distribution."""

import math
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_flows as tfpf

tfb, tfd = tfp.bijectors, tfp.distributions

RNG = np.random.default_rng(0)
X = (RNG.normal(size=(400, 2)) @ [[1.5, 1.0], [0.0, 0.3]] + 3.0).astype("float32")


def small_flow(**arguments):
    return tfpf.glow((2,), steps=2, hidden_units=(16,), **arguments)


def compiled(distribution, learning_rate=0.01, **arguments):
    model = tfpf.FlowModel(distribution)
    optimizer = keras.optimizers.Adam(learning_rate)
    model.compile(optimizer=optimizer, **arguments)
    return model


def hand_made_chain():
    return tfd.TransformedDistribution(
        tfd.Sample(tfd.StudentT(tf.Variable(5.0), tf.Variable(0.0), 1.0), 2),
        tfb.Chain(
            [
                tfpf.ActNorm(2),
                tfb.Shift(tf.Variable([1.0, 1.0])),
                tfpf.InvertibleConv1x1(2),
                tfb.Permute([1, 0]),
            ]
        ),
    )


def plain_tfp():
    scale = tfp.util.TransformedVariable(tf.eye(2), tfb.FillScaleTriL())
    return tfd.MultivariateNormalTriL(tf.Variable([0.0, 0.0]), scale)


@pytest.mark.parametrize("make", [small_flow, hand_made_chain, plain_tfp])
def test_fit_trains_every_weight(make):
    keras.utils.set_random_seed(0)
    distribution = make()
    model = compiled(distribution)
    model.adapt(X)
    assert len(model.trainable_weights) == len(distribution.trainable_variables) > 0
    before = [np.array(v) for v in distribution.trainable_variables]
    history = model.fit(X, epochs=3, batch_size=100, verbose=0).history
    assert history["nll"][-1] < history["nll"][0]
    for old, new in zip(before, distribution.trainable_variables, strict=True):
        assert np.abs(old - new.numpy()).max() > 0


def test_figures_are_the_exact_likelihood():
    model = compiled(small_flow())
    model.adapt(X)
    log_prob = model.distribution.log_prob(X).numpy()
    np.testing.assert_allclose(model.predict(X, verbose=0), log_prob, rtol=1e-5)
    logs = model.evaluate(X, verbose=0, return_dict=True)
    assert set(logs) == {"loss", "nll", "bits_per_dim"}
    np.testing.assert_allclose(logs["nll"], -log_prob.mean(), rtol=1e-5)
    np.testing.assert_allclose(logs["loss"], logs["nll"], rtol=1e-5)
    np.testing.assert_allclose(
        logs["bits_per_dim"], logs["nll"] / (2 * math.log(2)), rtol=1e-5
    )
    weights = np.linspace(0.0, 2.0, len(X)).astype("float32")
    weighted = model.evaluate(X, sample_weight=weights, verbose=0, return_dict=True)
    np.testing.assert_allclose(
        weighted["nll"], -np.average(log_prob, weights=weights), rtol=1e-5
    )
    np.testing.assert_allclose(
        weighted["loss"], -np.mean(weights * log_prob), rtol=1e-5
    )


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 4

    def __getitem__(self, i):
        return X[i * 100 : (i + 1) * 100]


@pytest.mark.parametrize(
    "data",
    [X, tf.data.Dataset.from_tensor_slices(X).batch(100), Batches()],
    ids=["array", "dataset", "pydataset"],
)
def test_all_kinds_of_data(data):
    model = compiled(small_flow())
    extra = {"batch_size": 100} if data is X else {}
    history = model.fit(data, validation_data=data, verbose=0, **extra).history
    assert model.is_adapted
    assert {"nll", "val_nll", "val_bits_per_dim"} <= set(history)


BATCH_FORMS = {
    "array": lambda x, w: x,
    "one": lambda x, w: (x,),
    "no target": lambda x, w: (x, None),
    "weights": lambda x, w: (x, None, w),
    "a list with weights": lambda x, w: [x, None, w],
}


@pytest.mark.parametrize("form", BATCH_FORMS)
@pytest.mark.parametrize("kind", ["pydataset", "generator"])
def test_batches_with_nothing_in_the_place_of_targets(kind, form):
    weights = np.linspace(0.0, 2.0, len(X)).astype("float32")

    def batch(i):
        rows = slice(i * 100, (i + 1) * 100)
        return BATCH_FORMS[form](X[rows], weights[rows])

    class Formed(Batches):
        def __getitem__(self, i):
            return batch(i)

    def data():
        return Formed() if kind == "pydataset" else (batch(i) for i in range(4))

    model = compiled(small_flow())
    model.adapt(X)
    given = weights if "weights" in form else None
    expected = model.evaluate(X, sample_weight=given, batch_size=100, verbose=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras's, of a generator's end
        np.testing.assert_allclose(model.evaluate(data(), verbose=0), expected, 1e-6)
        np.testing.assert_allclose(
            model.predict(data(), verbose=0), model.predict(X, verbose=0), 1e-6
        )
        model.fit(data(), validation_data=data(), verbose=0)
    assert "val_nll" in model.history.history


def test_layer_losses_are_added():
    class Regularized(tfpf.nets.MLP):
        def build_network(self, *shapes, **named):
            super().build_network(*shapes, **named)
            self._head.kernel.regularizer = keras.regularizers.L2(1.0)

    net = Regularized((4,))
    flow = tfd.TransformedDistribution(
        tfd.Sample(tfd.Normal(0.0, 1.0), 2),
        tfpf.AdditiveCoupling(tfpf.masks.half(2), net),
    )
    net._head.kernel.assign(tf.ones_like(net._head.kernel))
    logs = compiled(flow).evaluate(X, verbose=0, return_dict=True)
    np.testing.assert_allclose(logs["loss"] - logs["nll"], 4.0, rtol=1e-4)


def test_dropout_acts_in_fit_and_nowhere_else():
    keras.utils.set_random_seed(0)
    model = compiled(tfpf.real_nvp((2,), couplings=2, dropout=0.5), 0.0)
    model.adapt(X)
    for variable in model.distribution.trainable_variables:
        variable.assign_add(0.03 * tf.random.stateless_normal(variable.shape, [1, 2]))
    exact = model.evaluate(X, verbose=0, return_dict=True)["nll"]
    first, second = model.fit(X, epochs=2, shuffle=False, verbose=0).history["nll"]
    assert abs(first - second) > 1e-3
    assert abs(first - exact) > 1e-3
    again = model.evaluate(X, verbose=0, return_dict=True)["nll"]
    np.testing.assert_allclose(again, exact, rtol=1e-6)


def test_a_held_latent_is_not_stale_after_fit():
    model = compiled(small_flow())
    model.adapt(X)
    y = tf.constant(X)
    before = model.distribution.bijector.inverse(y)
    model.fit(X, verbose=0)
    assert np.abs(before - model.distribution.bijector.inverse(y)).max() > 1e-4


def test_sampling_is_seeded_and_tempered():
    model = tfpf.FlowModel(small_flow())
    a, b = model.sample(5, seed=1), model.sample(5, seed=[0, 1])
    np.testing.assert_array_equal(a, b)
    assert np.abs(a - model.sample(5, seed=2)).max() > 0
    cold = model.sample(5, seed=1, temperature=0.0)
    center = model.distribution.bijector.forward(tf.zeros([5, 2]))
    np.testing.assert_allclose(cold, center, atol=1e-6)
    with pytest.raises(ValueError, match="`temperature`"):
        model.sample(5, temperature=-1.0)
    with pytest.raises(ValueError, match="`n`"):
        model.sample(-5)


@pytest.mark.parametrize(
    "arrange",
    [
        lambda m, x, c: m.fit(x, c, verbose=0),
        lambda m, x, c: m.fit({"x": x, "condition": c}, verbose=0),
        lambda m, x, c: m.fit(
            tf.data.Dataset.from_tensor_slices((x, c)).batch(50), verbose=0
        ),
    ],
    ids=["pair", "dictionary", "dataset"],
)
def test_conditional_flows_take_pairs(arrange):
    keras.utils.set_random_seed(0)
    condition = X[:, :1]
    model = compiled(tfpf.real_nvp((2,), couplings=2, condition_shape=(1,)), 0.02)
    arrange(model, X, condition)
    predicted = model.predict((X[:3], condition[:3]), verbose=0)
    bound = tfpf.condition(model.distribution, condition[:3])
    assert bound.batch_shape == (3,)
    np.testing.assert_allclose(predicted, bound.log_prob(X[:3]), rtol=1e-4)
    samples = model.sample(4, seed=1, condition=condition[:3])
    assert samples.shape == (4, 3, 2)


def test_gradients_flow_to_the_condition():
    flow = tfpf.real_nvp((2,), couplings=2, condition_shape=(1,))
    for variable in flow.trainable_variables:
        variable.assign_add(0.1 * RNG.normal(size=variable.shape).astype("float32"))
    c = tf.ones([3, 1])
    with tf.GradientTape() as tape:
        tape.watch(c)
        total = tf.reduce_sum(tfpf.condition(flow, c).log_prob(X[:3]))
    assert np.all(np.abs(tape.gradient(total, c)) > 0)


def test_non_finite_data_stops_before_the_weights_change():
    model = compiled(small_flow())
    model.adapt(X)
    bad = X.copy()
    bad[7] = np.nan
    before = [np.array(w) for w in model.get_weights()]
    with pytest.raises(FloatingPointError, match=r"step 1 is nan.*data itself"):
        model.fit(bad, batch_size=400, verbose=0)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_a_blown_up_flow_names_step_and_bijector():
    model = tfpf.FlowModel(small_flow())
    model.compile(optimizer=keras.optimizers.SGD(1e12))
    with pytest.raises(FloatingPointError, match=r"training step \d+ .* in layer 0"):
        model.fit(X, batch_size=100, epochs=5, verbose=0)


@pytest.mark.parametrize("listed", [list, keras.callbacks.CallbackList])
def test_a_blown_up_compiled_step_stops_at_the_epoch(listed):
    flow = tfpf.real_nvp((2,), couplings=2, hidden_units=(4,), log_scale="exp")
    model = tfpf.FlowModel(flow)
    model.compile(optimizer=keras.optimizers.SGD(1e30), jit_compile=True)
    with pytest.raises(FloatingPointError, match="loss of epoch 1"):
        model.fit(X, batch_size=100, epochs=2, verbose=0, callbacks=listed())


def test_weights_of_rows_that_are_not_finite_are_named():
    model = compiled(small_flow())
    weights = np.where(np.arange(400) == 7, np.nan, 1.0)
    with pytest.raises(FloatingPointError, match=r"`sample_weight` is .*first row 7"):
        model.fit(X, sample_weight=weights, batch_size=400, shuffle=False, verbose=0)


@pytest.mark.filterwarnings("ignore:.*rows of this epoch lie so far")
def test_rows_that_do_not_count_are_not_in_the_mean():
    """One whose loss is far from the others', and one whose square overflows."""
    model = compiled(small_flow(), 0.0)
    model.adapt(X)
    given = {"batch_size": 400, "verbose": 0}
    for far, last in (({5: 1e25}, 2.0), ({3: 1e9, 5: 1e25}, 1.0)):
        wild, weights = X.copy(), np.linspace(1.0, last, len(X))
        for row, value in far.items():
            wild[row] = value
        logs = model.fit(wild, sample_weight=weights, **given).history
        counted = [i for i in range(len(X)) if i not in far]
        losses, kept = -model.predict(X[counted], verbose=0), weights[counted]
        assert logs["loss"][0] == pytest.approx(np.mean(kept * losses), rel=1e-5)
        expected = np.average(losses, weights=kept)
        assert logs["nll"][0] == pytest.approx(expected, rel=1e-5)


class OwnSteps(tfpf.FlowModel):
    """As in Keras's guides, which leave `training` of `compute_loss` out."""

    def figures(self, data, training):
        x, y, weight = keras.utils.unpack_x_y_sample_weight(data)
        y_pred = self(x, training=training)
        loss = self.compute_loss(x=x, y=y, y_pred=y_pred, sample_weight=weight)
        metrics = self.compute_metrics(x, y, y_pred, weight)
        return {**metrics, "own": loss}

    def train_step(self, data):
        return self.figures(data, True)

    def test_step(self, data):
        return self.figures(data, False)


@pytest.mark.filterwarnings("ignore:.*rows of this epoch lie so far")
def test_own_steps_leave_rows_out_in_training_alone():
    model = OwnSteps(small_flow())
    model.compile("sgd")
    model.adapt(X)
    wild = X.copy()
    wild[3] = 1e9
    given = {"batch_size": 400, "verbose": 0}
    trained = model.fit(wild, validation_data=wild, **given).history
    logs = model.evaluate(wild, return_dict=True, **given)
    for name in ("nll", "own"):
        assert trained[name][0] < 1e2
        assert min(trained[f"val_{name}"][0], logs[name]) > 1e9


class Counted(tfpf.FlowModel):
    def __init__(self, distribution):
        super().__init__(distribution)
        self.likelihood = keras.metrics.Mean(name="likelihood")

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        self.likelihood.update_state(y_pred)
        return super().compute_metrics(x, y, y_pred, sample_weight)


def test_only_metrics_of_the_library_are_known_to_fall():
    model = Counted(small_flow())
    model.compile("sgd")
    for name in ("loss", "val_nll", "bits_per_dim"):
        watching = keras.callbacks.EarlyStopping(name)
        model.fit(X, validation_data=X, verbose=0, callbacks=[watching])
        assert watching.mode == "min"
    watching = keras.callbacks.EarlyStopping("likelihood")
    with pytest.raises(ValueError, match="Pass `mode='max'`"):
        model.fit(X, verbose=0, callbacks=[watching])


def test_keras_callbacks_and_steps_per_execution(tmp_path):
    model = compiled(small_flow(), steps_per_execution=2)
    callbacks = [
        keras.callbacks.EarlyStopping("val_nll", patience=2),
        keras.callbacks.ReduceLROnPlateau("val_nll"),
        keras.callbacks.ModelCheckpoint(tmp_path / "best.keras", "val_nll"),
        keras.callbacks.CSVLogger(tmp_path / "log.csv"),
        keras.callbacks.TerminateOnNaN(),
    ]
    model.fit(X, validation_split=0.25, epochs=2, callbacks=callbacks, verbose=0)
    restored = keras.models.load_model(tmp_path / "best.keras")
    assert restored.predict(X[:2], verbose=0).shape == (2,)
    assert "bits_per_dim" in (tmp_path / "log.csv").read_text()


def test_summary_lists_bijectors_with_counts():
    lines = []
    tfpf.FlowModel(small_flow()).summary(print_fn=lines.append)
    text = "\n".join(lines)
    for word in ("Repeat x 2", "ActNorm", "InvertibleConv1x1", "AffineCoupling"):
        assert word in text
    total = sum(int(np.prod(v.shape)) for v in small_flow().trainable_variables)
    assert f"{total:,}" in text


@pytest.mark.parametrize("policy", ["float64", "mixed_bfloat16", "mixed_float16"])
def test_precision_of_networks_and_flow(policy):
    previous = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        dtype = "float64" if policy == "float64" else None
        model = compiled(small_flow(dtype=dtype))
        history = model.fit(X, epochs=2, batch_size=100, verbose=0).history
    finally:
        keras.config.set_dtype_policy(previous)
    assert history["nll"][1] < history["nll"][0]
    expected = tf.as_dtype(dtype or "float32")
    assert model.distribution.log_prob(tf.cast(X, expected)).dtype == expected
    scaled = type(model.optimizer).__name__ == "LossScaleOptimizer"
    assert scaled == (policy == "mixed_float16")


def test_wrong_inputs_are_named():
    with pytest.raises(TypeError, match="`distribution` must be a TFP"):
        tfpf.FlowModel(tfb.Exp())
    model = compiled(small_flow())
    with pytest.raises(ValueError, match=r"`x` must have shape \[\.\.\., 2\]"):
        model.fit(np.ones((10, 3), "float32"), verbose=0)
    with pytest.raises(ValueError, match="1 of 10 rows with NaN"):
        model.adapt(np.where(np.arange(20).reshape(10, 2) == 4, np.nan, 1.0))


def test_two_replicas_equal_one():
    if len(tf.config.list_logical_devices("CPU")) < 2:
        pytest.skip("needs two virtual CPUs, which conftest.py makes")
    results = []
    for strategy in (
        tf.distribute.get_strategy(),
        # Without collective operations: TensorFlow numbers them anew for each
        # strategy, and two strategies in one process get in each other's way.
        tf.distribute.MirroredStrategy(
            ["CPU:0", "CPU:1"],
            cross_device_ops=tf.distribute.ReductionToOneDevice(),
        ),
    ):
        with strategy.scope():
            keras.utils.set_random_seed(0)
            model = compiled(small_flow())
        model.adapt(X)
        history = model.fit(X, batch_size=100, epochs=2, shuffle=False, verbose=0)
        results.append(history.history["nll"])
    np.testing.assert_allclose(results[0], results[1], rtol=1e-4)
