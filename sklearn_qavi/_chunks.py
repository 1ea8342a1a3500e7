"""Rows in chunks, spread over joblib's workers: threads, processes or a cluster.

A chunk's answer depends on its rows and their positions alone, so neither the number of workers
nor the order in which they finish can be seen in the result, and a lost chunk can be run again.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
from joblib import Parallel, delayed, effective_n_jobs
from joblib.parallel import get_active_backend
from numpy.typing import NDArray
from torch import Tensor

from ._device import one_torch_thread, resolve_device
from ._interrupts import Crew
from .sampling import DecoderPool, PooledPosterior

__all__ = ["ChunkResult", "ChunkTask", "run_chunks"]

_CHUNK_ROWS = 4096  # rows whose posteriors are held at one time

Summary = Callable[[PooledPosterior, NDArray[np.int64]], NDArray[np.float64]]
"""Turns posteriors of rows and their positions into (n_values, rows, D) standardised values."""


@dataclass(frozen=True)
class ChunkResult:
    """What became of some rows.

    Parameters
    ----------
    values : ndarray of shape (n_values, rows, D)
        What the summary gave, as a rule standardised values.
    converged : ndarray of bool of shape (rows,)
        Whether inference stopped by itself.
    pareto_k : ndarray of shape (rows,)
        Reliability of the importance weights; zeros where none were computed.
    """

    values: Any
    converged: NDArray[np.bool_]
    pareto_k: NDArray[np.float64]


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
    alone : bool
        Whether no other chunk is worked on beside this one in the same process.
    """

    pool: DecoderPool
    device: str
    summary: Summary
    resample: bool = False
    seconds_per_row: float | None = None
    alone: bool = True

    def run(
        self, x: Tensor, observed: Tensor, positions: NDArray[np.int64], progress: Any = None
    ) -> ChunkResult:
        """Infer the rows of one chunk and summarise their posteriors."""
        device = resolve_device(self.device)
        deadline = None
        if self.seconds_per_row is not None:
            deadline = time.monotonic() + self.seconds_per_row * len(x)
        with one_torch_thread(not self.alone):
            pooled = self.pool.on(device).infer(
                x.to(device),
                observed.to(device),
                progress,
                resample=self.resample,
                deadline=deadline,
            )
            pareto_k = pooled.pareto_k if self.resample else np.zeros(len(pooled))
            return ChunkResult(self.summary(pooled, positions), pooled.converged, pareto_k)


def run_chunks(
    task: ChunkTask,
    x: Tensor,
    observed: Tensor,
    positions: NDArray[np.int64],
    *,
    n_jobs: int | None,
    progress: Callable[[int], None],
) -> Iterator[tuple[slice, ChunkResult]]:
    """Yield the rows of each chunk and its result, in order.

    Parameters
    ----------
    task : ChunkTask
        What is done with each chunk.
    x, observed : Tensor of shape (N, D)
        Standardised values and the observed mask, on the CPU.
    positions : ndarray of shape (N,)
        Positions that draws are keyed by.
    n_jobs : int or None
        Workers, see `joblib.Parallel`; `joblib.parallel_config` may choose another backend than
        threads, a Dask cluster among them.
    progress : callable
        Called with the number of rows just finished, once for each decoder.
    """
    n_workers = effective_n_jobs(n_jobs)
    size = max(1, min(_CHUNK_ROWS, -(-len(x) // n_workers)))
    chunks = [slice(start, start + size) for start in range(0, len(x), size)]
    backend, _ = get_active_backend(prefer="threads")
    shared_memory = getattr(backend, "supports_sharedmem", False)
    # neither a bar nor a crew travels to another process; joblib kills those that it started
    each_row, crew = (progress, Crew()) if shared_memory else (None, None)
    done = Parallel(n_jobs=n_jobs, prefer="threads", return_as="generator")(
        # a slice of a tensor would take the whole tensor along to another process
        delayed(_run)(
            task, crew, x[rows].clone(), observed[rows].clone(), positions[rows], each_row
        )
        for rows in chunks
    )
    try:
        for rows, result in zip(chunks, done, strict=True):
            if each_row is None:
                progress(len(result.converged) * len(task.pool.decoders))
            yield rows, result
    finally:
        if crew is not None:
            crew.dismiss()  # after an interrupt or an error some are still at work


def _run(task: ChunkTask, crew: Crew | None, *arguments: Any) -> ChunkResult:
    """Run a task; a function, because the Dask backend of joblib puts what it calls into a set."""
    with nullcontext() if crew is None else crew.at_work():
        return task.run(*arguments)
