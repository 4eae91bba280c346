"""Runs a program: is what comes out right, refused in a sentence, or a fault?"""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
import re
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_flows as tfpf
from benchmarks.programs.build import Builder
from benchmarks.programs.draw import (
    AUTOREGRESSIVE,
    CHANNELS,
    COUPLINGS,
    ELEMENTWISE,
    LINEAR,
)
from benchmarks.programs.oracle import Oracle
from tfp_flows.bijectors.tree import bijectors_in
from tfp_flows.internal.compat import clear_cache
from tfp_flows.testing.subject import float_type

tfd = tfp.distributions

ROWS = 3
OURS = {*COUPLINGS, *AUTOREGRESSIVE, *ELEMENTWISE, *CHANNELS, *LINEAR, "encoded"}
OURS |= {"repeat", "multiscale", "squeezed", "conditional_affine"}


@dataclasses.dataclass(frozen=True)
class Verdict:
    """`kind` is right, refused, unlike (numbers differ), error (obscure) or skipped."""

    kind: str
    detail: str = ""

    @property
    def is_fault(self) -> bool:
        """Whether something must be mended."""
        return self.kind in ("unlike", "error")

    @property
    def signature(self) -> str:
        """The detail without numbers and names that differ between programs."""
        text = self.detail.split("Received")[0]
        return f"{self.kind}: " + re.sub(r"[-+]?\d[\d.e+-]*|'\w+'", "#", text)[:150]


class Skipped(Exception):
    """The program has no answer to compare with."""


class World:
    """The flow under test, its float64 twin, and data."""

    def __init__(self, program: dict) -> None:
        self.program = program
        self.dtype = program["dtype"]
        self.condition = program["condition"]
        with float_type(program["floatx"]):
            self.flow = self.build(self.dtype)
        self.model = tfpf.FlowModel(self.flow)
        self.move(1)
        with float_type("float64"):
            self.twin = self.build("float64")
        self.twin_model = tfpf.FlowModel(self.twin)
        twin = self.twin_with(self.model)
        self.c = None
        if self.condition is not None:
            random = np.random.default_rng(5)
            self.c = random.normal(size=(ROWS, *self.condition)).astype(self.dtype)
        self.wide_c = None if self.c is None else tf.constant(self.c, tf.float64)
        y = Oracle().sample(twin, ROWS, self.wide_c, 3).numpy().astype(self.dtype)
        if not np.all(np.isfinite(y)) or np.abs(y).max(initial=0) > 1e6:
            raise Skipped("data out of range")
        self.y = y
        self.held: list = []

    def build(self, dtype: str) -> tfd.Distribution:
        """Builds the distribution, the same for the same dtype."""
        keras.utils.set_random_seed(0)
        maker = Builder(dtype, self.condition)
        return maker.distribution(self.program["distribution"])

    def twin_with(self, model: tfpf.FlowModel) -> tfd.Distribution:
        """Gives the twin the weights that a model has now."""
        twin = self.twin_model
        old = model.get_weights()
        if [w.shape for w in old] != [w.shape for w in twin.get_weights()]:
            raise AssertionError("the twin has other weights")
        twin.set_weights([w.astype("f8") if w.dtype.kind == "f" else w for w in old])
        for part in bijectors_in(self.twin):
            clear_cache(part)
        return self.twin

    def moved(self, seed: int, spread: float) -> list[np.ndarray]:
        """Returns the weights with noise on those that training may change."""
        random = np.random.default_rng(seed)
        trained = {id(w) for w in self.model.trainable_weights}
        return [
            (v + spread * random.normal(size=v.shape)).astype(v.dtype)
            if id(w) in trained
            else v
            for w, v in zip(self.model.weights, self.model.get_weights(), strict=True)
        ]

    def move(self, seed: int, spread: float = 0.2) -> None:
        """Moves the weights."""
        self.model.set_weights(self.moved(seed, spread))

    @property
    def bound(self) -> tfd.Distribution:
        """The flow, with its condition where it has one."""
        return self.flow if self.c is None else tfpf.condition(self.flow, self.c)

    def log_prob(self, noise: float = 0.0, seed: int = 0) -> np.ndarray:
        """Returns the oracle's log-densities at the present weights."""
        y = tf.constant(self.y, tf.float64)
        return np.asarray(Oracle(noise, seed).log_prob(self.twin, y, self.wide_c))

    # Histories.

    def hold(self, y: tf.Tensor) -> None:
        """Keeps old results of the very tensor."""
        flow = self.bound
        self.held += [y, flow.log_prob(y), flow.sample(2, seed=(1, 2))]
        if hasattr(flow, "bijector"):
            self.held.append(flow.bijector.inverse(y))

    def pairs(self) -> object:
        """The data as Keras takes it."""
        return self.y if self.c is None else (self.y, self.c)

    def after(self, how: str) -> None:
        """Lets one thing happen to the weights."""
        model = self.model
        if how == "set_weights":
            self.move(7, 0.1)
        elif how == "assign":
            for variable in self.flow.trainable_variables:
                variable.assign_add(0.05 * tf.ones_like(variable))
        elif how == "optimizer":
            y = tf.constant(self.y)
            variables = self.flow.trainable_variables
            with tf.GradientTape() as tape:
                loss = -tf.reduce_mean(self.bound.log_prob(y))
            if variables:
                found = tape.gradient(loss, variables)
                if any(g is None for g in found):
                    raise AssertionError("a weight has no gradient")
                for variable, slope in zip(variables, found, strict=True):
                    variable.assign_sub(1e-3 * tf.clip_by_norm(slope, 1.0))
        elif how == "load_weights":
            with tempfile.TemporaryDirectory() as folder:
                path, old = str(Path(folder, "w.weights.h5")), model.get_weights()
                self.move(8, 0.1)
                model.save_weights(path)
                model.set_weights(old)
                model.load_weights(path)
        elif how == "adapt":
            model.adapt(self.pairs() if self.c is None else self.y, self.c)
        else:
            model.compile(keras.optimizers.SGD(1e-3, clipnorm=1.0))
            if how == "train_on_batch":
                model.train_on_batch(self.y, self.c)
            else:
                model.fit(self.pairs(), verbose=0, batch_size=2)


