"""Data sets: digits, toy densities, files and TFDS images, split and in batches."""

from tfp_flows.data.data import Data
from tfp_flows.data.datasets import is_file, load, load_pieces
from tfp_flows.data.files import FileData, read_file
from tfp_flows.data.passes import endless_passes
from tfp_flows.data.pieces import read_pieces
from tfp_flows.data.preprocessing import dequantize, reduce_bits, split_indices
from tfp_flows.data.tables import read_table, write_table
from tfp_flows.data.toy import log_density, sample, true_entropy

__all__ = [
    "Data",
    "FileData",
    "dequantize",
    "endless_passes",
    "is_file",
    "load",
    "load_pieces",
    "log_density",
    "read_file",
    "read_pieces",
    "read_table",
    "reduce_bits",
    "sample",
    "split_indices",
    "true_entropy",
    "write_table",
]
