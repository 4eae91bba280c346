"""zuko: general coupling transforms."""

import torch
import zuko

from benchmarks.speed.adapters.torch_steps import batches, steps
from benchmarks.speed.workloads import Unsupported


def build(w):
    if w.kind == "glow":
        raise Unsupported
    univariate = {}
    if w.kind == "spline":
        univariate = {
            "univariate": zuko.transforms.MonotonicRQSTransform,
            "shapes": [(w.bins,), (w.bins,), (w.bins - 1,)],
        }
    first = torch.arange(w.features) < w.kept
    transforms = [
        zuko.flows.coupling.GeneralCouplingTransform(
            w.features,
            mask=first if index % 2 == 0 else ~first,
            hidden_features=(w.width, w.width),
            **univariate,
        )
        for index in range(w.layers)
    ]
    base = zuko.lazy.UnconditionalDistribution(
        zuko.distributions.DiagNormal,
        torch.zeros(w.features),
        torch.ones(w.features),
        buffer=True,
    )
    flow = zuko.lazy.Flow(transforms, base)
    x, many = batches(w)
    return steps(
        flow, lambda v: flow().log_prob(v), lambda: flow().sample((w.batch,)), x, many
    )
