"""TableEncoder: which columns there are, what stands in them, and the way back."""

import warnings
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_array

from .._checks import is_null, missing_in, plain, position_of
from .._interrupts import all_or_nothing
from ..exceptions import NumericTextWarning
from ._cells import Cells, floats_hold, holds_numeric_text
from ._columns import Column
from ._containers import as_array, build_container
from ._filling import complete_column, largest_number
from ._frames import Frame
from ._reading import DECLARABLE, Declared, class_declared, read_column
from ._relations import Relations, find_relations

__all__ = ["EncodedTable", "TableEncoder"]


@dataclass(frozen=True)
class EncodedTable:
    """The modelled columns of a table, or the cells of images.

    Parameters
    ----------
    values : ndarray of floats of shape (N, D)
        What the model sees before it standardizes: numbers (logarithms of "positive" columns),
        codes of categories, counts of units of time; NaN where missing.
    observed : bool ndarray of shape (N, D)
        True where inference sees a value, derived ones too.
    unseen : bool ndarray of shape (N, D) or None, default=None
        True where a cell has a value that inference ignores, a category that `fit` did not see.
    derived : bool ndarray of shape (N, D) or None, default=None
        True where a missing cell can have one value only, which ``values`` holds.
    """

    values: NDArray[Any]
    observed: NDArray[np.bool_]
    unseen: NDArray[np.bool_] | None = None
    derived: NDArray[np.bool_] | None = None

    @property
    def missing(self) -> NDArray[np.bool_]:
        """Cells that came without a value, (N, D)."""
        return self._open if self.derived is None else self._open | self.derived

    @property
    def incomplete_rows(self) -> NDArray[np.intp]:
        """Positions of the rows with a missing cell that could have several values."""
        return np.flatnonzero(self._open.any(axis=1))

    @property
    def _open(self) -> NDArray[np.bool_]:
        return ~self.observed if self.unseen is None else ~(self.observed | self.unseen)

    def take(self, rows: NDArray[np.intp] | slice) -> "EncodedTable":
        """Return some rows; those of a slice are not copied."""
        unseen, derived = (
            None if mask is None else mask[rows] for mask in (self.unseen, self.derived)
        )
        return EncodedTable(self.values[rows], self.observed[rows], unseen, derived)


