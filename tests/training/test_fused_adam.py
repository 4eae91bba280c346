"""`FusedAdam` is Keras's Adam; test_distributed.py trains replicas with it."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfp_flows.training.optimizers import FusedAdam, FusedAdamW

PAIRS = [
    (keras.optimizers.Adam, FusedAdam, {}),
    (keras.optimizers.Adam, FusedAdam, {"beta_1": 0.5, "epsilon": 1e-3}),
    (keras.optimizers.Adam, FusedAdam, {"amsgrad": True}),
    (keras.optimizers.Adam, FusedAdam, {"global_clipnorm": 0.3, "use_ema": True}),
    (keras.optimizers.Adam, FusedAdam, {"gradient_accumulation_steps": 2}),
    (keras.optimizers.AdamW, FusedAdamW, {"weight_decay": 0.1}),
]


def after_ten_steps(kind, arguments, jit, dtype="float64"):
    weights = [
        keras.Variable(np.random.default_rng(0).normal(size=(5, 3)), dtype=dtype),
        keras.Variable(np.ones(3), dtype=dtype),
    ]
    rate = keras.optimizers.schedules.CosineDecay(0.01, 20)
    optimizer = kind(rate, **arguments)
    optimizer.build(weights)

    def step():
        optimizer.apply([tf.sin(7 * w.value) + w.value for w in weights], weights)

    run = step if jit is None else tf.function(step, jit_compile=jit)
    for _ in range(10):
        run()
    return [v.numpy() for v in (*weights, *optimizer.variables)]


@pytest.mark.parametrize("jit", [None, False, True])
@pytest.mark.parametrize(("keras_kind", "kind", "arguments"), PAIRS)
def test_equals_keras(keras_kind, kind, arguments, jit):
    """To what Keras loses where it rounds the betas to float32."""
    ours = after_ten_steps(kind, arguments, jit)
    for mine, theirs in zip(
        ours, after_ten_steps(keras_kind, arguments, jit), strict=True
    ):
        np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-5)


def test_one_operation_a_weight():
    def operations(kind):
        weight = keras.Variable(np.ones(3))
        optimizer = kind()
        optimizer.build([weight])
        step = tf.function(lambda: optimizer.apply([weight.value], [weight]))
        return [o.type for o in step.get_concrete_function().graph.get_operations()]

    ours = operations(FusedAdam)
    assert ours.count("ResourceApplyAdam") == 1
    assert "AssignSubVariableOp" not in ours
    assert len(operations(keras.optimizers.Adam)) - len(ours) > 20


def test_sparse_gradients_are_left_to_keras():
    def trained(kind):
        keras.utils.set_random_seed(0)
        layer = keras.layers.Embedding(4, 2)
        layer.build(())
        optimizer = kind(0.1)
        optimizer.build(layer.trainable_variables)
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(layer(tf.constant([1, 2, 1])) ** 2)
        (table,) = layer.trainable_variables
        gradient = tape.gradient(loss, table.value)
        assert isinstance(gradient, tf.IndexedSlices)
        optimizer.apply([gradient], [table])
        return table.numpy()

    ours = trained(FusedAdam)
    np.testing.assert_allclose(ours, trained(keras.optimizers.Adam), rtol=1e-6)


@pytest.mark.parametrize("kind", [FusedAdam, FusedAdamW])
def test_goes_through_a_config(kind):
    saved = keras.saving.serialize_keras_object(kind(0.25, beta_1=0.5))
    loaded = keras.saving.deserialize_keras_object(saved)
    assert type(loaded) is kind
    assert loaded.beta_1 == 0.5
    assert float(loaded.learning_rate) == 0.25
