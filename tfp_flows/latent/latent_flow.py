"""`LatentFlow`: an autoencoder, and a flow on its latents."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tfp_flows import saving as serialization
from tfp_flows.architectures.coupling import real_nvp
from tfp_flows.internal.arguments import (
    Arrays,
    Config,
    Seed,
    checked_choice,
    checked_integer,
    checked_number,
    invalid,
)
from tfp_flows.internal.batching import minibatches
from tfp_flows.internal.seeds import noise_like
from tfp_flows.latent.model import LatentModel, checked_prior, checked_rows
from tfp_flows.training.data import is_stream, named_arguments, split_inputs
from tfp_flows.training.model import LikelihoodModel

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

    The mean of the last term is minus the entropy of the noise,
    `H = D/2 log(2 pi e sigma^2)`. Without noise the joint loss has no lower bound: the
    encoder can pull all latents to one point. With it, the mean of `-log p_f(z)` is at
    least H, and the mean loss bounds `-log p(x)` from above.

    * `training="joint"` minimizes that loss in all weights.
    * `training="two-stage"` first trains the autoencoder on `-log p(x | d(z))` alone,
      with latents that batch normalization holds at mean 0 and variance 1 (or the
      noise would be outgrown); then it standardizes the latents of all training
      images exactly, freezes them, and fits the flow to them, again with the noise,
      since latents may fill fewer dimensions than they have. A flow that starts with
      `tfpf.latent.Whitening` turns them onto their principal axes.

    Shapes: images `[n, height, width, channels]` with values in `[0, pixel_levels)`,
    latents `[n, latent_dim]`.

    Args:
        event_shape: `(height, width, channels)`; height and width are divisible by 4
            unless both networks are given.
        latent_dim: Number D of latents, at least 2.
        flow: Distribution of latents, such as a `tfd.TransformedDistribution` of
            vectors of D values; None for four affine couplings with flips.
        pixel_levels: How many values a pixel can take, such as 256.
        likelihood: `"gaussian"`, `"logistic"` or a `PixelLikelihood`.
        channels: Channels of the networks after one halving and after two.
        encoder: Keras layer from images to D values, in the place of the default.
        decoder: Keras layer from D values to images.

    Reference: Xiao, Yan, Amit: Generative Latent Flow, 2019, arXiv:1905.10485.

    Example:
        >>> import numpy as np
        >>> sizes = {"latent_dim": 4, "pixel_levels": 17, "channels": (4, 4)}
        >>> model = LatentFlow((8, 8, 1), **sizes)
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
        **kwargs: Any,
    ) -> None:
        checked_integer("latent_dim", latent_dim, minimum=2)
        checked_choice("training", training, TRAININGS)
        # Without noise the density of the latents has no bound.
        checked_number("noise", noise, above=0.0)
        if flow is None:
            sizes = {"couplings": 4, "hidden_units": (256, 256)}
            flow = real_nvp((latent_dim,), dtype="float32", **sizes)
        super().__init__(
            event_shape,
            latent_dim,
            checked_prior("flow", flow, latent_dim),
            latent_dim,
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
        self, x: tf.Tensor, seed: Seed, training: bool | None = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Draws `e(x) + sigma eps`, and returns it with its log-density."""
        mean = self.latents(x, training)
        z = mean + self.noise * noise_like(mean, seed)
        width = tf.constant(self.noise, mean.dtype)
        return z, tf.reduce_sum(tfd.Normal(mean, width).log_prob(z), axis=-1)

    def fit(
        self,
        x: Arrays = None,
        y: Arrays = None,
        *args: object,
        flow_epochs: int | None = None,
        **kwargs: Any,
    ) -> keras.callbacks.History:
        """Trains autoencoder and flow, together or one after the other.

        Targets are ignored. In two stages Keras's history holds `reconstruction_nll`
        of the first and `latent_nll` of the second, in nats.

        Args:
            x: Images `[n, *event_shape]` with values in `[0, pixel_levels)`, or a
                dataset of them, which in two stages must be finite.
            *args: Further arguments of `keras.Model.fit`. In two stages the second
                takes `batch_size`, `callbacks`, `verbose` and `validation_data` of
                them, and those in `ONE_STAGE_ONLY` are refused. With `epochs=0` the
                autoencoder stays as it is, with `flow_epochs=0` the flow does.
            flow_epochs: In two stages, epochs of the second; None for `epochs`.

        Raises:
            FloatingPointError: If the loss is not finite.
            ValueError: If `flow_epochs` is given for joint training, or in two stages
                an argument that only one of them could take.
        """
        if self.training_mode == "joint":
            if flow_epochs is not None:
                must = "be None unless `training='two-stage'`"
                raise invalid("flow_epochs", must, flow_epochs)
            return super().fit(x, y, *args, **kwargs)
        arguments = named_arguments(keras.Model.fit, x, y, *args, **kwargs)
        for name in ONE_STAGE_ONLY:
            if arguments.get(name) is not None:
                must = "not be given for two-stage training"
                raise invalid(name, must, arguments[name])
        if isinstance(x, tf.data.Dataset) and (
            int(x.cardinality()) == tf.data.INFINITE_CARDINALITY
        ):
            raise invalid("x", "be a finite dataset for two-stage training", x)
        for name in ("x", "validation_data"):
            images = arguments.get(name)
            if images is None:
                continue
            if not is_stream(images):
                self.check(images if isinstance(images, tuple) else (images,))
            elif not isinstance(images, tf.data.Dataset | keras.utils.PyDataset):
                must = "not be a generator for two-stage training, which reads it twice"
                raise invalid(name, must, images)
        return self._fit_in_two_stages(x, flow_epochs, arguments)

    def _fit_in_two_stages(
        self, x: Arrays, flow_epochs: int | None, arguments: Config
    ) -> keras.callbacks.History:
        first = Reconstruction(self)
        first.compile(optimizer=self._fresh_optimizer())
        before = first.fit(**arguments)
        self._standardize(x)
        passed = {n: arguments[n] for n in ("callbacks", "verbose") if n in arguments}
        rows = arguments.get("batch_size") or _DATASET_BATCH
        if arguments.get("validation_data") is not None:
            latents = self._all(self.latents, arguments["validation_data"])
            passed["validation_data"] = self._noisy(latents, rows, fresh=False)
        z = self._all(self.latents, x)
        if self.prior_model.waits_for_data():  # from many: a batch would be too little
            chosen = np.linspace(0, len(z) - 1, min(len(z), _ADAPTED_TO)).astype(int)
            some = tf.constant(z[chosen])
            self.prior_model.adapt(some + self.noise * noise_like(some, 0))
        # Each stage has its own; that of the model is saved with it.
        self.optimizer.build(self.trainable_variables)
        self.prior_model.compile(optimizer=self._fresh_optimizer())
        epochs = arguments.get("epochs", 1) if flow_epochs is None else flow_epochs
        after = self.prior_model.fit(self._noisy(z, rows), epochs=epochs, **passed)
        found = {f"{v}latent_nll": after.history.get(f"{v}nll") for v in ("", "val_")}
        found |= {n: v for n, v in before.history.items() if not n.endswith("loss")}
        after.history = {name: v for name, v in found.items() if v is not None}
        self.history = after
        return after

    def _fresh_optimizer(self) -> keras.optimizers.Optimizer:
        if not self.compiled:
            raise ValueError("Call `compile(optimizer=...)` before `fit`.")
        return type(self.optimizer).from_config(self.optimizer.get_config())

    def _standardize(self, x: Arrays) -> None:
        """Sets the normalizer to the moments of all training images' latents."""

        def encoded(images: tf.Tensor) -> tf.Tensor:
            return tf.cast(self.encoder(images, training=False), tf.float32)

        z = self._all(encoded, x)
        moments: Any = self.normalizer
        moments.moving_mean.assign(z.mean(axis=0))
        moments.moving_variance.assign(z.var(axis=0))

    def _all(self, function: Callable[[tf.Tensor], tf.Tensor], x: Arrays) -> np.ndarray:
        """Returns a function of all images of an array or dataset."""
        batches = [x]
        if is_stream(x):
            whole = isinstance(x, tf.data.Dataset)
            batches = x if whole else (x[i] for i in range(len(x)))
        images = (keras.utils.unpack_x_y_sample_weight(batch)[0] for batch in batches)
        return np.concatenate(
            [self._mapped(function, split_inputs(some)[0]) for some in images]
        )

    def _noisy(self, z: np.ndarray, rows: int, fresh: bool = True) -> tf.data.Dataset:
        """Frozen latents with noise; new noise and a new order in every epoch."""

        def noisy(batch: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
            return batch + self.noise * noise_like(batch, tf.cast(seed, tf.int32))

        seed = int(self._seeds.next()[0]) if fresh else 0
        return minibatches(z, rows, shuffle=fresh, seed=seed, finish=noisy)

    def get_config(self) -> Config:
        """Returns the constructor's arguments, without weights."""
        return {
            **super().get_config(),
            "flow": serialization.serialize(self.flow),
            "training": self.training_mode,
            "noise": self.noise,
        }


class Reconstruction(LikelihoodModel):
    """Trains the autoencoder inside a latent flow on `-log p(x | d(z))` alone.

    It owns no weights: they are those of the latent flow's encoder, decoder and
    likelihood. Its prediction is `log p(x | d(z))` for each image, in nats.
    """

    def __init__(self, whole: LatentFlow) -> None:
        super().__init__(["reconstruction_nll"], "float32")
        self.event_shape = whole.event_shape
        self.encoder, self.decoder = whole.encoder, whole.decoder
        self.likelihood = whole.likelihood
        self.normalizer: Any = whole.normalizer
        self._noise = keras.layers.GaussianNoise(whole.noise, dtype="float32")

    def call(self, inputs: Arrays, training: bool | None = None) -> tf.Tensor:
        """Returns `log p(x | d(z))` in nats, one value for each image."""
        x = tf.cast(checked_rows("x", inputs, self.event_shape), tf.float32)
        z = tf.cast(self.encoder(x, training=training), tf.float32)
        z = self._noise(self.normalizer(z, training=training), training=training)
        return self.likelihood.log_prob(x, self.decoder(z, training=training))
