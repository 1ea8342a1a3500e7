"""Progress bars count what a user counts, and end full."""

import re
import subprocess
import sys

import joblib
import numpy as np
import pytest

from _factories import digits, iris, tiny_image_model, tiny_table_model, with_missing
from sklearn_qavi import QAVIImputer, QAVIInpainter
from sklearn_qavi._progress import RowBar, TrainingBar
from sklearn_qavi.generative import TabularVAE
from sklearn_qavi.generative._table_training import _LAST_STEPS

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


@pytest.fixture(scope="module")
def table() -> np.ndarray:
    return with_missing(iris(), 0.1)


@pytest.fixture(scope="module")
def imputer(table: np.ndarray, iris_model: TabularVAE) -> QAVIImputer:
    return QAVIImputer(generative_model=iris_model, max_iter=10, random_state=0).fit(table)


@pytest.mark.parametrize(("backend", "n_jobs"), [("threading", 1), ("threading", 2), ("loky", 2)])
def test_inference_counts_rows_whatever_the_number_of_decoders(
    backend: str,
    n_jobs: int,
    imputer: QAVIImputer,
    table: np.ndarray,
    capsys: pytest.CaptureFixture[str],
) -> None:
    n = int(np.isnan(table).any(axis=1).sum())
    loud = QAVIImputer(**imputer.get_params(deep=False))
    loud.__dict__.update({**vars(imputer), "verbose": 1})
    capsys.readouterr()
    with joblib.parallel_config(backend, n_jobs=n_jobs):
        loud.transform(table)
    assert states(capsys.readouterr().err, "inference")[-1] == (n, n)
    if n_jobs == 1:  # what is not spread over workers
        loud.infer(table)
        assert states(capsys.readouterr().err, "inference")[-1] == (len(table), len(table))


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
    table: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    settled = tiny_table_model(
        likelihood="gaussian", max_steps=10**6, learning_rate=1e-9, random_state=0, verbose=1
    ).fit(table)
    assert settled.n_iter_ < 1000
    shown = states(capsys.readouterr().err, "training")
    n_steps = settled.n_iter_ + _LAST_STEPS
    assert shown[-1] == (n_steps, n_steps)


@pytest.mark.parametrize("bootstrap", [False, True])
def test_all_decoders_are_counted(
    bootstrap: bool, table: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny_table_model(
        likelihood="auto", n_decoders=4, bootstrap=bootstrap, random_state=0, verbose=1
    ).fit(table)
    # the candidates, then their last steps, or the decoders of other bootstrap samples
    assert states(capsys.readouterr().err, "training")[-1] == (4, 4)


def test_images_end_full_too(capsys: pytest.CaptureFixture[str]) -> None:
    images = digits(0, 60)
    model = tiny_image_model(n_decoders=2, rounds=3, random_state=0, verbose=1)
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
