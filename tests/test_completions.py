"""The target in and out of tables of every type, and seeds of clones."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.ensemble import BaggingRegressor
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeRegressor

from _factories import tiny_table_model
from sklearn_qavi import QAVIImputer
from sklearn_qavi._completions import TargetColumns, seeded_clone

X = np.arange(8.0).reshape(4, 2)
LABELS = np.array(["b", "a", "c", "a"])
TABLES = {
    "array": X,
    "single precision": X.astype(np.float32),
    "whole numbers": X.astype(int),
    "objects": X.astype(object),
    "pandas": pd.DataFrame(X, columns=["a", "b"], index=[3, 1, 4, 2]),
    "polars": pl.DataFrame(X, schema=["a", "b"]),
}


@pytest.mark.parametrize(
    "imputer", [QAVIImputer(), IterativeImputer()], ids=["categories", "numbers"]
)
@pytest.mark.parametrize("kind", TABLES)
def test_a_target_that_went_in_comes_out(kind: str, imputer) -> None:
    table = TABLES[kind]
    columns = TargetColumns.plan(imputer, table, LABELS, np.unique(LABELS), "kind")
    for y in (LABELS, None):
        joint = columns.append(table, y)
        assert joint.shape[1] == 2 + len(columns.names)
        assert len(columns.names) == (1 if isinstance(imputer, QAVIImputer) else 2)
        values = np.asarray(joint[:, 2:] if isinstance(joint, np.ndarray) else joint)
        values = values[:, -len(columns.names) :]
        assert pd.isna(values).all() == (y is None)
        if y is not None and len(columns.names) == 2:
            assert values.tolist() == [[1, 0], [0, 0], [0, 1], [0, 0]]
        elif y is not None:
            assert values.ravel().tolist() == ["class 1", "class 0", "class 2", "class 0"]
        if hasattr(joint, "iloc") and not isinstance(table, pd.DataFrame):
            joint.columns = [f"x{j}" for j in joint.columns]  # as imputers name the nameless
        back = columns.remove(joint, None, table)
        assert type(back) is type(table)
        np.testing.assert_array_equal(np.asarray(back, dtype=float), X)
    if kind == "single precision":
        assert back.dtype == np.float32
    if kind == "pandas":
        pd.testing.assert_frame_equal(back, table)


def test_numbers_keep_the_name_of_the_target_unless_a_column_has_it() -> None:
    y = np.arange(4.0)
    for name, expected in [("price", "price"), ("a", "a_"), (None, "target"), ("", "target")]:
        columns = TargetColumns.plan(IterativeImputer(), TABLES["pandas"], y, None, name)
        assert columns.names == [expected]
        assert columns.append(TABLES["pandas"], y)[expected].tolist() == y.tolist()


def test_seeds_are_set_where_there_are_none() -> None:
    chained = IterativeImputer(sample_posterior=True)
    first, again, other = (seeded_clone(chained, seed) for seed in (1, 1, 2))
    assert first.random_state == again.random_state != other.random_state
    chosen = IterativeImputer(random_state=7)
    assert seeded_clone(chosen, 1).random_state == 7
    varied = [seeded_clone(chosen, seed, vary=True).random_state for seed in (1, 2)]
    assert len({7, *varied}) == 3
    assert seeded_clone(IterativeImputer(random_state=8), 1, vary=True).random_state != varied[0]


def test_parts_get_seeds_only_from_those_that_have_none_themselves() -> None:
    pipe = seeded_clone(make_pipeline(StandardScaler(), DecisionTreeRegressor()), 0)
    assert pipe[-1].random_state is not None
    bagging = seeded_clone(BaggingRegressor(DecisionTreeRegressor()), 0)
    assert bagging.random_state is not None
    assert bagging.estimator.random_state is None


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.global_rng
def test_parts_that_clones_share_keep_their_state() -> None:
    model = tiny_table_model()
    model.fit(np.random.default_rng(0).normal(size=(20, 2)))
    pipe = make_pipeline(StandardScaler(), QAVIImputer(generative_model=model))
    copied = seeded_clone(pipe, 0)
    assert copied[-1].generative_model is model
    assert model.random_state is None
    assert copied[-1].random_state is not None
