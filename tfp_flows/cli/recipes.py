"""Recipes: what a training run is made of, by preset, kind of data and architecture."""

from __future__ import annotations

import dataclasses
import inspect
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras
    from tensorflow_probability import bijectors as tfb
    from tensorflow_probability import distributions as tfd

    from tfp_flows.data import Data
    from tfp_flows.training.model import FlowModel

# Half of the pixels of most images are exactly black: the closer to 0 the logit may
# come, the better it spreads them.
LOGIT_ALPHA = 1e-3

TINY_PIXELS = 256
WARMUP_STEPS = 200
MAY_BE_ZERO = ("weight_decay", "warmup_steps")
PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")
TABLE_ROWS, MOST_EPOCHS, SMALLEST_BATCH = 20_000, 400, 32

# What the command line may change of an architecture, and of its training.
_SIZES = ("levels", "steps", "blocks", "hidden_units", "hidden_channels", "bins")
_ATTENTION = ("patch", "width", "heads", "depth")
ARCHITECTURE = (*_SIZES, *_ATTENTION, "dropout")
_STEPS = ("epochs", "batch_size", "learning_rate", "weight_decay", "warmup_steps")
TRAINING = (*_STEPS, "clip_norm", "ema", "precision")

# Arguments that an option names otherwise: `--layers` once was `--steps`.
_ARGUMENTS = {"depth": "layers"}
# Either of these sets of arguments replaces the other.
_IMAGE_SIZES = {"levels", "hidden_channels", "blocks", "widen", "normalized"}
_VECTOR_SIZES = {"hidden_units"}


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Everything that decides a training run besides the data and the seed.

    Attributes:
        architecture: Its arguments.
        preprocess: The bijector between data and flow: `"logit"`, `"center"` or
            `"splines"` (logit, then `tfpf.pixel_splines`) for pixels, `"standardize"`
            for everything else.
        epochs: Epochs of training; a table of fewer than 20,000 rows takes more.
        learning_rate: Highest learning rate; it rises in the first steps and falls
            along half a cosine to zero.
        weight_decay: AdamW's decay of the weights.
        base: The latents' distribution, `"normal"` or `"logistic"`.
        validation: Share of the training part to hold back: the weights of the epoch
            that did best on it are kept, and training ends once it gets no better.
        warmup_steps: Steps in which the learning rate rises; None for 200, or a
            twentieth of a shorter training.
        clip_norm: Largest global norm of a step's gradient, or None.
        ema: Momentum of the averaged weights that are evaluated, saved and exported.
        precision: Keras dtype policy of the networks.
    """

    flow: str
    architecture: dict
    preprocess: str
    epochs: int
    batch_size: int
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    base: str = "normal"
    jit_compile: bool = False
    validation: float = 0.0
    warmup_steps: int | None = None
    clip_norm: float | None = None
    ema: float | None = None
    precision: str = "float32"


def _recipes(
    preprocess: str, clip_norm: float | None = None, **rows: tuple
) -> dict[str, Recipe]:
    """Makes recipes of arguments, epochs, batch size, learning rate, weight decay."""
    return {
        flow: Recipe(flow, arguments, preprocess, *training, clip_norm=clip_norm)
        for flow, (arguments, *training) in rows.items()
    }


# The other flows of vectors, of which a recipe has the widths of dense networks only.
_OTHERS = (
    "coupling_flow",
    "autoregressive_flow",
    "naf",
    "unaf",
    "bernstein_flow",
    "sos_flow",
    "gaussianization_flow",
    "residual_flow",
    "sylvester_flow",
)


def _others(hidden_units: tuple[int, ...], *training: float) -> dict[str, tuple]:
    others = {flow: ({"hidden_units": hidden_units}, *training) for flow in _OTHERS}
    # A value of `bnaf` has so many units of its own.
    return others | {"bnaf": ({"hidden_units": (8, 8)}, *training)}


# A minute or two on two cores. The toy sets have no tails: splines end at 3 standard
# deviations. Of 100,000 rows batches of 250 or 500 leave no short one, which XLA would
# compile anew.
_SPLINES = {"steps": 4, "bins": 16, "bound": 3.0}
_MAF_SPLINES = _SPLINES | {"transform": "spline", "bins": 32, "hidden_units": (64, 64)}
_SMALL_TOYS = _recipes(
    "standardize",
    nice=({"steps": 8}, 12, 256),
    real_nvp=({"steps": 8}, 12, 256),
    glow=({"steps": 8}, 12, 256),
    ffjord=({}, 2, 256),
    **_others((128, 128), 5, 256, 2e-3)
    | {  # toys have no outliers
        flow: ({"hidden_units": (128, 128), "squash": None}, 5, 256, 2e-3)
        for flow in ("bernstein_flow", "sos_flow")
    },
) | {
    flow: Recipe(flow, *arguments, 1e-2, jit_compile=True)
    for flow, arguments in {
        "spline_flow": (_SPLINES, "standardize", 15, 250),
        "maf": (_MAF_SPLINES, "standardize", 8, 500),
    }.items()
}
# Tables may be short: dropout and a part held back keep flows from overfitting.
_NARROW = {"hidden_units": (64, 64), "dropout": 0.2}
_SMALL_TABLES = {
    flow: dataclasses.replace(recipe, validation=0.15)
    for flow, recipe in _recipes(
        "standardize",
        nice=({"steps": 6, **_NARROW}, 20, 128),
        real_nvp=({"steps": 6, **_NARROW}, 20, 128),
        glow=({"steps": 6, **_NARROW}, 20, 128),
        spline_flow=({"steps": 4, **_NARROW}, 20, 128),
        maf=({"steps": 4, "hidden_units": (64, 64), "squash": 2.0}, 20, 128),
        ffjord=({}, 10, 128),
        **_others((64, 64), 20, 128)
        | {
            "coupling_flow": (_NARROW, 20, 128),
            "autoregressive_flow": ({"hidden_units": (64, 64), "squash": 2.0}, 20, 128),
            "unaf": ({"hidden_units": (64, 64), "squash": 2.0}, 20, 128),
        },
    ).items()
}
_TINY_GLOW = {"levels": 2, "steps": 8, "hidden_channels": 64, "dropout": 0.1}
_SMALL_TINY_IMAGES = _recipes(
    "logit",
    clip_norm=1.0,
    nice=({"steps": 8, "dropout": 0.2}, 60, 64),
    real_nvp=({"levels": 2, "hidden_channels": 32, "dropout": 0.2}, 30, 64),
    glow=(_TINY_GLOW, 60, 64, 4e-3),
    spline_flow=({"steps": 4, "dropout": 0.2}, 30, 64),
    maf=({"steps": 4}, 30, 64),
    ffjord=({}, 20, 64, 4e-3),
    tarflow=({"patch": 2}, 30, 64),
    jet=({"patch": 2, "dropout": 0.1}, 30, 64, 4e-3),
    **_others((128, 128), 30, 64)
    | {
        "coupling_flow": ({"hidden_units": (128, 128), "dropout": 0.2}, 30, 64),
        "gaussianization_flow": ({"hidden_units": (128, 128)}, 30, 64, 4e-3),
        "sylvester_flow": ({"hidden_units": (128, 128)}, 30, 64, 4e-3),
    },
)
# Some twenty minutes for the 60,000 images of 28x28 pixels of Fashion-MNIST.
_SMALL_IMAGES = _recipes(
    "logit",
    clip_norm=1.0,
    nice=({"steps": 4, "hidden_units": (512, 512)}, 20, 128, 4e-3),
    real_nvp=({"hidden_channels": 32}, 5, 64, 4e-3),
    glow=({"levels": 2, "steps": 8, "hidden_channels": 64}, 8, 64, 1e-2),
    spline_flow=({"steps": 4, "hidden_units": (256,)}, 5, 128),
    maf=({"steps": 4, "hidden_units": (512,)}, 5, 128, 4e-3),
    ffjord=({}, 5, 128, 4e-3),
    tarflow=({}, 12, 64, 4e-3),
    jet=({}, 12, 64, 4e-3),
    **_others((256,), 5, 128, 4e-3) | {"bnaf": ({"hidden_units": (8, 8)}, 5, 128)},
)
_SMALL_IMAGES |= {
    flow: dataclasses.replace(_SMALL_IMAGES[flow], preprocess="splines")
    for flow in ("real_nvp", "glow", "tarflow", "jet")
}

# The sizes of the papers (for spline flows, MAF and FFJORD those of their tables).
_PAPER_NICE = {"steps": 4, "hidden_units": (1000,) * 5}
_PAPER_SPLINES = {"steps": 10, "residual": True}
_WIDE, _PAPER_FFJORD = {"hidden_units": (512, 512)}, {"hidden_units": (64, 64, 64)}
_PAPER_VECTORS = _recipes(
    "standardize",
    nice=(_PAPER_NICE, 500, 200),
    real_nvp=({"steps": 10, "log_scale": "tanh", **_WIDE}, 200, 256),
    glow=({"steps": 10, **_WIDE}, 200, 256),
    spline_flow=({**_PAPER_SPLINES, "hidden_units": (256, 256)}, 200, 512, 5e-4),
    maf=({"steps": 10, **_WIDE}, 200, 100, 1e-4, 1e-6),
    ffjord=(_PAPER_FFJORD, 200, 512),
    **_others((512, 512), 200, 256, 5e-4),
)
# Of ImageNet's 64 x 64 pixels, where TarFlow has 2 x 2 patches.
_PAPER_TARFLOW = {"steps": 8, "layers": 8, "width": 768, "heads": 12}
_PAPER_TARFLOW |= {"log_scale": "exp", "actnorm": False}
_PAPER_JET = {"steps": 32, "layers": 2, "width": 512, "heads": 8, "actnorm": False}
_PAPER_REAL_NVP = {
    "hidden_channels": 64,
    "blocks": 8,
    "widen": True,
    "normalized": True,
    "log_scale": "tanh",
    "batchnorm": True,
}
_PAPER_GLOW = {"steps": 32, "hidden_channels": 512, "log_scale": "sigmoid"}
_PAPER_IMAGES = _recipes(
    "center",
    nice=(_PAPER_NICE, 1500, 200, 1e-3, 0.0, "logistic"),
    glow=(_PAPER_GLOW, 250, 64),
    tarflow=(_PAPER_TARFLOW, 200, 128, 1e-4, 1e-4),
    jet=(_PAPER_JET, 200, 128, 3e-4, 1e-5),
) | _recipes(
    "logit",
    real_nvp=(_PAPER_REAL_NVP, 500, 64, 1e-3, 5e-5),
    spline_flow=({**_PAPER_SPLINES, **_WIDE}, 200, 256, 5e-4),
    maf=({"steps": 10, "hidden_units": (1024,)}, 200, 100, 1e-4, 1e-6),
    ffjord=({"steps": 2, **_PAPER_FFJORD}, 100, 200),
    **_others((1024,), 200, 256, 5e-4),
)

RECIPES = {
    "small": {
        "toy": _SMALL_TOYS,
        "table": _SMALL_TABLES,
        "tiny image": _SMALL_TINY_IMAGES,
        "image": _SMALL_IMAGES,
    },
    "paper": {
        "toy": _PAPER_VECTORS,
        "table": _PAPER_VECTORS,
        "tiny image": _PAPER_IMAGES,
        "image": _PAPER_IMAGES,
    },
}
# What the command line can train: on images all of it, on vectors what takes vectors.
FLOWS, PRESETS = tuple(_SMALL_IMAGES), tuple(RECIPES)
DEFAULT_FLOW = {
    "toy": "maf",
    "table": "real_nvp",
    "tiny image": "glow",
    "image": "glow",
}


def choose(
    data: Data,
    flow: str | None,
    preset: str,
    architecture: Mapping[str, object],
    training: Mapping[str, object],
) -> Recipe:
    """Takes the recipe for a data set and changes what the user asks for."""
    import tfp_flows as tfpf

    kind = _kind(data)
    known_flows = RECIPES[preset][kind]
    if flow is not None and flow not in known_flows:
        must = f"be one of {', '.join(known_flows)} for a {kind}"
        raise ValueError(f"Option `--flow` must {must}. Received: {flow}")
    # Of a single column there is nothing to couple.
    default = DEFAULT_FLOW[kind] if math.prod(data.event_shape) > 1 else "spline_flow"
    recipe = known_flows[flow or default]
    make = getattr(tfpf, recipe.flow)
    once = getattr(make, "renamed", {})
    once = {**once, **_ARGUMENTS}
    changes = {
        once.get(key, key): value
        for key, value in architecture.items()
        if value is not None
    }
    known = set(inspect.signature(make).parameters)
    for name in sorted(changes.keys() - known):
        takes = (key for key in architecture if _ARGUMENTS.get(key, key) in known)
        others = ", ".join(map(_option, takes))
        raise ValueError(
            f"Option `{_option(name)}` must not be given for {recipe.flow}, which "
            f"takes {others}. Received: {changes[name]}"
        )
    arguments = recipe.architecture
    for given, other in ((_IMAGE_SIZES, _VECTOR_SIZES), (_VECTOR_SIZES, _IMAGE_SIZES)):
        if given & changes.keys():
            arguments = {k: v for k, v in arguments.items() if k not in other}
    training = {key: value for key, value in training.items() if value is not None}
    if "clip_norm" in training:
        training["clip_norm"] = _clip_norm(training["clip_norm"])
    for name, value in training.items():
        _check_training(name, value)
    precision = training.get("precision", "float32")
    if precision != "float32" and _dtype(data):
        raise ValueError(
            f"Option `--precision` must be float32 for {data.name}, whose digits take "
            f"a flow in float64. Received: {precision}"
        )
    if kind == "table":
        recipe = _for_length(recipe, len(data.x_train))
    return dataclasses.replace(recipe, architecture=arguments | changes, **training)


def _clip_norm(text: str) -> float | None:
    from tfp_flows.training.optimizers import checked_clip_norm

    try:
        return checked_clip_norm(text)
    except ValueError as error:
        raise ValueError(
            str(error).replace("Argument `clip_norm`", "Option `--clip-norm`")
        ) from None


def _check_training(name: str, value: Any) -> None:
    if name == "precision":
        good, must = value in PRECISIONS, f"be one of {', '.join(PRECISIONS)}"
    elif name == "ema":
        good, must = 0.0 < value < 1.0, "lie between 0 and 1"
    else:
        good = value is None or value > 0 or (name in MAY_BE_ZERO and value == 0)
        must = "be positive"
    if not good:
        raise ValueError(f"Option `{_option(name)}` must {must}. Received: {value}")


def _for_length(recipe: Recipe, rows: int) -> Recipe:
    """Takes more epochs of a short table, in smaller batches."""
    batch_size = max(SMALLEST_BATCH, min(recipe.batch_size, rows // 20))
    epochs = recipe.epochs * max(1.0, TABLE_ROWS / rows)
    return dataclasses.replace(
        recipe, batch_size=batch_size, epochs=min(MOST_EPOCHS, round(epochs))
    )


def _option(name: str) -> str:
    name = next((key for key, value in _ARGUMENTS.items() if value == name), name)
    return "--" + name.removesuffix("_steps").replace("_", "-")


def _kind(data: Data) -> str:
    if data.kind != "image":
        return data.kind
    tiny = math.prod(data.event_shape[:2]) <= TINY_PIXELS
    return "tiny image" if tiny else "image"


def build(recipe: Recipe, data: Data) -> tfd.TransformedDistribution:
    """Builds the untrained flow of a recipe."""
    import numpy as np
    import tensorflow_probability as tfp

    import tfp_flows as tfpf

    tfd = tfp.distributions
    base = None
    if recipe.base == "logistic":
        size = math.prod(data.event_shape)
        base = tfd.Sample(tfd.Logistic(np.float32(0), np.float32(1)), [size])
    architecture = getattr(tfpf, recipe.flow)
    with tfpf.network_precision(recipe.precision):
        return architecture(
            data.event_shape,
            preprocess=_preprocess(recipe, data),
            base=base,
            dtype=_dtype(data),
            **recipe.architecture,
        )


def _dtype(data: Data) -> str | None:
    """The flow's dtype: float64 for data that come so, else that of Keras."""
    return "float64" if data.x_train.dtype == "float64" else None


