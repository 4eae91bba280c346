"""Latents as features, for a classifier or any other use of them.

    train = tfpf.representation.features(model, x_train)
    test = tfpf.representation.features(model, x_test)

Features are latents and nothing else: all of `z = f^-1(x)`, or one level of a flow on
several scales. What the networks inside the couplings compute on the way (their hidden
activations) is not among them.

**A flow has no reason to make classes easy to separate.** It is a bijection: its
latents hold exactly what the data holds, and its likelihood asks only that they look
like noise. Give the raw data and a PCA of it beside the latents, as
`python -m benchmarks.representation` does, before drawing conclusions from an accuracy.
"""

from tfp_flows.representation.latents import features
