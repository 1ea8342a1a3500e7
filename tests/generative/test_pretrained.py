"""Decoders trained elsewhere: what a stranger's decoder may look like."""

import math
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sklearn_qavi import QAVIImputer, QAVIInpainter
from sklearn_qavi._persistence import load_model
from sklearn_qavi._random import torch_generator
from sklearn_qavi.exceptions import ModelFormatError
from sklearn_qavi.generative import (
    ColumnLikelihood,
    GenerativeModel,
    ImageLikelihood,
    PretrainedDecoder,
    find_latent_dim,
    make_image_likelihood,
)
from sklearn_qavi.inference import DecoderTarget, GaussianPosterior, fit_posterior


def _decoder(n_out: int = 6) -> torch.nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
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
    values = model.standardize(torch.tensor([[2.0, 12.0, 3.0]]).numpy())
    assert values.tolist() == [[1.0, 1.0, 0.0]]
    assert model.unstandardize(values).tolist() == [[2.0, 12.0, 3.0]]


SHAPE = (1, 8, 6)


class _Maps(torch.nn.Module):
    """A plain convolutional decoder from elsewhere: (n, 3) to (n, K, 8, 6)."""

    def __init__(self, n_maps: int = 1) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
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
            PretrainedDecoder(module, "bernoulli", latent_dim=3, image_shape=SHAPE)
            .decoders_[0]
            .decode(z)
            for module in (maps, rows)
        )
        assert first.shape == (4, 2, 48)
        assert first.equal(second)

    def test_it_follows_the_contract_and_rows_do_not_see_each_other(self) -> None:
        model = PretrainedDecoder(_Maps(2), "gaussian", image_shape=SHAPE)
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
        member = PretrainedDecoder(module, "bernoulli", image_shape=SHAPE).decoders_[0]
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
            PretrainedDecoder(_Maps(), "discretized_normal", image_shape=SHAPE)
        with pytest.raises(ValueError, match="cannot read codes of shape"):
            PretrainedDecoder(_Maps(), "bernoulli", latent_dim=5, image_shape=SHAPE)
        with pytest.raises(ValueError, match="neither a latent_dim"):
            PretrainedDecoder(torch.nn.Flatten(), "bernoulli", image_shape=SHAPE)
        with pytest.raises(ValueError, match="must be one of"):
            PretrainedDecoder(_Maps(2), "student_t", image_shape=SHAPE)
        with pytest.raises(ValueError, match=r"must be \(channels, height, width\)"):
            PretrainedDecoder(_Maps(), "bernoulli", image_shape=(8, 6))
        other = make_image_likelihood("bernoulli", (1, 6, 8))
        with pytest.raises(ValueError, match=r"for images of shape \(1, 6, 8\)"):
            PretrainedDecoder(_Maps(), other, image_shape=SHAPE)
        broken = _Maps()
        with torch.no_grad():
            broken.up.bias.fill_(torch.nan)
        with pytest.raises(ValueError, match="not finite"):
            PretrainedDecoder(broken, "bernoulli", image_shape=SHAPE)

    def test_an_encoder_reads_images(self) -> None:
        def encoder(n_out: int) -> torch.nn.Sequential:
            with torch.random.fork_rng():
                torch.manual_seed(0)
                conv, last = torch.nn.Conv2d(1, 2, 2, stride=2), torch.nn.Linear(24, n_out)
            return torch.nn.Sequential(conv, torch.nn.Flatten(), last)

        model = PretrainedDecoder(_Maps(), "bernoulli", image_shape=SHAPE, encoder=encoder(6))
        x = torch.rand(2, 4, 48, generator=torch_generator(0))
        mean, scale = model.decoders_[0].encode(x, x > 0.5)
        assert mean.shape == scale.shape == (2, 4, 3)
        with pytest.raises(ValueError, match="takes 6: means, then raw scales"):
            PretrainedDecoder(_Maps(), "bernoulli", image_shape=SHAPE, encoder=encoder(5))

    def test_a_likelihood_from_elsewhere_is_inferred_with(self) -> None:
        likelihood = ImageLikelihood(SHAPE, _Laplace(48), "laplace")
        model = PretrainedDecoder(_Maps(), likelihood, image_shape=SHAPE)
        member = model.decoders_[0]
        assert member.likelihood.families[0] == "laplace"
        code = torch.tensor([[1.0, -0.5, 0.3]])
        x = member.decode(code).expand(3, -1).contiguous()
        observed = torch.rand(3, 48, generator=torch_generator(1)) < 0.7
        target = DecoderTarget(member.decode, member.likelihood, x, observed, 3)
        bound = fit_posterior(target, GaussianPosterior(3)).bound
        block = target.block(torch.arange(3))
        noise = torch.randn(4096, 3, 3, generator=torch_generator(2))
        # no bound is above log p(x_O) with all at its location
        assert bool((bound < block(code.expand(1, 3, -1))[0]).all())
        for scale in (0.2, 0.5, 0.8):  # and the best Gaussian's is no lower than others'
            fit = block(code + scale * noise)
            kl = (0.5 * (code.square() + scale**2 - 1.0) - math.log(scale)).sum()
            slack = 4.0 * fit.std(0) / 64.0 + 0.1  # of the mean of 4,096, and of where steps end
            assert bool((bound > fit.mean(0) - kl - slack).all())

    def test_an_object_that_lacks_something_is_refused(self) -> None:
        with pytest.raises(TypeError, match=r"lacks .*'log_prob'.*'sample'"):
            PretrainedDecoder(_Maps(), torch.nn.Identity(), image_shape=SHAPE)

    def test_units_of_pixels(self) -> None:
        # the decoder models pixels from -1 to 1, with one scale
        units = {"mean": 0.5, "scale": 0.5, "likelihood_options": {"scale": 0.2}}
        model = PretrainedDecoder(_Maps(), "gaussian", image_shape=SHAPE, **units)
        values = model.standardize(np.array([[0.0, 0.25, 1.0] * 16]))
        assert values[0, :3].tolist() == [-1.0, -0.5, 1.0]
        np.testing.assert_allclose(model.unstandardize(values)[0, :3], [0.0, 0.25, 1.0])
        assert model.unstandardize(2 * values)[0, :3].tolist() == [0.0, 0.0, 1.0]
        colours = PretrainedDecoder(
            _Maps(3), "gaussian", image_shape=(3, 8, 6), mean=[0.1, 0.2, 0.3],
            likelihood_options={"scale": 0.2},
        )  # fmt: skip
        assert colours.mean_[[0, 47, 48, 96]].tolist() == [0.1, 0.1, 0.2, 0.3]
        with pytest.raises(ValueError, match="of pixels from 0 to 1"):
            PretrainedDecoder(_Maps(), "bernoulli", image_shape=SHAPE, mean=0.5)


