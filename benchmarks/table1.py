"""The paper's Table 1: nine inference methods on six tables, on the same decoders.

For each table and seed one model with a continuous likelihood is trained, every method infers the
same test rows with it, and two scores are printed beside the paper's: the importance-weighted log
likelihood of the hidden cells (equation 12, nats per row) and the smallest NRMSE over 10,000
decoder means. See benchmarks/README.md. Prints and saves numbers, asserts nothing.
"""

import argparse
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _common import (
    Split,
    append_record,
    load_table,
    machine,
    mean_and_spread,
    read_records,
    split_table,
)

from sklearn_qavi import QAVIImputer, __version__
from sklearn_qavi.baselines import PosteriorMatching, RetunedEncoder
from sklearn_qavi.generative import TabularVAE
from sklearn_qavi.inference import Feature

MODEL = {"likelihood": "student_t", "n_decoders": 3, "max_steps": 10_000}
BETA = 3.0  # of the three posteriors over the code; chosen with --development
FEATURE = {"posterior": Feature(gamma=2.0), "beta": 3.0}  # likewise

PAPER: dict[str, dict[str, tuple[float, float]]] = {  # log likelihood and NRMSE of its Table 1
    "breast_cancer": {
        "mixture": (-9.16, 0.39),
        "flow": (-9.14, 0.39),
        "gaussian": (-9.21, 0.39),
        "feature": (-16.32, 0.37),
        "posterior_matching": (-15.14, 0.33),
        "retuned_encoder": (-12.82, 0.40),
        "metropolis_within_gibbs": (-23.94, 0.44),
        "pseudo_gibbs": (-12.61, 0.33),
        "fill_zeros": (-32.56, 0.40),
    },
    "red_wine": {
        "mixture": (-6.35, 0.26),
        "flow": (-6.47, 0.26),
        "gaussian": (-6.56, 0.30),
        "feature": (-13.20, 0.28),
        "posterior_matching": (-14.83, 0.42),
        "retuned_encoder": (-12.96, 0.40),
        "metropolis_within_gibbs": (-74.22, 0.68),
        "pseudo_gibbs": (-33.53, 0.36),
        "fill_zeros": (-21.97, 0.36),
    },
    "white_wine": {
        "mixture": (-7.03, 0.35),
        "flow": (-7.03, 0.35),
        "gaussian": (-6.94, 0.30),
        "feature": (-8.80, 0.38),
        "posterior_matching": (-9.19, 0.39),
        "retuned_encoder": (-9.59, 0.39),
        "metropolis_within_gibbs": (-19.83, 0.58),
        "pseudo_gibbs": (-10.68, 0.36),
        "fill_zeros": (-10.09, 0.37),
    },
    "banknote": {
        "mixture": (-2.25, 0.10),
        "flow": (-2.24, 0.10),
        "gaussian": (-2.35, 0.10),
        "feature": (-8.27, 0.15),
        "posterior_matching": (-4.42, 0.14),
        "retuned_encoder": (-4.26, 0.14),
        "metropolis_within_gibbs": (-49.51, 0.68),
        "pseudo_gibbs": (-44.16, 0.40),
        "fill_zeros": (-17.46, 0.32),
    },
    "concrete": {
        "mixture": (-2.70, 0.17),
        "flow": (-2.65, 0.17),
        "gaussian": (-2.82, 0.17),
        "feature": (-15.14, 0.23),
        "posterior_matching": (-15.05, 0.40),
        "retuned_encoder": (-11.48, 0.35),
        "metropolis_within_gibbs": (-265.62, 0.62),
        "pseudo_gibbs": (-249.06, 0.36),
        "fill_zeros": (-23.33, 0.32),
    },
    "yeast": {
        "mixture": (2.42, 0.46),
        "flow": (2.55, 0.46),
        "gaussian": (2.82, 0.46),
        "feature": (-7.81, 0.47),
        "posterior_matching": (-430.36, 0.47),
        "retuned_encoder": (-33.62, 0.50),
        "metropolis_within_gibbs": (-1.86, 0.54),
        "pseudo_gibbs": (-5.11, 0.48),
        "fill_zeros": (-11.27, 0.48),
    },
}


