"""Bijectors, one class a file."""
