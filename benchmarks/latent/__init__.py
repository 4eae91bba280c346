"""Latent flows on Fashion-MNIST: bounds, and samples judged by a classifier."""
