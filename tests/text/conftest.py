"""A small language of eight words, and a flow that has learned it."""

import numpy as np
import pytest
import tensorflow as tf

import tfp_flows as tfpf

ALPHABET = " aeinorst"
WORDS = ("rain", "stone", "nest", "oar", "tea", "rise", "notes", "antares")
LENGTH = 12


def written(words, seed):
    """A text of words drawn at random: the spelling is all there is to learn."""
    return " ".join(np.random.default_rng(seed).choice(WORDS, words))


@pytest.fixture(scope="session")
def small_text():
    """The alphabet, and windows of a text to train on and of another one."""
    train = tfpf.text.windows(written(8_000, 1), LENGTH, alphabet=ALPHABET)
    test = tfpf.text.windows(written(1_000, 2), LENGTH, alphabet=ALPHABET)
    return ALPHABET, train, test


@pytest.fixture
def fresh():
    """Builds a small flow of that language."""

    def build(step="mixture", **options):
        sizes = {"units": (40,), "features": 16, "bins": 6, "hidden_units": (32,)}
        return tfpf.text.TextFlow(ALPHABET, LENGTH, step=step, **(sizes | options))

    return build


@pytest.fixture(scope="session")
def jacobian_log_det():
    """`log |det|` of the Jacobian of a function of rows, by automatic differentiation.

    Each row is repeated for each output, so that one gradient holds all of them.
    """

    def log_det(function, x, *conditions):
        x = tf.convert_to_tensor(x)
        n, size = len(x), int(np.prod(x.shape[1:]))
        given = [tf.repeat(c, size, axis=0) for c in conditions]

        @tf.function(autograph=False)
        def jacobian(repeated):
            with tf.GradientTape() as tape:
                tape.watch(repeated)
                values = tf.reshape(function(repeated, *given), [n, size, size])
                diagonal = tf.reduce_sum(tf.linalg.diag_part(values))
            return tape.gradient(diagonal, repeated)

        found = jacobian(tf.repeat(x, size, axis=0))
        return np.linalg.slogdet(np.reshape(found, [n, size, size]))[1]

    return log_det
