"""Columns of numbers, and columns without any value, which are filled with the number 0."""

from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Self

import numpy as np
from numpy.typing import NDArray

from .._checks import plain
from ._cells import (
    Cells,
    cell_type_of,
    decimals_of,
    floats_hold,
    numbers_of,
    object_array,
    objects_of,
    some,
)
from ._columns import Array, Given, Measured

__all__ = ["Bounded", "Count", "Empty", "Integer", "Numbers", "Positive", "Real"]

_SQUEEZE = (
    0.005  # share of a bounded range that its ends are taken inwards by, so that logits exist
)


@dataclass(frozen=True, kw_only=True)
class Numbers(Measured):
    """A column of numbers.

    Parameters
    ----------
    decimals : int, default=0
        Most digits after the point, of numbers that came as text or as decimals.
    is_exact : bool, default=True
        Whether floats hold all of the column's numbers as they came.
    """

    decimals: int = 0
    is_exact: bool = True

    is_number = True

    @classmethod
    def learn(
        cls,
        name: Hashable,
        shown: Cells,
        given: Given = None,
        *,
        dtype: object = None,
    ) -> Self:
        """Say what a column of numbers holds."""
        numbers, cells = numbers_of(name, shown), objects_of(shown)
        return cls(
            name,
            dtype=dtype,
            limits=cls._limits_of(name, numbers, given),
            seen=(float(numbers.min()), float(numbers.max())),
            cell_type=cell_type_of(cells),
            decimals=0 if cls.is_whole else decimals_of(cells),
            is_exact=floats_hold(shown, dtype),
        )

    @classmethod
    def _limits_of(cls, name: Hashable, numbers: Array, given: Given) -> tuple[float, float]:
        """Return what imputed numbers stay within; raise if the observed ones cannot be."""
        return (-np.inf, np.inf)

    @property
    def gives_numbers(self) -> bool:
        """Whether floats hold all values as they are."""
        return self.is_exact

    def _encoded(self, shown: Cells) -> Array:
        return self.to_model(numbers_of(self.name, shown))

    def as_objects(self, numbers: Array, shown: Iterable[object]) -> NDArray[np.object_]:
        """Return numbers as objects of the type of the observed cells, or of those of `fit`."""
        cell_type = self.cell_type or cell_type_of(shown)
        if cell_type == "int":
            return object_array([int(number) for number in np.round(numbers)])
        if cell_type not in ("Decimal", "str", "bytes"):
            return numbers.astype(object)
        text = [f"{number:.{self.decimals}f}" for number in numbers]
        if cell_type == "Decimal":
            return object_array([Decimal(t) for t in text])
        return object_array([t if cell_type == "str" else t.encode() for t in text])

    def fits(self, dtype: np.dtype[np.generic]) -> bool:
        """Return whether an array of a type has room for the column's values."""
        return dtype.kind not in "mM"

    def _check(self, numbers: Array, good: NDArray[np.bool_], what: str) -> None:
        if not good.all():
            raise ValueError(
                f"Column {plain(self.name)} was declared to be {what}, but holds "
                f"{some(numbers[~good])}. Mark such cells as missing, or change column_types."
            )


class Real(Numbers):
    """Any numbers."""

    kind = "real"
    is_declarable = True


class Positive(Numbers):
    """Numbers above 0, of which the model sees the logarithms."""

    kind = "positive"
    is_declarable = True
    is_linear = False

    @classmethod
    def _limits_of(cls, name: Hashable, numbers: Array, given: Given) -> tuple[float, float]:
        # draws from a wide distribution of logarithms may be absurd, or infinite
        logs = cls(name).to_model(numbers)
        reach = max(float(np.ptp(logs)), 1.0)
        return (0.0, float(np.exp(min(logs.max() + reach, 700.0))))

    def to_model(self, numbers: Array) -> Array:
        """Return logarithms."""
        self._check(numbers, numbers > 0, "greater than 0")
        return np.log(numbers)

    def admits(self, numbers: Array, *, whole: bool = True) -> NDArray[np.bool_]:
        """Return which numbers are above 0 and within the limits."""
        return super().admits(numbers, whole=whole) & (numbers > 0)

    def from_model(self, numbers: Array, *, whole: bool = True) -> Array:
        """Return numbers of their logarithms, within the limits."""
        with np.errstate(over="ignore"):
            return super().from_model(np.exp(numbers))


