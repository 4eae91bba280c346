"""`Dequantized`: a distribution of whole pixel values from a flow of real ones."""

from __future__ import annotations

import math
from typing import Any

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows.architectures.assembly import checked_count
from tfp_flows.architectures.glow import glow
from tfp_flows.bijectors import paired
from tfp_flows.bijectors.conditioned import condition

tfb, tfd = tfp.bijectors, tfp.distributions


def dequantization_noise(
    event_shape: tuple[int, int, int],
    *,
    steps: int = 4,
    hidden_channels: int = 32,
    dtype: Any = None,
    name: str = "dequantization_noise",
) -> tfd.TransformedDistribution:
    """Builds a flow of noise in (0, 1) given an image, for `Dequantized`.

    It is a Glow of one level whose couplings see the image, behind a sigmoid.

    Args:
        event_shape: Shape `(h, w, c)` of image and noise, h and w even.
        steps: Number of steps.
        hidden_channels: Width of each conditioner.
        dtype: Float type of flow and networks; None for Keras's defaults.
        name: Name of the distribution.

    Returns:
        A conditional flow with `condition_shape=event_shape`.

    Reference:
        Ho et al.: Flow++, 2019, arXiv:1902.00275, section 3.1.
    """
    return glow(
        event_shape,
        levels=1,
        steps=steps,
        hidden_channels=hidden_channels,
        condition_shape=event_shape,
        preprocess=tfb.Sigmoid(),
        dtype=dtype,
        name=name,
    )


@keras.saving.register_keras_serializable(package="tfp_flows")
class Dequantized(tfd.Distribution):
    """Whole values `x` in `0, ..., levels - 1`, modelled by a flow of real values.

    With `p` the density of the flow, the probability of an image is the integral
    of `p(x + u)` over noise `u` in `[0, 1)^D`. `log_prob` returns an estimate of a
    lower bound of its logarithm, with fresh noise in each call:

        log P(x) >= E[ log mean_k  p(x + u_k) / q(u_k | x) ],    u_k ~ q(. | x)

    `noise=None` is uniform dequantization, `q = 1`. Otherwise `q` is a conditional
    flow, such as `dequantization_noise(event_shape)`, that learns together with
    `p` which noise makes the bound tight: variational dequantization. It is given
    `x / levels - 1/2` as its condition.

    It is a distribution like any other: `FlowModel(Dequantized(flow, noise))`
    trains both flows on whole pixel values, and `sample` draws whole values.

    Shapes: as the flow's, `[..., *event_shape]`.

    Reference:
        Ho et al.: Flow++, 2019, arXiv:1902.00275. Theis et al.: A note on the
        evaluation of generative models, 2015, arXiv:1511.01844, section 3.1.

    Example:
        >>> flow = glow((4, 4, 1), levels=1, steps=1, hidden_channels=4)
        >>> noise = dequantization_noise((4, 4, 1), steps=1, hidden_channels=4)
        >>> Dequantized(flow, noise, levels=17).event_shape
        TensorShape([4, 4, 1])
    """

    def __init__(
        self,
        flow: tfd.Distribution,
        noise: tfd.Distribution | None = None,
        *,
        levels: int = 256,
        samples: int = 1,
        validate_args: bool = False,
        name: str = "dequantized",
    ) -> None:
        """Joins a flow of real values and a flow of noise.

        Args:
            flow: Flow of dequantized values in `[0, levels)`.
            noise: Conditional flow of noise in (0, 1), or None for uniform noise.
            levels: How many values a pixel can take.
            samples: Number of noise draws for each image; more make the bound
                tighter and cost as many times more.
            validate_args: Passed on to `tfd.Distribution`.
            name: Name of the distribution.

        Raises:
            ValueError: If `noise` has another event shape than `flow`, or `levels`
                or `samples` is too small.
        """
        parameters = dict(locals())
        if noise is not None and noise.event_shape != flow.event_shape:
            raise ValueError(
                "Argument `noise` must be a flow of the event shape of `flow`, "
                f"{flow.event_shape}. Received: {noise.event_shape}"
            )
        self._levels = checked_count("levels", levels, least=2)
        self._samples = checked_count("samples", samples)
        self._flow = flow
        self._noise = noise
        super().__init__(
            dtype=flow.dtype,
            reparameterization_type=tfd.NOT_REPARAMETERIZED,
            validate_args=validate_args,
            allow_nan_stats=True,
            parameters=parameters,
            name=name,
        )

    @property
    def flow(self) -> tfd.Distribution:
        """The flow of real values."""
        return self._flow

    @property
    def noise(self) -> tfd.Distribution | None:
        """The flow of noise, or None."""
        return self._noise

    @property
    def levels(self) -> int:
        """How many values a pixel can take."""
        return self._levels

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        keys = ("flow", "noise", "levels", "samples", "validate_args", "name")
        return {key: self.parameters[key] for key in keys}

    def adapt(self, x: Any) -> None:
        """Initializes data-dependent weights of both flows from whole values `x`."""
        x = tf.cast(x, self.dtype)
        u = tf.random.uniform(tf.shape(x), dtype=x.dtype)
        ndims = len(self.event_shape)
        paired.adapt(self._flow.bijector, x + u, ndims)
        if self._noise is not None:
            paired.adapt(self._noise.bijector, u, ndims, self._condition(x))

    def _log_prob(self, x: tf.Tensor) -> tf.Tensor:
        x = tf.cast(x, self.dtype)
        u, log_q = self._draw_noise(x)
        log_weights = self._flow.log_prob(x + u) - log_q
        if self._samples == 1:
            return log_weights[0]
        return tf.reduce_logsumexp(log_weights, axis=0) - math.log(self._samples)

    def _draw_noise(self, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns noise `[samples, *x.shape]` and its log-density."""
        seed = tfp.random.sanitize_seed(None)
        if self._noise is None:
            shape = tf.concat([[self._samples], tf.shape(x)], axis=0)
            u = tf.random.stateless_uniform(shape, seed, dtype=x.dtype)
            return tf.ensure_shape(u, [self._samples, *x.shape]), tf.zeros([], x.dtype)
        noise = condition(self._noise, self._condition(x))
        return noise.experimental_sample_and_log_prob(self._samples, seed=seed)

    def _condition(self, x: tf.Tensor) -> tf.Tensor:
        return x / self._levels - 0.5

    def _sample_n(self, n: Any, seed: Any = None) -> tf.Tensor:
        values = tf.floor(self._flow.sample(n, seed=seed))
        return tf.clip_by_value(values, 0.0, self._levels - 1.0)

    def _event_shape(self) -> tf.TensorShape:
        return self._flow.event_shape

    def _event_shape_tensor(self) -> tf.Tensor:
        return self._flow.event_shape_tensor()

    def _batch_shape(self) -> tf.TensorShape:
        return self._flow.batch_shape

    def _batch_shape_tensor(self) -> tf.Tensor:
        return self._flow.batch_shape_tensor()
