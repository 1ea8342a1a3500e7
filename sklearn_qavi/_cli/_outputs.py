"""Completed tables into files: text with only the missing cells replaced, or typed columns."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import numpy as np
import pandas as pd

from .._checks import plain
from .._files import writing_whole
from ._columns import Reading
from ._records import Dialect, cell_of, opened_for_writing, value_of
from ._tables import FrameTable, Part, Table, TextTable, is_text, suffix_of

__all__ = ["Limits", "Output", "files_of", "make_output"]

DRAW = "draw"
"""First column of a file with several draws."""

Limits = tuple[pd.DataFrame, pd.DataFrame]


def files_of(out: Path, n_draws: int | None) -> list[Path]:
    """Return the files that OUT means: one, or one for each draw if there is a ``{}`` in it."""
    if "{}" not in out.name:
        return [out]
    return [out.with_name(out.name.replace("{}", str(k + 1))) for k in range(n_draws or 1)]


class Output(ABC):
    """Where completed tables go; nothing is in place before all of it is written.

    Parameters
    ----------
    table : Table
        What is completed.
    files : list of pathlib.Path
        One, or one for each draw.
    n_draws : int or None
        Number of draws, None for point answers.
    bounded : list of Reading
        Columns that have intervals.
    apart : bool
        Whether each draw has a file of its own.

    Attributes
    ----------
    reads_missing_only : bool
        Whether completed rows that miss nothing are not looked at.
    """

    reads_missing_only = False

    def __init__(
        self,
        table: Table,
        files: Sequence[Path],
        n_draws: int | None,
        bounded: Sequence[Reading],
        *,
        apart: bool,
    ) -> None:
        self.table, self.files, self.n_draws = table, list(files), n_draws
        self.bounded = list(bounded)
        self.is_long = n_draws is not None and not apart
        if self.is_long and DRAW in table.names:
            raise ValueError(
                f"A column is called {plain(DRAW)} already, as the one that would tell draws "
                "apart; with {} in the name of OUT each draw gets a file of its own."
            )
        self._stack = ExitStack()

    @property
    def limit_names(self) -> list[str]:
        """Names of the columns of limits."""
        own = [self.table.names[column.position] or column.name for column in self.bounded]
        return [f"{name}_{end}" for name in own for end in ("low", "high")]

    def __enter__(self) -> Self:
        """Open what is written first."""
        with ExitStack() as stack:
            self._parts = stack.enter_context(writing_whole(self.files))
            self._open(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Put all in place, or nothing if something failed."""
        if error is None:
            try:
                self._finish()
            except BaseException as other:
                self._stack.__exit__(type(other), other, other.__traceback__)
                raise
        self._stack.__exit__(kind, error, trace)

    @abstractmethod
    def _open(self, stack: ExitStack) -> None: ...

    @abstractmethod
    def _finish(self) -> None: ...

    @abstractmethod
    def write(self, part: Part, completed: Sequence[pd.DataFrame], limits: Limits | None) -> None:
        """Write some rows, once for each draw."""


