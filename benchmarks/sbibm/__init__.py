"""The benchmark of simulation-based inference, with TFP Flows' estimators."""
