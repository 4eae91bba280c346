"""This package, compiled by XLA."""

from benchmarks.speed.adapters import tfp_flows


def build(w):
    return tfp_flows.build(w, jit=True)
