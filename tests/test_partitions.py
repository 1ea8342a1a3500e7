"""Tables completed part by part."""

import warnings

import dask.dataframe as dd
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from sklearn.datasets import load_iris

from _factories import tiny_imputer, with_missing
from sklearn_qavi import QAVIImputer
from sklearn_qavi.partitions import complete_dask, complete_parquet


@pytest.fixture(scope="module")
def incomplete() -> pd.DataFrame:
    X = load_iris(as_frame=True).data
    frame = pd.DataFrame(with_missing(X.to_numpy()), columns=X.columns)
    frame.insert(1, "name", [f"flower {i}" for i in range(len(frame))])
    return frame


@pytest.fixture(scope="module")
def fitted(incomplete, iris_model) -> QAVIImputer:
    imputer = QAVIImputer(generative_model=iris_model, random_state=0)
    return imputer.fit(incomplete.drop(columns="name"))


def test_a_parquet_file_does_not_depend_on_how_it_is_read(fitted, incomplete, tmp_path) -> None:
    incomplete.to_parquet(tmp_path / "incomplete.parquet", row_group_size=40)
    whole = fitted.sample(incomplete.drop(columns="name"), n=2)
    for batch_rows in (7, 1000):
        n_rows = complete_parquet(
            fitted,
            tmp_path / "incomplete.parquet",
            tmp_path / "out.parquet",
            n=2,
            batch_rows=batch_rows,
        )
        out = pd.read_parquet(tmp_path / "out.parquet")
        assert n_rows == 150
        assert list(out) == [*incomplete, "imputation"]
        for k in range(2):
            draw = out[out["imputation"] == k]
            assert draw["name"].tolist() == incomplete["name"].tolist()
            np.testing.assert_array_equal(draw[fitted.feature_names_in_], whole[k])


def test_without_draws_it_is_transform(fitted, incomplete, tmp_path) -> None:
    for i in range(3):  # a folder of files, in the order of their names
        incomplete[50 * i : 50 * i + 50].to_parquet(tmp_path / f"part{i}.parquet")
    complete_parquet(fitted, tmp_path, tmp_path / "all.out", batch_rows=20)
    out = pq.read_table(tmp_path / "all.out").to_pandas()
    expected = fitted.transform(incomplete.drop(columns="name"))
    np.testing.assert_array_equal(out[fitted.feature_names_in_], expected)


def test_types_and_large_whole_numbers_stay(tmp_path) -> None:
    """In parts with missing values and in parts without, in Parquet and in Dask."""
    big, rng = 4873214862074861313, np.random.default_rng(0)
    frame = pd.DataFrame({"id": pd.array([big + i for i in range(60)], dtype="Int64")})
    frame["id"] = frame["id"].mask(frame.index == 3)
    frame["day"] = pd.Series(pd.date_range("2024-01-01", periods=60)).mask(frame.index == 4)
    frame["k"] = pd.Series(pd.Categorical(list("ab") * 30)).mask(frame.index == 5)
    frame["x"] = rng.normal(size=60).astype(np.float32)
    frame.index = pd.Index([f"r{i}" for i in range(60)], name="row")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        imputer = tiny_imputer(max_iter=None).fit(frame)
    frame.to_parquet(tmp_path / "incomplete.parquet")
    complete_parquet(
        imputer, tmp_path / "incomplete.parquet", tmp_path / "out.parquet", n=2, batch_rows=20
    )
    out = pd.read_parquet(tmp_path / "out.parquet")
    draws = [out[out["imputation"] == k].drop(columns="imputation") for k in range(2)]
    expected = imputer.set_output(transform="pandas").sample(frame, n=2)
    parts = complete_dask(imputer, dd.from_pandas(frame, npartitions=3, sort=False)).compute(
        scheduler="sync"
    )
    for completed in (*draws, parts):
        assert completed.index.tolist() == frame.index.tolist()
        assert (completed.dtypes == frame.dtypes).all()
        assert completed.notna().all().all()
        seen = frame["id"].notna()
        assert (completed["id"][seen] == frame["id"][seen]).all()
    for draw, whole in zip(draws, expected, strict=True):
        pd.testing.assert_frame_equal(draw, whole)


def test_files_without_rows_are_fine(fitted, incomplete, tmp_path) -> None:
    incomplete[:0].to_parquet(tmp_path / "part0.parquet")
    assert complete_parquet(fitted, tmp_path / "part0.parquet", tmp_path / "none.out") == 0
    assert list(pq.read_table(tmp_path / "none.out").column_names) == list(incomplete)
    (tmp_path / "none.out").unlink()
    incomplete.to_parquet(tmp_path / "part1.parquet")
    assert complete_parquet(fitted, tmp_path, tmp_path / "all.out", n=2) == 150
    assert len(pq.read_table(tmp_path / "all.out")) == 300


@pytest.mark.parametrize("npartitions", [1, 4])
def test_dask_partitions_give_what_the_whole_table_gives(fitted, incomplete, npartitions) -> None:
    parts = dd.from_pandas(incomplete, npartitions=npartitions)
    whole = fitted.sample(incomplete.drop(columns="name"), n=2)
    drawn = complete_dask(fitted, parts, n=2).compute(scheduler="sync")
    for k in range(2):
        draw = drawn[drawn["imputation"] == k]
        assert draw.index.equals(incomplete.index)
        np.testing.assert_array_equal(draw[fitted.feature_names_in_], whole[k])
    completed = complete_dask(fitted, parts).compute(scheduler="sync")
    assert list(completed) == list(incomplete)
    np.testing.assert_array_equal(
        completed[fitted.feature_names_in_], fitted.transform(incomplete.drop(columns="name"))
    )


def test_an_empty_partition_is_fine(fitted, incomplete) -> None:
    parts = dd.from_pandas(incomplete, npartitions=3)
    parts = parts[parts["name"] != "flower 0"].map_partitions(
        lambda part: part[:0] if "flower 1" in set(part["name"]) else part, meta=parts._meta
    )
    assert complete_dask(fitted, parts).compute(scheduler="sync").shape == (100, 5)


def test_errors_say_what_is_missing(fitted, incomplete, tmp_path) -> None:
    incomplete.drop(columns="petal width (cm)").to_parquet(tmp_path / "narrow.parquet")
    with pytest.raises(ValueError, match=r"\['petal width \(cm\)'\] that the imputer was fitted"):
        complete_parquet(fitted, tmp_path / "narrow.parquet", tmp_path / "out.parquet")
    with pytest.raises(ValueError, match="n must be None or a whole number"):
        complete_parquet(fitted, tmp_path / "narrow.parquet", tmp_path / "out.parquet", n=0)
    nameless = QAVIImputer(random_state=0)
    with pytest.raises(ValueError, match="fit it to a dataframe"):
        complete_dask(nameless, dd.from_pandas(incomplete, npartitions=1))
