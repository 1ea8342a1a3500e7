"""Rows spread over threads, processes and a cluster: the same answers, whatever happens."""

import os
import threading
import time
import warnings

import joblib
import numpy as np
import pytest
import torch

from _deadly import Deadly
from _factories import iris, with_missing
from sklearn_qavi import QAVIImputer
from sklearn_qavi._chunks import Chunk, ChunkTask, even_chunks, run_chunks
from sklearn_qavi._device import one_torch_thread
from sklearn_qavi._interrupts import AbandonedError, go_on
from sklearn_qavi._plan import Plan
from sklearn_qavi.exceptions import InferenceConvergenceWarning, UnreliablePosteriorWarning
from sklearn_qavi.inference import Gaussian, _methods

distributed = pytest.importorskip("dask.distributed")


@pytest.fixture(scope="module")
def table() -> np.ndarray:
    return with_missing(iris())


@pytest.fixture(scope="module")
def fitted(table, iris_model) -> QAVIImputer:
    return QAVIImputer(generative_model=iris_model, random_state=0).fit(table)


@pytest.fixture(scope="module")
def cluster():
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
        ) as local,
        distributed.Client(local) as client,
    ):
        yield client


def _results(imputer: QAVIImputer, X: np.ndarray) -> list[np.ndarray]:
    known = ~np.isnan(X)
    known[:, 1:] = False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnreliablePosteriorWarning)
        posteriors = imputer.infer(X, trace=True)
    return [
        imputer.transform(X),
        imputer.sample(X, n=3),
        np.stack(list(imputer.iter_samples(X, n=2))),
        *imputer.predict_interval(X),
        np.array(imputer.score(X)),
        posteriors.bound,
        posteriors.pareto_k,
        np.concatenate([member.trace.numpy() for member in posteriors.results], axis=1),
        *imputer.score_missing(X, known, n_draws=[20, 50]).values(),
    ]


@pytest.mark.parametrize("backend", ["threading", "loky"])
def test_threads_and_processes_answer_like_one_worker(fitted, table, backend) -> None:
    serial = _results(fitted, table)
    with joblib.parallel_config(backend, n_jobs=2):
        parallel = _results(fitted, table)
    for one, other in zip(serial, parallel, strict=True):
        np.testing.assert_array_equal(one, other)


def test_small_networks_keep_to_one_thread_whatever_the_setting(fitted, table, monkeypatch) -> None:
    seen = []
    fit = _methods.fit_posterior

    def watched(*args, **kwargs):
        seen.append(torch.get_num_threads())
        return fit(*args, **kwargs)

    monkeypatch.setattr(_methods, "fit_posterior", watched)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        fitted.transform(table)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    assert set(seen) == {1}


