"""`EncodedCondition`: one encoder for all parts of a flow."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_flows as tfpf
from tfp_flows.bijectors.conditional import EncodedCondition

tfb, tfd = tfp.bijectors, tfp.distributions

X = np.random.default_rng(0).normal(size=(4, 2))


@keras.saving.register_keras_serializable(package="tfp_flows_tests")
class CountingEncoder(keras.layers.Embedding):
    """An embedding that counts how often it is called."""

    calls = 0

    def call(self, inputs):
        self.calls += 1
        return super().call(inputs)


def encoded(encoder, condition_shape=(), d=3, dtype="float64"):
    net = tfpf.nets.MLP((6,), "tanh", dtype=dtype)
    step = tfpf.AffineCoupling(
        tfpf.masks.half(2), net, condition_shape=(d,), dtype=dtype
    )
    chain = tfb.Chain([tfpf.Repeat(step, 3), tfb.Scale(np.dtype(dtype).type(2.0))])
    return EncodedCondition(chain, encoder, condition_shape=condition_shape)


def test_laws_under_labels(laws):
    bijector = encoded(keras.layers.Embedding(5, 3, dtype="float64"))
    laws(bijector, X, condition=np.array([0, 3, 4, 0]), tolerance=1e-12)


def test_the_encoder_runs_once():
    encoder = CountingEncoder(5, 3, dtype="float64")
    bijector = encoded(encoder)
    flow = tfd.TransformedDistribution(
        tfd.Sample(tfd.Normal(np.float64(0), 1.0), [2]), bijector
    )
    bound = tfpf.condition(flow, [0, 1, 2, 3])
    encoder.calls = 0
    bound.log_prob(X)
    assert encoder.calls == 1


def test_weights_are_tracked_saved_and_trained(tmp_path):
    bijector = encoded(keras.layers.Embedding(5, 3), dtype="float32")
    assert len(bijector.trainable_variables) == 1 + 4
    flow = tfd.TransformedDistribution(tfd.Sample(tfd.Normal(0.0, 1.0), [2]), bijector)
    model = tfpf.FlowModel(flow)
    model.compile(optimizer="adam")
    model.distribution.bijector._bijector.bijectors[0]._stacked.stacks[2].assign_add(
        0.1 * np.ones((3, 6, 2))
    )
    table = np.array(bijector.encoder.embeddings)
    model.fit(X.astype("float32"), np.array([0, 1, 1, 0]), verbose=0)
    moved = np.any(np.array(bijector.encoder.embeddings) != table, axis=1)
    np.testing.assert_array_equal(moved, [True, True, False, False, False])
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    pair = (X.astype("float32"), np.array([4, 1, 2, 0]))
    np.testing.assert_array_equal(
        loaded.predict(pair, verbose=0), model.predict(pair, verbose=0)
    )


@pytest.mark.parametrize(
    ("encoder", "shape", "dtype", "labels"),
    [
        (lambda: keras.layers.Embedding(5, 3), (), tf.int32, 5),
        (
            lambda: keras.Sequential(
                [keras.layers.Embedding(7, 4), keras.layers.Dense(3)]
            ),
            (),
            tf.int32,
            7,
        ),
        (lambda: keras.layers.Dense(3), (9,), tf.float32, None),
        (
            lambda: keras.Sequential(
                [
                    keras.Input((4,), dtype="int32"),
                    keras.layers.CategoryEncoding(3, output_mode="multi_hot"),
                ]
            ),
            (4,),
            tf.int32,
            None,
        ),
    ],
    ids=["embedding", "labels and layers", "dense", "integers"],
)
def test_dtype_and_number_of_labels(encoder, shape, dtype, labels):
    bijector = encoded(encoder(), shape, dtype="float32")
    assert bijector.condition_dtype == dtype
    assert bijector.labels == labels
    c = np.zeros((4, *shape), "int64")
    assert bijector.forward(X.astype("float32"), condition=c).shape == (4, 2)


def test_adapt_reaches_the_inside():
    inner = encoded(keras.layers.Dense(3), (1,), dtype="float32").bijector
    chain = tfb.Chain([tfpf.ActNorm(2), inner])
    bijector = EncodedCondition(chain, keras.layers.Dense(3), condition_shape=(1,))
    flow = tfd.TransformedDistribution(tfd.Sample(tfd.Normal(0.0, 1.0), [2]), bijector)
    model = tfpf.FlowModel(flow)
    assert not model.is_adapted
    x = (5.0 + 2.0 * np.random.default_rng(1).normal(size=(200, 2))).astype("float32")
    model.adapt(x, np.ones((200, 1), "float32"))
    assert model.is_adapted
    normalized = chain.bijectors[0].inverse(x)
    np.testing.assert_allclose(np.mean(normalized, axis=0), 0.0, atol=1e-3)


@pytest.mark.parametrize(
    ("encoder", "shape", "message"),
    [
        (lambda: keras.layers.Conv2D(2, 3), (5,), "`encoder` must map"),
        (lambda: keras.layers.Flatten(), (None, 3), "of a fixed shape"),
    ],
)
def test_an_unfit_encoder_is_refused(encoder, shape, message):
    with pytest.raises(ValueError, match=message):
        encoded(encoder(), shape)
