"""Tables of files, read part by part: text as it stands, and Parquet, Feather and Excel files."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .._checks import plain
from ._columns import ColumnScan, NumberFormat, Reading, is_identifier, number_of, why_identifier
from ._options import Wishes, unique_names
from ._records import Dialect, Record, find_dialect, read_records, value_of

__all__ = [
    "FrameTable",
    "Part",
    "Table",
    "TextTable",
    "is_text",
    "needed_for",
    "read_frame",
    "suffix_of",
]

_TEXT = (".csv", ".tsv", ".txt")
_NEEDS = {".parquet": "pyarrow", ".feather": "pyarrow", ".xlsx": "openpyxl"}
_SUFFIXES = (*_TEXT, *(f"{suffix}.gz" for suffix in _TEXT), *_NEEDS)
_SCANNED = 20_000  # rows that are read at one time to see what columns hold


def suffix_of(file: Path) -> str:
    """Return the part of a file's name that says its format.

    Raises
    ------
    ValueError
        If the format is not known.
    """
    name = file.name.lower()
    found = [suffix for suffix in _SUFFIXES if name.endswith(suffix)]
    if not found:
        raise ValueError(
            f"The name {plain(file.name)} does not say the format; it must end in one of "
            f"{', '.join(_SUFFIXES)}."
        )
    return max(found, key=len)


def is_text(file: Path) -> bool:
    """Return whether a file's name says that it is a text table."""
    return suffix_of(file) not in _NEEDS


def needed_for(file: Path) -> None:
    """Raise if the library for a format is not installed.

    Raises
    ------
    ImportError
        The message says how to install it.
    """
    name = _NEEDS.get(suffix_of(file))
    if name is None:
        return
    try:
        __import__(name)
    except ImportError as error:
        raise ImportError(
            f"{file.name} needs {name}, which is not installed; pip install {name} brings it."
        ) from error


@dataclass(frozen=True)
class Part:
    """Some rows of a table.

    Parameters
    ----------
    start : int
        Position of the first of them.
    frame : pandas.DataFrame
        The columns that are modelled, as the imputer takes them.
    missing : dict of ndarray
        By name of a modelled column, its missing cells.
    records : list of Record
        The rows as they stand in a text file, with blank lines.
    native : pandas.DataFrame or None
        The rows of other files.
    """

    start: int
    frame: pd.DataFrame
    missing: Mapping[str, NDArray[np.bool_]]
    records: Sequence[Record] = ()
    native: "pd.DataFrame | None" = None

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.frame)


class Table(ABC):
    """A table in a file.

    Attributes
    ----------
    names : list of str
        Names of the columns as they stand in the file.
    columns : list of Reading
        What each of them holds.
    unique : list of str
        The same, made to differ.
    bounds : dict
        By position of a column, what imputed numbers stay within.
    ignored : frozenset of int
        Positions of columns that the user wants ignored.
    n_rows : int
        Number of rows.
    order : list of str or None
        Order of the modelled columns, None for that of the file.
    """

    names: list[str]
    unique: list[str]
    columns: list[Reading]
    bounds: dict[int, tuple[float, float]]
    ignored: frozenset[int]
    n_rows: int
    order: list[str] | None = None

    @abstractmethod
    def parts(self, n_rows: int) -> Iterator[Part]:
        """Yield the rows, so many at a time."""

    @property
    @abstractmethod
    def in_words(self) -> str:
        """What was read, for the user."""

    @property
    def modelled(self) -> list[Reading]:
        """The columns that the imputer sees."""
        found = [column for column in self.columns if column.is_modelled]
        order = self.order
        return found if order is None else sorted(found, key=lambda c: order.index(c.name))

    @property
    def n_missing(self) -> int:
        """Number of missing cells that can be imputed."""
        return sum(column.n_missing for column in self.modelled)

    @abstractmethod
    def rows_at_random(self) -> pd.DataFrame:
        """Return the modelled columns of the rows that are kept at hand, in their order."""

    def sample(self, n_rows: int, seed: int) -> pd.DataFrame:
        """Return so many rows at random of those at hand, in their order."""
        frame = self.rows_at_random()
        if n_rows >= len(frame):
            return frame
        chosen = np.random.default_rng(seed).choice(len(frame), n_rows, replace=False)
        return frame.iloc[np.sort(chosen)].reset_index(drop=True)


