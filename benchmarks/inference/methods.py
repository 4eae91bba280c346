"""Fitting a flow to a posterior, and HMC with and without it."""

import time

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_flows as tfpf


def iaf(problem, *, steps=4, width=32, linear=False):
    """An inverse autoregressive flow of a problem's unconstrained values.

    A linear map behind it, if asked for, takes what is badly conditioned.
    """
    return tfpf.maf(
        (problem.size,),
        steps=steps,
        hidden_units=(width, width),
        activation="elu",
        inverse=True,
        preprocess=tfpf.Linear(problem.size) if linear else None,
    )


def fit(problem, flow, *, steps, sample_size=32, rate=5e-3, seed=0, anneal=None):
    """Maximizes the ELBO by `fit`; returns losses, seconds and CPU seconds."""
    model = tfpf.VariationalModel(flow, problem.target, anneal=anneal, seed=seed)
    schedule = keras.optimizers.schedules.CosineDecay(rate, steps)
    model.compile(keras.optimizers.Adam(schedule, clipnorm=10.0))
    wall, cpu = time.perf_counter(), time.process_time()
    losses = model.fit(
        epochs=10, steps_per_epoch=steps // 10, batch_size=sample_size, verbose=0
    ).history["loss"]
    seconds = time.perf_counter() - wall, time.process_time() - cpu
    return np.asarray(losses), *seconds


def weighed(problem, flow, n=4000, seed=(3, 4)):
    """Returns n draws of the flow, `[n, size]`, and their `log p - log q`."""
    flat = tfpf.flat_target(problem.target)

    @tf.function(autograph=False)
    def weigh():
        u, log_q = flow.experimental_sample_and_log_prob(n, seed=seed)
        return flat.unpack.forward(u), flat.log_prob(u) - log_q

    draw, log_weights = weigh()
    return problem.flat(draw), np.asarray(log_weights, np.float64)


def hmc(
    problem,
    *,
    bijector,
    draws,
    burn_in,
    chains=16,
    leapfrogs=8,
    step=0.1,
    seed=(5, 6),
    nuts=False,
):
    """Runs HMC, or NUTS, behind `bijector`; returns draws `[draws, chains, size]`.

    Figures come with them: seconds and gradients are those of the draws that are kept;
    the graph is traced and started before.
    """
    flat = tfpf.flat_target(problem.target)
    inner = (
        tfp.mcmc.NoUTurnSampler(flat.log_prob, step_size=step, max_tree_depth=7)
        if nuts
        else tfp.mcmc.HamiltonianMonteCarlo(
            flat.log_prob, step_size=step, num_leapfrog_steps=leapfrogs
        )
    )
    kernel = tfp.mcmc.DualAveragingStepSizeAdaptation(
        tfp.mcmc.TransformedTransitionKernel(inner, bijector),
        num_adaptation_steps=int(0.8 * burn_in),
        target_accept_prob=0.8,
    )
    start = tf.constant(np.tile(problem.start, (chains, 1)), tf.float32)

    @tf.function(autograph=False)
    def warm():
        return tfp.mcmc.sample_chain(
            1,
            start,
            kernel=kernel,
            num_burnin_steps=burn_in,
            trace_fn=None,
            return_final_kernel_results=True,
            seed=seed,
        )

    def traced(_, results):
        own = results.inner_results.inner_results
        accepted = tf.cast(own.is_accepted, tf.float32)
        taken = own.leapfrogs_taken if nuts else leapfrogs * tf.ones([chains], tf.int32)
        return accepted, taken

    @tf.function(autograph=False)
    def run(n, state, results):
        return tfp.mcmc.sample_chain(
            n,
            state,
            results,
            kernel=kernel,
            trace_fn=traced,
            seed=(seed[0], seed[1] + 1),
        )

    warmed = warm()
    state, results = warmed.all_states[-1], warmed.final_kernel_results
    run(tf.constant(2), state, results)
    wall, cpu = time.perf_counter(), time.process_time()
    states, (accepted, taken) = run(tf.constant(draws), state, results)
    figures = {
        "seconds": time.perf_counter() - wall,
        "cpu_seconds": time.process_time() - cpu,
        "gradients": int(np.sum(taken)),
        "acceptance": float(np.mean(accepted)),
    }
    unpacked = flat.unpack.forward(tf.reshape(states, [-1, problem.size]))
    return problem.flat(unpacked).reshape(draws, chains, -1), figures


def ess(values):
    """Effective sample sizes of each value over all chains, `[size]`."""
    return np.asarray(
        tfp.mcmc.effective_sample_size(
            values.astype(np.float64),
            cross_chain_dims=1,
            filter_beyond_positive_pairs=True,
        )
    )


def rhat(values):
    """Potential scale reduction of each value."""
    return np.asarray(tfp.mcmc.potential_scale_reduction(values.astype(np.float64)))
