"""FrEIA: a block of its couplings moves both halves, so it counts as two.

Version 0.2 has neither splines nor a Glow for images in its package.
"""

import FrEIA.framework as ff
import FrEIA.modules as fm
import torch

from benchmarks.speed.adapters.torch_steps import batches, mlp, steps
from benchmarks.speed.workloads import Unsupported


def build(w):
    if w.kind != "affine":
        raise Unsupported
    flow = ff.SequenceINN(w.features)

    def net(inputs, outputs):
        return mlp(inputs, w.width, outputs)

    for _ in range(w.layers // 2):
        flow.append(fm.GLOWCouplingBlock, subnet_constructor=net)
    normal = torch.distributions.Normal(0.0, 1.0)

    def log_prob(x):
        z, log_det = flow(x)
        return normal.log_prob(z).sum(-1) + log_det

    def sample():
        return flow(torch.randn(w.batch, w.features), rev=True)[0]

    x, many = batches(w)
    return steps(flow, log_prob, sample, x, many)
