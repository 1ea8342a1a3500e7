"""Adam in windows of steps, for any family and any objective."""

from dataclasses import dataclass

import torch
from torch import Tensor

from .._interrupts import go_on
from .._random import derive_seed
from .._typing import Block
from ._noise import mirrored_normals, noise_bank
from ._objectives import Objective
from ._optimizer import RowOptimizer, State
from ._settings import Adam
from .posteriors import PosteriorFamily, Start

__all__ = ["RowAdam"]

_BETA1, _BETA2, _EPSILON = 0.9, 0.99, 1e-8


@dataclass(kw_only=True)
class AdamState(State):
    """The state of B rows: parameters, their moments, and the row's own step size."""

    parameters: Tensor
    first_moment: Tensor
    second_moment: Tensor
    mean_parameters: Tensor
    learning_rate: Tensor


class RowAdam(RowOptimizer[AdamState]):
    """Stochastic ascent; a row's step size falls when its bound no longer rises.

    Every window of steps visits a whole set of points, so the mean bounds of two windows differ by
    what the row has gained and not by chance.

    Parameters
    ----------
    family : PosteriorFamily
        What is fitted.
    objective : callable
        The bound that is maximised.
    settings : Adam
        Steps, draws, learning rates.
    beta : float
        Weight of the divergence from the prior.
    seed : int
        Seed of the noise.
    like : Tensor
        Has the device and floating type to work in.
    """

    def __init__(
        self,
        family: PosteriorFamily,
        objective: Objective,
        settings: Adam,
        beta: float,
        seed: int,
        like: Tensor,
    ) -> None:
        self.family, self.objective, self.settings, self.beta = family, objective, settings, beta
        self.evaluations_per_step = (
            settings.draws_for(family.latent_dim) * family.evaluations_per_draw
        )
        self.seed, self.like = seed, like
        self.noise = None if family.slots else self._noise_of_windows(seed).to(like)
        self.made: dict[int, Tensor] = {}

    @property
    def steps_per_run(self) -> int:  # type: ignore[override]
        """Steps that `run` takes: a window."""
        return self.settings.window

    def start(self, start: Start) -> AdamState:
        """Return the state of rows that have taken no step."""
        parameters = self.family.initialize(start)
        one = parameters.new_zeros(len(parameters))
        return AdamState(
            parameters=parameters,
            first_moment=torch.zeros_like(parameters),
            second_moment=torch.zeros_like(parameters),
            mean_parameters=parameters.clone(),
            learning_rate=torch.full_like(one, self.settings.learning_rate),
            bound=torch.full_like(one, -torch.inf),
            step=one.long(),
            done=one.bool(),
            converged=one.bool(),
            finite=~one.bool(),
        )

    def run(self, block: Block, state: AdamState) -> None:
        """Take a window of steps and lower the step sizes of rows that gained little."""
        settings, last_bound = self.settings, state.bound.clone()
        bound = torch.zeros_like(last_bound)
        mean = torch.zeros_like(state.parameters)
        warm = self._warm(state.step)
        for noise in self._noise_of_rows(state.step):
            go_on()
            value, gradient = self._bound_and_gradient(block, state.parameters, noise, warm)
            bound += value / settings.window
            self._climb(state, gradient)
            mean += state.parameters / settings.window
        plateau = bound - last_bound < settings.tol
        if warm is not None:
            plateau = plateau & ~warm  # what is climbed then is not what is compared
        lowered = plateau | settings.decay_always
        rate = state.learning_rate
        state.learning_rate = torch.where(lowered, rate * settings.decay, rate)
        settled = lowered & (state.learning_rate < settings.min_learning_rate)
        # settings that never settle have no stopping rule: it converged if the window was flat
        state.converged = settled if settings.min_learning_rate > 0 else plateau
        state.done = settled | (state.step >= settings.max_iter)
        state.finite = torch.isfinite(bound)
        state.bound, state.mean_parameters = bound, mean

    def answer(self, state: AdamState) -> tuple[Tensor, Tensor]:
        """Return the mean parameters over the last window, or the last ones, and its bound."""
        averaged = self.settings.average
        return state.mean_parameters if averaged else state.parameters, state.bound

    def _noise_of_windows(self, seed: int) -> Tensor:
        """Return the base noise of every window a row may see, (windows, window, S, n_noise)."""
        settings, n_draws = self.settings, self.settings.draws_for(self.family.latent_dim)
        n_windows = -(-settings.max_iter // settings.window) if settings.rotate else 1
        bank = noise_bank(self.family, settings.window * n_draws, n_windows, seed)
        # a step takes every window-th point, so that mirrored points meet in it
        steps: Tensor = bank.unflatten(1, (n_draws, settings.window))
        return steps.transpose(1, 2)

    def _noise_of_rows(self, step: Tensor) -> Tensor:
        """Return each row's noise for its next window, (window, S, B or 1, n_noise)."""
        if self.noise is None:
            return self._noise_made_late(step // self.settings.window)
        if not self.settings.rotate:
            return self.noise[0].unsqueeze(2)
        window = (step // self.settings.window).clamp(max=len(self.noise) - 1)
        return self.noise[window].permute(1, 2, 0, 3)

    def _noise_made_late(self, windows: Tensor) -> Tensor:
        """Return the noise of rows in these windows (B,), (window, S, B, n_noise).

        For codes of many dimensions: a window's noise is made when a row comes to it, and forgotten
        when none is in it.
        """
        wanted = windows.cpu().tolist() if self.settings.rotate else [0] * len(windows)
        self.made = {k: self.made[k] if k in self.made else self._window(k) for k in set(wanted)}
        return torch.stack([self.made[k] for k in wanted], dim=2)

    def _window(self, number: int) -> Tensor:
        """Return the noise of one window, (window, S, n_noise)."""
        n_steps, n_draws = self.settings.window, self.settings.draws_for(self.family.latent_dim)
        seed = derive_seed(self.seed, number)
        points = mirrored_normals(n_steps * n_draws, self.family.n_noise, seed)
        return points.view(n_draws, n_steps, -1).transpose(0, 1).to(self.like)

    def _warm(self, step: Tensor) -> Tensor | None:
        """Return which rows are in their warm-up, (B,), if there is one."""
        if not self.settings.warmup:
            return None
        return step < self.settings.warmup * self.settings.max_iter

    def _bound_and_gradient(
        self, block: Block, parameters: Tensor, noise: Tensor, warm: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        more = {} if warm is None else {"warm": warm}
        size = self.family.draws_at_a_time or len(noise)
        total, gradient = parameters.new_zeros(len(parameters)), torch.zeros_like(parameters)
        with torch.enable_grad():
            for part in noise.split(size):
                at = parameters.detach().requires_grad_()
                bound = self.objective(block, self.family, at, part, self.beta, **more)
                share = len(part) / len(noise)
                gradient += share * torch.autograd.grad(bound.sum(), at)[0]
                total += share * bound.detach()
        return total, gradient

    def _climb(self, state: AdamState, gradient: Tensor) -> None:
        state.step += 1
        state.first_moment.lerp_(gradient, 1 - _BETA1)
        state.second_moment.lerp_(gradient.square(), 1 - _BETA2)
        step = state.step.to(gradient.dtype).unsqueeze(1)
        size = state.learning_rate.unsqueeze(1) / (1 - _BETA1**step)
        spread = (state.second_moment / (1 - _BETA2**step)).sqrt_().add_(_EPSILON)
        size = size * self.family.step_scale(state.step).to(size)
        state.parameters += size * state.first_moment / spread
