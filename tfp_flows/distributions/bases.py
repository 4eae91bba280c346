"""Base distributions with learned parameters.

Each function returns a TFP distribution of flat latents; `tfpf.FlowModel` trains and
saves its parameters with the flow's weights. The base of a conditional flow can depend
on the condition too: `conditional_normal`. A `resampled` one holds a network.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows.bijectors.elementwise import ConditionalAffine
from tfp_flows.distributions.resampled import Resampled
from tfp_flows.internal.arguments import checked_integer
from tfp_flows.nets.dense import MLP

tfb, tfd = tfp.bijectors, tfp.distributions


def diagonal_normal(d: int, *, dtype: Any = None) -> tfd.Distribution:
    """Returns a normal distribution with learned means and variances.

    Args:
        d: Number of values in a latent vector.
        dtype: Float type; defaults to `keras.config.floatx()`.

    Returns:
        A distribution that starts as the standard normal.
    """
    checked_integer("d", d)
    return tfd.MultivariateNormalDiag(
        tf.Variable(_zeros([d], dtype), name="loc"),
        _positive(_ones([d], dtype), "scale"),
    )


def conditional_normal(
    d: int,
    condition_shape: Sequence[int],
    *,
    hidden_units: Sequence[int] = (),
    dtype: Any = None,
) -> tfd.Distribution:
    """Returns a normal distribution whose means and scales depend on a condition.

    It is itself a flow, a standard normal behind a `tfpf.ConditionalAffine`. As the
    `base` of an architecture it gets the same conditions as the flow's other parts:
    after the `encoder`, if there is one. With labels behind an embedding it is one
    normal distribution a class.

    Args:
        d: Number of values in a latent vector.
        condition_shape: Shape of one condition, after the flow's encoder.
        hidden_units: Widths of hidden layers between condition and parameters; none
            for a linear map.
        dtype: Float type; defaults to `keras.config.floatx()`.

    Returns:
        A conditional distribution that starts as the standard normal.

    Example:
        >>> import tfp_flows as tfpf
        >>> base = conditional_normal(2, (8,))
        >>> flow = tfpf.real_nvp(
        ...     (2,), couplings=2, condition_shape=(8,), base=base, hidden_units=(4,)
        ... )
        >>> tfpf.condition(flow, [[0.0] * 8]).sample().shape
        TensorShape([1, 2])
    """
    checked_integer("d", d)
    net = (
        MLP(hidden_units, dtype=_name(dtype))
        if hidden_units
        else keras.layers.Dense(2 * d, kernel_initializer="zeros", dtype=_name(dtype))
    )
    affine = ConditionalAffine(
        (d,), net, condition_shape=condition_shape, dtype=_name(dtype)
    )
    return tfd.TransformedDistribution(standard_normal(d, dtype), affine)


def full_normal(d: int, *, dtype: Any = None) -> tfd.Distribution:
    """Returns a normal distribution with learned means and covariances.

    Args:
        d: Number of values in a latent vector.
        dtype: Float type; defaults to `keras.config.floatx()`.

    Returns:
        A distribution that starts as the standard normal.
    """
    checked_integer("d", d)
    loc = _zeros([d], dtype)
    scale = tfp.util.TransformedVariable(
        tf.eye(d, dtype=loc.dtype), tfb.FillScaleTriL(), name="scale_tril"
    )
    return tfd.MultivariateNormalTriL(tf.Variable(loc, name="loc"), scale)


def normal_mixture(
    d: int, components: int = 10, *, spread: float = 1.0, dtype: Any = None
) -> tfd.Distribution:
    """Returns a learned mixture of diagonal normal distributions.

    A flow is a continuous map, so a base of one piece cannot become data of several
    without thin bridges between them; a base of several pieces can.

    Args:
        d: Number of values in a latent vector.
        components: Number of components.
        spread: Standard deviation of the means that the mixture starts from.
        dtype: Float type; defaults to `keras.config.floatx()`.

    Returns:
        A mixture with equal weights and unit variances to start from.
    """
    checked_integer("d", d)
    checked_integer("components", components)
    shape = [components, d]
    means = keras.random.normal(shape, 0.0, spread, dtype=_name(dtype))
    return tfd.MixtureSameFamily(
        tfd.Categorical(tf.Variable(_zeros([components], dtype), name="logits")),
        tfd.MultivariateNormalDiag(
            tf.Variable(means, name="locs"), _positive(_ones(shape, dtype), "scales")
        ),
    )


def student_t(d: int, degrees: float = 5.0, *, dtype: Any = None) -> tfd.Distribution:
    """Returns independent Student-t distributions with learned degrees of freedom.

    A flow that is Lipschitz, as affine couplings and linear-tailed splines are,
    cannot make heavier tails than its base has: data with heavy tails need such a
    base (Jaini et al., 2020, arXiv:1907.04481).

    Args:
        d: Number of values in a latent vector.
        degrees: Degrees of freedom to start from, positive.
        dtype: Float type; defaults to `keras.config.floatx()`.

    Returns:
        A distribution of `d` values around 0.
    """
    checked_integer("d", d)
    if not degrees > 0.0:
        raise ValueError(
            f"Argument `degrees` must be positive. Received: degrees={degrees}"
        )
    values = tfd.StudentT(
        _positive(degrees * _ones([d], dtype), "degrees"),
        tf.Variable(_zeros([d], dtype), name="loc"),
        _positive(_ones([d], dtype), "scale"),
    )
    return tfd.Independent(values, reinterpreted_batch_ndims=1)


def resampled(
    d: int,
    *,
    hidden_units: Sequence[int] = (64, 64),
    truncation: int = 100,
    draws: int = 10_000,
    training_draws: int = 1024,
    proposal: tfd.Distribution | None = None,
    dtype: Any = None,
) -> tfd.Distribution:
    """Returns a normal distribution of which a network learns what to keep.

    It can have holes and several pieces; see `Resampled`, and Stimper et al., 2022,
    arXiv:2110.15828.

    Args:
        d: Number of values in a latent vector.
        hidden_units: Widths of the network's hidden layers.
        truncation: After so many draws the last one is kept, at least 2.
        draws: Draws from which the constant of the density is estimated.
        training_draws: The same in each training step.
        proposal: Distribution of `d` values to draw from; defaults to the standard
            normal.
        dtype: Float type; defaults to `keras.config.floatx()`.

    Returns:
        A distribution that starts as the proposal.
    """
    checked_integer("d", d)
    return Resampled(
        standard_normal(d, dtype) if proposal is None else proposal,
        MLP(hidden_units, dtype=_name(dtype)),
        truncation=truncation,
        draws=draws,
        training_draws=training_draws,
    )


def _positive(start: tf.Tensor, name: str) -> tfp.util.TransformedVariable:
    return tfp.util.TransformedVariable(start, tfb.Softplus(), name=name)


def _name(dtype: Any) -> str:
    return tf.as_dtype(dtype or keras.config.floatx()).name


def _zeros(shape: list[int], dtype: Any) -> tf.Tensor:
    return tf.zeros(shape, _name(dtype))


def _ones(shape: list[int], dtype: Any) -> tf.Tensor:
    return tf.ones(shape, _name(dtype))


def standard_normal(d: int, dtype: Any = None) -> tfd.Distribution:
    """Returns the standard normal distribution of vectors of `d` values."""
    dtype = tf.as_dtype(dtype or keras.config.floatx())
    zero, one = (tf.constant(value, dtype) for value in (0.0, 1.0))
    return tfd.Sample(tfd.Normal(zero, one), sample_shape=[d])


def standard_logistic(shape: tuple[int, ...], dtype: Any = None) -> tfd.Distribution:
    """Returns independent standard logistic noise of a shape."""
    dtype = tf.as_dtype(dtype or keras.config.floatx())
    zero, one = (tf.constant(value, dtype) for value in (0.0, 1.0))
    return tfd.Sample(tfd.Logistic(zero, one), sample_shape=list(shape))
