"""Data sets: digits, toy densities, files and TFDS images, split and in batches."""

from tfp_flows.data.datasets import (
    Data,
    check_image_size,
    dequantize,
    is_file,
    load,
    load_shards,
    reduce_bits,
    split_indices,
)
from tfp_flows.data.files import (
    FileData,
    read_file,
    read_shards,
    read_table,
    write_table,
)
from tfp_flows.data.particles import double_well, lennard_jones
from tfp_flows.data.toy import log_density, sample, true_entropy
from tfp_flows.internal.batching import endless_minibatches as endless_epochs
