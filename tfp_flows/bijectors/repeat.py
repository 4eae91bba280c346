"""`Repeat`: many equal steps with stacked weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorflow_probability import bijectors as tfb

from tfp_flows.bijectors import chain
from tfp_flows.bijectors.base import FlowBijector
from tfp_flows.bijectors.conditional import condition_shape
from tfp_flows.bijectors.reversible import Layer, looped, reversible
from tfp_flows.bijectors.tree import (
    bijectors_in,
    children,
    inner_dtype,
    layers_in,
    rebuilt,
    walk,
)
from tfp_flows.bijectors.watchers import WATCHERS
from tfp_flows.bijectors.weights import Starts, component
from tfp_flows.internal import compat
from tfp_flows.internal.arguments import (
    Condition,
    DType,
    Mapped,
    checked_choice,
    checked_instance,
    checked_integer,
    invalid,
)

MODES = ("auto", "unrolled", "loop", "reversible")
# Above this many layers the loop's steps are as fast as written-out ones, and the first
# one comes far sooner: `python -m benchmarks depth`.
_LOOP_ABOVE = 8


class StackedWeights(keras.Layer):
    """The weights of n layers, each weight stacked on a first axis."""

    def __init__(self, variables: list[list[keras.Variable]], **kwargs: Any) -> None:
        """Stacks the variables of each layer, which have equal shapes."""
        super().__init__(autocast=False, **kwargs)
        self.stacks = [
            self._stack(index, group)
            for index, group in enumerate(zip(*variables, strict=True))
        ]
        self.built = True

    def _stack(self, index: int, group: tuple[keras.Variable, ...]) -> keras.Variable:
        first = group[0]
        if first.constraint is not None:
            must = "have no weight constraints, which do not know of stacked weights"
            got = f"a constraint on '{first.path}'"
            raise invalid("step", must, got=got)
        start = np.stack([keras.ops.convert_to_numpy(variable) for variable in group])
        stack = self.add_weight(
            start.shape,
            "zeros",
            name=f"{first.name}_{index}",
            dtype=keras.backend.standardize_dtype(start.dtype),
            trainable=first.trainable,
            regularizer=first.regularizer,
            autocast=False,
        )
        stack.assign(start)
        return stack


@keras.saving.register_keras_serializable(package="tfp_flows")
class Repeat(FlowBijector):
    """A step repeated n times, each layer with weights of its own.

    With `f_k` the step under the k-th slice of the stacked weights,

        forward:  y = f_0(f_1(... f_{n-1}(x)))      (layer 0 is nearest to the data)
        inverse:  x = f_{n-1}^-1(... f_0^-1(y))
        log-det:  the sum of the layers' log-dets

    The step, any bijector or chain with Keras weights, is a template: each layer runs
    it inside `keras.StatelessScope` with its slice of the stacked weights, and has its
    own initial draw. Optimizers update a few large weights, not n times as many small
    ones.

    `mode` says how the layers run: `"unrolled"` writes them all into the graph,
    `"loop"` runs them in a `tf.while_loop`, so that the graph and the time to the
    first step do not grow with n; `"reversible"` is the loop with reversible
    back-propagation: nothing is stored but the output, and each layer's input is
    recomputed by its inverse, so that memory does not grow with n (see
    `reversible.reversible`); `"auto"` takes the loop for more than 8 layers, unless the
    step keeps state, as dropout does.

    Shapes: those of the step, batch axes of its parameters included.
    """

    _TF_MODULE_IGNORED_PROPERTIES = compat.ignored_properties(
        FlowBijector, "_step", "_template"
    )

    def __init__(
        self,
        step: tfb.Bijector,
        n: int,
        *,
        mode: str = "auto",
        validate_args: bool = False,
        name: str | None = None,
    ) -> None:
        """Stacks n draws of the step's weights.

        Args:
            step: The template. It belongs to this bijector from now on, keeps the rank
                of events, and holds no raw `tf.Variable`.
        """
        kind = "a bijector, such as a `tfb.Chain` of couplings"
        checked_instance("step", step, tfb.Bijector, kind)
        ranks = step.forward_min_event_ndims, step.inverse_min_event_ndims
        if tf.nest.is_nested(ranks[0]) or ranks[0] != ranks[1]:
            must = "return events of the rank that it takes"
            got = f"a step from rank {ranks[0]} to rank {ranks[1]}"
            raise invalid("step", must, got=got)
        self._n = checked_integer("n", n)
        self._mode = checked_choice("mode", mode, MODES)
        super().__init__(
            event_ndims=int(ranks[0]),
            condition_shape=condition_shape(step),
            dtype=inner_dtype(step),
            is_constant_jacobian=bool(step.is_constant_jacobian),
            validate_args=validate_args,
            name=name,
        )
        self._step = compat.untracked(self, compat.Holder(step))
        self._template = compat.untracked(self, _variables(step))
        _refuse_raw_variables(step)
        draws = [step, *(rebuilt(step) for _ in range(n - 1))]
        self._stacked = StackedWeights([*map(_variables, draws)], name="stacked")
        for variable, stack in zip(self._template, self._stacked.stacks, strict=True):
            compat.follow_trainable(variable, stack)

    @classmethod
    def _parameter_properties(
        cls, dtype: DType, num_classes: int | None = None
    ) -> dict[str, Any]:
        return {"step": component()}

    def _broadcast_parameters_with_batch_shape(
        self, batch_shape: tf.Tensor, x_event_ndims: int
    ) -> Repeat:
        """Returns itself, which is what TFP slices a bijector without a batch to.

        Any other step would have fresh weights.
        """
        if self.experimental_batch_shape(x_event_ndims).rank != 0:
            raise NotImplementedError(
                "A batch of Repeat has no slices: slice the parameters of its step "
                f"before it is made. Received: a slice of '{self.name}'"
            )
        return self

    @classmethod
    def of(cls, steps: Sequence[tfb.Bijector], **kwargs: Any) -> Repeat:
        """Stacks steps of one structure, each with its own weights.

        The steps come from the data's side; `kwargs` are the constructor's.
        """
        repeat = cls(steps[0], len(steps), **kwargs)
        groups = zip(*map(_variables, steps), strict=True)
        for stack, group in zip(repeat._stacked.stacks, groups, strict=True):
            stack.assign(np.stack([keras.ops.convert_to_numpy(v) for v in group]))
        return repeat

    @property
    def step(self) -> tfb.Bijector:
        """The template, whose own weights are placeholders for those of the layers."""
        return self._step.value

    def steps(self) -> list[tfb.Bijector]:
        """Returns the layers as separate bijectors, data side first.

        Their weights are copies: training one does not change the `Repeat`.
        """
        steps = [rebuilt(self.step) for _ in range(self._n)]
        for k, step in enumerate(steps):
            stacks = self._stacked.stacks
            for variable, stack in zip(_variables(step), stacks, strict=True):
                variable.assign(stack[k])
        return steps

    @property
    def n(self) -> int:
        """Number of layers."""
        return self._n

    @property
    def set_from_data(self) -> list[tuple[keras.Variable, Starts]]:
        """The stacked flags and weights of the step."""
        stacks = dict(zip(map(id, self._template), self._stacked.stacks, strict=True))
        steps = (one for one in walk(self.step) if isinstance(one, FlowBijector))
        return [
            (
                stacks[id(flag)],
                [(stacks[id(weight)], start) for weight, start in starts],
            )
            for one in steps
            for flag, starts in one.set_from_data
        ]

    def _forward_and_log_det(self, x: tf.Tensor, condition: Condition = None) -> Mapped:
        directions = chain.forward_and_log_det, chain.inverse_and_log_det
        return self._run(x, condition, *directions, range(self._n)[::-1])

    def _inverse_and_log_det(self, y: tf.Tensor, condition: Condition = None) -> Mapped:
        directions = chain.inverse_and_log_det, chain.forward_and_log_det
        return self._run(y, condition, *directions, range(self._n))

    def adapt(self, y: tf.Tensor, condition: Condition = None) -> tf.Tensor:
        """Adapts the layers in turn, each to the latents of the one before."""

        def adapted(*arguments: object) -> Mapped:
            return chain.adapt(*arguments), tf.zeros([])

        y = tf.convert_to_tensor(y, dtype_hint=self.dtype)
        return self._unrolled(adapted, y, condition, range(self._n))[0]

    def _run(
        self,
        x: tf.Tensor,
        condition: Condition,
        direction: Callable,
        back: Callable,
        order: range,
    ) -> Mapped:
        if condition is not None:
            condition = tf.convert_to_tensor(condition)
        mode = self._resolved_mode()
        # The layers' log-dets are added up, and a loop's shapes are fixed.
        x = self._over_batch(x, self.forward_min_event_ndims, condition)
        if mode == "unrolled":
            return self._unrolled(direction, x, condition, order)
        stacks = [tf.convert_to_tensor(stack) for stack in self._stacked.stacks]
        layer, zero = self._stateless(direction), self._zero_log_det(x)
        if mode == "loop":
            return looped(layer, x, stacks, order, condition, zero)
        inverse = self._stateless(back)
        return reversible(layer, inverse, x, stacks, order, condition, zero)

    def _resolved_mode(self) -> str:
        if WATCHERS:  # a loop could only be watched once, while it is traced
            return "unrolled"
        if self._mode != "auto":
            return self._mode
        stateful = any("seed" in v.path for v in self._template)
        return "loop" if self._n > _LOOP_ABOVE and not stateful else "unrolled"

    def _in_scope(
        self,
        direction: Callable,
        x: tf.Tensor,
        slices: list[tf.Tensor],
        condition: Condition,
    ) -> tuple[tf.Tensor, tf.Tensor, keras.StatelessScope]:
        """Runs the template with the weights of one layer."""
        scope = keras.StatelessScope(collect_losses=True, initialize_variables=False)
        # Not through the constructor: under a mixed precision policy it would round
        # the slices to 16 bits, and `_keep_state` would store them so.
        for variable, value in zip(self._template, slices, strict=True):
            scope.add_update((variable, value))
        with scope:
            event_ndims = self.forward_min_event_ndims
            value, log_det = direction(self.step, x, event_ndims, condition)
        return value, log_det, scope

    def _unrolled(
        self, direction: Callable, x: tf.Tensor, condition: Condition, order: range
    ) -> Mapped:
        slices = [tf.unstack(tf.convert_to_tensor(s)) for s in self._stacked.stacks]
        log_dets, updated = [], [list(each) for each in slices]
        for k in order:
            mine = [each[k] for each in slices]
            with chain.in_layer(k):
                x, log_det, scope = self._in_scope(direction, x, mine, condition)
            log_dets.append(log_det)
            for new, variable in zip(updated, self._template, strict=True):
                new[k] = scope.get_current_value(variable)
            for loss in scope.losses:
                self._stacked.add_loss(loss)
        self._keep_state(slices, updated)
        return x, tf.add_n(log_dets) if len(log_dets) > 1 else log_dets[0]

    def _keep_state(self, old: list[list], new: list[list]) -> None:
        """Writes back what a step has updated, such as the state of its dropout."""
        for stack, before, after in zip(self._stacked.stacks, old, new, strict=True):
            if any(b is not a for b, a in zip(before, after, strict=True)):
                stack.assign(tf.stack(after))

    def _stateless(self, direction: Callable) -> Layer:
        """Returns a function of value, weights and condition, and of nothing else."""

        def layer(
            x: tf.Tensor, slices: list[tf.Tensor], condition: Condition
        ) -> Mapped:
            value, log_det, scope = self._in_scope(direction, x, slices, condition)
            for variable, old in zip(self._template, slices, strict=True):
                if scope.get_current_value(variable) is not old:
                    must = f"be 'unrolled' for a step that updates '{variable.path}'"
                    raise invalid("mode", must, self._mode)
            if scope.losses:
                must = "be 'unrolled' for a step that adds losses"
                raise invalid("mode", must, self._mode)
            return value, log_det

        return layer

    def _zero_log_det(self, x: tf.Tensor) -> tf.Tensor:
        inside = bijectors_in(self.step, templates=True)
        leaves = (b for b in inside if not children(b, templates=True))
        ours = all(isinstance(leaf, FlowBijector) for leaf in leaves)
        if self.is_constant_jacobian and ours:  # TFP's constants may have batch axes
            return tf.zeros([], x.dtype)
        batch_ndims = x.shape.rank - self.forward_min_event_ndims
        zeros = tf.zeros(tf.shape(x)[:batch_ndims], x.dtype)
        zeros.set_shape(x.shape[:batch_ndims])
        return zeros


def _variables(step: tfb.Bijector) -> list[keras.Variable]:
    """Returns the Keras variables of a step, each once, in order."""
    layers = layers_in(step)
    return list({id(v): v for layer in layers for v in layer.variables}.values())


def _refuse_raw_variables(step: tfb.Bijector) -> None:
    known = {id(variable) for variable in compat.tf_variables(layers_in(step))}
    for variable in step.variables:
        if id(variable) not in known:
            raise ValueError(
                "Argument `step` must hold its weights in Keras layers, so that each "
                "repetition can have its own; use `tfpf.ActNorm` or another of our "
                "bijectors in place of it. Received: the raw variable "
                f"'{variable.name}' of shape {variable.shape}"
            )
