"""Trains zuko's flows on the splits, in an environment with torch and zuko."""

import math
import sys
from pathlib import Path

import torch
import zuko

sys.path.insert(0, str(Path(__file__).parent))
import protocol

HIDDEN = {"hidden_features": (64, 64)}
# zuko's solver adapts its steps. At its default tolerances (1e-6, 1e-5) a training
# step takes about a second.
TRAINED = {"atol": 1e-3, "rtol": 1e-3}
JUDGED = {"atol": 1e-4, "rtol": 1e-4}


def cnf(features, exact, **tolerances):
    return zuko.flows.CNF(features, exact=exact, **tolerances, **HIDDEN)


MODELS = {
    "zuko_nsf": lambda d: zuko.flows.NSF(d, transforms=3, bins=8, **HIDDEN),
    "zuko_maf": lambda d: zuko.flows.MAF(d, transforms=6, **HIDDEN),
    "zuko_cnf": lambda d: cnf(d, exact=d <= protocol.EXACT_UP_TO, **TRAINED),
}


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

    def nll(rows):
        if judge is not flow:
            judge.load_state_dict(flow.state_dict())
        with torch.no_grad():
            return float(-judge().log_prob(torch.from_numpy(rows)).mean())

    found = protocol.fit(
        train,
        validation,
        test,
        step=step,
        nll=nll,
        steps=steps,
        seed=seed,
        every=every,
        patience=protocol.PATIENCE if name == "zuko_cnf" else math.inf,
    )
    weights = sum(p.numel() for p in flow.parameters())
    return {"nll": found, "weights": weights}


def main():
    options = protocol.arguments(MODELS)

    def one(name, *parts):
        return train_one(name, *parts, steps=options.steps)

    protocol.run("zuko", options, one)


if __name__ == "__main__":
    main()
