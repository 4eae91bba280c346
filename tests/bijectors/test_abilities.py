"""Containers x abilities: every container does it, or refuses in a sentence.

`docs/serialization.md` shows the outcome, which `python docs/serialization.py` writes.
"""

import copy
import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_flows as tfpf
from tfp_flows.bijectors import chain
from tfp_flows.bijectors.tree import layers_in

tfb, tfd = tfp.bijectors, tfp.distributions

RNG = np.random.default_rng(0)


def part(shape=None, d=2, **kwargs):
    """An actnorm and a coupling, which may be conditional."""
    net = tfpf.nets.MLP((4,), "tanh") if d == 2 else tfpf.nets.ConvNet(4, "tanh")
    mask = tfpf.masks.half(2) if d == 2 else tfpf.masks.channel((1, 1, 4))
    coupling = tfpf.AffineCoupling(mask, net, condition_shape=shape, **kwargs)
    return tfb.Chain([tfpf.ActNorm(d, **kwargs), coupling])


def around(bijector, event=(2,)):
    return tfd.TransformedDistribution(
        tfpf.bases.standard_normal(list(event)), bijector
    )


def flow(**kwargs):
    return around(part(**kwargs))


def multiscale(shape=None, **kwargs):
    level = tfb.Chain([tfpf.Squeeze(), part(shape, 4, **kwargs)])
    flat = tfpf.MultiScale((2, 2, 1), [level])
    return around(flat, (4,))


def encoded(shape=None, **kwargs):
    encoder = keras.layers.Dense(2, "tanh")
    inner = part((2,), **kwargs)
    return around(tfpf.EncodedCondition(inner, encoder, condition_shape=(3,)))


def mixture(**kwargs):
    return tfd.Mixture(
        tfd.Categorical([0.0, 0.0]), [flow(**kwargs), around(tfb.Shift([3.0, 3.0]))]
    )


def same_family(**kwargs):
    base = tfd.MultivariateNormalDiag([[0.0, 0.0], [2.0, 2.0]], [1.0, 1.0])
    parts = tfd.TransformedDistribution(base, part(**kwargs))
    return tfd.MixtureSameFamily(tfd.Categorical([0.0, 0.0]), parts)


def independent(**kwargs):
    base = tfd.MultivariateNormalDiag([[0.0, 0.0], [2.0, 2.0]], [1.0, 1.0])
    return tfd.Independent(tfd.TransformedDistribution(base, part(**kwargs)), 1)


def joint(**kwargs):
    return tfd.JointDistributionSequential([flow(**kwargs), tfd.Normal(0.0, 1.0)])


def blocks(**kwargs):
    return tfd.Blockwise([flow(**kwargs), flow(**kwargs), tfd.Normal(0.0, 1.0)])


def blockwise(shape=None, **kwargs):
    return around(
        tfb.Blockwise([part(shape, **kwargs), tfb.Shift([0.1])], [2, 1]), (3,)
    )


CONTAINERS = {
    "tfb.Chain": flow,
    "tfb.Invert": lambda **k: around(tfb.Invert(tfb.Invert(part(**k)))),
    "tfb.Blockwise": blockwise,
    "tfpf.Repeat": lambda **k: around(tfpf.Repeat(part(**k), 2)),
    "tfpf.MultiScale": multiscale,
    "tfpf.EncodedCondition": encoded,
    "tfd.TransformedDistribution of a flow": lambda **k: tfd.TransformedDistribution(
        flow(**k), tfb.Shift([0.1, 0.2])
    ),
    "tfd.Sample": lambda **k: tfd.Sample(flow(**k), 2),
    "tfd.Independent": independent,
    "tfd.BatchReshape": lambda **k: tfd.BatchReshape(flow(**k), []),
    "tfd.Masked": lambda **k: tfd.Masked(flow(**k), True),
    "tfd.Blockwise": blocks,
    "tfd.MixtureSameFamily": same_family,
    "tfd.Mixture": mixture,
    "tfd.JointDistributionSequential": joint,
}
ABILITIES = {}


def ability(function):
    ABILITIES[function.__name__.strip("_").replace("_", " ")] = function
    return function


def data(distribution, n=64):
    keras.utils.set_random_seed(0)
    if isinstance(distribution, tfd.JointDistribution):
        return [RNG.normal(3.0, 2.0, (n, 2)).astype("float32"), np.zeros(n, "float32")]
    return RNG.normal(3.0, 2.0, (n, *distribution.event_shape)).astype("float32")


def conditions(name, n=64):
    return np.ones((n, 3), "float32") if name == "tfpf.EncodedCondition" else None


