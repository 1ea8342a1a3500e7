"""What the columns of a text table hold, and how what is put into them is written."""

import datetime
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .._checks import plain
from ._dates import FORMATS, DateFormat
from ._records import cell_of, value_of

__all__ = ["ColumnScan", "NumberFormat", "Reading", "is_identifier", "why_identifier"]

_NUMBERS = {
    sign: re.compile(rf"[+-]?(?:([0-9]+)(?:[{sign}]([0-9]*))?|[{sign}]([0-9]+))([eE][+-]?[0-9]+)?")
    for sign in (".", ",")
}
_PLAIN = {
    sign: re.compile(rf"(?:[+-]?(?:0|[1-9][0-9]*+)(?:[{sign}][0-9]*+)?\n)*+") for sign in (".", ",")
}
"""Numbers without an exponent, one a line: what almost all columns of numbers hold."""
_CODE = re.compile(r"[+-]?0[0-9]")
_MOST_DECIMALS = 15
_LOOKED_AT = 10_000  # cells that tell identifiers from categories
_FEW = 10  # as many distinct texts may all be categories
_SUSPECT = ("?", "-", "--", ".", "N.A.", "n.a.")  # texts that often mean missing
_MOST_ODD = 3  # texts among numbers that are remembered


@dataclass(frozen=True)
class NumberFormat:
    """How the numbers of a column are written.

    Parameters
    ----------
    decimals : int, default=0
        Most digits after the decimal sign.
    sign : str, default="."
        The decimal sign.
    digits : int, default=1
        Most digits that count, of numbers with an exponent.
    exponent : str, default=""
        "e" or "E" if a number is written with an exponent.
    """

    decimals: int = 0
    sign: str = "."
    digits: int = 1
    exponent: str = ""

    def write(self, number: float) -> str:
        """Return a number as text, with no more digits than the column shows."""
        if self.exponent:
            text = f"{number:.{self.digits}g}".replace("e", self.exponent)
        else:
            text = f"{number:.{self.decimals}f}"
        if not text.strip("-0."):
            text = text.removeprefix("-")
        return text.replace(".", self.sign)

    def widened(self, text: str, found: "re.Match[str]") -> "NumberFormat":
        """Return the format that holds one more number as well."""
        whole, after, alone, exponent = found.groups()
        fraction = after or alone or ""
        decimals = max(self.decimals, min(len(fraction), _MOST_DECIMALS))
        digits = max(self.digits, len(((whole or "") + fraction).lstrip("0")))
        kept = self.exponent or (exponent or "")[:1]
        return NumberFormat(decimals, self.sign, min(digits, _MOST_DECIMALS), kept)


