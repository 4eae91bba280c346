"""`EquivariantVelocity` and `UNet`: inverses, symmetries; particles of mean 0."""

import math

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_flows as tfpf
from tfp_flows.testing.subject import perturb

tfd = tfp.distributions


def flow(net, shape, steps=6, **options):
    solver = tfpf.FixedStep("rk4", steps)
    return tfpf.ContinuousFlow(net, shape, solver=solver, dtype="float64", **options)


NETS = {
    "particles": (tfpf.nets.EquivariantVelocity, {"width": 3}, (3, 2)),
    "unet": (tfpf.nets.UNet, {"channels": (2, 3)}, (4, 2, 1)),
}


@pytest.mark.parametrize("name", NETS)
def test_flows_there_and_back_and_through_files(name, tmp_path):
    kind, options, shape = NETS[name]
    made = perturb(flow(kind(**options, dtype="float64"), shape), 0.1)
    x = tf.constant(np.random.default_rng(0).normal(size=(2, *shape)))

    @tf.function(autograph=False)
    def there_and_back(x):
        return made.inverse(made.forward(x) + 0.0)

    np.testing.assert_allclose(there_and_back(x), x, atol=1e-6)
    time = tf.constant(0.3, tf.float64)
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(tf.sin(made.velocity_at(time, x)))
    gradients = tape.gradient(total, made.trainable_variables)
    assert all(np.abs(gradient).max() > 0 for gradient in gradients)
    tfpf.save_bijector(made, tmp_path / "flow.keras")
    again = tfpf.load_bijector(tmp_path / "flow.keras")
    np.testing.assert_array_equal(again.velocity_at(time, x), made.velocity_at(time, x))


@pytest.mark.parametrize("name", NETS)
def test_sees_time_and_condition(name):
    kind, options, shape = NETS[name]
    net = kind(**options)
    net.connect(shape, shape, (2,))
    perturb(net, 0.5)
    x, zero = tf.random.stateless_normal([2, *shape], [1, 2]), tf.zeros([2, 2])
    one = net(x, time=0.0, condition=zero)
    for other in (
        net(x, time=1.0, condition=zero),
        net(x, time=0.0, condition=zero + 1),
    ):
        assert np.abs(other - one).max() > 1e-3
    at = net(x, time=tf.constant([0.0, 1.0]), condition=zero)
    np.testing.assert_allclose(at[0], one[0], atol=1e-6)


def particles():
    net = tfpf.nets.EquivariantVelocity(width=4, dtype="float64")
    base = tfpf.bases.mean_free_normal((4, 3), dtype="float64")
    return tfd.TransformedDistribution(base, perturb(flow(net, (4, 3), 1), 0.5))


def test_the_density_of_particles_knows_no_order_and_no_direction():
    made = particles()
    x = made.sample(5, seed=1)
    np.testing.assert_allclose(tf.reduce_mean(x, axis=-2), 0.0, atol=1e-14)
    density = made.log_prob(x + 0)
    assert np.std(density) > 0.1
    rotation = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0]
    turned = tf.gather(x, [2, 0, 3, 1], axis=1) @ rotation
    np.testing.assert_allclose(made.log_prob(turned), density, atol=1e-10)
    np.testing.assert_array_equal(made.log_prob(x + [0.1, 0.0, 0.0]), -np.inf)


def test_a_mean_free_normal_has_the_density_by_volume_of_its_subspace():
    base = tfpf.bases.mean_free_normal((2, 1), dtype="float64")
    # Two particles at a and -a: a point at sqrt(2) a of a line.
    a = tf.constant([[[0.3], [-0.3]]], tf.float64)
    expected = -0.5 * (2 * 0.3**2) - 0.5 * math.log(2 * math.pi)
    np.testing.assert_allclose(base.log_prob(a), [expected])


@pytest.mark.parametrize("axis", [-1, -2])
def test_sums_are_zero_and_lengths_are_kept(axis):
    x = np.random.default_rng(2).normal(size=(5, 4, 3))
    bijector = tfpf.ZeroSum(axis, dtype="float64")
    y = bijector.forward(x)
    np.testing.assert_allclose(tf.reduce_sum(y, axis), 0.0, atol=1e-14)
    np.testing.assert_allclose(bijector.inverse(tf.identity(y)), x, atol=1e-14)
    axes = tuple(range(axis, 0))
    np.testing.assert_allclose(np.sum(y**2, axes), np.sum(x**2, axes))
    assert bijector.forward_event_shape(x.shape[axis:]) == y.shape[axis:]


def test_energies_of_particles():
    pair = tf.constant([[0.0, 0.0], [0.0, 1.0]], tf.float64)
    held = 0.25  # two particles, half a unit off the centre
    np.testing.assert_allclose(tfpf.data.lennard_jones(pair), -1.0 + held)
    np.testing.assert_allclose(tfpf.data.double_well(4.0 * pair), 0.0)
    well = 4.0 + math.sqrt(4.0 / 1.8)
    np.testing.assert_allclose(tfpf.data.double_well(well * pair), -(4.0**2) / 3.6)
    with tf.GradientTape() as tape:
        tape.watch(pair)
        energy = tfpf.data.lennard_jones(pair, trap=0.0)
    np.testing.assert_allclose(tape.gradient(energy, pair), 0.0, atol=1e-12)


def test_a_unet_wants_sides_that_it_can_halve():
    with pytest.raises(ValueError, match="sides that 4 divides"):
        tfpf.ContinuousFlow(tfpf.nets.UNet((2, 2, 2)), (4, 6, 1))
