"""TableEncoder: which columns there are, what stands in them, and the way back."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_array

from .._interrupts import all_or_nothing
from .._sklearn_compat import get_mask
from ._frames import Frame
from ._schema import NUMBERS, ColumnSchema, read_column

__all__ = ["EncodedTable", "TableEncoder"]

_TYPES = ("real", "positive", "integer", "count", "nominal", "ordinal")


@dataclass(frozen=True)
class EncodedTable:
    """The modelled columns of a table, or the cells of images.

    Parameters
    ----------
    values : ndarray of floats of shape (N, D)
        What the model sees before it standardises: numbers (logarithms of "positive" columns),
        codes of levels, counts of units of time; NaN where missing.
    observed : bool ndarray of shape (N, D)
        True where a cell is observed.
    """

    values: NDArray[Any]
    observed: NDArray[np.bool_]

    @property
    def incomplete_rows(self) -> NDArray[np.intp]:
        """Positions of the rows with a missing cell."""
        return np.flatnonzero(~self.observed.all(axis=1))

    def take(self, rows: NDArray[np.intp]) -> "EncodedTable":
        """Return some rows."""
        return EncodedTable(self.values[rows], self.observed[rows])


class TableEncoder:
    """Reads what columns hold, sets aside those without any value, and puts imputed values back.

    Parameters
    ----------
    missing_values : number or str, default=nan
        What marks a missing cell, besides None, NaN, NaT and NA in columns with types of their own.
    keep_empty_features : bool, default=False
        Whether columns without any value at fit are kept, filled with 0, or dropped.
    min_value, max_value : float or array-like of shape (n_features,)
        Bounds of imputed numbers.
    categorical_features : "from_dtype", None or array-like, default="from_dtype"
        Which columns hold levels, see `QAVIImputer`.
    column_types : dict or None, default=None
        What columns hold, see `QAVIImputer`.
    handle_unknown : {"error", "missing"}, default="error"
        What to do with levels that `fit` did not see.
    delta : dict or None, default=None
        What is added to imputed numbers, by name or position of the column, in original units.

    Attributes
    ----------
    schema_ : list of ColumnSchema
        What each column holds.
    is_empty_ : bool ndarray of shape (n_features,)
        Columns without any value at `fit`.
    n_levels_ : list of (int or None)
        Number of levels of each modelled column, None for numbers and times.
    """

    def __init__(
        self,
        *,
        missing_values: Any = np.nan,
        keep_empty_features: bool = False,
        min_value: Any = None,
        max_value: Any = None,
        categorical_features: Any = "from_dtype",
        column_types: dict[Hashable, Any] | None = None,
        handle_unknown: str = "error",
        delta: dict[Hashable, float] | None = None,
    ) -> None:
        self.missing_values = missing_values
        self.keep_empty_features = keep_empty_features
        self.min_value, self.max_value = min_value, max_value
        self.categorical_features = categorical_features
        self.column_types = column_types
        self.handle_unknown = handle_unknown
        self.delta = delta

    @all_or_nothing
    def fit(self, table: NDArray[Any] | Frame, names: Sequence[Hashable] | None = None) -> Self:
        """Read the columns and check what was said about them.

        Parameters
        ----------
        table : ndarray of shape (N, n_features) or Frame
            What was given to the estimator's ``fit``, checked.
        names : sequence of str, default=None
            Names of the columns; None takes the frame's, or ``x0``, ``x1``, ...
        """
        n_features = table.shape[1]
        if names is None:
            names = (
                table.names if isinstance(table, Frame) else [f"x{j}" for j in range(n_features)]
            )
        missing = self.missing(table)
        declared = self._declared(list(names))
        self.schema_ = [
            read_column(name, _column(table, j), missing[:, j], declared[j])
            for j, name in enumerate(names)
        ]
        self.is_empty_: NDArray[np.bool_] = np.asarray(missing.all(axis=0))
        self._check_empty(table)
        lower = self._limit(self.min_value, "min", -np.inf)
        upper = self._limit(self.max_value, "max", np.inf)
        if not (lower < upper).all():
            raise ValueError("One (or more) features have min_value >= max_value.")
        self.lower_, self.upper_ = lower[~self.is_empty_], upper[~self.is_empty_]
        self.shifts_ = self._shifts()
        self.n_levels_ = [schema.n_levels for schema in self.modelled]
        return self

    @classmethod
    def restored(
        cls,
        schema: list[ColumnSchema],
        lower: NDArray[np.float64],
        upper: NDArray[np.float64],
        parameters: Any,
    ) -> Self:
        """Return a fitted encoder from what `fit` learned.

        Parameters
        ----------
        schema : list of ColumnSchema
            What each column holds.
        lower, upper : ndarray of shape (D,)
            Bounds of the modelled columns.
        parameters : object
            Has the parameters as attributes.
        """
        names = ["missing_values", "keep_empty_features", "min_value", "max_value"]
        names += ["categorical_features", "column_types", "handle_unknown", "delta"]
        encoder = cls(**{name: getattr(parameters, name) for name in names})
        encoder.schema_ = schema
        encoder.is_empty_ = np.array([s.kind == "empty" for s in schema])
        encoder.lower_, encoder.upper_ = lower, upper
        encoder.shifts_ = encoder._shifts()
        encoder.n_levels_ = [s.n_levels for s in encoder.modelled]
        if not len(encoder.n_levels_) == len(lower) == len(upper):
            raise ValueError(f"{len(lower)} bounds for {len(encoder.n_levels_)} columns")
        return encoder

    @property
    def modelled(self) -> list[ColumnSchema]:
        """What each column with a value holds."""
        return [s for s, empty in zip(self.schema_, self.is_empty_, strict=True) if not empty]

    @property
    def gives_numbers(self) -> bool:
        """Whether a completed table fits into an array of floats."""
        return all(schema.gives_numbers for schema in self.modelled)

    def missing(self, table: NDArray[Any] | Frame) -> NDArray[np.bool_]:
        """Return which cells have no value, (N, n_features)."""
        if not isinstance(table, Frame):
            return get_mask(table, self.missing_values)
        return np.column_stack([self._missing_of(column) for column in table.columns])

    def encode(self, table: NDArray[Any] | Frame) -> EncodedTable:
        """Return the modelled columns.

        Parameters
        ----------
        table : ndarray of shape (N, n_features) or Frame
            A checked table.

        Raises
        ------
        ValueError
            If a cell does not fit its column; the message names both.
        """
        missing = self.missing(table)
        kept = np.flatnonzero(~self.is_empty_).tolist()
        if not isinstance(table, Frame) and all(
            s.kind in NUMBERS and s.is_linear for s in self.modelled
        ):
            values = table[:, kept].astype(np.float64)
            values[missing[:, kept]] = np.nan
            return EncodedTable(values, ~missing[:, kept])
        values = np.empty((len(table), len(kept)))
        observed = ~missing[:, kept]
        for i, j in enumerate(kept):
            column = _column(table, j)
            values[:, i], unknown = self.schema_[j].encode(column, missing[:, j])
            if unknown.any():
                self._handle_unknown(self.schema_[j], column, unknown)
                observed[unknown, i] = False
        return EncodedTable(values, observed)

    def from_model(self, imputed: NDArray[np.float64], *, whole: bool) -> NDArray[np.float64]:
        """Return imputed numbers (..., D) of the model as numbers in original units, in bounds.

        ``whole`` rounds columns of whole numbers. Levels stay codes and times counts.
        """
        out = np.empty_like(imputed)
        for j, schema in enumerate(self.modelled):
            out[..., j] = schema.from_model(
                imputed[..., j], whole=whole, shift=float(self.shifts_[j])
            )
            if schema.n_levels is None and not schema.unit:
                out[..., j] = np.clip(out[..., j], self.lower_[j], self.upper_[j])
        return out

    def decode(
        self,
        table: NDArray[Any] | Frame,
        imputed: NDArray[np.float64],
        observed: NDArray[np.bool_],
    ) -> NDArray[Any]:
        """Return the table without its empty columns, or with zeros there, and its holes filled.

        Parameters
        ----------
        table : ndarray of shape (N, n_features) or Frame
            The table that `encode` got; not changed.
        imputed : float64 ndarray of shape (N, D)
            What `from_model` gave, for the missing cells; what stands elsewhere is ignored. NaN
            leaves a cell without a value.
        observed : bool ndarray of shape (N, D)
            True where the value of ``table`` is to be kept.

        Returns
        -------
        completed : ndarray of shape (N, D) or (N, n_features)
            Arrays keep their floating type, and observed cells their bits. Frames become float
            where all columns are numbers, else object.
        """
        if isinstance(table, Frame):
            columns = self.decode_columns(table, imputed, observed)
            dtype = np.float64 if self.gives_numbers else object
            out = np.empty((len(table), len(columns)), dtype=dtype)
            for j, column in enumerate(columns):
                out[:, j] = _as_objects(column) if dtype is object else column.to_numpy(dtype)
            return out
        values = np.empty(imputed.shape, dtype=np.float64)
        for j, schema in enumerate(self.modelled):
            numbers = imputed[:, j]
            if schema.n_levels is not None:
                levels = np.append(np.array(schema.levels, dtype=np.float64), np.nan)
                numbers = levels[
                    np.where(np.isnan(numbers), len(schema.levels), numbers).astype(int)
                ]
            values[:, j] = numbers
        with np.errstate(over="ignore"):
            completed = np.where(observed, table[:, ~self.is_empty_], values.astype(table.dtype))
        if not self.keep_empty_features:
            return completed
        full = table.copy()
        full[:, self.is_empty_] = 0.0
        full[:, ~self.is_empty_] = completed
        return full

    def decode_columns(
        self,
        table: Frame,
        imputed: NDArray[np.float64],
        observed: NDArray[np.bool_],
        *,
        restore_integers: bool = False,
    ) -> list[Any]:
        """Return completed columns as pandas Series of the types that they came in.

        Parameters
        ----------
        table, imputed, observed : object
            See `decode`.
        restore_integers : bool, default=False
            Round whole numbers that were floats because of their holes, and make them integers.
        """
        columns = []
        place = 0
        for j, schema in enumerate(self.schema_):
            if self.is_empty_[j]:
                if self.keep_empty_features:
                    columns.append(table.columns[j].astype(object).map(lambda _: 0.0).astype(float))
                continue
            columns.append(
                _completed(schema, table.columns[j], imputed[:, place], observed[:, place])
            )
            if restore_integers and schema.kind in ("integer", "count"):
                columns[-1] = _as_integers(columns[-1])
            place += 1
        return columns

    def _missing_of(self, column: Any) -> NDArray[np.bool_]:
        missing = column.isna().to_numpy(dtype=bool)
        marker = self.missing_values
        if marker is None or (isinstance(marker, float) and np.isnan(marker)):
            return missing
        same = np.array([_same(v, marker) for v in column.astype(object)], dtype=bool)
        return missing | same

    def _declared(self, names: list[Hashable]) -> list[Any]:
        """Return what the user said of each column, None where nothing."""
        said: list[Any] = [None] * len(names)
        chosen = self.categorical_features
        if chosen is not None and not (isinstance(chosen, str) and chosen == "from_dtype"):
            for j in _positions(chosen, names, "categorical_features"):
                said[j] = "nominal"
        for key, kind in (self.column_types or {}).items():
            (j,) = _positions([key], names, "column_types")
            if not isinstance(kind, tuple | list) and kind not in _TYPES:
                raise ValueError(
                    f"column_types[{key!r}] must be one of {list(_TYPES)}, a pair of limits, or a "
                    f"list of levels in order; got {kind!r}."
                )
            said[j] = kind
        return said

    def _shifts(self) -> NDArray[np.float64]:
        """Return what is added to each modelled column."""
        names = [schema.name for schema in self.schema_]
        shifts = np.zeros(len(names))
        for key, shift in (self.delta or {}).items():
            (j,) = _positions([key], names, "delta")
            if self.schema_[j].kind not in NUMBERS:
                raise ValueError(
                    f"delta shifts numbers, but column {names[j]!r} is {self.schema_[j].kind}."
                )
            if not isinstance(shift, Real) or not np.isfinite(shift):
                raise ValueError(f"delta[{key!r}] must be a finite number, got {shift!r}.")
            shifts[j] = shift
        return shifts[~self.is_empty_]

    def _check_empty(self, table: NDArray[Any] | Frame) -> None:
        if self.keep_empty_features and isinstance(table, Frame):
            bad = [
                schema.name
                for schema, column in zip(self.schema_, table.columns, strict=True)
                if schema.kind == "empty" and getattr(column.dtype, "kind", "O") not in "iufO"
            ]
            if bad:
                raise ValueError(
                    f"keep_empty_features=True fills columns without any value with 0, which "
                    f"{bad} cannot hold. Drop them, or convert them to float."
                )

    def _handle_unknown(
        self, schema: ColumnSchema, column: Any, unknown: NDArray[np.bool_]
    ) -> None:
        if self.handle_unknown == "missing" or schema.kind == "empty":
            return
        found = list(dict.fromkeys(map(repr, column[unknown])))
        raise ValueError(
            f"Column {schema.name!r} holds level(s) that fit did not see: {', '.join(found[:5])}"
            f"{', ...' if len(found) > 5 else ''}. Fit on rows that have them, or pass "
            "handle_unknown='missing' to have such cells imputed."
        )

    def _limit(self, limit: Any, name: str, default: float) -> NDArray[np.float64]:
        n_features = len(self.is_empty_)
        if limit is None:
            limit = default
        if np.isscalar(limit):
            return np.full(n_features, limit, dtype=np.float64)
        limit = check_array(limit, ensure_all_finite=False, ensure_2d=False, dtype=np.float64)
        if limit.shape != (n_features,):
            raise ValueError(
                f"'{name}_value' should be of shape ({n_features},) when an array-like is "
                f"provided. Got {limit.shape}, instead."
            )
        return limit


def _column(table: NDArray[Any] | Frame, j: int) -> Any:
    return table.columns[j] if isinstance(table, Frame) else table[:, j]


def _same(value: Any, marker: Any) -> bool:
    return (type(value) is type(marker) and value == marker) or (
        not isinstance(value, str)
        and not isinstance(marker, str)
        and np.isscalar(value)
        and value == marker
    )


def _positions(chosen: Any, names: list[Hashable], parameter: str) -> list[int]:
    """Return the columns that a mask, a list of positions or a list of names means."""
    chosen = list(np.atleast_1d(np.asarray(chosen, dtype=object)))
    if chosen and all(isinstance(c, bool | np.bool_) for c in chosen):
        if len(chosen) != len(names):
            raise ValueError(
                f"{parameter} is a mask of {len(chosen)} entries, but X has {len(names)} columns."
            )
        return [j for j, c in enumerate(chosen) if c]
    positions = []
    for c in chosen:
        if c in names:
            positions.append(names.index(c))
        elif isinstance(c, int | np.integer) and -len(names) <= c < len(names):
            positions.append(int(c) % len(names))
        else:
            raise ValueError(
                f"{parameter} names {c!r}, which is no column of X: {names[:10]}"
                f"{', ...' if len(names) > 10 else ''}."
            )
    return positions


def _completed(
    schema: ColumnSchema, column: Any, imputed: NDArray[np.float64], observed: NDArray[np.bool_]
) -> Any:
    """Return a column with its holes filled, in its own type."""
    import pandas as pd

    holes = ~observed & ~np.isnan(imputed)
    if observed.all():
        return column
    kind = getattr(column.dtype, "kind", "O")
    if schema.kind in NUMBERS:
        return _completed_numbers(column, imputed, observed)
    if kind in "iuf" and not observed.any():  # nothing was shown that could have a type
        column = pd.Series(
            [None] * len(column), index=column.index, name=column.name, dtype=schema.dtype or object
        )
    values = schema.decode(imputed[holes])
    if isinstance(column.dtype, pd.CategoricalDtype):
        filled = column.astype(object).to_numpy(copy=True)
        filled[~observed] = None
        filled[holes] = values
        dtype = schema.dtype if isinstance(schema.dtype, pd.CategoricalDtype) else column.dtype
        return pd.Series(pd.Categorical(filled, dtype=dtype), index=column.index, name=column.name)
    if schema.unit:
        return _completed_times(schema, column, values, holes, observed)
    filled = column.astype(object).to_numpy(copy=True)
    if (~observed & ~holes).any():
        filled[~observed] = None
    filled[holes] = values
    out = pd.Series(filled, index=column.index, name=column.name, dtype=object)
    return out if kind == "O" and column.dtype == object else out.astype(column.dtype)


def _completed_numbers(
    column: Any, imputed: NDArray[np.float64], observed: NDArray[np.bool_]
) -> Any:
    import pandas as pd

    if (
        column.dtype == object
        or not hasattr(column.dtype, "kind")
        or column.dtype.kind not in "iuf"
    ):
        kept = pd.to_numeric(column.astype(object).where(observed), errors="coerce")
        numbers = np.where(observed, kept.to_numpy(dtype=np.float64), imputed)
        return pd.Series(numbers, index=column.index, name=column.name)
    out = column.copy()
    if column.dtype.kind in "iu":
        limits = np.iinfo(getattr(column.dtype, "numpy_dtype", column.dtype))
        imputed = np.clip(np.round(imputed), limits.min, limits.max)
        if imputed.size and limits.max > 2**53:  # the nearest float may be beyond the limit
            imputed = np.clip(imputed, -(2.0**63), np.nextafter(2.0**63, 0))
    out.iloc[np.flatnonzero(~observed)] = imputed[~observed].astype(
        getattr(column.dtype, "numpy_dtype", column.dtype)
    )
    return out


def _completed_times(
    schema: ColumnSchema,
    column: Any,
    values: NDArray[Any],
    holes: NDArray[np.bool_],
    observed: NDArray[np.bool_],
) -> Any:
    import pandas as pd

    zone = getattr(column.dtype, "tz", None)
    if column.dtype == object:
        first = column[observed].iloc[0] if observed.any() else None
        filled = column.to_numpy(copy=True)
        times = values.astype(f"{(values.dtype.kind == 'M' and 'datetime64') or 'timedelta64'}[us]")
        filled[holes] = [_like(first, time) for time in times]
        return pd.Series(filled, index=column.index, name=column.name, dtype=object)
    new = pd.Series(values)
    if zone is not None:
        new = new.dt.tz_localize("UTC").dt.tz_convert(zone)
    out = column.copy()
    out.iloc[np.flatnonzero(holes)] = new.astype(column.dtype).array
    return out


def _like(first: Any, time: Any) -> Any:
    """Return a time as an object of the kind of the column's first one."""
    import datetime

    import pandas as pd

    value = time.astype(object)
    if isinstance(first, pd.Timestamp):
        return (
            pd.Timestamp(value, tz=first.tz)
            if first.tz is None
            else (pd.Timestamp(value, tz="UTC").tz_convert(first.tz))
        )
    if isinstance(first, pd.Timedelta):
        return pd.Timedelta(value)
    if isinstance(first, datetime.datetime):
        return (
            value.replace(tzinfo=datetime.UTC).astimezone(first.tzinfo) if first.tzinfo else value
        )
    if isinstance(first, datetime.date):
        return value.date()
    return value


def _as_objects(column: Any) -> NDArray[Any]:
    out = np.empty(len(column), dtype=object)
    out[:] = list(column.astype(object))
    return out


def _as_integers(column: Any) -> Any:
    """Return a column of floats as integers, rounded."""
    if getattr(column.dtype, "kind", "O") != "f":
        return column
    return column.round().astype("Int64" if not isinstance(column.dtype, np.dtype) else "int64")
