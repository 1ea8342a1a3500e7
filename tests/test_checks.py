"""Messages show plain values, and columns with infinity by name."""

import ast
import re
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch

import sklearn_qavi
from _factories import tiny_table_model
from sklearn_qavi import (
    MultipleImputationClassifier,
    MultipleImputationRegressor,
    QAVIImputer,
    QAVIInpainter,
)
from sklearn_qavi._checks import infinite_columns, missing_in, plain, refuse_infinity
from sklearn_qavi.baselines import PseudoGibbs
from sklearn_qavi.datasets import make_image_masks, make_missing
from sklearn_qavi.generative import (
    PretrainedDecoder,
    TabularVAE,
    WideResNetVAE,
)
from sklearn_qavi.metrics import interval_coverage, make_imputation_scorer, masked_rmse
from sklearn_qavi.pooling import pool
from sklearn_qavi.preprocessing import find_image_shape

ROOT = Path(sklearn_qavi.__file__).parent
F, I, T = np.float64, np.int64, np.str_  # noqa: E741
X = np.zeros((6, 2))
with torch.random.fork_rng():
    torch.manual_seed(0)
    LINEAR = torch.nn.Linear(1, 4)
INPAINTER = QAVIInpainter(
    generative_model=PretrainedDecoder(LINEAR, "gaussian", 2), image_shape=(1, 2), random_state=0
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (F(3.0), "3.0"),
        (np.float32(0.5), "0.5"),
        (np.bool_(True), "True"),
        (T("a"), "'a'"),
        ([I(1), (F(2.5), T("b"))], "[1, (2.5, 'b')]"),
        ({T("k"): I(2)}, "{'k': 2}"),
        (np.array([F(1.0), "c"], dtype=object), "[1.0, 'c']"),
        (np.datetime64("2024-02-29T00:00:00.000000000"), "'2024-02-29T00:00:00.000000000'"),
        (None, "None"),
        ("text", "'text'"),
    ],
)
def test_values_are_shown_plainly(value: Any, text: str) -> None:
    assert plain(value) == text


@pytest.mark.parametrize(
    "call",
    [
        lambda: make_missing(X, rate=F(3.0)),
        lambda: make_missing(X, mechanism=T("none")),
        lambda: make_image_masks(2, (4, 4), kind="random_pixels", rate=F(3.0)),
        lambda: make_image_masks(I(-2), (4, 4)),
        lambda: make_image_masks(2, (F(4.5), I(4))),
        lambda: make_imputation_scorer(rate=F(2.0)),
        lambda: interval_coverage(X, np.zeros((30, 6, 2)), X == 0, level=F(2.0)),
        lambda: pool([[1.0], [2.0]], [[1.0], [1.0]], df_complete=F(-1.0)),
        lambda: pool([[1.0], [2.0]], [[1.0], [1.0]]).interval(F(2.0)),
        lambda: TabularVAE(hidden_layer_sizes=(I(0), F(2.5)), random_state=0).fit(X),
        lambda: TabularVAE(likelihood=[T("gauss"), T("gauss")], random_state=0).fit(X),
        lambda: find_image_shape(None, (I(0), I(4)), "channels_first", None),
        lambda: find_image_shape(None, (I(4), I(4)), "channels_first", (1, 2, 2)),
        lambda: PretrainedDecoder(LINEAR, "gaussian", image_shape=(I(0), I(4), I(4))),
    ],
)
def test_no_message_shows_types_of_numpy(call: Callable[[], Any]) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        call()
    assert "np." not in str(caught.value)


