"""`Residual`: its bound, its estimate of the log-det, its inverse far out."""

import numpy as np
import pytest
import tensorflow as tf

import tfp_flows as tfpf
from tfp_flows.nets.lipschitz import conv_norm_bound, norm_bound
from tfp_flows.testing.subject import perturb

Y = np.random.default_rng(0).normal(size=(3, 3))


def made(lipschitz=0.8, **options):
    net = tfpf.nets.LipschitzMLP((8,), lipschitz=lipschitz, dtype="float64")
    return perturb(tfpf.Residual(net, 3, dtype="float64", **options), 1.0)


@pytest.mark.parametrize("shape", [(64, 64), (2, 64), (64, 2), (1, 1)])
def test_the_bound_is_above_the_norm_and_close_to_it(shape):
    matrix = np.random.default_rng(1).normal(size=shape)
    found, norm = float(norm_bound(tf.constant(matrix))), np.linalg.norm(matrix, 2)
    assert norm * (1.0 - 1e-12) <= found <= 1.01 * norm
    rotation = np.linalg.qr(matrix)[0]  # the worst that there is
    assert 1.0 - 1e-12 <= float(norm_bound(tf.constant(rotation))) < 1.04
    assert float(norm_bound(tf.zeros(shape))) < 1e-6


@pytest.mark.parametrize("side", [1, 3, 5])
def test_the_bound_of_a_convolution_is_above_its_norm_and_close_to_it(side):
    kernel = np.random.default_rng(1).normal(size=(side, side, 2, 3))
    image = tf.reshape(tf.eye(8 * 8 * 2, dtype=tf.float64), [-1, 8, 8, 2])
    matrix = tf.reshape(tf.nn.conv2d(image, kernel, 1, "SAME"), [128, -1])
    found, norm = float(conv_norm_bound(tf.constant(kernel))), np.linalg.norm(matrix, 2)
    assert norm * (1.0 - 1e-12) <= found <= 1.5 * norm


@pytest.mark.parametrize("activation", ["sin", "lipswish", "tanh"])
def test_outputs_are_no_further_apart_than_the_bound_allows(activation):
    net = tfpf.nets.LipschitzMLP((16, 16), activation, 0.5)
    net.connect((4,), (4,))
    perturb(net, 3.0)
    x = tf.random.stateless_normal([400, 4], [1, 2], stddev=2.0)
    near = x + tf.random.stateless_normal([400, 4], [3, 4], stddev=0.1)
    apart = tf.norm(net(x) - net(near), axis=-1) / tf.norm(x - near, axis=-1)
    assert 0.01 < float(tf.reduce_max(apart)) < 0.5


def log_det_and_gradients(bijector, y):
    kernel = bijector.net.trainable_weights[0].value
    with tf.GradientTape() as tape:
        tape.watch(y)
        log_det = bijector.inverse_and_log_det(y)[1]
        total = tf.reduce_sum(log_det)
    return log_det, *tape.gradient(total, [kernel, y])


def test_the_estimate_has_the_mean_and_the_gradient_of_the_exact_log_det():
    exact = made()
    estimate = exact.copy(log_det="estimate", terms=1)
    assert estimate.net is exact.net
    n, draws = 400, 40
    log_det, kernel, at = log_det_and_gradients(exact, tf.constant(Y))
    many, found = tf.repeat(tf.constant(Y), n, 0), []
    for seed in range(draws):
        estimate._roulette.seed = seed
        log_dets, kernels, ats = log_det_and_gradients(estimate, many)
        means = [np.mean(np.reshape(v, (3, n, -1)), 1) for v in (log_dets, ats)]
        found.append((means[0][:, 0], np.array(kernels) / n, means[1]))
    for several, value in zip(
        zip(*found, strict=True), (log_det, kernel, at), strict=True
    ):
        spread = np.std(several, 0) / draws**0.5 + 1e-12
        assert np.max(np.abs(np.mean(several, 0) - value) / spread) < 5.0
    # Without training a density is a function of its batch.
    np.testing.assert_array_equal(
        estimate.inverse_log_det_jacobian(Y, 1),
        estimate.inverse_log_det_jacobian(Y.copy(), 1),
    )


def test_inverts_at_the_slowest_rate_and_far_from_the_data():
    bijector = made(0.97)
    x = tf.constant(Y * [[1.0], [1e3], [1e6]])
    y = bijector.forward(x)
    np.testing.assert_allclose(bijector.inverse(tf.identity(y)), x, rtol=1e-10)
    lost = bijector.forward([[np.nan, 0.0, 0.0], [1.0, 2.0, 3.0]])
    assert np.all(np.isfinite(lost[1]))


@pytest.mark.parametrize(
    ("arguments", "error", "name"),
    [
        ({"net": tfpf.nets.MLP((4,))}, TypeError, "net"),
        ({"log_det": "approximate"}, ValueError, "log_det"),
        ({"terms": 0}, ValueError, "terms"),
    ],
)
def test_names_the_argument_that_is_wrong(arguments, error, name):
    arguments = {"net": tfpf.nets.LipschitzMLP((4,)), "event_shape": 2, **arguments}
    with pytest.raises(error, match=f"`{name}`.*Received"):
        tfpf.Residual(**arguments)


def test_a_block_autoregressive_flow_reaches_far_latents():
    bijector = perturb(tfpf.BlockAutoregressive(3, (4, 4), dtype="float64"))
    x = tf.constant(Y * [[1.0], [1e2], [1e5]])
    y = tf.function(bijector.forward, autograph=False)(x)
    np.testing.assert_allclose(bijector.inverse(tf.identity(y)), x, rtol=1e-9)
