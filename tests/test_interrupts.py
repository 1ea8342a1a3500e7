"""A real interrupt ends training and inference at once and leaves estimators whole.

What is interrupted would take hours: a test that comes to its end was interrupted at once.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

from _factories import digits, train_options
from sklearn_qavi import MultipleImputationClassifier, QAVIImputer, QAVIInpainter, train
from sklearn_qavi.datasets import write_image
from sklearn_qavi.generative import HierarchicalVAE, TabularVAE, WideResNetVAE
from sklearn_qavi.preprocessing import Frame, TableEncoder

pytestmark = pytest.mark.skipif(
    sys.platform == "win32", reason="groups of processes get signals on POSIX"
)

PATIENCE = 600.0  # seconds for a child to start and to say that it is at work


def start(arguments: list[str], **options: Any) -> subprocess.Popen[str]:
    """Start Python as a terminal would: with an interrupt that it feels, in a group of its own."""
    return subprocess.Popen(
        [sys.executable, *arguments],
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        **options,
    )


def end(child: subprocess.Popen[str]) -> None:
    """End a child that hangs and all that it started, after it has written where it stands."""
    child.send_signal(signal.SIGUSR1)
    time.sleep(5)
    os.killpg(child.pid, signal.SIGKILL)


@pytest.mark.parametrize(
    ("part", "n_interrupts"), [("training", 14), ("inference", 14), ("processes", 4)]
)
def test_an_interrupt_gets_through_and_leaves_estimators_whole(
    part: str, n_interrupts: int, tmp_path: Path
) -> None:
    script = str(Path(__file__).parent / "_interrupted.py")
    ended: list[str] = []
    n_sent = 0
    with (
        (tmp_path / "errors").open("w+") as errors,
        start([script, part], stdout=subprocess.PIPE, stderr=errors) as child,
    ):
        watch = threading.Timer(PATIENCE, end, (child,))
        watch.start()
        for line in child.stdout or ():
            if line == f"busy {n_sent}\n":
                os.killpg(child.pid, signal.SIGINT)  # as Ctrl-C in a terminal does
                n_sent += 1
            elif line.startswith("interrupted"):
                ended.append(line)
        code = child.wait()
        watch.cancel()
        errors.seek(0)
        assert code == 0, f"After {ended}:\n{errors.read()}"
    assert len(ended) == n_interrupts


def test_an_interrupt_that_nobody_catches_is_how_a_program_ends() -> None:
    """Threads inside of torch at the end of Python would abort the process."""
    script = str(Path(__file__).parent / "_interrupted.py")
    child = start([script, "ending"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline() == "busy 0\n"
    os.killpg(child.pid, signal.SIGINT)
    _, said = child.communicate(timeout=PATIENCE)
    assert child.returncode == -signal.SIGINT, said


def interrupt_once(child: subprocess.Popen[str], is_busy: Any) -> str:
    """Interrupt a program when it is at work; return what it said on standard error."""
    deadline = time.monotonic() + PATIENCE
    while not is_busy() and child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(child.pid, signal.SIGINT)
    _, said = child.communicate(timeout=PATIENCE)
    return said


OPTIONS = train_options(steps=3)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for i, image in enumerate(digits(0, 40)):
        write_image(np.stack([image] * 3), folder / f"{i:02d}.png")
    return folder


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_programs_end_in_one_line_and_go_on(photos: Path, tmp_path: Path) -> None:
    stopped, whole = tmp_path / "stopped", tmp_path / "whole"
    endless = ["--epochs", "1000000", "--param", "training__patience=1000000", "--workers", "1"]
    state = stopped / "training" / "decoder_0.pt"
    child = start(
        ["-m", "sklearn_qavi.train", str(photos), str(stopped), *OPTIONS, *endless],
        stderr=subprocess.PIPE,
    )
    said = interrupt_once(child, state.exists)
    assert child.returncode == 130
    assert said.splitlines()[-1].startswith("python -m sklearn_qavi.train: interrupted")
    assert "Traceback" not in said
    n_done = len(json.loads(torch.load(state, weights_only=True)["history"]))
    more = ["--epochs", str(n_done + 1), "--param", "training__patience=1000000", "--workers", "0"]
    for folder in (stopped, whole):
        train.main([str(photos), str(folder), *OPTIONS, *more])
    resumed, undisturbed = (HierarchicalVAE.load(folder) for folder in (stopped, whole))
    for a, b in zip(
        resumed.decoders_[0].parameters(), undisturbed.decoders_[0].parameters(), strict=True
    ):
        assert torch.equal(a, b)

    records = tmp_path / "out" / "images.jsonl"
    arguments = [str(whole), str(photos), str(tmp_path / "out"), "--at-a-time", "1"]
    slow = ["--device", "cpu", "--param", "max_iter=40", "--param", "tol=0", "--score-draws", "5"]
    child = start(["-m", "sklearn_qavi.inpaint", *arguments, *slow], stderr=subprocess.PIPE)
    said = interrupt_once(
        child, lambda: records.exists() and len(records.read_text().splitlines()) > 1
    )
    assert child.returncode == 130
    assert said.splitlines()[-1].startswith("python -m sklearn_qavi.inpaint: interrupted")
    assert "Traceback" not in said


X = np.random.default_rng(0).random((12, 4, 4))
X[::2, 0] = np.nan
TABLE = X[:, 0]


@pytest.mark.parametrize(
    ("estimator", "arguments"),
    [
        (QAVIImputer(max_value=-1.0, min_value=1.0), (TABLE,)),
        (QAVIImputer(random_state=0), (TABLE, None, np.zeros(12))),
        (QAVIInpainter(strategy="best", random_state=0), (X,)),
        (TabularVAE(), (TABLE, None, np.zeros(12))),
        (WideResNetVAE(likelihood="bernoulli", likelihood_options={"n": 3}, random_state=0), (X,)),
        (HierarchicalVAE(encoder_layers="9x1"), (X,)),
        (
            MultipleImputationClassifier(n_draws=2, random_state=0),
            (TABLE, np.arange(12) % 2, None),
        ),
        (TableEncoder(max_value=-1.0, min_value=1.0), (Frame.of_array(TABLE),)),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseEstimator) else "",
)
def test_an_error_in_a_first_fit_leaves_nothing(
    estimator: Any, arguments: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    if isinstance(estimator, MultipleImputationClassifier):
        monkeypatch.setattr(type(estimator), "_target_columns", lambda *args: 1 / 0)
    before = dict(vars(estimator))
    with pytest.raises((ValueError, ArithmeticError, TypeError)):
        estimator.fit(*arguments)
    assert vars(estimator) == before
    if isinstance(estimator, BaseEstimator):
        with pytest.raises(NotFittedError):
            check_is_fitted(estimator)
