"""Every touch of a private name of Keras, TensorFlow or TFP, one short piece each.

An upgrade of one of them that breaks something breaks it here.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import operator
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
from tensorflow.core.framework import node_def_pb2, tensor_pb2  # noqa: F401
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2  # noqa: F401
from tensorflow.python.eager import forwardprop_util, record, tape
from tensorflow.python.ops import control_flow_util_v2
from tensorflow.python.ops.resource_variable_ops import BaseResourceVariable
from tensorflow_probability.python.bijectors import (
    blockwise,
    chain,
    composition,
    invert,
    joint_map,
)
from tensorflow_probability.python.distributions import (
    joint_distribution,
)
from tensorflow_probability.python.internal import cache_util, nest_util

from tfp_flows.internal.arguments import Config

# TFP makes `tfb.Chain(...)`, `tfd.Sample(...)` and the like of these classes wherever a
# part is no composite tensor, as ours are not.
Chain = chain._Chain
Invert = invert._Invert
Blockwise = blockwise._Blockwise
JointMap = joint_map._JointMap
Composition = composition.Composition
# TFP loads `tfp.distributions` when it is first asked: `vars` of it may be empty, `dir`
# is not.
_CONTAINERS = {
    name: cls.__mro__[1]
    for name in dir(tfp.distributions)
    if isinstance(cls := getattr(tfp.distributions, name), type)
    and cls.__mro__[1].__name__ == f"_{name}"
}
TransformedDistribution = _CONTAINERS["TransformedDistribution"]
BlockwiseDistribution = _CONTAINERS["Blockwise"]
QuantizedDistribution = _CONTAINERS["QuantizedDistribution"]
Mixture, MixtureSameFamily = _CONTAINERS["Mixture"], _CONTAINERS["MixtureSameFamily"]
# Whose density is made of the densities of their parts.
_TRANSPARENT = "BatchBroadcast BatchConcat BatchReshape Blockwise Independent Masked "
_TRANSPARENT += "Mixture MixtureSameFamily Sample TransformedDistribution"
TRANSPARENT = tuple(_CONTAINERS[name] for name in _TRANSPARENT.split())
Object = TypeVar("Object")


# Names that architectures give by default. TFP, which names the parts of a joint
# distribution after what each was named, takes them for names that a user gave.
OWN_NAMES = frozenset(
    "autoregressive_flow bernstein_flow bnaf causal_flow character_embeddings "
    "coupling_flow dequantization_noise ffjord gaussianization_flow glow jet maf naf "
    "nice real_nvp residual_flow sos_flow sphere_flow spline_flow sylvester_flow "
    "tarflow torus_flow unaf waveglow".split()
)
_explicit_name = joint_distribution.get_explicit_name_for_component


def _name_of_part(distribution: tfp.distributions.Distribution) -> str | None:
    name = _explicit_name(distribution)
    return None if name in OWN_NAMES else name


joint_distribution.get_explicit_name_for_component = _name_of_part


def in_blocks(distribution: Any, x: tf.Tensor) -> tuple[Any, Any]:
    """Returns the joint distribution of a `tfd.Blockwise` and its values of `x`."""
    return joint_of_blocks(distribution), distribution._split_and_reshape_event(x)


def joint_of_blocks(distribution: Any) -> Any:
    """Returns the joint distribution of a `tfd.Blockwise`."""
    return distribution._distribution


_children = joint_distribution.JointDistribution._trackable_children


def _parts_as_children(
    joint: Any, save_type: str = "checkpoint", **kwargs: Any
) -> dict[str, Any]:
    """Shows TensorFlow a joint distribution's parts, those of functions among them.

    TFP notes them in a dictionary with numbers for keys, which cannot be saved.
    """
    found = dict(_children(joint, save_type, **kwargs))
    found.pop("_single_sample_distributions", None)
    if save_type == "checkpoint":
        parts = joint._get_single_sample_distributions()
        found |= {f"part_{i}": part for i, part in enumerate(parts)}
    return found


joint_distribution.JointDistribution._trackable_children = _parts_as_children


def _place() -> tuple[int, int, int]:
    """Names the graph under construction, the thread and the `StatelessScope`.

    0 stands for eager execution, and for no scope.
    """
    graph = 0 if tf.executing_eagerly() else id(tf.compat.v1.get_default_graph())
    scope = _scope()
    # The address of a scope that is gone may be that of the next one.
    number = 0 if scope is None else vars(scope).setdefault("_number", next(_numbers))
    return graph, threading.get_ident(), number


_numbers = itertools.count(1)


class FreshCache(cache_util.BijectorCache):
    """TFP's cache of (input, output, log-det), which never returns what is outdated.

    TFP returns a held output of a held input whatever happened in between. Here

    * an entry belongs to the graph in which it was made, since TFP hands a tensor of
      a scratch graph, or an eager one of old weights, to the graph of a function, and
      to the thread and the `keras.StatelessScope`;
    * an entry holds for the weights, and for the conditions, that it was made with: a
      variable or an array that is written to is another one;
    * an output counts under a tape only if gradients reach what it was made of. What a
      sample was made of counts unless the sample is watched itself, by a tape that does
      not record how it was made: one that does gives the derivatives of weights, and of
      the sample alone neither TFP nor this;
    * a log-det whose output was garbage-collected is forgotten with it.

    Nothing is added to a graph but, under a tape, identities that nothing computes.
    """

    def _lookup(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, input: tf.Tensor, forward_name: str, inverse_name: str, **kwargs: Any
    ) -> Any:
        kwargs["_place"] = _place()
        edge = self._fresh_edge(input, forward_name, kwargs)
        missing = not edge.output_ref
        output = super()._lookup(input, forward_name, inverse_name, **kwargs)
        if missing:
            tensors, states = _parts_now(self.bijector, kwargs)
            # Without a record now, a value depends on no weight; later, it is too old.
            known = _recorded(output, (input, kwargs, tensors), states)
            follower = _follower(output)
            made = forward_name, tensors, states, known, follower
            edge.attributes[_MADE_BY] = made
        return output

    def _attributes(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, input: tf.Tensor, fn_name: str, **kwargs: Any
    ) -> Any:
        kwargs["_place"] = _place()
        return self._fresh_edge(input, fn_name, kwargs).attributes

    def _fresh_edge(self, input: tf.Tensor, fn_name: str, kwargs: Config) -> Any:
        """Returns the entry of an input, emptied where it is outdated."""
        edge = self._get_or_create_edge(input, fn_name, kwargs)
        if edge.output_ref:
            output = edge.output_ref()
            made_by, tensors, states, known, follower = edge.attributes[_MADE_BY]
            # `inverse` of a sample returns the noise, which no tape needs to know.
            made, source = (output, input) if made_by == fn_name else (input, output)
            known = not known or _recorded(made, (source, kwargs, tensors), states)
            # It leads nowhere from a sample that is watched itself.
            known = known and (made_by == fn_name or _followed(follower, input))
            if known and _unchanged(states):
                return edge
            for ref in (edge.output_ref, edge.input_ref):
                stale = self.storage.pop(ref, None)
                if stale is not None:
                    stale.input_ref.cancel()
            edge = self._get_or_create_edge(input, fn_name, kwargs)
        edge.attributes.clear()
        return edge

    def _invoke(
        self, input: tf.Tensor, fn_name: str, kwargs: Config, attributes: dict
    ) -> tf.Tensor:
        kwargs = {k: v for k, v in kwargs.items() if k != "_place"}
        return super()._invoke(input, fn_name, kwargs, attributes)


class PairedCache(FreshCache, cache_util.BijectorCacheWithGreedyAttrs):
    """Stores value and log-det in one call, since TFP asks for them in two."""


_MADE_BY = "_made_by"
# What TFP's own bijectors and containers remember of ours must not lie either.
tfp.bijectors.Bijector._cache = FreshCache()


def _parts_now(bijector: tfp.bijectors.Bijector, kwargs: Config) -> tuple[list, list]:
    """Returns a bijector's tensors, and all that can change under a value, with states.

    Networks of Keras's are looked for in TFP's own bijectors, too.
    """
    given = [getattr(v, "_value", v) for v in tf.nest.flatten(kwargs)]
    given = [v for v in given if isinstance(v, (tf.Variable, np.ndarray))]
    held = nested(bijector, (tf.Tensor, keras.Layer))
    layers = tf_variables(v for v in held if isinstance(v, keras.Layer))
    scope = _scope()
    parts = [*bijector.variables, *layers, *given, *([] if scope is None else [scope])]
    parts = list({id(part): part for part in parts}.values())
    states = list(zip(parts, _states(parts), strict=True))
    return [v for v in held if isinstance(v, tf.Tensor)], states


def _states(parts: list[Any]) -> list[Any]:
    """Returns the values of variables, arrays and scopes.

    A value shares its memory with the variable, and outlives `assign`. In a graph it is
    how often a variable may have been written to.
    """
    eager = tf.executing_eagerly()
    inside = {} if eager else dict(_captured_here())
    found: list[Any] = []
    with record.stop_recording():
        for part in parts:
            if isinstance(part, np.ndarray):
                found.append(part.copy())
            elif isinstance(part, keras.StatelessScope):
                found.append(list(part.state_mapping.values()))
            else:
                found.append(part.read_value() if eager else _writes(part, inside))
    return found


def _captured_here() -> Iterator[tuple[int, tf.Tensor]]:
    for outside, inside in getattr(tf.compat.v1.get_default_graph(), "captures", ()):
        yield id(outside), inside


def _here(variable: Any) -> Any:
    """Returns the variable, or that of this replica, or of the first, of a mirrored."""
    mirrored = isinstance(variable, tf.distribute.DistributedValues)
    return variable._get_on_device_or_primary() if mirrored else variable


def _writes(variable: tf.Variable, inside: dict[int, tf.Tensor]) -> int:
    """Counts what may have written to a variable in the graph under construction."""
    own = _here(variable).handle
    handle: Any = inside.get(id(own), own)
    if isinstance(handle, tf.__internal__.EagerTensor):
        return 0  # nothing in this graph knows of it
    return sum(user.type not in _READERS for user in handle.consumers())


_READERS = "ReadVariableOp", "ResourceGather", "ResourceGatherNd", "VariableShape"


def _unchanged(states: list[tuple[Any, Any]]) -> bool:
    """Returns whether all that can change is as it was when an entry was made."""
    now = _states([part for part, _ in states])
    return all(_same(then, it) for (_, then), it in zip(states, now, strict=True))


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, list):
        return len(one) == len(other) and all(map(operator.is_, one, other))
    if isinstance(one, int):
        return one == other
    first, second = np.asarray(one), np.asarray(other)
    places = [a.__array_interface__["data"] for a in (first, second)]
    return places[0] == places[1] or first.tobytes() == second.tobytes()


def _recorded(output: Any, inputs: Any, states: list[tuple[Any, Any]]) -> bool:
    """Returns whether the active tapes know how an output was computed."""
    if not record.could_possibly_record():
        return True
    inside = {} if tf.executing_eagerly() else dict(_captured_here())
    handles = []
    for part in [_here(part) for part, _ in states]:
        if isinstance(part, BaseResourceVariable):
            if part.trainable:
                tape.variable_accessed(part)
            handles += [part.handle, inside.get(id(part.handle), part.handle)]
    return _followed(output, (inputs, handles))


def _follower(output: Any) -> list[tf.Tensor]:
    """Returns what the tapes that record the making of an output know, and no other."""
    tensors = tf.nest.flatten(output)
    return list(map(tf.identity, tensors)) if record.could_possibly_record() else []


class _Recording(threading.local):
    """The tapes and forward accumulators of a thread that record now."""

    def __init__(self) -> None:
        self.tapes: list[tape.Tape] = []
        self.accumulators: list[tf.autodiff.ForwardAccumulator] = []


_recording = _Recording()
_new_tape, _push_tape, _pop_tape = tape.push_new_tape, tape.push_tape, tape.pop_tape
_push_accumulator = tf.autodiff.ForwardAccumulator._push_accumulator
_pop_accumulator = tf.autodiff.ForwardAccumulator._pop_accumulator


def _noted_new_tape(*args: Any, **kwargs: Any) -> tape.Tape:
    made = _new_tape(*args, **kwargs)
    _recording.tapes.append(made)
    return made


def _noted_push(which: tape.Tape) -> None:
    _push_tape(which)
    _recording.tapes.append(which)


def _noted_pop(which: tape.Tape) -> None:
    _pop_tape(which)
    with contextlib.suppress(ValueError):  # one from before this module was imported
        _recording.tapes.remove(which)


def _noted_push_accumulator(self: tf.autodiff.ForwardAccumulator) -> None:
    _push_accumulator(self)
    _recording.accumulators.append(self)


def _noted_pop_accumulator(self: tf.autodiff.ForwardAccumulator) -> None:
    _pop_accumulator(self)
    with contextlib.suppress(ValueError):
        _recording.accumulators.remove(self)


# TensorFlow only says how many derivatives all tapes together may ask for, and counts
# a persistent tape like two: which of them know a tensor is asked one by one.
tape.push_new_tape, tape.push_tape = _noted_new_tape, _noted_push
tape.pop_tape = _noted_pop
tf.autodiff.ForwardAccumulator._push_accumulator = _noted_push_accumulator
tf.autodiff.ForwardAccumulator._pop_accumulator = _noted_pop_accumulator


def _followed(outputs: Any, sources: Any) -> bool:
    """Returns whether each tape or accumulator that knows a source knows an output."""
    after, before = (
        [v for v in tf.nest.flatten(part) if isinstance(v, tf.Tensor)]
        for part in (outputs, sources)
    )
    known = all(
        _knows(one, after) or not _knows(one, before) for one in _recording.accumulators
    )
    tapes, follows = list(_recording.tapes), record.should_record_backprop
    try:
        for one in tapes:
            _pop_tape(one)
        for one in tapes:
            _push_tape(one)
            known = known and (follows(after) or not follows(before))
            _pop_tape(one)
    finally:
        for one in tapes:
            _push_tape(one)
    return known


def _knows(one: tf.autodiff.ForwardAccumulator, tensors: list[tf.Tensor]) -> bool:
    return any(one.jvp(tensor) is not None for tensor in tensors)


# TensorFlow's tracking of variables, Keras's layers, TFP's tree.


def tf_variable(variable: keras.Variable) -> tf.Variable:
    """Returns the `tf.Variable` in which a Keras variable keeps its value."""
    return variable._value


def tf_variables(layers: Iterable[keras.Layer]) -> list[tf.Variable]:
    """Returns the `tf.Variable`s of some layers, each once, in order."""
    found = {id(v): tf_variable(v) for layer in layers for v in layer.variables}
    return list(found.values())


_probe = keras.Layer(name="probe")  # Keras shows the call around to layers alone


def trained_without(layers: Iterable[keras.Layer]) -> keras.Model | None:
    """Returns the model that Keras now trains by the caller, but not these layers.

    Keras's own step of `fit` changes what the model holds, and nothing else.
    """
    if not record.could_possibly_record() or _scope() is not None:
        return None
    context = _probe._get_call_context()
    model = context.entry_layer
    if model is _probe:  # there is no call around
        _probe._maybe_reset_call_context()
    step = getattr(type(model), "train_step", None)
    if step is not keras.Model.train_step or model.train_function is None:
        return None
    if not hasattr(context, "_held"):
        context._held = {id(variable) for variable in tf_variables([model])}
    weights = tf_variables(layers)
    lost = any(v.trainable and id(v) not in context._held for v in weights)
    return model if lost else None


class _Following(keras.Variable):
    """A Keras variable whose `trainable` is also that of its `tf.Variable`."""

    @property
    def trainable(self) -> bool:
        return self._trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        self._trainable = bool(value)
        self._value._trainable = bool(value)
        for follower in getattr(self, "_followers", ()):
            follower.trainable = value


def follow_trainable(variable: keras.Variable, *followers: keras.Variable) -> None:
    """Makes TFP's lists, and other variables, follow a Keras variable's `trainable`."""
    if type(variable) is keras.Variable:
        variable.__class__ = _Following
        variable.trainable = variable.trainable  # it may have been frozen before
    if followers and isinstance(variable, _Following):
        variable._followers = (*getattr(variable, "_followers", ()), *followers)


def exact_loss(model: keras.Model) -> None:
    """Makes a compiled model report its loss in float64."""
    with model.distribute_strategy.scope():
        model._loss_tracker = keras.metrics.Mean(name="loss", dtype="float64")
    model._metrics.remove(model._loss_tracker)  # where it would be reported again


def finished_epochs(model: keras.Model) -> int:
    """Returns how many epochs a callback such as `BackupAndRestore` has restored."""
    return model._initial_epoch or 0


def share_storage(weight: keras.Variable, variable: tf.Variable) -> None:
    """Makes a Keras weight read and write a variable made elsewhere."""
    weight._value = variable


class Holder:
    """Keeps an object out of reach of what Keras and `tf.Module` track."""

    def __init__(self, value: Any) -> None:
        self.value = value


def untracked(module: tf.Module, value: Object) -> Object:
    """Returns a value that a module can hold without `tf.Module` looking into it."""
    return module._no_dependency(value)


def track_variable(module: tf.Module, variable: tf.Variable, name: str) -> None:
    """Makes `tf.train.Checkpoint` see a variable of a module under a name."""
    module._track_trackable(variable, name, overwrite=True)


def ignored_properties(cls: type, *names: str) -> frozenset[str]:
    """Returns what `tf.Module` must not search for variables, with `names`."""
    return cls._TF_MODULE_IGNORED_PROPERTIES.union(names)


def nested(
    module: tf.Module, kind: type | tuple[type, ...], recursive: bool = True
) -> list[Any]:
    """Returns the objects of a class that a module holds, in order, each once.

    Without `recursive` modules inside the module are passed over.
    """
    found = module._flatten(recursive, lambda leaf: isinstance(leaf, kind))
    return list(found)


def named_layers(module: tf.Module) -> dict[str, keras.Layer]:
    """Returns the Keras layers that a module holds itself, by the place of each."""

    def is_layer(leaf: Any) -> bool:
        return isinstance(leaf, keras.Layer)

    found = module._flatten(False, is_layer, with_path=True)
    return {"_".join(map(str, path)): layer for path, layer in found}


def show_variables(module: tf.Module) -> None:
    """Makes TFP name the weights of Keras layers that a class of its own holds."""
    layers = nested(module, keras.Layer, recursive=False)
    for layer in layers:
        for variable in layer.variables:
            follow_trainable(variable)
    if layers:
        module._keras_variables = untracked(module, tf_variables(layers))


def clear_cache(bijector: tfp.bijectors.Bijector) -> None:
    """Makes TFP forget what a bijector has computed."""
    bijector._cache.clear()


def broadcast_base(
    distribution: tfp.distributions.TransformedDistribution,
) -> tfp.distributions.Distribution:
    """Returns the base with the batch shape that the bijector's parameters give."""
    return distribution._maybe_broadcast_distribution_batch_shape()


