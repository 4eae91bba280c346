"""Latent flows: an autoencoder's latents with an exact density, and VAEs with flows."""

from tfp_flows.bijectors.normalization import Whitening
from tfp_flows.latent.classifier import FeatureClassifier, train_classifier
from tfp_flows.latent.frechet import fitted_gaussian, frechet_distance
from tfp_flows.latent.latent_flow import LatentFlow
from tfp_flows.latent.likelihood import PixelLikelihood
from tfp_flows.latent.model import importance_weighted_bound
from tfp_flows.latent.picture import latent_figure
from tfp_flows.latent.vae import LatentVAE
from tfp_flows.nets.autoencoder import conv_decoder, conv_encoder

__all__ = [
    "FeatureClassifier",
    "LatentFlow",
    "LatentVAE",
    "PixelLikelihood",
    "Whitening",
    "conv_decoder",
    "conv_encoder",
    "fitted_gaussian",
    "frechet_distance",
    "importance_weighted_bound",
    "latent_figure",
    "train_classifier",
]
