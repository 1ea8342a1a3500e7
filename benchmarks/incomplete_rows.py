"""Ways of training the same VAE on incomplete rows, at 10 to 70% missing.

See benchmarks/README.md for the protocol. Prints and saves numbers, asserts nothing.
"""

import argparse
import dataclasses
import json
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
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
from _training_rivals import MIWAE, DeMissVAE, MissSIWAE, MissSVAE
from numpy.typing import NDArray
from peers import (
    QUICK_ROWS,
    Outcome,
    Settings,
    answers,
    chained,
    crps_text,
    parse_params,
    run_point,
    score,
    timed,
)
from sklearn.exceptions import ConvergenceWarning

from sklearn_qavi import QAVIImputer, __version__
from sklearn_qavi.datasets import make_missing
from sklearn_qavi.generative import TabularVAE

MODEL = {"likelihood": "student_t", "n_decoders": 1}
QUICK = {"max_steps": 30}

# class of the model and its settings; "complete" is fitted to rows without missing values alone
WAYS: dict[str, tuple[type[TabularVAE], dict[str, Any]]] = {
    "complete": (TabularVAE, {}),
    "all": (TabularVAE, {}),
    "all_masked": (TabularVAE, {"mask_rate": 0.5}),
    "miwae": (MIWAE, {}),
    "miss_svae": (MissSVAE, {}),
    "miss_siwae": (MissSIWAE, {}),
    "demiss_vae": (DeMissVAE, {}),
}
EQUIVALENT, CHAINED = "complete_equivalent", "bayesian_ridge"
METHODS = [*WAYS, EQUIVALENT, CHAINED]


def hide(X: NDArray[np.float64], rate: float, seed: int) -> NDArray[np.float64]:
    """Hide a share of the cells completely at random, and from 50% on one of any complete row."""
    incomplete, _ = make_missing(X, rate=rate, random_state=seed)
    if rate >= 0.5:
        complete = np.flatnonzero(~np.isnan(incomplete).any(axis=1))
        rng = np.random.default_rng([seed, 1])
        incomplete[complete, rng.integers(X.shape[1], size=len(complete))] = np.nan
    return incomplete


def run_way(
    method: str,
    split: Split,
    incomplete: NDArray[np.float64],
    params: dict[str, Any],
    run: Settings,
) -> tuple[Outcome, dict[str, Any]]:
    """Train on the rows in one way, complete the test rows and draw; also say what was trained."""
    n_observed = int((~np.isnan(incomplete)).sum())
    if method == EQUIVALENT:
        incomplete = split.fit[: max(5, round(n_observed / incomplete.shape[1]))]
    complete = ~np.isnan(incomplete).any(axis=1)
    cls, settings = WAYS["complete" if method == EQUIVALENT else method]
    quick = QUICK if run.quick else {}
    model = cls(**{**MODEL, **quick, **settings, **params}, random_state=run.seed)
    imputer = QAVIImputer(generative_model=model, random_state=run.seed)
    _, fit_seconds = timed(
        imputer.fit, incomplete[complete] if method == "complete" else incomplete
    )
    completed, infer_seconds = timed(imputer.transform, split.test)
    draws, sample_seconds = timed(imputer.sample, split.test, n=run.n_draws)
    trained = imputer.generative_model_
    facts = {
        "n_complete": int(complete.sum()),
        "n_epochs": trained.n_iter_,
        "families": trained.families_[0],
        "valid_crps": min(epoch["valid_crps"] for epoch in trained.history_[0]),
    }
    return Outcome(completed, draws, fit_seconds, infer_seconds, sample_seconds), facts