@dataclass(frozen=True)
class Reading:
    """How a column of a text table is read and written.

    Parameters
    ----------
    name : str
        What the imputer calls the column; no other column has this name.
    position : int
        Place of the column.
    kind : {"number", "date", "text", "ignored", "empty"}
        What is made of its cells; those of ignored and empty columns are passed on.
    markers : frozenset of str
        Texts that mean missing.
    number : NumberFormat, default=NumberFormat()
        How numbers are written.
    date : DateFormat or None, default=None
        How dates are written.
    quoted : bool, default=False
        Whether all cells stand in quotes.
    n_missing, n_observed : int, default=0
        Number of cells.
    declared : object, default=None
        What the imputer is told of the column, see ``column_types``.
    why : str, default=""
        Why the column is ignored.
    hint : str, default=""
        What the user may want to say of it.
    """

    name: str
    position: int
    kind: str
    markers: frozenset[str]
    number: NumberFormat = NumberFormat()
    date: DateFormat | None = None
    quoted: bool = False
    n_missing: int = 0
    n_observed: int = 0
    declared: Any = None
    why: str = ""
    hint: str = ""

    @property
    def is_modelled(self) -> bool:
        """Whether the imputer sees the column."""
        return self.kind in ("number", "date", "text")

    def values(self, cells: Sequence[str]) -> "tuple[pd.Series, NDArray[np.bool_]]":
        """Return what raw cells stand for as the imputer takes it, and which mean missing.

        Raises
        ------
        ValueError
            If a cell is no number or no date where it must be.
        """
        gone = cells_that_mean(self.markers, cells)
        missing = np.zeros(len(cells), dtype=bool)
        if gone:
            missing = np.array([cell in gone for cell in cells], dtype=bool)
        if self.kind == "number":
            shown = [cell for cell in cells if cell not in gone] if gone else cells
            numbers = np.full(len(cells), np.nan)
            found: Sequence[object] | None = plain_numbers(shown, self.number.sign)
            numbers[~missing] = found or [self._value(value_of(c).strip()) for c in shown]
            return pd.Series(numbers, name=self.name), missing
        known = {c: None if c in gone else self._value(value_of(c).strip()) for c in set(cells)}
        values = [known[cell] for cell in cells]
        if self.kind == "date":
            times = np.array(values, dtype="datetime64[us]")
            return pd.Series(times, name=self.name), missing
        return pd.Series(values, dtype=object, name=self.name), missing

    def _value(self, text: str) -> object:
        if self.kind == "number":
            number = number_of(text, self.number.sign)
            if number is None:
                raise ValueError(
                    f"Column {plain(self.name)} holds {plain(text)}, which is no number; "
                    f"--missing {plain(text)} if it means missing."
                )
            return number
        if self.kind == "date" and self.date is not None:
            time = self.date.read(text)
            if time is None:
                raise ValueError(
                    f"Column {plain(self.name)} holds {plain(text)}, which is no date written as "
                    f"{plain(self.date.pattern)}; --missing {plain(text)} if it means missing."
                )
            return time
        return text

    def text_of(self, value: object) -> str:
        """Return an imputed value as text."""
        if self.kind == "date" and self.date is not None:
            return self.date.write(cast(datetime.datetime, pd.Timestamp(value).to_pydatetime()))
        if self.kind == "number":
            return self.number.write(float(cast(float, value)))
        return str(value)

    def fill(self, cell: str, value: object, separator: str) -> str:
        """Return the raw cell that takes the place of one that means missing.

        Blanks around a marker stay, as in ``1, ?, 3``.
        """
        text = self.text_of(value)
        if '"' in cell or self.quoted:
            return cell_of(text, separator, quoted=True)
        inside = cell.strip()
        before = cell[: len(cell) - len(cell.lstrip())]
        after = cell[len(cell.rstrip()) :] if inside else ""
        filled = before + text + after
        return cell_of(filled if cell_of(text, separator) == text else text, separator)

    def taken_as(self, kind: str, learned: Mapping[str, Any] | None = None) -> "Reading":
        """Return the column read as one that was learned from, see `description`."""
        number, date = self.number, self.date or DateFormat("%Y-%m-%d")
        if learned is not None:
            number = NumberFormat(**{**learned["number"], "sign": number.sign})
            date = DateFormat(**learned["date"]) if learned["date"] else date
        return replace(self, kind=kind, number=number, date=date, declared=None, hint="")

    def description(self) -> dict[str, Any]:
        """Return how the column is read, as JSON can hold it."""
        number, date = vars(self.number), None if self.date is None else vars(self.date)
        return {"name": self.name, "kind": self.kind, "number": number, "date": date}


def number_of(text: str, sign: str) -> float | None:
    """Return the number that a text is, None if it is none; 007 is a code."""
    if not _NUMBERS[sign].fullmatch(text) or _CODE.match(text):
        return None
    number = float(text.replace(sign, "."))
    return number if math.isfinite(number) else None


def plain_numbers(texts: Sequence[str], sign: str) -> list[float] | None:
    """Return the numbers that all of some texts are; None if one is not, or has an exponent."""
    block = "\n".join([*texts, ""])
    if not _PLAIN[sign].fullmatch(block):
        return None
    return [float(text) for text in block.replace(sign, ".").split("\n")[:-1]]


def cells_that_mean(markers: frozenset[str], cells: Iterable[str]) -> set[str]:
    """Return the raw cells that stand for one of some texts."""
    return {cell for cell in set(cells) if value_of(cell).strip() in markers}


def is_identifier(n_distinct: int, n_observed: int) -> bool:
    """Return whether texts differ too much to be categories."""
    return n_distinct > _FEW and 2 * n_distinct > n_observed


