"""`optimizer`: Adam with schedules, clipping and averaged weights."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from tfp_flows.internal.arguments import (
    Config,
    checked_choice,
    checked_integer,
    checked_number,
    invalid,
)

# Optimizers by which files of version 0.1 may have been compiled.
for _kind in (keras.optimizers.Adam, keras.optimizers.AdamW):
    _name = f"Fused{_kind.__name__}"
    keras.saving.register_keras_serializable(package="tfp_flows", name=_name)(
        type(_name, (_kind,), {"__doc__": _kind.__doc__})
    )

# Largest global norms of a step's gradient. Normalizing flows blow up by single
# steps, not slowly: the looser ones only catch those.
CLIP_NORMS: dict[str, float | None] = {
    "none": None,
    "tight": 1.0,
    "medium": 5.0,
    "loose": 100.0,
}
DECAYS = ("constant", "cosine")


@keras.saving.register_keras_serializable(package="tfp_flows")
class WarmUp(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate that rises linearly and then stays, as Glow's does.

        rate(step) = learning_rate min(1, (step + 1) / steps)

    The first step already moves: its rate is `learning_rate / steps`.

    Reference: Kingma, Dhariwal: Glow, 2018, arXiv:1807.03039; its code warms up so,
    over the first ten epochs.
    """

    def __init__(self, learning_rate: float, steps: int) -> None:
        self.learning_rate = float(learning_rate)
        self.steps = int(steps)

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        """Returns the rate of a step, counted from 0."""
        risen: Any = keras.ops.cast(step, "float32")
        share: Any = keras.ops.minimum(1.0, (risen + 1.0) / float(self.steps))
        return self.learning_rate * share

    def get_config(self) -> Config:
        """Returns the constructor's arguments."""
        return {"learning_rate": self.learning_rate, "steps": self.steps}


def optimizer(
    learning_rate: float = 1e-3,
    *,
    warmup_steps: int = 0,
    decay: str = "constant",
    steps: int | None = None,
    weight_decay: float = 0.0,
    clip_norm: float | str | None = None,
    ema: float | None = None,
) -> keras.optimizers.Optimizer:
    """Makes Adam with a warm-up, a decay, clipped gradients and averaged weights.

    All of it is Keras's own. Under `mixed_float16`, `FlowModel.compile` wraps the
    optimizer in Keras's `LossScaleOptimizer`, as `auto_scale_loss=True` says.

    Args:
        warmup_steps: Steps over which the rate rises linearly: Glow's are ten epochs.
        decay: `"constant"`, or `"cosine"`: half a cosine to zero at step `steps`.
        steps: Number of all training steps, which `"cosine"` needs.
        weight_decay: AdamW's decay of the weights; 0 gives Adam.
        clip_norm: Largest global norm of a step's gradient; a number, or `"tight"`
            (1), `"medium"` (5), `"loose"` (100), `"none"` or None.
        ema: Momentum of an exponential moving average of the weights, such as 0.999;
            None for none. Keras puts the averages in the weights' place when `fit`
            ends; `tfpf.AveragedWeights` evaluates with them before that.

    Example:
        >>> adam = optimizer(2e-3, warmup_steps=100, clip_norm="loose", ema=0.999)
        >>> adam.global_clipnorm, adam.ema_momentum
        (100.0, 0.999)
    """
    checked_number("learning_rate", learning_rate, above=0.0)
    checked_integer("warmup_steps", warmup_steps, minimum=0)
    if checked_choice("decay", decay, DECAYS) == "cosine":
        if warmup_steps >= checked_integer("steps", steps):
            got = f"warmup_steps={warmup_steps} with steps={steps}"
            raise invalid("warmup_steps", "be below `steps`", got=got)
    checked_number("weight_decay", weight_decay, minimum=0.0)
    if ema is not None:
        checked_number("ema", ema, above=0.0, below=1.0)
    arguments = {
        "learning_rate": _schedule(learning_rate, warmup_steps, decay, steps),
        "global_clipnorm": checked_clip_norm(clip_norm),
        "use_ema": ema is not None,
        "ema_momentum": 0.99 if ema is None else ema,
    }
    if not weight_decay:  # AdamW would subtract a product with zero in every step
        return keras.optimizers.Adam(**arguments)
    return keras.optimizers.AdamW(weight_decay=weight_decay, **arguments)


def has_schedule(optimizer: keras.optimizers.Optimizer) -> bool:
    """Whether an optimizer's learning rate follows a schedule, which none can set."""
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    return isinstance(inner.get_config()["learning_rate"], dict)


def checked_clip_norm(clip_norm: float | str | None) -> float | None:
    """Returns the norm that a number or a name in `CLIP_NORMS` stands for."""
    if clip_norm is None:
        return None
    if isinstance(clip_norm, str) and clip_norm in CLIP_NORMS:
        return CLIP_NORMS[clip_norm]
    try:
        return checked_number("clip_norm", float(clip_norm), above=0.0)
    except (TypeError, ValueError):
        must = f"be a positive number or one of {', '.join(CLIP_NORMS)}"
        raise invalid("clip_norm", must, clip_norm) from None


def _schedule(
    learning_rate: float, warmup_steps: int, decay: str, steps: int | None
) -> float | keras.optimizers.schedules.LearningRateSchedule:
    if decay == "constant" or steps is None:
        return WarmUp(learning_rate, warmup_steps) if warmup_steps else learning_rate
    if not warmup_steps:
        return keras.optimizers.schedules.CosineDecay(learning_rate, steps)
    return keras.optimizers.schedules.CosineDecay(
        learning_rate / warmup_steps,  # as `WarmUp`: the first step already moves
        steps - warmup_steps,
        warmup_target=learning_rate,
        warmup_steps=warmup_steps,
    )
