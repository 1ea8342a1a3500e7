"""QAVIImputer on columns of categories, whole numbers, bounds and times."""

import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.base import clone
from sklearn.compose import make_column_selector
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from _factories import quick_table_model, tiny_imputer, tiny_table_model
from sklearn_qavi import QAVIImputer
from sklearn_qavi.partitions import complete_parquet

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def people(n: int = 240, seed: int = 0) -> pd.DataFrame:
    """Return a table in which one hidden quantity drives columns of every kind."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=n)
    near = z + 0.2 * rng.normal(size=(8, n))
    city = np.select([near[0] > 0.5, near[0] < -0.5], ["Rome", "Paris"], "Oslo")
    size = np.select([near[1] > 0.5, near[1] < -0.5], ["L", "S"], "M")
    start = pd.Timestamp("2020-02-28")
    return pd.DataFrame(
        {
            "income": np.exp(8 + near[2]),
            "age": np.round(40 + 10 * near[3]).astype(int),
            "share": 1 / (1 + np.exp(-near[4])),
            "kids": pd.array(rng.poisson(np.exp(0.5 * near[5])), dtype="Int64"),
            "city": city,
            "size": pd.Categorical(size, ["S", "M", "L"], ordered=True),
            "colour": pd.Categorical(np.where(near[6] > 0, "red", "blue"), ["red", "blue", "grey"]),
            "member": near[7] > 0,
            "since": start + pd.to_timedelta(np.round(100 * z), unit="D"),
        }
    )


DECLARED = {"income": "positive", "share": (0, 1)}


def with_missing(frame: pd.DataFrame, rate: float = 0.3, seed: int = 1) -> tuple[Any, np.ndarray]:
    missing = np.random.default_rng(seed).random(frame.shape) < rate
    incomplete = frame.copy()
    for j, name in enumerate(frame.columns):
        incomplete[name] = frame[name].mask(missing[:, j])
    return incomplete, missing


@pytest.fixture(scope="module")
def fitted(train_once: Callable[..., Any]) -> QAVIImputer:
    incomplete, _ = with_missing(people())
    model = quick_table_model(likelihood="student_t", max_steps=240)
    imputer = QAVIImputer(generative_model=model, column_types=DECLARED, random_state=0)
    imputer = train_once("people", imputer, incomplete)
    return imputer.set_output(transform="pandas")


@pytest.fixture(scope="module")
def incomplete() -> pd.DataFrame:
    return with_missing(people())[0]


def test_types_index_and_observed_cells_survive(
    fitted: QAVIImputer, incomplete: pd.DataFrame
) -> None:
    incomplete = incomplete.set_axis([f"r{i}" for i in range(len(incomplete))])
    completed = fitted.transform(incomplete)
    assert (completed.dtypes == incomplete.dtypes).all()
    assert completed.index.equals(incomplete.index)
    assert not completed.isna().any().any()
    for name in incomplete:
        seen = incomplete[name].notna()
        assert (completed[name][seen] == incomplete[name][seen]).all()


def test_draws_are_categories_whole_numbers_and_inside_of_bounds(
    fitted: QAVIImputer, incomplete: pd.DataFrame
) -> None:
    for draw in fitted.sample(incomplete, n=5):
        assert (draw["income"] > 0).all()
        assert draw["share"].between(0, 1).all()
        assert (draw["age"] == draw["age"].round()).all()
        assert (draw["kids"] >= 0).all()
        assert set(draw["city"]) <= {"Rome", "Paris", "Oslo"}
        assert set(draw["colour"]) == {"red", "blue"}  # no row of fit was grey
        assert (draw["since"] == draw["since"].dt.normalize()).all()
        assert set(draw["member"]) <= {True, False}


def test_imputations_follow_the_row(fitted: QAVIImputer) -> None:
    """The hidden quantity says what a cell is; chance and the column's mode say less."""
    truth = people(seed=7)
    incomplete, missing = with_missing(truth, seed=8)
    completed = fitted.transform(incomplete)
    for name in ("city", "size", "colour", "member"):
        hidden = missing[:, incomplete.columns.get_loc(name)]
        right = (completed[name] == truth[name])[hidden].mean()
        assert right > 0.15 + truth[name].value_counts(normalize=True).max()
    for name in ("income", "age", "share"):
        hidden = missing[:, incomplete.columns.get_loc(name)]
        assert np.corrcoef(completed[name][hidden], truth[name][hidden])[0, 1] > 0.8
    days = (completed["since"] - truth["since"]).dt.days[missing[:, -1]]
    assert days.std() < 0.6 * 100


