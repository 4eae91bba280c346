"""normflows: affine coupling blocks, coupled splines, and its multi-scale Glow."""

import normflows as nf

from benchmarks.speed.adapters.torch_steps import batches, steps


def vector(w):
    parts = []
    for _ in range(w.layers):
        if w.kind == "spline":
            # Its residual network with one block has a layer more than the others'.
            parts.append(
                nf.flows.CoupledRationalQuadraticSpline(
                    w.features, 1, w.width, num_bins=w.bins, tail_bound=w.bound
                )
            )
        else:
            # normflows keeps the first half and gives it the larger part.
            kept = w.features - w.kept
            net = nf.nets.MLP([kept, w.width, w.width, 2 * w.kept])
            parts.append(nf.flows.AffineCouplingBlock(net))
        parts.append(nf.flows.Permute(w.features, mode="swap"))
    return nf.NormalizingFlow(nf.distributions.DiagGaussian(w.features, False), parts)


def glow(w):
    side, _, channels = w.event_shape
    bases, flows, merges = [], [], []
    for i in range(w.levels):
        doubled = channels * 2 ** (w.levels + 1 - i)
        blocks = [
            nf.flows.GlowBlock(doubled, w.width, split_mode="channel", scale=True)
            for _ in range(w.layers)
        ]
        flows.append([*blocks, nf.flows.Squeeze()])
        if i > 0:
            merges.append(nf.flows.Merge())
        size = side // 2 ** (w.levels - i)
        shape = (doubled // 2 if i > 0 else doubled, size, size)
        bases.append(nf.distributions.DiagGaussian(shape, trainable=False))
    return nf.MultiscaleFlow(bases, flows, merges, class_cond=False)


def build(w):
    images = w.kind == "glow"
    flow = glow(w) if images else vector(w)
    x, many = batches(w, channels_first=images)

    def log_prob(values):
        return flow.log_prob(values, None) if images else flow.log_prob(values)

    return steps(flow, log_prob, lambda: flow.sample(w.batch)[0], x, many)
