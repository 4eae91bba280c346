"""Base distributions with learned parameters.

Each function returns a TFP distribution of latent vectors of `d` values, in the float
type `dtype`, None for Keras's default; `tfpf.FlowModel` trains and saves its parameters
with the flow's weights. The base of a conditional flow can depend on the condition too:
`conditional_normal`. A `resampled` one holds a network.
"""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
from scipy.cluster.vq import kmeans2
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

from tfp_flows.bijectors.domains import ZeroSum
from tfp_flows.bijectors.elementwise import ConditionalAffine
from tfp_flows.distributions.resampled import Resampled
from tfp_flows.internal.arguments import (
    DType,
    TensorLike,
    checked_integer,
    checked_number,
    float_dtype,
    invalid,
)
from tfp_flows.nets.dense import MLP


def diagonal_normal(d: int, *, dtype: DType = None) -> tfd.Distribution:
    """Returns a normal distribution of learned means and variances, first 0 and 1."""
    checked_integer("d", d)
    return tfd.MultivariateNormalDiag(
        _variable(0.0, [d], "loc", dtype), _positive(1.0, [d], "scale", dtype)
    )


def conditional_normal(
    d: int,
    condition_shape: Sequence[int],
    *,
    hidden_units: Sequence[int] = (),
    dtype: DType = None,
) -> tfd.Distribution:
    """Returns a normal distribution whose means and scales depend on a condition.

    It is a standard normal behind a `tfpf.ConditionalAffine`, and starts as the
    standard normal. As the `base` of an architecture it gets the conditions that the
    flow's parts get: after the `encoder`, if there is one. With labels behind an
    embedding it is one normal distribution a class.

    Args:
        condition_shape: Shape of one condition, after the flow's encoder.
        hidden_units: Widths of hidden layers from it to the parameters; () is linear.

    Example:
        >>> import tfp_flows as tfpf
        >>> base = conditional_normal(2, (8,))
        >>> flow = tfpf.real_nvp(
        ...     (2,), steps=2, condition_shape=(8,), base=base, hidden_units=(4,)
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


def full_normal(d: int, *, dtype: DType = None) -> tfd.Distribution:
    """Returns a normal of learned means and covariances, first the standard one."""
    checked_integer("d", d)
    shift = tf.constant(1e-5, _name(dtype))
    scale = tfp.util.TransformedVariable(
        tf.eye(d, dtype=_name(dtype)),
        tfb.FillScaleTriL(diag_shift=shift),
        name="scale_tril",
    )
    return tfd.MultivariateNormalTriL(_variable(0.0, [d], "loc", dtype), scale)


def normal_mixture(
    d: int,
    components: int = 10,
    *,
    spread: float = 1.0,
    data: TensorLike | None = None,
    seed: int = 0,
    dtype: DType = None,
) -> tfd.Distribution:
    """Returns a learned mixture of diagonal normal distributions.

    A flow is a continuous map, so a base with one mode cannot become data with several
    without thin bridges between them; a mixture can. It starts with equal weights, unit
    variances and means of the standard deviation `spread`; or, for points `[n, d]` as
    `data`, with the means, spreads and shares of their clusters, by k-means. That is a
    Gaussian mixture that `FlowModel` trains without any bijector, too.
    """
    checked_integer("d", d)
    checked_integer("components", components)
    shape = [components, d]
    if data is None:
        means = keras.random.normal(shape, 0.0, spread, dtype=_name(dtype))
        logits, scales = np.zeros(components), np.ones(shape)
    else:
        means, logits, scales = _clusters(np.asarray(data, "float64"), shape, seed)
    return tfd.MixtureSameFamily(
        tfd.Categorical(_variable(logits, [components], "logits", dtype)),
        tfd.MultivariateNormalDiag(
            _variable(means, shape, "locs", dtype),
            _positive(scales, shape, "scales", dtype),
        ),
    )


def _clusters(data: np.ndarray, shape: list[int], seed: int) -> tuple[np.ndarray, ...]:
    """Returns means, logarithms of shares and spreads of clusters of points."""
    components, d = shape
    if data.shape[1:] != (d,) or len(data) < 2 * components:
        must = f"be points [n, {d}], at least two for each component"
        raise invalid("data", must, got=f"shape {data.shape}")
    means, labels = kmeans2(data, components, minit="++", seed=seed)
    belongs = np.eye(components)[labels]
    counts = belongs.sum(0) + 1.0
    squares = (data - means[labels]) ** 2
    # One point of the spread of all for each cluster: none becomes a spike.
    variances = (belongs.T @ squares + data.var(0)) / counts[:, np.newaxis]
    return means, np.log(counts / counts.sum()), np.sqrt(variances + 1e-12)


def student_t(d: int, degrees: float = 5.0, *, dtype: DType = None) -> tfd.Distribution:
    """Returns independent Student-t distributions with learned degrees of freedom.

    A flow that is Lipschitz, as affine couplings and linear-tailed splines are,
    cannot make heavier tails than its base has: data with heavy tails need such a
    base (Jaini et al., 2020, arXiv:1907.04481). `degrees` are those to start from.
    """
    checked_integer("d", d)
    degrees = checked_number("degrees", degrees, above=0.0)
    values = tfd.StudentT(
        _positive(degrees, [d], "degrees", dtype),
        _variable(0.0, [d], "loc", dtype),
        _positive(1.0, [d], "scale", dtype),
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
    dtype: DType = None,
) -> tfd.Distribution:
    """Returns a normal distribution of which a network learns what to accept.

    It can have holes and several modes, and starts as the proposal, a standard normal
    for None; see `Resampled`, and Stimper et al., 2022, arXiv:2110.15828.
    """
    checked_integer("d", d)
    return Resampled(
        standard_normal(d, dtype) if proposal is None else proposal,
        MLP(hidden_units, dtype=_name(dtype)),
        truncation=truncation,
        draws=draws,
        training_draws=training_draws,
    )


def mean_free_normal(shape: Sequence[int], *, dtype: DType = None) -> tfd.Distribution:
    """Returns standard normal particles `(n, d)` whose mean is 0.

        log p(x) = -|x|^2 / 2 - (n - 1) d log(2 pi) / 2

    by volume in the subspace of mean 0; the density of other points is 0. All orders,
    rotations and reflections have the same, and still have it behind a
    `tfpf.ContinuousFlow` of a `tfpf.nets.EquivariantVelocity` (Koehler, Klein, Noe:
    Equivariant Flows, 2020, arXiv:2006.02425).
    """
    if len(shape) != 2 or shape[0] < 2:
        raise invalid("shape", "be (n, d) of two particles or more", shape)
    latent = standard_normal((shape[0] - 1, shape[1]), dtype)
    centred = ZeroSum(axis=-2, dtype=_name(dtype))
    return tfd.TransformedDistribution(latent, centred, name="mean_free_normal")


def uniform(
    shape: int | Sequence[int],
    low: float = -1.0,
    high: float = 1.0,
    *,
    dtype: DType = None,
) -> tfd.Distribution:
    """Returns independent uniform values on `[low, high]`: of circles and boxes."""
    ends = (tf.constant(value, _name(dtype)) for value in (low, high))
    sizes = [shape] if isinstance(shape, int) else list(shape)
    return tfd.Sample(tfd.Uniform(*ends), sample_shape=sizes)


def standard_normal(
    shape: int | Sequence[int], dtype: DType = None
) -> tfd.Distribution:
    """Returns independent standard normal noise of a shape, or of so many values."""
    return _noise(tfd.Normal, shape, dtype)


def standard_logistic(
    shape: int | Sequence[int], dtype: DType = None
) -> tfd.Distribution:
    """Returns independent standard logistic noise of a shape, or of so many values."""
    return _noise(tfd.Logistic, shape, dtype)


def _noise(
    kind: type[tfd.Distribution], shape: int | Sequence[int], dtype: DType
) -> tfd.Distribution:
    zero, one = (tf.constant(value, _name(dtype)) for value in (0.0, 1.0))
    sizes = [shape] if isinstance(shape, int) else list(shape)
    return tfd.Sample(kind(zero, one), sample_shape=sizes)


def _variable(
    start: TensorLike, shape: list[int], name: str, dtype: DType
) -> tf.Variable:
    return tf.Variable(_filled(start, shape, dtype), name=name)


def _positive(
    start: TensorLike, shape: list[int], name: str, dtype: DType
) -> tfp.util.TransformedVariable:
    value = _filled(start, shape, dtype)
    return tfp.util.TransformedVariable(value, tfb.Softplus(), name=name)


def _filled(start: TensorLike, shape: list[int], dtype: DType) -> tf.Tensor:
    return tf.broadcast_to(tf.cast(start, _name(dtype)), shape)


def _name(dtype: DType) -> str:
    return float_dtype(dtype).name