# Entry points: each returns what must equal the oracle's log-densities of `world.y`.


def _fed(world: World) -> object:
    how = world.program["data"]
    if how == "list" and world.y.dtype == np.float64 and world.dtype == "float32":
        return world.y.tolist()
    if how == "float64":
        return world.y.astype("float64")
    return world.y if how != "tensor" else tf.constant(world.y)


def _keras_data(world: World) -> object:
    how, y, c = world.program["data"], world.y, world.c
    if how == "dataset":
        parts = y if c is None else (y, c)
        return tf.data.Dataset.from_tensor_slices(parts).batch(2)
    if how == "float64":
        y, c = (None if v is None else v.astype("float64") for v in (y, c))
    if how == "tensor":
        y, c = (None if v is None else tf.constant(v) for v in (y, c))
    if c is None:
        return y
    return [y, c] if how == "list" else (y, c)


def _log_prob(world: World) -> object:
    return world.bound.log_prob(_fed(world))


def _prob(world: World) -> object:
    return tf.math.log(world.bound.prob(_fed(world)))


def _sample_and_log_prob(world: World) -> object:
    y, value = world.bound.experimental_sample_and_log_prob(ROWS, seed=(1, 2))
    if world.c is not None:
        y, value = y[0], value[0]
    world.y = y.numpy()
    return value


def _call(world: World) -> object:
    if world.c is None:
        return world.model(tf.constant(world.y))
    return world.model((tf.constant(world.y), tf.constant(world.c)))


