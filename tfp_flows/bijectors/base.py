"""`FlowBijector`: values and log-dets of a TFP bijector, by one network call."""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from tfp_flows.bijectors.watchers import watched
from tfp_flows.bijectors.weights import WeightedBijector
from tfp_flows.internal import compat
from tfp_flows.internal.arguments import (
    Condition,
    Config,
    DType,
    Mapped,
    Shape,
    check_event,
    words,
)

ValueAndLogDet = Mapped
_WARNED: weakref.WeakSet[keras.Model] = weakref.WeakSet()


class FlowBijector(WeightedBijector):
    """Base class of a bijector with Keras weights and one conditioner call.

    A subclass writes two methods, each of which returns a value and the
    logarithm of the absolute Jacobian determinant, summed over the event:

    * `_forward_and_log_det(x, condition=None) -> (y, fldj)`, latent to data,
      with `fldj = log |det dy/dx|`;
    * `_inverse_and_log_det(y, condition=None) -> (x, ildj)`, data to latent,
      with `ildj = log |det dx/dy|`.

    From these the class derives TFP's `forward`, `inverse`,
    `forward_log_det_jacobian` and `inverse_log_det_jacobian`. A value and its
    log-det cost one call together, eagerly and traced, alone and in `tfb.Chain`.

    Weights are made by `self.add_weight(shape)`, or belong to Keras layers that are
    built and stored as attributes; `get_config`, `from_config` and `copy` follow from
    the arguments of the constructor: see `WeightedBijector`.

    Shapes: `[..., *event]` with any batch rank, none included. The log-det has
    the batch shape, or is a scalar where the Jacobian is constant. Values and
    log-dets have the dtype of the input.

    Example:
        >>> class Scale(FlowBijector):
        ...     def __init__(self, d, **kwargs):
        ...         super().__init__(event_ndims=1, **kwargs)
        ...         self.s = self.add_weight((d,), name="s")
        ...
        ...     def _forward_and_log_det(self, x):
        ...         return x * tf.exp(self.s), tf.reduce_sum(self.s)
        ...
        ...     def _inverse_and_log_det(self, y):
        ...         return y * tf.exp(-self.s), -tf.reduce_sum(self.s)
        >>> Scale(3).forward([1.0, 2.0, 3.0]).numpy().tolist()
        [1.0, 2.0, 3.0]
    """

    _cache = compat.PairedCache(
        forward_name="_augmented_forward", inverse_name="_augmented_inverse"
    )

    def __init__(
        self,
        *,
        event_ndims: int,
        inverse_event_ndims: int | None = None,
        condition_shape: Shape | None = None,
        **kwargs: Any,
    ) -> None:
        """Initializes the TFP side of the bijector.

        Args:
            event_ndims: Number of trailing axes on which the bijector acts.
            inverse_event_ndims: The same on the data's side; defaults to `event_ndims`.
            condition_shape: Shape of one condition, for a conditional bijector.
            **kwargs: `dtype`, `name` and `validate_args`, and `is_constant_jacobian`
                where the log-det is the same for all inputs.
        """
        inverse = event_ndims if inverse_event_ndims is None else inverse_event_ndims
        ranks = {"forward_min_event_ndims": event_ndims}
        super().__init__(inverse_min_event_ndims=inverse, **ranks, **kwargs)
        self._condition_shape = None if condition_shape is None else (*condition_shape,)

    # What a subclass writes, or may write.

    def _forward_and_log_det(self, x: tf.Tensor, condition: Condition = None) -> Mapped:
        raise NotImplementedError("A subclass must write `_forward_and_log_det`.")

    def _inverse_and_log_det(self, y: tf.Tensor, condition: Condition = None) -> Mapped:
        raise NotImplementedError("A subclass must write `_inverse_and_log_det`.")

    @property
    def condition_shape(self) -> Shape | None:
        """Shape of one condition, or None where the bijector takes none."""
        return self._condition_shape

    def adapt(self, y: tf.Tensor, condition: Condition = None) -> tf.Tensor:
        """Initializes data-dependent weights from a batch `[n, *event]` of data.

        Returns the latents under the new weights; most bijectors have nothing to
        initialize and only pass the data on.
        """
        return self.inverse_and_log_det(y, condition)[0]

    def forward_and_log_det(self, x: tf.Tensor, condition: Condition = None) -> Mapped:
        """Returns `y = f(x)` and `log |det dy/dx|` over the event.

        A bijector without condition passes over what is meant for others.
        """
        x = tf.convert_to_tensor(x, dtype_hint=self.dtype)
        given = self._condition_kwargs(condition)
        with compat.whole_moments():
            ndims = self.forward_min_event_ndims
            result = self._for_rows(self._forward_and_log_det, x, ndims, given)
        return self._reported(*result)

    def inverse_and_log_det(self, y: tf.Tensor, condition: Condition = None) -> Mapped:
        """Returns `x = f^-1(y)` and `log |det dx/dy|` over the event."""
        y = tf.convert_to_tensor(y, dtype_hint=self.dtype)
        given = self._condition_kwargs(condition)
        with compat.whole_moments():
            ndims = self.inverse_min_event_ndims
            result = self._for_rows(self._inverse_and_log_det, y, ndims, given)
        return self._reported(*result)

    def _for_rows(
        self, function: Callable, x: tf.Tensor, ndims: int, given: Config
    ) -> Mapped:
        """Applies one direction; to no rows as to one, which is dropped.

        TensorFlow's convolutions have a wrong shape there, its loops none.
        """
        parts = [x, *map(tf.convert_to_tensor, given.values())]
        if not tf.executing_eagerly() or all(0 not in part.shape for part in parts):
            return function(x, **given)
        one, *own = (tf.zeros([n or 1 for n in p.shape], p.dtype) for p in parts)
        value, log_det = function(one, **dict(zip(given, own, strict=True)))
        batch = x.shape[: x.shape.rank - ndims]
        for c in parts[1:]:
            rank = c.shape.rank - len(self.condition_shape or ())
            batch = tf.broadcast_static_shape(batch, c.shape[:rank])
        rows = tuple(slice(0, n) for n in batch)
        return value[rows], log_det[rows] if log_det.shape.rank else log_det

    def _condition_kwargs(self, condition: Condition) -> dict:
        if self.condition_shape is None:
            return {}
        if condition is None:
            raise ValueError(
                f"{type(self).__name__} '{self.name}' needs a `condition` of shape "
                f"[{words(('...', *self.condition_shape))}]. Pass one, or "
                "bind it with `tfpf.condition(flow, c)`. Received: condition=None"
            )
        return {"condition": condition}

    def _over_batch(self, x: tf.Tensor, ndims: int, condition: Condition) -> tf.Tensor:
        """Gives `x` the batch axes of condition and parameters, for all parts inside.

        Without them, what leaves before a part with a batch would have no such axes.
        """
        if self.experimental_batch_shape().rank != 0:
            own = tf.zeros(self.experimental_batch_shape_tensor(), x.dtype)
            x = broadcast_batch(x, ndims, own, 0)[0]
        if condition is None or self.condition_shape is None:
            return x
        condition = tf.convert_to_tensor(condition)
        return broadcast_batch(x, ndims, condition, len(self.condition_shape))[0]

    def _check_shape(self, x: tf.Tensor, event: Shape) -> None:
        check_event(x, event, f"{type(self).__name__} '{self.name}'", "value")

    def _reported(self, value: tf.Tensor, log_det: tf.Tensor) -> Mapped:
        """Checks a result, if asked to, and shows it to the watchers."""
        model = compat.trained_without(self._layers.values())
        if model is not None and model not in _WARNED:
            _WARNED.add(model)
            warnings.warn(
                f"{type(model).__name__} '{model.name}' trains no weights of "
                f"{type(self).__name__} '{self.name}', which Keras does not see: make "
                "`tfpf.FlowModel(flow)` its attribute instead of the flow.",
                stacklevel=2,
            )
        if self.validate_args:
            message = f"{type(self).__name__} '{self.name}' returned a non-finite"
            value = tf.debugging.assert_all_finite(value, f"{message} value.")
            log_det = tf.debugging.assert_all_finite(log_det, f"{message} log-det.")
        return watched(self, value, log_det)

    def _augmented_forward(self, x: tf.Tensor, condition: Condition = None) -> tuple:
        self._refuse_unused(condition)
        y, fldj = self.forward_and_log_det(x, condition)
        return y, {"fldj": fldj, "ildj": -fldj}

    def _augmented_inverse(self, y: tf.Tensor, condition: Condition = None) -> tuple:
        self._refuse_unused(condition)
        x, ildj = self.inverse_and_log_det(y, condition)
        return x, {"ildj": ildj, "fldj": -ildj}

    def _refuse_unused(self, condition: Condition) -> None:
        if condition is not None and self.condition_shape is None:
            raise ValueError(
                f"{type(self).__name__} '{self.name}' takes no `condition`; build it "
                "with `condition_shape` to make it conditional. "
                f"Received: condition={condition!r}"
            )

    def _forward(self, x: tf.Tensor, **kwargs: Any) -> tf.Tensor:
        return self._augmented_forward(x, **kwargs)[0]

    def _inverse(self, y: tf.Tensor, **kwargs: Any) -> tf.Tensor:
        return self._augmented_inverse(y, **kwargs)[0]

    def _forward_log_det_jacobian(self, x: tf.Tensor, **kwargs: Any) -> tf.Tensor:
        # `y` holds the cache entry alive until its log-det has been read.
        y = self._cache.forward(x, **kwargs)
        fldj = self._cache.forward_attributes(x, **kwargs)["fldj"]
        del y
        return fldj

    def _inverse_log_det_jacobian(self, y: tf.Tensor, **kwargs: Any) -> tf.Tensor:
        x = self._cache.inverse(y, **kwargs)
        ildj = self._cache.inverse_attributes(y, **kwargs)["ildj"]
        del x
        return ildj


