"""ColumnSchema: what one column holds, and the way from its values to the model's numbers and back.

A column is numbers ("real", "positive", "bounded", "integer", "count"), levels ("binary",
"nominal", "ordinal"), or times ("date", "duration"). The model sees numbers, on a log or logit
scale where they are positive or bounded, the codes of levels, and times as counts of a unit.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from decimal import Decimal
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._checks import plain

__all__ = [
    "NUMBERS",
    "UNITS",
    "ColumnSchema",
    "cell_type_of",
    "floats_hold",
    "holds_numeric_text",
    "read_column",
]

NUMBERS = ("real", "positive", "bounded", "integer", "count")
_LEVELS = ("binary", "nominal", "ordinal")
UNITS = {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
UNITS["D"] = 24 * UNITS["h"]
_TIME_MARGIN = 0.1  # share of the observed range that imputed times may lie beyond either end
_MAX_DECIMALS = 15  # digits after the point that text or decimals are read to
_SQUEEZE = (
    0.005  # share of a bounded range that its ends are taken inwards by, so that logits exist
)
_MAX_ORDINAL_LEVELS = 50  # more are a count of levels
_SHOWN = 5
_EXACT = 2.0**53  # beyond it not every whole number is a float
_WIDE = ("int128", "uint128", "decimal")  # types that floats do not hold
_ENOUGH_WHOLE = 10  # numbers that show a column to be of whole ones, or of none below 0


@dataclass(frozen=True)
class ColumnSchema:
    """What one column holds.

    Parameters
    ----------
    name : hashable
        Name of the column.
    kind : str
        "real", "positive", "bounded", "integer", "count", "binary", "nominal", "ordinal", "date",
        "duration" or "empty".
    levels : tuple, default=()
        Values of a column of levels; the code of a level is its position.
    limits : tuple of float, default=(-inf, inf)
        What imputed numbers and times stay within, in original units (times: in ``unit``).
    unit : str, default=""
        Unit that times are counted in, as numpy names it.
    seen : tuple of float, default=(-inf, inf)
        Smallest and largest number or time of `fit`, in original units (times: in ``unit``).
    decimals : int, default=0
        Most digits after the point, of numbers that came as text or as decimals.
    cell_type : str, default=""
        Python type of the cells of a column of objects, see `cell_type_of`; "" of other columns.
    is_exact : bool, default=True
        Whether floats hold all of the column's numbers as they came.
    dtype : object, default=None
        The column's type in pandas, polars or pyarrow, None for arrays.
    """

    name: Any
    kind: str
    levels: tuple[Any, ...] = ()
    limits: tuple[float, float] = (-np.inf, np.inf)
    unit: str = ""
    seen: tuple[float, float] = (-np.inf, np.inf)
    decimals: int = 0
    cell_type: str = ""
    is_exact: bool = True
    dtype: Any = None

    @property
    def n_levels(self) -> int | None:
        """Number of levels, None for numbers and times."""
        return len(self.levels) if self.kind in _LEVELS else None

    @property
    def is_unordered(self) -> bool:
        """Whether the values have no order, so that quantiles mean nothing."""
        return self.kind in ("nominal", "binary")

    @property
    def is_linear(self) -> bool:
        """Whether the model's numbers are a column's own, so that means agree."""
        return self.kind not in ("positive", "bounded")

    @property
    def is_whole(self) -> bool:
        """Whether numbers are whole."""
        return self.kind in ("integer", "count", "date", "duration")

    @property
    def numpy_code(self) -> str:
        """Name of the numpy type of times."""
        return "datetime64" if self.kind == "date" else "timedelta64"

    @property
    def gives_numbers(self) -> bool:
        """Whether floats hold all values as they are."""
        if self.kind in _LEVELS:
            return all(
                isinstance(v, bool | int | float | np.number | np.bool_) for v in self.levels
            )
        return self.kind == "empty" or (self.kind in NUMBERS and self.is_exact)

    def encode(
        self, values: Any, missing: NDArray[np.bool_]
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Return the model's numbers, NaN where missing, and which cells hold unknown levels.

        Parameters
        ----------
        values : ndarray or pandas.Series of shape (N,)
            The column.
        missing : bool ndarray of shape (N,)
            Cells to leave out.

        Raises
        ------
        ValueError
            If a value is no number, no time, or outside of the column's range.
        """
        out = np.full(len(values), np.nan)
        unknown = np.zeros(len(values), dtype=bool)
        if self.kind == "empty":
            return out, ~missing
        shown = values[~missing]
        if self.kind in _LEVELS:
            codes = _codes(shown, self.levels)
            unknown[np.flatnonzero(~missing)[np.isnan(codes)]] = True
            out[~missing] = codes
        elif self.kind in ("date", "duration"):
            out[~missing] = _counts(self, shown)
        else:
            out[~missing] = self.to_model(_numbers(self.name, shown))
        return out, unknown

    def from_model(
        self, numbers: NDArray[np.float64], *, whole: bool = True
    ) -> NDArray[np.float64]:
        """Return values in original units, codes of levels, or counts of the unit of times.

        Parameters
        ----------
        numbers : ndarray
            The model's.
        whole : bool, default=True
            Round where the column holds whole numbers; False leaves means as they are.
        """
        if self.kind == "positive":
            with np.errstate(over="ignore"):
                numbers = np.exp(numbers)
        elif self.kind == "bounded":
            lower, upper = self.limits
            share = 1.0 / (1.0 + np.exp(-np.clip(numbers, -700.0, 700.0)))
            share = (share - _SQUEEZE) / (1.0 - 2.0 * _SQUEEZE)
            numbers = lower + (upper - lower) * share
        elif self.kind in _LEVELS:
            return np.clip(np.round(numbers), 0, len(self.levels) - 1)
        if self.is_whole and (whole or self.unit):
            numbers = np.round(numbers)
        return np.clip(numbers, *self.limits)

    def to_model(self, numbers: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the model's numbers for values in original units.

        Raises
        ------
        ValueError
            If a value is outside of the column's range.
        """
        lower, upper = self.limits
        if self.kind == "positive":
            self._check(numbers, numbers > 0, "greater than 0")
            return np.log(numbers)
        if self.kind == "bounded":
            inside = (numbers >= lower) & (numbers <= upper)
            self._check(numbers, inside, f"between {lower:g} and {upper:g}")
            share = _SQUEEZE + (1.0 - 2.0 * _SQUEEZE) * (numbers - lower) / (upper - lower)
            return np.log(share) - np.log1p(-share)
        return numbers

    def _check(self, numbers: NDArray[np.float64], good: NDArray[np.bool_], what: str) -> None:
        if not good.all():
            raise ValueError(
                f"Column {plain(self.name)} was declared to be {what}, but holds "
                f"{_some(numbers[~good])}. Mark such cells as missing, or change column_types."
            )

    def decode(self, numbers: NDArray[np.float64]) -> Any:
        """Return values of the column's own type for what `from_model` gave, (n,) an array."""
        if self.kind in _LEVELS:
            levels = np.empty(len(self.levels), dtype=object)
            levels[:] = self.levels
            return levels[numbers.astype(int)]
        if self.unit:
            return numbers.astype(np.int64).astype(f"{self.numpy_code}[{self.unit}]")
        return numbers


def read_column(
    name: Any,
    values: Any,
    missing: NDArray[np.bool_],
    declared: Any = None,
    *,
    dtype: Any = None,
) -> ColumnSchema:
    """Say what a column holds.

    Parameters
    ----------
    name : hashable
        Name of the column.
    values : ndarray of float or pandas.Series of shape (N,)
        The column.
    missing : bool ndarray of shape (N,)
        Its missing cells.
    declared : object, default=None
        What the user says: "real", "positive", "integer", "count", "nominal" or "ordinal"; a pair
        of limits for "bounded"; a list of levels in order for "ordinal". None reads the type.
    dtype : object, default=None
        Type of the column as it came, from pandas, polars or pyarrow; None for arrays.

    Raises
    ------
    ValueError
        If the column cannot be imputed as it is; the message says what to do.
    """
    if missing.all():
        return ColumnSchema(name, "empty", dtype=dtype)
    shown = values[~missing]
    schema = _read(name, shown, declared)
    cells = _objects(shown)
    return replace(
        schema,
        dtype=dtype,
        cell_type=cell_type_of(cells),
        decimals=0 if schema.is_whole else _decimals(cells),
        is_exact=schema.kind not in NUMBERS or floats_hold(shown, dtype),
    )


def _read(name: Any, shown: Any, declared: Any) -> ColumnSchema:
    if isinstance(declared, tuple):
        return _bounded(name, shown, declared)
    if isinstance(declared, list):
        return _listed_levels(name, shown, declared)
    if declared is None:
        declared = _kind_of(name, shown)
    if declared in ("nominal", "ordinal", "binary"):
        return _levels(name, shown, declared)
    if declared in ("date", "duration"):
        return _times(name, shown, declared)
    return _number(name, _numbers(name, shown), declared, getattr(shown, "dtype", None))


def _objects(shown: Any) -> list[Any]:
    """Return the cells of a column of objects or text, none of other columns."""
    import pandas as pd

    if isinstance(shown, np.ndarray) or isinstance(shown.dtype, pd.CategoricalDtype):
        return []
    is_object = pd.api.types.is_object_dtype(shown.dtype)
    return list(shown) if is_object or pd.api.types.is_string_dtype(shown.dtype) else []


def cell_type_of(cells: Any) -> str:
    """Return the Python type of cells: "int", "float", "Decimal", "str", "date", ... or ""."""
    cells = [cell for cell in cells if not isinstance(cell, bool | np.bool_)]
    if not len(cells):
        return ""
    for kind, name in _CELL_TYPES:
        if all(isinstance(cell, kind) for cell in cells):
            return name
    return type(cells[0]).__name__


_CELL_TYPES: list[tuple[Any, str]] = [
    (np.timedelta64, "timedelta64"),  # numpy takes it for an integer
    (Integral, "int"),
    (Real, "float"),
    (Decimal, "Decimal"),
    (str, "str"),
    (bytes, "bytes"),
]


def holds_numeric_text(values: Any, missing: NDArray[np.bool_]) -> list[str] | None:
    """Return the blank cells of a column of text that is numbers otherwise; None if it is not.

    Text with leading zeros is a code, such as a ZIP code, and no number.
    """
    import pandas as pd

    if not hasattr(values, "iloc") or isinstance(values.dtype, pd.CategoricalDtype):
        return None
    shown = _objects(values[~missing])
    if not shown or not all(isinstance(value, str) for value in shown):
        return None
    shown = list(dict.fromkeys(shown))
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


def _decimals(cells: Any) -> int:
    """Return the most digits after the point of text or decimals that are numbers."""
    text = [str(cell) for cell in cells if isinstance(cell, str | Decimal)]
    text = [t.strip() for t in text if "e" not in t.lower()]
    return min(max((len(t.partition(".")[2]) for t in text), default=0), _MAX_DECIMALS)


def floats_hold(shown: Any, dtype: Any = None) -> bool:
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
        return len(shown) == 0 or bool(shown.min() >= -_EXACT and shown.max() <= _EXACT)
    if kind in "bf":
        return getattr(shown.dtype, "itemsize", 8) <= 8
    return kind == "O" and all(_float_holds(cell) for cell in shown)


def _float_holds(cell: Any) -> bool:
    return isinstance(cell, Real) and not (isinstance(cell, Integral) and abs(int(cell)) > _EXACT)


def _kind_of(name: Any, shown: Any) -> str | None:
    """Read the kind of a column from its type and values; None for numbers of some kind."""
    if not hasattr(shown, "iloc"):
        return None
    import pandas as pd
    from pandas.api import types

    dtype = shown.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        return "ordinal" if dtype.ordered else "nominal"
    if types.is_bool_dtype(dtype):
        return "binary"
    if types.is_datetime64_any_dtype(dtype):
        return "date"
    if types.is_timedelta64_dtype(dtype):
        return "duration"
    if types.is_numeric_dtype(dtype) and dtype.kind in "iuf":
        return None
    if not (types.is_object_dtype(dtype) or types.is_string_dtype(dtype)):
        raise ValueError(
            f"Column {plain(name)} has the type {dtype}, which cannot be imputed. Convert it to "
            "numbers, text, categories or datetime64, or leave the column out."
        )
    return _kind_of_objects(name, shown)


def _kind_of_objects(name: Any, shown: Any) -> str | None:
    from pandas.api import types

    found = types.infer_dtype(shown, skipna=True)
    simple = {
        "boolean": "binary",
        "datetime": "date",
        "datetime64": "date",
        "date": "date",
        "timedelta": "duration",
        "timedelta64": "duration",
        "bytes": "nominal",
        "categorical": "nominal",
        "string": "nominal",
    }
    if found in simple:
        return simple[found]
    if found in ("integer", "floating", "mixed-integer-float", "decimal"):
        return None
    kinds = sorted({type(value).__name__ for value in shown})
    if len(kinds) == 1:
        raise ValueError(
            f"Column {plain(name)} holds values of the type {kinds[0]}, e.g. {_some(shown)}, which "
            "cannot be imputed. Turn them into numbers, text or dates, or leave the column out."
        )
    raise ValueError(
        f"Column {plain(name)} mixes values of the types {kinds}, e.g. {_some(shown)}. Make "
        "them one type, mark those that stand for a missing cell as missing (None or "
        "missing_values), or name the column in categorical_features."
    )


def _number(name: Any, numbers: NDArray[np.float64], kind: Any, dtype: Any) -> ColumnSchema:
    limits = (-np.inf, np.inf)
    if kind is None:
        whole = bool((numbers == np.round(numbers)).all() and (np.abs(numbers) < _EXACT).all())
        enough = len(numbers) >= _ENOUGH_WHOLE  # a few may be whole, or not negative, by chance
        whole = whole and (enough or getattr(dtype, "kind", "f") in "iu")
        kind = "real" if not whole else "count" if enough and numbers.min() >= 0 else "integer"
    if kind == "positive":
        # draws from a wide distribution of logarithms may be absurd, or infinite
        schema = ColumnSchema(name, kind)
        logs = schema.to_model(numbers)
        reach = max(float(np.ptp(logs)), 1.0)
        limits = (0.0, float(np.exp(min(logs.max() + reach, 700.0))))
    elif kind == "count":
        if numbers.min() < 0:
            raise ValueError(
                f"Column {plain(name)} was declared to be a count, but holds "
                f"{_some(numbers[numbers < 0])}. Declare it 'integer'."
            )
        limits = (0.0, np.inf)
    return ColumnSchema(name, kind, limits=limits, seen=_range(numbers))


def _bounded(name: Any, shown: Any, limits: tuple[Any, ...]) -> ColumnSchema:
    try:
        lower, upper = (float(limit) for limit in limits)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"The limits of column {plain(name)} in column_types must be two numbers, "
            f"got {plain(limits)}."
        ) from error
    if not (np.isfinite(lower) and np.isfinite(upper) and lower < upper):
        raise ValueError(
            f"The limits of column {plain(name)} in column_types must be finite and in order, got "
            f"{plain(limits)}. For one bound use 'positive', or min_value and max_value."
        )
    schema = ColumnSchema(name, "bounded", limits=(lower, upper))
    numbers = _numbers(name, shown)
    schema.to_model(numbers)  # checks the range
    return replace(schema, seen=_range(numbers))