def why_identifier(n_distinct: int, n_observed: int, name: str) -> str:
    """Return why a column of identifiers or free text is ignored."""
    return (
        f"{n_distinct:,} of {n_observed:,} texts are distinct, so they say nothing about "
        f"each other; --types {plain(f'{name}=nominal')} has it modelled all the same"
    )


@dataclass
class ColumnScan:
    """Reads a column part by part, and says at the end what it holds.

    Parameters
    ----------
    name : str
        What the imputer calls the column.
    position : int
        Place of the column.
    markers : frozenset of str
        Texts that mean missing.
    sign : str
        Decimal sign of the table.
    formats : tuple of DateFormat, default=FORMATS
        Formats of dates to try.
    """

    name: str
    position: int
    markers: frozenset[str]
    sign: str
    formats: Iterable[DateFormat] = FORMATS
    n_missing: int = 0
    n_observed: int = 0
    number: NumberFormat = field(init=False)
    are_quoted: bool = True
    are_whole: bool = True
    lowest: float = math.inf
    not_numbers: dict[str, int] = field(default_factory=dict)
    n_looked_at: int = 0
    distinct: set[str] = field(default_factory=set)
    next_of_sequence: float | None = None
    is_sequence: bool = True

    def __post_init__(self) -> None:
        """Begin with a format of whole numbers."""
        self.number = NumberFormat(sign=self.sign)
        self.candidates = list(self.formats)

    def update(self, cells: Sequence[str]) -> None:
        """Read some more cells."""
        gone = cells_that_mean(self.markers, cells)
        n_gone = sum(map(cells.count, gone))
        self.n_missing += n_gone
        self.n_observed += len(cells) - n_gone
        if n_gone == len(cells) or self._is_settled:
            return
        raw = [cell for cell in cells if cell not in gone] if gone else cells
        if self.are_quoted:
            self.are_quoted = all(cell.lstrip()[:1] == '"' for cell in raw)
        observed = [value_of(cell).strip() for cell in raw]
        if self.n_looked_at < _LOOKED_AT:
            looked_at = observed[: _LOOKED_AT - self.n_looked_at]
            self.n_looked_at += len(looked_at)
            self.distinct.update(looked_at)
        shown = set(observed)
        self._read_numbers(shown, observed)
        for text in shown:
            if not self.candidates:
                break
            self.candidates = [f for f in self.candidates if f.read(text) is not None]

    @property
    def _is_settled(self) -> bool:
        """Whether more cells can say nothing new: texts, as many as are looked at."""
        return (
            self.n_looked_at == _LOOKED_AT
            and len(self.not_numbers) > _MOST_ODD
            and not self.candidates
            and not self.are_quoted
        )

    def _read_numbers(self, shown: set[str], observed: Sequence[str]) -> None:
        if len(self.not_numbers) > _MOST_ODD:
            return
        texts = list(shown)
        found = plain_numbers(texts, self.sign)
        if found is not None:
            self.lowest = min(self.lowest, *found, math.inf)
            fractions = [text.partition(self.sign)[2] for text in texts if self.sign in text]
            if any(fractions):
                self.are_whole = False
            decimals = min(max(map(len, fractions), default=0), _MOST_DECIMALS)
            digits = max(len(text.replace(self.sign, "").lstrip("+-0")) for text in texts)
            self.number = replace(
                self.number,
                decimals=max(decimals, self.number.decimals),
                digits=max(min(digits, _MOST_DECIMALS), self.number.digits),
            )
            numbers = dict(zip(texts, found, strict=True)) if self.is_sequence else {}
        else:
            numbers = {}
            for text in shown:
                number = number_of(text, self.sign)
                if number is None:
                    self.not_numbers.setdefault(text, 0)
                    if len(self.not_numbers) > _MOST_ODD:
                        return
                    continue
                numbers[text] = number
                self._read_number(text, number)
        for text in self.not_numbers.keys() & shown:
            self.not_numbers[text] += observed.count(text)
        if self.is_sequence:
            self._follow(observed, numbers)

    def _read_number(self, text: str, number: float) -> None:
        found = _NUMBERS[self.sign].fullmatch(text)
        if found is not None and (found.group(2) or found.group(3) or found.group(4)):
            self.number = self.number.widened(text, found)
            self.are_whole = False
        elif found is not None and len(text) > self.number.digits:
            self.number = self.number.widened(text, found)
        self.lowest = min(self.lowest, number)

    def _follow(self, observed: Sequence[str], numbers: Mapping[str, float]) -> None:
        """See whether the column counts the rows."""
        for text in observed:
            number = numbers.get(text)
            first = self.next_of_sequence is None
            if number is None or not (
                number in (0, 1) if first else number == self.next_of_sequence
            ):
                self.is_sequence = False
                return
            self.next_of_sequence = number + 1

    @property
    def _odd_ones(self) -> str:
        """What to say of a few texts among numbers."""
        odd = self.not_numbers
        n_odd = sum(odd.values())
        if not odd or len(odd) > _MOST_ODD or 2 * n_odd > self.n_observed:
            return ""
        shown = " ".join(f"--missing {plain(text)}" for text in odd)
        return f"is numbers but for {n_odd:,} cells; {shown} if they mean missing"

    @property
    def _suspects(self) -> str:
        """What to say of texts that often mean missing, among others."""
        found = [text for text in _SUSPECT if text in self.distinct]
        shown = " ".join(f"--missing {plain(text)}" for text in found)
        return f"holds {', '.join(map(plain, found))}; {shown} to have it imputed" if found else ""

    def finish(self, declared: Any = None, *, ignored: bool = False) -> Reading:
        """Return what the column holds.

        Parameters
        ----------
        declared : str, tuple, list, DateFormat or None, default=None
            What the user says.
        ignored : bool, default=False
            Whether the user wants it ignored.
        """
        kind, told, why, hint, date = self._kind(declared, ignored=ignored)
        return Reading(
            self.name,
            self.position,
            kind,
            self.markers,
            self.number,
            date,
            self.are_quoted and self.n_observed > 0,
            self.n_missing,
            self.n_observed,
            told,
            why,
            hint,
        )

    def _kind(
        self, declared: Any, *, ignored: bool
    ) -> tuple[str, Any, str, str, DateFormat | None]:
        if ignored:
            return "ignored", None, "--ignore says so", "", None
        if self.n_observed == 0:
            return "empty", None, "", "", None
        if declared == "date" or isinstance(declared, DateFormat):
            return self._declared_date(declared)
        if declared == "nominal" or isinstance(declared, list):
            return "text", declared, "", "", None
        if declared is not None:
            return "number", declared, "", "", None
        if not self.not_numbers:
            return self._numbers()
        if self.candidates:
            return "date", None, "", self._ambiguity, self.candidates[0]
        n_distinct = len(self.distinct)
        if is_identifier(n_distinct, self.n_looked_at):
            why = self._odd_ones or why_identifier(n_distinct, self.n_looked_at, self.name)
            return "ignored", None, why, "", None
        return "text", "nominal", "", self._odd_ones or self._suspects, None

    def _numbers(self) -> tuple[str, Any, str, str, DateFormat | None]:
        if self.is_sequence and self.n_missing == 0 and self.n_observed > _FEW:
            forced = plain(f"{self.name}=real")
            why = f"it counts the rows; --types {forced} has it modelled all the same"
            return "ignored", None, why, "", None
        told = None
        if self.are_whole:
            told = "count" if self.lowest >= 0 and self.n_observed >= _FEW else "integer"
        return "number", told, "", "", None

    def _declared_date(
        self, declared: "str | DateFormat"
    ) -> tuple[str, Any, str, str, DateFormat | None]:
        if isinstance(declared, DateFormat):
            return "date", None, "", "", declared
        if not self.candidates:
            named = plain(f"{self.name}=date:%d.%m.%Y")
            raise ValueError(
                f"Column {plain(self.name)} was declared to hold dates, but no format known here "
                f"fits all of its cells. --types {named} would name one."
            )
        return "date", None, "", self._ambiguity, self.candidates[0]

    @property
    def _ambiguity(self) -> str:
        """What to say where the order of day and month is not plain from the cells."""
        first, others = self.candidates[0], self.candidates[1:]
        swapped = first.pattern.replace("%d", "%_").replace("%m", "%d").replace("%_", "%m")
        if all(other.pattern != swapped for other in others):
            return ""
        order = "day" if first.pattern.index("%d") < first.pattern.index("%m") else "month"
        named = plain(f"{self.name}=date:{swapped}")
        return f"is read as dates with the {order} first; --types {named} for the other order"
