"""FlowJAX: `coupling_flow`, whose layers are scanned."""

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
import paramax
from flowjax.bijections import Affine, RationalQuadraticSpline
from flowjax.distributions import Normal
from flowjax.flows import coupling_flow

from benchmarks.speed.adapters.jax_steps import batches, count, steps
from benchmarks.speed.workloads import LEARNING_RATE, Unsupported


def build(w):
    if w.kind == "glow":
        raise Unsupported
    transformer = Affine()
    if w.kind == "spline":
        transformer = RationalQuadraticSpline(knots=w.bins, interval=w.bound)
    flow = coupling_flow(
        jax.random.key(0),
        base_dist=Normal(jnp.zeros(w.features)),
        transformer=transformer,
        flow_layers=w.layers,
        nn_width=w.width,
        nn_depth=2,
    )
    x, many = batches(w)
    params, static = eqx.partition(
        flow,
        eqx.is_inexact_array,
        is_leaf=lambda leaf: isinstance(leaf, paramax.NonTrainable),
    )
    optimizer = optax.adam(LEARNING_RATE)
    state = [params, optimizer.init(params)]

    def unwrapped(params):
        return paramax.unwrap(eqx.combine(params, static))

    @eqx.filter_jit
    def step(params, moments):
        def loss(params):
            return -unwrapped(params).log_prob(x).mean()

        value, gradients = eqx.filter_value_and_grad(loss)(params)
        updates, moments = optimizer.update(gradients, moments, params)
        return eqx.apply_updates(params, updates), moments, value

    def train():
        state[0], state[1], value = step(*state)
        return state[0], value

    @eqx.filter_jit
    def log_prob(params):
        return unwrapped(params).log_prob(many)

    @eqx.filter_jit
    def sample(params, key):
        return unwrapped(params).sample(key, (w.batch,))

    key = jax.random.key(1)
    return steps(
        count(params), train, lambda: log_prob(state[0]), lambda: sample(state[0], key)
    )
