"""Hidden cells: how many, which, and what is left alone."""

import numpy as np
import pandas as pd
import polars as pl
import pytest

from sklearn_qavi.datasets import make_missing


@pytest.fixture(name="X")
def complete_table():
    return np.random.default_rng(0).normal(size=(400, 25))


@pytest.mark.parametrize("rate", [0.1, 0.3, 0.8])
def test_rate_is_reached_overall_and_in_each_column(X, rate):
    _, missing = make_missing(X, rate, random_state=0)
    assert missing.mean() == pytest.approx(rate, abs=5 * np.sqrt(rate * (1 - rate) / X.size))
    error = 5 * np.sqrt(rate * (1 - rate) / len(X))
    np.testing.assert_allclose(missing.mean(axis=0), rate, atol=error)


def test_cells_are_hidden_independently(X):
    # so the number in a row is binomial, whose variance is n p (1 - p)
    _, missing = make_missing(np.zeros((20_000, 10)), 0.3, random_state=0)
    assert missing.sum(axis=1).var() == pytest.approx(10 * 0.3 * 0.7, rel=0.05)


@pytest.mark.parametrize(("rate", "expected"), [(0.0, 0), (0.1, 2), (0.5, 12), (1.0, 25)])
def test_per_row_hides_exactly_as_many_in_each_row(X, rate, expected):
    _, missing = make_missing(X, rate, per_row=True, random_state=0)
    assert (missing.sum(axis=1) == expected).all()


def test_per_row_is_uniform_over_columns_and_pairs():
    _, missing = make_missing(np.zeros((30_000, 4)), 0.5, per_row=True, random_state=0)
    np.testing.assert_allclose(missing.mean(axis=0), 0.5, atol=0.02)
    for i in range(4):
        for j in range(i):
            together = (missing[:, i] & missing[:, j]).mean()
            assert together == pytest.approx(1 / 6, abs=0.02)  # six pairs out of four columns


@pytest.mark.parametrize("per_row", [False, True])
def test_hidden_cells_are_nan_and_others_as_before(X, per_row):
    X_missing, missing = make_missing(X, 0.3, per_row=per_row, random_state=0)
    assert missing.dtype == bool
    np.testing.assert_array_equal(np.isnan(X_missing), missing)
    np.testing.assert_array_equal(X_missing[~missing], X[~missing])


@pytest.mark.parametrize("per_row", [False, True])
def test_seed_decides(X, per_row):
    def mask(seed):
        return make_missing(X, per_row=per_row, random_state=seed)[1]

    np.testing.assert_array_equal(mask(3), mask(3))
    assert (mask(3) != mask(4)).any()
    generator = np.random.RandomState(3)
    np.testing.assert_array_equal(mask(generator), mask(3))
    assert (mask(generator) != mask(3)).any()  # the generator has moved on


@pytest.mark.global_rng
def test_without_seed_calls_differ(X):
    assert (make_missing(X)[1] != make_missing(X)[1]).any()


def test_choice_does_not_depend_on_the_values(X):
    _, missing = make_missing(X, random_state=0)
    np.testing.assert_array_equal(make_missing(-X[::-1], random_state=0)[1], missing)


@pytest.mark.parametrize("as_frame", [False, True])
def test_the_input_is_not_changed(X, as_frame):
    table = pd.DataFrame(X) if as_frame else X
    before = np.array(table)
    X_missing, _ = make_missing(table, random_state=0)
    np.testing.assert_array_equal(table, before)
    if not as_frame:
        assert not np.shares_memory(X_missing, X)


def test_nothing_hidden_is_still_a_copy(X):
    assert not np.shares_memory(make_missing(X, 0.0, random_state=0)[0], X)


def test_read_only_input(X):
    X.flags.writeable = False
    X_missing, missing = make_missing(X, random_state=0)
    assert np.isnan(X_missing[missing]).all()


