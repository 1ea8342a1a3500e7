"""The pool: the best decoder, then those that add most to it."""

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_iris

from _factories import quick_table_model
from sklearn_qavi.generative._table_training import Candidate, TableTrainer

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def trainer(**options: Any) -> TableTrainer:
    X = load_iris().data
    model = quick_table_model(max_steps=1, **options)
    model.n_categories_ = [None] * 4
    model._learn_standardization(X, np.ones(len(X)))
    return TableTrainer(model, model.standardize(X), np.ones(len(X)), 0)


def candidate(family: str = "student_t", *, linear: bool = True) -> Candidate:
    return Candidate([family] * 4, 0.0, False, linear)


def test_the_pool_is_the_best_and_what_adds_most_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draws of a second decoder like the best one's add nothing; opposite errors cancel."""
    at_work = trainer(n_decoders=2, calibrate=False)
    best, alike, opposite = (at_work.member(candidate(), 0) for _ in range(3))
    for member, score in ((best, 1.0), (alike, 1.01), (opposite, 1.05)):
        member.score = score
    at_work._watch(best.validation)
    truth = at_work.cells.x
    shift = {id(best.network): 0.5, id(alike.network): 0.55, id(opposite.network): -0.6}

    def draws(network: torch.nn.Module, *args: Any, **kwargs: Any) -> tuple[torch.Tensor, None]:
        noise = torch.linspace(-0.1, 0.1, 64).view(-1, 1, 1)
        return truth + shift[id(network)] + noise, None

    monkeypatch.setattr("sklearn_qavi.generative._table_training.draws_of_hidden_cells", draws)
    assert at_work._pool(best, [alike, opposite, best]) == [best, opposite]


def test_a_random_start_needs_a_clear_gain() -> None:
    at_work = trainer()
    runs = [(c, at_work.member(c, 0)) for c in (candidate(), candidate(linear=False))]
    (_, known), (_, random) = runs
    known.score, random.score = 1.0, 0.98
    assert at_work._best(runs)[1] is known
    random.score = 0.96
    assert at_work._best(runs)[1] is random


def test_validation_of_few_rows_has_several_masks() -> None:
    at_work = trainer()
    at_work._watch(at_work.member(candidate(), 0).validation)
    cells = at_work.cells
    n_rows = len(cells.x.unique(dim=0))
    assert len(cells.x) > 4 * n_rows
    same = (cells.x == cells.x[0]).all(1)
    assert len(cells.hidden[same].unique(dim=0)) > 1


@pytest.mark.parametrize(
    ("n_rows", "n_columns", "n_masks"),
    [(30, 4, 4), (30, 100, 2), (30, 1000, 1), (60, 30, 2), (128, 4, 1), (1000, 4, 1)],
)
def test_many_columns_need_no_more_masks(n_rows: int, n_columns: int, n_masks: int) -> None:
    values = np.random.default_rng(0).normal(size=(20, n_columns))
    made = TableTrainer(quick_table_model(), values, np.ones(20), seed=0)
    assert made._n_masks(n_rows) == n_masks


def test_bootstrap_samples_are_of_each_decoder() -> None:
    model = quick_table_model(
        bootstrap=True, n_decoders=3, likelihood="student_t", max_steps=2, random_state=0
    ).fit(load_iris().data)
    assert len(model.decoders_) == 3
    weights = [decoder.decoder.skip.bias for decoder in model.decoders_]
    assert not torch.allclose(weights[0], weights[1])
    assert not torch.allclose(weights[1], weights[2])
