"""`mixture`: several flows as one distribution."""

from __future__ import annotations

import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tfp_flows.distributions.supports import forced
from tfp_flows.internal.arguments import invalid


def mixture(*flows: tfd.Distribution, name: str = "mixture") -> tfd.Mixture:
    """Mixes flows with learned weights, which start equal.

        p(x) = sum_k w_k p_k(x),    w = softmax(logits)

    Each flow is continuous, so data in several pieces are joined by thin bridges; a
    mixture has none. `FlowModel` trains, saves and exports it. Samples have no gradient
    with respect to the weights; conditional flows cannot be mixed.

    Args:
        flows: Two or more of one event shape and dtype, such as
            `*(tfpf.spline_flow((2,)) for _ in range(3))`. Equal ones must start from
            different weights to become different.

    Example:
        >>> import tfp_flows as tfpf
        >>> mixture(*(tfpf.real_nvp((2,), steps=2) for _ in range(3))).event_shape
        TensorShape([2])
    """
    if len(flows) < 2:
        raise invalid("flows", "be two or more distributions", flows)
    kinds = {(str(flow.event_shape), flow.dtype) for flow in flows}
    if len(kinds) > 1:
        raise invalid("flows", "have one event shape and one dtype", kinds)
    dtype = flows[0].dtype
    logits = tf.Variable(tf.zeros([len(flows)], dtype), name="logits")
    return tfd.Mixture(tfd.Categorical(logits), list(map(forced, flows)), name=name)
