"""How the hidden dense layers of conditioners start."""

from __future__ import annotations

from typing import Any

import keras

# Networks of so few values start wide.
_FEW = 4


def hidden_initializers(inputs: int, values: int) -> dict[str, Any]:
    """Returns the initializers of a hidden dense layer of so many inputs.

    With `n` inputs of the layer, biases are uniform on +-1 / sqrt(n) and kernels on
    +-sqrt(6 / n) (He et al., 2015, arXiv:1502.01852) in a network of few values,
    else on +-1 / sqrt(n) too.

    Conditioners often see one or two values only. Keras's own choice is bad there: its
    kernels shrink with the number of *outputs*, so that units hardly bend over the
    range of the data, and with all biases at zero the kinks of all rectifiers lie in
    the one point 0, in every layer. Networks of many values, of which there are never
    enough rows, had better start smooth: there He's kernels learn noise sooner.

    Args:
        inputs: Number of inputs of the layer.
        values: Number of values that the whole network sees, conditions included.
    """
    bound = max(1, inputs) ** -0.5
    uniform = keras.initializers.RandomUniform
    wide = values <= _FEW
    return {
        "kernel_initializer": "he_uniform" if wide else uniform(-bound, bound),
        "bias_initializer": uniform(-bound, bound),
    }
