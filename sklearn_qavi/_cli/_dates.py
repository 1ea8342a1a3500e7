"""Formats of dates: those that all cells of a column are written in, to the letter."""

import datetime
from dataclasses import dataclass

__all__ = ["FORMATS", "DateFormat"]


@dataclass(frozen=True)
class DateFormat:
    """A format of dates.

    Parameters
    ----------
    pattern : str
        As `datetime.datetime.strptime` takes it.
    padded : bool, default=True
        Whether numbers have leading zeros, 03.01. and not 3.1.
    """

    pattern: str
    padded: bool = True

    def read(self, text: str) -> datetime.datetime | None:
        """Return the time that a text stands for, None if it is not written so."""
        try:
            time = datetime.datetime.strptime(text, self.pattern)
        except ValueError:
            return None
        return time if self.write(time) == text else None

    def write(self, time: datetime.datetime) -> str:
        """Return a time as text."""
        pattern = self.pattern
        if not self.padded:
            for code, number in (("%d", time.day), ("%m", time.month), ("%H", time.hour)):
                pattern = pattern.replace(code, str(number))
        return time.strftime(pattern)


_DAYS = (
    "%Y-%m-%d",
    "%Y/%m/%d",
    "%d.%m.%Y",
    "%d/%m/%Y",
    "%m/%d/%Y",
    "%d-%m-%Y",
    "%m-%d-%Y",
    "%d.%m.%y",
    "%d/%m/%y",
    "%m/%d/%y",
    "%d %b %Y",
    "%d-%b-%Y",
    "%d %B %Y",
    "%B %d, %Y",
    "%b %d, %Y",
    "%Y%m%d",
)
_TIMES = (
    " %H:%M",
    " %H:%M:%S",
    "T%H:%M",
    "T%H:%M:%S",
    "T%H:%M:%SZ",
    " %H:%M:%S.%f",
    "T%H:%M:%S.%f",
)

FORMATS = tuple(
    DateFormat(day + time, padded)
    for padded in (True, False)
    for time in ("", *_TIMES)
    for day in _DAYS
)
"""What is tried, the first one first."""
