"""What every test has: fixed seeds, the CPU, quiet logs."""

import gc
import os
import sys
from pathlib import Path

# Makes `benchmarks` importable, behind whatever is installed.
sys.path.append(str(Path(__file__).parents[1]))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("MPLBACKEND", "Agg")
# Each of pytest's workers has a core of its own.
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")

import hypothesis
import keras
import pytest
import tensorflow as tf

# The same examples in every run, on fast and slow machines.
hypothesis.settings.register_profile(
    "tests", derandomize=True, deadline=None, database=None, max_examples=5
)
hypothesis.settings.load_profile("tests")


def pytest_configure(config):
    """Keeps tests off the GPU unless `-m` asks for those marked `gpu`."""
    if "not gpu" in config.option.markexpr:
        tf.config.set_visible_devices([], "GPU")
    # Two virtual CPUs, on which `tf.distribute` strategies are tested.
    virtual = [tf.config.LogicalDeviceConfiguration()] * 2
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, virtual)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Marks the rows of a table's many that take longest, by `--durations=0`, slow."""
    slow = set(
        (Path(__file__).parent / "slow_rows.txt").read_text("utf-8").splitlines()
    )
    for item in items:
        if item.nodeid in slow:
            item.add_marker(pytest.mark.slow)


def pytest_collection_finish():
    """Spares the collector what was imported, which stays, and most of its walks."""
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


@pytest.fixture(autouse=True)
def _same_start():
    """Gives each test the same seeds, whatever ran before it."""
    keras.utils.set_random_seed(0)
    floatx = keras.config.floatx()
    yield
    keras.config.set_floatx(floatx)
    # Keras remembers a policy from the first time somebody asks for it.
    keras.config.set_dtype_policy(floatx)
