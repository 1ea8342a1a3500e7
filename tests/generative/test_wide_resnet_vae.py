"""WideResNetVAE: what it learns, how it is saved, what it refuses."""

import warnings
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from _factories import digits, quick_image_model, tiny_image_model, with_missing
from sklearn_qavi._files import read_json, write_json
from sklearn_qavi._random import derive_seed, seed_from, torch_generator
from sklearn_qavi.exceptions import ModelFormatError
from sklearn_qavi.generative import GenerativeModel, WideResNetVAE
from sklearn_qavi.generative._image_vae import augmented
from sklearn_qavi.generative._training import GuardSteps, HiddenCells, crps_of_hidden_cells, risen
from sklearn_qavi.generative._wide_resnet_vae import hidden_halves
from sklearn_qavi.inference import (
    Context,
    DecoderTarget,
    Gaussian,
    GaussianPosterior,
    fit_posterior,
)
from sklearn_qavi.sampling import DecoderPool, PooledPosterior
from sklearn_qavi.sampling._given import Given

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture(scope="module")
def images() -> NDArray[np.float64]:
    return digits(0, 300)


@pytest.fixture(scope="module")
def model(images: NDArray[np.float64], train_once: Callable[..., Any]) -> WideResNetVAE:
    longer = quick_image_model(latent_dim=8, width=16, rounds=4, steps=150)
    return train_once("wide_resnet", longer, images)


def test_a_fitted_model_follows_the_contract(
    model: WideResNetVAE, images: NDArray[np.float64]
) -> None:
    assert isinstance(model, GenerativeModel)
    assert model.image_shape_ == (1, 8, 8)
    assert model.n_features_in_ == 64
    rows = images.reshape(-1, 64)
    assert model.unstandardize(model.standardize(rows)) == pytest.approx(rows)
    assert model.unstandardize(np.array([-0.5, 1.5, np.nan])).tolist()[:2] == [0.0, 1.0]
    member = model.decoders_[0]
    assert not member.training
    assert not any(p.requires_grad for p in member.parameters())


def test_training_improves_on_the_first_epoch(model: WideResNetVAE) -> None:
    history = model.history_[0]
    assert history[-1]["train_loss"] < history[0]["train_loss"] - 5
    assert min(e["valid_crps"] for e in history) < 0.95 * history[0]["valid_crps"]


def test_the_hidden_half_is_filled_better_than_by_the_mean_image(
    model: WideResNetVAE, images: NDArray[np.float64]
) -> None:
    test = digits(300, 332)
    x = torch.tensor(test.reshape(-1, 64), dtype=torch.float32)
    observed = ~hidden_halves((1, 8, 8), len(x), torch_generator(0))
    member = model.decoders_[0]
    target = DecoderTarget(member.decode, member.likelihood, x, observed, member.latent_dim)
    result = fit_posterior(target, GaussianPosterior(member.latent_dim))
    filled = PooledPosterior([member], [result], 64).mean(n_codes=32)
    error = np.square(filled - x.numpy())[~observed.numpy()].mean()
    plain = np.square(images.mean(0).reshape(-1) - x.numpy())[~observed.numpy()].mean()
    assert error < 0.9 * plain


def test_inference_gives_a_row_the_same_bits_whatever_the_others(
    model: WideResNetVAE, images: NDArray[np.float64]
) -> None:
    x = torch.tensor(images[:70].reshape(-1, 64), dtype=torch.float32)
    observed = ~hidden_halves((1, 8, 8), len(x), torch_generator(0))
    member = model.decoders_[0]

    def parameters(rows: slice) -> Tensor:
        target = DecoderTarget(
            member.decode, member.likelihood, x[rows], observed[rows], member.latent_dim
        )
        return fit_posterior(target, GaussianPosterior(8)).posterior.parameters

    everything = parameters(slice(0, 70))
    for rows in (slice(3, 4), slice(30, 69)):
        assert parameters(rows).equal(everything[rows])


def test_missing_pixels_teach_nothing_and_harm_nothing(images: NDArray[np.float64]) -> None:
    incomplete = with_missing(images, 0.4)
    fitted = quick_image_model(rounds=3).fit(incomplete)
    losses = [epoch["train_loss"] for epoch in fitted.history_[0]]
    assert losses[-1] < losses[0] - 5
    # the masks of channels or none are the same
    again = quick_image_model(rounds=1).fit(incomplete[:, None]).history_[0][0]["train_loss"]
    assert again == losses[0]


