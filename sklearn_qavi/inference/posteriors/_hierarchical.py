"""A posterior over the codes of all layers of a hierarchical decoder."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from ..._checks import plain
from ..._plan import LayerPlan
from ..._typing import Chosen, LayeredDecoder, LayerPosterior, MeanAndScale
from .._settings import Adam, OptimizerSettings
from ._base import Decoded, PosteriorFamily, Start

__all__ = [
    "WEIGHTS",
    "HierarchicalPosterior",
]

_LOG_2PI = 1.8378770664093453
WEIGHTS = ("position", "layer")


class HierarchicalPosterior(PosteriorFamily):
    """The encoder's posterior with features of a row's own, mixed with the prior layer by layer.

    At layer l the code given those before it is Gaussian with mean ``g' m_q + (1 - g') m_p`` and
    scale ``g s_q + (1 - g) s_p``: m_p and s_p are the prior's, m_q and s_q what the encoder's
    posterior network, which stays as it is, makes of the features lambda_l. A row's parameters are
    its features at every layer and the logits of its weights g' and g in [0, 1]. With weights of
    its own at each position q can be the prior's where the image is missing, given the layers
    before, and the encoder's around it.

    Codes are flat and in units of the prior, as the decoder takes them: ``(z - m_p) / s_p``.

    Parameters
    ----------
    decoder : LayeredDecoder
        The decoder, with its posterior networks.
    draws_at_a_time : int, default=None
        Draws whose gradients are computed together; None takes all.
    checkpointing : bool, default=False
        Compute each layer's activations again for the gradient instead of keeping them.
    weights : {"position", "layer"}, default="position"
        Whether g' and g belong to each position of a layer or, as in [1]_, to a whole layer.

    References
    ----------
    .. [1] Agarwal, Hope, Younis, Sudderth (2023), "A Decoder Suffices for Query-Adaptive
       Variational Inference", equations 9 and 10.
    """

    @classmethod
    def default_optimizer(cls, latent_dim: int) -> OptimizerSettings:
        """Return how this family is fitted."""
        return Adam(
            max_iter=160,
            n_draws=4,
            window=8,
            learning_rate=0.1,
            min_learning_rate=0.01,
            n_start_codes=1,
        )

    @classmethod
    def paper_optimizer(cls) -> OptimizerSettings:
        """Return how the paper fits this family; its learning rate is in its supplement."""
        return Adam.paper(
            max_iter=1000,
            n_draws=28,
            window=20,
            learning_rate=0.1,
            decay=1.0,
            average=True,
            n_start_codes=1,
            warmup=0.5,
        )

    def __init__(
        self,
        decoder: LayeredDecoder,
        draws_at_a_time: int | None = None,
        *,
        checkpointing: bool = False,
        weights: str = "position",
    ) -> None:
        if weights not in WEIGHTS:
            raise ValueError(f"weights must be one of {WEIGHTS}, got {plain(weights)}.")
        super().__init__(decoder.latent_dim)
        self.decoder, self.checkpointing, self.weights = decoder, checkpointing, weights
        self.draws_at_a_time = draws_at_a_time
        plan = LayerPlan(decoder)
        self.images_at_a_time, self.slots = plan.images, plan.rows_in_work

    @property
    def n_layers(self) -> int:
        """Number of stochastic layers."""
        return len(self.decoder.layer_sizes)

    @property
    def feature_sizes(self) -> list[int]:
        """Number of features of each layer."""
        return [torch.Size(shape).numel() for shape in self.decoder.feature_shapes]

    @property
    def n_parameters(self) -> int:
        """Number P of parameters per row: features, then weights of means and of scales."""
        return sum(self.feature_sizes) + 2 * sum(self.weight_sizes)

    @property
    def weight_sizes(self) -> list[int]:
        """Number of weights g', and as many g, of each layer."""
        return [side**2 for side in self._weight_sides]

    @property
    def _weight_sides(self) -> list[int]:
        if self.weights == "layer":
            return [1] * self.n_layers
        return [shape[-1] for shape in self.decoder.feature_shapes]

    @property
    def layer_weights(self) -> Tensor:
        """What each layer's divergence is weighted with in the warm-up: 1 / d_l, (n_layers,).

        d_l is the size of the layer's code as a multiple of the smallest one.
        """
        sizes = torch.tensor(self.decoder.layer_sizes, dtype=torch.float64)
        return sizes.min() / sizes

    def with_less_memory(self, n_draws: int) -> "HierarchicalPosterior | None":
        """Return the family that keeps fewer activations, then the one with fewer draws at once."""
        size = min(self.draws_at_a_time or n_draws, n_draws)
        if self.checkpointing:
            size //= 2
        if not size:
            return None
        return HierarchicalPosterior(self.decoder, size, checkpointing=True, weights=self.weights)

    def pack(
        self,
        features: list[Tensor],
        mean_weight: float | list[Tensor],
        scale_weight: float | list[Tensor],
    ) -> Tensor:
        """Return the parameters (B, P) of features (B, W, R, R) by layer and weights in [0, 1].

        Weights are one number, or by layer tensors that broadcast to (B, 1, R, R), or to
        (B, 1, 1, 1) with ``weights="layer"``.
        """
        parts = list(features)
        for weight in (mean_weight, scale_weight):
            for layer, side in enumerate(self._weight_sides):
                given = weight[layer] if isinstance(weight, list) else torch.tensor(weight)
                logit = torch.logit(given.to(features[0]))
                parts.append(logit.expand(len(features[0]), 1, side, side))
        return torch.cat([part.flatten(1) for part in parts], dim=1)

    def unpack(self, parameters: Tensor) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """Return by layer features (B, W, R, R) and weights g' and g (B, 1, R or 1, R or 1)."""
        n, sizes = self.n_layers, [*self.feature_sizes, *self.weight_sizes, *self.weight_sizes]
        parts = parameters.split(sizes, dim=1)
        shapes = self.decoder.feature_shapes
        features = [f.unflatten(1, shape) for f, shape in zip(parts[:n], shapes, strict=True)]
        sides = 2 * self._weight_sides
        weights = [
            torch.sigmoid(logit).unflatten(1, (1, side, side))
            for logit, side in zip(parts[n:], sides, strict=True)
        ]
        return features, weights[:n], weights[n:]

    def initialize(self, start: Start) -> Tensor:
        """Return the parameters that the start brings, which has seen the rows' images."""
        if start.parameters is None:
            raise ValueError(
                "A hierarchical posterior starts from the encoder's features of filled images: fit "
                "it with a starter that gives parameters, as Hierarchical does."
            )
        return start.parameters

    def rsample(self, parameters: Tensor, noise: Tensor) -> Tensor:
        """Return equally likely codes (S, B, L) from noise (S, B or 1, L)."""
        _, codes, _ = self.descend(parameters, noise)
        return codes

    def observation(
        self, parameters: Tensor, noise: Tensor, decode: Callable[[Tensor], Tensor]
    ) -> Tensor:
        """Return the likelihood's parameters (S, B, P) of draws, by one walk down the layers."""
        return self.descend(parameters, noise)[0]

    def decoded(
        self, parameters: Tensor, noise: Tensor, decode: Callable[[Tensor], Tensor]
    ) -> Decoded:
        """Return codes from noise (S, B or 1, L), decoded and weighed by one walk."""

        def choose(mixed: MeanAndScale, prior: MeanAndScale, noise: Tensor) -> Chosen:
            (mean, scale), (prior_mean, prior_scale) = mixed, prior
            ratio = scale / prior_scale
            code = (mean - prior_mean) / prior_scale + ratio * noise
            cell = 0.5 * (noise.square() - code.square()) + ratio.log()
            return mean + scale * noise, (cell.flatten(1).sum(1, keepdim=True),)

        params, by_layer = self._walk(parameters, noise, choose)
        return Decoded(params, by_layer.sum(-1))

    def descend(self, parameters: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Draw codes and decode them.

        Parameters
        ----------
        parameters : Tensor of shape (B, P)
            One flat vector per row.
        noise : Tensor of shape (S, B or 1, L)
            Standard normal.

        Returns
        -------
        params : Tensor of shape (S, B, P')
            The likelihood's parameters.
        codes : Tensor of shape (S, B, L)
            In units of the prior.
        kl : Tensor of shape (S, B, n_layers)
            Divergence of each layer's posterior from its prior given the layers before, in nats.
        """

        def choose(mixed: MeanAndScale, prior: MeanAndScale, noise: Tensor) -> Chosen:
            (mean, scale), (prior_mean, prior_scale) = mixed, prior
            shift, ratio = (mean - prior_mean) / prior_scale, scale / prior_scale
            kl = 0.5 * (ratio.square() + shift.square() - 1.0) - ratio.log()
            code = shift + ratio * noise
            return mean + scale * noise, (code.flatten(1), kl.flatten(1).sum(1, keepdim=True))

        params, codes, kl = self._walk(parameters, noise, choose)
        return params, codes, kl

    def log_prob(self, parameters: Tensor, z: Tensor) -> Tensor:
        """Return log q of codes (S, B, L) in units of the prior, (S, B), in nats."""

        def choose(mixed: MeanAndScale, prior: MeanAndScale, code: Tensor) -> Chosen:
            (mean, scale), (prior_mean, prior_scale) = mixed, prior
            value = prior_mean + prior_scale * code
            distance = ((value - mean) / scale).square()
            cell = -0.5 * (distance + _LOG_2PI) - (scale / prior_scale).log()
            return value, (cell.flatten(1).sum(1, keepdim=True),)

        _, by_layer = self._walk(parameters, z, choose)
        return by_layer.sum(-1)

    def _walk(
        self, parameters: Tensor, numbers: Tensor, choose: Callable[..., Chosen]
    ) -> tuple[Tensor, ...]:
        """Walk down the layers with every draw of every row.

        ``choose(mixed, prior, numbers)`` picks a layer's code given the numbers (n, C, R, R) that
        ``numbers`` (S, B or 1, L) have for it. Returned are the likelihood's parameters and what
        ``choose`` hands on, of all layers side by side, each (S, B, ...).
        """
        n_draws, n_rows = len(numbers), len(parameters)
        flat = numbers.expand(-1, n_rows, -1).flatten(0, 1)
        features, *weights = self.unpack(parameters)

        def run(of_images: Callable[[Tensor], Tensor], numbers: Tensor) -> tuple[Tensor, ...]:
            parts = self.decoder.split_codes(numbers)

            def step(layer: int, prior: MeanAndScale, posterior: LayerPosterior) -> Chosen:
                learned = posterior(of_images(features[layer]))
                mean, scale = (
                    torch.lerp(p, q, of_images(w[layer]))
                    for p, q, w in zip(prior, learned, weights, strict=True)
                )
                return choose((mean, scale), prior, parts[layer])

            n = len(numbers)
            params, extras = self.decoder.descend(n, step, checkpointing=self.checkpointing)
            return params, *(torch.cat(by_layer, 1) for by_layer in zip(*extras, strict=True))

        differentiable = parameters.requires_grad or numbers.requires_grad
        if (torch.is_grad_enabled() and differentiable) or not len(flat):
            out = run(lambda t: t.expand(n_draws, *t.shape).flatten(0, 1), flat)
        else:
            # bounded memory, and always as many at one time: last bits may depend on it
            size = LayerPlan(self.decoder).images
            images = torch.arange(len(flat), device=flat.device)
            images = torch.cat([images, images.new_zeros(-len(flat) % size)])
            done = [run(partial(_of_rows, i % n_rows), flat[i]) for i in images.split(size)]
            out = tuple(torch.cat(parts)[: len(flat)] for parts in zip(*done, strict=True))
        return tuple(t.unflatten(0, (n_draws, n_rows)) for t in out)


def _of_rows(rows: Tensor, t: Tensor) -> Tensor:
    """Return what some rows have."""
    return t[rows]
