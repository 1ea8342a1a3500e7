"""What the estimators need of a generative model, whoever trained it."""

from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from torch import nn

__all__ = ["GenerativeModel"]


@runtime_checkable
class GenerativeModel(Protocol):
    """A trained model: one or more decoders that work on the same standardized columns.

    Models of images have flat rows of D = C * H * W cells in the order channel, row, column as
    columns, pixel values from 0 to 1 as original units, and ``image_shape_``.

    Attributes
    ----------
    decoders_ : list of torch.nn.Module
        The decoders; draws are pooled over them.
    n_features_in_ : int
        Number of columns D.
    """

    decoders_: list[nn.Module]
    n_features_in_: int

    def standardize(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
        """Turn values (N, D) in original units into the decoders' units; NaN stays NaN."""
        ...

    def unstandardize(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Turn values (..., D) in the decoders' units into original units."""
        ...