def _other(make: Callable) -> Callable:
    def entry(world: World) -> object:
        twin = make(world.flow)
        flow = twin if world.c is None else tfpf.condition(twin, world.c)
        value = flow.log_prob(_fed(world))
        if make is not _copied:  # its weights must be its own
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(flow.log_prob(tf.constant(world.y)))
            own = twin.trainable_variables
            if len(own) != len(world.flow.trainable_variables):
                raise AssertionError("a copy lists other weights")
            if own and any(g is None for g in tape.gradient(loss, own)):
                raise AssertionError("a weight of a copy has no gradient")
            before = world.model.get_weights()
            for variable in own:
                variable.assign_add(tf.ones_like(variable))
            for old, new in zip(before, world.model.get_weights(), strict=True):
                if not np.array_equal(old, new):
                    raise AssertionError("a copy shares weights")
        return value

    return entry


def _copied(flow: tfd.Distribution) -> tfd.Distribution:
    return flow.copy()


def _reloaded(flow: tfd.Distribution) -> tfd.Distribution:
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder, "flow.keras"))
        tfpf.save_distribution(flow, path)
        return tfpf.load_distribution(path)


def _tape(world: World) -> object:
    """Samples and scores in one tape."""
    with tf.GradientTape() as tape:
        y = world.bound.sample(ROWS, seed=(1, 2))
        value = world.bound.log_prob(y)
    own = world.flow.trainable_variables
    if own:
        tape.gradient(value, own)
    if world.c is not None:
        y, value = y[0], value[0]
    world.y = y.numpy()
    return value


def _gradient(world: World) -> object:
    """The directional derivative along all weights, against the oracle's."""
    y, variables = tf.constant(world.y), list(world.flow.trainable_variables)
    flow = world.bound
    with tf.GradientTape() as tape:
        value = flow.log_prob(y)
        loss = tf.reduce_sum(value)
    if not variables:
        return value
    found = tape.gradient(loss, variables)
    if any(g is None for g in found):
        raise AssertionError("a weight has no gradient")
    dot = sum(float(tf.reduce_sum(g)) for g in found)
    old, sums = world.model.get_weights(), []
    trained = {id(w) for w in world.model.trainable_weights}
    twin = world.twin_model
    world.twin_with(world.model)
    h = 1e-5
    for sign in (h, -h):
        moved = [
            w.astype("float64") + sign if id(own) in trained else w
            for own, w in zip(world.model.weights, old, strict=True)
        ]
        twin.set_weights(moved)
        sums.append(float(np.sum(world.log_prob())))
    expected = (sums[0] - sums[1]) / (2 * h)
    size = sum(float(tf.reduce_sum(tf.abs(g))) for g in found)
    limit = 2e-3 if world.dtype == "float32" else 1e-5
    if np.isfinite(expected) and abs(dot - expected) > limit * (1 + size):
        raise AssertionError(f"gradient: {dot} is not {expected}")
    return value


def _function(jit: bool) -> Callable:
    def entry(world: World) -> object:
        flow = world.bound
        return tf.function(flow.log_prob, jit_compile=jit)(tf.constant(world.y))

    return entry


def _held_function(world: World) -> object:
    """Scores by a function that was traced before the weights moved."""
    flow = world.bound
    function = tf.function(lambda y: flow.log_prob(y))
    y = tf.constant(world.y)
    function(y)
    world.after("set_weights")
    return function(y)


def _predict(world: World) -> object:
    return world.model.predict(_keras_data(world), verbose=0, batch_size=2)


def _predict_on_batch(world: World) -> object:
    return world.model.predict_on_batch(world.pairs())


def _evaluate(world: World) -> object:
    world.model.compile("adam")
    data = _keras_data(world)
    if isinstance(data, tf.data.Dataset):
        found = world.model.evaluate(data, verbose=0, return_dict=True)
    else:
        found = world.model.evaluate(data, verbose=0, batch_size=2, return_dict=True)
    return -np.asarray(found["nll"])


