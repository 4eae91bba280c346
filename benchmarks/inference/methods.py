"""Fitting a flow to a posterior, and HMC with and without it."""

import time

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_flows as tfpf


def iaf(problem, *, steps=4, width=32):
    """An inverse autoregressive flow of a problem's unconstrained values."""
    return tfpf.maf(
        (problem.size,),
        steps=steps,
        hidden_units=(width, width),
        activation="elu",
        inverse=True,
    )


def fit(problem, flow, *, steps, sample_size=32, rate=2e-3, seed=(0, 1)):
    """Maximizes the ELBO with a Keras optimizer; returns losses and seconds."""
    schedule = keras.optimizers.schedules.CosineDecay(rate, steps)
    optimizer = keras.optimizers.Adam(schedule, clipnorm=10.0)
    optimizer.build(list(flow.trainable_variables))
    started = time.perf_counter()
    losses = tfp.vi.fit_surrogate_posterior(
        tfpf.flat_target(problem.target).log_prob,
        flow,
        optimizer=optimizer,
        num_steps=steps,
        sample_size=sample_size,
        trainable_variables=flow.trainable_variables,
        seed=seed,
    )
    return np.asarray(losses), time.perf_counter() - started


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
    problem, *, bijector, draws, burn_in, chains=16, leapfrogs=8, step=0.1, seed=(5, 6)
):
    """Runs HMC behind `bijector`; returns draws `[draws, chains, size]` and figures.

    Seconds and gradients are those of the draws that are kept; the graph is traced
    and started before.
    """
    flat = tfpf.flat_target(problem.target)
    inner = tfp.mcmc.HamiltonianMonteCarlo(
        flat.log_prob, step_size=step, num_leapfrog_steps=leapfrogs
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

    @tf.function(autograph=False)
    def run(n, state, results):
        return tfp.mcmc.sample_chain(
            n,
            state,
            results,
            kernel=kernel,
            trace_fn=lambda _, r: r.inner_results.inner_results.is_accepted,
            seed=(seed[0], seed[1] + 1),
        )

    warmed = warm()
    state, results = warmed.all_states[-1], warmed.final_kernel_results
    run(tf.constant(2), state, results)
    wall, cpu = time.perf_counter(), time.process_time()
    states, accepted = run(tf.constant(draws), state, results)
    figures = {
        "seconds": time.perf_counter() - wall,
        "cpu_seconds": time.process_time() - cpu,
        "gradients": draws * chains * leapfrogs,
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
