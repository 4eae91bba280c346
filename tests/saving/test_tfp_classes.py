"""Every public class of TFP is saved bit for bit, or refused by name.

`docs/serialization.md` shows the outcome; `python docs/serialization.py` writes its
tables anew.
"""

import inspect
import math
import re
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_flows as tfpf

tfb, tfd, tfk = tfp.bijectors, tfp.distributions, tfp.math.psd_kernels

X = [0.2, 0.5, 0.7]
TRIL = [[1.0, 0.0], [0.5, 2.0]]
SPD = [[2.0, 0.5], [0.5, 1.0]]
POINTS = [[0.0], [0.5], [1.5]]


def var(*values):
    """A variable of one value, or of a vector of them."""
    return tf.Variable(values[0] if len(values) == 1 else values, dtype=tf.float32)


def normal(*loc):
    return tfd.Normal(var(*loc), 1.0)


def kernel():
    return tfk.ExponentiatedQuadratic(var(1.5), var(0.7))


def diagonal(*values):
    return tf.linalg.LinearOperatorDiag(var(*values))


def spline():
    return tfb.RationalQuadraticSpline(
        bin_widths=[0.5, 1.5], bin_heights=[1.2, 0.8], knot_slopes=[1.5], range_min=-1.0
    )


# A builder, or a builder and its input, where that is not `X`.
BIJECTORS = {
    "AbsoluteValue": lambda: tfb.AbsoluteValue(),
    "Ascending": lambda: tfb.Ascending(),
    "Blockwise": lambda: tfb.Blockwise([tfb.Exp(), tfb.Shift(var(1.0))], [1, 2]),
    "Chain": lambda: tfb.Chain([tfb.Chain([tfb.Exp(), tfb.Shift(var(1.0))]), spline()]),
    "CholeskyOuterProduct": (lambda: tfb.CholeskyOuterProduct(), TRIL),
    "CholeskyToInvCholesky": (lambda: tfb.CholeskyToInvCholesky(), TRIL),
    "CorrelationCholesky": lambda: tfb.CorrelationCholesky(),
    "Cumsum": lambda: tfb.Cumsum(),
    "DiscreteCosineTransform": lambda: tfb.DiscreteCosineTransform(),
    "Exp": lambda: tfb.Exp(),
    "Expm1": lambda: tfb.Expm1(),
    "FillScaleTriL": lambda: tfb.FillScaleTriL(diag_shift=var(0.1)),
    "FillTriangular": lambda: tfb.FillTriangular(upper=True),
    "FrechetCDF": lambda: tfb.FrechetCDF(var(0.1), 1.0, 2.0),
    "GeneralizedExtremeValueCDF": lambda: tfb.GeneralizedExtremeValueCDF(
        var(0.0), 1.0, 0.5
    ),
    "GeneralizedPareto": lambda: tfb.GeneralizedPareto(var(0.0), 1.0, 0.5),
    "GompertzCDF": lambda: tfb.GompertzCDF(var(1.0), 2.0),
    "GumbelCDF": lambda: tfb.GumbelCDF(var(0.3), 2.0),
    "Householder": lambda: tfb.Householder(var(0.6, 0.8, 0.0)),
    "Identity": lambda: tfb.Identity(),
    "Invert": lambda: tfb.Invert(tfb.Softplus(hinge_softness=var(2.0))),
    "IteratedSigmoidCentered": lambda: tfb.IteratedSigmoidCentered(),
    "JointMap": (lambda: tfb.JointMap([tfb.Exp(), tfb.Scale(var(2.0))]), [X, X]),
    "KumaraswamyCDF": lambda: tfb.KumaraswamyCDF(var(2.0), 3.0),
    "LambertWTail": lambda: tfb.LambertWTail(var(0.1), 1.0, 0.2),
    "Log": lambda: tfb.Log(),
    "Log1p": lambda: tfb.Log1p(),
    "MatrixInverseTriL": (lambda: tfb.MatrixInverseTriL(), TRIL),
    "MatvecLU": lambda: tfb.MatvecLU(
        var([2.0, 1.0, 0.0], [0.5, 1.0, 3.0], [0.1, 0.2, 1.5]), [1, 2, 0]
    ),
    "MoyalCDF": lambda: tfb.MoyalCDF(var(0.1), 2.0),
    "NormalCDF": lambda: tfb.NormalCDF(),
    "Pad": lambda: tfb.Pad([[1, 1]]),
    "Permute": lambda: tfb.Permute([2, 0, 1]),
    "Power": lambda: tfb.Power(var(3.0)),
    "PowerTransform": lambda: tfb.PowerTransform(0.5),
    "RationalQuadraticSpline": spline,
    "RayleighCDF": lambda: tfb.RayleighCDF(var(2.0)),
    "Reciprocal": lambda: tfb.Reciprocal(),
    "Reshape": lambda: tfb.Reshape([3, 1], event_shape_in=[3]),
    "Restructure": (lambda: tfb.Restructure({"a": 0, "b": 1}, [0, 1]), [X, X]),
    "Scale": lambda: tfb.Scale(log_scale=var(0.3)),
    "ScaleMatvecDiag": lambda: tfb.ScaleMatvecDiag(var(1.0, 2.0, 3.0)),
    "ScaleMatvecLU": lambda: tfb.ScaleMatvecLU(
        var([2.0, 1.0, 0.0], [0.5, 1.0, 3.0], [0.1, 0.2, 1.5]), [1, 2, 0]
    ),
    "ScaleMatvecLinearOperator": lambda: tfb.ScaleMatvecLinearOperator(
        diagonal(1.0, 2.0, 3.0)
    ),
    "ScaleMatvecLinearOperatorBlock": (
        lambda: tfb.ScaleMatvecLinearOperatorBlock(
            tf.linalg.LinearOperatorBlockDiag([diagonal(1.0, 2.0), diagonal(3.0, 4.0)])
        ),
        [[1.0, 2.0], [3.0, 4.0]],
    ),
    "ScaleMatvecTriL": (lambda: tfb.ScaleMatvecTriL(var(*TRIL)), [1.0, 2.0]),
    "Shift": lambda: tfb.Shift(var(1.0, 2.0, 3.0)),
    "ShiftedGompertzCDF": lambda: tfb.ShiftedGompertzCDF(var(1.0), 2.0),
    "Sigmoid": lambda: tfb.Sigmoid(var(-1.0), 3.0),
    "Sinh": lambda: tfb.Sinh(),
    "SinhArcsinh": lambda: tfb.SinhArcsinh(var(0.2), 1.5),
    "SoftClip": lambda: tfb.SoftClip(var(0.0), 1.0, hinge_softness=0.3),
    "Softfloor": lambda: tfb.Softfloor(var(0.5)),
    "SoftmaxCentered": lambda: tfb.SoftmaxCentered(),
    "Softplus": lambda: tfb.Softplus(hinge_softness=0.5, low=0.1),
    "Softsign": lambda: tfb.Softsign(),
    "Split": lambda: tfb.Split([1, 2]),
    "Square": lambda: tfb.Square(),
    "Tanh": lambda: tfb.Tanh(),
    "TransformDiagonal": (lambda: tfb.TransformDiagonal(tfb.Exp()), TRIL),
    "Transpose": (lambda: tfb.Transpose(rightmost_transposed_ndims=2), TRIL),
    "UnitVector": lambda: tfb.UnitVector(),
    "WeibullCDF": lambda: tfb.WeibullCDF(var(1.5), 2.0),
}

