"""`TableFlow`: densities in the columns' units, tables in and out, files, training."""

import functools

import keras
import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from scipy import integrate

import tfp_flows as tfpf
from tfp_flows import tables
from tfp_flows.tables import Categorical, Continuous, Integer, Schema, TableFlow

tfd = tfp.distributions


def numbers(n=300):
    """Two dependent positive columns of real numbers."""
    rng = np.random.default_rng(0)
    a = rng.gamma(3.0, 20.0, n)
    return {"a": a, "b": np.exp(0.02 * a + rng.normal(size=n))}


def shaken(model, size=0.1):
    """The model with its zero-initialized weights moved."""
    rng = np.random.default_rng(0)
    for weight in model.trainable_weights:
        weight.assign_add(rng.normal(scale=size, size=weight.shape))
    return model


@pytest.mark.parametrize("transform", ["quantile", "log", "standard"])
def test_density_of_one_column_integrates_to_one(transform):
    table = {"a": numbers()["a"]}
    model = TableFlow(Schema.infer(table, {"a": Continuous(transform)}))
    model.compile(optimizer=keras.optimizers.Adam(1e-2))
    model.fit(table, epochs=3, batch_size=300, verbose=0)
    assert model.is_exact
    grid = np.linspace(-300.0, 1500.0, 60_001)
    density = np.exp(model.log_prob({"a": grid}))
    np.testing.assert_allclose(integrate.trapezoid(density, grid), 1.0, atol=1e-3)
    if transform == "log":
        assert np.all(density[grid <= 0.0] == 0.0)


def test_real_columns_have_exact_densities(small):
    table = numbers()
    kinds = {"a": Continuous("log"), "b": "continuous"}
    model = TableFlow(Schema.infer(table, kinds), small)
    model.adapt(table)
    shaken(model)
    x = tf.constant(model.schema.encode(table)[:20])
    flow = model.distribution.flow
    with tf.GradientTape() as tape:
        tape.watch(x)
        z = flow.bijector.inverse(x + 0.0)
    log_det = np.linalg.slogdet(tape.batch_jacobian(z, x))[1]
    expected = flow.distribution.log_prob(z) + log_det
    exact = model.log_prob({k: v[:20] for k, v in table.items()})
    np.testing.assert_allclose(exact, expected, rtol=1e-9)
    # Nothing is drawn, so one value comes out whatever the seed.
    again = model.log_prob({k: v[:20] for k, v in table.items()}, seed=5)
    np.testing.assert_array_equal(exact, again)


def test_densities_are_in_the_units_of_the_columns(small):
    # Grams instead of kilograms: every density falls by a factor of 1000.
    kilograms = numbers()
    grams = {"a": 1000.0 * kilograms["a"], "b": kilograms["b"]}
    densities = []
    for table in (kilograms, grams):
        keras.utils.set_random_seed(0)
        model = TableFlow(Schema.infer(table), small)
        model.adapt(table)
        densities.append(shaken(model).log_prob(table))
    difference = densities[0] - densities[1]
    np.testing.assert_allclose(difference, np.log(1000.0), atol=1e-6)


def test_probabilities_of_categories_and_integers_sum_to_one(small):
    rng = np.random.default_rng(0)
    kind = rng.choice(3, 300)
    table = {"kind": np.array(["a", "b", "c"])[kind], "n": rng.poisson(1.0 + kind)}
    model = TableFlow(Schema.infer(table), small)
    model.compile(optimizer=keras.optimizers.Adam(1e-2))
    model.fit(table, epochs=10, batch_size=100, verbose=0)
    assert not model.is_exact
    cells = {
        "kind": np.repeat(["a", "b", "c"], 26),
        "n": np.tile(np.arange(-1, 25), 3),
    }
    log_prob = model.log_prob(cells, draws=2_000)
    assert np.all(np.isneginf(log_prob[cells["n"] < 0]))
    mass = np.exp(log_prob)
    assert 0.95 < mass.sum() < 1.03
    # The bound of one draw is lower in the mean, and samples follow the probabilities.
    inside = cells["n"] >= 0
    single = np.mean(
        [model.log_prob(cells, draws=1, seed=s)[inside] for s in range(20)], axis=0
    )
    assert np.sum(mass[inside] * (log_prob[inside] - single)) > 0.0
    sampled = model.sample(20_000, seed=1)
    share = np.mean(np.array(sampled["kind"].to_pylist()) == "a")
    np.testing.assert_allclose(share, mass[cells["kind"] == "a"].sum(), atol=0.03)


