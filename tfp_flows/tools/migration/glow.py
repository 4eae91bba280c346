"""`tfb.Glow` as levels of steps of ours."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows.bijectors import masks
from tfp_flows.bijectors.actnorm import ActNorm
from tfp_flows.bijectors.conv1x1 import InvertibleConv1x1, lu_parts
from tfp_flows.bijectors.multiscale import MultiScale
from tfp_flows.bijectors.nested import nested_layers
from tfp_flows.bijectors.repeat import Repeat
from tfp_flows.bijectors.squeeze import Squeeze
from tfp_flows.bijectors.stacked import copied, distinct_variables
from tfp_flows.tools.migration.real_nvp import glow_coupling
from tfp_flows.tools.migration.tf_keras_networks import is_tf_keras, pieces_of

tfb = tfp.bijectors

Shape = tuple[int, ...]


def levels_from(glow: tfb.Glow) -> tfb.Bijector:
    """Returns the bijector that computes what a `tfb.Glow` computes.

    From the data to the latents each level is a `Squeeze` in TFP's channel order, a
    `Repeat` of actnorm, 1x1 convolution and coupling, and the coupling of the half
    that leaves. `MultiScale` holds the levels; TFP interleaves the latents of the
    levels, so a `tfb.Permute` behind it brings them into TFP's order.

    Args:
        glow: A Glow whose coupling networks are sequential, such as TFP's default
            ones, and in which half of the channels leaves after each block but the
            last, as is TFP's default.

    Returns:
        The bijector, from flat latents to images.

    Raises:
        ValueError: If the Glow is built in another way; the message says how.
    """
    blocks = [part for part in _walk(glow) if type(part).__name__ == "GlowBlock"]
    exits = [part for part in _walk(glow) if type(part).__name__ == "ExitBijector"]
    shape = tuple(int(n) for n in glow.parameters["output_shape"])
    _check_splits(glow)
    event_shape, levels = shape, []
    for number, (block, leave) in enumerate(zip(blocks, exits, strict=True), 1):
        height, width, channels = shape
        shape = (height // 2, width // 2, 4 * channels)
        steps = _repeat(block, shape)
        parts = [Squeeze(order="channel", dtype=steps.dtype.name), steps]
        if number < len(blocks):
            parts.append(_leaving(leave.exit_layer, shape, steps.dtype.name))
            shape = (*shape[:-1], shape[-1] // 2)
        levels.append(tfb.Chain(parts))
    pyramid = MultiScale(event_shape, levels)
    order = np.argsort(_latent_order(pyramid.latent_shapes)).tolist()
    return tfb.Chain([pyramid, tfb.Permute(order)], name=glow.name)


def _walk(bijector: Any) -> list[Any]:
    """Lists a bijector and the parts of its chains, data side first."""
    inner = getattr(bijector, "bijectors", None)
    if inner is None and type(bijector).__name__.strip("_") == "Invert":
        inner = bijector.bijector
    parts = inner if isinstance(inner, list | tuple) else [inner]
    return [bijector, *(p for part in parts if part is not None for p in _walk(part))]


def _check_splits(glow: tfb.Glow) -> None:
    # From the coarsest level: channels that stay, that leave, that have left.
    splits = glow.blockwise_splits
    halves = [stay == leave for stay, leave, _ in splits[1:]]
    if splits[0][1] or not all(halves):
        raise ValueError(
            "A `tfb.Glow` is carried over if half of the channels leaves after each "
            "block but the last, as with `grab_after_block=None`. Received: "
            f"grab_after_block={glow.parameters['grab_after_block']}"
        )


def _repeat(block: Any, shape: Shape) -> Repeat:
    """Returns the steps of a block, with the weights of all of them."""
    groups, group = [], []
    for part in _walk(block):
        if type(part).__name__ in ("ActivationNormalization", "OneByOneConv"):
            group.append(part)
        elif hasattr(part, "coupling_bijector_layer"):
            groups.append([*group, part])
            group = []
    steps = [_step(parts, shape) for parts in groups]
    repeat = Repeat(steps[0], len(steps))
    rows = [
        [copied(variable) for variable in distinct_variables(nested_layers(step))]
        for step in steps
    ]
    # `Repeat` has drawn weights of its own for all copies but the first.
    for stack, values in zip(
        repeat._stacked.stacks, zip(*rows, strict=True), strict=True
    ):
        stack.assign(np.stack(values))
    return repeat


def _step(parts: list[Any], shape: Shape) -> tfb.Bijector:
    *linear, coupling = parts
    network = coupling.coupling_bijector_layer
    _check_network(network)
    pieces = pieces_of(network)
    dtype = pieces[0].weights[0].dtype.name
    carried = [
        _actnorm(part, dtype)
        if type(part).__name__ == "ActivationNormalization"
        else _mixing(part, dtype)
        for part in linear
    ]
    mask = masks.channel(shape)
    last = glow_coupling(pieces, mask, dtype, log_scale="sigmoid", offset=0.0)
    return tfb.Chain([*carried, last])


def _leaving(network: Any, shape: Shape, dtype: str) -> tfb.Bijector:
    """Returns the coupling that TFP has between the halves at the end of a level."""
    _check_network(network)
    mask = masks.channel(shape)
    return glow_coupling(pieces_of(network), mask, dtype, log_scale="exp", offset=2.0)


def _check_network(network: Any) -> None:
    if not is_tf_keras(network):
        raise ValueError(
            "A `tfb.Glow` is carried over if its networks are of tf_keras, such as "
            "`tfb.GlowDefaultNetwork`. Received: a network of class "
            f"'{type(network).__name__}'"
        )


def _actnorm(source: Any, dtype: str) -> ActNorm:
    """TFP's is `x = exp(p) (y + m)` from data to latents, ours `(y - b) exp(-s)`."""
    shift = source._m.numpy()
    log_scale = source._s.pretransformed_input.numpy()
    carried = ActNorm(len(shift), dtype=dtype)
    weights = carried._weights
    weights.shift.assign(-shift)
    weights.log_scale.assign(-log_scale)
    weights.adapted.assign(int(source._initialized.numpy()))
    return carried


def _mixing(source: Any, dtype: str) -> InvertibleConv1x1:
    """TFP's is `x = W y` for a column of channels, ours `x = y W` for a row."""
    lower_upper, permutation = (
        source._bijector.lower_upper,
        source._bijector.permutation,
    )
    matrix = tf.linalg.lu_reconstruct(tf.cast(lower_upper, tf.float64), permutation)
    carried = InvertibleConv1x1(int(matrix.shape[0]), dtype=dtype)
    weights: Any = carried._weights
    values = lu_parts(np.array(matrix).T)
    for weight, value in zip(
        (weights.lu, weights.sign, weights.order), values, strict=True
    ):
        weight.assign(value)
    return carried


def _latent_order(shapes: list[Shape]) -> np.ndarray:
    """Returns, for each latent of TFP's, its place among the latents of `MultiScale`.

    TFP squeezes a half that has left along with the rest, down to the coarsest
    level, where it stands behind the channels that stayed.
    """
    sizes = [math.prod(shape) for shape in shapes]
    places = np.split(np.arange(sum(sizes)), np.cumsum(sizes)[:-1])
    squeeze, images = Squeeze(order="channel", dtype="float64"), []
    for part, shape in zip(places, shapes, strict=True):
        image = tf.constant(part.reshape(shape), tf.float64)
        while image.shape[0] > shapes[0][0]:
            image = squeeze.inverse(image)
        images.append(image)
    return np.array(tf.concat(images, axis=-1)).reshape(-1).astype(int)
