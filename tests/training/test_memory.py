"""Memory that stays with the process."""

import json
import subprocess
import sys

import pytest

import tfp_flows as tfpf

# Takes and frees the same 24 MB again and again; pages that stay are not faulted in.
FAULTS = """
import json, resource
import numpy as np
from tfp_flows.training.parts import (hold_memory)

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        np.ones(3 << 20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

without = faults()
took = hold_memory()
faults()
print(json.dumps([took, without, faults()]))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's settings")
def test_pages_stay():
    printed = subprocess.run(
        [sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True
    ).stdout
    took, without, held = json.loads(printed.splitlines()[-1])
    assert took
    # 20 times 24 MB are 120,000 pages of 4 KiB, or a few hundred large ones.
    assert held <= min(without, 1000)


def test_refuses_nothing_to_keep():
    with pytest.raises(ValueError, match="`megabytes` must be positive"):
        tfpf.hold_memory(0)