DISTRIBUTIONS = {
    "BatchBroadcast": lambda: tfd.BatchBroadcast(normal(0.5), with_shape=[2]),
    "BatchConcat": lambda: tfd.BatchConcat([normal([0.1]), normal([1.0, 2.0])], axis=0),
    "BatchReshape": lambda: tfd.BatchReshape(normal(0.1, 0.2), [2, 1]),
    "Bates": lambda: tfd.Bates(3.0, var(0.0), 1.0),
    "Bernoulli": lambda: tfd.Bernoulli(logits=var(0.3)),
    "Beta": lambda: tfd.Beta(var(2.0), 3.0),
    "BetaBinomial": lambda: tfd.BetaBinomial(5.0, var(2.0), 3.0),
    "BetaQuotient": lambda: tfd.BetaQuotient(var(2.0), 3.0, 4.0, 5.0),
    "Binomial": lambda: tfd.Binomial(5.0, logits=var(0.3)),
    "Blockwise": lambda: tfd.Blockwise(
        [normal(0.5), tfd.MultivariateNormalDiag(var(1.0, 2.0))]
    ),
    "Categorical": lambda: tfd.Categorical(logits=var(0.1, 0.2, 0.7)),
    "Cauchy": lambda: tfd.Cauchy(var(0.5), 2.0),
    "Chi": lambda: tfd.Chi(var(3.0)),
    "Chi2": lambda: tfd.Chi2(var(3.0)),
    "CholeskyLKJ": lambda: tfd.CholeskyLKJ(3, var(2.0)),
    "ContinuousBernoulli": lambda: tfd.ContinuousBernoulli(logits=var(0.3)),
    "Deterministic": lambda: tfd.Deterministic(var(0.3)),
    "DeterminantalPointProcess": lambda: tfd.DeterminantalPointProcess(
        var(0.5, 1.0, 2.0), tf.eye(3)
    ),
    "Dirichlet": lambda: tfd.Dirichlet(var(1.0, 2.0, 3.0)),
    "DirichletMultinomial": lambda: tfd.DirichletMultinomial(5.0, var(1.0, 2.0)),
    "DoublesidedMaxwell": lambda: tfd.DoublesidedMaxwell(var(0.1), 2.0),
    "Empirical": lambda: tfd.Empirical(tf.constant([1.0, 2.0, 2.0])),
    "ExpGamma": lambda: tfd.ExpGamma(var(2.0), 1.0),
    "ExpInverseGamma": lambda: tfd.ExpInverseGamma(var(2.0), 1.0),
    "ExpRelaxedOneHotCategorical": lambda: tfd.ExpRelaxedOneHotCategorical(
        0.5, logits=var(0.1, 0.2)
    ),
    "ExponentiallyModifiedGaussian": lambda: tfd.ExponentiallyModifiedGaussian(
        var(0.1), 1.0, 2.0
    ),
    "Exponential": lambda: tfd.Exponential(var(2.0)),
    "FiniteDiscrete": lambda: tfd.FiniteDiscrete([1.0, 2.0], logits=var(0.1, 0.2)),
    "FlatDirichlet": lambda: tfd.FlatDirichlet([3]),
    "Gamma": lambda: tfd.Gamma(var(2.0), 1.0),
    "GammaGamma": lambda: tfd.GammaGamma(var(2.0), 3.0, 1.0),
    "GaussianProcess": lambda: tfd.GaussianProcess(kernel(), POINTS),
    "GaussianProcessRegressionModel": lambda: tfd.GaussianProcessRegressionModel(
        kernel(), POINTS, POINTS[:2], [0.3, 0.4], observation_noise_variance=0.1
    ),
    "GeneralizedExtremeValue": lambda: tfd.GeneralizedExtremeValue(var(0.1), 1.0, 0.2),
    "GeneralizedNormal": lambda: tfd.GeneralizedNormal(var(0.1), 1.0, 2.0),
    "GeneralizedPareto": lambda: tfd.GeneralizedPareto(var(0.1), 1.0, 0.2),
    "Geometric": lambda: tfd.Geometric(logits=var(0.3)),
    "Gumbel": lambda: tfd.Gumbel(var(0.1), 2.0),
    "HalfCauchy": lambda: tfd.HalfCauchy(var(0.1), 2.0),
    "HalfNormal": lambda: tfd.HalfNormal(var(2.0)),
    "HalfStudentT": lambda: tfd.HalfStudentT(var(3.0), 0.0, 1.0),
    "HiddenMarkovModel": lambda: tfd.HiddenMarkovModel(
        tfd.Categorical(logits=var(0.1, 0.2)),
        tfd.Categorical(logits=var([0.1, 0.2], [0.3, 0.5])),
        normal(0.0, 1.0),
        num_steps=3,
    ),
    "Horseshoe": lambda: tfd.Horseshoe(var(1.5)),
    "Independent": lambda: tfd.Independent(normal(0.1, 0.2, 0.3), 1),
    "Inflated": lambda: tfd.Inflated(tfd.Poisson(var(2.0)), inflated_loc_probs=0.2),
    "InverseGamma": lambda: tfd.InverseGamma(var(2.0), 1.0),
    "InverseGaussian": lambda: tfd.InverseGaussian(var(2.0), 1.0),
    "JohnsonSU": lambda: tfd.JohnsonSU(var(0.5), 2.0, 0.0, 1.0),
    "JointDistributionNamed": lambda: tfd.JointDistributionNamed(
        {"a": normal(0.5), "b": tfpf.nice((2,), couplings=2, hidden_units=(4,))}
    ),
    "JointDistributionNamedAutoBatched": (
        lambda: tfd.JointDistributionNamedAutoBatched(
            {"a": normal(0.5), "b": tfd.Gamma(var(2.0), 1.0)}
        )
    ),
    "JointDistributionSequential": lambda: tfd.JointDistributionSequential(
        [normal(0.5), tfd.Independent(normal(0.1, 0.2), 1)]
    ),
    "JointDistributionSequentialAutoBatched": (
        lambda: tfd.JointDistributionSequentialAutoBatched(
            (normal(0.5), tfd.Gamma(var(2.0), 1.0))
        )
    ),
    "Kumaraswamy": lambda: tfd.Kumaraswamy(var(2.0), 3.0),
    "LKJ": lambda: tfd.LKJ(3, var(2.0)),
    "LambertWDistribution": lambda: tfd.LambertWDistribution(
        normal(0.0), shift=0.0, scale=1.0, tailweight=0.1
    ),
    "LambertWNormal": lambda: tfd.LambertWNormal(var(0.1), 1.0, 0.1),
    "Laplace": lambda: tfd.Laplace(var(0.1), 2.0),
    "LinearGaussianStateSpaceModel": lambda: tfd.LinearGaussianStateSpaceModel(
        3,
        diagonal(0.9, 0.8),
        tfd.MultivariateNormalDiag(scale_diag=var(0.5, 0.6)),
        tf.linalg.LinearOperatorFullMatrix([[1.0, 0.5]]),
        tfd.MultivariateNormalDiag(scale_diag=[0.3]),
        tfd.MultivariateNormalDiag(scale_diag=[1.0, 1.0]),
    ),
    "LogLogistic": lambda: tfd.LogLogistic(var(0.1), 0.5),
    "LogNormal": lambda: tfd.LogNormal(var(0.1), 0.5),
    "Logistic": lambda: tfd.Logistic(var(0.1), 0.5),
    "LogitNormal": lambda: tfd.LogitNormal(var(0.1), 0.5),
    "Masked": lambda: tfd.Masked(normal(0.1, 0.2), validity_mask=[True, False]),
    "MatrixNormalLinearOperator": lambda: tfd.MatrixNormalLinearOperator(
        var([0.1, 0.2], [0.3, 0.4]), diagonal(1.0, 2.0), diagonal(0.5, 3.0)
    ),
    "MatrixTLinearOperator": lambda: tfd.MatrixTLinearOperator(
        4.0, var([0.1, 0.2], [0.3, 0.4]), diagonal(1.0, 2.0), diagonal(0.5, 3.0)
    ),
    "Mixture": lambda: tfd.Mixture(
        tfd.Categorical(logits=var(0.1, 0.2)), [normal(-1.0), normal(2.0)]
    ),
    "MixtureSameFamily": lambda: tfd.MixtureSameFamily(
        tfd.Categorical(logits=var(0.1, 0.2)), normal(-1.0, 2.0)
    ),
    "Moyal": lambda: tfd.Moyal(var(0.1), 2.0),
    "Multinomial": lambda: tfd.Multinomial(5.0, logits=var(0.1, 0.2)),
    "MultivariateNormalDiag": lambda: tfd.MultivariateNormalDiag(
        var(0.1, 0.2), var(1.0, 2.0)
    ),
    "MultivariateNormalDiagPlusLowRank": lambda: tfd.MultivariateNormalDiagPlusLowRank(
        var(0.1, 0.2), var(1.0, 2.0), scale_perturb_factor=[[0.5], [0.2]]
    ),
    "MultivariateNormalDiagPlusLowRankCovariance": (
        lambda: tfd.MultivariateNormalDiagPlusLowRankCovariance(
            var(0.1, 0.2), var(1.0, 2.0), [[0.5], [0.2]]
        )
    ),
    "MultivariateNormalFullCovariance": lambda: tfd.MultivariateNormalFullCovariance(
        var(0.1, 0.2), var(*SPD)
    ),
    "MultivariateNormalLinearOperator": lambda: tfd.MultivariateNormalLinearOperator(
        var(0.1, 0.2), diagonal(1.0, 2.0)
    ),
    "MultivariateNormalTriL": lambda: tfd.MultivariateNormalTriL(
        var(0.1, 0.2), tfp.util.TransformedVariable(TRIL, tfb.FillScaleTriL())
    ),
    "MultivariateStudentTLinearOperator": (
        lambda: tfd.MultivariateStudentTLinearOperator(
            4.0, var(0.1, 0.2), diagonal(1.0, 2.0)
        )
    ),
    "NegativeBinomial": lambda: tfd.NegativeBinomial(3.0, logits=var(0.3)),
    "NoncentralChi2": lambda: tfd.NoncentralChi2(var(3.0), 1.0),
    "Normal": lambda: tfd.Normal(
        var(0.3), tfp.util.TransformedVariable(2.0, tfb.Exp())
    ),
    "NormalInverseGaussian": lambda: tfd.NormalInverseGaussian(var(0.1), 1.0, 2.0, 0.5),
    "OneHotCategorical": lambda: tfd.OneHotCategorical(logits=var(0.1, 0.2)),
    "OrderedLogistic": lambda: tfd.OrderedLogistic([-1.0, 0.0, 2.0], var(0.3)),
    "PERT": lambda: tfd.PERT(1.0, var(2.0), 5.0),
    "Pareto": lambda: tfd.Pareto(var(3.0), 1.0),
    "PlackettLuce": lambda: tfd.PlackettLuce(var(1.0, 2.0, 3.0)),
    "Poisson": lambda: tfd.Poisson(log_rate=var(0.5)),
    "PoissonLogNormalQuadratureCompound": (
        lambda: tfd.PoissonLogNormalQuadratureCompound(var(0.1), 0.5)
    ),
    "PowerSpherical": lambda: tfd.PowerSpherical(var(0.6, 0.8, 0.0), 2.0),
    "ProbitBernoulli": lambda: tfd.ProbitBernoulli(probits=var(0.3)),
    "QuantizedDistribution": lambda: tfd.QuantizedDistribution(
        normal(1.5), low=0.0, high=4.0
    ),
    "RelaxedBernoulli": lambda: tfd.RelaxedBernoulli(0.5, logits=var(0.3)),
    "RelaxedOneHotCategorical": lambda: tfd.RelaxedOneHotCategorical(
        0.5, logits=var(0.1, 0.2)
    ),
    "Sample": lambda: tfd.Sample(normal(0.5), [2, 3]),
    "SigmoidBeta": lambda: tfd.SigmoidBeta(var(2.0), 3.0),
    "SinhArcsinh": lambda: tfd.SinhArcsinh(var(0.1), 1.0, 0.2, 1.1),
    "Skellam": lambda: tfd.Skellam(var(2.0), 1.0),
    "SphericalUniform": lambda: tfd.SphericalUniform(3),
    "StoppingRatioLogistic": lambda: tfd.StoppingRatioLogistic(
        [-1.0, 0.0, 2.0], var(0.3)
    ),
    "StudentT": lambda: tfd.StudentT(var(3.0), 0.1, 2.0),
    "StudentTProcess": lambda: tfd.StudentTProcess(4.0, kernel(), POINTS),
    "StudentTProcessRegressionModel": lambda: tfd.StudentTProcessRegressionModel(
        4.0, kernel(), POINTS, POINTS[:2], [0.3, 0.4], observation_noise_variance=0.1
    ),
    "TransformedDistribution": lambda: tfd.TransformedDistribution(
        tfd.Sample(normal(0.1), 2),
        tfb.Chain([tfb.Invert(tfb.Softplus()), tfb.ScaleMatvecTriL(var(*TRIL))]),
    ),
    "Triangular": lambda: tfd.Triangular(0.0, 2.0, var(0.5)),
    "TruncatedCauchy": lambda: tfd.TruncatedCauchy(var(0.1), 1.0, -1.0, 2.0),
    "TruncatedNormal": lambda: tfd.TruncatedNormal(var(0.1), 1.0, -1.0, 2.0),
    "TwoPieceNormal": lambda: tfd.TwoPieceNormal(var(0.1), 1.0, 1.5),
    "TwoPieceStudentT": lambda: tfd.TwoPieceStudentT(var(3.0), 0.1, 1.0, 1.5),
    "Uniform": lambda: tfd.Uniform(var(0.0), 2.0),
    "VariationalGaussianProcess": lambda: tfd.VariationalGaussianProcess(
        kernel(),
        POINTS,
        POINTS[:2],
        var(0.1, 0.2),
        var(*TRIL),
        observation_noise_variance=0.1,
    ),
    "VectorDeterministic": lambda: tfd.VectorDeterministic(var(0.1, 0.2)),
    "VonMises": lambda: tfd.VonMises(var(0.1), 2.0),
    "VonMisesFisher": lambda: tfd.VonMisesFisher(var(0.6, 0.8, 0.0), 2.0),
    "Weibull": lambda: tfd.Weibull(var(1.5), 2.0),
    "WishartLinearOperator": lambda: tfd.WishartLinearOperator(
        3.0, tf.linalg.LinearOperatorLowerTriangular(TRIL)
    ),
    "WishartTriL": lambda: tfd.WishartTriL(var(3.0), TRIL),
    "ZeroInflatedNegativeBinomial": lambda: tfd.ZeroInflatedNegativeBinomial(
        0.2, total_count=3.0, logits=var(0.1)
    ),
    "Zipf": lambda: tfd.Zipf(var(2.5)),
}

