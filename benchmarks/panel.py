"""Imputers on many tables: three ways to hide cells, peers from chained regressions to forests.

See benchmarks/README.md for the protocol and the tables. Prints and saves numbers, asserts nothing.
"""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from _common import append_record, machine, read_records
from _panel_methods import METHODS, N_DRAWS, is_available
from _panel_protocols import PROTOCOLS, make_problem, score
from _panel_summary import label, save_figure, summary
from _panel_tables import DEVELOPMENT, SCORED, TABLES
from peers import answers, parse_params

from sklearn_qavi import __version__

THREADS = ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "LOKY_MAX_CPU_COUNT"]


def processor_seconds() -> float:
    """Return the processor time of this process and of its children that have ended."""
    return sum(os.times()[:4])


def answer(question: dict[str, Any]) -> dict[str, Any]:
    """Run and score one method on one problem, in this process."""
    warnings.simplefilter("ignore")
    problem = make_problem(question["table"], question["protocol"], question["seed"])
    start, wall = processor_seconds(), time.perf_counter()
    method = METHODS[question["method"]]
    try:
        point, draws = method(problem, question["seed"], question["params"])
        scores = score(problem, point, draws)
    except Exception as error:
        return {"error": " ".join(f"{type(error).__name__}: {error}".split())[:300]}
    seconds = {"seconds": processor_seconds() - start, "wall_seconds": time.perf_counter() - wall}
    sizes = {"rows": problem.n_rows, "columns": problem.hidden.shape[1]}
    sizes |= {"train_rows": len(problem.train), "scored_cells": int(problem.hidden.sum())}
    about = {"has_draws": draws is not None, "version": __version__}
    return {**scores, **about, **seconds, **sizes}


class Workers:
    """Processes that answer questions, one each, and can all be stopped."""

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self.running: set[subprocess.Popen[str]] = set()

    def ask(self, question: dict[str, Any]) -> dict[str, Any]:
        """Answer a question in a process of its own, with one thread and within the limit."""
        environment = {**os.environ, **dict.fromkeys(THREADS, "1")}
        folder = str(Path(__file__).resolve().parent.parent)
        paths = [folder, *filter(None, [environment.get("PYTHONPATH")])]
        environment["PYTHONPATH"] = os.pathsep.join(paths)
        command = [sys.executable, __file__, "--answer", json.dumps(question)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        process = subprocess.Popen(command, env=environment, start_new_session=True, **pipes)
        self.running.add(process)
        try:
            output, errors = process.communicate(timeout=self.limit)
        except subprocess.TimeoutExpired:
            stop(process)
            process.communicate()
            return {"timeout": self.limit}
        finally:
            self.running.discard(process)
        if process.returncode:
            lines = errors.strip().splitlines() or [f"exit status {process.returncode}"]
            return {"error": lines[-1][:300]}
        return json.loads(output.splitlines()[-1])

    def stop(self) -> None:
        """End all processes."""
        for process in list(self.running):
            stop(process)


def stop(process: subprocess.Popen[str]) -> None:
    """End a process and those it has started."""
    with contextlib.suppress(ProcessLookupError):  # it may just have ended
        os.killpg(process.pid, signal.SIGKILL)


def questions(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Return what is to be run, in order."""
    for seed in args.seeds:
        for table in args.tables:
            for protocol in args.protocols:
                for method in args.methods:
                    params = args.qavi_param if method == "qavi" else {}
                    question = {"table": table, "protocol": protocol, "seed": seed}
                    question |= {"method": method, "params": params}
                    # as it reads in a file, where a tuple has become a list
                    yield json.loads(json.dumps(question, default=repr))


def is_settled(record: dict[str, Any], limit: float) -> bool:
    """Return whether a record need not be made again: it ended, or had as much time."""
    return record.get("timeout", limit) >= limit


def run_all(args: argparse.Namespace) -> None:
    """Run what the file does not hold yet and add it record by record."""
    records = [r for r in read_records(args.out) if is_settled(r, args.limit)]
    open_questions = [q for q in questions(args) if not any(answers(r, q) for r in records)]
    print(f"{len(open_questions)} runs to do; the others are in {args.out}", flush=True)
    workers = Workers(args.limit)
    # from outside the same as Ctrl-C: the processes are of sessions of their own, and would go on
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with ThreadPoolExecutor(args.jobs) as pool:
        futures = {pool.submit(workers.ask, question): question for question in open_questions}
        try:
            for future in as_completed(futures):
                record = {**futures[future], **future.result()}
                append_record(args.out, {**record, "machine": machine()})
                print(line_of(record), flush=True)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            workers.stop()
            raise


def line_of(record: dict[str, Any]) -> str:
    """Return a record in one line."""
    names = ["rmse", "crps", "coverage", "accuracy", "brier", "seconds", "timeout", "error"]
    known = [(name, record[name]) for name in names if record.get(name) is not None]
    texts = [f"{name} {v:.3f}" if isinstance(v, float) else f"{name} {v}" for name, v in known]
    start = f"{record['table']}, {record['protocol']}, seed {record['seed']}, {label(record)}"
    return f"{start}: {', '.join(texts)}"


def chosen_records(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Return the records to summarise, the newest of each question, with any parameters."""
    newest = {}
    for record in read_records(args.out):
        wanted = record["table"] in args.tables and record["protocol"] in args.protocols
        if wanted and record["seed"] in args.seeds and record["method"] in args.methods:
            keys = [record["table"], record["protocol"], record["seed"], label(record)]
            newest[tuple(keys)] = record
    return list(newest.values())


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--answer", help=argparse.SUPPRESS)
    parser.add_argument("--half", choices=[DEVELOPMENT, SCORED, "both"], default="both")
    parser.add_argument("--tables", nargs="+", choices=TABLES, help="default: those of the half")
    parser.add_argument("--protocols", nargs="+", choices=PROTOCOLS, default=list(PROTOCOLS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument(
        "--methods", nargs="+", choices=METHODS, help="default: all that are installed"
    )
    parser.add_argument("--qavi-param", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--limit", type=float, default=600.0, help="seconds for one run")
    parser.add_argument("--jobs", type=int, default=1, help="processes at one time")
    parser.add_argument("--summary-only", action="store_true", help="run nothing")
    parser.add_argument("--out", type=Path, default=Path("panel.jsonl"))
    parser.add_argument("--markdown", type=Path, help="file for the summary")
    parser.add_argument("--figure", type=Path, help="file for critical-difference diagrams")
    args = parser.parse_args()
    half = [name for name, t in TABLES.items() if args.half in (t.half, "both")]
    args.tables = [name for name in args.tables or TABLES if name in half]
    args.qavi_param = parse_params(args.qavi_param)
    return args


def main() -> None:
    """Run what is missing and print the summary."""
    args = parse_args()
    if args.answer:
        print(json.dumps(answer(json.loads(args.answer))))
        return
    asked = args.methods or list(METHODS)
    absent = [method for method in asked if not is_available(method)]
    args.methods = asked
    if absent:
        print(f"not installed, left out: {', '.join(absent)}")
    if not args.summary_only:
        run_all(
            argparse.Namespace(**{**vars(args), "methods": [m for m in asked if m not in absent]})
        )
    records = chosen_records(args)
    text = summary(records, N_DRAWS)
    print(text)
    if args.markdown:
        args.markdown.write_text(text + "\n", encoding="utf-8")
    if args.figure:
        save_figure(records, args.figure)


if __name__ == "__main__":
    main()
