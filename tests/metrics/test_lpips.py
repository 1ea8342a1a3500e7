"""What the network of a perceptual distance is handed, and the mean of what it returns."""

import sys
from types import ModuleType

import numpy as np
import pytest
import torch

from sklearn_qavi.metrics import lpips


@pytest.fixture
def images():
    return np.random.default_rng(0).random((2, 10, 4, 4))


def squared(a, b):
    assert a.dtype == b.dtype == torch.float32
    assert a.shape[1] == b.shape[1] == 3
    assert -1 <= a.min() < -0.5 < 0.5 < a.max() <= 1
    return ((a - b) ** 2).mean(dim=(1, 2, 3), keepdim=True)  # (n, 1, 1, 1), as LPIPS networks


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_mean_of_all_pairs_on_a_scale_from_minus_one_to_one(images, batch_size):
    real, completed = images
    expected = (4 * (real - completed) ** 2).mean()
    for a, b in [
        (real, completed),
        (real[:, None], completed[:, None]),
        (np.repeat(real[:, None], 3, axis=1), np.repeat(completed[:, None], 3, axis=1)),
    ]:
        distance = lpips(a, b, network=squared, batch_size=batch_size)
        assert distance == pytest.approx(expected, rel=1e-5)
    levels = (255 * images).round().astype(np.uint8)
    distance = lpips(*levels, network=squared, batch_size=batch_size)
    assert distance == pytest.approx((4 * (levels[0] / 255 - levels[1] / 255) ** 2).mean())
    assert lpips(real, real, network=squared) == 0.0


def test_a_module_is_evaluated_and_left_in_its_mode(images):
    class Noisy(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.drop = torch.nn.Dropout(0.5)
            self.weight = torch.nn.Parameter(torch.ones(()))

        def forward(self, a, b):
            assert not self.training
            return self.weight * squared(self.drop(a), self.drop(b))

    network = Noisy().train()
    assert lpips(*images, network=network) == pytest.approx(lpips(*images, network=squared))
    assert network.drop.training


def test_named_networks_are_those_of_torchmetrics(images, monkeypatch):
    made = []

    class LearnedPerceptualImagePatchSimilarity(torch.nn.Module):
        def __init__(self, net_type, reduction):
            super().__init__()
            made.append(net_type)
            assert reduction == "sum"

        def forward(self, a, b):
            return squared(a, b).sum()

    package, image = ModuleType("torchmetrics"), ModuleType("torchmetrics.image")
    image.LearnedPerceptualImagePatchSimilarity = LearnedPerceptualImagePatchSimilarity
    monkeypatch.setitem(sys.modules, "torchmetrics", package)
    monkeypatch.setitem(sys.modules, "torchmetrics.image", image)
    monkeypatch.setitem(sys.modules, "torchvision", ModuleType("torchvision"))
    expected = lpips(*images, network=squared)
    assert lpips(*images, batch_size=3) == pytest.approx(expected)
    assert lpips(*images, network="vgg") == pytest.approx(expected)
    assert made == ["alex", "vgg"]


@pytest.mark.parametrize("missing", ["torchmetrics", "torchvision"])
def test_it_says_what_to_install(images, monkeypatch, missing):
    for name in ("torchmetrics", "torchmetrics.image", "torchvision"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    sys.modules["torchmetrics.image"].LearnedPerceptualImagePatchSimilarity = squared
    monkeypatch.setitem(sys.modules, missing, None)
    monkeypatch.setitem(sys.modules, f"{missing}.image", None)
    with pytest.raises(ImportError, match=r"pip install 'sklearn-qavi\[images\]'"):
        lpips(*images)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda a, b: lpips(a, b[:5]), r"completed has shape \(5, 4, 4\), but real has \(10, 4, 4"),
        (lambda a, b: lpips(a, b * np.nan), "completed holds NaN or infinity in 10 of 10"),
        (lambda a, b: lpips(a, b, network="resnet"), "one of.*'alex'.*got 'resnet'"),
        (lambda a, b: lpips(a, b + 1, network=squared), "from 0 to 1, got values from 1"),
        (lambda a, b: lpips(a[0], b[0], network=squared), r"\(n, C, H, W\).*got shape \(4, 4\)"),
        (lambda a, b: lpips(a, b, network=squared, batch_size=0), "batch_size must be at least"),
    ],
)
def test_errors_say_what_was_expected_and_what_came(images, call, message):
    with pytest.raises(ValueError, match=message):
        call(*images)