class TableEncoder:
    """Reads what columns hold, sets aside those without any value, and puts imputed values back.

    Parameters
    ----------
    missing_values : number, str or None, default=nan
        What marks a missing cell, besides None, NaN, NaT and NA.
    keep_empty_features : bool, default=False
        Whether columns without any value at fit are kept, filled with 0, or dropped.
    min_value, max_value : float, array-like of shape (n_features,) or dict
        Bounds of imputed numbers; NaN is none.
    column_types : dict or None, default=None
        What columns hold, see `QAVIImputer`.
    handle_unknown : {"missing", "error"}, default="missing"
        What to do with categories that `fit` did not see.

    Attributes
    ----------
    schema_ : list of Column
        What each column holds.
    is_empty_ : bool ndarray of shape (n_features,)
        Columns without any value at `fit`.
    n_categories_ : list of (int or None)
        Number of categories of each modelled column, None for numbers and times.
    relations_ : list of Relations
        Exact linear relations between modelled columns that `find_relations` found.
    """

    def __init__(
        self,
        *,
        missing_values: Any = np.nan,
        keep_empty_features: bool = False,
        min_value: Any = None,
        max_value: Any = None,
        column_types: dict[Hashable, Any] | None = None,
        handle_unknown: str = "missing",
    ) -> None:
        self.missing_values = missing_values
        self.keep_empty_features = keep_empty_features
        self.min_value, self.max_value = min_value, max_value
        self.column_types = column_types
        self.handle_unknown = handle_unknown

    @all_or_nothing
    def fit(self, table: Frame) -> Self:
        """Read the columns and check what was said about them.

        Parameters
        ----------
        table : Frame
            What was given to the estimator's ``fit``, checked.
        """
        self._check_marker(table)
        missing = self.missing(table)
        declared = self._declared(table.names)
        self.schema_ = [
            read_column(
                name, table.columns[j], missing[:, j], declared[j], dtype=_type_of(table.native[j])
            )
            for j, name in enumerate(table.names)
        ]
        self.is_empty_: NDArray[np.bool_] = np.asarray(missing.all(axis=0))
        self._check_empty(table)
        _warn_numeric_text(table, missing, declared)
        self.lower_ = self._limits(self.min_value, "min", -np.inf)
        self.upper_ = self._limits(self.max_value, "max", np.inf)
        if not (self.lower_ < self.upper_).all():
            raise ValueError("One (or more) features have min_value >= max_value.")
        self.n_categories_ = [column.n_categories for column in self.modelled]
        self.relations_: list[Relations] = []
        return self

    def find_relations(self, table: EncodedTable) -> None:
        """Look for exact linear relations between numbers and times of the table of `fit`."""
        columns = [j for j, n in enumerate(self.n_categories_) if n is None]
        whole = [self.modelled[j].is_whole for j in columns]
        self.relations_ = find_relations(self.in_original_units(table.values), columns, whole)

    @classmethod
    def restored(
        cls,
        schema: list[Column],
        lower: NDArray[np.float64],
        upper: NDArray[np.float64],
        relations: list[Relations],
        parameters: Any,
    ) -> Self:
        """Return a fitted encoder from what `fit` learned.

        Parameters
        ----------
        schema : list of Column
            What each column holds.
        lower, upper : ndarray of shape (D,)
            Bounds of the modelled columns.
        relations : list of Relations
            Between them.
        parameters : object
            Has the parameters as attributes.
        """
        names = ["missing_values", "keep_empty_features", "min_value", "max_value"]
        names += ["column_types", "handle_unknown"]
        encoder = cls(**{name: getattr(parameters, name) for name in names})
        encoder.schema_ = schema
        encoder.is_empty_ = np.array([column.is_empty for column in schema])
        encoder.lower_, encoder.upper_, encoder.relations_ = lower, upper, relations
        encoder.n_categories_ = [column.n_categories for column in encoder.modelled]
        if not len(encoder.n_categories_) == len(lower) == len(upper):
            raise ValueError(f"{len(lower)} bounds for {len(encoder.n_categories_)} columns")
        return encoder

    @property
    def modelled(self) -> list[Column]:
        """What each column with a value holds."""
        return [column for column in self.schema_ if not column.is_empty]

    @property
    def gives_numbers(self) -> bool:
        """Whether a completed table fits into an array of floats."""
        return all(column.gives_numbers for column in self.modelled)

    def missing(self, table: Frame) -> NDArray[np.bool_]:
        """Return which cells have no value, (N, n_features)."""
        out = np.empty(table.shape, dtype=bool)
        for j, cells in enumerate(table.columns):
            out[:, j] = missing_in(cells, self.missing_values)
        return out

    def encode(self, table: Frame) -> EncodedTable:
        """Return the modelled columns.

        Parameters
        ----------
        table : Frame
            A checked table.

        Raises
        ------
        ValueError
            If a cell does not fit its column; the message names both.
        """
        missing = self.missing(table)
        kept = np.flatnonzero(~self.is_empty_).tolist()
        values = np.empty((len(table), len(kept)))
        unseen = np.zeros(values.shape, dtype=bool)
        for i, j in enumerate(kept):
            cells = table.columns[j]
            values[:, i], unseen[:, i] = self.schema_[j].encode(cells, missing[:, j])
            if self.handle_unknown == "error" and unseen[:, i].any():
                _refuse_unseen(self.schema_[j], cells[unseen[:, i]])
        return EncodedTable(values, ~(missing[:, kept] | unseen), unseen)

    def derive(self, table: EncodedTable) -> EncodedTable:
        """Return a table with those missing cells that the relations leave one value for.

        Values that their columns cannot hold are left out.
        """
        if not self.relations_:
            return table
        values = self.in_original_units(table.values)
        derived = np.zeros(table.observed.shape, dtype=bool)
        for relations in self.relations_:
            values, more = relations.derive(values, table.observed)
            derived |= more
        out, (lower, upper) = table.values.copy(), self._bounds
        for j in np.flatnonzero(derived.any(axis=0)).tolist():
            column, cells = self.modelled[j], np.flatnonzero(derived[:, j])
            good = column.admits(values[cells, j])
            good &= (values[cells, j] >= lower[j]) & (values[cells, j] <= upper[j])
            derived[cells[~good], j] = False
            out[cells[good], j] = column.to_model(values[cells[good], j])
        if not derived.any():
            return table
        return EncodedTable(out, table.observed | derived, table.unseen, derived)

    def keep_relations(
        self, imputed: NDArray[np.float64], table: EncodedTable, *, whole: bool, move: bool
    ) -> NDArray[np.float64]:
        """Return imputed numbers with derived ones in their places, and others as they can be.

        Parameters
        ----------
        imputed : ndarray of shape (..., N, D)
            What `from_model` gave.
        table : EncodedTable
            What `derive` gave.
        whole : bool
            As in `from_model`.
        move : bool
            Move the other missing cells so that the relations hold.
        """
        if not self.relations_:
            return imputed
        values, out = self.in_original_units(table.values), imputed
        for relations in self.relations_ if move else []:
            moved = relations.impose(out, values, table.observed, self._bounds, whole=whole)
            good = np.ones((*out.shape[:-1], 1), dtype=bool)
            for j in relations.columns.tolist():
                admitted = self.modelled[j].admits(moved[..., j], whole=whole)
                good[..., 0] &= admitted | table.observed[:, j]
            out = np.where(good, moved, out)
        return out if table.derived is None else np.where(table.derived, values, out)

    def was_seen(self, table: EncodedTable) -> NDArray[np.bool_]:
        """Return which cells hold numbers within the range of those of `fit`, (N, D)."""
        inside = np.empty(table.values.shape, dtype=bool)
        for j, column in enumerate(self.modelled):
            inside[:, j] = column.was_seen(table.values[:, j])
        return inside

    def in_original_units(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """Return what `encode` gave (N, D) in original units; categories stay codes."""
        out = np.array(values, dtype=np.float64)
        for j, column in enumerate(self.modelled):
            if not column.is_linear:
                out[:, j] = column.from_model(values[:, j])
        return out

    def from_model(self, imputed: NDArray[np.float64], *, whole: bool) -> NDArray[np.float64]:
        """Return imputed numbers (..., D) of the model as numbers in original units, in bounds.

        ``whole`` rounds columns of whole numbers. Categories stay codes and times counts.
        """
        out = np.empty_like(imputed)
        for j, column in enumerate(self.modelled):
            out[..., j] = column.from_model(imputed[..., j], whole=whole)
            if column.is_number:
                out[..., j] = np.clip(out[..., j], self.lower_[j], self.upper_[j])
        return out

    def decode(
        self,
        table: Frame,
        imputed: NDArray[np.float64],
        missing: NDArray[np.bool_],
        container: str = "default",
        *,
        more: NDArray[Any] | None = None,
        names: Sequence[Any] = (),
    ) -> Any:
        """Return the table without its empty columns, or with zeros there, and filled in.

        Parameters
        ----------
        table : Frame
            The table that `encode` got; not changed.
        imputed : float64 ndarray of shape (N, D)
            What `from_model` gave, for the missing cells; what stands elsewhere is ignored. It is
            what is returned, filled in, if an array of its shape and type is.
        missing : bool ndarray of shape (N, D)
            True where a cell is to be filled.
        container : {"default", "pandas", "polars"}, default="default"
            What to return. "default" is an array, or a pyarrow table if that is what came.
        more : ndarray of shape (N, n_more), default=None
            Columns to append.
        names : sequence of str, default=()
            Names of all columns that are returned.

        Returns
        -------
        completed : ndarray, DataFrame or pyarrow.Table
            Observed cells are those of the table, and types too.
        """
        if container == "default" and table.container == "pyarrow":
            container = "pyarrow"
        parts = self._parts(table, imputed, missing)
        shape = (len(table), len(parts))
        if container == "default" and table.container != "array" and self._fits_floats(table):
            floats = (
                _as_floats(column, table.columns[j], numbers, gaps)
                for j, column, numbers, gaps in parts
            )
            return as_array(floats, shape, _float_type(table), more, imputed)
        columns = (
            complete_column(table.native[j], column, numbers, gaps)
            for j, column, numbers, gaps in parts
        )
        if container == "default":
            dtype = np.dtype(object)
            if table.container == "array" and all(c.fits(table.dtype) for _, c, *_ in parts):
                dtype = table.dtype
            return as_array(columns, shape, dtype, more, imputed)
        completed = list(columns)
        declared = map(class_declared, self._declared([column.name for column in self.schema_]))
        said_whole = [said is not None and said.is_whole for said in declared]
        completed = [
            _as_integers(cells) if said_whole[j] else cells
            for cells, (j, *_) in zip(completed, parts, strict=True)
        ]
        return build_container(container, completed, list(names), table.index, more)

    def overflows(
        self, table: Frame, imputed: NDArray[np.float64], missing: NDArray[np.bool_]
    ) -> NDArray[np.bool_]:
        """Return the missing cells whose value is not finite in the column's type, (N, D)."""
        kept = np.flatnonzero(~self.is_empty_)
        most = np.array([largest_number(table.native[j]) for j in kept])
        return missing & ~(np.isfinite(imputed) & (np.abs(imputed) <= most))

    @property
    def _bounds(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """What imputed values of each modelled column stay within, in original units."""
        limits = np.array([getattr(c, "limits", (-np.inf, np.inf)) for c in self.modelled])
        numbers = np.array([column.is_number for column in self.modelled])
        lower = np.where(numbers, self.lower_, -np.inf)
        upper = np.where(numbers, self.upper_, np.inf)
        return np.maximum(limits[:, 0], lower), np.minimum(limits[:, 1], upper)

    def _parts(
        self, table: Frame, imputed: NDArray[np.float64], missing: NDArray[np.bool_]
    ) -> list[tuple[int, Column, NDArray[np.float64], NDArray[np.bool_]]]:
        """Return the columns to give back: position, column, imputed numbers, missing cells."""
        parts, place = [], 0
        for j, column in enumerate(self.schema_):
            if not column.is_empty:
                parts.append((j, column, imputed[:, place], missing[:, place]))
                place += 1
            elif self.keep_empty_features:
                gaps = missing_in(table.columns[j], self.missing_values)
                parts.append((j, column, np.zeros(len(table)), gaps))
        return parts

    def _fits_floats(self, table: Frame) -> bool:
        """Return whether an array of floats holds all observed cells of a table as they are."""
        return self.gives_numbers and all(
            floats_hold(cells[~missing_in(cells, self.missing_values)], _type_of(native))
            for cells, native, empty in zip(
                table.columns, table.native, self.is_empty_, strict=True
            )
            if self.keep_empty_features or not empty
        )

    def _check_marker(self, table: Frame) -> None:
        """Refuse a marker of a type that no column has, which could mark nothing."""
        marker = self.missing_values
        is_text = isinstance(marker, str)
        if is_null(marker) or (table.has_text if is_text else table.has_numbers):
            return
        raise ValueError(
            "'X' and 'missing_values' types are expected to be both numerical or both text, but "
            f"missing_values={plain(marker)} and no column of X holds "
            f"{'text' if is_text else 'numbers'}. NaN, None, NaT "
            "and NA count as missing in any case."
        )

    def _declared(self, names: list[Hashable]) -> list[Declared]:
        """Return what the user said of each column, None where nothing."""
        said: list[Declared] = [None] * len(names)
        for key, declared in (self.column_types or {}).items():
            j = position_of(key, names, "column_types")
            if not isinstance(declared, tuple | list) and declared not in DECLARABLE:
                raise ValueError(
                    f"column_types[{plain(key)}] must be one of {list(DECLARABLE)}, a pair of "
                    f"limits, or a list of categories in order; got {plain(declared)}."
                )
            said[j] = declared
        return said

    def _check_empty(self, table: Frame) -> None:
        empty = [column.name for column in self.schema_ if column.is_empty]
        if not empty:
            return
        if not self.keep_empty_features:
            if len(empty) < len(self.schema_):
                warnings.warn(
                    f"Skipping features without any observed values: {plain(empty)}. At least one "
                    "observed value is needed to impute a feature.",
                    UserWarning,
                    stacklevel=7,
                )
            return
        bad = [
            column.name
            for column, cells in zip(self.schema_, table.columns, strict=True)
            if column.is_empty and getattr(cells.dtype, "kind", "O") not in "iufO"
        ]
        if bad:
            raise ValueError(
                f"keep_empty_features=True fills columns without any value with 0, which "
                f"{plain(bad)} cannot hold. Drop them, or convert them to float."
            )

    def _limits(self, limit: Any, name: str, default: float) -> NDArray[np.float64]:
        """Return a bound of each modelled column; NaN, or one of what is no number, is none."""
        n_features = len(self.is_empty_)
        names = [column.name for column in self.schema_]
        if isinstance(limit, dict) or (hasattr(limit, "items") and _are_names(limit.index, names)):
            limits = self._limits_by_name(dict(limit.items()), f"{name}_value", names)
        elif limit is None or np.isscalar(limit):
            limits = np.full(n_features, default if limit is None else limit, dtype=np.float64)
        else:
            limits = check_array(limit, ensure_all_finite=False, ensure_2d=False, dtype=np.float64)
            if limits.shape != (n_features,):
                raise ValueError(
                    f"'{name}_value' should be of shape ({n_features},) when an array-like is "
                    f"provided. Got {limits.shape}, instead."
                )
        is_number = np.array([column.is_number for column in self.schema_])
        limits = np.where(np.isnan(limits) | ~is_number, default, limits)
        return np.asarray(limits[~self.is_empty_])

    def _limits_by_name(
        self, chosen: dict[Any, Any], parameter: str, names: list[Hashable]
    ) -> NDArray[np.float64]:
        limits = np.full(len(names), np.nan)
        for key, limit in chosen.items():
            j = position_of(key, names, parameter)
            column = self.schema_[j]
            if not column.is_number:
                raise ValueError(
                    f"{parameter} bounds numbers, but column {plain(names[j])} is {column.kind}."
                )
            if not isinstance(limit, Real):
                raise ValueError(f"{parameter}[{plain(key)}] must be a number, got {plain(limit)}.")
            limits[j] = limit
        return limits


def _refuse_unseen(column: Column, values: Cells) -> None:
    found = list(dict.fromkeys(plain(value) for value in values))
    raise ValueError(
        f"Column {plain(column.name)} holds categories that fit did not see: "
        f"{', '.join(found[:5])}{', ...' if len(found) > 5 else ''}. Fit on rows that have them, "
        "or pass handle_unknown='missing' to have inference ignore them."
    )


def _warn_numeric_text(table: Frame, missing: NDArray[np.bool_], declared: list[Declared]) -> None:
    """Warn of columns of text that may be meant as numbers."""
    found, blanks, blank_text = [], [], []
    for j, name in enumerate(table.names):
        blank = None if declared[j] else holds_numeric_text(table.columns[j], missing[:, j])
        if blank is not None:
            found.append(name)
            blanks += [f"{plain(text)} in {plain(name)}" for text in blank]
            blank_text += blank
    if not found:
        return
    about_blanks = ""
    if blanks:
        about_blanks = (
            f" Blank text ({', '.join(blanks)}) is a category as well; "
            f"missing_values={plain(blank_text[0])} marks it as missing."
        )
    warnings.warn(
        f"Column(s) {plain(found)} hold numbers written as text. They are taken as text, each "
        "distinct text a category. If they are numbers, pass "
        f"column_types={{{plain(found[0])}: 'real'}}; if they are codes, "
        "'nominal' there ends this warning." + about_blanks,
        NumericTextWarning,
        stacklevel=7,
    )


def _type_of(native: Any) -> Any:
    """Return the type of a column that is not one of an array."""
    if isinstance(native, np.ndarray):
        return None
    return getattr(native, "type", None) or getattr(native, "dtype", None)


def _as_floats(
    column: Column, cells: Cells, numbers: NDArray[np.float64], missing: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Return a completed column as floats; means of whole numbers stay as they are."""
    out = np.empty(len(missing))
    shown = cells[~missing]
    if getattr(shown.dtype, "kind", "O") == "O":
        shown = np.array([float(value) for value in shown])
    out[~missing] = np.asarray(shown, dtype=np.float64)
    out[missing] = column.decode(numbers[missing]).astype(np.float64)
    return out


def _float_type(table: Frame) -> np.dtype[Any]:
    """Return the type of an array of floats for a dataframe of numbers."""
    types = {getattr(column, "dtype", None) for column in table.native}
    if all(isinstance(dtype, np.dtype) and dtype.kind == "f" for dtype in types):
        return np.result_type(*types)
    return np.dtype(np.float64)


def _are_names(labels: Any, names: list[Hashable]) -> bool:
    """Return whether the labels of a pandas Series are columns."""
    return all(label in names for label in labels)


def _as_integers(cells: Cells) -> Any:
    """Return a column of floats as integers, rounded; others as they are."""
    import pandas as pd

    if hasattr(cells, "zip_with"):  # polars
        import polars as pl

        return cells.round().cast(pl.Int64) if cells.dtype.is_float() else cells
    if getattr(cells.dtype, "kind", "O") != "f":
        return cells
    if isinstance(cells, np.ndarray):
        return np.round(cells).astype(np.int64)
    nullable = pd.api.types.is_extension_array_dtype(cells.dtype)
    return cells.round().astype("Int64" if nullable else "int64")
