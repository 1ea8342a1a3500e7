"""Completed tables from any imputer that draws, with the target as a column while it learns."""

import copy
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Self, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, clone
from sklearn.utils import get_tags

from ._checks import plain
from ._random import derive_seed, seed_from
from ._sklearn_compat import is_scalar_nan
from ._typing import Array, Container
from .preprocessing import is_dataframe

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Completions", "TargetColumns", "seeded_clone"]

Completed = tuple[BaseEstimator | None, Container]
"""An imputer fitted for this one table, or None, and the completed table."""


@dataclass(frozen=True)
class TargetColumns:
    """How a target y is appended to a table, and taken out again.

    Parameters
    ----------
    names : list of str or int
        Names of the appended columns; empty if the target stays out of the table.
    names_out : list of str
        Names under which an imputer returns them.
    classes : ndarray or None
        Classes of a classifier's target; None for numbers.
    as_categories : bool
        Whether classes become one column of text, or 0 and 1 in a column a class but the first.
    missing_values : object
        What marks a missing number for the imputer.
    """

    names: list[Hashable]
    names_out: list[str]
    classes: NDArray[np.generic] | None
    as_categories: bool
    missing_values: object

    @classmethod
    def plan(
        cls,
        imputer: BaseEstimator,
        X: Container,
        y: ArrayLike,
        classes: NDArray[np.generic] | None,
        name: Hashable,
    ) -> Self:
        """Choose columns that the imputer can learn from, with names that X does not have."""
        as_categories = classes is not None and get_tags(imputer).input_tags.categorical
        count = 1 if classes is None or as_categories else len(classes) - 1
        names = _free_names(X, count, name)
        # columns without names of their own come back as x0, x1, ...
        names_out = [j if isinstance(j, str) else f"x{j}" for j in names]
        marker = getattr(imputer, "missing_values", np.nan)
        columns = cls(names, names_out, classes, as_categories, marker)
        if not as_categories and not is_scalar_nan(marker) and (columns.numbers(y) == marker).any():
            raise ValueError(
                f"The target holds {plain(marker)}, which marks missing cells for the imputer. Use "
                "another marker, or use_target=False."
            )
        return columns

    def numbers(self, y: ArrayLike) -> NDArray[np.float64]:
        """Return the target as numbers, (rows, columns)."""
        if self.classes is None:
            return np.asarray(y, dtype=np.float64)[:, None]
        indicators: NDArray[np.float64] = (np.asarray(y)[:, None] == self.classes[None, 1:]).astype(
            np.float64
        )
        return indicators

    def append(self, X: Container, y: ArrayLike | None) -> Container:
        """Return X with the target in columns of its own; missing if y is None."""
        if not self.names:
            return X
        if not is_dataframe(X):
            array = cast(Array, X)
            if not self.as_categories and array.dtype.kind in "iuf":
                dtype = array.dtype if array.dtype.kind == "f" else np.float64
                return np.column_stack([array, self._values(len(array), y).astype(dtype)])
            X = _as_dataframe(array)
        if hasattr(X, "iloc"):
            return self._append_to_pandas(cast("pd.DataFrame", X).copy(), y)
        import polars as pl

        frame, names = cast(pl.DataFrame, X), [str(name) for name in self.names]
        if self.as_categories:
            categories = pl.Enum([self._category(k) for k in range(len(self._categories))])
            texts = self._texts(len(frame), y)
            return frame.with_columns(pl.Series(names[0], texts, dtype=categories))
        columns = self._values(len(frame), y).T
        return frame.with_columns(
            [pl.Series(n, column) for n, column in zip(names, columns, strict=True)]
        )

    def remove(self, table: Container, names_out: list[str] | None, like: Container) -> Container:
        """Return a completed table without the columns of the target, of the type of ``like``."""
        if self.names and is_dataframe(table):
            frame = cast("pd.DataFrame", table)
            table = frame[[column for column in frame.columns if not self._is_ours(column)]]
        elif self.names:
            # an imputer that tells no names is taken to keep the columns in order
            names = names_out or [*[""] * (table.shape[1] - len(self.names)), *self.names_out]
            table = cast(Array, table)[:, [not self._is_ours(name) for name in names]]
        if is_dataframe(table) and not is_dataframe(like):
            wanted = cast(Array, like).dtype
            dtype = wanted if wanted.kind == "f" else None
            completed = cast("pd.DataFrame", table)
            return completed.to_numpy(dtype=np.float64 if wanted.kind in "iu" else dtype)
        return table

    @property
    def _categories(self) -> NDArray[np.generic]:
        return np.empty(0) if self.classes is None else self.classes

    @staticmethod
    def _category(k: int) -> str:
        return f"class {k}"  # text that is no number is a category for every imputer of categories

    def _texts(self, n_rows: int, y: ArrayLike | None) -> list[str | None]:
        if y is None:
            return [None] * n_rows
        return [self._category(k) for k in np.searchsorted(self._categories, np.asarray(y))]

    def _values(self, n_rows: int, y: ArrayLike | None) -> NDArray[np.float64]:
        if y is None:
            return np.full((n_rows, len(self.names)), self.missing_values, dtype=np.float64)
        return self.numbers(y)

    def _append_to_pandas(self, X: "pd.DataFrame", y: ArrayLike | None) -> "pd.DataFrame":
        import pandas as pd

        if self.as_categories:
            categories = [self._category(k) for k in range(len(self._categories))]
            X[self.names[0]] = pd.Categorical(self._texts(len(X), y), categories=categories)
        else:
            X[self.names] = self._values(len(X), y)
        return X

    def _is_ours(self, column: Hashable) -> bool:
        return any(_is_called(column, name) for name in self.names_out)


