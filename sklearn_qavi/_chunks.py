"""Rows in chunks, spread over joblib's workers: threads, processes or a cluster.

A chunk's answer depends on its rows and their positions alone, so neither the number of workers
nor the order in which they finish can be seen in the result, and a lost chunk can be run again.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from joblib import Parallel, delayed, effective_n_jobs
from joblib.parallel import get_active_backend
from numpy.typing import NDArray
from torch import Tensor

from ._device import one_torch_thread, resolve_device
from ._interrupts import Crew
from ._plan import plan_for
from ._typing import Progress
from .sampling import DecoderPool, PooledPosterior

__all__ = [
    "Chunk",
    "ChunkResult",
    "ChunkTask",
    "ChunkedRows",
    "Summary",
    "even_chunks",
    "run_chunks",
]


@dataclass(frozen=True)
class Chunk:
    """Rows to infer.

    Parameters
    ----------
    x : Tensor of shape (N, D)
        Standardized values, finite everywhere, on the CPU.
    observed : bool Tensor of shape (N, D)
        True where inference sees the value.
    positions : ndarray of shape (N,)
        Positions that draws are keyed by.
    scored : bool Tensor of shape (N, D), default=None
        Cells whose true values, in ``x``, the posteriors are scored on.
    """

    x: Tensor
    observed: Tensor
    positions: NDArray[np.int64]
    scored: Tensor | None = None

    def __len__(self) -> int:
        """Return the number of rows N."""
        return len(self.x)

    @property
    def n_features(self) -> int:
        """Number of columns D."""
        return self.x.shape[1]

    def take(self, rows: slice) -> "Chunk":
        """Return some rows, in memory of their own: a slice would take all along when pickled."""
        scored = None if self.scored is None else self.scored[rows].clone()
        return Chunk(
            self.x[rows].clone(), self.observed[rows].clone(), self.positions[rows], scored
        )


class ChunkedRows(Protocol):
    """Rows that are taken chunk by chunk."""

    def __len__(self) -> int:
        """Return how many there are."""

    @property
    def n_features(self) -> int:
        """Number of columns D."""

    def take(self, rows: slice) -> Chunk:
        """Return some of them, in memory of their own."""


Summary = Callable[[PooledPosterior, Chunk], object]
"""What becomes of the posteriors of some rows, on the CPU; can be pickled."""


@dataclass(frozen=True)
class ChunkResult:
    """What became of some rows.

    Parameters
    ----------
    values : object
        What the summary gave.
    converged : ndarray of bool of shape (rows,)
        Whether inference stopped by itself.
    pareto_k : ndarray of shape (rows,)
        Reliability of the importance weights; zeros where none were computed.
    n_evaluations : ndarray of shape (rows,)
        Decoder evaluations, mean over the decoders.
    seconds : float
        What the inference took, without the summary.
    """

    values: Any
    converged: NDArray[np.bool_]
    pareto_k: NDArray[np.float64]
    n_evaluations: NDArray[np.float64]
    seconds: float


@dataclass(frozen=True)
class ChunkTask:
    """What is done with each chunk; can be pickled, so that it reaches other machines.

    Parameters
    ----------
    pool : DecoderPool
        Decoders on the CPU and the inference method.
    device : str
        Where to compute; every worker looks for it by itself.
    summary : callable
        What becomes of the posteriors.
    resample : bool
        Correct the posteriors by importance resampling.
    seconds_per_row : float or None
        Time that may be spent on a row.
    one_thread : bool
        Whether torch works on one core: other chunks are worked on in the same process, or the
        networks are small.
    """

    pool: DecoderPool
    device: str
    summary: Summary
    resample: bool = False
    seconds_per_row: float | None = None
    one_thread: bool = False

    def run(self, chunk: Chunk, progress: Progress | None = None) -> ChunkResult:
        """Infer the rows of one chunk and summarise their posteriors."""
        device = resolve_device(self.device)
        deadline = None
        if self.seconds_per_row is not None:
            deadline = time.monotonic() + self.seconds_per_row * len(chunk)
        with one_torch_thread(self.one_thread):
            start = time.perf_counter()
            pooled = self.pool.on(device).infer(
                chunk.x.to(device),
                chunk.observed.to(device),
                progress,
                resample=self.resample,
                deadline=deadline,
            )
            converged = pooled.converged  # read from the device, which has then done its work
            seconds = time.perf_counter() - start
            pareto_k = pooled.pareto_k if self.resample else np.zeros(len(pooled))
            values = self.summary(pooled, chunk)
        return ChunkResult(values, converged, pareto_k, pooled.n_evaluations, seconds)


def run_chunks(
    task: ChunkTask, rows: ChunkedRows, *, n_jobs: int | None, progress: Callable[[int], None]
) -> Iterator[tuple[slice, ChunkResult]]:
    """Yield the places of the rows of each chunk and its result, in order.

    Parameters
    ----------
    task : ChunkTask
        What is done with each chunk.
    rows : ChunkedRows
        All rows; a chunk is taken when a worker is about to be free.
    n_jobs : int or None
        Workers, see `joblib.Parallel`; `joblib.parallel_config` may choose another backend than
        threads, a Dask cluster among them.
    progress : callable
        Called with the number of rows just finished, once for each decoder.
    """
    n_workers = effective_n_jobs(n_jobs)
    plan = plan_for(resolve_device(task.device))
    most = plan.chunk_rows(rows.n_features, task.pool.decoders)
    places = even_chunks(len(rows), most, n_workers)
    backend, _ = get_active_backend(prefer="threads")
    shared_memory = getattr(backend, "supports_sharedmem", False)
    # neither a bar nor a crew travels to another process; joblib kills those that it started
    each_row, crew = (progress, Crew()) if shared_memory else (None, None)
    try:  # an interrupt may come while the first chunks are handed out, to threads at work already
        done = Parallel(n_jobs=n_jobs, prefer="threads", return_as="generator")(
            delayed(_run)(task, crew, rows.take(place), each_row) for place in places
        )
        for place, result in zip(places, done, strict=True):
            if each_row is None:
                progress(len(result.converged) * len(task.pool.decoders))
            yield place, result
    finally:
        if crew is not None:
            crew.dismiss()  # after an interrupt or an error some are still at work


def even_chunks(n_rows: int, most: int, n_workers: int) -> list[slice]:
    """Return chunks of at most so many rows, as even as can be and as many for each worker.

    Chunks as large as they may be would leave workers without one in the last round.
    """
    n_rounds = -(-n_rows // (most * n_workers))
    size = max(1, -(-n_rows // max(1, n_rounds * n_workers)))
    return [slice(start, min(start + size, n_rows)) for start in range(0, n_rows, size)]


def _run(
    task: ChunkTask, crew: Crew | None, chunk: Chunk, progress: Progress | None
) -> ChunkResult:
    """Run a task; a function, because the Dask backend of joblib puts what it calls into a set."""
    with nullcontext() if crew is None else crew.at_work():
        return task.run(chunk, progress)
