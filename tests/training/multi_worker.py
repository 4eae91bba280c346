"""One of several workers that train a flow together.

    TF_CONFIG=... python multi_worker.py FOLDER

Without `TF_CONFIG` it trains alone. Writes the history and every weight.
"""

import json
import os
import sys
from pathlib import Path

import tensorflow as tf

# Before anything else: the strategy starts TensorFlow's collective runtime.
if "TF_CONFIG" in os.environ:
    STRATEGY = tf.distribute.MultiWorkerMirroredStrategy()
else:
    STRATEGY = tf.distribute.get_strategy()

import keras  # noqa: E402
import numpy as np  # noqa: E402

import tfp_flows as tfpf  # noqa: E402


def main(folder):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(120, 2)) @ [[1.5, 1.0], [0.0, 0.3]] + 3.0
    data = tfpf.data.Data(
        "x", "table", x[:96].astype("float32"), x[96:].astype("float32"),
        batch_size=24, seed=3,
    )  # fmt: skip
    with STRATEGY.scope():
        # The draws of the chief count: those of the other worker are others.
        worker = STRATEGY.cluster_resolver.task_id if "TF_CONFIG" in os.environ else 0
        keras.utils.set_random_seed(worker)
        flow = tfpf.glow((2,), steps=2, hidden_units=(8,), dtype="float64")
        model = tfpf.FlowModel(flow)
        model.compile(optimizer=tfpf.optimizer(0.01, ema=0.9))
    history = tfpf.fit_distributed(
        model,
        data.epochs(),
        epochs=2,
        steps_per_epoch=data.steps,
        validation_data=data.test,
        callbacks=[tfpf.Backup(Path(folder) / "backup"), tfpf.AveragedWeights()],
    ).history
    np.savez(Path(folder) / "weights.npz", *[np.array(w) for w in model.weights])
    (Path(folder) / "history.json").write_text(json.dumps(history))


if __name__ == "__main__":
    main(sys.argv[1])
