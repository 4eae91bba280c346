"""The same images as pixels, as principal components, and as latents."""

import numpy as np
from sklearn.decomposition import PCA

import tfp_flows as tfpf

# Of the pixels' variance, what is left over by so few components is mostly noise.
FEW = {"digits": 20, "fashion_mnist": 50}

LATENTS, COARSEST = "latents", "latents, coarsest level"
PIXELS, PCA_FEW = "pixels", "PCA, few"
PCA_COARSEST = "PCA, as many as coarsest"
WHITENED, LOGIT = "PCA, all, whitened", "logit of pixels"


def representations(name, model, logit, train, test):
    """Returns training and test features of whole pixel values, by their name.

    None of them has seen a label. "PCA, whitened" is what a flow that can only turn,
    shift and scale would find: its latents have unit variance in all directions.
    "logit of pixels" is what the networks of the flow see of an image.
    """
    parts = [part.astype("float32") + 0.5 for part in (train, test)]
    found = {PIXELS: [flat(part) for part in parts]}
    found[LOGIT] = [flat(np.asarray(logit.inverse(part))) for part in parts]
    coarsest = [tfpf.representation.features(model, part, level=0) for part in parts]
    for words, size in (
        (PCA_FEW, FEW[name]),
        (PCA_COARSEST, coarsest[0].shape[1]),
    ):
        pca = PCA(size, random_state=0).fit(found[PIXELS][0])
        found[words] = [pca.transform(part) for part in found[PIXELS]]
    pca = PCA(whiten=True).fit(found[PIXELS][0])
    kept = pca.explained_variance_ > 1e-6 * pca.explained_variance_[0]
    found[WHITENED] = [pca.transform(part)[:, kept] for part in found[PIXELS]]
    found[LATENTS] = [tfpf.representation.features(model, part) for part in parts]
    found[COARSEST] = coarsest
    return {words: tuple(parts) for words, parts in found.items()}


def flat(x):
    """Returns images as rows of numbers."""
    return np.reshape(x, [len(x), -1])