# Where TFP's own sampling fails under the NumPy of today.
VALUES = {"FlatDirichlet": [[0.2, 0.3, 0.5], [0.1, 0.1, 0.8]]}


def called(bijector):
    """TFP's batch normalization makes its weights when it is first called."""
    bijector.inverse(tf.ones([2, 3]))
    return bijector


def glow():
    return tfb.Glow(
        (4, 4, 1),
        num_glow_blocks=1,
        num_steps_per_block=1,
        coupling_bijector_fn=tfb.GlowDefaultNetwork,
        exit_bijector_fn=tfb.GlowDefaultExitNetwork,
    )


def made():
    network = tfb.AutoregressiveNetwork(2, hidden_units=[4], event_shape=[3])
    return tfb.MaskedAutoregressiveFlow(network)


# A builder, a part of the message, and the reason as the table in the docs gives it.
NETWORK = "a network of tf_keras, not a bijector"
ABSTRACT = "abstract: only others derive from it"
CALLABLE = "holds a Python function"
REFUSED_BIJECTORS = {
    "AutoCompositeTensorBijector": (
        lambda: tfb.AutoCompositeTensorBijector(forward_min_event_ndims=0),
        "abstract",
        ABSTRACT,
    ),
    "AutoregressiveNetwork": (
        lambda: tfb.AutoregressiveNetwork(2, hidden_units=[4], event_shape=[3]),
        "must be a TFP bijector",
        NETWORK,
    ),
    "BatchNormalization": (
        lambda: called(tfb.BatchNormalization()),
        r"use `tfpf\.BatchNorm`",
        "holds a layer of tf_keras; use `tfpf.BatchNorm`",
    ),
    "Bijector": (
        lambda: tfb.Bijector(forward_min_event_ndims=0),
        "abstract",
        ABSTRACT,
    ),
    "Composition": (
        lambda: tfb.Composition([tfb.Exp()], name="c", parameters={}),
        "is not implemented",
        ABSTRACT,
    ),
    "FFJORD": (
        lambda: tfb.FFJORD(lambda t, x: -x),
        "state_time_derivative_fn is a lambda",
        CALLABLE + "; use `tfpf.ContinuousFlow`, or give a Keras layer",
    ),
    "Glow": (
        glow,
        r"tfpf\.from_tfp",
        "makes layers of tf_keras; carry it over with `tfpf.from_tfp`",
    ),
    "GlowDefaultExitNetwork": (
        lambda: tfb.GlowDefaultExitNetwork((4, 4, 1), 1),
        "must be a TFP bijector",
        NETWORK,
    ),
    "GlowDefaultNetwork": (
        lambda: tfb.GlowDefaultNetwork((4, 4, 1)),
        "must be a TFP bijector",
        NETWORK,
    ),
    "Inline": (
        lambda: tfb.Inline(forward_fn=tf.exp, forward_min_event_ndims=0),
        "forward_fn is 'exp'",
        CALLABLE,
    ),
    "MaskedAutoregressiveFlow": (
        made,
        r"use `tfpf\.MaskedAutoregressive`",
        "holds a layer of tf_keras; use `tfpf.MaskedAutoregressive`, or give a Keras "
        "layer",
    ),
    "RealNVP": (
        lambda: tfb.RealNVP(2, shift_and_log_scale_fn=lambda x, n: (x, None)),
        r"tfpf\.from_tfp",
        CALLABLE + "; carry it over with `tfpf.from_tfp`",
    ),
}