def call_layer(
    layer: Callable[..., tf.Tensor],
    inputs: tf.Tensor,
    event_ndims: int,
    condition: tf.Tensor | None = None,
    condition_ndims: int = 1,
    dtype: DType = None,
) -> tf.Tensor:
    """Calls a network on any batch rank, none included.

    Keras layers want exactly one batch axis. Leading axes of inputs `[..., *event]` and
    condition are folded into one and unfolded again; their batch axes broadcast.
    """
    keywords = {}
    if condition is not None:
        c = tf.convert_to_tensor(condition)
        inputs, c = broadcast_batch(inputs, event_ndims, c, condition_ndims)
        keywords["condition"] = _fold(c, condition_ndims)
    outputs = layer(_fold(inputs, event_ndims), **keywords)
    outputs = tf.cast(outputs, dtype or inputs.dtype)
    ndims = inputs.shape.rank - event_ndims
    if ndims == 1:
        return outputs
    sizes = tf.concat([tf.shape(inputs)[:ndims], tf.shape(outputs)[1:]], 0)
    static = inputs.shape[:ndims].concatenate(outputs.shape[1:])
    return reshaped(outputs, sizes, static)


def log_abs_det(matrix: tf.Tensor) -> tf.Tensor:
    """Returns `log |det A|` of matrices `[..., d, d]`, by QR: XLA has no other way."""

    @tf.custom_gradient
    def value(matrix: tf.Tensor) -> Any:
        diagonal = tf.linalg.diag_part(tf.linalg.qr(matrix).r)

        def gradient(upstream: tf.Tensor) -> tf.Tensor:
            back = tf.linalg.matrix_transpose(tf.linalg.inv(matrix))
            return upstream[..., tf.newaxis, tf.newaxis] * back

        return tf.reduce_sum(tf.math.log(tf.abs(diagonal)), axis=-1), gradient

    return value(matrix)


