"""The signatures of an export: what a client may ask, and what is checked of it.

| signature | inputs | outputs |
|---|---|---|
| `serving_default`, `log_prob` | `x [batch, *event]` | `log_prob`, `bits_per_dim`, `is_finite` |
| `log_prob_uint8` (images) | `image [batch, h, w, c]` | as `log_prob` |
| `encode` | `x` | `latent [batch, *latent]`, `is_finite` |
| `decode` | `latent` | `samples [batch, *event]`, `is_finite` |
| `latent_log_prob` (latent models) | `x` | `latent_log_prob`, `is_finite` |
| `elbo` (latent models) | `x`, `seed [batch, 2]` | `elbo`, `is_finite` |
| `anomaly_score` (with a scorer) | `x` | `anomaly_score [batch]`, `is_anomaly`, `is_finite` |
| `sample` | `n`, `seed [2]`, `temperature` | `samples [n, *event]`, `is_finite` |
| `sample_batch` | `seed [batch, 2]`, `temperature [batch]` | `samples`, `is_finite` |

Of a latent model `latent_log_prob`, the density of what `encode` gives, stands in the
place of `log_prob`, also as `serving_default`; `elbo` is one draw of the bound on the
density of the image itself.

A conditional flow takes `condition [batch, *condition]` in each, but in `sample` a
single `condition [*condition]`. Every output has the batch as its first axis, and none
ever holds NaN or infinity, which strict JSON cannot write: where a row is not
finite, `is_finite` is false, its log-density is `LOG_PROB_FLOOR` and its other
values are zero.

A server checks neither the width of an input nor its values, so the checks travel
inside the graph. One that fails raises `InvalidArgumentError` whose text is the message
for the client, from Python, from C and from a server alike.
"""  # noqa: E501

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

import tensorflow as tf

from tfp_flows.serving.servable import Condition, Servable

LOG_PROB_FLOOR = -1e38
"""Smallest log-density that leaves a server; stands for `-inf` and NaN as well."""

Outputs = dict[str, tf.Tensor]

Check = Callable[[str, tf.Tensor], tf.Tensor]
"""Returns an input of this name, to be computed only after its check has passed."""

Scorer = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor]
"""Anomaly scores `[batch]` of `x`, given its log-density and its latents."""


@dataclasses.dataclass(frozen=True)
class Input:
    """An input of a signature.

    Attributes:
        spec: Its shape and dtype as a client sees them. A first size of None stands
            for the batch. The shape is always checked.
        checks: What is checked of its values, in this order.
    """

    spec: tf.TensorSpec
    checks: tuple[Check, ...] = ()


@dataclasses.dataclass(frozen=True)
class Signature:
    """One entry point of an export.

    Attributes:
        name: What a client puts into `signature_name`.
        inputs: The inputs by name. The graph itself takes any shape, so that its own
            checks can answer.
        function: From checked inputs to the main output, one row for each of them.
        fallback: What stands for a row that is not finite. If it is not zero, it is
            also the largest value, up to the sign, that leaves the server.
        extras: From the main output to further ones.
    """

    name: str
    inputs: dict[str, Input]
    output: str
    function: Callable[..., tf.Tensor]
    fallback: float = 0.0
    extras: Callable[[tf.Tensor], Outputs] = lambda values: {}

    @property
    def served_as(self) -> list[str]:
        """Every name by which the signature can be asked for."""
        default = tf.saved_model.DEFAULT_SERVING_SIGNATURE_DEF_KEY
        is_default = self.name in ("log_prob", "latent_log_prob")
        return [self.name, default] if is_default else [self.name]

    def trace(self) -> tf.types.experimental.ConcreteFunction:
        """Returns the graph of this signature, never compiled with XLA."""
        # No `jit_compile`: XLA is off in TF Serving on CPU, where a compiled signature
        # would load and then fail at every request.
        traced = tf.function(self._answer, autograph=False)
        return traced.get_concrete_function(
            **{
                name: tf.TensorSpec(None, wanted.spec.dtype, name=name)
                for name, wanted in self.inputs.items()
            }
        )

    def _answer(self, **inputs: tf.Tensor) -> Outputs:
        """Checks, computes, and makes every output finite."""
        checked: dict[str, tf.Tensor] = {}
        shapes = {name: wanted.spec.shape for name, wanted in self.inputs.items()}
        batched = [k for k, shape in shapes.items() if shape.rank and shape[0] is None]
        for name, wanted in self.inputs.items():
            value = _with_shape(name, inputs[name], wanted.spec.shape)
            for check in wanted.checks:
                value = check(name, value)
            if name in batched[1:]:
                value = _with_rows_of(batched[0], checked[batched[0]], name, value)
            checked[name] = value
        values = self.function(**checked)
        flat = tf.reshape(tf.math.is_finite(values), [tf.shape(values)[0], -1])
        is_finite = tf.reduce_all(flat, axis=1)
        mask = tf.reshape(is_finite, [-1] + [1] * (values.shape.rank - 1))
        values = tf.where(mask, values, tf.constant(self.fallback, values.dtype))
        if self.fallback:
            limit = tf.constant(abs(self.fallback), values.dtype)
            values = tf.clip_by_value(values, -limit, limit)
        return {self.output: values, "is_finite": is_finite, **self.extras(values)}


