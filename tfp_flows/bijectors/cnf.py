"""`ContinuousFlow`: the flow of a learned differential equation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tfp_flows.bijectors import divergence
from tfp_flows.bijectors.base import FlowBijector
from tfp_flows.bijectors.ode import FixedStep, Solver, State
from tfp_flows.bijectors.path_monitor import PathMonitor
from tfp_flows.nets import conditioner as conditioners
from tfp_flows.nets.velocity import VelocityNet


@keras.saving.register_keras_serializable(package="tfp_flows")
class ContinuousFlow(FlowBijector):
    """The map from time 0 to time 1 of `dz/dt = f(t, z)` (Neural ODE, FFJORD).

        forward:  y = x + integral_0^1 f(t, z(t)) dt,  z(0) = x
        inverse:  the same equation solved from time 1 back to time 0
        log-det:  integral_0^1 tr(df/dz) dt (forward), minus that (inverse)

    All three are as accurate as `solver` makes them; `inverse` undoes `forward` up
    to that error. The trace is

    * `"exact"`: at the cost of `D` pullbacks, for events of `D` values;
    * `"rademacher"` or `"gaussian"`: Hutchinson's unbiased estimate by a random
      probe, one pullback for any `D`. The probes are fixed during a solve. They are
      drawn anew in each training step of Keras, and follow from `seed` and the shape
      of the batch everywhere else. So train by `fit`, or on
      `FlowModel(flow)(x, training=True)` in a loop of your own: weights learn fixed
      probes by heart, and the estimate leaves the density. For the exact likelihood
      of a flow trained with an estimate, use `flow.bijector.copy(trace="exact")`.

    `kinetic` and `jacobian` are the weights of RNODE's regularizers, which make the
    paths straight and so the equation cheap to solve: they are added to the loss as
    Keras layer losses. `fit` reports the evaluations a solve as the metric `nfe`.

    Shapes: events of `event_shape`; log-dets have the batch shape.

    Reference:
        Chen, Rubanova, Bettencourt, Duvenaud: Neural Ordinary Differential
        Equations, 2018, arXiv:1806.07366. Grathwohl et al.: FFJORD, 2018,
        arXiv:1810.01367. Finlay et al.: How to Train Your Neural ODE, 2020,
        arXiv:2002.02798 (RNODE).

    Example:
        >>> import tfp_flows as tff
        >>> b = tff.ContinuousFlow(tff.nets.VelocityNet((16,)), (2,))
        >>> b.forward([[1.0, 2.0]]).shape
        TensorShape([1, 2])
    """

    def __init__(
        self,
        velocity: VelocityNet,
        event_shape: Sequence[int],
        *,
        solver: Solver | None = None,
        trace: str = "exact",
        kinetic: float = 0.0,
        jacobian: float = 0.0,
        seed: int = 0,
        condition_shape: Sequence[int] | None = None,
        dtype: Any = None,
        validate_args: bool = False,
        name: str | None = None,
    ) -> None:
        """Connects the velocity network.

        Args:
            velocity: Network `f`, called as `velocity(z, t, condition)`: a
                `tff.nets.VelocityNet` or a `Conditioner` with such a `call`.
            event_shape: Shape of one data point.
            solver: `FixedStep` (the default, RK4 with 10 steps) or `Adaptive`.
            trace: `"exact"`, `"rademacher"` or `"gaussian"`; see above.
            kinetic: Weight of the mean of `integral |f|^2 dt` in the loss.
            jacobian: Weight of the mean of `integral |df/dz|_F^2 dt` in the loss.
            seed: Integer from which the probes of an estimated trace follow.
            condition_shape: Shape of one condition, for a conditional flow.
            dtype: Float type; defaults to `keras.config.floatx()`.
            validate_args: Whether to check outputs for finiteness.
            name: Name of the bijector.

        Raises:
            TypeError: If `velocity` or `solver` is of another kind.
            ValueError: If `trace` is not known or a weight is negative.
        """
        parameters = dict(locals())
        _check_arguments(velocity, solver, trace, kinetic, jacobian)
        self._event_shape = tuple(int(n) for n in event_shape)
        self._condition_shape = condition_shape and tuple(condition_shape)
        self._solver = solver or FixedStep()
        self._trace = trace
        self._kinetic, self._jacobian = float(kinetic), float(jacobian)
        super().__init__(
            event_ndims=len(self._event_shape),
            dtype=dtype,
            validate_args=validate_args,
            parameters=parameters,
            name=name,
        )
        conditioners.connect(
            velocity, self._event_shape, self._event_shape, self._condition_shape
        )
        self._own("_velocity", velocity)
        if trace != "exact":
            self._own("_probe", divergence.Probe(trace, seed))
        self._own("_monitor", PathMonitor(self._kinetic, self._jacobian))

    @property
    def velocity(self) -> keras.Layer:
        """The network `f`."""
        return self._velocity

    @property
    def condition_shape(self) -> tuple[int, ...] | None:
        """Shape of one condition, or None."""
        return self._condition_shape

    def velocity_at(
        self, t: tf.Tensor, z: tf.Tensor, condition: Any = None
    ) -> tf.Tensor:
        """Computes `f(t, z)`, as flow matching needs it.

        Args:
            t: Times `[n]` or a scalar.
            z: Points `[n, *event]`.
            condition: Conditions `[n, *condition]`, where the flow takes them.

        Returns:
            Velocities `[n, *event]` in the dtype of `z`.
        """
        keywords = {} if condition is None else {"condition": condition}
        return tf.cast(self._velocity(z, t, **keywords), z.dtype)

    def _forward_and_log_det(
        self, x: tf.Tensor, condition: Any = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        return self._flow(x, condition, backwards=False)

    def _inverse_and_log_det(
        self, y: tf.Tensor, condition: Any = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        return self._flow(y, condition, backwards=True)

    def _flow(
        self, z: tf.Tensor, condition: Any, backwards: bool
    ) -> tuple[tf.Tensor, tf.Tensor]:
        self._check_event(z)
        if condition is not None:
            condition = tf.cast(condition, z.dtype)
            z, condition = conditioners.broadcast_batch(
                z, len(self._event_shape), condition, len(self._condition_shape or ())
            )
            condition = tf.reshape(condition, [-1, *(self._condition_shape or ())])
        batch = tf.shape(z)[: z.shape.rank - len(self._event_shape)]
        static = z.shape
        z, log_det = self._solved(
            tf.reshape(z, [-1, *self._event_shape]), condition, backwards
        )
        value = tf.reshape(z, tf.concat([batch, self._event_shape], 0))
        value.set_shape(static)
        log_det = tf.reshape(log_det, batch)
        log_det.set_shape(static[: static.rank - len(self._event_shape)])
        return value, log_det

    def _solved(
        self, z: tf.Tensor, condition: Any, backwards: bool
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Solves for points and log-dets of one batch axis."""
        # Weights go to the solver as tensors, so that its gradients reach them
        # whatever scope they were read in.
        weights = [v for v in self._velocity.variables if "float" in v.dtype]
        constants = [tf.convert_to_tensor(v) for v in weights]
        if condition is not None:
            constants.append(condition)
        probe = None if self._trace == "exact" else self._probe(z)

        def derivative(s: tf.Tensor, state: State, constants: list) -> State:
            t = 1.0 - s if backwards else s
            values = constants[: len(weights)]
            given = constants[len(weights)] if condition is not None else None
            with keras.StatelessScope(
                list(zip(weights, values, strict=True)), initialize_variables=False
            ):
                f, trace, norm = self._field(t, state[0], given, probe)
            if backwards:
                f, trace = -f, -trace
            return (f, trace, *self._energies(f, norm))

        zeros = tf.zeros(tf.shape(z)[:1], z.dtype)
        zeros.set_shape(z.shape[:1])
        start = (z, zeros, *self._energies(z, zeros, start=True))
        (z, log_det, *energies), evaluations = self._solver.solve(
            derivative, start, constants
        )
        self._monitor(evaluations, tuple(energies))
        return z, log_det

    def _field(self, t: tf.Tensor, z: tf.Tensor, condition: Any, probe: Any) -> tuple:
        def field(z: tf.Tensor, condition: Any) -> tf.Tensor:
            return self.velocity_at(t, z, condition)

        if probe is None:
            return divergence.exact(field, z, condition)
        return divergence.hutchinson(field, z, condition, probe)

    def _energies(
        self, f: tf.Tensor, norm: tf.Tensor, start: bool = False
    ) -> tuple[tf.Tensor, ...]:
        """Returns what is integrated for the regularizers that are in use."""
        energies = []
        if self._kinetic:
            square = divergence.sum_event(tf.square(f))
            energies.append(tf.zeros_like(square) if start else square)
        if self._jacobian:
            energies.append(norm)
        return tuple(energies)

    def _check_event(self, z: tf.Tensor) -> None:
        n = len(self._event_shape)
        if not z.shape[z.shape.rank - n :].is_compatible_with(self._event_shape):
            raise ValueError(
                f"{type(self).__name__} '{self.name}' expected events of shape "
                f"{self._event_shape} on the last axes. Received: input of shape "
                f"{z.shape}"
            )


def _check_arguments(
    velocity: Any, solver: Any, trace: str, kinetic: float, jacobian: float
) -> None:
    if not isinstance(velocity, conditioners.Conditioner):
        raise TypeError(
            "Argument `velocity` must be a network that sees the time, such as "
            f"`tff.nets.VelocityNet((64, 64))`. Received: velocity={velocity!r}"
        )
    if solver is not None and not isinstance(solver, Solver):
        raise TypeError(
            "Argument `solver` must be `tff.FixedStep(...)` or `tff.Adaptive(...)`. "
            f"Received: solver={solver!r}"
        )
    if trace not in divergence.TRACES:
        raise ValueError(
            f"Argument `trace` must be one of {divergence.TRACES}. "
            f"Received: trace={trace!r}"
        )
    for name, value in (("kinetic", kinetic), ("jacobian", jacobian)):
        if value < 0.0:
            raise ValueError(
                f"Argument `{name}` must not be negative. Received: {name}={value}"
            )