def test_probabilities_of_categories_are_calibrated_by_the_draws(
    fitted: QAVIImputer, incomplete: pd.DataFrame
) -> None:
    probabilities = fitted.category_probabilities(incomplete)
    assert list(probabilities) == ["city", "size", "colour", "member"]
    draws = fitted.sample(incomplete, n=400)
    for name, table in probabilities.items():
        np.testing.assert_allclose(table.sum(axis=1), 1.0, atol=1e-6)
        for category in table:
            share = np.mean([draw[name] == category for draw in draws], axis=0)
            assert np.abs(share - table[category].to_numpy()).max() < 0.13  # five standard errors
    seen = incomplete["city"].notna()
    one_hot = probabilities["city"][seen].to_numpy()
    assert (one_hot.max(axis=1) == 1.0).all()
    most_probable = probabilities["city"].idxmax(axis=1)
    assert (fitted.transform(incomplete)["city"] == most_probable).all()


def test_limits_of_categories_without_order_are_the_most_probable_one(
    fitted: QAVIImputer, incomplete: pd.DataFrame
) -> None:
    lower, upper = fitted.predict_interval(incomplete, level=0.8)
    most_probable = fitted.transform(incomplete)
    for name in ("city", "colour", "member"):
        assert (lower[name] == most_probable[name]).all()
        assert (upper[name] == most_probable[name]).all()
    assert (lower["size"] <= upper["size"]).all()
    assert (lower["since"] <= upper["since"]).all()
    assert (lower["income"] <= upper["income"]).all()
    assert (lower["income"] < upper["income"])[incomplete["income"].isna()].all()


def test_arrays_of_objects_are_what_frames_are(incomplete: pd.DataFrame) -> None:
    table = incomplete[["income", "city", "member"]]
    objects = np.empty(table.shape, dtype=object)
    objects[:] = table.astype(object).to_numpy()
    frame = tiny_imputer().fit(table).transform(table)
    array = tiny_imputer().fit(objects).transform(objects)
    assert frame.dtype == array.dtype == object
    assert (frame == array).all()


def test_polars_comes_back_as_polars(incomplete: pd.DataFrame) -> None:
    names = ["income", "kids", "city", "member", "since"]
    frame = pl.DataFrame(
        {
            name: [None if pd.isna(v) else v for v in incomplete[name].astype(object)]
            for name in names
        }
    ).with_columns(pl.col("since").cast(pl.Date), pl.col("city").cast(pl.Categorical))
    completed = tiny_imputer().fit(frame).set_output(transform="polars").sample(frame, n=2)[1]
    assert completed.schema == frame.schema
    assert completed.null_count().sum_horizontal().item() == 0
    for name in names:
        seen = frame[name].is_not_null()
        assert (completed[name].filter(seen) == frame[name].filter(seen)).all()


def test_codes_in_an_array_are_categories_if_named(fitted: QAVIImputer) -> None:
    rng = np.random.default_rng(0)
    X = np.column_stack([rng.normal(size=120), rng.choice([3.0, 7.0, 11.0], size=120)])
    X[::4, 1] = np.nan
    imputer = tiny_imputer(column_types={1: "nominal"}).fit(X)
    assert imputer.generative_model_.n_categories_ == [None, 3]
    completed = imputer.transform(X)
    assert completed.dtype == np.float64
    assert set(completed[:, 1]) == {3.0, 7.0, 11.0}
    from_the_end = tiny_imputer(column_types={-1: "nominal"}).fit(X)
    np.testing.assert_array_equal(from_the_end.transform(X), completed)
    with pytest.raises(ValueError, match="column_types names 'z'"):
        tiny_imputer(column_types={"z": "nominal"}).fit(X)


