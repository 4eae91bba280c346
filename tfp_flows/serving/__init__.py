"""From a trained flow to a server: SavedModels with checked signatures."""

from tfp_flows.serving.export import export_saved_model
from tfp_flows.serving.metadata import read_metadata, show_export
from tfp_flows.serving.protos import (
    ModelEntry,
    write_batching_config,
    write_models_config,
)
from tfp_flows.serving.server import serve
from tfp_flows.serving.tflite import export_tflite
