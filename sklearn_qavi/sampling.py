"""From decoders and incomplete rows to posteriors, draws, means and predictive densities.

A pool holds one or more decoders of the same columns; each is inferred on its own and their draws
count alike. Everything here is in the decoders' standardised units.
"""

import copy
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ._interrupts import go_on
from ._plan import bytes_per_code, plan_for
from ._random import SobolPoints, derive_seed, row_uniforms, sobol_uniform
from ._spread import Spread
from ._typing import Decoder, HasCategories, HasLayers, JointLikelihood, LayeredDecoder, Progress
from .inference import (
    Context,
    DecoderTarget,
    InferenceMethod,
    InferenceResult,
    Posterior,
    weigh_codes,
)
from .inference._blocks import row_blocks
from .inference.posteriors import _hierarchical

__all__ = ["DecoderPool", "PooledPosterior", "half_sample_mode", "shared_draws"]

_SCORED_DRAWS = 250  # codes of a block scored at a time
_CODES_OF_CENTER = 16  # behind the means that draws are spread around, Sobol points
_CODES_OF_BLOCK = 256  # of a row, that memory has to do for
_UNIFORMS = 2**25  # behind draws that are made at a time, 256 MiB
_NUMBERS_HELD = 2**26  # of the posteriors of a chunk of rows, 256 MiB
_OF_WEIGHTS = ("pareto_k", "effective_sample_size")
_EPS = 1e-7  # uniforms stay inside the open interval in single precision


T = TypeVar("T")
Given = tuple[Tensor, Tensor]  # values (N, D) and the observed mask


def draw_values(
    member: Decoder,
    posterior: Posterior,
    code_u: Tensor,
    cell_u: Tensor,
    given: Given | None = None,
) -> Tensor:
    """Return draws of every cell from p(x | z), z ~ q.

    Parameters
    ----------
    member : object
        Has ``decode`` and ``likelihood``.
    posterior : Posterior
        Fitted posteriors of N rows.
    code_u : Tensor of shape (S, N or 1, n_noise)
        Uniforms that pick the codes.
    cell_u : Tensor of shape (S, N or 1, D, 2)
        Uniforms that pick the values.
    given : tuple of Tensor of shape (N, D), default=None
        Values and the observed mask; only a likelihood whose cells depend on each other given the
        code looks at them.

    Returns
    -------
    draws : Tensor of shape (S, N, D)
        In the decoder's standardised units.
    """
    size = _draws_at_a_time(member, len(posterior), posterior.parameters.device)
    if len(code_u) > size:
        parts = zip(code_u.split(size), cell_u.split(size), strict=True)
        return torch.cat([draw_values(member, posterior, *part, given) for part in parts])
    go_on()
    params = posterior.observation(_noise(posterior, code_u), member.decode)
    uniform = cell_u.to(params.dtype).clamp(_EPS, 1 - _EPS)
    if given is not None and isinstance(member.likelihood, JointLikelihood):
        drawn: Tensor = member.likelihood.sample_given(params, uniform, *given)
        return drawn
    return member.likelihood.sample(params, uniform)


def shared_draws(
    member: Decoder,
    posterior: Posterior,
    n_draws: int,
    n_features: int,
    given: Given | None = None,
) -> Tensor:
    """Return draws (S, N, D) from low-discrepancy noise that all rows share.

    Parameters
    ----------
    member : object
        Has ``decode`` and ``likelihood``.
    posterior : Posterior
        Fitted posteriors of N rows.
    n_draws : int
        Number of draws S.
    n_features : int
        Number of columns D.
    given : tuple of Tensor of shape (N, D), default=None
        Values and the observed mask, for likelihoods whose cells depend on each other.

    Returns
    -------
    draws : Tensor of shape (S, N, D)
        In the decoder's standardised units.
    """
    n_noise, n_dims = posterior.family.n_noise, posterior.family.n_noise + 2 * n_features
    points = SobolPoints(n_draws, n_dims, seed=0, antithetic=False)
    parts = []
    device = posterior.parameters.device
    for part in points.parts(_draws_at_a_time(member, len(posterior), device)):
        u = part.to(device).unsqueeze(1)
        cell_u = u[..., n_noise:].unflatten(-1, (n_features, 2))
        parts.append(draw_values(member, posterior, u[..., :n_noise], cell_u, given))
    return torch.cat(parts)


