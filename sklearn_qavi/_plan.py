"""How much is done at one time on a device: rows in work, rows of a chunk, steps between looks.

A processor is fastest with what fits into its cache, and reads its own flags for nothing. A GPU
needs thousands of rows at a time, and waits whenever the host looks at a number.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

__all__ = ["CPU_ROWS", "ROWS_MULTIPLE", "Plan", "bytes_made", "bytes_per_code", "plan_for"]

ROWS_MULTIPLE = 32
"""Rows in work are a multiple of it, so that vector kernels meet no ragged end: sums over draws
differ in their last bit there."""

CPU_ROWS = 64
"""Rows in work at one time on a CPU, which fit into its cache."""

_CPU_CHUNK = 4096
_CPU_DECODED = 2**22  # numbers, 16 MiB: to ask a system for more takes longer than to fill them
_GPU_DECODED = 2**26
_GPU_ROWS = 8192  # not yet measured
_GPU_CHUNK = 32_768
_CHUNK_CELLS = 2**20  # 256 draws of each, as a median takes, are 2 GiB
_GPU_STEPS = 4  # not yet measured
_SHARE = 0.4  # of the memory of a device, for what one step holds
_UNKNOWN = 2**32  # bytes of a device that does not say how many it has


@dataclass(frozen=True)
class Plan:
    """What is done at one time on a device.

    Parameters
    ----------
    memory : int or None
        Bytes of the device; None for a CPU, where the cache decides.
    steps_per_look : int
        Newton steps after which the host looks which rows are done.
    keeps_shape : bool
        Whether as many rows are computed when fewer are left. On a GPU another number of rows may
        mean another kernel, which rounds differently; on a CPU it is time saved.
    """

    memory: int | None
    steps_per_look: int
    keeps_shape: bool

    def rows(self, bytes_per_row: Callable[[], int]) -> int:
        """Return how many rows are in work at one time, if each takes so many bytes.

        Powers of two from 32 to 8,192 on a GPU; 64 on a CPU, which does not ask for the bytes.
        """
        if self.memory is None:
            return CPU_ROWS
        fit = int(_SHARE * self.memory) // max(bytes_per_row(), 1)
        return min(max(1 << max(fit.bit_length() - 1, 0), ROWS_MULTIPLE), _GPU_ROWS)

    @property
    def decoded_numbers(self) -> int:
        """How many outputs of a decoder are held at one time where draws are made."""
        return _CPU_DECODED if self.memory is None else _GPU_DECODED

    def chunk_rows(self, n_features: int) -> int:
        """Return how many rows' posteriors are held at one time."""
        if self.memory is None:
            return _CPU_CHUNK
        return min(max(_CHUNK_CELLS // max(n_features, 1), _CPU_CHUNK), _GPU_CHUNK)


def plan_for(device: torch.device) -> Plan:
    """Return what to do at one time on a device."""
    if device.type == "cpu":
        return Plan(None, 1, False)
    memory = _UNKNOWN
    if device.type == "cuda":
        memory = torch.cuda.get_device_properties(device).total_memory
    return Plan(memory, _GPU_STEPS, True)


def bytes_made(function: Callable[[], object]) -> int:
    """Return the bytes of all tensors that a function makes on its way.

    More than it holds at any time, and the same on every device.
    """
    with torch.no_grad(), _BytesMade() as made:
        function()
    n_bytes: int = made.n_bytes
    return n_bytes


def bytes_per_code(function: Callable[[int], object]) -> int:
    """Return the bytes that each code more takes of a function of so many codes."""
    few, more = 1, 9
    made = [bytes_made(partial(function, n)) for n in (few, more)]
    return max((made[1] - made[0]) // (more - few), 1)


class _BytesMade(TorchDispatchMode):
    """Counts the bytes of what is made; views of something are not."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.n_bytes = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        known = {_address(t) for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)}
        made = [t for t in tree_leaves(out) if isinstance(t, Tensor)]
        self.n_bytes += sum(t.numel() * t.element_size() for t in made if _address(t) not in known)
        return out


def _address(tensor: Tensor) -> int:
    return int(tensor.untyped_storage().data_ptr())
