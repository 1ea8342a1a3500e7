"""What an encoder reads: numbers, an indicator for each category, and which cells are visible."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot, pad

from .._device import all_known
from ._factor_analyser import FactorAnalyser
from ._layers import apply_tiled
from ._likelihoods import MAX_WIDTH

__all__ = ["EncoderInputs"]

_MAX_RANK = 16  # of the model that fills: a solve of this size for each row


class EncoderInputs(nn.Module):
    """Turns rows and their mask into an encoder's inputs.

    Cells that are not visible are filled with what a factor analyser expects of them given the
    visible ones, so that an encoder without hidden layers is right for any pattern; without one
    (`fill_with`) they are zero.

    Parameters
    ----------
    n_categories : sequence of int or None
        For each column the number of its categories, None for numbers. Categories that share an
        output of the decoder share an input as well.
    latent_dim : int, default=0
        Size of the code, which bounds the rank of the factor analyser; 0 for none.
    """

    numbers: Tensor
    column: Tensor
    loadings: Tensor
    mean: Tensor
    noise: Tensor

    def __init__(self, n_categories: Sequence[int | None], latent_dim: int = 0) -> None:
        super().__init__()
        widths = [None if n is None else min(n, MAX_WIDTH) for n in n_categories]
        self.categories = [(j, n) for j, n in enumerate(widths) if n is not None]
        numbers = [j for j, n in enumerate(n_categories) if n is None]
        column = numbers + [j for j, n in self.categories for _ in range(n)]
        self.rank = min(latent_dim, len(column), _MAX_RANK)
        self.register_buffer("numbers", torch.tensor(numbers).long(), persistent=False)
        self.register_buffer("column", torch.tensor(column), persistent=False)
        self.register_buffer("loadings", torch.zeros(len(column), self.rank))
        self.register_buffer("mean", torch.zeros(len(column)))
        self.register_buffer("noise", torch.ones(len(column)))
        self.n_inputs = len(column) + len(n_categories)

    def fill_with(self, model: FactorAnalyser) -> None:
        """Fill cells that are not visible by this model of the features."""
        for name in ("loadings", "mean", "noise"):
            buffer = getattr(self, name)
            buffer.copy_(torch.from_numpy(getattr(model, name)))

    def features(self, x: Tensor) -> Tensor:
        """Return numbers, then indicators of categories, (..., F), of finite rows (..., D)."""
        if not self.categories:
            return x
        parts = [x[..., self.numbers]]
        for j, n in self.categories:
            code = x[..., j].detach().round().long().clamp(0, n - 1)
            parts.append(one_hot(code, n).to(x.dtype))
        return torch.cat(parts, dim=-1)

    def forward(self, x: Tensor, visible: Tensor) -> Tensor:
        """Return the inputs (..., n_inputs) of rows (..., D) with their mask of visible cells."""
        features = self.features(torch.where(visible, x, 0.0))
        if self.rank and not all_known(visible):
            seen = visible[..., self.column]
            features = torch.where(seen, features, self._expected(features, seen))
        return torch.cat([features, visible.to(x.dtype)], dim=-1)

    def noise_of(self, noise: Tensor) -> Tensor:
        """Return noise of the inputs (..., n_inputs) from noise of the columns (..., D).

        Indicators and the mask get none.
        """
        numbers = noise[..., self.numbers]
        return pad(numbers, (0, self.n_inputs - numbers.shape[-1]))

    def _expected(self, features: Tensor, seen: Tensor) -> Tensor:
        """Return the features' expectations (..., F) given those that are seen."""
        products = (self.loadings.unsqueeze(-1) * self.loadings.unsqueeze(-2)).flatten(-2)
        weight = seen / self.noise.unsqueeze(-2)
        precision = apply_tiled(weight, products.mT).unflatten(-1, (self.rank, self.rank))
        precision = precision + torch.eye(self.rank, device=features.device)
        centred = weight * (features - self.mean.unsqueeze(-2))
        code = torch.linalg.solve(precision, apply_tiled(centred, self.loadings.mT).unsqueeze(-1))
        return apply_tiled(code.squeeze(-1), self.loadings, self.mean)
