"""Recipes: every one fits its architecture, and options change what they name."""

import dataclasses
import inspect

import keras
import numpy as np
import pytest

import tfp_flows as tfpf
from tfp_flows import data as flow_data
from tfp_flows.cli import recipes
from tfp_flows.cli.recipes import DEFAULT_FLOW, FLOWS, RECIPES

ALL = [
    pytest.param(recipe, id=f"{preset}-{kind}-{recipe.flow}")
    for preset, kinds in RECIPES.items()
    for kind, by_flow in kinds.items()
    for recipe in by_flow.values()
]
SHAPES = {"toy": (2,), "table": (5,), "tiny image": (8, 8, 1), "image": (28, 28, 1)}


def made_up(kind, n=1000):
    """Data of a kind, with random content."""
    rng = np.random.default_rng(0)
    shape = (n, *SHAPES[kind])
    if "image" in kind:
        x = rng.integers(0, 256, shape, np.uint8)
        return flow_data.Data("made up", "image", x, x[:10], pixel_levels=256)
    x = rng.normal(size=shape).astype(np.float32)
    return flow_data.Data("made up", kind, x, x[:10])


def choose(data, flow=None, preset="small", training=None, **architecture):
    return recipes.choose(data, flow, preset, architecture, training or {})


@pytest.mark.parametrize("recipe", ALL)
def test_arguments_are_the_architecture_s(recipe):
    architecture = getattr(tfpf, recipe.flow)
    inspect.signature(architecture).bind((2,), preprocess=None, **recipe.architecture)
    assert recipe.preprocess in ("logit", "center", "splines", "standardize")


@pytest.mark.parametrize("kind", SHAPES)
def test_default_recipe_makes_a_flow_on_data_of_its_kind(kind):
    data = made_up(kind, 50)
    recipe = choose(data)
    assert recipe.flow == DEFAULT_FLOW[kind]
    flow = recipes.build(recipe, data)
    assert tuple(flow.event_shape) == data.event_shape
    x = next(iter(data.train))[:2]
    assert np.all(np.isfinite(flow.log_prob(x)))


def test_one_column_has_a_flow_of_its_own():
    x = made_up("table", 50).x_train[:, :1]
    data = dataclasses.replace(made_up("table"), x_train=x, x_test=x)
    flow = recipes.build(choose(data), data)
    assert np.all(np.isfinite(flow.log_prob(x)))


def test_flow_and_options_change_the_recipe():
    data = made_up("toy")
    changes = {"epochs": 3, "learning_rate": 0.5, "batch_size": None}
    recipe = choose(data, "nice", training=changes, couplings=5, bins=None)
    assert recipe.architecture["steps"] == 5
    assert (recipe.epochs, recipe.learning_rate) == (3, 0.5)
    assert recipe.batch_size == RECIPES["small"]["toy"]["nice"].batch_size


def test_weight_decay_may_be_zero_and_nothing_negative():
    data = made_up("toy")
    assert choose(data, training={"weight_decay": 0.0}).weight_decay == 0.0
    for name in ("weight_decay", "learning_rate", "epochs", "batch_size"):
        with pytest.raises(ValueError, match="`--.*must be positive. Received: -1"):
            choose(data, training={name: -1})


def test_the_optimizer_s_switches_reach_it():
    training = {"ema": 0.99, "clip_norm": "medium", "warmup_steps": 7}
    recipe = choose(made_up("toy"), training=training)
    made = recipes.optimizer(recipe, 1000)
    assert (made.use_ema, made.ema_momentum) == (True, 0.99)
    assert made.global_clipnorm == 5.0
    top = float(made._learning_rate(7))
    assert top == pytest.approx(recipe.learning_rate)
    assert float(made._learning_rate(0)) == pytest.approx(top / 7)
    plain = recipes.optimizer(choose(made_up("toy")), 1000)
    assert (plain.use_ema, plain.global_clipnorm) == (False, None)
    assert choose(made_up("toy"), training={"clip_norm": "none"}).clip_norm is None


@pytest.mark.parametrize(
    ("training", "message"),
    [
        ({"ema": 1.0}, "`--ema` must lie between 0 and 1. Received: 1.0"),
        ({"clip_norm": "soft"}, "`--clip-norm` must be a positive number or one of"),
        ({"clip_norm": "-1"}, "`--clip-norm` must be a positive number or one of"),
        ({"warmup_steps": -1}, "`--warmup` must be positive. Received: -1"),
        ({"precision": "int8"}, "`--precision` must be one of float32, mixed_bfloat16"),
    ],
)
def test_wrong_switches_are_named(training, message):
    with pytest.raises(ValueError, match=message):
        choose(made_up("toy"), training=training)


