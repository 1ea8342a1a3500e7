"""What a fit costs and what it gives: one core, tables small and large, beside scikit-learn's.

Each fit runs in a process of its own with one thread; seconds are the processor's, those of rivals
with the completion of the test rows, which they do not part from learning. Tables of
numbers follow the protocol of peers.py (half of the cells of test rows hidden), mixed ones that of
mixed.py. ``--package NAME=FOLDER`` measures other checkouts of the library in the same run, row by
row beside this one. Prints Markdown and saves JSON, asserts nothing.
"""

import argparse
import json
import os
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from _common import TABLES
from mixed import SOURCES
from numpy.typing import NDArray

FOLDER = Path(__file__).resolve().parent
UCI = list(TABLES)
BUNDLED = ["iris", "wine", "diabetes"]
MIXED = list(SOURCES)
MADE = {"300x200": (300, 200), "20000x8": (20_000, 8), "100000x20": (100_000, 20)}
RIVALS = ["bayesian_ridge", "extra_trees", "knn"]
MAX_TEST_ROWS = 500


def made_table(n_rows: int, n_columns: int) -> NDArray[np.float64]:
    """Return columns that depend on five hidden numbers along curves, with noise."""
    rng = np.random.default_rng(0)
    codes = rng.standard_normal((n_rows, 5))
    slope, shift = rng.standard_normal((5, n_columns)), rng.standard_normal(n_columns)
    return np.sin(codes @ slope * 0.5 + shift) + 0.2 * rng.standard_normal((n_rows, n_columns))


def load_numbers(name: str, data_dir: Path | None) -> NDArray[np.float64]:
    """Return a table of numbers."""
    from _common import load_table
    from sklearn import datasets

    if name in MADE:
        return made_table(*MADE[name])
    if name in BUNDLED:
        return getattr(datasets, f"load_{name}")().data
    return load_table(name, data_dir)


def learned(imputer: Any) -> dict[str, Any]:
    """Return what training says of itself: steps or epochs, and the score of validation cells."""
    model = imputer.generative_model_
    histories = model.history_
    scores = [[epoch["valid_crps"] for epoch in h if "valid_crps" in epoch] for h in histories]
    families = sorted({name for decoder in model.families_ for name in decoder})
    best = min((min(s) for s in scores if s), default=None)
    return {
        "records": sum(map(len, histories)),
        "steps": model.n_iter_,
        "valid_crps": best,
        "families": families,
        "n_decoders": len(model.decoders_),
    }


def measure_numbers(name: str, seed: int, method: str, data_dir: Path | None) -> dict[str, Any]:
    """Fit one method to one split of a table of numbers, complete the test rows."""
    import peers
    from _common import split_table

    split = split_table(load_numbers(name, data_dir), seed)
    test = slice(MAX_TEST_ROWS)
    split = type(split)(split.fit, split.truth[test], split.test[test], split.missing[test])
    if method != "qavi":
        settings = peers.Settings(seed, 100, False, {})
        start = time.process_time()
        outcome = peers.METHODS[method](split, settings)
        seconds = time.process_time() - start
        return {**peers.score(outcome, split), "fit_seconds": seconds}
    from sklearn_qavi import QAVIImputer

    imputer = QAVIImputer(random_state=seed)
    start = time.process_time()
    imputer.fit(split.fit)
    fitted = time.process_time()
    completed = imputer.transform(split.test)
    inferred = time.process_time()
    draws = imputer.sample(split.test, n=100)
    outcome = peers.Outcome(completed, draws, fitted - start, inferred - fitted, None)
    return {**peers.score(outcome, split), **learned(imputer)}


def measure_mixed(name: str, seed: int, method: str) -> dict[str, Any]:
    """Fit to a table of numbers and categories with 30% of its cells missing, and complete it."""
    import mixed

    if method != "qavi":
        start = time.process_time()
        record = mixed.measure(name, seed, method, {})
        return {"fit_seconds": time.process_time() - start, **record}
    fits: dict[str, Any] = {}

    def run(incomplete: Any, seed: int, params: dict[str, Any]) -> Any:
        from sklearn_qavi import QAVIImputer

        imputer = QAVIImputer(random_state=seed).set_output(transform="pandas")
        start = time.process_time()
        imputer.fit(incomplete)
        fits.update(fit_seconds=time.process_time() - start, **learned(imputer))
        return imputer.transform(incomplete), imputer.sample(incomplete, n=100)

    mixed.METHODS["qavi"] = run
    return {**mixed.measure(name, seed, "qavi", {}), **fits}


