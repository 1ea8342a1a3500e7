"""Log densities of what rows have observed, from a decoder's last hidden layer, part by part.

Decoding all rows, and then asking what of it was observed, goes through memory many times. Here a
few rows go all the way from the hidden layer to their log density and its gradient while they are
in a processor's cache, and nothing but these is kept. What a row gets is made of its own numbers in
matrices of a shape that does not depend on its neighbours.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear, pad, softplus

from ._log_softmax import IMPROBABLE

__all__ = [
    "Fit",
    "ObservedBins",
    "ObservedFit",
    "ObservedStudentT",
    "fit_of_parts",
    "observed_bins",
]

Fit = tuple[Tensor, Tensor | None]
"""Log densities (r, S) in nats, and their gradients (r, S, H) if they were asked for."""

_TILE = 16  # numbers of a cache line


class ObservedFit(ABC):
    """Some rows of a block, and what they have observed."""

    rows: Tensor
    """Their places among the rows of the block, (r,)."""

    @abstractmethod
    def __call__(self, hidden: Tensor, weight: Tensor, bias: Tensor, with_gradient: bool) -> Fit:
        """Return the fit of the rows with hidden layers (r, S, H), from maps (P, H) and (P,)."""


def fit_of_parts(
    parts: Sequence[ObservedFit], hidden: Tensor, weight: Tensor, bias: Tensor
) -> Tensor:
    """Return the log density of what rows have observed, (S, B), in nats.

    Parameters
    ----------
    parts : sequence of ObservedFit
        The rows; those in no part have observed nothing.
    hidden : Tensor of shape (S, B, H)
        The last hidden layer, which alone gets gradients.
    weight : Tensor of shape (P, H)
        The map from there to the parameters of the columns.
    bias : Tensor of shape (P,)
        Its constants.
    """
    more = -weight.shape[1] % _TILE
    maps = pad(weight.detach(), (0, more))
    total: Tensor = _FitOfParts.apply(  # type: ignore[no-untyped-call]
        pad(hidden, (0, more)), maps, bias.detach(), parts
    )
    return total


class _FitOfParts(torch.autograd.Function):
    """The fit of all parts; gradients are made on the way."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor, parts: Sequence[ObservedFit]
    ) -> Tensor:
        by_row = hidden.transpose(0, 1).contiguous()
        total = by_row.new_zeros(by_row.shape[:2])
        wanted = ctx.needs_input_grad[0]
        gradient = torch.zeros_like(by_row) if wanted else None
        for part in parts:
            values, slopes = part(by_row.index_select(0, part.rows), weight, bias, wanted)
            total[part.rows] = values
            if gradient is not None and slopes is not None:
                gradient[part.rows] = slopes
        if gradient is not None:
            ctx.save_for_backward(gradient)
        return total.T

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient.transpose(0, 1) * upstream.unsqueeze(-1), None, None, None


@dataclass(frozen=True)
class ObservedBins(ObservedFit):
    """Rows that have observed n columns of bins each.

    Logits of missing columns are not computed.

    Parameters
    ----------
    rows : int Tensor of shape (r,)
        Places of the rows.
    columns : int Tensor of shape (r, n)
        Observed columns.
    bins : int Tensor of shape (r, n)
        The bin of each of these cells, of K.
    n_bins : int
        Number K of bins of each column.
    """

    rows: Tensor
    columns: Tensor
    bins: Tensor
    n_bins: int

    def __call__(self, hidden: Tensor, weight: Tensor, bias: Tensor, with_gradient: bool) -> Fit:
        (r, n), n_draws, n_hidden = self.columns.shape, hidden.shape[1], hidden.shape[2]
        by_column = weight.view(-1, self.n_bins * n_hidden).index_select(0, self.columns.flatten())
        maps = by_column.view(r, n * self.n_bins, n_hidden)
        constants = bias.view(-1, self.n_bins).index_select(0, self.columns.flatten())
        logits = torch.baddbmm(constants.view(r, 1, -1), hidden, maps.mT)
        logits = logits.view(r, n_draws, n, self.n_bins)
        at = self.bins.view(r, 1, n, 1).expand(-1, n_draws, -1, -1)
        probability = torch.softmax(logits, dim=-1)
        picked = probability.gather(-1, at).squeeze(-1)
        log_picked = picked.log()
        improbable = picked < IMPROBABLE
        if improbable.any():
            exact = torch.log_softmax(logits[improbable], dim=-1)
            log_picked[improbable] = exact.gather(-1, at[improbable]).squeeze(-1)
        total = log_picked.sum(-1)
        if not with_gradient:
            return total, None
        # products with numbers near the smallest one take ten times as long
        probability = torch.threshold_(probability, IMPROBABLE, 0.0).view(r, n_draws, -1)
        line = self.columns * self.n_bins + self.bins
        own = weight.index_select(0, line.flatten()).view(r, n, n_hidden).sum(1, keepdim=True)
        return total, torch.baddbmm(own, probability, maps, alpha=-1.0)

    def split(self, size: int) -> "list[ObservedBins]":
        """Return the same of at most so many rows at a time."""
        return [
            ObservedBins(rows, columns, bins, self.n_bins)
            for rows, columns, bins in zip(
                self.rows.split(size), self.columns.split(size), self.bins.split(size), strict=True
            )
        ]