class TestScaleOfOnesOwn:
    """Decoders that were trained by squared error return locations only."""

    @pytest.mark.parametrize("family", ["gaussian", "student_t"])
    def test_of_tables(self, family: str) -> None:
        model = PretrainedDecoder(_decoder(3), family, 3, likelihood_options={"scale": 0.25})
        likelihood = model.decoders_[0].likelihood
        assert likelihood.n_outputs == 3
        (group,) = likelihood.groups
        _, scale = group._location_and_scale(torch.zeros(1, 3))
        torch.testing.assert_close(scale, torch.full((3,), 0.25))

    def test_of_images(self) -> None:
        model = PretrainedDecoder(
            _Maps(), "gaussian", image_shape=SHAPE, likelihood_options={"scale": 0.25}
        )
        member = model.decoders_[0]
        params = member.decode(torch.zeros(1, 3))
        x = params + 0.25
        log_prob = member.likelihood.log_prob(params, member.likelihood.prepare(x))
        expected = torch.distributions.Normal(params, 0.25).log_prob(x)
        torch.testing.assert_close(log_prob, expected)

    def test_what_cannot_be_meant(self) -> None:
        with pytest.raises(ValueError, match=r"takes likelihood_options=\{'scale': \.\.\.\}"):
            PretrainedDecoder(_decoder(3), "gaussian", 3)
        with pytest.raises(ValueError, match="nothing is trained here"):
            PretrainedDecoder(
                _Maps(), "gaussian", image_shape=SHAPE, likelihood_options={"scale": "channel"}
            )
        with pytest.raises(ValueError, match=r"above 0\.001"):
            PretrainedDecoder(_decoder(3), "gaussian", 3, likelihood_options={"scale": 0.0})
        with pytest.raises(ValueError, match="not the options"):
            PretrainedDecoder(_decoder(3), "bernoulli", 3, likelihood_options={"scale": 0.1})
        with pytest.raises(ValueError, match="not the options"):
            PretrainedDecoder(_decoder(6), "gaussian", 3, likelihood_options={"width": 1})


