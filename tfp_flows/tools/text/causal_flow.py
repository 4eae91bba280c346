"""`causal_flow`: the flow over sequences of vectors, assembled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows.architectures.assembly import checked_count
from tfp_flows.bijectors.autoregressive import MaskedAutoregressive
from tfp_flows.nets.made import MADE
from tfp_flows.tools.text.causal import Causal
from tfp_flows.tools.text.codes import standard_logistic
from tfp_flows.tools.text.mixture import ConditionalMixture
from tfp_flows.tools.text.recurrent import CausalLSTM

tfb, tfd = tfp.bijectors, tfp.distributions

STEPS = ("mixture", "spline")

_BOUND = 4.0  # of splines: clouds that start at -1 and 1 have room to move


def causal_flow(
    length: int,
    d: int,
    *,
    categories: int,
    units: Sequence[int] = (256,),
    features: int = 64,
    step: str = "mixture",
    bins: int = 12,
    hidden_units: Sequence[int] = (128,),
    scale: float = 0.2,
    dtype: Any = None,
    name: str = "causal_flow",
) -> tfd.TransformedDistribution:
    """Builds an autoregressive flow of sequences of vectors for `CategoricalFlow`.

    Logistic noise runs through one `Causal` bijector: a recurrent network sums up the
    vectors before a position, and gives the summary to

    * `"mixture"`: a `ConditionalMixture` of as many clouds as there are categories;
    * `"spline"`: rational-quadratic splines, one value of the vector after the other
      (`tff.MaskedAutoregressive`), which know nothing of categories.

    Args:
        length: Number of positions.
        d: Number of values in a vector.
        categories: Number of clouds of the mixture.
        units: Units of each layer of LSTM.
        features: Features that the network makes of a vector first.
        step: `"mixture"` or `"spline"`.
        bins: Number of bins of each spline.
        hidden_units: Widths of the masked network between summary and splines.
        scale: The scale that the clouds of a mixture start with.
        dtype: Float type of flow and networks; None for Keras's default.
        name: Name of the distribution.

    Returns:
        A distribution of sequences `[length, d]`.

    Raises:
        ValueError: If an argument is out of its range.
    """
    checked_count("length", length)
    if step not in STEPS:
        raise ValueError(
            f"Argument `step` must be one of {STEPS}. Received: step={step!r}"
        )
    dtype = tf.as_dtype(dtype or keras.config.floatx()).name
    net = CausalLSTM(units, features=features, dtype=dtype)
    past = (net.units[-1],)
    if step == "mixture":
        weights = keras.layers.Dense(
            categories, kernel_initializer="zeros", dtype=dtype
        )
        one = ConditionalMixture(
            d,
            weights,
            components=categories,
            condition_shape=past,
            scale=scale,
            dtype=dtype,
        )
    else:
        one = MaskedAutoregressive(
            d,
            MADE(hidden_units, dtype=dtype),
            transform="spline",
            bins=bins,
            bound=_BOUND,
            condition_shape=past,
            dtype=dtype,
        )
    return tfd.TransformedDistribution(
        standard_logistic((length, d), dtype), Causal((length, d), one, net), name=name
    )