@dataclass(frozen=True)
class ObservedStudentT(ObservedFit):
    """Rows of columns with a Student t density each, whose location and scale are decoded.

    Parameters
    ----------
    rows : int Tensor of shape (r,)
        Places of the rows.
    x : Tensor of shape (r, d)
        Their values.
    observed : bool Tensor of shape (r, d)
        True where the column is observed.
    df : Tensor of shape (d,)
        Degrees of freedom.
    min_scale : float
        What is added to each scale.
    """

    rows: Tensor
    x: Tensor
    observed: Tensor
    df: Tensor
    min_scale: float

    def __call__(self, hidden: Tensor, weight: Tensor, bias: Tensor, with_gradient: bool) -> Fit:
        (r, d), n_draws = self.x.shape, hidden.shape[1]
        maps = pad(weight, (0, 0, 0, max(_TILE - 2 * d, 0)))  # see `apply_tiled`
        constants = pad(bias, (0, len(maps) - 2 * d))
        params = linear(hidden.flatten(0, 1), maps, constants).view(r, n_draws, -1)
        location, raw_scale = params[..., :d], params[..., d : 2 * d]
        missing = ~self.observed.unsqueeze(1)
        scale = softplus(raw_scale).add_(self.min_scale)
        standardized = (self.x.unsqueeze(1) - location).div_(scale)
        squared = standardized.square().div_(self.df)
        half = 0.5 * (self.df + 1.0)
        cells = scale.log().add_(torch.log1p(squared).mul_(half)).masked_fill_(missing, 0.0)
        constant = (
            torch.lgamma(half) - torch.lgamma(0.5 * self.df) - 0.5 * (self.df * math.pi).log()
        )
        total = torch.where(self.observed, constant, 0.0).sum(-1, keepdim=True) - cells.sum(-1)
        if not with_gradient:
            return total, None
        # of the standardized value, in units of the scale
        pull = standardized.mul((self.df + 1.0) / self.df).div_(squared.add_(1.0))
        slope = torch.zeros_like(params)
        torch.div(pull, scale, out=slope[..., :d])
        spread = pull.mul_(standardized).sub_(1.0).div_(scale)
        torch.mul(spread, torch.sigmoid(raw_scale), out=slope[..., d : 2 * d])
        for half_of_them in (slope[..., :d], slope[..., d : 2 * d]):
            half_of_them.masked_fill_(missing, 0.0)  # no product: 0 times infinity would be NaN
        return total, (slope.flatten(0, 1) @ maps).view(hidden.shape)


def observed_bins(bins: Tensor, observed: Tensor, n_bins: int) -> list[ObservedBins]:
    """Return rows by the number of their observed columns.

    Parameters
    ----------
    bins : int Tensor of shape (B, d)
        The bin of each cell.
    observed : bool Tensor of shape (B, d)
        True where the cell is observed.
    n_bins : int
        Number of bins of each column.
    """
    counts, parts = observed.sum(1), []
    for n in counts.unique().tolist():
        if n:
            rows = (counts == n).nonzero().squeeze(1)
            columns = observed[rows].nonzero()[:, 1].view(len(rows), n)
            parts.append(ObservedBins(rows, columns, bins[rows].gather(1, columns), n_bins))
    return parts
