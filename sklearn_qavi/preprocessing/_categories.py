"""Columns of categories: text, categories of a dataframe, booleans, codes."""

from collections import Counter
from collections.abc import Container, Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from .._checks import plain
from ._cells import Cells, is_hashable, object_array, some
from ._columns import Array, Column, Given

__all__ = ["Binary", "Categories", "Nominal", "Ordinal"]

_MAX_ORDERED = 50  # more ordered categories are a count


@dataclass(frozen=True, kw_only=True)
class Categories(Column):
    """A column of categories.

    Parameters
    ----------
    categories : tuple of hashable
        The values of the column; the code of a category is its position.
    """

    categories: tuple[Hashable, ...]

    @classmethod
    def learn(
        cls,
        name: Hashable,
        shown: Cells,
        given: Given = None,
        *,
        dtype: object = None,
    ) -> Self:
        """Say which categories a column holds."""
        counts = _counted(name, shown)
        return cls(name, dtype=dtype, categories=cls._ordered(name, shown, counts))

    @classmethod
    def _ordered(
        cls, name: Hashable, shown: Cells, counts: Mapping[Hashable, int]
    ) -> tuple[Hashable, ...]:
        """Return categories by their codes, from how often each of them occurs."""
        return tuple(counts)

    @property
    def n_categories(self) -> int:
        """Number of categories."""
        return len(self.categories)

    @property
    def gives_numbers(self) -> bool:
        """Whether all categories are numbers or booleans."""
        numbers = bool | int | float | np.number | np.bool_
        return all(isinstance(category, numbers) for category in self.categories)

    def _encoded(self, shown: Cells) -> Array:
        known = {category: code for code, category in enumerate(self.categories)}
        if len(shown) == 0:
            return np.empty(0)
        if _is_categorical(shown):
            codes = [known.get(category, np.nan) for category in shown.cat.categories]
            found: Array = np.array(codes, dtype=float)[shown.cat.codes.to_numpy()]
            return found
        values = np.asarray(shown, dtype=object)
        codes = [known.get(value, np.nan) if is_hashable(value) else np.nan for value in values]
        return np.array(codes, dtype=float)

    def from_model(self, numbers: Array, *, whole: bool = True) -> Array:
        """Return codes."""
        return np.clip(np.round(numbers), 0, len(self.categories) - 1)

    def decode(self, numbers: Array) -> NDArray[np.object_]:
        """Return the categories of codes."""
        categories: NDArray[np.object_] = object_array(self.categories)[numbers.astype(int)]
        return categories

    def as_objects(self, numbers: Array, shown: Iterable[object]) -> NDArray[np.object_]:
        """Return the categories of codes."""
        return self.decode(numbers)

    def lacking_in(self, known: Container[object]) -> list[Hashable]:
        """Return the categories that are not among some."""
        return [category for category in self.categories if category not in known]

    def examples(self) -> list[Hashable]:
        """Return the categories."""
        return list(self.categories)


class Binary(Categories):
    """True and False."""

    kind = "binary"
    is_unordered = True


class Nominal(Categories):
    """Categories without order. Of many, the frequent ones have the lower codes."""

    kind = "nominal"
    is_declarable = True
    is_unordered = True

    @classmethod
    def _ordered(
        cls, name: Hashable, shown: Cells, counts: Mapping[Hashable, int]
    ) -> tuple[Hashable, ...]:
        from ..generative._likelihoods import MAX_WIDTH

        if len(counts) <= MAX_WIDTH:
            return tuple(counts)
        # rare categories share an output; see CategoricalLikelihood
        return tuple(sorted(counts, key=lambda category: -counts[category]))


class Ordinal(Categories):
    """Categories in order."""

    kind = "ordinal"
    is_declarable = True

    @classmethod
    def learn(
        cls,
        name: Hashable,
        shown: Cells,
        given: Given = None,
        *,
        dtype: object = None,
    ) -> Self:
        """Say which categories a column holds, those that the user gives if any are given."""
        if given is None:
            return super().learn(name, shown, dtype=dtype)
        if len(set(given)) != len(given):
            raise ValueError(
                f"The categories of column {plain(name)} in column_types repeat: {plain(given)}."
            )
        column = cls(name, dtype=dtype, categories=tuple(given))
        unknown = np.isnan(column._encoded(shown))
        if unknown.any():
            raise ValueError(
                f"Column {plain(name)} holds {some(np.asarray(shown, dtype=object)[unknown])}, "
                f"not one of its categories in column_types, {plain(given)}."
            )
        return column

    @classmethod
    def _ordered(
        cls, name: Hashable, shown: Cells, counts: Mapping[Hashable, int]
    ) -> tuple[Hashable, ...]:
        categories = tuple(counts)
        if not _is_categorical(shown) and any(isinstance(c, str) for c in categories):
            raise ValueError(
                f"Column {plain(name)} holds text, which has no order of its own. Pass its "
                f"categories in order: column_types={{{plain(name)}: "
                f"{plain(list(categories[:3]))}}} would be from lowest to highest."
            )
        if len(categories) > _MAX_ORDERED:
            raise ValueError(
                f"Column {plain(name)} has {len(categories)} ordered categories, more than "
                f"{_MAX_ORDERED}. Pass their ranks as numbers instead."
            )
        return categories


def _is_categorical(shown: Cells) -> bool:
    import pandas as pd

    return isinstance(getattr(shown, "dtype", None), pd.CategoricalDtype)


def _counted(name: Hashable, shown: Cells) -> dict[Hashable, int]:
    """Return how often each category occurs, in the order of their type, or sorted."""
    if _is_categorical(shown):
        categories = shown.dtype.categories
        counts = np.bincount(shown.cat.codes, minlength=len(categories)).tolist()
        return {c: n for c, n in zip(categories, counts, strict=True) if n}
    values = np.asarray(shown, dtype=object)
    if not all(is_hashable(value) for value in values):
        raise ValueError(
            f"Column {plain(name)} holds lists, dicts or other values that cannot be categories, "
            f"e.g. {some([v for v in values if not is_hashable(v)])}. Leave the column out, or "
            "turn them into text."
        )
    found = Counter(values.tolist())
    return {category: found[category] for category in _sorted(found)}


def _sorted(categories: Iterable[Hashable]) -> list[Hashable]:
    """Return categories sorted, by their types and how they are shown if they do not compare."""
    values = list(categories)
    try:
        return sorted(values)  # type: ignore[type-var]
    except TypeError:
        return sorted(values, key=lambda value: (type(value).__name__, repr(value)))