@pytest.mark.slow
def test_draws_make_the_bound_tighter(model, more):
    means = [model.log_prob(more, draws=k).mean() for k in (1, 8, 64)]
    assert means[0] < means[1] < means[2]


def test_samples_are_tables_like_the_data(model, table):
    sampled = model.sample(500, seed=3)
    assert sampled.schema.equals(table.schema)
    assert sampled.num_rows == 500
    assert sampled.equals(model.sample(500, seed=3))
    assert not sampled.equals(model.sample(500, seed=4))
    assert set(sampled["region"].to_pylist()) <= {"north", "south", "west"}
    assert min(sampled["visits"].to_pylist()) >= 0
    assert sampled["born"].type == pa.date32()
    rooms = np.array(sampled["rooms"])
    np.testing.assert_array_equal(rooms, np.floor(rooms))
    cold = model.sample(2, seed=1, temperature=0.0)
    for column in cold.columns:
        first, second = column.to_pylist()
        # Rows of a batch may round in different ways.
        same = pytest.approx(first, rel=1e-5) if isinstance(first, float) else first
        assert second == same
    # A sample can be scored, and is written and read without a change of type.
    assert np.all(np.isfinite(model.log_prob(sampled)))


def test_samples_of_missing_values(small):
    values = pa.array(["x", None, "y", None] * 20)
    schema = Schema.infer({"a": values}, {"a": Categorical(missing=True)})
    model = TableFlow(schema, small)
    model.compile(optimizer="adam")
    model.fit({"a": values}, verbose=0)
    sampled = model.sample(200, seed=1)
    assert set(sampled["a"].to_pylist()) == {"x", "y", None}


def test_files_are_bit_equal(model, more, tmp_path):
    model.save(tmp_path / "people.keras")
    loaded = keras.models.load_model(tmp_path / "people.keras")
    assert type(loaded) is TableFlow
    for weight, other in zip(model.weights, loaded.weights, strict=True):
        np.testing.assert_array_equal(weight, other)
    np.testing.assert_array_equal(model.log_prob(more), loaded.log_prob(more))
    assert loaded.sample(50, seed=2).equals(model.sample(50, seed=2))
    assert str(loaded.schema) == str(model.schema)
    # And it goes on training.
    loaded.compile(optimizer="adam")
    loaded.fit(more, verbose=0)
    tfpf.save_distribution(model.distribution, tmp_path / "rows.keras")
    rows = tfpf.load_distribution(tmp_path / "rows.keras")
    np.testing.assert_array_equal(
        rows.sample(5, seed=(0, 1)), model.distribution.sample(5, seed=(0, 1))
    )


def test_gradients_reach_every_weight(table, small):
    model = TableFlow(Schema.infer(table), small)
    model.adapt(table)
    shaken(model)
    with tf.GradientTape() as tape:
        loss = -tf.reduce_mean(model.distribution.log_prob(model.schema.encode(table)))
    values = [w.value for w in model.trainable_weights]
    gradients = tape.gradient(loss, values)
    unreached = [
        weight.path
        for weight, gradient in zip(model.trainable_weights, gradients, strict=True)
        if gradient is None or not np.any(tf.convert_to_tensor(gradient) != 0.0)
    ]
    assert unreached == []
    # Plain TFP sees them all.
    assert len(model.distribution.trainable_variables) == len(values)


@pytest.mark.slow
def test_training_is_that_of_keras(table, more, small):
    model = TableFlow(Schema.infer(table), small)
    model.compile(optimizer=keras.optimizers.Adam(5e-3))
    history = model.fit(
        table, validation_data=more, epochs=8, batch_size=50, verbose=0
    ).history
    assert history["val_nll"][-1] < history["val_nll"][0] - 0.5
    evaluated = model.evaluate(more, verbose=0, return_dict=True)
    assert evaluated["nll"] == pytest.approx(
        -model.predict(more, verbose=0).mean(), 0.1
    )
    assert evaluated["nll"] > -model.log_prob(more).mean()
    text = []
    model.summary(print_fn=text.append)
    assert "categorical, 3 categories" in text[0]
    assert "Repeat x 2" in text[1]


def test_other_flows_and_transforms():
    table = numbers()
    for make in (
        functools.partial(tfpf.real_nvp, couplings=2, hidden_units=(8,)),
        functools.partial(tfpf.maf, layers=2, hidden_units=(8,)),
    ):
        model = TableFlow(Schema.infer(table), make)
        model.adapt(table)
        assert np.all(np.isfinite(model.log_prob(table)))
        assert model.sample(7, seed=1).num_rows == 7