class Bounded(Numbers):
    """Numbers within limits that the user gives, of which the model sees logits."""

    kind = "bounded"
    is_linear = False

    @classmethod
    def learn(
        cls,
        name: Hashable,
        shown: Cells,
        given: Given = None,
        *,
        dtype: object = None,
    ) -> Self:
        """Say what a column of numbers within the given limits holds."""
        _checked_limits(name, given)  # before cells that are no numbers are complained of
        return super().learn(name, shown, given, dtype=dtype)

    @classmethod
    def _limits_of(cls, name: Hashable, numbers: Array, given: Given) -> tuple[float, float]:
        limits = _checked_limits(name, given)
        cls(name, limits=limits).to_model(numbers)
        return limits

    def to_model(self, numbers: Array) -> Array:
        """Return logits of the places within the limits."""
        lower, upper = self.limits
        inside = (numbers >= lower) & (numbers <= upper)
        self._check(numbers, inside, f"between {lower:g} and {upper:g}")
        share = _SQUEEZE + (1.0 - 2.0 * _SQUEEZE) * (numbers - lower) / (upper - lower)
        return np.log(share) - np.log1p(-share)

    def from_model(self, numbers: Array, *, whole: bool = True) -> Array:
        """Return numbers of their logits, within the limits."""
        lower, upper = self.limits
        share = 1.0 / (1.0 + np.exp(-np.clip(numbers, -700.0, 700.0)))
        share = (share - _SQUEEZE) / (1.0 - 2.0 * _SQUEEZE)
        return super().from_model(lower + (upper - lower) * share)


class Integer(Numbers):
    """Whole numbers."""

    kind = "integer"
    is_declarable = True
    is_whole = True

    def from_model(self, numbers: Array, *, whole: bool = True) -> Array:
        """Return numbers, whole ones unless they are means, within the limits."""
        return super().from_model(np.round(numbers) if whole else numbers)


class Count(Integer):
    """Whole numbers from 0 on."""

    kind = "count"

    @classmethod
    def _limits_of(cls, name: Hashable, numbers: Array, given: Given) -> tuple[float, float]:
        if numbers.min() < 0:
            raise ValueError(
                f"Column {plain(name)} was declared to be a count, but holds "
                f"{some(numbers[numbers < 0])}. Declare it 'integer'."
            )
        return (0.0, np.inf)


class Empty(Numbers):
    """No value at all in `fit`; whatever comes later is unknown."""

    kind = "empty"
    is_empty = True

    @classmethod
    def learn(
        cls,
        name: Hashable,
        shown: Cells,
        given: Given = None,
        *,
        dtype: object = None,
    ) -> Self:
        """Say that a column holds nothing."""
        return cls(name, dtype=dtype)

    def _encoded(self, shown: Cells) -> Array:
        return np.full(len(shown), np.nan)


def _checked_limits(name: Hashable, given: Given) -> tuple[float, float]:
    """Return the limits that a user gives as floats."""
    try:
        lower, upper = (float(limit) for limit in given or ())
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"The limits of column {plain(name)} in column_types must be two numbers, "
            f"got {plain(given)}."
        ) from error
    if not (np.isfinite(lower) and np.isfinite(upper) and lower < upper):
        raise ValueError(
            f"The limits of column {plain(name)} in column_types must be finite and in order, got "
            f"{plain(given)}. For one bound use 'positive', or min_value and max_value."
        )
    return lower, upper
