"""`FlowAnomalyDetector`: a flow and a scorer in scikit-learn's manner."""

from __future__ import annotations

import functools
from collections.abc import Callable

import keras
import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

from tfp_flows.anomaly.fitting import anomaly_scores, fit_scorer
from tfp_flows.anomaly.scorers import (
    AnomalyScorer,
    LatentNormScorer,
    NllScorer,
    TypicalityScorer,
)
from tfp_flows.architectures.autoregressive import maf
from tfp_flows.internal.arguments import checked_choice, checked_number
from tfp_flows.internal.batching import minibatches
from tfp_flows.training.model import FlowModel
from tfp_flows.training.optimizers import optimizer

SCORERS: dict[str, Callable[[], AnomalyScorer]] = {
    "nll": NllScorer,
    "typicality": TypicalityScorer,
    "latent_norm": LatentNormScorer,
    "latent_norm_centered": functools.partial(LatentNormScorer, centered=True),
}
_LEAST_ROWS = 5
_SCORING_BATCH = 4096


class FlowAnomalyDetector(OutlierMixin, BaseEstimator):
    """Finds anomalies in a table by the density that a flow learns of it.

    `fit` trains the flow on a first part of the rows, stops it by a second, and takes
    the threshold from a third. A bijector of the flow standardizes columns: densities
    are in the units of the data. As everywhere in scikit-learn, `score_samples` and
    `decision_function` are larger for *normal* rows, and `predict` is 1 for them.

    Args:
        make_flow: Called as `make_flow(event_shape, preprocess=..., dtype=...)`, such
            as `tfpf.real_nvp` or a `functools.partial` of it; None for a small
            autoregressive spline flow, which takes tables of at least 2 columns.
            `tfpf.ffjord` takes one column too.
        scorer: "nll", "typicality", "latent_norm" or "latent_norm_centered".
        false_alarm_rate: Share of normal rows that may be called anomalous. With n rows
            in the third part, no rate below `1 / (n + 1)` can be promised; see
            `false_alarm_rate_`.
        calibration_fraction: Share of the rows that the threshold is taken from.
        validation_fraction: Share of the rows that training is stopped by.
        epochs: Most epochs.
        patience: Epochs without a better nll after which training stops.
        batch_size: Rows in a step.
        learning_rate: Of Adam.
        random_state: Seed of the split, the order and the default flow's weights; the
            weights of a flow of `make_flow` are left as they are.
        verbose: As in `keras.Model.fit`.

    Attributes:
        model_: The trained `tfpf.FlowModel`; it carries the scorer, so that
            `model_.save` and `tfpf.export_saved_model` take it along.
        offset_: `predict` is 1 where `score_samples` is at least this.
        false_alarm_rate_: The rate that the threshold was chosen for.
        n_features_in_: Number of columns.

    Example:
        >>> x = np.random.default_rng(0).normal(size=(200, 2))
        >>> detector = FlowAnomalyDetector(epochs=2, random_state=0).fit(x)
        >>> detector.predict([[0.0, 0.0], [9.0, -9.0]])
        array([ 1, -1])
    """

    def __init__(
        self,
        make_flow: Callable[..., tfd.Distribution] | None = None,
        *,
        scorer: str = "nll",
        false_alarm_rate: float = 0.05,
        calibration_fraction: float = 0.2,
        validation_fraction: float = 0.1,
        epochs: int = 100,
        patience: int = 10,
        batch_size: int = 256,
        learning_rate: float = 2e-3,
        random_state: int | np.random.RandomState | None = None,
        verbose: int = 0,
    ) -> None:
        self.make_flow = make_flow
        self.scorer = scorer
        self.false_alarm_rate = false_alarm_rate
        self.calibration_fraction = calibration_fraction
        self.validation_fraction = validation_fraction
        self.epochs = epochs
        self.patience = patience
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: npt.ArrayLike, y: object = None) -> FlowAnomalyDetector:  # noqa: N803
        """Trains the flow and chooses the threshold.

        `X` are at least 5 rows `[n, d]`, most of them normal, of at least 2 columns for
        the default flow; `y` is ignored.
        """
        X = validate_data(  # noqa: N806
            self,
            X,
            dtype=np.float64,
            ensure_min_samples=_LEAST_ROWS,
            # The default flow predicts each column from others.
            ensure_min_features=2 if self.make_flow is None else 1,
        )
        self._check_parameters()
        generator = check_random_state(self.random_state)
        train, validation, calibration = self._split(X, generator)
        seed = int(generator.randint(2**31 - 1))
        self.model_ = FlowModel(self._make_flow(train))
        if self.make_flow is None:
            _draw_weights(self.model_, generator)
        self._train(train, validation, seed)
        # The least rate that so many rows can promise.
        least = 1.0 / (len(calibration) + 1)
        self.false_alarm_rate_ = max(self.false_alarm_rate, least)
        scorer = fit_scorer(
            self.model_,
            SCORERS[self.scorer](),
            calibration,
            false_alarm_rate=self.false_alarm_rate_,
            batch_size=_SCORING_BATCH,
        )
        self.offset_ = -scorer.threshold  # pyright: ignore[reportOptionalOperand]
        return self

    def score_samples(self, X: npt.ArrayLike) -> np.ndarray:  # noqa: N803
        """Returns minus the anomaly score, `[n]`: for "nll" the log-density in nats."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, reset=False)  # noqa: N806
        return -anomaly_scores(self.model_, X, batch_size=_SCORING_BATCH)

    def decision_function(self, X: npt.ArrayLike) -> np.ndarray:  # noqa: N803
        """Returns `score_samples` less the offset, `[n]`: negative for anomalies."""
        return self.score_samples(X) - self.offset_

    def predict(self, X: npt.ArrayLike) -> np.ndarray:  # noqa: N803
        """Returns 1 for normal rows and -1 for anomalies, `[n]`."""
        return np.where(self.decision_function(X) >= 0.0, 1, -1)

    def _check_parameters(self) -> None:
        checked_choice("scorer", self.scorer, SCORERS)
        checked_number("false_alarm_rate", self.false_alarm_rate, above=0, below=1)
        shares = self.calibration_fraction, self.validation_fraction
        if min(shares) <= 0.0 or sum(shares) >= 1.0:
            raise ValueError(
                "Arguments `calibration_fraction` and `validation_fraction` must be "
                "positive and leave rows to train on. "
                f"Received: {self.calibration_fraction} and {self.validation_fraction}"
            )

    def _split(
        self, rows: np.ndarray, generator: np.random.RandomState
    ) -> list[np.ndarray]:
        """Returns the rows to train on, to stop by, and to take the threshold from."""
        n = len(rows)
        calibration = max(1, round(self.calibration_fraction * n))
        validation = max(1, round(self.validation_fraction * n))
        rows = rows[generator.permutation(n)]
        return np.split(rows, [n - calibration - validation, n - calibration])

    def _make_flow(self, train: np.ndarray) -> tfd.Distribution:
        spread = train.std(axis=0)
        # A column that does not vary is only moved.
        scale = np.where(spread > 0.0, spread, 1.0)
        standardize = tfb.Chain([tfb.Shift(train.mean(axis=0)), tfb.Scale(scale)])
        make = self.make_flow or functools.partial(
            maf, layers=2, hidden_units=(64,), transform="spline", actnorm=False
        )
        return make((train.shape[1],), preprocess=standardize, dtype="float64")

    def _train(self, train: np.ndarray, validation: np.ndarray, seed: int) -> None:
        self.model_.compile(optimizer=optimizer(self.learning_rate))
        stop = keras.callbacks.EarlyStopping(
            "val_nll", patience=self.patience, restore_best_weights=True
        )
        self.model_.fit(
            minibatches(train, self.batch_size, shuffle=True, seed=seed),
            validation_data=minibatches(validation, len(validation)),
            epochs=self.epochs,
            callbacks=[stop],
            verbose=self.verbose,
        )


def _draw_weights(model: FlowModel, generator: np.random.RandomState) -> None:
    """Draws the weights that Keras has drawn at random from a generator instead.

    Keras takes the seeds of its initializers from Python's global generator, which is
    not the detector's. Kernels and biases of n inputs are uniform on +-1 / sqrt(n),
    weights that start at one value stay there.
    """
    for weight in model.trainable_weights:
        if np.ptp(weight.numpy()) > 0.0:
            inputs = weight.shape[-2] if len(weight.shape) > 1 else weight.shape[-1]
            drawn = generator.uniform(-1.0, 1.0, weight.shape)
            weight.assign(drawn / np.sqrt(inputs))
