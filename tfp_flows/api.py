"""The public names of the package, which `import tfp_flows as tfpf` gives."""

from tfp_flows import (
    anomaly,
    data,
    images,
    inference,
    latent,
    nets,
    plotting,
    representation,
    serving,
    speech,
    tables,
    testing,
    text,
    training,
)
from tfp_flows.architectures.autoregressive import (
    autoregressive_flow,
    bernstein_flow,
    maf,
    naf,
    sos_flow,
    unaf,
)
from tfp_flows.architectures.continuous import ffjord
from tfp_flows.architectures.coupling import (
    coupling_flow,
    nice,
    real_nvp,
    spline_flow,
)
from tfp_flows.architectures.domains import on, sphere_flow, torus_flow
from tfp_flows.architectures.glow import dequantization_noise, glow
from tfp_flows.architectures.images import center, logit, pixel_splines
from tfp_flows.architectures.stacked import (
    bnaf,
    gaussianization_flow,
    residual_flow,
    sylvester_flow,
)
from tfp_flows.architectures.tokens import jet, tarflow
from tfp_flows.bijectors import masks, transforms
from tfp_flows.bijectors.autoregressive import Autoregressive, MaskedAutoregressive
from tfp_flows.bijectors.base import FlowBijector
from tfp_flows.bijectors.block import BlockAutoregressive
from tfp_flows.bijectors.causal import Causal, Guided, guided
from tfp_flows.bijectors.conditional import EncodedCondition, condition
from tfp_flows.bijectors.continuous import ContinuousFlow
from tfp_flows.bijectors.convolution import ConvolutionExponential
from tfp_flows.bijectors.coupling import (
    AdditiveCoupling,
    AffineCoupling,
    Coupling,
    SplineCoupling,
)
from tfp_flows.bijectors.domains import Onto, Sphere, Wrap, ZeroSum
from tfp_flows.bijectors.elementwise import (
    ConditionalAffine,
    Elementwise,
    LeakyReLU,
    Sinh,
    SinhArcsinh,
)
from tfp_flows.bijectors.linear import InvertibleConv1x1, Linear
from tfp_flows.bijectors.multiscale import MultiScale
from tfp_flows.bijectors.normalization import ActNorm, BatchNorm
from tfp_flows.bijectors.ode import Adaptive, FixedStep
from tfp_flows.bijectors.planar import Planar, Radial, Sylvester
from tfp_flows.bijectors.repeat import Repeat
from tfp_flows.bijectors.reshape import Squeeze
from tfp_flows.bijectors.residual import Residual
from tfp_flows.distributions import bases
from tfp_flows.distributions.folds import (
    Decoded,
    Exchangeable,
    Folded,
    MaxPooled,
)
from tfp_flows.distributions.mixture import mixture
from tfp_flows.distributions.surjections import Augmented, Dequantized, Noised, denoise
from tfp_flows.inference import calibration
from tfp_flows.inference.surrogate import flat_target, surrogate_posterior
from tfp_flows.inference.variational import VariationalModel
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

__all__ = [name for name in globals() if not name.startswith("_")]  # pyright: ignore
