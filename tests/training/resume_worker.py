"""Trains until it is done or killed, and says each batch on its output.

    python resume_worker.py FOLDER RESULT.npz EPOCHS STEPS

Everything random takes part: order, dequantization noise, dropout, and an optimizer
with a schedule, moments and averages.
"""

import sys

import keras
import numpy as np

import tfp_flows as tfpf

BATCH = 16


class SayBatches(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        print("batch", flush=True)


def main(folder, result, epochs, steps):
    keras.utils.set_random_seed(0)
    pixels = np.random.default_rng(0).integers(
        0, 16, (steps * BATCH, 4, 4, 1), np.uint8
    )
    data = tfpf.data.Data(
        "pixels",
        "image",
        pixels,
        pixels[:16],
        pixel_levels=16,
        batch_size=BATCH,
        seed=3,
    )
    flow = tfpf.glow(
        (4, 4, 1),
        levels=1,
        steps=2,
        hidden_channels=8,
        dropout=0.3,
        preprocess=tfpf.logit(16),
    )
    model = tfpf.FlowModel(flow)
    model.compile(
        optimizer=tfpf.optimizer(
            3e-3,
            warmup_steps=10,
            decay="cosine",
            steps=epochs * steps,
            clip_norm=50.0,
            ema=0.9,
        )
    )
    backup = tfpf.Backup(folder)
    done = backup.restore(model)
    history = model.fit(
        data.epochs(done),
        steps_per_epoch=data.steps,
        validation_data=data.test,
        initial_epoch=done,
        epochs=epochs,
        callbacks=[backup, tfpf.AveragedWeights(), SayBatches()],
        verbose=0,
    ).history
    state = [np.array(v) for v in [*model.variables, *model.optimizer.variables]]
    last = {name: values[-1] for name, values in history.items() if values}
    np.savez(result, *state, **last)


if __name__ == "__main__":
    main(*sys.argv[1:3], *map(int, sys.argv[3:]))
