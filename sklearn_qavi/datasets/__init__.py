"""Holes in complete tables and images, so that imputations can be scored, and images to try."""

from ._image_masks import make_image_masks
from ._missing import make_missing
from ._svhn import fetch_svhn

__all__ = ["fetch_svhn", "make_image_masks", "make_missing"]
