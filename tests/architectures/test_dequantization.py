"""`Dequantized`: bounds against probabilities known in closed form, training."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_flows as tfpf
from tfp_flows.architectures.glow import dequantization_noise
from tfp_flows.distributions.surjections import Dequantized
from tfp_flows.testing.laws import missed_weights
from tfp_flows.testing.subject import perturb

tfb, tfd = tfp.bijectors, tfp.distributions

SHAPE = (2, 2, 1)
LEVELS = 8


def logistic_flow():
    """Independent logistic values: the mass of a whole value is a difference."""
    logistic = tfd.Logistic(tf.constant(3.5, tf.float64), 0.6)
    flat = tfd.Sample(logistic, 4)
    return tfd.TransformedDistribution(flat, tfb.Reshape(SHAPE, event_shape_in=[4]))


def exact_log_prob(x):
    logistic = tfd.Logistic(tf.constant(3.5, tf.float64), 0.6)
    mass = logistic.cdf(x + 1.0) - logistic.cdf(x)
    return np.log(mass).sum((-1, -2, -3))


X = np.random.default_rng(0).integers(0, LEVELS, (20, *SHAPE)).astype("float64")


def mean_bound(bound, repeats):
    """The mean of many estimates of the bound for each image."""
    return np.mean(bound.log_prob(np.stack([X] * repeats)), axis=0)


def test_uniform_noise_estimates_a_lower_bound():
    estimates = mean_bound(Dequantized(logistic_flow(), pixel_levels=LEVELS), 400)
    assert np.all(estimates < exact_log_prob(X) + 0.05)
    assert np.mean(exact_log_prob(X) - estimates) > 0.01


def test_more_draws_tighten_the_bound():
    exact = exact_log_prob(X)
    gaps = []
    for samples in (1, 10, 1000):
        bound = Dequantized(logistic_flow(), pixel_levels=LEVELS, samples=samples)
        gaps.append(np.mean(exact - mean_bound(bound, 4000 // samples)))
    assert gaps[0] > gaps[1] > gaps[2]
    assert abs(gaps[2]) < 6e-3


def test_learned_noise_tightens_the_bound():
    keras.utils.set_random_seed(0)
    noise = dequantization_noise(SHAPE, steps=2, hidden_channels=8, dtype="float64")
    uniform = Dequantized(logistic_flow(), pixel_levels=LEVELS)
    learned = Dequantized(logistic_flow(), noise, pixel_levels=LEVELS)
    learned.adapt(X)
    optimizer = keras.optimizers.Adam(1e-2)
    variables = list(noise.trainable_variables)
    optimizer.build(variables)

    @tf.function
    def step(x):
        with tf.GradientTape() as tape:
            loss = -tf.reduce_mean(learned.log_prob(x))
        optimizer.apply(tape.gradient(loss, variables), variables)

    for _ in range(300):
        step(tf.constant(X))
    exact = exact_log_prob(X)
    uniform_gap = np.mean(exact - mean_bound(uniform, 200))
    learned_gap = np.mean(exact - mean_bound(learned, 200))
    assert 0 < learned_gap < 0.7 * uniform_gap


def make(**kwargs):
    flow = tfpf.glow((4, 4, 1), levels=1, steps=1, hidden_channels=4, **kwargs)
    noise = dequantization_noise((4, 4, 1), steps=1, hidden_channels=4)
    return Dequantized(flow, noise, pixel_levels=LEVELS)


def test_every_weight_of_both_flows_gets_a_gradient():
    bound = perturb(make(), 0.1)
    both = [*bound.flow.trainable_variables, *bound.noise.trainable_variables]
    assert {id(v) for v in bound.trainable_variables} == {id(v) for v in both}
    x = np.random.default_rng(0).integers(0, LEVELS, (8, 4, 4, 1))
    weights = {f"{i} {weight.name}": weight for i, weight in enumerate(both)}
    missed = missed_weights(weights, lambda: tf.reduce_mean(bound.log_prob(x)))
    assert missed == ([], [])


def test_fit_on_whole_values_and_save(tmp_path):
    rng = np.random.default_rng(0)
    x = np.clip(np.rint(rng.normal(4.0, 0.7, (256, 4, 4, 1))), 0, LEVELS - 1)
    bound = make(preprocess=tfpf.logit(LEVELS))
    model = tfpf.FlowModel(bound)
    model.compile(optimizer=keras.optimizers.Adam(3e-3))
    assert not model.is_adapted
    history = model.fit(x, epochs=10, batch_size=64, verbose=0).history["nll"]
    assert model.is_adapted
    assert history[-1] < history[0]
    model.save(tmp_path / "flow.keras")
    again = keras.models.load_model(tmp_path / "flow.keras").distribution
    for saved, loaded in zip(bound.variables, again.variables, strict=True):
        np.testing.assert_array_equal(saved, loaded)
    samples = again.sample(50, seed=1).numpy()
    assert np.all(samples == np.floor(samples))
    assert samples.min() >= 0
    assert samples.max() < LEVELS


def test_pixel_levels_have_their_old_name_in_files():
    old = {"flow": logistic_flow(), "noise": None, "levels": LEVELS}
    assert Dequantized.from_config(old).pixel_levels == LEVELS


def test_flows_need_no_bijector_to_adapt():
    pixels = Dequantized(tfd.Sample(tfd.Logistic(3.5, 0.6), [4]), pixel_levels=LEVELS)
    tfpf.FlowModel(pixels).adapt(np.ones((2, 4)))


def test_noise_stays_below_the_next_value():
    flow = tfd.Sample(tfd.Uniform(0.0, 256.0), [1000])
    x = tf.fill([100, 1000], 255.0)
    v, _ = Dequantized(flow).dequantize(x, seed=(0, 1))
    assert np.all(v < 256.0)


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (
            lambda f: Dequantized(f, pixel_levels=1),
            "`pixel_levels` must be an integer of at least 2",
        ),
        (lambda f: Dequantized(f, samples=0), "`samples` must be an integer of at"),
        (
            lambda f: Dequantized(f, dequantization_noise((4, 4, 1), steps=1)),
            "`noise` must be a flow of the event shape",
        ),
    ],
)
def test_wrong_arguments_are_named(act, message):
    with pytest.raises(ValueError, match=message):
        act(logistic_flow())


def test_values_that_cannot_occur_have_no_density():
    bound = Dequantized(logistic_flow(), pixel_levels=LEVELS)
    good = np.full(SHAPE, 3.0)
    wrong = np.stack([good] * 5)
    wrong[:4, 0, 0, 0] = -1.0, LEVELS, 3.5, np.nan
    found = bound.log_prob(wrong).numpy()
    np.testing.assert_array_equal(found[:3], -np.inf)
    assert np.isnan(found[3])
    assert np.isfinite(found[4])


def test_other_levels_are_refused_before_training():
    flow = tfpf.glow(SHAPE, levels=1, steps=1, hidden_channels=4)
    model = tfpf.FlowModel(Dequantized(flow, pixel_levels=LEVELS))
    model.compile("sgd")
    for x in (X / LEVELS, X + LEVELS):
        with pytest.raises(ValueError, match=r"`data` must hold whole numbers from 0"):
            model.fit(x, verbose=0)


def test_one_image_under_all_conditions():
    """Noise that depends on the label, as a Bayes classifier asks for it."""
    sizes = {"steps": 1, "hidden_channels": 4, "condition_shape": (3,)}
    flow = tfpf.glow(SHAPE, levels=1, preprocess=tfpf.logit(LEVELS), **sizes)
    bound = Dequantized(flow, dequantization_noise(SHAPE, **sizes), pixel_levels=LEVELS)
    every = tfpf.condition(bound, np.eye(3, dtype="float32"))
    assert every.log_prob(X[:5, None].astype("float32")).shape == (5, 3)
    assert every.log_prob(X[0].astype("float32")).shape == (3,)
