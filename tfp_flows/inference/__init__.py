"""Inference: flows as posteriors of TFP's models, and whether those are calibrated."""

from tfp_flows.inference.arviz import from_arviz, to_arviz
from tfp_flows.inference.calibration import (
    Calibration,
    calibrate,
    calibration_figure,
    contraction_figure,
    ecdf_figure,
    posterior_draws,
    tarp,
)
from tfp_flows.inference.diagnostics import (
    TwoSampleTest,
    c2st,
    local_c2st,
    mmd,
    posterior_predictive,
    two_sample_figure,
)
from tfp_flows.inference.information import (
    entropy,
    mutual_information,
    total_correlation,
)
from tfp_flows.inference.likelihoods import NeuralLikelihood
from tfp_flows.inference.pictures import posterior_figure
from tfp_flows.inference.posteriors import (
    AmortizedPosterior,
    NeuralPosterior,
    amortize,
)
from tfp_flows.inference.surrogate import flat_target, surrogate_posterior
from tfp_flows.inference.variational import VariationalModel
from tfp_flows.inference.weights import (
    Evidence,
    Smoothed,
    effective_sample_size,
    evidence,
    psis,
    weights_figure,
)