def coroutine():
    yield tfd.JointDistributionCoroutine.Root(tfd.Normal(0.0, 1.0))


REFUSED_DISTRIBUTIONS = {
    "AutoCompositeTensorDistribution": (
        lambda: tfd.AutoCompositeTensorDistribution(
            tf.float32, tfd.FULLY_REPARAMETERIZED, False, True, parameters={}
        ),
        "abstract",
        ABSTRACT,
    ),
    "Autoregressive": (
        lambda: tfd.Autoregressive(lambda x: tfd.Normal(x, 1.0), tf.zeros(3)),
        "distribution_fn is a lambda",
        CALLABLE,
    ),
    "Distribution": (
        lambda: tfd.Distribution(
            tf.float32, tfd.FULLY_REPARAMETERIZED, False, True, parameters={}
        ),
        "abstract",
        ABSTRACT,
    ),
    "JointDistribution": (
        lambda: tfd.JointDistribution(
            tf.float32, tfd.FULLY_REPARAMETERIZED, False, True, parameters={}
        ),
        "abstract",
        ABSTRACT,
    ),
    "JointDistributionCoroutine": (
        lambda: tfd.JointDistributionCoroutine(coroutine),
        "model is 'coroutine'",
        CALLABLE,
    ),
    "JointDistributionCoroutineAutoBatched": (
        lambda: tfd.JointDistributionCoroutineAutoBatched(coroutine),
        "model is 'coroutine'",
        CALLABLE,
    ),
    "MarkovChain": (
        lambda: tfd.MarkovChain(
            tfd.Normal(0.0, 1.0), lambda _, x: tfd.Normal(x, 1.0), num_steps=3
        ),
        "transition_fn is a lambda",
        CALLABLE,
    ),
    "PixelCNN": (
        lambda: tfd.PixelCNN(
            (4, 4, 1),
            num_resnet=1,
            num_hierarchies=1,
            num_filters=2,
            num_logistic_mix=1,
            use_weight_norm=False,
        ),
        "tf_keras",
        "makes layers of tf_keras",
    ),
    "RegisterKL": (
        lambda: tfd.RegisterKL(tfd.Normal, tfd.Normal),
        "must be a TFP distribution",
        "a decorator, not a distribution",
    ),
    "ReparameterizationType": (
        lambda: tfd.FULLY_REPARAMETERIZED,
        "must be a TFP distribution",
        "a constant, not a distribution",
    ),
}

