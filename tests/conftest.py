"""Fixtures for all tests, and the guard of global state."""

import os
import pickle
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from filelock import FileLock
from sklearn.exceptions import ConvergenceWarning

from _factories import digits, iris, quick_layers, quick_table_model, with_missing
from _linear_gaussian import LinearGaussian
from sklearn_qavi.generative import HierarchicalVAE, TabularVAE, _wide_resnet_vae

ALL_WEIGHTS = _wide_resnet_vae._INFERENCE_BETAS


@pytest.fixture(scope="session", autouse=True)
def few_weights() -> Iterator[None]:
    """Let networks of images choose among two weights of the KL and not six.

    Their score is most of what a short training takes. ``all_weights`` brings the others back.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_wide_resnet_vae, "_INFERENCE_BETAS", (ALL_WEIGHTS[0], ALL_WEIGHTS[4]))
        yield


@pytest.fixture
def all_weights(monkeypatch: pytest.MonkeyPatch) -> tuple[float, ...]:
    """Let networks of images choose among all weights of the KL, and return these."""
    monkeypatch.setattr(_wide_resnet_vae, "_INFERENCE_BETAS", ALL_WEIGHTS)
    return ALL_WEIGHTS


@pytest.fixture(scope="session")
def linear_gaussian() -> LinearGaussian:
    """Five features, two latent dimensions; exact posteriors for any pattern."""
    return LinearGaussian.random()


@pytest.fixture(scope="session")
def train_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Any, Any], Any]:
    """Train an estimator under a name; the workers of one run read what the first has left."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # of all workers

    def trained(name: str, estimator: Any, X: Any) -> Any:
        file = folder / f"{name}.pickle"
        with FileLock(f"{file}.lock"):
            if not file.exists():
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", ConvergenceWarning)
                    file.write_bytes(pickle.dumps(estimator.fit(X)))
            return pickle.loads(file.read_bytes())

    return trained


@pytest.fixture(scope="session")
def iris_model(train_once: Callable[..., Any]) -> TabularVAE:
    """Two decoders of the flowers; a test only reads them."""
    return train_once("iris_model", quick_table_model(random_state=0), with_missing(iris()))


@pytest.fixture(scope="session")
def layered_digits(train_once: Callable[..., Any]) -> HierarchicalVAE:
    """A model of the first 400 digits; a test only reads it."""
    return train_once("layered_digits", quick_layers(rounds=5, steps=40), digits(0, 400))


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let ``pytest --device cpu`` or ``--device cuda:1`` choose where device tests run."""
    parser.addoption(
        "--device", default="auto", help="torch device; auto takes a GPU when there is one"
    )


@pytest.fixture(scope="session")
def device(request: pytest.FixtureRequest) -> torch.device:
    """Where to compute, as ``--device`` says."""
    return _chosen_device(request.config)


def _chosen_device(config: pytest.Config) -> torch.device:
    name = config.getoption("--device")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


@pytest.fixture(autouse=True)
def global_state_is_left_alone(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that changes torch's defaults or draws from a global generator.

    Library code takes a ``random_state``; a test takes `numpy.random.default_rng` or a
    `torch.Generator`, and wraps layers with random initial weights in `torch.random.fork_rng`.
    ``random_state=None`` draws from numpy's generator on purpose: mark such a test ``global_rng``.
    """
    before = _global_state()
    numpy_state, torch_state = np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    yield
    changed = [name for name, value in _global_state().items() if value != before[name]]
    if request.node.get_closest_marker("global_rng"):
        changed = [name for name in changed if name != "numpy's global generator"]
    # put things back, so that one guilty test does not spoil the next
    torch.set_default_dtype(before["torch's default dtype"])
    torch.set_num_threads(before["torch's number of threads"])
    torch.set_rng_state(torch_state)
    np.random.set_state(numpy_state)  # noqa: NPY002
    if changed:
        pytest.fail(f"The test changed {', '.join(changed)}; see this fixture for the way out.")


def _global_state() -> dict[str, Any]:
    _, keys, position, *rest = np.random.get_state()  # noqa: NPY002
    return {
        "torch's default dtype": torch.get_default_dtype(),
        "torch's number of threads": torch.get_num_threads(),
        "torch's global generator": torch.get_rng_state().numpy().tobytes(),
        "numpy's global generator": (np.asarray(keys).tobytes(), position, *rest),
    }


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip what needs a GPU where there is none, or where another device was chosen."""
    if _chosen_device(config).type == "cuda":
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device, see --device"))
