"""What Keras's methods take, in its order: arrays as batches in the flow's dtype."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_flows as tfpf
from tfp_flows.training.data import with_batches

tfd = tfp.distributions

X = np.arange(20.0, dtype="float32").reshape(10, 2)
C, WEIGHT = np.arange(10.0, dtype="float32")[:, None], np.linspace(0.0, 1.0, 10)


def model(condition_shape=None, dtype="float32", **compiling):
    keras.utils.set_random_seed(0)
    made = tfpf.FlowModel(
        tfpf.real_nvp(
            (2,),
            couplings=2,
            hidden_units=(8,),
            dtype=dtype,
            condition_shape=condition_shape,
        )
    )
    made.compile("sgd", **compiling)
    return made


def joined(dataset, part=None):
    chosen = [batch if part is None else batch[part] for batch in dataset]
    return np.concatenate([np.array(batch) for batch in chosen])


def test_validation_split_takes_the_last_rows():
    arguments = {"x": X, "y": C, "sample_weight": WEIGHT, "batch_size": 3}
    made = with_batches(arguments | {"validation_split": 0.25}, tf.float32)
    np.testing.assert_array_equal(joined(made["x"], 0), X[:7])
    np.testing.assert_array_equal(joined(made["x"], 1), C[:7])
    np.testing.assert_array_equal(joined(made["validation_data"], 0), X[7:])
    assert set(made) == {"x", "validation_data"}
    assert "x" in arguments


def test_a_split_is_one_by_hand():
    """Weights that wait for data see no row that is held out."""
    far, found, sizes = X + 100.0 * (X > 13.0), [], []

    class Sizes(keras.callbacks.Callback):
        def on_test_batch_end(self, batch, logs=None):
            sizes.append(batch)

    for x, held_out in [
        (far, {"validation_split": 0.25}),
        (far[:7], {"validation_data": far[7:]}),
    ]:
        logs = model().fit(
            x, verbose=0, validation_batch_size=2, callbacks=[Sizes()], **held_out
        ).history  # fmt: skip
        found.append(sum(logs.values(), []))
    np.testing.assert_allclose(*found, rtol=1e-5)
    assert sizes == [0, 1, 0, 1]


@pytest.mark.parametrize("share", [0.999, -0.5])
def test_a_split_leaves_rows_on_both_sides(share):
    with pytest.raises(ValueError, match="`validation_split` must leave some of 10"):
        model().fit(X, validation_split=share)


def test_a_dataset_is_left_as_it_is():
    dataset = tf.data.Dataset.from_tensors(X)
    arguments = {"x": dataset, "validation_data": dataset, "steps_per_epoch": 1}
    made = with_batches(arguments, tf.float32)
    assert made["x"] is made["validation_data"] is dataset


def test_weights_need_no_target():
    (x, y, weight) = next(
        iter(with_batches({"x": X, "sample_weight": WEIGHT}, tf.float64)["x"])
    )
    assert y.shape == (10, 0)
    assert x.dtype == weight.dtype == tf.float64


@pytest.mark.parametrize("weight", [2.0, np.full([10, 1], 2.0), [2.0] * 10])
def test_weights_of_a_stream_in_any_form(weight):
    class Batches(keras.utils.PyDataset):
        def __getitem__(self, i):
            return [X, None, weight]

    for data in (Batches(), ([X, None, weight] for _ in range(1))):
        made = with_batches({"x": data}, tf.float32)["x"]
        x, y, found = next(iter(made)) if hasattr(made, "send") else made[0]
        assert x is X
        assert y.shape == (10, 0)
        np.testing.assert_array_equal(found, np.full(10, 2.0))


@pytest.mark.parametrize(
    "arguments", [{"x": (X, C[:3])}, {"x": np.float32(1.0)}, {"x": X[:0]}]
)
def test_unequal_or_no_rows_are_refused(arguments):
    with pytest.raises(ValueError, match="equally many rows, at least one"):
        with_batches(arguments, tf.float32)


WAYS = {
    "targets": {"x": X, "y": C},
    "tuple": {"x": (X, C)},
    "list": {"x": [X, C]},
    "dictionary": {"x": {"x": X, "condition": C}},
    "lists of numbers": {"x": (X.tolist(), C.tolist())},
}


@pytest.mark.parametrize("split", [pytest.param(0.0, marks=pytest.mark.slow), 0.25])
def test_every_way_to_give_conditions_is_the_same(split):
    found = []
    for data in WAYS.values():
        made = model((1,))
        history = made.fit(
            **data, batch_size=5, verbose=0, shuffle=False, validation_split=split
        ).history
        scores = made.evaluate(**data, verbose=0, return_dict=True)
        found.append([*sum(history.values(), []), *scores.values()])
    assert len(found[0]) == (9 if split else 6)
    for numbers in found:
        np.testing.assert_allclose(numbers, found[0], rtol=1e-6)


def test_wide_floats_and_lists_of_unequal_lengths():
    made = model()
    made.adapt(X.astype("longdouble"))
    found = made.predict(X.astype("longdouble"), verbose=0)
    np.testing.assert_array_equal(found, made.predict(X, verbose=0))
    with pytest.raises(ValueError, match=r"or a tuple `\(x, condition\)` of such"):
        made.predict([X.tolist(), C.tolist()], verbose=0)


def test_wrong_inputs_are_named_before_anything_runs():
    made = model((1,))
    with pytest.raises(ValueError, match=r"keys 'x' and.*Received: keys"):
        made.fit({"image": X, "condition": C}, verbose=0)
    with pytest.raises(ValueError, match=r"come with conditions of shape \(1,\)"):
        made.fit(X, verbose=0)
    with pytest.raises(ValueError, match=r"`condition` must have shape \[\.\.\., 1\]"):
        made.fit(X, C[:, [0, 0]], verbose=0)
    made.adapt(X, C)
    with pytest.raises(ValueError, match=r"as in `predict\(\(x, c\)\)`"):
        made.predict(X, C, verbose=0)
    with pytest.raises(ValueError, match="go without a condition"):
        model().predict((X, C), verbose=0)


def test_float64_is_kept_from_the_array_to_the_likelihood():
    """Seconds since 1970, between whose neighbours float32 has nothing."""
    x = 1.7e9 + np.random.default_rng(0).normal(size=(1000, 2))
    made = model(dtype="float64")
    made.adapt(x)
    direct = made.distribution.log_prob(x).numpy()
    assert direct.mean() == pytest.approx(-2.84, abs=0.1)
    np.testing.assert_allclose(made.predict(x, verbose=0), direct, atol=1e-9)
    nll = made.evaluate(x, verbose=0, return_dict=True)["nll"]
    assert nll == pytest.approx(-direct.mean(), abs=1e-6)
    made.optimizer.learning_rate = 0.0
    history = made.fit(x, validation_data=(x,), verbose=0).history
    for name in ("nll", "val_nll"):
        assert history[name][0] == pytest.approx(-direct.mean(), abs=1e-6)
    weights = np.linspace(0.1, 1.0, len(x)) ** 2
    found = made.fit(x, sample_weight=weights, verbose=0).history["nll"][0]
    expected = -np.average(direct, weights=weights)
    assert found == pytest.approx(expected, abs=1e-12)


def test_arguments_in_keras_s_order():
    made = model()
    history = made.fit(X, None, 4, 2, 0)
    assert history.params["steps"] == 3
    assert len(history.history["nll"]) == 2
    by_name = made.evaluate(X, batch_size=4, verbose=0, sample_weight=WEIGHT)
    np.testing.assert_allclose(made.evaluate(X, None, 4, 0, WEIGHT), by_name)
    whole = made.predict(X, 4, 0)
    np.testing.assert_allclose(made.predict(X, 4, 0, 2), whole[:8], rtol=1e-6)
    with pytest.raises(TypeError, match="epoch"):
        made.fit(X, epoch=2)
    lines = []
    made.summary(60, None, lines.append)
    assert max(map(len, lines[0].splitlines())) <= 60
    with pytest.raises(TypeError):
        made.summary(lines=60)


def test_metrics_of_targets_and_likelihoods():
    def mean_likelihood(y_true, y_pred):
        return y_pred

    def mean_target(y_true, y_pred):
        return y_true

    made = model(metrics=[mean_likelihood])
    logs = made.fit(X, validation_data=(X,), verbose=0).history
    assert logs["val_mean_likelihood"][0] == pytest.approx(-logs["val_nll"][0])
    made = model(metrics=[mean_target], weighted_metrics=[mean_target])
    logs = made.evaluate(X, C, sample_weight=WEIGHT, verbose=0, return_dict=True)
    assert logs["mean_target"] == pytest.approx(C.mean())
    assert logs["weighted_mean_target"] == pytest.approx(
        np.average(C[:, 0], weights=WEIGHT)
    )


def test_the_rest_agrees_with_keras():
    results = []
    for cls in (tfpf.FlowModel, keras.Model):
        made = model()
        made.adapt(X)
        arguments = {"batch_size": 4, "verbose": 0, "sample_weight": WEIGHT}
        history = cls.fit(
            made, X, C * 0, shuffle=False, validation_data=(X[:5],), **arguments
        ).history
        scores = cls.predict(made, X, batch_size=3, verbose=0)
        evaluated = cls.evaluate(made, X, C * 0, **arguments)
        on_batch = made.train_on_batch(X, sample_weight=WEIGHT)
        results.append([*sum(history.values(), []), *evaluated, *scores, *on_batch])
    np.testing.assert_allclose(*results, rtol=1e-6)


def test_weights_go_to_replicas_without_a_target():
    if len(tf.config.list_logical_devices("CPU")) < 2:
        pytest.skip("needs two virtual CPUs, which conftest.py makes")
    losses = []
    for strategy in (
        tf.distribute.get_strategy(),
        tf.distribute.MirroredStrategy(
            ["CPU:0", "CPU:1"], cross_device_ops=tf.distribute.ReductionToOneDevice()
        ),
    ):
        with strategy.scope():
            made = model()
        history = made.fit(X, sample_weight=WEIGHT, batch_size=10, verbose=0).history
        losses.append(history["loss"][0])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


NOT_DENSE = {
    "complex": lambda: tf.constant(X + 5j * X),
    "ragged": lambda: tf.ragged.constant([[1.0, 2.0], [3.0]]),
    "sparse": lambda: tf.sparse.from_dense(X),
    "words": lambda: tf.constant([["a", "b"]]),
}


def test_structured_arrays_are_refused_by_name():
    pairs = np.zeros(10, [("a", "f4"), ("b", "f4")])
    with pytest.raises(ValueError, match="`x` must be a dense array of real numbers"):
        model().adapt(pairs)
    with pytest.raises(ValueError, match="`condition` must be a dense array of real"):
        model((1,)).predict((X, pairs), verbose=0)


@pytest.mark.parametrize("form", [np.asarray, list])
def test_one_number_a_row_is_a_column(form):
    """Where a flow is of single values; for conditions as for data."""
    base = tfd.Sample(tfd.Normal(0.0, 1.0), 1)
    single = tfpf.FlowModel(tfd.TransformedDistribution(base, tfpf.ActNorm(1)))
    single.compile("sgd")
    numbers = form(C[:, 0].tolist())
    for call in (single.fit, single.predict, single.evaluate):
        with pytest.raises(ValueError, match=r"\[batch, 1\], as `x\[:, None\]` has"):
            call(numbers)
    with pytest.raises(ValueError, match=r"1\], as `condition\[:, None\]` has"):
        model((1,)).fit(X, numbers)


@pytest.mark.filterwarnings("ignore:Your input ran out")
def test_datasets_of_unknown_rank():
    def of(x):
        spec = tf.TensorSpec(None)
        return tf.data.Dataset.from_generator(lambda: iter([x]), output_signature=spec)

    made = model()
    made.compile(keras.optimizers.SGD(0.0))
    found = made.fit(of(X), verbose=0).history["loss"][0]
    assert found == pytest.approx(-made.predict(X, verbose=0).mean(), rel=1e-5)
    with pytest.raises(ValueError, match=r"`x` must have shape \[batch, 2\]$"):
        made.fit(of(C), verbose=0)


def test_rows_of_numbers_are_held_out_data_as_they_are_data():
    made, rows = model(), X[:3].tolist()
    made.adapt(X)
    found = made.fit(rows, validation_data=rows, verbose=0).history["val_loss"][0]
    assert found == pytest.approx(-made.predict(rows, verbose=0).mean(), rel=1e-5)


@pytest.mark.parametrize("kind", NOT_DENSE)
def test_what_is_no_dense_array_of_numbers_is_refused_wherever_it_comes(kind):
    """In datasets and calls as in arrays, as data and as conditions."""
    value, plain = NOT_DENSE[kind](), model()
    plain.adapt(X)
    data = tf.data.Dataset.from_tensors(value)
    must = "`x` must be a dense array of real numbers"
    for call in (plain.fit, plain.evaluate, plain.predict):
        with pytest.raises(ValueError, match=must):
            call(data, verbose=0)
    if kind != "sparse":  # Keras itself calls no model on these
        with pytest.raises(ValueError, match=must):
            plain(value)
    given = model((1,))
    given.adapt(X, C)
    pairs = tf.data.Dataset.from_tensors((X, value))
    with pytest.raises(ValueError, match="`condition` must be a dense array of real"):
        given.predict(pairs, verbose=0)


def test_complex_conditions_are_not_cut():
    given = model((1,))
    for call in (
        lambda c: tfpf.condition(given.distribution, c),
        lambda c: given.sample(2, condition=c),
    ):
        with pytest.raises(ValueError, match="`condition` must be a dense array"):
            call(C + 2j * C)


def test_masks_are_not_passed_over():
    plain = model()
    plain.adapt(X)
    with pytest.raises(ValueError, match=r"`x` must have no masked.*3 masked values"):
        plain.predict(np.ma.masked_greater(X, 16.5), verbose=0)
    found = plain.predict(np.ma.masked_greater(X, 99.0), verbose=0)
    np.testing.assert_array_equal(found, plain.predict(X, verbose=0))
