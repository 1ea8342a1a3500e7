"""One loop for every family: it moves rows through a block of slots and knows nothing of VAEs.

The block has a fixed number of slots, so every matrix product has the same shape whatever the
caller's batch. A row that is done leaves its slot to the next row. What a row sees (noise, step
sizes, stopping) depends on its own state alone, never on its neighbours. How a row climbs is the
business of a `RowOptimizer`. Which row is where is known on the host, in numpy; it asks the device
for numbers at one place, `_Loop._look`, as a GPU has to stop for that.
"""

import copy
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Generic, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .._interrupts import go_on
from .._plan import ROWS_MULTIPLE, bytes_per_code, plan_for
from .._random import derive_seed, sobol_uniform
from .._typing import Block, Progress, Target
from ..exceptions import InferenceDivergedError
from ._adam import RowAdam
from ._initialization import prior_start
from ._newton import NewtonState, RowNewton
from ._noise import noise_bank
from ._objectives import Objective, elbo
from ._optimizer import RowOptimizer, StateT
from ._result import InferenceResult
from ._settings import Adam, Newton, OptimizerSettings
from ._target import DecoderTarget
from .posteriors import (
    FullGaussianPosterior,
    GaussianPosterior,
    Posterior,
    PosteriorFamily,
    Start,
)
from .posteriors._base import normal_from_uniform

__all__ = ["Starter", "fit_posterior"]

Starter = Callable[[Tensor, Start], Start]
"""Turns row indices (B,) and their starts from prior codes into better starts; what it costs may be
said by its ``n_evaluations``, decoder evaluations per row. With ``reads_codes = False`` it does
without the starts from prior codes, and these are not decoded."""

_WARM_TOL = 0.05  # nats; what a start may leave to gain
_WITH_GRADIENT = 2  # times the bytes of a bound alone


