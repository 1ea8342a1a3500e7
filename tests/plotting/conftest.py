"""A backend that plots into memory, a table of all kinds of columns, and imputers of it."""

from collections.abc import Iterator
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest


@pytest.fixture(autouse=True)
def agg() -> Iterator[None]:
    """Plot into memory, and close every figure."""
    before = mpl.get_backend()
    mpl.use("Agg")
    yield
    plt.close("all")
    mpl.use(before)


@pytest.fixture
def mixed() -> pd.DataFrame:
    """Sixty rows of numbers, whole numbers, text, ordered categories, flags and times, complete."""
    rng, n = np.random.default_rng(0), 60
    days = pd.to_timedelta(rng.integers(0, 300, n), "D")
    return pd.DataFrame(
        {
            "size": rng.normal(50.0, 10.0, n),
            "count": rng.poisson(3.0, n),
            "text": rng.choice(["no", "yes", "maybe"], n),
            "grade": pd.Categorical(
                rng.choice(["low", "mid", "high"], n), ["low", "mid", "high"], ordered=True
            ),
            "flag": rng.random(n) < 0.4,
            "date": pd.Timestamp("2024-01-01") + days,
            "wait": days / 10,
        }
    )


@pytest.fixture
def is_missing(mixed: pd.DataFrame) -> np.ndarray:
    """Which cells of the table are missing: a quarter of them, some in every column."""
    return np.random.default_rng(1).random(mixed.shape) < 0.25


@pytest.fixture
def incomplete(mixed: pd.DataFrame, is_missing: np.ndarray) -> pd.DataFrame:
    """The incomplete table."""
    return mixed.astype({"count": float, "flag": object}).mask(is_missing)


class Resampler:
    """An imputer that fills a missing cell with an observed one of its column, by its seed."""

    def __init__(self, X: pd.DataFrame) -> None:
        self.X = X
        self.feature_names_in_ = np.array(X.columns)

    def get_feature_names_out(self) -> np.ndarray:
        """Return the names of the columns."""
        return self.feature_names_in_

    def sample(self, X: Any, n: int = 1, *, row_offset: int = 0) -> list[pd.DataFrame]:
        """Return n completed tables; a row's values depend on its position and not on others."""
        return [self._draw(X, m, row_offset) for m in range(n)]

    def _draw(self, X: pd.DataFrame, m: int, row_offset: int) -> pd.DataFrame:
        filled = {}
        for name in X.columns:
            pool = self.X[name].dropna().tolist()
            values = X[name].tolist()
            for i in np.flatnonzero(X[name].isna()):
                pick = np.random.default_rng([m, i + row_offset]).integers(len(pool))
                values[i] = pool[pick]
            filled[name] = pd.Series(values, index=X.index).astype(X[name].dtype)
        return pd.DataFrame(filled)


@pytest.fixture
def resampler(incomplete: pd.DataFrame) -> Resampler:
    """An imputer of the table."""
    return Resampler(incomplete)
