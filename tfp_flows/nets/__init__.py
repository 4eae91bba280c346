"""Keras 3 networks that bijectors hold as conditioners."""

from tfp_flows.nets.conditioner import Conditioner
from tfp_flows.nets.mlp import MLP

__all__ = ["MLP", "Conditioner"]
