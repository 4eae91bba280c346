"""distrax: split couplings around plain JAX networks, all under one `jax.jit`."""

import distrax
import jax
import jax.numpy as jnp
import optax

from benchmarks.speed.adapters.jax_steps import batches, count, steps
from benchmarks.speed.workloads import LEARNING_RATE, Unsupported


def initial(key, sizes):
    keys = jax.random.split(key, len(sizes) - 1)
    pairs = zip(sizes[:-1], sizes[1:], strict=True)
    return [
        (jax.random.normal(k, (n, m)) * (2 / (n + m)) ** 0.5, jnp.zeros(m))
        for k, (n, m) in zip(keys, pairs, strict=True)
    ]


def apply(layers, x):
    for weight, bias in layers[:-1]:
        x = jax.nn.relu(x @ weight + bias)
    weight, bias = layers[-1]
    return x @ weight + bias


def build(w):
    if w.kind == "glow":
        raise Unsupported
    parameters = 3 * w.bins + 1 if w.kind == "spline" else 2

    def moved(index):
        return w.features - w.kept if index % 2 == 0 else w.kept

    params = [
        initial(
            jax.random.key(i),
            [w.features - moved(i), w.width, w.width, moved(i) * parameters],
        )
        for i in range(w.layers)
    ]

    def inner(raw):
        if w.kind == "spline":
            return distrax.RationalQuadraticSpline(raw, -w.bound, w.bound)
        return distrax.ScalarAffine(shift=raw[..., 0], log_scale=raw[..., 1])

    def flow(params):
        def coupling(i):
            def conditioner(x):
                raw = apply(params[i], x)
                return raw.reshape(*x.shape[:-1], moved(i), parameters)

            swap = i % 2 == 1
            return distrax.SplitCoupling(w.kept, 1, conditioner, inner, swap=swap)

        chain = distrax.Chain([coupling(i) for i in range(w.layers)])
        base = distrax.MultivariateNormalDiag(jnp.zeros(w.features))
        return distrax.Transformed(base, chain)

    x, many = batches(w)
    optimizer = optax.adam(LEARNING_RATE)
    state = [params, optimizer.init(params)]

    @jax.jit
    def step(params, moments):
        def loss(params):
            return -flow(params).log_prob(x).mean()

        value, gradients = jax.value_and_grad(loss)(params)
        updates, moments = optimizer.update(gradients, moments)
        return optax.apply_updates(params, updates), moments, value

    def train():
        state[0], state[1], value = step(*state)
        return state[0], value

    log_prob = jax.jit(lambda params: flow(params).log_prob(many))

    @jax.jit
    def sample(params, key):
        return flow(params).sample(seed=key, sample_shape=(w.batch,))

    key = jax.random.key(1)
    return steps(
        count(params), train, lambda: log_prob(state[0]), lambda: sample(state[0], key)
    )
