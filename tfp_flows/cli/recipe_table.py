"""The table of recipes, by preset, kind of data and architecture."""

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Everything that decides a training run besides the data and the seed.

    Attributes:
        flow: Name of the architecture.
        architecture: Its arguments.
        preprocess: The bijector between data and flow: `"logit"` or `"center"` for
            pixels, `"standardize"` for everything else.
        epochs: Passes over the training part. For tables: over 20,000 rows; a shorter
            one is passed over more often.
        batch_size: Examples a step.
        learning_rate: Highest learning rate; it rises in the first steps and falls
            along half a cosine to zero.
        weight_decay: AdamW's decay of the weights.
        base: The latents' distribution, `"normal"` or `"logistic"`.
        jit_compile: Whether XLA compiles the training step.
        validation: Share of the training part to hold back. If it is not zero, the
            weights of the epoch that did best on it are kept, and training ends
            early once it gets no better.
        warmup_steps: Steps in which the learning rate rises; None for 200, or a
            twentieth of a shorter training.
        clip_norm: Largest global norm of a step's gradient, or None.
        ema: Momentum of the average of the weights that is evaluated, saved and
            exported in their place, or None.
        precision: Keras dtype policy of the networks.
    """

    flow: str
    architecture: dict[str, Any]
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


def _by_flow(*recipes: Recipe) -> dict[str, Recipe]:
    return {recipe.flow: recipe for recipe in recipes}


# A minute or two on two cores. The toy sets have no tails: splines end at 3 standard
# deviations.
_TOY_SPLINES = {"steps": 4, "bins": 16, "bound": 3.0}
_SMALL_VECTORS = _by_flow(
    Recipe("nice", {"steps": 8}, "standardize", 60, 256),
    Recipe("real_nvp", {"steps": 8}, "standardize", 60, 256),
    Recipe("glow", {"steps": 8}, "standardize", 60, 256),
    Recipe("spline_flow", _TOY_SPLINES, "standardize", 25, 256, 5e-3),
    Recipe("ffjord", {}, "standardize", 10, 256),
)
# Tables may be short: dropout and a part held back keep flows from learning by heart.
_WIDTHS = {"hidden_units": (64, 64), "dropout": 0.2}
_SMALL_TABLES = tuple(
    dataclasses.replace(recipe, validation=0.15)
    for recipe in (
        Recipe("nice", {"steps": 6, **_WIDTHS}, "standardize", 20, 128),
        Recipe("real_nvp", {"steps": 6, **_WIDTHS}, "standardize", 20, 128),
        Recipe("glow", {"steps": 6, **_WIDTHS}, "standardize", 20, 128),
        Recipe("spline_flow", {"steps": 4, **_WIDTHS}, "standardize", 20, 128),
        Recipe("ffjord", {}, "standardize", 10, 128),
    )
)
_SMALL_TINY_IMAGES = _by_flow(
    Recipe("nice", {"steps": 8, "dropout": 0.2}, "logit", 60, 64),
    Recipe("real_nvp", {"levels": 2, "hidden_channels": 32}, "logit", 30, 64),
    Recipe(
        "glow",
        {"levels": 2, "steps": 8, "hidden_channels": 64, "dropout": 0.1},
        "logit",
        30,
        64,
        4e-3,
    ),
    Recipe("spline_flow", {"steps": 4, "dropout": 0.2}, "logit", 30, 64),
    Recipe("ffjord", {}, "logit", 20, 64),
)
# Some twenty minutes for the 60,000 images of 28x28 pixels of Fashion-MNIST.
_SMALL_IMAGES = _by_flow(
    Recipe("nice", {"steps": 4, "hidden_units": (512, 512)}, "logit", 20, 128),
    Recipe("real_nvp", {"hidden_channels": 32}, "logit", 5, 64),
    Recipe("glow", {"steps": 8, "hidden_channels": 64}, "logit", 5, 64),
    Recipe("spline_flow", {"steps": 4, "hidden_units": (256,)}, "logit", 5, 128),
    Recipe("ffjord", {}, "logit", 5, 128),
)

# The sizes of the papers (for spline flows and FFJORD those of their tables).
_PAPER_VECTORS = _by_flow(
    Recipe("nice", {"steps": 4, "hidden_units": (1000,) * 5}, "standardize", 500, 200),
    Recipe(
        "real_nvp",
        {"steps": 10, "hidden_units": (512, 512)},
        "standardize",
        200,
        256,
    ),
    Recipe("glow", {"steps": 10, "hidden_units": (512, 512)}, "standardize", 200, 256),
    Recipe(
        "spline_flow",
        {"steps": 10, "hidden_units": (256, 256), "residual": True},
        "standardize",
        200,
        512,
        5e-4,
    ),
    Recipe("ffjord", {"hidden_units": (64, 64, 64)}, "standardize", 200, 512),
)
_PAPER_IMAGES = _by_flow(
    Recipe(
        "nice",
        {"steps": 4, "hidden_units": (1000,) * 5},
        "center",
        1500,
        200,
        base="logistic",
    ),
    Recipe(
        "real_nvp",
        {
            "hidden_channels": 64,
            "blocks": 8,
            "widen": True,
            "normalized": True,
            "log_scale": "tanh",
            "batchnorm": True,
        },
        "logit",
        500,
        64,
        weight_decay=5e-5,
    ),
    Recipe(
        "glow",
        {"steps": 32, "hidden_channels": 512, "log_scale": "sigmoid"},
        "center",
        250,
        64,
    ),
    Recipe(
        "spline_flow",
        {"steps": 10, "hidden_units": (512, 512), "residual": True},
        "logit",
        200,
        256,
        5e-4,
    ),
    Recipe("ffjord", {"steps": 2, "hidden_units": (64, 64, 64)}, "logit", 100, 200),
)

RECIPES = {
    "small": {
        "toy": _SMALL_VECTORS,
        "table": _by_flow(*_SMALL_TABLES),
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

DEFAULT_FLOW = {
    "toy": "spline_flow",
    "table": "real_nvp",
    "tiny image": "glow",
    "image": "glow",
}