@pytest.mark.parametrize(
    "options",
    [
        {"likelihood": "bernoulli"},
        {"likelihood": "gaussian", "likelihood_options": {"scale": "decoder"}},
        {"likelihood": "discretized_normal", "batch_norm": True},
        {"likelihood": "logistic_mixture", "likelihood_options": {"n_components": 2}},
        {"dense": True, "upsampling": "transposed", "activation": "silu", "n_levels": 1},
    ],
)
def test_colour_images_and_every_likelihood_train(options: dict[str, Any]) -> None:
    rng = np.random.default_rng(0)
    shade, colour = rng.random((60, 1, 1, 1)), rng.random((60, 3, 1, 1))
    images = np.clip(shade * colour + np.linspace(0, 0.3, 6), 0, 1) * np.ones((60, 3, 6, 6))
    images[:5, 1, :2] = np.nan
    fitted = quick_image_model(rounds=3, **options).fit(images)
    assert fitted.image_shape_ == (3, 6, 6)
    losses = [epoch["train_loss"] for epoch in fitted.history_[0]]
    assert losses[-1] < losses[0]


def test_single_channels_are_drawn_given_the_others_of_their_pixel() -> None:
    """In each image the channels are alike, whatever the code says."""
    rng = np.random.default_rng(0)
    images = np.repeat(rng.random((200, 1, 2, 2)), 2, axis=1)
    fitted = quick_image_model(
        likelihood="logistic_mixture",
        latent_dim=1,
        n_levels=1,
        patch_size=1,
        learning_rate=0.01,
        rounds=10,
    ).fit(images)
    x = torch.tensor(images[:10].reshape(10, -1), dtype=torch.float32)
    observed = torch.ones_like(x).bool()
    observed[:, 4:] = False  # the second channel
    observed[:5] = observed[:5].flip(1)  # or the first
    member = fitted.decoders_[0]
    target = DecoderTarget(member.decode, member.likelihood, x, observed, 1)
    result = fit_posterior(target, GaussianPosterior(1))
    pooled = PooledPosterior([member], [result], 8, Given(x, observed))
    truth, hidden = x.numpy(), ~observed.numpy()
    draws = pooled.keyed_draws(16, np.arange(10), 0)
    for values in (pooled.mean(8), pooled.shared_draws(16).mean(0), draws.mean(0)):
        assert np.corrcoef(values[hidden], truth[hidden])[0, 1] > 0.8
    blind = PooledPosterior([member], [result], 8).mean(32)
    assert np.corrcoef(blind[hidden], truth[hidden])[0, 1] < 0.5
    # and a pool hands on what it inferred from
    pool = DecoderPool([member], Gaussian(), [None], Context(max_iter=1))
    given = pool.infer(x, observed).given
    assert given is not None
    assert given.observed.equal(observed)


def test_augmented_images_keep_their_missing_pixels(images: NDArray[np.float64]) -> None:
    x = torch.tensor(images[:40].reshape(40, -1), dtype=torch.float32)
    observed = torch.rand(x.shape, generator=torch_generator(0)) < 0.7
    values, mask = augmented("flip", (1, 8, 8), x, observed, torch_generator(1))
    as_images = [t.view(40, 8, 8) for t in (x, observed, values, mask)]
    x_image, seen, changed, changed_seen = as_images
    flipped = (changed_seen == seen.flip(-1)).all(-1).all(-1)
    same = (changed_seen == seen).all(-1).all(-1)
    assert bool((flipped ^ same).all())
    assert 8 < int(flipped.sum()) < 32
    expected = torch.where(seen, x_image, 0.0).flip(-1)
    assert changed[flipped].equal(expected[flipped])
    with pytest.raises(ValueError, match=r"augmentation returned shape \(32, 1, 8, 4\)"):
        quick_image_model(augmentation=lambda images, generator: images[..., :4]).fit(images)


