"""Bijectors between stored data and the values a flow works on."""

from __future__ import annotations

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows.internal.arguments import DType, checked_number, renamed

tfb = tfp.bijectors


@renamed(levels="pixel_levels")
def logit(
    pixel_levels: float, alpha: float = 0.05, dtype: DType = None
) -> tfb.Bijector:
    """Maps data in `[0, L]`, such as dequantized pixels, to the real line.

        inverse (data to latent):  x = logit(alpha / 2 + (1 - alpha) y / L)

    It is a chain of TFP's `Scale`, `Shift` and `Sigmoid`, so the likelihood of the
    flow stays in the units of the data and samples come out as data.

    Args:
        pixel_levels: How many values L a pixel can take.
        alpha: Share of the unit interval that its ends lose, in (0, 1).

    Reference:
        Dinh, Sohl-Dickstein, Bengio: Real NVP, 2016, arXiv:1605.08803, section 4.1.
    """
    alpha = checked_number("alpha", alpha, above=0.0, below=1.0)
    dtype = tf.as_dtype(dtype or keras.config.floatx())
    scale = tf.constant(pixel_levels / (1.0 - alpha), dtype)
    shift = tf.constant(-0.5 * alpha, dtype)
    return tfb.Chain([tfb.Scale(scale), tfb.Shift(shift), tfb.Sigmoid()], name="logit")


@renamed(levels="pixel_levels")
def center(pixel_levels: float, dtype: DType = None) -> tfb.Bijector:
    """Maps data in `[0, L]`, with L the `pixel_levels`, to `[-1/2, 1/2]`, as Glow does.

    inverse (data to latent):  x = y / L - 1/2
    """
    dtype = tf.as_dtype(dtype or keras.config.floatx())
    scale, shift = tf.constant(pixel_levels, dtype), tf.constant(0.5, dtype)
    return tfb.Chain([tfb.Scale(scale), tfb.Shift(shift)], name="center")