class TextTable(Table):
    """A text table; it is read from the file anew each time, and never held whole.

    Parameters
    ----------
    file : pathlib.Path
        Where it is.
    dialect : Dialect
        How it is written.
    wishes : callable
        Given the names, returns what the user says about columns.
    has_header : bool, default=True
        Whether the first line holds names.
    n_kept : int, default=20000
        Rows that are kept at hand; of more, so many are chosen at random.
    seed : int, default=0
        Chooses them.
    """

    def __init__(
        self,
        file: Path,
        dialect: Dialect,
        wishes: Any,
        *,
        has_header: bool = True,
        n_kept: int = 20_000,
        seed: int = 0,
    ) -> None:
        self.file, self.dialect, self.has_header = file, dialect, has_header
        first = next((r for r in read_records(file, dialect) if r.cells), None)
        if first is None:
            raise ValueError(f"{file} is empty.")
        self.header = first if has_header else None
        self.end = first.end or "\n"
        width = len(first.cells)
        self.names = [value_of(c) for c in first.cells] if has_header else [""] * width
        self.unique = unique_names(self.names)
        said = wishes(self.names if has_header else self.unique)
        self.bounds, self.ignored = said.bounds, said.ignored
        self._kept = _Kept(n_kept, seed)
        self._scan(said)

    @classmethod
    def open(
        cls,
        file: Path,
        wishes: Any,
        *,
        separator: str | None,
        decimal: str | None,
        encoding: str | None,
        **options: Any,
    ) -> "TextTable":
        """Find out how a file is written, as far as it is not said, and what it holds."""
        dialect = find_dialect(file, separator=separator, decimal=decimal, encoding=encoding)
        return cls(file, dialect, wishes, **options)

    @property
    def in_words(self) -> str:
        """What was read, for the user."""
        return f"{self.n_rows:,} rows, {len(self.names):,} columns, {self.dialect.in_words}"

    @property
    def looks_headless(self) -> bool:
        """Whether what is taken for names are numbers, one and all."""
        names = [name.strip() for name in self.names if name.strip()]
        return (
            self.header is not None
            and bool(names)
            and all(number_of(name, self.dialect.decimal) is not None for name in names)
        )

    def _scan(self, wishes: Wishes) -> None:
        scans = [
            ColumnScan(name, place, wishes.markers, self.dialect.decimal, **_formats(wishes, place))
            for place, name in enumerate(self.unique)
        ]
        self.n_rows = 0
        for records in self._batches(_SCANNED):
            rows = [record.cells for record in records if record.cells]
            self._kept.update(rows, self.n_rows)
            self.n_rows += len(rows)
            for scan, cells in zip(scans, zip(*rows, strict=True), strict=False):
                scan.update(cells)
        self.columns = [
            scan.finish(wishes.types.get(scan.position), ignored=scan.position in wishes.ignored)
            for scan in scans
        ]

    def _batches(self, n_rows: int) -> Iterator[list[Record]]:
        """Yield records after the header, with so many rows at a time and the blank lines there."""
        batch: list[Record] = []
        n, in_header = 0, self.has_header
        for record in read_records(self.file, self.dialect):
            if in_header:
                in_header = not record.cells
                continue
            batch.append(record)
            n += bool(record.cells)
            if n == n_rows:
                yield batch
                batch, n = [], 0
        if batch:
            yield batch

    def parts(self, n_rows: int) -> Iterator[Part]:
        """Yield the rows, so many at a time."""
        start = 0
        for records in self._batches(n_rows):
            rows = [record.cells for record in records if record.cells]
            yield Part(start, *self._read(rows), records)
            start += len(rows)

    def rows_at_random(self) -> pd.DataFrame:
        """Return the modelled columns of the rows that are kept at hand, in their order."""
        return self._read(self._kept.rows)[0]

    def _read(self, rows: Sequence[list[str]]) -> tuple[pd.DataFrame, dict[str, NDArray[np.bool_]]]:
        """Return the modelled columns of some rows, and their missing cells."""
        cells = list(zip(*rows, strict=True)) or [()] * len(self.names)
        read = {c.name: c.values(cells[c.position]) for c in self.modelled}
        columns = {name: values for name, (values, _) in read.items()}
        frame = pd.DataFrame(columns, index=range(len(rows)))
        return frame, {name: gone for name, (_, gone) in read.items()}


class _Kept:
    """Rows chosen at random from a stream of them, each as likely as any other."""

    def __init__(self, n: int, seed: int) -> None:
        self._n, self._rng = n, np.random.default_rng(seed)
        self._found: list[tuple[int, list[str]]] = []

    def update(self, rows: Sequence[list[str]], start: int) -> None:
        """Look at some more rows, the first of which has this position."""
        room = max(self._n - len(self._found), 0)
        self._found += list(enumerate(rows[:room], start))
        positions = np.arange(start + room, start + len(rows))
        places = self._rng.integers(0, positions + 1)
        for k in np.flatnonzero(places < self._n).tolist():
            self._found[places[k]] = (int(positions[k]), rows[room + k])

    @property
    def rows(self) -> list[list[str]]:
        """The rows in their order."""
        return [row for _, row in sorted(self._found, key=lambda found: found[0])]


def _formats(wishes: Wishes, place: int) -> dict[str, Any]:
    """Return the formats of dates to try; none where the user says that a column is no date."""
    declared = wishes.types.get(place)
    return {} if declared in (None, "date") and place not in wishes.ignored else {"formats": ()}


