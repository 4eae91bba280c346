"""What a `FlowModel` carries besides its flow: an anomaly scorer."""

from __future__ import annotations

from typing import Any

import keras


class CarriesScorer:
    """The attribute `anomaly_scorer` of a model, kept in its configuration.

    Here a scorer is any registered Keras layer; those that know what to do are in
    `tfp_flows.tools.anomaly`. Weights that it has are saved with the model's.
    """

    _anomaly_scorer: keras.layers.Layer | None = None

    @property
    def anomaly_scorer(self) -> keras.layers.Layer | None:
        """The fitted scorer that is saved and exported with the model, or None."""
        return self._anomaly_scorer

    @anomaly_scorer.setter
    def anomaly_scorer(self, scorer: keras.layers.Layer | None) -> None:
        if scorer is not None and not isinstance(scorer, keras.layers.Layer):
            raise TypeError(
                "Argument `anomaly_scorer` must be a Keras layer, such as "
                "`tff.anomaly.TypicalityScorer()`, or None. "
                f"Received: {scorer!r} of type {type(scorer).__name__}"
            )
        if self._anomaly_scorer is not None:
            # Keras forgets a replaced attribute, but not the layer that it was.
            self._tracker.untrack(self._anomaly_scorer)
        self._anomaly_scorer = scorer

    def scorer_config(self) -> dict[str, Any]:
        """Describes the scorer for the model's configuration; empty without one."""
        if self._anomaly_scorer is None:
            return {}
        return {
            "anomaly_scorer": keras.saving.serialize_keras_object(self._anomaly_scorer)
        }

    def restore_scorer(self, description: dict[str, Any] | None) -> None:
        """Takes up the scorer that `scorer_config` described."""
        if description is not None:
            self.anomaly_scorer = keras.saving.deserialize_keras_object(description)
