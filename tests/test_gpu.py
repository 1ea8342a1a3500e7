"""On a GPU: the answers of a CPU, no row that sees another, no wait between looks."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch

from _factories import digits, iris, tiny_image_model, tiny_imputer, tiny_inpainter, with_missing
from sklearn_qavi._random import row_uniforms
from sklearn_qavi.generative import TabularVAE
from sklearn_qavi.inference import _engine

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.filterwarnings("ignore::sklearn_qavi.exceptions.InferenceConvergenceWarning"),
    pytest.mark.filterwarnings("ignore::sklearn_qavi.exceptions.UnreliablePosteriorWarning"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]
POSTERIORS = ["gaussian", "mixture", "flow", "feature"]


@pytest.mark.parametrize("posterior", POSTERIORS)
def test_a_table_is_completed_as_on_a_cpu(posterior: str, iris_model: TabularVAE) -> None:
    X = with_missing(iris())
    on_cpu, on_gpu = (
        tiny_imputer(
            generative_model=iris_model, posterior=posterior, max_iter=None, device=device
        ).fit(X)
        for device in ("cpu", "cuda")
    )
    bounds = [imputer.infer(X).bound for imputer in (on_cpu, on_gpu)]
    assert abs(float((bounds[1] - bounds[0]).mean())) < 0.005  # nats
    error = np.abs(on_gpu.transform(X) - on_cpu.transform(X)) / X[~np.isnan(X)].std()
    assert np.median(error[np.isnan(X)]) < 0.01


@pytest.mark.parametrize("posterior", ["gaussian", "mixture", "flow"])
def test_an_image_is_completed_as_on_a_cpu(posterior: str) -> None:
    images = digits(0, 60)
    model = tiny_image_model(random_state=0).fit(images)
    incomplete = with_missing(images[:12])
    on_cpu, on_gpu = (
        tiny_inpainter(
            generative_model=model,
            posterior=posterior,
            max_iter=None,
            noise_width=1.0,
            device=device,
        ).fit(images)
        for device in ("cpu", "cuda")
    )
    difference = np.abs(on_gpu.transform(incomplete) - on_cpu.transform(incomplete))
    assert np.median(difference[np.isnan(incomplete)]) < 0.01  # of white


def test_draws_are_keyed_by_the_same_numbers() -> None:
    positions = np.array([0, 5, 2**40])
    for first in (0, 3):
        on_cpu = row_uniforms(3, positions, 4, 7, first=first)
        on_gpu = row_uniforms(3, positions, 4, 7, first=first, device=torch.device("cuda"))
        assert on_gpu.cpu().equal(on_cpu)


@pytest.mark.parametrize("posterior", POSTERIORS)
def test_a_rows_answer_does_not_depend_on_its_company(
    posterior: str, iris_model: TabularVAE
) -> None:
    X = with_missing(iris())
    imputer = tiny_imputer(
        generative_model=iris_model, posterior=posterior, max_iter=24, device="cuda"
    ).fit(X)
    everyone = imputer.transform(X)
    order = np.random.default_rng(0).permutation(len(X))[:47]
    np.testing.assert_array_equal(imputer.transform(X[order]), everyone[order])
    np.testing.assert_array_equal(imputer.transform(X[:1]), everyone[:1])


@contextmanager
def _no_waits() -> Iterator[None]:
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)


@pytest.mark.parametrize("posterior", ["gaussian", "mixture", "flow"])
def test_nothing_waits_between_two_looks(
    posterior: str, iris_model: TabularVAE, monkeypatch: pytest.MonkeyPatch
) -> None:
    X = with_missing(iris())
    imputer = tiny_imputer(
        generative_model=iris_model, posterior=posterior, max_iter=24, device="cuda"
    ).fit(X)
    imputer.transform(X)  # what is set up at first use may wait
    climb = _engine._Loop._climb

    def watched(self: Any) -> int:
        with _no_waits():
            return climb(self)

    monkeypatch.setattr(_engine._Loop, "_climb", watched)
    imputer.transform(X)
