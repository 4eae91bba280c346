"""`LatentFlow`: an autoencoder, and a flow on its latents."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows import saving as serialization
from tfp_flows.architectures.coupling import real_nvp
from tfp_flows.internal.seeds import noise_like
from tfp_flows.latent.arguments import checked_prior
from tfp_flows.latent.chunks import in_chunks
from tfp_flows.latent.first_stage import Reconstruction
from tfp_flows.latent.likelihood import PixelLikelihood
from tfp_flows.latent.model import LatentModel, with_stop

tfd = tfp.distributions

TRAININGS = ("joint", "two-stage")
ONE_STAGE_ONLY = ("sample_weight", "class_weight", "validation_split")
_DATASET_BATCH = 128
_ADAPTED_TO = 10_000  # latents


@keras.saving.register_keras_serializable(package="tfp_flows")
class LatentFlow(LatentModel):
    """A convolutional autoencoder whose latents have an exact density by a flow.

    With encoder e, decoder d, a flow f and fixed noise of size sigma,

        z = e(x) + sigma eps,   eps ~ Normal(0, I),
        loss = -log p(x | d(z)) - log p_f(z) + log Normal(z; e(x), sigma)  [nats]

    The mean of the last term is a constant: minus the entropy of the noise,
    `H = D/2 log(2 pi e sigma^2)`. Without noise the joint loss has no lower bound:
    the encoder can pull all latents to one point, where their density grows for
    ever. With it, the mean of `-log p_f(z)` is at least H, and the loss is that of a
    VAE with a posterior of fixed width: its mean is an upper bound of `-log p(x)`.

    * `training="joint"` minimizes that loss in all weights.
    * `training="two-stage"` first trains the autoencoder on `-log p(x | d(z))` alone,
      with latents that batch normalization holds at mean 0 and variance 1 (or the
      noise would be outgrown); then it standardizes the latents of all training
      images exactly, freezes them, and fits the flow to them by exact likelihood,
      again with the noise, since latents may fill fewer dimensions than they have.
      `tfpf.latent.Whitening` as the flow's first bijector turns them onto their
      principal axes, measured on thousands of images.

    Samples run from the flow through the decoder.

    Shapes: images `[n, height, width, channels]` with values in `[0, levels)`,
    latents `[n, latent_dim]`.

    Reference:
        Xiao, Yan, Amit: Generative Latent Flow, 2019, arXiv:1905.10485.

    Example:
        >>> import numpy as np
        >>> model = LatentFlow((8, 8, 1), latent_dim=4, levels=17, channels=(4, 4))
        >>> model.compile(optimizer="adam")
        >>> x = np.random.default_rng(0).uniform(0, 17, (32, 8, 8, 1))
        >>> history = model.fit(x.astype("float32"), verbose=0)
        >>> model.sample(3, seed=1).shape
        TensorShape([3, 8, 8, 1])
    """

    def __init__(
        self,
        event_shape: Sequence[int],
        *,
        latent_dim: int = 128,
        flow: tfd.Distribution | None = None,
        training: str = "joint",
        noise: float = 0.1,
        levels: float = 256,
        likelihood: str | PixelLikelihood = "gaussian",
        channels: Sequence[int] = (32, 64),
        encoder: keras.Layer | None = None,
        decoder: keras.Layer | None = None,
        **kwargs: Any,
    ) -> None:
        """Builds the networks and adopts the flow.

        Args:
            event_shape: `(height, width, channels)` of an image; height and width
                must be divisible by 4 unless both networks are given.
            latent_dim: Number D of latents, at least 2.
            flow: Distribution of latents, such as a `tfd.TransformedDistribution` of
                vectors of D values; None for four affine couplings with flips.
            training: `"joint"` or `"two-stage"`.
            noise: Size sigma of the noise on the latents, positive.
            levels: How many values a pixel can take, such as 256.
            likelihood: `"gaussian"`, `"logistic"` or a `PixelLikelihood`.
            channels: Channels of the networks after one halving and after two.
            encoder: Keras layer from images to D values, in the place of the default.
            decoder: Keras layer from D values to images.
            **kwargs: Passed on to `keras.Model`, such as `name`.

        Raises:
            ValueError: If an argument is out of range or does not fit the others.
        """
        if not isinstance(latent_dim, int) or latent_dim < 2:
            raise ValueError(
                "Argument `latent_dim` must be an integer of at least 2. "
                f"Received: latent_dim={latent_dim!r}"
            )
        if training not in TRAININGS:
            raise ValueError(
                f"Argument `training` must be one of {TRAININGS}. "
                f"Received: training={training!r}"
            )
        if not noise > 0:
            raise ValueError(
                "Argument `noise` must be positive, or the density of the latents has "
                f"no bound. Received: noise={noise}"
            )
        if flow is None:
            flow = real_nvp((latent_dim,), couplings=4, hidden_units=(256, 256))
        if isinstance(likelihood, str):
            likelihood = PixelLikelihood(likelihood, levels)
        super().__init__(
            event_shape,
            latent_dim,
            checked_prior("flow", flow, latent_dim),
            latent_dim,
            channels=channels,
            encoder=encoder,
            decoder=decoder,
            likelihood=likelihood,
            **kwargs,
        )
        self.training_mode, self.noise = training, noise
        self.normalizer = None
        if training == "two-stage":
            self.normalizer = keras.layers.BatchNormalization(
                center=False, scale=False, dtype="float32"
            )
            self.normalizer.build((None, latent_dim))

    @property
    def flow(self) -> tfd.Distribution:
        """The distribution of the latents."""
        return self.prior

    @property
    def noise_entropy(self) -> float:
        """H, the least `latent_nll` that any flow can reach, in nats."""
        return 0.5 * self.latent_dim * math.log(2 * math.pi * math.e * self.noise**2)

    def latents(self, x: tf.Tensor, training: bool | None = False) -> tf.Tensor:
        """Returns `e(x)`, standardized in two-stage training."""
        z = tf.cast(self.encoder(x, training=training), tf.float32)
        return z if self.normalizer is None else self.normalizer(z, training=training)

    def posterior(
        self, x: tf.Tensor, seed: Any, training: bool | None = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Draws `e(x) + sigma eps`, and returns it with its log-density."""
        mean = self.latents(x, training)
        z = mean + self.noise * noise_like(mean, seed)
        width = tf.constant(self.noise, mean.dtype)
        return z, tf.reduce_sum(tfd.Normal(mean, width).log_prob(z), axis=-1)

    def fit(
        self,
        x: Any = None,
        y: Any = None,
        *,
        flow_epochs: int | None = None,
        **kwargs: Any,
    ) -> keras.callbacks.History:
        """Trains autoencoder and flow, together or one after the other.

        Args:
            x: Images `[n, *event_shape]` with values in `[0, levels)`, or a dataset of
                them, which in two stages must be finite.
            y: Ignored, such as labels that come with a dataset.
            flow_epochs: In two stages, epochs of the second; None for `epochs`.
            **kwargs: All other arguments of `keras.Model.fit`. In two stages the
                second takes `batch_size`, `callbacks`, `verbose` and
                `validation_data` of them, and those in `ONE_STAGE_ONLY` are refused.
                With `epochs=0` the autoencoder stays as it is, with `flow_epochs=0`
                the flow does.

        Returns:
            Keras's history. In two stages it holds `reconstruction_nll` of the first
            and `latent_nll` of the second, in nats.

        Raises:
            FloatingPointError: If the loss is not finite.
            ValueError: If `flow_epochs` is given for joint training, or in two stages
                an argument that only one of them could take.
        """
        if self.training_mode == "two-stage":
            return self._fit_in_two_stages(x, flow_epochs, kwargs)
        if flow_epochs is not None:
            raise ValueError(
                "Argument `flow_epochs` must be None unless `training='two-stage'`. "
                f"Received: flow_epochs={flow_epochs}"
            )
        return super().fit(x, y, **kwargs)

    def _fit_in_two_stages(
        self, x: Any, flow_epochs: int | None, kwargs: dict[str, Any]
    ) -> keras.callbacks.History:
        if refused := [k for k in ONE_STAGE_ONLY if kwargs.get(k) is not None]:
            raise ValueError(
                f"Argument `{refused[0]}` must not be given for two-stage training."
                f" Received: {refused[0]}={kwargs[refused[0]]!r}"
            )
        if isinstance(x, tf.data.Dataset):
            if int(x.cardinality()) == tf.data.INFINITE_CARDINALITY:
                raise ValueError(
                    "Argument `x` must be a finite dataset for two-stage training. "
                    "Received: a dataset that repeats for ever"
                )
            kwargs.setdefault("shuffle", False)
        first = Reconstruction(self)
        first.compile(optimizer=self._fresh_optimizer())
        callbacks = kwargs.pop("callbacks", None)
        before = first.fit(x, callbacks=with_stop(callbacks), **kwargs)
        self._standardize(x)
        passed = {"callbacks": callbacks, "verbose": kwargs.get("verbose", "auto")}
        rows = kwargs.get("batch_size") or _DATASET_BATCH
        if kwargs.get("validation_data") is not None:
            held_out = self._frozen(kwargs["validation_data"])
            passed["validation_data"] = self._noisy(held_out, rows, fresh=False)
        z = self._frozen(x)
        self._adapt_flow(z)
        # Each stage has its own; that of the model is saved with it.
        self.optimizer.build(self.trainable_variables)
        self.prior_model.compile(optimizer=self._fresh_optimizer())
        after = self.prior_model.fit(
            self._noisy(z, rows),
            epochs=kwargs.get("epochs", 1) if flow_epochs is None else flow_epochs,
            **passed,
        )
        after.history = _renamed(before, "loss", "reconstruction_nll") | _renamed(
            after, "nll", "latent_nll"
        )
        self.history = after
        return after

    def _fresh_optimizer(self) -> keras.optimizers.Optimizer:
        if not self.compiled:
            raise ValueError("Call `compile(optimizer=...)` before `fit`.")
        return type(self.optimizer).from_config(self.optimizer.get_config())

    def _standardize(self, x: Any) -> None:
        """Sets the normalizer to the moments of all training images' latents."""

        def encoded(part: tf.Tensor) -> tf.Tensor:
            return tf.cast(self.encoder(part, training=False), tf.float32)

        z = np.concatenate([in_chunks(encoded, part) for part in _parts(x)])
        self.normalizer.moving_mean.assign(z.mean(axis=0))
        self.normalizer.moving_variance.assign(z.var(axis=0))

    def _frozen(self, x: Any) -> np.ndarray:
        """Returns the latents of all images, without noise."""
        return np.concatenate([in_chunks(self.latents, part) for part in _parts(x)])

    def _adapt_flow(self, z: np.ndarray) -> None:
        """Initializes what the flow draws from data; a batch would be too little."""
        if not self.prior_model.is_adapted:
            chosen = np.linspace(0, len(z) - 1, min(len(z), _ADAPTED_TO)).astype(int)
            part = tf.constant(z[chosen])
            self.prior_model.adapt(part + self.noise * noise_like(part, 0))

    def _noisy(self, z: np.ndarray, rows: int, fresh: bool = True) -> tf.data.Dataset:
        """Frozen latents with noise; new noise and a new order in every epoch."""
        seed = int(self._seeds.next()[0]) if fresh else 0
        dataset = tf.data.Dataset.from_tensor_slices(z)
        if fresh:
            dataset = dataset.shuffle(len(z), seed=seed)
        seeds = tf.data.Dataset.random(seed=seed, rerandomize_each_iteration=fresh)

        def noisy(batch: tf.Tensor, number: tf.Tensor) -> tf.Tensor:
            pair = tf.cast(tf.stack([number, 0]), tf.int32)
            return batch + self.noise * noise_like(batch, pair)

        batches = tf.data.Dataset.zip(dataset.batch(rows), seeds)
        return batches.map(noisy, tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments, without weights."""
        return {
            **super().get_config(),
            "flow": serialization.serialize(self.flow),
            "training": self.training_mode,
            "noise": self.noise,
        }


def _parts(x: Any) -> Any:
    """Yields the images of an array, or of each batch of a dataset."""
    if isinstance(x, tuple | list):
        x = x[0]
    if not isinstance(x, tf.data.Dataset):
        yield x
        return
    for batch in x:
        yield keras.utils.unpack_x_y_sample_weight(batch)[0]


def _renamed(
    history: keras.callbacks.History, old: str, new: str
) -> dict[str, list[float]]:
    return {
        prefix + new: history.history[prefix + old]
        for prefix in ("", "val_")
        if prefix + old in history.history
    }
