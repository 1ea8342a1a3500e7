"""Generative models of tables and images: what is trained in `fit` and decoded ever after."""

from ._base import GenerativeModel
from ._hierarchical_vae import HierarchicalVAE
from ._likelihoods import (
    IMAGE_LIKELIHOODS,
    ColumnLikelihood,
    ImageLikelihood,
    make_image_likelihood,
)
from ._pretrained import PretrainedDecoder, find_latent_dim
from ._tabular_vae import TabularVAE
from ._training_options import Training
from ._wide_resnet_vae import WideResNetVAE

__all__ = [
    "IMAGE_LIKELIHOODS",
    "IMAGE_MODELS",
    "MODELS",
    "ColumnLikelihood",
    "GenerativeModel",
    "HierarchicalVAE",
    "ImageLikelihood",
    "PretrainedDecoder",
    "TabularVAE",
    "Training",
    "WideResNetVAE",
    "find_latent_dim",
    "make_image_likelihood",
]

IMAGE_MODELS: dict[str, type[HierarchicalVAE] | type[WideResNetVAE]] = {
    "hierarchical": HierarchicalVAE,
    "wide_resnet": WideResNetVAE,
}
"""Option string -> model of images."""

MODELS: dict[
    str,
    type[TabularVAE] | type[HierarchicalVAE] | type[WideResNetVAE] | type[PretrainedDecoder],
] = {c.__name__: c for c in (TabularVAE, *IMAGE_MODELS.values(), PretrainedDecoder)}
"""Class name -> model that can be saved without pickle."""
