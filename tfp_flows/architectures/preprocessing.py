"""Bijectors between stored data and the values a flow works on."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf
import tensorflow_probability as tfp

tfb = tfp.bijectors


def logit(levels: float, alpha: float = 0.05, dtype: Any = None) -> tfb.Bijector:
    """Maps bounded data, such as dequantized pixels, to the real line.

        inverse (data to latent):  x = logit(alpha / 2 + (1 - alpha) y / levels)

    It is a chain of TFP's `Scale`, `Shift` and `Sigmoid`, so the likelihood of the
    flow stays in the units of the data and samples come out as data.

    Args:
        levels: Upper end of the data, which lies in [0, levels].
        alpha: Share of the unit interval kept away from its ends, in (0, 1).
        dtype: Float type; defaults to `keras.config.floatx()`.

    Returns:
        The bijector, latent to data.

    Reference:
        Dinh, Sohl-Dickstein, Bengio: Real NVP, 2016, arXiv:1605.08803, section 4.1.
    """
    if not 0.0 < alpha < 1.0:
        raise ValueError(
            f"Argument `alpha` must lie between 0 and 1. Received: alpha={alpha}"
        )
    dtype = tf.as_dtype(dtype or keras.config.floatx())
    scale = tf.constant(levels / (1.0 - alpha), dtype)
    shift = tf.constant(-0.5 * alpha, dtype)
    return tfb.Chain([tfb.Scale(scale), tfb.Shift(shift), tfb.Sigmoid()], name="logit")


def center(levels: float, dtype: Any = None) -> tfb.Bijector:
    """Maps data in [0, levels] to [-1/2, 1/2], as Glow does.

        inverse (data to latent):  x = y / levels - 1/2

    Args:
        levels: Upper end of the data.
        dtype: Float type; defaults to `keras.config.floatx()`.

    Returns:
        The bijector, latent to data.
    """
    dtype = tf.as_dtype(dtype or keras.config.floatx())
    scale, shift = tf.constant(levels, dtype), tf.constant(0.5, dtype)
    return tfb.Chain([tfb.Scale(scale), tfb.Shift(shift)], name="center")
