"""`tfpf.condition`: a conditional flow as a distribution among TFP's others."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_flows as tfpf
from tfp_flows.serving.servable import servable
from tfp_flows.testing.subject import perturb

tfb, tfd = tfp.bijectors, tfp.distributions

RNG = np.random.default_rng(0)
C = RNG.normal(size=(5, 3)).astype("float32")


@pytest.fixture(scope="module")
def flow():
    made = tfpf.real_nvp((2,), couplings=2, hidden_units=(6,), condition_shape=(3,))
    return perturb(made, 0.4, seed=1)


def test_independent_sums_over_the_batch_of_conditions(flow):
    bound = tfpf.condition(flow, C)
    joint = tfd.Independent(bound, 1)
    x = joint.sample(7, seed=(0, 1))
    assert x.shape == (7, 5, 2)
    np.testing.assert_allclose(
        joint.log_prob(x), tf.reduce_sum(bound.log_prob(x), -1), rtol=1e-5
    )


def test_sequential_joint_distribution(flow):
    joint = tfd.JointDistributionSequential(
        [
            tfd.Sample(tfd.Normal(0.0, 1.0), [3]),
            lambda c: tfpf.condition(flow, c),
            lambda x: tfd.Independent(tfd.Normal(x, 0.1), 1),
        ]
    )
    c, x, y = joint.sample(4, seed=(0, 1))
    assert x.shape == (4, 2)
    expected = joint.model[0].log_prob(c) + tfpf.condition(flow, c).log_prob(x)
    expected += tf.reduce_sum(tfd.Normal(x, 0.1).log_prob(y), -1)
    np.testing.assert_allclose(joint.log_prob([c, x, y]), expected, rtol=1e-5)


def test_named_joint_distribution(flow):
    joint = tfd.JointDistributionNamed(
        {
            "c": tfd.Sample(tfd.Normal(0.0, 1.0), [3]),
            "x": lambda c: tfpf.condition(flow, c),
            "y": lambda x: tfd.Independent(tfd.Normal(x, 0.1), 1),
        }
    )
    draw = joint.sample(4, seed=(0, 1))
    assert joint.log_prob(draw).shape == (4,)
    with tf.GradientTape() as tape:
        tape.watch(draw["c"])
        value = tf.reduce_sum(joint.log_prob(draw))
    assert np.abs(tape.gradient(value, draw["c"])).min() > 0


def test_auto_batched_coroutine(flow):
    """Sampled and scored without thinking of batches, by `vectorized_map`."""

    @tfd.JointDistributionCoroutineAutoBatched
    def joint():
        c = yield tfd.Sample(tfd.Normal(0.0, 1.0), [3], name="c")
        yield tfpf.condition(flow, c)

    # TFP warns that it does not vectorize over pairs of integers.
    draw = joint.sample(6, seed=1)
    assert draw[1].shape == (6, 2)
    expected = tf.reduce_sum(
        tfd.Normal(0.0, 1.0).log_prob(draw[0]), -1
    ) + tfpf.condition(flow, draw[0]).log_prob(draw[1])
    np.testing.assert_allclose(joint.log_prob(draw), expected, rtol=1e-5)


def test_monte_carlo_divergence_and_its_gradient(flow):
    """KL between two conditions against the same average over other draws."""
    c = tf.constant(C[:2])

    def divergence(c, seed):
        p, q = tfpf.condition(flow, c[0]), tfpf.condition(flow, c[1])
        return tfp.vi.monte_carlo_variational_loss(
            q.log_prob, p, sample_size=20_000, seed=seed
        )

    with tf.GradientTape() as tape:
        tape.watch(c)
        value = divergence(c, (0, 1))
    x = tfpf.condition(flow, c[0]).sample(20_000, seed=(5, 6))
    terms = tfpf.condition(flow, c[0]).log_prob(x) - tfpf.condition(
        flow, c[1]
    ).log_prob(x)
    error = 4.0 * np.std(terms) * np.sqrt(2.0 / 20_000)
    assert abs(value - np.mean(terms)) < error
    assert value > error
    assert np.abs(tape.gradient(value, c)).min() > 0


def test_a_variable_is_a_weight_of_the_distribution(flow, tmp_path):
    """A learned condition: only it is trained, towards the one that made the data."""
    truth = tf.constant(C[0])
    x = tfpf.condition(flow, truth).sample(4000, seed=(1, 2))
    c = tf.Variable(tf.zeros(3), name="c")
    bound = tfpf.condition(flow, c)
    assert any(v is c for v in bound.trainable_variables)
    start = -tf.reduce_mean(bound.log_prob(x))
    with tf.GradientTape() as tape:
        tape.watch(c)
        loss = -tf.reduce_mean(bound.log_prob(tf.identity(x)))
    gradient = tape.gradient(loss, c)
    assert np.abs(gradient).min() > 0
    c.assign_sub(0.05 * gradient / tf.norm(gradient))
    assert -tf.reduce_mean(bound.log_prob(tf.identity(x))) < start
    tfpf.save_distribution(bound, tmp_path / "bound.keras")
    again = tfpf.load_distribution(tmp_path / "bound.keras")
    np.testing.assert_array_equal(again.log_prob(x[:5]), bound.log_prob(x[:5]))


def test_adapt_reaches_the_flow_behind_a_condition():
    flow = tfpf.real_nvp((2,), couplings=2, hidden_units=(4,), condition_shape=(3,))
    model = tfpf.FlowModel(tfpf.condition(flow, C[0]))
    assert not model.is_adapted
    model.adapt(RNG.normal(3.0, 2.0, size=(64, 2)).astype("float32"))
    assert model.is_adapted
    assert model.condition_shape is None
    with pytest.raises(ValueError, match="`flow` must be a conditional flow"):
        tfpf.condition(model.distribution, C[0])


def test_numbers_become_conditions_in_the_dtype_of_the_flow():
    flow = tfpf.nice((2,), hidden_units=(4,), condition_shape=(1,), dtype="float64")
    one = tfpf.condition(flow, [0.1])
    assert one.bijector._condition.dtype == tf.float64
    assert one.bijector._condition.numpy() == 0.1


def test_several_batch_axes(flow):
    bound = tfpf.condition(flow, np.broadcast_to(C, (4, 5, 3)))
    assert bound.batch_shape == (4, 5)
    assert bound.sample(2).shape == (2, 4, 5, 2)
    assert bound.bijector.experimental_batch_shape(x_event_ndims=1) == (4, 5)
    assert bound.bijector.experimental_batch_shape(x_event_ndims=2) == (4,)


def test_wrong_shapes_are_refused(flow):
    with pytest.raises(ValueError, match=r"`c` must have shape \[..., 3\]"):
        tfpf.condition(flow, np.zeros((5, 2), "float32"))
    with pytest.raises(ValueError, match="`flow` must be a conditional flow"):
        tfpf.condition(tfpf.nice((2,), hidden_units=(4,)), C)


def test_parts_that_take_conditions_of_two_shapes_are_refused():
    transform = tfpf.transforms.Affine()
    parts = [tfpf.Elementwise(transform, (2,), condition_shape=s) for s in [(3,), (1,)]]
    base = tfd.Sample(tfd.Normal(0.0, 1.0), 2)
    flow = tfd.TransformedDistribution(base, tfb.Chain([tfb.Scale(2.0), *parts]))
    with pytest.raises(ValueError, match=r"one shape.*Received: \(3,\) and \(1,\)"):
        tfpf.FlowModel(flow)


# One condition belongs to one event, whatever axes the event has beyond a part's own.


@pytest.mark.parametrize("n", [1, 3, 5])
@pytest.mark.parametrize("container", ["chain", "repeat", "encoded", "inverted"])
def test_parts_of_vectors_on_longer_events_get_the_condition_of_their_row(
    container: str, n: int
) -> None:
    rng = np.random.default_rng(0)
    if container == "repeat":
        bijector = tfpf.Repeat(_part(), 2)
    elif container == "encoded":
        encoder = tfpf.nets.MLP((4,))
        encoder.connect((2,), (2,))
        bijector = tfpf.EncodedCondition(_part(), encoder, condition_shape=(2,))
    elif container == "inverted":
        bijector = tfb.Chain([tfb.Invert(_part()), tfb.Scale(2.0)])
    else:
        bijector = tfb.Chain([_part(), tfpf.ActNorm(2), _part(flip=True)])
    base = tfd.Sample(tfd.Normal(0.0, 1.0), [3, 2])
    flow = tfd.TransformedDistribution(base, bijector)
    for weight in flow.trainable_variables:
        weight.assign(0.5 * rng.normal(size=weight.shape))
    model = tfpf.FlowModel(flow)
    x = rng.normal(size=(n, 3, 2)).astype("float32")
    c = rng.normal(size=(n, 2)).astype("float32")
    alone = [tfpf.condition(flow, c[i]).log_prob(x[i]) for i in range(n)]
    together = tfpf.condition(flow, c)
    assert together.batch_shape == (n,)
    np.testing.assert_allclose(together.log_prob(x), alone, rtol=1e-4)
    scored = model.predict((x, c), verbose=0)
    np.testing.assert_allclose(scored, alone, rtol=1e-4)
    drawn = together.sample(2, seed=1)
    again = [tfpf.condition(flow, c[i]).log_prob(drawn[:, i]) for i in range(n)]
    np.testing.assert_allclose(
        together.log_prob(drawn), np.stack(again, 1), rtol=1e-3, atol=1e-3
    )
    served = servable(model)
    seeds = tf.constant([[i, 7] for i in range(n)])
    rows = served.sample_rows(seeds, tf.ones([n]), tf.constant(c))
    for i in range(n):
        row = served.sample_rows(seeds[i : i + 1], tf.ones([1]), tf.constant(c[i:][:1]))
        np.testing.assert_allclose(rows[i], row[0], rtol=1e-4, atol=1e-5)


def _part(flip: bool = False) -> tfpf.AffineCoupling:
    mask, net = tfpf.masks.half(2, flip), tfpf.nets.MLP((8,))
    return tfpf.AffineCoupling(mask, net, condition_shape=(2,))


@pytest.mark.parametrize("shape", [(2,), (4, 4, 1), (3, 2)])
def test_a_slice_of_the_batch_is_that_of_the_conditions(shape):
    options = {"steps": 2, "condition_shape": (3,)}
    make = tfpf.glow if len(shape) == 3 else tfpf.maf
    size = {"hidden_channels": 4, "levels": 1} if make is tfpf.glow else {}
    many = tfpf.condition(perturb(make(shape, **size, **options), 0.3, seed=1), C)
    x = RNG.normal(size=(5, *shape)).astype("float32")
    expected = many.log_prob(x)
    assert many[2].batch_shape == []
    assert many[2].event_shape == shape
    np.testing.assert_allclose(many[2].log_prob(x[2]), expected[2], atol=1e-4)
    turned = many[::-1]
    np.testing.assert_allclose(turned.log_prob(x), many.log_prob(x[::-1])[::-1], 1e-4)
    assert len(turned.trainable_variables) == len(many.trainable_variables)
    assert tfd.Sample(many, 2)[1:3].batch_shape == [2]


def test_a_batch_of_surjections_has_no_slices():
    flow = tfpf.real_nvp((2,), hidden_units=(4,), condition_shape=(3,))
    with pytest.raises(NotImplementedError, match="slice the condition"):
        tfpf.condition(tfpf.Folded(flow), C)[1]


def test_structures_of_tensors(flow):
    model = tfd.JointDistributionNamed(
        {"a": tfd.Normal(0.0, 1.0), "b": lambda a: tfd.LogNormal(a, 1.0)}
    )
    spread = tfpf.condition(tfpf.surrogate_posterior(model, flow), C[0])
    draw = spread.sample(4, seed=(0, 1))
    other = tfpf.surrogate_posterior(model, tfpf.condition(flow, C[0]))
    new = tf.nest.map_structure(tf.identity, draw)
    np.testing.assert_allclose(spread.log_prob(draw), other.log_prob(new), rtol=1e-5)


def test_a_keras_variable_is_a_weight_too(flow):
    variable = keras.Variable(C[0])
    bound = tfpf.condition(flow, variable)
    variable.assign(C[1])
    expected = tfpf.condition(flow, C[1]).log_prob([0.1, 0.2])
    np.testing.assert_array_equal(bound.log_prob([0.1, 0.2]), expected)
    assert len(bound.trainable_variables) == len(flow.trainable_variables) + 1


def test_the_batch_of_a_condition_stands_next_to_that_of_parameters(flow):
    scale = np.float32([[1.0], [2.0]])
    both = tfb.Chain([tfb.Scale(scale), flow.bijector])
    scaled = tfd.TransformedDistribution(flow.distribution, both)
    assert tfpf.condition(scaled, C[0]).batch_shape == (2,)
    bound = tfpf.condition(scaled, C[:4, tf.newaxis])
    assert bound.batch_shape == (4, 2)
    x = bound.sample(3, seed=(0, 1))
    assert x.shape == (3, 4, 2, 2)
    plain = tfpf.condition(flow, C[:4, tf.newaxis])
    expected = plain.log_prob(x / scale) - 2.0 * np.log(scale[:, 0])
    np.testing.assert_allclose(bound.log_prob(x), expected, rtol=1e-4)
    one = bound[2, 1].log_prob(x[:, 2, 1])
    np.testing.assert_allclose(one, expected[:, 2, 1], rtol=1e-4)
