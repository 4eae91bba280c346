"""The speed benchmark: its arithmetic, and its process on this package."""

import dataclasses
import json
import sys

import numpy as np
import pytest

from benchmarks.speed import depth, report, workloads
from benchmarks.speed.adapters import floor, tfp_flows
from benchmarks.speed.peers import PEERS, installed
from benchmarks.speed.run import Worker


def rows(**ms):
    return {
        name: {
            "parameters": 10,
            "first_step_s": 1.0,
            "peak_above_built_mb": 5.0,
            "ms": {"train": times, "log_prob": times, "sample": times},
        }
        for name, times in ms.items()
    }


def test_ratios_are_taken_within_rounds():
    # The machine was twice as slow in the second round.
    measured = rows(
        tfp_flows=[1.0, 2.0, 1.0], zuko=[2.0, 4.0, 2.0], floor=[0.5, 1.0, 0.5]
    )
    found = report.ratios(measured, "train")
    assert found["fastest peer"] == ("tfp_flows", "zuko", (0.5, 0.5, 0.5))
    assert found["floor"] == ("tfp_flows", "floor", (2.0, 2.0, 2.0))


def test_the_faster_of_our_ways_meets_the_fastest_peer():
    measured = rows(
        tfp_flows=[3.0] * 4, tfp_flows_jit=[2.0] * 4, zuko=[9.0] * 4, nflows=[4.0] * 4
    )
    ours, other, ratio = report.ratios(measured, "train")["fastest peer"]
    assert (ours, other, ratio[0]) == ("tfp_flows_jit", "nflows", 0.5)


def test_failures_stand_in_the_table():
    measured = rows(tfp_flows=[1.0]) | {"nflows": {"error": "it broke", "ms": {}}}
    text = report.table({"W1": measured})
    assert "failed: it broke" in text
    assert "fastest peer" not in text


def test_picture_and_file(tmp_path):
    measured = {"W1": rows(tfp_flows=[1.0], zuko=[2.0])}
    report.picture(measured, tmp_path / "speed.png")
    assert (tmp_path / "speed.png").stat().st_size > 10_000
    path = tmp_path / "speed.json"
    report.write(measured, "a machine", {}, path)
    report.write({"W2": measured["W1"]}, "another", {}, path)
    kept = json.loads(path.read_text())
    assert {name: kept[name]["machine"] for name in kept} == {
        "W1": "a machine",
        "W2": "another",
    }


def test_depths_have_slopes_and_a_picture(tmp_path):
    measured = [
        {
            "library": name,
            "steps": k,
            "parameters": 10 * k,
            "build_s": 1.0,
            "first_step_s": 2.0,
            "ms": 3.0,
            "peak_above_built_mb": 100.0 + megabytes * k,
        }
        for name, megabytes in (("tfp_flows", 7.0), ("normflows", 9.0))
        for k in workloads.DEPTHS
    ]
    assert depth.slopes(measured, "tfp_flows") == pytest.approx(
        {(4, 8): 7.0, (8, 16): 7.0, (16, 32): 7.0}
    )
    text = depth.table([*measured, {"library": "tfp", "steps": 4, "error": "broke"}])
    assert "normflows: MB for each step a level: 9.0 from K=4 to 8, 9.0" in text
    assert "failed: broke" in text
    depth.picture(measured, tmp_path / "depth.png")
    assert (tmp_path / "depth.png").stat().st_size > 10_000


def test_finds_this_interpreter_s_libraries():
    found = installed([sys.executable])
    assert found["tfp_flows"] == found["tfp"] == sys.executable
    assert set(found) <= {peer.name for peer in PEERS}


@pytest.mark.parametrize("name", ["W1", "W3", "W4"])
def test_this_package_has_the_weights_of_the_floor_s_networks(name):
    small = dataclasses.replace(
        workloads.WORKLOADS[name], layers=2, width=8, train_batch=4, batch=6
    )
    if name == "W3":
        small = dataclasses.replace(small, event_shape=(8, 8, 1), levels=2)
    steps, alone = tfp_flows.build(small), floor.build(small)
    if name != "W3":  # Glow's actnorm and 1x1 convolutions have weights too
        assert steps.parameters == alone.parameters
    first = steps.train()["loss"]
    for _ in range(5):
        last = steps.train()["loss"]
    assert np.isfinite(first)
    assert last < first
    assert steps.log_prob().shape == (6,)
    assert steps.sample().shape == (6, *small.event_shape)
    assert np.isfinite(alone.train())


@pytest.mark.slow
def test_a_worker_answers_and_goes():
    worker = Worker(sys.executable, "tfp_flows", "W1")
    assert worker.facts["parameters"] == 136_208
    assert worker.ask(what="train", seconds=0.1)["ms"] > 0
    assert "error" in worker.ask(what="nothing", seconds=0.1)
    worker.close()
    assert worker.process.returncode == 0
