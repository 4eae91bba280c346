"""Transforms: elementwise bijections whose parameters a structure provides.

A transform is a value without weights or shapes. `Coupling`, `Autoregressive` and
`Elementwise` say where its parameters come from.
"""

from tfp_flows.bijectors.transforms.affine import (
    Affine,
    LeakyReLU,
    PeriodicShift,
    Shift,
    SinhArcsinh,
    VolumePreserving,
)
from tfp_flows.bijectors.transforms.base import Transform
from tfp_flows.bijectors.transforms.mixture import LogisticMixture, NormalMixture
from tfp_flows.bijectors.transforms.monotone import (
    Bernstein,
    Gaussianization,
    SigmoidalNetwork,
    SumOfSquares,
    UnconstrainedMonotonic,
)
from tfp_flows.bijectors.transforms.spline import RationalQuadraticSpline
from tfp_flows.bijectors.transforms.splines import (
    CubicSpline,
    LinearRationalSpline,
    LinearSpline,
    QuadraticSpline,
)
from tfp_flows.bijectors.transforms.squashing import CauchyCDF, Tanh