def build_signatures(
    model: Servable, max_samples: int, scorer: Scorer | None = None
) -> list[Signature]:
    """Returns every signature that a model can answer."""
    event, dtype, floor = [None, *model.event_shape], model.dtype, LOG_PROB_FLOOR
    condition, one_condition = {}, {}
    if model.condition_shape is not None:
        shape, kind = model.condition_shape, model.condition_dtype
        checks = (finite,) if kind.is_floating else ()
        if model.labels is not None:
            checks = (in_range(0, model.labels - 1),)
        condition["condition"] = Input(tf.TensorSpec([None, *shape], kind), checks)
        one_condition["condition"] = Input(tf.TensorSpec(shape, kind), checks)
    x = {"x": Input(tf.TensorSpec(event, dtype), (finite,))}
    image = {"image": Input(tf.TensorSpec(event, tf.uint8))}
    latent_spec = tf.TensorSpec([None, *model.latent_shape], dtype)
    latent = {"latent": Input(latent_spec, (finite,))}
    n = {"n": Input(tf.TensorSpec([], tf.int32), (in_range(1, max_samples),))}
    seed = {"seed": Input(tf.TensorSpec([2], tf.int32))}
    seeds = {"seed": Input(tf.TensorSpec([None, 2], tf.int32))}
    checks = (finite, in_range(0, None) if model.has_temperature else in_range(1, 1))
    draw = seed | {"temperature": Input(tf.TensorSpec([], tf.float32), checks)}
    draws = seeds | {"temperature": Input(tf.TensorSpec([None], tf.float32), checks)}

    def of_pixels(image: tf.Tensor, condition: Condition = None) -> tf.Tensor:
        pixels = tf.cast(image, dtype) + model.pixel_offset
        return model.log_prob(pixels, condition)

    def bits(log_prob: tf.Tensor) -> Outputs:
        return {"bits_per_dim": -log_prob / (model.event_size * math.log(2.0))}

    rows, pixels = x | condition, image | condition
    optional = []
    if model.elbo_function is not None:
        bound = Signature("elbo", x | seeds, "elbo", model.elbo_function, floor)
        optional.append(bound)
    if scorer is not None:
        optional.append(_anomaly_score(model, rows, scorer))
    table = [
        Signature("log_prob", rows, "log_prob", model.log_prob, floor, bits),
        Signature("log_prob_uint8", pixels, "log_prob", of_pixels, floor, bits),
        Signature("latent_log_prob", x, "latent_log_prob", model.log_prob, floor),
        Signature("encode", rows, "latent", model.encode),
        Signature("decode", latent | condition, "samples", model.decode),
        *optional,
        Signature("sample", n | draw | one_condition, "samples", model.sample),
        Signature("sample_batch", draws | condition, "samples", model.sample_rows),
    ]
    has_density = model.elbo_function is None
    served = {
        "log_prob": has_density,
        "log_prob_uint8": has_density and len(model.event_shape) == 3,
        "latent_log_prob": not has_density,
        "encode": model.has_latent,
        "decode": model.has_latent,
    }
    return [signature for signature in table if served.get(signature.name, True)]


def _anomaly_score(
    model: Servable, inputs: dict[str, Input], scorer: Scorer
) -> Signature:
    threshold = getattr(scorer, "threshold", None)

    def score(x: tf.Tensor, condition: Condition = None) -> tf.Tensor:
        latent, log_prob = model.inverse(x, condition)
        scores = tf.ensure_shape(scorer(x, log_prob, latent), [None])
        return tf.cast(scores, model.dtype)

    def is_anomaly(scores: tf.Tensor) -> Outputs:
        if threshold is None:
            return {}
        return {"is_anomaly": scores > tf.constant(threshold, scores.dtype)}

    # What has no density is as anomalous as can be.
    name, ceiling = "anomaly_score", -LOG_PROB_FLOOR
    return Signature(name, inputs, name, score, ceiling, is_anomaly)


