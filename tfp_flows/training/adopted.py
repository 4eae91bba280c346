"""`AdoptedVariables`: a distribution's own variables as Keras weights."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf


class AdoptedVariables(keras.Layer):
    """Keras weights that are a distribution's own `tf.Variable`s.

    Each weight shares its storage with the user's variable, so that training and
    loading change the variable that the distribution reads.
    """

    def __init__(self, variables: list[tf.Variable], **kwargs: Any) -> None:
        super().__init__(autocast=False, **kwargs)
        for index, variable in enumerate(variables):
            weight = self.add_weight(
                variable.shape,
                "zeros",
                dtype=keras.backend.standardize_dtype(variable.dtype),
                trainable=variable.trainable,
                name=f"variable_{index}",
            )
            weight._value = variable
        self.built = True


def raw_variables(content: tf.Module, layers: list[keras.Layer]) -> list[tf.Variable]:
    """Returns the variables of a distribution or bijector that no layer owns."""
    known = {id(v._value) for layer in layers for v in layer.variables}
    return [v for v in content.variables if id(v) not in known]
