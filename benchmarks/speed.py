"""What inference costs beside the paper's recipe, and how it grows with the table.

`recipe`: for each table and posterior, decoder evaluations, milliseconds and the bound with fresh
noise, of the default settings, of the same run to convergence and of the paper's recipe, on one
decoder in one process; and how far from the arithmetic's floor. `grow`: time and memory against
rows, columns and components, each in a process of its own. `rest`: fit and import times. Prints
and saves numbers, asserts nothing.
"""

import argparse
import json
import pickle
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _common import TABLES, append_record, load_table, machine, split_table

from sklearn_qavi import QAVIImputer
from sklearn_qavi._random import sobol_uniform
from sklearn_qavi.generative import TabularVAE
from sklearn_qavi.inference import (
    Adam,
    DecoderTarget,
    FlowPosterior,
    GaussianPosterior,
    Mixture,
    MixturePosterior,
    Posterior,
    PosteriorFamily,
    fit_posterior,
)

FRESH_DRAWS = 1024
CONVERGED = {
    "gaussian": {"tol": 1e-4, "max_iter": 120},
    "mixture": {"tol": 0.005, "min_learning_rate": 0.002, "max_iter": 960},
    "flow": {"tol": 0.005, "min_learning_rate": 0.0003, "max_iter": 960},
}
EARLY: dict[str, dict[str, Any]] = {"mixture": {"window": 12}, "flow": {"max_iter": 24}}
LIKELIHOODS = {"concrete": "histogram"}  # what "auto" finds best there; Student t otherwise


def families(latent_dim: int) -> dict[str, tuple[PosteriorFamily, PosteriorFamily]]:
    """Return each posterior as we fit it and as the paper does."""
    return {
        "gaussian": (GaussianPosterior(latent_dim),) * 2,
        "mixture": (
            MixturePosterior(latent_dim, 10),
            MixturePosterior(latent_dim, 10, "implicit"),
        ),
        "flow": (FlowPosterior(latent_dim),) * 2,
    }


def fresh_bound(target: DecoderTarget, posterior: Posterior) -> float:
    """Return the mean bound (equation 8, nats per row), with noise that no fit has seen."""
    family = posterior.family
    u = sobol_uniform(FRESH_DRAWS, family.n_noise, seed=20_261)
    noise = family.noise_from_uniform(u).to(target.dtype)
    block = target.block(torch.arange(target.n_rows))
    total = torch.zeros(target.n_rows)
    with torch.no_grad():
        for part in noise.split(64):
            z = posterior.rsample(part.unsqueeze(1))
            log_prior = -0.5 * (z.square() + np.log(2 * np.pi)).sum(-1)
            total += (block(z) + log_prior - posterior.log_prob(z)).sum(0)
    return float((total / FRESH_DRAWS).mean())


def measure_recipe(table: str, args: argparse.Namespace) -> None:
    """Compare optimisers on one decoder of a table."""
    split = split_table(load_table(table, args.data_dir), seed=0)
    model = TabularVAE(
        likelihood=LIKELIHOODS.get(table, "student_t"),
        histogram_smoothing=0.0,
        n_decoders=1,
        random_state=0,
        max_steps=args.max_steps,
    ).fit(split.fit)
    rows = split.test[: args.rows]
    truth = torch.from_numpy(model.standardize(split.truth[: args.rows])).float()
    observed = torch.from_numpy(~np.isnan(rows))
    (decoder,) = model.decoders_
    decoder.requires_grad_(False)
    x = torch.where(observed, truth, 0.0)
    target = DecoderTarget.of(decoder, x, observed)
    floor = arithmetic_floor(decoder)
    for name in args.posteriors:
        ours, theirs = families(decoder.latent_dim)[name]
        default = ours.default_optimizer(decoder.latent_dim)
        early = default.with_options(**EARLY.get(name, {}))
        for label, family, optimizer in (
            ("early", ours, early),
            ("default", ours, default),
            ("converged", ours, default.with_options(**CONVERGED[name])),
            ("recipe", theirs, Adam.paper()),
        ):
            if label == "early" and name not in EARLY:
                continue
            start = time.perf_counter()
            result = fit_posterior(target, family, optimizer=optimizer)
            seconds = time.perf_counter() - start
            ms, evaluations = 1e3 * seconds / len(x), float(result.n_evaluations.float().mean())
            record = {
                "table": table,
                "posterior": name,
                "optimizer": label,
                "rows": len(x),
                "evaluations": evaluations,
                "ms_per_row": ms,
                "bound": fresh_bound(target, result.posterior),
                "predictive": predictive(decoder, target, result.posterior, truth),
                "converged": float(result.converged.float().mean()),
                "us_per_evaluation": 1e3 * ms / evaluations,
                "us_floor": floor,
            }
            report(args, "recipe", record)