def test_unknown_categories_come_back_and_tell_nothing(
    fitted: QAVIImputer, incomplete: pd.DataFrame
) -> None:
    new = incomplete.copy()
    new.loc[[0, 1], "city"] = ["Bern", "Oslo"]
    completed = fitted.transform(new)
    assert completed.loc[[0, 1], "city"].tolist() == ["Bern", "Oslo"]
    hidden = fitted.transform(new.assign(city=new["city"].replace("Bern", None)))
    pd.testing.assert_frame_equal(completed.drop(columns="city"), hidden.drop(columns="city"))
    probabilities = fitted.category_probabilities(new)["city"]
    assert (probabilities.loc[0] == 0).all()
    assert probabilities.loc[1, "Oslo"] == 1
    mask = np.zeros(new.shape, dtype=bool)
    mask[0, new.columns.get_loc("city")] = True
    with pytest.raises(ValueError, match="categories that fit did not see"):
        fitted.score_missing(new, mask)
    few = incomplete.assign(city="Oslo").head(20)  # a subset of categories is fine
    assert (fitted.transform(few)["city"] == "Oslo").all()
    strict = clone(fitted).set_params(handle_unknown="error").fit(incomplete)
    with pytest.raises(ValueError, match=r"'city' holds categories.*'Bern'.*handle_unknown="):
        strict.transform(new)


def test_identifiers_of_new_rows_come_back() -> None:
    train = people(60)[["age"]].assign(name=[f"car {i}" for i in range(60)])
    train["age"] = train["age"].mask(np.arange(60) % 6 == 0)
    new = pd.DataFrame({"age": [np.nan, 30.0, np.nan], "name": ["car 900", "car 901", None]})
    completed = tiny_imputer().set_output(transform="pandas").fit(train).transform(new)
    assert completed["name"].tolist()[:2] == ["car 900", "car 901"]
    assert completed.loc[2, "name"] in set(train["name"])
    assert completed["age"].notna().all()


def test_whole_numbers_become_integers_again_if_declared(
    fitted: QAVIImputer, incomplete: pd.DataFrame
) -> None:
    assert fitted.transform(incomplete)["age"].dtype == np.float64
    restored = clone(fitted).set_params(column_types={"age": "count"}).fit(incomplete)
    completed = restored.set_output(transform="pandas").transform(incomplete)
    assert completed["age"].dtype == np.int64
    assert completed["income"].dtype == np.float64


def test_the_mean_on_a_log_scale_is_the_mean_of_the_values(
    fitted: QAVIImputer, incomplete: pd.DataFrame
) -> None:
    hidden = incomplete["income"].isna()
    mean = fitted.transform(incomplete)["income"][hidden]
    draws = np.mean([draw["income"][hidden] for draw in fitted.sample(incomplete, n=1000)], axis=0)
    assert abs(np.log(mean / draws)).median() < 0.1
    median = clone(fitted).set_params(strategy="median").fit(incomplete)
    median = median.set_output(transform="pandas").transform(incomplete)["income"][hidden]
    assert (median < mean).mean() > 0.9  # skewed to the right


def test_tables_one_by_one_are_those_of_sample(
    fitted: QAVIImputer, incomplete: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = fitted.sample(incomplete, n=7)
    monkeypatch.setattr(
        "sklearn_qavi._plan._DRAWS_BYTES", 3 * 8 * incomplete.size
    )  # three at a time
    tables = list(fitted.iter_samples(incomplete, n=7))
    assert len(tables) == 7
    assert all(a.equals(b) for a, b in zip(tables, expected, strict=True))


def test_rows_do_not_see_each_other(fitted: QAVIImputer, incomplete: pd.DataFrame) -> None:
    whole = fitted.sample(incomplete, n=2)[1]
    part = fitted.sample(incomplete.iloc[37:60], n=2, row_offset=37)[1]
    pd.testing.assert_frame_equal(part, whole.iloc[37:60])
    again = pickle.loads(pickle.dumps(fitted)).set_params(n_jobs=2, batch_size=32)
    pd.testing.assert_frame_equal(again.sample(incomplete, n=2)[1], whole)


def test_a_pipeline_of_categories(incomplete: pd.DataFrame) -> None:
    target = (people()["income"] > np.exp(8)).astype(int)
    imputer = tiny_imputer().set_output(transform="pandas")
    text = make_column_selector(dtype_include=["object", "category", "string"])
    from sklearn.compose import make_column_transformer

    one_hot = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore"), text), ("passthrough", ["share"])
    )
    pipe = make_pipeline(imputer, one_hot, LogisticRegression())
    assert (
        pipe.fit(incomplete.drop(columns="income"), target).score(
            incomplete.drop(columns="income"), target
        )
        > 0.8
    )


