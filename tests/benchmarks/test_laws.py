"""The table of laws: what it measures, and that it says what does not hold."""

import copy

import numpy as np
import pytest

import tfp_flows as tfpf
from benchmarks.laws import exact_ode, run


@pytest.fixture(scope="module")
def found():
    return run.measured(["actnorm", "affine_condition"])


def test_a_row_holds_its_laws_in_both_float_types(found):
    one = found["affine_condition"]
    assert one["ok"]
    assert one["checks"]["round trip of x"]["value"] < 1e-12
    assert 1e-12 < one["float32"] < 1e-4
    assert not run.broken(found, [])


def test_the_table_counts_weights_and_calls(found):
    actnorm, affine = run.table(found).splitlines()[2:]
    assert "| 2 of 2 | – / – | yes | yes |" in actnorm
    assert "| 4 of 4 | 1 / 1 | yes | yes |" in affine


def test_what_does_not_hold_is_named(found):
    worse = copy.deepcopy(found)
    check = worse["actnorm"]["checks"]["save and load"]
    check |= {"ok": False, "message": "It is another one."}
    solver = {"flow": "moons", "solver": "adaptive", "tolerance": 1e-5}
    solver["round_trip_rms"] = 2e-4
    assert run.broken(worse, [solver]) == [
        "actnorm, save and load: It is another one.",
        "moons, adaptive: off by 2.0e-04",
    ]
    assert "| yes | **NO** |" in run.table(worse)


def test_exact_integration_is_what_small_steps_go_to():
    bijector, x = exact_ode.bent(), exact_ode.latents(3, n=6)
    exact = exact_ode.integrated(bijector, x)
    few, many = (
        exact_ode.errors(bijector.copy(solver=tfpf.FixedStep("rk4", n)), x, *exact)
        for n in (10, 40)
    )
    for what in ("round_trip_rms", "round_trip", "forward", "log_det"):
        # Fourth order: four times the steps, about 256 times less error.
        assert few[what] / many[what] > 100, what
    assert many["log_det"] < 1e-6
    assert np.max(np.abs(exact[1])) > 0.1
