"""Image flows against normflows' Glow on Fashion-MNIST, for equal wall-clock."""