def half_of_each_row(rng: np.random.Generator, n_rows: int, n_features: int) -> np.ndarray:
    """Return the masks that the test rows have, for posterior matching with known queries."""
    order = rng.random((n_rows, n_features)).argsort(axis=1).argsort(axis=1)
    return order < round(n_features / 2)


METHODS: dict[str, dict[str, Any]] = {
    "mixture": {"posterior": "mixture", "beta": BETA},
    "flow": {"posterior": "flow", "beta": BETA},
    "gaussian": {"posterior": "gaussian", "beta": BETA},
    "mixture, beta=1": {"posterior": "mixture"},
    "flow, beta=1": {"posterior": "flow"},
    "gaussian, beta=1": {"posterior": "gaussian"},
    "feature": FEATURE,
    "posterior_matching": {"posterior": PosteriorMatching()},
    "posterior_matching (rate)": {"posterior": PosteriorMatching(masks=0.5)},
    "posterior_matching (true)": {"posterior": PosteriorMatching(masks=half_of_each_row)},
    "retuned_encoder": {"posterior": RetunedEncoder()},
    "metropolis_within_gibbs": {"posterior": "metropolis_within_gibbs"},
    "pseudo_gibbs": {"posterior": "pseudo_gibbs"},
    "fill_zeros": {"posterior": "fill_zeros"},
}


def run_split(table: str, seed: int, methods: list[str], args: argparse.Namespace) -> None:
    """Train one model and let every method infer the test rows, record by record."""
    split = split_table(load_table(table, args.data_dir), seed, args.max_rows)
    if args.development:
        split = development_split(split, seed)
    rows = slice(args.test_rows)  # they are in random order
    split = Split(split.fit, split.truth[rows], split.test[rows], split.missing[rows])
    model = TabularVAE(**args.model, random_state=seed)
    start = time.perf_counter()
    model.fit(split.fit)
    fit_seconds = time.perf_counter() - start
    # from the model's units (all rows it was fitted to) to those of the training rows
    shift = -float((np.log(model.scale_) * split.missing).sum(1).mean())
    for method in methods:
        start = time.perf_counter()
        imputer = QAVIImputer(generative_model=model, random_state=seed, **METHODS[method])
        if args.quick and "posterior__max_epochs" in imputer.get_params():
            imputer.set_params(posterior__max_epochs=3)
        imputer.fit(split.fit)
        scores = imputer.score_missing(split.truth, split.missing, n_draws=args.draws)
        record = {
            **question(table, seed, method, args),
            **{f"{name}_spread": float(np.std(values)) for name, values in scores.items()},
            "iwae": float(scores["iwae"].mean()) + shift,
            "predictive": float(scores["predictive"].mean()) + shift,
            "conditional": float(scores["conditional"].mean()) + shift,
            "minimum_nrmse": float(scores["minimum_nrmse"].mean()),
            "seconds": time.perf_counter() - start,
            "fit_seconds": fit_seconds,
            **describe_inference(imputer, split),
            "version": __version__,
            **machine(),
        }
        append_record(args.out, record)
        print(
            f"{table}, seed {seed}, {method}: eq. 12 {record['iwae']:.2f}, predictive "
            f"{record['predictive']:.2f}, NRMSE {record['minimum_nrmse']:.3f}",
            flush=True,
        )


def development_split(split: Split, seed: int) -> Split:
    """Return a split of the fit rows alone, to choose settings on."""
    n_train = int(0.8 * len(split.fit))
    rng = np.random.default_rng(1000 + seed)
    truth = split.fit[n_train:]
    missing = half_of_each_row(rng, *truth.shape)
    return Split(split.fit[:n_train], truth, np.where(missing, np.nan, truth), missing)


