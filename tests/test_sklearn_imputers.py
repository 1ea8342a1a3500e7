"""scikit-learn's own tests of its imputers, with QAVIImputer in their place.

What is left out, by design: sparse input, which is refused; a marker of text beside NaN in a table
of numbers, where the marker is refused instead of the NaN; tests of how `IterativeImputer` goes
about its rounds; and tests of `SimpleImputer`'s statistics.
"""

from typing import Any

import numpy as np
import pytest
from sklearn.impute.tests import test_common as common
from sklearn.impute.tests import test_impute as theirs
from sklearn.utils import check_array

from _factories import tiny_table_model
from sklearn_qavi import QAVIImputer

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore::sklearn_qavi.exceptions.ExtremeValueWarning"),
    pytest.mark.filterwarnings("ignore:Skipping features without:UserWarning"),
    pytest.mark.global_rng,
]


class Ours(QAVIImputer):
    """QAVIImputer on tables of fewer rows than it learns from: they are repeated.

    Options that only `IterativeImputer` or `SimpleImputer` has are dropped.
    """

    def __init__(self, **options: Any) -> None:
        known = QAVIImputer().get_params(deep=False)
        options = {name: value for name, value in options.items() if name in known}
        options.pop("strategy", None)  # "most_frequent" is what categories get in any case
        super().__init__(**{"generative_model": tiny_table_model(), "max_iter": 4, **options})

    @classmethod
    def _get_param_names(cls) -> list[str]:
        return QAVIImputer._get_param_names()

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Any:
        n_rows = len(X)
        return super().fit(X if n_rows >= 5 else _repeated(X, -(-5 // n_rows)))


def _repeated(X: Any, times: int) -> Any:
    if hasattr(X, "iloc"):
        return X.iloc[np.tile(np.arange(len(X)), times)]
    return (
        [row for _ in range(times) for row in X] if isinstance(X, list) else np.tile(X, (times, 1))
    )


@pytest.mark.parametrize("marker", [np.nan, -1, 0])
def test_add_indicator(marker: Any) -> None:
    common.test_imputers_add_indicator(marker, Ours(random_state=0))


@pytest.mark.parametrize("indicator", [True, False])
def test_common(indicator: bool) -> None:
    common.test_imputation_missing_value_in_test_array(Ours())
    common.test_imputers_pandas_na_integer_array_support(Ours(random_state=0), indicator)
    common.test_imputers_feature_names_out_pandas(Ours(), indicator)
    common.test_keep_empty_features(Ours(), indicator)


@pytest.mark.parametrize("value", [np.nan, 1])
def test_indicator_at_transform(value: Any) -> None:
    test = common.test_imputation_adds_missing_indicator_if_add_indicator_is_true
    test(Ours(random_state=0), value)


@pytest.fixture
def in_their_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(theirs, "IterativeImputer", Ours)
    monkeypatch.setattr(theirs, "SimpleImputer", Ours)


@pytest.mark.usefixtures("in_their_place")
class TestGenericParts:
    def test_nothing_is_missing_or_a_column_is_empty(self) -> None:
        theirs.test_iterative_imputer_no_missing()
        theirs.test_imputer_without_indicator(Ours)

    @pytest.mark.parametrize(
        ("low", "high", "message"),
        [
            (100, 0, "min_value >= max_value."),
            (np.inf, -np.inf, "min_value >= max_value."),
            ([-5, 5], [100, 200, 0], "_value' should be of shape"),
            ([-5, 5, 5], [100, 200], "_value' should be of shape"),
        ],
    )
    def test_wrong_bounds(self, low: Any, high: Any, message: str) -> None:
        theirs.test_iterative_imputer_catch_min_max_error(low, high, message)

    @pytest.mark.parametrize(
        ("first", "second"),
        [([None, None], [-np.inf, np.inf]), ([-10, 10], [[-10] * 4, [10] * 4])],
    )
    def test_bounds(self, first: Any, second: Any) -> None:
        theirs.test_iterative_imputer_min_max_array_like_imputation(first, second)

    def test_bounds_of_dropped_columns(self) -> None:
        X = np.array([[1, 2, np.nan, np.nan], [4, 5, np.nan, 6], [7, 8, np.nan, np.nan]])
        low, high = [-np.inf, -np.inf, -np.inf, 6.5], [np.inf, np.inf, np.inf, 7]
        completed = Ours(min_value=low, max_value=high).fit_transform(X)
        assert completed.shape == (3, 3)
        assert ((completed[[0, 2], 2] >= 6.5) & (completed[[0, 2], 2] <= 7)).all()

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_types(self, dtype: Any) -> None:
        theirs.test_imputer_transform_preserves_numeric_dtype(dtype)

    @pytest.mark.filterwarnings("error")
    def test_lists_of_text(self) -> None:
        X = [["a", "b"], ["c", "b"], ["a", "a"]]
        completed = Ours().fit(X).transform([[np.nan, np.nan]])
        assert completed.dtype == object
        assert completed[0, 0] in "ac"
        assert completed[0, 1] in "ab"

    def test_a_marker_of_another_type(self) -> None:
        theirs.test_inconsistent_dtype_X_missing_values(
            Ours, "-1", -1, "types are expected to be both numerical."
        )

    @pytest.mark.parametrize("marker", [np.nan, None, "a"])
    def test_missing_indicator_of_objects(self, marker: Any) -> None:
        X = np.array([[marker, "b"], ["b", marker]], dtype=object)
        expected = np.array([["b", "b", True, False], ["b", "b", False, True]], dtype=object)
        theirs.test_missing_indicator_with_imputer(X, marker, expected)

    @pytest.mark.parametrize("strategy", ["mean", "most_frequent"])
    @pytest.mark.parametrize("keep", [True, False])
    def test_keep_empty_features(self, strategy: str, keep: bool) -> None:
        theirs.test_simple_imputer_keep_empty_features(strategy, "array", keep)


def test_their_checks_of_arrays_are_ours() -> None:
    """What is not of numbers, or not a table, has scikit-learn's message."""
    for bad in (np.zeros((2, 2, 2)), np.zeros(3), np.zeros((3, 0)), 1j * np.ones((9, 2))):
        with pytest.raises(ValueError, match=r"array|data|dim") as theirs_error:
            check_array(bad)
        with pytest.raises(ValueError, match=r"array|data|dim") as own_error:
            Ours().fit(bad) if len(bad) >= 5 else QAVIImputer().fit(bad)
        assert str(own_error.value)[:30] == str(theirs_error.value)[:30]
