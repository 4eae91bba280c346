"""Keras 3 networks that bijectors hold as conditioners."""

from tfp_flows.nets.conditioner import Conditioner
from tfp_flows.nets.convnet import ConvNet
from tfp_flows.nets.made import MADE
from tfp_flows.nets.mlp import MLP
from tfp_flows.nets.velocity import VelocityNet
from tfp_flows.nets.weight_norm_conv import WeightNormConv2D
from tfp_flows.nets.zero_conv import ZeroConv2D

__all__ = [
    "MADE",
    "MLP",
    "Conditioner",
    "ConvNet",
    "VelocityNet",
    "WeightNormConv2D",
    "ZeroConv2D",
]
