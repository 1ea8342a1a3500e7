"""Rows as targets: what fills up a block of images is not decoded, and nothing else changes."""

import math

import pytest
import torch
from torch import Tensor

from _factories import digits
from sklearn_qavi._random import torch_generator
from sklearn_qavi.generative import make_image_likelihood
from sklearn_qavi.generative._wide_resnet import Architecture, ImageNetwork
from sklearn_qavi.inference import DecoderTarget, GaussianPosterior, fit_posterior


class _Counted(ImageNetwork):
    """A network for digits of 8 x 8 pixels that counts the codes it is asked to decode."""

    n_codes = 0

    def decode(self, z: Tensor) -> Tensor:
        self.n_codes += z[..., 0].numel()
        return super().decode(z)


@pytest.fixture
def network() -> _Counted:
    shape = (1, 8, 8)
    likelihood = make_image_likelihood("logistic_mixture", shape)
    network = _Counted(likelihood, 3, Architecture(shape, width=8), torch_generator(0)).eval()
    with torch.no_grad():  # blocks start at zero, and images would hardly depend on the code
        for parameter in network.decoder.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=torch_generator(1)))
    return network.requires_grad_(False)


def _target(network: ImageNetwork, n_rows: int) -> DecoderTarget:
    x = torch.from_numpy(digits(0, 60)[:n_rows].reshape(n_rows, -1)).float()
    observed = torch.rand(x.shape, generator=torch_generator(2)) < 0.6
    return DecoderTarget.of(network, x, observed)


@pytest.mark.parametrize("n_draws", [1, 3, 4, 32])
@pytest.mark.parametrize("n_live", [1, 9, 31])
def test_rows_that_fill_up_are_left_out(network: _Counted, n_draws: int, n_live: int) -> None:
    target, rows = _target(network, 40), torch.arange(32)
    places = torch.randperm(32, generator=torch_generator(3))[:n_live].sort().values
    z = torch.randn(n_draws, 32, 3, generator=torch_generator(4)).requires_grad_()
    whole = target.block(rows)(z)
    (slopes,) = torch.autograd.grad(whole[:, places].sum(), z)
    network.n_codes = 0
    some = target.block_of_some(rows, places)(z)
    assert network.n_codes % 32 == 0
    assert network.n_codes < n_draws * n_live + 32 * n_draws / math.gcd(32, n_draws)
    assert torch.equal(some[:, places], whole[:, places])
    others = torch.ones(32, dtype=torch.bool)
    others[places] = False
    assert (some[:, others] == 0).all()
    (same,) = torch.autograd.grad(some.sum(), z)
    torch.testing.assert_close(same, slopes, rtol=0, atol=0)


def test_codes_are_tried_on_each_row_once(network: _Counted) -> None:
    target, codes = _target(network, 40), torch.randn(16, 3, generator=torch_generator(5))
    score = target.score_codes(codes)
    by_row = torch.cat([score(torch.tensor([i])) for i in range(40)], dim=1)
    for rows in (torch.arange(40), torch.tensor([7] * 12 + [3]), torch.arange(64).clamp(max=39)):
        torch.testing.assert_close(score(rows), by_row[:, rows], rtol=1e-6, atol=1e-4)


def test_one_image_costs_little_and_gets_what_it_gets_among_others(network: _Counted) -> None:
    family, settings = GaussianPosterior(3), GaussianPosterior.default_optimizer(60)
    settings = settings.with_options(max_iter=40, window=20, n_start_codes=64)
    many = fit_posterior(_target(network, 40), family, optimizer=settings)
    network.n_codes = 0
    one = fit_posterior(_target(network, 1), family, optimizer=settings)
    n_steps = int(one.n_iter[0])
    # eight rows of four draws are decoded where there is one
    assert network.n_codes == 64 + n_steps * 8 * settings.n_draws
    assert torch.equal(one.posterior.parameters, many.posterior.parameters[:1])
    assert torch.equal(one.bound, many.bound[:1])


def test_decoders_that_may_depend_on_company_are_asked_for_whole_blocks(network: _Counted) -> None:
    plain = _target(network, 40)
    target = DecoderTarget(
        network.decode, network.likelihood, plain.x, plain.observed, network.latent_dim
    )
    network.n_codes = 0
    target.block_of_some(torch.arange(32), torch.tensor([2]))(torch.zeros(4, 32, 3))
    assert network.n_codes == 4 * 32