def read_frame(file: Path) -> pd.DataFrame:
    """Read a Parquet, Feather or Excel file."""
    needed_for(file)
    suffix = suffix_of(file)
    try:
        if suffix == ".xlsx":
            cells = pd.read_excel(file, dtype=object, keep_default_na=False, na_values=[""])
            return cells.infer_objects()
        import pyarrow.feather
        import pyarrow.parquet

        read = pyarrow.parquet.read_table if suffix == ".parquet" else pyarrow.feather.read_table
        table = read(file)
        return table.to_pandas(types_mapper=pd.ArrowDtype, ignore_metadata=True)
    except Exception as error:
        if isinstance(error, OSError) and error.strerror:
            raise
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{file} cannot be read as {suffix[1:]}: {first}") from error


class FrameTable(Table):
    """A table of typed columns, held whole.

    Parameters
    ----------
    frame : pandas.DataFrame
        The table.
    wishes : callable
        Given the names, returns what the user says about columns.
    """

    def __init__(self, frame: pd.DataFrame, wishes: Any) -> None:
        self.names = [str(name) for name in frame.columns]
        self.native = frame.set_axis(unique_names(self.names), axis=1)
        self.unique = list(self.native.columns)
        said = wishes(self.names)
        self.bounds, self.ignored = said.bounds, said.ignored
        self.n_rows = len(frame)
        self.columns, self._read = [], {}
        for place, name in enumerate(self.native.columns):
            values = _without_markers(self.native[name], said.markers)
            self._read[name] = values
            self.columns.append(_reading(name, place, values, said))

    @property
    def in_words(self) -> str:
        """What was read, for the user."""
        return f"{self.n_rows:,} rows, {len(self.names):,} columns"

    def parts(self, n_rows: int) -> Iterator[Part]:
        """Yield the rows, so many at a time."""
        for start in range(0, self.n_rows, n_rows):
            rows = slice(start, start + n_rows)
            frame = pd.DataFrame(
                {c.name: self._read[c.name].iloc[rows] for c in self.modelled}
            ).reset_index(drop=True)
            missing = {name: frame[name].isna().to_numpy(dtype=bool) for name in frame}
            yield Part(start, frame, missing, native=self.native.iloc[rows].reset_index(drop=True))

    def rows_at_random(self) -> pd.DataFrame:
        """Return the modelled columns of all rows."""
        columns = {c.name: self._read[c.name] for c in self.modelled}
        return pd.DataFrame(columns).reset_index(drop=True)


def _without_markers(values: "pd.Series", markers: frozenset[str]) -> "pd.Series":
    """Return a column whose markers are null."""
    types = pd.api.types
    if types.is_bool_dtype(values.dtype):
        return values
    if types.is_numeric_dtype(values.dtype):
        numbers = [n for text in markers if (n := number_of(text, ".")) is not None]
        return values.mask(values.isin(numbers)) if numbers else values
    if not (types.is_object_dtype(values.dtype) or types.is_string_dtype(values.dtype)):
        return values
    marked = [isinstance(cell, str) and cell.strip() in markers for cell in values]
    return values.mask(np.array(marked, dtype=bool)) if any(marked) else values


def _reading(name: str, place: int, values: "pd.Series", wishes: Wishes) -> Reading:
    """Say what is made of a typed column."""
    types = pd.api.types
    missing = values.isna()
    shown = values[~missing]
    declared = wishes.types.get(place)
    kind, why = "text", ""
    if place in wishes.ignored:
        kind, why = "ignored", "--ignore says so"
    elif len(shown) == 0:
        kind = "empty"
    elif types.is_bool_dtype(values.dtype) or isinstance(values.dtype, pd.CategoricalDtype):
        kind = "text"
    elif types.is_numeric_dtype(values.dtype):
        kind = "number"
    elif types.is_datetime64_any_dtype(values.dtype) or types.is_timedelta64_dtype(values.dtype):
        kind = "date"
    elif declared is None:
        kind, why = _kind_of_objects(name, shown)
    if declared == "date" or hasattr(declared, "pattern"):
        raise ValueError(f"--types: dates in {plain(name)} must be dates in the file already.")
    number = NumberFormat(_decimals(shown)) if kind == "number" else NumberFormat()
    n_missing = int(missing.sum())
    return Reading(
        name, place, kind, wishes.markers, number,
        n_missing=n_missing, n_observed=len(shown), declared=declared, why=why,
    )  # fmt: skip


def _kind_of_objects(name: str, shown: "pd.Series") -> tuple[str, str]:
    found = pd.api.types.infer_dtype(shown, skipna=True)
    if found in ("date", "datetime", "datetime64", "timedelta", "timedelta64"):
        return "date", ""
    if found in ("integer", "floating", "mixed-integer-float", "decimal"):
        return "number", ""
    if found not in ("string", "boolean"):
        return "ignored", f"values of this type ({found}) cannot be imputed"
    n_distinct = shown.nunique()
    if is_identifier(n_distinct, len(shown)):
        return "ignored", why_identifier(n_distinct, len(shown), name)
    return "text", ""


def _decimals(shown: "pd.Series") -> int:
    """Return the most digits after the point of a column of numbers."""
    numbers = shown.astype(float).to_numpy()
    for decimals in range(15):
        if np.array_equal(np.round(numbers, decimals), numbers):
            return decimals
    return 15
