"""Inference of the rows of one call: the one way that all methods of the estimators go.

An estimator encodes its input as `Rows`, asks a `RowInference` for what it wants to know of them,
and decodes the answer into what came.
"""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from joblib import effective_n_jobs
from numpy.typing import NDArray
from torch import Tensor, float32, from_numpy

from ._chunks import Chunk, ChunkResult, ChunkTask, Summary, run_chunks
from ._plan import draws_held
from ._progress import RowBar
from ._summaries import DrawsAndScores, KeyedDraws, LogDensity, Posteriors, Scores
from ._typing import ScoreDetails, Table
from .exceptions import InferenceConvergenceWarning, UnreliablePosteriorWarning
from .preprocessing import EncodedTable, Frame, ImageBatch
from .sampling import DecoderPool, PooledPosterior

__all__ = ["RowInference", "Rows"]

_UNRELIABLE_K = 0.7  # Pareto k above which importance weights have no useful variance


@dataclass(frozen=True)
class Rows:
    """The input of one call, as inference takes it.

    Parameters
    ----------
    table : EncodedTable
        The rows as numbers with a mask, in the encoder's units.
    in_model_units : callable
        Returns the numbers of some rows of the table in the model's units, anything where missing.
    source : Frame or ImageBatch
        The input after its checks, which imputed values are put into.
    original : object, default=None
        The input as it came, whose container is given back.
    """

    table: EncodedTable
    in_model_units: Callable[[EncodedTable], NDArray[np.float64]]
    source: Frame | ImageBatch
    original: Table | None = None

    def __len__(self) -> int:
        """Return the number of rows N."""
        return len(self.table.values)

    @property
    def n_features(self) -> int:
        """Number of columns D."""
        return int(self.table.values.shape[1])

    def take(self, which: NDArray[np.intp]) -> tuple[Tensor, Tensor]:
        """Return some rows in the model's units, 0 where missing, and their observed mask.

        Both are (n, D) and on the CPU. Nobody holds all rows of a large table in these units.
        """
        some = self.table.take(which)
        values = np.where(some.observed, self.in_model_units(some), 0.0)
        return from_numpy(values).to(float32), from_numpy(some.observed)


