"""A learning rate that falls over the epochs of whatever `fit` is under way."""

import math

import keras


class HalfCosine(keras.callbacks.Callback):
    """Lets the learning rate fall along half a cosine, from epoch to epoch.

    rate(epoch) = highest / 2 (1 + cos(pi epoch / epochs))

    In two stages the number of epochs is that of each stage.
    """

    def __init__(self, highest):
        super().__init__()
        self.highest = highest

    def on_epoch_begin(self, epoch, logs=None):
        share = epoch / self.params["epochs"]
        rate = self.highest * 0.5 * (1.0 + math.cos(math.pi * share))
        self.model.optimizer.learning_rate = rate
