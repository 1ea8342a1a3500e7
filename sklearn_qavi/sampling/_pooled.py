"""Posteriors of rows under several decoders: their means, draws, densities and scores, pooled."""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .._random import derive_seed
from .._spread import Center, Spread, center_of
from .._typing import Decoder
from ..inference import DecoderTarget, InferenceResult, Posterior, weigh_codes
from ._averages import categories_of, log_densities, means, probabilities
from ._draws import keyed_draws, shared_draws_of_rows
from ._given import Given
from ._scores import scores_of_decoder

__all__ = ["PooledPosterior", "RowsToWeigh"]

_DRAWS_OF_CENTER = 32  # of each decoder, behind the medians that draws are spread around
_ROWS_OF_CENTER = 1024  # that these draws are held of at one time
_OF_WEIGHTS = ("pareto_k", "effective_sample_size")


@dataclass(frozen=True)
class RowsToWeigh:
    """Rows whose codes may be weighed once inference is done.

    Parameters
    ----------
    x : Tensor of shape (N, D)
        Values in the decoders' standardized units.
    observed : bool Tensor of shape (N, D)
        What inference saw.
    seed : int
        That of the inference.
    """

    x: Tensor
    observed: Tensor
    seed: int

    @classmethod
    def concatenate(cls, parts: "list[RowsToWeigh]") -> "RowsToWeigh":
        """Return the rows of all parts, of the same inference."""
        x, observed = (torch.cat([getattr(p, name) for p in parts]) for name in ("x", "observed"))
        return cls(x, observed, parts[0].seed)