def _fit(world: World) -> object:
    # With momentum two clipped steps do not cancel.
    world.model.compile(keras.optimizers.SGD(1e-3, 0.5, clipnorm=1.0))
    data = _keras_data(world)
    own = {} if isinstance(data, tf.data.Dataset) else {"batch_size": 2}
    before = world.model.get_weights()
    world.model.fit(data, verbose=0, **own)
    now = world.model.get_weights()
    if not all(np.all(np.isfinite(w)) for w in now):
        raise AssertionError("a weight is not finite after fit")
    if world.model.trainable_weights and all(map(np.array_equal, before, now)):
        with tf.GradientTape() as tape:
            total = tf.reduce_sum(world.bound.log_prob(world.y))
        gradients = tape.gradient(total, world.bound.trainable_variables)
        # A reflection of one value is the same at all weights.
        if any(g is None or np.any(np.abs(g) > 1e-6) for g in gradients):
            raise AssertionError("fit moved nothing")
    return world.bound.log_prob(world.y)


def _saved(world: World) -> object:
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder, "flow.keras"))
        world.model.save(path)
        return keras.models.load_model(path).predict(world.pairs(), verbose=0)


def _exported(world: World) -> object:
    with tempfile.TemporaryDirectory() as folder:
        path = tfpf.export_saved_model(world.model, folder + "/m", warmup=False)
        served = tf.saved_model.load(path).signatures["log_prob"]
        given = {"x": tf.constant(world.y)}
        if world.c is not None:
            given["condition"] = tf.constant(world.c)
        return served(**given)["log_prob"]


def _clone(world: World) -> object:
    clone = keras.models.clone_model(world.model)
    if len(clone.weights) != len(world.model.weights):
        raise AssertionError("a clone has other weights")
    if {id(w) for w in clone.weights} & {id(w) for w in world.model.weights}:
        raise AssertionError("a clone shares weights")
    clone.set_weights(world.model.get_weights())
    return clone.predict(world.pairs(), verbose=0)


ENTRIES: dict[str, Callable[[World], object]] = {
    "log_prob": _log_prob,
    "prob": _prob,
    "sample_and_log_prob": _sample_and_log_prob,
    "gradient": _gradient,
    "call": _call,
    "deepcopy": _other(copy.deepcopy),
    "pickle": _other(lambda flow: pickle.loads(pickle.dumps(flow))),
    "copy": _other(_copied),
    "save_distribution": _other(_reloaded),
    "tape": _tape,
    "held_function": _held_function,
    "function": _function(jit=False),
    "jit": _function(jit=True),
    "predict": _predict,
    "predict_on_batch": _predict_on_batch,
    "evaluate": _evaluate,
    "fit": _fit,
    "saved": _saved,
    "exported": _exported,
    "clone": _clone,
}


def run(program: dict) -> Verdict:
    """Runs a program and judges it."""
    try:
        world = World(program)
        y = world.y
        if program["held"] and program["history"]:
            tensor = tf.constant(y)
            world.hold(tensor)
        for how in program["history"]:
            world.after(how)
        if program["held"] and program["history"]:
            # The very tensor whose old results are held.
            world.twin_with(world.model)
            judged = _judge(world, world.bound.log_prob(tensor), "held ")
            if judged.is_fault:
                return judged
        found = ENTRIES[program["entry"]](world)
        world.twin_with(world.model)
        return _judge(world, found, "")
    except Skipped as reason:
        return Verdict("skipped", str(reason))
    except AssertionError as error:
        return Verdict("unlike", str(error))
    except FloatingPointError as error:
        world.twin_with(world.model)
        if np.all(np.isfinite(world.log_prob())):
            return _refusal(error, json.dumps(program))
        return Verdict("refused", f"{error}")  # and rightly: data outside the support
    except Exception as error:  # whatever it is, the program has not been answered
        return _refusal(error, json.dumps(program))


