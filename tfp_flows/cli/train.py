"""`tfp-flows train`: from the name of a data set to a tested, exported flow."""

from __future__ import annotations

import dataclasses
import enum
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tfp_flows.cli import options
from tfp_flows.cli.recipes import FLOWS, PRESETS, Recipe

if TYPE_CHECKING:
    from tfp_flows.cli.run_directory import RunDirectory
    from tfp_flows.data import Data
    from tfp_flows.training.model import FlowModel

# Watching the held-out part while training costs at most so many examples an epoch.
WATCHED_EXAMPLES = 2_048
# How long the part held back may get no better before training ends.
PATIENCE_EPOCHS = 5


Flow = enum.Enum("Flow", {name: name for name in FLOWS}, type=str)
Preset = enum.Enum("Preset", {name: name for name in PRESETS}, type=str)


@options.command
def train(
    data: options.DataName,
    flow: Annotated[
        Flow | None, typer.Option(help="Architecture (default: what suits the data)")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder to make (default: runs/DATA-FLOW)")
    ] = None,
    preset: Annotated[
        Preset, typer.Option(help="Minutes on a CPU, or the sizes of the papers.")
    ] = Preset.small,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an interrupted run.")
    ] = False,
    epochs: Annotated[int | None, typer.Option(help="Epochs of training.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Examples a step.")] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="Highest learning rate.")
    ] = None,
    weight_decay: Annotated[float | None, typer.Option(help="Of AdamW.")] = None,
    warmup_steps: Annotated[
        int | None,
        typer.Option("--warmup", help="Steps in which the learning rate rises."),
    ] = None,
    clip_norm: Annotated[
        str | None,
        typer.Option(
            help="Largest norm of a step's gradient: a number, or none, tight (1), "
            "medium (5) or loose (100)."
        ),
    ] = None,
    ema: Annotated[
        float | None,
        typer.Option(
            help="Evaluate, keep and export averaged weights, with this momentum "
            "(such as 0.999)."
        ),
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(
            help="Keras dtype policy of the networks: float32, mixed_bfloat16 or "
            "mixed_float16. The flow's arithmetic stays in float32."
        ),
    ] = None,
    seed: options.Seed = 0,
    levels: Annotated[int | None, typer.Option(help="Levels of an image flow.")] = None,
    steps: Annotated[
        int | None,
        typer.Option(
            "--steps",
            "--couplings",
            "--layers",
            help="Steps: couplings, layers, solves; for Glow in each level.",
        ),
    ] = None,
    blocks: Annotated[
        int | None, typer.Option(help="Residual blocks in RealNVP's networks.")
    ] = None,
    hidden_units: Annotated[
        str | None, typer.Option(help="Widths of dense networks, such as 128,128.")
    ] = None,
    hidden_channels: Annotated[
        int | None, typer.Option(help="Width of convolutional networks.")
    ] = None,
    bins: Annotated[int | None, typer.Option(help="Bins of each spline.")] = None,
    patch: Annotated[int | None, typer.Option(help="Side of a token's patch.")] = None,
    width: Annotated[int | None, typer.Option(help="Features of a token.")] = None,
    heads: Annotated[int | None, typer.Option(help="Heads of attention.")] = None,
    depth: Annotated[
        int | None,
        typer.Option(help="Blocks of attention, layers of NAF."),
    ] = None,
    dropout: Annotated[float | None, typer.Option(help="Share to drop.")] = None,
    test_fraction: Annotated[
        float | None,
        typer.Option(help="Share to hold out (default: the set's own, or 0.2)"),
    ] = None,
    n_bits: options.NBits = None,
    image_size: options.ImageSize = None,
    data_dir: options.DataDir = None,
    key: options.Key = None,
    quiet: Annotated[
        bool, typer.Option("--quiet", help="No progress while training.")
    ] = False,
) -> None:
    """Train a flow, compare it with two baselines, and export it.

    Writes into the folder `--out`: report.json, history.csv, learning_curve.png,
    real_and_sampled.png, flow.keras and saved_model/, ready for TF Serving. The
    SavedModel is loaded again and must give the same log-densities.

    For example:

      tfp-flows train --data digits

      tfp-flows train --data two_moons --flow spline_flow --epochs 20

      tfp-flows train --data wine.csv --flow real_nvp --steps 6 --out runs/wine

      tfp-flows train --data fashion_mnist --flow glow --data-dir ~/tfds
    """
    given = dict(locals())
    import keras
    from rich.console import Console

    from tfp_flows import data as flow_data
    from tfp_flows.cli import recipes, report

    loaded = flow_data.load(
        data,
        test_fraction=test_fraction,
        seed=seed,
        n_bits=n_bits,
        data_dir=data_dir,
        image_size=image_size,
        key=key,
    )
    given["hidden_units"] = options.widths(hidden_units)
    recipe = recipes.choose(
        loaded,
        flow.value if flow else None,
        preset.value,
        architecture={name: given[name] for name in recipes.ARCHITECTURE},
        training={name: given[name] for name in recipes.TRAINING},
    )
    loaded = dataclasses.replace(loaded, batch_size=recipe.batch_size)
    keras.utils.set_random_seed(seed)
    model = recipes.compiled(recipe, loaded)
    run = _open_run(out, resume, recipe, loaded, model)
    console = Console()
    console.print(
        f"{recipe.flow} with {model.count_params():,} weights on {loaded.name}: "
        f"{len(loaded.x_train):,} examples to train, {len(loaded.x_test):,} held out"
    )
    # Keras's moving bar on a terminal, a line an epoch elsewhere.
    verbose = 0 if quiet else 1 if sys.stdout.isatty() else 2
    seconds = _fit(model, loaded, recipe, run, verbose)
    results = report.write(run, model, loaded, recipe, seconds)
    run.finish()
    console.print(report.table(results))
    console.print(f"Everything is in {run.path}")


