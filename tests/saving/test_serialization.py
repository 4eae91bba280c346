"""Saving: the whole distribution comes back, bit for bit, or a clear error."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_flows as tfpf
from tfp_flows.saving import deserialize, serialize

tfb, tfd = tfp.bijectors, tfp.distributions

X = np.random.default_rng(0).normal(size=(200, 4)).astype("float32")


def mixed_chain():
    shared = tf.Variable([0.5, 1.0, 1.5, 2.0], name="shared")
    net = tfpf.nets.MLP((8,), activation="tanh", residual=True)
    return tfd.TransformedDistribution(
        tfd.MultivariateNormalDiag(loc=shared, scale_diag=tf.ones(4)),
        tfb.Chain(
            [
                tfb.Shift(shared),
                tfpf.AdditiveCoupling(tfpf.masks.indices(4, [0, 2]), net),
                tfb.Reshape([4], event_shape_in=[2, 2]),
                tfb.Invert(tfb.Softplus(hinge_softness=2.0)),
                tfb.Reshape([2, 2], event_shape_in=[4]),
            ]
        ),
    )


FLOWS = {
    "nice": lambda: tfpf.nice((4,), hidden_units=(8,)),
    "real_nvp": lambda: tfpf.real_nvp(
        (4,), couplings=3, hidden_units=(8,), dropout=0.1
    ),
    "glow": lambda: tfpf.glow((4,), steps=2, hidden_units=(8,)),
    "image": lambda: tfpf.real_nvp(
        (2, 2, 1), hidden_channels=4, preprocess=tfpf.logit(17)
    ),
    "mixed": mixed_chain,
    "plain": lambda: tfd.MultivariateNormalTriL(
        tf.Variable(tf.zeros(4)),
        tfp.util.TransformedVariable(tf.eye(4), tfb.FillScaleTriL()),
    ),
    "mixture": lambda: tfd.MixtureSameFamily(
        tfd.Categorical(logits=tf.Variable([0.0, 1.0])),
        tfd.MultivariateNormalDiag(tf.Variable(tf.random.normal([2, 4]))),
    ),
}


def batch_for(flow, n=32):
    uniform = np.random.default_rng(1).uniform(0.5, 16, (n, *flow.event_shape))
    return uniform.astype("float32")


@pytest.mark.parametrize("name", FLOWS)
def test_log_prob_is_bit_equal_after_loading(name, tmp_path):
    flow = FLOWS[name]()
    for variable in flow.trainable_variables:
        noise = 0.1 * np.random.default_rng(2).normal(size=variable.shape)
        variable.assign_add(tf.cast(noise, variable.dtype))
    tfpf.save_distribution(flow, tmp_path / "flow.keras")
    loaded = tfpf.load_distribution(tmp_path / "flow.keras")
    x = batch_for(flow)
    np.testing.assert_array_equal(flow.log_prob(x), loaded.log_prob(x))
    assert len(loaded.trainable_variables) == len(flow.trainable_variables)
    assert [p.name for p in tmp_path.iterdir()] == ["flow.keras"]


def test_training_goes_on_as_if_never_stopped(tmp_path):
    def fresh():
        keras.utils.set_random_seed(3)
        model = tfpf.FlowModel(tfpf.real_nvp((4,), couplings=2, dropout=0.2))
        model.compile(optimizer=keras.optimizers.Adam(0.01))
        model.adapt(X)
        return model

    def train(model):
        return model.fit(X, epochs=1, shuffle=False, verbose=0)

    straight = fresh()
    train(straight)
    train(straight)
    stopped = fresh()
    train(stopped)
    stopped.save(tmp_path / "half.keras")
    resumed = keras.models.load_model(tmp_path / "half.keras")
    train(resumed)
    for a, b in zip(straight.get_weights(), resumed.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_tf_checkpoint_restores_all(tmp_path):
    first, second = FLOWS["mixed"](), FLOWS["mixed"]()
    tf.train.Checkpoint(flow=first).write(str(tmp_path / "ckpt"))
    tf.train.Checkpoint(flow=second).read(str(tmp_path / "ckpt")).assert_consumed()
    x = batch_for(first)
    np.testing.assert_array_equal(first.log_prob(x), second.log_prob(x))


def test_shared_parts_stay_shared():
    flow = deserialize(json.loads(json.dumps(serialize(mixed_chain()))))
    assert flow.distribution.loc is flow.bijector.bijectors[0].shift


def test_description_is_plain_json_without_values_of_weights():
    text = json.dumps(serialize(tfpf.glow((4,), steps=2)))
    assert "lambda" not in text
    assert len(text) < 20_000


class Unregistered(tfb.Bijector):
    def __init__(self):
        super().__init__(forward_min_event_ndims=0, parameters={})


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (Unregistered, "unregistered class 'Unregistered'"),
        (
            lambda: tfb.Inline(forward_fn=lambda x: x, forward_min_event_ndims=0),
            "forward_fn is a lambda",
        ),
        (
            lambda: tfpf.AdditiveCoupling(
                tfpf.masks.half(4), keras.layers.Lambda(lambda x: x)
            ),
            "lambda",
        ),
    ],
)
def test_what_cannot_be_saved_is_named(part, message, tmp_path):
    flow = tfd.TransformedDistribution(tfd.Sample(tfd.Normal(0.0, 1.0), 4), part())
    with pytest.raises((TypeError, ValueError), match=message):
        tfpf.save_distribution(flow, tmp_path / "flow.keras")
    assert list(tmp_path.iterdir()) == []


def wave(x):
    return tf.sin(x)


def relu(x):
    return tf.sin(x)


def network(layer):
    return keras.Sequential([keras.Input((2,)), layer])


class Own(keras.layers.Dense):
    pass


@keras.saving.register_keras_serializable(package="tests")
class HoldsCode(tfpf.nets.MLP):
    """Has code in it that Keras does not write."""

    def build_network(self, *shapes, **kwargs):
        super().build_network(*shapes, **kwargs)
        self.inner = keras.layers.Dense(4, activation=wave)
        self.inner.build((None, 4))


CODE = {
    "lambda": lambda: tfpf.real_nvp((4,), hidden_units=(4,), activation=lambda v: v),
    "maf": lambda: tfpf.maf((4,), hidden_units=(4,), activation=wave),
    "ffjord": lambda: tfpf.ffjord((4,), hidden_units=(4,), activation=wave),
    "glow": lambda: tfpf.glow(
        (4, 4, 1), levels=1, steps=1, hidden_channels=4, activation=wave
    ),
    "a name of Keras's": lambda: tfpf.nice((4,), hidden_units=(4,), activation=relu),
    "encoder": lambda: encoded(keras.layers.Dense(2, activation=wave)),
    "inside": lambda: encoded(network(keras.layers.Dense(2, activation=wave))),
    "Lambda": lambda: encoded(network(keras.layers.Lambda(wave))),
    "initializer": lambda: encoded(
        keras.layers.Dense(2, kernel_initializer=lambda shape, dtype: tf.ones(shape))
    ),
    "class": lambda: encoded(network(Own(2))),
}


def encoded(encoder):
    return tfpf.nice((4,), hidden_units=(4,), condition_shape=(2,), encoder=encoder)


@pytest.mark.parametrize("name", CODE)
def test_code_in_a_network_is_refused_before_anything_is_written(name, tmp_path):
    model = tfpf.FlowModel(CODE[name]())
    with pytest.raises(TypeError, match=r"is a lambda|'wave'|'relu'|'Own'"):
        model.save(tmp_path / "flow.keras")
    assert list(tmp_path.iterdir()) == []


def test_code_in_other_networks_of_a_model_is_refused(tmp_path):
    scored = tfpf.FlowModel(tfpf.nice((2,), hidden_units=(4,)))
    scored.anomaly_scorer = network(keras.layers.Dense(2, activation=lambda v: v))
    with pytest.raises(TypeError, match=r"anomaly_scorer\.activation is a lambda"):
        scored.save(tmp_path / "flow.keras")
    layers = [keras.layers.Flatten(), keras.layers.Dense(4, activation=lambda v: v)]
    encoder = keras.Sequential([keras.Input((8, 8, 1)), *layers])
    with pytest.raises(TypeError, match=r"encoder\.activation is a lambda"):
        tfpf.latent.LatentVAE((8, 8, 1), latent_dim=2, encoder=encoder).save(
            tmp_path / "vae.keras"
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("activation", [tf.nn.relu, tf.tanh, keras.ops.relu, "gelu"])
def test_functions_that_keras_knows_by_name_are_saved(activation, tmp_path):
    net = HoldsCode((4,), activation=activation)
    flow = flow_with(net)
    tfpf.save_distribution(flow, tmp_path / "flow.keras")
    loaded = tfpf.load_distribution(tmp_path / "flow.keras")
    np.testing.assert_array_equal(flow.log_prob(X), loaded.log_prob(X))


def flow_with(net):
    base = tfd.Sample(tfd.Normal(0.0, 1.0), 4)
    coupling = tfpf.AdditiveCoupling(tfpf.masks.half(4), net)
    return tfd.TransformedDistribution(base, coupling)


def test_a_class_that_is_not_registered_here_is_named():
    description = serialize(tfpf.ActNorm(2))
    description["class"] = "elsewhere>Missing"
    with pytest.raises(ValueError, match="'elsewhere>Missing'"):
        deserialize(description)
    with pytest.raises(ValueError, match="unknown kind"):
        deserialize({"kind": "pickle"})


def test_damaged_and_missing_files_are_named(tmp_path):
    path = tmp_path / "flow.keras"
    with pytest.raises(ValueError, match="must name a file"):
        tfpf.load_distribution(path)
    tfpf.save_distribution(tfpf.nice((4,), couplings=2, hidden_units=(4,)), path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"flow\.keras is not a whole"):
        tfpf.load_distribution(path)
    path.write_bytes(whole[:300] + bytes(64) + whole[364:])
    with pytest.raises(ValueError, match=r"flow\.keras"):
        tfpf.load_distribution(path)
    with pytest.raises(ValueError, match="must end in '.keras'"):
        tfpf.save_distribution(tfd.Normal(0.0, 1.0), tmp_path / "flow.h5")
