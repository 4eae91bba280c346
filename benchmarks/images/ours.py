"""Trains one of our image flows on Fashion-MNIST for a fixed time.

    python -m benchmarks.images.ours --data DATA --out LOGS --flow glow
    python -m benchmarks.images.ours --data DATA --out LOGS --flow jet --preset small

With `--preset` sizes, rate, batch size and clipping are those of `tfp-flows train`; the
rate follows the clock. The first run writes the images to `DATA/fashion_mnist.npz`,
which the other side reads too. The model is left in `LOGS/<flow>.keras`.
"""

import math

import keras
import numpy as np
import tensorflow as tf

import tfp_flows as tfpf
from benchmarks.images import protocol
from tfp_flows.cli import recipes

OWN_SIZES = ("glow", "real_nvp", "nice")  # by the options, as the peer's
EVALUATIONS = 24  # on a tenth of the test images, during training


def build(options):
    """Returns the flow that is asked for."""
    shape, preprocess = (28, 28, 1), tfpf.logit(256, alpha=options.alpha)
    if options.preset:
        recipe = recipes.RECIPES[options.preset]["image"][options.flow]
        if recipe.preprocess == "splines":
            preprocess = recipes.behind_splines(preprocess, shape)
        options.learning_rate = recipe.learning_rate
        options.batch_size, options.clip = recipe.batch_size, recipe.clip_norm
        architecture = getattr(tfpf, recipe.flow)
        return architecture(shape, preprocess=preprocess, **recipe.architecture)
    if options.flow == "glow":
        return tfpf.glow(
            shape,
            levels=options.levels,
            steps=options.steps,
            hidden_channels=options.hidden_channels,
            log_scale=options.log_scale,
            preprocess=preprocess,
        )
    if options.flow == "real_nvp":
        return tfpf.real_nvp(
            shape,
            levels=options.levels,
            hidden_channels=options.hidden_channels,
            log_scale=options.log_scale,
            preprocess=preprocess,
        )
    return tfpf.nice(shape, steps=4, hidden_units=(1000,) * 3, preprocess=preprocess)


def write_data(folder):
    """Writes the images for both sides, unless they are there."""
    if not (folder / protocol.DATA_FILE).exists():
        folder.mkdir(parents=True, exist_ok=True)
        data = tfpf.data.load("fashion_mnist")
        np.savez(folder / protocol.DATA_FILE, train=data.x_train, test=data.x_test)


def batches(images, batch_size, seed):
    """Endless shuffled batches with fresh uniform noise."""

    def dequantized(batch):
        values = tf.cast(batch, tf.float32)
        return values + tf.random.uniform(tf.shape(values), maxval=1 - 2**-16)

    dataset = tf.data.Dataset.from_tensor_slices(images).shuffle(len(images), seed)
    dataset = dataset.repeat().batch(batch_size, drop_remainder=True)
    return dataset.map(dequantized).prefetch(tf.data.AUTOTUNE)


class Budget(keras.callbacks.Callback):
    """Sets the learning rate by the clock, evaluates now and then, stops in time."""

    def __init__(self, options, log, test):
        super().__init__()
        self.clock = protocol.Clock(options.minutes, options.one_core)
        self.images = 0
        self._options, self._log, self._test = options, log, test
        self._next, self._bits = 1, []

    def on_train_batch_begin(self, batch, logs=None):
        rate = protocol.learning_rate(self._options.learning_rate, self.clock.share())
        self.model.optimizer.learning_rate = rate

    def on_train_batch_end(self, batch, logs=None):
        self.images += self._options.batch_size
        self._bits.append(logs["bits_per_dim"])
        self.model.reset_metrics()
        share = self.clock.share()
        if share >= self._next / EVALUATIONS or share >= 1.0:
            self._next = int(share * EVALUATIONS) + 1
            start = self.clock.now()
            test = self.model.bits(self._test[: len(self._test) // 10])
            self._log.row(
                self.clock.seconds(), self.images, np.mean(self._bits[-100:]), test
            )
            self.clock.pause(self.clock.now() - start)
        if share >= 1.0:
            self.model.stop_training = True


class Model(tfpf.FlowModel):
    """A flow model with a test score."""

    def bits(self, images):
        """Returns bits per dimension of dequantized images."""
        log_prob = self.predict(images, batch_size=250, verbose=0)
        return -float(np.mean(log_prob)) / (784 * math.log(2))


def main():
    parser = protocol.arguments(__doc__)
    parser.add_argument("--flow", choices=recipes.FLOWS, default="glow")
    parser.add_argument("--preset", choices=recipes.PRESETS)
    parser.add_argument("--log-scale", default="soft_clamp")
    options = parser.parse_args()
    if not options.preset and options.flow not in OWN_SIZES:
        parser.error(f"--flow {options.flow} needs --preset")
    write_data(options.data)
    keras.utils.set_random_seed(options.seed)
    train, test = protocol.load(options.data)
    test = protocol.dequantized(test, seed=1)
    model = Model(build(options))
    log = protocol.Log(options.out, options.flow, options)
    budget = Budget(options, log, test)
    optimizer = keras.optimizers.Adam(
        options.learning_rate, global_clipnorm=options.clip
    )
    model.compile(optimizer)
    model.adapt(protocol.dequantized(train[:1024], seed=2))
    model.fit(
        batches(train, options.batch_size, options.seed),
        steps_per_epoch=10**9,
        callbacks=[budget],
        verbose=0,
    )
    seconds = budget.clock.seconds()
    tfpf.save_distribution(model.distribution, options.out / f"{options.flow}.keras")
    log.finish(
        test_bits_per_dim=model.bits(test),
        training_seconds=seconds,
        images=budget.images,
        weights=sum(math.prod(v.shape) for v in model.trainable_weights),
        tensorflow=tf.__version__,
    )


if __name__ == "__main__":
    main()
