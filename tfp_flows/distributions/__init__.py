"""Distributions: learned bases, and densities over discrete data."""
