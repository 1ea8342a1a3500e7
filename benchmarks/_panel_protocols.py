"""How panel.py hides cells, and how it scores what comes back.

Completed tables are arrays of floats, one column per column of the table; a category is its code.
"""

import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from _panel_tables import categorical_columns, load
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit
from scipy.stats import rankdata

from sklearn_qavi.metrics import (
    interval_coverage,
    interval_width,
    masked_crps,
    masked_mae,
    masked_rmse,
)

Array = NDArray[np.float64]

TRAIN_SHARE = 0.7
UNSEEN_RATE = 0.5
IN_SAMPLE_RATE = 0.3
MAR_SLOPE = 2.0  # log odds per standard deviation of the column that decides
MAX_SCORED_ROWS = 500


@dataclass(frozen=True)
class Problem:
    """Rows to learn from, rows to complete, and what is hidden in those.

    ``train`` and ``incomplete`` are the same table where a method is to complete what it was
    fitted to. ``hidden`` marks the cells that are scored.
    """

    train: pd.DataFrame
    incomplete: pd.DataFrame
    truth: Array
    hidden: NDArray[np.bool_]
    n_rows: int  # of the whole table

    @property
    def in_sample(self) -> bool:
        """Whether the rows to complete are those to learn from."""
        return self.train is self.incomplete


def codes(frame: pd.DataFrame, like: pd.DataFrame) -> Array:
    """Return a table as numbers: codes of the categories that ``like`` has, NaN where missing."""
    categorical = categorical_columns(like)
    out = np.empty(frame.shape)
    for j, column in enumerate(like):
        if column in categorical:
            found = like[column].cat.categories.get_indexer(frame[column].to_numpy(dtype=object))
            out[:, j] = np.where(found < 0, np.nan, found)
        else:
            out[:, j] = frame[column].to_numpy(dtype=float, na_value=np.nan)
    return out


def generator(table: str, protocol: str, seed: int) -> np.random.Generator:
    """Return the random numbers of one problem."""
    return np.random.default_rng([seed, zlib.crc32(f"{table} {protocol}".encode())])


def with_hidden(frame: pd.DataFrame, hidden: NDArray[np.bool_]) -> pd.DataFrame:
    """Return the table without the hidden cells."""
    return frame.assign(**{c: frame[c].mask(hidden[:, j]) for j, c in enumerate(frame)})


def unseen(frame: pd.DataFrame, rng: np.random.Generator) -> Problem:
    """Hide half of the observed cells of each row that is not learned from."""
    frame = frame.iloc[rng.permutation(len(frame))].reset_index(drop=True)
    n_train = int(TRAIN_SHARE * len(frame))
    train = frame.iloc[:n_train]
    test = frame.iloc[n_train : n_train + MAX_SCORED_ROWS].reset_index(drop=True)
    observed = test.notna().to_numpy()
    order = np.argsort(np.where(observed, rng.random(test.shape), 2.0), axis=1)
    n_hidden = (UNSEEN_RATE * observed.sum(axis=1)).astype(int)
    hidden = np.zeros(test.shape, dtype=bool)
    np.put_along_axis(hidden, order, np.arange(test.shape[1]) < n_hidden[:, None], axis=1)
    return Problem(train, with_hidden(test, hidden), codes(test, test), hidden, len(frame))


def same_table(frame: pd.DataFrame, hidden: NDArray[np.bool_], rng: np.random.Generator) -> Problem:
    """Return the problem of completing the table that is learned from; some rows are scored."""
    incomplete = with_hidden(frame, hidden)
    scored = hidden.copy()
    scored[rng.permutation(len(frame))[MAX_SCORED_ROWS:]] = False
    return Problem(incomplete, incomplete, codes(frame, frame), scored, len(frame))


def in_sample(frame: pd.DataFrame, rng: np.random.Generator) -> Problem:
    """Hide 30% of the observed cells of a table, completely at random."""
    observed = np.flatnonzero(frame.notna().to_numpy())
    hidden = np.zeros(frame.size, dtype=bool)
    hidden[rng.permutation(observed)[: int(IN_SAMPLE_RATE * len(observed))]] = True
    return same_table(frame, hidden.reshape(frame.shape), rng)


