"""Text tables as they stand in a file: raw cells, so that what is kept is written as it was."""

import codecs
import gzip
import io
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO, NamedTuple, cast

from .._checks import plain

__all__ = [
    "Dialect",
    "Record",
    "cell_of",
    "find_dialect",
    "opened_for_writing",
    "read_records",
    "split_cells",
    "value_of",
]

_BLOCK = 2**20
_SEPARATORS = ("\t", ";", "|", ",")  # the first of those that divide lines into as many cells
_BOMS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
_GZIP = b"\x1f\x8b"
_MOST_LINES = 100_000  # of one record: more is a quote that nobody closed
_HEAD = 200  # records that the separator and the decimal sign are read from
# a quoted cell up to the next separator; blanks may stand around its quotes
_QUOTED = re.compile(r' *"(?:[^"]++|"")*+"')


@dataclass(frozen=True)
class Dialect:
    """How a text table is written.

    Parameters
    ----------
    separator : str
        What stands between cells.
    decimal : str
        Decimal sign, "." or ",".
    encoding : str
        As Python names it.
    bom : bytes, default=b""
        What the file begins with before its text.
    """

    separator: str
    decimal: str
    encoding: str
    bom: bytes = b""

    @property
    def in_words(self) -> str:
        """What a user is told."""
        names = {"\t": "tabs"}
        parts = [f"separated by {names.get(self.separator, plain(self.separator))}"]
        parts += ["decimal comma"] if self.decimal == "," else []
        name = self.encoding.upper() if self.encoding.startswith("utf") else self.encoding
        return ", ".join([*parts, f"{name} with BOM" if self.bom else name])


class Record(NamedTuple):
    """A row of a text table: its cells as they stand there, its line break, its first line.

    Without ``cells`` it is a blank line, which is no row, and all of it is in ``end``.
    """

    cells: list[str]
    end: str
    line: int


def split_cells(line: str, separator: str) -> list[str] | None:
    """Return the raw cells of a line without its line break; None if a quote is not closed."""
    if '"' not in line:
        return line.split(separator)
    cells = _cells_of(separator).findall(line + separator)
    # what stands behind an open quote is part of no cell
    return cells if sum(map(len, cells)) + len(cells) == len(line) + 1 else None


@lru_cache
def _cells_of(separator: str) -> "re.Pattern[str]":
    """Return the pattern of a raw cell and the separator behind it."""
    sign = re.escape(separator)
    return re.compile(rf'( *"(?:[^"]++|"")*+"[^{sign}]*+|(?! *")[^{sign}]*+){sign}')


def value_of(cell: str) -> str:
    """Return the text that a raw cell stands for."""
    if '"' not in cell:
        return cell
    quoted = _QUOTED.match(cell)
    if quoted is None:
        return cell
    inside = quoted.group().lstrip(" ")[1:-1].replace('""', '"')
    return inside + cell[quoted.end() :].rstrip(" ")


def cell_of(value: str, separator: str, *, quoted: bool = False) -> str:
    """Return the raw cell for a text, in quotes if it needs them or is wanted in them."""
    if quoted or any(sign in value for sign in (separator, '"', "\n", "\r")):
        return '"' + value.replace('"', '""') + '"'
    return value


@contextmanager
def _opened(file: Path) -> Iterator[IO[bytes]]:
    """Open a file, unpacked if it is gzipped."""
    packed = file.suffix == ".gz"
    try:
        with gzip.open(file) if packed else file.open("rb") as stream:
            yield cast(IO[bytes], stream)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{file} is no whole gzip file ({error}).") from error


@contextmanager
def opened_for_writing(file: Path, *, packed: bool) -> Iterator[IO[bytes]]:
    """Open a file for bytes, which are gzipped if ``packed``."""
    with file.open("wb") as stream:
        if not packed:
            yield stream
            return
        # without a name and a time, so that the same table gives the same bytes
        with gzip.GzipFile("", "wb", 6, stream, mtime=0) as zipped:
            yield cast(IO[bytes], zipped)


def read_records(file: Path, dialect: Dialect) -> Iterator[Record]:
    """Yield the header and the rows, every one with as many cells as the header.

    Raises
    ------
    ValueError
        If a row has more or fewer cells, or a quote is not closed; the message says which line.
    """
    with _lines(file, dialect) as lines:
        yield from _even(_records(lines, dialect.separator), file)


@contextmanager
def _lines(file: Path, dialect: Dialect) -> Iterator[io.TextIOWrapper]:
    """Open a file for its lines, with their ends."""
    with _opened(file) as stream:
        stream.read(len(dialect.bom))
        text = io.TextIOWrapper(stream, dialect.encoding, newline="")
        try:
            yield text
        except UnicodeDecodeError as error:
            raise ValueError(
                f"{file} is not {dialect.encoding} ({error.reason}); --encoding says what it is."
            ) from error
        finally:
            text.detach()


def _records(lines: Iterable[str], separator: str) -> Iterator[Record]:
    """Yield records of one or more lines, which end where \\r, \\n or both stand."""
    open_lines: list[str] = []  # of a quoted cell that goes on in the next line
    first = 0
    for number, line in enumerate(lines, 1):
        if open_lines:
            open_lines.append(line)
            if number - first > _MOST_LINES:
                break
            if '"' not in line:
                continue
            line = "".join(open_lines)
        else:
            first = number
        body = line.rstrip("\r\n")
        cells = split_cells(body, separator)
        if cells is not None:
            yield Record(cells, line[len(body) :], first)
            open_lines = []
        elif not open_lines:
            open_lines = [line]
    if open_lines:
        raise ValueError(f"A quote that is opened in line {first} is not closed.")


