"""What extractors are handed, how they are left, and what comes back."""

import pickle
import sys
from types import ModuleType

import numpy as np
import pytest
import torch

from sklearn_qavi.metrics import extract_features, load_inception


class Recorder(torch.nn.Module):
    """Keeps what it was called with; its one parameter says where and in which type."""

    def __init__(self, dtype=torch.float32):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones((), dtype=dtype))
        self.seen = []

    def forward(self, images):
        assert not torch.is_grad_enabled()
        self.seen.append(images)
        return self.scale * images.flatten(1)[:, :2]


@pytest.fixture
def images():
    return np.random.default_rng(0).random((10, 4, 4))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_modules_get_channels_in_their_own_type(images, dtype):
    module = Recorder(dtype)
    features = extract_features(images, module, batch_size=4)
    assert [tuple(batch.shape) for batch in module.seen] == [(4, 1, 4, 4)] * 2 + [(2, 1, 4, 4)]
    assert {batch.dtype for batch in module.seen} == {dtype}
    assert features.dtype == np.float64
    np.testing.assert_allclose(features, images[:, 0, :2], rtol=1e-6)


def test_bytes_and_flat_rows_stay_as_they_are(images):
    module = Recorder()
    levels = (255 * images).astype(np.uint8)
    np.testing.assert_array_equal(extract_features(levels, module), levels[:, 0, :2])
    assert module.seen[0].dtype == torch.uint8
    extract_features(images.reshape(10, 16), module)
    assert module.seen[1].shape == (10, 16)


def test_other_callables_get_arrays(images):
    def corner(batch):
        assert isinstance(batch, np.ndarray)
        assert batch.shape[1:] == (4, 4)
        return batch[:, :1]

    np.testing.assert_array_equal(extract_features(images, corner, batch_size=3), images[:, 0])


def test_modules_are_evaluated_and_left_in_their_mode(images):
    norms = torch.nn.BatchNorm2d(1), torch.nn.BatchNorm2d(1)
    network = torch.nn.Sequential(*norms, torch.nn.Dropout(0.5)).train()
    network[1].eval()
    features = extract_features(images, network, batch_size=4)
    np.testing.assert_allclose(features, images.reshape(10, 16), rtol=1e-4)
    assert [part.training for part in network] == [True, False, True]
    assert network[0].num_batches_tracked == 0

    def fail(self, args):
        raise RuntimeError("on purpose")

    network.register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="on purpose"):
        extract_features(images, network)
    assert [part.training for part in network] == [True, False, True]


def test_callables_may_return_tensors_with_a_graph(images):
    scale = torch.ones(1, dtype=torch.float64, requires_grad=True)
    features = extract_features(images, lambda batch: scale * torch.tensor(batch[:, 0]))
    np.testing.assert_array_equal(features, images[:, 0])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: extract_features(x * np.nan, np.copy), "NaN or infinity in 10 of 10 images"),
        (lambda x: extract_features(x > 0.5, np.copy), "floats or uint8, got bool"),
        (lambda x: extract_features(x.astype(int), np.copy), "floats or uint8, got int64"),
        (lambda x: extract_features(x[:0], np.copy), r"at least one image.*\(0, 4, 4\)"),
        (lambda x: extract_features(x, np.copy, batch_size=0), "batch_size must be at least 1"),
        (lambda x: extract_features(x, np.mean), r"one line of features per image, \(10, F\)"),
        (lambda x: extract_features(x, lambda a: a[:3, 0]), r"\(10, F\), got shape \(3, 4\)"),
    ],
)
def test_errors_say_what_was_expected_and_what_came(images, call, message):
    with pytest.raises(ValueError, match=message):
        call(images)


@pytest.fixture
def fidelity(monkeypatch):
    """A stand-in for torch-fidelity, whose weights have to be downloaded."""
    made = {}

    class Network(torch.nn.Module):
        def forward(self, levels):
            assert levels.dtype == torch.uint8
            return (levels.double().mean(dim=(2, 3)),)

    def create_feature_extractor(name, list_features, cuda=True, **options):
        made.update(name=name, features=list_features, cuda=cuda, **options)
        return Network()

    package, utils = ModuleType("torch_fidelity"), ModuleType("torch_fidelity.utils")
    utils.create_feature_extractor = create_feature_extractor
    monkeypatch.setitem(sys.modules, "torch_fidelity", package)
    monkeypatch.setitem(sys.modules, "torch_fidelity.utils", utils)
    return made


def test_inception_takes_floats_and_bytes_grey_and_coloured(fidelity, images):
    levels = (255 * images).round().astype(np.uint8)
    inception = load_inception()
    expected = np.repeat(levels.mean(axis=(1, 2))[:, None], 3, axis=1)
    coloured = np.repeat(levels[:, None], 3, axis=1)
    for same in (images, levels, levels[:, None], coloured, levels / 255.0):
        np.testing.assert_allclose(extract_features(same, inception), expected)
    assert fidelity["name"] == "inception-v3-compat"
    assert fidelity["features"] == ["2048"]
    assert fidelity["feature_extractor_weights_path"] is None
    assert not fidelity["cuda"]


def test_inception_refuses_other_images(fidelity, images):
    inception = load_inception()
    with pytest.raises(ValueError, match="from 0 to 1, got values from -1 to"):
        extract_features(images - images.min() - 1, inception)
    with pytest.raises(ValueError, match=r"one or three channels, got shape \(10, 2, 4, 2\)"):
        extract_features(images.reshape(10, 2, 4, 2), inception)


def test_inception_weights_are_tensors_alone(fidelity, tmp_path):
    good, bad = tmp_path / "good.pth", tmp_path / "bad.pth"
    torch.save({"weight": torch.ones(3)}, good)
    load_inception(good)
    assert fidelity["feature_extractor_weights_path"] == str(good)
    torch.save(print, bad)
    with pytest.raises(pickle.UnpicklingError):
        load_inception(bad)


def test_inception_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    monkeypatch.delitem(sys.modules, "torch_fidelity.utils", raising=False)
    with pytest.raises(ImportError, match=r"pip install 'sklearn-qavi\[images\]'"):
        load_inception()
