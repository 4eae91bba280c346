"""Training steps on a GPU: this package beside the PyTorch flows, on the same card."""
