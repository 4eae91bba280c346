"""`network_precision`: networks in 16 bits, the flow around them in 32 or 64."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import keras
from tensorflow_probability import distributions as tfd

from tfp_flows.bijectors.tree import layers_in
from tfp_flows.internal.compat import layers_inside

MIXED = ("mixed_float16", "mixed_bfloat16")


@contextlib.contextmanager
def network_precision(policy: str | keras.DTypePolicy) -> Iterator[None]:
    """Makes the networks built inside a block compute by a Keras dtype policy.

    Under `"mixed_bfloat16"` or `"mixed_float16"` the networks multiply in 16 bits;
    their weights, all of the flow's own arithmetic, log-dets and log-likelihoods stay
    in float32. A layer keeps its policy, also through saving and loading. A
    `FlowModel` around such a flow takes on its policy, so that `compile` scales the
    loss under `mixed_float16` wherever it is called.

    Args:
        policy: Name of a Keras dtype policy, or a `keras.DTypePolicy`.

    Example:
        >>> import tfp_flows as tfpf
        >>> with network_precision("mixed_bfloat16"):
        ...     flow = tfpf.real_nvp((2,), couplings=2)
        >>> flow.dtype
        tf.float32
    """
    previous = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(previous)


def policy_of(distribution: tfd.Distribution) -> keras.DTypePolicy | None:
    """Returns the mixed precision policy of a distribution's networks, or None.

    Of several, float16, which needs its loss scaled, before bfloat16.
    """
    policies = {
        layer.dtype_policy.name: layer.dtype_policy
        for top in layers_in(distribution, templates=True)
        for layer in layers_inside(top)
    }
    return next((policies[name] for name in MIXED if name in policies), None)
