"""Normalizing flows as TFP bijectors that Keras 3 trains, saves and serves."""

from tfp_flows import data, nets
from tfp_flows.architectures import bases
from tfp_flows.architectures.dequantization import Dequantized, dequantization_noise
from tfp_flows.architectures.ffjord import ffjord
from tfp_flows.architectures.glow import glow
from tfp_flows.architectures.maf import maf
from tfp_flows.architectures.nice import nice
from tfp_flows.architectures.preprocessing import center, logit
from tfp_flows.architectures.real_nvp import real_nvp
from tfp_flows.architectures.spline_flow import spline_flow
from tfp_flows.bijectors import masks
from tfp_flows.bijectors.actnorm import ActNorm
from tfp_flows.bijectors.autoregressive import MaskedAutoregressive
from tfp_flows.bijectors.base import FlowBijector
from tfp_flows.bijectors.batchnorm import BatchNorm
from tfp_flows.bijectors.cnf import ContinuousFlow
from tfp_flows.bijectors.conditional_affine import ConditionalAffine
from tfp_flows.bijectors.conditioned import condition
from tfp_flows.bijectors.conv1x1 import InvertibleConv1x1
from tfp_flows.bijectors.coupling import AdditiveCoupling, AffineCoupling
from tfp_flows.bijectors.elementary import LeakyReLU, SinhArcsinh
from tfp_flows.bijectors.encoded import EncodedCondition
from tfp_flows.bijectors.linear import Linear
from tfp_flows.bijectors.multiscale import MultiScale
from tfp_flows.bijectors.ode import Adaptive, FixedStep
from tfp_flows.bijectors.planar import Planar
from tfp_flows.bijectors.radial import Radial
from tfp_flows.bijectors.repeat import Repeat
from tfp_flows.bijectors.spline import SplineCoupling
from tfp_flows.bijectors.squeeze import Squeeze
from tfp_flows.serving.export import export_saved_model
from tfp_flows.tools import (
    anomaly,
    calibration,
    latent,
    representation,
    speech,
    tables,
    text,
)
from tfp_flows.tools.checks import check_bijector
from tfp_flows.tools.migration import from_tfp
from tfp_flows.tools.surrogate import flat_target, surrogate_posterior
from tfp_flows.training.averages import AveragedWeights, averaged_weights
from tfp_flows.training.backup import Backup
from tfp_flows.training.distributed import fit_distributed
from tfp_flows.training.files import (
    load_bijector,
    load_distribution,
    save_bijector,
    save_distribution,
)
from tfp_flows.training.flow_matching import FlowMatchingModel
from tfp_flows.training.fused_adam import FusedAdam, FusedAdamW
from tfp_flows.training.memory import hold_memory
from tfp_flows.training.model import FlowModel
from tfp_flows.training.optimizers import optimizer
from tfp_flows.training.parts import in_parts
from tfp_flows.training.precision import network_precision
from tfp_flows.training.sample_grid import SampleGrid

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
    "FusedAdam",
    "FusedAdamW",
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
    "hold_memory",
    "in_parts",
    "latent",
    "load_bijector",
    "load_distribution",
    "logit",
    "maf",
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
