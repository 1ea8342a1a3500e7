"""Decoders trained elsewhere: what a stranger's decoder may look like."""

import math

import pytest
import torch
from torch import Tensor

from sklearn_qavi._random import torch_generator
from sklearn_qavi.generative import (
    ColumnLikelihood,
    GenerativeModel,
    ImageLikelihood,
    PretrainedDecoder,
    PretrainedImageDecoder,
    find_latent_dim,
    make_image_likelihood,
)
from sklearn_qavi.inference import DecoderTarget, GaussianPosterior, fit_posterior


def _decoder(n_out: int = 6) -> torch.nn.Sequential:
    with torch.random.fork_rng():
        return torch.nn.Sequential(
            torch.nn.Linear(3, 5), torch.nn.Dropout(), torch.nn.Linear(5, n_out)
        )


def test_latent_size_is_read_from_the_module() -> None:
    assert find_latent_dim(_decoder()) == 3
    named = torch.nn.Identity()
    named.latent_dim = 7
    assert find_latent_dim(named) == 7
    with pytest.raises(ValueError, match="neither a latent_dim"):
        find_latent_dim(torch.nn.Identity())


def test_the_copy_is_in_evaluation_mode_and_the_module_is_left_alone() -> None:
    module = _decoder().train()
    member = PretrainedDecoder(module, "gaussian", 3).decoders_[0]
    z = torch.ones(4, 2, 3)
    assert member.decode(z).equal(member.decode(z))  # no dropout
    assert module.training
    with torch.no_grad():
        module[0].weight.zero_()
    assert not member.decoder[0].weight.equal(module[0].weight)


def test_wrong_number_of_outputs_is_told() -> None:
    with pytest.raises(ValueError, match=r"returns 5 numbers per row, but 3 columns under.*take 6"):
        PretrainedDecoder(_decoder(5), "gaussian", 3)


def test_likelihoods_are_checked() -> None:
    with pytest.raises(ValueError, match="must be one of"):
        PretrainedDecoder(_decoder(), "histogram", 3)
    with pytest.raises(ValueError, match="names 2 columns, but n_features is 3"):
        PretrainedDecoder(_decoder(), ["gaussian", "student_t"], 3)


def test_units_are_the_callers() -> None:
    model = PretrainedDecoder(
        _decoder(), "gaussian", 3, mean=[1.0, 2.0, 3.0], scale=[1.0, 10.0, 2.0]
    )
    values = model.standardise(torch.tensor([[2.0, 12.0, 3.0]]).numpy())
    assert values.tolist() == [[1.0, 1.0, 0.0]]
    assert model.unstandardise(values).tolist() == [[2.0, 12.0, 3.0]]


SHAPE = (1, 8, 6)


class _Maps(torch.nn.Module):
    """A plain convolutional decoder from elsewhere: (n, 3) to (n, K, 8, 6)."""

    def __init__(self, n_maps: int = 1) -> None:
        super().__init__()
        with torch.random.fork_rng():
            self.first = torch.nn.Linear(3, 4 * 4 * 3)
            self.drop = torch.nn.Dropout()
            self.up = torch.nn.ConvTranspose2d(4, n_maps, 2, stride=2)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return self.up(self.drop(torch.relu(self.first(z)).view(-1, 4, 4, 3)))


class _Laplace(ColumnLikelihood):
    """A family from elsewhere: Laplace with unit scale."""

    @property
    def n_outputs(self) -> int:
        return self.n_columns

    def log_prob(self, params: Tensor, prepared: tuple[Tensor, ...]) -> Tensor:
        return -(prepared[0] - params).abs() - math.log(2.0)

    def mean(self, params: Tensor) -> Tensor:
        return params

    def sample(self, params: Tensor, uniform: Tensor) -> Tensor:
        centred = uniform[..., 0] - 0.5
        return params - centred.sign() * torch.log1p(-2 * centred.abs())

    def entropy(self, params: Tensor) -> Tensor:
        return torch.full_like(params, 1.0 + math.log(2.0))


