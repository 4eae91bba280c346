"""`tf.train.Checkpoint` stores and restores flows, models and optimizers."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_flows as tfpf

tfb, tfd = tfp.bijectors, tfp.distributions

X = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")


def hand_made():
    """A flow of Keras layers, raw variables and a transformed variable."""
    step = tfb.Chain(
        [
            tfpf.ActNorm(4),
            tfpf.AdditiveCoupling(tfpf.masks.half(4), tfpf.nets.MLP((8,))),
        ]
    )
    scale = tfp.util.TransformedVariable(tf.ones(4), tfb.Softplus())
    return tfd.TransformedDistribution(
        tfd.MultivariateNormalDiag(tf.Variable(tf.zeros(4)), scale),
        tfb.Chain([tfb.Shift(tf.Variable(tf.zeros(4))), tfpf.Repeat(step, 2)]),
    )


FLOWS = {
    "glow": lambda: tfpf.glow((4,), steps=2, hidden_units=(8,)),
    "dropout": lambda: tfpf.real_nvp((4,), couplings=2, hidden_units=(8,), dropout=0.2),
    "hand_made": hand_made,
    "plain": lambda: tfd.MultivariateNormalDiag(
        tf.Variable(tf.zeros(4)), tfp.util.TransformedVariable(tf.ones(4), tfb.Exp())
    ),
}


def compiled(name):
    model = tfpf.FlowModel(FLOWS[name]())
    model.compile(optimizer=keras.optimizers.Adam(0.01))
    return model


def train(model, epochs=2):
    model.fit(X, batch_size=32, epochs=epochs, shuffle=False, verbose=0)
    return model


@pytest.mark.parametrize("name", FLOWS)
def test_a_model_goes_on_from_a_checkpoint_as_if_never_stopped(name, tmp_path):
    trained = train(compiled(name))
    path = tf.train.Checkpoint(model=trained).write(str(tmp_path / "ckpt"))

    keras.utils.set_random_seed(5)
    fresh = compiled(name)
    fresh.optimizer.build(fresh.trainable_variables)
    assert not np.array_equal(
        fresh.distribution.log_prob(X), trained.distribution.log_prob(X)
    )
    status = tf.train.Checkpoint(model=fresh).read(path)
    status.assert_existing_objects_matched()
    np.testing.assert_array_equal(
        fresh.distribution.log_prob(X), trained.distribution.log_prob(X)
    )
    for restored, stored in zip(
        fresh.optimizer.variables, trained.optimizer.variables, strict=True
    ):
        np.testing.assert_array_equal(restored, stored)

    train(fresh)
    train(trained)
    for a, b in zip(fresh.get_weights(), trained.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", FLOWS)
def test_a_flow_alone_is_restored(name, tmp_path):
    stored, fresh = FLOWS[name](), FLOWS[name]()
    for variable in stored.trainable_variables:
        noise = np.random.default_rng(2).normal(size=variable.shape)
        variable.assign_add(tf.cast(0.1 * noise, variable.dtype))
    path = tf.train.Checkpoint(flow=stored).write(str(tmp_path / "ckpt"))
    tf.train.Checkpoint(flow=fresh).read(path).assert_consumed()
    np.testing.assert_array_equal(fresh.log_prob(X), stored.log_prob(X))


def small():
    return tfpf.nice((2,), hidden_units=(4,))


def joint_of_functions():
    root = tfd.JointDistributionCoroutine.Root(small())
    return tfd.JointDistributionCoroutine(lambda: (yield root))


JOINTS = {
    "blockwise": lambda: tfd.Blockwise([small(), small()]),
    "model": lambda: tfpf.FlowModel(JOINTS["blockwise"]()),
    "sequential": lambda: tfd.JointDistributionSequential(
        [small(), lambda z: tfd.Normal(z[..., 0], 1.0)]
    ),
    "coroutine": joint_of_functions,
}


@pytest.mark.parametrize("used", [True, False])
@pytest.mark.parametrize("name", JOINTS)
def test_joint_distributions_are_restored(name, used, tmp_path):
    stored, fresh = JOINTS[name](), JOINTS[name]()
    for variable in stored.trainable_variables:
        variable.assign(variable + 1.0)
    if used:
        for one in (stored, fresh):
            one.sample(2, seed=(0, 1))
    path = tf.train.Checkpoint(flow=stored).write(str(tmp_path / "ckpt"))
    tf.train.Checkpoint(flow=fresh).read(path).assert_consumed()
    assert fresh.variables
    for a, b in zip(fresh.variables, stored.variables, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_manager_keeps_the_newest(tmp_path):
    model = compiled("plain")
    step = tf.Variable(0)
    checkpoint = tf.train.Checkpoint(model=model, step=step)
    manager = tf.train.CheckpointManager(checkpoint, str(tmp_path), max_to_keep=2)
    losses = []
    for _ in range(3):
        train(model, 1)
        step.assign_add(1)
        losses.append(np.mean(model.distribution.log_prob(X)))
        manager.save()
    assert len(manager.checkpoints) == 2
    train(model, 1)
    checkpoint.restore(manager.latest_checkpoint)
    assert step == 3
    assert np.mean(model.distribution.log_prob(X)) == losses[-1]
