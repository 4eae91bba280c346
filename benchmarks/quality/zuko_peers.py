"""Trains zuko's flows on the splits, in an environment with torch and zuko."""

import sys
from pathlib import Path

import torch
import zuko

sys.path.insert(0, str(Path(__file__).parent))
import protocol

HIDDEN = {"hidden_features": (64, 64)}
MODELS = {
    "zuko_nsf": lambda d: zuko.flows.NSF(d, transforms=3, bins=8, **HIDDEN),
    "zuko_maf": lambda d: zuko.flows.MAF(d, transforms=6, **HIDDEN),
    "zuko_cnf": lambda d: zuko.flows.CNF(d, **HIDDEN),
}


def train_one(name, train, validation, test, seed, every, steps):
    torch.manual_seed(seed)
    flow = MODELS[name](train.shape[1])
    optimizer = torch.optim.Adam(flow.parameters(), lr=protocol.RATE)

    def step(batch, rate):
        optimizer.param_groups[0]["lr"] = rate
        optimizer.zero_grad()
        loss = -flow().log_prob(torch.from_numpy(batch)).mean()
        loss.backward()
        optimizer.step()

    def nll(rows):
        with torch.no_grad():
            return float(-flow().log_prob(torch.from_numpy(rows)).mean())

    parts = {"step": step, "nll": nll, "steps": steps, "seed": seed, "every": every}
    found = protocol.fit(train, validation, test, **parts)
    weights = sum(p.numel() for p in flow.parameters())
    return {"nll": found, "weights": weights}


def main():
    options = protocol.arguments(MODELS)

    def one(name, *parts):
        return train_one(name, *parts, steps=options.steps)

    protocol.run("zuko", options, one)


if __name__ == "__main__":
    main()
