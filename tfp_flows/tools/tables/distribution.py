"""`TableDistribution`: rows of mixed columns from a flow of real vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows.bijectors import paired
from tfp_flows.nets.conditioner import keras_variables
from tfp_flows.tools.tables.lifts import Lift

tfd = tfp.distributions


@keras.saving.register_keras_serializable(package="tfp_flows")
class TableDistribution(tfd.Distribution):
    """Rows of C encoded values, lifted to D >= C real coordinates of a flow.

    With the flow's density `p(v)` and the lifts' `q(v | x)`, `log_prob` returns

        log p(v) - log q(v | x),   v ~ q(. | x)                 [nats]

    with fresh noise in each call: the log-density itself if all columns are real, else
    one draw of a lower bound of it; `bound` averages several draws. It is a density
    along real columns and a probability along the others. `FlowModel` trains the flow
    and the lifts together.

    Shapes: rows `[..., C]`, in the order of `lifts`; codes of categories in 0..K-1.
    """

    def __init__(
        self,
        flow: tfd.Distribution,
        lifts: Sequence[Lift],
        *,
        validate_args: bool = False,
        name: str = "table",
    ) -> None:
        """Joins a flow and one lift a column.

        Args:
            flow: Distribution of vectors of as many values as the lifts are wide.
            lifts: One for each column.
            validate_args: Passed on to `tfd.Distribution`.
            name: Name of the distribution.

        Raises:
            ValueError: If the flow's events have another size.
        """
        parameters = dict(locals())
        width = sum(lift.width for lift in lifts)
        if tuple(flow.event_shape) != (width,):
            raise ValueError(
                f"Argument `flow` must be a distribution of vectors of {width} values, "
                f"as wide as the lifted columns. Received: event shape "
                f"{flow.event_shape}"
            )
        self._flow = flow
        self._lifts = tuple(lift.made() for lift in lifts)
        super().__init__(
            dtype=flow.dtype,
            reparameterization_type=tfd.NOT_REPARAMETERIZED,
            validate_args=validate_args,
            allow_nan_stats=True,
            parameters=parameters,
            name=name,
        )
        # For plain TFP loops, which see no weights of Keras layers.
        self._lift_variables = self._no_dependency(
            [v._value for lift in self._lifts for v in keras_variables(lift)]
        )

    @property
    def flow(self) -> tfd.Distribution:
        """The flow of real vectors."""
        return self._flow

    @property
    def lifts(self) -> tuple[Lift, ...]:
        """One lift for each column."""
        return tuple(self._lifts)

    @property
    def is_exact(self) -> bool:
        """Whether log-likelihoods are exact: all columns are real."""
        return all(lift.is_exact for lift in self._lifts)

    def lift(self, x: tf.Tensor, seed: Any) -> tuple[tf.Tensor, tf.Tensor]:
        """Draws coordinates `[..., D]` of rows; returns them and `log q(v | x)`."""
        seeds = tfp.random.split_seed(seed, n=len(self._lifts))
        drawn = [lift.lift(x[..., i], seeds[i]) for i, lift in enumerate(self._lifts)]
        v, log_q = zip(*drawn, strict=True)
        return tf.concat(v, axis=-1), tf.add_n(log_q)

    def lower(self, v: tf.Tensor) -> tf.Tensor:
        """Returns the rows `[..., C]` to which coordinates `[..., D]` belong."""
        parts = tf.split(v, [lift.width for lift in self._lifts], axis=-1)
        pairs = zip(self._lifts, parts, strict=True)
        return tf.stack([lift.lower(part) for lift, part in pairs], axis=-1)

    def bound(self, x: tf.Tensor, draws: Any, seed: Any) -> tf.Tensor:
        """Estimates `log p(x)` from below, in nats for each row.

        Args:
            x: Rows `[n, C]`.
            draws: Number of draws for each row; the mean of the bound rises with it.
            seed: A stateless seed.

        Returns:
            `log 1/draws sum_k p(v_k) / q(v_k | x)`, `[n]`.
        """
        v, log_q = self.lift(tf.repeat(x, draws, axis=0), seed)
        log_weights = tf.reshape(self._flow.log_prob(v) - log_q, [-1, draws])
        count = tf.cast(draws, log_weights.dtype)
        return tf.reduce_logsumexp(log_weights, axis=-1) - tf.math.log(count)

    def adapt(self, x: Any) -> None:
        """Initializes data-dependent weights of the flow from rows."""
        x = tf.cast(x, self.dtype)
        v, _ = self.lift(x, tfp.random.sanitize_seed(None))
        if hasattr(self._flow, "bijector"):
            paired.adapt(self._flow.bijector, v, 1)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        keys = ("flow", "validate_args", "name")
        arguments = {key: self.parameters[key] for key in keys}
        return {**arguments, "lifts": list(self._lifts)}

    def _log_prob(self, x: tf.Tensor) -> tf.Tensor:
        v, log_q = self.lift(x, tfp.random.sanitize_seed(None))
        return self._flow.log_prob(v) - log_q

    def _sample_n(self, n: Any, seed: Any = None) -> tf.Tensor:
        return self.lower(self._flow.sample(n, seed=seed))

    def _event_shape(self) -> tf.TensorShape:
        return tf.TensorShape([len(self._lifts)])

    def _event_shape_tensor(self) -> tf.Tensor:
        return tf.constant([len(self._lifts)], tf.int32)

    def _batch_shape(self) -> tf.TensorShape:
        return self._flow.batch_shape

    def _batch_shape_tensor(self) -> tf.Tensor:
        return self._flow.batch_shape_tensor()
