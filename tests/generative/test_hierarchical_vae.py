"""HierarchicalVAE: training, published weights, presets, folders, and bad input."""

import copy
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from torch import nn

from _factories import digits, quick_layers, tiny_layers
from _published_weights import DECODER, ENCODER, Published, published_state
from sklearn_qavi._random import torch_generator
from sklearn_qavi.exceptions import ModelFormatError
from sklearn_qavi.generative import HierarchicalVAE
from sklearn_qavi.generative._hierarchical_vae import PRESETS
from sklearn_qavi.generative._training import GuardSteps

IMAGES = digits()


def fit(model: HierarchicalVAE, images: np.ndarray) -> HierarchicalVAE:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(images)


class TestTraining:
    def test_the_validation_bound_improves_and_the_best_epoch_is_kept(
        self, layered_digits: HierarchicalVAE
    ) -> None:
        losses = [epoch["valid_loss"] for epoch in layered_digits.history_[0]]
        assert losses[-1] < losses[0] - 5.0
        assert not layered_digits.decoders_[0].training

    def test_the_encoder_reads_standardized_pixels(self, layered_digits: HierarchicalVAE) -> None:
        network = layered_digits.decoders_[0]
        assert float(network.shift) == pytest.approx(IMAGES[:400].mean(), abs=0.01)
        assert float(network.scale) == pytest.approx(IMAGES[:400].std(), abs=0.01)

    def test_a_seed_gives_the_same_weights(self) -> None:
        runs = [fit(quick_layers(rounds=1), IMAGES[:60]).decoders_[0] for _ in range(2)]
        for ours, theirs in zip(runs[0].parameters(), runs[1].parameters(), strict=True):
            assert torch.equal(ours, theirs)

    def test_missing_pixels_are_not_learned_from(self) -> None:
        images = IMAGES[:60].copy()
        hidden = np.random.default_rng(0).random(images.shape) < 0.3
        incomplete = np.where(hidden, np.nan, images)
        network = fit(quick_layers(rounds=1), incomplete).decoders_[0]
        x = torch.from_numpy(np.where(hidden, 0.0, images).reshape(60, -1)).float()
        other = torch.from_numpy(np.where(hidden, 1.0, images).reshape(60, -1)).float()
        seen = torch.from_numpy(~hidden.reshape(60, -1))
        noise = torch.zeros(60, network.latent_dim)
        prepared = network.likelihood.prepare(x)
        a = network(x, seen, seen, torch.zeros_like(x), noise, prepared)
        b = network(
            other, seen, seen, torch.zeros_like(x), noise, network.likelihood.prepare(other)
        )
        torch.testing.assert_close(a, b)

    def test_steps_with_huge_or_infinite_gradients_are_left_out(self) -> None:
        layer = nn.utils.skip_init(nn.Linear, 2, 1)
        guard = GuardSteps(clip_norm=1.0, skip_norm=10.0)
        guard.on_train_begin(None)
        for size, skipped in ((0.5, False), (5.0, False), (50.0, True), (np.inf, True)):
            for parameter in layer.parameters():
                parameter.grad = torch.full_like(parameter, size / 3**0.5)
            guard.on_grad_computed(None, layer.named_parameters())
            assert (layer.weight.grad is None) == skipped
            if not skipped:
                norm = nn.utils.get_total_norm([p.grad for p in layer.parameters()])
                assert float(norm) == pytest.approx(min(size, 1.0), rel=1e-5)
        assert guard.n_skipped_ == 2

    @pytest.mark.parametrize("size", [0.5, 50.0, np.inf, np.nan])
    def test_without_a_norm_to_skip_at_nobody_waits_for_norms(self, size: float) -> None:
        parameter = nn.Parameter(torch.zeros(4))
        parameter.grad = torch.full((4,), size / 2)
        GuardSteps(clip_norm=1.0, skip_norm=np.inf).on_grad_computed(None, [("w", parameter)])
        wanted = min(size, 1.0) if np.isfinite(size) else 0.0
        assert float(parameter.grad.norm()) == pytest.approx(wanted, rel=1e-5)

    def test_limits_of_norms_are_those_of_a_loss_of_a_cell(self) -> None:
        # of one cell and of many that are its copies: the loss is as many times larger
        steps = []
        for side in (2, 8):
            layers = {"encoder_layers": f"{side}d{side},1x1", "decoder_layers": f"1x1,{side}m1"}
            images = np.tile(IMAGES[:40, 2:4, 2:4], (1, side // 2, side // 2))
            model = fit(quick_layers(**layers, rounds=1), images)
            steps.append(dict(model._guards(model._training()))["guard"])
        preset = PRESETS["mnist"]["training"]
        assert steps[0].skip_norm == 4 * preset.skip_norm
        assert steps[1].skip_norm == 64 * preset.skip_norm
        assert steps[1].clip_norm == 64 * preset.clip_norm

    def test_steps_on_images_of_many_cells_are_taken(self) -> None:
        images = np.kron(IMAGES[:40], np.ones((4, 4)))
        layers = {"encoder_layers": "32d8,4d4,1x1", "decoder_layers": "1x1,4m1,32m4"}
        sharp = {"likelihood": "gaussian", "likelihood_options": {}}
        model = fit(quick_layers(**layers, **sharp, rounds=2, steps=10, learning_rate=0.01), images)
        losses = [epoch["valid_loss"] for epoch in model.history_[0]]
        assert losses[1] < losses[0]


class TestPublishedWeights:
    @pytest.fixture
    def file(self, tmp_path: Path) -> Path:
        path = tmp_path / "model.th"
        torch.save({f"module.{name}": v for name, v in published_state().items()}, path)
        return path

    def load(self, file: Path, **options: Any) -> HierarchicalVAE:
        return HierarchicalVAE.from_checkpoint(
            file,
            image_shape=(3, 8, 8),
            **{
                "preset": "cifar10",
                "encoder_layers": ENCODER,
                "decoder_layers": DECODER,
                "width": 8,
                "latent_channels": 2,
                "likelihood_options": {"n_components": 3},
                "input_mean": 120.0,
                "input_scale": 64.0,
                **options,
            },
        )

    def test_likelihood_and_divergences_are_those_of_the_description(self, file: Path) -> None:
        model = self.load(file)
        network = copy.deepcopy(model.decoders_[0]).double()
        images = torch.randint(0, 256, (3, 3, 8, 8), generator=torch_generator(1)).double()
        noise = torch.randn(3, network.latent_dim, generator=torch_generator(2)).double()
        x = images.flatten(1) / 255.0
        params, kl = network.encoder_posterior(x, noise)
        everything = torch.ones_like(x, dtype=torch.bool)
        fit = network.reconstruction(params, network.likelihood.prepare(x), everything)
        published = Published(
            {name: value.double() for name, value in published_state().items()}, 2, 3
        )
        nll, kls = published.negative_log_likelihood(
            images, 120.0, 64.0, network.split_codes(noise)
        )
        np.testing.assert_allclose(-fit, nll, rtol=1e-6)
        np.testing.assert_allclose(kl, torch.stack(kls, 1), rtol=1e-6)
        assert (kl > 0.01).all()

    def test_the_input_is_that_of_the_layers_and_not_of_the_presets_name(self, file: Path) -> None:
        with pytest.raises(ValueError, match="input_mean and input_scale are not known"):
            self.load(file, input_mean=None)
        network = self.load(file, input_mean=51.0, input_scale=25.5).decoders_[0]
        assert float(network.shift) == pytest.approx(0.2)
        assert float(network.scale) == pytest.approx(0.1)

        def known(**options: Any) -> tuple[float, float]:
            return HierarchicalVAE(**options)._published_input(None, None)

        assert known(preset="cifar10") == (120.63838, 64.16736)
        assert known(preset="ffhq256") == (112.8666757481, 69.84780273)
        layers = {name: PRESETS["cifar10"][name] for name in ("encoder_layers", "decoder_layers")}
        assert known(preset="ffhq256", **layers, width=384) == (120.63838, 64.16736)
        with pytest.raises(ValueError, match="not known"):
            known(preset="cifar10", width=128)

    @pytest.mark.parametrize("n_components", [1, 2, 5])
    def test_another_number_of_components_is_refused(self, file: Path, n_components: int) -> None:
        message = rf"30 channels, .*n_components={n_components} takes.*'n_components': 3, "
        with pytest.raises(ModelFormatError, match=message):
            self.load(file, likelihood_options={"n_components": n_components})
        with pytest.raises(ModelFormatError, match="'continuous_bernoulli' takes 3"):
            self.load(file, likelihood="continuous_bernoulli", likelihood_options={})

    def test_weights_that_do_not_fit_are_refused(self, file: Path, tmp_path: Path) -> None:
        with pytest.raises(ModelFormatError, match="do not fit"):
            self.load(file, width=12)
        other = tmp_path / "text.th"
        other.write_text("no weights")
        with pytest.raises(ModelFormatError, match="cannot be read"):
            self.load(other)
        torch.save({"epoch": 3}, other)
        with pytest.raises(ModelFormatError, match="no state dict"):
            self.load(other)
        with pytest.raises(FileNotFoundError):
            self.load(tmp_path / "nothing.th")


class TestPresets:
    @pytest.mark.parametrize("name", sorted(PRESETS))
    def test_layers_fit_each_other(self, name: str) -> None:
        model = HierarchicalVAE(preset=name)
        model.image_shape_ = (1, 28, 28) if name == "mnist" else (3, 32, 32)
        model._architecture().check()

    def test_sizes_are_those_of_the_papers(self) -> None:
        def n_weights(name: str) -> int:
            model = HierarchicalVAE(preset=name)
            model.image_shape_ = (3, 256, 256)
            with torch.device("meta"):
                network = model._new_network(None)
            return sum(p.numel() for p in network.parameters())

        assert n_weights("ffhq256") == pytest.approx(115e6, rel=0.02)
        assert n_weights("ffhq256-small") == pytest.approx(5.9e6, rel=0.02)


class TestFolders:
    def test_a_loaded_model_is_the_same(
        self, layered_digits: HierarchicalVAE, tmp_path: Path
    ) -> None:
        layered_digits.save(tmp_path)
        loaded = HierarchicalVAE.load(tmp_path)
        z = torch.randn(3, layered_digits.decoders_[0].latent_dim, generator=torch_generator(0))
        assert torch.equal(loaded.decoders_[0].decode(z), layered_digits.decoders_[0].decode(z))
        assert loaded.get_params()["decoder_layers"] == layered_digits.decoder_layers
        assert loaded.history_ == layered_digits.history_

    def test_widths_keep_their_resolutions(self, tmp_path: Path) -> None:
        model = fit(tiny_layers(width=16, widths={8: 8}), IMAGES[:40])
        model.save(tmp_path)
        assert HierarchicalVAE.load(tmp_path).widths == {8: 8}
        assert clone(model).widths == {8: 8}


class TestBadInput:
    @pytest.mark.parametrize(
        ("options", "images", "message"),
        [
            ({}, np.zeros((10, 9, 9)), "larger than the decoder's last resolution"),
            ({"decoder_layers": "1x2,8m4"}, IMAGES[:10], "not before it"),
            ({"width": 0}, IMAGES[:10], "width"),
            ({"preset": "svhn"}, IMAGES[:10], "preset"),
            ({}, IMAGES[:3], "minimum of 5"),
            ({}, 2 * IMAGES[:10], "from 0 to 1"),
        ],
    )
    def test_errors_say_what_is_wrong(
        self, options: dict[str, Any], images: np.ndarray, message: str
    ) -> None:
        with pytest.raises(ValueError, match=message):
            quick_layers(**options).fit(images)
