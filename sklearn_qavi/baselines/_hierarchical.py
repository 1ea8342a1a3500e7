"""Amortised rivals for hierarchical models: posterior matching, and VAEAC with all networks tuned.

Both train an encoder that reads an incomplete image and the mask, and ask it once per image. What
it says is a `HierarchicalPosterior` whose features are its own and whose weights are all one.
"""

import copy
import warnings
from abc import abstractmethod
from numbers import Integral, Real
from typing import Any, ClassVar, cast

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor, nn

from .._random import derive_seed, torch_generator
from .._sklearn_compat import Interval
from .._typing import Chosen, Decoder, HasLayers, LayerPosterior, Masks
from ..generative._data import TableData
from ..generative._hierarchical import HierarchicalNetwork, normal_kl
from ..generative._network import VAENetwork
from ..generative._training import LossOnRows, train_network
from ..inference import (
    Context,
    HierarchicalPosterior,
    InferenceMethod,
    InferenceResult,
    Posterior,
)
from ..inference._target import log_prob_observed
from ._amortised import MIN_ROWS, VALIDATION_SHARE, MaskedNet, check_masks, draw_masks

__all__ = ["HierarchicalPosteriorMatching", "HierarchicalVAEAC"]

_MAX_VALIDATION_ROWS = 128
_ROWS_AT_A_TIME = 16


