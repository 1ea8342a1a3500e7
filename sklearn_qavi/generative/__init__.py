"""Generative models of tables: what is trained in `fit` and decoded ever after."""

from ._base import GenerativeModel
from ._pretrained import PretrainedDecoder, find_latent_dim
from ._tabular_vae import TabularVAE

__all__ = ["GenerativeModel", "PretrainedDecoder", "TabularVAE", "find_latent_dim"]