def finite(name: str, x: tf.Tensor) -> tf.Tensor:
    """Requires values without NaN and infinity."""
    wrong = tf.reduce_sum(tf.cast(tf.logical_not(tf.math.is_finite(x)), tf.int32))
    count = tf.strings.as_string(wrong)
    expected = ": expected finite numbers, received "
    return _after(
        tf.equal(wrong, 0), [name, expected, count, " that are NaN or infinite."], x
    )


def in_range(low: int, high: int | None) -> Check:
    """Requires every value to lie in `[low, high]`; NaN lies nowhere."""
    bounds = f"at least {low}" if high is None else f"a number from {low} to {high}"
    if low == high:
        bounds = f"{low}, the only value this model takes"

    def check(name: str, x: tf.Tensor) -> tf.Tensor:
        inside = x >= tf.cast(low, x.dtype)
        if high is not None:
            inside = tf.logical_and(inside, x <= tf.cast(high, x.dtype))
        outside = tf.reshape(tf.logical_not(inside), [-1])
        offending = tf.boolean_mask(tf.reshape(x, [-1]), outside)
        # One value more keeps the first element defined when nothing offends.
        first = tf.concat([offending, tf.zeros([1], x.dtype)], axis=0)[0]
        received = tf.strings.as_string(first, shortest=x.dtype.is_floating)
        message = [name, f": expected {bounds}, received ", received, "."]
        return _after(tf.reduce_all(inside), message, x)

    return check


def _with_shape(name: str, x: tf.Tensor, shape: tf.TensorShape) -> tf.Tensor:
    """Requires a shape; a first size of None is a batch of at least one row."""
    sizes = shape.as_list()
    named = [size is None for size in sizes]
    static = [-1 if size is None else size for size in sizes]
    # A fixed number of entries, so that comparing never fails whatever the rank.
    # The entry after the last is -1 exactly if the rank is not larger than wanted.
    filler = tf.fill([len(sizes) + 1], tf.constant(-1, tf.int64))
    received = tf.concat([_shape(x), filler], axis=0)[: len(sizes) + 1]
    same = tf.where(
        tf.constant([*named, False]),
        received >= 0,
        tf.equal(received, tf.constant([*static, -1], tf.int64)),
    )
    words = ", ".join("batch" if size is None else str(size) for size in sizes)
    words = words.replace(", batch", ", any")
    expected = f"shape [{words}]" if sizes else "a single number"
    text = tf.strings.reduce_join(tf.strings.as_string(_shape(x)), separator=", ")
    message = [name, f": expected {expected}, received shape [", text, "]."]
    # TensorFlow's graph optimizer takes a graph to be right: from an op that needs a
    # width it concludes that the input has it, and folds the check away. It does not
    # look through a reshape, which costs nothing at run time.
    x = _after(tf.reduce_all(same), message, x)
    if static.count(-1) > 1:  # conditions of any length
        static = tf.where(named, _shape(x), tf.constant(static, tf.int64))
    x = tf.reshape(x, static)
    x.set_shape(shape)
    if not any(named):
        return x
    message = [name, ": expected at least one row, received shape [", text, "]."]
    return _after(_shape(x)[0] >= 1, message, x)


def _with_rows_of(
    other_name: str, other: tf.Tensor, name: str, x: tf.Tensor
) -> tf.Tensor:
    """Requires `x` to have as many rows as another input has."""
    received, wanted = _shape(x)[0], _shape(other)[0]
    counts = tf.strings.as_string([wanted, received])
    expected = f": expected as many rows as `{other_name}` has, "
    message = [name, expected, counts[0], ", received ", counts[1], "."]
    x = _after(tf.equal(received, wanted), message, x)
    if None in x.shape[1:]:
        return x
    # As in `_with_shape`: keeps what follows from being held against the check.
    row_shape = tf.constant(x.shape[1:].as_list(), tf.int64)
    return tf.reshape(x, tf.concat([[received], row_shape], axis=0))


def _after(
    condition: tf.Tensor, message: Sequence[str | tf.Tensor], x: tf.Tensor
) -> tf.Tensor:
    """Returns `x`, to be computed only after `condition` has been found true.

    Without the control dependency an op further on could fail first, or take
    memory first.
    """
    text = tf.strings.join(message)
    check = tf.raw_ops.Assert(condition=condition, data=[text], summarize=1)
    with tf.control_dependencies([check]):
        return tf.identity(x)


def _shape(x: tf.Tensor) -> tf.Tensor:
    """The shape in 64 bits: an empty tensor may claim axes of any length."""
    return tf.shape(x, out_type=tf.int64)
