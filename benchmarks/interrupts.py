"""How long Ctrl-C takes: an interrupt at random moments of training and of inference.

A thread sends the signal of Ctrl-C to the process itself. Measured is the time until the interrupt
is raised where `fit` or `transform` was called, and until no other thread is at work. Prints and
saves numbers, asserts nothing.
"""

import argparse
import os
import signal
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from _common import append_record, machine
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from sklearn_qavi import QAVIImputer, QAVIInpainter
from sklearn_qavi.baselines import PosteriorMatching, RetunedEncoder
from sklearn_qavi.generative import HierarchicalVAE, TabularVAE, Training, WideResNetVAE

ENDLESS = {"max_epochs": 10**6, "patience": 10**6}
ENDLESS_IMAGES: dict[str, Any] = {"max_epochs": 10**6, "training": Training(patience=10**6)}


def table(n_rows: int) -> NDArray[np.float64]:
    """Return correlated columns with three tenths of the cells missing."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n_rows, 5)) @ rng.normal(size=(5, 20)) + rng.normal(size=(n_rows, 20))
    X[rng.random(X.shape) < 0.3] = np.nan
    return X


def images() -> NDArray[np.float64]:
    """Return digits of 32 x 32 pixels."""
    return np.kron(load_digits().images / 16, np.ones((4, 4)))


def fitted(posterior: Any = "gaussian", **options: Any) -> QAVIImputer:
    """Return an imputer with a model that was trained for an epoch."""
    model = TabularVAE(max_steps=60, n_decoders=2, random_state=0).fit(table(500))
    return QAVIImputer(generative_model=model, posterior=posterior, random_state=0, **options)


def in_processes(n_jobs: int) -> None:
    """Complete the table in other processes."""
    with joblib.parallel_config("loky"):
        fitted(n_jobs=n_jobs).fit(table(500)).transform(table(60_000))


def transform(**options: Any) -> Callable[[], Any]:
    """Return the completion of a large table."""
    imputer, X = fitted(**options).fit(table(500)), table(60_000)
    return lambda: imputer.transform(X)


WORK: dict[str, Callable[[], Callable[[], Any]]] = {
    "fit TabularVAE": lambda: lambda: TabularVAE(max_steps=10**6).fit(table(5000)),
    "fit WideResNetVAE": lambda: lambda: WideResNetVAE(**ENDLESS_IMAGES).fit(images()),
    "fit HierarchicalVAE": lambda: lambda: HierarchicalVAE(**ENDLESS_IMAGES).fit(images()),
    "fit PosteriorMatching": lambda: lambda: fitted(PosteriorMatching(**ENDLESS)).fit(table(5000)),
    "fit RetunedEncoder": lambda: lambda: fitted(RetunedEncoder(**ENDLESS)).fit(table(5000)),
    "transform, 1 job": lambda: transform(n_jobs=1),
    "transform, 2 jobs": lambda: transform(n_jobs=2),
    "transform, 2 jobs, mixture": lambda: transform(n_jobs=2, posterior="mixture"),
    "transform, 2 processes": lambda: lambda: in_processes(2),
    "inpaint, 1 job": lambda: inpaint(1),
    "inpaint, 2 jobs": lambda: inpaint(2),
}


def inpaint(n_jobs: int) -> Callable[[], Any]:
    """Return the completion of many images."""
    X = images()
    training = Training(steps_per_epoch=5)
    model = WideResNetVAE(max_epochs=1, training=training, random_state=0).fit(X[:200])
    inpainter = QAVIInpainter(generative_model=model, n_jobs=n_jobs, random_state=0).fit()
    mask = np.zeros(X.shape[1:], dtype=bool)
    mask[16:] = True
    return lambda: inpainter.transform(X, mask=mask)


def measure(work: Callable[[], Any], moment: float) -> dict[str, float] | None:
    """Return seconds to the exception and to the last thread's end; None if it came too late."""
    sent: list[float] = []

    def send() -> None:
        sent.append(time.perf_counter())
        os.kill(os.getpid(), signal.SIGINT)

    timer = threading.Timer(moment, send)
    before = set(threading.enumerate()) | {timer}
    timer.start()
    try:
        work()
    except KeyboardInterrupt:
        raised = time.perf_counter()
    else:
        timer.cancel()
        return None
    while busy := [t for t in threading.enumerate() if t not in before and "tqdm" not in repr(t)]:
        if time.perf_counter() - raised > 60 or not any(t.is_alive() for t in busy):
            break
        time.sleep(0.01)
    ended = time.perf_counter()
    return {"moment": moment, "raised": raised - sent[0], "threads_ended": ended - sent[0]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("interrupts.jsonl"))
    parser.add_argument("--work", nargs="+", default=list(WORK), choices=list(WORK))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--latest", type=float, default=8.0, help="seconds after the start")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGINT, signal.default_int_handler)
    rng = np.random.default_rng(0)
    for name in args.work:
        work, found = WORK[name](), []
        for moment in rng.uniform(0.1, args.latest, args.repeats):
            result = measure(work, float(moment))
            if result is None:
                print(f"{name}: came to its end before {moment:.1f} s")
                continue
            append_record(args.out, {"work": name, **result, **machine()})
            found.append(result)
        raised = ", ".join(f"{1e3 * r['raised']:.0f}" for r in found)
        ended = max((1e3 * r["threads_ended"] for r in found), default=float("nan"))
        print(f"{name}: raised after {raised} ms; no thread at work after {ended:.0f} ms at most")


if __name__ == "__main__":
    main()