def _levels(name: Any, shown: Any, kind: str) -> ColumnSchema:
    import pandas as pd

    dtype = getattr(shown, "dtype", None)
    if isinstance(dtype, pd.CategoricalDtype):
        codes = np.bincount(shown.cat.codes, minlength=len(dtype.categories))
        counts = {level: n for level, n in zip(dtype.categories, codes, strict=True) if n}
        levels = list(counts)
    else:
        counts = _counted(name, shown)
        levels = _in_order(list(counts))
        if kind == "ordinal" and any(isinstance(level, str) for level in levels):
            raise ValueError(
                f"Column {plain(name)} holds text, which has no order of its own. Pass its "
                f"categories in order: column_types={{{plain(name)}: {plain(levels[:3])}}} would "
                "be from lowest to highest."
            )
    if kind == "ordinal" and len(levels) > _MAX_ORDINAL_LEVELS:
        raise ValueError(
            f"Column {plain(name)} has {len(levels)} ordered levels, more than "
            f"{_MAX_ORDINAL_LEVELS}. Pass their ranks as numbers instead."
        )
    if kind == "nominal":
        from ..generative._likelihoods import MAX_WIDTH

        if len(levels) > MAX_WIDTH:  # rare levels share an output; see CategoricalLikelihood
            levels.sort(key=lambda level: -int(counts[level]))
    return ColumnSchema(name, kind, tuple(levels))


