"""A model carries any Keras layer as its anomaly scorer."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfp_flows as tfpf


@keras.saving.register_keras_serializable(package="tfp_flows_tests")
class Weighted(keras.layers.Layer):
    """A scorer with a weight of its own."""

    def __init__(self, **kwargs):
        super().__init__(**{"trainable": False, **kwargs})
        self.factor = self.add_weight((3,), "ones", trainable=False)
        self.built = True

    def call(self, x, log_prob, latent):
        return -log_prob * self.factor[0]


@pytest.fixture
def model():
    return tfpf.FlowModel(tfpf.real_nvp((2,), couplings=2, hidden_units=(4,)))


def test_is_saved_with_its_weights(model, tmp_path):
    model.anomaly_scorer = Weighted()
    model.anomaly_scorer.factor.assign([2.0, 3.0, 4.0])
    model.save(tmp_path / "flow.keras")
    loaded = keras.models.load_model(tmp_path / "flow.keras")
    np.testing.assert_array_equal(loaded.anomaly_scorer.factor, [2.0, 3.0, 4.0])
    # A loaded model can be given another one.
    loaded.anomaly_scorer = Weighted()
    np.testing.assert_array_equal(loaded.anomaly_scorer.factor, [1.0, 1.0, 1.0])


SUBCLASSES = {
    "text": lambda: tfpf.text.TextFlow("ab ", 4, units=(4,), features=4),
    "table": lambda: tfpf.tables.TableFlow(
        tfpf.tables.Schema.infer({"x": np.arange(12.5), "kind": ["a", "b"] * 6 + ["a"]})
    ),
    "matching": lambda: tfpf.FlowMatchingModel(tfpf.ffjord((2,), hidden_units=(4,))),
}


@pytest.mark.parametrize("kind", SUBCLASSES)
def test_every_kind_of_model_keeps_it(kind, tmp_path):
    made = SUBCLASSES[kind]()
    made.anomaly_scorer = Weighted()
    made.anomaly_scorer.factor.assign([2.0, 3.0, 4.0])
    made.save(tmp_path / "flow.keras")
    loaded = keras.models.load_model(tmp_path / "flow.keras")
    assert type(loaded) is type(made)
    np.testing.assert_array_equal(loaded.anomaly_scorer.factor, [2.0, 3.0, 4.0])


def test_a_model_without_one_says_nothing_of_it(model):
    assert model.anomaly_scorer is None
    assert "anomaly_scorer" not in model.get_config()


def test_a_replaced_scorer_takes_its_weights_with_it(model, tmp_path):
    weights = len(model.weights)
    model.anomaly_scorer = Weighted()
    model.anomaly_scorer = Weighted()
    assert len(model.weights) == weights + 1
    model.anomaly_scorer = None
    assert len(model.weights) == weights
    model.save(tmp_path / "flow.keras")
    loaded = keras.models.load_model(tmp_path / "flow.keras")
    assert loaded.anomaly_scorer is None
    x = tf.constant([[0.1, 0.2]])
    np.testing.assert_array_equal(
        loaded.distribution.log_prob(x), model.distribution.log_prob(x)
    )


def test_a_trained_model_takes_one_up(model):
    x = np.random.default_rng(0).normal(size=(16, 2)).astype("float32")
    model.compile(optimizer="adam")
    model.fit(x, verbose=0)
    trainable = len(model.trainable_weights)
    model.anomaly_scorer = Weighted()
    assert len(model.trainable_weights) == trainable
    model.fit(x, verbose=0)


def test_other_objects_are_refused(model):
    with pytest.raises(TypeError, match="`anomaly_scorer` must be a Keras layer"):
        model.anomaly_scorer = "nll"