def test_messages_of_a_fitted_imputer() -> None:
    rng = np.random.default_rng(0)
    model = tiny_table_model()
    imputer = QAVIImputer(generative_model=model, random_state=0)
    with pytest.warns(UserWarning, match="still improved"):
        imputer.fit(rng.normal(size=(30, 2)))
    incomplete = [[np.nan, 0.5]]
    gibbs = PseudoGibbs(n_draws=I(0))
    for call in (
        lambda: (
            QAVIImputer(generative_model=imputer.generative_model_, posterior=gibbs, random_state=0)
            .fit(X)
            .transform(incomplete)
        ),
        lambda: imputer.sample(X, n=F(2.0)),
        lambda: imputer.predict_interval(X, level=F(2.0)),
        lambda: imputer.score_missing(X, X == 0, n_draws=[I(0), I(3)]),
    ):
        with pytest.raises(ValueError, match="must be") as caught:
            call()
        assert "np." not in str(caught.value)


# these show their values by functions of their own
OTHERS = {"_checks.py", "_frames.py", "_table.py"}


@pytest.mark.parametrize(
    "path", [p for p in sorted(ROOT.rglob("*.py")) if p.name not in OTHERS], ids=lambda p: p.name
)
def test_values_in_messages_go_through_plain(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    shown = [n for n in ast.walk(tree) if isinstance(n, ast.FormattedValue)]
    raw = [ast.unparse(n.value) for n in shown if n.conversion == ord("r")]
    assert not raw, f"Write {{plain(...)}} instead of {{...!r}} for {raw}."


def tables() -> list[tuple[Any, list[Any]]]:
    values = np.array([[1.0, np.inf, 2.0, -np.inf], [np.nan, 1.0, 2.0, 3.0]])
    frame = pd.DataFrame(values, columns=list("abcd")).assign(e=["x", None])
    return [
        (values, [1, 3]),
        (values.astype(np.float32), [1, 3]),
        (values.tolist(), [1, 3]),
        (frame.to_numpy(), [1, 3]),
        (frame, ["b", "d"]),
        (pl.from_pandas(frame), ["b", "d"]),
        (np.arange(4).reshape(2, 2), []),
    ]


@pytest.mark.parametrize("k", range(7))
def test_columns_with_infinity(k: int) -> None:
    table, expected = tables()[k]
    assert infinite_columns(table) == expected
    if expected:
        with pytest.raises(ValueError, match=str(expected[1])):
            refuse_infinity(table)


@pytest.mark.parametrize(
    ("cells", "marker", "missing"),
    [
        (np.array([1.0, np.nan, -9.0]), -9, "011"),
        (np.array([1, -9]), -9, "01"),
        (np.array([1, -9]), "-9", "00"),
        (pd.Series([1, None, -9], dtype="Int64"), -9, "011"),
        (pd.Series([1, None, -9], dtype="int64[pyarrow]"), -9.0, "011"),
        (pd.Series(["a", "?", None, -9, b"?"], dtype=object), "?", "01100"),
        (pd.Series(["-9", -9, -9.0, Decimal(-9), pd.NA, pd.NaT], dtype=object), -9, "011111"),
        (pd.Series([True, 1, 1.0, np.bool_(True)], dtype=object), 1, "0110"),
        (pd.Series([True, False]), 1, "00"),
        (pd.Series(pd.Categorical(["a", "?", None])), "?", "011"),
        (pd.Series(pd.to_datetime(["2024-01-01", None])), "?", "01"),
        (pd.Series([1.0, None]), pd.NA, "01"),
        (pd.Series([], dtype=object), "?", ""),
    ],
)
def test_cells_that_are_missing(cells: Any, marker: Any, missing: str) -> None:
    assert missing_in(cells, marker).tolist() == [gone == "1" for gone in missing]


INFINITE = np.array([[0.2, np.inf], [0.4, 0.6], [0.1, np.nan], [0.3, 0.9], [0.5, 0.5], [0.6, 0.7]])
NAMED = pd.DataFrame(INFINITE, columns=["height", "weight"])
DRAWS = np.full((30, 6, 2), np.inf)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: TabularVAE(random_state=0).fit(INFINITE), r"infinity in column\(s\) \[1\]"),
        (lambda: TabularVAE(random_state=0).fit(NAMED), r"infinity in column\(s\) \['weight'\]"),
        (lambda: make_missing(INFINITE), r"infinity in column\(s\) \[1\]"),
        (lambda: make_missing(NAMED, mechanism="mar"), r"infinity in column\(s\) \['weight'\]"),
        (
            lambda: MultipleImputationRegressor().fit(INFINITE, np.arange(6.0)),
            r"infinity in column\(s\) \[1\]",
        ),
        (
            lambda: MultipleImputationClassifier().fit(NAMED, [0, 1] * 3),
            r"infinity in column\(s\) \['weight'\]",
        ),
        (
            lambda: masked_rmse(INFINITE, X, np.isinf(INFINITE)),
            r"X_true holds NaN or infinity in 1 of 1 .* positions \[1\]",
        ),
        (
            lambda: interval_coverage(X, DRAWS, np.isnan(INFINITE)),
            r"draws holds NaN or infinity in 30 of 30 .* positions \[1\]",
        ),
        (
            lambda: WideResNetVAE(random_state=0).fit(INFINITE.reshape(6, 1, 2)),
            r"1 image\(s\) hold infinity, first at positions \[0\]",
        ),
        (
            lambda: INPAINTER.fit().transform(INFINITE[::-1].reshape(6, 2)),
            r"infinity in 1 image\(s\), first at positions \[5\]",
        ),
        (
            lambda: PretrainedDecoder(LINEAR, "gaussian", 2, mean=[0.0, np.inf]),
            r"mean must be finite, got \[inf\] for the column\(s\) at positions \[1\]",
        ),
        (
            lambda: PretrainedDecoder(LINEAR, "gaussian", 2, scale=[1.0, np.nan]),
            r"scale must be finite, got \[nan\]",
        ),
        (
            lambda: PretrainedDecoder(LINEAR, "gaussian", 2, scale=[0.0, 1.0]),
            r"scale must be positive, got \[0.0\] for the column\(s\) at positions \[0\]",
        ),
        (
            lambda: PretrainedDecoder(LINEAR, "gaussian", 2, scale=np.ones(3)),
            "one for each of the 2 columns",
        ),
    ],
)
def test_infinity_is_found_by_its_place(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_one_unit_for_all_columns() -> None:
    model = PretrainedDecoder(LINEAR, "gaussian", 2, mean=1.0, scale=2.0)
    np.testing.assert_array_equal(model.unstandardize(np.array([[0.0, 1.0]])), [[1.0, 3.0]])


@pytest.mark.parametrize("number", [20, np.int64(20), 0.5, np.array(7)])
def test_a_number_in_place_of_a_table_says_how_to_pass_it(number: Any) -> None:
    model = PretrainedDecoder(LINEAR, "gaussian", 2)
    imputer = QAVIImputer(generative_model=model, random_state=0).fit(np.zeros((3, 2)))
    inpainter, shown = INPAINTER.fit(), str(number)
    regressor = MultipleImputationRegressor()
    for call, written in (
        (imputer.sample, f"sample(n={shown})"),
        (imputer.iter_samples, f"iter_samples(n={shown})"),
        (imputer.predict_interval, f"predict_interval(level={shown})"),
        (inpainter.sample, f"sample(X, n={shown})"),
        (inpainter.iter_samples, f"iter_samples(X, n={shown})"),
        (inpainter.predict_interval, f"predict_interval(X, level={shown})"),
        (regressor.predict_interval, f"predict_interval(X, level={shown})"),
    ):
        with pytest.raises(TypeError, match=re.escape(f"the number {shown}. Write {written}.")):
            call(number)


def test_samples_one_by_one_are_checked_at_once() -> None:
    model = PretrainedDecoder(LINEAR, "gaussian", 2)
    imputer = QAVIImputer(generative_model=model, random_state=0).fit(np.zeros((3, 2)))
    with pytest.raises(ValueError, match="3 features"):
        imputer.iter_samples(np.zeros((3, 3)))
    with pytest.raises(ValueError, match="n must be"):
        imputer.iter_samples(n=-1)
