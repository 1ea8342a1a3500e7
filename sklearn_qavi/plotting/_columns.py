"""Column: what one column holds, as numbers that can be plotted.

Numbers are themselves (`Numbers`), categories codes (`Categories`), dates and durations days
(`Dates`, `Durations`). What differs between kinds of columns is asked of the column; nothing else
tells kinds apart by their names.
"""

from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.api import types

from .._checks import is_null, plain

__all__ = ["COLUMNS", "Array", "Categories", "Column", "class_of"]

Array = NDArray[np.float64]

_US_PER_DAY = 24 * 3600 * 10**6


@dataclass(frozen=True)
class Column(ABC):
    """A column as numbers.

    Parameters
    ----------
    name : str
        Its name.
    values : ndarray of shape (N,)
        Its numbers, NaN where missing.

    Attributes
    ----------
    kind : str
        What messages call columns of the class.
    unit : str
        What its numbers count, "" if that need not be said.
    is_empty : bool
        Whether no cell is observed.
    is_categorical : bool
        Whether the numbers are codes of categories.
    is_date : bool
        Whether the numbers are days since 1970.
    """

    name: str
    values: Array

    kind: ClassVar[str]
    unit: ClassVar[str] = ""
    is_empty: ClassVar[bool] = False
    is_categorical: ClassVar[bool] = False
    is_date: ClassVar[bool] = False

    @classmethod
    def read(cls, name: str, cells: pd.Series, missing: NDArray[np.bool_]) -> Self:
        """Read a column of this class.

        Raises
        ------
        ValueError
            If a cell that is not missing holds something else.
        """
        column = cls(name, np.full(len(cells), np.nan))
        column.values[~missing] = column._numbers_of(cells[~missing])
        return column

    @property
    def missing(self) -> NDArray[np.bool_]:
        """Which cells are missing, (N,)."""
        return np.isnan(self.values)

    @property
    def is_whole(self) -> bool:
        """Whether the column holds whole numbers only."""
        return False

    @property
    def categories(self) -> tuple[Hashable, ...]:
        """The category of each code, none of other columns."""
        return ()

    def without(self, hidden: NDArray[np.bool_]) -> Self:
        """Return this column with cells made missing."""
        return replace(self, values=np.where(hidden, np.nan, self.values))

    def at(self, row: int) -> Self:
        """Return one row of this column, of the same kind and categories."""
        return replace(self, values=self.values[[row]])

    def read_versions(self, versions: Sequence[pd.Series]) -> tuple["Column", Array]:
        """Return this column, and versions of it in the same numbers, (n, N).

        Categories that only the versions have are added to those of the column that is returned.

        Raises
        ------
        ValueError
            If a cell holds something else.
        """
        return self, np.stack([self._numbers_of(cells) for cells in versions])

    def _numbers_of(self, cells: pd.Series) -> Array:
        """Return cells as numbers, NaN where they are null."""
        try:
            numbers = self._converted(cells)
        except (ValueError, TypeError, OverflowError) as error:
            raise ValueError(
                f"Column {plain(self.name)} holds {self.kind}, but not all of it: {error}"
            ) from error
        if np.isinf(numbers).any():
            raise ValueError(f"Column {plain(self.name)} holds infinity, which cannot be plotted.")
        return numbers

    @abstractmethod
    def _converted(self, cells: pd.Series) -> Array:
        """Return cells as numbers, or raise what pandas raises."""


class Numbers(Column):
    """A column of numbers."""

    kind = "numbers"

    @property
    def is_whole(self) -> bool:
        """Whether the column holds whole numbers only."""
        shown = self.values[~self.missing]
        return len(shown) > 0 and bool((shown == np.round(shown)).all())

    def _converted(self, cells: pd.Series) -> Array:
        numbers: Array = pd.to_numeric(cells).to_numpy(dtype=np.float64, na_value=np.nan)
        return numbers


class Dates(Column):
    """A column of dates, as days since 1970."""

    kind = "dates"
    is_date = True

    def _converted(self, cells: pd.Series) -> Array:
        times = pd.to_datetime(cells, utc=True).dt.tz_localize(None)
        return _in_days(times.to_numpy().astype("datetime64[us]"))


class Durations(Column):
    """A column of durations, as days."""

    kind = "durations"
    unit = "days"

    def _converted(self, cells: pd.Series) -> Array:
        return _in_days(pd.to_timedelta(cells).to_numpy().astype("timedelta64[us]"))


class Empty(Column):
    """A column of which nothing is observed; completed versions say what it holds."""

    kind = "empty"
    is_empty = True

    def read_versions(self, versions: Sequence[pd.Series]) -> tuple[Column, Array]:
        """Return a column of what the first version holds, and the versions."""
        cells = versions[0]
        missing = cells.isna().to_numpy(dtype=bool)
        if missing.all():
            return self, np.full((len(versions), len(cells)), np.nan)
        found = class_of(self.name, cells[~missing]).read(self.name, cells, missing)
        return found.without(np.ones(len(cells), bool)).read_versions(versions)

    def _converted(self, cells: pd.Series) -> Array:
        return np.full(len(cells), np.nan)


