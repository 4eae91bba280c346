"""`features`: the latents of a flow as rows of numbers."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

from tfp_flows.anomaly.rows import evaluate_rows
from tfp_flows.bijectors.conditional import EncodedCondition
from tfp_flows.bijectors.multiscale import MultiScale
from tfp_flows.internal.arguments import invalid, is_integer
from tfp_flows.internal.compat import Chain
from tfp_flows.training.model import FlowModel
from tfp_flows.training.sampling import distribution_of


def features(
    flow: FlowModel | tfd.Distribution,
    x: npt.ArrayLike,
    *,
    level: int | None = None,
    condition: npt.ArrayLike | None = None,
    batch_size: int = 256,
) -> np.ndarray:
    """Returns the latents of data, flattened to one vector a row.

        features(x) = z = f^-1(x)

    Images of whole pixel values have to be brought to the middle of their cells,
    `x + 0.5`, or dequantized. See `tfp_flows.anomaly` for the other arguments.

    Args:
        flow: A `tfpf.FlowModel`, or a TFP distribution with a bijector.
        level: None for all latents. For a flow on several scales one of its levels: 0
            for the coarsest, whose values passed all of them, up to the number of
            levels less 1 for those that left first. See `MultiScale`.

    Returns:
        Latents `[n, d]` in the flow's dtype.

    Raises:
        TypeError: If `flow` has no bijector, and so no latents.
        ValueError: If there is no such level, or the shape of `x` is not that of the
            flow's data.

    Example:
        >>> import tfp_flows as tfpf
        >>> flow = tfpf.glow((4, 4, 1), levels=2, steps=1, hidden_channels=4)
        >>> features(flow, np.zeros([3, 4, 4, 1])).shape
        (3, 16)
        >>> features(flow, np.zeros([3, 4, 4, 1]), level=0).shape
        (3, 8)
    """
    distribution = distribution_of(flow, "flow")
    if not hasattr(distribution, "bijector"):
        must = "have a bijector, whose latents are the features"
        raise invalid("flow", must, got=f"{distribution} without one", kind=TypeError)
    chosen = slice(None) if level is None else _place(distribution.bijector, level)
    rows = evaluate_rows(distribution, x, condition=condition, batch_size=batch_size)
    return np.reshape(rows.latent, [len(rows), -1])[:, chosen]


def _place(bijector: tfb.Bijector, level: int) -> slice:
    """Returns where the values of a level stand in the latent vector."""
    pyramid = _latent_end(bijector)
    if not isinstance(pyramid, MultiScale):
        raise ValueError(
            "Argument `level` must be None unless the last bijector on the latent side "
            "is a `tfpf.MultiScale`. "
            f"Received: level={level!r} for a flow that ends in "
            f"{type(pyramid).__name__}"
        )
    sizes = [math.prod(shape) for shape in pyramid.latent_shapes]
    if not is_integer(level) or not 0 <= level < len(sizes):
        must = f"be None or an integer from 0 (coarsest) to {len(sizes) - 1}"
        raise invalid("level", must, level)
    start = sum(sizes[:level])
    return slice(start, start + sizes[level])


def _latent_end(bijector: tfb.Bijector) -> tfb.Bijector:
    """Returns the bijector that is nearest to the base distribution."""
    if isinstance(bijector, Chain) and bijector.bijectors:
        return _latent_end(bijector.bijectors[-1])
    if isinstance(bijector, EncodedCondition):
        return _latent_end(bijector.bijector)
    return bijector