def test_halves_hide_whole_pixels_about_one_half() -> None:
    hidden = hidden_halves((3, 10, 14), 200, torch_generator(0)).view(200, 3, -1)
    assert hidden[:, 0].equal(hidden[:, 2])
    share = hidden.float().mean((1, 2))
    assert float((share - 0.5).abs().max()) < 0.06
    # in every direction, so that each pixel is hidden about as often
    by_pixel = hidden[:, 0].float().mean(0)
    assert 0.3 < float(by_pixel.min()) < float(by_pixel.max()) < 0.7


def test_same_seed_same_weights(images: NDArray[np.float64]) -> None:
    first, again, other = (
        quick_image_model(batch_norm=True, random_state=seed).fit(images[:60]).decoders_[0]
        for seed in (0, 0, 1)
    )
    weights = [torch.cat([p.flatten() for p in m.parameters()]) for m in (first, again, other)]
    assert weights[0].equal(weights[1])
    assert not weights[0].equal(weights[2])


def test_averaged_statistics_are_those_of_the_averaged_weights(
    images: NDArray[np.float64],
) -> None:
    """What is kept must fit images about as well as training said with the batch's statistics."""
    fitted = quick_image_model(batch_norm=True, kl_warmup=0, rounds=3).fit(images)
    network, x = fitted.decoders_[0], torch.tensor(images.reshape(-1, 64), dtype=torch.float32)
    seen = torch.ones_like(x).bool()
    noise = torch.randn(len(x), 4, generator=torch_generator(0))
    fit, kl = network(x, seen, seen, 0.0 * x, noise, network.likelihood.prepare(x))
    best = min(epoch["train_loss"] for epoch in fitted.history_[0])
    assert float((kl - fit).mean()) < best + 5


def test_weights_count_and_rows_without_are_left_out(images: NDArray[np.float64]) -> None:
    spoiled = np.concatenate([images[:60], np.ones((20, 8, 8))])
    weight = np.repeat([1.0, 0.0], [60, 20])
    with_them = quick_image_model(rounds=1).fit(spoiled, sample_weight=weight)
    without = quick_image_model(rounds=1).fit(images[:60])
    assert with_them.history_[0][0]["train_loss"] == without.history_[0][0]["train_loss"]
    with pytest.raises(ValueError, match="2 images have a sample_weight above 0"):
        quick_image_model().fit(images, sample_weight=np.arange(300) < 2)


def test_bad_images_are_refused(images: NDArray[np.float64]) -> None:
    with pytest.raises(ValueError, match=r"must lie from 0 to 1, got 0 to 255\. Divide bytes"):
        quick_image_model().fit(np.arange(600.0).reshape(6, 10, 10) % 256)
    with pytest.raises(ValueError, match=r"must have shape .*got \(300, 64\)"):
        quick_image_model().fit(images.reshape(300, 64))
    with pytest.raises(ValueError, match="too small for n_levels=4"):
        quick_image_model(n_levels=4).fit(images)
    with pytest.raises(ValueError, match="no observed pixel"):
        quick_image_model().fit(np.full((6, 8, 8), np.nan))
    with pytest.raises(ValueError, match="not the options of likelihood='bernoulli'"):
        quick_image_model(likelihood="bernoulli", likelihood_options={"scale": "pixel"}).fit(images)


def test_the_kl_weighs_more_until_the_warm_up_is_over(images: NDArray[np.float64]) -> None:
    assert [risen(0.1, step, 30) for step in (0, 15, 30, 31)] == pytest.approx([0.1, 0.55, 1, 1])
    assert risen(0.1, 0, 0) == 1.0
    # the first step of all loses as much less as the codes' KL weighs less
    loss = {
        n: quick_image_model(kl_warmup=n, beta=beta, rounds=1, steps=1).fit(images[:60]).history_
        for n, beta in ((0, 3.0), (9, 3.0))
    }
    first = {n: history[0][0]["train_loss"] for n, history in loss.items()}
    assert first[9] < first[0]
    tenth = quick_image_model(kl_warmup=0, beta=0.3, rounds=1, steps=1).fit(images[:60]).history_
    assert first[9] == pytest.approx(tenth[0][0]["train_loss"], rel=1e-5)