class TextOutput(Output):
    """Text tables, with the cells of a text table as they stood there."""

    def __init__(
        self, table: Table, files: Sequence[Path], *rest: Any, dialect: Dialect, apart: bool
    ) -> None:
        super().__init__(table, files, *rest, apart=apart)
        self.dialect = dialect
        self.reads_missing_only = isinstance(table, TextTable)
        self.same = isinstance(table, TextTable) and table.dialect.separator == dialect.separator
        self.end = table.end if isinstance(table, TextTable) else "\n"
        self.packed = suffix_of(self.files[0]).endswith(".gz")

    def _open(self, stack: ExitStack) -> None:
        """Open the files, and one more for each further draw that comes below the first."""
        more = (self.n_draws or 1) - 1 if self.is_long else 0
        first = self._parts[0]
        self._further = [first.with_name(f"{first.name}.{k + 2}") for k in range(more)]
        for file in self._further:
            stack.callback(file.unlink, missing_ok=True)
        self._streams: list[IO[bytes]] = [
            stack.enter_context(opened_for_writing(f, packed=self.packed)) for f in self._parts
        ]
        self._streams += [stack.enter_context(f.open("wb")) for f in self._further]
        header = self._header()
        for stream in self._streams[: len(self.files)]:
            stream.write(self.dialect.bom + self._bytes(header))
        self._owed = [""] * len(self._streams)  # a line break that the last line may do without

    def _bytes(self, text: str) -> bytes:
        try:
            return text.encode(self.dialect.encoding)
        except UnicodeEncodeError as error:
            sign = plain(text[error.start])
            raise ValueError(
                f"{sign} cannot be written in the encoding of the file, {self.dialect.encoding}."
            ) from error

    def _line(self, cells: Sequence[str]) -> str:
        return self.dialect.separator.join(cells)

    def _header(self) -> str:
        if isinstance(self.table, TextTable) and self.table.header is None:
            return ""
        sign = self.dialect.separator
        if isinstance(self.table, TextTable) and self.table.header is not None:
            cells = self._recast(self.table.header.cells)
        else:
            cells = [cell_of(name, sign) for name in self.table.names]
        more = [cell_of(name, sign) for name in self.limit_names]
        return self._line([*([DRAW] if self.is_long else []), *cells, *more]) + self.end

    def _recast(self, cells: Sequence[str]) -> list[str]:
        """Return raw cells for the separator of the output."""
        if self.same:
            return list(cells)
        return [cell_of(value_of(cell), self.dialect.separator) for cell in cells]

    def write(self, part: Part, completed: Sequence[pd.DataFrame], limits: Limits | None) -> None:
        """Write some rows, once for each draw."""
        ends = [record.end for record in part.records] or [self.end] * len(part)
        is_row = [bool(record.cells) for record in part.records] or [True] * len(part)
        more = self._limit_cells(part, limits)
        for k, frame in enumerate(completed):
            rows = self._rows(part, frame)
            lines, at = [self._owed[k]], 0
            owed = ""
            for end, row in zip(ends, is_row, strict=True):
                cells = []
                if row:
                    cells = [*([str(k + 1)] if self.is_long else []), *rows[at], *more[at]]
                    at += 1
                owed = "" if end else self.end
                lines.append(self._line(cells) + end)
            self._streams[k].write(self._bytes("".join(lines)))
            self._owed[k] = owed

    def _rows(self, part: Part, completed: pd.DataFrame) -> list[list[str]]:
        """Return the raw cells of the rows with the missing ones filled."""
        if isinstance(self.table, TextTable):
            rows = [self._recast(record.cells) for record in part.records if record.cells]
        else:
            rows = self._typed_rows(part)
        for column in self.table.modelled:
            missing = np.flatnonzero(part.missing[column.name])
            if not len(missing):
                continue
            values = completed[column.name].to_numpy(dtype=object)
            for i in missing:
                cells = rows[i]
                cells[column.position] = column.fill(
                    cells[column.position], values[i], self.dialect.separator
                )
        return rows

    def _typed_rows(self, part: Part) -> list[list[str]]:
        native = part.native
        assert native is not None
        columns = []
        for name in native:
            shown = [("" if pd.isna(v) else str(v)) for v in native[name].astype(object)]
            columns.append([cell_of(text, self.dialect.separator) for text in shown])
        return [list(row) for row in zip(*columns, strict=True)]

    def _limit_cells(self, part: Part, limits: Limits | None) -> list[list[str]]:
        cells: list[list[str]] = [[] for _ in range(len(part))]
        if limits is None:
            return cells
        sign = self.dialect.separator
        for column in self.bounded:
            missing = part.missing[column.name]
            ends = [end[column.name].to_numpy(dtype=object) for end in limits]
            for i, row in enumerate(cells):
                row += [cell_of(column.text_of(e[i]), sign) if missing[i] else "" for e in ends]
        return cells

    def _finish(self) -> None:
        """Put further draws below the first."""
        first = self._streams[0]
        for stream in self._streams[1:]:
            stream.close()
        for k, file in enumerate(self._further):
            first.write(self._bytes(self._owed[k]))
            with file.open("rb") as opened:
                while block := opened.read(2**20):
                    first.write(block)