@pytest.mark.filterwarnings("ignore")  # the cluster's own
def test_a_dask_cluster_answers_like_one_worker(fitted, table, cluster) -> None:
    serial = _results(fitted, table)
    with joblib.parallel_config("dask", n_jobs=5):
        parallel = _results(fitted, table)
    for one, other in zip(serial, parallel, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.filterwarnings("ignore")
def test_a_worker_that_dies_loses_nothing(fitted, table, cluster, tmp_path, monkeypatch) -> None:
    serial = fitted.transform(table)
    flag = str(tmp_path / "killed")
    summary = Deadly(flag, fitted._point_summary())
    monkeypatch.setattr(QAVIImputer, "_point_summary", lambda self: summary)
    with joblib.parallel_config("dask", n_jobs=6):
        survived = fitted.transform(table)
    assert os.path.exists(flag)
    np.testing.assert_array_equal(survived, serial)


def test_an_interrupt_while_chunks_are_handed_out_ends_the_first_ones(
    fitted, table, monkeypatch
) -> None:
    monkeypatch.setattr(Plan, "chunk_rows", lambda *args: 10)
    at_work, left = threading.Event(), threading.Event()

    def long_work(*args: object) -> None:
        at_work.set()
        try:
            for _ in range(20_000):
                go_on()
                time.sleep(0.001)
        except AbandonedError:
            left.set()
            raise

    class Interrupted(Chunk):
        """Rows of which later parts meet an interrupt, the first ones being worked on."""

        def take(self, rows: slice) -> Chunk:
            if rows.start >= 20:
                assert at_work.wait(60)
                raise KeyboardInterrupt
            return super().take(rows)

    x = torch.from_numpy(np.nan_to_num(table)).float()
    rows = Interrupted(x, torch.from_numpy(~np.isnan(table)), np.arange(len(x)))
    task = ChunkTask(fitted._inference().pool, "cpu", long_work)
    with pytest.raises(KeyboardInterrupt):
        list(run_chunks(task, rows, n_jobs=2, progress=lambda n: None))
    assert left.wait(10)


@pytest.mark.parametrize("n_rows", [1, 7, 10_000, 100_000])
@pytest.mark.parametrize("n_workers", [1, 2, 16])
def test_every_worker_gets_as_much_as_the_others(n_rows: int, n_workers: int) -> None:
    places = even_chunks(n_rows, 4096, n_workers)
    rows = np.concatenate([np.arange(n_rows)[place] for place in places])
    np.testing.assert_array_equal(rows, np.arange(n_rows))
    sizes = np.array([place.stop - place.start for place in places])
    assert sizes.max() <= 4096
    # by turns, the busiest worker has less than one row a round more than its share
    n_rounds = -(-len(places) // n_workers)
    busiest = max(sizes[worker::n_workers].sum() for worker in range(n_workers))
    assert busiest < n_rows / n_workers + n_rounds


def test_chunks_are_taken_when_a_worker_is_about_to_be_free(fitted, table, monkeypatch) -> None:
    monkeypatch.setattr(Plan, "chunk_rows", lambda *args: 10)
    taken = []

    class Watched(Chunk):
        """Rows that tell which of them have been taken."""

        def take(self, rows: slice) -> Chunk:
            taken.append(rows.start)
            return super().take(rows)

    x = torch.from_numpy(np.nan_to_num(table)).float()
    rows = Watched(x, torch.from_numpy(~np.isnan(table)), np.arange(len(x)))
    task = ChunkTask(fitted._inference().pool, "cpu", lambda pooled, chunk: len(chunk))
    results = run_chunks(task, rows, n_jobs=1, progress=lambda n: None)
    places, result = next(results)
    assert (places, result.values) == (slice(0, 10), 10)
    assert len(taken) < 5
    list(results)
    assert taken == list(range(0, len(table), 10))


def test_parts_with_their_offset_are_the_whole(fitted, table) -> None:
    whole = fitted.sample(table, n=2)
    for cut in (1, 70):
        parts = [
            fitted.sample(table[:cut], n=2),
            fitted.sample(table[cut:], n=2, row_offset=cut),
        ]
        np.testing.assert_array_equal(np.concatenate(parts, axis=1), whole)
    drawing = QAVIImputer(**fitted.get_params(deep=False)).set_params(sample_posterior=True)
    drawing.__dict__.update({k: v for k, v in vars(fitted).items() if k != "sample_posterior"})
    drawn = drawing.transform(table)
    np.testing.assert_array_equal(drawing.transform(table[70:], row_offset=70), drawn[70:])
    np.testing.assert_array_equal(drawn, whole[0])
    with pytest.raises(ValueError, match="row_offset must be a whole number"):
        fitted.sample(table, row_offset=-1)


def test_threads_beside_each_other_keep_to_one_core() -> None:
    before = torch.get_num_threads()
    with one_torch_thread():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before
    with one_torch_thread(wanted=False):
        assert torch.get_num_threads() == before


def test_a_short_budget_visits_every_row_and_says_how_many_had_no_time(fitted, table) -> None:
    many = np.tile(table, (40, 1))
    incomplete = int(np.isnan(many).any(axis=1).sum())
    hurried = QAVIImputer(**fitted.get_params(deep=False))
    hurried.__dict__.update(vars(fitted))
    hurried.set_params(posterior=Gaussian(time_budget=0.05))
    with pytest.warns(InferenceConvergenceWarning, match=r"converged when the 0\.05 s ran") as told:
        completed = hurried.transform(many)
    assert np.isfinite(completed).all()
    (warning,) = told
    count = int(str(warning.message).split("posteriors of ")[1].split(" ")[0])
    assert 0 < count <= incomplete
    # what it has by then is an answer: nearer to the full one than the columns' means are
    full = fitted.transform(many)
    missing = np.isnan(many)
    means = np.broadcast_to(np.nanmean(many, axis=0), many.shape)
    error = [np.abs(guess - full)[missing].mean() for guess in (completed, means)]
    assert error[0] < 0.7 * error[1]


def test_an_ample_budget_changes_nothing(fitted, table) -> None:
    patient = QAVIImputer(**fitted.get_params(deep=False))
    patient.__dict__.update(vars(fitted))
    patient.set_params(posterior=Gaussian(time_budget=1000.0))
    np.testing.assert_array_equal(patient.transform(table), fitted.transform(table))
