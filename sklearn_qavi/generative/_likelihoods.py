"""Observation models of table columns: from the decoder's output to densities, means and draws.

A likelihood serves a group of columns. It learns constants of its columns from the training rows
(`fit_columns`), says how many decoder outputs it needs, and works on standardised values.
`ColumnLikelihoods` puts groups of different families side by side; it is what decoders carry.

Shapes: decoder output (..., P), values (N, D); `...` ends in N or broadcasts with it.
"""

import math
from abc import ABC, abstractmethod
from typing import Any, ClassVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import logsigmoid, softplus

__all__ = [
    "LIKELIHOODS",
    "BernoulliLikelihood",
    "ColumnLikelihood",
    "ColumnLikelihoods",
    "GaussianLikelihood",
    "HistogramLikelihood",
    "StudentTLikelihood",
]

Prepared = tuple[tuple[Tensor, ...], ...]  # of each group
_LOG_2PI = math.log(2 * math.pi)
_MIN_SCALE = 1e-3  # in standard deviations of the column: an atom cannot buy infinite density


class ColumnLikelihood(nn.Module, ABC):
    """One family for a group of columns.

    Parameters
    ----------
    n_columns : int
        Number of columns d in the group.
    """

    n_outputs: int
    reparameterised: ClassVar[bool] = False
    """Whether `sample` carries gradients that make it a reparameterisation."""

    def __init__(self, n_columns: int) -> None:
        super().__init__()
        self.n_columns = n_columns

    def options(self) -> dict[str, Any]:
        """Return the constructor's arguments, for saving."""
        return {"n_columns": self.n_columns}

    def fit_columns(self, x: NDArray[np.float64]) -> None:
        """Learn constants from training values (N, d), NaN where missing."""

    def atoms(self, column: int) -> Tensor:
        """Return the values of a column that have a mass of their own, in single precision."""
        return torch.zeros(0)

    def prepare(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return what `log_prob` needs of the values (B, d), computed once a row."""
        return (x,)

    @abstractmethod
    def log_prob(self, params: Tensor, prepared: tuple[Tensor, ...]) -> Tensor:
        """Return log densities in nats, (..., B, d), from params (..., n_outputs)."""

    def training_log_prob(self, params: Tensor, prepared: tuple[Tensor, ...]) -> Tensor:
        """Return what training maximises; the log density unless a family smooths it."""
        return self.log_prob(params, prepared)

    @abstractmethod
    def mean(self, params: Tensor) -> Tensor:
        """Return the mean of each column given the code, (..., d)."""

    @abstractmethod
    def sample(self, params: Tensor, uniform: Tensor) -> Tensor:
        """Return values (..., d) from two uniforms a cell, (..., d, 2)."""

    @abstractmethod
    def entropy(self, params: Tensor) -> Tensor:
        """Return the entropy of each column in nats, (..., d), in closed form."""


class _LocationScale(ColumnLikelihood):
    reparameterised = True

    @property
    def n_outputs(self) -> int:  # type: ignore[override]
        return 2 * self.n_columns

    def _location_and_scale(self, params: Tensor) -> tuple[Tensor, Tensor]:
        location, raw_scale = params.split(self.n_columns, dim=-1)
        return location, softplus(raw_scale) + _MIN_SCALE

    def mean(self, params: Tensor) -> Tensor:
        return self._location_and_scale(params)[0]


class GaussianLikelihood(_LocationScale):
    """Normal with mean and scale from the decoder."""

    def log_prob(self, params: Tensor, prepared: tuple[Tensor, ...]) -> Tensor:
        location, scale = self._location_and_scale(params)
        return -0.5 * (((prepared[0] - location) / scale).square() + _LOG_2PI) - scale.log()

    def sample(self, params: Tensor, uniform: Tensor) -> Tensor:
        location, scale = self._location_and_scale(params)
        return location + scale * torch.special.ndtri(uniform[..., 0])

    def entropy(self, params: Tensor) -> Tensor:
        return self._location_and_scale(params)[1].log() + 0.5 * (_LOG_2PI + 1.0)


class StudentTLikelihood(_LocationScale):
    """Student t with location and scale from the decoder.

    The degrees of freedom are one learned number a column, above two so that mean and variance
    exist: the log gamma functions then leave the per-draw work.
    """

    def __init__(self, n_columns: int) -> None:
        super().__init__(n_columns)
        self.raw_df = nn.Parameter(torch.full((n_columns,), 2.0))

    @property
    def df(self) -> Tensor:
        """Degrees of freedom of each column, (d,)."""
        return 2.0 + softplus(self.raw_df)

    def log_prob(self, params: Tensor, prepared: tuple[Tensor, ...]) -> Tensor:
        location, scale = self._location_and_scale(params)
        df = self.df
        constant = torch.lgamma((df + 1) / 2) - torch.lgamma(df / 2) - 0.5 * torch.log(df * math.pi)
        squared = ((prepared[0] - location) / scale).square()
        return constant - scale.log() - 0.5 * (df + 1) * torch.log1p(squared / df)

    def sample(self, params: Tensor, uniform: Tensor) -> Tensor:
        # Bailey (1994): a polar method that is exact for any degrees of freedom
        location, scale = self._location_and_scale(params)
        df = self.df.to(uniform)
        radius = (df * torch.expm1(-2.0 / df * uniform[..., 0].log())).sqrt()
        return location + scale * radius * torch.cos(2 * math.pi * uniform[..., 1])

    def entropy(self, params: Tensor) -> Tensor:
        df = self.df
        half = (df + 1) / 2
        constant = (
            half * (torch.digamma(half) - torch.digamma(df / 2))
            + 0.5 * df.log()
            + torch.lgamma(df / 2)
            + math.lgamma(0.5)
            - torch.lgamma(half)
        )
        return self._location_and_scale(params)[1].log() + constant


class BernoulliLikelihood(ColumnLikelihood):
    """Two levels; the decoder gives the log odds of the upper one."""

    levels: Tensor

    def __init__(self, n_columns: int) -> None:
        super().__init__(n_columns)
        self.register_buffer("levels", torch.tensor([[0.0, 1.0]]).repeat(n_columns, 1))

    @property
    def n_outputs(self) -> int:  # type: ignore[override]
        return self.n_columns

    def fit_columns(self, x: NDArray[np.float64]) -> None:
        levels = np.stack([np.nanmin(x, axis=0), np.nanmax(x, axis=0)], axis=1)
        self.levels = torch.as_tensor(levels, dtype=torch.float32)

    def atoms(self, column: int) -> Tensor:
        return self.levels[column]

    def prepare(self, x: Tensor) -> tuple[Tensor, ...]:
        return (torch.where(x > self.levels.mean(1), 1.0, -1.0),)

    def log_prob(self, params: Tensor, prepared: tuple[Tensor, ...]) -> Tensor:
        return logsigmoid(params * prepared[0])

    def mean(self, params: Tensor) -> Tensor:
        lower, upper = self.levels.unbind(1)
        return lower + (upper - lower) * torch.sigmoid(params)

    def sample(self, params: Tensor, uniform: Tensor) -> Tensor:
        lower, upper = self.levels.unbind(1)
        return torch.where(uniform[..., 0] < torch.sigmoid(params), upper, lower)

    def entropy(self, params: Tensor) -> Tensor:
        return softplus(params) - params * torch.sigmoid(params)


class HistogramLikelihood(ColumnLikelihood):
    """Bins at training quantiles, with an atom for each value that many rows share.

    Real columns have atoms (half of a column may be exactly 0), few distinct values and skew,
    which a location-scale family can only cover with a wide density. Here the decoder gives the
    log probabilities of up to ``n_bins`` categories a column. A value that more than 1.5 bins'
    worth of rows share is a category of its own; the others fall into bins at quantiles, inside
    which draws are uniform.

    Parameters
    ----------
    n_columns : int
        Number of columns d in the group.
    n_bins : int, default=40
        Categories that a column without atoms gets.
    smoothing : float, default=0.0
        Standard deviation, in bins, over which training spreads the target of a value that is
        not an atom. Neighbouring bins then teach each other; atoms are never smoothed.

    Notes
    -----
    Log densities are with respect to length plus a point mass of one at each atom. They compare
    between models of the same columns' bins, not with the densities of continuous families.
    """

    lower: Tensor
    width: Tensor
    centre: Tensor
    is_atom: Tensor
    is_used: Tensor
    kernel: Tensor

    def __init__(self, n_columns: int, n_bins: int = 40, smoothing: float = 0.0) -> None:
        super().__init__(n_columns)
        self.n_bins = n_bins
        self.smoothing = smoothing
        shape = (n_columns, n_bins)
        self.register_buffer("lower", torch.zeros(shape))  # a bin's lower edge or the atom
        self.register_buffer("width", torch.zeros(shape))  # 0 for an atom
        self.register_buffer("centre", torch.zeros(shape))  # mean of the training values inside
        self.register_buffer("is_atom", torch.zeros(shape, dtype=torch.bool))
        self.register_buffer("is_used", torch.zeros(shape, dtype=torch.bool))
        # what training spreads a value of bin k over, (d, K, K); derived, so it is not saved
        self.register_buffer("kernel", torch.zeros(*shape, n_bins), persistent=False)

    @property
    def n_outputs(self) -> int:  # type: ignore[override]
        return self.n_columns * self.n_bins

    def options(self) -> dict[str, Any]:
        return {
            "n_columns": self.n_columns,
            "n_bins": self.n_bins,
            "smoothing": self.smoothing,
        }

    def fit_columns(self, x: NDArray[np.float64]) -> None:
        for j in range(self.n_columns):
            values = x[~np.isnan(x[:, j]), j]
            atoms, edges = _atoms_and_edges(values, self.n_bins)
            lower = np.concatenate([edges[:-1], atoms])
            width = np.concatenate([np.diff(edges), np.zeros(len(atoms))])
            centre = np.concatenate([_bin_means(values, edges, atoms), atoms])
            n = len(lower)
            for buffer, column in zip(
                (self.lower, self.width, self.centre), (lower, width, centre), strict=True
            ):
                buffer[j] = 0.0
                buffer[j, :n] = torch.as_tensor(column, dtype=torch.float32)
            used = torch.arange(self.n_bins)
            self.is_atom[j] = (used >= n - len(atoms)) & (used < n)
            self.is_used[j] = used < n
        self.kernel = self._smoothing_kernel()

    def atoms(self, column: int) -> Tensor:
        return self.lower[column, self.is_atom[column]]

    def prepare(self, x: Tensor) -> tuple[Tensor, ...]:
        value = x.unsqueeze(-1)
        at_atom = self.is_atom & (value == self.lower)
        is_bin = self.is_used & ~self.is_atom
        bins = (is_bin & (value >= self.lower)).sum(-1) - 1
        n_bins = is_bin.sum(-1)
        bins = bins.clamp(min=0).minimum((n_bins - 1).clamp(min=0))
        # a column of atoms alone gets the nearest one for a value never seen
        distance = torch.where(self.is_used, (value - self.lower).abs(), torch.inf)
        bins = torch.where(n_bins > 0, bins, distance.argmin(-1))
        atom = at_atom.any(-1)
        index = torch.where(atom, at_atom.to(torch.int8).argmax(-1), bins)
        width = self.width.expand(*x.shape, -1).gather(-1, index.unsqueeze(-1)).squeeze(-1)
        log_width = torch.where(width > 0, width.clamp_min(1e-12).log(), 0.0)
        return index, log_width

    def log_prob(self, params: Tensor, prepared: tuple[Tensor, ...]) -> Tensor:
        index, log_width = prepared
        logits = params.unflatten(-1, (self.n_columns, self.n_bins))
        picked: Tensor = _LogSoftmaxAt.apply(logits, ~self.is_used, index)
        return picked - log_width

    def training_log_prob(self, params: Tensor, prepared: tuple[Tensor, ...]) -> Tensor:
        if self.smoothing == 0.0:
            return self.log_prob(params, prepared)
        index, log_width = prepared
        log_p = torch.log_softmax(self._logits(params), dim=-1)
        target = self.kernel[torch.arange(self.n_columns, device=index.device), index]
        return (target * log_p.clamp_min(-1e4)).sum(-1) - log_width

    def mean(self, params: Tensor) -> Tensor:
        return (torch.softmax(self._logits(params), dim=-1) * self.centre).sum(-1)

    def sample(self, params: Tensor, uniform: Tensor) -> Tensor:
        cumulative = torch.softmax(self._logits(params), dim=-1).cumsum(-1)
        u = uniform[..., :1] * cumulative[..., -1:]
        index = (cumulative < u).sum(-1, keepdim=True).clamp(max=self.n_bins - 1)
        last = self.is_used.sum(-1, keepdim=True) - 1
        index = index.minimum(last)
        shape = (*index.shape[:-1], self.n_bins)
        lower = self.lower.expand(shape).gather(-1, index).squeeze(-1)
        width = self.width.expand(shape).gather(-1, index).squeeze(-1)
        return lower + width * uniform[..., 1].to(width)

    def entropy(self, params: Tensor) -> Tensor:
        log_p = torch.log_softmax(self._logits(params), dim=-1).clamp_min(-1e4)
        log_width = torch.where(self.width > 0, self.width.clamp_min(1e-12).log(), 0.0)
        return (log_p.exp() * (log_width - log_p)).sum(-1)

    def _logits(self, params: Tensor) -> Tensor:
        logits = params.unflatten(-1, (self.n_columns, self.n_bins))
        return logits.masked_fill(~self.is_used, -torch.inf)

    def _smoothing_kernel(self) -> Tensor:
        bins = torch.arange(self.n_bins)
        distance = (bins.unsqueeze(0) - bins.unsqueeze(1)) / max(self.smoothing, 1e-6)
        is_bin = self.is_used & ~self.is_atom
        between = is_bin.unsqueeze(-1) & is_bin.unsqueeze(-2)
        kernel = torch.exp(-0.5 * distance.square()) * between
        kernel = torch.where(is_bin.unsqueeze(-1), kernel, torch.eye(self.n_bins))
        return kernel / kernel.sum(-1, keepdim=True)


class _LogSoftmaxAt(torch.autograd.Function):
    """Log softmax of logits (..., d, K) at one index a column, without the other K - 1.

    The gradient is written down because the one that autograd puts together goes through memory
    six times as often, and histograms are most of the time of a row.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, unused: Tensor, index: Tensor) -> Tensor:
        logits = logits.masked_fill(unused, -torch.inf)
        total = torch.logsumexp(logits, dim=-1)
        shape = torch.broadcast_shapes(total.shape, index.shape)
        index = index.expand(shape).unsqueeze(-1)
        ctx.save_for_backward(logits, total, index)
        return logits.expand(*shape, -1).gather(-1, index).squeeze(-1) - total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        logits, total, index = ctx.saved_tensors
        probability = (logits - total.unsqueeze(-1)).exp_()
        gradient = gradient.unsqueeze(-1)
        if index.shape[:-1] != total.shape:  # the same logits for several values
            out = (probability * -gradient).scatter_add_(-1, index, gradient)
            return out.sum_to_size(logits.shape), None, None
        return probability.mul_(-gradient).scatter_add_(-1, index, gradient), None, None


