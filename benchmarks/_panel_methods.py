"""The methods of panel.py: what they are given, and how they complete it.

Each takes a problem, a seed and parameters, and returns the completed table and draws of it (None
from a method that makes none) as arrays of numbers and codes of categories.
"""

import functools
import importlib.util
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from _panel_protocols import Array, Problem, codes
from _panel_tables import categorical_columns

N_DRAWS = 20

Outcome = tuple[Array, Array | None]  # point answer, draws


class OneHot:
    """Standardized numbers, and a column for each category that the training rows have.

    Unless ``full``, the most frequent category has no column. A regression of one column on the
    others would otherwise be exact, by the column's own category, and leave a missing category at
    the value that it started from.
    """

    def __init__(self, train: pd.DataFrame, full: bool = False) -> None:
        self.train, self.full = train, full
        coded = codes(train, train)
        categorical = categorical_columns(train)
        self.categories: list[Array | None] = []  # codes, None for a number
        for j, column in enumerate(train):
            known, counts = np.unique(coded[~np.isnan(coded[:, j]), j], return_counts=True)
            known = known[np.argsort(counts, kind="stable")]  # the most frequent last
            self.categories.append(known if column in categorical else None)
        self.mean, scale = np.nanmean(coded, axis=0), np.nanstd(coded, axis=0)
        self.scale = np.where(scale > 0, scale, 1.0)

    def encode(self, frame: pd.DataFrame) -> Array:
        """Return the numbers; all columns of a missing or unknown category are NaN."""
        parts = []
        for j, values in enumerate(codes(frame, self.train).T):
            known = self.categories[j]
            if known is None:
                parts.append((values[:, None] - self.mean[j]) / self.scale[j])
            else:
                one_hot = (values[:, None] == known).astype(float)
                one_hot[~one_hot.any(axis=1)] = np.nan
                parts.append(one_hot if self.full else one_hot[:, :-1])
        return np.hstack(parts)

    def decode(self, encoded: Array, incomplete: pd.DataFrame) -> Array:
        """Return numbers and the largest column's category, with the observed cells as they are."""
        completed, start = [], 0
        for j, known in enumerate(self.categories):
            width = 1 if known is None else len(known) - (not self.full)
            part = encoded[:, start : start + width]
            start += width
            if known is None:
                completed.append(part[:, 0] * self.scale[j] + self.mean[j])
                continue
            if not self.full:
                part = np.column_stack([part, 1.0 - part.sum(axis=1)])
            completed.append(known[part.argmax(axis=1)])
        return restored(np.column_stack(completed), incomplete, self.train)


def restored(completed: Array, incomplete: pd.DataFrame, like: pd.DataFrame) -> Array:
    """Return the completed table with the observed cells as they were."""
    observed = codes(incomplete, like)
    return np.where(np.isnan(observed), completed, observed)


def mean_of_draws(draws: Array, problem: Problem) -> Array:
    """Return the mean of drawn numbers and the most frequent of drawn categories."""
    point = draws.mean(axis=0)
    categorical = categorical_columns(problem.train)
    for j, column in enumerate(problem.train):
        if column in categorical:
            n = len(problem.train[column].cat.categories)
            counts = np.stack([(draws[:, :, j] == k).sum(axis=0) for k in range(n)])
            point[:, j] = counts.argmax(axis=0)
    return point


def run_qavi(problem: Problem, seed: int, params: dict[str, Any]) -> Outcome:
    """Complete with the library."""
    from sklearn_qavi import QAVIImputer

    imputer = QAVIImputer(random_state=seed).set_params(**params).set_output(transform="pandas")
    imputer.fit(problem.train)
    point = codes(imputer.transform(problem.incomplete), problem.train)
    tables = imputer.sample(problem.incomplete, n=N_DRAWS)
    return point, np.stack([codes(table, problem.train) for table in tables])


