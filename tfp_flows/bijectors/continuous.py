"""`ContinuousFlow`: an ODE as a bijector, and the divergence of its field."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from tfp_flows.bijectors.base import FlowBijector, broadcast_batch, reshaped
from tfp_flows.bijectors.ode import Adaptive, FixedStep, Solver, State, sum_event
from tfp_flows.internal import compat
from tfp_flows.internal.arguments import (
    Condition,
    Config,
    DescribedLayer,
    Mapped,
    checked_choice,
    checked_instance,
    checked_number,
)
from tfp_flows.nets import conditioner as conditioners
from tfp_flows.nets.velocity import VelocityNet

TRACES = ("exact", "rademacher", "gaussian")

Field = Callable[[tf.Tensor, Condition], tf.Tensor]
Divergence = tuple[tf.Tensor, tf.Tensor, tf.Tensor]


def exact(field: Field, z: tf.Tensor, condition: Condition = None) -> Divergence:
    """Computes a field and the trace of its Jacobian, for points `[n, *event]`.

    Returns velocities `[n, *event]`, traces `[n]`, squared Frobenius norms of the
    Jacobian `[n]`.
    """
    velocity, jacobian = value_and_jacobian(field, z, condition)
    norm = tf.reduce_sum(tf.square(jacobian), axis=[1, 2])
    return velocity, tf.linalg.trace(jacobian), norm


def value_and_jacobian(
    field: Field, z: tf.Tensor, condition: Condition = None
) -> tuple[tf.Tensor, tf.Tensor]:
    """Computes a field and its Jacobian `[n, d, d]`, for points `[n, *event]`.

    Each point is repeated once for each of its d values, so that one pullback gives
    all rows of the Jacobian: the graph does not grow with d.
    """
    d = z.shape[1:].num_elements()
    n = tf.shape(z)[0]
    repeated = _repeated(z, d)
    conditions = None if condition is None else _repeated(condition, d)
    units = tf.reshape(tf.tile(tf.eye(d, dtype=z.dtype), [n, 1]), tf.shape(repeated))
    velocity, rows = pullback(field, repeated, conditions, units)
    velocity = tf.reshape(velocity, [-1, d, *z.shape[1:]])[:, 0]
    return velocity, tf.reshape(rows, [-1, d, d])


def _repeated(x: tf.Tensor, d: int) -> tf.Tensor:
    """Repeats each row d times, by broadcasting: XLA has no gradient of `tf.repeat`."""
    ones = tf.ones([d] + [1] * (x.shape.rank - 1), x.dtype)
    return tf.reshape(x[:, None] * ones, [-1, *x.shape[1:]])


def hutchinson(
    field: Field, z: tf.Tensor, condition: Condition, probe: tf.Tensor
) -> Divergence:
    """Computes a field and Hutchinson's estimate `e^T J e` of its trace.

    It is unbiased for probes `e` of mean 0 and unit covariance, one for each point, and
    costs one pullback. Results are as those of `exact`, norms estimated by `|e^T J|^2`.
    """
    velocity, row = pullback(field, z, condition, probe)
    return velocity, sum_event(row * probe), sum_event(tf.square(row))


class Probe(DescribedLayer):
    """Draws the probes of a solve.

    While Keras trains (`training=True`) each call draws new ones, so that no weight
    can adapt to them. Otherwise they follow from the seed and the shape alone: a
    density is a fixed function of its batch, and of `forward` and `inverse` alike.
    """

    def __init__(self, kind: str, seed: int, **kwargs: Any) -> None:
        super().__init__(autocast=False, **kwargs)
        self.kind = kind
        self.seed = seed
        self._generator = keras.random.SeedGenerator(seed)
        self.built = True

    def build_from_config(self, config: Config) -> None:
        """Does nothing: the layer has no weights but the state of its seed."""

    def call(self, z: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Returns one probe for each point, in the shape of `z`."""
        state = self._generator.next() if training else [self.seed, 0]
        seed = tf.cast(state, tf.int32)
        if self.kind == "gaussian":
            return tf.random.stateless_normal(tf.shape(z), seed, dtype=z.dtype)
        coins = tf.random.stateless_uniform(
            tf.shape(z), seed, minval=0, maxval=2, dtype=tf.int32
        )
        return tf.cast(2 * coins - 1, z.dtype)


