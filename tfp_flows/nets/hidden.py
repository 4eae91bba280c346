"""How the hidden dense layers of conditioners start."""

from __future__ import annotations

from typing import Any

import keras


def hidden_initializers(inputs: int) -> dict[str, Any]:
    """Returns the initializers of a hidden dense layer of so many inputs.

    With `n` inputs, kernels are uniform on +-sqrt(6 / n) (He et al., 2015,
    arXiv:1502.01852) and biases on +-1 / sqrt(n).

    Conditioners often see one or two values only. Keras's own choice is bad there: its
    kernels shrink with the number of *outputs*, so that units hardly bend over the
    range of the data, and with all biases at zero the kinks of all rectifiers lie in
    the one point 0, in every layer.
    """
    bound = max(1, inputs) ** -0.5
    return {
        "kernel_initializer": "he_uniform",
        "bias_initializer": keras.initializers.RandomUniform(-bound, bound),
    }
