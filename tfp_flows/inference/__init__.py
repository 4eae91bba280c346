"""Inference: flows as posteriors of TFP's models, and whether those are calibrated."""

from tfp_flows.inference.calibration import Calibration, calibrate, calibration_figure
from tfp_flows.inference.diagnostics import LocalTest, c2st, local_c2st
from tfp_flows.inference.posteriors import NeuralPosterior, amortize
from tfp_flows.inference.surrogate import flat_target, surrogate_posterior
