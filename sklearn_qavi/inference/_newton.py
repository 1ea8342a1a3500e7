"""Variational Newton steps for a Gaussian posterior, with curvature read off the draws' gradients.

With draws ``z = m + s e`` and a set of points e that has mean zero and unit covariance, the
gradients ``g`` of log p(x_O | z) give the expected gradient ``E[g]`` and, by Stein's identity, the
expected Hessian ``E[g e^T] / s``: one step sees the curvature of the bound for the price of a
gradient. Both are exact where log p(x_O | z) is quadratic.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from .._plan import plan_for
from .._typing import Block
from ._noise import noise_bank
from ._optimizer import RowOptimizer, State
from ._settings import MAX_FULL_CURVATURE, Newton
from .posteriors import GaussianPosterior, Start
from .posteriors._base import padded, padded_square

__all__ = ["RowNewton"]

_MAX_SEARCH = 6  # steps on the first set of points
_SMALL_GAIN = 0.1  # nats: a step that gains less ends the search
_SLACK = 0.5  # nats that a bound may seem to fall by from one set of points to the next
_MIN_AVERAGED = 3
_CURVATURE_MEMORY = 0.5
_RAISE, _LOWER = 3.0, 0.5  # damping after a failed and a successful step
_MIN_DAMPING, _MAX_DAMPING = 1e-3, 1e3
_MIN_LOG_SCALE, _MAX_LOG_SCALE = -9.0, 1.0
_LIFTING = (3.4445, -4.7750, 2.0315)  # steep at zero, stays within 0.68 and 1.13
_SETTLING = (1.5, -0.5, 0.0)
_SIGN = (_LIFTING,) * 11 + (_SETTLING,) * 5
_ROUNDING = 1e-6  # of products in single precision, relative to the trace
_NOTHING = 1e-12  # curvature that counts as none


@dataclass(kw_only=True)
class NewtonState(State):
    """The state of B rows: where they are, what is tried next, and the average so far."""

    mean: Tensor
    log_scale: Tensor
    trial_mean: Tensor
    trial_log_scale: Tensor
    gradient: Tensor
    curvature: Tensor
    damping: Tensor
    average_mean: Tensor
    average_log_scale: Tensor
    average_bound: Tensor
    n_averaged: Tensor
    searching: Tensor


class RowNewton(RowOptimizer[NewtonState]):
    """Damped Newton steps, first on one set of points, then averaged over rotated sets.

    On the first set a step is taken if it raises the bound there; otherwise the damping rises. Once
    a step gains little, every further step meets another rotation of the points, so that the
    posterior cannot adapt to them, and the answer is the average over those steps. A row is done
    when that average has settled to ``tol`` nats.

    Parameters
    ----------
    family : GaussianPosterior
        What is fitted.
    settings : Newton
        Draws, largest number of steps, ``tol``.
    beta : float
        Weight of the divergence from the prior.
    seed : int
        Seed of the noise.
    like : Tensor
        Has the device and floating type to work in.

    References
    ----------
    .. [1] Opper, Archambeau (2009), "The variational Gaussian approximation revisited", for the
       expected gradient and Hessian as the bound's natural gradient.
    .. [2] Khan, Lin (2017), "Conjugate-computation variational inference".
    """

    def __init__(
        self, family: GaussianPosterior, settings: Newton, beta: float, seed: int, like: Tensor
    ) -> None:
        self.family, self.beta, self.tol = family, beta, settings.tol
        self.max_iter = settings.max_iter
        self.evaluations_per_step = settings.draws_for(family.latent_dim)
        n_points, n_latent = self.evaluations_per_step, family.latent_dim
        self.noise = noise_bank(family, n_points, settings.max_iter + 1, seed).to(like)
        # with fewer points the covariance of a set is not the unit matrix
        self.full = 2 * n_latent < n_points and n_latent <= MAX_FULL_CURVATURE
        # a GPU waits for the host in each decomposition, and is fast at products
        self.by_products = plan_for(like.device).steps_per_look > 1

    def start(self, start: Start) -> NewtonState:
        """Return the state of rows that have taken no step."""
        mean, log_scale = start.mean, start.scale.log()
        zero = mean.new_zeros(len(mean))
        shape = (self.family.latent_dim,) * (2 if self.full else 1)
        return NewtonState(
            mean=mean,
            log_scale=log_scale,
            trial_mean=mean.clone(),
            trial_log_scale=log_scale.clone(),
            gradient=torch.zeros_like(mean),
            curvature=mean.new_zeros(len(mean), *shape),
            bound=torch.full_like(zero, -torch.inf),
            damping=torch.ones_like(zero),
            average_mean=mean.clone(),
            average_log_scale=log_scale.clone(),
            average_bound=zero.clone(),
            n_averaged=zero.long(),
            searching=~zero.bool(),
            step=zero.long(),
            done=zero.bool(),
            converged=zero.bool(),
            finite=~zero.bool(),
        )

    def run(self, block: Block, state: NewtonState) -> None:
        """Evaluate every row's trial, accept or reject it, and propose the next one."""
        # slots without a row go on until the last row is done
        turn = torch.where(state.searching, 0, state.n_averaged + 1)
        noise = self.noise[turn.clamp(max=len(self.noise) - 1)]
        accepted, gain, diagonal = self._judge_trial(block, state, noise.transpose(0, 1))
        state.step = state.step + 1
        precision = self._propose(state, accepted, diagonal)
        settled = self._average(state, precision)
        small_gain = accepted & (gain < _SMALL_GAIN)
        state.searching = state.searching & ~(small_gain | (state.step >= _MAX_SEARCH))
        state.converged = settled
        state.done = settled | (state.step >= self.max_iter)

    def answer(self, state: NewtonState) -> tuple[Tensor, Tensor]:
        """Return the averaged parameters, or the best ones so far, and their bound."""
        averaged = state.n_averaged > 0
        whole = averaged.unsqueeze(1)
        mean = torch.where(whole, state.average_mean, state.mean)
        log_scale = torch.where(whole, state.average_log_scale, state.log_scale)
        bound = torch.where(averaged, state.average_bound, state.bound)
        return self.family.posterior(mean, log_scale.exp()).parameters, bound

    def covariance(self, state: NewtonState, lines: Tensor) -> Tensor | None:
        """Return the inverse of the expected curvature, (n, L, L): a Gaussian's best covariance."""
        if not self.full:
            return None
        n_latent = self.family.latent_dim
        values, vectors = _decomposed(torch.nan_to_num(state.curvature[lines]))
        variances = max(self.beta, 1e-6) / (self.beta + values.abs()).clamp_min(1e-3)
        covariance: Tensor = (vectors * variances.unsqueeze(1)) @ vectors.transpose(1, 2)
        return covariance[:, :n_latent, :n_latent]

    def _judge_trial(
        self, block: Block, state: NewtonState, noise: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Evaluate the bound at the trial; where it is accepted make it the current state.

        Return which trials were accepted and what they gained in nats, (B,), and the diagonal of
        the trials' own curvature, (B, L).
        """
        mean, log_scale = state.trial_mean, state.trial_log_scale
        bound, gradient, curvature = self._evaluate(block, mean, log_scale, noise)
        usable = torch.isfinite(bound) & torch.isfinite(curvature.flatten(1).sum(1))
        first = torch.isneginf(state.bound)
        slack = torch.where(state.searching, 0.0, _SLACK)
        accepted = usable & (first | (bound > state.bound - slack))
        memory = torch.where(first, 0.0, _CURVATURE_MEMORY)
        remembered = torch.lerp(curvature, state.curvature, _column(memory, curvature))
        whole = accepted.unsqueeze(1)
        state.mean = torch.where(whole, mean, state.mean)
        state.log_scale = torch.where(whole, log_scale, state.log_scale)
        state.gradient = torch.where(whole, gradient, state.gradient)
        state.curvature = torch.where(_column(accepted, remembered), remembered, state.curvature)
        gain = torch.where(first, torch.inf, bound - state.bound)
        state.bound = torch.where(accepted, bound, state.bound)
        state.finite = state.finite & (usable | ~first)
        lowered = torch.where(state.searching, state.damping * _LOWER, state.damping)
        raised = (state.damping * _RAISE).clamp_min(0.5)
        state.damping = torch.where(first, state.damping, lowered)
        state.damping = torch.where(accepted, state.damping, raised)
        state.damping = state.damping.clamp(_MIN_DAMPING, _MAX_DAMPING)
        return accepted, gain, self._diagonal_of(curvature)

    def _evaluate(
        self, block: Block, mean: Tensor, log_scale: Tensor, noise: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return bound (B,), expected gradient (B, L), and negative expected Hessian."""
        scale = log_scale.exp()
        with torch.enable_grad():
            z = (mean + scale * noise).requires_grad_()
            log_likelihood = block(z)
            (gradient,) = torch.autograd.grad(log_likelihood.sum(), z)
        kl = (0.5 * (mean.square() + scale.square() - 1.0) - log_scale).sum(-1)
        bound = log_likelihood.detach().mean(0) - self.beta * kl
        if self.full:
            wide = torch.einsum("sbi,sbj->bij", padded(gradient), padded(noise))
            n_latent = self.family.latent_dim
            hessian = wide[:, :n_latent, :n_latent] / (len(noise) * scale[:, None])
            curvature = -0.5 * (hessian + hessian.transpose(1, 2))
        else:
            curvature = -(gradient * noise).mean(0) / scale
        return bound, gradient.mean(0), curvature

    def _propose(self, state: NewtonState, accepted: Tensor, fresh_diagonal: Tensor) -> Tensor:
        """Make the damped Newton step from the current state the next trial.

        The likelihood's curvature enters with the absolute values of its eigenvalues: a direction
        in which it bends upwards is left by as long a step, not by an endless one. Return the
        diagonal of that matrix, (B, L).
        """
        rotated = ~state.searching
        state.damping = torch.where(rotated, state.damping.clamp_min(1.0), state.damping)
        damping = 1.0 + state.damping.unsqueeze(1)
        gradient = state.gradient - self.beta * state.mean
        step, diagonal = self._solve(torch.nan_to_num(state.curvature), gradient, damping)
        raw = self._diagonal_of(state.curvature)
        precision = torch.maximum(self.beta + raw, 0.1 * diagonal).clamp_min(1e-12)
        to_fixed_point = 0.5 * (max(self.beta, 1e-12) / precision).log() - state.log_scale
        # linear in the fresh curvature, so that its noise averages out over the rotated sets
        variance = (2.0 * state.log_scale).exp()
        natural = 0.5 * (1.0 - variance * (1.0 + fresh_diagonal / max(self.beta, 1e-12)))
        usable = rotated & accepted
        move = torch.where(usable.unsqueeze(1), natural, to_fixed_point) / damping
        state.trial_mean = state.mean + step
        state.trial_log_scale = (state.log_scale + move.clamp(-1.0, 1.0)).clamp(
            _MIN_LOG_SCALE, _MAX_LOG_SCALE
        )
        return diagonal

    def _solve(self, curvature: Tensor, gradient: Tensor, damping: Tensor) -> tuple[Tensor, Tensor]:
        """Return the step (B, L) and the diagonal of the matrix it was solved with."""
        floor = 1e-3  # only reached with beta = 0
        if not self.full:
            diagonal = (self.beta + curvature.abs()).clamp_min(floor)
            return gradient / (diagonal * damping), diagonal
        n_latent = gradient.shape[1]
        if self.by_products:
            return _solved_by_products(curvature, gradient, damping, self.beta, floor)
        values, vectors = _decomposed(curvature)
        vectors = vectors[:, :n_latent]
        values = (self.beta + values.abs()).clamp_min(floor)
        along = (vectors * gradient.unsqueeze(2)).sum(1) / (values * damping)
        step = (vectors * along.unsqueeze(1)).sum(2)
        return step, (vectors.square() * values.unsqueeze(1)).sum(2)

    def _average(self, state: NewtonState, precision: Tensor) -> Tensor:
        """Add the trial of rows on rotated points to their average; return which have settled."""
        rotated = ~state.searching
        count = state.n_averaged + rotated
        state.n_averaged = count
        rate = torch.where(rotated, 2.0 / (count + 1.0), 0.0)  # later steps weigh more
        mean_move = _column(rate, state.mean) * (state.trial_mean - state.average_mean)
        scale_move = _column(rate, state.mean) * (state.trial_log_scale - state.average_log_scale)
        state.average_mean = state.average_mean + mean_move
        state.average_log_scale = state.average_log_scale + scale_move
        state.average_bound = torch.lerp(state.average_bound, state.bound, rate)
        # what the move changes the bound by; the noise left in an average falls as 1 / count
        change = 0.5 * mean_move.square() * precision + self.beta * scale_move.square()
        left = 0.5 * count * change.sum(-1)
        return rotated & (count >= _MIN_AVERAGED) & (left < self.tol)

    def _diagonal_of(self, curvature: Tensor) -> Tensor:
        return torch.diagonal(curvature, dim1=1, dim2=2) if self.full else curvature


def _column(values: Tensor, like: Tensor) -> Tensor:
    """Return values (B,) with as many trailing axes of length 1 as ``like`` has."""
    return values.reshape(-1, *[1] * (like.dim() - 1))


def absolute_by_products(matrix: Tensor) -> Tensor:
    """Return symmetric matrices (B, L, L) with the absolute values of their eigenvalues.

    ``A sign(A)``, where the sign is that of a polynomial that is applied again and again: first a
    steep one, which lifts an eigenvalue of 1e-6 of the largest in eleven steps, then Newton-Schulz
    steps, which settle at one. Nothing depends on what is found on the way, so a GPU need not wait.

    References
    ----------
    .. [1] Higham (2008), "Functions of matrices: theory and computation", chapter 5.
    .. [2] Jordan et al. (2024), "Muon: an optimizer for hidden layers in neural networks", for the
       steep polynomial.
    """
    least = torch.finfo(matrix.dtype).tiny
    norm = matrix.square().sum((1, 2), keepdim=True).sqrt().clamp_min(least)
    sign = matrix / norm
    for a, b, c in _SIGN:
        square = sign @ sign
        sign = a * sign + (b * square + c * square @ square) @ sign
    product = matrix @ sign
    return 0.5 * (product + product.transpose(1, 2))


def _solved_by_products(
    curvature: Tensor, gradient: Tensor, damping: Tensor, beta: float, floor: float
) -> tuple[Tensor, Tensor]:
    """Return the step (B, L) and the diagonal (B, L), as by eigenvalues, without a wait."""
    n_latent = gradient.shape[1]
    absolute = absolute_by_products(padded(curvature, rows=True))[:, :n_latent, :n_latent]
    unit = torch.eye(n_latent, dtype=gradient.dtype, device=gradient.device)
    # rounding may leave an eigenvalue just below zero
    slack = _ROUNDING * torch.diagonal(absolute, dim1=1, dim2=2).sum(1).clamp_min(0.0)
    matrix = absolute + (max(beta, floor) + slack)[:, None, None] * unit
    root, _ = torch.linalg.cholesky_ex(matrix, check_errors=False)
    step = torch.cholesky_solve(gradient.unsqueeze(2), root).squeeze(2)
    return step / damping, torch.diagonal(matrix, dim1=1, dim2=2)


def _decomposed(curvature: Tensor) -> tuple[Tensor, Tensor]:
    """Return eigenvalues and eigenvectors of matrices (B, L, L), padded.

    Entries of next to nothing, as of latent dimensions that a decoder does not use, can keep LAPACK
    from converging in single precision; they are far below what a step can feel.
    """
    felt = torch.where(curvature.abs() < _NOTHING, 0.0, curvature)
    values, vectors = torch.linalg.eigh(padded_square(felt))
    return values, vectors
