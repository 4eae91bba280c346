"""`RatioScorer`: the likelihood against that of a background."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from tfp_flows import saving as serialization
from tfp_flows.anomaly.scorer import AnomalyScorer
from tfp_flows.training.model import FlowModel
from tfp_flows.training.sampling import distribution_of


@keras.saving.register_keras_serializable(package="tfp_flows")
class RatioScorer(AnomalyScorer):
    """Scores by how much less likely a row is than under a background flow, in nats.

        s(x) = log p_background(x) - log p(x)

    The background is a flow of what normal and anomalous rows have in common, such as
    one trained on `mutated` copies of the training images: it knows flat areas and
    smooth edges, and their likelihood cancels.

    The scorer keeps a frozen copy of the background, with its weights, in the saved
    file and in the export; what it was made from is not touched.

    Args:
        background: A `tfpf.FlowModel` or TFP distribution over the same events, without
            conditions.
        **kwargs: Arguments of `AnomalyScorer`.

    Reference:
        Ren et al.: Likelihood Ratios for Out-of-Distribution Detection, 2019,
        arXiv:1906.02845.
    """

    def __init__(self, background: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        original = FlowModel(distribution_of(background, "background"))
        if original.condition_shape is not None:
            raise ValueError(
                "Argument `background` must be a flow without conditions. "
                f"Received: condition_shape={original.condition_shape}"
            )
        description = serialization.serialize(original.distribution)
        self.background = FlowModel(serialization.deserialize(description))
        self.background.set_weights(original.get_weights())
        self.background.trainable = False

    def call(self, x: Any, log_prob: Any, latent: Any) -> tf.Tensor:
        """Returns the scores `[n]`."""
        background = self.background.distribution
        expected = background.log_prob(tf.cast(x, background.dtype))
        return tf.cast(expected, log_prob.dtype) - log_prob

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments, the background without its weights."""
        description = serialization.serialize(self.background.distribution)
        return {**super().get_config(), "background": description}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> RatioScorer:
        """Builds the scorer that `get_config` described, with fresh weights."""
        background = serialization.deserialize(config["background"])
        return cls(**{**config, "background": background})
