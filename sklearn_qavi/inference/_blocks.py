"""Rows in blocks of one size, so that every matrix product has the same shape."""

from collections.abc import Iterator

import torch
from torch import Tensor

from .._interrupts import go_on
from .._plan import CPU_ROWS

__all__ = ["row_blocks"]


def row_blocks(
    n_rows: int, device: torch.device, size: int = CPU_ROWS
) -> Iterator[tuple[Tensor, int]]:
    """Yield row indices, always ``size`` of them, and how many of them are new rows.

    Every matrix product then has the same shape whatever the number of rows, which keeps a row's
    numbers the same to the bit. The last row is repeated to fill the last block.
    """
    for start in range(0, n_rows, size):
        go_on()
        rows = torch.arange(start, start + size, device=device)
        yield rows.clamp(max=n_rows - 1), min(size, n_rows - start)
