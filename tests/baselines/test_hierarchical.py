"""Rivals of hierarchical models: what is learned and what is not, and exact answers."""

import copy
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from _factories import digits, tiny_image_model, training
from sklearn_qavi import QAVIInpainter
from sklearn_qavi._random import torch_generator
from sklearn_qavi.baselines import HierarchicalPosteriorMatching, HierarchicalVAEAC
from sklearn_qavi.baselines._hierarchical import (
    _ConditionedNetwork,
    _MatchedNetwork,
)
from sklearn_qavi.generative import HierarchicalVAE
from sklearn_qavi.generative._training import LossOnRows

IMAGES = digits()
RIVALS = (HierarchicalPosteriorMatching, HierarchicalVAEAC)


@pytest.fixture
def model(layered_digits: HierarchicalVAE) -> HierarchicalVAE:
    return layered_digits


def learned(rival: Any, model: HierarchicalVAE, n: int = 120) -> Any:
    x = torch.from_numpy(IMAGES[:n].reshape(n, -1)).float()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return rival.learn(model.decoders_[0], x, torch.ones_like(x).bool(), seed=0)


def noise(n: int, model: HierarchicalVAE) -> Tensor:
    return torch.randn(n, model.decoders_[0].latent_dim, generator=torch_generator(1))


@pytest.mark.parametrize("rival", RIVALS)
def test_before_training_a_complete_image_gets_the_encoders_posterior(
    rival: Any, model: HierarchicalVAE
) -> None:
    decoder = model.decoders_[0]
    network = rival()._network(decoder)
    x = torch.from_numpy(IMAGES[:4].reshape(4, -1)).float()
    seen = torch.ones_like(x).bool()
    with torch.no_grad():
        params, kl = network.walk(x, seen, noise(4, model))
        expected, _ = decoder.encoder_posterior(x, noise(4, model))
    torch.testing.assert_close(params, expected)
    torch.testing.assert_close(kl, torch.zeros(4), atol=1e-4, rtol=0)


def test_matching_leaves_the_decoder_alone_and_conditioning_does_not(
    model: HierarchicalVAE,
) -> None:
    decoder = model.decoders_[0]
    before = copy.deepcopy(decoder.state_dict())
    options = {"masks": 0.5, **training(rounds=1, steps=3)}
    matched = learned(HierarchicalPosteriorMatching(**options), model)
    conditioned = learned(HierarchicalVAEAC(**options), model)
    codes = noise(3, model)
    assert torch.equal(matched.partial.decode(codes), decoder.decode(codes))
    assert not torch.allclose(conditioned.partial.decode(codes), decoder.decode(codes))
    for name, value in decoder.state_dict().items():
        assert torch.equal(value, before[name])


@pytest.mark.parametrize(
    ("network_class", "with_fit"), [(_MatchedNetwork, False), (_ConditionedNetwork, True)]
)
def test_losses_are_those_of_the_papers(
    network_class: Any, with_fit: bool, model: HierarchicalVAE
) -> None:
    network = network_class(model.decoders_[0]).eval()
    x = torch.from_numpy(IMAGES[:3].reshape(3, -1)).float()
    everything = torch.ones_like(x).bool()
    seen = torch.rand(x.shape, generator=torch_generator(2)) < 0.5
    prepared = network.likelihood.prepare(x)
    with torch.no_grad():
        fit, kl = network(x, everything, seen, torch.zeros_like(x), noise(3, model), prepared)
        params, divergence = network.walk(x, seen, noise(3, model))
        by_cell = network.likelihood.log_prob(params, prepared)
    torch.testing.assert_close(kl, divergence)
    assert (kl > 0.1).all()  # the partial encoder sees half of it
    expected = torch.where(seen, 0.0, by_cell).sum(-1) if with_fit else torch.zeros(3)
    torch.testing.assert_close(fit, expected)


@pytest.mark.parametrize("rival", RIVALS)
def test_training_lowers_the_loss_of_other_images(rival: Any, model: HierarchicalVAE) -> None:
    lower = np.zeros((1, 64), dtype=bool)
    lower[:, 32:] = True
    x = torch.from_numpy(IMAGES[400:464].reshape(64, -1)).float()
    everything = torch.ones_like(x).bool()
    hidden = torch.from_numpy(lower).expand(64, -1)
    loss = LossOnRows(x, everything, everything & ~hidden, torch.ones(64), seed=0)
    method = rival(masks=lower, **training(rounds=2, steps=25), learning_rate=3e-3)
    before = loss(method._network(model.decoders_[0]).eval())
    after = loss(learned(method, model, n=250))
    assert after < before - 1.0


def test_a_row_does_not_depend_on_the_others(model: HierarchicalVAE) -> None:
    rival = HierarchicalPosteriorMatching(**training(rounds=1, steps=2))
    incomplete = np.where(np.arange(64).reshape(8, 8) < 20, np.nan, IMAGES[:20])
    inpainter = QAVIInpainter(generative_model=model, posterior=rival, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        inpainter.fit(IMAGES[:40])
    np.testing.assert_array_equal(
        inpainter.transform(incomplete)[7:9], inpainter.transform(incomplete[7:9])
    )


def test_bad_input(model: HierarchicalVAE) -> None:
    with pytest.raises(ValueError, match="needs at least 5 images, got 3"):
        learned(HierarchicalPosteriorMatching(), model, n=3)
    with pytest.raises(ValueError, match="from 0 to 1"):
        learned(HierarchicalVAEAC(masks=1.5), model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        flat = tiny_image_model(random_state=0).fit(IMAGES[:30])
    with pytest.raises(ValueError, match="needs a hierarchical model"):
        QAVIInpainter(generative_model=flat, posterior=HierarchicalVAEAC(), random_state=0).fit(
            IMAGES[:30]
        )
    with pytest.raises(ValueError, match="codes at many layers"):
        QAVIInpainter(generative_model=model, posterior="fill_zeros", random_state=0).fit(
            IMAGES[:30]
        )
