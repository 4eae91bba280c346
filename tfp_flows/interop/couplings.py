"""TFP's RealNVP and Glow carried over."""

from __future__ import annotations

import math

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf
from tensorflow_probability import bijectors as tfb

from tfp_flows.bijectors import masks
from tfp_flows.bijectors.coupling import AdditiveCoupling, AffineCoupling
from tfp_flows.bijectors.linear import InvertibleConv1x1
from tfp_flows.bijectors.masks import Mask
from tfp_flows.bijectors.multiscale import MultiScale
from tfp_flows.bijectors.normalization import ActNorm
from tfp_flows.bijectors.repeat import Repeat
from tfp_flows.bijectors.reshape import Squeeze
from tfp_flows.bijectors.transforms.affine import LOG_SCALES
from tfp_flows.bijectors.tree import bijectors_in
from tfp_flows.internal.arguments import Shape
from tfp_flows.internal.compat import (
    glow_actnorm_values,
    glow_mixing_values,
    real_nvp_parts,
)
from tfp_flows.interop.networks import (
    LayerCopy,
    conditioner_from,
    is_tf_keras,
    layers_of,
    networks_in,
)

_PROBES = 32


def coupling_from(bijector: tfb.RealNVP) -> tfb.Bijector:
    """Returns the coupling that computes what a `tfb.RealNVP` computes.

    TFP's bijector holds a Python function around a network. It is tried on random
    inputs, and the `AffineCoupling` whose shift and log-scale are equal there is taken,
    or an `AdditiveCoupling` if there is no scale.
    """
    networks = networks_in(bijector)
    if len(networks) != 1:
        raise ValueError(
            f"A `tfb.RealNVP` is carried over if its function holds one network of "
            "tf_keras, found as an attribute or in the function's closure. Received: "
            f"'{bijector.name}' with {len(networks)} networks"
        )
    layers = layers_of(networks[0])
    if not layers or not layers[-1].weights or layers[0].kind != "Dense":
        raise ValueError(
            "A `tfb.RealNVP` is carried over if its network starts and ends with dense "
            f"layers. Received: '{bijector.name}' with {[p.kind for p in layers]}"
        )
    inputs = int(layers[0].weights[0].shape[0])
    outputs = int(layers[-1].weights[0].shape[-1])
    dtype = layers[0].weights[0].dtype.name
    size, mask = _mask(bijector, inputs)
    transformed = size - inputs
    x0 = np.random.default_rng(0).normal(size=(_PROBES, inputs)).astype(dtype)
    shift, log_scale = _probed(bijector, x0, transformed)
    raw = conditioner_from(layers, (inputs,), range(outputs), dtype)(x0)

    def net(order: np.ndarray) -> keras.Layer:
        return conditioner_from(layers, (inputs,), order, dtype)

    places = np.arange(outputs)
    if outputs == transformed and _equal(shift, raw) and not log_scale.any():
        return AdditiveCoupling(mask, net(places), dtype=dtype)
    if outputs == 2 * transformed:
        first, second = raw[:, :transformed], raw[:, transformed:]
        for t, r, order in (
            (first, second, places),
            (second, first, np.roll(places, transformed)),
        ):
            for name, function in LOG_SCALES.items():
                if _equal(shift, t) and _equal(log_scale, function(r)):
                    return AffineCoupling(mask, net(order), log_scale=name, dtype=dtype)
    raise ValueError(
        "A `tfb.RealNVP` is carried over if its shift is a half of the network's "
        f"outputs and its log-scale the other half, through one of "
        f"{sorted(LOG_SCALES)}, or if it only shifts by the outputs. "
        f"Received: '{bijector.name}', whose function does something else"
    )


