"""From a recipe and data to a flow and its optimizer."""

import dataclasses
import inspect
import math
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow_probability as tfp

import tfp_flows as tfpf
from tfp_flows.cli.recipe_table import DEFAULT_FLOW, RECIPES, Recipe
from tfp_flows.data import Data
from tfp_flows.training.optimizers import checked_clip_norm
from tfp_flows.training.precision import network_precision

tfb, tfd = tfp.bijectors, tfp.distributions

# Half of the pixels of most images are exactly black: the closer to 0 the logit may
# come, the better it spreads them.
LOGIT_ALPHA = 1e-3

TINY_PIXELS = 256
WARMUP_STEPS = 200
MAY_BE_ZERO = ("weight_decay", "warmup_steps")
PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")
TABLE_ROWS, MOST_EPOCHS, SMALLEST_BATCH = 20_000, 400, 32

# Either of these sets of arguments replaces the other.
_IMAGE_SIZES = {"levels", "hidden_channels", "blocks", "widen", "normalized"}
_VECTOR_SIZES = {"hidden_units"}


def choose(
    data: Data,
    flow: str | None,
    preset: str,
    architecture: Mapping[str, Any],
    training: Mapping[str, Any],
) -> Recipe:
    """Takes the recipe for a data set and changes what the user asks for.

    Args:
        data: The data.
        flow: Name of an architecture, or None for the one that suits the data.
        preset: `"small"` for minutes on a CPU, `"paper"` for the published sizes.
        architecture: Arguments of the architecture to change; those that are None
            stay as they are.
        training: Fields of the recipe to change, in the same way.

    Returns:
        The recipe.

    Raises:
        ValueError: If the architecture has no such argument, or a field is out of
            range.
    """
    kind = _kind(data)
    recipe = RECIPES[preset][kind][flow or DEFAULT_FLOW[kind]]
    make = getattr(tfpf, recipe.flow)
    once = getattr(make, "renamed", {})
    changes = {
        once.get(key, key): value
        for key, value in architecture.items()
        if value is not None
    }
    known = set(inspect.signature(make).parameters)
    for name in sorted(changes.keys() - known):
        raise ValueError(
            f"`{_option(name)}` must not be given for {recipe.flow}, which takes "
            f"{', '.join(_option(other) for other in architecture if other in known)}. "
            f"Received: {changes[name]}."
        )
    kept = recipe.architecture
    for given, other in ((_IMAGE_SIZES, _VECTOR_SIZES), (_VECTOR_SIZES, _IMAGE_SIZES)):
        if given & changes.keys():
            kept = {key: value for key, value in kept.items() if key not in other}
    training = {key: value for key, value in training.items() if value is not None}
    if "clip_norm" in training:
        training["clip_norm"] = _clip_norm(training["clip_norm"])
    for name, value in training.items():
        _check_training(name, value)
    if kind == "table":
        recipe = _for_length(recipe, len(data.x_train))
    return dataclasses.replace(recipe, architecture=kept | changes, **training)


def _clip_norm(text: Any) -> float | None:
    try:
        return checked_clip_norm(text)
    except ValueError as error:
        raise ValueError(
            str(error).replace("Argument `clip_norm`", "`--clip-norm`")
        ) from None


def _check_training(name: str, value: Any) -> None:
    if name == "precision":
        if value not in PRECISIONS:
            raise ValueError(
                f"`--precision` must be one of {', '.join(PRECISIONS)}. "
                f"Received: {value}."
            )
    elif name == "ema":
        if not 0.0 < value < 1.0:
            raise ValueError(f"`--ema` must lie between 0 and 1. Received: {value}.")
    elif value is None or (name in MAY_BE_ZERO and value == 0):
        return
    elif not value > 0:
        raise ValueError(f"`{_option(name)}` must be positive. Received: {value}.")


def _for_length(recipe: Recipe, rows: int) -> Recipe:
    """Passes more often over a short table, in smaller batches."""
    batch_size = max(SMALLEST_BATCH, min(recipe.batch_size, rows // 20))
    epochs = recipe.epochs * max(1.0, TABLE_ROWS / rows)
    return dataclasses.replace(
        recipe, batch_size=batch_size, epochs=min(MOST_EPOCHS, round(epochs))
    )


def _option(name: str) -> str:
    return "--" + name.removesuffix("_steps").replace("_", "-")


def _kind(data: Data) -> str:
    if data.kind != "image":
        return data.kind
    tiny = math.prod(data.event_shape[:2]) <= TINY_PIXELS
    return "tiny image" if tiny else "image"


def build(recipe: Recipe, data: Data) -> tfd.TransformedDistribution:
    """Builds the untrained flow of a recipe.

    Args:
        recipe: The recipe.
        data: The data, whose shape, levels, mean and deviation the flow takes on.

    Returns:
        The flow.
    """
    base = None
    if recipe.base == "logistic":
        size = math.prod(data.event_shape)
        base = tfd.Sample(tfd.Logistic(np.float32(0), np.float32(1)), [size])
    architecture = getattr(tfpf, recipe.flow)
    with network_precision(recipe.precision):
        return architecture(
            data.event_shape,
            preprocess=_preprocess(recipe, data),
            base=base,
            **recipe.architecture,
        )


def _preprocess(recipe: Recipe, data: Data) -> tfb.Bijector:
    """The bijector between the data and the values that the flow works on."""
    if data.levels is None:
        mean, deviation = data.x_train.mean(axis=0), data.x_train.std(axis=0)
        return tfb.Chain([tfb.Shift(mean), tfb.Scale(deviation)], name="standardize")
    if recipe.preprocess == "center":
        return tfpf.center(data.levels)
    return tfpf.logit(data.levels, LOGIT_ALPHA)


def optimizer(recipe: Recipe, examples: int) -> keras.optimizers.Optimizer:
    """Makes the optimizer of a recipe, with a cosine-shaped decay of its rate.

    Args:
        recipe: The recipe.
        examples: How many training examples there are.

    Returns:
        The optimizer.
    """
    steps = recipe.epochs * math.ceil(examples / recipe.batch_size)
    warmup = recipe.warmup_steps
    if warmup is None:
        warmup = min(WARMUP_STEPS, steps // 20)
    elif warmup >= steps:
        raise ValueError(
            f"`--warmup` must be less than the {steps:,} steps of the training. "
            f"Received: {warmup}."
        )
    return tfpf.optimizer(
        recipe.learning_rate,
        warmup_steps=warmup,
        decay="cosine",
        steps=steps,
        weight_decay=recipe.weight_decay,
        clip_norm=recipe.clip_norm,
        ema=recipe.ema,
    )
