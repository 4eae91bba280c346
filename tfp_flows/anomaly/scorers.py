"""Scorers: Keras layers from a row's density and latents to how anomalous it is."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tfp_flows import saving as serialization
from tfp_flows.anomaly.rows import Rows
from tfp_flows.internal.arguments import (
    Config,
    DescribedLayer,
    checked_integer,
    checked_number,
    invalid,
)
from tfp_flows.internal.batching import map_rows
from tfp_flows.internal.compat import sublayers
from tfp_flows.training.model import FlowModel
from tfp_flows.training.sampling import distribution_of

SCORE_CEILING = 1e38
"""Score of a row that has no finite one: as anomalous as can be."""


class AnomalyScorer(DescribedLayer):
    """A Keras layer from `(x, log_prob, latent)` to anomaly scores.

    A larger score means a more anomalous row. What a scorer learns from held-out rows
    is numbers in its configuration; weights that it brings along are frozen. So it is
    saved and exported with the `tfpf.FlowModel` whose `anomaly_scorer` it is.

    Subclasses define `call(x, log_prob, latent)` and perhaps `adapt(rows)`, and are
    registered with Keras. Attributes are named as their constructors' arguments.

    Args:
        threshold: Score above which a row counts as an anomaly; None if not fitted.
        false_alarm_rate: The rate that the threshold was chosen for.
    """

    def __init__(
        self,
        *,
        threshold: float | None = None,
        false_alarm_rate: float | None = None,
        name: str | None = None,
    ) -> None:
        # Without autocasting, which would round data under a mixed precision policy.
        super().__init__(name=name, trainable=False, autocast=False)
        self.threshold = threshold
        self.false_alarm_rate = false_alarm_rate
        self.built = True

    @property
    def trainable(self) -> bool:
        """False: training a flow does not train the scorer that it carries."""
        return False

    @trainable.setter
    def trainable(self, value: bool) -> None:
        # Whoever sets this on the whole model does not mean a scorer's weights.
        for layer in sublayers(self):
            layer.trainable = False

    def adapt(self, rows: Rows) -> None:
        """Learns what the scorer needs to know from held-out normal rows."""

    def call(self, x: tf.Tensor, log_prob: tf.Tensor, latent: tf.Tensor) -> tf.Tensor:
        """Returns the scores `[n]` of data `[n, *event]`."""
        raise NotImplementedError(f"{type(self).__name__} must define `call`.")

    def scores(self, rows: Rows, batch_size: int = 256) -> np.ndarray:
        """Scores `Rows`, `[n]`: at most `SCORE_CEILING`, which not finite ones have."""
        scores = map_rows(self, rows.x, rows.log_prob, rows.latent, rows=batch_size)
        ceiling = scores.dtype.type(SCORE_CEILING)
        return np.where(np.isfinite(scores), np.minimum(scores, ceiling), ceiling)

    def get_config(self) -> Config:
        """Returns the constructor's arguments."""
        return {"name": self.name, **self._own_config()}


@keras.saving.register_keras_serializable(package="tfp_flows")
class NllScorer(AnomalyScorer):
    """Scores by the negative log-likelihood, in nats.

        s(x) = -log p(x)

    The first thing to try on tables. On images it misleads: what is simpler than the
    training data is often more likely than any of it. `TypicalityScorer` and
    `ComplexityScorer` are made for that.

    Reference: Bishop: Novelty detection and neural network validation, 1994. Nalisnick
    et al.: Do Deep Generative Models Know What They Don't Know?, 2019,
    arXiv:1810.09136.
    """

    def call(self, x: tf.Tensor, log_prob: tf.Tensor, latent: tf.Tensor) -> tf.Tensor:
        """Returns the scores `[n]`."""
        return -log_prob


