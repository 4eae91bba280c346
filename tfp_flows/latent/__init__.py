"""Latent flows: an autoencoder's latents with an exact density, and VAEs with flows."""

from tfp_flows.bijectors.normalization import Whitening
from tfp_flows.latent.latent_flow import LatentFlow
from tfp_flows.latent.likelihood import PixelLikelihood
from tfp_flows.latent.model import importance_weighted_bound
from tfp_flows.latent.vae import LatentVAE
from tfp_flows.nets.autoencoder import conv_decoder, conv_encoder
