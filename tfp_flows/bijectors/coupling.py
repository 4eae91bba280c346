"""`Coupling`, and its named cases: additive (NICE), affine (RealNVP), spline."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from tfp_flows.bijectors.base import FlowBijector, broadcast_batch, call_layer, reshaped
from tfp_flows.bijectors.transforms.affine import Affine, Shift
from tfp_flows.bijectors.transforms.base import Transform
from tfp_flows.bijectors.transforms.spline import RationalQuadraticSpline
from tfp_flows.internal.arguments import Condition, Described, Mapped, checked_instance
from tfp_flows.nets.conditioner import connect


class Mask(Described, ABC):
    """A division of an event into an identity part and a transformed part.

    Attributes:
        identity_shape: Shape of the part that passes unchanged.
        transformed_shape: Shape of the part that the coupling transforms.
    """

    event_shape: tuple[int, ...]
    identity_shape: tuple[int, ...]
    transformed_shape: tuple[int, ...]

    @abstractmethod
    def split(self, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the identity part and the transformed part of `x`."""

    @abstractmethod
    def merge(self, identity: tf.Tensor, transformed: tf.Tensor) -> tf.Tensor:
        """Puts the two parts back in their places."""


class Structure(FlowBijector):
    """A bijector that applies an elementwise transform to values of an event.

    A subclass says in `_evaluated` where the parameters of each value come from.
    """

    def _use(self, transform: Transform) -> None:
        self._transform = transform.with_weights(self.add_weight)

    @property
    def transform(self) -> Transform:
        """The elementwise bijection."""
        return self._transform

    def _forward_and_log_det(self, x: tf.Tensor, condition: Condition = None) -> Mapped:
        return self._evaluated(x, condition, self._transform.forward)

    def _inverse_and_log_det(self, y: tf.Tensor, condition: Condition = None) -> Mapped:
        return self._evaluated(y, condition, self._transform.inverse)

    def _evaluated(
        self, x: tf.Tensor, condition: Condition, direction: Callable
    ) -> Mapped:
        raise NotImplementedError

    def _per_value(self, parameters: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
        """Gives the parameters of each value an axis of their own, the last."""
        last = [values.shape[-1], self._transform.parameters_per_value]
        sizes = tf.concat([tf.shape(parameters)[:-1], last], 0)
        static = [*parameters.shape[:-1], *last]
        return reshaped(parameters, sizes, static)


def checked_transform(transform: Transform | None) -> Transform:
    """Returns a transform; None stands for `Affine()`."""
    checked = Affine() if transform is None else transform
    return checked_instance("transform", checked, Transform, "one of `tfpf.transforms`")


@keras.saving.register_keras_serializable(package="tfp_flows")
class Coupling(Structure):
    """Transforms one part of an event, given the other part.

    With `x = (x_i, x_t)` split by `mask` into a part that passes as it is and a part
    that is transformed, and `g` the elementwise `transform`,

        forward:  y_i = x_i,  y_t = g(x_t; conditioner(x_i))
        inverse:  x_i = y_i,  x_t = g^-1(y_t; conditioner(y_i))
        log-det:  sum of log |g'| over the transformed values (forward), minus that

    Shapes: events as the mask's; log-dets have the batch shape.

    Reference: Dinh, Krueger, Bengio: NICE, 2014, arXiv:1410.8516.

    Example:
        >>> import tfp_flows as tfpf
        >>> net = tfpf.nets.MLP((16,))
        >>> b = tfpf.Coupling(tfpf.masks.half(4), net, tfpf.transforms.Affine())
        >>> b.forward([1.0, 2.0, 3.0, 4.0]).shape
        TensorShape([4])
    """

    def __init__(
        self,
        mask: Mask,
        conditioner: keras.Layer,
        transform: Transform | None = None,
        *,
        condition_shape: Sequence[int] | None = None,
        **kwargs: Any,
    ) -> None:
        """Connects the conditioner.

        Args:
            mask: Division of an event into two parts, from `tfpf.masks`.
            conditioner: Keras layer from the first part to the parameters of the
                other's transform, those of one value beside each other on the last
                axis; `tfpf.nets` have no output size until they are used.
            transform: A value of `tfpf.transforms`; None for `Affine()`.
        """
        checked_instance("mask", mask, Mask, "a mask such as `tfpf.masks.half(d)`")
        transform = checked_transform(transform)
        super().__init__(
            event_ndims=len(mask.event_shape), condition_shape=condition_shape, **kwargs
        )
        self._mask = mask
        self._use(transform)
        *positions, values = mask.transformed_shape
        outputs = (*positions, values * transform.parameters_per_value)
        inputs, shape = mask.identity_shape, self.condition_shape
        connect(conditioner, inputs, outputs, shape)
        self._conditioner = conditioner

    @property
    def mask(self) -> Mask:
        """The division of an event into two parts."""
        return self._mask

    @property
    def conditioner(self) -> keras.Layer:
        """The network from the first part to the parameters of the transform."""
        return self._conditioner

    def _evaluated(
        self, x: tf.Tensor, condition: Condition, direction: Callable
    ) -> Mapped:
        event, shape = self._mask.event_shape, self.condition_shape or ()
        self._check_shape(x, event)
        same, changed = self._mask.split(x)
        net, ndims = self._conditioner, len(event)
        parameters = call_layer(net, same, ndims, condition, len(shape))
        if condition is not None:
            # The condition may have batch axes that the value has not.
            same = broadcast_batch(same, ndims, parameters, ndims)[0]
            changed = broadcast_batch(changed, ndims, parameters, ndims)[0]
        parameters = self._per_value(parameters, changed)
        changed, log_slope = direction(changed, parameters)
        log_det = tf.reduce_sum(log_slope, list(range(-ndims, 0)))
        return self._mask.merge(same, changed), log_det


@keras.saving.register_keras_serializable(package="tfp_flows")
class AdditiveCoupling(Coupling):
    """`Coupling` with `transforms.Shift`, whose log-det is 0 (NICE)."""

    def __init__(self, mask: Mask, conditioner: keras.Layer, **kwargs: Any) -> None:
        """Connects the conditioner: see `Coupling`."""
        super().__init__(mask, conditioner, Shift(), **kwargs)


@keras.saving.register_keras_serializable(package="tfp_flows")
class AffineCoupling(Coupling):
    """`Coupling` with `transforms.Affine` (RealNVP).

    The conditioner returns all shifts before all raw scales on its last axis, as TFP's
    networks for RealNVP do.
    """

    _WEIGHTS = "TanhScale"

    def __init__(
        self,
        mask: Mask,
        conditioner: keras.Layer,
        *,
        log_scale: str = "soft_clamp",
        **kwargs: Any,
    ) -> None:
        """Connects the conditioner: see `Coupling` and `transforms.Affine`."""
        transform = Affine(log_scale, order="halves")
        super().__init__(mask, conditioner, transform, **kwargs)


@keras.saving.register_keras_serializable(package="tfp_flows")
class SplineCoupling(Coupling):
    """`Coupling` with `transforms.RationalQuadraticSpline` (neural spline flows).

    For circular tails give the conditioner features of angles that are periodic too,
    such as their sine and cosine.
    """

    def __init__(
        self,
        mask: Mask,
        conditioner: keras.Layer,
        *,
        bins: int = 8,
        bound: float = 5.0,
        tails: str = "linear",
        min_bin: float = 1e-3,
        min_slope: float = 1e-3,
        **kwargs: Any,
    ) -> None:
        """Connects the conditioner: see `Coupling` and `RationalQuadraticSpline`."""
        transform = RationalQuadraticSpline(bins, bound, tails, min_bin, min_slope)
        super().__init__(mask, conditioner, transform, **kwargs)
