"""Trains normflows' Glow on Fashion-MNIST for a fixed time, as its example does.

    python -m benchmarks.images.normflows_glow --data DATA --out LOGS

It needs torch and normflows, and the `fashion_mnist.npz` that `ours` writes. Number
of levels, steps and hidden channels, preprocessing, optimizer, schedule, batches and
clock are those of our run.
"""

import math

import normflows as nf
import numpy as np
import torch

from benchmarks.images import protocol

EVALUATIONS = 24
DIMENSIONS = 784


def build(options):
    """Returns the multi-scale flow of normflows' Glow example, without classes."""
    levels, size = options.levels, 28
    bases, flows, merges = [], [], []
    for i in range(levels):
        channels = 2 ** (levels + 1 - i)
        blocks = [
            nf.flows.GlowBlock(
                channels, options.hidden_channels, split_mode="channel", scale=True
            )
            for _ in range(options.steps)
        ]
        flows.append([*blocks, nf.flows.Squeeze()])
        if i > 0:
            merges.append(nf.flows.Merge())
        side = size // 2 ** (levels - i)
        shape = (channels // 2 if i > 0 else channels, side, side)
        bases.append(nf.distributions.DiagGaussian(shape))
    # Its logit maps a + (1 - 2 a) x; ours maps alpha / 2 + (1 - alpha) x.
    logit = nf.transforms.Logit(alpha=options.alpha / 2)
    return nf.MultiscaleFlow(bases, flows, merges, logit, class_cond=False)


def bits(model, images, batch_size=250):
    """Returns bits per dimension of pixel values in [0, 256)."""
    with torch.no_grad():
        nll = [
            -model.log_prob(torch.from_numpy(images[i : i + batch_size]) / 256, None)
            for i in range(0, len(images), batch_size)
        ]
    return in_bits(torch.cat(nll).mean())


def in_bits(nll):
    """Converts nats for pixels in [0, 1] to bits for pixels in [0, 256)."""
    return float(nll) / (DIMENSIONS * math.log(2)) + 8.0


def main():
    options = protocol.arguments(__doc__).parse_args()
    torch.manual_seed(options.seed)
    if options.one_core:
        torch.set_num_threads(1)
    rng = np.random.default_rng(options.seed)
    train, test = protocol.load(options.data)
    train, test = (np.moveaxis(images, -1, 1) for images in (train, test))
    test = protocol.dequantized(test, seed=1)
    log = protocol.Log(options.out, "normflows_glow", options)
    clock = protocol.Clock(options.minutes, options.one_core)
    model = build(options)
    bits(model, protocol.dequantized(train[:1024], seed=2), batch_size=1024)
    optimizer = torch.optim.Adam(model.parameters(), options.learning_rate)
    order, position, images, recent, following = None, len(train), 0, [], 1
    while clock.share() < 1.0:
        if position + options.batch_size > len(train):
            order, position = rng.permutation(len(train)), 0
        index = order[position : position + options.batch_size]
        position += options.batch_size
        batch = torch.from_numpy(train[index]).float()
        batch = (batch + torch.rand_like(batch).clamp(max=1 - 2**-16)) / 256
        rate = protocol.learning_rate(options.learning_rate, clock.share())
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.zero_grad()
        loss = model.forward_kld(batch, None)
        if torch.isfinite(loss):
            loss.backward()
            if options.clip:
                torch.nn.utils.clip_grad_norm_(model.parameters(), options.clip)
            optimizer.step()
        images += options.batch_size
        recent = [*recent[-99:], in_bits(loss.detach())]
        if clock.share() >= following / EVALUATIONS:
            following = int(clock.share() * EVALUATIONS) + 1
            start = clock.now()
            model.eval()
            score = bits(model, test[: len(test) // 10])
            model.train()
            log.row(clock.seconds(), images, np.mean(recent), score)
            clock.pause(clock.now() - start)
    seconds = clock.seconds()
    model.eval()
    log.finish(
        test_bits_per_dim=bits(model, test),
        training_seconds=seconds,
        images=images,
        weights=sum(p.numel() for p in model.parameters()),
        torch=torch.__version__,
    )


if __name__ == "__main__":
    main()
