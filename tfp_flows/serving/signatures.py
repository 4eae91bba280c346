"""The signatures of an export: what a client may ask of a served flow.

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
numbers are zero.
"""  # noqa: E501

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import tensorflow as tf

from tfp_flows.serving.request_checks import (
    checked_finite,
    checked_range,
    checked_rows,
    checked_same_rows,
    checked_scalar,
    required_shape,
)
from tfp_flows.serving.served_flow import ServedFlow
from tfp_flows.serving.served_latent import ServedLatentModel

LOG_PROB_FLOOR = -1e38
"""Smallest log-density that leaves a server; stands for `-inf` and NaN as well."""

Outputs = dict[str, tf.Tensor]

Scorer = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor]
"""Anomaly scores `[batch]` of `x`, given its log-density and its latents."""


@dataclasses.dataclass(frozen=True)
class Signature:
    """One entry point of an export.

    Attributes:
        name: What a client puts into `signature_name`.
        inputs: Shapes and dtypes as a client sees them, by input name. The graph
            itself takes any shape, so that its own checks can answer.
        function: From inputs of unknown shape to named outputs.
    """

    name: str
    inputs: dict[str, tf.TensorSpec]
    function: Callable[..., Outputs]

    def trace(self) -> tf.types.experimental.ConcreteFunction:
        """Returns the graph of this signature, never compiled with XLA."""
        # No `jit_compile`: XLA is off in TF Serving on CPU, where a compiled signature
        # would load and then fail at every request.
        traced = tf.function(self.function, autograph=False)
        return traced.get_concrete_function(
            **{
                name: tf.TensorSpec(None, spec.dtype, name=name)
                for name, spec in self.inputs.items()
            }
        )


def build_signatures(
    flow: ServedFlow, max_samples: int, scorer: Scorer | None = None
) -> list[Signature]:
    """Returns every signature that a flow can answer.

    Args:
        flow: The flow.
        max_samples: Largest `n` of `sample`.
        scorer: A fitted anomaly scorer; None for no `anomaly_score`.

    Returns:
        The signatures, that of a log-density first.
    """
    if isinstance(flow, ServedLatentModel):
        signatures = [_latent_log_prob(flow), _elbo(flow), _encode(flow), _decode(flow)]
        return [*signatures, _sample(flow, max_samples), _sample_batch(flow)]
    signatures = [_log_prob(flow)]
    if len(flow.event_shape) == 3:
        signatures.append(_log_prob_uint8(flow))
    if flow.has_latent:
        signatures += [_encode(flow), _decode(flow)]
    if scorer is not None:
        signatures.append(_anomaly_score(flow, scorer))
    return [*signatures, _sample(flow, max_samples), _sample_batch(flow)]


def _log_prob(flow: ServedFlow) -> Signature:
    def log_prob(x: tf.Tensor, condition: tf.Tensor | None = None) -> Outputs:
        x = checked_finite("x", checked_rows("x", x, flow.event_shape))
        condition = _checked_condition(flow, condition, "x", x)
        return _densities(flow, flow.log_prob(x, condition))

    return Signature("log_prob", _row_inputs(flow, "x", flow.event_shape), log_prob)


def _log_prob_uint8(flow: ServedFlow) -> Signature:
    def log_prob(image: tf.Tensor, condition: tf.Tensor | None = None) -> Outputs:
        image = checked_rows("image", image, flow.event_shape)
        condition = _checked_condition(flow, condition, "image", image)
        # A pixel value v stands for the cell [v, v + 1): take the middle of it.
        x = tf.cast(image, flow.dtype) + 0.5
        return _densities(flow, flow.log_prob(x, condition))

    inputs = _row_inputs(flow, "image", flow.event_shape, tf.uint8)
    return Signature("log_prob_uint8", inputs, log_prob)