class _Autoencoder(torch.nn.Module):
    """A whole one, with the names that most have."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.encoder, self.decoder = torch.nn.Linear(48, 6), _Maps()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        code = self.encoder(x)
        return self.decoder(code[:, :3]), code


class _Methods(torch.nn.Module):
    """A whole one, with layers of other names."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.fc1, self.fc2 = torch.nn.Linear(48, 3), torch.nn.Linear(3, 48)

    def encode(self, x: Tensor) -> Tensor:
        return self.fc1(x)

    def decode(self, z: Tensor) -> Tensor:
        return self.fc2(z)


class TestWhatIsNoDecoder:
    @pytest.mark.parametrize("where", [{"n_features": 48}, {"image_shape": SHAPE}])
    def test_a_whole_autoencoder_is_refused(self, where: dict[str, Any]) -> None:
        with pytest.raises(
            ValueError,
            match=r"whole autoencoder.*\(model\.decoder, \.\.\., encoder=model\.encoder\)",
        ):
            PretrainedDecoder(_Autoencoder(), "bernoulli", **where)
        with pytest.raises(ValueError, match=r"whole autoencoder.*what model\.decode does"):
            PretrainedDecoder(_Methods(), "bernoulli", **where)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            chain = torch.nn.Sequential(
                torch.nn.Linear(48, 3), torch.nn.Tanh(), torch.nn.Linear(3, 48)
            )
        with pytest.raises(ValueError, match=r"reads 48 numbers, .*a layer that reads 3"):
            PretrainedDecoder(chain, "bernoulli", **where)
        named = PretrainedDecoder(chain, "bernoulli", **where, latent_dim=48)
        assert named.decoders_[0].latent_dim == 48

    def test_a_trained_model_is_sent_to_the_estimator(self) -> None:
        model = PretrainedDecoder(_decoder(), "gaussian", 3)
        with pytest.raises(TypeError, match="pass it as generative_model"):
            PretrainedDecoder(model, "gaussian", 3)
        with pytest.raises(TypeError, match="must be a torch"):
            PretrainedDecoder(torch.sigmoid, "gaussian", 3)

    def test_several_outputs_are_refused(self) -> None:
        class Pair(torch.nn.Module):
            latent_dim = 3

            def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
                return x, x

        with pytest.raises(TypeError, match="decoder returns a tuple, expected the parameters"):
            PretrainedDecoder(Pair(), "gaussian", 3)
        with pytest.raises(TypeError, match=r"encoder returns a tuple.*log\(expm1"):
            PretrainedDecoder(_decoder(), "gaussian", 3, encoder=Pair())

    def test_one_of_tables_or_images(self) -> None:
        with pytest.raises(ValueError, match="either n_features"):
            PretrainedDecoder(_decoder(), "gaussian")
        with pytest.raises(ValueError, match="either n_features"):
            PretrainedDecoder(_decoder(), "gaussian", 3, image_shape=(1, 1, 3))


def other_decoder() -> torch.nn.Module:
    """Make a decoder with other first weights at each call."""
    return torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.Dropout(), torch.nn.Linear(5, 6))


def decoder_and_encoder() -> tuple[torch.nn.Module, torch.nn.Module]:
    """Make both."""
    return other_decoder(), torch.nn.Linear(3, 6)


