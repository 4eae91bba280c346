"""The laws for bijectors that are not in the catalogue."""

import functools

import pytest
import tensorflow as tf

from tfp_flows.testing import laws as named
from tfp_flows.testing.report import CheckReport
from tfp_flows.testing.subject import Subject, perturb

# Files are for the catalogue.
LAWS = [name for name in named.LAWS if "load" not in name and name != "graph"]


def in_graphs(subject):
    """Runs both directions as graphs: the loops of a solver are slow eagerly."""
    spec = tf.TensorSpec([None, *subject.x.shape[1:]], subject.dtype)
    graphs = {
        direction: tf.function(
            functools.partial(subject.run, direction), [spec], autograph=False
        )
        for direction in ("forward", "inverse")
    }
    subject.run = lambda direction, value, _: graphs[direction](value)


def check_laws(
    bijector,
    y,
    *,
    tolerance=1e-9,
    spread=0.3,
    condition=None,
    names=LAWS,
    graphs=False,
):
    """Perturbs a bijector and holds it to laws at the latents of some data."""
    perturb(bijector, spread)
    keywords = {} if condition is None else {"condition": condition}
    subject = Subject(bijector, bijector.inverse(y, **keywords), condition)
    if graphs:
        in_graphs(subject)
    report = CheckReport(bijector.name, named.check(subject, names, tolerance))
    assert report.ok, str(report)


@pytest.fixture
def laws():
    """The function `check_laws(bijector, y, ...)`."""
    return check_laws


@pytest.fixture
def perturbed():
    """The function `perturb(bijector, spread)`."""
    return perturb