def _listed_levels(name: Any, shown: Any, levels: list[Any]) -> ColumnSchema:
    schema = ColumnSchema(name, "ordinal", tuple(levels))
    if len(set(levels)) != len(levels):
        raise ValueError(
            f"The levels of column {plain(name)} in column_types repeat: {plain(levels)}."
        )
    unknown = np.isnan(_codes(shown, schema.levels))
    if unknown.any():
        raise ValueError(
            f"Column {plain(name)} holds {_some(np.asarray(shown, dtype=object)[unknown])}, not "
            f"one of its levels in column_types, {plain(levels)}."
        )
    return schema


def _times(name: Any, shown: Any, kind: str) -> ColumnSchema:
    counts = _counts(ColumnSchema(name, kind, unit="us"), shown)
    # the coarsest unit in which all are whole; finer than microseconds is not kept
    unit = next(
        u for u in ("D", "h", "m", "s", "ms", "us") if not (counts % (UNITS[u] // 1000)).any()
    )
    seen = lowest, highest = _range(counts / (UNITS[unit] // 1000))
    margin = np.floor(_TIME_MARGIN * (highest - lowest))
    limits = (lowest - margin, highest + margin)
    return ColumnSchema(name, kind, limits=limits, unit=unit, seen=seen)


def _range(numbers: NDArray[np.float64]) -> tuple[float, float]:
    return float(numbers.min()), float(numbers.max())


def _counts(schema: ColumnSchema, shown: Any) -> NDArray[np.float64]:
    """Return times as counts of the schema's unit since 1970, as floats."""
    import pandas as pd

    # for those without a time zone UTC changes nothing
    convert: Callable[[Any], Any] = (
        (lambda times: pd.to_datetime(times, utc=True).dt.tz_localize(None))
        if schema.kind == "date"
        else pd.to_timedelta
    )
    try:
        times = convert(_as_series(shown)).to_numpy()
    except (ValueError, TypeError, OverflowError) as error:
        raise ValueError(
            f"Column {plain(schema.name)} holds times, but {_some(shown)} cannot be read as such "
            f"({error}). Mark what is no time as missing."
        ) from error
    code = "datetime64" if schema.kind == "date" else "timedelta64"
    counts = times.astype(f"{code}[us]").astype(np.int64)
    return counts / (UNITS[schema.unit] // 1000)


def _numbers(name: Any, shown: Any) -> NDArray[np.float64]:
    """Return observed values as finite floats."""
    if hasattr(shown, "iloc"):
        if getattr(shown.dtype, "kind", "O") in "iuf" and shown.dtype != "category":
            numbers = shown.to_numpy(dtype=np.float64)
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


def _parsed(name: Any, shown: Any) -> NDArray[np.float64]:
    """Return objects or text as floats."""
    values, numbers = list(shown), np.empty(len(shown))
    bad = []
    for i, value in enumerate(values):
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
            f"({_some(blank)}). Pass missing_values={plain(blank[0])} to have them imputed."
        )
    raise ValueError(
        f"Column {plain(name)} holds numbers, but {_some(bad)} is not one. Mark such cells "
        "as missing, or name the column in categorical_features."
    )


def _codes(shown: Any, levels: tuple[Any, ...]) -> NDArray[np.float64]:
    """Return the codes of values, NaN for those that are no level."""
    import pandas as pd

    known = {level: code for code, level in enumerate(levels)}
    if len(shown) == 0:
        return np.empty(0)
    if isinstance(getattr(shown, "dtype", None), pd.CategoricalDtype):
        of_category = np.array([known.get(c, np.nan) for c in shown.cat.categories], dtype=float)
        return of_category[shown.cat.codes.to_numpy()]
    values = np.asarray(shown, dtype=object)
    return np.array([known.get(v, np.nan) if _hashable(v) else np.nan for v in values], dtype=float)


def _counted(name: Any, shown: Any) -> Counter[Any]:
    """Return how often each value occurs."""
    values = np.asarray(shown, dtype=object)
    if not all(_hashable(value) for value in values):
        raise ValueError(
            f"Column {plain(name)} holds lists, dicts or other values that cannot be levels, e.g. "
            f"{_some([v for v in values if not _hashable(v)])}. Leave the column out, or turn them "
            "into text."
        )
    return Counter(values.tolist())


def _in_order(levels: list[Any]) -> list[Any]:
    try:
        return sorted(levels)
    except TypeError:
        return sorted(levels, key=lambda level: (type(level).__name__, repr(level)))


def _hashable(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


def _as_series(values: Any) -> Any:
    import pandas as pd

    return values if hasattr(values, "iloc") else pd.Series(values)


def _some(values: Any) -> str:
    """Return a few values for a message, numpy's as plain numbers."""
    distinct = list(dict.fromkeys(plain(value)[:40] for value in list(values)[:200]))
    more = ", ..." if len(distinct) > _SHOWN else ""
    return ", ".join(distinct[:_SHOWN]) + more