def fit_posterior(
    target: Target,
    family: PosteriorFamily,
    *,
    optimizer: OptimizerSettings | None = None,
    beta: float = 1.0,
    seed: int = 0,
    batch_size: int | None = None,
    progress: Progress | None = None,
    objective: Objective = elbo,
    deadline: float | None = None,
    trace: bool = False,
    starter: Starter | None = None,
) -> InferenceResult:
    """Fit one posterior per row by ascent on the bound of its observed features.

    Parameters
    ----------
    target : Target
        The rows, as log p(x_O | z) in nats.
    family : PosteriorFamily
        What is fitted.
    optimizer : Newton or Adam, default=None
        How to optimise; None takes the family's default.
    beta : float, default=1.0
        Weight of the divergence from the prior.
    seed : int, default=0
        Seed of the noise, which all rows share.
    batch_size : int, default=None
        Rows in work at one time, rounded up to a multiple of 32. Memory grows with it, the
        result does not depend on it; on a GPU up to rounding. None takes 64 on a CPU, and as many
        as fit into the memory of a GPU, up to 8,192.
    progress : callable, default=None
        Called with the number of rows just finished.
    objective : callable, default=elbo
        The bound that is maximised, see `Objective`.
    deadline : float, default=None
        Reading of `time.monotonic` by which to be done. Steps are then rationed so that every row
        gets its share; rows that would have taken more are not converged, and results depend on
        the machine's speed.
    trace : bool, default=False
        Keep the bound after each step in the result's ``trace``. Nothing else changes, to the bit.
    starter : callable, default=None
        Improves starts: called with the indices (B,) of rows and their `Start` from prior codes,
        always as many rows at one time, it returns another `Start`. A row's must not depend on
        the other rows.

    Returns
    -------
    result : InferenceResult
        Posteriors, bounds, iterations, convergence, in the order of the rows.

    Raises
    ------
    InferenceDivergedError
        If the bound of a row is not finite.
    ValueError
        If Newton steps are asked for with another family than `GaussianPosterior` and
        `FullGaussianPosterior`, or with another objective than `elbo`.

    Warns
    -----
    ResourceWarning
        If the device ran out of memory, and half as many rows at one time are tried.

    References
    ----------
    .. [1] Agarwal, Hope, Younis, Sudderth (2023), section 3.2.
    """
    if optimizer is None:
        optimizer = family.default_optimizer(family.latent_dim)
    problem = _Problem(
        target, family, optimizer, objective, float(beta), seed, deadline, trace, starter
    )
    if batch_size is None:
        batch_size = problem.rows_in_work()
    while True:
        try:
            return _fit(problem, batch_size, progress)
        except torch.OutOfMemoryError:
            smaller = family.with_less_memory(optimizer.draws_for(family.latent_dim))
            if smaller is not None:
                family = smaller
                problem = replace(problem, family=family)
                warnings.warn(
                    "The device ran out of memory; it is tried again with less of it. Results are "
                    f"the same; batch_size={family.draws_at_a_time} saves the first attempt.",
                    ResourceWarning,
                    stacklevel=2,
                )
                continue
            if family.slots is not None or batch_size <= ROWS_MULTIPLE:
                raise
            batch_size = max(batch_size // 2, ROWS_MULTIPLE)
            warnings.warn(
                f"The device ran out of memory; {batch_size} rows at one time are tried instead. "
                f"Results are the same but for rounding; batch_size={batch_size} saves the first "
                "attempt.",
                ResourceWarning,
                stacklevel=2,
            )


@dataclass(frozen=True)
class _Problem:
    """What is to be fitted, and how; see `fit_posterior`."""

    target: Target
    family: PosteriorFamily
    settings: OptimizerSettings
    objective: Objective
    beta: float
    seed: int
    deadline: float | None
    trace: bool
    starter: Starter | None

    @property
    def like(self) -> Tensor:
        """Has the device and floating type to work in."""
        return torch.empty(0, dtype=self.target.dtype, device=self.target.device)

    def rows_in_work(self) -> int:
        """Return how many rows the device should work on at one time."""
        n_draws = self.settings.draws_for(self.family.latent_dim) * self.family.evaluations_per_draw
        if self.family.warm_start:
            n_draws = max(n_draws, Newton().draws_for(self.family.latent_dim))
        plan = plan_for(self.target.device)
        return plan.rows(lambda: _WITH_GRADIENT * n_draws * self._bytes_of_code())

    def rows_at_start(self) -> int:
        """Return for how many rows starts should be found at one time."""
        plan = plan_for(self.target.device)
        return plan.rows(lambda: self.settings.n_start_codes * self._bytes_of_code())

    def _bytes_of_code(self) -> int:
        """Return what the log likelihood of one code of one row takes on its way, in bytes."""
        if self.target.n_rows == 0:
            return 1
        block = self.target.block(torch.zeros(1, dtype=torch.long, device=self.target.device))
        latent_dim = self.target.latent_dim
        return bytes_per_code(lambda n: block(self.like.new_zeros(n, 1, latent_dim)))

    def optimizer(self) -> RowOptimizer[Any]:
        """Return what takes the steps."""
        family, settings, noise_seed = self.family, self.settings, derive_seed(self.seed, 1)
        if isinstance(settings, Adam):
            return RowAdam(family, self.objective, settings, self.beta, noise_seed, self.like)
        assert isinstance(settings, Newton)
        if isinstance(family, GaussianPosterior) and self.objective is elbo:
            return RowNewton(family, settings, self.beta, noise_seed, self.like)
        raise ValueError(
            "Newton steps are for the bound of a GaussianPosterior or FullGaussianPosterior, got "
            f"a {type(family).__name__}; pass optimizer=Adam(...)."
        )

    def start_codes(self) -> Tensor:
        """Return the prior codes (K, L) that starts are found from."""
        n, n_latent = self.settings.n_start_codes, self.target.latent_dim
        return normal_from_uniform(sobol_uniform(n, n_latent, derive_seed(self.seed, 0))).to(
            self.like
        )

    def no_codes(self) -> Tensor:
        """Return one code (1, L) in the place of prior codes that nobody reads."""
        return self.like.new_zeros(1, self.target.latent_dim)

    def of_gaussians(self) -> "_Problem":
        """Return the problem of the Gaussians that a richer family starts from."""
        family = GaussianPosterior(self.target.latent_dim)
        settings = family.default_optimizer(family.latent_dim).with_options(tol=_WARM_TOL)
        deadline = self.deadline
        if deadline is not None:  # a quarter of the time for the start
            deadline -= 0.75 * max(deadline - time.monotonic(), 0.0)
        return replace(
            self, family=family, settings=settings, objective=elbo, deadline=deadline, trace=False
        )


def _fit(problem: _Problem, batch_size: int, progress: Progress | None) -> InferenceResult:
    settings, starter, family = problem.settings, problem.starter, problem.family
    full = None
    if isinstance(family, FullGaussianPosterior) and isinstance(settings, Newton):
        full, family = family, GaussianPosterior(family.latent_dim)
        problem = replace(problem, family=family)
    warm = None
    if family.warm_start and getattr(settings, "warm_start", True):
        warm = _fit_gaussian(problem.of_gaussians(), batch_size)
    loop = _Loop(
        problem, problem.optimizer(), batch_size, starter if warm is None else warm.as_start
    )
    if problem.trace:
        n_runs = -(-settings.max_iter // loop.optimizer.steps_per_run)
        loop.out_trace = loop.codes.new_full((problem.target.n_rows, n_runs), torch.nan)
    if full is not None:
        loop.keep_covariances()
    loop.run(progress)
    result = loop.result()
    if full is not None:
        result = _with_covariances(problem, full, loop, result)
    more = getattr(starter, "n_evaluations", 0)
    if warm is not None:
        more = more + warm.result().n_evaluations
    return replace(result, n_evaluations=result.n_evaluations + more)


def _with_covariances(
    problem: _Problem,
    family: FullGaussianPosterior,
    loop: "_Loop[NewtonState]",
    result: InferenceResult,
) -> InferenceResult:
    """Give rows with diagonal Gaussians their full covariance where that raises the bound."""
    diagonal = cast(GaussianPosterior, result.posterior.family)
    mean, scale = diagonal.mean_and_scale(result.posterior.parameters)
    narrow = family.parameters_of(mean, torch.diag_embed(scale))
    if loop.out_covariance is None or loop.clock.is_late:
        return replace(result, posterior=Posterior(family, narrow))
    wide = family.with_covariance(mean, scale, loop.out_covariance)
    n_points = loop.optimizer.evaluations_per_step
    noise = noise_bank(diagonal, n_points, 1, derive_seed(problem.seed, 2)).to(problem.like)
    noise = noise.transpose(0, 1)  # points that no step has seen
    bounds = [_bounds(problem, family, either, noise, loop.n_slots) for either in (narrow, wide)]
    higher = bounds[1] > bounds[0]
    bound = torch.where(higher, result.bound + (bounds[1] - bounds[0]), result.bound)
    if result.trace is not None:  # it ends with the answer that is given
        last = (~result.trace.isnan()).sum(1) - 1
        result.trace[torch.arange(len(last), device=last.device), last] = bound
    return replace(
        result,
        posterior=Posterior(family, torch.where(higher.unsqueeze(1), wide, narrow)),
        bound=bound,
        n_evaluations=result.n_evaluations + 2 * len(noise),
    )


def _bounds(
    problem: _Problem, family: PosteriorFamily, parameters: Tensor, noise: Tensor, n_slots: int
) -> Tensor:
    """Return the bound of each row at these points in nats, (N,), always of as many rows."""
    bounds = []
    last = problem.target.n_rows - 1
    for first in range(0, last + 1, n_slots):
        go_on()
        rows = (first + torch.arange(n_slots, device=parameters.device)).clamp(max=last)
        with torch.no_grad():
            block = problem.target.block(rows)
            bounds.append(elbo(block, family, parameters[rows], noise, problem.beta))
    return torch.cat([parameters.new_zeros(0), *bounds])[: last + 1]


def _fit_gaussian(problem: _Problem, batch_size: int) -> "_Loop[NewtonState]":
    """Fit the Gaussians that a richer family starts from, keeping their covariances."""
    loop = _Loop(problem, problem.optimizer(), batch_size, problem.starter)
    loop.keep_covariances()
    loop.run(None)
    return loop


class _Loop(Generic[StateT]):
    """Rows in slots: ``number`` is the index of each slot's row, ``live`` is False for padding."""

    state: StateT
    """What the slots have come to."""

    block: Block
    """The log likelihood of the rows in the slots."""

    started: StateT
    """The start of the rows from ``started_from`` to ``started_until``."""

    def __init__(
        self,
        problem: _Problem,
        optimizer: RowOptimizer[StateT],
        batch_size: int,
        improve: Starter | None,
    ) -> None:
        target, family = self.target, self.family = problem.target, problem.family
        self.optimizer, self.improve = optimizer, improve
        self.reads_codes = getattr(improve, "reads_codes", True)
        codes = problem.start_codes() if self.reads_codes else problem.no_codes()
        self.clock = _Clock(problem.deadline, target.n_rows)
        plan = plan_for(target.device)
        self.keeps_shape, self.slot_multiple = plan.keeps_shape, ROWS_MULTIPLE
        self.steps_per_look = 1
        if optimizer.steps_per_run == 1 and problem.deadline is None and not problem.trace:
            self.steps_per_look = plan.steps_per_look
        if family.slots is not None:
            batch_size = self.slot_multiple = self.n_starts = family.slots
        else:
            self.n_starts = problem.rows_at_start()
        in_work = batch_size if self.keeps_shape else min(batch_size, target.n_rows)
        self.n_slots = n_slots = self._whole_slots(max(1, in_work))
        if self.keeps_shape:
            self.n_starts = min(self.n_starts, n_slots)
        self.codes = codes
        self.score_codes = target.score_codes(codes) if self.reads_codes else _no_scores
        n, device = target.n_rows, target.device
        self.out_parameters = codes.new_zeros(n, family.n_parameters)
        self.out_bound = codes.new_zeros(n)
        self.out_steps = torch.zeros(n, dtype=torch.long, device=device)
        self.out_converged = torch.zeros(n, dtype=torch.bool, device=device)
        self.out_covariance: Tensor | None = None
        self.out_trace: Tensor | None = None
        self.number = np.zeros(n_slots, dtype=np.int64)
        self.live = np.zeros(n_slots, dtype=bool)
        self.next_row = self.started_until = 0

    def keep_covariances(self) -> None:
        """Keep each row's whole covariance, if the optimiser knows it."""
        if self.optimizer.full:
            unit = torch.eye(self.target.latent_dim).to(self.codes)
            self.out_covariance = unit.repeat(self.target.n_rows, 1, 1)

    def run(self, progress: Progress | None) -> None:
        """Work until every row is done."""
        if self.target.n_rows == 0:
            return
        self._start_more()
        self.state = self.started.first_repeated(len(self.live))
        self._refill(~self.live)
        while self.live.any():
            go_on()
            finished = self.advance()
            if progress is not None and finished:
                progress(finished)

    def advance(self) -> int:
        """Take steps with every slot, store the rows that are done, refill; return how many."""
        n_steps, n_live = self._climb(), int(self.live.sum())
        self.clock.tick(n_steps * n_live)
        rationed = self.clock.steps_a_row(n_live, self.target.n_rows - self.next_row)
        done = self._look(rationed)
        self._record()
        if self.clock.is_late:
            return self._leave_rest()
        done &= self.live
        n_done = int(done.sum())
        if n_done:
            self._store(done)
            self._refill(done | ~self.live)
            self._shrink()
        return n_done

    def _climb(self) -> int:
        """Take steps until the next look; return how many. Rows that are done stay as they are."""
        self.optimizer.run(self.block, self.state)
        for _ in range(1, self.steps_per_look):
            before = copy.copy(self.state)
            self.optimizer.run(self.block, self.state)
            self.state.restore(before, before.done | ~before.finite)
        return self.steps_per_look * self.optimizer.steps_per_run

    def _look(self, rationed: float) -> NDArray[np.bool_]:
        """Return which slots are done, or have taken the steps that they were given.

        The only place where the device is asked for numbers while rows are in work.
        """
        done = self.state.done
        if rationed != float("inf"):
            done = done | (self.state.step >= rationed)
        finite, finished = torch.stack([self.state.finite, done]).cpu().numpy()
        self._check_finite(finite)
        flags: NDArray[np.bool_] = finished
        return flags

    def result(self) -> InferenceResult:
        evaluations = self.out_steps * self.optimizer.evaluations_per_step
        return InferenceResult(
            Posterior(self.family, self.out_parameters),
            self.out_bound,
            self.out_steps,
            evaluations,
            self.out_converged,
            trace=None if self.out_trace is None else _without_empty_end(self.out_trace),
        )

    def as_start(self, rows: Tensor, start: Start) -> Start:
        """Return a start with the Gaussians that were fitted to these rows."""
        family = cast(GaussianPosterior, self.family)
        mean, scale = family.mean_and_scale(self.out_parameters[rows])
        covariance = None if self.out_covariance is None else self.out_covariance[rows]
        return replace(start, mean=mean, scale=scale, covariance=covariance)

    def _leave_rest(self) -> int:
        """Store the rows in work as they are and the waiting ones at their start."""
        n_stored = int(self.live.sum())
        if n_stored:
            self._store(self.live)
        self.live[:] = False
        while self.next_row < self.target.n_rows:
            if self.next_row == self.started_until:
                self._start_more()
            waiting = slice(self.next_row, self.started_until)
            parameters, _ = self.optimizer.answer(self.started)
            self.out_parameters[waiting] = parameters[self.next_row - self.started_from :][
                : self.started_until - self.next_row
            ]
            self.out_bound[waiting] = torch.nan
            n_stored += self.started_until - self.next_row
            self.next_row = self.started_until
        return n_stored

    def _start_more(self) -> None:
        """Find starts for the next rows, always as many at one time."""
        last = self.target.n_rows - 1
        rows = self.next_row + torch.arange(self.n_starts, device=self.target.device)
        rows = rows.clamp(max=last)
        start = prior_start(self.score_codes(rows), self.codes)
        if self.improve is not None:
            start = self.improve(rows, start)
        self.started = self.optimizer.start(start)
        self.started_from = self.next_row
        self.started_until = min(self.next_row + self.n_starts, self.target.n_rows)

    def _refill(self, free: NDArray[np.bool_]) -> None:
        """Put the next rows into the free slots."""
        self.live &= ~free
        places = np.flatnonzero(free)
        while len(places) and self.next_row < self.target.n_rows:
            if self.next_row == self.started_until:
                self._start_more()
            n = min(len(places), self.started_until - self.next_row)
            source = slice(self.next_row - self.started_from, self.next_row - self.started_from + n)
            now, places = places[:n], places[n:]
            self.state.put(self._on_device(now), self.started, source)
            self.number[now] = np.arange(self.next_row, self.next_row + n)
            self.live[now] = True
            self.next_row += n
        self._take_block()

    def _shrink(self) -> None:
        """Give up slots that no row will come for."""
        n_slots = self._whole_slots(int(self.live.sum()))
        if self.keeps_shape or n_slots in (0, len(self.live)):
            return
        kept = np.argsort(~self.live, kind="stable")[:n_slots]
        self.number, self.live = self.number[kept], self.live[kept]
        self.state.keep(self._on_device(kept))
        self._take_block()

    def _take_block(self) -> None:
        """Take the log likelihood of the rows in the slots, if need be without empty slots."""
        rows, target = self._on_device(self.number), self.target
        if isinstance(target, DecoderTarget) and target.alone:
            places = self._on_device(np.flatnonzero(self.live))
            self.block = target.block_of_some(rows, places)
        else:
            self.block = target.block(rows)

    def _whole_slots(self, n: int) -> int:
        return -(-n // self.slot_multiple) * self.slot_multiple

    def _on_device(self, numbers: NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(numbers).to(self.target.device, copy=True)

    def _check_finite(self, finite: NDArray[np.bool_]) -> None:
        bad = self.live & ~finite
        if bad.any():
            raise InferenceDivergedError(
                f"The bound of {int(bad.sum())} row(s) is not finite, first at positions "
                f"{self.number[bad][:5].tolist()}. "
                "The decoder's output overflows there: check those rows for extreme values, or "
                "lower the learning rate of the optimizer."
            )

    def _record(self) -> None:
        """Note the bound that each row in work has come to, if a trace is kept."""
        if self.out_trace is None:
            return
        _, bound = self.optimizer.answer(self.state)
        run = self.state.step // self.optimizer.steps_per_run - 1
        slots = self._on_device(np.flatnonzero(self.live))
        self.out_trace[self._on_device(self.number[self.live]), run[slots]] = bound[slots]

    def _store(self, done: NDArray[np.bool_]) -> None:
        rows, slots = self._on_device(self.number[done]), self._on_device(np.flatnonzero(done))
        parameters, bound = self.optimizer.answer(self.state)
        self.out_parameters[rows] = parameters[slots]
        self.out_bound[rows] = bound[slots]
        self.out_steps[rows] = self.state.step[slots]
        self.out_converged[rows] = self.state.converged[slots]
        if self.out_covariance is not None:
            covariance = self.optimizer.covariance(self.state, slots)
            assert covariance is not None
            self.out_covariance[rows] = covariance


def _no_scores(rows: Tensor) -> Tensor:
    """Return flat scores (1, B) of one code, for starts that are found without."""
    return torch.zeros(1, len(rows), device=rows.device)


def _without_empty_end(trace: Tensor) -> Tensor:
    """Return a trace (N, T) without the last columns that no row reached."""
    reached = (~trace.isnan()).any(0).nonzero()
    return trace[:, : int(reached.max()) + 1 if len(reached) else 0]


class _Clock:
    """Rations steps, so that all rows get some before the deadline."""

    def __init__(self, deadline: float | None, n_rows: int) -> None:
        self.deadline = deadline
        self.started = time.monotonic()
        self.n_steps = 0

    @property
    def is_late(self) -> bool:
        """Whether the deadline has passed."""
        return self.deadline is not None and time.monotonic() >= self.deadline

    def tick(self, n_steps: int) -> None:
        """Note steps of rows that have been taken."""
        self.n_steps += n_steps

    def steps_a_row(self, n_live: int, n_waiting: int) -> float:
        """Return the steps after which a row has to leave; infinite without a deadline."""
        if self.deadline is None:
            return float("inf")
        now = time.monotonic()
        rate = self.n_steps / max(now - self.started, 1e-9)
        # a row in work is half through, on average
        return rate * (self.deadline - now) / max(0.5 * n_live + n_waiting, 1.0)
