"""`shards` changes what runs at the same time, and no result."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_flows as tfpf
from tfp_flows.training.data import in_shards

tfb, tfd = tfp.bijectors, tfp.distributions


def model(shards=1, make=tfpf.real_nvp, **arguments):
    keras.utils.set_random_seed(0)
    arguments = {"hidden_units": (8,), "dtype": "float64"} | arguments
    if make is not tfpf.ffjord:
        arguments = {"couplings": 2} | arguments
    made = tfpf.FlowModel(make((3,), **arguments))
    made.compile(tfpf.optimizer(0.01), shards=shards)
    return made


def batch(rows, values=3):
    return np.random.default_rng(1).normal(size=(rows, values))


def test_shards_have_even_shares_and_none_is_empty():
    seen = []

    def function(x):
        seen.append(x.shape[0])
        return tf.reduce_sum(x, -1)

    for rows in (7, 3, 2, 0):
        x = tf.constant(batch(rows))
        np.testing.assert_allclose(in_shards(function, 3)(x), tf.reduce_sum(x, -1))
    assert seen == [2, 2, 3] + [1, 1, 1] + [1, 1] + [0]


@pytest.mark.parametrize(
    ("rows", "shards", "jit"),
    [(1, 2, False), (2, 3, False), (10, 2, False), (10, 3, False), (10, 3, True)],
)
def test_scores_and_gradients(rows, shards, jit):
    found = []
    for made in (model(), model(shards)):
        weights = made.distribution.trainable_variables

        @tf.function(jit_compile=jit)
        def step(x, made=made, weights=weights):
            with tf.GradientTape() as tape:
                scores = made(x)
                loss = tf.reduce_mean(scores)
            return scores, tape.gradient(loss, weights)

        scores, gradients = step(tf.constant(batch(rows)))
        found.append([scores, *gradients])
    for one, side_by_side in zip(*found, strict=True):
        np.testing.assert_allclose(one, side_by_side, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("rows", [0, 1, 2, 5])
def test_rows_known_only_when_called(rows):
    x, made = tf.constant(batch(rows)), model(3)
    score = tf.function(
        lambda x: made(x),
        input_signature=[tf.TensorSpec([None, 3], tf.float64)],
    )
    np.testing.assert_allclose(score(x), model()(x), atol=1e-12)


def test_fit_evaluate_and_predict_are_those_of_one_shard():
    x = batch(41)  # the last batch of ten has one row
    results = []
    for shards in (1, 2):
        made = model(shards, actnorm=True)
        history = made.fit(x, batch_size=10, epochs=2, shuffle=False, verbose=0).history
        scores = made.predict(x, batch_size=10, verbose=0)
        results.append([*history["nll"], *made.evaluate(x, verbose=0), *scores])
    np.testing.assert_allclose(*results, rtol=1e-6)  # Keras keeps means in float32


def test_conditions_weights_and_datasets():
    x, c, weight = batch(20), batch(20, 2), np.linspace(0.0, 1.0, 20)
    losses = []
    for shards in (1, 2):
        made = model(shards, condition_shape=(2,))
        rows = tf.data.Dataset.from_tensor_slices((x, c, weight)).batch(7)
        losses.append(made.fit(rows, verbose=0).history["loss"])
        losses[-1] += made.evaluate({"x": x, "condition": c}, verbose=0)
    np.testing.assert_allclose(*losses, rtol=1e-6)


def test_each_shard_asks_each_network_once():
    def products(made):
        graph = tf.function(made).get_concrete_function(tf.constant(batch(8))).graph
        return sum(op.type == "MatMul" for op in graph.get_operations())

    assert products(model(2)) == 2 * products(model()) > 0


def test_a_solver_never_gets_an_empty_shard():
    made = model(2, tfpf.ffjord)
    rows = tf.data.Dataset.from_tensor_slices(batch(3)).batch(2)
    assert np.isfinite(made.predict(rows, verbose=0)).all()


def test_batch_statistics_stay_finite():
    flow = tfd.TransformedDistribution(
        tfd.Sample(tfd.Normal(0.0, 1.0), 3),
        tfb.Chain([tfpf.BatchNorm(3), tfpf.ActNorm(3)]),
    )
    made = tfpf.FlowModel(flow)
    made.compile("sgd", shards=2)
    # The last batch has one row: an empty shard would have no mean.
    history = made.fit(batch(9).astype("float32"), batch_size=4, verbose=0).history
    weights = [np.array(w) for w in made.weights]
    assert all(np.isfinite(w).all() for w in [history["nll"], *weights])


def test_each_shard_drops_values_of_its_own():
    made = model(2, tfpf.spline_flow, dropout=0.5)
    for weight in made.trainable_weights:
        weight.assign(np.random.default_rng(0).normal(size=weight.shape))
    first, second = np.array(made(np.ones((2, 3)), training=True))
    assert first != second
    first, second = np.array(made(np.ones((2, 3))))
    assert first == second


def test_flow_matching_learns_in_shards():
    keras.utils.set_random_seed(0)
    made = tfpf.FlowMatchingModel(tfpf.ffjord((2,), hidden_units=(16,)), seed=1)
    made.compile(tfpf.optimizer(0.01), shards=2)
    x = (batch(256, 2) + 3.0).astype("float32")
    history = made.fit(x, epochs=5, verbose=0).history["flow_matching"]
    assert history[-1] < history[0]


def test_shards_are_not_saved_and_old_files_are_read(tmp_path):
    x = batch(8).astype("float32")
    made = model(2, dtype="float32")
    made.optimizer.build(made.trainable_variables)
    made.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(made.predict(x), loaded.predict(x), rtol=1e-6)
    assert loaded.compiled
    config = made.get_config()
    assert config["written_by"] == f"tfp_flows {tfpf.__version__}"
    assert "shards" not in config
    del config["written_by"]
    tfpf.FlowModel.from_config(config | {"lanes": 2})


def test_bad_shards_and_losses():
    with pytest.raises(ValueError, match="`shards` must be an integer of at least 1"):
        model(0)
    with pytest.raises(ValueError, match="`loss` must be None: the model minimizes"):
        model().compile("adam", "mse")