def _preprocess(recipe: Recipe, data: Data) -> tfb.Bijector:
    """The bijector between the data and the values that the flow works on."""
    import numpy as np
    import tensorflow_probability as tfp

    import tfp_flows as tfpf

    tfb = tfp.bijectors
    if data.pixel_levels is None:
        x = data.x_train
        # Sums of many values in float32 lose the mean of large ones.
        mean, deviation = (f(axis=0, dtype=np.float64) for f in (x.mean, x.std))
        parts = [tfb.Shift(mean.astype(x.dtype)), tfb.Scale(deviation.astype(x.dtype))]
        return tfb.Chain(parts, name="standardize")
    if recipe.preprocess == "center":
        return tfpf.center(data.pixel_levels)
    logit = tfpf.logit(data.pixel_levels, LOGIT_ALPHA)
    splines = recipe.preprocess == "splines"
    return behind_splines(logit, data.event_shape) if splines else logit


def behind_splines(logit: tfb.Bijector, event_shape: tuple[int, ...]) -> tfb.Bijector:
    """Returns pixels' bijector followed by `tfpf.pixel_splines`."""
    import tensorflow_probability as tfp

    import tfp_flows as tfpf

    parts = [logit, tfpf.pixel_splines(event_shape)]
    return tfp.bijectors.Chain(parts, name="splines")


def optimizer(recipe: Recipe, examples: int) -> keras.optimizers.Optimizer:
    """Makes the optimizer of a recipe, with a cosine-shaped decay of its rate."""
    import tfp_flows as tfpf

    steps = recipe.epochs * math.ceil(examples / recipe.batch_size)
    warmup = recipe.warmup_steps
    if warmup is None:
        warmup = min(WARMUP_STEPS, steps // 20)
    elif warmup >= steps:
        raise ValueError(
            f"Option `--warmup` must be less than the {steps:,} steps of the training. "
            f"Received: {warmup}"
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


def compiled(recipe: Recipe, data: Data) -> FlowModel:
    """Builds the model of a recipe, ready for `fit`."""
    import tfp_flows as tfpf

    model = tfpf.FlowModel(build(recipe, data))
    model.compile(
        optimizer=optimizer(recipe, len(data.x_train)), jit_compile=recipe.jit_compile
    )
    return model