def test_a_warm_up_must_end_before_the_training_does():
    training = {"epochs": 1, "batch_size": 250, "warmup_steps": 4}
    recipe = choose(made_up("toy"), training=training)
    with pytest.raises(ValueError, match="`--warmup` must be less than the 4 steps"):
        recipes.optimizer(recipe, 1000)


def test_precision_is_that_of_the_networks():
    training = {"precision": "mixed_bfloat16"}
    recipe = choose(made_up("toy"), "nice", training=training, hidden_units=(4,))
    model = tfpf.FlowModel(recipes.build(recipe, made_up("toy")))
    assert model.dtype_policy.name == "mixed_bfloat16"
    assert keras.config.dtype_policy().name == "float32"


def test_widths_of_dense_networks_replace_those_of_convolutions():
    data = made_up("tiny image")
    assert "hidden_channels" in choose(data, "glow").architecture
    dense = choose(data, "glow", hidden_units=(8,)).architecture
    assert not {"levels", "hidden_channels"} & dense.keys()
    assert dense["hidden_units"] == (8,)


def test_short_tables_are_passed_over_more_often():
    short, long = (choose(made_up("table", n)) for n in (100, 30_000))
    assert short.epochs > long.epochs
    assert short.batch_size < long.batch_size
    assert choose(made_up("table", 100), training={"epochs": 2}).epochs == 2


def test_standardized_tables_start_near_the_gaussian():
    """A fresh flow has the density of a diagonal Gaussian of the data's moments."""
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(500, 5)) * [1, 10, 100, 0.1, 1] + 50).astype(np.float32)
    data = dataclasses.replace(made_up("table"), x_train=x)
    flow = recipes.build(choose(data, "nice"), data)
    expected = np.sum(0.5 * np.log(2 * np.pi * np.e) + np.log(x.std(axis=0)))
    assert -np.mean(flow.log_prob(x)) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_large_and_tiny_columns_are_standardized_without_losses(dtype):
    rng = np.random.default_rng(0)
    middle, spread = [1e5, 3e6, 0.0, 0.0], [1.0, 10.0, 1e-24, 1e21]
    x = (middle + spread * rng.normal(size=(100_000, 4))).astype(dtype)
    data = dataclasses.replace(made_up("table"), x_train=x)
    recipe = choose(data, "nice")
    z = recipes._preprocess(recipe, data).inverse(x)
    np.testing.assert_allclose(np.mean(z, axis=0, dtype=float), 0.0, atol=1e-2)
    np.testing.assert_allclose(np.std(z, axis=0, dtype=float), 1.0, rtol=1e-2)
    assert recipes.build(recipe, data).dtype == dtype


def test_networks_in_16_bits_are_not_for_data_in_float64():
    data = made_up("table")
    data = dataclasses.replace(data, x_train=data.x_train.astype(np.float64))
    with pytest.raises(ValueError, match="`--precision` must be float32 for made up"):
        choose(data, training={"precision": "mixed_bfloat16"})


def test_learning_rate_rises_and_falls_to_zero():
    recipe = dataclasses.replace(choose(made_up("toy")), epochs=100, batch_size=10)
    schedule = recipes.optimizer(recipe, 100)._learning_rate
    steps = [0, 25, 50, 500, 999, 1000]
    start, rising, top, middle, low, end = (float(schedule(s)) for s in steps)
    assert 0.0 < start < rising < top == pytest.approx(recipe.learning_rate, rel=1e-3)
    assert top > middle > low
    assert end == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("flow", FLOWS)
def test_every_kind_of_data_has_a_recipe_for_every_architecture(flow):
    for kinds in RECIPES.values():
        for kind, by_flow in kinds.items():
            of_images = flow in ("tarflow", "jet") and "image" not in kind
            assert (flow in by_flow) is not of_images


def test_options_reach_named_cases_and_images_are_for_flows_of_images():
    spline = choose(made_up("toy"), "spline_flow", steps=3, hidden_units=(4,))
    assert spline.architecture["steps"] == 3
    data = made_up("tiny image", 50)
    recipe = choose(data, "tarflow", patch=4, width=8, heads=2, depth=1, steps=2)
    assert recipe.architecture["layers"] == 1
    assert recipes.build(recipe, data).event_shape == (8, 8, 1)
    with pytest.raises(ValueError, match="`--depth` must not be given for maf"):
        choose(data, "maf", depth=2)
    with pytest.raises(ValueError, match="`--flow` must be one of nice, .* for a toy"):
        choose(made_up("toy"), "jet")


def test_every_architecture_of_the_package_is_known():
    """Whatever has an event shape and a `preprocess` bijector can be trained."""
    public = {
        name
        for name in tfpf.__all__
        if inspect.isfunction(getattr(tfpf, name))
        and {"event_shape", "preprocess"}
        <= inspect.signature(getattr(tfpf, name)).parameters.keys()
    }
    assert public == set(FLOWS)
