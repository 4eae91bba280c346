"""Batches of arrays are Keras's own, from a pipeline that nothing tunes."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfp_flows as tfpf
from tfp_flows.training.data import batches, for_fit, untuned

X = np.arange(20.0, dtype="float32").reshape(10, 2)
C, WEIGHT = np.arange(10), np.linspace(0.0, 1.0, 10)


def joined(dataset, part=None):
    chosen = [batch if part is None else batch[part] for batch in dataset]
    return np.concatenate([np.array(batch) for batch in chosen])


def test_batches_in_order_and_their_number():
    dataset = batches(X, None, None, 4)
    assert [len(batch) for batch in dataset] == [4, 4, 2]
    assert int(dataset.cardinality()) == 3
    np.testing.assert_array_equal(joined(dataset), X)
    assert not dataset.options().autotune.enabled


@pytest.mark.parametrize(("size", "rows"), [(5, 5), (4, None), (None, None)])
def test_rows_are_known_where_all_batches_are_full(size, rows):
    assert batches(X, None, None, size).element_spec.shape.as_list() == [rows, 2]


def test_every_pass_has_an_order_of_its_own():
    keras.utils.set_random_seed(0)
    dataset = batches(X, C, WEIGHT, 3, shuffle=True)
    passes = [joined(dataset, 1) for _ in range(3)]
    for rows in passes:
        assert sorted(rows) == list(range(10))
    assert len({tuple(rows) for rows in passes}) == 3
    x, c, weight = (np.concatenate(p) for p in zip(*dataset, strict=True))
    np.testing.assert_array_equal(x[:, 0], 2 * c)
    np.testing.assert_allclose(weight, c / 9, rtol=1e-6)


def test_structures_as_fit_packs_them():
    (x, c), y = next(iter(batches([X, C], C, None, 10)))
    np.testing.assert_array_equal(c, y)
    assert set(next(iter(batches({"x": X, "condition": C}, None, None, 2)))) == {
        "x",
        "condition",
    }


def test_floats_as_keras_makes_them():
    spec = batches(X.astype("float64"), C, None, 2).element_spec
    assert [part.dtype for part in spec] == [tf.float32, tf.int64]


@pytest.mark.parametrize(
    "x", [[[1.0, 2.0]], (X, C[:3]), np.float32(1.0), X[:0], tf.data.Dataset.range(3)]
)
def test_what_is_left_to_keras(x):
    assert batches(x, None, None, 2) is None


def test_a_dataset_whose_options_say_so_is_tuned():
    dataset = tf.data.Dataset.range(3)
    assert untuned(dataset).options().autotune.enabled is False
    options = tf.data.Options()
    options.autotune.enabled = True
    assert untuned(dataset.with_options(options)).options().autotune.enabled
    assert untuned(X) is X


def test_validation_split_takes_the_last_rows():
    arguments = {"validation_split": 0.25, "sample_weight": WEIGHT, "batch_size": 3}
    x, y, left = for_fit(X, C, arguments | {"shuffle": False})
    assert y is None
    np.testing.assert_array_equal(joined(x, 0), X[:7])
    np.testing.assert_array_equal(joined(left["validation_data"], 0), X[7:])
    assert left["validation_split"] == 0.0
    assert not {"sample_weight", "batch_size"} & set(left)
    assert arguments["validation_split"] == 0.25


def test_steps_of_an_epoch_stay_with_keras():
    x, y, left = for_fit(X, None, {"steps_per_epoch": 2, "batch_size": 3})
    assert x is X
    assert left["batch_size"] == 3


def test_fit_and_the_rest_agree_with_keras():
    results = []
    for cls in (tfpf.FlowModel, keras.Model):
        keras.utils.set_random_seed(0)
        model = tfpf.FlowModel(tfpf.real_nvp((2,), couplings=2, hidden_units=(8,)))
        model.compile("sgd")
        model.adapt(X)
        arguments = {"batch_size": 4, "verbose": 0, "sample_weight": WEIGHT}
        history = cls.fit(
            model, X, C * 0, shuffle=False, validation_data=(X[:5],), **arguments
        ).history
        scores = cls.predict(model, X, batch_size=3, verbose=0)
        evaluated = cls.evaluate(model, X, C * 0, **arguments)
        results.append([*sum(history.values(), []), *evaluated, *scores])
    np.testing.assert_allclose(*results, rtol=1e-6)


def test_predict_takes_its_arguments_as_keras_does():
    model = tfpf.FlowModel(tfpf.real_nvp((2,), couplings=2, hidden_units=(8,)))
    whole = model.predict(X, 4, 0)
    np.testing.assert_allclose(model.predict(X, 4, 0, 2), whole[:8], rtol=1e-6)