def half_sample_mode(draws: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mode of draws along the first axis by the half-sample estimator.

    The densest half of the ordered draws is taken again and again until two are left; repeated
    values (atoms) win at once, since a run of them has no width.

    Parameters
    ----------
    draws : ndarray of shape (S, ...)
        At least one draw.

    Returns
    -------
    mode : ndarray of shape (...)
        In the unit of the draws.

    References
    ----------
    .. [1] Bickel, Fruehwirth (2006), "On a fast, robust estimator of the mode".
    """
    ordered = np.sort(draws, axis=0)
    while len(ordered) > 2:
        half = (len(ordered) + 1) // 2
        widths = ordered[half - 1 :] - ordered[: len(ordered) - half + 1]
        start = widths.argmin(axis=0)
        index = start[None] + np.arange(half).reshape(-1, *[1] * start.ndim)
        ordered = np.take_along_axis(ordered, index, axis=0)
    mode: NDArray[np.float64] = ordered.mean(axis=0)
    return mode


@dataclass(frozen=True)
class RowsToWeigh:
    """Rows whose codes may be weighed once inference is done.

    Parameters
    ----------
    x : Tensor of shape (N, D)
        Values in the decoders' standardised units.
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
        return cls(*_joined([(part.x, part.observed) for part in parts]), parts[0].seed)


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
    given : tuple of Tensor of shape (N, D), default=None
        The rows' values and observed mask, for likelihoods whose cells depend on each other given
        the code, as channels of a pixel may.
    spread : Spread, default=None
        How draws are spread around the means of their cells; None leaves them as the decoders give
        them. Means are the same, but for numbers on a log or logit scale.
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
            given=_joined(given) if given else None,
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
        parts = []
        for decoder, result in self._pairs():
            family = result.posterior.family
            points = SobolPoints(n_codes or family.codes_of_a_mean, family.n_noise, seed=1)
            function = partial(_mean_of_block, decoder, points, self.given)
            parts.append(self._by_block(decoder, result.posterior, function))
        mean: NDArray[np.float64] = np.mean(parts, axis=0)
        return mean

    def category_probabilities(self, n_codes: int = 128) -> dict[int, NDArray[np.float64]]:
        """Return the probabilities of categories by categorical column, each (N, K).

        ``p(x_d = k | x_O)``, averaged over codes and decoders; observed cells are not looked at.
        """
        if not _categories_of(self.decoders[0]).categorical_columns:
            return {}
        by_decoder = []
        for decoder, result in self._pairs():
            u = sobol_uniform(n_codes, result.posterior.family.n_noise, seed=1).unsqueeze(1)
            function = partial(_probabilities_of_block, decoder, u)
            mean = torch.from_numpy(self._by_block(decoder, result.posterior, function))
            by_decoder.append(copy.deepcopy(_categories_of(decoder)).cpu().of_categories(mean))
        return {
            j: np.mean([categories[j].numpy() for categories in by_decoder], axis=0)
            for j in by_decoder[0]
        }

    def shared_draws(self, n_draws: int) -> NDArray[np.float64]:
        """Return draws (S, N, D) from noise that all rows share, S at least ``n_draws``."""
        per_decoder = -(-n_draws // len(self.results))
        parts = [
            self._by_block(
                decoder,
                result.posterior,
                partial(_draws_of_block, decoder, per_decoder, self.n_features, self.given),
            )
            for decoder, result in self._pairs()
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
        out = np.empty((n_draws, len(positions), self.n_features))
        if n_draws == 0:
            return out
        families = [result.posterior.family for result in self.results]
        n_noise = max(family.n_noise for family in families)
        n_dims = 1 + n_noise + 2 * self.n_features
        device = self.results[0].bound.device

        def block_draws(rows: Tensor, first: int, n: int) -> Tensor:
            keys = positions[rows.cpu().numpy()]
            u = row_uniforms(seed, keys, n, n_dims, first=first, device=device)
            picks = u[:, 0, 0]
            if first:
                picks = row_uniforms(seed, keys, 1, 1, device=device)[:, 0, 0]
            start = torch.zeros_like(picks) if in_turn else picks * len(families)
            offset = (start.long() + first) % len(families)
            return self._pool_draws(rows, u, offset, n_noise)

        done = 0
        for rows, n_rows in self._blocks_of_draws(n_draws, device):
            size = _draws_of_a_part(self.decoders, n_draws, len(rows), n_dims)
            for start in range(0, n_draws, size):
                n = min(size, n_draws - start)
                with torch.no_grad():
                    drawn = block_draws(rows, first + start, size if self._is_layered else n)
                part = drawn[:n, :n_rows].double().cpu().numpy()
                out[start : start + n, done : done + n_rows] = part
            done += n_rows
        return self._spread(out)

    @property
    def _is_layered(self) -> bool:
        return images_at_a_time(self.decoders[0]) is not None

    def _blocks_of_draws(self, n_draws: int, device: torch.device) -> Iterator[tuple[Tensor, int]]:
        """Yield rows that are drawn from together; with layers, as many as make whole images."""
        images = images_at_a_time(self.decoders[0])
        if images is not None:
            return row_blocks(len(self), device, images // _power_of_two(n_draws, images))
        widest = max(self.decoders, key=lambda d: int(getattr(d.likelihood, "n_outputs", 1)))
        return _blocks(widest, len(self), device)

    def log_predictive(self, x: Tensor, n_codes: int = 128) -> NDArray[np.float64]:
        """Return the log predictive density of each cell at values x, (N, D), in nats.

        ``log 1/S sum_s p(x_d | z_s)`` over codes of all decoders, on the standardised scale.
        """
        log_factor: NDArray[np.float64] | float = 0.0
        if self.spread is not None:
            values, log_factor = self.spread.gathered(x.double().cpu().numpy(), self._center)
            x = torch.from_numpy(values).to(x)
        parts = []
        for decoder, result in self._pairs():
            points = SobolPoints(n_codes, result.posterior.family.n_noise, seed=1)
            function = partial(_density_of_block, decoder, points, x)
            parts.append(self._by_block(decoder, result.posterior, function))
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
            True values in the decoders' standardised units.
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
            self._scores_of_decoder(decoder, result, (x, observed, missing), sizes)
            for decoder, result in self._pairs()
        ]
        scores = {}
        for name in ("iwae", "predictive", "conditional"):
            stacked = np.stack([part[name] for part in parts])
            scores[name] = np.logaddexp.reduce(stacked, axis=0) - np.log(len(parts))
        scores["minimum_nrmse"] = np.min([part["minimum_nrmse"] for part in parts], axis=0)
        return {name: values[asked] for name, values in scores.items()}

    @staticmethod
    def _scores_of_decoder(
        decoder: Decoder,
        result: InferenceResult,
        table: tuple[Tensor, Tensor, Tensor],
        sizes: list[int],
    ) -> dict[str, NDArray[np.float64]]:
        """Return scores (len(sizes), N) after so many draws, in ascending order."""
        families = {result.posterior.family.n_noise, result.code_posterior.family.n_noise}
        points = SobolPoints(sizes[-1], max(families), seed=3, antithetic=False)
        parts = []
        with torch.no_grad():
            for rows, n in _blocks(decoder, len(table[0]), table[0].device):
                block = _ScoredBlock(decoder, result, rows, *(t[rows] for t in table))
                at_a_time = min(_SCORED_DRAWS, _draws_at_a_time(decoder, len(rows), rows.device))
                after, n_done = [], 0
                for part in points.parts(at_a_time, sizes):
                    block.add(part.unsqueeze(1))
                    n_done += len(part)
                    if n_done in sizes:
                        after.append(block.scores(n_done))
                parts.append({k: torch.stack([one[k][:n] for one in after]) for k in after[0]})
        return {k: torch.cat([part[k] for part in parts], dim=1).cpu().numpy() for k in parts[0]}

    @cached_property
    def _weighed(self) -> list[InferenceResult]:
        """What each decoder's inference gave, with the diagnostics of its importance weights."""
        rows = self.to_weigh
        if rows is None:
            return self.results
        return [
            weigh_codes(
                _target(decoder, rows.x, rows.observed), result, seed=derive_seed(rows.seed, k)
            )
            if result.pareto_k is None
            else result
            for k, (decoder, result) in enumerate(zip(self.decoders, self.results, strict=True))
        ]

    @cached_property
    def _center(self) -> NDArray[np.float64]:
        """The means that draws are spread around, (N, D)."""
        return self.mean(_CODES_OF_CENTER)

    def _spread(self, draws: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return draws (S, N, D) of the decoders, spread as they should be."""
        return draws if self.spread is None else self.spread.spread(draws, self._center)

    def _pool_draws(self, rows: Tensor, u: Tensor, offset: Tensor, n_noise: int) -> Tensor:
        """Return draws (M, B, D) of some rows from their uniforms (B, M, 1 + n_noise + 2 D).

        Decoder k takes the draws (k - offset) modulo the number of decoders, ``offset`` (B,).
        """
        n_pool, n_draws = len(self.results), u.shape[1]
        out = u.new_empty(n_draws, len(rows), self.n_features)
        place = torch.arange(len(rows), device=u.device)
        for k, (decoder, result) in enumerate(self._pairs()):
            turn = torch.arange(-(-n_draws // n_pool), device=u.device).unsqueeze(1)
            draw = (k - offset) % n_pool + n_pool * turn
            valid = draw < n_draws
            mine = u[place, draw.clamp(max=n_draws - 1)]
            family = result.posterior.family
            values = draw_values(
                decoder,
                result.posterior[rows],
                mine[..., 1 : 1 + family.n_noise],
                mine[..., 1 + n_noise :].unflatten(-1, (self.n_features, 2)),
                _of_rows(self.given, rows),
            )
            out[draw[valid], place.expand_as(draw)[valid]] = values[valid].to(out.dtype)
        return out

    def _pairs(self) -> Iterator[tuple[Decoder, InferenceResult]]:
        """Return each decoder, or the one that its method has tuned, and what it gave."""
        for decoder, result in zip(self.decoders, self.results, strict=True):
            yield (decoder if result.decoder is None else result.decoder), result

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

    @staticmethod
    def _by_block(
        decoder: Decoder, posterior: Posterior, function: Callable[[Posterior, Tensor], Tensor]
    ) -> NDArray[np.float64]:
        """Apply a function to blocks of rows and join its results on their last but one axis."""
        device = posterior.parameters.device
        with torch.no_grad():
            parts = [
                function(posterior[rows], rows)[..., :n, :].double().cpu().numpy()
                for rows, n in _blocks(decoder, len(posterior), device)
            ]
        return np.concatenate(parts, axis=-2)


class _ScoredBlock:
    """Sums over draws of the code, for the scores of one block of rows under one decoder."""

    def __init__(
        self,
        decoder: Decoder,
        result: InferenceResult,
        rows: Tensor,
        x: Tensor,
        observed: Tensor,
        missing: Tensor,
    ) -> None:
        self.decoder, self.x, self.observed, self.missing = decoder, x, observed, missing
        self.draws_posterior = result.posterior[rows]
        self.code_posterior = result.code_posterior[rows]
        self.same = result.codes is None
        self.prepared = decoder.likelihood.prepare(x)
        lowest = torch.full((len(rows),), -torch.inf, dtype=torch.float64, device=x.device)
        self.sums = dict.fromkeys(("iwae", "predictive", "joint", "evidence"), lowest)
        self.nrmse = -lowest

    def add(self, u: Tensor) -> None:
        """Add the draws of these uniforms (S, 1, n)."""
        posterior = self.code_posterior
        noise = _noise(posterior, u[..., : posterior.family.n_noise])
        decoded = posterior.decoded(noise, self.decoder.decode)
        params, log_ratio = decoded.params, decoded.log_ratio
        log_missing, log_observed = self._log_missing_and_observed(params)
        self._accumulate("iwae", log_missing + log_ratio)
        self._accumulate("joint", log_missing + log_observed + log_ratio)
        self._accumulate("evidence", log_observed + log_ratio)
        error = torch.where(self.missing, self.decoder.likelihood.mean(params) - self.x, 0.0)
        count = self.missing.sum(-1).clamp(min=1)
        rmse = (error.square().sum(-1) / count).sqrt().double()
        self.nrmse = self.nrmse.minimum(rmse.amin(0))
        if not self.same:
            posterior = self.draws_posterior
            noise = _noise(posterior, u[..., : posterior.family.n_noise])
            params = posterior.observation(noise, self.decoder.decode)
            log_missing, _ = self._log_missing_and_observed(params)
        self._accumulate("predictive", log_missing)

    def scores(self, n_draws: int) -> dict[str, Tensor]:
        """Return the scores of each row, (B,), after this many draws."""
        return {
            "iwae": self.sums["iwae"] - np.log(n_draws),
            "predictive": self.sums["predictive"] - np.log(n_draws),
            "conditional": self.sums["joint"] - self.sums["evidence"],
            "minimum_nrmse": self.nrmse,
        }

    def _log_missing_and_observed(self, params: Tensor) -> tuple[Tensor, Tensor]:
        """Return log p(x_M | x_O, z) and log p(x_O | z), (S, B)."""
        likelihood = self.decoder.likelihood
        if isinstance(likelihood, JointLikelihood):
            observed = likelihood.log_prob_observed(params, self.prepared, self.observed)
            both = self.missing | self.observed
            return likelihood.log_prob_observed(params, self.prepared, both) - observed, observed
        cells = likelihood.log_prob(params, self.prepared)
        missing, observed = (
            torch.where(mask, cells, 0.0).sum(-1) for mask in (self.missing, self.observed)
        )
        return missing, observed

    def _accumulate(self, name: str, log_values: Tensor) -> None:
        total = torch.logsumexp(log_values.double(), 0)
        self.sums[name] = torch.logaddexp(self.sums[name], total)


@dataclass(frozen=True)
class DecoderPool:
    """Decoders with everything needed to infer rows under each of them.

    Parameters
    ----------
    decoders : sequence of torch.nn.Module
        Each has ``decode``, ``likelihood`` and ``latent_dim``; all on one device.
    method : InferenceMethod
        How posteriors are found.
    states : sequence of object
        What the method learned for each decoder.
    context : Context
        What the method is told besides; its seed is that of the noise that all rows share.
    spread : Spread, default=None
        How draws are spread around the means of their cells.
    """

    decoders: Sequence[Decoder]
    method: InferenceMethod
    states: Sequence[object]
    context: Context
    spread: Spread | None = None

    @property
    def most_rows(self) -> int | None:
        """Rows whose posteriors should be held at one time, None if they are small."""
        if images_at_a_time(self.decoders[0]) is None:
            return None
        numbers = max(_hierarchical.numbers_per_row(cast(LayeredDecoder, d)) for d in self.decoders)
        return max(1, _NUMBERS_HELD // (numbers * len(self.decoders)))

    def on(self, device: torch.device) -> "DecoderPool":
        """Return this pool on a device; the pool itself stays where it is."""
        if device.type == "cpu":
            return self
        return replace(
            self, decoders=_moved(self.decoders, device), states=_moved(self.states, device)
        )

    def infer(
        self,
        x: Tensor,
        observed: Tensor,
        progress: Progress | None = None,
        *,
        resample: bool = False,
        deadline: float | None = None,
    ) -> PooledPosterior:
        """Return the posteriors of rows (N, D) with their observed mask under every decoder.

        The decoders share the time up to ``deadline``, a reading of `time.monotonic`. With
        ``resample`` the posteriors become codes resampled by their importance weights, see
        `weigh_codes`; without, the weights are computed when somebody asks how good they are.
        """
        results = []
        for k, (decoder, state) in enumerate(zip(self.decoders, self.states, strict=True)):
            seed = derive_seed(self.context.seed, k)
            share = _share(deadline, len(self.decoders) - k)
            context = replace(self.context, seed=seed, progress=progress, deadline=share)
            result = self.method.infer(decoder, state, x, observed, context)
            if resample:
                target = _target(decoder, x, observed)
                result = weigh_codes(target, result, seed=seed, resample=True)
            results.append(result)
        dependent = any(isinstance(d.likelihood, JointLikelihood) for d in self.decoders)
        given = (x, observed) if dependent else None
        rows = RowsToWeigh(x, observed, self.context.seed)
        return PooledPosterior(self.decoders, results, x.shape[1], given, self.spread, rows)


def _target(decoder: Decoder, x: Tensor, observed: Tensor) -> DecoderTarget:
    return DecoderTarget(decoder.decode, decoder.likelihood, x, observed, decoder.latent_dim)


def _joined(parts: Sequence[Given]) -> Given:
    """Return values and masks one below the other."""
    x, observed = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
    return x, observed


def _moved(parts: Sequence[T], device: torch.device) -> list[T]:
    """Return copies of modules on a device; what is no module stays as it is."""
    return [copy.deepcopy(p).to(device) if isinstance(p, nn.Module) else p for p in parts]


def _share(deadline: float | None, n_left: int) -> float | None:
    """Return the deadline of the next of so many equal parts."""
    if deadline is None:
        return None
    now = time.monotonic()
    return now + (deadline - now) / n_left


def _noise(posterior: Posterior, code_u: Tensor) -> Tensor:
    code_u = code_u.to(posterior.parameters.device).clamp(_EPS, 1 - _EPS)
    return posterior.family.noise_from_uniform(code_u).to(posterior.parameters)


def _draws_at_a_time(decoder: Decoder, n_rows: int, device: torch.device) -> int:
    """Return how many codes of each row may be decoded at a time, for the sake of memory."""
    images = images_at_a_time(decoder)
    if images is not None:
        return max(1, images // max(n_rows, 1))
    n_outputs = getattr(decoder.likelihood, "n_outputs", 1)
    return max(1, plan_for(device).decoded_numbers // max(n_rows * n_outputs, 1))


def _draws_of_a_part(
    decoders: Sequence[Decoder], n_draws: int, n_rows: int, n_uniforms: int
) -> int:
    """Return how many draws of each of these rows are made at a time, from so many uniforms."""
    images = images_at_a_time(decoders[0])
    if images is not None:
        return images // n_rows
    return min(n_draws, max(1, _UNIFORMS // (n_rows * n_uniforms)))


def images_at_a_time(decoder: Decoder) -> int | None:
    """Return how many images a decoder with layers works on together, None for other decoders.

    Its rows are summarised one by one, or as many as make so many images with their draws. Blocks
    then always have the same number of them.
    """
    if isinstance(decoder, HasLayers):
        return _hierarchical.images_at_a_time(cast(LayeredDecoder, decoder))
    known: int | None = getattr(decoder, "images_at_a_time", None)
    return known


def _power_of_two(n: int, most: int) -> int:
    """Return the smallest power of two that is at least n, but no more than another one."""
    return min(1 << (n - 1).bit_length(), most)


def _blocks(decoder: Decoder, n_rows: int, device: torch.device) -> Iterator[tuple[Tensor, int]]:
    """Yield rows in blocks of the size that suits the device, see `row_blocks`."""

    def bytes_per_row() -> int:
        def decoded(n: int) -> Tensor:
            codes = torch.zeros(n, decoder.latent_dim, device=device)
            return decoder.likelihood.mean(decoder.decode(codes))

        return _CODES_OF_BLOCK * bytes_per_code(decoded)

    if images_at_a_time(decoder) is not None:
        return row_blocks(n_rows, device, 1)
    return row_blocks(n_rows, device, plan_for(device).rows(bytes_per_row))


def _categories_of(decoder: Decoder) -> HasCategories:
    return cast(HasCategories, decoder.likelihood)


def _of_rows(given: Given | None, rows: Tensor) -> Given | None:
    return None if given is None else (given[0][rows], given[1][rows])


def _mean_of_block(
    decoder: Decoder, points: SobolPoints, given: Given | None, posterior: Posterior, rows: Tensor
) -> Tensor:
    likelihood, total = decoder.likelihood, torch.zeros(())
    for part in points.parts(_draws_at_a_time(decoder, len(rows), rows.device)):
        params = posterior.observation(_noise(posterior, part.unsqueeze(1)), decoder.decode)
        if given is not None and isinstance(likelihood, JointLikelihood):
            mean = likelihood.mean_given(params, given[0][rows], given[1][rows])
        else:
            mean = likelihood.mean(params)
        total = total + mean.mean(0) * (len(part) / len(points))
    return total


def _probabilities_of_block(
    decoder: Decoder, u: Tensor, posterior: Posterior, rows: Tensor
) -> Tensor:
    params = posterior.observation(_noise(posterior, u), decoder.decode)
    return _categories_of(decoder).probabilities(params).mean(0)


def _draws_of_block(
    decoder: Decoder,
    n_draws: int,
    n_features: int,
    given: Given | None,
    posterior: Posterior,
    rows: Tensor,
) -> Tensor:
    return shared_draws(decoder, posterior, n_draws, n_features, _of_rows(given, rows))


def _density_of_block(
    decoder: Decoder, points: SobolPoints, x: Tensor, posterior: Posterior, rows: Tensor
) -> Tensor:
    prepared = decoder.likelihood.prepare(x[rows])
    cells = []
    for part in points.parts(images_at_a_time(decoder) or len(points)):
        params = posterior.observation(_noise(posterior, part.unsqueeze(1)), decoder.decode)
        cells.append(decoder.likelihood.log_prob(params, prepared))
    return torch.logsumexp(torch.cat(cells), 0)
