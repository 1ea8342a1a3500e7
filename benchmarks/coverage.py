"""Do pooled intervals cover? Regressions with known coefficients on tables with missing values.

Each repetition draws a table (y, x1, x2, x3) from ``y = 1 + x1 - x2 / 2 + x3 / 2 + e`` with
correlated normal x and e of variance 1, hides cells, completes the table several times, fits the
regression to each completed table by least squares, pools by Rubin's rules, and notes which of the
95% intervals of the four coefficients hold the truth. Cells are missing completely at random, or
at random: of x1 and x2 depending on y and x3, which are always seen. Prints and saves numbers,
asserts nothing.
"""

import argparse
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import statsmodels.api as sm
from _common import append_record, machine, read_records
from joblib import Parallel, delayed
from numpy.typing import NDArray
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer

from sklearn_qavi import QAVIImputer
from sklearn_qavi.generative import TabularVAE
from sklearn_qavi.pooling import PooledEstimate, fit_pooled

Array = NDArray[np.float64]

TRUTH = np.array([1.0, 1.0, -0.5, 0.5])
NAMES = ("intercept", "x1", "x2", "x3")
COVARIANCE = np.array([[1.0, 0.5, 0.3], [0.5, 1.0, 0.4], [0.3, 0.4, 1.0]])
RATE = 0.3
N_DRAWS, N_DECODERS = 20, 10
MAX_CHUNK = 25  # repetitions between two looks at the file


def make_table(n_rows: int, mechanism: str, seed: int) -> tuple[Array, Array]:
    """Return a table (y, x1, x2, x3) and the same with missing values."""
    rng = np.random.default_rng(seed)
    x = rng.multivariate_normal(np.zeros(3), COVARIANCE, size=n_rows)
    y = TRUTH[0] + x @ TRUTH[1:] + rng.normal(size=n_rows)
    table = np.column_stack([y, x])
    missing = rng.random(table.shape) < RATE
    if mechanism == "mar":
        # at random: what is always seen decides, and larger values lose more of x1 and x2
        drive = (y - y.mean()) / y.std() + x[:, 2]
        chance = 1.0 / (1.0 + np.exp(-drive))
        chance *= 2 * RATE / chance.mean()  # of two of four columns: 30% of all cells
        missing = rng.random(table.shape) < np.minimum(chance, 0.95)[:, None]
        missing[:, [0, 3]] = False
    return table, np.where(missing, np.nan, table)


def ordinary_least_squares(table: Array) -> Any:
    """Return the fitted regression of the first column on the others."""
    return sm.OLS(table[:, 0], sm.add_constant(table[:, 1:])).fit()


def draws_of_qavi(
    incomplete: Array, seed: int, bootstrap: bool, settings: dict[str, Any]
) -> Iterator[Any]:
    """Yield completed tables of `QAVIImputer`."""
    model = TabularVAE(**settings, bootstrap=bootstrap, n_decoders=N_DECODERS if bootstrap else 1)
    imputer = QAVIImputer(generative_model=model, random_state=seed)
    yield from imputer.fit(incomplete).iter_samples(incomplete, n=N_DRAWS)


def draws_of_chains(incomplete: Array, seed: int) -> Iterator[Array]:
    """Yield completed tables of scikit-learn's chained regressions with posterior draws."""
    for m in range(N_DRAWS):
        yield IterativeImputer(
            sample_posterior=True, random_state=1000 * seed + m, tol=0.0
        ).fit_transform(incomplete)


def pooled_by(
    method: str, table: Array, incomplete: Array, seed: int, settings: dict[str, Any]
) -> PooledEstimate:
    """Return the pooled coefficients of one method."""
    rows = ~np.isnan(incomplete).all(axis=1)  # a row without any value says nothing
    methods: dict[str, Callable[[], Any]] = {
        "complete": lambda: [table, table],
        "complete_rows": lambda: [incomplete[~np.isnan(incomplete).any(axis=1)]] * 2,
        "iterative": lambda: draws_of_chains(incomplete[rows], seed),
        "qavi": lambda: draws_of_qavi(incomplete[rows], seed, False, settings),
        "qavi_bootstrap": lambda: draws_of_qavi(incomplete[rows], seed, True, settings),
    }
    n_nests = N_DECODERS if method == "qavi_bootstrap" else None
    return fit_pooled(ordinary_least_squares, methods[method](), n_nests=n_nests)


