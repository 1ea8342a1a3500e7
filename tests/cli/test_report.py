"""The report is one file that says what was missing, with pictures for light and dark pages."""

import base64
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from _factories import tiny_imputer
from sklearn_qavi._cli._options import Wishes
from sklearn_qavi._cli._report import write_report
from sklearn_qavi._cli._tables import FrameTable

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

PICTURE = re.compile(r'(?:src|srcset)="data:image/svg\+xml;base64,([A-Za-z0-9+/=]+)"')


class Balance(HTMLParser):
    """Checks that what is opened is closed, and collects addresses."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [v or "" for k, v in attrs if k in ("src", "srcset", "href")]
        if tag not in ("meta", "img", "source"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def table() -> FrameTable:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "a<b>": np.where(rng.random(60) < 0.2, np.nan, rng.normal(size=60).round(2)),
            "whole": np.arange(60) // 2,
            "place": pd.Series(["Rome", "Oslo & Bergen", None] * 20, dtype=object),
            "name": [f"person {k}" for k in range(60)],
        }
    )
    return FrameTable(frame, Wishes.read)


def page(file: Path, completed: FrameTable) -> Balance:
    imputer = tiny_imputer().set_output(transform="pandas").fit(completed.rows_at_random())
    command = ["sklearn-qavi", "impute", "my table.csv", "out.csv"]
    warned = ["3 rows <had> not converged"]
    write_report(
        file, completed, imputer, command, "my table.csv", warned, trained=True, n_rows=50, seed=0
    )
    read = Balance()
    read.feed(file.read_text("utf-8"))
    read.close()
    assert read.open == []
    return read


def test_it_says_what_was_missing_and_shows_it(tmp_path: Path) -> None:
    completed = table()
    n_gone = int(completed.rows_at_random()["a<b>"].isna().sum())
    read = page(tmp_path / "report.html", completed)
    text = " ".join(read.text.split())
    assert f"60 rows, 4 columns. {n_gone + 20} of 240 cells are missing" in text
    assert f"a<b>numbers{n_gone}{100 * n_gone / 60:.1f}%" in text
    assert "3 rows <had> not converged" in text
    assert "'my table.csv'" in text
    errors = text[text.index("Expected errors") : text.index("Warnings")]
    assert "rows that the model did not learn from" in errors
    assert re.search(r"Of 3 columns, [0-3] are imputed with the lowest error", errors)
    for name in ("a<b>", "whole", "place"):
        assert re.search(re.escape(name) + r"\d+\.?\d*", errors)
    assert "name: 60 of 60 texts are distinct" in text
    assert "50 rows chosen at random" in text
    assert all(address.startswith("data:") for address in read.addresses)
    content = (tmp_path / "report.html").read_text("utf-8")
    pictures = [base64.b64decode(found) for found in PICTURE.findall(content)]
    assert len(pictures) == 2 * (1 + 2)  # patterns and two incomplete columns, light and dark
    for picture in pictures:
        assert ElementTree.fromstring(picture).tag.endswith("svg")
    assert len(set(pictures)) == len(pictures)


def test_without_matplotlib_there_are_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    read = page(tmp_path / "report.html", table())
    assert read.addresses == []
    assert "pip install 'sklearn-qavi[plot]'" in read.text


def test_nothing_missing_and_nothing_trained(tmp_path: Path) -> None:
    whole = FrameTable(pd.DataFrame({"a": [1.5, 2.5], "b": ["x", "x"]}), Wishes.read)
    file = tmp_path / "report.html"
    write_report(file, whole, None, ["impute"], "t.csv", [], trained=True, n_rows=50, seed=0)
    content = file.read_text("utf-8")
    assert "0 of 4 cells are missing (0%)" in content
    assert "Imputed beside observed" not in content
    assert "1.5 to 2.5" in content


def test_columns_that_add_up_are_named(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(2, 60)).round(2)
    frame = pd.DataFrame({"first": first, "second": second, "a<b>": first + second})
    frame.loc[::5, "second"] = np.nan
    read = page(tmp_path / "report.html", FrameTable(frame, Wishes.read))
    assert "a<b> = first + second" in read.text
    assert "Columns that add up" not in page(tmp_path / "other.html", table()).text
