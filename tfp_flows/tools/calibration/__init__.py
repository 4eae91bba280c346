"""Whether a posterior's uncertainties are right, tried on simulated data."""

from tfp_flows.tools.calibration.picture import calibration_figure
from tfp_flows.tools.calibration.ranks import Calibration, calibrate, ranks

__all__ = ["Calibration", "calibrate", "calibration_figure", "ranks"]