@dataclass(frozen=True)
class PooledPosterior:
    """Posteriors of N rows under every decoder of a pool.

    Parameters
    ----------
    decoders : sequence of torch.nn.Module
        The decoders, each with ``decode``, ``likelihood`` and ``latent_dim``.
    results : list of InferenceResult
        What each decoder's inference gave, in the same order.
    n_features : int
        Number of columns D.
    given : Given, default=None
        What was seen of the rows, for cells that depend on it given the code, as channels of a
        pixel or neighbouring pixels may.
    spread : Spread, default=None
        How draws are spread around the medians of their cells, and how far `point` is from their
        means; None leaves both as the decoders give them.
    to_weigh : RowsToWeigh, default=None
        What ``pareto_k`` and ``effective_sample_size`` are computed from when they are first read.
    """

    decoders: Sequence[Decoder] = field(repr=False)
    results: list[InferenceResult] = field(repr=False)
    n_features: int
    given: Given | None = field(default=None, repr=False)
    spread: Spread | None = field(default=None, repr=False)
    to_weigh: RowsToWeigh | None = field(default=None, repr=False)

    @classmethod
    def concatenate(cls, parts: "list[PooledPosterior]") -> "PooledPosterior":
        """Return the posteriors of the rows of all parts, under the same decoders.

        Parameters
        ----------
        parts : list of PooledPosterior
            At least one.
        """
        by_decoder = zip(*(part.results for part in parts), strict=True)
        results = [InferenceResult.concatenate(list(results)) for results in by_decoder]
        given = [part.given for part in parts if part.given is not None]
        rows = [part.to_weigh for part in parts if part.to_weigh is not None]
        return replace(
            parts[0],
            results=results,
            given=Given.concatenate(given) if given else None,
            to_weigh=RowsToWeigh.concatenate(rows) if rows else None,
        )

    @property
    def bound(self) -> NDArray[np.float64]:
        """Bound on log p(x_O) of each row in nats, mean over the decoders, (N,)."""
        return self._mean("bound")

    @property
    def n_iter(self) -> NDArray[np.int64]:
        """Steps each row took, the most among the decoders, (N,)."""
        return torch.stack([m.n_iter for m in self.results]).amax(0).cpu().numpy()

    @property
    def n_evaluations(self) -> NDArray[np.float64]:
        """Decoder evaluations each row took, mean over the decoders, (N,)."""
        return self._mean("n_evaluations")

    @property
    def converged(self) -> NDArray[np.bool_]:
        """Whether each row converged under every decoder, (N,)."""
        return torch.stack([m.converged for m in self.results]).all(0).cpu().numpy()

    @property
    def pareto_k(self) -> NDArray[np.float64]:
        """Pareto k of 1,024 importance weights, the worst among the decoders, (N,).

        Computed when it, or the sample size, is first read: by 1,024 decoder evaluations of a row.
        """
        worst: NDArray[np.float64] = self._diagnostic("pareto_k").max(axis=0)
        return worst

    @property
    def effective_sample_size(self) -> NDArray[np.float64]:
        """Effective number of 1,024 weighted codes, the least among the decoders, (N,)."""
        smallest: NDArray[np.float64] = self._diagnostic("effective_sample_size").min(axis=0)
        return smallest

    @property
    def acceptance_rate(self) -> NDArray[np.float64]:
        """Share of accepted Metropolis proposals, mean over the decoders, (N,)."""
        rate: NDArray[np.float64] = self._diagnostic("acceptance_rate").mean(axis=0)
        return rate

    def __len__(self) -> int:
        """Return the number of rows N."""
        return len(self.results[0].posterior)

    def mean(self, n_codes: int | None = None) -> NDArray[np.float64]:
        """Return the posterior mean of every cell, (N, D), averaging E[x | z] over codes.

        As many codes as the family needs, unless ``n_codes`` says otherwise.
        """
        parts = [means(*member, n_codes, self.given) for member in self._members()]
        mean: NDArray[np.float64] = np.mean(parts, axis=0)
        return mean

    def point(self) -> NDArray[np.float64]:
        """Return the means of all cells, pulled towards their medians where that is better, (N, D).

        What is better in squared error was learned from hidden cells, see `TabularVAE`.
        """
        mean = self.mean()
        if self.spread is None or not self.spread.pull.any():
            return mean
        return self.spread.pulled(mean, self._center)

    def category_probabilities(self, n_codes: int = 128) -> dict[int, NDArray[np.float64]]:
        """Return the probabilities of categories by categorical column, each (N, K).

        ``p(x_d = k | x_O)``, averaged over codes and decoders; observed cells are not looked at.
        """
        if not categories_of(self.decoders[0]).categorical_columns:
            return {}
        by_decoder = []
        for decoder, posterior in self._members():
            mean = torch.from_numpy(probabilities(decoder, posterior, n_codes))
            by_decoder.append(copy.deepcopy(categories_of(decoder)).cpu().of_categories(mean))
        return {
            j: np.mean([categories[j].numpy() for categories in by_decoder], axis=0)
            for j in by_decoder[0]
        }

    def shared_draws(self, n_draws: int) -> NDArray[np.float64]:
        """Return draws (S, N, D) from noise that all rows share, S at least ``n_draws``."""
        per_decoder = -(-n_draws // len(self.results))
        parts = [
            shared_draws_of_rows(*member, per_decoder, self.n_features, self.given)
            for member in self._members()
        ]
        return self._spread(np.concatenate(parts))

    def keyed_draws(
        self,
        n_draws: int,
        positions: NDArray[np.int64],
        seed: int,
        *,
        first: int = 0,
        in_turn: bool = False,
    ) -> NDArray[np.float64]:
        """Return independent draws keyed by (seed, position of the row), (n_draws, N, D).

        Draw m of a row takes decoder (m + offset of the row) modulo their number, so a few draws
        already visit all decoders and each single draw is from the pool. ``in_turn`` leaves the
        offsets out: draw m of all rows is from one decoder. Draws are counted from ``first``:
        those of a call from 0 with more draws.
        """
        drawn = keyed_draws(
            list(self._members()),
            n_draws,
            positions,
            seed,
            n_features=self.n_features,
            first=first,
            in_turn=in_turn,
            given=self.given,
        )
        return self._spread(drawn) if n_draws else drawn

    def log_predictive(self, x: Tensor, n_codes: int = 128) -> NDArray[np.float64]:
        """Return the log predictive density of each cell at values x, (N, D), in nats.

        ``log 1/S sum_s p(x_d | z_s)`` over codes of all decoders, on the standardized scale.
        """
        log_factor: NDArray[np.float64] | float = 0.0
        if self.spread is not None:
            values, log_factor = self.spread.gathered(x.double().cpu().numpy(), self._center)
            x = torch.from_numpy(values).to(x)
        parts = [log_densities(*member, x, n_codes) for member in self._members()]
        log_prob: NDArray[np.float64] = np.logaddexp.reduce(parts, axis=0) - np.log(
            n_codes * len(parts)
        )
        return log_prob - log_factor

    def score_missing(
        self, x: Tensor, observed: Tensor, missing: Tensor, n_draws: int | list[int] = 10_000
    ) -> dict[str, NDArray[np.float64]]:
        """Score the posteriors on the true values of the missing cells, row by row.

        Parameters
        ----------
        x : Tensor of shape (N, D)
            True values in the decoders' standardized units.
        observed, missing : bool Tensors of shape (N, D)
            What inference saw, and what is scored.
        n_draws : int or list of int, default=10000
            Codes S per row and decoder; they are worked through in parts, so memory does not grow
            with S. Of several numbers the smaller ones take the first codes of the largest.

        Returns
        -------
        scores : dict of ndarray of shape (N,), or (len(n_draws), N)
            "iwae", "predictive" and "conditional" in nats, see `sklearn_qavi.metrics`, each the
            logarithm of the decoders' mean; "minimum_nrmse" in standard deviations, the smallest
            over all codes of the RMSE of the decoder's mean over the missing cells.
        """
        sizes = sorted({*np.atleast_1d(n_draws).tolist()})
        asked = np.searchsorted(sizes, n_draws)
        parts = [
            scores_of_decoder(decoder, result, (x, observed, missing), sizes)
            for decoder, result in self._pairs()
        ]
        scores = {}
        for name in ("iwae", "predictive", "conditional"):
            stacked = np.stack([part[name] for part in parts])
            scores[name] = np.logaddexp.reduce(stacked, axis=0) - np.log(len(parts))
        scores["minimum_nrmse"] = np.min([part["minimum_nrmse"] for part in parts], axis=0)
        return {name: values[asked] for name, values in scores.items()}

    @cached_property
    def _weighed(self) -> list[InferenceResult]:
        """What each decoder's inference gave, with the diagnostics of its importance weights."""
        rows = self.to_weigh
        if rows is None:
            return self.results
        return [
            weigh_codes(
                DecoderTarget.of(decoder, rows.x, rows.observed),
                result,
                seed=derive_seed(rows.seed, k),
            )
            if result.pareto_k is None
            else result
            for k, (decoder, result) in enumerate(zip(self.decoders, self.results, strict=True))
        ]

    @cached_property
    def _center(self) -> Center:
        """What draws of the cells (N, D) are spread around."""
        starts = range(0, len(self), _ROWS_OF_CENTER)
        parts = [self._center_of_rows(slice(start, start + _ROWS_OF_CENTER)) for start in starts]
        return Center(*(np.concatenate(both) for both in zip(*parts, strict=True)))

    def _center_of_rows(self, rows: slice) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return medians and deviations of the decoders' draws of some rows, each (n, D)."""
        given = None if self.given is None else self.given[rows]
        parts = [
            shared_draws_of_rows(decoder, posterior[rows], _DRAWS_OF_CENTER, self.n_features, given)
            for decoder, posterior in self._members()
        ]
        center = center_of(np.concatenate(parts))
        return center.median, center.deviation

    def _spread(self, draws: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return draws (S, N, D) of the decoders, spread as they should be."""
        return draws if self.spread is None else self.spread.spread(draws, self._center)

    def _pairs(self) -> Iterator[tuple[Decoder, InferenceResult]]:
        """Return each decoder, or the one that its method has tuned, and what it gave."""
        for decoder, result in zip(self.decoders, self.results, strict=True):
            yield (decoder if result.decoder is None else result.decoder), result

    def _members(self) -> Iterator[tuple[Decoder, Posterior]]:
        """Return each decoder and its posteriors, as `_pairs` does."""
        for decoder, result in self._pairs():
            yield decoder, result.posterior

    def _mean(self, name: str) -> NDArray[np.float64]:
        mean: NDArray[np.float64] = np.mean(
            [getattr(m, name).double().cpu().numpy() for m in self.results], axis=0
        )
        return mean

    def _diagnostic(self, name: str) -> NDArray[np.float64]:
        """Return a diagnostic of each decoder, (K, N)."""
        results = self._weighed if name in _OF_WEIGHTS else self.results
        values = [getattr(member, name) for member in results]
        if any(value is None for value in values):
            raise AttributeError(f"{name} was not computed by this inference.")
        return torch.stack(values).double().cpu().numpy()
