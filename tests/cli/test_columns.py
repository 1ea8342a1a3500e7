"""What columns of text hold, and that imputed cells are written as their neighbours are."""

import datetime
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from sklearn_qavi._cli._columns import ColumnScan, NumberFormat, Reading
from sklearn_qavi._cli._dates import DateFormat
from sklearn_qavi._cli._options import Wishes

MARKERS = Wishes().markers


def read(cells: Sequence[str], declared: Any = None, *, sign: str = ".", parts: int = 1) -> Reading:
    scan = ColumnScan("x", 0, MARKERS, sign)
    for part in np.array_split(np.array(cells, dtype=object), parts):
        scan.update(part.tolist())
    return scan.finish(declared)


@pytest.mark.parametrize(
    ("cells", "kind", "declared"),
    [
        (["1", "2", "", "30"], "number", "integer"),
        (["5", "2", "0"] * 4, "number", "count"),
        (["5", "2", "-1"] * 4, "number", "integer"),
        (["1.5", "2", "NA"], "number", None),
        (["1e3", "2.5E-1"], "number", None),
        (["007", "012", "7"], "text", "nominal"),
        (["1,5", "2,5"], "text", "nominal"),
        (["inf", "1"], "text", "nominal"),
        (["1_000", "1"], "text", "nominal"),
        (["2024-01-31", "", "2024-02-01"], "date", None),
        (["2024-01-31", "soon"], "text", "nominal"),
        (["", "NA", " "], "empty", None),
        ([str(i) for i in range(20)], "ignored", None),
        ([str(i) for i in range(5, 25)], "number", "count"),
        ([*map(str, range(20)), ""], "number", "count"),
        ([f"N{i}" for i in range(20)], "ignored", None),
        ([f"N{i % 10}" for i in range(20)], "text", "nominal"),
        ([f"{100 + i}" for i in range(20)] + ["?"], "ignored", None),
    ],
)
@pytest.mark.parametrize("parts", [1, 3])
def test_kinds(cells: list[str], kind: str, declared: str | None, parts: int) -> None:
    found = read(cells, parts=parts)
    assert (found.kind, found.declared) == (kind, declared)


def test_texts_among_numbers_are_pointed_at() -> None:
    found = read([*(["1", "2", "?"] * 10), "3"])
    assert found.hint == "is numbers but for 10 cells; --missing '?' if they mean missing"
    assert "--missing '?'" in read([*map(str, range(100, 140)), "?"]).why


def test_texts_that_often_mean_missing_are_pointed_at() -> None:
    assert read(["yes", "no", "?"] * 9).hint == "holds '?'; --missing '?' to have it imputed"
    assert read(["yes", "no", "why?"] * 9).hint == ""


def test_the_order_of_day_and_month_is_said_only_where_it_is_not_plain() -> None:
    assert read(["01.02.2024", "03.04.2024"]).hint == ""
    unclear, plain = read(["01/02/2024", "03/04/2024"]), read(["01/02/2024", "31/12/2024"])
    assert "day first; --types 'x=date:%m/%d/%Y'" in unclear.hint
    assert plain.hint == ""
    assert plain.date == DateFormat("%d/%m/%Y")
    assert read(["12/31/2024", "01/02/2024"]).date == DateFormat("%m/%d/%Y")


@pytest.mark.parametrize(
    ("cells", "sign", "number", "text"),
    [
        (["1.50", "2"], ".", 3.14159, "3.14"),
        (["1,5", "2"], ",", 3.14159, "3,1"),
        (["1", "2"], ".", 2.6, "3"),
        (["1.5", "2"], ".", -0.01, "0.0"),
        (["1e3", "2.5e-3"], ".", 0.0012345, "0.0012"),
        (["1E30", "2E3"], ".", 6.02e23, "6E+23"),
        (["0.001", "1e-5"], ".", 0.01234, "0.01"),
    ],
)
def test_numbers_are_written_with_the_digits_of_the_column(
    cells: list[str], sign: str, number: float, text: str
) -> None:
    assert read(cells, sign=sign).text_of(number) == text


@pytest.mark.parametrize(
    ("cells", "cell", "value", "filled"),
    [
        (["a", "b"], "", "b", "b"),
        (["a", "b"], "  ? ", "b", "  b "),
        (["a", "b"], '""', "b", '"b"'),
        (['"a"', '"b"'], "", "b", '"b"'),
        (['"a"', "b"], "NA", "b", "b"),
        (["a", '"b;c"'], "", "b;c", '"b;c"'),
        (["a", '"b;c"'], " ?", "b;c", '"b;c"'),
    ],
)
def test_cells_are_filled_in_the_manner_of_the_column(
    cells: list[str], cell: str, value: str, filled: str
) -> None:
    assert read(cells, "nominal").fill(cell, value, ";") == filled


def test_values_for_the_imputer() -> None:
    numbers, missing = read(["1,5", ""], sign=",").values(['"2,5"', "NA", " 3 ", "1e1"])
    np.testing.assert_array_equal(numbers, [2.5, np.nan, 3, 10])
    np.testing.assert_array_equal(missing, [False, True, False, False])
    dates, _ = read(["31.01.2024"]).values(["01.02.2024", ""])
    assert dates[0] == datetime.datetime(2024, 2, 1)
    assert dates.isna().tolist() == [False, True]
    texts, _ = read(["007"]).values([" 007", "7", "n/a"])
    assert texts.tolist() == ["007", "7", None]
    with pytest.raises(ValueError, match="holds 'x', which is no number"):
        read(["1"]).values(["x"])


def test_what_is_declared_counts() -> None:
    assert read(["1", "2"], "nominal").kind == "text"
    assert read(["007", "008"], "real").kind == "number"
    assert read(["20240131", "20240201"], "date").date == DateFormat("%Y%m%d")
    assert read(["low", "high"], ["low", "high"]).kind == "text"
    assert read([str(i) for i in range(20)], "real").kind == "number"
    with pytest.raises(ValueError, match="no format known here"):
        read(["spring"], "date")


def test_a_saved_description_reads_other_cells_alike() -> None:
    learned = read(["1,25", "2"], sign=",").description()
    other = read(["", ""]).taken_as("number", learned)
    assert other.number == NumberFormat(2, ".", 3)
    dated = read(["3.1.2024"]).description()
    assert read([""]).taken_as("date", dated).date == DateFormat("%d.%m.%Y", padded=False)
