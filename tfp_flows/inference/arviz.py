"""Posterior draws as ArviZ's `InferenceData`, and back; ArviZ is an extra."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tfp_flows.internal.arguments import checked_integer, invalid


def _arviz() -> Any:
    try:
        return importlib.import_module("arviz")
    except ImportError:
        raise ImportError(
            "`InferenceData` needs ArviZ: install it by `pip install tfp-flows[arviz]`."
        ) from None


def to_arviz(
    posterior: Mapping[str, npt.ArrayLike],
    *,
    chains: int = 1,
    observed: Mapping[str, npt.ArrayLike] | None = None,
    **groups: Mapping[str, npt.ArrayLike],
) -> Any:
    """Makes ArviZ's `InferenceData` of posterior draws.

    Args:
        posterior: Draws `[n, ...]` by name; of several chains, one after the other.
        chains: Number of chains, which divides n.
        observed: Observed data by name.
        **groups: Further groups of draws `[n, ...]`, such as `posterior_predictive` or
            `log_likelihood`.
    """
    arviz = _arviz()
    checked_integer("chains", chains)
    made = {
        group: {
            name: _by_chain(f"{group}[{name!r}]", values, chains)
            for name, values in draws.items()
        }
        for group, draws in {"posterior": posterior, **groups}.items()
    }
    if observed is not None:
        made["observed_data"] = {k: np.asarray(v) for k, v in observed.items()}
    return arviz.from_dict(**made)


def _by_chain(name: str, values: npt.ArrayLike, chains: int) -> np.ndarray:
    array = np.asarray(values)
    if array.ndim < 1 or not len(array) or len(array) % chains:
        must = f"have rows that {chains} chains divide"
        raise invalid(name, must, got=f"shape {array.shape}")
    return array.reshape(chains, -1, *array.shape[1:])


def from_arviz(
    data: Any, names: Sequence[str] | None = None, *, group: str = "posterior"
) -> dict[str, np.ndarray]:
    """Returns draws `[chains * draws, ...]` by name, one chain after the other.

    `FlowModel.fit` of them trains a flow that covers all that the chains visited.

    Args:
        data: ArviZ's `InferenceData`.
        names: Of the variables; None for all.
        group: The group that holds them.
    """
    held = getattr(data, group, None)
    if held is None:
        raise invalid("group", f"be one of {', '.join(data.groups())}", group)
    found = {}
    for name in held.data_vars if names is None else names:
        if name not in held.data_vars:
            raise invalid("names", f"be of {', '.join(held.data_vars)}", name)
        values = held[name].transpose("chain", "draw", ...).values
        found[name] = values.reshape(-1, *values.shape[2:])
    return found