class TestFolders:
    """Code is named, not saved."""

    @pytest.fixture(autouse=True)
    def importable(self, monkeypatch: pytest.MonkeyPatch) -> None:
        package = types.ModuleType("elsewhere")
        package.other_decoder, package.both = other_decoder, decoder_and_encoder
        package.wider = lambda: _decoder(7)
        package.number = lambda: 3
        monkeypatch.setitem(sys.modules, "elsewhere", package)

    def test_a_loaded_model_is_the_same(self, tmp_path: Path) -> None:
        encoder = torch.nn.utils.skip_init(torch.nn.Linear, 3, 6)
        torch.nn.init.eye_(encoder.weight)
        torch.nn.init.ones_(encoder.bias)
        model = PretrainedDecoder(
            _decoder(),
            "gaussian",
            3,
            encoder=encoder,
            mean=[1.0, 2.0, 3.0],
            source="elsewhere:both",
        )
        model.save(tmp_path)
        loaded = PretrainedDecoder.load(tmp_path, trusted=["elsewhere:both"])
        z = torch.randn(4, 2, 3, generator=torch_generator(0))
        assert loaded.decoders_[0].decode(z).equal(model.decoders_[0].decode(z))
        assert loaded.mean_.tolist() == [1.0, 2.0, 3.0]
        x = torch.ones(2, 3)
        for ours, theirs in zip(
            loaded.decoders_[0].encode(x, x > 0), model.decoders_[0].encode(x, x > 0), strict=True
        ):
            assert ours.equal(theirs)
        assert not any(p.requires_grad for p in loaded.decoders_[0].parameters())

    def test_an_imputer_and_an_inpainter_are_saved_with_it(self, tmp_path: Path) -> None:
        trusted = {"trusted": ["elsewhere:other_decoder"]}
        options = {"source": "elsewhere:other_decoder"}
        X = np.array([[0.1, np.nan, 0.3], [0.4, 0.2, np.nan]])
        model = PretrainedDecoder(_decoder(), "gaussian", 3, **options)
        imputer = QAVIImputer(generative_model=model, random_state=0).fit(X)
        imputer.save(tmp_path / "table")
        loaded = QAVIImputer.load(tmp_path / "table", **trusted)
        np.testing.assert_array_equal(loaded.transform(X), imputer.transform(X))
        images = PretrainedDecoder(_decoder(), "gaussian", image_shape=(1, 1, 3), **options)
        inpainter = QAVIInpainter(generative_model=images, random_state=0).fit()
        inpainter.save(tmp_path / "images")
        again = QAVIInpainter.load(tmp_path / "images", **trusted)
        shown = X.reshape(2, 1, 1, 3)
        np.testing.assert_array_equal(again.transform(shown), inpainter.transform(shown))

    def test_no_code_is_run_that_is_not_trusted(self, tmp_path: Path) -> None:
        model = PretrainedDecoder(_decoder(), "gaussian", 3, source="elsewhere:other_decoder")
        model.save(tmp_path)
        for trusted in ([], ["elsewhere:both"]):
            with pytest.raises(ModelFormatError, match=r"trusted=\['elsewhere:other_decoder'\]"):
                PretrainedDecoder.load(tmp_path, trusted=trusted)
        with pytest.raises(ModelFormatError, match="names code to be run"):
            load_model(tmp_path)
        loaded = load_model(tmp_path, trusted=["elsewhere:other_decoder"])
        assert isinstance(loaded, PretrainedDecoder)

    def test_what_cannot_be_saved(self, tmp_path: Path) -> None:
        def save(source: str | None, likelihood: Any = "gaussian", **options: Any) -> None:
            where = options or {"n_features": 3}
            PretrainedDecoder(_decoder(), likelihood, **where, source=source).save(tmp_path)

        with pytest.raises(ModelFormatError, match="where its code is imported from"):
            save(None)
        own = ImageLikelihood((1, 2, 3), _Laplace(6), "laplace")
        with pytest.raises(ModelFormatError, match="is an object"):
            save("elsewhere:other_decoder", own, image_shape=(1, 2, 3))
        with pytest.raises(ModelFormatError, match="does not fit the description"):
            save("elsewhere:wider")
        with pytest.raises(ModelFormatError, match=r"has other weights.* first"):
            save("elsewhere:both")
        assert not list(tmp_path.iterdir())
