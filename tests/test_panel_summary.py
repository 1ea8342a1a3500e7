"""What the summary of many tables says of a few records whose answers are known."""

import importlib

import pytest


@pytest.fixture
def in_short(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest):
    monkeypatch.syspath_prepend(str(request.config.rootpath / "benchmarks"))
    return importlib.import_module("_panel_summary").in_short


def record(method: str, table: str, crps: float, seconds: float, **more: float) -> dict:
    about = {"method": method, "table": table, "seed": 0, "params": {}, "protocol": "unseen"}
    return {**about, "crps": crps, "rmse": 2 * crps, "seconds": seconds, **more}


def test_ratios_are_ours_over_theirs_on_the_tables_that_both_completed(in_short) -> None:
    records = [
        record("qavi", "a", 1.0, 2.0, coverage=0.9),
        record("qavi", "b", 4.0, 2.0, coverage=0.8),
        record("qavi", "c", 1.0, 2.0, coverage=0.1),
        record("forest", "a", 2.0, 1.0, coverage=0.7),
        record("forest", "b", 2.0, 16.0, coverage=0.5),
        {**record("forest", "c", 1.0, 1.0), "timeout": 600.0},
        record("point", "a", 2.0, 8.0),
    ]
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in in_short(records)[2:]]
    assert lines == [
        ["qavi", "3", "", "", "", "", "0.60", "1"],
        ["forest", "2", "1.00", "1", "1.00", "1", "0.60", "2"],
        ["point", "1", "0.50", "1", "0.50", "1", "", "4"],
    ]