def _mask(bijector: tfb.RealNVP, inputs: int) -> tuple[int, Mask]:
    """Returns the size of an event and the mask, for a network of so many inputs."""
    size, identity, last, _ = real_nvp_parts(bijector)
    if size is None:
        raise ValueError(
            "The source must have been called once, so that it knows the size of its "
            f"events. Received: '{bijector.name}', which was never called"
        )
    if not 0 < inputs == abs(identity) < size:
        raise ValueError(
            f"The network of '{bijector.name}' must take the {identity} values that "
            f"are not transformed. Received: a network of {inputs} inputs"
        )
    if inputs == (size - size // 2 if last else size // 2):
        return size, masks.half(size, flip=last)
    first = size - inputs if last else 0
    return size, masks.indices(size, range(first, first + inputs))


def _probed(
    bijector: tfb.RealNVP, x0: np.ndarray, transformed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns shift and log-scale for some identity values."""
    zeros = tf.zeros((len(x0), transformed), x0.dtype)
    try:
        inner = real_nvp_parts(bijector)[-1](tf.constant(x0), transformed)
        shift = inner.forward(zeros)
        log_scale = inner.forward_log_det_jacobian(zeros, event_ndims=0)
        one = inner.forward(zeros + 1.0)
    except (TypeError, ValueError, NotImplementedError, tf.errors.OpError) as error:
        raise ValueError(
            "A `tfb.RealNVP` is carried over if its function needs no condition and "
            f"returns a shift and a log-scale. Received: '{bijector.name}': {error}"
        ) from error
    log_scale = np.broadcast_to(log_scale, shift.shape)
    if not _equal(one, shift + np.exp(log_scale)):
        raise ValueError(
            "A `tfb.RealNVP` is carried over if it scales and shifts. "
            f"Received: '{bijector.name}', which does something else"
        )
    return np.array(shift), log_scale


def _equal(a: npt.ArrayLike, b: npt.ArrayLike) -> bool:
    a, b = np.array(a), np.array(b)
    tolerance = 1e-4 if a.dtype == np.float32 else 1e-9
    return a.shape == b.shape and np.allclose(a, b, tolerance, tolerance)


def glow_coupling(
    layers: list[LayerCopy], mask: Mask, dtype: str, *, log_scale: str, offset: float
) -> tfb.Bijector:
    """Returns the coupling that TFP's Glow makes of a network's outputs.

    TFP maps data to latents by `x = y scale + shift`, the forward map of ours. `offset`
    is added to raw values before `log_scale` makes log-scales of them.
    """
    outputs, size = int(layers[-1].weights[0].shape[-1]), mask.transformed_shape[-1]
    if outputs == size:
        net = conditioner_from(layers, mask.identity_shape, range(size), dtype)
        return tfb.Invert(AdditiveCoupling(mask, net, dtype=dtype))
    if outputs != 2 * size:
        raise ValueError(
            f"A network of Glow must return {size} or {2 * size} channels. "
            f"Received: {outputs} channels"
        )
    order = np.roll(np.arange(outputs), size)
    added = np.repeat([0.0, offset], size)
    net = conditioner_from(layers, mask.identity_shape, order, dtype, added)
    return tfb.Invert(AffineCoupling(mask, net, log_scale=log_scale, dtype=dtype))


def levels_from(glow: tfb.Glow) -> tfb.Bijector:
    """Returns the bijector that computes what a `tfb.Glow` computes.

    From the data to the latents each level is a `Squeeze` in TFP's channel order, a
    `Repeat` of actnorm, 1x1 convolution and coupling, and the coupling of the half
    that leaves. `MultiScale` holds the levels; TFP interleaves the latents of the
    levels, so a `tfb.Permute` behind it brings them into TFP's order.
    """
    blocks = _of_class(glow, "GlowBlock")
    exits = _of_class(glow, "ExitBijector")
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


def _of_class(bijector: tfb.Bijector, *names: str) -> list[tfb.Bijector]:
    """Returns the bijectors inside whose class has one of these names, data first."""
    return [part for part in bijectors_in(bijector) if type(part).__name__ in names]


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


def _repeat(block: tfb.Bijector, shape: Shape) -> Repeat:
    """Returns the steps of a block, with the weights of all of them."""
    groups, group = [], []
    for part in bijectors_in(block):
        if type(part).__name__ in ("ActivationNormalization", "OneByOneConv"):
            group.append(part)
        elif hasattr(part, "coupling_bijector_layer"):
            groups.append([*group, part])
            group = []
    steps = [_step(parts, shape) for parts in groups]
    return Repeat.of(steps)


def _step(parts: list, shape: Shape) -> tfb.Bijector:
    *linear, coupling = parts
    network = coupling.coupling_bijector_layer
    _check_network(network)
    layers = layers_of(network)
    dtype = layers[0].weights[0].dtype.name
    carried = [
        _actnorm(part, dtype)
        if type(part).__name__ == "ActivationNormalization"
        else _mixing(part, dtype)
        for part in linear
    ]
    mask = masks.channel(shape)
    last = glow_coupling(layers, mask, dtype, log_scale="sigmoid", offset=0.0)
    return tfb.Chain([*carried, last])


def _leaving(network: tf.Module, shape: Shape, dtype: str) -> tfb.Bijector:
    """Returns the coupling that TFP has between the halves at the end of a level."""
    _check_network(network)
    mask = masks.channel(shape)
    return glow_coupling(layers_of(network), mask, dtype, log_scale="exp", offset=2.0)


def _check_network(network: tf.Module) -> None:
    if not is_tf_keras(network):
        raise ValueError(
            "A `tfb.Glow` is carried over if its networks are of tf_keras, such as "
            "`tfb.GlowDefaultNetwork`. Received: a network of class "
            f"'{type(network).__name__}'"
        )


def _actnorm(source: tfb.Bijector, dtype: str) -> ActNorm:
    """TFP's is `x = exp(p) (y + m)` from data to latents, ours `(y - b) exp(-s)`."""
    shift, log_scale, adapted = (v.numpy() for v in glow_actnorm_values(source))
    carried = ActNorm(len(shift), dtype=dtype)
    carried.set(-log_scale, -shift, int(adapted))
    return carried


def _mixing(source: tfb.Bijector, dtype: str) -> InvertibleConv1x1:
    """TFP's is `x = W y` for a column of channels, ours `x = y W` for a row."""
    lower_upper, permutation = glow_mixing_values(source)
    matrix = tf.linalg.lu_reconstruct(tf.cast(lower_upper, tf.float64), permutation)
    carried = InvertibleConv1x1(int(matrix.shape[0]), dtype=dtype)
    carried.set_matrix(np.array(matrix).T)
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
        while len(image) > shapes[0][0]:
            image = squeeze.inverse(image)
        images.append(image)
    return np.array(tf.concat(images, axis=-1)).reshape(-1).astype(int)
