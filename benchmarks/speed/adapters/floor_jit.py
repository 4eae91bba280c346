"""The floor, compiled by XLA."""

from benchmarks.speed.adapters import floor


def build(w):
    return floor.build(w, jit=True)
