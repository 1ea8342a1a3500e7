"""The levels that pixels of so many bits take, on the scale from -1 to 1."""

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Levels"]

_LAST_BYTE = 255


@dataclass(frozen=True)
class Levels:
    """Evenly spaced levels; those of fewer than 8 bits stand where their first byte does.

    Parameters
    ----------
    n_bits : int
        From 1 to 8. A level of 5 bits is 8 bytes, 0 to 7, 8 to 15, ...
    overlapping : bool, default=False
        Whether a level's mass reaches ``1 / (n - 1)`` to each side, and the last level has no more
        than this if it is not the last byte. With 8 bits it makes no difference.
    """

    n_bits: int = 8
    overlapping: bool = False

    @property
    def n(self) -> int:
        """Number of levels."""
        n_levels: int = 2**self.n_bits
        return n_levels

    @property
    def bytes_per_level(self) -> int:
        """Bytes that share a level."""
        width: int = 2 ** (8 - self.n_bits)
        return width

    @property
    def spacing(self) -> float:
        """Distance of two levels."""
        return 2.0 * self.bytes_per_level / _LAST_BYTE

    @property
    def half(self) -> float:
        """Half of the distance of two levels."""
        return 0.5 * self.spacing

    @property
    def reach(self) -> float:
        """How far the mass of a level reaches to each side."""
        return 1.0 / (self.n - 1) if self.overlapping else self.half

    @property
    def takes_upper_tail(self) -> bool:
        """Whether the last level has all mass above it."""
        return not self.overlapping or self.bytes_per_level == 1

    @property
    def last(self) -> float:
        """The last level; the first is -1."""
        return (self.n - 1) * self.spacing - 1.0

    def of_values(self, x: Tensor) -> Tensor:
        """Return the levels of values from 0 to 1."""
        byte = (x.clamp(0.0, 1.0) * _LAST_BYTE).round()
        return torch.floor(byte / self.bytes_per_level) * self.spacing - 1.0

    def nearest(self, y: Tensor) -> Tensor:
        """Return the levels nearest to numbers on their scale."""
        return ((y + 1.0) / self.spacing).round().clamp(0, self.n - 1) * self.spacing - 1.0

    def to_values(self, y: Tensor) -> Tensor:
        """Return values from 0 to 1, the middles of the bytes of a level."""
        return 0.5 + 0.5 * y + 0.5 * (self.bytes_per_level - 1) / _LAST_BYTE

    def all(self, like: Tensor) -> Tensor:
        """Return all levels, (n,), with the type and device of a tensor."""
        return torch.arange(self.n, device=like.device).to(like) * self.spacing - 1.0