def run_one(
    X: NDArray[np.float64], question: dict[str, Any], params: dict[str, Any], run: Settings
) -> dict[str, Any]:
    """Run and score one method on one split of one table, or say why it has no answer."""
    split = split_table(X, run.seed, QUICK_ROWS if run.quick else question["max_rows"])
    incomplete = hide(split.fit, question["rate"], run.seed)
    method, facts = question["method"], {}
    record = {**question, "n_fit": len(incomplete), "version": __version__, **machine()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        try:
            if method == CHAINED:
                outcome = run_point(chained(run), dataclasses.replace(split, fit=incomplete))
            else:
                outcome, facts = run_way(method, split, incomplete, params, run)
        except ValueError as error:  # hardly a complete row is left
            if method != "complete":
                raise
            return {**record, "failed": str(error)}
    return {**record, **score(outcome, split), **facts}


def describe(
    table: str, rate: float, seed: int, method: str, args: argparse.Namespace
) -> dict[str, Any]:
    """Return what makes a record the answer to a question."""
    return {
        "table": table,
        "rate": rate,
        "seed": seed,
        "method": method,
        "params": {} if method == CHAINED else json.loads(json.dumps(args.param)),
        "max_rows": args.max_rows,
        "n_draws": args.draws,
        "quick": args.quick,
    }


def run_all(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Run what the file does not hold yet, add it record by record and return all records."""
    records = read_records(args.out)
    for table in args.tables:
        X = load_table(table, args.data_dir)
        for seed in args.seeds:
            run = Settings(seed, args.draws, args.quick, {})
            for rate in args.rates:
                for method in args.methods:
                    question = describe(table, rate, seed, method, args)
                    name = f"{table}, seed {seed}, {rate:.0%} missing, {method}"
                    if any(answers(record, question) for record in records):
                        print(f"{name}: already in {args.out}")
                        continue
                    record = run_one(X, question, args.param, run)
                    append_record(args.out, record)
                    records.append(record)
                    rmse = record.get("rmse")
                    print(f"{name}: " + (f"RMSE {rmse:.3f}" if rmse else "failed"), flush=True)
    return records


def ratio(
    records: list[dict[str, Any]], method: str, other: str, key: str = "rmse"
) -> float | None:
    """Return the geometric mean, over splits that both answered, of a score against another's."""
    scores = {
        (r["table"], r["rate"], r["seed"], r["method"]): r[key]
        for r in records
        if r.get(key) is not None
    }
    pairs = [
        (value, scores[(*place, other)])
        for (*place, name), value in scores.items()
        if name == method and (*place, other) in scores
    ]
    return float(np.exp(np.mean([np.log(a / b) for a, b in pairs]))) if pairs else None


def text(value: float | None) -> str:
    """Return a ratio, or a dash where there is none."""
    return "-" if value is None else f"{value:.3f}"


def table_text(header: list[str], lines: Iterable[list[str]]) -> list[str]:
    """Return a Markdown table."""
    rows = ["| " + " | ".join(line) + " |" for line in lines]
    return ["", f"| {' | '.join(header)} |", "|---" * len(header) + "|", *rows]


def method_line(records: list[dict[str, Any]], method: str) -> list[str]:
    """Return the scores of a method on one table at one rate."""
    group = [r for r in records if r["method"] == method and r.get("rmse") is not None]
    if not group:
        return [method, "failed", *["-"] * 6]
    coverage = mean_and_spread((r["coverage"] for r in group), 3)
    seconds = mean_and_spread((r["fit_seconds"] for r in group), 1)
    return [
        method,
        mean_and_spread((r["rmse"] for r in group), 3),
        crps_text(group),
        coverage,
        seconds,
        mean_and_spread((r.get("n_epochs") for r in group), 0),
        text(ratio(records, method, EQUIVALENT)),
        text(ratio(records, method, CHAINED)),
    ]


def detail(records: list[dict[str, Any]], methods: list[str]) -> list[str]:
    """Return a table of scores for each table and rate."""
    header = ["method", "RMSE", "CRPS", "in 90%", "fit s", "epochs"]
    header += [f"RMSE / {EQUIVALENT}", f"RMSE / {CHAINED}"]
    lines = []
    for table, rate in dict.fromkeys((r["table"], r["rate"]) for r in records):
        group = [r for r in records if r["table"] == table and r["rate"] == rate]
        n_complete = mean_and_spread(
            (r.get("n_complete") for r in group if r["method"] == "all"), 0
        )
        lines += ["", f"### {table}, {rate:.0%} missing, {n_complete} complete rows"]
        lines += table_text(header, (method_line(group, method) for method in methods))
    return lines


def overview(records: list[dict[str, Any]], methods: list[str]) -> list[str]:
    """Return ratios of RMSE and CRPS to those of "all", by rate over all tables."""
    rates = sorted({r["rate"] for r in records})
    by_rate = {rate: [r for r in records if r["rate"] == rate] for rate in rates}
    lines = []
    for key in ("rmse", "crps"):
        lines += ["", f"### {key.upper()} as a multiple of that of `all`, over all tables"]
        cells = [
            [method, *(text(ratio(group, method, "all", key)) for group in by_rate.values())]
            for method in methods
        ]
        lines += table_text(["method", *(f"{rate:.0%}" for rate in by_rate)], cells)
    return lines


def claims(records: list[dict[str, Any]], methods: list[str]) -> list[str]:
    """Return, for 50% missing, how many tables each method does well on."""
    half = [r for r in records if r["rate"] == 0.5]
    tables = list(dict.fromkeys(r["table"] for r in half))

    def count(method: str, other: str, limit: float) -> str:
        by_table = [ratio([r for r in half if r["table"] == t], method, other) for t in tables]
        return f"{sum(x is not None and x < limit for x in by_table)} of {len(tables)}"

    header = ["method", f"within 10% of {EQUIVALENT}", f"better than {CHAINED}"]
    cells = [[m, count(m, EQUIVALENT, 1.1), count(m, CHAINED, 1.0)] for m in methods]
    return ["", "### Tables at 50% missing, by RMSE", *table_text(header, cells)] if half else []


def summary(records: list[dict[str, Any]], methods: list[str]) -> str:
    """Return all tables as Markdown."""
    lines = detail(records, methods) + overview(records, methods) + claims(records, methods)
    lines += ["", "Mean ± standard deviation over seeds; ratios are geometric means over splits."]
    lines += ["\\* mean absolute error: the CRPS of a method that gives one value per cell."]
    return "\n".join(lines)


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", type=Path, help="folder of CSVs; default: from the network")
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=list(TABLES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--rates", nargs="+", type=float, default=[0.1, 0.3, 0.5, 0.7])
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--max-rows", type=int, default=1500, help="rows of a table")
    parser.add_argument("--draws", type=int, help="draws per row; default: 100, quick 20")
    parser.add_argument(
        "--param", action="append", default=[], metavar="KEY=VALUE", help="of every model"
    )
    parser.add_argument("--quick", action="store_true", help="few rows, little training")
    parser.add_argument("--out", type=Path, default=Path("incomplete_rows.jsonl"))
    args = parser.parse_args()
    args.draws = args.draws or (20 if args.quick else 100)
    args.param = parse_params(args.param)
    return args


def main() -> None:
    """Run the benchmark and print the summary."""
    args = parse_args()
    records = run_all(args)
    wanted = [
        describe(table, rate, seed, method, args)
        for table in args.tables
        for rate in args.rates
        for seed in args.seeds
        for method in args.methods
    ]
    kept = [r for question in wanted for r in records if answers(r, question)]
    print(summary(kept, args.methods))


if __name__ == "__main__":
    main()