def _even(records: Iterator[Record], file: Path) -> Iterator[Record]:
    """Pass on records that are as long as the first one; of blank lines the cells are dropped."""
    width = 0
    for record in records:
        cells, _, line = record
        is_blank = len(cells) == 1 and not cells[0].strip()
        if is_blank and width != 1:
            yield record._replace(cells=[], end=cells[0] + record.end)
            continue
        width = width or len(cells)
        if len(cells) == width:
            yield record
        else:
            raise ValueError(
                f"{file}: line {line} has {len(cells)} cell{'s' * (len(cells) != 1)}, the header "
                f"has {width}."
            )


def find_dialect(
    file: Path,
    *,
    separator: str | None = None,
    decimal: str | None = None,
    encoding: str | None = None,
) -> Dialect:
    """Return how a text table is written, as far as the user does not say it.

    Raises
    ------
    ValueError
        If the file is empty or holds no text.
    """
    bom, encoding = _find_encoding(file, encoding)
    unknown = Dialect("\n", ".", encoding, bom)
    lines = _head(file, unknown)
    if not any(line.strip() for line in lines):
        raise ValueError(f"{file} is empty.")
    if separator is None:
        separator = _find_separator(lines, prefer_tabs=".tsv" in file.suffixes)
    if decimal is None:
        decimal = _find_decimal(lines, separator)
    return Dialect(separator, decimal, encoding, bom)


def _head(file: Path, dialect: Dialect) -> list[str]:
    with _lines(file, dialect) as lines:
        return [lines.readline(_BLOCK) for _ in range(_HEAD)]


def _find_encoding(file: Path, wanted: str | None) -> tuple[bytes, str]:
    """Return the mark that the file begins with, and an encoding that all of it can be read in."""
    if wanted is not None:
        try:
            wanted = codecs.lookup(wanted).name
        except LookupError:
            raise ValueError(f"--encoding: Python knows no encoding {plain(wanted)}.") from None
    with _opened(file) as stream:
        start = stream.read(4)
        if start[:2] == _GZIP and file.suffix != ".gz":
            raise ValueError(f"{file} is gzipped; give it a name that ends in .gz.")
        bom = next((mark for mark in _BOMS if start.startswith(mark)), b"")
        if wanted is not None:
            fits = bom and _BOMS[bom].startswith(wanted.replace("-sig", ""))
            return (bom, _BOMS[bom]) if fits else (b"", wanted)
        if bom and bom != codecs.BOM_UTF8:
            return bom, _BOMS[bom]
        utf8, windows = (codecs.getincrementaldecoder(e)() for e in ("utf-8", "cp1252"))
        is_utf8 = is_windows = True
        block = start[len(bom) :]
        while block:
            if b"\0" in block:
                raise ValueError(f"{file} is not a text file.")
            is_utf8 = is_utf8 and _decodes(utf8, block)
            is_windows = is_windows and _decodes(windows, block)
            block = stream.read(_BLOCK)
    if is_utf8 and _decodes(utf8, b"", final=True):
        return bom, "utf-8"
    return bom, "cp1252" if is_windows else "latin-1"


def _decodes(decoder: codecs.IncrementalDecoder, block: bytes, *, final: bool = False) -> bool:
    try:
        decoder.decode(block, final)
    except UnicodeDecodeError:
        return False
    return True


def _find_separator(lines: Sequence[str], *, prefer_tabs: bool) -> str:
    if prefer_tabs:
        return "\t"
    widths = {separator: _widths(lines, separator) for separator in _SEPARATORS}
    even = [s for s, found in widths.items() if len(set(found)) == 1 and found[0] > 1]
    if even:
        return max(even, key=lambda s: widths[s][0])
    # a table that is uneven or has one column: what divides the header most, if anything does
    first = {s: (found or [1])[0] for s, found in widths.items()}
    most = max(_SEPARATORS, key=lambda s: first[s])
    return most if first[most] > 1 else ","


def _widths(lines: Sequence[str], separator: str) -> list[int]:
    records = list(_whole_records(lines, separator))
    return [len(r.cells) for r in records if r.cells != [""] or len(records) == 1]


def _find_decimal(lines: Sequence[str], separator: str) -> str:
    """Return a comma if numbers are written with it, and more of them than with a point."""
    if separator == ",":
        return "."
    counts = {".": 0, ",": 0}
    for record in _whole_records(lines, separator):
        for cell in record.cells:
            sign = re.fullmatch(
                r"[+-]?[0-9]+([.,])[0-9]+(?:[eE][+-]?[0-9]+)?", value_of(cell).strip()
            )
            if sign:
                counts[sign.group(1)] += 1
    return "," if counts[","] > counts["."] else "."


def _whole_records(lines: Sequence[str], separator: str) -> Iterator[Record]:
    """Yield records of the head of a file, which may end inside of a quoted cell."""
    try:
        yield from _records(lines, separator)
    except ValueError:
        return