class Completions:
    """Draws of completed tables from an imputer.

    Imputers with ``iter_samples`` or ``sample`` are fitted once. Others that draw with
    ``sample_posterior=True`` are fitted once per table, with a seed for each, so that tables also
    differ by what the rows leave open about the regressions.

    Parameters
    ----------
    imputer : estimator
        Is cloned.
    n : int
        Number of tables.
    seed : int
        Takes the place of a ``random_state`` of None.

    Attributes
    ----------
    imputer_ : estimator or list of estimator
        The fitted imputer, or one per table.
    target_ : TargetColumns
        How the target was appended in `fit_tasks`.
    """

    def __init__(self, imputer: BaseEstimator, n: int, seed: int) -> None:
        self.imputer, self.n, self.seed = imputer, n, seed
        self._once = hasattr(imputer, "iter_samples") or hasattr(imputer, "sample")
        if not self._once and not _draws_on_transform(imputer):
            raise ValueError(
                f"{type(imputer).__name__} fills in the same values each time, and multiple "
                "imputation needs draws. Pass an imputer with iter_samples or sample, such as "
                "QAVIImputer, or with sample_posterior=True, such as "
                "IterativeImputer(sample_posterior=True)."
            )

    def fit_tasks(
        self, X: Container, y: ArrayLike, target: TargetColumns, fit_params: dict[str, object]
    ) -> Iterator[Callable[[], Completed]]:
        """Yield n functions that return a completed table, of a table that is learned from."""
        self.target_ = target
        joint = target.append(X, y)
        if self._once:
            self.imputer_ = self._prepared(0, joint, X).fit(joint, **fit_params)
            yield from self._draw_tasks(joint, X)
        else:
            self.imputer_ = []
            for m in range(self.n):
                imputer = self._prepared(m, joint, X)
                yield partial(_fit_one, imputer, joint, target, X, fit_params)

    def tasks(self, X: Container) -> Iterator[Callable[[], Completed]]:
        """Yield n functions that return a completed table, of rows whose target is unknown."""
        joint = self.target_.append(X, None)
        if self._once:
            yield from self._draw_tasks(joint, X)
        else:
            for imputer in self.imputer_:
                yield partial(_complete_one, imputer, joint, self.target_, X)

    def _draw_tasks(self, joint: Container, X: Container) -> Iterator[Callable[[], Completed]]:
        names = _names_out(self.imputer_)
        draw = getattr(self.imputer_, "iter_samples", None) or self.imputer_.sample
        for table in draw(joint, self.n):
            yield partial(_given, self.target_.remove(table, names, X))

    def _prepared(self, m: int, joint: Container, X: Container) -> BaseEstimator:
        imputer = seeded_clone(self.imputer, derive_seed(self.seed, m), vary=not self._once)
        if hasattr(imputer, "set_output"):
            kind = "default"
            if is_dataframe(joint):
                kind = "pandas" if hasattr(joint, "iloc") else "polars"
            imputer.set_output(transform=kind)
        return imputer