def deciding_column(frame: pd.DataFrame, rng: np.random.Generator) -> int:
    """Return a column of complete numbers, of at least five values where there is such a one."""
    categorical = categorical_columns(frame)
    values = {
        j: frame[c].nunique()
        for j, c in enumerate(frame)
        if c not in categorical and frame[c].notna().all()
    }
    most = max(values.values())
    return int(rng.choice([j for j, n in values.items() if n >= min(5, most)]))


def chances(log_odds: Array) -> Array:
    """Return chances of 30% on average, whose log odds differ by those given."""
    shift = brentq(lambda a: expit(a + log_odds).mean() - IN_SAMPLE_RATE, -20, 20)
    return expit(shift + log_odds)


def mar(frame: pd.DataFrame, rng: np.random.Generator) -> Problem:
    """Hide cells with a chance that depends on one column, which is kept; 30% on average.

    The log odds grow or fall with the rank in that column; a coin decides which, for each column.
    """
    column = deciding_column(frame, rng)
    ranks = rankdata(frame.iloc[:, column])
    z = MAR_SLOPE * (ranks - ranks.mean()) / ranks.std()
    grows = rng.random(frame.shape[1]) < 0.5
    chance = np.where(grows, chances(z)[:, None], chances(-z)[:, None])
    hidden = (rng.random(frame.shape) < chance) & frame.notna().to_numpy()
    hidden[:, column] = False
    return same_table(frame, hidden, rng)


PROTOCOLS = {"unseen": unseen, "in_sample": in_sample, "mar": mar}


def make_problem(table: str, protocol: str, seed: int) -> Problem:
    """Hide cells of a table; the same ones for every method."""
    return PROTOCOLS[protocol](load(table), generator(table, protocol, seed))


def score(problem: Problem, point: Array, draws: Array | None) -> dict[str, Any]:
    """Return means over columns of the scores of hidden cells.

    Numbers are in standard deviations of the observed values that were learned from. A method
    with one answer has the absolute error as CRPS, and no coverage.
    """
    categorical = categorical_columns(problem.train)
    by_column = []
    for j, column in enumerate(problem.train):
        cells = problem.hidden[:, j]
        if not cells.any():
            continue
        truth, answer = problem.truth[cells, j], point[cells, j]
        drawn = None if draws is None else draws[:, cells, j]
        if not np.isfinite(answer).all() or (drawn is not None and not np.isfinite(drawn).all()):
            raise ValueError(f"cells of column {column} were not completed")
        if column in categorical:
            by_column.append(score_categories(truth, answer, drawn))
            continue
        scale = problem.train[column].std(ddof=0)
        if scale > 0:
            drawn = None if drawn is None else drawn / scale
            by_column.append(score_numbers(truth / scale, answer / scale, drawn))
    names = ["rmse", "mae", "crps", "coverage", "width", "accuracy", "brier"]
    known = {name: [scores[name] for scores in by_column if name in scores] for name in names}
    return {name: float(np.mean(values)) if values else None for name, values in known.items()}


def score_numbers(truth: Array, answer: Array, draws: Array | None) -> dict[str, float]:
    """Return the scores of the hidden numbers of one column."""
    truth, answer = truth[:, None], answer[:, None]
    everywhere = np.ones(truth.shape, dtype=bool)
    scores = {
        "rmse": masked_rmse(truth, answer, everywhere),
        "mae": masked_mae(truth, answer, everywhere),
    }
    if draws is None:
        return {**scores, "crps": scores["mae"]}
    draws = draws[:, :, None]
    return {
        **scores,
        "crps": masked_crps(truth, draws, everywhere),
        "coverage": interval_coverage(truth, draws, everywhere, level=0.9),
        "width": interval_width(draws, everywhere, level=0.9),
    }


def score_categories(truth: Array, answer: Array, draws: Array | None) -> dict[str, float]:
    """Return accuracy and Brier score of the hidden categories of one column.

    The Brier score is the sum over categories of squared differences: 0 to 2. Frequencies of
    draws vary around their probabilities; that part is taken off.
    """
    accuracy = float((truth == answer).mean())
    if draws is None:
        return {"accuracy": accuracy, "brier": 2.0 * (1.0 - accuracy)}
    brier = np.zeros(len(truth))
    for category in np.unique(np.concatenate([truth, draws.ravel()])):
        frequency = (draws == category).mean(axis=0)
        brier += (frequency - (truth == category)) ** 2
        brier -= frequency * (1.0 - frequency) / (len(draws) - 1)
    return {"accuracy": accuracy, "brier": float(brier.mean())}
