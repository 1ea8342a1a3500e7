"""A saved imputer gives the same bits, and files that are not what they say are refused."""

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from sklearn_qavi import QAVIImputer
from sklearn_qavi.baselines import PseudoGibbs
from sklearn_qavi.exceptions import ModelFormatError
from sklearn_qavi.generative import PretrainedDecoder, TabularVAE
from sklearn_qavi.inference import SCHEDULES

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:Skipping features without any observed:UserWarning"),
]


def frame(n: int = 60) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "size": pd.Categorical(rng.choice(["S", "L"], n), ["S", "M", "L"], ordered=True),
            "price": rng.lognormal(size=n),
            "day": pd.Timestamp("2024-02-29") + pd.to_timedelta(rng.integers(0, 99, n), unit="D"),
            "member": rng.random(n) < 0.5,
            "nothing": np.nan,
            "count": rng.poisson(2, n).astype(float),
        }
    )
    return table.mask(rng.random(table.shape) < 0.25)


def quick(**options: Any) -> QAVIImputer:
    model = TabularVAE(
        latent_dim=2, hidden_layer_sizes=(8,), n_decoders=2, max_epochs=2, steps_per_epoch=2
    )
    options = {"generative_model": model, "training_rows": "all", "random_state": 0, **options}
    return QAVIImputer(**options)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"posterior": "mixture", "n_components": 2, "max_iter": 12, "add_indicator": True},
        {"column_types": {"price": "positive", "count": (0, 50)}, "keep_empty_features": True},
        {
            "posterior": PseudoGibbs(n_burn_in=2, n_draws=4, n_chains=2, thin=1),
            "max_value": np.full(6, 9.0),
        },
        {"schedule": SCHEDULES["default"].with_options(max_iter=12), "time_budget": None},
    ],
)
def test_a_loaded_imputer_gives_the_same_bits(options: dict[str, Any], tmp_path: Path) -> None:
    table = frame()
    imputer = quick(**options).fit(table)
    imputer.save(tmp_path)
    loaded = QAVIImputer.load(tmp_path)
    assert (imputer.transform(table) == loaded.transform(table)).all()
    assert (imputer.sample(table, n=3) == loaded.sample(table, n=3)).all()
    first, second = (
        i.set_output(transform="pandas").transform(table.head(9)) for i in (imputer, loaded)
    )
    pd.testing.assert_frame_equal(first, second)
    assert list(loaded.get_feature_names_out()) == list(imputer.get_feature_names_out())
    again = pickle.loads(pickle.dumps(loaded)).transform(table.head(9))
    pd.testing.assert_frame_equal(again, second)


def test_arrays_and_models_handed_in(tmp_path: Path) -> None:
    X = np.random.default_rng(0).normal(size=(40, 3))
    holes = np.where(X > 0.8, np.nan, X)
    trained = quick().fit(X).generative_model_
    imputer = quick(generative_model=trained).fit(X)
    imputer.save(tmp_path)
    loaded = QAVIImputer.load(tmp_path)
    np.testing.assert_array_equal(loaded.transform(holes), imputer.transform(holes))
    assert not hasattr(loaded, "feature_names_in_")
    with pytest.raises(ValueError, match="not part of a saved imputer"):
        loaded.sample(n=2)


def test_what_needs_pickle_is_refused(tmp_path: Path) -> None:
    X = np.random.default_rng(0).normal(size=(40, 2))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = PretrainedDecoder(torch.nn.Linear(1, 4), "gaussian", n_features=2)
    with pytest.raises(ModelFormatError, match="PretrainedDecoder cannot be saved"):
        QAVIImputer(generative_model=model, random_state=0).fit(X).save(tmp_path)
    levels = pd.DataFrame({"a": X[:, 0], "b": [(1, 2), (3,)] * 20})
    sets = levels.assign(b=[frozenset({i % 2}) for i in range(40)])
    imputer = quick(categorical_features=["b"]).fit(sets)
    with pytest.raises(ModelFormatError, match="holds a frozenset"):
        imputer.save(tmp_path)
    quick(categorical_features=["b"]).fit(levels).save(tmp_path)
    assert QAVIImputer.load(tmp_path).encoder_.schema_[1].levels == ((1, 2), (3,))


def _spoilt(config: dict[str, Any], how: str) -> str:
    if how == "newer":
        config["format_version"] = 99
    elif how == "kind":
        config["kind"] = "TabularVAE"
    elif how == "levels":
        config["columns"][0]["levels"]["tuple"].append("XL")
    elif how == "columns":
        del config["columns"][1]
    elif how == "bounds":
        config["limits"][0] = config["limits"][0][:2]
    elif how == "parameter":
        config["parameters"]["speed"] = 3
    elif how == "unknown":
        config["parameters"]["beta"] = {"pickle": "abc"}
    elif how == "lacking":
        del config["seed"]
    text = json.dumps(config)
    return text[: len(text) // 2] if how == "truncated" else "[]" if how == "list" else text


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("newer", "format 99.*Update sklearn_qavi"),
        ("kind", "holds a TabularVAE, expected a QAVIImputer"),
        ("levels", "not those of the model"),
        ("columns", "lacks or misnames"),
        ("bounds", "lacks or misnames"),
        ("parameter", "speed"),
        ("unknown", "unknown type 'pickle'"),
        ("lacking", "seed"),
        ("truncated", "truncated or was changed"),
        ("list", "does not describe"),
    ],
)
def test_files_that_are_not_what_they_say(how: str, message: str, tmp_path: Path) -> None:
    quick().fit(frame()).save(tmp_path)
    file = tmp_path / "imputer.json"
    file.write_text(_spoilt(json.loads(file.read_text()), how))
    with pytest.raises(ModelFormatError, match=message):
        QAVIImputer.load(tmp_path)


def test_missing_and_truncated_weights(tmp_path: Path) -> None:
    with pytest.raises(ModelFormatError, match=r"imputer.json is missing"):
        QAVIImputer.load(tmp_path)
    quick().fit(frame()).save(tmp_path)
    weights = tmp_path / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])
    with pytest.raises(ModelFormatError, match="truncated"):
        QAVIImputer.load(tmp_path)
