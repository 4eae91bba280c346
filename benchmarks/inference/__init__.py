"""Variational inference and NeuTra against plain HMC on two known posteriors."""