class TestImages:
    def test_a_decoder_may_return_maps_or_rows(self) -> None:
        maps = _Maps()
        rows = torch.nn.Sequential(maps, torch.nn.Flatten())
        z = torch.randn(4, 2, 3, generator=torch_generator(0))
        first, second = (
            PretrainedImageDecoder(module, "bernoulli", SHAPE, 3).decoders_[0].decode(z)
            for module in (maps, rows)
        )
        assert first.shape == (4, 2, 48)
        assert first.equal(second)

    def test_it_follows_the_contract_and_rows_do_not_see_each_other(self) -> None:
        model = PretrainedImageDecoder(_Maps(2), "gaussian", SHAPE)
        assert isinstance(model, GenerativeModel)
        assert model.image_shape_ == SHAPE
        assert model.n_features_in_ == 48
        member = model.decoders_[0]
        z = torch.randn(70, 3, generator=torch_generator(0))
        assert member.decode(z)[40:42].equal(member.decode(z[40:42]))

    def test_the_module_keeps_its_mode_weights_and_flags(self) -> None:
        module = _Maps().train()
        module.first.weight.requires_grad_(False)
        before = [p.clone() for p in module.parameters()]
        member = PretrainedImageDecoder(module, "bernoulli", SHAPE).decoders_[0]
        z = torch.ones(1, 3)
        assert member.decode(z).equal(member.decode(z))  # no dropout
        assert module.training
        assert [p.requires_grad for p in module.parameters()] == [False, True, True, True]
        assert all(a.equal(b) for a, b in zip(before, module.parameters(), strict=True))
        assert not any(p.requires_grad for p in member.parameters())

    def test_what_does_not_fit_is_told(self) -> None:
        with pytest.raises(
            ValueError, match=r"returns 48 numbers per row, but images of .* take 96"
        ):
            PretrainedImageDecoder(_Maps(), "discretised_normal", SHAPE)
        with pytest.raises(ValueError, match="cannot read codes of shape"):
            PretrainedImageDecoder(_Maps(), "bernoulli", SHAPE, latent_dim=5)
        with pytest.raises(ValueError, match="neither a latent_dim"):
            PretrainedImageDecoder(torch.nn.Flatten(), "bernoulli", SHAPE)
        with pytest.raises(ValueError, match="must be one of"):
            PretrainedImageDecoder(_Maps(), "student_t", SHAPE)
        with pytest.raises(ValueError, match=r"must be \(channels, height, width\)"):
            PretrainedImageDecoder(_Maps(), "bernoulli", (8, 6))
        other = make_image_likelihood("bernoulli", (1, 6, 8))
        with pytest.raises(ValueError, match=r"for images of shape \(1, 6, 8\)"):
            PretrainedImageDecoder(_Maps(), other, SHAPE)
        broken = _Maps()
        with torch.no_grad():
            broken.up.bias.fill_(torch.nan)
        with pytest.raises(ValueError, match="not finite"):
            PretrainedImageDecoder(broken, "bernoulli", SHAPE)

    def test_an_encoder_reads_images(self) -> None:
        def encoder(n_out: int) -> torch.nn.Sequential:
            with torch.random.fork_rng():
                conv, last = torch.nn.Conv2d(1, 2, 2, stride=2), torch.nn.Linear(24, n_out)
            return torch.nn.Sequential(conv, torch.nn.Flatten(), last)

        model = PretrainedImageDecoder(_Maps(), "bernoulli", SHAPE, encoder=encoder(6))
        x = torch.rand(2, 4, 48, generator=torch_generator(0))
        mean, scale = model.decoders_[0].encode(x, x > 0.5)
        assert mean.shape == scale.shape == (2, 4, 3)
        with pytest.raises(ValueError, match="takes 6: means, then raw scales"):
            PretrainedImageDecoder(_Maps(), "bernoulli", SHAPE, encoder=encoder(5))

    def test_a_likelihood_from_elsewhere_is_inferred_with(self) -> None:
        likelihood = ImageLikelihood(SHAPE, _Laplace(48), "laplace")
        model = PretrainedImageDecoder(_Maps(), likelihood, SHAPE)
        member = model.decoders_[0]
        assert member.likelihood.families[0] == "laplace"
        code = torch.tensor([[1.0, -0.5, 0.3]])
        x = member.decode(code).expand(3, -1).contiguous()
        observed = torch.rand(3, 48, generator=torch_generator(1)) < 0.7
        target = DecoderTarget(member.decode, member.likelihood, x, observed, 3)
        bound = fit_posterior(target, GaussianPosterior(3)).bound
        # at the code itself the bound would be near log p(x_O) with all at its location
        at_code = target.block(torch.arange(3))(code.expand(1, 3, -1))[0]
        assert bool((bound < at_code).all())
        assert bool((bound > at_code - 5).all())

    def test_an_object_that_lacks_something_is_refused(self) -> None:
        with pytest.raises(TypeError, match=r"lacks .*'log_prob'.*'sample'"):
            PretrainedImageDecoder(_Maps(), torch.nn.Identity(), SHAPE)
