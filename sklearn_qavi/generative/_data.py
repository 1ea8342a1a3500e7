"""What a VAE is trained on: rows in memory or image files, and the random batches of an epoch."""

import signal
import sys
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

__all__ = ["Batches", "FileData", "TableData", "TrainingData", "as_tensors"]


class TrainingData(Protocol):
    """Rows with their observed mask and weights, asked for by indices (B,)."""

    n_workers: int
    """Processes that fetch batches ahead of training."""

    def __len__(self) -> int:
        """Return the number of rows."""

    def __getitem__(self, index: Any) -> tuple[dict[str, Tensor], Tensor]:
        """Return "x", "observed" (B, D) and "weight" (B,), and what skorch takes for a target."""


class TableData(Dataset[Any]):
    """Standardized rows in memory, as skorch passes them around."""

    n_workers = 0

    def __init__(self, x: Tensor, observed: Tensor, weight: Tensor | None = None) -> None:
        self.x, self.observed = x, observed
        self.weight = torch.ones(len(x)) if weight is None else weight

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: Any) -> tuple[dict[str, Tensor], Tensor]:
        # skorch wants a target; a VAE has none
        row = {"x": self.x, "observed": self.observed, "weight": self.weight}
        return {name: values[index] for name, values in row.items()}, torch.zeros(0)


class FileData(Dataset[Any]):
    """Some images of `ImageFiles`, read when they are asked for.

    Parameters
    ----------
    files : ImageFiles
        The images.
    rows : ndarray of shape (N,)
        Which of them.
    weight : Tensor of shape (N,)
        How much each counts.
    """

    def __init__(self, files: Any, rows: NDArray[np.intp], weight: Tensor) -> None:
        self.files, self.rows, self.weight = files, rows, weight
        self.n_workers = files.n_workers

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> tuple[dict[str, Tensor], Tensor]:
        x = torch.from_numpy(self.files[self.rows[np.asarray(index)]]).flatten(1)
        row = {"x": x, "observed": torch.ones_like(x).bool(), "weight": self.weight[index]}
        return row, torch.zeros(0)


class Batches(Sampler[Tensor]):
    """Whole random batches; a pass repeats the rows until it has enough steps.

    Parameters
    ----------
    data : TrainingData
        The rows.
    batch_size : int
        Rows per step, of all processes together.
    n_steps : int
        Batches of a pass.
    generator : torch.Generator
        Source of the order; the same in all processes.
    rank, world_size : int
        Which of so many processes this is: each takes its share of every batch.
    """

    def __init__(
        self,
        data: TrainingData,
        batch_size: int,
        n_steps: int,
        generator: torch.Generator,
        *,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.data, self.batch_size, self.n_steps = data, batch_size, n_steps
        self.generator, self.share = generator, slice(rank, None, world_size)

    def __iter__(self) -> Iterator[Tensor]:
        """Yield indices of the rows of each batch."""
        n = len(self.data)
        order = torch.empty(0, dtype=torch.long)
        for _ in range(self.n_steps):
            if len(order) < min(self.batch_size, n):
                order = torch.randperm(n, generator=self.generator)
            yield order[: self.batch_size][self.share]
            order = order[self.batch_size :]

    def loader(self) -> DataLoader[Any]:
        """Return the batches themselves, one pass each time it is iterated over."""
        return DataLoader(
            self.data,  # type: ignore[arg-type]
            sampler=self,
            batch_size=None,
            num_workers=self.data.n_workers,
            # torch ends workers in a finaliser, where an interrupt is lost: not after each pass
            persistent_workers=self.data.n_workers > 0,
            worker_init_fn=_leave_interrupts_to_parent,
            collate_fn=_as_it_is,
            generator=torch.Generator(),  # torch would draw from its global one
        )


def _leave_interrupts_to_parent(worker: int) -> None:
    """Let a process that reads files end without a word when its parent is interrupted."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.excepthook = _report_unless_parent_left


def _report_unless_parent_left(kind: Any, error: Any, traceback: Any) -> None:
    if not issubclass(kind, EOFError | ConnectionError):
        sys.__excepthook__(kind, error, traceback)


def _as_it_is(batch: Any) -> Any:
    return batch


def as_tensors(values: NDArray[np.float64]) -> tuple[Tensor, Tensor]:
    """Return finite values and the observed mask."""
    observed = ~np.isnan(values)
    x = torch.from_numpy(np.where(observed, values, 0.0)).to(torch.float32)
    return x, torch.from_numpy(observed)
