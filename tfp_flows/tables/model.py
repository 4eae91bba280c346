"""`TableFlow`: a flow of the rows of a table, as a Keras model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows import saving as serialization
from tfp_flows.architectures.assembly import assemble
from tfp_flows.architectures.coupling import spline_flow
from tfp_flows.bijectors.elementwise import SinhArcsinh
from tfp_flows.bijectors.normalization import ActNorm
from tfp_flows.distributions.tables import TableDistribution
from tfp_flows.internal.arguments import checked_integer
from tfp_flows.internal.seeds import stateless_seed
from tfp_flows.tables.columns import DTYPE
from tfp_flows.tables.schema import Schema
from tfp_flows.training.model import FlowModel
from tfp_flows.training.sampling import sample
from tfp_flows.training.summary import summary_table

if TYPE_CHECKING:
    import pyarrow as pa

tfd = tfp.distributions

# Coordinates of so many draws go through the flow at a time.
_CHUNK = 16_384


@keras.saving.register_keras_serializable(package="tfp_flows")
class TableFlow(FlowModel):
    """The joint distribution of a table's columns, learned by a flow.

    Each column has real coordinates: itself (`Continuous`), itself with uniform noise
    (`Integer`), or those of an argmax flow (`Categorical`). A flow models them all, in
    float64, behind the columns' transforms, which are its outermost bijector, so that
    densities are in the units of the columns.

    `log_prob`, in nats for each row, is the logarithm of a density along continuous
    columns times a probability of the others. It is exact if all columns are
    continuous, and otherwise a lower bound, which more `draws` make tighter; the
    property `is_exact` says which. `fit` minimizes the mean of minus the bound of one
    draw; `evaluate` and `predict` return that too, with fresh noise.

    All of `FlowModel` is there: callbacks, `save`, `keras.models.load_model`. What
    takes data takes tables: a `pyarrow.Table`, a dictionary of columns, a data frame.
    `distribution` is a `TableDistribution` of encoded rows, `distribution.flow` the
    flow of coordinates.

    Reference:
        Hoogeboom et al.: Argmax Flows and Multinomial Diffusion, 2021,
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
        """Builds the flow.

        Args:
            schema: The columns, from `Schema.infer`.
            flow: Called as `flow((D,), preprocess=..., dtype="float64")` with D the
                number of coordinates, such as `tfpf.real_nvp` or a `functools.partial`
                of it; None for a small `tfpf.spline_flow`. A `TableDistribution` is
                taken as it is.
            **kwargs: Passed on to `keras.Model`, such as `name`.

        Raises:
            TypeError: If `schema` or `flow` is something else.
        """
        if not isinstance(schema, Schema):
            raise TypeError(
                "Argument `schema` must be a `tfpf.tables.Schema`, such as "
                f"`Schema.infer(table)`. Received: {type(schema).__name__}"
            )
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

    def log_prob(self, table: Any, *, draws: int = 32, seed: Any = 0) -> np.ndarray:
        """Returns the log-likelihood of each row, in nats and the columns' units.

        Args:
            table: A table with the columns of the schema.
            draws: Draws of a row's coordinates; see `TableDistribution.bound`. If the
                likelihood is exact there is nothing to draw.
            seed: An integer or a pair of integers; equal seeds, equal noise.

        Returns:
            `[n]`: exact if `is_exact`, otherwise a lower bound. Minus infinity where a
            value lies outside a column's support, such as a negative count.
        """
        draws = 1 if self.is_exact else checked_integer("draws", draws)
        rows = self._schema.encode(table)
        inside = self._schema.supports(rows)
        result = np.full(len(rows), -np.inf)
        found = [np.zeros(0)]
        rows, step = rows[inside], max(1, _CHUNK // draws)
        for start in range(0, len(rows), step):
            own = tf.random.experimental.stateless_fold_in(stateless_seed(seed), start)
            part = tf.constant(rows[start : start + step], self._distribution.dtype)
            found.append(self._bound(part, draws, own).numpy())
        result[inside] = np.concatenate(found)
        return result

    def sample(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, n: int, seed: Any = None, temperature: float = 1.0
    ) -> pa.Table:
        """Draws rows.

        Args:
            n: Number of rows.
            seed: None, an integer or a pair of integers; equal seeds, equal rows.
            temperature: Factor on the spread of the latents; 1 is the distribution.

        Returns:
            A table with the columns of the data, in their order and of their types.
        """
        v = sample(self._distribution.flow, n, seed, temperature)
        return self._schema.decode(self._distribution.quantize(v).numpy())

    # What takes data takes tables.

    def fit(
        self, x: Any = None, y: Any = None, **kwargs: Any
    ) -> keras.callbacks.History:
        """Trains flow and dequantizers; see `FlowModel.fit`.

        Args:
            x: A table, or a dataset of batches of encoded rows.
            y: None.
            **kwargs: All other arguments of `keras.Model.fit`; `validation_data` may
                be a table, and rows are `batch_size` (32) in a step.

        Returns:
            Keras's history.
        """
        rows = kwargs.pop("batch_size", None)
        if kwargs.get("validation_data") is not None:
            held_out = kwargs["validation_data"]
            kwargs["validation_data"] = self._batches(held_out, rows)
        if not _is_batches(x) and not self.is_adapted:
            self.adapt(x)
        shuffled = kwargs.pop("shuffle", True)
        return super().fit(self._batches(x, rows, shuffled), y, **kwargs)

    def adapt(self, data: Any, condition: Any = None) -> None:
        """Initializes data-dependent weights from a table; see `FlowModel.adapt`."""
        data = data if _is_batches(data) else self._schema.encode(data)
        super().adapt(data, condition)

    def evaluate(self, x: Any = None, y: Any = None, **kwargs: Any) -> Any:
        """Returns the means of one draw for each row of a table."""
        rows = kwargs.pop("batch_size", None)
        return super().evaluate(self._batches(x, rows), y, **kwargs)

    def predict(self, x: Any, batch_size: int | None = None, **kwargs: Any) -> Any:
        """Returns one draw of `log_prob` for each row of a table, in nats."""
        return super().predict(self._batches(x, batch_size), **kwargs)

    def _batches(
        self, table: Any, rows: int | None = None, shuffled: bool = False
    ) -> Any:
        """Returns a dataset of encoded rows; Keras would round an array to float32."""
        if _is_batches(table):
            return table
        encoded = self._schema.encode(table)
        dataset = tf.data.Dataset.from_tensor_slices(encoded)
        if shuffled:
            dataset = dataset.shuffle(len(encoded))
        return dataset.batch(rows or 32).prefetch(tf.data.AUTOTUNE)

    def summary(self, print_fn: Any = None, **_: Any) -> None:
        """Prints the columns, and the bijectors of their coordinates."""
        (print_fn or print)(str(self._schema))
        summary_table(self._distribution.flow, self.name, print_fn)

    def get_config(self) -> dict[str, Any]:
        """Describes the schema and the distribution, without weights."""
        config = super().get_config()
        # Together, so that transforms are written once and stay shared.
        both = {"schema": self._schema, "flow": self._distribution}
        del config["distribution"]
        return {**config, "table": serialization.serialize(both)}

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: Any = None
    ) -> TableFlow:
        """Builds the model that `get_config` described, with fresh weights."""
        config = dict(config)
        trainable = config.pop("trainable", True)
        scorer = config.pop("anomaly_scorer", None)
        with keras.saving.custom_object_scope(custom_objects or {}):
            model = cls(**serialization.deserialize(config.pop("table")), **config)
            model.restore_scorer(scorer)
        model.trainable = trainable
        return model


