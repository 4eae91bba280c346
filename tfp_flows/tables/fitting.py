"""`fit`: from a table to a trained `TableFlow` in one call."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import keras
import numpy as np
from tensorflow_probability import distributions as tfd

from tfp_flows.internal.arguments import checked_number
from tfp_flows.tables.arrow import TableLike, as_table
from tfp_flows.tables.columns import Column
from tfp_flows.tables.model import TableFlow
from tfp_flows.tables.schema import Schema
from tfp_flows.training.model import Callbacks
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
    callbacks: Callbacks = (),
    verbose: int | str = 0,
) -> TableFlow:
    """Learns the joint distribution of a table's columns.

    Training stops when the likelihood of rows held back no longer rises, and the
    weights are those with the best. `keras.utils.set_random_seed` before makes results
    of equal calls equal. `flow` is that of `TableFlow`.

    Args:
        table: What `Schema.infer` reads kinds and transforms off, such as what
            `tfpf.data.read_table` returns; `columns` are the kinds not to be inferred.
        validation_fraction: Share of the rows to hold back.
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
        callbacks=keras.tree.flatten([stop, callbacks]),
        verbose=verbose,
    )
    return model