# What lies inside others, or is built in more than one way.
OTHERS = {
    "a chain in a joint distribution": lambda: tfd.JointDistributionSequential(
        [
            tfd.TransformedDistribution(
                normal(0.1), tfb.Chain([tfb.Exp(), tfb.Invert(tfb.Shift(var(1.0)))])
            ),
            normal(0.2),
        ]
    ),
    "a flow in a mixture in an independent": lambda: tfd.Independent(
        tfd.Mixture(
            tfd.Categorical(logits=var([0.1, 0.2], [0.3, 0.4])),
            [
                normal(0.0, 1.0),
                tfd.TransformedDistribution(normal(0.0, 2.0), tfb.Sinh()),
            ],
        ),
        1,
    ),
    "a sum of products of kernels": lambda: tfd.GaussianProcess(
        kernel() * tfk.Linear(var(0.5)) + tfk.MaternFiveHalves(1.0, var(2.0)),
        POINTS,
        observation_noise_variance=var(0.1),
    ),
    "a scaled kernel": lambda: tfd.GaussianProcess(
        tfk.FeatureScaled(kernel(), scale_diag=var([2.0])), POINTS, mean_fn=None
    ),
    "numbers that JSON does not have": lambda: tfd.Categorical(
        logits=[-math.inf, 0.1, np.float32(0.2)], dtype=tf.int64
    ),
    "float64": lambda: tfd.Normal(tf.Variable(0.1, dtype=tf.float64), np.float64(0.3)),
}


