"""How well a model does on held-out data, in nats and in bits per dimension."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from tfp_flows.data import Data, log_density
from tfp_flows.training.model import FlowModel

# So many noisy copies of a small held-out part average the dequantization noise out.
MOST_DRAWS, ENOUGH_IMAGES = 16, 5_000


@dataclasses.dataclass(frozen=True)
class Score:
    """Held-out likelihood.

    Attributes:
        nll: Mean negative log-likelihood in nats.
        standard_error: Its standard error over the examples.
        bits_per_dim: `nll / (D ln 2)`.
        examples: How many examples were scored.
        noise_draws: Over how many dequantization noises each one was averaged.
    """

    nll: float
    standard_error: float
    bits_per_dim: float
    examples: int
    noise_draws: int


def held_out_nll(model: FlowModel, data: Data) -> tuple[np.ndarray, int]:
    """Scores every held-out example; the same call gives the same numbers.

    Args:
        model: A trained model.
        data: The data; its noise draws are fixed by its seed.

    Returns:
        Each example's negative log-likelihood in nats, averaged over noise draws, and
        the number of draws.

    Raises:
        ValueError: If an example has no finite log-density.
    """
    draws = 1
    if data.levels is not None:
        draws = max(1, min(MOST_DRAWS, ENOUGH_IMAGES // len(data.x_test)))
    log_probs = [
        model.predict(data.evaluation(draw), verbose=0) for draw in range(draws)
    ]
    nll = -np.mean(np.asarray(log_probs, np.float64), axis=0)
    lost = int(np.sum(~np.isfinite(nll)))
    if lost:
        raise ValueError(
            f"The data must lie where the flow has a density. Received: {lost} of "
            f"{len(nll)} examples without a finite log-density."
        )
    return nll, draws


class Total:
    """Adds up the scores of data that come in pieces.

    Args:
        event_shape: The shape of one example.
    """

    def __init__(self, event_shape: Sequence[int]) -> None:
        self._event_shape = tuple(event_shape)
        self._draws = 0
        self._count, self._mean, self._squares = 0, 0.0, 0.0

    def add(self, model: FlowModel, data: Data) -> np.ndarray:
        """Scores the held-out part of a piece and returns each example's nll."""
        nll, draws = held_out_nll(model, data)
        self._draws = min(self._draws or draws, draws)
        # Chan, Golub and LeVeque's update, which loses no digits to large means.
        count, mean = len(nll), float(np.mean(nll))
        both, apart = self._count + count, mean - self._mean
        self._squares += float(np.sum((nll - mean) ** 2))
        self._squares += apart**2 * self._count * count / both
        self._mean += apart * count / both
        self._count = both
        return nll

    def score(self) -> Score:
        """Returns the score of everything that was added."""
        error = math.sqrt(self._squares) / self._count
        nll = self._mean
        bits_per_dim = bits(nll, self._event_shape)
        return Score(nll, error, bits_per_dim, self._count, self._draws)


def summarized(nll: np.ndarray, draws: int, event_shape: Sequence[int]) -> Score:
    """Averages what `held_out_nll` returned."""
    mean, error = float(np.mean(nll)), float(np.std(nll) / math.sqrt(len(nll)))
    return Score(mean, error, bits(mean, event_shape), len(nll), draws)


def bits(nll: float, event_shape: Sequence[int]) -> float:
    """Turns nats an example into bits per dimension."""
    return nll / (math.prod(event_shape) * math.log(2.0))


def excess_over_truth(nll: np.ndarray, data: Data) -> float:
    """Estimates a toy set's `KL(truth || flow)` in nats from its held-out points.

    The mean of `log p_true(x) - log p_flow(x)` varies much less from one sample to
    the next than either term.
    """
    true_log_p = log_density(data.name, data.x_test)
    inside = np.isfinite(true_log_p)  # float32 rounds a few points over an edge
    return float(np.mean(true_log_p[inside] + nll[inside]))
