"""How far imputed values are from hidden ones, column by column, beside simple imputers."""

import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning

from ._sklearn_compat import BaseImputer
from .generative._training import crps_of_draws
from .preprocessing import Column

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["MOST_SCORED_ROWS", "error_by_column", "with_several_masks"]

Array = NDArray[np.float64]

_MOST_LEARNED_ROWS = 2000  # that simple imputers learn from
_MOST_PREDICTORS = 20  # of a column, in chained regressions
_MOST_INDICATORS = 20  # of a column of categories; the rare ones share the last, never filled in
MOST_SCORED_ROWS = 512
_ENOUGH_ROWS = 256  # that are scored at least, if need be with several masks each
_LEVEL = 0.9


def with_several_masks(rows: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return positions of rows to score, several times each where they are few."""
    return np.tile(rows, max(1, round(_ENOUGH_ROWS / len(rows))))


def error_by_column(
    columns: Sequence[Column],
    truth: Array,
    hidden: NDArray[np.bool_],
    point: Array,
    draws: Array,
    learned: Array,
    seed: int,
) -> "pd.DataFrame":
    """Return the scores of hidden cells by column, see `QAVIImputer.expected_error`.

    Parameters
    ----------
    columns : sequence of Column
        What the D columns hold.
    truth : ndarray of shape (N, D)
        Numbers in original units, codes of categories; NaN where missing.
    hidden : bool ndarray of shape (N, D)
        Cells that were hidden and are scored.
    point : ndarray of shape (N, D)
        What was filled in.
    draws : ndarray of shape (S, N, D)
        Draws.
    learned : ndarray of shape (M, D)
        Rows that the simple imputers learn from, NaN where missing.
    seed : int
        Picks some of them, where there are very many.
    """
    import pandas as pd

    from .metrics import interval_coverage  # with what it needs, this takes long to import

    if len(learned) > _MOST_LEARNED_ROWS:
        chosen = np.random.default_rng(seed).permutation(len(learned))[:_MOST_LEARNED_ROWS]
        learned = learned[np.sort(chosen)]
    shown = np.where(hidden, np.nan, truth)
    table = _NumericTable(columns, learned)
    simple = {name: table.complete(imputer(), shown) for name, imputer in _SIMPLE.items()}
    categorical = [j for j, column in enumerate(columns) if column.n_categories]
    crps = crps_of_draws(torch.from_numpy(draws), torch.from_numpy(truth), categorical).numpy()
    records = []
    for j, column in enumerate(columns):
        cells = hidden[:, j]
        record: dict[str, object] = {"kind": column.kind, "n_cells": int(cells.sum())}
        if cells.any():
            scores = {
                name: _errors(column, truth[cells, j], filled[cells, j])
                for name, filled in {"qavi": point, **simple}.items()
            }
            scores["qavi"]["crps"] = float(crps[cells, j].mean())
            record |= scores["qavi"]
            if not column.n_categories:
                of_column = truth[:, [j]], draws[..., [j]], cells[:, None]
                record["coverage"] = interval_coverage(*of_column, level=_LEVEL)
            for key in ("error", "crps"):
                record |= {f"{key}_{name}": scores[name][key] for name in simple}
            record["best"] = min(scores, key=lambda name: scores[name]["crps"])
        records.append(record)
    names = pd.Index([column.name for column in columns], tupleize_cols=False, name="column")
    order = ["kind", "n_cells", "error", "crps", "coverage"]
    order += [f"{key}_{name}" for key in ("error", "crps") for name in _SIMPLE] + ["best"]
    return pd.DataFrame(records, index=names).reindex(columns=order)


def _errors(column: Column, truth: Array, point: Array) -> dict[str, float]:
    """Return error and CRPS of single answers (N,): the CRPS of a number is its distance."""
    if column.n_categories:
        wrong = float((point != truth).mean())
        return {"error": wrong, "crps": wrong}
    distance = np.abs(point - truth)
    return {
        "error": float(np.sqrt(np.square(distance).mean())),
        "crps": float(distance.mean()),
    }


class _NumericTable:
    """Standardized numbers and indicators of categories, for imputers of numbers alone.

    The first category has no indicator: with all of them, each would be predicted by the others.
    """

    def __init__(self, columns: Sequence[Column], learned: Array) -> None:
        n_categories = [column.n_categories or 2 for column in columns]
        self.widths = [min(max(n - 1, 1), _MOST_INDICATORS) for n in n_categories]
        self.is_category = [column.n_categories is not None for column in columns]
        self.shares_last = [n - 1 > _MOST_INDICATORS for n in n_categories]
        seen = ~np.isnan(learned)
        count = np.maximum(seen.sum(axis=0), 1)
        self.mean = np.where(seen, learned, 0.0).sum(axis=0) / count
        square = np.where(seen, learned - self.mean, 0.0) ** 2
        scale = np.sqrt(square.sum(axis=0) / count)
        self.scale = np.where(scale > 0, scale, 1.0)
        self.learned = self._encoded(learned)

    def complete(self, imputer: BaseImputer, rows: Array) -> Array:
        """Return rows (N, D) completed by an imputer that learns from the others."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # of chained regressions
            filled = imputer.fit(self.learned).transform(self._encoded(rows))
        parts = np.split(filled, np.cumsum(self.widths)[:-1], axis=1)
        completed = [
            _likeliest(part, shares_last) if is_category else part[:, 0] * scale + mean
            for part, is_category, shares_last, mean, scale in zip(
                parts, self.is_category, self.shares_last, self.mean, self.scale, strict=True
            )
        ]
        return np.stack(completed, axis=1)

    def _encoded(self, rows: Array) -> Array:
        parts = []
        for j, (width, is_category) in enumerate(zip(self.widths, self.is_category, strict=True)):
            cells = rows[:, j, None]
            if is_category:
                code = np.minimum(cells, width)
                part = np.where(np.isnan(cells), np.nan, code == np.arange(1, width + 1))
            else:
                part = (cells - self.mean[j]) / self.scale[j]
            parts.append(part)
        return np.concatenate(parts, axis=1)


def _likeliest(indicators: Array, shares_last: bool) -> Array:
    """Return the code whose indicator is largest, (N,), of those from 1 on (N, K)."""
    first = 1.0 - indicators.sum(axis=1, keepdims=True)
    own = indicators[:, :-1] if shares_last else indicators
    codes: Array = np.hstack([first, own]).argmax(axis=1).astype(np.float64)
    return codes


def _mean() -> BaseImputer:
    from sklearn.impute import SimpleImputer

    return SimpleImputer(keep_empty_features=True)


def _neighbors() -> BaseImputer:
    from sklearn.impute import KNNImputer

    return KNNImputer(keep_empty_features=True)


def _linear() -> BaseImputer:
    from sklearn.experimental import enable_iterative_imputer  # noqa: F401
    from sklearn.impute import IterativeImputer

    return IterativeImputer(
        n_nearest_features=_MOST_PREDICTORS, keep_empty_features=True, random_state=0
    )


_SIMPLE: dict[str, Callable[[], BaseImputer]] = {
    "mean": _mean,
    "neighbors": _neighbors,
    "linear": _linear,
}