def describe_inference(imputer: QAVIImputer, split: Split) -> dict[str, float]:
    """Return what inference took and how a mixture used its components."""
    pooled = imputer.infer(split.test)
    out = {
        "evaluations": float(pooled.n_evaluations.mean()),
        "bound": float(pooled.bound.mean()),
        "unreliable": float((pooled.pareto_k > 0.7).mean()),
    }
    if imputer.posterior == "mixture":
        entropies = []
        for result in pooled.results:
            weight = result.posterior.family.components(result.posterior.parameters)[0]
            entropies.append(-torch.xlogy(weight, weight).sum(-1))
        out["components"] = float(torch.stack(entropies).exp().mean())
    if imputer.posterior == "metropolis_within_gibbs":
        out["acceptance_rate"] = float(pooled.acceptance_rate.mean())
    return out


def question(table: str, seed: int, method: str, args: argparse.Namespace) -> dict[str, Any]:
    """Return what makes a record the answer to a question."""
    params = {k: v for k, v in METHODS[method].items() if isinstance(v, float)}
    if isinstance(posterior := METHODS[method]["posterior"], Feature):
        params["gamma"] = posterior.gamma
    return {
        "table": table,
        "seed": seed,
        "method": method,
        "params": params,
        "model": args.model,
        "draws": args.draws,
        "test_rows": args.test_rows,
        "development": args.development,
        "quick": args.quick,
    }


def known(record: dict[str, Any], asked: dict[str, Any]) -> bool:
    """Return whether a record was made with exactly these settings."""
    return all(record.get(key) == value for key, value in asked.items())


def summary(records: list[dict[str, Any]], tables: list[str]) -> str:
    """Return a Markdown table: ours and the paper's, eq. 12 and NRMSE, mean and spread."""
    lines = ["", "| method | " + " | ".join(tables) + " |", "|---" * (len(tables) + 1) + "|"]
    for method in METHODS:
        cells = []
        for table in tables:
            group = [r for r in records if r["table"] == table and r["method"] == method]
            if not group:
                cells.append("-")
                continue
            paper = PAPER[table].get(method)
            beside = f" ({paper[0]:.2f} / {paper[1]:.2f})" if paper else ""
            score = mean_and_spread([r["iwae"] for r in group], 2)
            nrmse = mean_and_spread([r["minimum_nrmse"] for r in group], 2)
            cells.append(f"{score} / {nrmse}{beside}")
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    names = ("evaluations", "predictive", "conditional", "unreliable", "components")
    lines += ["", "| method | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for method in METHODS:
        group = [r for r in records if r["method"] == method]
        if group:
            cells = [
                mean_and_spread([float(np.mean([r[n] for r in group if n in r]))], 2)
                if any(n in r for r in group)
                else "-"
                for n in names
            ]
            lines.append(f"| {method} | " + " | ".join(cells) + " |")
    lines += ["", "Equation 12 (nats per row, higher is better) / smallest NRMSE; in brackets the"]
    lines += ["paper's. The second table is a mean over tables and seeds."]
    return "\n".join(lines)


def main() -> None:
    """Read the command line, run what the file does not hold yet, print the summary."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", type=Path, help="folder of CSV files, e.g. ../data/uci")
    parser.add_argument("--tables", nargs="+", choices=list(PAPER), default=list(PAPER))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--draws", type=int, default=10_000)
    parser.add_argument("--test-rows", type=int, help="score the first of them; default: all")
    parser.add_argument(
        "--development", action="store_true", help="score rows cut from the fit rows instead"
    )
    parser.add_argument("--quick", action="store_true", help="few rows, little training")
    parser.add_argument("--out", type=Path, default=Path("table1.jsonl"))
    args = parser.parse_args()
    args.model, args.max_rows = dict(MODEL), None
    if args.quick:
        args.model.update(n_decoders=1, max_steps=50)
        args.draws, args.max_rows, args.seeds = 500, 250, args.seeds[:1]
    warnings.simplefilter("ignore")
    for table in args.tables:
        for seed in args.seeds:
            done = read_records(args.out)
            left = [
                method
                for method in args.methods
                if not any(known(r, question(table, seed, method, args)) for r in done)
            ]
            if left:
                run_split(table, seed, left, args)
    asked = {
        "draws": args.draws,
        "test_rows": args.test_rows,
        "development": args.development,
        "quick": args.quick,
    }
    print(summary([r for r in read_records(args.out) if known(r, asked)], args.tables))


if __name__ == "__main__":
    main()