def pullback(
    field: Field, z: tf.Tensor, condition: Condition, weights: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the field and `weights^T J`, row by row."""
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(z)
        velocity = field(z, condition)
    pulled = tape.gradient(
        velocity,
        z,
        output_gradients=weights,
        unconnected_gradients=tf.UnconnectedGradients.ZERO,
    )
    return velocity, pulled


class PathMonitor(DescribedLayer):
    """Adds the cost of a solve's paths to the loss, and counts its evaluations.

    While Keras trains, `kinetic` times the mean of `integral |f|^2 dt` and
    `jacobian` times the mean of `integral |df/dx|_F^2 dt` become a layer loss. The
    metric `nfe` is the mean number of evaluations of the velocity a solve.
    """

    def __init__(self, kinetic: float, jacobian: float, **kwargs: Any) -> None:
        super().__init__(autocast=False, **kwargs)
        self.kinetic = kinetic
        self.jacobian = jacobian
        self.nfe = keras.metrics.Mean(name="nfe")
        self.built = True

    def build_from_config(self, config: Config) -> None:
        """Does nothing: the layer has no weights."""

    def call(
        self, evaluations: tf.Tensor, energies: State, training: bool | None = None
    ) -> None:
        """Takes the number of evaluations and the integrals, `[n]` each, or none."""
        if training:
            weights = [weight for weight in (self.kinetic, self.jacobian) if weight]
            for weight, energy in zip(weights, energies, strict=True):
                self.add_loss(weight * tf.reduce_mean(energy))
        if training is not None:
            self.nfe.update_state(tf.cast(evaluations, tf.float32))


@keras.saving.register_keras_serializable(package="tfp_flows")
class ContinuousFlow(FlowBijector):
    """The map from time 0 to time 1 of `dz/dt = f(t, z)` (Neural ODE, FFJORD).

        forward:  y = x + integral_0^1 f(t, z(t)) dt,  z(0) = x
        inverse:  the same equation solved from time 1 back to time 0
        log-det:  integral_0^1 tr(df/dz) dt (forward), minus that (inverse)

    All three are as accurate as `solver` makes them. The trace is

    * `"exact"`: at the cost of `D` pullbacks, for events of `D` values;
    * `"rademacher"` or `"gaussian"`: Hutchinson's unbiased estimate by a random
      probe, one pullback for any `D`. Probes are fixed during a solve, drawn anew in
      each training step of Keras, and follow from `seed` and the shape of the batch
      everywhere else. So train by `fit`, or on `FlowModel(flow)(x, training=True)`:
      weights overfit fixed probes. `flow.bijector.copy(trace="exact")` then gives the
      exact likelihood.

    `kinetic` and `jacobian` are the weights of RNODE's regularizers, Keras layer losses
    that make paths straight, and so the equation cheap to solve. `fit` reports the
    evaluations a solve as the metric `nfe`.

    Shapes: events of `event_shape`; log-dets have the batch shape.

    Reference: Chen, Rubanova, Bettencourt, Duvenaud: Neural Ordinary Differential
    Equations, 2018, arXiv:1806.07366. Grathwohl et al.: FFJORD, 2018, arXiv:1810.01367.
    Finlay et al.: How to Train Your Neural ODE, 2020, arXiv:2002.02798 (RNODE).

    Example:
        >>> import tfp_flows as tfpf
        >>> b = tfpf.ContinuousFlow(tfpf.nets.VelocityNet((16,)), (2,))
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
        **kwargs: Any,
    ) -> None:
        """Connects the velocity network.

        Args:
            velocity: Network `f`, called as `velocity(z, t, condition)`: a
                `tfpf.nets.VelocityNet` or a `Conditioner` with such a `call`.
            solver: `FixedStep` (the default, RK4 with 10 steps) or `Adaptive`.
            seed: Integer from which the probes of an estimated trace follow.
        """
        words = "a network of the time too, such as `tfpf.nets.VelocityNet((64, 64))`"
        checked_instance("velocity", velocity, conditioners.Conditioner, words)
        self._solver = FixedStep() if solver is None else solver
        words = "`tfpf.FixedStep(...)` or `tfpf.Adaptive(...)`"
        checked_instance("solver", self._solver, Solver, words)
        self._trace = checked_choice("trace", trace, TRACES)
        self._kinetic = checked_number("kinetic", kinetic, minimum=0.0)
        self._jacobian = checked_number("jacobian", jacobian, minimum=0.0)
        self._event_shape = tuple(int(n) for n in event_shape)
        super().__init__(
            event_ndims=len(self._event_shape),
            condition_shape=condition_shape,
            **kwargs,
        )
        conditioners.connect(
            velocity, self._event_shape, self._event_shape, self._condition_shape
        )
        self._velocity = velocity
        if trace != "exact":
            self._probe = Probe(trace, seed)
        self._monitor = PathMonitor(self._kinetic, self._jacobian)

    @property
    def velocity(self) -> keras.Layer:
        """The network `f`."""
        return self._velocity

    def velocity_at(
        self, t: tf.Tensor, z: tf.Tensor, condition: Condition = None
    ) -> tf.Tensor:
        """Computes `f(t, z)`, as flow matching needs it.

        Shapes: times `[n]` or a scalar, points and velocities `[n, *event]`.
        """
        keywords = {} if condition is None else {"condition": condition}
        with compat.whole_moments():  # TFP's adjoint solver calls it later, too
            return tf.cast(self._velocity(z, t, **keywords), z.dtype)

    def _forward_and_log_det(self, x: tf.Tensor, condition: Condition = None) -> Mapped:
        return self._flow(x, condition, backwards=False)

    def _inverse_and_log_det(self, y: tf.Tensor, condition: Condition = None) -> Mapped:
        return self._flow(y, condition, backwards=True)

    def _flow(self, z: tf.Tensor, condition: Condition, backwards: bool) -> Mapped:
        self._check_shape(z, self._event_shape)
        if condition is not None:
            condition = tf.cast(condition, z.dtype)
            z, condition = broadcast_batch(
                z, len(self._event_shape), condition, len(self._condition_shape or ())
            )
            condition = tf.reshape(condition, [-1, *(self._condition_shape or ())])
        ndims, static = z.shape.rank - len(self._event_shape), z.shape
        batch = tf.shape(z)[:ndims]
        flat = tf.reshape(z, [-1, *self._event_shape])
        n = tf.shape(flat)[0]
        padded = isinstance(self._solver, Adaptive) and flat.shape[0] in (0, None)
        if padded:
            # Of no rows there is no error to choose a step by.
            none = tf.cast(tf.equal(n, 0), tf.int32)
            flat = tf.pad(flat, [[0, none]] + [[0, 0]] * len(self._event_shape))
            if condition is not None:
                axes = [[0, 0]] * len(self._condition_shape or ())
                condition = tf.pad(condition, [[0, none], *axes])
            flat.set_shape([None, *self._event_shape])
        z, log_det = self._solved(flat, condition, backwards)
        if padded:
            z, log_det = z[:n], log_det[:n]
        sizes = tf.concat([batch, self._event_shape], 0)
        return (reshaped(z, sizes, static), reshaped(log_det, batch, static[:ndims]))

    def _solved(self, z: tf.Tensor, condition: Condition, backwards: bool) -> Mapped:
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
            c = constants[len(weights)] if condition is not None else None
            with keras.StatelessScope(
                list(zip(weights, values, strict=True)), initialize_variables=False
            ):
                f, trace, norm = self._field(t, state[0], c, probe)
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

    def _field(
        self, t: tf.Tensor, z: tf.Tensor, condition: Condition, probe: tf.Tensor | None
    ) -> Divergence:
        def field(z: tf.Tensor, condition: Condition) -> tf.Tensor:
            return self.velocity_at(t, z, condition)

        if probe is None:
            return exact(field, z, condition)
        return hutchinson(field, z, condition, probe)

    def _energies(
        self, f: tf.Tensor, norm: tf.Tensor, start: bool = False
    ) -> tuple[tf.Tensor, ...]:
        """Returns what is integrated for the regularizers that are in use."""
        energies = []
        if self._kinetic:
            square = sum_event(tf.square(f))
            energies.append(tf.zeros_like(square) if start else square)
        if self._jacobian:
            energies.append(norm)
        return tuple(energies)
