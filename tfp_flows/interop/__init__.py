"""Flows of other libraries carried over, weights included."""

from tfp_flows.interop.from_tfp import from_tfp