@dataclass(frozen=True)
class RowInference:
    """How a fitted estimator infers rows.

    Parameters
    ----------
    pool : DecoderPool
        Decoders and inference method, on the CPU.
    device : str
        Where to compute.
    n_jobs : int or None
        Workers.
    resample : bool
        Whether posteriors are corrected by importance resampling.
    time_budget : float or None
        Seconds that the inference of one call may take.
    verbose : int
        Whether there is a progress bar.
    small : bool
        Whether decoders are so small that torch's threads would wait for each other more than they
        work; rows are spread over cores by ``n_jobs``.
    """

    pool: DecoderPool
    device: str
    n_jobs: int | None
    resample: bool
    time_budget: float | None
    verbose: int
    small: bool

    def values(
        self,
        rows: Rows,
        summary: Summary,
        n_values: int = 1,
        *,
        width: int | None = None,
        row_offset: int = 0,
    ) -> NDArray[np.float64]:
        """Infer the incomplete rows; return what a summary makes of each.

        Parameters
        ----------
        rows : Rows
            The rows.
        summary : callable
            Turns posteriors into (n_values, rows, width) numbers.
        n_values : int, default=1
            Numbers that it gives for each cell.
        width : int, default=None
            Columns that it gives; None takes those of the rows.
        row_offset : int, default=0
            Position of the first row, for draws.

        Returns
        -------
        values : ndarray of shape (n_values, N, width)
            In the model's units; NaN in complete rows.
        """
        out = np.full((n_values, len(rows), width or rows.n_features), np.nan)
        if n_values:
            asked = _Asked(rows, rows.table.incomplete_rows, row_offset)
            for places, result in self._run(asked, summary):
                out[:, asked.which[places]] = result.values
        return out

    def iter_draws(
        self,
        rows: Rows,
        n: int,
        seed: int,
        *,
        in_turn: bool,
        row_offset: int = 0,
        pixel_noise: bool = True,
    ) -> Iterator[NDArray[np.float64]]:
        """Yield n draws of the incomplete rows one by one, each (N, D), NaN in complete rows.

        Rows are inferred once. Their posteriors are held, and as many draws at a time as fit into
        64 MiB.
        """
        asked = _Asked(rows, rows.table.incomplete_rows, row_offset)
        parts = [
            (asked.take(places), result.values) for places, result in self._run(asked, Posteriors())
        ]
        at_a_time = draws_held(n, rows.table.values.size)
        for first in range(0, n, at_a_time):
            size = min(at_a_time, n - first)
            draw = KeyedDraws(size, seed, in_turn, first, pixel_noise)
            shape = rows.table.values.shape
            draws = [np.full(shape, np.nan) for _ in range(draw.n)]  # whoever keeps one keeps one
            for part, posteriors in parts:
                for one, drawn in zip(draws, draw(posteriors, part), strict=True):
                    one[part.positions - row_offset] = drawn
            yield from draws

    def posteriors(self, rows: Rows, *, trace: bool = False) -> PooledPosterior:
        """Return the posteriors of all rows.

        Parameters
        ----------
        rows : Rows
            The rows, at least one.
        trace : bool, default=False
            Keep the bound after each optimisation step.
        """
        pool = replace(self.pool, context=replace(self.pool.context, trace=trace))
        results = replace(self, pool=pool)._run(_Asked(rows, np.arange(len(rows))), Posteriors())
        return PooledPosterior.concatenate([result.values for _, result in results])

    def mean_log_density(self, rows: Rows, hidden: NDArray[np.bool_]) -> float:
        """Hide cells (N, D) and return the mean log predictive density of their values, in nats."""
        asked = _Asked(rows, np.flatnonzero(hidden.any(axis=1)), hidden=hidden)
        of_cells = [
            result.values[hidden[asked.which[places]]]
            for places, result in self._run(asked, LogDensity())
        ]
        return float(np.concatenate(of_cells).mean())

    def scores(
        self, rows: Rows, hidden: NDArray[np.bool_], n_draws: int | list[int]
    ) -> tuple[dict[str, NDArray[np.float64]], ScoreDetails]:
        """Hide cells (N, D), infer them, and score the posteriors row by row.

        Returns
        -------
        scores : dict of ndarray of shape (N,), or (len(n_draws), N)
            NaN for rows without a hidden cell.
        details : dict
            What the inference took, see `QAVIImputer.score_missing`.
        """
        no_draws = KeyedDraws(0, 0, in_turn=False)
        _, scores, details = self.draws_and_scores(rows, hidden, no_draws, n_draws)
        return scores, details

    def draws_and_scores(
        self,
        rows: Rows,
        hidden: NDArray[np.bool_],
        draws: KeyedDraws,
        n_draws: int | list[int],
        *,
        row_offset: int = 0,
    ) -> tuple[NDArray[np.float64], dict[str, NDArray[np.float64]], ScoreDetails]:
        """Hide cells (N, D), infer them once, draw them and score the posteriors row by row.

        Returns
        -------
        drawn : ndarray of shape (n, N, D)
            In the model's units; NaN in rows without a hidden cell.
        scores, details : dict
            As of `scores`.
        """
        which = np.flatnonzero(hidden.any(axis=1))
        asked = _Asked(rows, which, row_offset, hidden)
        drawn = np.full((draws.n, *rows.table.values.shape), np.nan)
        n_evaluations, converged = np.full(len(rows), np.nan), np.ones(len(rows), dtype=bool)
        scores: dict[str, NDArray[np.float64]] = {}
        seconds = 0.0
        for places, result in self._run(asked, DrawsAndScores(draws, Scores(n_draws))):
            at = which[places]
            n_evaluations[at], converged[at] = result.n_evaluations, result.converged
            seconds += result.seconds
            drawn[:, at], of_rows = result.values
            for name, values in of_rows.items():
                empty = np.full((*values.shape[:-1], len(rows)), np.nan)
                scores.setdefault(name, empty)[..., at] = values
        details: ScoreDetails = {
            "n_cells": hidden.sum(axis=1),
            "n_evaluations": n_evaluations,
            "converged": converged,
            "seconds": seconds,
        }
        return drawn, scores, details

    def _run(self, rows: "_Asked", summary: Summary) -> Iterator[tuple[slice, ChunkResult]]:
        """Yield the places of parts of the rows, and what became of them; warn at the end."""
        if len(rows) == 0:
            return
        n_workers, seconds_per_row = effective_n_jobs(self.n_jobs), None
        if self.time_budget is not None:
            seconds_per_row = self.time_budget * n_workers / len(rows)
        task = ChunkTask(
            self.pool,
            self.device,
            summary,
            resample=self.resample,
            seconds_per_row=seconds_per_row,
            one_thread=self.small or n_workers > 1,
        )
        converged, pareto_k = [], []
        n_decoders, silent = len(self.pool.decoders), not self.verbose
        bar = RowBar(len(rows), desc="inference", unit="row", silent=silent, n_parts=n_decoders)
        with bar as progress:
            for places, result in run_chunks(
                task, rows, n_jobs=self.n_jobs, progress=progress.update
            ):
                converged.append(result.converged)
                pareto_k.append(result.pareto_k)
                yield places, result
        self._warn_unconverged(np.concatenate(converged))
        _warn_unreliable(np.concatenate(pareto_k))

    def _warn_unconverged(self, converged: NDArray[np.bool_]) -> None:
        n_unconverged = int((~converged).sum())
        if n_unconverged:
            ran_out, increase = "steps", "max_iter, or tol"
            if self.time_budget is not None:
                ran_out, increase = f"{self.time_budget:g} s", "time_budget"
            warnings.warn(
                f"The posteriors of {n_unconverged} of {len(converged)} incomplete rows had not "
                f"converged when the {ran_out} ran out. Increase {increase}.",
                InferenceConvergenceWarning,
                stacklevel=3,
            )