class FrameOutput(Output):
    """Parquet, Feather and Excel files; all rows are held until the end."""

    def _open(self, stack: ExitStack) -> None:
        self._tables: list[list[pd.DataFrame]] = [[] for _ in range(self.n_draws or 1)]

    def write(self, part: Part, completed: Sequence[pd.DataFrame], limits: Limits | None) -> None:
        """Keep some rows, once for each draw."""
        native = self._native(part)
        for k, frame in enumerate(completed):
            out = native.copy()
            for column in self.table.modelled:
                out[column.name] = frame[column.name]
            for column in self.bounded if limits is not None else []:
                hidden = ~part.missing[column.name]
                for end, values in zip(("low", "high"), limits or (), strict=True):
                    out[f"{column.name}_{end}"] = values[column.name].mask(hidden)
            if self.is_long:
                out.insert(0, DRAW, k + 1)
            self._tables[k].append(out)

    def _native(self, part: Part) -> pd.DataFrame:
        """Return all columns with types."""
        if part.native is not None:
            return part.native
        rows = [record.cells for record in part.records if record.cells]
        out = {}
        for column, cells in zip(self.table.columns, zip(*rows, strict=True), strict=True):
            texts = [value_of(cell) for cell in cells]
            out[column.name] = [None if t.strip() in column.markers else t for t in texts]
        return pd.DataFrame(out, dtype=object)

    def _finish(self) -> None:
        names = [*([DRAW] if self.is_long else []), *self.table.names, *self.limit_names]
        if len(set(names)) < len(names) and suffix_of(self.files[0]) != ".xlsx":
            twice = sorted({name for name in names if names.count(name) > 1})
            raise ValueError(
                f"Column name(s) {', '.join(map(plain, twice))} occur more than once, which "
                f"{suffix_of(self.files[0])[1:]} files cannot hold; write a .csv file."
            )
        tables = [pd.concat(pieces, ignore_index=True) for pieces in self._tables]
        tables = [pd.concat(tables, ignore_index=True)] if self.is_long else tables
        for file, part, table in zip(self.files, self._parts, tables, strict=True):
            _write_frame(table.set_axis(names, axis=1), part, suffix_of(file))


def _write_frame(frame: pd.DataFrame, file: Path, suffix: str) -> None:
    if suffix == ".xlsx":
        with file.open("wb") as stream:
            frame.to_excel(stream, index=False, engine="openpyxl")
        return
    import pyarrow as pa
    import pyarrow.feather
    import pyarrow.parquet

    table = pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(None)
    if suffix == ".parquet":
        pyarrow.parquet.write_table(table, file)
    else:
        pyarrow.feather.write_feather(table, str(file))


def make_output(
    table: Table,
    files: Sequence[Path],
    n_draws: int | None,
    bounded: Sequence[Reading],
    *,
    apart: bool,
) -> Output:
    """Return the output for the format that the files' names say."""
    if not is_text(files[0]):
        return FrameOutput(table, files, n_draws, bounded, apart=apart)
    suffix = suffix_of(files[0])
    if isinstance(table, TextTable):
        dialect = table.dialect
        own = suffix_of(table.file)
        if (own[:4] == ".tsv") != (suffix[:4] == ".tsv"):
            separator = "\t" if suffix[:4] == ".tsv" else ";" if dialect.decimal == "," else ","
            dialect = Dialect(separator, dialect.decimal, dialect.encoding, dialect.bom)
    else:
        assert isinstance(table, FrameTable)
        dialect = Dialect("\t" if suffix[:4] == ".tsv" else ",", ".", "utf-8")
    return TextOutput(table, files, n_draws, bounded, dialect=dialect, apart=apart)
