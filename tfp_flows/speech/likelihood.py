"""`nats_per_sample`: the log-likelihood of windows under a flow."""

from __future__ import annotations

from typing import Any

import numpy as np

from tfp_flows.training.model import FlowModel


def nats_per_sample(
    model: FlowModel, windows: Any, mels: Any = None, *, batch_size: int = 32
) -> np.ndarray:
    """Returns `log p(x | mel) / t` of each window, in nats a sample.

    Args:
        model: A `FlowModel` of audio `[t]`.
        windows: Amplitudes, `[n, t]`.
        mels: Their spectrograms, `[n, frames, mels]`, if the flow takes them.
        batch_size: How many windows are evaluated at once.

    Returns:
        The log-likelihoods, `[n]`: densities of amplitudes in [-1, 1). `15 - nats /
        log 2` is bits for a sample of 16 bits; see `tfpf.speech.dequantized`.
    """
    given = {"x": np.asarray(windows, np.float32)}
    if mels is not None:
        given["condition"] = np.asarray(mels, np.float32)
    log_density = model.predict(given, batch_size=batch_size, verbose=0)
    return np.asarray(log_density, np.float64) / np.shape(windows)[1]
