"""What the loop needs of a way to climb a bound; every row climbs on its own."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from torch import Tensor

from .posteriors import Start

__all__ = ["RowOptimizer", "State"]

State = dict[str, Tensor]
"""The state of B rows: tensors with one line a row, which the loop moves without knowing them.

Every state has "step" (steps taken so far, long), "done" and "converged" (bool), "finite" (bool,
whether the bound could be computed), all (B,).
"""


class RowOptimizer(ABC):
    """A way to climb the bound of each row of a block.

    What a line of the state becomes may depend on that line and on nothing else.
    """

    evaluations_per_step: int
    """Decoder evaluations a row and step."""

    steps_per_run: ClassVar[int] = 1
    """Steps that `run` takes."""

    full: bool = False
    """Whether `covariance` knows the whole covariance."""

    @abstractmethod
    def start(self, start: Start) -> State:
        """Return the state of rows that have taken no step."""

    @abstractmethod
    def run(self, block: Any, state: State) -> None:
        """Take the next steps with every row, in place."""

    @abstractmethod
    def answer(self, state: State) -> tuple[Tensor, Tensor]:
        """Return the parameters (B, P) and bounds (B,), in nats, that the rows have come to."""

    def covariance(self, state: State) -> Tensor | None:
        """Return the whole covariance (B, L, L) of what was found, where it is known."""
        return None
