"""`kill -9` in the middle of an export never leaves a version that is not complete."""

import contextlib
import os
import random
import signal
import time

import pytest
import tensorflow as tf

from tfp_flows.serving.versions import existing_versions


def staged(base):
    return [path for path in base.glob(".*") if path.is_dir()]


def is_complete(version):
    """Whether a version loads and answers, and has all the files it was given."""
    files = {str(path.relative_to(version)) for path in version.rglob("*")}
    wanted = {"saved_model.pb", "variables/variables.index"}
    wanted |= {"variables/variables.data-00000-of-00001"}
    if not wanted <= files:
        return False
    answer = tf.saved_model.load(str(version)).signatures["log_prob"](
        x=tf.constant([[0.5, 0.5]])
    )
    return bool(answer["is_finite"].numpy().all())


def kill_in_the_middle(base, start_child, generator, wait_for):
    """Kills an export at a random moment after it has begun to write."""
    before = set(staged(base))
    child = start_child()
    wait_for(lambda: set(staged(base)) - before)
    # An export writes for about a third of a second: most kills come before the
    # rename, some after it.
    time.sleep(generator.uniform(0.0, 0.4))
    os.kill(child, signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError):
        wait_for(lambda: os.kill(child, 0))


@pytest.mark.parametrize(
    "kills", [3, pytest.param(20, marks=pytest.mark.slow)], ids=str
)
def test_killed_exports_leave_only_complete_versions(
    tmp_path, publisher, wait_for, kills
):
    generator = random.Random(kills)
    interrupted, complete = 0, set()
    with publisher(tmp_path) as start_child:
        for _ in range(kills):
            kill_in_the_middle(tmp_path, start_child, generator, wait_for)
            interrupted += bool(staged(tmp_path))
            for number in set(existing_versions(tmp_path)) - complete:
                assert is_complete(tmp_path / str(number)), f"version {number}"
                complete.add(number)
    assert interrupted >= kills // 3, "the kills missed the exports"
    # The next export removes what the last kill left.
    assert len(staged(tmp_path)) <= 1
