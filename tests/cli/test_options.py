"""Options that name columns, whatever the columns are called."""

import math

import pytest

from sklearn_qavi._cli._dates import DateFormat
from sklearn_qavi._cli._options import Wishes, unique_names

NAMES = ["age", "a=b", "height, cm", "k", "k", ""]


def test_types_of_columns_with_any_names() -> None:
    wishes = Wishes.read(
        NAMES,
        types=["age=count,height, cm=0:250", "a=b=nominal", "#4=low<middle<high,#6=date:%d.%m"],
        bounds=["#5=0:,age=:120"],
        ignored=["height, cm,#6"],
        markers=["?", " - "],
    )
    assert wishes.types == {
        0: "count",
        1: "nominal",
        2: (0.0, 250.0),
        3: ["low", "middle", "high"],
        5: DateFormat("%d.%m"),
    }
    assert wishes.bounds == {4: (0.0, math.inf), 0: (-math.inf, 120.0)}
    assert wishes.ignored == {2, 5}
    assert {"", "?", "-", "NA"} <= wishes.markers


def test_one_limit_alone_is_a_bound() -> None:
    wishes = Wishes.read(NAMES, types=["age=0:"])
    assert (wishes.types, wishes.bounds) == ({}, {0: (0.0, math.inf)})


def test_only_what_is_named_means_missing() -> None:
    assert Wishes.read(NAMES, markers=["?"], only_these=True).markers == {"", "?"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"types": ["size=count"]}, "--types names 'size', which is no column; there are 'age'"),
        ({"types": ["k=count"]}, "2 columns are called 'k'; say #4 or #5"),
        ({"types": ["#9=count"]}, "no column"),
        ({"types": ["age=number"]}, "'number' is no type"),
        ({"types": ["age"]}, "is not COLUMN="),
        ({"types": ["age=5:1"]}, "no limits"),
        ({"bounds": ["age=low:high"]}, "no limits"),
        ({"ignored": ["age,size"]}, "--ignore names 'size'"),
    ],
)
def test_what_is_not_understood_is_said(options: dict[str, list[str]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Wishes.read(NAMES, **options)


def test_names_are_made_to_differ() -> None:
    assert unique_names(NAMES) == ["age", "a=b", "height, cm", "#4", "#5", "#6"]