METHODS = ("complete", "complete_rows", "iterative", "qavi", "qavi_bootstrap")


def repeat(
    method: str, mechanism: str, n_rows: int, seed: int, settings: dict[str, Any]
) -> dict[str, Any]:
    """Return errors, standard errors and hits of one repetition."""
    warnings.simplefilter("ignore")
    start = time.perf_counter()
    table, incomplete = make_table(n_rows, mechanism, seed)
    pooled = pooled_by(method, table, incomplete, seed, settings)
    lower, upper = pooled.interval(level=0.95)
    return {
        "error": (pooled.estimate - TRUTH).tolist(),
        "standard_error": pooled.standard_error.tolist(),
        "width": (upper - lower).tolist(),
        "covered": ((lower <= TRUTH) & (upper >= TRUTH)).tolist(),
        "fmi": pooled.fraction_of_missing_information.tolist(),
        "seconds": time.perf_counter() - start,
    }


def print_table(records: list[dict[str, Any]]) -> None:
    """Print coverage, bias, spread and standard error of each method, in percent and units."""
    print("| mechanism | method | n | " + " | ".join(NAMES) + " | s |")
    print("|---" * (4 + len(NAMES)) + "|")
    keys = dict.fromkeys((r["mechanism"], r["method"]) for r in records)
    for key in keys:
        mine = [r for r in records if (r["mechanism"], r["method"]) == key]
        covered = 100 * np.mean([r["covered"] for r in mine], axis=0)
        error = np.array([r["error"] for r in mine])
        spread = np.mean([r["standard_error"] for r in mine], axis=0)
        cells = [
            f"{c:.1f} / {b:+.3f} / {s:.3f} / {e:.3f}"
            for c, b, s, e in zip(covered, error.mean(0), error.std(0), spread, strict=True)
        ]
        seconds = np.mean([r["seconds"] for r in mine])
        print(f"| {key[0]} | {key[1]} | {len(mine)} |", " | ".join(cells), f"| {seconds:.2f} |")
    print("(coverage of 95% intervals in % / bias / spread of the estimates / mean standard error)")


def main() -> None:
    """Read the command line, run the repetitions that are not in the file yet, print all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=500)
    parser.add_argument("--rows", type=int, default=300)
    parser.add_argument("--mechanisms", nargs="+", choices=["mcar", "mar"], default=["mcar", "mar"])
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--steps", type=int, default=200, help="most steps a decoder trains")
    parser.add_argument("--n-jobs", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("coverage.jsonl"))
    args = parser.parse_args()
    settings = {
        "likelihood": "student_t",
        "linear_start": True,
        "hidden_layer_sizes": (32, 32),
        "max_steps": args.steps,
    }
    known = {
        (r["method"], r["mechanism"], r["rows"], r["steps"], r["seed"])
        for r in read_records(args.out)
    }
    for first in range(0, args.repetitions, MAX_CHUNK):
        for method in args.methods:
            for mechanism in args.mechanisms:
                seeds = [
                    seed
                    for seed in range(first, min(first + MAX_CHUNK, args.repetitions))
                    if (method, mechanism, args.rows, args.steps, seed) not in known
                ]
                done = Parallel(n_jobs=args.n_jobs)(
                    delayed(repeat)(method, mechanism, args.rows, seed, settings) for seed in seeds
                )
                for seed, record in zip(seeds, done, strict=True):
                    about = {
                        "method": method,
                        "mechanism": mechanism,
                        "rows": args.rows,
                        "steps": args.steps,
                        "seed": seed,
                    }
                    append_record(args.out, {**about, **record, "machine": machine()})
    print_table(read_records(args.out))


if __name__ == "__main__":
    main()
