"""nflows: coupling transforms with its own MLP; its Glow is not multi-scale."""

import torch
from nflows.distributions.normal import StandardNormal
from nflows.flows.base import Flow
from nflows.transforms.base import CompositeTransform
from nflows.transforms.coupling import (
    AffineCouplingTransform,
    PiecewiseRationalQuadraticCouplingTransform,
)

from benchmarks.speed.adapters.torch_steps import batches, mlp, steps
from benchmarks.speed.workloads import Unsupported


class Conditioner(torch.nn.Module):
    """An MLP that takes the context argument which nflows passes."""

    def __init__(self, inputs, width, outputs):
        super().__init__()
        self.net = mlp(inputs, width, outputs)
        # nflows scales raw widths and heights by this.
        self.hidden_features = width

    def forward(self, x, context=None):
        return self.net(x)


def flow(w):
    if w.kind == "glow":
        raise Unsupported
    first = torch.arange(w.features) >= w.kept
    parts = []
    for index in range(w.layers):
        mask = (first if index % 2 == 0 else ~first).int()

        def net(inputs, outputs):
            return Conditioner(inputs, w.width, outputs)

        if w.kind == "spline":
            part = PiecewiseRationalQuadraticCouplingTransform(
                mask, net, num_bins=w.bins, tails="linear", tail_bound=w.bound
            )
        else:
            part = AffineCouplingTransform(mask, net)
        parts.append(part)
    return Flow(CompositeTransform(parts), StandardNormal([w.features]))


def build(w):
    module = flow(w)
    x, many = batches(w)
    return steps(module, module.log_prob, lambda: module.sample(w.batch), x, many)
