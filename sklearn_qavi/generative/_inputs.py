"""What an encoder reads: numbers as they are, levels one by one, and which cells are visible."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from ._likelihoods import MAX_WIDTH

__all__ = ["EncoderInputs"]


class EncoderInputs(nn.Module):
    """Turns rows and their mask into an encoder's inputs.

    Parameters
    ----------
    n_levels : sequence of int or None
        For each column the number of its levels, None for numbers. Levels that share an output
        of the decoder share an input as well.
    """

    is_number: Tensor

    def __init__(self, n_levels: Sequence[int | None]) -> None:
        super().__init__()
        widths = [None if n is None else min(n, MAX_WIDTH) for n in n_levels]
        self.levels = [(j, n) for j, n in enumerate(widths) if n is not None]
        is_number = torch.tensor([n is None for n in n_levels])
        self.register_buffer("is_number", is_number, persistent=False)
        self.n_inputs = len(n_levels) + int(is_number.sum()) + sum(n for _, n in self.levels)

    def forward(self, x: Tensor, visible: Tensor) -> Tensor:
        """Return the inputs (..., n_inputs) of rows (..., D) with their mask of visible cells."""
        shown = torch.where(visible, x, 0.0)
        mask = visible.to(x.dtype)
        if not self.levels:
            return torch.cat([shown, mask], dim=-1)
        parts = [shown[..., self.is_number]]
        for j, n in self.levels:
            code = shown[..., j].detach().round().long().clamp(0, n - 1)
            parts.append(one_hot(code, n) * mask[..., j, None])
        return torch.cat([*parts, mask], dim=-1)

    def noise(self, noise: Tensor) -> Tensor:
        """Return noise (..., D) without the columns of levels, whose codes it would change."""
        return torch.where(self.is_number, noise, 0.0) if self.levels else noise