@pytest.mark.slow
def test_a_fit_in_one_call_learns_what_depends_on_what():
    rng = np.random.default_rng(0)
    n = 3_000
    kind = rng.choice(2, n)
    x = rng.normal(np.where(kind, 40.0, 20.0), 2.0)
    table = pa.table({"x": x, "kind": np.array(["a", "b"])[kind]})
    make = functools.partial(tfpf.maf, layers=2, hidden_units=(32,), transform="spline")
    model = tables.fit(table, flow=make, epochs=40, patience=10, learning_rate=5e-3)
    entropy = np.log(2.0) + 0.5 * np.log(2.0 * np.pi * np.e * 2.0**2)
    nll = -model.log_prob(table, draws=64).mean()
    assert entropy - 0.05 < nll < entropy + 0.1
    sampled = model.sample(4_000, seed=1)
    x, kind = (np.array(sampled[name].to_pylist()) for name in ("x", "kind"))
    assert np.mean((x > 30.0) == (kind == "b")) > 0.9
    assert len(model.history.history["val_nll"]) <= 40
    # Bayes' rule: which kind is a value of?
    both = [model.log_prob({"x": [21.0], "kind": [k]}, draws=500)[0] for k in "ab"]
    assert both[0] - both[1] > 2.0


def test_one_callback_will_do():
    ends = []
    one = keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: ends.append(1))
    rows = {"x": np.random.default_rng(0).normal(size=20)}
    for callbacks in (one, None):
        tables.fit(rows, epochs=1, callbacks=callbacks)
    assert len(ends) == 1


@pytest.mark.parametrize("form", [dict, pa.table, Schema.infer(numbers()).encode])
def test_a_call_takes_a_table_or_encoded_rows(small, form):
    model = TableFlow(Schema.infer(numbers()), small)
    np.testing.assert_allclose(model(form(numbers())), model.log_prob(numbers()))


def test_wrong_arguments_are_named(table, model):
    with pytest.raises(TypeError, match="`schema` must be a `tfpf.tables.Schema`"):
        TableFlow(table)
    with pytest.raises(TypeError, match="`flow` must be called as"):
        TableFlow(model.schema, lambda *_, **__: None)
    with pytest.raises(ValueError, match="`validation_fraction` must be a finite"):
        tables.fit(table, validation_fraction=1.0)
    with pytest.raises(ValueError, match="`draws` must be an integer of at least 1"):
        model.log_prob(table, draws=0)
    with pytest.raises(ValueError, match="`table` must have the columns"):
        model.fit({"a": [1.0]}, verbose=0)
    with pytest.raises(ValueError, match="`n` must not be negative"):
        model.sample(-1)


def test_bounds_of_an_integer_column_hold():
    n = np.arange(60) % 6
    schema = Schema.infer({"n": n}, {"n": Integer("standard", high=5)})
    model = TableFlow(schema)
    model.adapt({"n": n})
    sampled = np.array(model.sample(2_000, seed=1)["n"])
    assert sampled.min() == 0
    assert sampled.max() == 5
    outside = model.log_prob({"n": [-1, 6]})
    assert np.all(np.isneginf(outside))


def test_the_labels_of_a_frame_s_rows_are_no_column():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(numbers())
    for shuffled in (frame.sample(frac=1.0, random_state=0), frame.set_index("b")):
        columns = list(shuffled.columns)
        assert Schema.infer(shuffled).names == columns
    model = TableFlow(Schema.infer(frame))
    some = frame[frame.a > 50.0]
    expected = model.log_prob(some.reset_index(drop=True))
    np.testing.assert_array_equal(model.log_prob(some), expected)


def test_impossible_rows_have_no_density_anywhere(tmp_path):
    """In Python, as rows of numbers, in Keras and served; served twice the same."""
    rng = np.random.default_rng(0)
    table = {"c": rng.choice(["u", "v"], 99), "i": rng.poisson(3, 99)}
    model = TableFlow(Schema.infer(table))
    wrong = [[0.0, -1.0], [0.0, 1.5], [2.0, 1.0], [0.5, 1.0]]
    rows = tf.constant([*wrong, [0.0, 2.0]], tf.float64)
    for found in (model.distribution.log_prob(rows), model.predict(rows, verbose=0)):
        np.testing.assert_array_equal(np.isinf(found), [True] * 4 + [False])
    path = tfpf.export_saved_model(model, tmp_path, warmup=False)
    served = tf.saved_model.load(path).signatures["log_prob"]
    first, second = (served(x=rows) for _ in range(2))
    assert first["is_finite"].numpy().tolist() == [False] * 4 + [True]
    np.testing.assert_array_equal(first["log_prob"], second["log_prob"])