def _judge(world: World, found: object, where: str) -> Verdict:
    mean = np.mean if world.program["entry"] == "evaluate" and not where else np.asarray
    expected = world.log_prob()
    if not np.all(np.isfinite(expected)):
        return Verdict("skipped", "the oracle is not finite")
    eps = 1e-6 if world.dtype == "float32" else 1e-12
    limit = 20 * eps * (1 + np.abs(expected))
    near = np.asarray(found, np.float64)
    if near.shape != expected.shape or np.any(~(np.abs(near - expected) < limit)):
        moved = [np.abs(world.log_prob(eps, seed) - expected) for seed in (1, 2, 3)]
        limit += 30 * np.max(moved, axis=0)
    if world.program["entry"] == "prob":
        if not where and np.any(expected < -80):
            return Verdict("skipped", "a density underflows")
    if np.any(limit > 0.1):
        return Verdict("skipped", "ill-conditioned")
    found = np.asarray(found, np.float64)
    expected, limit = mean(expected), mean(limit)
    if found.shape != expected.shape:
        return Verdict("unlike", f"{where}shape {found.shape} is not {expected.shape}")
    worst = np.abs(found - expected) - limit
    if not np.all(worst <= 0):
        at = np.unravel_index(np.argmax(worst), worst.shape)
        text = f"{where}log p {found[at]} is not {expected[at]} +- {limit[at]:.1e}"
        return Verdict("unlike", text)
    return Verdict("right")


def _refusal(error: Exception, program: str) -> Verdict:
    frames = traceback.extract_tb(error.__traceback__)
    text = f"{type(error).__name__}: {' '.join(str(error).split())}"
    ours = [f for f in frames if "/tfp_flows/" in f.filename]
    sentence = isinstance(error, ValueError | TypeError) and frames
    if sentence and "/tfp_flows/" in frames[-1].filename and len(text) < 700:
        return Verdict("refused", text)
    foreign = not OURS & set(re.findall(r'"(\w+)"', program))
    if isinstance(error, NotImplementedError) and (foreign or not ours):
        return Verdict("tfp", text)
    if foreign and not ours:
        return Verdict("tfp", text)
    if text.startswith("TypeError: Found incompatible dtypes"):
        return Verdict("tfp", text)  # TFP's own sentence about parts of two dtypes
    if isinstance(error, ValueError) and ours and "user code" in text:
        where = re.findall(r'File "([^"]+)", line', str(error))  # in a traced function
        if where and "/tfp_flows/" in where[-1] and "Received: " in text:
            return Verdict("refused", text[text.rindex("Error: ") :])
    last = frames[-1]
    where = ours[-1] if ours else last
    place = f"{Path(where.filename).name}:{where.name}"
    return Verdict("error", f"[{place}] {text[:400]}")


# Reducing a fault to less.


def smaller(program: dict) -> Iterator[dict]:
    """Yields programs that are a little smaller."""
    for spec in _smaller_spec(program["distribution"]):
        yield {**program, "distribution": spec}
    for i in range(len(program["history"])):
        left = program["history"][:i] + program["history"][i + 1 :]
        yield {**program, "history": left}
    plain = {"dtype": "float32", "floatx": "float32", "data": "array", "held": False}
    for key, value in plain.items():
        if program[key] != value:
            yield {**program, key: value}
    if program["entry"] != "log_prob":
        yield {**program, "entry": "log_prob"}


def _smaller_spec(spec: object) -> Iterator[object]:
    if not isinstance(spec, list):
        return
    kind = spec[0] if spec else None
    inner = ("transformed", "mixture_same_family", "chain", "invert", "repeat")
    if kind in (*inner, "encoded") and isinstance(spec[1], list):
        parts = spec[1] if kind == "chain" else [spec[1]]
        if kind not in ("mixture_same_family",):
            yield from parts
        if kind == "chain" and len(parts) > 1:
            for i in range(len(parts)):
                yield [kind, parts[:i] + parts[i + 1 :]]
    for i, part in enumerate(spec):
        for less in _smaller_spec(part):
            yield [*spec[:i], less, *spec[i + 1 :]]


def reduced(program: dict, verdict: Verdict, tries: int = 40) -> dict:
    """Returns the smallest program found with the same kind of fault."""
    done = False
    words = verdict.signature
    while not done:
        done = True
        for less in smaller(program):
            tries -= 1
            if tries < 0:
                return program
            if run(less).signature == words:
                program, done = less, False
                break
    return program