def _warn_unreliable(pareto_k: NDArray[np.float64]) -> None:
    n_unreliable = int((pareto_k > _UNRELIABLE_K).sum())
    if n_unreliable:
        warnings.warn(
            f"The importance weights of {n_unreliable} of {len(pareto_k)} incomplete rows are "
            f"unreliable (Pareto k above {_UNRELIABLE_K}): their posteriors miss part of what "
            "the decoder finds likely. posterior='mixture' or 'flow', or a larger max_iter, "
            "may help.",
            UnreliablePosteriorWarning,
            stacklevel=3,
        )


@dataclass(frozen=True)
class _Asked:
    """The rows of a call that are inferred, chunk by chunk.

    Parameters
    ----------
    rows : Rows
        All rows of the call.
    which : ndarray of shape (n,)
        Positions among them.
    row_offset : int, default=0
        Position of the first row of the call, for draws.
    hidden : ndarray of bool of shape (N, D), default=None
        Cells of all rows that are hidden and scored.
    """

    rows: Rows
    which: NDArray[np.intp]
    row_offset: int = 0
    hidden: NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        return len(self.which)

    @property
    def n_features(self) -> int:
        return self.rows.n_features

    def take(self, places: slice) -> Chunk:
        """Return the chunk of some of these rows."""
        which = self.which[places]
        x, observed = self.rows.take(which)
        scored = None
        if self.hidden is not None:
            scored = from_numpy(self.hidden[which])
            observed = observed & ~scored
        return Chunk(x, observed, which + self.row_offset, scored)
