"""`from_tfp`: TFP's own flows, with their weights, as flows that Keras 3 trains."""

from __future__ import annotations

from typing import TypeVar

from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

from tfp_flows.bijectors.base import FlowBijector
from tfp_flows.internal.arguments import invalid
from tfp_flows.internal.compat import Chain, Invert
from tfp_flows.interop.couplings import coupling_from, levels_from
from tfp_flows.interop.networks import networks_in

Source = TypeVar("Source", tfb.Bijector, tfd.Distribution)


def from_tfp(source: Source) -> Source:
    """Carries `tfb.RealNVP` and `tfb.Glow` over to bijectors of this package.

    TFP's two flows hold networks of tf_keras, which Keras 3 neither trains nor saves.
    The result computes the same, up to rounding, in both directions.

    * `tfb.RealNVP` becomes an `AffineCoupling` or `AdditiveCoupling` with an equal
      network. The Python function around TFP's network is tried on random inputs, and
      refused if it does something else than splitting the outputs into shifts and
      log-scales.
    * `tfb.Glow` becomes a `MultiScale` of `Squeeze`, `Repeat` and couplings. Its
      networks may be any sequential ones; half of the channels must leave after
      each block but the last, as is TFP's default. Actnorms that have not seen
      data yet wait for `FlowModel.adapt`.
    * Chains, inverted bijectors and distributions around bijectors are rebuilt
      around what was carried over. All other parts stay as they are, with their
      variables, which the result shares with the source.

    Args:
        source: A TFP bijector or distribution. It must have been called once, for
            TFP makes the weights of a `tfb.RealNVP` in its first call.

    Raises:
        ValueError: If a part cannot be carried over; the message says what could be.

    Example:
        >>> import tensorflow_probability as tfp, tfp_flows as tfpf
        >>> tfb, tfd = tfp.bijectors, tfp.distributions
        >>> network = tfb.GlowDefaultNetwork
        >>> glow = tfb.Glow((4, 4, 1), 1, 2, network, tfb.GlowDefaultExitNetwork)
        >>> flow = tfpf.from_tfp(tfd.TransformedDistribution(
        ...     tfd.Sample(tfd.Normal(0.0, 1.0), [16]), glow))
        >>> model = tfpf.FlowModel(flow)
    """
    if isinstance(source, tfb.Bijector):
        return _bijector(source)
    if not isinstance(source, tfd.Distribution):
        raise invalid("source", "be a TFP distribution or bijector", source, TypeError)
    changed = {}
    for name in ("distribution", "bijector"):
        part = source.parameters.get(name)
        if isinstance(part, tfb.Bijector | tfd.Distribution):
            carried = from_tfp(part)
            if carried is not part:
                changed[name] = carried
    # Not `copy`, whose result remembers what it was copied from, networks and all.
    return type(source)(**{**source.parameters, **changed}) if changed else source


def _bijector(source: tfb.Bijector) -> tfb.Bijector:
    if isinstance(source, FlowBijector):
        return source
    if isinstance(source, tfb.RealNVP):
        return coupling_from(source)
    if isinstance(source, tfb.Glow):
        return levels_from(source)
    if isinstance(source, Chain):
        parts = [_bijector(part) for part in source.bijectors]
        if all(new is old for new, old in zip(parts, source.bijectors, strict=True)):
            return source
        return tfb.Chain(parts, validate_args=source.validate_args, name=source.name)
    if isinstance(source, Invert):
        inner = _bijector(source.bijector)
        return source if inner is source.bijector else tfb.Invert(inner)
    if networks_in(source):
        raise ValueError(
            "Only `tfb.RealNVP` and `tfb.Glow` are carried over, in chains, inverted, "
            f"and in distributions. Received: a '{type(source).__name__}' named "
            f"'{source.name}' with a network of tf_keras"
        )
    return source