def _latent_log_prob(flow: ServedLatentModel) -> Signature:
    def latent_log_prob(x: tf.Tensor) -> Outputs:
        x = checked_finite("x", checked_rows("x", x, flow.event_shape))
        return _floored("latent_log_prob", flow.log_prob(x))

    inputs = _row_inputs(flow, "x", flow.event_shape)
    return Signature("latent_log_prob", inputs, latent_log_prob)


def _elbo(flow: ServedLatentModel) -> Signature:
    def elbo(x: tf.Tensor, seed: tf.Tensor) -> Outputs:
        x = checked_finite("x", checked_rows("x", x, flow.event_shape))
        seed = checked_same_rows("seed", checked_rows("seed", seed, [2]), "x", x)
        return _floored("elbo", flow.elbo(x, seed))

    inputs = _row_inputs(flow, "x", flow.event_shape)
    inputs["seed"] = tf.TensorSpec([None, 2], tf.int32)
    return Signature("elbo", inputs, elbo)


def _encode(flow: ServedFlow) -> Signature:
    def encode(x: tf.Tensor, condition: tf.Tensor | None = None) -> Outputs:
        x = checked_finite("x", checked_rows("x", x, flow.event_shape))
        condition = _checked_condition(flow, condition, "x", x)
        return _rows("latent", flow.encode(x, condition))

    return Signature("encode", _row_inputs(flow, "x", flow.event_shape), encode)


def _decode(flow: ServedFlow) -> Signature:
    shape = flow.latent_shape

    def decode(latent: tf.Tensor, condition: tf.Tensor | None = None) -> Outputs:
        latent = checked_finite("latent", checked_rows("latent", latent, shape))
        condition = _checked_condition(flow, condition, "latent", latent)
        return _rows("samples", flow.decode(latent, condition))

    return Signature("decode", _row_inputs(flow, "latent", shape), decode)


def _anomaly_score(flow: ServedFlow, scorer: Scorer) -> Signature:
    threshold = getattr(scorer, "threshold", None)

    def anomaly_score(x: tf.Tensor, condition: tf.Tensor | None = None) -> Outputs:
        x = checked_finite("x", checked_rows("x", x, flow.event_shape))
        condition = _checked_condition(flow, condition, "x", x)
        log_prob, latent = flow.log_prob(x, condition), flow.encode(x, condition)
        score = tf.cast(scorer(x, log_prob, latent), flow.dtype)
        # What has no density is as anomalous as can be.
        is_finite = tf.math.is_finite(score)
        ceiling = tf.constant(-LOG_PROB_FLOOR, flow.dtype)
        score = tf.minimum(tf.where(is_finite, score, ceiling), ceiling)
        outputs = {"anomaly_score": score, "is_finite": is_finite}
        if threshold is not None:
            outputs["is_anomaly"] = score > tf.cast(threshold, flow.dtype)
        return outputs

    inputs = _row_inputs(flow, "x", flow.event_shape)
    return Signature("anomaly_score", inputs, anomaly_score)


def _sample(flow: ServedFlow, max_samples: int) -> Signature:
    def sample(
        n: tf.Tensor,
        seed: tf.Tensor,
        temperature: tf.Tensor,
        condition: tf.Tensor | None = None,
    ) -> Outputs:
        n = checked_range("n", checked_scalar("n", n), 1, max_samples)
        seed = required_shape("seed", seed, [2])
        temperature = checked_scalar("temperature", temperature)
        temperature = _checked_temperature(flow, temperature)
        condition = _checked_condition(flow, condition)
        return _rows("samples", flow.sample(n, seed, temperature, condition))

    inputs = {
        "n": tf.TensorSpec([], tf.int32),
        "seed": tf.TensorSpec([2], tf.int32),
        "temperature": tf.TensorSpec([], tf.float32),
    }
    inputs |= _condition_input(flow, batch=False)
    return Signature("sample", inputs, sample)


