"""What options say about columns, once the names of the columns are known."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from .._checks import plain
from ..preprocessing import COLUMNS
from ._dates import DateFormat

__all__ = ["DEFAULT_MARKERS", "Wishes", "unique_names"]

DEFAULT_MARKERS = ("NA", "N/A", "n/a", "#N/A", "<NA>", "NaN", "nan", "NULL", "null")
"""Texts that mean missing unless the user says otherwise, besides empty cells."""

_KINDS = tuple(kind for kind, column in COLUMNS.items() if column.is_declarable)


@dataclass(frozen=True)
class Wishes:
    """What the user says about columns.

    Parameters
    ----------
    types, bounds : dict
        By position: what ``column_types`` takes, or a format of dates; pairs of bounds.
    ignored : set of int
        Positions of columns that are passed on.
    markers : frozenset of str
        Texts that mean missing.
    """

    types: dict[int, Any] = field(default_factory=dict)
    bounds: dict[int, tuple[float, float]] = field(default_factory=dict)
    ignored: frozenset[int] = frozenset()
    markers: frozenset[str] = frozenset(("", *DEFAULT_MARKERS))

    @classmethod
    def read(
        cls,
        names: Sequence[str],
        *,
        types: Sequence[str] = (),
        bounds: Sequence[str] = (),
        ignored: Sequence[str] = (),
        markers: Sequence[str] = (),
        only_these: bool = False,
    ) -> "Wishes":
        """Read the texts of options.

        Parameters
        ----------
        names : sequence of str
            Names of the columns, which may repeat; ``#3`` is the third one.
        types, bounds, ignored : sequence of str
            Values of ``--types``, ``--bounds`` and ``--ignore``.
        markers : sequence of str
            Values of ``--missing``.
        only_these : bool, default=False
            Whether nothing else means missing but empty cells.

        Raises
        ------
        ValueError
            If an option names no column, or says what is not known.
        """
        chosen = _pairs(types, names, "--types")
        found = {}
        limits = {
            _place(name, names, "--bounds"): _limits(text, "--bounds")
            for name, text in _pairs(bounds, names, "--bounds")
        }
        for name, text in chosen:
            place = _place(name, names, "--types")
            kind = _type_of(text)
            if isinstance(kind, tuple) and math.inf in map(abs, kind):
                limits[place] = kind  # one side alone: any numbers, cut off there
                continue
            found[place] = kind
        passed = [_place(name, names, "--ignore") for name in _listed(ignored, names)]
        known = () if only_these else DEFAULT_MARKERS
        marks = frozenset(["", *known, *(text.strip() for text in markers)])
        return cls(found, limits, frozenset(passed), marks)


def unique_names(names: Sequence[str]) -> list[str]:
    """Return names that differ, the columns' own where they do: ``#3`` is the third column."""
    stripped = [name.strip() for name in names]
    out = []
    for place, name in enumerate(stripped):
        out.append(name if name and stripped.count(name) == 1 else f"#{place + 1}")
    return out


def _place(name: str, names: Sequence[str], option: str) -> int:
    stripped = [n.strip() for n in names]
    found = [j for j, other in enumerate(stripped) if other == name.strip()]
    if len(found) == 1:
        return found[0]
    if name.startswith("#") and name[1:].isdigit() and 1 <= int(name[1:]) <= len(names):
        return int(name[1:]) - 1
    if found:
        places = " or ".join(f"#{j + 1}" for j in found)
        raise ValueError(f"{option}: {len(found)} columns are called {plain(name)}; say {places}.")
    shown = ", ".join(map(plain, names[:10])) + (", ..." if len(names) > 10 else "")
    raise ValueError(f"{option} names {plain(name)}, which is no column; there are {shown}.")


def _is_column(name: str, names: Sequence[str]) -> bool:
    try:
        _place(name, names, "")
    except ValueError as error:
        return "columns are called" in str(error)
    return True


def _split(text: str, is_one: Callable[[str], bool]) -> list[str]:
    """Divide a list at its commas, but not at those inside of a name."""
    parts, waiting = [], ""
    for part in text.split(","):
        waiting = f"{waiting},{part}" if waiting else part
        if is_one(waiting):
            parts.append(waiting)
            waiting = ""
    return [*parts, *(waiting.split(",") if waiting else [])]


def _listed(texts: Sequence[str], names: Sequence[str]) -> list[str]:
    return [one for text in texts for one in _split(text, lambda t: _is_column(t, names))]


def _pairs(texts: Sequence[str], names: Sequence[str], option: str) -> list[tuple[str, str]]:
    def is_pair(text: str) -> bool:
        return any(_is_column(name, names) for name, _ in _cuts(text))

    pairs = []
    for one in (part for text in texts for part in _split(text, is_pair)):
        cuts = _cuts(one)
        if not cuts:
            raise ValueError(f"{option}: {plain(one)} is not COLUMN=..., such as age=count.")
        pairs.append(next(((n, v) for n, v in cuts if _is_column(n, names)), cuts[0]))
    return pairs


def _cuts(text: str) -> list[tuple[str, str]]:
    """Return the ways to divide a text at an equals sign."""
    places = [place for place, sign in enumerate(text) if sign == "="]
    return [(text[:place], text[place + 1 :]) for place in places]


def _type_of(text: str) -> Any:
    if text in (*_KINDS, "date"):
        return text
    if text.startswith("date:"):
        return DateFormat(text.removeprefix("date:"))
    if "<" in text:
        return [category.strip() for category in text.split("<")]
    if ":" in text:
        return _limits(text, "--types")
    raise ValueError(
        f"--types: {plain(text)} is no type. There are {', '.join(_KINDS)}, date, date:%d.%m.%Y, "
        "limits such as 0:100, and categories in order such as 'low<middle<high'."
    )


def _limits(text: str, option: str) -> tuple[float, float]:
    low, found, high = text.partition(":")
    try:
        limits = float(low or "-inf"), float(high or "inf")
    except ValueError:
        found = ""
    if not found or not limits[0] < limits[1]:
        raise ValueError(f"{option}: {plain(text)} are no limits such as 0:100 or 0: or :100.")
    return limits
