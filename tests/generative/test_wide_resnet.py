"""Networks for images: sizes, the same bits whatever the batch, folded batch norms."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sklearn_qavi._plan import CPU_IMAGES
from sklearn_qavi._random import torch_generator
from sklearn_qavi.generative import make_image_likelihood
from sklearn_qavi.generative._wide_resnet import (
    Architecture,
    ImageNetwork,
    fold_batch_norms,
    in_chunks,
)

KINDS: list[dict[str, Any]] = [
    {},
    {"upsampling": "transposed"},
    {"dense": True, "blocks_per_level": 2},
    {"batch_norm": True},
    {"n_levels": 1, "patch_size": 1},
]


def _network(shape: tuple[int, int, int] = (1, 12, 12), **options: Any) -> ImageNetwork:
    options = {"width": 8, **options}
    likelihood = make_image_likelihood("discretized_normal", shape, scale="decoder")
    return ImageNetwork(likelihood, 3, Architecture(shape, **options), torch_generator(0))


def _normal(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch_generator(seed))


@pytest.mark.parametrize("options", KINDS)
@pytest.mark.parametrize("shape", [(1, 12, 12), (3, 8, 8), (2, 7, 11), (1, 4, 5)])
def test_images_of_any_size_are_taken(options: dict[str, Any], shape: tuple[int, int, int]) -> None:
    network = _network(shape, **options).eval()
    n_cells = shape[0] * shape[1] * shape[2]
    x = torch.rand(2, 5, n_cells, generator=torch_generator(0))
    mean, scale = network.encode(x, torch.ones_like(x).bool())
    assert mean.shape == scale.shape == (2, 5, 3)
    assert network.decode(mean).shape == (2, 5, 2 * n_cells)


def test_images_smaller_than_a_cell_are_refused_with_the_sizes_that_go() -> None:
    with pytest.raises(ValueError, match=r"3 x 9 pixels are too small.*from 4 x 4 pixels"):
        Architecture((1, 3, 9)).check()
    Architecture((1, 4, 9)).check()


def test_maps_of_parameters_stand_one_after_the_other() -> None:
    """What a map of the last layer holds is found at its pixel: channel, row, column."""
    network = _network((2, 7, 5), patch_size=2, n_levels=2).eval()
    last = network.decoder.layers[-1].conv
    with torch.no_grad():
        last.weight.zero_()
        # four maps of four pixels each: value = 10 * map + place in the square of pixels
        last.bias.copy_(torch.arange(4).repeat_interleave(4) * 10.0 + torch.arange(4).repeat(4))
    location, raw_scale = network.decode(torch.zeros(1, 3))[0].split(70)
    assert set(location[:35].tolist()) == {0.0, 1.0, 2.0, 3.0}
    assert set(location[35:].tolist()) == {10.0, 11.0, 12.0, 13.0}
    assert set(raw_scale[:35].tolist()) == {20.0, 21.0, 22.0, 23.0}
    # rows of the square go down the image; its margin is one column on the left and one row below
    rows = location[:35].view(7, 5)
    assert rows[0].tolist() == [1.0, 0.0, 1.0, 0.0, 1.0]
    assert rows[1].tolist() == [3.0, 2.0, 3.0, 2.0, 3.0]


def test_hidden_cells_are_not_seen_but_their_mask_is() -> None:
    network = _network().eval()
    x = torch.rand(1, 144, generator=torch_generator(0))
    visible = torch.rand(1, 144, generator=torch_generator(1)) < 0.5
    mean, _ = network.encode(x, visible)
    changed, _ = network.encode(torch.where(visible, x, 0.3), visible)
    assert mean.equal(changed)
    assert not mean.equal(network.encode(x, torch.ones_like(visible))[0])


def test_pixels_depend_on_the_code_and_the_code_on_pixels_everywhere() -> None:
    network = _network(blocks_per_level=1).eval()
    z = _normal(1, 3).requires_grad_()
    by_cell = network.decode(z)[0]
    gradient = torch.stack([torch.autograd.grad(v, z, retain_graph=True)[0][0] for v in by_cell])
    assert bool((gradient.abs().sum(1) > 0).all())
    x = torch.rand(1, 144, generator=torch_generator(0)).requires_grad_()
    mean, _ = network.encode(x, torch.ones_like(x).bool())
    (gradient,) = torch.autograd.grad(mean.sum(), x)
    assert bool((gradient.abs() > 0).all())


@pytest.mark.parametrize("options", KINDS)
def test_a_row_has_the_same_bits_whatever_the_batch(options: dict[str, Any]) -> None:
    network = fold_batch_norms(_network((1, 28, 28), **options))
    z = _normal(3 * CPU_IMAGES + 7, 3)
    weight = _normal(2 * 784)

    def run(codes: Tensor) -> tuple[Tensor, Tensor]:
        codes = codes.clone().requires_grad_()
        out = network.decode(codes)
        (gradient,) = torch.autograd.grad((out * weight).sum(), codes)
        return out.detach(), gradient

    everything = run(z)
    for rows in (slice(0, 1), slice(5, 8), slice(40, 40 + CPU_IMAGES), slice(70, 190)):
        for whole, part in zip(everything, run(z[rows]), strict=True):
            assert whole[rows].equal(part)
    backwards = run(z.flip(0))
    assert everything[0].equal(backwards[0].flip(0))
    assert everything[1].equal(backwards[1].flip(0))
    # with another axis in front, as the engine has it
    assert network.decode(z[:100].view(4, 25, 3)).flatten(0, 1).equal(everything[0][:100])


def test_chunks_are_whole_and_leave_nothing_of_the_filling() -> None:
    sizes = []

    def function(rows: Tensor) -> Tensor:
        sizes.append(len(rows))
        return rows + 1

    rows = _normal(CPU_IMAGES + 3, 2)
    assert in_chunks(function, rows).equal(rows + 1)
    assert sizes == [CPU_IMAGES, CPU_IMAGES]
    assert in_chunks(function, rows[:0]).shape == (0, 2)


@pytest.mark.parametrize("options", [{}, {"dense": True}, {"upsampling": "transposed"}])
def test_folded_batch_norms_are_the_same_function(options: dict[str, Any]) -> None:
    network = _network(batch_norm=True, **options)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            with torch.no_grad():
                module.running_mean.copy_(_normal(module.num_features, seed=2))
                module.running_var.copy_(0.5 + _normal(module.num_features, seed=3).square())
                module.weight.copy_(1.0 + 0.3 * _normal(module.num_features, seed=4))
                module.bias.copy_(_normal(module.num_features, seed=5))
    network.eval()
    folded = fold_batch_norms(network)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    assert any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    z, x = _normal(10, 3), torch.rand(10, 144, generator=torch_generator(0))
    expected, close = network.decode(z), {"rtol": 1e-4, "atol": 1e-4}
    torch.testing.assert_close(folded.decode(z), expected, **close)
    visible = torch.ones_like(x).bool()
    for mine, other in zip(folded.encode(x, visible), network.encode(x, visible), strict=True):
        torch.testing.assert_close(mine, other, **close)


def test_batch_norms_in_training_see_the_whole_batch() -> None:
    network = _network(batch_norm=True).train()
    z = _normal(CPU_IMAGES + 9, 3)
    network.decode(z)
    norm = network.decoder.layers[0][0].first.norm
    alone = _network(batch_norm=True).train().decoder.layers[0][0].first
    alone(torch.relu(network.decoder.first(z).unflatten(1, network.decoder.coarse_shape)))
    torch.testing.assert_close(norm.running_mean, alone.norm.running_mean)


def test_initial_weights_come_from_the_generator() -> None:
    first, again = (list(_network(batch_norm=True).parameters()) for _ in range(2))
    assert all(a.equal(b) for a, b in zip(first, again, strict=True))
