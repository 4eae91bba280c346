"""This package with reversible back-propagation."""

from benchmarks.speed.adapters import tfp_flows


def build(w):
    return tfp_flows.build(w, mode="reversible")
