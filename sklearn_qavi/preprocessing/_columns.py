"""Column: what one column holds, and the way from its cells to the model's numbers and back.

The model sees numbers, on a log or logit scale where they are positive or bounded (`Numbers`), the
codes of categories (`Categories`), and times as counts of a unit (`Times`). What differs between
kinds of columns is asked of the column; nothing else tells kinds apart by their names.
"""

from abc import ABC, abstractmethod
from collections.abc import Container, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .._checks import plain
from ._cells import Cells

__all__ = ["Array", "Column", "Given", "Measured"]

Array: TypeAlias = NDArray[np.float64]

Given: TypeAlias = Sequence[Any] | None
"""What the user gives of a column besides its kind: a pair of limits, or categories in order."""


@dataclass(frozen=True)
class Column(ABC):
    """What one column holds.

    Parameters
    ----------
    name : hashable
        Name of the column.
    dtype : object, default=None
        The column's type in pandas, polars or pyarrow, None for arrays.

    Attributes
    ----------
    kind : str
        What messages and files call columns of the class.
    is_declarable : bool
        Whether users may say ``kind`` in ``column_types``.
    is_empty : bool
        Whether no value was seen in `fit`.
    is_number : bool
        Whether missing cells are filled with numbers, which may have bounds.
    is_whole : bool
        Whether numbers are whole.
    is_linear : bool
        Whether the model's numbers are the column's own, so that means agree.
    is_unordered : bool
        Whether the values have no order, so that quantiles mean nothing.
    """

    name: Hashable
    dtype: object = field(default=None, kw_only=True)

    kind: ClassVar[str]
    is_declarable: ClassVar[bool] = False
    is_empty: ClassVar[bool] = False
    is_number: ClassVar[bool] = False
    is_whole: ClassVar[bool] = False
    is_linear: ClassVar[bool] = True
    is_unordered: ClassVar[bool] = False

    @classmethod
    @abstractmethod
    def learn(
        cls,
        name: Hashable,
        shown: Cells,
        given: Given = None,
        *,
        dtype: object = None,
    ) -> Self:
        """Say what a column of this class holds.

        Parameters
        ----------
        name : hashable
            Name of the column.
        shown : ndarray or pandas.Series
            Its observed cells.
        given : sequence or None, default=None
            The limits, or the categories in order, that the user gives.
        dtype : object, default=None
            Type of the column as it came, None for arrays.

        Raises
        ------
        ValueError
            If the column does not hold what it should; the message says what to do.
        """

    @property
    def n_categories(self) -> int | None:
        """Number of categories, None for numbers and times."""
        return None

    @property
    @abstractmethod
    def gives_numbers(self) -> bool:
        """Whether floats hold all values as they are."""

    def encode(self, cells: Cells, missing: NDArray[np.bool_]) -> tuple[Array, NDArray[np.bool_]]:
        """Return the model's numbers, NaN where missing, and which cells hold unknown categories.

        Parameters
        ----------
        cells : ndarray or pandas.Series of shape (N,)
            The column.
        missing : bool ndarray of shape (N,)
            Cells to leave out.

        Raises
        ------
        ValueError
            If a value is no number, no time, or outside of the column's range.
        """
        numbers = np.full(len(cells), np.nan)
        numbers[~missing] = self._encoded(cells[~missing])
        return numbers, np.isnan(numbers) & ~missing

    @abstractmethod
    def _encoded(self, shown: Cells) -> Array:
        """Return the model's numbers of observed cells, NaN for unknown categories."""

    def to_model(self, numbers: Array) -> Array:
        """Return the model's numbers for values in original units.

        Raises
        ------
        ValueError
            If a value is outside of the column's range.
        """
        return numbers

    @abstractmethod
    def from_model(self, numbers: Array, *, whole: bool = True) -> Array:
        """Return values in original units, codes of categories, or counts of the unit of times.

        Parameters
        ----------
        numbers : ndarray
            The model's.
        whole : bool, default=True
            Round where the column holds whole numbers; False leaves means as they are.
        """

    def was_seen(self, numbers: Array) -> NDArray[np.bool_]:
        """Return which of the model's numbers lie within the range of those of `fit`."""
        return ~np.isnan(numbers)

    def admits(self, numbers: Array, *, whole: bool = True) -> NDArray[np.bool_]:
        """Return which numbers, in original units, the column can hold.

        ``whole`` asks columns of whole numbers for such.
        """
        return np.isfinite(numbers)

    def decode(self, numbers: Array) -> NDArray[np.generic]:
        """Return values of the column's own type for what `from_model` gave, (n,) an array."""
        return numbers

    @abstractmethod
    def as_objects(self, numbers: Array, shown: Iterable[object]) -> NDArray[np.object_]:
        """Return what `from_model` gave as Python objects of the type of the observed cells."""

    def as_times(self, numbers: Array, unit: str) -> NDArray[np.generic]:
        """Return what `from_model` gave as times in a unit, within what it can hold.

        Raises
        ------
        ValueError
            If the column holds no times.
        """
        raise ValueError(
            f"Column {plain(self.name)} is {self.kind}, but came as times, which cannot hold such "
            "values. Convert it to numbers or text."
        )

    def fits(self, dtype: np.dtype[np.generic]) -> bool:
        """Return whether an array of a type has room for the column's values."""
        return dtype.kind in "OUS" or (dtype.kind not in "mM" and self.gives_numbers)

    def lacking_in(self, known: Container[object]) -> list[Hashable]:
        """Return the categories that are not among some."""
        return []

    def examples(self) -> Sequence[Hashable] | NDArray[np.generic]:
        """Return what a library can find a type for the column in, maybe an empty array."""
        return np.empty(0)


@dataclass(frozen=True, kw_only=True)
class Measured(Column):
    """A column of numbers or times, which has a range.

    Parameters
    ----------
    limits : tuple of float, default=(-inf, inf)
        What imputed values stay within, in original units (times: in ``unit``).
    seen : tuple of float, default=(-inf, inf)
        Smallest and largest value of `fit`, in original units (times: in ``unit``).
    cell_type : str, default=""
        Python type of the cells of a column of objects, see `cell_type_of`; "" of other columns.
    """

    limits: tuple[float, float] = (-np.inf, np.inf)
    seen: tuple[float, float] = (-np.inf, np.inf)
    cell_type: str = ""

    def from_model(self, numbers: Array, *, whole: bool = True) -> Array:
        """Return values in original units, within the limits."""
        return np.clip(numbers, *self.limits)

    def admits(self, numbers: Array, *, whole: bool = True) -> NDArray[np.bool_]:
        """Return which numbers, in original units, lie within the limits and are whole if asked."""
        lower, upper = self.limits
        inside: NDArray[np.bool_] = (numbers >= lower) & (numbers <= upper)
        return inside & (np.round(numbers) == numbers) if self.is_whole and whole else inside

    def was_seen(self, numbers: Array) -> NDArray[np.bool_]:
        """Return which of the model's numbers lie within the range of those of `fit`."""
        lowest, highest = self.to_model(np.array(self.seen))
        seen: NDArray[np.bool_] = (numbers >= lowest) & (numbers <= highest)
        return seen
