"""Dataframes of every kind: a completed table or an error of ours, never anything else."""

import datetime
import os
import warnings
from typing import Any

import numpy as np
import pandas as pd
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import sklearn_qavi
from sklearn_qavi import QAVIImputer
from sklearn_qavi.generative import TabularVAE

N_TABLES = int(os.environ.get("SKLEARN_QAVI_FUZZ", "120"))
OURS = (ValueError, TypeError)  # what scikit-learn and this package raise, with a message of theirs

texts = st.sampled_from(["a", "b", "", " ", "é", "nan", "1", "2.5", "None", "x" * 300, "0x1"])
numbers = st.one_of(
    st.floats(-10, 10),
    st.sampled_from([0.0, -0.0, 1e300, -1e300, 1e-300, 1e20, np.inf, 5e-324]),
    st.integers(-3, 3).map(float),
)
dates = st.datetimes(datetime.datetime(1678, 1, 1), datetime.datetime(2261, 1, 1))
odd = st.one_of(
    numbers,
    texts,
    st.booleans(),
    dates,
    st.sampled_from([(1, 2), b"b", 10**400, 1 + 2j, pd.NA, pd.NaT, frozenset({1})]),
    st.lists(st.integers(0, 2), max_size=2),
)


KINDS = [
    "float",
    "float32",
    "int",
    "Int64",
    "UInt8",
    "bool",
    "boolean",
    "text",
    "string",
    "category",
    "ordered",
    "number category",
    "date",
    "zone",
    "object date",
    "duration",
    "odd",
    "empty",
    "constant",
    "period",
    "int8",
    "Float64",
    "one level",
]


@st.composite
def columns(draw: Any, n_rows: int) -> pd.Series:
    kind = draw(st.sampled_from(KINDS))
    pick: dict[str, Any] = {
        "float": numbers,
        "float32": st.floats(-5, 5, width=32),
        "int": st.integers(-(2**63), 2**63 - 1),
        "int8": st.integers(-128, 127),
        "Int64": st.integers(-(2**62), 2**62),
        "UInt8": st.integers(0, 255),
        "Float64": st.floats(-5, 5),
        "bool": st.booleans(),
        "boolean": st.booleans(),
        "text": texts,
        "string": texts,
        "category": texts,
        "ordered": st.sampled_from(["S", "M", "L"]),
        "number category": st.integers(0, 3),
        "date": dates,
        "zone": dates,
        "object date": dates.map(lambda d: d.date()),
        "duration": st.timedeltas(datetime.timedelta(-9999), datetime.timedelta(9999)),
        "odd": odd,
        "empty": st.none(),
        "constant": st.just(7.25),
        "period": st.integers(0, 100),
        "one level": st.just("only"),
    }
    values = draw(st.lists(pick[kind], min_size=n_rows, max_size=n_rows))
    rate = draw(st.sampled_from([0.0, 0.2, 0.5, 0.95]))
    holes = np.array(draw(st.lists(st.floats(0, 1), min_size=n_rows, max_size=n_rows))) < rate
    if kind in ("int", "int8", "bool"):
        return pd.Series(values, dtype={"int": "int64"}.get(kind, kind))
    if kind in ("float", "float32"):
        return pd.Series(values, dtype=kind).mask(holes)
    if kind == "period":
        return pd.Series(pd.PeriodIndex.from_ordinals(values, freq="M")).mask(holes)
    objects = pd.Series(values, dtype=object)
    objects[holes] = draw(st.sampled_from([None, np.nan, pd.NA]))
    if kind in ("Int64", "UInt8", "boolean", "string", "Float64"):
        return objects.where(~holes, pd.NA).astype(kind)
    if kind in ("category", "number category", "one level"):
        return objects.where(~holes, None).astype("category")
    if kind == "ordered":
        return pd.Series(
            pd.Categorical(objects.where(~holes, None), ["L", "M", "S", "XL"], ordered=True)
        )
    if kind in ("date", "zone"):
        times = pd.to_datetime(objects.where(~holes, None))
        return (
            times.dt.tz_localize("Europe/Rome", ambiguous="NaT", nonexistent="NaT")
            if kind == "zone"
            else times
        )
    if kind == "duration":
        return pd.to_timedelta(objects.where(~holes, None))
    return objects


