"""Tables, splits and records that the benchmarks share."""

import json
import os
import platform
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.datasets import fetch_openml, load_breast_cancer

from sklearn_qavi.datasets import make_missing

SHARES = (0.65, 0.80)  # where the training and the validation rows end


@dataclass(frozen=True)
class Table:
    """One table of the UCI Machine Learning Repository."""

    shape: tuple[int, int]  # of the columns that are used
    drop: tuple[str, ...] = ()  # class labels, by the name in the CSV or on OpenML
    openml: int | None = None  # data set number; None: scikit-learn ships the table


TABLES = {
    "concrete": Table((1030, 9), openml=4353),
    "banknote": Table((1372, 4), drop=("class", "Class"), openml=1462),
    "red_wine": Table((1599, 12), openml=40691),
    "yeast": Table((1484, 8), drop=("site", "class_protein_localization"), openml=181),
    "breast_cancer": Table((569, 30)),
    "white_wine": Table((4898, 12), openml=40498),
}


@dataclass(frozen=True)
class Split:
    """One split of a standardized table.

    ``fit`` holds training and validation rows, complete; ``truth`` the test rows, ``test`` the same
    with missing values, and ``missing`` where those are.
    """

    fit: NDArray[np.float64]
    truth: NDArray[np.float64]
    test: NDArray[np.float64]
    missing: NDArray[np.bool_]


def load_table(name: str, data_dir: Path | None) -> NDArray[np.float64]:
    """Return a table in original units, from ``data_dir/<name>.csv`` or from the network."""
    table = TABLES[name]
    frame = _fetch(name) if data_dir is None else pd.read_csv(data_dir / f"{name}.csv")
    X = frame.drop(columns=[c for c in table.drop if c in frame]).to_numpy(dtype=np.float64)
    if X.shape != table.shape:
        raise ValueError(
            f"{name} should have {table.shape} rows and columns, got {X.shape} from "
            f"{data_dir or 'the network'}; see benchmarks/README.md for the columns to keep."
        )
    return X


def _fetch(name: str) -> pd.DataFrame:
    number = TABLES[name].openml
    if number is None:
        return load_breast_cancer(as_frame=True).data
    return fetch_openml(data_id=number, as_frame=True).frame


def split_table(X: NDArray[np.float64], seed: int, max_rows: int | None = None) -> Split:
    """Shuffle, split, standardize by the training rows and hide half of each test row."""
    X = np.random.default_rng(seed).permutation(X)[:max_rows]
    n_train, n_fit = (int(share * len(X)) for share in SHARES)
    scale = X[:n_train].std(axis=0)
    X = (X - X[:n_train].mean(axis=0)) / np.where(scale > 0, scale, 1.0)
    test, missing = make_missing(X[n_fit:], rate=0.5, per_row=True, random_state=seed)
    return Split(fit=X[:n_fit], truth=X[n_fit:], test=test, missing=missing)


def machine() -> dict[str, Any]:
    """Return what timings depend on."""
    return {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": os.environ.get("OMP_NUM_THREADS", "default"),
        "python": platform.python_version(),
    }


def read_records(path: Path) -> list[dict[str, Any]]:
    """Return the records of a file with one JSON object a line; none if there is no file."""
    if not path.exists():
        return []
    records = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:  # a run was stopped while it wrote
            print(f"{path}: skipped an unreadable line: {line[:60]!r}")
    return records


def append_record(path: Path, record: dict[str, Any]) -> None:
    """Add a record as a line of its own, also after a line that was cut off."""
    cut_off = path.exists() and path.stat().st_size > 0 and path.read_bytes()[-1:] != b"\n"
    with path.open("a", encoding="utf-8") as file:
        file.write("\n" * cut_off + json.dumps(record) + "\n")


def mean_and_spread(values: Iterable[float | None], digits: int) -> str:
    """Return "mean ± standard deviation" of values, or a dash where there are none."""
    known = np.array([value for value in values if value is not None])
    if len(known) == 0:
        return "-"
    mean = f"{known.mean():.{digits}f}"
    return mean if len(known) == 1 else f"{mean} ± {known.std(ddof=1):.{digits}f}"
