"""Columns of categories."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .._factor_analyser import FactorAnalyser
from ._base import ColumnLikelihood
from ._log_softmax import log_softmax_at, without_unused
from ._marginals import marginal_offsets

__all__ = ["MAX_WIDTH", "CategoricalLikelihood"]

Array = NDArray[np.float64]

_MIN_NOISE = 0.25  # of an indicator's variance, so that no category starts out certain
MAX_WIDTH = 50  # outputs of the decoder for one column


class CategoricalLikelihood(ColumnLikelihood):
    """Categories with probabilities from the decoder; values are their codes 0, 1, ..., K - 1.

    The decoder gives a column up to 50 logits. Where there are more categories, those with the
    codes from 49 on share the last one, in proportion to their counts in the training rows plus
    one; so frequent categories should have low codes.

    Parameters
    ----------
    n_columns : int
        Number of columns d in the group.
    n_categories : sequence of int, default=None
        Number of categories K of each column; None means two. The decoder gives as many logits for
        each column as the widest has; those that a column lacks are ignored.
    """

    is_category: Tensor
    last_category: Tensor
    last_logit: Tensor
    log_share: Tensor

    def __init__(self, n_columns: int, n_categories: Sequence[int] | None = None) -> None:
        super().__init__(n_columns)
        self.n_categories = list(n_categories or [2] * n_columns)
        self.widths = [min(n, MAX_WIDTH) for n in self.n_categories]
        self.width = max(self.widths)
        is_category = torch.arange(self.width) < torch.tensor(self.widths).unsqueeze(1)
        self.register_buffer("is_category", is_category, persistent=False)
        for name, counts in (("last_category", self.n_categories), ("last_logit", self.widths)):
            self.register_buffer(name, torch.tensor(counts) - 1, persistent=False)
        # a category's share of its logit's probability, (d, max K)
        self.register_buffer("log_share", torch.zeros(n_columns, max(self.n_categories)))
        for j in range(n_columns):
            self._set_shares(j, np.zeros(self.n_categories[j]))

    @property
    def n_outputs(self) -> int:  # type: ignore[override]
        return self.n_columns * self.width

    def options(self) -> dict[str, object]:
        return {"n_columns": self.n_columns, "n_categories": self.n_categories}

    def fit_columns(self, x: NDArray[np.float64]) -> None:
        for j, n in enumerate(self.n_categories):
            codes = x[~np.isnan(x[:, j]), j].astype(int)
            self._set_shares(j, np.bincount(codes, minlength=n))

    def atoms(self, column: int) -> Tensor:
        return torch.arange(self.n_categories[column], dtype=torch.float32)

    def prepare(self, x: Tensor) -> tuple[Tensor, ...]:
        code = x.round().long().clamp_min(0).minimum(self.last_category)
        share = self.log_share.expand(*code.shape, -1).gather(-1, code.unsqueeze(-1)).squeeze(-1)
        return code.clamp(max=self.width - 1), share

    def log_prob(self, params: Tensor, prepared: tuple[Tensor, ...]) -> Tensor:
        index, log_share = prepared
        logits = params.unflatten(-1, (self.n_columns, self.width))
        return log_softmax_at(logits, ~self.is_category, index) + log_share

    def probabilities(self, params: Tensor) -> Tensor:
        """Return the probability of each logit, (..., d, W); 0 for those that a column lacks."""
        logits = params.unflatten(-1, (self.n_columns, self.width))
        return torch.softmax(without_unused(logits, ~self.is_category), dim=-1)

    def of_categories(self, column: int, probability: Tensor) -> Tensor:
        """Return the probabilities of a column's categories (..., K) from those of its logits."""
        n, width = self.n_categories[column], self.widths[column]
        logit = torch.arange(n, device=probability.device).clamp(max=width - 1)
        return probability[..., logit] * self.log_share[column, :n].to(probability).exp()

    def mean(self, params: Tensor) -> Tensor:
        """Return the mean code; for categories without order take `probabilities`."""
        probability = self.probabilities(params)
        means = [
            (self.of_categories(j, probability[..., j, :]) * torch.arange(n).to(probability)).sum(
                -1
            )
            for j, n in enumerate(self.n_categories)
        ]
        return torch.stack(means, dim=-1)

    def sample(self, params: Tensor, uniform: Tensor) -> Tensor:
        cumulative = self.probabilities(params).cumsum(-1)
        u = uniform[..., :1] * cumulative[..., -1:]
        code = (cumulative < u).sum(-1).minimum(self.last_logit)
        for j, (n, width) in enumerate(zip(self.n_categories, self.widths, strict=True)):
            if n > width:
                shares = self.log_share[j, width - 1 : n].double().exp().cumsum(0)
                rest = torch.searchsorted(shares, uniform[..., j, 1].double() * shares[-1])
                rest = width - 1 + rest.clamp(max=n - width)
                code[..., j] = torch.where(code[..., j] == width - 1, rest, code[..., j])
        return code.to(cumulative)

    def entropy(self, params: Tensor) -> Tensor:
        probability = self.probabilities(params)
        within = torch.stack(
            [
                -(share.exp() * share).sum()
                for share in (
                    self.log_share[j, width - 1 : n]
                    for j, (n, width) in enumerate(zip(self.n_categories, self.widths, strict=True))
                )
            ]
        ).to(probability)
        last = self.last_logit.expand(probability.shape[:-1]).unsqueeze(-1)
        shared = probability.gather(-1, last)
        entropy: Tensor = torch.special.entr(probability).sum(-1) + shared.squeeze(-1) * within
        return entropy

    @property
    def n_scores(self) -> list[int]:
        return list(self.widths)

    def linear_scores(self, x: Array) -> Array:
        parts = [self._indicators(x[:, j], width) for j, width in enumerate(self.widths)]
        return np.concatenate(parts, axis=1)

    def linear_head(self, x: Array, model: FactorAnalyser, residuals: Array) -> tuple[Array, Array]:
        slope = np.zeros((self.n_columns, self.width, model.loadings.shape[1]))
        share = np.zeros((self.n_columns, self.width))
        first = 0
        for j, width in enumerate(self.widths):
            mine = slice(first, first + width)
            total = np.nansum(self._indicators(x[:, j], width), axis=0) + 0.5
            share[j, :width] = total / total.sum()
            least = _MIN_NOISE * share[j, :width] * (1.0 - share[j, :width])
            noise = np.maximum(model.noise[mine], least)
            slope[j, :width] = model.loadings[mine] / noise[:, None]
            first += width
        return slope.reshape(self.n_outputs, -1), marginal_offsets(slope, share).ravel()

    @staticmethod
    def _indicators(codes: Array, width: int) -> Array:
        """Return which logit each code belongs to, (N, width), NaN where missing."""
        hit = np.minimum(codes, width - 1)[:, None] == np.arange(width)
        return np.where(np.isnan(codes)[:, None], np.nan, hit)

    def _set_shares(self, column: int, count: NDArray[np.integer] | NDArray[np.float64]) -> None:
        first = self.widths[column] - 1
        share = (count[first:] + 1.0) / (count[first:] + 1.0).sum()
        self.log_share[column, first : len(count)] = torch.as_tensor(np.log(share)).float()