def test_the_step_size_rises_until_the_warm_up_is_over(
    images: NDArray[np.float64], monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []

    class Watched(GuardSteps):
        def on_grad_computed(self, net: Any, *args: Any, **kwargs: Any) -> None:
            super().on_grad_computed(net, *args, **kwargs)
            sizes.append(net.optimizer_.param_groups[0]["lr"])

    monkeypatch.setattr("sklearn_qavi.generative._image_vae.GuardSteps", Watched)
    options: dict[str, Any] = {"rounds": 2, "steps": 3, "learning_rate": 0.01}
    quick_image_model(learning_rate_warmup=4, **options).fit(images[:60])
    assert sizes == pytest.approx([0.0025, 0.005, 0.0075, 0.01, 0.01, 0.01])
    sizes.clear()
    quick_image_model(learning_rate_warmup=0, **options).fit(images[:60])
    assert sizes == [0.01] * 6


def test_the_warm_up_goes_on_where_a_training_was_stopped(
    images: NDArray[np.float64], tmp_path: Path
) -> None:
    options: dict[str, Any] = {"kl_warmup": 60, "n_decoders": 1, "patience": 9}
    options["learning_rate_warmup"] = 30
    whole = quick_image_model(rounds=3, **options).fit(images[:60])
    for rounds in (1, 3):
        parts = quick_image_model(rounds=rounds, checkpoint_folder=tmp_path, **options)
        parts.fit(images[:60])
    losses = [[epoch["train_loss"] for epoch in m.history_[0]] for m in (whole, parts)]
    assert losses[0] == losses[1]


def test_larger_images_are_validated_with_a_heavier_kl() -> None:
    betas = {}
    for side in (4, 8, 40):
        model = tiny_image_model()
        model.image_shape_, model.n_features_in_ = (1, side, side), side * side
        x = torch.full((2, side * side), 0.5)
        betas[side] = model._validation(x, torch.ones_like(x).bool(), torch.ones(2), 0).beta
    assert betas == {4: 1.0, 8: 1.6, 40: 20.0}


def test_training_that_still_improves_warns(images: NDArray[np.float64]) -> None:
    with pytest.warns(ConvergenceWarning, match=r"1 of 1 decoder\(s\) still improved"):
        quick_image_model(rounds=1).fit(images)


def test_it_clones_and_lists_its_parameters() -> None:
    model = quick_image_model(likelihood_options={"scale": "pixel"})
    assert clone(model).get_params() == model.get_params()


class TestSaving:
    @pytest.mark.parametrize("batch_norm", [False, True])
    def test_loaded_models_decode_the_same_bits(
        self, tmp_path: Path, images: NDArray[np.float64], batch_norm: bool
    ) -> None:
        options = {"likelihood": "gaussian", "n_decoders": 2, "augmentation": "flip"}
        model = quick_image_model(batch_norm=batch_norm, rounds=1, **options).fit(images)
        model.save(tmp_path)
        loaded = WideResNetVAE.load(tmp_path)
        z = torch.randn(5, 4, generator=torch_generator(0))
        x = torch.tensor(images[:5].reshape(5, -1), dtype=torch.float32)
        for mine, other in zip(model.decoders_, loaded.decoders_, strict=True):
            assert mine.decode(z).equal(other.decode(z))
            prepared = mine.likelihood.prepare(x)
            log_p = mine.likelihood.log_prob(mine.decode(z), prepared)
            assert log_p.equal(other.likelihood.log_prob(other.decode(z), prepared))
        assert loaded.image_shape_ == model.image_shape_
        assert loaded.history_ == model.history_
        assert loaded.training == model.training

    def test_broken_files_are_refused(self, tmp_path: Path, model: WideResNetVAE) -> None:
        model.save(tmp_path)
        config = tmp_path / "config.json"
        wrong = read_json(config, "model")
        wrong["config"]["parameters"]["width"] = 4
        write_json(config, wrong)
        with pytest.raises(ModelFormatError, match="do not fit its config"):
            WideResNetVAE.load(tmp_path)
        del wrong["config"]["image_shape"]
        write_json(config, wrong)
        with pytest.raises(ModelFormatError, match="lacks or misnames"):
            WideResNetVAE.load(tmp_path)


def test_the_kept_epoch_has_the_best_score_under_the_tempered_posterior(
    images: NDArray[np.float64],
) -> None:
    scores = []
    for beta in (1.0, 20.0):
        fitted = quick_image_model(validation_beta=beta, rounds=3, patience=3).fit(images[:60])
        scores.append([epoch["valid_crps"] for epoch in fitted.history_[0]])
    assert scores[0] != scores[1]
    network, rows = fitted.decoders_[0], fitted.standardize(images[:60].reshape(60, -1))
    seed = seed_from(0)
    _, validation = fitted._split(60, derive_seed(seed, 0))
    x = torch.tensor(rows[validation], dtype=torch.float32)
    hidden = hidden_halves((1, 8, 8), len(x), torch_generator(derive_seed(seed, 1)))
    total, count = crps_of_hidden_cells(network, HiddenCells(x, ~hidden, hidden), beta=20.0)
    assert float(total.sum() / count.sum()) == pytest.approx(min(scores[1]), abs=1e-5)


@pytest.mark.parametrize(
    ("shape", "latent_dim"), [((4, 4), 8), ((8, 8), 16), ((4, 16), 16), ((3, 40, 40), 64)]
)
def test_larger_images_have_larger_codes_by_default(
    shape: tuple[int, ...], latent_dim: int, tmp_path: Path
) -> None:
    images = np.random.default_rng(0).random((6, *shape))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        fitted = tiny_image_model(latent_dim=None, random_state=0).fit(images)
    assert fitted.decoders_[0].latent_dim == latent_dim
    fitted.save(tmp_path)
    assert WideResNetVAE.load(tmp_path).decoders_[0].latent_dim == latent_dim


def test_the_weight_for_inference_is_the_best_on_validation_images(
    all_weights: tuple[float, ...], tmp_path: Path
) -> None:
    images = digits(0, 200)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        fitted = quick_image_model(rounds=3, patience=3, n_decoders=2).fit(images)
    assert all_weights == (1.0, 2.0, 5.0, 10.0, 20.0, 40.0)
    assert fitted.inference_beta_ in all_weights
    _, held = fitted._split(200, derive_seed(seed_from(fitted.random_state), 0))
    x = torch.from_numpy(images[held].reshape(len(held), -1)).float()
    score = fitted._validation(
        x,
        torch.ones_like(x).bool(),
        torch.ones(len(x)),
        derive_seed(seed_from(fitted.random_state), 1),
    )
    crps = [replace(score, beta=beta).of_pool(fitted.decoders_) for beta in all_weights]
    chosen = all_weights.index(fitted.inference_beta_)
    assert all(larger < smaller + 1e-6 for smaller, larger in pairwise(crps[: chosen + 1]))
    assert chosen == len(crps) - 1 or crps[chosen + 1] > crps[chosen] - 1e-6
    # draws of two decoders are scored together, and are not those of the first alone
    assert score.of_pool(fitted.decoders_[:1]) == score(fitted.decoders_[0])
    assert score.of_pool(fitted.decoders_) != score(fitted.decoders_[0])
    fitted.save(tmp_path)
    assert WideResNetVAE.load(tmp_path).inference_beta_ == fitted.inference_beta_


@pytest.mark.parametrize("shape", [(1, 1), (3, 3)])
def test_images_with_one_observed_pixel_can_be_validated(shape: tuple[int, int]) -> None:
    """Where the hidden half holds no observed pixel, the other half is hidden."""
    X = np.full((6, *shape), np.nan)
    X[:, shape[0] // 2, shape[1] // 2] = 0.5  # the centre, which no half holds
    model = tiny_image_model(random_state=0).fit(X)
    assert np.isfinite(model.history_[0][0]["valid_crps"])


@pytest.mark.parametrize("n_channels", [1, 3])
def test_gradients_have_a_limit(monkeypatch: pytest.MonkeyPatch, n_channels: int) -> None:
    limits = []

    class Watched(GuardSteps):
        def __init__(self, clip_norm: float, skip_norm: float) -> None:
            super().__init__(clip_norm, skip_norm)
            limits.append(clip_norm)

    monkeypatch.setattr("sklearn_qavi.generative._image_vae.GuardSteps", Watched)
    images = np.random.default_rng(0).random((8, n_channels, 4, 4))
    tiny_image_model(random_state=0).fit(images)
    assert limits == [16.0 * n_channels]  # a nat for each cell
    tiny_image_model(random_state=0, clip_norm=0.5).fit(images)
    assert limits[-1] == 8.0 * n_channels
