"""TFP distributions as JSON, without pickle and without code.

An object is described by its public class and its constructor's arguments. What
is learned also stands in the weights that Keras saves; a Keras layer is described
by its configuration alone. Parts that are shared stay shared.
"""

from tfp_flows.saving.description import deserialize, layer_config, serialize