def _sample_batch(flow: ServedFlow) -> Signature:
    def sample_batch(
        seed: tf.Tensor,
        temperature: tf.Tensor,
        condition: tf.Tensor | None = None,
    ) -> Outputs:
        seed = checked_rows("seed", seed, [2])
        temperature = checked_rows("temperature", temperature, [])
        temperature = checked_same_rows("temperature", temperature, "seed", seed)
        temperature = _checked_temperature(flow, temperature)
        condition = _checked_condition(flow, condition, "seed", seed)
        return _rows("samples", flow.sample_rows(seed, temperature, condition))

    inputs = {
        "seed": tf.TensorSpec([None, 2], tf.int32),
        "temperature": tf.TensorSpec([None], tf.float32),
    }
    return Signature("sample_batch", inputs | _condition_input(flow), sample_batch)


def _row_inputs(
    flow: ServedFlow,
    name: str,
    shape: tuple[int, ...],
    dtype: tf.DType | None = None,
) -> dict[str, tf.TensorSpec]:
    rows = {name: tf.TensorSpec([None, *shape], dtype or flow.dtype)}
    return rows | _condition_input(flow)


def _condition_input(flow: ServedFlow, batch: bool = True) -> dict[str, tf.TensorSpec]:
    if flow.condition_shape is None:
        return {}
    shape = [None, *flow.condition_shape] if batch else flow.condition_shape
    return {"condition": tf.TensorSpec(shape, flow.condition_dtype)}


def _checked_condition(
    flow: ServedFlow,
    condition: tf.Tensor | None,
    rows_name: str = "",
    rows: tf.Tensor | None = None,
) -> tf.Tensor | None:
    """Checks one condition, or one for each row of another input."""
    if condition is None or flow.condition_shape is None:
        return None
    if rows is None:
        condition = required_shape("condition", condition, flow.condition_shape)
        return _checked_values(flow, condition)
    condition = checked_rows("condition", condition, flow.condition_shape)
    condition = _checked_values(flow, condition)
    return checked_same_rows("condition", condition, rows_name, rows)


def _checked_values(flow: ServedFlow, condition: tf.Tensor) -> tf.Tensor:
    if flow.labels is not None:
        return checked_range("condition", condition, 0, flow.labels - 1)
    if flow.condition_dtype.is_floating:
        return checked_finite("condition", condition)
    return condition


def _checked_temperature(flow: ServedFlow, temperature: tf.Tensor) -> tf.Tensor:
    temperature = checked_finite("temperature", temperature)
    low, high = (0, None) if flow.has_temperature else (1, 1)
    return tf.cast(checked_range("temperature", temperature, low, high), flow.dtype)


def _densities(flow: ServedFlow, log_prob: tf.Tensor) -> Outputs:
    """Log-densities that strict JSON can write, in nats and in bits per number."""
    outputs = _floored("log_prob", log_prob)
    bits_per_dim = -outputs["log_prob"] / (flow.event_size * math.log(2.0))
    return {**outputs, "bits_per_dim": bits_per_dim}


def _floored(name: str, log_prob: tf.Tensor) -> Outputs:
    """Log-densities in nats that strict JSON can write."""
    floor = tf.constant(LOG_PROB_FLOOR, log_prob.dtype)
    is_finite = tf.math.is_finite(log_prob)
    log_prob = tf.maximum(tf.where(is_finite, log_prob, floor), floor)
    return {name: log_prob, "is_finite": is_finite}


def _rows(name: str, values: tf.Tensor) -> Outputs:
    """Rows that strict JSON can write: one that is not finite becomes zero."""
    flat = tf.reshape(tf.math.is_finite(values), [tf.shape(values)[0], -1])
    is_finite = tf.reduce_all(flat, axis=1)
    mask = tf.reshape(is_finite, [-1] + [1] * (values.shape.rank - 1))
    return {
        name: tf.where(mask, values, tf.zeros([], values.dtype)),
        "is_finite": is_finite,
    }
