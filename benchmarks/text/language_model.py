"""A recurrent language model in plain Keras, of as many weights as a flow has."""

import keras
import numpy as np


class LanguageModel:
    """Probabilities of the next character by an LSTM: what a flow is measured by.

    An embedding of the characters before, a layer of LSTM, and a softmax; at the
    start of a window stands a character of its own.
    """

    def __init__(self, categories: int, units: int, features: int) -> None:
        self.start = categories
        self.model = keras.Sequential(
            [
                keras.layers.Input([None], dtype="int32"),
                keras.layers.Embedding(categories + 1, features),
                keras.layers.LSTM(units, return_sequences=True),
                keras.layers.Dense(categories),
            ]
        )

    def before(self, windows: np.ndarray) -> np.ndarray:
        """Returns what is known at each position: windows one step late."""
        return np.pad(windows[:, :-1], [(0, 0), (1, 0)], constant_values=self.start)

    def window_bits(self, windows: np.ndarray) -> np.ndarray:
        """Returns `-log2 P` of each window, in bits a character."""
        logits = self.model.predict(self.before(windows), batch_size=500, verbose=0)
        nats = keras.ops.sparse_categorical_crossentropy(
            windows, logits, from_logits=True
        )
        return np.mean(nats, axis=1) / np.log(2.0)

    def sample(self, n: int, length: int, seed: int = 0) -> np.ndarray:
        """Draws windows, one character after the other."""
        rows = np.zeros([n, length], np.int32)
        for t in range(length):
            logits = self.model(self.before(rows), training=False)[:, t]
            rows[:, t] = keras.random.categorical(logits, 1, seed=seed * length + t)[
                :, 0
            ]
        return rows


def language_model_of(weights: int, categories: int, features: int) -> LanguageModel:
    """Returns the language model whose number of weights is nearest to `weights`."""

    def count(units: int) -> int:
        recurrent = 4 * units * (units + features + 1)
        return (categories + 1) * features + recurrent + (units + 1) * categories

    units = min(range(1, 4096), key=lambda units: abs(count(units) - weights))
    made = LanguageModel(categories, units, features)
    if made.model.count_params() != count(units):
        raise RuntimeError("The count of weights is not Keras's own.")
    return made
