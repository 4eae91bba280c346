"""Random programs are right or refused in a sentence; some once were not."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_flows as tfpf
from benchmarks.programs.__main__ import drawn
from benchmarks.programs.run import run
from tfp_flows.bijectors import chain

tfb = tfp.bijectors


@pytest.mark.parametrize("seed", range(4))
def test_random_programs_are_right_or_refused(seed):
    faults = []
    for program in drawn(50, seed, costly=False):
        verdict = run(program)
        if verdict.is_fault:
            faults.append((verdict.detail, program))
    assert not faults


@pytest.mark.parametrize("shape", [(), (1,), (3,)])
@pytest.mark.parametrize("mode", ["unrolled", "loop"])
def test_a_constant_that_broadcasts_counts_once_a_value(shape, mode):
    repeat = tfpf.Repeat(tfb.Scale(np.full(shape, 2.0, "float32")), 2, mode=mode)
    run_back = tf.function(lambda y: chain.inverse_and_log_det(repeat, y, 1)[1])
    np.testing.assert_allclose(run_back(tf.ones([2, 3])), -6 * np.log(2), rtol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_full_normal_in_both_types(dtype):
    base = tfpf.bases.full_normal(2, dtype=dtype)
    assert base.sample(3).dtype == dtype
