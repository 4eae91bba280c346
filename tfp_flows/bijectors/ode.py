"""Solvers of ordinary differential equations over the unit of time.

All of them solve `dy/ds = f(s, y, constants)` from `s = 0` to `s = 1`, where the
state `y` is a tuple of tensors, and `constants` lists the tensors other than the
state by which a gradient is wanted, such as the weights of a network.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows.internal import compat
from tfp_flows.internal.arguments import (
    Described,
    checked_choice,
    checked_integer,
    checked_number,
)

State = tuple[tf.Tensor, ...]
Derivative = Callable[[tf.Tensor, State, list[tf.Tensor]], State]

# Butcher tableaus: for each stage the weights of the earlier stages, whose sum is
# the stage's time, and the weights of the stages in the step.
_TABLEAUS = {
    "euler": (((),), (1.0,)),
    "midpoint": (((), (0.5,)), (0.0, 1.0)),
    "rk4": (((), (0.5,), (0.0, 0.5), (0.0, 0.0, 1.0)), (1 / 6, 1 / 3, 1 / 3, 1 / 6)),
}


class Solver(Described, ABC):
    """What solves the equation of a `ContinuousFlow`."""

    @abstractmethod
    def solve(
        self, derivative: Derivative, state: State, constants: list[tf.Tensor]
    ) -> tuple[State, tf.Tensor]:
        """Returns the state at `s = 1` and the number of evaluations of `f`."""


@keras.saving.register_keras_serializable(package="tfp_flows")
class FixedStep(Solver):
    """Steps of equal size, by a Runge-Kutta method.

    XLA compiles it, and every exported graph carries it. The error falls with the
    power of the step that is the method's order: Euler 1, midpoint 2, RK4 4.

    Gradients are those of the computed steps (`"direct"`: exact, memory grows with
    `steps`), or solve the adjoint equation backwards in time (`"adjoint"`: constant
    memory, twice the time, the solver's error; Chen et al., 2018, arXiv:1806.07366).
    """

    def __init__(
        self, method: str = "rk4", steps: int = 10, gradient: str = "direct"
    ) -> None:
        """Chooses `"euler"`, `"midpoint"` or `"rk4"`: 1, 2 or 4 evaluations a step."""
        self.method = checked_choice("method", method, _TABLEAUS)
        self.steps = checked_integer("steps", steps)
        self.gradient = checked_choice("gradient", gradient, ("direct", "adjoint"))

    def solve(
        self, derivative: Derivative, state: State, constants: list[tf.Tensor]
    ) -> tuple[State, tf.Tensor]:
        """Takes the steps."""
        evaluations = tf.constant(self.steps * len(_TABLEAUS[self.method][1]))
        if self.gradient == "direct":
            return self._steps(derivative, state, constants), evaluations
        return self._with_adjoint(derivative, state, constants), evaluations

    def _steps(
        self, derivative: Derivative, state: State, constants: list[tf.Tensor]
    ) -> State:
        stages, weights = _TABLEAUS[self.method]
        h = 1.0 / self.steps
        dtype = state[0].dtype

        def one_step(k: tf.Tensor, *y: tf.Tensor) -> tuple:
            start = tf.cast(k, dtype) * h
            slopes: list[State] = []
            for row in stages:
                at = _stepped(y, slopes, row, h)
                slopes.append(derivative(start + sum(row) * h, at, constants))
            return (k + 1, *_stepped(y, slopes, weights, h))

        _, *end = tf.while_loop(
            lambda k, *_: k < self.steps,
            one_step,
            (tf.constant(0), *state),
            maximum_iterations=self.steps,
            parallel_iterations=1,
        )
        return tuple(end)

    def _with_adjoint(
        self, derivative: Derivative, state: State, constants: list[tf.Tensor]
    ) -> State:
        n = len(state)

        @tf.custom_gradient
        def solved(*inputs: tf.Tensor) -> tuple:
            constants = list(inputs[n:])
            end = self._steps(derivative, inputs[:n], constants)

            def gradient(*upstream: tf.Tensor) -> list[tf.Tensor]:
                zeros = [tf.zeros_like(c) for c in constants]
                back = self._steps(
                    _adjoint(derivative, n), (*end, *upstream, *zeros), constants
                )
                return list(back[n:])

            return end, gradient

        return tuple(solved(*state, *constants))


@keras.saving.register_keras_serializable(package="tfp_flows")
class Adaptive(Solver):
    """TFP's solvers, which choose their steps to meet a tolerance.

    Gradients come from TFP's adjoint solve, in constant memory. The batch is one
    state, so the step suits its most demanding row. XLA cannot compile the
    gradient: train without `jit_compile`.

    Rows that are not finite, or whose conditions are not, are not solved: theirs is
    NaN. After `max_steps` steps, or
    where the derivative stops being finite, `tf.errors.InvalidArgumentError`, or in
    `fit` `FloatingPointError`, names the row that moves fastest.
    """

    def __init__(
        self,
        method: str = "dormand_prince",
        rtol: float = 1e-5,
        atol: float = 1e-5,
        max_steps: int = 1000,
    ) -> None:
        """Chooses a method and its tolerances.

        Args:
            method: `"dormand_prince"`, or `"bdf"` for stiff equations; the latter
                forms the Jacobian over the whole batch, so keep that small.
            max_steps: Largest number of steps of a solve, rejected ones included.
        """
        self.method = checked_choice("method", method, ("dormand_prince", "bdf"))
        self.rtol = checked_number("rtol", rtol, above=0.0)
        self.atol = checked_number("atol", atol, above=0.0)
        self.max_steps = checked_integer("max_steps", max_steps)

    def solve(
        self, derivative: Derivative, state: State, constants: list[tf.Tensor]
    ) -> tuple[State, tf.Tensor]:
        """Calls TFP's solver."""
        dtype = state[0].dtype
        limits = {"rtol": self.rtol, "atol": self.atol, "max_num_steps": self.max_steps}
        bdf = self.method == "bdf"
        solver = (
            tfp.math.ode.BDF(**limits)
            if bdf
            else compat.LimitedDormandPrince(self._stuck, **limits)
        )
        zero = tf.zeros([], dtype)
        # Conditions that are not finite show in the first derivative.
        start = (*state, *derivative(zero, state, constants))
        rows = tf.math.is_finite(tf.add_n([sum_event(part) for part in start]))
        state = tuple(_where(rows, part, 0.0) for part in state)

        def ode_fn(s: tf.Tensor, y: State, **constants: tf.Tensor) -> State:
            slopes = derivative(s, y, [constants[k] for k in sorted(constants)])
            return tuple(_where(rows, slope, 0.0) for slope in slopes)

        results = solver.solve(
            ode_fn,
            initial_time=zero,
            initial_state=state,
            solution_times=tf.ones([1], dtype),
            constants={f"c{i:05d}": c for i, c in enumerate(constants)},
        )
        end = tuple(part[0] for part in results.states)
        if bdf:
            start = derivative(tf.zeros([], dtype), state, constants)[0]
            solved = tf.greater_equal(results.diagnostics.status, 0)
            said = tf.debugging.Assert(solved, [self._stuck(state[0], start)])
            with tf.control_dependencies([said] if said is not None else []):
                end = tuple(map(tf.identity, end))
        end = tuple(_where(rows, part, float("nan")) for part in end)
        for part, before in zip(end, state, strict=True):
            part.set_shape(before.shape)
        return end, results.diagnostics.num_ode_fn_evaluations

    def _stuck(self, y: tf.Tensor, f: tf.Tensor) -> tf.Tensor:
        """Says that the solver cannot go on, and for which row."""
        speed = sum_event(tf.square(f))
        speed = tf.where(tf.math.is_nan(speed), tf.constant(np.inf, f.dtype), speed)
        return tf.strings.format(
            f"{UNSOLVED} within {self.max_steps} steps; row {{}} of the batch moves "
            "fastest. Raise `max_steps` or the tolerances, or take "
            "`tfpf.FixedStep()`.",
            tf.argmax(speed),
        )


UNSOLVED = "Solver `Adaptive` must reach the end"


def _where(rows: tf.Tensor, part: tf.Tensor, other: float) -> tf.Tensor:
    """Keeps some rows of a tensor `[n, ...]` and fills the others."""
    rows = tf.reshape(rows, [-1] + [1] * (part.shape.rank - 1))
    return tf.where(rows, part, tf.constant(other, part.dtype))


def sum_event(x: tf.Tensor) -> tf.Tensor:
    """Sums `[n, *event]` over the event."""
    return tf.reduce_sum(x, axis=list(range(1, x.shape.rank)))


def _adjoint(derivative: Derivative, n: int) -> Derivative:
    """Returns the derivative of `(y, dL/dy, dL/dconstants)`, back in time.

    With `a = dL/dy(s)`, `da/ds = -a df/dy`, and the gradient by a constant `c`
    collects `a df/dc` on the way from 1 to 0.
    """

    def augmented(s: tf.Tensor, joint: State, constants: list[tf.Tensor]) -> State:
        y, a = joint[:n], joint[n : 2 * n]
        with tf.GradientTape() as tape:
            tape.watch([*y, *constants])
            slopes = derivative(1.0 - s, y, constants)
        gradients: Any = tape.gradient(
            slopes,
            [*y, *constants],
            output_gradients=list(a),
            unconnected_gradients=tf.UnconnectedGradients.ZERO,
        )
        return (*[-slope for slope in slopes], *gradients)

    return augmented


def _stepped(y: State, slopes: list[State], weights: tuple, h: float) -> State:
    """Returns `y + h sum_i weights_i slopes_i`."""
    for weight, slope in zip(weights, slopes, strict=True):
        if weight:
            step = weight * h
            y = tuple(part + step * v for part, v in zip(y, slope, strict=True))
    return y