def public_classes(module):
    found = {n for n, value in vars(module).items() if inspect.isclass(value)}
    return {name for name in found if not name.startswith("_")}


@pytest.mark.parametrize(
    ("module", "saved", "refused"),
    [
        (tfb, BIJECTORS, REFUSED_BIJECTORS),
        (tfd, DISTRIBUTIONS, REFUSED_DISTRIBUTIONS),
    ],
    ids=["bijectors", "distributions"],
)
def test_no_class_is_missing(module, saved, refused):
    # The module is lazy: it lists nothing before it is looked at.
    dir(module)
    assert len(public_classes(module)) > 50
    assert public_classes(module) == {*saved, *refused}
    assert not set(saved) & set(refused)


def outputs(bijector, x):
    ndims = bijector.forward_min_event_ndims
    results = [bijector.forward(x)]
    if not isinstance(bijector, tfb.AbsoluteValue):  # which has no log-det
        results.append(bijector.forward_log_det_jacobian(x, ndims))
    return [np.array(part) for part in tf.nest.flatten(results)]


def assert_same(first, second):
    assert len(first) == len(second) > 0
    for a, b in zip(first, second, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)
        assert np.isfinite(a).all()


@pytest.mark.parametrize("name", BIJECTORS)
def test_bijectors_come_back_bit_for_bit(name, tmp_path):
    entry = BIJECTORS[name]
    build, x = entry if isinstance(entry, tuple) else (entry, X)
    bijector = build()
    several = tf.nest.is_nested(bijector.forward_min_event_ndims)
    x = [tf.constant(part) for part in x] if several else tf.constant(x)
    before = outputs(bijector, x)
    tfpf.save_bijector(bijector, tmp_path / "b.keras")
    loaded = tfpf.load_bijector(tmp_path / "b.keras")
    assert type(loaded) is type(bijector)
    assert_same(before, outputs(loaded, x))
    assert len(loaded.variables) == len(bijector.variables)


