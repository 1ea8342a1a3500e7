"""Columns with atoms and skew, as bins at training quantiles."""

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import ndtri
from torch import Tensor
from torch.nn.functional import embedding_bag

from ..._plan import rows_of_bins
from .._factor_analyser import FactorAnalyser
from ._base import ColumnLikelihood, FitOfRows, ScoresOfRows
from ._log_softmax import log_softmax_at, mean_log_softmax, without_unused
from ._marginals import marginal_offsets
from ._observed_fit import fit_of_parts, observed_bins

__all__ = ["HistogramLikelihood"]

Array = NDArray[np.float64]

_VALUES_A_BIN, _FEWEST_BINS = 10, 5  # with fewer values, shares of bins are mostly chance


class HistogramLikelihood(ColumnLikelihood):
    """Bins at training quantiles, with an atom for each value that many rows share.

    Real columns have atoms (half of a column may be exactly 0), few distinct values and skew,
    which a location-scale family can only cover with a wide density. Here the decoder gives the
    log probabilities of up to ``n_bins`` categories per column. A value that more than 1.5 bins'
    worth of rows share is a category of its own; the others fall into bins at quantiles, inside
    which draws are uniform. Bins have at least 10 values each, unless that left fewer than 5 bins.

    Parameters
    ----------
    n_columns : int
        Number of columns d in the group.
    n_bins : int, default=40
        Categories that a column without atoms gets.
    smoothing : float, default=0.0
        Standard deviation, in bins, over which training spreads the target of a value that is
        not an atom. Neighbouring bins then teach each other; atoms are never smoothed.
    widest : int, default=None
        Categories of the column with the most, so many outputs has each; None for ``n_bins``,
        until `fit_columns` learns it.

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

    def __init__(
        self,
        n_columns: int,
        n_bins: int = 40,
        smoothing: float = 0.0,
        widest: int | None = None,
    ) -> None:
        super().__init__(n_columns)
        self.n_bins, self.smoothing = n_bins, smoothing
        self._make_room(n_bins if widest is None else widest)

    def _make_room(self, widest: int) -> None:
        """Set up empty columns of so many outputs each."""
        self.widest = widest
        shape = (self.n_columns, widest)
        self.register_buffer("lower", torch.zeros(shape))  # a bin's lower edge or the atom
        self.register_buffer("width", torch.zeros(shape))  # 0 for an atom
        self.register_buffer("centre", torch.zeros(shape))  # mean of the training values inside
        self.register_buffer("is_atom", torch.zeros(shape, dtype=torch.bool))
        self.register_buffer("is_used", torch.zeros(shape, dtype=torch.bool))
        # what training spreads a value of bin k over, (d, K, K); derived, so it is not saved
        self.register_buffer("kernel", torch.zeros(*shape, widest), persistent=False)

    @property
    def n_outputs(self) -> int:  # type: ignore[override]
        return self.n_columns * self.widest

    def options(self) -> dict[str, object]:
        return {
            "n_columns": self.n_columns,
            "n_bins": self.n_bins,
            "smoothing": self.smoothing,
            **self.learned_options(),
        }

    def learned_options(self) -> dict[str, object]:
        return {"widest": self.widest}

    def fit_columns(self, x: NDArray[np.float64]) -> None:
        found = []
        for column in x.T:
            values = column[~np.isnan(column)]
            atoms, edges = _atoms_and_edges(values, self.n_bins)
            lower = np.concatenate([edges[:-1], atoms])
            width = np.concatenate([np.diff(edges), np.zeros(len(atoms))])
            centre = np.concatenate([_bin_means(values, edges, atoms), atoms])
            found.append((lower, width, centre, len(atoms)))
        self._make_room(max([len(lower) for lower, *_ in found], default=1) or 1)
        place = torch.arange(self.widest)
        for j, (lower, width, centre, n_atoms) in enumerate(found):
            n = len(lower)
            for buffer, numbers in zip(
                (self.lower, self.width, self.centre), (lower, width, centre), strict=True
            ):
                buffer[j, :n] = torch.as_tensor(numbers, dtype=torch.float32)
            self.is_atom[j] = (place >= n - n_atoms) & (place < n)
            self.is_used[j] = place < n
        self.smooth(self.smoothing)

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
        logits = params.unflatten(-1, (self.n_columns, self.widest))
        return log_softmax_at(logits, ~self.is_used, index) - log_width

    def fit_of_rows(self, prepared: tuple[Tensor, ...], observed: Tensor) -> FitOfRows:
        index, log_width = prepared
        by_count = observed_bins(index, observed, self.widest)
        log_widths = torch.where(observed, log_width, 0.0).sum(-1)

        def fit(hidden: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
            parts = [
                part
                for rows in by_count
                for part in rows.split(
                    rows_of_bins(len(hidden), rows.columns.shape[1] * self.widest)
                )
            ]
            return fit_of_parts(parts, hidden, weight, self._logits(bias).flatten()) - log_widths

        return fit

    def scores_of_codes(self, params: Tensor) -> ScoresOfRows:
        log_p = torch.log_softmax(self._logits(params), dim=-1)
        by_bin = torch.cat([log_p.flatten(1).T, log_p.new_zeros(1, len(log_p))])
        first = torch.arange(0, self.n_outputs, self.widest, device=log_p.device)

        def scores(prepared: tuple[Tensor, ...], observed: Tensor) -> Tensor:
            index, log_width = prepared
            line = torch.where(observed, index + first, self.n_outputs)  # the last line is of zeros
            total = embedding_bag(line, by_bin, mode="sum").T
            return total - torch.where(observed, log_width, 0.0).sum(-1)

        return scores

    def training_log_prob(self, params: Tensor, prepared: tuple[Tensor, ...]) -> Tensor:
        if self.smoothing == 0.0:
            return self.log_prob(params, prepared)
        index, log_width = prepared
        logits = params.unflatten(-1, (self.n_columns, self.widest))
        n_lines = self.n_columns * self.widest
        line = index + torch.arange(0, n_lines, self.widest, device=index.device)
        if self.kernel.dim() == 4:
            first = torch.arange(0, len(self.kernel) * n_lines, n_lines, device=index.device)
            line = line + first.view(-1, *[1] * (line.dim() - 1))
        target = self.kernel.view(-1, self.widest).index_select(0, line.flatten())
        return mean_log_softmax(logits, ~self.is_used, target.view(*line.shape, -1)) - log_width

    def smooth(self, smoothing: float | Tensor) -> None:
        """Change what training spreads a target over, or one number (M,) for each of M networks."""
        self.smoothing = float(torch.as_tensor(smoothing).max())
        self.kernel = self._smoothing_kernel(torch.as_tensor(smoothing).to(self.lower))

    def mean(self, params: Tensor) -> Tensor:
        probability = torch.softmax(self._logits(params), dim=-1)
        if probability.requires_grad:
            return (probability * self.centre).sum(-1)
        return probability.mul_(self.centre).sum(-1)

    def sample(self, params: Tensor, uniform: Tensor) -> Tensor:
        cumulative = torch.softmax(self._logits(params), dim=-1).cumsum(-1)
        u = uniform[..., :1] * cumulative[..., -1:]
        index = (cumulative < u).sum(-1, keepdim=True).clamp(max=self.widest - 1)
        last = self.is_used.sum(-1, keepdim=True) - 1
        index = index.minimum(last)
        shape = (*index.shape[:-1], self.widest)
        lower = self.lower.expand(shape).gather(-1, index).squeeze(-1)
        width = self.width.expand(shape).gather(-1, index).squeeze(-1)
        return lower + width * uniform[..., 1].to(width)

    def entropy(self, params: Tensor) -> Tensor:
        log_p = torch.log_softmax(self._logits(params), dim=-1).clamp_min(-1e4)
        log_width = torch.where(self.width > 0, self.width.clamp_min(1e-12).log(), 0.0)
        return (log_p.exp() * (log_width - log_p)).sum(-1)

    def linear_scores(self, x: Array) -> Array:
        return self._scores_and_shares(x)[0]

    def linear_head(self, x: Array, model: FactorAnalyser, residuals: Array) -> tuple[Array, Array]:
        # ln N(c_k; w z + m, noise) is linear in z up to what all bins share
        _, score, share = self._scores_and_shares(x)
        slope = (score / model.noise[:, None])[..., None] * model.loadings[:, None, :]
        return slope.reshape(self.n_outputs, -1), marginal_offsets(slope, share).ravel()

    def _scores_and_shares(self, x: Array) -> tuple[Array, Array, Array]:
        """Return normal scores (N, d), and those of the bins and their shares, each (d, K)."""
        observed = ~np.isnan(x)
        index = self.prepare(torch.from_numpy(np.where(observed, x, 0.0)).float())[0].numpy()
        score, share = np.zeros((2, self.n_columns, self.widest))
        for j in range(self.n_columns):
            count = np.bincount(index[observed[:, j], j], minlength=self.widest).astype(float)
            used = self.is_used[j].numpy()
            share[j, used] = (count[used] + 0.5) / (count[used] + 0.5).sum()
            order = np.argsort(self.centre[j].numpy()[used], kind="stable")
            middle = np.empty(len(order))
            middle[order] = np.cumsum(share[j, used][order]) - 0.5 * share[j, used][order]
            score[j, used] = ndtri(middle)
        scores = np.take_along_axis(score.T, index, axis=0)
        return np.where(observed, scores, np.nan), score, share

    def _logits(self, params: Tensor) -> Tensor:
        logits = params.unflatten(-1, (self.n_columns, self.widest))
        return without_unused(logits, ~self.is_used)

    def _smoothing_kernel(self, smoothing: Tensor) -> Tensor:
        """Return the shares of a target's bins, (d, K, K), or (M, d, K, K) of smoothing (M,)."""
        bins = torch.arange(self.widest, device=smoothing.device)
        distance = (bins.unsqueeze(0) - bins.unsqueeze(1)) / smoothing.clamp_min(1e-6).view(
            *smoothing.shape, 1, 1, 1
        )
        is_bin = self.is_used & ~self.is_atom
        between = is_bin.unsqueeze(-1) & is_bin.unsqueeze(-2)
        kernel = torch.exp(-0.5 * distance.square()) * between
        alone = torch.eye(self.widest, device=smoothing.device)
        kernel = torch.where(is_bin.unsqueeze(-1), kernel, alone)
        return kernel / kernel.sum(-1, keepdim=True)


def _atoms_and_edges(
    values: NDArray[np.float64], n_bins: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the values that are categories of their own and the edges of the bins."""
    distinct, counts = np.unique(values, return_counts=True)
    if len(distinct) <= 2:
        return distinct, distinct[:1]
    is_atom = counts > max(1.5 * len(values) / n_bins, 1.0)  # one row alone shares nothing
    atoms, rest = distinct[is_atom], values[~np.isin(values, distinct[is_atom])]
    room = n_bins - len(atoms)
    enough = max(len(rest) // _VALUES_A_BIN, _FEWEST_BINS)
    wanted = min(room, enough, max(1, round(n_bins * len(rest) / len(values))))
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
