"""Conditions on their way through TFP's containers, and `tff.condition`."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows.bijectors.base import FlowBijector, given
from tfp_flows.bijectors.tfp_internals import Composition, Invert

tfb = tfp.bijectors


def condition_arguments(bijector: tfb.Bijector, condition: Any) -> dict[str, Any]:
    """Returns the keyword arguments that bring `condition` to where it is taken.

    TFP's containers route keyword arguments by the names of their parts, as in
    `chain.forward(x, coupling={"condition": c})`; nested containers nest them.

    Args:
        bijector: Any TFP bijector.
        condition: A tensor of conditions, or None.

    Returns:
        Keyword arguments for the bijector's methods; empty if no part takes one.
    """
    if condition is None:
        return {}
    if isinstance(bijector, FlowBijector):
        return given(bijector, condition)
    if isinstance(bijector, Invert):
        return condition_arguments(bijector.bijector, condition)
    if isinstance(bijector, Composition):
        arguments = {}
        for part in tf.nest.flatten(bijector.bijectors):
            inner = condition_arguments(part, condition)
            if inner:
                arguments[part.name] = inner
        return arguments
    return {}
