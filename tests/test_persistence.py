"""A saved imputer gives the same bits, and files that are not what they say are refused."""

import copy
import pickle
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OrdinalEncoder

from _factories import tiny_imputer, tiny_inpainter, tiny_layers, tiny_table_model
from sklearn_qavi import QAVIImputer
from sklearn_qavi._files import read_json, write_json
from sklearn_qavi.baselines import PseudoGibbs
from sklearn_qavi.exceptions import ModelFormatError
from sklearn_qavi.generative import PretrainedDecoder
from sklearn_qavi.inference import Adam, Gaussian, Mixture, Newton

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


def two_decoders(**options: Any) -> QAVIImputer:
    """Return an imputer whose decoders have different likelihoods."""
    model = tiny_table_model(likelihood="auto", n_decoders=2)
    return tiny_imputer(**{"generative_model": model, "max_iter": None, **options})


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"posterior": Mixture(n_components=2), "max_iter": 12, "add_indicator": True},
        {"column_types": {"price": "positive", "count": (0, 50)}, "keep_empty_features": True},
        {
            "posterior": PseudoGibbs(n_burn_in=2, n_draws=4, n_chains=2, thin=1),
            "max_value": np.full(6, 9.0),
        },
        {"posterior": Gaussian(optimizer=Adam(max_iter=12), start="prior")},
    ],
)
def test_a_loaded_imputer_gives_the_same_bits(options: dict[str, Any], tmp_path: Path) -> None:
    table = frame()
    imputer = two_decoders(**options).fit(table)
    imputer.save(tmp_path)
    loaded = QAVIImputer.load(tmp_path)
    assert loaded.encoder_.schema_ == imputer.encoder_.schema_
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
    incomplete = np.where(X > 0.8, np.nan, X)
    trained = two_decoders().fit(X).generative_model_
    imputer = two_decoders(generative_model=trained).fit(X)
    imputer.save(tmp_path)
    loaded = QAVIImputer.load(tmp_path)
    np.testing.assert_array_equal(loaded.transform(incomplete), imputer.transform(incomplete))
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
    categories = pd.DataFrame({"a": X[:, 0], "b": [(1, 2), (3,)] * 20})
    sets = categories.assign(b=[frozenset({i % 2}) for i in range(40)])
    imputer = two_decoders(column_types={"b": "nominal"}).fit(sets)
    with pytest.raises(ModelFormatError, match="holds a frozenset"):
        imputer.save(tmp_path)
    two_decoders(column_types={"b": "nominal"}).fit(categories).save(tmp_path)
    assert QAVIImputer.load(tmp_path).encoder_.schema_[1].categories == ((1, 2), (3,))


def _spoil(config: dict[str, Any], how: str) -> None:
    if how == "newer":
        config["format_version"] = 99
    elif how == "kind":
        config["kind"] = "TabularVAE"
    elif how == "column":
        config["columns"][0]["kind"] = "Column"
    elif how == "limit":
        del config["columns"][1]["limits"]
    elif how == "categories":
        config["columns"][0]["categories"]["tuple"].append("XL")
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
    elif how == "output":
        del config["output"]


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("newer", "format 99.*Update sklearn_qavi"),
        ("kind", "holds a TabularVAE, expected a QAVIImputer"),
        ("column", "lacks or misnames"),
        ("limit", "lacks or misnames a part .*'limits'"),
        ("categories", "not those of the model"),
        ("columns", "lacks or misnames"),
        ("bounds", "lacks or misnames"),
        ("parameter", "speed"),
        ("unknown", "unknown type 'pickle'"),
        ("lacking", "seed"),
        ("output", "output"),
    ],
)
def test_files_that_are_not_what_they_say(how: str, message: str, tmp_path: Path) -> None:
    two_decoders().fit(frame()).save(tmp_path)
    file = tmp_path / "imputer.json"
    config = read_json(file, "imputer")
    _spoil(config, how)
    write_json(file, config)
    with pytest.raises(ModelFormatError, match=message):
        QAVIImputer.load(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "does not describe a saved imputer"),
        ('{"format_version": 2}', "does not describe a saved imputer"),
        ('{"kind": "QAVI', "cannot be read .*save it again"),
        ("", "cannot be read"),
    ],
)
def test_files_that_are_no_description(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "imputer.json").write_text(text)
    with pytest.raises(ModelFormatError, match=message):
        QAVIImputer.load(tmp_path)


def test_missing_and_truncated_weights(tmp_path: Path) -> None:
    with pytest.raises(ModelFormatError, match=r"imputer.json is missing"):
        QAVIImputer.load(tmp_path)
    two_decoders().fit(frame()).save(tmp_path)
    weights = tmp_path / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])
    with pytest.raises(ModelFormatError, match=r"model.safetensors.*cut short"):
        QAVIImputer.load(tmp_path)
    weights.unlink()
    with pytest.raises(ModelFormatError, match=r"model.safetensors is missing"):
        QAVIImputer.load(tmp_path)


