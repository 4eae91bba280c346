"""What `FlowModel` accepts as inputs: data, or data and conditions."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf


def split_inputs(inputs: Any) -> tuple[Any, Any]:
    """Returns data and conditions; the conditions are None where there are none."""
    if isinstance(inputs, dict):
        unknown = set(inputs) - {"x", "condition"}
        if "x" not in inputs or unknown:
            raise ValueError(
                "Argument `x` given as a dictionary must have the keys 'x' and, for a "
                f"conditional flow, 'condition'. Received: keys {sorted(inputs)}"
            )
        return inputs["x"], inputs.get("condition")
    if isinstance(inputs, list | tuple):
        if len(inputs) not in (1, 2):
            raise ValueError(
                "Argument `x` given as a sequence must be `(x,)` or `(x, condition)`. "
                f"Received: {len(inputs)} parts"
            )
        return inputs[0], inputs[1] if len(inputs) == 2 else None
    return inputs, None


def check_event(x: Any, event: tuple[int, ...], name: str) -> None:
    """Raises `ValueError` unless the last axes of `x` are the distribution's event."""
    shape = tf.TensorShape(x.shape)
    if shape.rank is None or shape.rank <= len(event) - 1:
        compatible = shape.rank is None
    else:
        compatible = shape[shape.rank - len(event) :].is_compatible_with(event)
    if not compatible:
        words = ", ".join(map(str, ("batch", *event)))
        raise ValueError(
            f"Argument `x` must have shape [{words}], as the distribution "
            f"'{name}' has. Received: x of shape {shape}"
        )


def with_weights(y: Any, sample_weight: Any) -> Any:
    """Returns a target for Keras to carry: it forgets weights that have none."""
    if sample_weight is None or y is not None:
        return y
    return np.zeros(len(sample_weight), "float32")
