"""A device that is not there is refused by `fit`, before anything is trained or looked up."""

from typing import Any

import numpy as np
import pytest
import torch

from _factories import tiny_table_model
from sklearn_qavi import QAVIImputer, QAVIInpainter
from sklearn_qavi._device import resolve_device
from sklearn_qavi.baselines import PosteriorMatching
from sklearn_qavi.generative import (
    HierarchicalVAE,
    PretrainedDecoder,
    TabularVAE,
    WideResNetVAE,
)

RNG = np.random.default_rng(0)
COMPLETE = RNG.normal(size=(40, 2))
INCOMPLETE = np.where(RNG.random((40, 2)) < 0.2, np.nan, COMPLETE)
IMAGES = RNG.random((8, 4, 4))
REFUSED = r"device='(cuda:99|meta)' cannot be used here .*Use 'auto', 'cpu'"


def linear(n_in: int, n_out: int) -> torch.nn.Linear:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return torch.nn.Linear(n_in, n_out)


def decoder() -> PretrainedDecoder:
    return PretrainedDecoder(linear(1, 4), "gaussian", 2)


def image_decoder() -> PretrainedDecoder:
    return PretrainedDecoder(linear(2, 16), "continuous_bernoulli", image_shape=(1, 4, 4))


@pytest.fixture(scope="module")
def trained() -> TabularVAE:
    model = tiny_table_model(random_state=0)
    with pytest.warns(UserWarning, match="still improved"):
        return model.fit(COMPLETE)


@pytest.fixture
def no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def train(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("trained on a device that was not asked for")

    for place in ("_table_training.race", "_image_vae.train_network"):
        monkeypatch.setattr(f"sklearn_qavi.generative.{place}", train)


@pytest.mark.parametrize("device", ["cuda:99", "meta", "xpu:7", "hpu", "vulkan", "nonsense", ""])
def test_devices_that_are_not_there(device: str) -> None:
    with pytest.raises(ValueError, match=f"device='{device}' cannot be used here"):
        resolve_device(device)


@pytest.mark.usefixtures("no_training")
@pytest.mark.parametrize("device", ["cuda:99", "meta"])
@pytest.mark.parametrize("X", [INCOMPLETE, COMPLETE], ids=["incomplete", "complete"])
class TestTables:
    def test_default_model(self, X: np.ndarray, device: str) -> None:
        with pytest.raises(ValueError, match=REFUSED):
            QAVIImputer(device=device, random_state=0).fit(X)

    def test_trained_model(self, X: np.ndarray, device: str, trained: TabularVAE) -> None:
        for posterior in ("gaussian", PosteriorMatching()):
            imputer = QAVIImputer(generative_model=trained, device=device, posterior=posterior)
            with pytest.raises(ValueError, match=REFUSED):
                imputer.fit(X)

    def test_decoders_from_elsewhere(self, X: np.ndarray, device: str) -> None:
        with pytest.raises(ValueError, match=REFUSED):
            QAVIImputer(generative_model=decoder(), device=device).fit(X)

    def test_of_the_imputer_alone(self, X: np.ndarray, device: str) -> None:
        model = TabularVAE(device="cpu")
        with pytest.raises(ValueError, match=REFUSED):
            QAVIImputer(generative_model=model, device=device).fit(X)

    def test_of_the_model_alone(
        self, X: np.ndarray, device: str, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        memory = tmp_path_factory.mktemp("memory")
        model = TabularVAE(device=device, memory=str(memory), random_state=0)
        with pytest.raises(ValueError, match=REFUSED):
            QAVIImputer(generative_model=model, random_state=0).fit(X)
        assert not list(memory.iterdir())
        with pytest.raises(ValueError, match=REFUSED):
            model.fit(X)


@pytest.mark.usefixtures("no_training")
@pytest.mark.parametrize("device", ["cuda:99", "meta"])
class TestImages:
    @pytest.mark.parametrize("kind", [WideResNetVAE, HierarchicalVAE])
    def test_models(self, kind: Any, device: str, tmp_path_factory: pytest.TempPathFactory) -> None:
        folder = tmp_path_factory.mktemp("training")
        with pytest.raises(ValueError, match=REFUSED):
            kind(device=device, checkpoint_folder=folder, random_state=0).fit(IMAGES)
        assert not list(folder.iterdir())

    def test_inpainter(self, device: str) -> None:
        for inpainter in (
            QAVIInpainter(device=device, random_state=0),
            QAVIInpainter(generative_model="hierarchical", device=device, random_state=0),
            QAVIInpainter(generative_model=WideResNetVAE(device=device), random_state=0),
            QAVIInpainter(generative_model=WideResNetVAE(device="cpu"), device=device),
            QAVIInpainter(generative_model=image_decoder(), device=device),
        ):
            with pytest.raises(ValueError, match=REFUSED):
                inpainter.fit(IMAGES)
        with pytest.raises(ValueError, match=REFUSED):
            QAVIInpainter(generative_model=image_decoder(), device=device).fit()


def test_where_a_trained_model_was_trained_does_not_matter(trained: TabularVAE) -> None:
    elsewhere = TabularVAE().set_params(**{**trained.get_params(), "device": "cuda:99"})
    elsewhere.__dict__.update({k: v for k, v in vars(trained).items() if k.endswith("_")})
    imputer = QAVIImputer(generative_model=elsewhere, device="cpu", random_state=0).fit(INCOMPLETE)
    assert np.isfinite(imputer.transform(INCOMPLETE)).all()
