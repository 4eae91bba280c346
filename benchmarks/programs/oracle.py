"""`log p` in float64 by automatic differentiation, without any log-det of a bijector.

    log p(y) = log p_base(g(y)) + log |det dg/dy|,   g = f^-1

`g` runs part by part on fresh tensors; the Jacobian is assembled from gradients.
"""

from __future__ import annotations

import math

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows.bijectors.base import FlowBijector
from tfp_flows.internal import compat

tfb, tfd = tfp.bijectors, tfp.distributions


class Oracle:
    """Evaluates distributions; with `noise`, every part's output is disturbed.

    What noise of a rounding's size changes is what rounding may change.
    """

    def __init__(self, noise: float = 0.0, seed: int = 0) -> None:
        self.noise = noise
        self.random = np.random.default_rng(seed)

    def disturbed(self, z: tf.Tensor) -> tf.Tensor:
        """Adds the noise."""
        if not self.noise:
            return z
        scale, shift = self.random.choice([-1.0, 1.0], size=(2, *z.shape))
        return z * (1 + self.noise * scale) + self.noise * shift

    def move(
        self, bijector: object, y: tf.Tensor, c: object, back: bool, rank: int
    ) -> tf.Tensor:
        """Applies the inverse (`back`) or forward of a bijector, and no log-det.

        A condition belongs to an event, over the last `rank` axes of `y`.
        """
        if isinstance(bijector, compat.Chain):
            parts = bijector.bijectors
            for part in parts if back else reversed(parts):
                y = self.move(part, y, c, back, rank)
                after = part.inverse_event_ndims if back else part.forward_event_ndims
                rank = after(rank)
            return y
        if isinstance(bijector, compat.Invert):
            return self.move(bijector.bijector, y, c, not back, rank)
        if isinstance(bijector, compat.Blockwise):
            values = tf.split(y, bijector.block_sizes, axis=-1)
            pairs = zip(bijector.bijectors, values, strict=True)
            moved = [self.move(b, v, c, back, rank) for b, v in pairs]
            return tf.concat(moved, axis=-1)
        takes = getattr(bijector, "condition_shape", None)
        kwargs = {}
        if isinstance(bijector, FlowBijector) and takes is not None:
            own = (
                bijector.inverse_min_event_ndims
                if back
                else (bijector.forward_min_event_ndims)
            )
            lead, shape = np.split(np.shape(c), [np.ndim(c) - len(takes)])
            kwargs["condition"] = tf.reshape(c, [*lead, *[1] * (rank - own), *shape])
        run = bijector.inverse if back else bijector.forward
        return self.disturbed(run(self.disturbed(tf.identity(y)), **kwargs))

    def pulled_back(
        self, bijector: object, y: tf.Tensor, c: object, rank: int
    ) -> tuple[tf.Tensor, np.ndarray]:
        """Returns `g(y)` and `log |det dg/dy|` over the last `rank` axes."""
        lead, event = y.shape[: y.shape.rank - rank], y.shape[y.shape.rank - rank :]
        d = math.prod(event)
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(y)
            z = self.move(bijector, y, c, True, rank)
            values = tf.reshape(z, [*lead, d])
            columns = [values[..., i] for i in range(d)]
        zero = tf.UnconnectedGradients.ZERO
        rows = [
            tf.reshape(tape.gradient(v, y, unconnected_gradients=zero), [*lead, d])
            for v in columns
        ]
        return z, np.linalg.slogdet(np.stack(rows, axis=-2))[1]

    def log_prob(self, one: tfd.Distribution, y: tf.Tensor, c: object = None) -> object:
        """Returns `log p(y)` of a float64 distribution."""
        rank, base = one.event_shape.rank, getattr(one, "distribution", None)
        if isinstance(one, compat.TransformedDistribution):
            # The batch axes of the base are axes of `z` too.
            lead = tf.broadcast_static_shape(
                y.shape[: y.shape.rank - rank], one.batch_shape
            )
            y = tf.broadcast_to(y, [*lead, *y.shape[y.shape.rank - rank :]])
            z, log_det = self.pulled_back(one.bijector, y, c, rank)
            return self.log_prob(base, z, c) + log_det
        if isinstance(one, tfd.Sample):
            n = one.event_shape.rank - base.event_shape.rank
            lead = y.shape.rank - rank
            at = len(base.batch_shape)
            order = [*range(lead - at), *range(lead, lead + n)]
            order += [*range(lead - at, lead), *range(lead + n, y.shape.rank)]
            inner = self.log_prob(base, tf.transpose(y, order), c)
            axes = range(lead - at, lead - at + n)
            return np.sum(inner, axis=tuple(axes))
        if isinstance(one, tfd.BatchReshape):
            lead = y.shape[: y.shape.rank - rank]
            draws = lead[: lead.rank - one.batch_shape.rank]
            lead = tf.broadcast_static_shape(lead, one.batch_shape)
            y = tf.broadcast_to(y, [*lead, *y.shape[y.shape.rank - rank :]])
            flat = tf.reshape(y, [*draws, *base.batch_shape, *one.event_shape])
            return np.reshape(self.log_prob(base, flat, c), lead)
        if isinstance(one, tfd.MixtureSameFamily):
            parts = one.components_distribution
            weights = tf.nn.log_softmax(one.mixture_distribution.logits_parameter())
            inner = self.log_prob(parts, tf.expand_dims(y, -1 - rank), c)
            return tf.reduce_logsumexp(inner + weights, axis=-1).numpy()
        if isinstance(one, tfd.Mixture):
            weights = tf.nn.log_softmax(one.cat.logits_parameter())
            inner = [self.log_prob(part, y, c) for part in one.components]
            inner = tf.stack(np.broadcast_arrays(*inner), axis=-1)
            return tf.reduce_logsumexp(inner + weights, axis=-1).numpy()
        inside = base is not None and tf.nest.flatten(base)[0]
        if isinstance(one, tfd.Independent) and has_flow(inside):
            inner = self.log_prob(base, y, c)
            n = one.event_shape.rank - base.event_shape.rank
            return np.sum(inner, axis=tuple(range(-n, 0)))
        return one.log_prob(tf.identity(y)).numpy()

    def sample(self, one: tfd.Distribution, n: int, c: object, seed: int) -> tf.Tensor:
        """Draws mild values: the base's samples pulled to their mean, then forward."""
        if isinstance(one, compat.TransformedDistribution):
            z = self.sample(one.distribution, n, c, seed)
            return self.move(
                one.bijector, z, c, False, one.distribution.event_shape.rank
            )
        base = getattr(one, "distribution", None)
        if isinstance(one, tfd.Sample):
            values = [
                self.sample(base, n, c, 1000 * seed + i)
                for i in range(math.prod(np.atleast_1d(one.sample_shape)))
            ]
            return tf.stack(values, axis=-1 - base.event_shape.rank)
        if isinstance(one, tfd.Independent) and has_flow(base):
            return self.sample(base, n, c, seed)
        if isinstance(one, tfd.BatchReshape):
            flat = self.sample(base, n, c, seed)
            return tf.reshape(flat, [n, *one.batch_shape, *one.event_shape])
        if isinstance(one, tfd.MixtureSameFamily):
            rank = one.event_shape.rank
            parts = self.sample(one.components_distribution, n, c, seed)
            return tf.gather(parts, 0, axis=parts.shape.rank - rank - 1)
        if isinstance(one, tfd.Mixture):
            return self.sample(one.components[0], n, c, seed)
        draws = one.sample(n, seed=(seed, 1))
        middle = tf.reduce_mean(one.sample(101, seed=(seed, 2)), axis=0)
        return middle + 0.6 * (draws - middle)


def has_flow(part: object) -> bool:
    """Says whether a distribution holds a transformed one or a mixture."""
    kinds = (compat.TransformedDistribution, tfd.MixtureSameFamily, tfd.Mixture)
    kinds = (*kinds, tfd.Sample, tfd.BatchReshape)
    if isinstance(part, kinds):
        return True
    inner = getattr(part, "distribution", None)
    return isinstance(inner, tfd.Distribution) and has_flow(inner)
