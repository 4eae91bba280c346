"""Speed and memory of a training step, of scoring and of sampling, against peers."""
