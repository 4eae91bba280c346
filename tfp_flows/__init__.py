"""Normalizing flows as TFP bijectors that Keras 3 trains, saves and serves."""

from tfp_flows import anomaly, data, latent, representation, speech, tables, text
from tfp_flows.architectures.autoregressive import maf
from tfp_flows.architectures.continuous import ffjord
from tfp_flows.architectures.coupling import nice, real_nvp, spline_flow
from tfp_flows.architectures.glow import dequantization_noise, glow
from tfp_flows.architectures.preprocessing import center, logit
from tfp_flows.bijectors import masks
from tfp_flows.bijectors.autoregressive import MaskedAutoregressive
from tfp_flows.bijectors.base import FlowBijector
from tfp_flows.bijectors.conditional import EncodedCondition, condition
from tfp_flows.bijectors.continuous import ContinuousFlow
from tfp_flows.bijectors.coupling import (
    AdditiveCoupling,
    AffineCoupling,
    SplineCoupling,
)
from tfp_flows.bijectors.elementwise import ConditionalAffine, LeakyReLU, SinhArcsinh
from tfp_flows.bijectors.linear import InvertibleConv1x1, Linear
from tfp_flows.bijectors.multiscale import MultiScale
from tfp_flows.bijectors.normalization import ActNorm, BatchNorm
from tfp_flows.bijectors.ode import Adaptive, FixedStep
from tfp_flows.bijectors.planar import Planar, Radial
from tfp_flows.bijectors.repeat import Repeat
from tfp_flows.bijectors.reshape import Squeeze
from tfp_flows.distributions import bases
from tfp_flows.distributions.surjections import Dequantized
from tfp_flows.inference import calibration
from tfp_flows.inference.surrogate import flat_target, surrogate_posterior
from tfp_flows.internal.batching import map_batches
from tfp_flows.interop import from_tfp
from tfp_flows.saving.files import (
    load_bijector,
    load_distribution,
    save_bijector,
    save_distribution,
)
from tfp_flows.serving.export import export_saved_model
from tfp_flows.testing.check_bijector import check_bijector
from tfp_flows.training.callbacks import (
    AveragedWeights,
    Backup,
    SampleGrid,
    averaged_weights,
)
from tfp_flows.training.distributed import fit_distributed
from tfp_flows.training.flow_matching import FlowMatchingModel
from tfp_flows.training.model import FlowModel
from tfp_flows.training.optimizers import optimizer
from tfp_flows.training.precision import network_precision

__version__ = "0.1.0"

__all__ = [
    "ActNorm",
    "Adaptive",
    "AdditiveCoupling",
    "AffineCoupling",
    "AveragedWeights",
    "Backup",
    "BatchNorm",
    "ConditionalAffine",
    "ContinuousFlow",
    "Dequantized",
    "EncodedCondition",
    "FixedStep",
    "FlowBijector",
    "FlowMatchingModel",
    "FlowModel",
    "InvertibleConv1x1",
    "LeakyReLU",
    "Linear",
    "MaskedAutoregressive",
    "MultiScale",
    "Planar",
    "Radial",
    "Repeat",
    "SampleGrid",
    "SinhArcsinh",
    "SplineCoupling",
    "Squeeze",
    "anomaly",
    "averaged_weights",
    "bases",
    "calibration",
    "center",
    "check_bijector",
    "condition",
    "data",
    "dequantization_noise",
    "export_saved_model",
    "ffjord",
    "flat_target",
    "fit_distributed",
    "from_tfp",
    "glow",
    "latent",
    "load_bijector",
    "load_distribution",
    "logit",
    "maf",
    "map_batches",
    "masks",
    "nets",
    "network_precision",
    "nice",
    "optimizer",
    "real_nvp",
    "representation",
    "save_bijector",
    "save_distribution",
    "speech",
    "spline_flow",
    "surrogate_posterior",
    "tables",
    "text",
]