def complete_numbers(imputer: Any, problem: Problem, full: bool = False) -> Array:
    """Complete with an imputer of numbers."""
    encoder = OneHot(problem.train, full)
    if problem.in_sample:
        encoded = imputer.fit_transform(encoder.encode(problem.train))
    else:
        imputer.fit(encoder.encode(problem.train))
        encoded = imputer.transform(encoder.encode(problem.incomplete))
    return encoder.decode(encoded, problem.incomplete)


def run_mean(problem: Problem, seed: int, params: dict[str, Any]) -> Outcome:
    """Fill in means; the most frequent category is the one whose column has the largest."""
    from sklearn.impute import SimpleImputer

    return complete_numbers(SimpleImputer(), problem), None


def run_knn(problem: Problem, seed: int, params: dict[str, Any]) -> Outcome:
    """Nearest neighbours."""
    from sklearn.impute import KNNImputer

    return complete_numbers(KNNImputer(), problem, full=True), None


def chained(seed: int, **params: Any) -> Any:
    """Return an IterativeImputer that does all of its rounds, also after complete rows."""
    from sklearn.experimental import enable_iterative_imputer  # noqa: F401
    from sklearn.impute import IterativeImputer

    return IterativeImputer(tol=0.0, random_state=seed, **params)


def run_ridge(problem: Problem, seed: int, params: dict[str, Any]) -> Outcome:
    """Chained Bayesian regressions."""
    return complete_numbers(chained(seed), problem), None


def run_ridge_draws(problem: Problem, seed: int, params: dict[str, Any]) -> Outcome:
    """Chained Bayesian regressions with draws from their posteriors, once for each table."""
    tables = [
        complete_numbers(chained(1000 * seed + m, sample_posterior=True), problem)
        for m in range(N_DRAWS)
    ]
    draws = np.stack(tables)
    return mean_of_draws(draws, problem), draws


def run_extra_trees(problem: Problem, seed: int, params: dict[str, Any]) -> Outcome:
    """Chained forests."""
    from sklearn.ensemble import ExtraTreesRegressor

    trees = ExtraTreesRegressor(n_estimators=100, random_state=seed)
    return complete_numbers(chained(seed, estimator=trees), problem), None


def stacked(problem: Problem) -> pd.DataFrame:
    """Return training rows and rows to complete, the latter last, with plain names of columns.

    For methods whose models are learned where a column has missing cells.
    """
    parts = [] if problem.in_sample else [problem.train]
    table = pd.concat([*parts, problem.incomplete], ignore_index=True)
    for column in categorical_columns(table):
        names = [f"c{k}" for k in range(len(table[column].cat.categories))]
        table[column] = table[column].cat.rename_categories(names).cat.remove_unused_categories()
    return table.set_axis([f"x{j}" for j in range(table.shape[1])], axis=1)


def unstacked(table: pd.DataFrame, problem: Problem) -> Array:
    """Return the rows to complete of a completed table in which categories are c0, c1, ..."""
    rows = table.iloc[len(table) - len(problem.incomplete) :]
    out = np.empty(rows.shape)
    for j, column in enumerate(rows):
        if problem.train.iloc[:, j].dtype == "category":
            out[:, j] = rows[column].astype(str).str.removeprefix("c").astype(int)
        else:
            out[:, j] = rows[column]
    return restored(out, problem.incomplete, problem.train)


def run_miceforest(problem: Problem, seed: int, params: dict[str, Any]) -> Outcome:
    """Chained boosted trees with mean matching."""
    import miceforest

    table = stacked(problem)
    # matching of categories by neighbours fails on those that are certain
    categorical = categorical_columns(table)
    match = {c: "fast" if c in categorical else "normal" for c in table}

    def complete(m: int) -> Array:
        # one table a kernel: a kernel keeps every model of all its tables, many GiB of wide ones
        kernel = miceforest.ImputationKernel(
            table, num_datasets=1, mean_match_strategy=match, random_state=1000 * seed + m
        )
        kernel.mice(5, verbose=False, num_threads=1)
        return unstacked(kernel.complete_data(0), problem)

    draws = np.stack([complete(m) for m in range(N_DRAWS)])
    return mean_of_draws(draws, problem), draws


