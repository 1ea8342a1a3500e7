"""One loop for every family: it moves rows through a block of slots and knows nothing of VAEs.

The block has a fixed number of slots, so every matrix product has the same shape whatever the
caller's batch. A row that is done leaves its slot to the next row. What a row sees (noise, step
sizes, stopping) depends on its own step count alone, never on its neighbours.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from .._random import derive_seed, sobol_uniform, torch_generator
from .._typing import Progress, Target
from ..exceptions import InferenceDivergedError
from ._initialization import prior_start
from ._objectives import Objective, elbo
from ._result import InferenceResult
from ._schedule import SCHEDULES, Schedule
from .posteriors import Posterior, PosteriorFamily
from .posteriors._base import normal_from_uniform

__all__ = ["fit_posterior"]

_SLOT_MULTIPLE = 32  # vector kernels then meet no ragged end: sums over draws differ in bits at one
_GOLDEN = 0.6180339887498949  # multiples of it spread evenly over the unit interval
_BETA1, _BETA2, _EPSILON = 0.9, 0.99, 1e-8


def fit_posterior(
    target: Target,
    family: PosteriorFamily,
    *,
    schedule: Schedule | None = None,
    beta: float = 1.0,
    seed: int = 0,
    batch_size: int = 128,
    progress: Progress | None = None,
    objective: Objective = elbo,
) -> InferenceResult:
    """Fit one posterior a row by stochastic ascent on the bound of its observed features.

    Parameters
    ----------
    target : Target
        The rows, as log p(x_O | z) in nats.
    family : PosteriorFamily
        What is fitted.
    schedule : Schedule, default=None
        Steps, draws, learning rates; None takes the family's default.
    beta : float, default=1.0
        Weight of the divergence from the prior.
    seed : int, default=0
        Seed of the noise, which all rows share.
    batch_size : int, default=128
        Rows in work at one time, rounded up to a multiple of 32. Memory grows with it, the
        result does not depend on it.
    progress : callable, default=None
        Called with the number of rows just finished.
    objective : callable, default=elbo
        The bound that is maximised, see `Objective`.

    Returns
    -------
    result : InferenceResult
        Posteriors, bounds, iterations, convergence, in the order of the rows.

    Raises
    ------
    InferenceDivergedError
        If the bound of a row is not finite at any step it took.

    References
    ----------
    .. [1] Agarwal, Hope, Younis, Sudderth (2023), section 3.2.
    """
    if schedule is None:
        schedule = SCHEDULES["default"].with_options(**family.schedule_options)
    loop = _Loop(target, family, schedule, beta, seed, batch_size, objective)
    while loop.busy:
        loop.run_window()
        finished = loop.retire()
        if progress is not None and finished:
            progress(finished)
    return loop.result()


@dataclass
class _Slots:
    """The state of the rows in work; one line a slot."""

    rows: Tensor  # index of the row, repeated rows pad an unfilled block
    live: Tensor  # False for padding
    parameters: Tensor
    first_moment: Tensor
    second_moment: Tensor
    step: Tensor
    learning_rate: Tensor
    last_bound: Tensor


class _Loop:
    def __init__(
        self,
        target: Target,
        family: PosteriorFamily,
        schedule: Schedule,
        beta: float,
        seed: int,
        batch_size: int,
        objective: Objective,
    ) -> None:
        self.objective = objective
        self.target, self.family, self.schedule, self.beta = target, family, schedule, beta
        wanted = max(1, min(batch_size, target.n_rows))
        self.n_slots = -(-wanted // _SLOT_MULTIPLE) * _SLOT_MULTIPLE
        self.next_row = 0
        self.codes = self._normal(schedule.n_start_codes, target.latent_dim, derive_seed(seed, 0))
        self.noise = self._noise_bank(derive_seed(seed, 1))
        n, device = target.n_rows, target.device
        self.out_parameters = self.codes.new_zeros(n, family.n_parameters)
        self.out_bound = self.codes.new_zeros(n)
        self.out_steps = torch.zeros(n, dtype=torch.long, device=device)
        self.out_converged = torch.zeros(n, dtype=torch.bool, device=device)
        self.slots = self._empty_slots()
        self._refill(torch.ones(self.n_slots, dtype=torch.bool, device=device))

    @property
    def busy(self) -> bool:
        return bool(self.slots.live.any())

    def run_window(self) -> None:
        """Take ``window`` steps with every slot and note the mean bound and parameters."""
        schedule, slots = self.schedule, self.slots
        self.window_bound = torch.zeros_like(slots.learning_rate)
        self.window_mean = torch.zeros_like(slots.parameters)
        for noise in self._noise_of_rows():
            bound, gradient = self._bound_and_gradient(slots.parameters, noise)
            self.window_bound += bound / schedule.window
            self._adam_step(gradient)
            self.window_mean += slots.parameters / schedule.window
        self._check_finite()

    def retire(self) -> int:
        """Lower learning rates, store the rows that are done, refill; return how many."""
        schedule, slots = self.schedule, self.slots
        plateau = self.window_bound - slots.last_bound < schedule.tol
        lowered = plateau | schedule.decay_always
        slots.learning_rate = torch.where(
            lowered, slots.learning_rate * schedule.decay, slots.learning_rate
        )
        converged = lowered & (slots.learning_rate < schedule.min_learning_rate)
        exhausted = slots.step >= schedule.max_iter
        slots.last_bound = self.window_bound
        done = slots.live & (converged | exhausted)
        # a fixed-length schedule has no stopping rule: it converged if the last window was flat
        self._store(done, plateau if schedule.decay_always else converged)
        self._refill(done | ~slots.live)
        return int(done.sum())

    def result(self) -> InferenceResult:
        per_step = self.schedule.n_draws * self.family.evaluations_per_draw
        return InferenceResult(
            Posterior(self.family, self.out_parameters),
            self.out_bound,
            self.out_steps,
            self.out_steps * per_step,
            self.out_converged,
        )

    def _noise_of_rows(self) -> Tensor:
        """Return each slot's noise for its next window, (window, S, B or 1, n_noise)."""
        if not self.schedule.rotate:
            return self.noise[0].unsqueeze(2)
        n_windows = self.slots.step // self.schedule.window
        return self.noise[n_windows.clamp(max=len(self.noise) - 1)].permute(1, 2, 0, 3)

    def _noise_bank(self, seed: int) -> Tensor:
        """Return the base noise of every window a row may see, (windows, window, S, n_noise).

        The normal part of a window has exactly mean zero and unit covariance: a finite set of
        points otherwise biases the scales that are fitted to it. The windows are rotations of one
        another, so they keep that property while no family can adapt to the points themselves.
        """
        schedule, n_latent = self.schedule, self.target.latent_dim
        n_points = schedule.window * schedule.n_draws
        uniform = sobol_uniform(n_points, self.family.n_noise, seed)
        normal = _whiten(self.family.noise_from_uniform(uniform)[:, -n_latent:])
        n_windows = -(-schedule.max_iter // schedule.window) if schedule.rotate else 1
        bank = []
        for window in range(n_windows):
            turned = normal @ _rotation(n_latent, derive_seed(seed, window)) if window else normal
            moved = (uniform + window * _GOLDEN) % 1.0  # the rest shifts around the unit cube
            other = self.family.noise_from_uniform(moved.clamp(1e-9, 1 - 1e-9))[:, :-n_latent]
            points = torch.cat([other, turned], dim=-1)
            # a step takes every window-th point, so that mirrored points meet in it
            bank.append(points.unflatten(0, (schedule.n_draws, schedule.window)).transpose(0, 1))
        return torch.stack(bank).to(self.codes)

    def _normal(self, n: int, dim: int, seed: int) -> Tensor:
        u = sobol_uniform(n, dim, seed)
        return normal_from_uniform(u).to(self.target.device, self.target.dtype)

    def _empty_slots(self) -> _Slots:
        n, like = self.n_slots, self.out_parameters
        wide = like.new_zeros(n, self.family.n_parameters)
        return _Slots(
            rows=torch.zeros(n, dtype=torch.long, device=like.device),
            live=torch.zeros(n, dtype=torch.bool, device=like.device),
            parameters=wide,
            first_moment=wide.clone(),
            second_moment=wide.clone(),
            step=torch.zeros(n, dtype=torch.long, device=like.device),
            learning_rate=like.new_zeros(n),
            last_bound=like.new_zeros(n),
        )

    def _refill(self, free: Tensor) -> None:
        """Put the next rows into the free slots and start them."""
        slots = self.slots
        places = free.nonzero().squeeze(1)
        fresh = torch.arange(
            self.next_row,
            min(self.next_row + len(places), self.target.n_rows),
            device=places.device,
        )
        self.next_row += len(fresh)
        slots.live[places] = False
        if len(fresh) == 0:
            return
        places = places[: len(fresh)]
        slots.rows[places], slots.live[places] = fresh, True
        self.block = self.target.block(slots.rows)
        started = self.family.initialise(prior_start(self.block, self.codes))
        slots.parameters[places] = started[places]
        slots.first_moment[places] = 0.0
        slots.second_moment[places] = 0.0
        slots.step[places] = 0
        slots.learning_rate[places] = self.schedule.learning_rate
        slots.last_bound[places] = -torch.inf

    def _bound_and_gradient(self, parameters: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            parameters = parameters.detach().requires_grad_()
            bound = self.objective(self.block, self.family, parameters, noise, self.beta)
            (gradient,) = torch.autograd.grad(bound.sum(), parameters)
        return bound.detach(), gradient

    def _adam_step(self, gradient: Tensor) -> None:
        slots = self.slots
        slots.step += 1
        slots.first_moment.lerp_(gradient, 1 - _BETA1)
        slots.second_moment.lerp_(gradient.square(), 1 - _BETA2)
        step = slots.step.to(gradient.dtype).unsqueeze(1)
        size = slots.learning_rate.unsqueeze(1) / (1 - _BETA1**step)
        spread = (slots.second_moment / (1 - _BETA2**step)).sqrt_().add_(_EPSILON)
        size = size * self.family.step_scale(slots.step).to(size)
        slots.parameters += size * slots.first_moment / spread

    def _check_finite(self) -> None:
        bad = self.slots.live & ~torch.isfinite(self.window_bound)
        if bad.any():
            rows = self.slots.rows[bad][:5].tolist()
            raise InferenceDivergedError(
                f"The bound of {int(bad.sum())} row(s) is not finite, first at positions {rows}. "
                "The decoder's output overflows there: check those rows for extreme values, or "
                "lower the learning rate of the schedule."
            )

    def _store(self, done: Tensor, converged: Tensor) -> None:
        slots = self.slots
        rows = slots.rows[done]
        best = self.window_mean if self.schedule.average else slots.parameters
        self.out_parameters[rows] = best[done]
        self.out_bound[rows] = self.window_bound[done]
        self.out_steps[rows] = slots.step[done]
        self.out_converged[rows] = converged[done]


def _whiten(points: Tensor) -> Tensor:
    """Return points (n, L) moved and stretched to mean zero and unit covariance."""
    n_points, n_dims = points.shape
    centred = points - points.mean(0)
    covariance = centred.T @ centred / n_points
    if n_points <= 2 * n_dims:
        covariance = torch.diag(covariance.diag())
    if n_points == 1:
        return points
    factor = torch.linalg.cholesky(covariance)
    whitened: Tensor = torch.linalg.solve_triangular(factor, centred.T, upper=False).T
    return whitened


def _rotation(n_dims: int, seed: int) -> Tensor:
    """Return a random orthogonal matrix, (L, L)."""
    generator = torch_generator(seed)
    q, r = torch.linalg.qr(torch.randn(n_dims, n_dims, generator=generator, dtype=torch.float64))
    rotation: Tensor = q * r.diag().sign()
    return rotation
