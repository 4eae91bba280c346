"""Inference: flows as posteriors, and whether those are calibrated."""