def _open_run(
    out: Path | None, resume: bool, recipe: Recipe, data: Data, model: FlowModel
) -> RunDirectory:
    """Makes or opens the run's folder, once everything else has proved right."""
    from tfp_flows.cli.run_directory import RunDirectory, default_path

    settings = dataclasses.asdict(recipe) | {
        "data": data.name,
        "seed": data.seed,
        "examples": [len(data.x_train), len(data.x_test)],
        "pixel_levels": data.pixel_levels,
        "event_shape": list(model.event_shape),
    }
    path = out or default_path(data.name, recipe.flow, resume)
    opened = RunDirectory.resume if resume else RunDirectory.start
    return opened(path, settings)


def _fit(
    model: FlowModel, data: Data, recipe: Recipe, run: RunDirectory, verbose: int
) -> float:
    """Trains, and returns the seconds it took."""
    import keras

    from tfp_flows.training.callbacks import AveragedWeights

    watched = data
    if recipe.validation:
        data, watched = data.hold_back(recipe.validation)
    started = time.monotonic()
    done = run.restore(model)
    callbacks: list[keras.callbacks.Callback] = []
    if recipe.ema:
        callbacks.append(AveragedWeights())
    if recipe.validation:
        callbacks.append(run.keep_best())
    callbacks += run.callbacks()
    if recipe.validation:
        patience = max(PATIENCE_EPOCHS, recipe.epochs // 10)
        early = run.stop_early(patience)
        callbacks.append(early)
        if early.is_out_of_patience:
            done = recipe.epochs
    model.fit(
        data.epochs(done),
        steps_per_epoch=data.steps,
        validation_data=watched.test.take(-(-WATCHED_EXAMPLES // data.batch_size)),
        initial_epoch=done,
        epochs=recipe.epochs,
        callbacks=callbacks,
        verbose=verbose,
        shuffle=False,  # the epochs are shuffled already
    )
    if recipe.validation:
        run.restore_best(model)
    return time.monotonic() - started
