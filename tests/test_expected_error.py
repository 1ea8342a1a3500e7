"""Expected errors by column: each score against its definition, and who learned from which rows."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, KNNImputer

from _factories import iris, quick_imputer, tiny_imputer, with_missing
from sklearn_qavi import QAVIImputer, _expected_error
from sklearn_qavi._expected_error import error_by_column
from sklearn_qavi.baselines import RetunedEncoder
from sklearn_qavi.metrics import interval_coverage, masked_crps, masked_rmse
from sklearn_qavi.preprocessing import Column, TableEncoder, as_frame


def _columns(frame: pd.DataFrame, **types: Any) -> list[Column]:
    checked = as_frame(frame)
    assert checked is not None
    return TableEncoder(column_types=types).fit(checked).modelled


pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture(scope="module")
def mixed() -> pd.DataFrame:
    """Flowers with their species, and the day on which they were found, all incomplete."""
    frame = pd.DataFrame(with_missing(iris()), columns=["a", "b", "c", "d"])
    frame["kind"] = pd.Categorical(np.repeat(["x", "y", "z"], 50))
    frame["found"] = pd.Timestamp("2026-01-01") + pd.to_timedelta(np.arange(150), unit="D")
    return frame


@pytest.fixture(scope="module")
def imputer(train_once: Callable[..., Any], mixed: pd.DataFrame) -> QAVIImputer:
    return train_once("expected_error", quick_imputer(), mixed)


def test_numbers_are_scored_as_in_metrics_and_beside_the_imputers_of_sklearn() -> None:
    rng = np.random.default_rng(0)
    table = rng.normal(size=(60, 3)) @ rng.normal(size=(3, 3)) + [0.0, 10.0, -3.0]
    learned, truth = table[:40].copy(), table[40:]
    learned[rng.random(learned.shape) < 0.1] = np.nan
    hidden = rng.random(truth.shape) < 0.4
    draws = truth + rng.normal(size=(50, *truth.shape))
    columns = _columns(pd.DataFrame(table, columns=["a", "b", "c"]))
    errors = error_by_column(columns, truth, hidden, draws[0], draws, learned, seed=0)

    mean, scale = np.nanmean(learned, axis=0), np.nanstd(learned, axis=0)
    shown = np.where(hidden, np.nan, truth)
    simple = {"neighbors": KNNImputer(), "linear": IterativeImputer(random_state=0)}
    completed = {"mean": np.where(hidden, mean, truth)}
    for name, rival in simple.items():
        rival.fit((learned - mean) / scale)
        completed[name] = rival.transform((shown - mean) / scale) * scale + mean
    for j, name in enumerate(["a", "b", "c"]):
        column = errors.loc[name]
        cells = hidden[:, [j]]
        x, d = truth[:, [j]], draws[:, :, [j]]
        assert column["n_cells"] == cells.sum()
        assert column["error"] == pytest.approx(masked_rmse(x, d[0], cells))
        assert column["crps"] == pytest.approx(masked_crps(x, d, cells))
        assert column["coverage"] == pytest.approx(interval_coverage(x, d, cells, level=0.9))
        for rival, values in completed.items():
            v = values[:, [j]]
            assert column[f"error_{rival}"] == pytest.approx(masked_rmse(x, v, cells))
            absolute = np.abs(x - v)[cells].mean()
            assert column[f"crps_{rival}"] == pytest.approx(absolute)
        of_all = {"qavi": column["crps"]} | {r: column[f"crps_{r}"] for r in completed}
        assert column["best"] == min(of_all, key=lambda r: of_all[r])


def test_categories_are_scored_by_half_of_the_brier_score_without_what_draws_add() -> None:
    columns = _columns(pd.DataFrame({"k": ["x", "y", "z", "x"] * 5}), k="nominal")
    probability = np.array([0.5, 0.3, 0.2])
    truth = np.repeat([[0.0], [1.0], [2.0]], [5, 3, 2], axis=0)
    draws = np.repeat([0.0, 1.0, 2.0], (probability * 10).astype(int))
    draws = np.tile(draws[:, None, None], (1, 10, 1))
    hidden = np.ones(truth.shape, dtype=bool)
    errors = error_by_column(columns, truth, hidden, 0.0 * truth, draws, truth, seed=0)
    column = errors.loc["k"]
    assert column["error"] == column["error_mean"] == column["crps_mean"] == 0.5
    # of draws with these shares, 1 - sum p^2 = 0.62 is the expected half Brier score doubled;
    # the shares of n draws without replacement differ by n / (n - 1) in their spread
    wrong = (probability * (1.0 - probability)).sum()
    assert column["crps"] == pytest.approx(wrong - 0.5 * wrong * 10 / 9)
    assert np.isnan(column["coverage"])


def test_rows_that_are_scored_were_learned_from_by_nobody(
    imputer: QAVIImputer, mixed: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    held_out = imputer.generative_model_.validation_rows_
    assert len(held_out) == round(0.15 * len(mixed))
    asked: dict[str, Any] = {}

    def remember(columns: Any, truth: Any, hidden: Any, *args: Any) -> pd.DataFrame:
        asked.update(truth=truth, hidden=hidden, point=args[0], draws=args[1], learned=args[2])
        return error_by_column(columns, truth, hidden, *args)

    monkeypatch.setattr("sklearn_qavi._imputer.error_by_column", remember)
    errors = imputer.expected_error()
    days = 5  # position of the dates, which are all different
    scored, learned = (set(asked[name][:, days]) for name in ("truth", "learned"))
    first = pd.Timestamp("2026-01-01")
    expected = {(mixed["found"][i] - pd.Timestamp(0)).days for i in held_out}
    assert scored == expected
    assert learned == {(first - pd.Timestamp(0)).days + i for i in range(150)} - expected
    # cells that were not to be seen have no influence, and others are as they were
    assert not np.isnan(asked["truth"][asked["hidden"]]).any()
    assert errors["n_cells"].sum() == asked["hidden"].sum()
    assert list(errors.index) == list(mixed.columns)
    assert errors.loc["kind", "kind"] == "nominal"


def test_rows_of_validation_are_inferred_by_decoders_that_do_not_know_them(
    imputer: QAVIImputer, mixed: pd.DataFrame
) -> None:
    """With broken decoders in place of the last ones nothing changes, unless a table is given."""
    before = imputer.expected_error()
    model = imputer.generative_model_
    last = model.decoders_
    model.decoders_ = [copy.deepcopy(decoder) for decoder in last]
    for decoder in model.decoders_:
        for weight in decoder.parameters():
            weight.zero_()
    try:
        pd.testing.assert_frame_equal(imputer.expected_error(), before)
        broken = imputer.expected_error(mixed)
    finally:
        model.decoders_ = last
    assert broken.loc["c", "crps"] > 2 * imputer.expected_error(mixed).loc["c", "crps"]


def test_a_posterior_that_is_trained_does_not_learn_from_the_rows_that_are_scored(
    mixed: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    learned: list[tuple[Any, int]] = []

    class Watched(RetunedEncoder):
        def learn(self, decoder: Any, x: Any, observed: Any, **options: Any) -> Any:
            learned.append((decoder, len(x)))
            return super().learn(decoder, x, observed, **options)

    method = Watched(max_epochs=1)
    imputer = tiny_imputer(posterior=method, max_iter=None).fit(mixed)
    imputer.expected_error()
    model = imputer.generative_model_
    n_scored = len(model.validation_rows_)
    decoders = [*model.decoders_, *model.validated_decoders_]
    assert [decoder for decoder, _ in learned] == decoders
    assert [n for _, n in learned] == [len(mixed), len(mixed) - n_scored]


def test_what_is_hidden_is_not_seen(
    imputer: QAVIImputer, mixed: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled: list[Any] = []

    def remember(*args: Any) -> pd.DataFrame:
        filled.append(args)
        return error_by_column(*args)

    monkeypatch.setattr("sklearn_qavi._imputer.error_by_column", remember)
    rows = mixed.iloc[:3]
    imputer.expected_error(rows)
    _, truth, hidden, point, draws, *_ = filled[0]
    assert np.isfinite(point[hidden]).all()
    place, j = np.argwhere(hidden[:, :4])[0]  # a hidden number, which becomes another one
    changed = rows.copy()
    changed.iloc[place % len(rows), j] = truth[place, j] + 1.0
    imputer.expected_error(changed)
    _, truth_then, hidden_then, point_then, draws_then, *_ = filled[1]
    assert truth_then[place, j] != truth[place, j]
    gone = hidden[place]
    np.testing.assert_array_equal(hidden_then, hidden)
    np.testing.assert_array_equal(point_then[place, gone], point[place, gone])
    np.testing.assert_array_equal(draws_then[:, place, gone], draws[:, place, gone])


def test_new_rows_are_scored_beside_imputers_that_learned_from_the_table_of_fit(
    imputer: QAVIImputer, mixed: pd.DataFrame, tmp_path: Path
) -> None:
    rows = mixed.iloc[:20]
    errors = imputer.expected_error(rows)
    twice = imputer.expected_error(rows)
    pd.testing.assert_frame_equal(errors, twice)
    imputer.save(tmp_path / "saved")
    loaded = QAVIImputer.load(tmp_path / "saved")
    with pytest.raises(ValueError, match="pass a table X"):
        loaded.expected_error()
    # without the table of fit, one half of the rows is scored, and simple imputers learn the other
    alone = loaded.expected_error(rows)
    assert 0 < alone.loc["a", "n_cells"] != errors.loc["a", "n_cells"]
    assert alone.loc["a", "error_mean"] != errors.loc["a", "error_mean"]


def test_of_many_rows_some_are_scored(
    imputer: QAVIImputer, mixed: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sklearn_qavi._imputer.MOST_SCORED_ROWS", 30)
    monkeypatch.setattr("sklearn_qavi._expected_error._ENOUGH_ROWS", 30)
    errors = imputer.expected_error(mixed)
    # three tenths of at most six cells of thirty rows
    assert 30 <= errors["n_cells"].sum() <= 60


def test_units_are_those_of_the_columns() -> None:
    table = with_missing(iris()) * [1.0, 1000.0, 1.0, 1.0]
    small, large = (tiny_imputer().fit(X).expected_error() for X in (with_missing(iris()), table))
    names = ["error", "crps", "error_mean", "crps_mean", "crps_linear"]
    ratio = (large[names] / small[names]).to_numpy(dtype=float)
    np.testing.assert_allclose(ratio[[0, 2, 3]], 1.0, rtol=1e-4)
    np.testing.assert_allclose(ratio[1], 1000.0, rtol=1e-4)


def test_rows_of_one_cell_have_nothing_to_hide() -> None:
    imputer = tiny_imputer().fit(iris())
    lonely = np.where(np.eye(4, dtype=bool), 1.0, np.nan)
    with pytest.raises(ValueError, match="no row that can be scored has two"):
        imputer.expected_error(lonely)


def test_columns_of_many_categories_leave_the_rare_ones_together() -> None:
    rng = np.random.default_rng(0)
    codes = np.minimum(rng.geometric(0.1, size=400) - 1, 59)
    names = [f"n{i:02d}" for i in range(60)]
    kinds = pd.Categorical([names[i] for i in codes], categories=names)
    column = _columns(pd.DataFrame({"k": kinds}))
    truth = codes[:, None].astype(float)
    everywhere = np.ones(truth.shape, dtype=bool)
    errors = error_by_column(column, truth, everywhere, truth, np.stack([truth] * 3), truth, 0)
    assert errors.loc["k", "error"] == errors.loc["k", "crps"] == 0.0
    most = np.bincount(codes).max() / len(codes)
    assert errors.loc["k", "error_mean"] == pytest.approx(1.0 - most)
    assert _expected_error._MOST_INDICATORS < 60
