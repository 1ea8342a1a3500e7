"""Progress bars count what a user counts, and end full."""

import re
import subprocess
import sys
import warnings
from typing import Any

import joblib
import numpy as np
import pytest
from sklearn.datasets import load_digits, load_iris

from sklearn_qavi import QAVIImputer, QAVIInpainter
from sklearn_qavi._progress import RowBar, TrainingBar
from sklearn_qavi.generative import TabularVAE, WideResNetVAE

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore::sklearn_qavi.exceptions.UnreliablePosteriorWarning"),
]

NOTEBOOK = """
import sys, types
shell = types.SimpleNamespace(config={"IPKernelApp": {}})
sys.modules["IPython"] = types.SimpleNamespace(get_ipython=lambda: shell)
sys.modules["ipywidgets"] = None  # as if it were not installed
import sklearn_qavi, sklearn_qavi.inpaint, sklearn_qavi.train
from sklearn_qavi._progress import RowBar
with RowBar(3, desc="test", unit="row", silent=False) as bar:
    bar.update(3)
"""


def test_a_notebook_without_widgets_gets_text_and_no_warning() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", NOTEBOOK], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    assert "3/3" in done.stderr


def states(text: str, description: str) -> list[tuple[int, int]]:
    """Return the counts and totals that a bar has shown, in their order."""
    found = re.findall(rf"{description}: +\d+%\|[^|]*\| (\d+)/(\d+) ", text)
    return [(int(n), int(total)) for n, total in found]


def holes(X: np.ndarray) -> np.ndarray:
    return np.where(np.random.default_rng(0).random(X.shape) < 0.1, np.nan, X)


@pytest.fixture(scope="module")
def imputer() -> QAVIImputer:
    model = TabularVAE(
        latent_dim=2, hidden_layer_sizes=(8,), n_decoders=3, linear_start=False,
        likelihood="gaussian", max_epochs=2,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        imputer = QAVIImputer(generative_model=model, max_iter=10, random_state=0)
        return imputer.fit(holes(load_iris().data))


@pytest.mark.parametrize(("backend", "n_jobs"), [("threading", 1), ("threading", 2), ("loky", 2)])
def test_inference_counts_rows_whatever_the_number_of_decoders(
    backend: str, n_jobs: int, imputer: QAVIImputer, capsys: pytest.CaptureFixture[str]
) -> None:
    X = holes(load_iris().data)
    n = int(np.isnan(X).any(axis=1).sum())
    loud = QAVIImputer(**imputer.get_params(deep=False))
    loud.__dict__.update({**vars(imputer), "verbose": 1})
    capsys.readouterr()
    with joblib.parallel_config(backend, n_jobs=n_jobs):
        loud.transform(X)
    assert states(capsys.readouterr().err, "inference")[-1] == (n, n)
    if n_jobs == 1:  # what is not spread over workers
        loud.infer(X)
        assert states(capsys.readouterr().err, "inference")[-1] == (len(X), len(X))


def test_a_row_is_done_when_all_its_parts_are(capsys: pytest.CaptureFixture[str]) -> None:
    with RowBar(5, desc="test", unit="row", silent=False, n_parts=4) as bar:
        seen = []
        for _ in range(20):
            bar.update(1)
            seen.append(bar.bar.n)
        bar.update(3)  # rows that are done again
        assert bar.bar.n == 5
    assert seen == [k // 4 for k in range(1, 21)]


def test_a_training_that_settles_early_leaves_a_full_bar(
    capsys: pytest.CaptureFixture[str],
) -> None:
    short: dict[str, Any] = {"steps_per_epoch": 2, "learning_rate": 1e-9, "patience": 3}
    table = TabularVAE(
        latent_dim=2, hidden_layer_sizes=(4,), likelihood="gaussian", linear_start=False,
        n_decoders=1, max_epochs=50, random_state=0, verbose=1, **short,
    ).fit(holes(load_iris().data))  # fmt: skip
    assert table.n_iter_ < 50
    shown = states(capsys.readouterr().err, "training decoder 1 of 1")
    assert shown[0] == (0, 50)
    assert shown[-1] == (table.n_iter_, table.n_iter_)


@pytest.mark.parametrize("bootstrap", [False, True])
def test_all_decoders_are_counted(bootstrap: bool, capsys: pytest.CaptureFixture[str]) -> None:
    TabularVAE(
        latent_dim=2, hidden_layer_sizes=(4,), n_decoders=4, bootstrap=bootstrap, max_epochs=2,
        steps_per_epoch=2, random_state=0, verbose=1,
    ).fit(holes(load_iris().data))  # fmt: skip
    text = capsys.readouterr().err
    (last,) = re.findall(r"training decoder (\d+) of (\d+)", text)[-1:]
    assert last[0] == last[1]
    n, total = states(text, r"training decoder \d+ of \d+")[-1]
    assert n == total == 2 * int(last[1])


def test_images_end_full_too(capsys: pytest.CaptureFixture[str]) -> None:
    images = load_digits().images[:60] / 16
    model = WideResNetVAE(
        latent_dim=2, n_decoders=2, max_epochs=3, steps_per_epoch=1, random_state=0, verbose=1
    )
    inpainter = QAVIInpainter(generative_model=model, max_iter=2, random_state=0, verbose=1)
    mask = np.zeros((8, 8), dtype=bool)
    mask[:4] = True
    inpainter.fit(images).transform(images[:5], mask=mask)
    text = capsys.readouterr().err
    assert states(text, "training decoder 2 of 2")[-1] == (6, 6)
    assert states(text, "inference")[-1] == (5, 5)


def test_the_total_is_what_earlier_trainings_took() -> None:
    """Four trainings of at most 100 epochs, which settle after 10, 14, 20 and 8."""
    with TrainingBar(4, 100, silent=False) as bar:
        totals = []
        for n_epochs in (10, 14, 20, 8):
            for _ in range(n_epochs):
                bar.epoch()
                assert bar.bar.n <= bar.bar.total
            totals.append(bar.bar.total)
            bar.settle()
        # first the most there can be; then the mean so far, and no less than what was seen
        assert totals == [400, 10 + 14 + 2 * 10, 24 + 20 + 12, 44 + 15]
        assert bar.bar.n == bar.bar.total == 52


def test_time_left_is_right_within_a_factor_of_two_once_a_training_has_settled() -> None:
    epochs = np.random.default_rng(0).integers(40, 80, size=8)
    with TrainingBar(len(epochs), 300, silent=False) as bar:
        for k, n_epochs in enumerate(epochs):
            for _ in range(n_epochs - (k == len(epochs) - 1)):
                bar.epoch()
                left = int(epochs.sum()) - bar.bar.n
                if k and left > 80:
                    assert 0.5 < (bar.bar.total - bar.bar.n) / left < 2
            bar.settle()