@pytest.mark.parametrize("posterior", ["mixture", "flow", "feature", "posterior_matching"])
def test_every_kind_of_inference_takes_categories(posterior: str, incomplete: pd.DataFrame) -> None:
    imputer = tiny_imputer(posterior=posterior, max_iter=None).fit(incomplete)
    completed = imputer.set_output(transform="pandas").transform(incomplete.head(30))
    assert not completed.isna().any().any()


def test_scores_count_categories(fitted: QAVIImputer) -> None:
    incomplete, _ = with_missing(people(seed=3))
    assert np.isfinite(fitted.score(incomplete))
    shuffled = incomplete.copy()
    rng = np.random.default_rng(0)
    shuffled["city"] = incomplete["city"].to_numpy()[rng.permutation(len(incomplete))]
    assert fitted.score(shuffled) < fitted.score(incomplete)


def test_a_trained_model_of_other_categories_is_refused(incomplete: pd.DataFrame) -> None:
    model = tiny_table_model(random_state=0)
    model.fit(np.random.default_rng(0).normal(size=(50, 2)))
    with pytest.raises(ValueError, match=r"\['city'\] of X hold categories"):
        QAVIImputer(generative_model=model, random_state=0).fit(incomplete[["age", "city"]])


def text_and_more(n: int = 60) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "number": rng.normal(size=n),
            "text": rng.choice(["yes", "no"], n),
            "kind": pd.Categorical(rng.choice(["u", "v"], n)),
            "time": pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.integers(0, 99, n), "D"),
        }
    )


@pytest.mark.parametrize("output", ["default", "pandas", "polars"])
def test_rows_that_show_numbers_alone_are_completed_as_in_the_table(output: str) -> None:
    frame = text_and_more()
    frame.loc[:4, ["text", "kind", "time"]] = None
    imputer = tiny_imputer().fit(frame).set_output(transform=output)
    expected = imputer.transform(frame)[:5]
    # without a type of their own the columns look like numbers
    shown = {"number": frame["number"][:5]} | {c: np.full(5, np.nan) for c in frame.columns[1:]}
    for some in (pd.DataFrame(shown), pl.DataFrame(shown)):
        completed = imputer.transform(some)
        if output == "polars":
            assert completed.rows() == expected.rows()
        else:
            np.testing.assert_array_equal(completed, np.asarray(expected, dtype=object))


@pytest.mark.parametrize("container", [np.array, list])
def test_arrays_that_show_numbers_alone_are_completed_as_in_the_table(container: Any) -> None:
    table = text_and_more()[["number", "text"]].astype(object).to_numpy()
    table[:5, 1] = None
    imputer = tiny_imputer().fit(table)
    completed = imputer.transform(container(table[:5].tolist()))
    np.testing.assert_array_equal(completed, imputer.transform(table)[:5])


def test_missing_values_may_be_marked_by_text() -> None:
    frame = people(60)[["income", "city"]]
    frame.loc[::5, "city"] = "?"
    completed = tiny_imputer(missing_values="?").fit(frame).transform(frame)
    assert "?" not in set(completed[:, 1])


def test_parquet_keeps_types(fitted: QAVIImputer, incomplete: pd.DataFrame, tmp_path: Any) -> None:
    source, target = tmp_path / "incomplete.parquet", tmp_path / "completed.parquet"
    incomplete.assign(id=range(len(incomplete))).to_parquet(source)
    complete_parquet(fitted, source, target, n=2)
    completed = pd.read_parquet(target)
    second = completed[completed["imputation"] == 1].drop(columns="imputation")
    expected = fitted.sample(incomplete, n=2)[1]
    for name in expected:
        assert (second[name].to_numpy() == expected[name].to_numpy()).all()
