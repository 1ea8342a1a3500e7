"""Where to compute."""

import ctypes
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import cast

import torch
from threadpoolctl import ThreadpoolController
from torch import Tensor

from ._checks import plain

__all__ = ["all_known", "may_hold", "one_torch_thread", "resolve_device"]


def resolve_device(device: str | torch.device) -> torch.device:
    """Return the torch device behind an option; "auto" takes a GPU when there is one.

    "distributed" is the one of this process among those that train together.

    Raises
    ------
    ValueError
        If torch does not know the device or the device is not there.
    """
    if device == "distributed":
        rank = int(os.environ.get("LOCAL_RANK", "0"))
        device = f"cuda:{rank}" if torch.cuda.is_available() else "cpu"
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
        float(torch.zeros(1, device=resolved))  # "meta" has no numbers
    except (RuntimeError, AssertionError, ImportError) as error:
        raise ValueError(
            f"device={plain(device)} cannot be used here ({str(error).splitlines()[0]}). Use "
            "'auto', 'cpu', or a device of this machine such as 'cuda'."
        ) from error
    return resolved


def may_hold(mask: Tensor) -> bool:
    """Return whether any entry may be True; elsewhere than on a CPU asking would be a wait."""
    return mask.device.type != "cpu" or bool(mask.any())


def all_known(mask: Tensor) -> bool:
    """Return whether all entries are known to be True; elsewhere than on a CPU nobody asks."""
    return mask.device.type == "cpu" and bool(mask.all())


@contextmanager
def one_torch_thread(wanted: bool = True) -> Iterator[None]:
    """Keep torch's kernels in this thread to one core, as other threads work beside it.

    The setting belongs to the thread; that of the caller's other threads is left alone.
    """
    if not wanted:
        yield
        return
    torch.get_num_threads()  # torch sets the number up at first use, and would undo the limit
    set_mkl = _mkl_threads()
    before = set_mkl(1) if set_mkl is not None else 0
    try:
        with _controller().limit(limits=1, user_api="openmp"):
            yield
    finally:
        if set_mkl is not None:
            set_mkl(before)


@cache
def _mkl_threads() -> Callable[[int], int] | None:
    """Return what sets the threads of torch's MKL in this thread and returns those before, if any.

    MKL heeds ``torch.set_num_threads`` and ``MKL_NUM_THREADS`` rather than the limit of OpenMP.
    """
    libraries = sorted((Path(torch.__file__).parent / "lib").glob("libtorch_cpu.*"))
    for library in libraries:
        with suppress(OSError, AttributeError):
            setter = ctypes.CDLL(str(library)).MKL_Set_Num_Threads_Local
            setter.argtypes, setter.restype = [ctypes.c_int], ctypes.c_int
            return cast(Callable[[int], int], setter)
    return None


@cache
def _controller() -> ThreadpoolController:
    return ThreadpoolController()
