"""Quality and time of imputation on UCI tables, beside scikit-learn's imputers.

See benchmarks/README.md for the protocol. Prints and saves numbers, asserts nothing.
"""

import argparse
import ast
import json
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from _common import (
    TABLES,
    Split,
    append_record,
    load_table,
    machine,
    mean_and_spread,
    read_records,
    split_table,
)
from numpy.typing import NDArray
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, KNNImputer, SimpleImputer

from sklearn_qavi import QAVIImputer, __version__
from sklearn_qavi.metrics import (
    energy_score,
    interval_coverage,
    interval_width,
    masked_crps,
    masked_mae,
    masked_rmse,
)

QUICK_ROWS = 250
QUICK_PARAMS = {"generative_model__max_steps": 30, "generative_model__n_decoders": 1}


@dataclass(frozen=True)
class Settings:
    """What a run of one method needs besides the rows."""

    seed: int
    n_draws: int
    quick: bool
    qavi_params: dict[str, Any]


@dataclass(frozen=True)
class Outcome:
    """Completed test rows and what they took."""

    completed: NDArray[np.float64]
    draws: NDArray[np.float64] | None
    fit_seconds: float
    infer_seconds: float  # for `completed`
    sample_seconds: float | None  # for `draws`


def timed(function: Callable[..., Any], *args: Any, **kwargs: Any) -> tuple[Any, float]:
    """Return what the function returns, and its seconds."""
    start = time.perf_counter()
    result = function(*args, **kwargs)
    return result, time.perf_counter() - start


def run_qavi(split: Split, settings: Settings) -> Outcome:
    """Fit QAVIImputer, complete the test rows and draw from their posteriors."""
    params = {**(QUICK_PARAMS if settings.quick else {}), **settings.qavi_params}
    imputer = QAVIImputer(random_state=settings.seed).set_params(**params)
    _, fit_seconds = timed(imputer.fit, split.fit)
    completed, infer_seconds = timed(imputer.transform, split.test)
    draws, sample_seconds = timed(imputer.sample, split.test, n=settings.n_draws)
    return Outcome(completed, draws, fit_seconds, infer_seconds, sample_seconds)


def run_point(imputer: Any, split: Split) -> Outcome:
    """Run an imputer that gives one value per cell."""
    _, fit_seconds = timed(imputer.fit, split.fit)
    completed, infer_seconds = timed(imputer.transform, split.test)
    return Outcome(completed, None, fit_seconds, infer_seconds, None)


def run_chained_draws(split: Split, settings: Settings) -> Outcome:
    """Run chained Bayesian regressions with posterior draws; their mean is the completed table."""
    imputer = chained(settings, sample_posterior=True)
    _, fit_seconds = timed(imputer.fit, split.fit)

    def sample() -> NDArray[np.float64]:
        # each call goes on with the imputer's random numbers, so the draws differ
        return np.stack([imputer.transform(split.test) for _ in range(settings.n_draws)])

    draws, seconds = timed(sample)
    return Outcome(draws.mean(axis=0), draws, fit_seconds, seconds, seconds)


def chained(settings: Settings, **params: Any) -> IterativeImputer:
    """Return an IterativeImputer that may be fitted to complete rows.

    Nothing changes from round to round when no cell is missing, so with ``tol`` above 0 it would
    stop after the first and give the test rows a single round as well.
    """
    return IterativeImputer(tol=0.0, random_state=settings.seed, **params)


def trees(settings: Settings) -> ExtraTreesRegressor:
    """Return the regressor for chained trees."""
    return ExtraTreesRegressor(10 if settings.quick else 100, random_state=settings.seed)


def run_miceforest(split: Split, settings: Settings) -> Outcome:
    """Run chained gradient-boosted trees with predictive mean matching, 20 completed tables.

    Its models are learned where a column has missing cells, so it gets the test rows with the
    others, which is more than the other methods see.
    """
    import miceforest  # an extra that the project does not need otherwise

    table = pd.DataFrame(np.vstack([split.fit, split.test]))
    table.columns = [f"x{j}" for j in range(table.shape[1])]
    n_tables, rounds = (2, 1) if settings.quick else (20, 5)

    def complete(k: int) -> NDArray[np.float64]:
        # one table a kernel: a kernel keeps every model of all its tables, many GiB of wide ones
        kernel = miceforest.ImputationKernel(
            table, num_datasets=1, random_state=settings.seed * n_tables + k
        )
        kernel.mice(rounds)
        return kernel.complete_data(0).to_numpy()[len(split.fit) :]

    draws, fit_seconds = timed(lambda: np.stack([complete(k) for k in range(n_tables)]))
    return Outcome(draws.mean(axis=0), draws, fit_seconds, 0.0, None)


METHODS: dict[str, Callable[[Split, Settings], Outcome]] = {
    "qavi": run_qavi,
    "mean": lambda split, _: run_point(SimpleImputer(), split),
    "knn": lambda split, _: run_point(KNNImputer(), split),
    "bayesian_ridge": lambda split, settings: run_point(chained(settings), split),
    "extra_trees": lambda split, settings: run_point(
        chained(settings, estimator=trees(settings)), split
    ),
    "bayesian_ridge_draws": run_chained_draws,
    "miceforest": run_miceforest,
}


