"""`TextFlow`: text of fixed length by a flow, in bits a character, and as samples."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows.architectures.autoregressive import causal_flow
from tfp_flows.distributions.surjections import CategoricalFlow, character_embeddings
from tfp_flows.internal.arguments import (
    Arrays,
    Config,
    Seed,
    TensorLike,
    checked_integer,
    invalid,
)
from tfp_flows.internal.batching import map_rows
from tfp_flows.internal.seeds import stateless_seed
from tfp_flows.text.corpus import (
    LETTERS,
    Windows,
    checked_alphabet,
    checked_windows,
    numbers,
    strings,
)
from tfp_flows.training.data import is_stream
from tfp_flows.training.model import FlowModel
from tfp_flows.training.optimizers import optimizer

_ROWS = 500  # that are evaluated at once


@keras.saving.register_keras_serializable(package="tfp_flows")
class TextFlow(FlowModel):
    """A flow of windows of text, a Keras model like any `FlowModel`.

    Each character is a vector drawn about its embedding, the sequence of vectors a draw
    of an autoregressive flow: see `CategoricalFlow` for the bound on `log P(text)` that
    is trained, and `causal_flow` for the flow. With `step="mixture"` and embeddings
    that lie apart, the weights of the mixture at each position are the probabilities of
    the next character; `"spline"` bends one component into all of them.

    Windows are strings of `length` characters of the alphabet, or their numbers,
    `[n, length]`. The metric `bits_per_dim` of `fit` and `evaluate` is bits a
    character, by one draw of the bound.

    Args:
        alphabet: The characters, each once.
        dimensions: Number of values in the vector of a character; None for the
            smallest one, `log2(len(alphabet))` rounded up and at least 2.
        features: Features that the network makes of a vector first.
        step: What transforms one vector: `"mixture"` or `"spline"`.
        hidden_units: Widths of the masked network in front of the splines.
        scale: Scale that embeddings, and the components of a mixture, start with.
        samples: Number of draws of the bound in training.

    Example:
        >>> flow = TextFlow("ab ", 4, units=(8,), features=4)
        >>> history = flow.fit(["ab a", "b ab", "ab b"], epochs=2, verbose=0)
        >>> [len(text) for text in flow.sample(2, seed=1)]
        [4, 4]
    """

    def __init__(
        self,
        alphabet: str = LETTERS,
        length: int = 32,
        *,
        dimensions: int | None = None,
        units: Sequence[int] = (256,),
        features: int = 64,
        step: str = "mixture",
        bins: int = 12,
        hidden_units: Sequence[int] = (128,),
        scale: float = 0.2,
        samples: int = 1,
        **kwargs: Any,
    ) -> None:
        categories = len(checked_alphabet(alphabet))
        checked_integer("length", length, minimum=2)
        if dimensions is None:
            dimensions = max(2, math.ceil(math.log2(categories)))
        options = {
            "units": list(units),
            "features": features,
            "step": step,
            "bins": bins,
            "hidden_units": list(hidden_units),
            "scale": scale,
        }
        flow = causal_flow(length, dimensions, categories=categories, **options)
        embeddings = character_embeddings(categories, dimensions, scale=scale)
        super().__init__(
            CategoricalFlow(flow, embeddings, categories=categories, samples=samples),
            **kwargs,
        )
        self.alphabet, self.length, self.dimensions = alphabet, length, dimensions
        self._options = {**options, "samples": samples}
        self._trace()

    def _trace(self) -> None:
        """Makes graphs of what is called often; they are traced when first used."""
        distribution = self._distribution
        rows = tf.TensorSpec([None, self.length], distribution.dtype)
        seed = tf.TensorSpec([2], tf.int32)
        latents = tf.TensorSpec([None, *distribution.flow.event_shape], rows.dtype)

        def to_latents(rows: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
            return distribution.flow.bijector.inverse(
                distribution.dequantize(rows, seed)[0]
            )

        def from_latents(z: tf.Tensor) -> tf.Tensor:
            v = distribution.flow.bijector.forward(z)
            return tf.cast(distribution.quantize(v), tf.int32)

        traced = functools.partial(tf.function, autograph=False)
        self._log_weight = traced(distribution.log_weight, [rows, seed])
        self._to_latents = traced(to_latents, [rows, seed])
        self._from_latents = traced(from_latents, [latents])

    # Training.

    def fit(
        self, x: Arrays = None, y: Arrays = None, *args: object, **kwargs: Any
    ) -> keras.callbacks.History:
        """Trains flow and embeddings, by Adam if not compiled; see `FlowModel.fit`."""
        if not self.compiled:
            # The loss is a sum over characters, and so is its gradient.
            self.compile(optimizer=optimizer(2e-3, clip_norm=float(self.length)))
        return super().fit(x, y, *args, **kwargs)

    def encoded(self, x: Arrays) -> Arrays:
        """Returns numbers in the place of strings; a dataset stays as it is."""
        return x if is_stream(x) else self._numbers(x)

    def _numbers(self, windows: Windows) -> np.ndarray:
        rows = checked_windows(windows, self.length, self.alphabet)
        return rows.astype(self._distribution.dtype.as_numpy_dtype)

    # Metrics.

    def window_bits(
        self, windows: Windows, samples: int = 1, seed: Seed = 0
    ) -> np.ndarray:
        """Returns an upper bound on `-log2 P` of each window, in bits a character.

        Args:
            samples: Draws: 1 for the ELBO, k for the tighter importance-weighted bound.
        """
        checked_integer("samples", samples)

        def bits(rows: np.ndarray, own: tf.Tensor) -> tf.Tensor:
            seeds = tfp.random.split_seed(own, samples)
            draws = tf.stack([self._log_weight(rows, each) for each in seeds])
            bound = tf.reduce_logsumexp(draws, axis=0) - math.log(samples)
            return -bound / (self.length * math.log(2.0))

        return map_rows(bits, self._numbers(windows), rows=_ROWS, seed=seed)

    def bits_per_char(
        self, windows: Windows, samples: int = 1, seed: Seed = 0
    ) -> float:
        """Returns the mean of `window_bits`: bits a character, at most this many."""
        return float(np.mean(self.window_bits(windows, samples, seed), dtype=float))

    # Text from noise and back.

    def sample(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, n: int, seed: Seed = None, *, prompt: str = ""
    ) -> list[str]:
        """Draws texts of `length` characters.

        Args:
            seed: None, an integer or a pair of integers; equal seeds, equal texts.
            prompt: What all texts begin with. In a causal flow its latents depend on
                the prompt alone; the others are fresh noise.

        Raises:
            ValueError: If the prompt is longer than a text or has other characters.
        """
        noise_seed, prompt_seed = tfp.random.split_seed(stateless_seed(seed), n=2)
        noise = self._distribution.flow.distribution.sample(n, seed=noise_seed)
        if prompt:
            if len(prompt) > self.length:
                must = f"have at most {self.length} characters"
                raise invalid("prompt", must, got=f"{prompt!r} of {len(prompt)}")
            padded = prompt + self.alphabet[0] * (self.length - len(prompt))
            rows = np.tile(numbers(padded, self.alphabet), [n, 1])
            start = self.to_latents(rows, prompt_seed)
            noise = tf.concat(
                [start[:, : len(prompt)], noise[:, len(prompt) :]], axis=1
            )
        # A vector far from its own embedding is read as another character; the prompt's
        # characters are known.
        texts = self.from_latents(noise)
        return [prompt + text[len(prompt) :] for text in texts]

    def to_latents(self, windows: Windows, seed: Seed = 0) -> tf.Tensor:
        """Returns latents of windows, logistic noise `[n, length, dimensions]`.

        Vectors are drawn about the characters' embeddings; `from_latents` leads back.
        """
        return self._to_latents(self._numbers(windows), stateless_seed(seed))

    def from_latents(self, z: TensorLike) -> list[str]:
        """Returns the texts of latents `[n, length, dimensions]`.

        Each vector is read as the character whose embedding is most probable there.
        """
        z = tf.convert_to_tensor(z, self._distribution.dtype)
        return strings(self._from_latents(z), self.alphabet)

    # Saving.

    def described(self) -> Config:
        """Returns the constructor's arguments."""
        return {
            "alphabet": self.alphabet,
            "length": self.length,
            "dimensions": self.dimensions,
            **self._options,
        }

    @classmethod
    def constructor_arguments(cls, config: Config) -> Config:
        """Returns the constructor's arguments."""
        return config