def run_gcimpute(problem: Problem, seed: int, params: dict[str, Any]) -> Outcome:
    """A Gaussian copula; it fails on values that it was not fitted to, so it is given all rows."""
    if not hasattr(np, "round_"):  # which gcimpute calls, and numpy has dropped
        np.round_ = np.round  # noqa: NPY003, NPY201
    from gcimpute.gaussian_copula import GaussianCopula

    encoder = OneHot(problem.train)
    model = GaussianCopula(random_state=seed, verbose=0)
    incomplete = encoder.encode(problem.incomplete)
    others = [] if problem.in_sample else [encoder.encode(problem.train)]
    model.fit(np.vstack([*others, incomplete]))
    sampled = model.sample_imputation(incomplete, num=N_DRAWS)
    tables = np.moveaxis(sampled, -1, 0)
    draws = np.stack([encoder.decode(table, problem.incomplete) for table in tables])
    return mean_of_draws(draws, problem), draws


MICE = """
suppressMessages(library(mice))
arguments <- commandArgs(trailingOnly = TRUE)
types <- strsplit(arguments[2], ",")[[1]]
table <- read.csv(file.path(arguments[1], "table.csv"), colClasses = types)
n_train <- as.integer(arguments[3])
imputed <- mice(
    table, m = as.integer(arguments[6]), maxit = 5, seed = as.integer(arguments[5]),
    defaultMethod = if (arguments[4] == "rf") rep("rf", 4)
        else c("pmm", "logreg", "polyreg", "polr"),
    ignore = seq_len(nrow(table)) > n_train,
    remove.collinear = FALSE, printFlag = FALSE
)
for (m in seq_len(imputed$m)) {
    file <- file.path(arguments[1], paste0("completed", m, ".csv"))
    write.csv(complete(imputed, m), file, row.names = FALSE)
}
"""


def run_mice(problem: Problem, seed: int, params: dict[str, Any], method: str) -> Outcome:
    """R's mice; models are learned from the training rows alone."""
    table = stacked(problem)
    n_train = len(problem.train)  # in sample all rows
    categorical = categorical_columns(table)
    types = ",".join("factor" if c in categorical else "numeric" for c in table)
    with tempfile.TemporaryDirectory() as folder:
        table.to_csv(Path(folder) / "table.csv", index=False, na_rep="NA")
        arguments = [folder, types, str(n_train), method, str(seed), str(N_DRAWS)]
        script = Path(folder) / "mice.R"
        script.write_text(MICE, encoding="utf-8")
        command = ["Rscript", "--vanilla", str(script), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(done.stderr.strip()[-200:])
        files = [Path(folder) / f"completed{m + 1}.csv" for m in range(N_DRAWS)]
        draws = np.stack([unstacked(pd.read_csv(file), problem) for file in files])
    return mean_of_draws(draws, problem), draws


METHODS: dict[str, Callable[[Problem, int, dict[str, Any]], Outcome]] = {
    "qavi": run_qavi,
    "mean": run_mean,
    "knn": run_knn,
    "bayesian_ridge": run_ridge,
    "bayesian_ridge_draws": run_ridge_draws,
    "extra_trees": run_extra_trees,
    "miceforest": run_miceforest,
    "gcimpute": run_gcimpute,
    "mice_pmm": functools.partial(run_mice, method="pmm"),
    "mice_rf": functools.partial(run_mice, method="rf"),
}


@functools.cache
def has_mice() -> bool:
    """Return whether R has mice."""
    if shutil.which("Rscript") is None:
        return False
    command = ["Rscript", "-e", "library(mice)"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def is_available(method: str) -> bool:
    """Return whether what a method needs is installed."""
    if method.startswith("mice_"):
        return has_mice()
    if method in ("miceforest", "gcimpute"):
        return importlib.util.find_spec(method) is not None
    return True