@dataclass(frozen=True)
class Categories(Column):
    """A column of categories, as codes.

    Parameters
    ----------
    categories : tuple, default=()
        The category of each code.
    ordered : bool, default=False
        Whether the order of the categories was given and not only made up.
    """

    categories: tuple[Hashable, ...] = ()
    ordered: bool = False

    kind = "categories"
    is_categorical = True

    @classmethod
    def read(
        cls,
        name: str,
        cells: pd.Series,
        missing: NDArray[np.bool_],
        categories: tuple[Hashable, ...] | None = None,
    ) -> Self:
        """Read a column; its categories are those given, those of its type, or those in it."""
        shown = cells[~missing]
        if categories is None and isinstance(cells.dtype, pd.CategoricalDtype):
            categories = tuple(cells.dtype.categories)
        ordered = categories is not None
        if categories is None:
            categories = tuple(_in_order(shown.unique().tolist()))
        values = np.full(len(cells), np.nan)
        values[~missing] = _codes(shown, {category: k for k, category in enumerate(categories)})
        return cls(name, values, categories, ordered)

    def read_versions(self, versions: Sequence[pd.Series]) -> tuple[Column, Array]:
        """Return this column with the categories of all versions, and their codes."""
        known = {category: k for k, category in enumerate(self.categories)}
        draws = np.stack([_codes(cells, known) for cells in versions])
        categories, values = list(known), self.values
        if len(categories) > len(self.categories) and not self.ordered:
            categories = _in_order(categories)
            place = np.array([categories.index(category) for category in known], dtype=np.float64)
            draws, values = (
                np.where(np.isnan(codes), np.nan, place[np.nan_to_num(codes).astype(int)])
                for codes in (draws, values)
            )
        return replace(self, values=values, categories=tuple(categories)), draws

    def _converted(self, cells: pd.Series) -> Array:
        return _codes(cells, {category: k for k, category in enumerate(self.categories)})


COLUMNS: dict[str, type[Column]] = {
    column.kind: column for column in (Numbers, Categories, Dates, Durations, Empty)
}
_CLASS_OF_OBJECTS: dict[str, type[Column]] = {
    "boolean": Categories,
    "string": Categories,
    "datetime": Dates,
    "datetime64": Dates,
    "date": Dates,
    "timedelta": Durations,
    "timedelta64": Durations,
    "integer": Numbers,
    "floating": Numbers,
    "mixed-integer-float": Numbers,
    "decimal": Numbers,
}


def class_of(name: str, shown: pd.Series) -> type[Column]:
    """Return the class of a column by its observed cells.

    Raises
    ------
    ValueError
        If they cannot be plotted.
    """
    dtype = shown.dtype
    if len(shown) == 0:
        return Empty
    if isinstance(dtype, pd.CategoricalDtype) or types.is_bool_dtype(dtype):
        return Categories
    if types.is_datetime64_any_dtype(dtype):
        return Dates
    if types.is_timedelta64_dtype(dtype):
        return Durations
    if types.is_numeric_dtype(dtype) and dtype.kind in "iuf":
        return Numbers
    found = types.infer_dtype(shown, skipna=True)
    if found == "string" and _is_numeric_text(shown):
        return Numbers
    if found in _CLASS_OF_OBJECTS:
        return _CLASS_OF_OBJECTS[found]
    if all(isinstance(value, str | bytes | bool | int | float | np.generic) for value in shown):
        return Categories
    example = plain(shown.iloc[0])[:40]
    raise ValueError(
        f"Column {plain(name)} has values of a type that cannot be plotted, e.g. {example}. "
        "Convert it to numbers, text, categories or datetime64, or leave the column out."
    )


def _is_numeric_text(shown: pd.Series) -> bool:
    try:
        pd.to_numeric(shown)
    except (ValueError, TypeError, OverflowError):
        return False
    return True


def _codes(cells: pd.Series, known: dict[Hashable, int]) -> Array:
    """Return the codes of categories; those that are not known yet are added."""
    codes = [np.nan if is_null(cell) else known.setdefault(cell, len(known)) for cell in cells]
    return np.array(codes, dtype=np.float64)


def _in_days(times: NDArray[np.generic]) -> Array:
    days = times.astype(np.int64) / _US_PER_DAY
    return np.where(np.isnat(times), np.nan, days)


def _in_order(categories: Iterable[Hashable]) -> list[Hashable]:
    try:
        return sorted(categories)  # type: ignore[type-var]
    except TypeError:
        return sorted(categories, key=lambda category: (type(category).__name__, repr(category)))
