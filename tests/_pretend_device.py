"""A device of torch that is not the CPU and computes there: what a GPU would show, without one.

Its tensors hold one of the CPU. An operation on tensors of both devices is refused, and what
travels between them is counted: numbers that the host waits for, and numbers that it sends.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

NAME = "pretend"

_aten = torch.ops.aten
_CPU = torch.device("cpu")
_LENGTHS_READ = {"aten::nonzero", "aten::masked_select", "aten::_unique2", "aten::unique_dim"}


@dataclass
class Travelled:
    """How often numbers went from the device to the host, which waits, and how often to it."""

    read: int = 0
    sent: int = 0


_counted: list[Travelled] = []


@contextmanager
def travelling() -> Iterator[Travelled]:
    """Count what travels meanwhile."""
    _counted.append(Travelled())
    try:
        yield _counted[-1]
    finally:
        _counted.pop()


def _count(*, read: int = 0, sent: int = 0) -> None:
    for travelled in _counted:
        travelled.read += read
        travelled.sent += sent


class PretendTensor(Tensor):
    """A tensor of the device."""

    payload: Tensor
    __torch_function__: ClassVar[Any] = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, payload: Tensor) -> "PretendTensor":
        made: PretendTensor = Tensor._make_wrapper_subclass(
            cls,
            payload.size(),
            strides=payload.stride(),
            storage_offset=payload.storage_offset(),
            dtype=payload.dtype,
            device=torch.device(NAME, 0),
        )
        made.payload = payload
        return made

    @property
    def data(self) -> Tensor:
        """The same numbers without what autograd knows of them."""
        return self.detach()

    @data.setter
    def data(self, new: "PretendTensor") -> None:
        Tensor.data.__set__(self, new)  # type: ignore[attr-defined]
        self.payload = new.payload

    @classmethod
    def __torch_dispatch__(
        cls, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return _run(func, args, kwargs or {})


class _Known(TorchDispatchMode):
    """Lets what makes new tensors know the device."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if _is_ours(kwargs.get("device")) or _tensors(PretendTensor, args, kwargs):
            return _run(func, args, kwargs)
        return func(*args, **kwargs)


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Run an operation that has to do with the device."""
    ours = _tensors(PretendTensor, args, kwargs)
    others = [t for t in _tensors(Tensor, args, kwargs) if not isinstance(t, PretendTensor)]
    device = kwargs.get("device")
    stays = bool(ours) if device is None else _is_ours(device)
    name = func._schema.name
    if func is _aten.copy_.default:
        return _copy(args[0], args[1])
    if func is _aten._to_copy.default:
        _count(read=int(bool(ours) and not stays), sent=int(stays and not ours))
    elif any(t.dim() for t in others) and ours:
        shapes = [tuple(t.shape) for t in (*ours, *others)]
        raise RuntimeError(f"{name} got tensors on {NAME} and cpu, of shapes {shapes}.")
    if _is_read(func, args):
        _count(read=1)
    inside = {key: value for key, value in kwargs.items() if key != "pin_memory"}
    if device is not None:
        inside["device"] = _CPU
    inner = tree_map_only(PretendTensor, lambda t: t.payload, (args, inside))
    out = func(*inner[0], **inner[1])
    if not stays:
        return out
    out = tree_map_only(Tensor, PretendTensor, out)
    return return_and_correct_aliasing(func, args, kwargs, out)


def _is_read(func: Any, args: Any) -> bool:
    """Return whether the host waits for a number, or for how many entries of a mask are True."""
    if func in (_aten.index.Tensor, _aten.index_put.default, _aten.index_put_.default):
        return any(t.dtype == torch.bool for t in _tensors(Tensor, args[1]))
    return func is _aten._local_scalar_dense.default or func._schema.name in _LENGTHS_READ


def _copy(target: Tensor, source: Tensor) -> Tensor:
    """Copy numbers into a tensor, from one device to the other if need be."""
    ours = [isinstance(t, PretendTensor) for t in (target, source)]
    _count(read=int(ours == [False, True]), sent=int(ours == [True, False] and source.dim() > 0))
    into, new = (t.payload if isinstance(t, PretendTensor) else t for t in (target, source))
    into.copy_(new)
    return target


def _is_ours(device: Any) -> bool:
    return device is not None and torch.device(device).type == NAME


def _tensors(kind: type[Tensor], *trees: Any) -> list[Any]:
    return [t for t in tree_leaves(trees) if isinstance(t, kind)]


def _empty(size: Any, *, dtype: Any = None, **options: Any) -> Tensor:
    return PretendTensor(torch.empty(size, dtype=dtype))


def _empty_strided(size: Any, stride: Any, *, dtype: Any = None, **options: Any) -> Tensor:
    return PretendTensor(torch.empty_strided(size, stride, dtype=dtype))


def _copy_from(source: Tensor, target: Tensor, non_blocking: bool = False) -> Tensor:
    return _copy(target, source)


_libraries: list[Any] = []  # what is registered goes with them


def switch_on() -> None:
    """Let torch know the device until the end of the process."""
    _setup_privateuseone_for_python_backend(NAME)
    kernels = torch.library.Library("aten", "IMPL")
    kernels.impl("empty.memory_format", _empty, "PrivateUse1")
    kernels.impl("empty_strided", _empty_strided, "PrivateUse1")
    kernels.impl("_copy_from", _copy_from, "PrivateUse1")
    others = torch.library.Library("_", "IMPL")
    others.fallback(lambda func, *args, **kwargs: _run(func, args, kwargs), "PrivateUse1")
    known = _Known()
    known.__enter__()
    _libraries.extend([kernels, others, known])
