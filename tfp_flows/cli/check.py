"""`tfp-flows check`: the laws of change of variables on a trained flow."""

import tensorflow as tf
import typer

from tfp_flows.bijectors.conditional import label_count
from tfp_flows.cli import models, options
from tfp_flows.cli.errors import FAILED, one_sentence
from tfp_flows.testing.check_bijector import check_bijector

ROWS = 16


@one_sentence
def check(model: options.Model, seed: options.Seed = 0) -> None:
    """Check that a trained flow keeps the laws of change of variables.

    Inverse, log-determinant against automatic differentiation, gradients, saving and
    export; the exit code is 1 if a check fails. A conditional flow is checked with
    conditions drawn from a standard normal, or labels drawn evenly.

    For example:

      tfp-flows check runs/digits-glow
    """
    trained, _ = models.load(model, conditional=True)
    flow = trained.distribution
    bijector = getattr(flow, "bijector", None)
    if bijector is None:
        raise ValueError(
            f"`MODEL` must hold a transformed distribution. Received: {flow.name}."
        )
    latents = flow.distribution.sample(ROWS, seed=(0, seed))
    condition = None
    if trained.condition_shape is not None:
        shape = (ROWS, *trained.condition_shape)
        condition = tf.random.stateless_normal(shape, (1, seed), dtype=latents.dtype)
        if (labels := label_count(bijector)) is not None:
            uniform = tf.random.stateless_uniform
            condition = uniform(shape, (1, seed), 0, labels, tf.int32)
    report = check_bijector(bijector, latents, condition=condition)
    typer.echo(str(report))
    if not report.ok:
        raise typer.Exit(FAILED)