def predictive(
    decoder: Any, target: DecoderTarget, posterior: Posterior, truth: torch.Tensor
) -> float:
    """Return the mean log predictive density of the hidden cells, nats per row."""
    u = sobol_uniform(FRESH_DRAWS, posterior.family.n_noise, seed=20_262, antithetic=False)
    noise = posterior.family.noise_from_uniform(u).to(target.dtype).unsqueeze(1)
    prepared = decoder.likelihood.prepare(truth)
    parts = []
    with torch.no_grad():
        for part in noise.split(64):
            cells = decoder.likelihood.log_prob(decoder.decode(posterior.rsample(part)), prepared)
            parts.append(torch.where(target.observed, 0.0, cells).sum(-1))
    return float((torch.logsumexp(torch.cat(parts), 0) - np.log(FRESH_DRAWS)).mean())


def arithmetic_floor(decoder: Any) -> float:
    """Return the microseconds of a decoder evaluation and its gradient, at the rate of a product.

    Forward and backward pass through frozen weights are two products of each weight matrix; the
    rate is that of products with a hidden layer's matrix, measured here.
    """
    weights = [p for p in decoder.decoder.parameters() if p.dim() == 2]
    flops = 2 * 2 * sum(p.numel() for p in weights)
    left, right = torch.randn(4096, 128), torch.randn(128, 128)
    best = min(_seconds(lambda: left @ right) for _ in range(50))
    return 1e6 * flops / (2 * 4096 * 128 * 128 / best)


def _seconds(work: Any) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def synthetic(n_rows: int, n_columns: int, seed: int = 0) -> np.ndarray:
    """Return a table of correlated, skewed columns with a fifth of its cells missing."""
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(5, n_columns))
    X = np.empty((n_rows, n_columns))
    for start in range(0, n_rows, 100_000):
        part = slice(start, min(start + 100_000, n_rows))
        codes = rng.normal(size=(part.stop - start, 5))
        X[part] = np.sinh(0.5 * codes @ mixing) + 0.3 * rng.normal(size=(len(codes), n_columns))
        X[part][rng.random((len(codes), n_columns)) < 0.2] = np.nan
    return X


def fit_worker(options: dict[str, Any]) -> dict[str, Any]:
    """Fit to part of a synthetic table and keep the imputer; in a process of its own."""
    warnings.simplefilter("ignore")
    model = TabularVAE(n_decoders=options["decoders"], max_steps=options["max_steps"])
    posterior = options["posterior"]
    if posterior == "mixture":
        posterior = Mixture(n_components=options["components"])
    imputer = QAVIImputer(
        generative_model=model,
        posterior=posterior,
        n_jobs=options["n_jobs"],
        random_state=0,
    )
    X = synthetic(min(options["rows"], 5000), options["columns"])
    seconds = _seconds(lambda: imputer.fit(X))
    Path(options["file"]).write_bytes(pickle.dumps(imputer))
    return {"fit_seconds": seconds}