@keras.saving.register_keras_serializable(package="tfp_flows")
class TypicalityScorer(AnomalyScorer):
    """Scores by the distance of the nll from the entropy, in nats.

        s(x) = | -log p(x) - H |,    H = mean of -log p over held-out rows

    In many dimensions nearly all draws have an nll near the entropy: a row that is far
    more likely is as strange as one far less so. `BatchTypicality` takes several rows.

    Args:
        entropy: H in nats; None until `adapt` measures it.

    Reference: Nalisnick, Matsukawa, Teh, Lakshminarayanan: Detecting
    Out-of-Distribution Inputs to Deep Generative Models Using Typicality, 2019,
    arXiv:1906.02994.
    """

    def __init__(self, entropy: float | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.entropy = entropy

    def adapt(self, rows: Rows) -> None:
        """Takes the mean nll of held-out rows, of those that have one, for `H`."""
        self.entropy = _mean_nll(rows.log_prob)

    def call(self, x: tf.Tensor, log_prob: tf.Tensor, latent: tf.Tensor) -> tf.Tensor:
        """Returns the scores `[n]`."""
        _check_fitted("entropy", self.entropy)
        return tf.abs(tf.add(log_prob, self.entropy))


@keras.saving.register_keras_serializable(package="tfp_flows")
class LatentNormScorer(AnomalyScorer):
    """Scores by the norm of the latents `z`.

        s(x) = ||z||,    or    s(x) = | ||z|| - c |    if centred

    The norm of a standard normal of D values is near `sqrt(D)`. Only a centred score
    sees what lies too near to the mode. Volume changes play no part in it.

    Args:
        centered: Whether `adapt` takes the mean norm of held-out rows for `c`.
        center: The number `c`; 0 until it is measured.
    """

    def __init__(
        self, *, centered: bool = False, center: float = 0.0, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.centered = centered
        self.center = center

    def adapt(self, rows: Rows) -> None:
        """Takes the mean norm of held-out rows for the centre, if there is one."""
        if self.centered:
            norms = _norm(tf.constant(rows.latent, tf.float64)).numpy()
            self.center = float(norms[np.isfinite(norms)].mean())

    def call(self, x: tf.Tensor, log_prob: tf.Tensor, latent: tf.Tensor) -> tf.Tensor:
        """Returns the scores `[n]`."""
        return tf.abs(_norm(latent) - self.center)


@keras.saving.register_keras_serializable(package="tfp_flows")
class ComplexityScorer(AnomalyScorer):
    """Scores by how many bits more the flow needs than a PNG file, in bits.

        s(x) = -log2 p(x) - 8 size(PNG(floor(x)))

    PNG, zlib after a filter, is a model of images in general: what it packs better than
    the flow is not what the flow was trained on. TensorFlow's own op compresses, inside
    a SavedModel too; the few bytes of a file's header are in every score.

    Images `[n, h, w, c]` have pixel values in [0, 256), dequantized or not, and 1 to 4
    channels, of which PNG takes the second or the fourth for transparency.

    Reference: Serrà et al.: Input Complexity and Out-of-Distribution Detection with
    Likelihood-Based Generative Models, 2020, arXiv:1909.11480.
    """

    def call(self, x: tf.Tensor, log_prob: tf.Tensor, latent: tf.Tensor) -> tf.Tensor:
        """Returns the scores `[n]`."""
        if not _is_image(x):
            raise ValueError(
                "Argument `x` must be images of shape [n, h, w, c] with 1 to 4 "
                f"channels to be compressed. Received: x of shape {x.shape}"
            )
        bits = 8.0 * tf.cast(png_bytes(x), log_prob.dtype)
        return -log_prob / math.log(2.0) - bits


@keras.saving.register_keras_serializable(package="tfp_flows")
class RatioScorer(AnomalyScorer):
    """Scores by how much less likely a row is than under a background flow, in nats.

        s(x) = log p_background(x) - log p(x)

    The background is a flow of what normal and anomalous rows have in common, which
    cancels, such as one trained on images with a fifth of their pixels replaced by
    random ones. The scorer, its file and its export hold a frozen copy of it.

    Args:
        background: A `tfpf.FlowModel` or TFP distribution over the same events, without
            conditions.

    Reference: Ren et al.: Likelihood Ratios for Out-of-Distribution Detection, 2019,
    arXiv:1906.02845.
    """

    def __init__(self, background: FlowModel | tfd.Distribution, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        original = FlowModel(distribution_of(background, "background"))
        if original.condition_shape is not None:
            must = "be a flow without conditions"
            got = f"condition_shape={original.condition_shape}"
            raise invalid("background", must, got=got)
        description = serialization.serialize(original.distribution)
        self.background = FlowModel(serialization.deserialize(description))
        self.background.set_weights(original.get_weights())
        self.background.trainable = False

    def call(self, x: tf.Tensor, log_prob: tf.Tensor, latent: tf.Tensor) -> tf.Tensor:
        """Returns the scores `[n]`."""
        background = self.background.distribution
        expected = background.log_prob(tf.cast(x, background.dtype))
        return tf.cast(expected, log_prob.dtype) - log_prob

    def get_config(self) -> Config:
        """Returns the constructor's arguments, the background without its weights."""
        description = serialization.serialize(self.background.distribution)
        return {**super().get_config(), "background": description}

    @classmethod
    def from_config(cls, config: Config) -> RatioScorer:
        """Builds the scorer that `get_config` described, with fresh weights."""
        background = serialization.deserialize(config["background"])
        return cls(**{**config, "background": background})


@keras.saving.register_keras_serializable(package="tfp_flows")
class JointTypicalityScorer(AnomalyScorer):
    """Scores by the distance of a row's statistics from their usual values.

        t(x) = (-log p(x), ||z||),   for images also the size of the PNG file
        s(x) = sqrt((t - m)^T C^-1 (t - m))

    Here `m` and `C` are mean and covariance of `t` over held-out rows, so that the
    score is in standard deviations (Mahalanobis's distance). An image may be as likely
    as others, as large a file, and yet unlikely for that size. Images are rows
    `[n, h, w, c]` as for `ComplexityScorer`. `adapt` measures `mean` and the matrix
    `whitening`, `W^T W = C^-1`.

    Reference: Morningstar et al.: Density of States Estimation for Out-of-Distribution
    Detection, 2021, arXiv:2006.09273.
    """

    def __init__(
        self,
        mean: list[float] | None = None,
        whitening: list[list[float]] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.mean = mean
        self.whitening = whitening

    def adapt(self, rows: Rows) -> None:
        """Measures mean and covariance over held-out rows with finite statistics."""
        found = map_rows(_statistics, rows.x, rows.log_prob, rows.latent, rows=256)
        found = found[np.isfinite(found).all(axis=1)]
        count, k = found.shape
        spread = found.std(axis=0) if count > k else np.zeros(k)
        # Scaled, so that the rank does not depend on units.
        scaled = (found - found.mean(axis=0)) / np.where(spread > 0.0, spread, 1.0)
        if np.linalg.matrix_rank(scaled) < k:
            must = f"have {k} statistics that vary, each on its own"
            got = f"{count} rows with standard deviations {spread}"
            raise invalid("rows", must, got=got)
        factor = np.linalg.cholesky(np.cov(scaled, rowvar=False))
        self.mean = found.mean(axis=0).tolist()
        self.whitening = (np.linalg.inv(factor) / spread).tolist()

    def call(self, x: tf.Tensor, log_prob: tf.Tensor, latent: tf.Tensor) -> tf.Tensor:
        """Returns the scores `[n]`."""
        _check_fitted("mean", self.mean)
        off = _statistics(x, log_prob, latent) - tf.constant(self.mean, tf.float64)
        whitening = tf.constant(self.whitening, tf.float64)
        distance = tf.norm(tf.matmul(off, whitening, transpose_b=True), axis=1)
        return tf.cast(distance, log_prob.dtype)


def _statistics(
    x: tf.Tensor | np.ndarray, log_prob: tf.Tensor, latent: tf.Tensor
) -> tf.Tensor:
    """Returns nll, norm of the latents and, for images, bytes of a PNG, in float64."""
    columns = [-tf.cast(log_prob, tf.float64), _norm(tf.cast(latent, tf.float64))]
    if _is_image(x):
        columns.append(tf.cast(png_bytes(x), tf.float64))
    return tf.stack(columns, axis=1)


def png_bytes(images: npt.ArrayLike | tf.Tensor) -> tf.Tensor:
    """Returns the sizes `[n]` of images as PNG files, of whole pixels in [0, 256)."""
    pixels = tf.saturate_cast(tf.floor(tf.convert_to_tensor(images)), tf.uint8)

    def size(image: tf.Tensor) -> tf.Tensor:
        return tf.strings.length(tf.io.encode_png(image, compression=9))

    return tf.map_fn(size, pixels, fn_output_signature=tf.TensorSpec([], tf.int32))


def _is_image(x: tf.Tensor | np.ndarray) -> bool:
    return len(x.shape) == 4 and x.shape[-1] in (1, 2, 3, 4)


def _norm(latent: tf.Tensor) -> tf.Tensor:
    return tf.norm(tf.reshape(latent, [tf.shape(latent)[0], -1]), axis=1)


def _check_fitted(name: str, value: float | list | None) -> None:
    if value is None:
        must = "be known: fit the scorer with `tfpf.anomaly.fit_scorer`"
        raise invalid(name, must, got=f"{name}=None")


def _mean_nll(log_prob: npt.ArrayLike) -> float:
    """Returns the mean of `-log_prob` over the rows where it is finite."""
    values = np.asarray(log_prob, np.float64)
    finite = values[np.isfinite(values)]
    if not finite.size:
        must = "have a finite value among the held-out rows"
        raise invalid("log_prob", must, got=f"{values}")
    return float(-finite.mean())


@dataclasses.dataclass(frozen=True)
class BatchTypicality:
    """A test of batches of rows that come from one source.

        s(x_1, ..., x_m) = | -1/m (log p(x_1) + ... + log p(x_m)) - H |    [nats]

    It scatters by `1 / sqrt(m)` of what the score of one row does.

    Attributes:
        entropy: Mean nll of held-out rows, in nats.
        threshold: Score above which a batch counts as anomalous.

    Reference: Nalisnick et al., 2019, arXiv:1906.02994, algorithm 1.

    Example:
        >>> log_prob = np.random.default_rng(0).normal(-5.0, 1.0, 1000)
        >>> test = BatchTypicality.fit(log_prob, batch_size=25)
        >>> test.is_anomaly([log_prob[:25], log_prob[:25] + 1.0])
        array([False,  True])
    """

    entropy: float
    batch_size: int
    threshold: float

    @classmethod
    def fit(
        cls,
        log_prob: npt.ArrayLike,
        *,
        batch_size: int,
        false_alarm_rate: float = 0.01,
        resamples: int = 10_000,
        seed: int = 0,
    ) -> BatchTypicality:
        """Measures the entropy, and the threshold by the bootstrap.

        `log_prob` are log-densities `[n]` of held-out normal rows, in nats, of which
        `resamples` batches are drawn with replacement; the share `false_alarm_rate` of
        normal batches may be called anomalous.
        """
        checked_integer("batch_size", batch_size)
        rate = checked_number("false_alarm_rate", false_alarm_rate, above=0, below=1)
        log_prob = np.asarray(log_prob, np.float64)
        entropy = _mean_nll(log_prob)
        finite = log_prob[np.isfinite(log_prob)]
        generator = np.random.default_rng(seed)
        drawn = [
            np.abs(-generator.choice(finite, batch_size).mean() - entropy)
            for _ in range(resamples)
        ]
        return cls(entropy, batch_size, float(np.quantile(drawn, 1.0 - rate)))

    def scores(self, log_prob: npt.ArrayLike) -> np.ndarray:
        """Scores batches of log-densities `[..., m]`; infinity without a finite one."""
        log_prob = np.asarray(log_prob, np.float64)
        if log_prob.shape[-1:] != (self.batch_size,):
            must = f"have shape [..., {self.batch_size}]"
            raise invalid("log_prob", must, got=f"log_prob of shape {log_prob.shape}")
        scores = np.abs(-log_prob.mean(axis=-1) - self.entropy)
        return np.where(np.isfinite(scores), scores, np.inf)

    def is_anomaly(self, log_prob: npt.ArrayLike) -> np.ndarray:
        """Whether batches `[..., m]` are anomalous, `[...]`."""
        return self.scores(log_prob) > self.threshold