def test_pandas_in_pandas_out(X):
    frame = pd.DataFrame(X[:, :2], columns=["a", "b"], index=np.arange(400) + 7)
    frame["count"] = np.arange(400)
    frame["flag"] = np.arange(400) % 2 == 0
    X_missing, missing = make_missing(frame, 0.4, random_state=0)
    assert isinstance(X_missing, pd.DataFrame)
    assert isinstance(missing, np.ndarray)
    assert list(X_missing.columns) == list(frame.columns)
    pd.testing.assert_index_equal(X_missing.index, frame.index)
    assert (X_missing.dtypes == np.float64).all()
    np.testing.assert_array_equal(X_missing.isna(), missing)
    np.testing.assert_array_equal(X_missing.to_numpy()[~missing], frame.to_numpy(float)[~missing])


def test_pandas_and_numpy_hide_the_same_cells(X):
    _, expected = make_missing(X, random_state=0)
    np.testing.assert_array_equal(make_missing(pd.DataFrame(X), random_state=0)[1], expected)


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [(np.float32, np.float32), (np.float64, np.float64), (np.int32, np.float64), (bool, float)],
)
def test_dtype_can_hold_nan(dtype, expected):
    X_missing, missing = make_missing(np.ones((50, 4), dtype=dtype), random_state=0)
    assert X_missing.dtype == expected
    assert np.isnan(X_missing[missing]).all()


def test_nested_lists_are_taken():
    X_missing, missing = make_missing([[1, 2], [3, 4]], 1.0, random_state=0)
    assert missing.all()
    assert np.isnan(X_missing).all()


@pytest.mark.parametrize("as_frame", [False, True])
def test_cells_already_missing_are_not_counted(X, as_frame):
    X[:, :10] = np.nan
    table = pd.DataFrame(X) if as_frame else X
    X_missing, missing = make_missing(table, 0.5, per_row=True, random_state=0)
    assert not missing[:, :10].any()
    assert (missing.sum(axis=1) == 12).all()  # all of them among the 15 that had a value
    np.testing.assert_array_equal(np.isnan(X_missing), missing | np.isnan(X))
    _, missing = make_missing(table, 0.8, per_row=True, random_state=0)
    assert (missing.sum(axis=1) == 15).all()


@pytest.mark.parametrize("rate", [-0.1, 1.1, np.nan, "0.3"])
def test_bad_rate(X, rate):
    with pytest.raises(ValueError, match="rate must be a number from 0 to 1"):
        make_missing(X, rate)


def test_bad_tables(X):
    with pytest.raises(ValueError, match=r"two dimensions .* got shape \(400,\)"):
        make_missing(X[:, 0])
    with pytest.raises(TypeError, match="must hold numbers, got dtype <U1"):
        make_missing(np.array([["a", "b"]]))
    with pytest.raises(TypeError, match=r"polars.*to_pandas"):
        make_missing(pl.DataFrame({"a": [1.0, 2.0]}))


MECHANISMS = ["mar", "mnar_logistic", "mnar_self", "mnar_quantile"]


@pytest.fixture(scope="module")
def correlated():
    rng = np.random.default_rng(0)
    common = rng.normal(size=(20_000, 1))
    return 3.0 + [1.0, 10.0, 0.1, 5.0, 2.0] * (common + rng.normal(size=(20_000, 5)))


@pytest.mark.parametrize("rate", [0.1, 0.3, 0.45])
@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_every_mechanism_reaches_the_rate(correlated, mechanism, rate):
    X_missing, missing = make_missing(correlated, rate, mechanism=mechanism, random_state=0)
    assert missing.mean() == pytest.approx(rate, abs=0.01)
    np.testing.assert_array_equal(np.isnan(X_missing), missing)
    again = make_missing(correlated, rate, mechanism=mechanism, random_state=0)[1]
    np.testing.assert_array_equal(missing, again)