def scored(name, distribution, y):
    c = conditions(name, len(y[0] if isinstance(y, list) else y))
    distribution = distribution if c is None else tfpf.condition(distribution, c)
    return distribution.log_prob(y).numpy()


@ability
def adapt(name, tmp_path):
    one = CONTAINERS[name]()
    assert not chain.is_adapted(one)
    y, c = data(one), conditions(name)
    if isinstance(y, list):
        chain.adapt_distribution(one, y, c)
    else:
        tfpf.FlowModel(one).adapt(y, c)
    assert chain.is_adapted(one)
    assert np.mean(scored(name, one, y)) > -20.0


@ability
def freeze(name, tmp_path):
    one = CONTAINERS[name]()
    before = len(one.trainable_variables)
    layers_in(one)[0].trainable = False
    assert len(one.trainable_variables) < before


@ability
def validate_args(name, tmp_path):
    one = CONTAINERS[name](validate_args=True)
    y = tf.nest.map_structure(lambda v: v.copy(), data(one, 3))
    tf.nest.flatten(y)[0][1] = np.nan
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"ActNorm|AffineCoupling"):
        scored(name, one, y)


@ability
def name_the_non_finite_part(name, tmp_path):
    one = CONTAINERS[name]()
    y, c = data(one, 8), conditions(name, 8)
    model = tfpf.FlowModel(one)
    model.compile("sgd")
    model.adapt(y, c)
    model.set_weights(
        [
            np.full_like(w, np.nan) if "float" in str(w.dtype) else w
            for w in model.get_weights()
        ]
    )
    with pytest.raises(
        FloatingPointError, match=r"ActNorm|AffineCoup|first weight that"
    ):
        model.fit(y, c, verbose=0)


@ability
def save(name, tmp_path):
    one = CONTAINERS[name]()
    y = data(one, 3)
    tfpf.save_distribution(one, tmp_path / "one.keras")
    loaded = tfpf.load_distribution(tmp_path / "one.keras")
    np.testing.assert_array_equal(scored(name, loaded, y), scored(name, one, y))


@ability
def copy_(name, tmp_path):
    one = CONTAINERS[name]()
    twin, y = copy.deepcopy(one), data(one, 3)
    np.testing.assert_array_equal(scored(name, twin, y), scored(name, one, y))
    for variable in twin.trainable_variables:
        variable.assign_add(0.3 * tf.ones_like(variable))
    assert np.any(scored(name, twin, y) != scored(name, one, y))
    assert all(a is not b for a in twin.variables for b in one.variables)


@ability
def export(name, tmp_path):
    one = CONTAINERS[name]()
    y, c = data(one, 3), conditions(name, 3)
    path = tfpf.export_saved_model(one, tmp_path / "m", warmup=False)
    served = tf.saved_model.load(path).signatures["log_prob"]
    given = {} if c is None else {"condition": tf.constant(c)}
    found = served(x=tf.constant(y), **given)["log_prob"]
    np.testing.assert_allclose(found, scored(name, one, y), atol=1e-4)


@ability
def condition(name, tmp_path):
    c = RNG.normal(size=(3, 3)).astype("float32")
    one = CONTAINERS[name](shape=(3,))
    for variable in one.trainable_variables:
        variable.assign_add(0.3 * tf.ones_like(variable))
    y = data(one, 3)
    found = tfpf.condition(one, c).log_prob(y).numpy()
    model = tfpf.FlowModel(one)
    np.testing.assert_allclose(model.predict((y, c), verbose=0), found, atol=1e-4)
    assert np.any(found != tfpf.condition(one, c[::-1].copy()).log_prob(y).numpy())


# What is refused, and by which words.
JOINT = "tfd.JointDistributionSequential"
REFUSED = {
    (JOINT, "name the non finite part"): "event shape of one tensor",
    (JOINT, "export"): "one floating point tensor",
    (JOINT, "condition"): "needs a `condition`",
    ("tfd.Blockwise", "condition"): "needs a `condition`",
}
for _name in CONTAINERS:
    if _name.startswith("tfd.") and _name != JOINT:
        REFUSED.setdefault((_name, "condition"), "must be a conditional flow")


@pytest.mark.parametrize("name", CONTAINERS)
@pytest.mark.parametrize("what", ABILITIES)
def test_ability(name, what, tmp_path):
    keras.utils.set_random_seed(0)
    check = functools.partial(ABILITIES[what], name, tmp_path)
    if (name, what) not in REFUSED:
        check()
        return
    with pytest.raises((ValueError, TypeError), match=REFUSED[name, what]):
        check()
