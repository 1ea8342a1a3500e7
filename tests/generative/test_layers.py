"""Network blocks."""

import pytest
import torch

from sklearn_qavi._random import torch_generator
from sklearn_qavi.generative._layers import MLP, Tanh


@pytest.mark.parametrize("n_in", [2, 5, 10, 20])
@pytest.mark.parametrize("n_out", [4, 10, 30])
def test_a_row_is_mapped_alike_at_every_place_of_a_block(n_in: int, n_out: int) -> None:
    network = MLP([n_in, 16, n_out], "tanh", torch_generator(0), skip=True)
    for seed in range(5):
        row = torch.randn(1, n_in, generator=torch_generator(seed))
        block = row.repeat(64, 1).requires_grad_()
        out = network(block)
        assert out.equal(out[:1].expand_as(out))
        (gradient,) = torch.autograd.grad(out.square().sum(), block)
        assert gradient.equal(gradient[:1].expand_as(gradient))


def test_the_linear_path_is_added() -> None:
    network = MLP([3, 8, 2], "tanh", torch_generator(0), skip=True)
    x = torch.randn(7, 3, generator=torch_generator(1))
    assert network.skip is not None
    expected = network.layers(x) + x @ network.skip.weight.T + network.skip.bias
    torch.testing.assert_close(network(x), expected)


def test_tanh_is_that_of_torch_with_its_slope() -> None:
    x = torch.linspace(-30, 30, 6001).requires_grad_()
    torch.testing.assert_close(Tanh()(x), torch.tanh(x), rtol=0, atol=3e-7)
    slopes = [torch.autograd.grad(f(x).sum(), x)[0] for f in (Tanh(), torch.tanh)]
    torch.testing.assert_close(slopes[0], slopes[1], rtol=0, atol=1e-6)
