"""`fit`: from a table to a trained `TableFlow` in one call."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import keras
import numpy as np
from tensorflow_probability import distributions as tfd

from tfp_flows.internal.arguments import checked_number
from tfp_flows.tables.arrow import TableLike, as_table
from tfp_flows.tables.columns import Column
from tfp_flows.tables.model import TableFlow
from tfp_flows.tables.schema import Schema
from tfp_flows.training.optimizers import optimizer


def fit(
    table: TableLike,
    *,
    columns: Mapping[str, Column | str] | None = None,
    flow: Callable[..., tfd.Distribution] | None = None,
    validation_fraction: float = 0.15,
    epochs: int = 300,
    patience: int = 30,
    batch_size: int = 128,
    learning_rate: float = 2e-3,
    seed: int = 0,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    verbose: int | str = 0,
) -> TableFlow:
    """Learns the joint distribution of a table's columns.

    Kinds and transforms are read off the table (`Schema.infer`). A share of the rows is
    held back; training stops when their likelihood no longer rises, and the weights are
    those with the best. For equal results of equal calls, call
    `keras.utils.set_random_seed` before.

    Args:
        table: A `pyarrow.Table`, a dictionary of columns, or a data frame;
            `tfpf.data.read_table` reads CSV and Parquet files.
        columns: Kinds of columns that should not be inferred; see `Schema.infer`.
        validation_fraction: Share of the rows to hold back.
        epochs: Most epochs over the other rows.
        patience: Epochs without a better likelihood after which training stops.
        seed: Of the choice of the rows held back.

    Returns:
        The trained model; `model.history` holds the curves.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> table = {"x": rng.normal(size=99), "n": rng.poisson(3.0, 99)}
        >>> model = fit(table, epochs=1)
        >>> model.log_prob({"x": [0.0], "n": [-1]})
        array([-inf])
    """
    table = as_table(table)
    checked_number("validation_fraction", validation_fraction, above=0.0, below=1.0)
    model = TableFlow(Schema.infer(table, columns), flow)
    order = np.random.default_rng(seed).permutation(table.num_rows)
    held_out = min(max(1, round(validation_fraction * len(order))), len(order) - 1)
    model.compile(optimizer=optimizer(learning_rate))
    stop = keras.callbacks.EarlyStopping(
        "val_nll", patience=patience, restore_best_weights=True
    )
    model.fit(
        table.take(order[held_out:]),
        validation_data=table.take(order[:held_out]),
        batch_size=batch_size,
        epochs=epochs,
        callbacks=[stop, *callbacks],
        verbose=verbose,
    )
    return model
