"""Trains a peer's posterior estimator on given pairs, in the peer's own interpreter.

    python peer.py sbi PAIRS.npz DRAWS.npz

PAIRS holds `theta`, `x`, `observed` and the box `low`, `high` of the prior; DRAWS gets
`draws` and the CPU seconds `training`, `first` (of the first draws) and `sampling` (of
those after them). One thread, defaults.
"""

import os
import sys
import time

os.environ.setdefault("KERAS_BACKEND", "torch")

import numpy as np
import torch


def sbi(pairs, count):
    """Neural posterior estimation with the library's defaults."""
    from sbi.inference import NPE
    from sbi.utils import BoxUniform

    def tensor(name):
        return torch.as_tensor(pairs[name])

    start = time.process_time()
    inference = NPE(BoxUniform(tensor("low"), tensor("high")))
    inference.append_simulations(tensor("theta"), tensor("x"))
    posterior = inference.build_posterior(inference.train())
    times = [time.process_time()]
    for _ in range(2):
        draws = posterior.sample((count,), tensor("observed"), show_progress_bars=False)
        times.append(time.process_time())
    return draws.numpy(), times[0] - start, *np.diff(times)


def bayesflow(pairs, count):
    """A coupling flow with the library's defaults; 50 epochs at batches of 128."""
    import bayesflow

    start = time.process_time()
    workflow = bayesflow.BasicWorkflow(
        inference_network=bayesflow.networks.CouplingFlow(),
        inference_variables=["theta"],
        inference_conditions=["x"],
    )
    values = {"theta": pairs["theta"], "x": pairs["x"]}
    workflow.fit_offline(values, epochs=50, batch_size=128, verbose=0)
    observed = {"x": pairs["observed"][np.newaxis]}
    times = [time.process_time()]
    for _ in range(2):
        draws = workflow.sample(conditions=observed, num_samples=count)["theta"][0]
        times.append(time.process_time())
    return draws, times[0] - start, *np.diff(times)


def main():
    torch.set_num_threads(1)
    torch.manual_seed(0)
    method = {"sbi": sbi, "bayesflow": bayesflow}[sys.argv[1]]
    draws, *seconds = method(dict(np.load(sys.argv[2])), 10_000)
    names = ("training", "first", "sampling")
    np.savez(sys.argv[3], draws=draws, **dict(zip(names, seconds, strict=True)))


if __name__ == "__main__":
    main()
