"""What the PyTorch libraries share."""

import torch

from benchmarks.speed.workloads import LEARNING_RATE, Steps


def batches(w, channels_first=False):
    """Returns a training batch and one to score, drawn from a standard normal."""
    torch.manual_seed(0)
    shape = w.event_shape
    if channels_first:
        shape = (shape[-1], *shape[:-1])
    return torch.randn(w.train_batch, *shape), torch.randn(w.batch, *shape)


def steps(module, log_prob, sample, train_on, many):
    """Makes the three things to time of a module and its two functions."""
    optimizer = torch.optim.Adam(module.parameters(), LEARNING_RATE)

    def train():
        optimizer.zero_grad()
        loss = -log_prob(train_on).mean()
        loss.backward()
        optimizer.step()
        return loss.item()

    def score():
        with torch.no_grad():
            return log_prob(many).numpy()

    def draw():
        with torch.no_grad():
            return sample().numpy()

    count = sum(p.numel() for p in module.parameters() if p.requires_grad)
    return Steps(parameters=count, train=train, log_prob=score, sample=draw)


def mlp(inputs, width, outputs):
    """A network with two hidden layers."""
    return torch.nn.Sequential(
        torch.nn.Linear(inputs, width),
        torch.nn.ReLU(),
        torch.nn.Linear(width, width),
        torch.nn.ReLU(),
        torch.nn.Linear(width, outputs),
    )