def layers_inside(layer: keras.Layer) -> list[keras.Layer]:
    """Returns a Keras layer and all layers inside it."""
    return [layer, *layer._flatten_layers(include_self=False)]


def sublayers(layer: keras.Layer) -> list[keras.Layer]:
    """Returns the layers that a Keras layer holds itself."""
    return list(layer._layers)


def forget_layer(owner: keras.Layer, layer: keras.Layer) -> None:
    """Makes Keras forget a layer whose attribute has been replaced."""
    owner._tracker.untrack(layer)


def made_trainable(
    layer: keras.Layer,
) -> list[tuple[keras.Layer, list[keras.Variable]]]:
    """Returns the layers in a layer, each with the weights that it made to train."""
    return [(one, list(one._trainable_variables)) for one in layers_inside(layer)]


@contextlib.contextmanager
def lambdas_allowed() -> Iterator[None]:
    """Silences Keras where a configuration with a lambda in it is not written."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*includes a `lambda`", UserWarning)
        yield


def described(layer: keras.Layer) -> dict[str, tuple[Any, Any]]:
    """Returns what a layer's configuration says, and what the layer holds itself."""
    with lambdas_allowed():
        config = layer.get_config()
    held = (getattr(layer, key, getattr(layer, f"_{key}", None)) for key in config)
    return dict(zip(config, zip(config.values(), held, strict=True), strict=True))