def test_mar_depends_on_columns_that_stay_whole_and_on_nothing_else(correlated):
    _, missing = make_missing(correlated, mechanism="mar", random_state=1)
    whole = ~missing.any(axis=0)
    assert whole.sum() == 2  # 30% of five, rounded
    moved = correlated.copy()
    moved[:, ~whole] = np.random.default_rng(5).permutation(moved[:, ~whole])
    np.testing.assert_array_equal(make_missing(moved, mechanism="mar", random_state=1)[1], missing)
    for j in np.flatnonzero(~whole):
        gaps = [
            correlated[missing[:, j], k].mean() - correlated[~missing[:, j], k].mean()
            for k in np.flatnonzero(whole)
        ]
        assert np.abs(gaps / correlated.std(axis=0)[whole]).max() > 0.3


def test_mnar_logistic_hides_the_deciding_columns_too(correlated):
    _, missing = make_missing(correlated, mechanism="mnar_logistic", random_state=1)
    np.testing.assert_allclose(missing.mean(axis=0), 0.3, atol=0.02)


def test_self_masking_hides_large_values_more_often(correlated):
    _, missing = make_missing(correlated, mechanism="mnar_self", random_state=0)
    for column, hidden in zip(correlated.T, missing.T, strict=True):
        assert column[hidden].mean() > column[~hidden].mean() + 0.8 * column.std()


@pytest.mark.parametrize(
    ("tail", "share"), [("upper", (0.6, 1.0)), ("lower", (0.0, 0.4)), ("both", (0.2, 0.8))]
)
def test_quantile_hides_in_the_tail_alone(correlated, tail, share):
    _, missing = make_missing(
        correlated, 0.2, mechanism="mnar_quantile", quantile=0.4, tail=tail, random_state=0
    )
    rank = correlated.argsort(axis=0).argsort(axis=0) / len(correlated)
    inside = (rank >= share[0] - 1e-3) & (rank <= share[1] + 1e-3)
    if tail == "both":
        inside = (rank <= share[0] + 1e-3) | (rank >= share[1] - 1e-3)
    assert not missing[~inside].any()
    assert missing[inside].mean() == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_mechanisms_take_missing_cells_constants_atoms_and_frames(mechanism):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(4000, 4))
    X[:, 1] = 7.0
    X[:, 2] = rng.integers(0, 3, size=4000)
    X[rng.random(X.shape) < 0.2] = np.nan
    absent = np.isnan(X)
    _, missing = make_missing(X, 0.25, mechanism=mechanism, random_state=0)
    assert not (missing & absent).any()
    assert missing.sum() / (~absent).sum() == pytest.approx(0.25, abs=0.02)
    frame, from_frame = make_missing(
        pd.DataFrame(X, columns=list("abcd")), 0.25, mechanism=mechanism, random_state=0
    )
    np.testing.assert_array_equal(missing, from_frame)
    assert list(frame) == list("abcd")
    assert not make_missing(X, 0.0, mechanism=mechanism, random_state=0)[1].any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mechanism": "nmar"}, "mechanism must be one of"),
        ({"mechanism": "mar", "per_row": True}, "use mechanism='mcar'"),
        ({"mechanism": "mar", "rate": 0.9}, "cannot be reached"),
        ({"mechanism": "mar", "observed_fraction": 0.0}, "observed_fraction must be"),
        ({"mechanism": "mnar_quantile", "rate": 0.6}, "raise quantile to 0.6"),
        ({"mechanism": "mnar_quantile", "quantile": 0.0}, "quantile must be"),
        ({"mechanism": "mnar_quantile", "tail": "left"}, "tail must be"),
    ],
)
def test_bad_mechanisms(options, message):
    with pytest.raises(ValueError, match=message):
        make_missing(np.ones((10, 4)), random_state=0, **options)


def test_one_column_cannot_decide_about_others():
    with pytest.raises(ValueError, match="One column"):
        make_missing(np.ones((10, 1)), mechanism="mar", random_state=0)
    X = np.arange(1000.0).reshape(-1, 1)
    missing = make_missing(X, mechanism="mnar_self", random_state=0)[1]
    assert missing.mean() == pytest.approx(0.3, abs=0.05)
