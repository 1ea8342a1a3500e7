"""What inference costs: decoder evaluations, milliseconds and memory a row.

Trains one default model a table, saves it, and completes rows with it in a fresh process, so that
the memory of training does not hide that of inference. Prints and saves numbers, asserts nothing.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from _common import TABLES, append_record, load_table, machine, split_table

from sklearn_qavi import QAVIImputer
from sklearn_qavi.generative import TabularVAE

POSTERIORS = ("gaussian", "mixture", "flow")
N_MEMORY_ROWS = 100_000


def complete(folder: str, posterior: str, rows_file: str) -> dict[str, Any]:
    """Load a model and complete the rows of a file; run in a process of its own."""
    model = TabularVAE.load(folder)
    rows = np.load(rows_file)
    imputer = QAVIImputer(generative_model=model, posterior=posterior, random_state=0)
    imputer.fit(np.where(np.isnan(rows[:200]), 0.0, rows[:200]))
    before = _peak_mib()
    imputer.transform(rows[:64])  # what is loaded on first use is not a cost of a row
    start = time.perf_counter()
    imputer.transform(rows)
    seconds = time.perf_counter() - start
    evaluations = imputer.infer(rows[:512]).n_evaluations
    n_decoders = len(model.members_)
    return {
        "posterior": posterior,
        "rows": len(rows),
        "decoders": n_decoders,
        "ms_per_row_and_decoder": 1e3 * seconds / len(rows) / n_decoders,
        "evaluations_per_row": float(evaluations.mean()),
        "peak_mib_above_loaded_model": _peak_mib() - before,
    }


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def in_fresh_process(folder: str, posterior: str, rows: np.ndarray) -> dict[str, Any]:
    """Run `complete` on rows in a process that has done nothing else."""
    with tempfile.TemporaryDirectory() as place:
        path = str(Path(place) / "rows.npy")
        np.save(path, rows)
        command = [sys.executable, __file__, "--worker", folder, posterior, path]
        printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return json.loads(printed.splitlines()[-1])


def measure(table: str, args: argparse.Namespace) -> None:
    """Train on a table and measure every posterior on its test rows."""
    split = split_table(load_table(table, args.data_dir), seed=0)
    rows = split.test
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = TabularVAE(random_state=0, max_epochs=args.max_epochs, n_decoders=args.n_decoders)
        model.fit(split.fit).save(folder)
        for posterior in args.posteriors:
            report(table, args, in_fresh_process(folder, posterior, rows))
        if args.memory:
            many = np.resize(rows, (N_MEMORY_ROWS, rows.shape[1]))
            report(table, args, in_fresh_process(folder, "gaussian", many))


def report(table: str, args: argparse.Namespace, record: dict[str, Any]) -> None:
    """Print a record and append it to the file of records."""
    record = {"table": table, **record, "machine": machine()}
    if args.out:
        append_record(args.out, record)
    print(
        f"{table:14s} {record['posterior']:9s} {record['rows']:7d} rows x "
        f"{record['decoders']} decoders: {record['ms_per_row_and_decoder']:6.2f} ms a row and "
        f"decoder, {record['evaluations_per_row']:7.0f} evaluations, peak "
        f"{record['peak_mib_above_loaded_model']:6.0f} MiB above the loaded model",
        flush=True,
    )


def main() -> None:
    """Read the command line and measure."""
    if sys.argv[1:2] == ["--worker"]:
        print(json.dumps(complete(*sys.argv[2:])))
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tables", nargs="+", choices=sorted(TABLES), default=["concrete"])
    parser.add_argument("--data-dir", type=Path, help="folder of CSV files, e.g. ../data/uci")
    parser.add_argument("--out", type=Path, help="file of JSON lines to append to")
    parser.add_argument("--max-epochs", type=int, default=30, help="training is not timed")
    parser.add_argument("--n-decoders", type=int, default=3)
    parser.add_argument("--posteriors", nargs="*", choices=POSTERIORS, default=list(POSTERIORS))
    parser.add_argument("--memory", action="store_true", help="also 100,000 rows")
    measure_args = parser.parse_args()
    for table in measure_args.tables:
        measure(table, measure_args)


if __name__ == "__main__":
    main()
