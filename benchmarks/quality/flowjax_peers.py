"""Trains FlowJAX's block neural autoregressive flow, in an environment that has it."""

import functools
import math
import sys
from pathlib import Path

import equinox
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flowjax.distributions import StandardNormal
from flowjax.flows import block_neural_autoregressive_flow

sys.path.insert(0, str(Path(__file__).parent))
import protocol


def bnaf(seed, features):
    return block_neural_autoregressive_flow(
        jax.random.key(seed),
        base_dist=StandardNormal((features,)),
        flow_layers=2,
        nn_depth=2,
        nn_block_dim=8,
    )


MODELS = {"flowjax_bnaf": bnaf}


@functools.cache
def compiled(steps):
    rate = functools.partial(protocol.rate_at, steps=steps)
    optimizer = optax.inject_hyperparams(optax.adam)(learning_rate=jnp.asarray(rate(0)))

    @equinox.filter_jit
    def loss(flow, rows):
        return -flow.log_prob(rows).mean()

    @equinox.filter_jit
    def step(flow, state, batch):
        gradient = equinox.filter_grad(loss)(flow, batch)
        change, state = optimizer.update(gradient, state)
        return equinox.apply_updates(flow, change), state

    return optimizer, loss, step


def train_one(name, train, validation, test, seed, every, steps):
    optimizer, loss, update = compiled(steps)
    flow = MODELS[name](seed, train.shape[1])
    # FlowJAX marks what is not trained; here that is the base.
    state = optimizer.init(equinox.filter(flow, equinox.is_inexact_array))
    held = {"flow": flow, "state": state}

    def step(batch, rate):
        held["state"].hyperparams["learning_rate"] = jnp.asarray(rate)
        held["flow"], held["state"] = update(held["flow"], held["state"], batch)

    found = protocol.fit(
        train,
        validation,
        test,
        step=step,
        nll=lambda rows: float(loss(held["flow"], rows)),
        steps=steps,
        seed=seed,
        every=every,
        patience=math.inf,
    )
    arrays = jax.tree.leaves(equinox.filter(flow, equinox.is_inexact_array))
    return {"nll": found, "weights": sum(np.size(array) for array in arrays)}


if __name__ == "__main__":
    protocol.main("flowjax", MODELS, train_one)