def in_own_process(package: str, question: dict[str, Any]) -> dict[str, Any]:
    """Answer a question with one thread and the library of a folder."""
    path = os.pathsep.join([package, str(FOLDER)])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, "--answer", json.dumps(question)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        return {"error": done.stderr.strip().splitlines()[-1][:300]}
    return json.loads(done.stdout.splitlines()[-1])


def answer(question: dict[str, Any]) -> dict[str, Any]:
    """Do one measurement in this process."""
    warnings.simplefilter("ignore")
    name, seed, method = (question[key] for key in ("table", "seed", "method"))
    if name in MIXED:
        return measure_mixed(name, seed, method)
    data_dir = question["data_dir"]
    return measure_numbers(name, seed, method, Path(data_dir) if data_dir else None)


def methods_of(table: str) -> list[str]:
    """Return the rivals that can complete a table."""
    return ["chained", "knn"] if table in MIXED else RIVALS


def summary(records: list[dict[str, Any]]) -> str:
    """Return Markdown: scores by table and package, means over seeds, and ratios to the last."""
    names = ["fit_seconds", "rmse", "crps", "accuracy", "coverage", "steps", "valid_crps"]
    lines = ["| table | method | seeds | " + " | ".join(names) + " |", "|---" * 10 + "|"]
    for table in dict.fromkeys(r["table"] for r in records):
        for label in dict.fromkeys(r["label"] for r in records if r["table"] == table):
            mine = [r for r in records if (r["table"], r["label"]) == (table, label)]
            cells = []
            for name in names:
                known = [r[name] for r in mine if r.get(name) is not None]
                cells.append(f"{np.mean(known):.4g}" if known else "-")
            lines.append(f"| {table} | {label} | {len(mine)} | " + " | ".join(cells) + " |")
    lines += ratios(records)
    return "\n".join(lines)


def ratios(records: list[dict[str, Any]]) -> list[str]:
    """Return geometric means over tables of each package's figures over this one's."""
    qavi = [r for r in records if r["method"] == "qavi" and "error" not in r]
    lines = []
    for label in dict.fromkeys(r["label"] for r in qavi if r["label"] != "here"):
        for name in ("fit_seconds", "crps", "rmse"):
            by_table: dict[str, list[float]] = {}
            for r in qavi:
                keys = ("table", "seed")
                twin = [h for h in qavi if h["label"] == "here" and all(h[k] == r[k] for k in keys)]
                if r["label"] == label and twin and r.get(name) and twin[0].get(name):
                    by_table.setdefault(r["table"], []).append(np.log(r[name] / twin[0][name]))
            means = {table: np.mean(logs) for table, logs in by_table.items()}
            if means:
                total = np.exp(np.mean(list(means.values())))
                least = min(means, key=lambda table: means[table])
                lines.append(
                    f"\n{name}, {label} over here: {total:.4g} on the mean of {len(means)} tables, "
                    f"least {np.exp(means[least]):.4g} ({least}), here better on "
                    f"{sum(m > 0 for m in means.values())}."
                )
    return lines


def main() -> None:
    """Read the command line, measure what the file does not hold yet, print all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--answer", help=argparse.SUPPRESS)
    parser.add_argument("--data-dir", type=Path, help="folder of CSVs; default: from the network")
    tables = [*BUNDLED, *UCI, *MIXED, *MADE]
    parser.add_argument("--tables", nargs="+", choices=tables, default=tables)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--package", action="append", default=[], metavar="NAME=FOLDER")
    parser.add_argument("--rivals", action="store_true", help="scikit-learn's imputers as well")
    parser.add_argument("--out", type=Path, default=Path("fit.jsonl"))
    args = parser.parse_args()
    if args.answer:
        print(json.dumps(answer(json.loads(args.answer))))
        return
    from _common import append_record, machine, read_records

    packages = {"here": str(FOLDER.parent), **dict(p.split("=", 1) for p in args.package)}
    data_dir = str(args.data_dir.resolve()) if args.data_dir else None
    known = {(r["table"], r["seed"], r["label"]) for r in read_records(args.out)}
    for seed in args.seeds:
        for table in args.tables:
            runs = [(label, "qavi", folder) for label, folder in packages.items()]
            if args.rivals:
                runs += [(rival, rival, packages["here"]) for rival in methods_of(table)]
            for label, method, folder in runs:
                if (table, seed, label) in known:
                    continue
                question = {"table": table, "seed": seed, "method": method, "data_dir": data_dir}
                record = {"label": label, **question, **in_own_process(folder, question)}
                record.pop("data_dir")
                append_record(args.out, {**record, "machine": machine()})
                print({k: record.get(k) for k in ("table", "label", "fit_seconds", "crps")})
    print(summary(read_records(args.out)))


if __name__ == "__main__":
    main()
