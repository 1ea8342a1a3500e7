"""Columns of times: dates, with or without a time of day, and durations."""

import datetime
from abc import abstractmethod
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from .._checks import plain
from ._cells import Cells, cell_type_of, object_array, objects_of, some, whole_within
from ._columns import Array, Given, Measured

__all__ = ["Date", "Duration", "Times"]

_UNITS = {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
_UNITS["D"] = 24 * _UNITS["h"]
_MARGIN = 0.1  # share of the observed range that imputed times may lie beyond either end


def _microseconds(time: datetime.datetime) -> int:
    return int(np.datetime64(time, "us").astype(np.int64))


@dataclass(frozen=True, kw_only=True)
class Times(Measured):
    """A column of times, which the model sees as counts of a unit.

    Parameters
    ----------
    unit : str
        Unit that times are counted in, as numpy names it.

    Attributes
    ----------
    numpy_code : str
        Name of the numpy type.
    python_range : tuple of int
        Smallest and largest time that a Python object holds, in microseconds.
    """

    unit: str

    numpy_code: ClassVar[str]
    python_range: ClassVar[tuple[int, int]]
    is_whole = True

    @classmethod
    def learn(
        cls,
        name: Hashable,
        shown: Cells,
        given: Given = None,
        *,
        dtype: object = None,
    ) -> Self:
        """Say which times a column holds, and the coarsest unit in which all are whole."""
        counts = cls(name, unit="us")._encoded(shown)  # finer than microseconds is not kept
        unit = next(
            u for u in ("D", "h", "m", "s", "ms", "us") if not (counts % _microseconds_of(u)).any()
        )
        counts = counts / _microseconds_of(unit)
        lowest, highest = float(counts.min()), float(counts.max())
        margin = np.floor(_MARGIN * (highest - lowest))
        return cls(
            name,
            dtype=dtype,
            limits=(lowest - margin, highest + margin),
            seen=(lowest, highest),
            cell_type=cell_type_of(objects_of(shown)),
            unit=unit,
        )

    @property
    def gives_numbers(self) -> bool:
        """Whether floats hold all values as they are."""
        return False

    @staticmethod
    @abstractmethod
    def _converted(times: Cells) -> Cells:
        """Return a series of what can be read as times as pandas' own, in UTC."""

    def _encoded(self, shown: Cells) -> Array:
        import pandas as pd

        try:
            series = shown if hasattr(shown, "iloc") else pd.Series(shown)
            times = self._converted(series).to_numpy()
        except (ValueError, TypeError, OverflowError) as error:
            raise ValueError(
                f"Column {plain(self.name)} holds times, but {some(shown)} cannot be read as such "
                f"({error}). Mark what is no time as missing."
            ) from error
        counts = times.astype(f"{self.numpy_code}[us]").astype(np.int64)
        return np.asarray(counts / _microseconds_of(self.unit))

    def from_model(self, numbers: Array, *, whole: bool = True) -> Array:
        """Return counts of the unit, whole ones in any case, within the limits."""
        return super().from_model(np.round(numbers))

    def decode(self, numbers: Array) -> NDArray[np.generic]:
        """Return times in the unit of the column."""
        return numbers.astype(np.int64).astype(f"{self.numpy_code}[{self.unit}]")

    def as_times(self, numbers: Array, unit: str) -> NDArray[np.generic]:
        """Return counts of the column's unit as times in another unit, within what it can hold."""
        own, wanted = _UNITS[self.unit], _UNITS[unit]
        most = (2**63 - 1) * wanted // own
        counts = [count * own // wanted for count in whole_within(numbers, -most, most)]
        return np.array(counts, dtype=np.int64).astype(f"{self.numpy_code}[{unit}]")

    def as_objects(self, numbers: Array, shown: Iterable[object]) -> NDArray[np.object_]:
        """Return times as objects of the type of the first observed cell, or of those of `fit`."""
        like = next(iter(shown), None)
        cell_type = self.cell_type if like is None else cell_type_of([like])
        counts = np.clip(self.as_times(numbers, "us").astype(np.int64), *self.python_range)
        times = counts.astype(f"{self.numpy_code}[us]")
        zone = getattr(like, "tzinfo", None)
        return object_array([_time_object(time, cell_type, zone) for time in times])

    def fits(self, dtype: np.dtype[np.generic]) -> bool:
        """Return whether an array of a type has room for the column's values."""
        return dtype.kind in "OUSmM"

    def examples(self) -> NDArray[np.generic]:
        """Return an empty array of the column's type in numpy."""
        return np.empty(0, dtype=f"{self.numpy_code}[us]")


class Date(Times):
    """Dates, with or without a time of day and a time zone."""

    kind = "date"
    numpy_code = "datetime64"
    python_range = (
        _microseconds(datetime.datetime(1, 1, 2)),
        _microseconds(datetime.datetime(9999, 12, 30)),
    )

    @staticmethod
    def _converted(times: Cells) -> Cells:
        import pandas as pd

        # for those without a time zone UTC changes nothing
        return pd.to_datetime(times, utc=True).dt.tz_localize(None)


class Duration(Times):
    """Durations."""

    kind = "duration"
    numpy_code = "timedelta64"
    python_range = (-(2**62), 2**62)

    @staticmethod
    def _converted(times: Cells) -> Cells:
        import pandas as pd

        return pd.to_timedelta(times)


def _microseconds_of(unit: str) -> int:
    return _UNITS[unit] // 1000


def _time_object(time: Any, cell_type: str, zone: datetime.tzinfo | None) -> object:
    import pandas as pd

    if cell_type in ("Timestamp", "Timedelta"):
        value = getattr(pd, cell_type)(time)
        return value if zone is None else value.tz_localize("UTC").tz_convert(zone)
    if cell_type in ("datetime64", "timedelta64"):
        return time
    value = time.astype(object)
    if cell_type == "date":
        return value.date()
    return value if zone is None else value.replace(tzinfo=datetime.UTC).astimezone(zone)
