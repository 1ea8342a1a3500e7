"""One observation model over all cells of an image."""

from math import prod
from typing import cast

import torch
from torch import Tensor, nn

from ..._typing import HasUniforms
from ._base import ColumnLikelihood

__all__ = ["ImageLikelihood"]


class ImageLikelihood(nn.Module):
    """A family for every channel of every pixel, over images as flat rows.

    A row holds the D = C * H * W cells of an image in the order channel, row, column; values run
    from 0 to 1. The decoder's outputs are maps of the image's size: those of the family's first
    parameter for each channel, then those of the second, and so on.

    To write an observation model of your own, wrap a subclass of `ColumnLikelihood`. Where channels
    of a pixel depend on each other given the code, subclass this class and add three methods, which
    inference and sampling then call: ``log_prob_observed(params, prepared, observed)``, the log
    density (..., B) of the observed cells together; ``sample_given(params, uniform, x, observed)``
    and ``mean_given(params, x, observed)``, draws and means (..., B, D) given the observed cells.

    Parameters
    ----------
    image_shape : tuple of int
        Channels C, height H and width W.
    family : ColumnLikelihood
        The family, made for D columns.
    name : str, default=None
        What errors and saved models call it; None takes the name of the family's class.

    Raises
    ------
    ValueError
        If the family is for another number of columns.

    Examples
    --------
    >>> from sklearn_qavi.generative import ImageLikelihood, make_image_likelihood
    >>> likelihood = make_image_likelihood("discretized_normal", (3, 32, 32), scale="decoder")
    >>> likelihood.n_outputs  # a mean and a scale for each cell
    6144
    """

    reparameterised: Tensor
    """Which cells' draws carry gradients, bool (D,)."""

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        family: ColumnLikelihood | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__()
        self.image_shape = (int(image_shape[0]), int(image_shape[1]), int(image_shape[2]))
        self.n_cells = prod(self.image_shape)
        self.family = family
        reparameterised = family is not None and family.reparameterised
        self.register_buffer(
            "reparameterised", torch.full((self.n_cells,), reparameterised), persistent=False
        )
        self.name = name or type(family if family is not None else self).__name__
        if family is not None and family.n_columns != self.n_cells:
            raise ValueError(
                f"The family is for {family.n_columns} columns, but an image of shape "
                f"{self.image_shape} has {self.n_cells} cells."
            )

    @property
    def n_outputs(self) -> int:
        """Number of decoder outputs P."""
        return self._family.n_outputs

    @property
    def families(self) -> list[str]:
        """Name of the observation model of each cell."""
        return [self.name] * self.n_cells

    @property
    def options(self) -> dict[str, dict[str, object]]:
        """Arguments of the family by its name."""
        return {self.name: {} if self.family is None else self.family.options()}

    @property
    def n_categories(self) -> list[int | None]:
        """None for each cell: a pixel holds a number."""
        return [None] * self.n_cells

    @property
    def categorical_columns(self) -> list[int]:
        """No cell is categorical."""
        return []

    def prepare(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return what `log_prob` needs of the values (B, D)."""
        return self._family.prepare(x)

    def log_prob(self, params: Tensor, prepared: tuple[Tensor, ...]) -> Tensor:
        """Return log densities or masses in nats, (..., B, D)."""
        return self._family.log_prob(params, prepared)

    def training_log_prob(self, params: Tensor, prepared: tuple[Tensor, ...]) -> Tensor:
        """Return what training maximises, (..., B, D)."""
        return self._family.training_log_prob(params, prepared)

    def mean(self, params: Tensor) -> Tensor:
        """Return the mean of every cell given the code, (..., D)."""
        return self._family.mean(params)

    def sample(self, params: Tensor, uniform: Tensor) -> Tensor:
        """Return values (..., D) from two uniforms per cell, (..., D, 2)."""
        return self._family.sample(params, uniform)

    def uniforms_of(self, params: Tensor, prepared: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """Return the first and last uniform that `sample` turns into each value, (..., B, D).

        A family that has this method, whose draws then grow with the first uniform of a cell or
        fall with it, lets neighbouring pixels share noise, see `QAVIInpainter`.
        """
        return cast(HasUniforms, self._family).uniforms_of(params, prepared)

    @property
    def shares_noise(self) -> bool:
        """Whether neighbouring pixels can share the noise that they are drawn with."""
        overrides = type(self).uniforms_of is not ImageLikelihood.uniforms_of
        return overrides or isinstance(self.family, HasUniforms)

    def probabilities(self, params: Tensor) -> Tensor:
        """Return nothing, (..., 0): no cell is categorical."""
        return params[..., :0]

    def of_categories(self, probability: Tensor) -> dict[int, Tensor]:
        """Return nothing: no cell is categorical."""
        return {}

    def entropy(self, params: Tensor) -> Tensor:
        """Return the entropy of every cell in nats, (..., D), where it has a closed form."""
        return self._family.entropy(params)

    @property
    def _family(self) -> ColumnLikelihood:
        if self.family is None:
            raise NotImplementedError(f"{self.name} has no family and must override this.")
        return self.family
