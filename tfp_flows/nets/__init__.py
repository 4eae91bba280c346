"""Keras 3 networks that bijectors hold as conditioners."""

from tfp_flows.nets.attention import (
    AttentionBlock,
    CausalTransformer,
    Transformer,
)
from tfp_flows.nets.conditioner import Conditioner
from tfp_flows.nets.conv import (
    ConvNet,
    DenseNet,
    GatedConvNet,
    WeightNormConv2D,
    ZeroConv2D,
)
from tfp_flows.nets.dense import MADE, MLP
from tfp_flows.nets.equivariant import EquivariantVelocity
from tfp_flows.nets.features import LabelChannels, LabelEmbedding, PeriodicFeatures
from tfp_flows.nets.lipschitz import LipschitzConvNet, LipschitzMLP
from tfp_flows.nets.sequence import CausalConditioner, CausalLSTM
from tfp_flows.nets.sets import SetEncoder
from tfp_flows.nets.unet import UNet
from tfp_flows.nets.velocity import VelocityNet