def _is_batches(data: Any) -> bool:
    """Whether data is nothing that has columns, but what `FlowModel` takes."""
    return data is None or (
        not hasattr(data, "__arrow_c_stream__") and not isinstance(data, Mapping)
    )


def _flow(schema: Schema, make: Any) -> tfd.Distribution:
    """Returns a flow of the coordinates of a schema's columns."""
    shape, preprocess = (schema.width,), schema.bijector()
    if make is None and schema.width == 1:
        # One value has no other to be moved by.
        parts = [ActNorm(1, dtype=DTYPE), SinhArcsinh(1, dtype=DTYPE)]
        return assemble(
            shape, parts, base=None, preprocess=preprocess, dtype=DTYPE, name="one"
        )
    made = (make or _small)(shape, preprocess=preprocess, dtype=DTYPE)
    if not isinstance(made, tfd.Distribution):
        raise TypeError(
            "Argument `flow` must be called as `flow((D,), preprocess=..., dtype=...)` "
            "and return a TFP distribution, as `tfpf.real_nvp` does. "
            f"Received: {type(made).__name__}"
        )
    return made


def _small(shape: tuple[int, ...], **keywords: Any) -> tfd.Distribution:
    return spline_flow(shape, couplings=6, hidden_units=(64, 64), **keywords)
