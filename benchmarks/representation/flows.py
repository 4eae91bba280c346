"""The flows whose latents are looked at: trained without labels, kept in a folder."""

import time
from pathlib import Path

import keras
import tensorflow as tf

import tfp_flows as tfpf
from benchmarks.anomaly.flows import OutOfTime, noisy

SIZES = {
    "digits": {"steps": 8, "hidden_channels": 64},
    "fashion_mnist": {"steps": 4, "hidden_channels": 32},
}
ALPHA = {"digits": 0.05, "fashion_mnist": 1e-3}
MINUTES = {"digits": 1.0, "fashion_mnist": 8.0}


def logit_of(name, levels):
    """Returns the bijector between pixels and what the flow works on."""
    return tfpf.logit(float(levels), alpha=ALPHA[name])


def trained(name, data, folder, minutes, seed):
    """Returns a Glow of unlabelled images, and the seconds it was trained for.

    One that stands in the folder already is read, with 0 seconds.
    """
    path = None if folder is None else Path(folder) / f"{name}.keras"
    if path is not None and path.exists():
        return keras.models.load_model(path), 0.0
    keras.utils.set_random_seed(seed)
    flow = tfpf.glow(
        data.event_shape,
        log_scale="soft_clamp",
        levels=2,
        preprocess=logit_of(name, data.pixel_levels),
        **SIZES[name],
    )
    model = tfpf.FlowModel(flow)
    model.compile(optimizer=keras.optimizers.Adam(1e-3, global_clipnorm=50.0))
    kept, held_back = data.hold_back(0.1)
    images = kept.x_train
    batches = tf.data.Dataset.from_tensor_slices(images).shuffle(len(images), seed)
    batches = batches.repeat().batch(64).map(noisy).prefetch(2)
    start = time.monotonic()
    callbacks = [OutOfTime(minutes, 1e-3)]
    if len(images) < 10_000:
        # A flow soon overfits so few images.
        callbacks.append(
            keras.callbacks.EarlyStopping(
                "val_nll", patience=20, restore_best_weights=True
            )
        )
    model.fit(
        batches,
        epochs=10_000,
        steps_per_epoch=100,
        validation_data=held_back.test.take(10),
        callbacks=callbacks,
        verbose=0,
    )
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        model.save(path)
    return model, time.monotonic() - start
