"""What the loop needs of a way to climb a bound; every row climbs on its own."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Generic, Self, TypeVar

import torch
from torch import Tensor

from .._typing import Block
from .posteriors import Start

__all__ = ["RowOptimizer", "State"]


@dataclass(kw_only=True)
class State:
    """The state of B rows: tensors with one line per row, which the loop moves without knowing
    them.

    Parameters
    ----------
    bound : Tensor of shape (B,)
        Bound in nats that a row has come to.
    step : long Tensor of shape (B,)
        Steps taken so far.
    done, converged : bool Tensor of shape (B,)
        Whether the row may leave, and whether it has settled.
    finite : bool Tensor of shape (B,)
        Whether the bound could be computed.
    """

    bound: Tensor
    step: Tensor
    done: Tensor
    converged: Tensor
    finite: Tensor

    def first_repeated(self, n: int) -> Self:
        """Return the state of ``n`` rows, all as the first one, in memory of their own."""
        tensors = vars(self).items()
        return type(self)(**{k: v[:1].expand(n, *v.shape[1:]).clone() for k, v in tensors})

    def keep(self, lines: Tensor) -> None:
        """Forget all lines but these, and order them so."""
        for name, tensor in vars(self).items():
            setattr(self, name, tensor[lines])

    def restore(self, before: Self, lines: Tensor) -> None:
        """Make some lines, True in a mask (B,), what they were before the tensors were replaced."""
        others = vars(before)
        for name, tensor in vars(self).items():
            mask = lines.reshape(-1, *[1] * (tensor.dim() - 1))
            setattr(self, name, torch.where(mask, others[name], tensor))

    def put(self, lines: Tensor, source: Self, taken: slice) -> None:
        """Write lines that are taken from another state into these."""
        others = vars(source)
        for name, tensor in vars(self).items():
            tensor[lines] = others[name][taken]


StateT = TypeVar("StateT", bound=State)


class RowOptimizer(ABC, Generic[StateT]):
    """A way to climb the bound of each row of a block.

    What a line of the state becomes may depend on that line and on nothing else.
    """

    evaluations_per_step: int
    """Decoder evaluations per row and step."""

    steps_per_run: ClassVar[int] = 1
    """Steps that `run` takes."""

    full: bool = False
    """Whether `covariance` knows the whole covariance."""

    @abstractmethod
    def start(self, start: Start) -> StateT:
        """Return the state of rows that have taken no step."""

    @abstractmethod
    def run(self, block: Block, state: StateT) -> None:
        """Take the next steps with every row.

        With ``steps_per_run`` of 1 the tensors of the state are replaced and not written into, as
        the loop may want those of a row that was done back.
        """

    @abstractmethod
    def answer(self, state: StateT) -> tuple[Tensor, Tensor]:
        """Return the parameters (B, P) and bounds (B,), in nats, that the rows have come to."""

    def covariance(self, state: StateT, lines: Tensor) -> Tensor | None:
        """Return the whole covariance (n, L, L) of what n lines have found, where it is known."""
        return None
