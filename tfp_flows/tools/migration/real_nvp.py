"""`tfb.RealNVP` as a coupling of ours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows.bijectors import masks
from tfp_flows.bijectors.coupling import LOG_SCALES, AdditiveCoupling, AffineCoupling
from tfp_flows.bijectors.masks import Mask
from tfp_flows.tools.migration.conditioners import conditioner_from
from tfp_flows.tools.migration.tf_keras_networks import Piece, networks_in, pieces_of

tfb = tfp.bijectors

# Log-scales that a network's raw output may pass through on its way to the bijector.
_LOG_SCALES: dict[str, Callable] = {**LOG_SCALES, "tanh": tf.tanh}
_PROBES = 32


def coupling_from(bijector: tfb.RealNVP) -> tfb.Bijector:
    """Returns the coupling that computes what a `tfb.RealNVP` computes.

    TFP's bijector holds a Python function, which could do anything with the output
    of a network. So the function is tried on random inputs, and the coupling whose
    shift and log-scale are equal there is taken.

    Args:
        bijector: A `tfb.RealNVP` around one dense network.

    Returns:
        An `AffineCoupling`, or an `AdditiveCoupling` if there is no scale.

    Raises:
        ValueError: If the bijector has no weights yet, holds no network or several,
            or none of the couplings equals it.
    """
    networks = networks_in(bijector)
    if len(networks) != 1:
        raise ValueError(
            f"A `tfb.RealNVP` is carried over if its function holds one network of "
            "tf_keras, found as an attribute or in the function's closure. Received: "
            f"'{bijector.name}' with {len(networks)} networks"
        )
    pieces = pieces_of(networks[0])
    if not pieces or not pieces[-1].weights or pieces[0].kind != "Dense":
        raise ValueError(
            "A `tfb.RealNVP` is carried over if its network starts and ends with dense "
            f"layers. Received: '{bijector.name}' with {[p.kind for p in pieces]}"
        )
    kept = int(pieces[0].weights[0].shape[0])
    outputs = int(pieces[-1].weights[0].shape[-1])
    dtype = pieces[0].weights[0].dtype.name
    size, mask = _mask(bijector, kept, outputs)
    moved = size - kept
    x0 = np.random.default_rng(0).normal(size=(_PROBES, kept)).astype(dtype)
    shift, log_scale = _probed(bijector, x0, moved)
    raw = conditioner_from(pieces, (kept,), range(outputs), dtype)(x0)

    def net(order: np.ndarray) -> keras.Layer:
        return conditioner_from(pieces, (kept,), order, dtype)

    places = np.arange(outputs)
    if outputs == moved and _equal(shift, raw) and not log_scale.any():
        return AdditiveCoupling(mask, net(places), dtype=dtype)
    if outputs == 2 * moved:
        first, second = raw[:, :moved], raw[:, moved:]
        for t, r, order in (
            (first, second, places),
            (second, first, np.roll(places, moved)),
        ):
            for name, function in _LOG_SCALES.items():
                if _equal(shift, t) and _equal(log_scale, function(r)):
                    return AffineCoupling(mask, net(order), log_scale=name, dtype=dtype)
    raise ValueError(
        "A `tfb.RealNVP` is carried over if its shift is a half of the network's "
        f"outputs and its log-scale the other half, through one of "
        f"{sorted(_LOG_SCALES)}, or if it only shifts by the outputs. "
        f"Received: '{bijector.name}', whose function does something else"
    )


def _mask(bijector: Any, kept: int, outputs: int) -> tuple[int, Mask]:
    """Returns the size of an event and which of its values are kept."""
    size = bijector._input_depth
    if size is None:
        raise ValueError(
            "The source must have been called once, so that it knows the size of its "
            f"events. Received: '{bijector.name}', which was never called"
        )
    if not 0 < kept == abs(bijector._masked_size) < size:
        raise ValueError(
            f"The network of '{bijector.name}' must take the {bijector._masked_size} "
            f"values that are kept. Received: a network of {kept} inputs"
        )
    last = bijector._reverse_mask
    if kept == (size - size // 2 if last else size // 2):
        return size, masks.half(size, flip=last)
    first = size - kept if last else 0
    return size, masks.indices(size, range(first, first + kept))


def _probed(bijector: Any, x0: np.ndarray, moved: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns shift and log-scale for some kept values."""
    zeros = tf.zeros((len(x0), moved), x0.dtype)
    try:
        inner = bijector._bijector_fn(tf.constant(x0), moved)
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


def _equal(a: Any, b: Any) -> bool:
    a, b = np.array(a), np.array(b)
    tolerance = 1e-4 if a.dtype == np.float32 else 1e-9
    return a.shape == b.shape and np.allclose(a, b, tolerance, tolerance)


def glow_coupling(
    pieces: list[Piece], mask: Mask, dtype: str, *, log_scale: str, offset: float
) -> tfb.Bijector:
    """Returns the coupling that TFP's Glow makes of a network's outputs.

    TFP maps data to latents by `x = y scale + shift`; ours does so with the inverse
    turned round, and with shifts before scales.

    Args:
        pieces: The network.
        mask: Which channels are kept.
        dtype: Float type.
        log_scale: How raw values become log-scales; see `AffineCoupling`.
        offset: What is added to raw values before that.

    Returns:
        The bijector, from latents to data.

    Raises:
        ValueError: If the network has the wrong number of outputs.
    """
    moved, outputs = mask.moved_shape[-1], int(pieces[-1].weights[0].shape[-1])
    if outputs == moved:
        net = conditioner_from(pieces, mask.kept_shape, range(moved), dtype)
        return tfb.Invert(AdditiveCoupling(mask, net, dtype=dtype))
    if outputs != 2 * moved:
        raise ValueError(
            f"A network of Glow must return {moved} or {2 * moved} channels. "
            f"Received: {outputs} channels"
        )
    order = np.roll(np.arange(outputs), moved)
    added = np.repeat([0.0, offset], moved)
    net = conditioner_from(pieces, mask.kept_shape, order, dtype, added)
    return tfb.Invert(AffineCoupling(mask, net, log_scale=log_scale, dtype=dtype))
