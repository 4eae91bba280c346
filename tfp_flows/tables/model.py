"""`TableFlow`: a flow of the rows of a table, as a Keras model."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tfp_flows import saving as serialization
from tfp_flows.architectures.assembly import assemble
from tfp_flows.architectures.coupling import spline_flow
from tfp_flows.bijectors.elementwise import SinhArcsinh
from tfp_flows.bijectors.normalization import ActNorm
from tfp_flows.distributions.tables import TableDistribution
from tfp_flows.internal.arguments import (
    Arrays,
    Config,
    Seed,
    checked_instance,
    checked_integer,
)
from tfp_flows.internal.batching import map_rows
from tfp_flows.tables.arrow import TableLike
from tfp_flows.tables.columns import DTYPE
from tfp_flows.tables.schema import Schema
from tfp_flows.training.model import FlowModel
from tfp_flows.training.sampling import sample
from tfp_flows.training.summary import summary_table

if TYPE_CHECKING:
    import pyarrow as pa

# Coordinates of so many draws go through the flow at a time.
_DRAWS = 16_384


@keras.saving.register_keras_serializable(package="tfp_flows")
class TableFlow(FlowModel):
    """The joint distribution of a table's columns, learned by a flow.

    A flow in float64 models the columns' coordinates (see `tfp_flows.tables`) behind
    their transforms, its outermost bijector: densities are in the columns' units.

    `log_prob`, in nats for each row, is exact if all columns are continuous
    (`is_exact`), and otherwise a lower bound, which more `draws` make tighter. `fit`
    minimizes the mean of minus the bound of one draw; `evaluate` and `predict` return
    that too, with fresh noise.

    Data are tables: a `pyarrow.Table`, a dictionary of columns, a data frame.
    `distribution` is a `TableDistribution` of encoded rows, `distribution.flow` the
    flow of coordinates.

    Args:
        schema: The columns, from `Schema.infer`.
        flow: Called as `flow((D,), preprocess=..., dtype="float64")` with D the number
            of coordinates, such as `tfpf.real_nvp` or a `functools.partial` of it; None
            for a small `tfpf.spline_flow`. A `TableDistribution` is taken as it is.

    Reference: Hoogeboom et al.: Argmax Flows and Multinomial Diffusion, 2021,
    arXiv:2102.05379. Theis et al., 2015, arXiv:1511.01844 (integers).

    Example:
        >>> rng = np.random.default_rng(0)
        >>> table = {"x": rng.normal(size=64), "kind": rng.choice(["a", "b"], 64)}
        >>> model = TableFlow(Schema.infer(table))
        >>> model.compile(optimizer="adam")
        >>> history = model.fit(table, verbose=0)
        >>> model.sample(3, seed=1).schema.types
        [DataType(double), DataType(string)]
    """

    def __init__(
        self,
        schema: Schema,
        flow: Callable[..., tfd.Distribution] | TableDistribution | None = None,
        **kwargs: Any,
    ) -> None:
        words = "a `tfpf.tables.Schema`, such as `Schema.infer(table)`"
        checked_instance("schema", schema, Schema, words)
        if not isinstance(flow, TableDistribution):
            flow = TableDistribution(_flow(schema, flow), schema.dequantizers())
        super().__init__(flow, **kwargs)
        self._schema = schema
        self._bound = tf.function(
            self._distribution.bound,
            input_signature=[
                tf.TensorSpec([None, *self.event_shape], flow.dtype),
                tf.TensorSpec([], tf.int32),
                tf.TensorSpec([2], tf.int32),
            ],
            autograph=False,
        )

    @property
    def schema(self) -> Schema:
        """The columns."""
        return self._schema

    @property
    def is_exact(self) -> bool:
        """Whether `log_prob` is exact; otherwise it is a lower bound."""
        return self._distribution.is_exact

    def log_prob(
        self, table: TableLike, *, draws: int = 32, seed: Seed = 0
    ) -> np.ndarray:
        """Returns the log-likelihood of each row, in nats and the columns' units.

        Args:
            draws: Draws of a row's coordinates, where the likelihood is not exact.
            seed: An integer or a pair of integers; equal seeds, equal noise.

        Returns:
            `[n]`: exact if `is_exact`, otherwise a lower bound. Minus infinity where a
            value lies outside a column's support, such as a negative count.
        """
        draws = 1 if self.is_exact else checked_integer("draws", draws)
        dtype = self._distribution.dtype.as_numpy_dtype
        rows = self._schema.encode(table).astype(dtype)
        inside = self._schema.supports(rows)
        result = np.full(len(rows), -np.inf)
        result[inside] = map_rows(
            lambda some, own: self._bound(some, draws, own),
            rows[inside],
            rows=max(1, _DRAWS // draws),
            seed=seed,
        )
        return result

    def sample(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, n: int, seed: Seed = None, temperature: float = 1.0
    ) -> pa.Table:
        """Draws rows."""
        v = sample(self._distribution.flow, n, seed, temperature)
        return self._schema.decode(self._distribution.quantize(v).numpy())

    def __call__(self, inputs: Arrays, *args: Any, **kwargs: Any) -> tf.Tensor:
        """Returns what `predict` does of a table or of encoded rows, as a tensor."""
        return super().__call__(self.encoded(inputs), *args, **kwargs)

    def encoded(self, x: Arrays) -> Arrays:
        """Returns a table as rows of numbers; what has no columns stays as it is."""
        has_columns = hasattr(x, "__arrow_c_stream__") or isinstance(x, Mapping)
        return self._schema.encode(x) if has_columns else x

    def summary(
        self,
        line_length: int | None = None,
        positions: object = None,
        print_fn: Callable | None = None,
        **options: object,
    ) -> None:
        """Prints the columns, and the bijectors of their coordinates."""
        (print_fn or print)(str(self._schema))
        summary_table(self._distribution.flow, self.name, print_fn, line_length)

    def described(self) -> Config:
        """Describes the schema and the distribution, without weights."""
        # Together, so that transforms are written once and stay shared.
        both = {"schema": self._schema, "flow": self._distribution}
        return {"table": serialization.serialize(both)}

    @classmethod
    def constructor_arguments(cls, config: Config) -> Config:
        """Builds the schema and the distribution that `described` described."""
        config = dict(config)
        return {**serialization.deserialize(config.pop("table")), **config}


def _flow(
    schema: Schema, make: Callable[..., tfd.Distribution] | None
) -> tfd.Distribution:
    """Returns a flow of the coordinates of a schema's columns."""
    shape, preprocess = (schema.width,), schema.bijector()
    if make is None and schema.width == 1:
        # One value has no other to be moved by.
        parts = [ActNorm(1, dtype=DTYPE), SinhArcsinh(1, dtype=DTYPE)]
        return assemble(
            shape, parts, base=None, preprocess=preprocess, dtype=DTYPE, name="one"
        )
    small = functools.partial(spline_flow, couplings=6, hidden_units=(64, 64))
    made = (make or small)(shape, preprocess=preprocess, dtype=DTYPE)
    if not isinstance(made, tfd.Distribution):
        raise TypeError(
            "Argument `flow` must be called as `flow((D,), preprocess=..., dtype=...)` "
            "and return a TFP distribution, as `tfpf.real_nvp` does. "
            f"Received: {type(made).__name__}"
        )
    return made