def test_numbers_of_numpy_as_parameters(tmp_path: Path) -> None:
    X = np.random.default_rng(0).normal(size=(40, 3))
    numbers = {"latent_dim": np.int64(2), "beta": np.float32(0.5), "n_decoders": np.int64(1)}
    posterior = Gaussian(optimizer=Newton(n_draws=np.int64(40)))
    imputer = two_decoders(beta=np.float32(0.5), posterior=posterior)
    imputer.generative_model.set_params(hidden_layer_sizes=(np.int64(8),), **numbers)
    imputer.fit(X).save(tmp_path)
    incomplete = np.where(X > 0.8, np.nan, X)
    loaded = QAVIImputer.load(tmp_path)
    np.testing.assert_array_equal(loaded.transform(incomplete), imputer.transform(incomplete))


def test_the_container_of_the_output_is_kept(tmp_path: Path) -> None:
    imputer = two_decoders().set_output(transform="pandas").fit(frame())
    imputer.save(tmp_path)
    loaded = QAVIImputer.load(tmp_path)
    pd.testing.assert_frame_equal(loaded.transform(frame()), imputer.transform(frame()))


class TestSkops:
    """A pipeline as a file that holds no code."""

    trusted: ClassVar[list[str]] = [
        "sklearn_qavi._imputer.QAVIImputer",
        "sklearn_qavi.generative._tabular_vae.TabularVAE",
    ]

    @pytest.fixture
    def skops(self) -> Any:
        return pytest.importorskip("skops.io")

    @pytest.mark.parametrize("given", ["unfitted", "trained"])
    @pytest.mark.parametrize("kind", ["array", "frame"])
    def test_pipelines_give_the_same_bits(self, kind: str, given: str, skops: Any) -> None:
        table = frame().drop(columns="day")
        table = table if kind == "frame" else table[["price", "count"]].to_numpy()
        y, imputer = np.arange(60) % 2, two_decoders(sample_posterior=True)
        if given == "trained":
            imputer.set_params(generative_model=imputer.fit(table).generative_model_)
        encoder = FunctionTransformer() if kind == "array" else OrdinalEncoder()
        pipeline = make_pipeline(imputer, encoder, LogisticRegression()).fit(table, y)
        written = skops.dumps(pipeline)
        assert sorted(skops.get_untrusted_types(data=written)) == self.trusted
        loaded = skops.loads(written, trusted=self.trusted)
        np.testing.assert_array_equal(loaded.predict_proba(table), pipeline.predict_proba(table))
        np.testing.assert_array_equal(pipeline[0].sample(table, n=2), loaded[0].sample(table, n=2))
        again = skops.loads(skops.dumps(loaded), trusted=self.trusted)
        np.testing.assert_array_equal(again.predict_proba(table), loaded.predict_proba(table))

    def test_what_is_kept_and_what_is_not(self, skops: Any) -> None:
        imputer = two_decoders().set_output(transform="pandas").fit(frame())
        loaded = skops.loads(skops.dumps(imputer), trusted=self.trusted)
        pd.testing.assert_frame_equal(loaded.transform(frame()), imputer.transform(frame()))
        with pytest.raises(ValueError, match="not part of a saved imputer"):
            loaded.sample(n=2)
        assert loaded.fit(frame()).sample(n=2)[0].shape == (60, 5)

    def test_what_is_not_fitted(self, skops: Any) -> None:
        loaded = skops.loads(skops.dumps(two_decoders(beta=0.5)), trusted=self.trusted)
        assert loaded.get_params()["beta"] == 0.5
        table = frame()
        assert (loaded.fit_transform(table) == two_decoders(beta=0.5).fit_transform(table)).all()

    def test_models_of_images(self, skops: Any) -> None:
        images = np.random.default_rng(0).random((12, 8, 8))
        model = tiny_layers(widths={4: 8, 1: 8}, device="cpu")
        inpainter = tiny_inpainter(generative_model=model).fit(images)
        trusted = [
            "sklearn_qavi._inpainter.QAVIInpainter",
            "sklearn_qavi.generative._hierarchical_vae.HierarchicalVAE",
        ]
        loaded = skops.loads(skops.dumps(inpainter), trusted=trusted)
        mask = np.eye(8, dtype=bool)
        np.testing.assert_array_equal(
            loaded.transform(images[:2], mask=mask), inpainter.transform(images[:2], mask=mask)
        )

    def test_code_of_others_is_refused(self, skops: Any) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = PretrainedDecoder(torch.nn.Linear(1, 4), "gaussian", n_features=2)
        imputer = QAVIImputer(generative_model=model, random_state=0).fit(np.zeros((9, 2)))
        with pytest.raises(ModelFormatError, match="PretrainedDecoder cannot be saved"):
            skops.dumps(imputer)


def test_pickle_keeps_all_there_is() -> None:
    imputer = two_decoders().fit(frame())
    copies = pickle.loads(pickle.dumps(imputer)), copy.deepcopy(imputer), copy.copy(imputer)
    for other in copies:
        assert (other.sample(n=2) == imputer.sample(n=2)).all()
        assert vars(other).keys() == vars(imputer).keys()
        model, same = other.generative_model_, imputer.generative_model_
        assert vars(model).keys() == vars(same).keys()
