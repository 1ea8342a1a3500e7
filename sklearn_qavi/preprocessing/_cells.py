"""Cells of a column: their Python type, their numbers, what of them floats hold.

Cells come in arrays of numbers or in series of pandas; see `Frame` for how the others get there.
"""

from collections.abc import Collection, Iterable
from decimal import Decimal
from numbers import Integral, Real
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .._checks import plain

__all__ = [
    "EXACT",
    "Cells",
    "cell_type_of",
    "decimals_of",
    "floats_hold",
    "holds_numeric_text",
    "is_hashable",
    "numbers_of",
    "object_array",
    "objects_of",
    "some",
    "whole_within",
]

Cells: TypeAlias = Any
"""An ndarray, or a series of pandas, which has no type information, (N,)."""

EXACT = 2**53
"""Beyond it not every whole number is a float; whole itself, as numpy compares floats rounded."""

_MAX_DECIMALS = 15  # digits after the point that text or decimals are read to
_SHOWN = 5
_WIDE = ("int128", "uint128", "decimal")  # types that floats do not hold
_CELL_TYPES: list[tuple[type, str]] = [
    (np.timedelta64, "timedelta64"),  # numpy takes it for an integer
    (Integral, "int"),
    (Real, "float"),
    (Decimal, "Decimal"),
    (str, "str"),
    (bytes, "bytes"),
]


def objects_of(shown: Cells) -> list[object]:
    """Return the cells of a column of objects or text, none of other columns."""
    import pandas as pd

    if isinstance(shown, np.ndarray) or isinstance(shown.dtype, pd.CategoricalDtype):
        return []
    is_object = pd.api.types.is_object_dtype(shown.dtype)
    return list(shown) if is_object or pd.api.types.is_string_dtype(shown.dtype) else []


def cell_type_of(cells: Iterable[object]) -> str:
    """Return the Python type of cells: "int", "float", "Decimal", "str", "date", ... or ""."""
    cells = [cell for cell in cells if not isinstance(cell, bool | np.bool_)]
    if not cells:
        return ""
    for cell_type, name in _CELL_TYPES:
        if all(isinstance(cell, cell_type) for cell in cells):
            return name
    return type(cells[0]).__name__


def decimals_of(cells: Iterable[object]) -> int:
    """Return the most digits after the point of text or decimals that are numbers."""
    text = [str(cell) for cell in cells if isinstance(cell, str | Decimal)]
    text = [t.strip() for t in text if "e" not in t.lower()]
    return min(max((len(t.partition(".")[2]) for t in text), default=0), _MAX_DECIMALS)


def floats_hold(shown: Cells, dtype: object = None) -> bool:
    """Return whether floats hold the observed cells of a column as they are.

    Parameters
    ----------
    shown : ndarray or pandas.Series
        The observed cells, as they are read.
    dtype : object, default=None
        Type of the column as it came.
    """
    if str(dtype).lower().startswith(_WIDE):
        return False
    kind = getattr(shown.dtype, "kind", "O")
    if kind in "iu":
        return len(shown) == 0 or bool(shown.min() >= -EXACT and shown.max() <= EXACT)
    if kind in "bf":
        return getattr(shown.dtype, "itemsize", 8) <= 8
    return kind == "O" and all(_float_holds(cell) for cell in shown)


def _float_holds(cell: object) -> bool:
    return isinstance(cell, Real) and not (isinstance(cell, Integral) and abs(int(cell)) > EXACT)


def holds_numeric_text(values: Cells, missing: NDArray[np.bool_]) -> list[str] | None:
    """Return the blank cells of a column of text that is numbers otherwise; None if it is not.

    Text with leading zeros is a code, such as a ZIP code, and no number.
    """
    import pandas as pd

    if not hasattr(values, "iloc") or isinstance(values.dtype, pd.CategoricalDtype):
        return None
    cells = objects_of(values[~missing])
    text = [cell for cell in cells if isinstance(cell, str)]
    if len(text) < len(cells):
        return None
    shown = list(dict.fromkeys(text))
    blank = [value for value in shown if not value.strip()]
    others = [value.strip() for value in shown if value.strip()]
    if not others or any(_is_code(text) or not _is_number(text) for text in others):
        return None
    return blank


def _is_code(text: str) -> bool:
    digits = text.lstrip("+-")
    return len(digits) > 1 and digits[0] == "0" and digits[1].isdigit()


def _is_number(text: str) -> bool:
    try:
        return bool(np.isfinite(float(text)))
    except ValueError:
        return False


def numbers_of(name: object, shown: Cells) -> NDArray[np.float64]:
    """Return observed cells as finite floats.

    Parameters
    ----------
    name : hashable
        Name of the column.
    shown : ndarray or pandas.Series
        The observed cells.

    Raises
    ------
    ValueError
        If a cell is no number, or infinite; the message says what to do.
    """
    if hasattr(shown, "iloc"):
        if getattr(shown.dtype, "kind", "O") in "iuf" and shown.dtype != "category":
            numbers: NDArray[np.float64] = shown.to_numpy(dtype=np.float64)
        else:
            numbers = _parsed(name, shown)
    else:
        with np.errstate(over="ignore"):
            numbers = np.asarray(shown, dtype=np.float64)
    if not np.isfinite(numbers).all():
        n_bad = int((~np.isfinite(numbers)).sum())
        raise ValueError(
            f"Column {plain(name)} holds infinity, or a value too large for a float, in {n_bad} "
            "row(s). Clip such values, or mark them as missing."
        )
    return numbers


def _parsed(name: object, shown: Cells) -> NDArray[np.float64]:
    """Return objects or text as floats."""
    numbers = np.empty(len(shown))
    bad = []
    for i, value in enumerate(shown):
        try:
            numbers[i] = float(value)
        except (ValueError, TypeError):
            bad.append(value)
        except OverflowError:
            numbers[i] = np.inf
        else:
            if np.isnan(numbers[i]):
                bad.append(value)
    if not bad:
        return numbers
    blank = list(dict.fromkeys(v for v in bad if isinstance(v, str) and not v.strip()))
    if blank and len(blank) == len(set(map(repr, bad))):
        raise ValueError(
            f"Column {plain(name)} holds numbers, but {len(bad)} of its cells are blank text "
            f"({some(blank)}). Pass missing_values={plain(blank[0])} to have them imputed."
        )
    raise ValueError(
        f"Column {plain(name)} holds numbers, but {some(bad)} is not one. Mark such cells "
        "as missing, or name the column in categorical_features."
    )


def object_array(values: Collection[object]) -> NDArray[np.object_]:
    """Return values as an array of objects, (n,), also of tuples that numpy takes for rows."""
    return np.fromiter(values, dtype=object, count=len(values))


def whole_within(numbers: NDArray[np.float64], lowest: int, highest: int) -> NDArray[np.object_]:
    """Return numbers rounded to Python integers of a range, an array of objects."""
    return object_array([min(max(int(n), lowest), highest) for n in np.round(numbers)])


def is_hashable(value: object) -> bool:
    """Return whether a value can be a key, also if it is a tuple of lists."""
    try:
        hash(value)
    except TypeError:
        return False
    return True


def some(values: Cells) -> str:
    """Return a few values for a message, numpy's as plain numbers."""
    distinct = list(dict.fromkeys(plain(value)[:40] for value in list(values)[:200]))
    more = ", ..." if len(distinct) > _SHOWN else ""
    return ", ".join(distinct[:_SHOWN]) + more
