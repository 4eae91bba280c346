"""Latents as features, for a classifier or any other use of them.

    train = tfpf.representation.features(model, x_train)
    test = tfpf.representation.features(model, x_test)

Features are latents `z = f^-1(x)`, all or those of one level, not hidden activations.

**A flow has no reason to make classes easy to separate.** Its latents hold exactly what
the data holds, and its likelihood asks only that they look like noise. Compare with the
raw data and a PCA of it, as `python -m benchmarks.representation` does.
"""

from tfp_flows.representation.latents import features