def constructor_arguments(layer: keras.Layer) -> Config:
    """Returns a layer's constructor's arguments, as far as all are plain values."""
    known = getattr(layer, "_auto_config", None)
    return {} if known is None else dict(known.config)


@contextlib.contextmanager
def counted_calls(layers: Iterable[keras.Layer]) -> Iterator[dict[int, int]]:
    """Counts for a while how often layers are called, by `id(layer)`.

    The counting function stands in the layer's dictionary, out of Keras's sight.
    """
    layers = list(layers)
    calls = {id(layer): 0 for layer in layers}

    def counting(key: int, call: Callable) -> Callable:
        @functools.wraps(call)
        def counted(*args: Any, **kwargs: Any) -> Any:
            calls[key] += 1
            return call(*args, **kwargs)

        return counted

    try:
        for layer in layers:
            layer.__dict__["call"] = counting(id(layer), layer.call)
        yield calls
    finally:
        for layer in layers:
            layer.__dict__.pop("call", None)


class LimitedDormandPrince(tfp.math.ode.DormandPrince):
    """TFP's solver; `sentence(state, derivative)` says why it cannot go on."""

    def __init__(self, sentence: Callable, max_num_steps: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._sentence = sentence
        self._evaluations = max_num_steps * self.ODE_FN_EVALS_PER_STEP

    def _step(self, solver_state: Any, diagnostics: Any, **kwargs: Any) -> Any:
        y, f, _, _, step, _ = solver_state
        left = diagnostics.num_ode_fn_evaluations < self._evaluations
        goes_on = tf.logical_and(left, tf.math.is_finite(step))
        y, f = tf.nest.flatten(y)[0], tf.nest.flatten(f)[0]
        said = tf.debugging.Assert(goes_on, [self._sentence(y, f)])
        with tf.control_dependencies([said] if said is not None else []):
            step = tf.identity(step)
        solver_state = solver_state._replace(step_size=step)
        return super()._step(solver_state, diagnostics, **kwargs)


# TFP's own flows and their networks, which `from_tfp` reads.


def modules_inside(
    module: tf.Module, predicate: Callable[[object], bool]
) -> list[tf.Module]:
    """Returns what a module holds, at any depth, that fulfils a predicate."""
    return list(module._flatten(predicate=predicate))


def template_function(value: object) -> Callable | None:
    """Returns the function of a `tf.make_template`; None for anything else."""
    is_template = hasattr(value, "_func") and hasattr(value, "_variable_scope")
    return value._func if is_template else None


def real_nvp_parts(
    bijector: tfp.bijectors.RealNVP,
) -> tuple[int | None, int, bool, Callable]:
    """Returns event size, identity values (signed), whether last, and function."""
    return (
        bijector._input_depth,
        bijector._masked_size,
        bijector._reverse_mask,
        bijector._bijector_fn,
    )


def glow_actnorm_values(
    bijector: tfp.bijectors.Bijector,
) -> tuple[tf.Variable, tf.Variable, tf.Variable]:
    """Returns shift, log-scale and whether they have seen data."""
    return bijector._m, bijector._s.pretransformed_input, bijector._initialized


def glow_mixing_values(bijector: tfp.bijectors.Bijector) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the triangular factors and the permutation of a 1x1 convolution."""
    return bijector._bijector.lower_upper, bijector._bijector.permutation


def part_names(joint: tfp.distributions.Distribution) -> tuple[str, ...]:
    """Returns the names of a joint distribution's parts, in the model's order."""
    return tuple(joint._flat_resolve_names())


def drawn_parts(target: tfp.distributions.Distribution) -> list | None:
    """Returns the distributions of a joint one, without those that are pinned.

    They are those of some draw, of a `tfd.Blockwise` its own; None for any other.
    """
    if isinstance(target, BlockwiseDistribution):
        target = joint_of_blocks(target)
    pinned = isinstance(target, tfp.experimental.distributions.JointDistributionPinned)
    joint: Any = target.distribution if pinned else target
    if not isinstance(joint, tfp.distributions.JointDistribution):
        return None
    parts = joint.sample_distributions(seed=(0, 0))[0]
    parts = target._prune(parts, retain="unpinned") if pinned else parts
    found = parts.values() if isinstance(parts, dict) else parts
    return list(found)


def coerced(structure: Any, value: Any) -> Any:
    """Returns lists, tuples or dictionaries as those of `structure`, as TFP does."""
    return nest_util.coerce_structure(structure, value)


def replace_default_bijector(kind: type, make: Callable) -> None:
    """Makes `make(distribution)` what TFP takes a class of distributions to support.

    That is then so in `tfd.Sample`, in joint distributions and so on, too.
    """
    kind._default_event_space_bijector = make


def is_injective(part: object) -> bool:
    """Returns whether a bijector has one inverse, as distributions are said to have."""
    return getattr(part, "_is_injective", True)


_tf_moments = tf.nn.moments
_scopes = threading.local()


@contextlib.contextmanager
def whole_moments() -> Iterator[None]:
    """Within it `tf.nn.moments`, of Keras's normalization layers, has all derivatives.

    TensorFlow's takes the mean for a constant in the variance. That is right for first
    derivatives and wrong for second ones: the log-det of a continuous flow has first
    ones of its network, so its gradient has second ones.
    """
    outside = getattr(_scopes, "whole", False)
    _scopes.whole = True
    try:
        yield
    finally:
        _scopes.whole = outside


def _moments(
    x: tf.Tensor,
    axes: list[int],
    shift: None = None,
    keepdims: bool = False,
    name: str | None = None,
) -> tuple[tf.Tensor, tf.Tensor]:
    x = tf.convert_to_tensor(x)
    if not getattr(_scopes, "whole", False) or x.dtype in (tf.float16, tf.bfloat16):
        return _tf_moments(x, axes, shift, keepdims, name)
    mean = tf.reduce_mean(x, axes, keepdims=True)
    variance = tf.reduce_mean(tf.math.squared_difference(x, mean), axes, keepdims)
    return (mean if keepdims else tf.squeeze(mean, axes)), variance


tf.nn.moments = _moments


def _scope() -> keras.StatelessScope | None:
    """Returns the `keras.StatelessScope` around the caller."""
    with keras.StatelessScope(initialize_variables=False) as inner:
        pass
    return inner.original_scope


def open_scope() -> Callable[[], contextlib.AbstractContextManager]:
    """Returns what opens the `keras.StatelessScope` around the caller again.

    A gradient is computed after it has closed, when variables have other values, or
    while it is still open, in forward mode.
    """
    scope = _scope()

    @contextlib.contextmanager
    def again() -> Iterator[None]:
        if scope is None:
            yield
            return
        outside = scope.original_scope
        try:
            with scope:
                yield
        finally:  # entering noted another one, or the scope itself
            scope.original_scope = outside

    return again


def in_a_loop_with_variables() -> bool:
    """Whether the caller is traced in a loop that captures the variables themselves.

    TensorFlow then has no gradient of a loop inside of a custom gradient.
    """
    graph = tf.compat.v1.get_default_graph()
    return control_flow_util_v2.in_while_loop_defun(graph) and _scope() is None


def first_layers(model: keras.Layer) -> list[keras.Layer]:
    """Returns the layers that the only input of a functional model goes to."""
    inputs = getattr(model, "inputs", None) or ()
    if len(inputs) != 1:
        return []
    return [
        layer
        for layer in getattr(model, "layers", ())
        for node in layer._inbound_nodes
        if any(tensor is inputs[0] for tensor in node.input_tensors)
    ]


def in_forward_mode(tensors: Sequence[tf.Tensor]) -> bool:
    """Whether a `tf.autodiff.ForwardAccumulator` follows one of eager tensors."""
    return bool(forwardprop_util.pack_tangents(tensors).tangents)


def in_vectorized_map() -> bool:
    """Whether the caller is traced for `tf.vectorized_map`.

    That drops custom gradients: what it makes of an operation has TensorFlow's own.
    """
    graph = tf.compat.v1.get_default_graph()
    while graph is not None:
        if any(n.startswith("loop_body") for n in graph.get_name_scope().split("/")):
            return True
        graph = getattr(graph, "outer_graph", None)
    return False


def in_replica() -> bool:
    """Whether the caller runs inside of `tf.distribute.Strategy.run`.

    Nothing that runs there itself may be traced there, such as a step of Keras's.
    """
    with tf.Graph().as_default():  # of no strategy
        outside = tf.distribute.get_replica_context()
    return tf.distribute.get_replica_context() not in (None, outside)
