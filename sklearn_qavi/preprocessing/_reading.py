"""Saying what a column holds: from what the user says, from its type, or from its values."""

from collections.abc import Hashable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from .._checks import plain
from ._categories import Binary, Nominal, Ordinal
from ._cells import EXACT, Cells, numbers_of, some
from ._columns import Column
from ._numbers import Bounded, Count, Empty, Integer, Positive, Real
from ._times import Date, Duration

__all__ = ["COLUMNS", "DECLARABLE", "Declared", "class_declared", "read_column"]

COLUMNS: dict[str, type[Column]] = {
    column.kind: column
    for column in (
        Real,
        Positive,
        Bounded,
        Integer,
        Count,
        Binary,
        Nominal,
        Ordinal,
        Date,
        Duration,
        Empty,
    )
}
"""Classes of columns by what messages, files and ``column_types`` call them."""

DECLARABLE = tuple(kind for kind, column in COLUMNS.items() if column.is_declarable)
"""What users may say in ``column_types``, besides limits and categories."""

Declared: TypeAlias = str | tuple[Hashable, ...] | list[Hashable] | None
"""What the user says of a column: its kind, limits, categories in order, or nothing."""

_OF_OBJECTS: dict[str, type[Column]] = {
    "boolean": Binary,
    "datetime": Date,
    "datetime64": Date,
    "date": Date,
    "timedelta": Duration,
    "timedelta64": Duration,
    "bytes": Nominal,
    "categorical": Nominal,
    "string": Nominal,
}
"""Classes by what pandas' ``infer_dtype`` calls a column of objects."""

_ENOUGH_WHOLE = 10  # numbers that show a column to be of whole ones, or of none below 0


def read_column(
    name: Hashable,
    cells: Cells,
    missing: NDArray[np.bool_],
    declared: Declared = None,
    *,
    dtype: object = None,
) -> Column:
    """Say what a column holds.

    Parameters
    ----------
    name : hashable
        Name of the column.
    cells : ndarray of float or pandas.Series of shape (N,)
        The column.
    missing : bool ndarray of shape (N,)
        Its missing cells.
    declared : str, tuple, list or None, default=None
        What the user says: one of `DECLARABLE`; a pair of limits; a list of categories in order.
        None reads the type.
    dtype : object, default=None
        Type of the column as it came, from pandas, polars or pyarrow; None for arrays.

    Raises
    ------
    ValueError
        If the column cannot be imputed as it is; the message says what to do.
    """
    shown = cells[~missing]
    if missing.all():
        column: type[Column] = Empty
    else:
        column = class_declared(declared) or _class_of(name, shown)
    given = None if isinstance(declared, str) else declared
    return column.learn(name, shown, given, dtype=dtype)


def class_declared(declared: Declared) -> type[Column] | None:
    """Return the class of what the user says of a column, None where nothing is said."""
    if declared is None:
        return None
    if isinstance(declared, str):
        return COLUMNS[declared]
    return Bounded if isinstance(declared, tuple) else Ordinal


def _class_of(name: Hashable, shown: Cells) -> type[Column]:
    """Read from its type and values what a column is."""
    if not hasattr(shown, "iloc"):
        return _class_of_numbers(name, shown)
    import pandas as pd
    from pandas.api import types

    dtype = shown.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        return Ordinal if dtype.ordered else Nominal
    if types.is_bool_dtype(dtype):
        return Binary
    if types.is_datetime64_any_dtype(dtype):
        return Date
    if types.is_timedelta64_dtype(dtype):
        return Duration
    if types.is_numeric_dtype(dtype) and dtype.kind in "iuf":
        return _class_of_numbers(name, shown)
    if not (types.is_object_dtype(dtype) or types.is_string_dtype(dtype)):
        raise ValueError(
            f"Column {plain(name)} has the type {dtype}, which cannot be imputed. Convert it to "
            "numbers, text, categories or datetime64, or leave the column out."
        )
    return _class_of_objects(name, shown)


def _class_of_objects(name: Hashable, shown: Cells) -> type[Column]:
    from pandas.api import types

    found = types.infer_dtype(shown, skipna=True)
    if found in _OF_OBJECTS:
        return _OF_OBJECTS[found]
    if found in ("integer", "floating", "mixed-integer-float", "decimal"):
        return _class_of_numbers(name, shown)
    of_python = sorted({type(value).__name__ for value in shown})
    if len(of_python) == 1:
        raise ValueError(
            f"Column {plain(name)} holds values of the type {of_python[0]}, e.g. {some(shown)}, "
            "which cannot be imputed. Turn them into numbers, text or dates, or leave the column "
            "out."
        )
    raise ValueError(
        f"Column {plain(name)} mixes values of the types {of_python}, e.g. {some(shown)}. Make "
        "them one type, mark those that stand for a missing cell as missing (None or "
        "missing_values), or name the column in categorical_features."
    )


def _class_of_numbers(name: Hashable, shown: Cells) -> type[Column]:
    """Return whether numbers are any, whole, or counts."""
    numbers = numbers_of(name, shown)
    whole = bool((numbers == np.round(numbers)).all() and (np.abs(numbers) < EXACT).all())
    enough = len(numbers) >= _ENOUGH_WHOLE  # a few may be whole, or not negative, by chance
    if not (whole and (enough or getattr(shown.dtype, "kind", "f") in "iu")):
        return Real
    return Count if enough and numbers.min() >= 0 else Integer
