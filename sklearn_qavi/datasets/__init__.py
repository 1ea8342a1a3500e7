"""Cells and pixels that are hidden, so that imputations can be scored, and images to try."""

from ._image_files import ImageFiles, read_image, write_image
from ._image_masks import make_image_masks
from ._missing import make_missing
from ._svhn import fetch_svhn

__all__ = [
    "ImageFiles",
    "fetch_svhn",
    "make_image_masks",
    "make_missing",
    "read_image",
    "write_image",
]
