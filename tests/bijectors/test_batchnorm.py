"""`BatchNorm`: laws at rest, and what moves while Keras trains."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_flows as tfpf

tfb = tfp.bijectors

Y = np.random.default_rng(0).normal(3.0, 2.0, (50, 4, 3))


class Calling(keras.layers.Layer):
    """Runs the density direction inside a Keras call."""

    def __init__(self, bijector):
        super().__init__(dtype="float64")
        self.bijector = bijector
        self.built = True

    def call(self, y):
        x = self.bijector.inverse(y)
        return x, self.bijector.inverse_log_det_jacobian(y, y.shape.rank - 1)


def test_laws(laws):
    norm = tfpf.BatchNorm(3, dtype="float64")
    norm.adapt(Y)
    laws(norm, Y[:, 0])


def test_adapt_normalizes():
    norm = tfpf.BatchNorm(3, dtype="float64")
    assert not norm.is_adapted
    latents = norm.adapt(Y)
    assert norm.is_adapted
    np.testing.assert_allclose(np.mean(latents, (0, 1)), 0.0, atol=1e-10)
    np.testing.assert_allclose(np.std(latents, (0, 1)), 1.0, atol=1e-5)


def test_training_calls_use_and_move_the_statistics():
    norm = tfpf.BatchNorm(3, momentum=0.75, epsilon=1e-5, dtype="float64")
    x, ildj = Calling(norm)(Y, training=True)
    mean = 0.25 * Y.mean((0, 1))
    variance = 0.75 + 0.25 * Y.var((0, 1))
    np.testing.assert_allclose(x, (Y - mean) / np.sqrt(variance + 1e-5), rtol=1e-10)
    np.testing.assert_allclose(ildj, -2.0 * np.sum(np.log(variance + 1e-5)), rtol=1e-10)
    means, variances = norm.variables[:2]
    np.testing.assert_allclose(means, mean, rtol=1e-12)
    np.testing.assert_allclose(variances, variance, rtol=1e-12)


def test_without_momentum_it_is_plain_batch_normalization():
    norm = tfpf.BatchNorm(3, momentum=0.0, dtype="float64")
    theirs = keras.layers.BatchNormalization(
        center=False, scale=False, epsilon=1e-5, dtype="float64"
    )
    x, _ = Calling(norm)(Y, training=True)
    np.testing.assert_allclose(x, theirs(Y, training=True), atol=1e-10)


def test_nothing_moves_outside_training():
    norm = tfpf.BatchNorm(3, dtype="float64")
    before = [v.numpy() for v in norm.variables]
    calling = Calling(norm)
    x = norm.inverse(Y)
    calling(Y + 0)
    calling(Y + 0, training=False)
    for old, new in zip(before, norm.variables, strict=True):
        np.testing.assert_array_equal(old, new)
    np.testing.assert_allclose(norm.forward(tf.identity(x)), Y, atol=1e-12)


def test_sampling_never_uses_batch_statistics():
    norm = tfpf.BatchNorm(3, dtype="float64")

    class Sampling(Calling):
        def call(self, x):
            return self.bijector.forward(x)

    y = Sampling(norm)(Y, training=True)
    np.testing.assert_array_equal(y, norm.forward(Y + 0))


def test_gradients_flow_through_this_batch_only():
    norm = tfpf.BatchNorm(3, momentum=0.0, dtype="float64")
    y = tf.Variable(Y)
    with tf.GradientTape() as tape:
        x, ildj = Calling(norm)(y, training=True)
        loss = tf.reduce_sum(x * np.arange(3)) + ildj
    # Shifting a whole channel changes nothing that is normalized by its own mean.
    total = tf.reduce_sum(tape.gradient(loss, y), (0, 1))
    np.testing.assert_allclose(total, 0.0, atol=1e-9)
    assert norm.trainable_variables == ()


@pytest.mark.parametrize("repeated", [False, True])
def test_fit_moves_the_statistics_and_evaluation_does_not(repeated):
    keras.utils.set_random_seed(0)
    step = tfb.Chain(
        [
            tfpf.AffineCoupling(tfpf.masks.half(2), tfpf.nets.MLP((8,))),
            tfpf.BatchNorm(2, momentum=0.5),
        ]
    )
    flow = tfp.distributions.TransformedDistribution(
        tfp.distributions.Sample(tfp.distributions.Normal(0.0, 1.0), 2),
        tfpf.Repeat(step, 3) if repeated else step,
    )
    model = tfpf.FlowModel(flow)
    model.compile(optimizer=keras.optimizers.Adam(1e-3))
    rng = np.random.default_rng(0)
    first = rng.normal(0.0, 1.0, (64, 2)).astype("float32")
    model.adapt(first)
    state = [v.numpy() for v in model.non_trainable_variables]
    model.evaluate(first + 5.0, verbose=0)
    for old, new in zip(state, model.non_trainable_variables, strict=True):
        np.testing.assert_array_equal(old, new.numpy())
    model.fit(first + 5.0, batch_size=32, verbose=0)
    moved = [
        np.abs(old - new.numpy()).max()
        for old, new in zip(state, model.non_trainable_variables, strict=True)
        if old.dtype == "float32"
    ]
    assert min(moved) > 1e-2


def test_the_density_integrates_to_one():
    norm = tfpf.BatchNorm(1, dtype="float64")
    norm.adapt(np.random.default_rng(0).normal(2.0, 0.5, (100, 1)))
    base = tfp.distributions.Sample(
        tfp.distributions.Normal(tf.constant(0.0, tf.float64), 1.0), 1
    )
    flow = tfp.distributions.TransformedDistribution(base, norm)
    grid = np.linspace(-3.0, 7.0, 2001)[:, None]
    assert np.sum(np.exp(flow.log_prob(grid))) * 0.005 == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: tfpf.BatchNorm(0), "`channels` must be an integer of at least 1"),
        (lambda: tfpf.BatchNorm(2, momentum=1.0), "`momentum` must be a finite number"),
        (
            lambda: tfpf.BatchNorm(2, epsilon=0.0),
            "`epsilon` must be a finite",
        ),
        (
            lambda: tfpf.BatchNorm(2).inverse(np.zeros((3, 4), "f4")),
            "expected 2 channels",
        ),
    ],
)
def test_wrong_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