def _atoms_and_edges(
    values: NDArray[np.float64], n_bins: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the values that are categories of their own and the edges of the bins."""
    levels, counts = np.unique(values, return_counts=True)
    if len(levels) <= 2:
        return levels, levels[:1]
    is_atom = counts > 1.5 * len(values) / n_bins
    atoms, rest = levels[is_atom], values[~np.isin(values, levels[is_atom])]
    room = n_bins - len(atoms)
    wanted = min(room, max(1, round(n_bins * len(rest) / len(values))))
    if len(rest) == 0 or wanted < 1:
        return atoms, atoms[:1]
    edges = np.unique(np.quantile(rest, np.linspace(0.0, 1.0, wanted + 1)))
    if len(edges) == 1:
        return np.union1d(atoms, edges), edges
    return atoms, edges


def _bin_means(
    values: NDArray[np.float64], edges: NDArray[np.float64], atoms: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the mean of the values that are not atoms in each bin, its middle if it has none."""
    if len(edges) < 2:
        return np.empty(0)
    rest = values[~np.isin(values, atoms)]
    index = np.clip(np.searchsorted(edges, rest, side="right") - 1, 0, len(edges) - 2)
    count = np.bincount(index, minlength=len(edges) - 1)
    total = np.bincount(index, weights=rest, minlength=len(edges) - 1)
    middle = 0.5 * (edges[1:] + edges[:-1])
    return np.where(count > 0, total / np.maximum(count, 1), middle)


LIKELIHOODS: dict[str, type[ColumnLikelihood]] = {
    "gaussian": GaussianLikelihood,
    "student_t": StudentTLikelihood,
    "bernoulli": BernoulliLikelihood,
    "histogram": HistogramLikelihood,
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
    """

    order: Tensor

    def __init__(
        self, families: list[str], options: dict[str, dict[str, Any]] | None = None
    ) -> None:
        super().__init__()
        self.families = list(families)
        self.options = {name: dict((options or {}).get(name, {})) for name in sorted(set(families))}
        self.modules_by_family = nn.ModuleList()
        self.columns: list[list[int]] = []
        for name, extra in self.options.items():
            columns = [j for j, family in enumerate(families) if family == name]
            self.columns.append(columns)
            self.modules_by_family.append(LIKELIHOODS[name](len(columns), **extra))
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
        return self

    def atoms(self, column: int) -> Tensor:
        """Return the values of a column that have a mass of their own, in single precision."""
        for group, columns in zip(self.groups, self.columns, strict=True):
            if column in columns:
                return group.atoms(columns.index(column))
        raise IndexError(column)

    def prepare(self, x: Tensor) -> Prepared:
        """Return what `log_prob` needs of the values (B, D)."""
        prepared = []
        for group, columns in zip(self.groups, self.columns, strict=True):
            prepared.append(group.prepare(x[..., columns]))
        return tuple(prepared)

    def log_prob(self, params: Tensor, prepared: Prepared) -> Tensor:
        """Return log densities in nats, (..., B, D)."""
        parts = self._split(params)
        return self._join(
            [g.log_prob(p, q) for g, p, q in zip(self.groups, parts, prepared, strict=True)]
        )

    def training_log_prob(self, params: Tensor, prepared: Prepared) -> Tensor:
        """Return what training maximises, (..., B, D)."""
        parts = self._split(params)
        return self._join(
            [
                g.training_log_prob(p, q)
                for g, p, q in zip(self.groups, parts, prepared, strict=True)
            ]
        )

    def mean(self, params: Tensor) -> Tensor:
        """Return the mean of every column given the code, (..., D)."""
        parts = self._split(params)
        return self._join([g.mean(p) for g, p in zip(self.groups, parts, strict=True)])

    def sample(self, params: Tensor, uniform: Tensor) -> Tensor:
        """Return values (..., D) from two uniforms a cell, (..., D, 2)."""
        parts = self._split(params)
        return self._join(
            [
                group.sample(part, uniform[..., columns, :])
                for group, part, columns in zip(self.groups, parts, self.columns, strict=True)
            ]
        )

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

    def _split(self, params: Tensor) -> tuple[Tensor, ...]:
        return params.split([group.n_outputs for group in self.groups], dim=-1)

    def _join(self, parts: list[Tensor]) -> Tensor:
        if self._one_group:
            return parts[0]
        return torch.cat(parts, dim=-1)[..., self.order]