@pytest.mark.filterwarnings("ignore:Saw Tensor seed")
@pytest.mark.parametrize("name", [*DISTRIBUTIONS, *OTHERS])
def test_distributions_come_back_bit_for_bit(name, tmp_path):
    distribution = {**DISTRIBUTIONS, **OTHERS}[name]()
    if name in VALUES:
        x = tf.constant(VALUES[name])
    else:
        # Arrays of its own: TFP remembers of which latents a sample was made.
        x = tf.nest.map_structure(
            lambda part: tf.constant(part.numpy()), distribution.sample(2, seed=(1, 2))
        )
    tfpf.save_distribution(distribution, tmp_path / "d.keras")
    loaded = tfpf.load_distribution(tmp_path / "d.keras")
    assert type(loaded) is type(distribution)
    assert_same([np.array(distribution.log_prob(x))], [np.array(loaded.log_prob(x))])
    assert len(loaded.variables) == len(distribution.variables)


def refusals():
    for name, entry in REFUSED_BIJECTORS.items():
        yield pytest.param(name, *entry[:2], tfpf.save_bijector, id=f"tfb.{name}")
    for name, entry in REFUSED_DISTRIBUTIONS.items():
        yield pytest.param(name, *entry[:2], tfpf.save_distribution, id=f"tfd.{name}")


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(("name", "build", "message", "save"), list(refusals()))
def test_what_cannot_be_saved_is_refused_by_name(name, build, message, save, tmp_path):
    # `Composition` is so abstract that TFP itself makes none.
    errors = (TypeError, NotImplementedError)
    with pytest.raises(errors, match=name) as caught:
        save(build(), tmp_path / "refused.keras")
    assert re.search(message, str(caught.value))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("title", "prefix", "saved", "refused"),
    [
        ("Bijectors", "tfb", BIJECTORS, REFUSED_BIJECTORS),
        ("Distributions", "tfd", DISTRIBUTIONS, REFUSED_DISTRIBUTIONS),
    ],
)
def test_the_document_shows_the_outcome(title, prefix, saved, refused):
    document = Path(__file__).parents[2] / "docs" / "serialization.md"
    text = document.read_text(encoding="utf-8").split("### Containers")[0]
    listed = re.search(rf"### {title}\n\nSaved \((\d+)\): (.*)\.\n", text)
    assert re.findall(r"`(\w+)`", listed[2]) == sorted(saved)
    assert int(listed[1]) == len(saved)
    rows = re.findall(rf"^\| `{prefix}\.(\w+)` \| (.*) \|$", text, re.MULTILINE)
    assert dict(rows) == {name: reason for name, (_, _, reason) in refused.items()}
