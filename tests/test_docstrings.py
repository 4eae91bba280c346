"""Every example in a docstring runs and prints what it says."""

import doctest
import importlib
import pkgutil

import pytest

import tfp_flows

FINDER = doctest.DocTestFinder(exclude_empty=True)


def modules_with_examples():
    """Names the modules whose source shows a Python prompt."""
    for info in pkgutil.walk_packages(tfp_flows.__path__, "tfp_flows."):
        spec = importlib.util.find_spec(info.name)
        with open(spec.origin, encoding="utf-8") as source:
            if ">>> " in source.read():
                yield info.name


@pytest.mark.parametrize("name", list(modules_with_examples()))
def test_examples(name):
    module = importlib.import_module(name)
    results = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert results.attempted > 0
    assert results.failed == 0