def seeded_clone(estimator: BaseEstimator, seed: int, *, vary: bool = False) -> BaseEstimator:
    """Return a clone whose ``random_state`` is an integer made from the seed.

    One that was set stays as it is, unless ``vary`` asks for another one made from it and the
    seed. Where the estimator has none, its parts' are set, apart from parts that clones share.
    """
    cloned = clone(estimator)
    before, after = estimator.get_params(), cloned.get_params()
    if "random_state" in after:
        keys = ["random_state"]
    else:
        keys = sorted(key for key in after if key.endswith("__random_state"))
    new = {}
    for i, key in enumerate(keys):
        owner = key.removesuffix("random_state").removesuffix("__")
        if owner and after[owner] is before[owner]:
            continue
        if after[key] is None:
            new[key] = derive_seed(seed, i) % 2**31
        elif vary:
            new[key] = derive_seed(seed_from(after[key]), seed, i) % 2**31
    return cloned.set_params(**new)


def _fit_one(
    imputer: BaseEstimator,
    joint: Container,
    target: TargetColumns,
    X: Container,
    fit_params: dict[str, object],
) -> Completed:
    table = imputer.fit_transform(joint, **fit_params)
    return imputer, target.remove(table, _names_out(imputer), X)


def _complete_one(
    imputer: BaseEstimator, joint: Container, target: TargetColumns, X: Container
) -> Completed:
    # drawing moves the generator of a fitted IterativeImputer on: a copy gives the same every time
    table = copy.deepcopy(imputer).transform(joint)
    return None, target.remove(table, _names_out(imputer), X)


def _given(table: Container) -> Completed:
    return None, table


def _draws_on_transform(imputer: BaseEstimator) -> bool:
    params = imputer.get_params()
    return hasattr(imputer, "transform") and any(
        value is True
        for key, value in params.items()
        if key == "sample_posterior" or key.endswith("__sample_posterior")
    )


def _names_out(imputer: BaseEstimator) -> list[str] | None:
    if not hasattr(imputer, "get_feature_names_out"):
        return None
    return [str(name) for name in imputer.get_feature_names_out()]


def _as_dataframe(X: NDArray[np.generic]) -> "pd.DataFrame":
    import pandas as pd

    return pd.DataFrame(dict(enumerate(X.T)))


def _is_called(column: Hashable, name: str) -> bool:
    """Return whether a column has a name, also behind the prefix of a `ColumnTransformer`."""
    return column == name or str(column).endswith(f"__{name}")


def _free_names(X: Container, count: int, name: Hashable) -> list[Hashable]:
    """Return names that no column of X has; positions where the columns have no names."""
    columns = list(cast("pd.DataFrame", X).columns) if is_dataframe(X) else []
    if not any(isinstance(column, str) for column in columns):
        return [X.shape[1] + k for k in range(count)]
    base = name if isinstance(name, str) and name else "target"
    names: list[Hashable] = []
    for k in range(count):
        new = base if count == 1 else f"{base}_{k + 1}"
        while any(_is_called(column, new) for column in columns):
            new += "_"
        names.append(new)
    return names