def score(outcome: Outcome, split: Split) -> dict[str, float | None]:
    """Return the scores of the hidden cells, in standardized units."""
    truth, missing, draws = split.truth, split.missing, outcome.draws
    has_draws = draws is not None
    wide = has_draws and len(draws) >= 19  # fewer give no 90% interval
    return {
        "rmse": masked_rmse(truth, outcome.completed, missing),
        "mae": masked_mae(truth, outcome.completed, missing),
        "crps": masked_crps(truth, draws, missing) if has_draws else None,
        "energy": energy_score(truth, draws, missing) if has_draws else None,
        "coverage": interval_coverage(truth, draws, missing) if wide else None,
        "width": interval_width(draws, missing) if wide else None,
        "fit_seconds": outcome.fit_seconds,
        "infer_seconds": outcome.infer_seconds,
        "sample_seconds": outcome.sample_seconds,
        "ms_per_row": 1e3 * outcome.infer_seconds / len(truth),
    }


def describe(table: str, method: str, settings: Settings) -> dict[str, Any]:
    """Return what makes a record the answer to a question."""
    question = {
        "table": table,
        "seed": settings.seed,
        "method": method,
        "params": settings.qavi_params if method == "qavi" else {},
        "n_draws": settings.n_draws,
        "quick": settings.quick,
    }
    # as it reads in a file, where a tuple has become a list
    return json.loads(json.dumps(question, default=repr))


def answers(record: dict[str, Any], question: dict[str, Any]) -> bool:
    """Return whether a record was made with exactly these settings."""
    return all(record.get(key) == value for key, value in question.items())


def run_one(X: NDArray[np.float64], question: dict[str, Any], settings: Settings) -> dict[str, Any]:
    """Run and score one method on one split of one table."""
    split = split_table(X, settings.seed, QUICK_ROWS if settings.quick else None)
    with warnings.catch_warnings():
        if question["method"] != "qavi":
            # chained() asks for all rounds on purpose
            warnings.simplefilter("ignore", ConvergenceWarning)
        outcome = METHODS[question["method"]](split, settings)
    sizes = {"n_fit": len(split.fit), "n_test": len(split.test), "n_features": X.shape[1]}
    return {**question, **score(outcome, split), **sizes, "version": __version__, **machine()}


def run_all(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Run what the file does not hold yet, add it record by record and return all records."""
    records = read_records(args.out)
    for table in args.tables:
        X = load_table(table, args.data_dir)
        for seed in args.seeds:
            settings = Settings(seed, args.draws, args.quick, args.qavi_param)
            for method in args.methods:
                question = describe(table, method, settings)
                if any(answers(record, question) for record in records):
                    print(f"{table}, seed {seed}, {method}: already in {args.out}")
                    continue
                record = run_one(X, question, settings)
                append_record(args.out, record)
                records.append(record)
                print(f"{table}, seed {seed}, {method}: RMSE {record['rmse']:.3f}", flush=True)
    return records


def label(record: dict[str, Any]) -> str:
    """Return the name of a method with the settings that are not its defaults."""
    params = ", ".join(f"{key}={value!r}" for key, value in record["params"].items())
    return f"{record['method']} ({params})" if params else record["method"]


def crps_text(group: list[dict[str, Any]]) -> str:
    """Return the CRPS of draws, or the mean absolute error of single values, marked."""
    if group[0]["crps"] is None:
        return mean_and_spread((r["mae"] for r in group), 3) + " *"
    return mean_and_spread((r["crps"] for r in group), 3)


def summary_line(name: str, group: list[dict[str, Any]]) -> str:
    """Return one line of the Markdown table."""
    columns = [("rmse", 3), ("coverage", 3), ("width", 2), ("fit_seconds", 1)]
    columns += [("infer_seconds", 2), ("sample_seconds", 2), ("ms_per_row", 2)]
    cells = [mean_and_spread((r[key] for r in group), digits) for key, digits in columns]
    seeds = len({r["seed"] for r in group})
    return "| " + " | ".join([name, str(seeds), cells[0], crps_text(group), *cells[1:]]) + " |"


def summary(records: list[dict[str, Any]]) -> str:
    """Return Markdown: a table of mean and standard deviation over seeds for each UCI table."""
    names = ["method", "seeds", "RMSE", "CRPS", "in 90%", "width"]
    names += ["fit s", "transform s", "draws s", "ms per row"]
    lines = []
    for table in dict.fromkeys(record["table"] for record in records):
        groups: dict[str, list[dict[str, Any]]] = {}
        for record in records:
            if record["table"] == table:
                groups.setdefault(label(record), []).append(record)
        lines += ["", f"### {table}", "", f"| {' | '.join(names)} |", "|---" * len(names) + "|"]
        lines += [summary_line(name, group) for name, group in groups.items()]
    lines += ["", "Mean ± standard deviation over seeds; hidden cells, standardized units."]
    lines += ["\\* mean absolute error: the CRPS of a method that gives one value per cell."]
    return "\n".join(lines)


def parse_params(pairs: list[str]) -> dict[str, Any]:
    """Return ``key=value`` texts as parameters; a value that is no Python literal is a text."""
    params = {}
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not separator:
            raise SystemExit(f"a parameter is key=value, got {pair!r}")
        try:
            params[key] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            params[key] = value
    return params


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", type=Path, help="folder of CSVs; default: from the network")
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=list(TABLES)[:4])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--draws", type=int, help="draws per row; default: 100, quick 20")
    parser.add_argument("--qavi-param", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--quick", action="store_true", help="few rows, little training")
    parser.add_argument("--out", type=Path, default=Path("results.jsonl"))
    args = parser.parse_args()
    args.draws = args.draws or (20 if args.quick else 100)
    args.qavi_param = parse_params(args.qavi_param)
    return args


def main() -> None:
    """Run the benchmark and print the summary."""
    args = parse_args()
    records = run_all(args)
    wanted = {"n_draws": args.draws, "quick": args.quick}
    print(summary([record for record in records if answers(record, wanted)]))


if __name__ == "__main__":
    main()