def complete_worker(options: dict[str, Any]) -> dict[str, Any]:
    """Complete a synthetic table with a kept imputer; in a process that has not trained."""
    warnings.simplefilter("ignore")
    imputer = pickle.loads(Path(options["file"]).read_bytes())
    X = synthetic(options["rows"], options["columns"])
    imputer.transform(X[:64])  # what is loaded on first use is not a cost of a row
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    completed: list[Any] = []
    seconds = _seconds(lambda: completed.append(imputer.transform(X)))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "decoders_kept": len(imputer.generative_model_.decoders_),
        "seconds": seconds,
        "ms_per_row": 1e3 * seconds / len(X),
        "mib_above_table": peak - before,
        "table_mib": X.nbytes / 2**20,
        "finite": bool(np.isfinite(completed[0]).all()),
    }


def measure_growth(args: argparse.Namespace) -> None:
    """Vary rows, columns and components one at a time."""
    base = {
        "rows": 2000,
        "columns": 20,
        "components": 5,
        "posterior": "gaussian",
        "decoders": args.decoders,
        "n_jobs": args.n_jobs,
        "max_steps": args.max_steps,
    }
    cases = [{**base, "rows": rows} for rows in args.grow_rows]
    cases += [{**base, "columns": columns} for columns in args.grow_columns]
    cases += [
        {**base, "posterior": "mixture", "components": components, "rows": 500}
        for components in args.grow_components
    ]
    with tempfile.TemporaryDirectory() as folder:
        for case in cases:
            options = {**case, "file": str(Path(folder) / "imputer.pickle")}
            fitted = _in_fresh_process("fit", options)
            report(args, "grow", {**case, **fitted, **_in_fresh_process("complete", options)})


def _in_fresh_process(phase: str, options: dict[str, Any]) -> dict[str, Any]:
    command = [sys.executable, __file__, "--worker", phase, json.dumps(options)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return json.loads(printed.splitlines()[-1])


def measure_import(args: argparse.Namespace) -> None:
    """Time the package's import after what every user of it has loaded, five times."""
    code = (
        "import time, torch, sklearn; start = time.perf_counter(); import sklearn_qavi; "
        "print(time.perf_counter() - start)"
    )
    seconds = [
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout)
        for _ in range(5)
    ]
    report(args, "rest", {"import_seconds": sorted(seconds)[2]})


def report(args: argparse.Namespace, part: str, record: dict[str, Any]) -> None:
    """Print a record and append it to the file of records."""
    record = {"part": part, **record}
    if args.out:
        append_record(args.out, {**record, "machine": machine()})
    print(
        "  ".join(
            f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={value}"
            for name, value in record.items()
        ),
        flush=True,
    )


def main() -> None:
    """Read the command line and measure."""
    if sys.argv[1:2] == ["--worker"]:
        work = {"fit": fit_worker, "complete": complete_worker}[sys.argv[2]]
        print(json.dumps(work(json.loads(sys.argv[3]))))
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", nargs="+", choices=("recipe", "grow", "rest"), default=None)
    parser.add_argument("--data-dir", type=Path, help="folder of CSV files, e.g. ../data/uci")
    parser.add_argument("--out", type=Path, help="file of JSON lines to append to")
    tables = ["banknote", "concrete", "red_wine"]
    parser.add_argument("--tables", nargs="+", choices=sorted(TABLES), default=tables)
    parser.add_argument("--posteriors", nargs="+", default=["gaussian", "mixture", "flow"])
    parser.add_argument("--rows", type=int, default=128, help="test rows, for the recipe")
    parser.add_argument("--max-steps", type=int, default=4000)
    parser.add_argument("--decoders", type=int, default=1, help="decoders, for growth")
    parser.add_argument("--n-jobs", type=int, default=2, help="threads, for growth")
    rows = [100, 1000, 10_000, 100_000, 1_000_000]
    parser.add_argument("--grow-rows", type=int, nargs="*", default=rows)
    parser.add_argument("--grow-columns", type=int, nargs="*", default=[5, 20, 50, 100, 200])
    parser.add_argument("--grow-components", type=int, nargs="*", default=[1, 5, 10, 50])
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    parts = args.parts or ["recipe", "grow", "rest"]
    if "recipe" in parts:
        for table in args.tables:
            measure_recipe(table, args)
    if "grow" in parts:
        measure_growth(args)
    if "rest" in parts:
        measure_import(args)


if __name__ == "__main__":
    main()
