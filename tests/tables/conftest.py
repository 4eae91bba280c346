"""A table with a column of every kind, and a small flow of it."""

import functools

import numpy as np
import pyarrow as pa
import pytest

import tfp_flows as tfpf
from tfp_flows import tables

SMALL = functools.partial(tfpf.spline_flow, couplings=2, bins=4, hidden_units=(16,))


def people(n=400, seed=0):
    """Rows whose columns depend on each other, in many of Arrow's types."""
    rng = np.random.default_rng(seed)
    region = rng.choice(3, n, p=[0.5, 0.3, 0.2])
    height = rng.normal(1.6 + 0.1 * region, 0.08)
    columns = {
        "height": pa.array(height.astype("float32")),
        "income": pa.array(np.exp(rng.normal(9.0 + height, 0.6))),
        "visits": pa.array(rng.poisson(2.0 + 3.0 * region).astype("int16")),
        "smokes": pa.array(rng.random(n) < 0.2 + 0.2 * region),
        "region": pa.array(np.array(["north", "south", "west"])[region]),
        "grade": pa.array(np.array(["c", "a", "b"])[region]).dictionary_encode(),
        "born": pa.array(rng.integers(0, 18_000, n).astype("int32")).cast(pa.date32()),
        "rooms": pa.array(1.0 + rng.integers(0, 5, n)),
    }
    return pa.table(columns)


@pytest.fixture(scope="session")
def table():
    """400 rows with a column of every kind."""
    return people()


@pytest.fixture(scope="session")
def more():
    """400 other rows of the same distribution."""
    return people(seed=1)


@pytest.fixture(scope="session")
def small():
    """What makes a flow that takes little time."""
    return SMALL


@pytest.fixture(scope="session")
def model(table):
    """A flow of the table after a few epochs."""
    made = tables.TableFlow(tables.Schema.infer(table), SMALL, name="people")
    made.compile(optimizer="adam")
    made.fit(table, epochs=2, batch_size=100, verbose=0)
    return made
