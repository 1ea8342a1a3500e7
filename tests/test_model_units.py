"""A table in a model's units: there and back, part by part, and what is far out or too large."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from sklearn_qavi._model_units import ModelUnits
from sklearn_qavi.exceptions import ExtremeValueWarning, InferenceDivergedError
from sklearn_qavi.preprocessing import EncodedTable, Frame, TableEncoder


@pytest.fixture
def frame() -> Frame:
    """Numbers, their logarithms, and categories."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "size": rng.normal(5, 2, 40),
            "price": rng.lognormal(0, 1, 40),
            "kind": rng.choice(["a", "b", "c"], 40),
        }
    )
    table.loc[::3, "size"] = table.loc[1::3, "price"] = np.nan
    return Frame.of_dataframe(table)


@pytest.fixture
def units(frame: Frame) -> ModelUnits:
    encoder = TableEncoder(column_types={"price": "positive"}).fit(frame)
    location, scale = np.array([5.0, 0.5, 0.0]), np.array([2.0, 3.0, 1.0])
    model: Any = SimpleNamespace(
        standardize=lambda x: (x - location) / scale,
        unstandardize=lambda v: v * scale + location,
    )
    return ModelUnits(encoder, model)


def test_there_and_back_is_the_same(units: ModelUnits, frame: Frame) -> None:
    table = units.encoder.encode(frame)
    back = units.original(units.of_table(table), table, whole=True)
    np.testing.assert_allclose(
        back[table.observed], units.encoder.in_original_units(table.values)[table.observed]
    )


def test_parts_are_the_whole_in_place(
    units: ModelUnits, frame: Frame, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = units.encoder.encode(frame)
    drawn = np.random.default_rng(1).normal(size=table.values.shape)
    expected = units.original(drawn, table, whole=True)
    monkeypatch.setattr("sklearn_qavi._plan._TABLE_CELLS", 21)
    units.fill(drawn, table, frame, whole=True, move=True)
    np.testing.assert_array_equal(drawn, expected)


def test_numbers_far_out_are_less_far_to_the_model_and_named_once(
    units: ModelUnits, frame: Frame, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = units.encoder.encode(frame)
    values = table.values.copy()
    values[[1, 20, 31], 0] = 1e6, -1e300, 1e300
    values[5, 2] = 150.0  # a category, which no number of standard deviations is far from
    far = EncodedTable(values, ~np.isnan(values))
    shown = units.of_table(far)
    np.testing.assert_array_equal(shown[[1, 20, 31], 0], [100.0, -100.0, 100.0])
    assert shown[5, 2] == 150.0
    monkeypatch.setattr("sklearn_qavi._plan._TABLE_CELLS", 21)
    with pytest.warns(ExtremeValueWarning, match=r"\['size'\] have.*in 3 row") as caught:
        units.warn_far(far)
    assert len(caught) == 1
    units.warn_far(table)  # nothing to warn of


def test_values_that_overflow_are_named_with_all_their_rows(
    units: ModelUnits, frame: Frame, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = units.encoder.encode(frame)
    drawn = np.zeros(table.values.shape)
    drawn[:, 0] = np.inf
    monkeypatch.setattr("sklearn_qavi._plan._TABLE_CELLS", 21)
    with pytest.raises(InferenceDivergedError, match=r"\['size'\] are not finite in 14 row"):
        units.fill(drawn, table, frame, whole=True, move=True)
