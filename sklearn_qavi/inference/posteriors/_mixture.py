"""Mixture of diagonal Gaussians, so that several hypotheses about a row survive."""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import softplus

from ..._checks import plain
from .._settings import MAX_FULL_CURVATURE, Adam, OptimizerSettings
from ._base import (
    Draws,
    Posterior,
    PosteriorFamily,
    Start,
    inverse_softplus,
    normal_from_uniform,
)

__all__ = ["MixturePosterior"]

_LOG_2PI = 1.8378770664093453
_ESTIMATORS = ("stratified", "implicit")


class MixturePosterior(PosteriorFamily):
    """Mixture of Gaussians with diagonal covariances and free weights.

    Parameters
    ----------
    latent_dim : int
        Size L of the latent code.
    n_components : int, default=5
        Number C of components.
    gradient_estimator : {"stratified", "implicit"}, default="stratified"
        "stratified" sums over the components exactly and reparameterises inside each, so one draw
        costs C decoder evaluations and the weights get a low-variance gradient. "implicit" is the
        paper's: draws from the mixture itself, implicit reparameterisation through the chain of
        conditional distribution functions [1]_ for means and scales, an importance-weighted
        surrogate with a mean baseline [2]_ for the weights.

    References
    ----------
    .. [1] Figurnov, Mohamed, Mnih (2018), "Implicit reparameterization gradients".
    .. [2] Scibior, Masrani, Wood (2021), "Differentiable particle filtering without modifying
       the forward pass".

    Examples
    --------
    >>> import torch
    >>> from sklearn_qavi.inference import FunctionTarget, MixturePosterior, fit_posterior
    >>> def log_likelihood(z, rows):  # x = 1 observed, x ~ N(z^2, 0.1^2): z is near 1 or -1
    ...     return -0.5 * ((1.0 - z[..., 0] ** 2) / 0.1) ** 2
    >>> target = FunctionTarget(log_likelihood, n_rows=1, latent_dim=1)
    >>> result = fit_posterior(target, MixturePosterior(1, n_components=2), seed=0)
    >>> weight, mean, scale = result.posterior.family.components(result.posterior.parameters)
    >>> sorted(mean.flatten().numpy().round(1).tolist())
    [-1.0, 1.0]
    """

    codes_of_a_mean = 128

    def __init__(
        self, latent_dim: int, n_components: int = 5, gradient_estimator: str = "stratified"
    ) -> None:
        super().__init__(latent_dim)
        if gradient_estimator not in _ESTIMATORS:
            raise ValueError(
                f"gradient_estimator must be one of {_ESTIMATORS}, got {plain(gradient_estimator)}."
            )
        self.n_components = n_components
        self.gradient_estimator = gradient_estimator

    @classmethod
    def default_optimizer(cls, latent_dim: int) -> OptimizerSettings:
        """Return Adam with one draw per step: a stratified draw visits every component.

        With more than 48 latent dimensions a decaying learning rate ends at higher bounds.
        """
        if latent_dim <= MAX_FULL_CURVATURE:
            return Adam(n_draws=1, window=24, learning_rate=0.1, min_learning_rate=0.02)
        return Adam(
            max_iter=280,
            n_draws=1,
            window=40,
            learning_rate=0.5,
            min_learning_rate=0.005,
            decay=0.5,
            decay_always=True,
            n_start_codes=1024,
        )

    @classmethod
    def equally_weighted(cls, mean: Tensor, scale: Tensor) -> Posterior:
        """Return the posteriors of mixtures with means and scales (C, N, L), weighted alike."""
        n_components, n_rows, latent_dim = mean.shape
        flat = [t.transpose(0, 1).flatten(1) for t in (mean, inverse_softplus(scale))]
        logits = mean.new_zeros(n_rows, n_components)
        return Posterior(cls(latent_dim, n_components), torch.cat([logits, *flat], dim=-1))

    @property
    def n_parameters(self) -> int:
        """Number P of unconstrained parameters per row: C (1 + 2 L)."""
        return self.n_components * (1 + 2 * self.latent_dim)

    @property
    def n_noise(self) -> int:
        """Base-noise dimensions of one draw: one uniform picks the component."""
        return 1 + self.latent_dim

    @property
    def evaluations_per_draw(self) -> int:
        """Decoder evaluations that one draw of ``draw`` costs."""
        return self.n_components if self.gradient_estimator == "stratified" else 1

    def noise_from_uniform(self, u: Tensor) -> Tensor:
        """Keep the first uniform, turn the others into standard normals."""
        return torch.cat([u[..., :1], normal_from_uniform(u[..., 1:])], dim=-1)

    def components(self, parameters: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return weights (B, C), means and scales (B, C, L)."""
        log_weight, mean, scale = self._split(parameters)
        return log_weight.exp(), mean, scale

    def initialize(self, start: Start) -> Tensor:
        """Spread the components of each row over the prior codes that explain this row.

        The first component starts at the row's best code, each next one at the code that is both
        likely and far from those taken (greedy k-means++), so distinct hypotheses each get one.
        """
        n_rows, n_c = start.mean.shape[0], self.n_components
        distance = torch.cdist(start.codes, start.codes)
        # tempered, so that codes near a mode count although none of them hits it
        score = torch.log_softmax(start.log_likelihood / 4.0, dim=0).T
        taken = [score.argmax(1)]
        nearest = distance[taken[0]]
        for _ in range(n_c - 1):
            taken.append((score + 2.0 * nearest.clamp_min(1e-6).log()).argmax(1))
            nearest = nearest.minimum(distance[taken[-1]])
        mean = start.codes[torch.stack(taken, dim=1)]
        raw_scale = inverse_softplus(start.scale).unsqueeze(1).expand_as(mean)
        logits = mean.new_zeros(n_rows, n_c)
        return torch.cat([logits, mean.flatten(1), raw_scale.flatten(1)], dim=-1)

    def step_scale(self, step: Tensor) -> Tensor:
        """Hold the weights for the first steps: a component that starts off its mode needs time.

        Its weight would otherwise be gone before its mean has arrived.
        """
        moves = torch.ones(1, self.n_parameters, device=step.device)
        moves[:, : self.n_components] = 0.0
        held = 24 if self.latent_dim <= MAX_FULL_CURVATURE else 120
        return torch.where(step.unsqueeze(1) <= held, moves, 1.0)

    def rsample(self, parameters: Tensor, noise: Tensor) -> Tensor:
        """Return codes (S, B, L) from noise (S, B or 1, 1 + L).

        Gradients reach the parameters of the component that was picked, not the weights.
        """
        log_weight, mean, scale = self._split(parameters)
        n_rows = parameters.shape[0]
        cumulative = log_weight.detach().exp().cumsum(-1)
        u = noise[..., :1].expand(-1, n_rows, 1)
        picked = (u > cumulative).sum(-1).clamp(max=self.n_components - 1)
        index = picked.unsqueeze(-1).expand(-1, -1, self.latent_dim).unsqueeze(2)
        gather = [t.unsqueeze(0).expand(len(u), -1, -1, -1).gather(2, index) for t in (mean, scale)]
        return gather[0].squeeze(2) + gather[1].squeeze(2) * noise[..., 1:]

    def log_prob(self, parameters: Tensor, z: Tensor) -> Tensor:
        """Return log q(z) in nats, (S, B), for codes (S, B, L)."""
        log_weight, mean, scale = self._split(parameters)
        return torch.logsumexp(log_weight + _by_component(z, mean, scale).sum(-1), dim=-1)

    def draw(self, parameters: Tensor, noise: Tensor) -> Draws:
        """Return the draws that the bound and its gradient are estimated from."""
        if self.gradient_estimator == "implicit":
            return self._draw_implicit(parameters, noise)
        return self._draw_stratified(parameters, noise)

    def moments(self, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean (B, L) and covariance (B, L, L)."""
        weight, mean, scale = self.components(parameters)
        overall = (weight.unsqueeze(-1) * mean).sum(1)
        centred = mean - overall.unsqueeze(1)
        between = torch.einsum("bc,bci,bcj->bij", weight, centred, centred)
        within = (weight.unsqueeze(-1) * scale.square()).sum(1)
        return overall, between + torch.diag_embed(within)

    def _split(self, parameters: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        n_c, size = self.n_components, self.n_components * self.latent_dim
        logits, mean, raw_scale = parameters.split([n_c, size, size], dim=-1)
        shape = (n_c, self.latent_dim)
        return (
            torch.log_softmax(logits, dim=-1),
            mean.unflatten(-1, shape),
            softplus(raw_scale).unflatten(-1, shape),
        )

    def _draw_stratified(self, parameters: Tensor, noise: Tensor) -> Draws:
        log_weight, mean, scale = self._split(parameters)
        n_draws = noise.shape[0]
        # (S, B or 1, 1, L): every component sees the same noise
        z = mean + scale * noise[..., 1:].unsqueeze(-2)
        z = z.movedim(2, 1).flatten(0, 1)
        weight = (log_weight.exp() / n_draws).T.expand(n_draws, -1, -1).flatten(0, 1)
        return Draws(z, weight, self.log_prob(parameters.detach(), z))

    def _draw_implicit(self, parameters: Tensor, noise: Tensor) -> Draws:
        log_weight, mean, scale = self._split(parameters)
        with torch.no_grad():
            value = self.rsample(parameters, noise)
        z = _ImplicitMixture.apply(value, log_weight.detach(), mean, scale)  # type: ignore[no-untyped-call]
        n_draws = z.shape[0]
        # log q of fixed codes, with gradients to the weights alone
        log_q = torch.logsumexp(
            log_weight + _by_component(value, mean.detach(), scale.detach()).sum(-1), dim=-1
        )
        ratio = (log_q - log_q.detach()).exp()
        # normalising by the sum subtracts the mean as a baseline; n / (n - 1) undoes its bias
        centred = (ratio / ratio.sum(0) - 1.0 / n_draws) * (n_draws / max(n_draws - 1, 1))
        return Draws(z, centred + 1.0 / n_draws, self.log_prob(parameters.detach(), z))


def _by_component(z: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
    """Return log N(z_l; mean_cl, scale_cl), (S, B, C, L)."""
    standardized = (z.unsqueeze(-2) - mean) / scale
    return -0.5 * (standardized.square() + _LOG_2PI) - scale.log()


def _conditional_cdf(
    z: Tensor, log_weight: Tensor, mean: Tensor, scale: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return F(z_l | z_<l) (S, B, L), Phi and the weights given z_<l, both (S, B, C, L)."""
    log_density = _by_component(z, mean, scale)
    before = log_density.cumsum(-1) - log_density
    weight = torch.softmax(log_weight.unsqueeze(-1) + before, dim=-2)
    phi = torch.special.ndtr((z.unsqueeze(-2) - mean) / scale)
    return (weight * phi).sum(-2), phi, weight


class _ImplicitMixture(torch.autograd.Function):
    """Codes of a mixture whose gradient is -J^-1 dF/dtheta, J = dF/dz (lower triangular)."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, log_weight: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
        ctx.save_for_backward(z, log_weight, mean, scale)
        return z.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, None, Tensor, Tensor]:
        z, log_weight, mean, scale = ctx.saved_tensors
        with torch.enable_grad():
            mean, scale = mean.detach().requires_grad_(), scale.detach().requires_grad_()
            cdf, phi, weight = _conditional_cdf(z, log_weight, mean, scale)
            jacobian = _cdf_jacobian(z, cdf.detach(), phi.detach(), weight.detach(), mean, scale)
            solved = torch.linalg.solve_triangular(
                jacobian.transpose(-1, -2), grads[0].unsqueeze(-1), upper=True
            )
            to_mean, to_scale = torch.autograd.grad(cdf, (mean, scale), -solved.squeeze(-1))
        return None, None, to_mean, to_scale


def _cdf_jacobian(
    z: Tensor, cdf: Tensor, phi: Tensor, weight: Tensor, mean: Tensor, scale: Tensor
) -> Tensor:
    """Return dF(z_l | z_<l) / dz_j, (S, B, L, L), zero above the diagonal."""
    mean, scale = mean.detach(), scale.detach()
    score = -(z.unsqueeze(-2) - mean) / scale.square()
    density = _by_component(z, mean, scale).exp()
    # below the diagonal the weights given z_<l move: sum_c w_cl (Phi_cl - F_l) score_cj
    moved = weight * (phi - cdf.unsqueeze(-2))
    below = torch.einsum("sbcl,sbcj->sblj", moved, score).tril(-1)
    diagonal = (weight * density).sum(-2).clamp_min(torch.finfo(z.dtype).tiny)
    return below + torch.diag_embed(diagonal)
