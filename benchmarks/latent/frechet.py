"""The Gaussian that a flow on latents has to beat."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow_probability as tfp

from tfp_flows.images.distance import feature_vectors

tfd = tfp.distributions


def fitted_gaussian(z: Any) -> tfd.MultivariateNormalTriL:
    """Returns the Gaussian with the mean and the full covariance of vectors `[n, d]`.

    It is what a flow on latents has to beat.

    Args:
        z: Vectors `[n, d]`, such as `model.encode(images)`.

    Returns:
        The maximum-likelihood Gaussian, in float32, with a millionth of the mean
        variance added to each variance so that it exists where a latent is constant.
    """
    z = feature_vectors("z", z)
    covariance = np.cov(z, rowvar=False, bias=True).reshape(z.shape[1], -1)
    ridge = 1e-6 * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
    tril = np.linalg.cholesky(covariance + ridge)
    mean = z.mean(axis=0)
    return tfd.MultivariateNormalTriL(mean.astype("float32"), tril.astype("float32"))