@st.composite
def frames(draw: Any) -> pd.DataFrame:
    n_rows, n_columns = draw(st.sampled_from([1, 6, 8, 9, 10, 14])), draw(st.integers(1, 4))
    parts = [draw(columns(n_rows)) for _ in range(n_columns)]
    frame = pd.concat(parts, axis=1)
    names = draw(st.permutations(["a", "b", "", "c d"]))[:n_columns]
    frame.columns = names if draw(st.integers(0, 9)) else ["a"] * n_columns
    index = draw(st.sampled_from(["range", "text", "same", "date", "multi"]))
    if index == "text":
        frame.index = [f"r{i}" for i in range(n_rows)]
    elif index == "same":
        frame.index = [0] * n_rows
    elif index == "date":
        frame.index = pd.date_range("2020", periods=n_rows)
    elif index == "multi":
        frame.index = pd.MultiIndex.from_product([["x"], range(n_rows)])
    return frame


def tiny() -> QAVIImputer:
    model = TabularVAE(
        latent_dim=1,
        hidden_layer_sizes=(4,),
        likelihood="student_t",
        n_decoders=1,
        max_epochs=1,
        steps_per_epoch=1,
        random_state=0,
    )
    return QAVIImputer(generative_model=model, max_iter=2, random_state=0, n_mc_samples=4)


@settings(
    max_examples=N_TABLES,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
@given(frame=frames(), container=st.sampled_from(["default", "pandas"]), draws=st.booleans())
def test_every_table_is_completed_or_refused_in_our_words(
    frame: pd.DataFrame, container: str, draws: bool
) -> None:
    before = frame.copy(deep=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        imputer = tiny().set_output(transform=container)
        try:
            imputer.fit(frame)
            completed = imputer.sample(frame, n=1)[0] if draws else imputer.transform(frame)
        except OURS as error:
            _assert_raised_on_purpose(error)
            return
    pd.testing.assert_frame_equal(frame, before)
    kept = [j for j in range(frame.shape[1]) if not frame.iloc[:, j].isna().all()]
    assert completed.shape == (len(frame), len(kept))
    for place, j in enumerate(kept):
        old = frame.iloc[:, j]
        new = completed.iloc[:, place] if container == "pandas" else pd.Series(completed[:, place])
        new = new.set_axis(old.index)
        assert not new.isna().any()
        seen = old.notna()
        if pd.api.types.is_numeric_dtype(old.dtype) and not pd.api.types.is_bool_dtype(old.dtype):
            assert np.isfinite(new.astype(float)).all()
            assert (new[seen].astype(float) == old[seen].astype(float)).all()
        else:
            assert all(
                a == b or float(a) == float(b)
                for a, b in zip(new[seen].astype(object), old[seen].astype(object), strict=True)
            )
        if container == "pandas" and not (old.dtype == object or _is_numbers_as_text(old)):
            assert new.dtype == old.dtype


def _is_numbers_as_text(column: pd.Series) -> bool:
    """Return whether a column of text becomes one of floats."""
    if not pd.api.types.is_string_dtype(column.dtype):
        return False
    return bool(pd.to_numeric(column.dropna(), errors="coerce").notna().all())


def _assert_raised_on_purpose(error: BaseException) -> None:
    """The innermost frame is a ``raise`` of this package or of scikit-learn's validation."""
    trace = error.__traceback__
    assert trace is not None
    while trace.tb_next is not None:
        trace = trace.tb_next
    file = trace.tb_frame.f_code.co_filename
    own = os.path.dirname(sklearn_qavi.__file__)
    assert file.startswith(own) or "sklearn/utils" in file, f"{type(error).__name__}: {error}"
    assert len(str(error)) > 20
