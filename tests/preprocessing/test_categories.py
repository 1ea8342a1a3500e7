"""Columns of categories: which there are, their codes, and their order."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from sklearn_qavi.preprocessing._categories import Binary, Categories, Nominal, Ordinal

TYPED = pd.Series(pd.Categorical(["b", "a", "b"], categories=["z", "b", "a"]))


@pytest.mark.parametrize("column", [Nominal, Ordinal])
def test_categories_are_in_the_order_of_their_type(column: type[Categories]) -> None:
    assert column.learn("c", TYPED).categories == ("b", "a")


def test_categories_without_a_type_are_sorted() -> None:
    assert Nominal.learn("c", pd.Series(["y", "x", "y"])).categories == ("x", "y")
    assert Nominal.learn("c", pd.Series(["y", 1, "y"], dtype=object)).categories == (1, "y")
    assert Binary.learn("c", pd.Series([True, False])).categories == (False, True)
    assert Ordinal.learn("c", pd.Series([3, 1])).categories == (1, 3)


def test_given_categories_have_the_given_order() -> None:
    column = Ordinal.learn("c", pd.Series(["lots", "few"]), ["few", "some", "lots"])
    assert column.categories == ("few", "some", "lots")
    assert column.n_categories == 3


def test_of_many_categories_the_frequent_ones_come_first() -> None:
    values = pd.Series([f"v{i}" for i in range(60)] + ["v7"] * 3 + ["v41"] * 2)
    assert Nominal.learn("c", values).categories[:2] == ("v7", "v41")
    assert Nominal.learn("c", values[:40]).categories[:2] == ("v0", "v1")


@pytest.mark.parametrize("dtype", [object, "category"])
def test_unknown_categories_are_found(dtype: str) -> None:
    column = Nominal.learn("c", pd.Series(["a", "b"]))
    cells = pd.Series(["b", "z", None], dtype=dtype)
    codes, unknown = column.encode(cells, np.array([False, False, True]))
    assert codes[0] == 1
    assert np.isnan(codes[1:]).all()
    assert unknown.tolist() == [False, True, False]


def test_what_cannot_be_a_key_is_an_unknown_category() -> None:
    column = Nominal.learn("c", pd.Series(["a", "b"]))
    _, unknown = column.encode(pd.Series([["a"], "a"]), np.zeros(2, dtype=bool))
    assert unknown.tolist() == [True, False]


def test_codes_are_rounded_to_those_that_there_are() -> None:
    column = Ordinal.learn("c", pd.Series([1, 2, 3]))
    codes = column.from_model(np.array([-4.0, 0.6, 1.4, 9.0]), whole=False)
    assert codes.tolist() == [0, 1, 1, 2]
    assert column.decode(codes).tolist() == [1, 2, 2, 3]


def test_tuples_are_categories() -> None:
    column = Nominal.learn("c", pd.Series([(1, 2), (0, 3)]))
    assert column.decode(np.array([1.0, 0.0])).tolist() == [(1, 2), (0, 3)]


def test_what_a_type_lacks() -> None:
    column = Nominal.learn("c", pd.Series(["a", "b"]))
    assert column.lacking_in(["b", "x"]) == ["a"]


@pytest.mark.parametrize(("values", "numbers"), [([1, 2.5], True), ([1, "a"], False)])
def test_categories_that_are_numbers_fit_into_floats(values: Any, numbers: bool) -> None:
    column = Nominal.learn("c", pd.Series(values, dtype=object))
    assert column.gives_numbers is column.fits(np.dtype(float)) is numbers


@pytest.mark.parametrize(
    ("column", "values", "given", "message"),
    [
        (Ordinal, ["a", "q"], ["a", "b"], r"holds 'q', not one of its categories .*\['a', 'b'\]"),
        (Ordinal, ["a", "a"], ["a", "a"], "categories of column 'c' in column_types repeat"),
        (Ordinal, ["low", "high"], None, r"holds text.*column_types=\{'c': \['high', 'low'\]\}"),
        (Ordinal, range(51), None, "has 51 ordered categories, more than 50"),
        (Nominal, [[1], [2]], None, "holds lists, dicts"),
    ],
)
def test_what_a_column_cannot_hold(
    column: type[Categories], values: Any, given: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        column.learn("c", pd.Series(values), given)