def reshaped(x: tf.Tensor, sizes: tf.Tensor, static: Sequence) -> tf.Tensor:
    """Reshapes to sizes that the graph finds, of which `static` are known before."""
    result = tf.reshape(x, sizes)
    result.set_shape(static)
    return result


def _fold(x: tf.Tensor, event_ndims: int) -> tf.Tensor:
    ndims = x.shape.rank - event_ndims
    return x if ndims == 1 else tf.reshape(x, tf.concat([[-1], tf.shape(x)[ndims:]], 0))


def broadcast_batch(
    x: tf.Tensor, x_ndims: int, c: tf.Tensor, c_ndims: int
) -> tuple[tf.Tensor, tf.Tensor]:
    """Gives values and conditions the same batch axes, by broadcasting."""
    n_x, n_c = x.shape.rank - x_ndims, c.shape.rank - c_ndims
    x_batch, c_batch = x.shape[:n_x], c.shape[:n_c]
    if x_batch.is_fully_defined() and x_batch == c_batch:
        return x, c
    static = tf.broadcast_static_shape(x_batch, c_batch)
    batch = tf.broadcast_dynamic_shape(tf.shape(x)[:n_x], tf.shape(c)[:n_c])

    def over_batch(part: tf.Tensor, ndims: int) -> tf.Tensor:
        sizes = tf.concat([batch, tf.shape(part)[ndims:]], 0)
        result = tf.broadcast_to(part, sizes)
        result.set_shape(static.concatenate(part.shape[ndims:]))
        return result

    return over_batch(x, n_x), over_batch(c, n_c)
