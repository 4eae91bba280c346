"""TFP's own flows, compiled by XLA."""

from benchmarks.speed.adapters import tfp


def build(w):
    return tfp.build(w, jit=True)