class _PartialNetwork(VAENetwork):
    """A hierarchical network that reads masks, beside what it learns from.

    Parameters
    ----------
    decoder : HierarchicalNetwork
        The trained network; it is copied.
    """

    def __init__(self, decoder: HierarchicalNetwork) -> None:
        super().__init__()
        self.latent_dim, self.likelihood = decoder.latent_dim, decoder.likelihood
        self.partial = decoder.reading_masks()
        self.encoder = copy.deepcopy(decoder.encoder)
        layers: Any = decoder.decoder.dec_blocks
        self.posteriors = nn.ModuleList(copy.deepcopy(layer.enc) for layer in layers)

    def decode(self, z: Tensor) -> Tensor:
        """Return the likelihood's parameters (..., P) for codes (..., L)."""
        return self.partial.decode(z)

    def partial_features(self, x: Tensor, seen: Tensor) -> list[Tensor]:
        """Return the features of incomplete rows (n, D)."""
        return self.partial.features(torch.where(seen, x, self.partial.shift), seen)

    def walk(self, x: Tensor, seen: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Walk down with codes of the full encoder.

        Parameters
        ----------
        x : Tensor of shape (n, D)
            Complete rows.
        seen : bool Tensor of shape (n, D)
            What the partial encoder may see.
        noise : Tensor of shape (n, L)
            Standard normal.

        Returns
        -------
        params : Tensor of shape (n, P)
            The likelihood's parameters.
        kl : Tensor of shape (n,)
            Divergence of the full encoder's posterior from the partial one, over all layers.
        """
        shapes = self.partial.feature_shapes
        images = self.partial.standardized(x)
        by_resolution = self.encoder(images)
        full = [by_resolution[shape[-1]] for shape in shapes]
        partial, noises = self.partial_features(x, seen), self.partial.split_codes(noise)

        def step(layer: int, prior: tuple[Tensor, Tensor], posterior: LayerPosterior) -> Chosen:
            mean, scale = posterior(full[layer], self.posteriors[layer])
            kl = normal_kl(mean, scale, *posterior(partial[layer])).flatten(1).sum(1)
            return mean + scale * noises[layer], (kl,)

        params, extras = self.partial.descend(len(x), step)
        return params, torch.stack([kl for (kl,) in extras]).sum(0)


class _MatchedNetwork(_PartialNetwork):
    """Learns the partial encoder and its posterior networks; all else stays as it was."""

    def __init__(self, decoder: HierarchicalNetwork) -> None:
        super().__init__(decoder)
        self.requires_grad_(False)
        self.partial.encoder.requires_grad_(True)
        layers: Any = self.partial.decoder.dec_blocks
        for layer in layers:
            layer.enc.requires_grad_(True)

    def forward(
        self,
        x: Tensor,
        scored: Tensor,
        visible: Tensor,
        input_noise: Tensor,
        code_noise: Tensor,
        prepared: object,
    ) -> tuple[Tensor, Tensor]:
        """Return zeros and the divergence from the partial posterior, both (N,), in nats."""
        _, kl = self.walk(torch.where(scored, x, self.partial.shift), visible, code_noise)
        return torch.zeros_like(kl), kl


class _ConditionedNetwork(_PartialNetwork):
    """Learns both encoders, their posterior networks and the decoder."""

    def forward(
        self,
        x: Tensor,
        scored: Tensor,
        visible: Tensor,
        input_noise: Tensor,
        code_noise: Tensor,
        prepared: object,
    ) -> tuple[Tensor, Tensor]:
        """Return the log density of the hidden cells and the divergence, both (N,), in nats."""
        known = torch.where(scored, x, self.partial.shift)
        params, kl = self.walk(known, visible, code_noise)
        return log_prob_observed(self.likelihood, params, prepared, scored & ~visible), kl


class _AmortisedHierarchical(InferenceMethod):
    """A partial encoder trained under artificial masks, then asked once per image."""

    needs: ClassVar[type | None] = HasLayers

    _parameter_constraints: ClassVar[dict[str, list[object]]] = {
        "masks": [str, Interval(Real, 0, 1, closed="both"), callable, "array-like"],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "max_epochs": [Interval(Integral, 1, None, closed="left")],
        "steps_per_epoch": [None, Interval(Integral, 1, None, closed="left")],
        "patience": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self,
        *,
        masks: Masks = "generic",
        learning_rate: float = 1e-3,
        batch_size: int = 32,
        max_epochs: int = 30,
        steps_per_epoch: int | None = None,
        patience: int = 5,
    ) -> None:
        self.masks = masks
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.max_epochs = max_epochs
        self.steps_per_epoch = steps_per_epoch
        self.patience = patience

    @abstractmethod
    def _network(self, decoder: HierarchicalNetwork) -> _PartialNetwork:
        """Return the network to train."""

    def learn(self, decoder: Decoder, x: Tensor, observed: Tensor, *, seed: int) -> nn.Module:
        """Train the networks for one decoder, see `InferenceMethod`."""
        decoder = cast(HierarchicalNetwork, decoder)
        check_masks(self.masks, x.shape[1])
        if len(x) < MIN_ROWS:
            raise ValueError(
                f"{type(self).__name__} trains an encoder and needs at least {MIN_ROWS} images, "
                f"got {len(x)}. Fit on more images."
            )
        device = next(decoder.parameters()).device
        order = torch.randperm(len(x), generator=torch_generator(derive_seed(seed, 0))).to(x.device)
        n_held = min(max(1, round(VALIDATION_SHARE * len(x))), _MAX_VALIDATION_ROWS)
        held, train = order[:n_held], order[n_held:]
        hidden = draw_masks(
            self.masks, np.random.default_rng(derive_seed(seed, 2)), n_held, x.shape[1]
        )
        visible = observed[held] & ~hidden.to(x.device)
        weight = torch.ones(n_held, device=x.device)
        score = LossOnRows(x[held], observed[held], visible, weight, derive_seed(seed, 3))
        trained = train_network(
            self._network(decoder),
            TableData(x[train], observed[train]),
            score,
            average_decay=0.99,
            patience=self.patience,
            weight_decay=0.0,
            on_epoch=lambda: None,
            net_class=MaskedNet,
            masks=self.masks,
            input_noise=0.0,
            seed=seed,
            steps_per_epoch=self.steps_per_epoch
            or int(np.clip(len(train) // self.batch_size, 10, 500)),
            lr=self.learning_rate,
            batch_size=self.batch_size,
            max_epochs=self.max_epochs,
            device=device,
        )
        if not trained.settled:
            warnings.warn(
                f"{type(self).__name__} still improved after max_epochs={self.max_epochs} epochs. "
                "Increase max_epochs.",
                ConvergenceWarning,
                stacklevel=2,
            )
        network: nn.Module = trained.network.eval().requires_grad_(False)
        return network

    def infer(
        self, decoder: Decoder, state: object, x: Tensor, observed: Tensor, context: Context
    ) -> InferenceResult:
        """Return the posteriors of rows under one decoder, see `InferenceMethod`."""
        network = cast(_PartialNetwork, state).to(x.device)
        family = HierarchicalPosterior(network.partial, weights="layer")
        parts = []
        with torch.no_grad():
            # always as many rows at one time, so that a row's last bits are its own
            more = -len(x) % _ROWS_AT_A_TIME
            rows = torch.arange(len(x) + more, device=x.device).clamp(max=max(len(x) - 1, 0))
            for part in rows.split(_ROWS_AT_A_TIME):
                features = network.partial_features(x[part], observed[part])
                parts.append(family.pack(features, 1.0, 1.0))
        if context.progress is not None:
            context.progress(len(x))
        n, nothing = len(x), torch.zeros(len(x), dtype=torch.long, device=x.device)
        parameters = torch.cat(parts)[:n] if parts else x.new_zeros(0, family.n_parameters)
        return InferenceResult(
            Posterior(family, parameters),
            bound=x.new_full((n,), torch.nan),
            n_iter=nothing,
            n_evaluations=nothing + 1,
            converged=nothing == 0,
            decoder=network.partial,
        )


class HierarchicalPosteriorMatching(_AmortisedHierarchical):
    """A partial encoder of a hierarchical model, matched to the full one.

    Minimises the divergence, layer by layer, of the full encoder's posterior from that of an
    encoder which sees the incomplete image, over masks, along codes of the full one. The decoder
    stays as it is. It suits the masks that it was trained on.

    Parameters
    ----------
    masks : "generic", float, callable or array-like of bool, default="generic"
        Which cells are hidden in training, see `PosteriorMatching`.
    learning_rate : float, default=1e-3
        Step size of Adam.
    batch_size : int, default=32
        Images per training step.
    max_epochs : int, default=30
        Largest number of epochs.
    steps_per_epoch : int, default=None
        Steps per epoch; None takes as many as show each image once, between 10 and 500.
    patience : int, default=5
        Epochs without a better loss of validation images after which training stops.

    References
    ----------
    .. [1] Strauss, Oliva (2022), "Posterior matching for arbitrary conditioning", NeurIPS.

    Examples
    --------
    >>> from sklearn_qavi.baselines import HierarchicalPosteriorMatching
    >>> HierarchicalPosteriorMatching(masks=0.5)
    HierarchicalPosteriorMatching(masks=0.5)
    """

    def _network(self, decoder: HierarchicalNetwork) -> _PartialNetwork:
        return _MatchedNetwork(decoder)


class HierarchicalVAEAC(_AmortisedHierarchical):
    """VAE with arbitrary conditioning from a hierarchical model, with all networks fine-tuned.

    Climbs ``E_q(z | x)[log p(x_M | z)] - KL(q(z | x) || r(z | x_O))`` over masks. The encoder r of
    the incomplete image takes the place of the prior; it, the full encoder q and the decoder
    start from the trained model and are tuned together.

    Parameters
    ----------
    masks : "generic", float, callable or array-like of bool, default="generic"
        Which cells are hidden in training, see `PosteriorMatching`.
    learning_rate : float, default=1e-3
        Step size of Adam.
    batch_size : int, default=32
        Images per training step.
    max_epochs : int, default=30
        Largest number of epochs.
    steps_per_epoch : int, default=None
        Steps per epoch; None takes as many as show each image once, between 10 and 500.
    patience : int, default=5
        Epochs without a better loss of validation images after which training stops.

    References
    ----------
    .. [1] Ivanov, Figurnov, Vetrov (2019), "Variational autoencoder with arbitrary conditioning",
       ICLR.

    Examples
    --------
    >>> from sklearn_qavi.baselines import HierarchicalVAEAC
    >>> HierarchicalVAEAC(masks=0.5)
    HierarchicalVAEAC(masks=0.5)
    """

    def _network(self, decoder: HierarchicalNetwork) -> _PartialNetwork:
        return _ConditionedNetwork(decoder)
