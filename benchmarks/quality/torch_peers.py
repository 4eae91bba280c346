"""Trains zuko's flows, or normflows' residual flow, in an environment that has them."""

import math
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))
import protocol

HIDDEN = {"hidden_features": (64, 64)}
# zuko's solver adapts its steps. At its default tolerances (1e-6, 1e-5) a training
# step takes about a second.
TRAINED = {"atol": 1e-3, "rtol": 1e-3}
JUDGED = {"atol": 1e-4, "rtol": 1e-4}


def zuko(kind, features, **options):
    import zuko as library

    return getattr(library.flows, kind)(features, **options, **HIDDEN)


def gaussianization(features):
    import zuko as library

    return library.flows.GF(features, transforms=6, components=8)


def cnf(features, exact, **tolerances):
    return zuko("CNF", features, exact=exact, **tolerances)


class Residual(torch.nn.Module):
    """normflows' residual flow; its log-det is exact on two features."""

    def __init__(self, features):
        import normflows

        super().__init__()
        exact = {"brute_force": True, "reduce_memory": False} if features == 2 else {}
        flows = []
        for _ in range(8):
            net = normflows.nets.LipschitzMLP([features, 64, 64, features])
            flows += [normflows.flows.Residual(net, **exact)]
            flows += [normflows.flows.ActNorm(features)]
        base = normflows.distributions.DiagGaussian(features, trainable=False)
        self.flow = normflows.NormalizingFlow(base, flows)
        self.lipschitz = normflows.utils.update_lipschitz

    def forward(self):
        return self.flow

    def after_step(self):
        self.lipschitz(self.flow, 5)


ZUKO = {
    "zuko_nsf": lambda d: zuko("NSF", d, transforms=3, bins=8),
    "zuko_maf": lambda d: zuko("MAF", d, transforms=6),
    "zuko_cnf": lambda d: cnf(d, exact=d <= protocol.EXACT_UP_TO, **TRAINED),
    "zuko_naf": lambda d: zuko("NAF", d, transforms=3),
    "zuko_unaf": lambda d: zuko("UNAF", d, transforms=3),
    "zuko_sos": lambda d: zuko("SOSPF", d, transforms=3),
    "zuko_bernstein": lambda d: zuko("BPF", d, transforms=3),
    "zuko_gaussianization": gaussianization,
}
LIBRARIES = {"zuko": ZUKO, "normflows": {"normflows_residual": Residual}}
MODELS = ZUKO | LIBRARIES["normflows"]
WITH_PATIENCE = ("zuko_cnf", "zuko_unaf", "normflows_residual")


def train_one(name, train, validation, test, seed, every, steps):
    torch.manual_seed(seed)
    flow = MODELS[name](train.shape[1])
    judge = flow
    if name == "zuko_cnf":
        judge = cnf(train.shape[1], exact=True, **JUDGED)
    optimizer = torch.optim.Adam(flow.parameters(), lr=protocol.RATE)

    def step(batch, rate):
        optimizer.param_groups[0]["lr"] = rate
        optimizer.zero_grad()
        loss = -flow().log_prob(torch.from_numpy(batch)).mean()
        loss.backward()
        optimizer.step()
        getattr(flow, "after_step", lambda: None)()

    def nll(rows):
        if judge is not flow:
            judge.load_state_dict(flow.state_dict())
        judge.eval()
        with torch.no_grad():
            found = float(-judge().log_prob(torch.from_numpy(rows)).mean())
        judge.train()
        return found

    found = protocol.fit(
        train,
        validation,
        test,
        step=step,
        nll=nll,
        steps=steps,
        seed=seed,
        every=every,
        patience=protocol.PATIENCE if name in WITH_PATIENCE else math.inf,
    )
    weights = sum(p.numel() for p in flow.parameters())
    return {"nll": found, "weights": weights}


if __name__ == "__main__":
    library = sys.argv.pop(1)
    protocol.main(library, LIBRARIES[library], train_one)
