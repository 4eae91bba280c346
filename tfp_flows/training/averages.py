"""Averaged weights (EMA): evaluated, saved and exported when asked."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from tfp_flows.bijectors.nested import clear_caches, nested_bijectors


@contextlib.contextmanager
def averaged_weights(model: keras.Model) -> Iterator[keras.Model]:
    """Puts the optimizer's averaged weights into a model for the time of a block.

    While an optimizer with `use_ema=True` trains, Keras keeps the averages beside
    the weights, and puts them in their place when `fit` ends. Inside this block they
    are there already: what is evaluated, drawn, saved or exported is the average.
    Afterwards the weights are back, bit for bit.

    Args:
        model: A compiled model whose optimizer was made with `use_ema=True`, such as
            `tff.optimizer(ema=0.999)`.

    Yields:
        The model.

    Raises:
        ValueError: If its optimizer keeps no averages.

    Example:
        >>> import numpy as np, tfp_flows as tff
        >>> model = tff.FlowModel(tff.real_nvp((2,), couplings=2))
        >>> model.compile(optimizer=tff.optimizer(ema=0.9))
        >>> history = model.fit(np.ones([8, 2], "float32"), verbose=0)
        >>> with averaged_weights(model):
        ...     model.save_weights("ema.weights.h5")  # doctest: +SKIP
    """
    optimizer = model.optimizer
    _check_keeps_averages(optimizer)
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    if not int(keras.ops.convert_to_numpy(inner.iterations)):
        yield model  # no step was taken: there is nothing to average yet
        return
    weights = model.trainable_weights
    kept = [np.array(keras.ops.convert_to_numpy(weight)) for weight in weights]
    optimizer.finalize_variable_values(weights)
    _forget(model)
    try:
        yield model
    finally:
        for weight, value in zip(weights, kept, strict=True):
            weight.assign(value)
        _forget(model)


class AveragedWeights(keras.callbacks.Callback):
    """A callback with which `fit` evaluates the averaged weights (EMA).

    The validation figures of every epoch are then those of the weights that the
    model has when training ends. Training itself goes on from the weights as they
    were, bit for bit (Keras's own `SwapEMAWeights` swaps by additions that round).

    Example:
        >>> import numpy as np, tfp_flows as tff
        >>> x = np.random.default_rng(0).normal(size=(64, 2)).astype("float32")
        >>> model = tff.FlowModel(tff.real_nvp((2,), couplings=2))
        >>> model.compile(optimizer=tff.optimizer(ema=0.9))
        >>> averages = AveragedWeights()
        >>> history = model.fit(x, validation_data=x, callbacks=averages, verbose=0)
    """

    def __init__(self) -> None:
        """Starts with the weights in their place."""
        super().__init__()
        self._block: contextlib.ExitStack | None = None

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Refuses an optimizer that keeps no averages before any time is spent."""
        _check_keeps_averages(self.model.optimizer)

    def on_test_begin(self, logs: dict[str, float] | None = None) -> None:
        """Puts the averages into the model."""
        self._enter()

    def on_test_end(self, logs: dict[str, float] | None = None) -> None:
        """Puts the weights back."""
        self._leave()

    def on_predict_begin(self, logs: dict[str, float] | None = None) -> None:
        """Puts the averages into the model."""
        self._enter()

    def on_predict_end(self, logs: dict[str, float] | None = None) -> None:
        """Puts the weights back."""
        self._leave()

    def _enter(self) -> None:
        self._leave()  # an evaluation that broke off left them there
        self._block = contextlib.ExitStack()
        self._block.enter_context(averaged_weights(self.model))

    def _leave(self) -> None:
        if self._block is not None:
            self._block.close()
            self._block = None


def keeps_averages(optimizer: Any) -> bool:
    """Whether an optimizer, or the one that it scales the loss for, keeps averages."""
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    return bool(getattr(inner, "use_ema", False))


def _check_keeps_averages(optimizer: Any) -> None:
    if not keeps_averages(optimizer):
        raise ValueError(
            "The model must be compiled with an optimizer that averages its weights, "
            "such as `tff.optimizer(ema=0.999)` or any Keras optimizer made with "
            f"`use_ema=True`. Received: optimizer={optimizer!r}"
        )


def _forget(model: keras.Model) -> None:
    """Clears what bijectors have computed with the other weights."""
    distribution = getattr(model, "distribution", None)
    if distribution is not None:
        clear_caches(nested_bijectors(distribution))
