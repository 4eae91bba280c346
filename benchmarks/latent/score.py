"""What pictures and latent models are judged by."""

import math

import numpy as np

import tfp_flows as tfpf
from tfp_flows import latent
from tfp_flows.images import frechet_distance

CHUNK = 500


class Score:
    """Measures pictures by the features of held-out images.

    Every picture is rounded down to whole pixel values before the classifier sees it.
    """

    def __init__(self, judge, held_out):
        self._judge, self.n = judge, len(held_out)
        self._features = judge.features(held_out)

    def distance(self, pictures):
        """Returns the Fréchet distance of pictures from the held-out images."""
        whole = np.clip(np.floor(np.asarray(pictures)), 0, 255)
        return frechet_distance(self._judge.features(whole), self._features)

    def accuracy(self, images, labels):
        """Returns the share of images that the classifier is right about."""
        scores = self._judge.predict(images.astype("float32"), verbose=0)
        return float(np.mean(scores.argmax(-1) == labels))


def samples(flow, n):
    """Draws from a flow on pixels, a few hundred at a time."""
    model = tfpf.FlowModel(flow)
    parts = [model.sample(CHUNK, seed=(1, start)) for start in range(0, n, CHUNK)]
    return np.concatenate(parts)[:n]


def bound_row(model, images):
    """Measures the bound on held-out log-likelihood, plain and with 16 draws.

    `latent_nll` is the mean of `-log p(z)` of held-out latents with their noise.
    """
    x = np.asarray(images)
    starts = range(0, len(x), CHUNK)
    parts = [model.terms(x[start : start + CHUNK], (0, start)) for start in starts]
    elbo, nll = (
        np.concatenate([part[name] for part in parts])
        for name in ("elbo", "latent_nll")
    )
    tighter = latent.importance_weighted_bound(model, x[:CHUNK], k=16)
    size = math.prod(model.event_shape) * math.log(2.0)
    return {
        "elbo": float(elbo.mean()),
        "elbo_standard_error": float(elbo.std() / math.sqrt(len(elbo))),
        "bits_per_dim_at_most": -float(elbo.mean()) / size,
        "latent_nll": float(nll.mean()),
        "elbo_of_first_500": float(elbo[:CHUNK].mean()),
        "bound_of_16_draws_of_first_500": float(tighter.mean()),
    }
