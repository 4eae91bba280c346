"""Processes that get ready side by side and take turns."""

import time

from benchmarks.gpu import timing, together

READY = """
import sys, time
sys.path.insert(0, ".")
from benchmarks.gpu import timing
name, log, gate = sys.argv[1], sys.argv[2], sys.argv[-1]
timing.wait_for_turn(gate)
with open(log, "a") as file: file.write(name + " starts\\n")
time.sleep(0.2)
with open(log, "a") as file: file.write(name + " ends\\n")
"""
NEVER = "import time; time.sleep(60)"


def job(tmp_path, name, code=READY):
    command = ["-c", code, name, str(tmp_path / "turns")]
    return together.Job(name, command, tmp_path / f"gate-{name}")


def run(jobs, tmp_path, compile_for=30.0):
    with (tmp_path / "log").open("w") as log:
        together.compile_all(jobs, log, time.monotonic() + compile_for, at_once=8)
        ready = [j for j in jobs if j.process]
        together.time_each(ready, time.monotonic() + 30.0)


def test_one_at_a_time_in_the_order_of_the_jobs(tmp_path):
    jobs = [job(tmp_path, name) for name in "cab"]
    run(jobs, tmp_path)
    turns = (tmp_path / "turns").read_text().splitlines()
    assert turns == [f"{n} {what}" for n in "cab" for what in ("starts", "ends")]
    assert all(j.process.returncode == 0 for j in jobs)


def test_what_is_not_ready_in_time_is_ended_and_named(tmp_path, capsys):
    jobs = [job(tmp_path, "slow", NEVER), job(tmp_path, "quick")]
    run(jobs, tmp_path, compile_for=5.0)
    said = capsys.readouterr().out
    assert "slow: not compiled in time" in said
    assert "slow: not timed" in said
    assert "quick" not in said
    assert jobs[0].process.returncode != 0
    assert (tmp_path / "turns").read_text().startswith("quick")


def test_reduced_precision_is_judged_by_the_median_result():
    agreement = {
        "compared": 9,
        "finite": True,
        "loss_error": 1e-5,
        "median_error": 0.05,
        "worst_error": 0.4,
    }
    assert timing.agrees({"precision": "tf32", "agreement": agreement})
    assert not timing.agrees({"precision": "float32", "agreement": agreement})
    wrong = agreement | {"loss_error": 0.1}
    assert not timing.agrees({"precision": "tf32", "agreement": wrong})
    assert not timing.agrees(
        {"precision": "tf32", "agreement": agreement | {"finite": False}}
    )
