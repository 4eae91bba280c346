"""A flow of audio against Gaussian processes, on synthetic speech."""
