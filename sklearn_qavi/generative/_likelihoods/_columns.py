"""Columns of different families side by side: what decoders carry."""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from .._factor_analyser import FactorAnalyser
from ._base import ColumnLikelihood, FitOfRows, ScoresOfRows
from ._bernoulli import BernoulliLikelihood
from ._categorical import MAX_WIDTH, CategoricalLikelihood
from ._histogram import HistogramLikelihood
from ._location_scale import GaussianLikelihood, StudentTLikelihood

__all__ = ["LIKELIHOODS", "ColumnLikelihoods"]

Prepared = tuple[tuple[Tensor, ...], ...]  # of each group

LIKELIHOODS: dict[str, type[ColumnLikelihood]] = {
    "gaussian": GaussianLikelihood,
    "student_t": StudentTLikelihood,
    "bernoulli": BernoulliLikelihood,
    "histogram": HistogramLikelihood,
    "categorical": CategoricalLikelihood,
}
"""Option string -> family."""


class ColumnLikelihoods(nn.Module):
    """Groups of columns with a family each, as one likelihood over all columns.

    Parameters
    ----------
    families : list of str
        The family of each column, in the order of the columns.
    options : dict, default=None
        Family name -> further arguments of its class.
    n_categories : sequence of int or None, default=None
        Number of categories of each categorical column, None for the others. Columns with about as
        many categories share a group, so that one wide column does not widen the others' outputs.
    """

    order: Tensor

    def __init__(
        self,
        families: list[str],
        options: dict[str, dict[str, Any]] | None = None,
        n_categories: Sequence[int | None] | None = None,
    ) -> None:
        super().__init__()
        self.families = list(families)
        self.n_categories = list(n_categories or [None] * len(self.families))
        self.options = {name: dict((options or {}).get(name, {})) for name in sorted(set(families))}
        self.modules_by_family = nn.ModuleList()
        self.columns: list[list[int]] = []
        for name, columns in _grouped(self.families, self.n_categories):
            extra = self.options[name]
            if name == "categorical":
                extra = {**extra, "n_categories": [self.n_categories[j] for j in columns]}
            self.columns.append(columns)
            self.modules_by_family.append(LIKELIHOODS[name](len(columns), **extra))
        for k, columns in enumerate(self.columns):  # lists would travel to the device each time
            self.register_buffer(f"columns_{k}", torch.tensor(columns), persistent=False)
        flat = [j for columns in self.columns for j in columns]
        self.register_buffer("order", torch.as_tensor(np.argsort(flat)), persistent=False)
        self._one_group = len(self.columns) == 1

    @property
    def groups(self) -> list[ColumnLikelihood]:
        """The families' models, in the order of their blocks of decoder outputs."""
        return cast(list[ColumnLikelihood], list(self.modules_by_family))

    @property
    def n_outputs(self) -> int:
        """Number of decoder outputs P."""
        return sum(group.n_outputs for group in self.groups)

    def fit_columns(self, x: NDArray[np.float64]) -> "ColumnLikelihoods":
        """Learn the constants of every group from training values (N, D), NaN where missing."""
        for group, columns in zip(self.groups, self.columns, strict=True):
            group.fit_columns(x[:, columns])
            self.options[self.families[columns[0]]].update(group.learned_options())
        return self

    def atoms(self, column: int) -> Tensor:
        """Return the values of a column that have a mass of their own, in single precision."""
        for group, columns in zip(self.groups, self.columns, strict=True):
            if column in columns:
                return group.atoms(columns.index(column))
        raise IndexError(column)

    @property
    def score_columns(self) -> list[int]:
        """For each score of `linear_scores` its column, (F,)."""
        return [
            columns[i]
            for group, columns in zip(self.groups, self.columns, strict=True)
            for i, n in enumerate(group.n_scores)
            for _ in range(n)
        ]

    def linear_scores(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return what a linear-Gaussian model of the columns works on, (N, F), group by group."""
        return np.concatenate([part for _, part in self._scores_by_group(x)], axis=1)

    def linear_head(
        self, x: NDArray[np.float64], model: FactorAnalyser
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return slopes (P, L) and outputs of the code 0 that agree with a linear model."""
        by_group = self._scores_by_group(x)
        residuals = model.residuals(np.concatenate([scores for _, scores in by_group], axis=1))
        heads, first = [], 0
        for (group, scores), columns in zip(by_group, self.columns, strict=True):
            last = first + scores.shape[1]
            part = model.part(first, last)
            heads.append(group.linear_head(x[:, columns], part, residuals[:, first:last]))
            first = last
        return np.concatenate([w for w, _ in heads]), np.concatenate([b for _, b in heads])

    def _scores_by_group(
        self, x: NDArray[np.float64]
    ) -> list[tuple[ColumnLikelihood, NDArray[np.float64]]]:
        pairs = zip(self.groups, self.columns, strict=True)
        return [(group, group.linear_scores(x[:, columns])) for group, columns in pairs]

    def prepare(self, x: Tensor) -> Prepared:
        """Return what `log_prob` needs of the values (B, D)."""
        parts = self._by_group(x, -1)
        return tuple(g.prepare(part) for g, part in zip(self.groups, parts, strict=True))

    def log_prob(self, params: Tensor, prepared: Prepared) -> Tensor:
        """Return log densities in nats, (..., B, D)."""
        parts = self._split(params)
        return self._join(
            [g.log_prob(p, q) for g, p, q in zip(self.groups, parts, prepared, strict=True)]
        )

    def fit_of_rows(self, prepared: Prepared, observed: Tensor) -> FitOfRows:
        """Return what gives the log density of the observed columns of rows, see `FitOfRows`."""
        fits = [
            group.fit_of_rows(mine, part)
            for group, mine, part in zip(
                self.groups, prepared, self._by_group(observed, -1), strict=True
            )
        ]

        def fit(hidden: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
            maps, constants = self._split(weight.mT), self._split(bias)
            parts = [f(hidden, w.mT, b) for f, w, b in zip(fits, maps, constants, strict=True)]
            return sum(parts[1:], parts[0])

        return fit

    def scores_of_codes(self, params: Tensor) -> ScoresOfRows:
        """Return what scores the codes of which ``params`` (K, P) are decoded, on any rows."""
        pairs = zip(self.groups, self._split(params), strict=True)
        by_group = [group.scores_of_codes(part) for group, part in pairs]

        def scores(prepared: Any, observed: Tensor) -> Tensor:
            parts = [
                of_group(mine, part)
                for of_group, mine, part in zip(
                    by_group, prepared, self._by_group(observed, -1), strict=True
                )
            ]
            return sum(parts[1:], parts[0])

        return scores

    def training_log_prob(self, params: Tensor, prepared: Prepared) -> Tensor:
        """Return what training maximises, (..., B, D)."""
        parts = self._split(params)
        return self._join(
            [
                g.training_log_prob(p, q)
                for g, p, q in zip(self.groups, parts, prepared, strict=True)
            ]
        )

    def smooth(self, smoothing: Tensor) -> None:
        """Change the smoothing of histograms, one number (M,) for each network of a stack."""
        for group in self.groups:
            if isinstance(group, HistogramLikelihood):
                group.smooth(smoothing)

    def mean(self, params: Tensor) -> Tensor:
        """Return the mean of every column given the code, (..., D)."""
        parts = self._split(params)
        return self._join([g.mean(p) for g, p in zip(self.groups, parts, strict=True)])

    def sample(self, params: Tensor, uniform: Tensor) -> Tensor:
        """Return values (..., D) from two uniforms per cell, (..., D, 2)."""
        parts, noise = self._split(params), self._by_group(uniform, -2)
        return self._join(
            [g.sample(part, u) for g, part, u in zip(self.groups, parts, noise, strict=True)]
        )

    @property
    def categorical_columns(self) -> list[int]:
        """Positions of the categorical columns, in increasing order."""
        return [j for j, n in enumerate(self.n_categories) if n is not None]

    def probabilities(self, params: Tensor) -> Tensor:
        """Return the probabilities behind all categorical columns, (..., T), to be averaged.

        `of_categories` turns a mean of them into probabilities of categories.
        """
        parts = [
            group.probabilities(part).flatten(-2)
            for group, part in zip(self.groups, self._split(params), strict=True)
            if isinstance(group, CategoricalLikelihood)
        ]
        return torch.cat(parts, dim=-1) if parts else params[..., :0]

    def of_categories(self, probability: Tensor) -> dict[int, Tensor]:
        """Return the probabilities of categories (..., K) by categorical column from (..., T)."""
        by_column = {}
        for group, columns in zip(self.groups, self.columns, strict=True):
            if isinstance(group, CategoricalLikelihood):
                mine, probability = probability.tensor_split([group.n_outputs], dim=-1)
                mine = mine.unflatten(-1, (group.n_columns, group.width))
                for i, j in enumerate(columns):
                    by_column[j] = group.of_categories(i, mine[..., i, :])
        return by_column

    def entropy(self, params: Tensor) -> Tensor:
        """Return the entropy of every column in nats, (..., D)."""
        parts = self._split(params)
        return self._join([g.entropy(p) for g, p in zip(self.groups, parts, strict=True)])

    @property
    def reparameterised(self) -> Tensor:
        """Which columns' draws carry gradients, bool (D,)."""
        by_group = [
            torch.full((len(c),), g.reparameterised)
            for g, c in zip(self.groups, self.columns, strict=True)
        ]
        return torch.cat(by_group).to(self.order.device)[self.order]

    def _by_group(self, values: Tensor, dim: int) -> list[Tensor]:
        """Return the columns of each group, which lie along this dimension."""
        if self._one_group:
            return [values]
        places = [getattr(self, f"columns_{k}") for k in range(len(self.columns))]
        return [values.index_select(dim, place) for place in places]

    def _split(self, params: Tensor) -> tuple[Tensor, ...]:
        parts: tuple[Tensor, ...] = params.split([group.n_outputs for group in self.groups], dim=-1)
        return parts

    def _join(self, parts: list[Tensor]) -> Tensor:
        if self._one_group:
            return parts[0]
        return torch.cat(parts, dim=-1)[..., self.order]


def _grouped(
    families: list[str], n_categories: Sequence[int | None]
) -> list[tuple[str, list[int]]]:
    """Return name and columns of each group, in the order of their outputs."""
    groups: dict[tuple[str, int], list[int]] = {}
    for j, (family, n) in enumerate(zip(families, n_categories, strict=True)):
        # 2, 3-4, 5-8, ... outputs go together
        width = (min(max(n or 2, 2), MAX_WIDTH) - 1).bit_length() if family == "categorical" else 0
        groups.setdefault((family, width), []).append(j)
    return [(family, groups[family, width]) for family, width in sorted(groups)]
