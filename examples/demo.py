"""Complete a real table with missing values, compare with scikit-learn's imputers, draw what was
found.

Run by ``make demo``. It hides 30% of the cells of a table that comes with scikit-learn, so that
nearly every row is incomplete, gives the same incomplete table to every imputer, and scores what
they put into the hidden cells. The picture goes to ``demo.png``. One table, one choice of cells,
default settings: an impression, not a benchmark (see ``benchmarks/``). On ``--table diabetes``,
whose columns go together almost linearly, chained linear regressions come out slightly ahead.
"""

import argparse
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn import datasets
from sklearn.exceptions import ConvergenceWarning
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, KNNImputer, SimpleImputer
from sklearn.preprocessing import StandardScaler

from sklearn_qavi import QAVIImputer
from sklearn_qavi.datasets import make_missing
from sklearn_qavi.metrics import interval_coverage, masked_crps, masked_mae, masked_rmse
from sklearn_qavi.plotting import DrawsDisplay

TABLES: dict[str, Callable[[], pd.DataFrame]] = {
    "wine": lambda: datasets.load_wine(as_frame=True).data,
    "diabetes": lambda: datasets.load_diabetes(as_frame=True, scaled=False).data,
    "breast_cancer": lambda: datasets.load_breast_cancer(as_frame=True).data,
}


@dataclass(frozen=True)
class Completed:
    """What one method made of the table: one value per cell and, if it can, many draws."""

    name: str
    table: NDArray[np.float64]
    draws: NDArray[np.float64] | None
    seconds: float


def load(name: str) -> tuple[pd.DataFrame, pd.DataFrame, NDArray[np.bool_]]:
    """Return the truth, the incomplete table and where cells are missing, in standardized units.

    The units come from the cells that stay visible: nothing is learned from a hidden one.
    """
    X = TABLES[name]()
    X_missing, missing = make_missing(X, rate=0.3, random_state=0)
    scaler = StandardScaler().set_output(transform="pandas").fit(X_missing)
    return scaler.transform(X), scaler.transform(X_missing), missing


def complete_with_qavi(X: pd.DataFrame) -> Completed:
    """Fit on the incomplete table and draw 100 completions of it."""
    start = time.perf_counter()
    imputer = QAVIImputer(random_state=0).fit(X)
    table, draws = imputer.transform(X), imputer.sample(X, n=100)
    return Completed("QAVIImputer, 100 draws", table, draws, time.perf_counter() - start)


def complete_at_once(name: str, imputer: object, X: pd.DataFrame) -> Completed:
    """Complete with an imputer that gives one value per cell."""
    start = time.perf_counter()
    table = imputer.fit_transform(X)
    return Completed(name, np.asarray(table), None, time.perf_counter() - start)


def complete_with_chained_draws(X: pd.DataFrame, n: int = 20) -> Completed:
    """Multiple imputation by chained Bayesian regressions: one chain per draw."""
    start = time.perf_counter()
    chains = [IterativeImputer(sample_posterior=True, random_state=seed) for seed in range(n)]
    draws = np.stack([chain.fit_transform(X) for chain in chains])
    name = f"IterativeImputer, {n} draws"
    return Completed(name, draws.mean(axis=0), draws, time.perf_counter() - start)


def complete_with_all(X: pd.DataFrame) -> list[Completed]:
    """Complete the same table with every method."""
    with warnings.catch_warnings():
        # at its default ten rounds IterativeImputer says on most tables that it could go on
        warnings.simplefilter("ignore", ConvergenceWarning)
        peers = [
            complete_at_once("mean", SimpleImputer(), X),
            complete_at_once("KNNImputer", KNNImputer(), X),
            complete_at_once("IterativeImputer", IterativeImputer(random_state=0), X),
            complete_with_chained_draws(X),
        ]
    return [*peers, complete_with_qavi(X)]


def score(result: Completed, truth: pd.DataFrame, missing: NDArray[np.bool_]) -> str:
    """Return one line of the table of results."""
    rmse = masked_rmse(truth, result.table, missing)
    if result.draws is None:
        spread = f"{masked_mae(truth, result.table, missing):>6.3f} *{'-':>9}"
    else:
        crps = masked_crps(truth, result.draws, missing)
        spread = f"{crps:>6.3f}  {interval_coverage(truth, result.draws, missing):>9.2f}"
    return f"{result.name:<28}{rmse:>6.3f}  {spread}{result.seconds:>9.1f}"


def main() -> None:
    """Run the demo."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", choices=TABLES, default="wine")
    name = parser.parse_args().table
    truth, X, missing = load(name)
    n_complete = int((~missing).all(axis=1).sum())
    print(f"{name}: {X.shape[0]} rows, {X.shape[1]} columns, {missing.mean():.0%} of the cells")
    print(f"hidden, complete rows left: {n_complete}. It takes ten seconds ...\n", flush=True)
    results = complete_with_all(X)
    print(f"{'':<28}{'RMSE':>6}  {'CRPS':>6}  {'in 90%':>9}{'seconds':>9}")
    for result in results:
        print(score(result, truth, missing))
    print(
        "\nHidden cells only, in standard deviations; lower is better. * one value per cell, whose"
    )
    print("CRPS is its mean absolute error. 'in 90%': share of the 90% intervals that hold the")
    print("truth; 0.90 is right.")
    display = DrawsDisplay.from_draws(truth, results[-1].draws, missing, random_state=0)
    display.ax_.set_title(f"Hidden cells of {name}: draws of QAVIImputer against the truth", y=1.08)
    display.figure_.savefig("demo.png", dpi=120)
    print("\nWrote demo.png.")


if __name__ == "__main__":
    main()
