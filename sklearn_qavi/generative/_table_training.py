"""How the decoders of a table come about: candidates, their race, and the pool that is kept."""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .._device import one_torch_thread, resolve_device
from .._progress import StepBar
from .._random import derive_seed, torch_generator
from ..inference import GaussianPosterior, Newton, Posterior
from ..inference.posteriors import Start
from ..sampling._averages import means
from ._calibration import learn_factors, learn_pulls
from ._data import TableData, as_tensors
from ._ensemble import LastSteps, Recipe, TrainedMember, follow, race
from ._likelihoods import ColumnLikelihoods
from ._linear_start import copy_linear_start, start_linear
from ._network import TabularNetwork
from ._training import HiddenCells, crps_of_draws, draws_of_hidden_cells

__all__ = ["Candidate", "TableTrainer", "atoms_of"]

Array = NDArray[np.float64]

_CLOSE = 1.03  # ratio of validation scores under which a random start is no clear gain
_NEAR = 1.1  # ratio under which a decoder may join the pool
_ENOUGH_ROWS = 128  # that validation has at least, if need be with several masks each
_ENOUGH_CELLS = 2048  # hidden ones; many columns need no more masks
_ROWS_OF_LOOK = 256  # that are scored while training goes on, at most
# a few Newton steps rank decoders as converged posteriors do, fewer from those of the look before
_FIRST_LOOK = Newton(max_iter=4, n_start_codes=128)
_LATER_LOOK = Newton(max_iter=2, n_start_codes=1)
_LEAST_GAIN, _GAIN_OF_A_ROW = 0.015, 0.1  # shares; few rows cannot tell small gains from chance
_LAST_LOOK = Newton(max_iter=8, n_start_codes=256)
_LAST_LOOK_OF_KNOWN = Newton(max_iter=4, n_start_codes=1)
_DRAWS_OF_LOOK = 32
_DRAWS_OF_POOL = 64
_LEAST_STEPS = 200  # of bootstrapped decoders: the best of few looks is often too early
_LAST_STEPS, _LAST_STEP_SIZE = 30, 0.1  # the latter a share of the largest step size
_WORTH_LEARNING = 0.05  # share of the rows that validation has, from which they are learned last


@dataclass(frozen=True)
class Candidate:
    """One choice of observation models and start.

    Parameters
    ----------
    families : list of str
        The family of each column.
    smoothing : float
        Spread of the targets of histograms, in bins.
    anneals : bool
        Whether it falls to nothing in training.
    linear : bool
        Whether training starts from a factor analyser.
    """

    families: list[str]
    smoothing: float
    anneals: bool
    linear: bool


class TableModel(Protocol):
    """What training asks of a `TabularVAE`: parameters, the split of the rows, and networks."""

    n_decoders: int
    bootstrap: bool
    learning_rate: float
    batch_size: int
    max_steps: int
    input_noise: float
    mask_rate: float
    beta: float
    calibrate: bool
    refit: bool
    device: str
    verbose: int
    n_categories_: list[int | None]

    def _split(self, n_rows: int, seed: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]: ...

    def _network(
        self, likelihood: ColumnLikelihoods, generator: torch.Generator | None
    ) -> TabularNetwork: ...


class TableTrainer:
    """Trains the decoders of one model.

    All are trained on the same rows and validated on the same cells, or with ``bootstrap`` each
    on its own.

    Parameters
    ----------
    model : TabularVAE
        Parameters, and what it learned of the columns.
    values : ndarray of shape (N, D)
        Standardized rows, NaN where missing.
    weight : ndarray of shape (N,)
        How much each row counts.
    seed : int
        Of all that is drawn.
    """

    def __init__(
        self,
        model: TableModel,
        values: NDArray[np.float64],
        weight: NDArray[np.float64],
        seed: int,
    ) -> None:
        self.model, self.values, self.seed = model, values, seed
        self.device = resolve_device(model.device)
        self.data = TableData(*as_tensors(values), torch.from_numpy(weight).to(torch.float32))
        self.linear: dict[tuple[int, tuple[str, ...]], TabularNetwork] = {}
        self.validated: list[TabularNetwork] = []
        self.posteriors: dict[TrainedMember, Posterior] = {}
        self.n_made = 0
        ones = np.ones((2, values.shape[1]))
        self.spread: tuple[Array, Array, Array] = ones, ones, np.zeros(values.shape[1])
        self.recipe = Recipe(
            learning_rate=model.learning_rate,
            batch_size=model.batch_size,
            max_steps=model.max_steps,
            input_noise=model.input_noise,
            mask_rate=model.mask_rate,
            beta=model.beta,
        )

    def run_all(self, candidates: list[Candidate]) -> list[TrainedMember]:
        """Train all candidates side by side, and choose those whose pooled draws score best.

        With ``bootstrap`` one is chosen, and trained again on other samples for as many steps as
        served it best, 200 at least.
        """
        n_decoders, bootstrap = self.model.n_decoders, self.model.bootstrap
        silent = not self.model.verbose
        n_copies = 1 if bootstrap else -(-n_decoders // len(candidates))
        with (
            # products this small take longer on two threads, and far longer on a busy machine
            one_torch_thread(self.device.type == "cpu"),
            StepBar(silent=silent) as self.progress,
        ):
            runs = [(c, self.member(c, 0)) for c in candidates for _ in range(n_copies)]
            self.train([member for _, member in runs], 1 if bootstrap else n_decoders)
            best = self._best(runs)
            if not bootstrap:
                pool = self._pool(best[1], [member for _, member in runs])
                self.validated = [copy.deepcopy(member.network) for member in pool]
                self._refit(pool)
                return pool
            self.validated = [best[1].network]
            more = [self.member(best[0], 1 + i) for i in range(n_decoders - 1)]
            if more:
                wanted = max(best[1].best_step, _LEAST_STEPS)
                n_steps = min(wanted, self.recipe.max_steps)
                self.follow(more, replace(self.recipe, max_steps=n_steps))
        return [best[1], *more]

    def _pool(self, best: TrainedMember, members: list[TrainedMember]) -> list[TrainedMember]:
        """Return the best member, and one by one those with which pooled draws score best."""
        wanted = min(self.model.n_decoders, len(members))
        close = sorted(members, key=lambda member: member.score)
        close = [best] + [m for m in close if m is not best]
        close = [m for i, m in enumerate(close) if i < wanted or m.score < _NEAR * best.score]
        cells = self.cells
        known = {m: self._draws_for_pool(m) for m in close}
        draws = {m: of_member[0] for m, of_member in known.items()}
        pool = [best]
        while len(pool) < wanted:
            others = [m for m in close if m not in pool]
            scores = [
                self._crps(torch.cat([draws[m] for m in [*pool, other]]), cells, best.network)
                for other in others
            ]
            pool.append(others[int(np.argmin(scores))])
        if self.model.calibrate and not np.isin(best.validation, best.rows).any():
            self.spread = self._learn_spread({m: known[m] for m in pool})
        return pool

    def _learn_spread(
        self, pool: dict[TrainedMember, tuple[Tensor, Posterior]]
    ) -> tuple[Array, Array, Array]:
        """Return factors and deviations (2, D) and pulls (D,) of the pool's draws, see `Spread`."""
        cells, members = self.cells, list(pool)
        n_masks = len(cells.x) // len(members[0].validation)
        is_number = torch.tensor([n is None for n in self.model.n_categories_])
        weight = cells.hidden * cells.weight.unsqueeze(1) * is_number.to(cells.weight.device)
        pooled = torch.cat([draws for draws, _ in pool.values()])
        drawn, truth, weights = (t.cpu().double().numpy() for t in (pooled, cells.x, weight))
        of_members = [means(m.network, posterior, None, None) for m, (_, posterior) in pool.items()]
        atoms = atoms_of([member.network for member in members])
        factor, deviation = learn_factors(drawn, truth, weights, atoms, n_masks)
        mean, median = np.mean(of_members, axis=0), np.median(drawn, axis=0)
        pull = learn_pulls(mean, median, truth, weights, n_masks)
        return factor, deviation, pull

    def _draws_for_pool(self, member: TrainedMember) -> tuple[Tensor, Posterior]:
        """Return draws (S, N, D) of all validation cells, and the posteriors behind them.

        Posteriors of cells that were looked at start from those of the last look.
        """
        last, cells = self.posteriors.get(member), self.cells
        known = last is not None and len(cells.x) <= _ROWS_OF_LOOK
        return draws_of_hidden_cells(
            member.network,
            cells,
            _LAST_LOOK_OF_KNOWN if known else _LAST_LOOK,
            n_draws=_DRAWS_OF_POOL,
            starter=_FromLast(last) if known and last is not None else None,
            covariance="auto",  # as rows will be inferred
        )

    def _best(self, runs: list[tuple[Candidate, TrainedMember]]) -> tuple[Candidate, TrainedMember]:
        """Return the run with the best score; one that starts at random needs a clear gain."""
        by_start = {
            linear: min(
                (run for run in runs if run[0].linear is linear),
                key=lambda run: run[1].score,
                default=None,
            )
            for linear in (True, False)
        }
        known, random = by_start[True], by_start[False]
        if known is None or random is None:
            return known or random  # type: ignore[return-value]
        # a start that knows linear relations is left for a clear gain only
        return random if _CLOSE * random[1].score < known[1].score else known

    def train(self, members: list[TrainedMember], n_wanted: int) -> None:
        """Train members side by side, the best ones to their end."""
        self._watch(members[0].validation)
        race(
            members,
            self.data,
            self._score,
            self.recipe,
            seed=derive_seed(self.seed, 3, self.n_made),
            n_wanted=n_wanted,
            on_look=self.progress.reach,
            device=self.device,
        )
        self.progress.settle()
        for member in members:
            member.network.eval().requires_grad_(False)

    def follow(self, members: list[TrainedMember], recipe: Recipe) -> None:
        """Train members side by side to the last step of a recipe."""
        follow(
            members,
            self.data,
            recipe,
            seed=derive_seed(self.seed, 3, self.n_made),
            on_look=self.progress.reach,
            device=self.device,
        )
        self.progress.settle()
        for member in members:
            member.network.eval().requires_grad_(False)

    def _refit(self, pool: list[TrainedMember]) -> None:
        """Take a few last steps on all rows, if those of validation are enough to learn from."""
        n_rows, validation = len(self.values), pool[0].validation
        seen = np.isin(validation, pool[0].rows).any()
        if not self.model.refit or seen or len(validation) < _WORTH_LEARNING * n_rows:
            return
        recipe = LastSteps(
            learning_rate=_LAST_STEP_SIZE * self.recipe.learning_rate,
            max_steps=min(_LAST_STEPS, self.recipe.max_steps),
            batch_size=self.recipe.batch_size,
            input_noise=self.recipe.input_noise,
            mask_rate=self.recipe.mask_rate,
            beta=self.recipe.beta,
        )
        last = []
        for member in pool:
            member.network.train().requires_grad_(True)
            spread = self.recipe.remaining(member.best_step) if member.anneals else 1.0
            smoothing = spread * member.smoothing
            rows = torch.arange(n_rows)
            last.append(TrainedMember(member.network, rows, smoothing, has_start=True))
        self.follow(last, recipe)

    def member(self, candidate: Candidate, sample: int) -> TrainedMember:
        """Return a new network for a candidate, that learns from a split or bootstrap sample."""
        seed = derive_seed(self.seed, 2, self.n_made)
        self.n_made += 1
        options = {"histogram": {"smoothing": candidate.smoothing}}
        likelihood = ColumnLikelihoods(candidate.families, options, self.model.n_categories_)
        likelihood.fit_columns(self.values)  # a rare column may have no value in the rows
        network = self.model._network(likelihood, torch_generator(seed))
        train, validation = self.model._split(len(self.values), derive_seed(self.seed, 0, sample))
        if candidate.linear:
            self._start(network, train, sample)
        return TrainedMember(
            network,
            torch.from_numpy(train),
            candidate.smoothing,
            candidate.anneals,
            has_start=candidate.linear,
            clear_gain=1.0 - max(_LEAST_GAIN, _GAIN_OF_A_ROW / len(validation) ** 0.5),
            validation=validation,
        )

    def _watch(self, validation: NDArray[np.intp]) -> None:
        """Hide cells of the validation rows, by which networks will be scored."""
        scored = np.tile(validation, self._n_masks(len(validation)))
        parts = (self.data.x[scored], self.data.observed[scored])
        generator = torch_generator(derive_seed(self.seed, 1, 0))
        cells = HiddenCells.at_random(*parts, generator, self.data.weight[scored])
        self.cells = cells.to(self.device)

    def _n_masks(self, n_rows: int) -> int:
        """Return with how many masks each of so many validation rows is scored."""
        n_columns: int = self.values.shape[1]
        by_cells = math.ceil(2 * _ENOUGH_CELLS / (n_rows * n_columns))  # half of them are hidden
        return max(1, min(round(_ENOUGH_ROWS / n_rows), by_cells))

    def _start(self, network: TabularNetwork, rows: NDArray[np.intp], sample: int) -> None:
        """Set a network to the linear model of its rows, which may have been found before."""
        key = sample, tuple(network.likelihood.families)
        if key in self.linear:
            copy_linear_start(self.linear[key], network)
            return
        data = self.data
        generator = np.random.default_rng(derive_seed(self.seed, 4, sample))
        start_linear(network, data.x[rows], data.observed[rows], data.weight[rows], generator)
        self.linear[key] = copy.deepcopy(network)

    def _score(self, network: TabularNetwork, member: TrainedMember) -> float:
        """Return the CRPS of hidden validation cells, from posteriors like those of last time."""
        last, cells = self.posteriors.get(member), self.cells.first(_ROWS_OF_LOOK)
        draws, self.posteriors[member] = draws_of_hidden_cells(
            network,
            cells,
            _FIRST_LOOK if last is None else _LATER_LOOK,
            n_draws=_DRAWS_OF_LOOK,
            starter=None if last is None else _FromLast(last),
        )
        return self._crps(draws, cells, network)

    @staticmethod
    def _crps(draws: Tensor, cells: HiddenCells, network: TabularNetwork) -> float:
        """Return the mean CRPS of draws (S, N, D) over hidden cells."""
        weight = cells.hidden * cells.weight.to(draws.dtype).unsqueeze(1)
        score = crps_of_draws(draws, cells.x, network.likelihood.categorical_columns)
        return float((score * weight).sum() / weight.sum())


def atoms_of(networks: Sequence[TabularNetwork]) -> list[NDArray[np.float32]]:
    """Return the values of each column that have a mass of their own under one of some networks."""
    n_columns = len(networks[0].likelihood.families)
    return [
        np.unique(np.concatenate([n.likelihood.atoms(j).cpu().numpy() for n in networks]))
        for j in range(n_columns)
    ]


@dataclass(frozen=True)
class _FromLast:
    """Starts inference of rows from posteriors that were fitted to a younger decoder."""

    posterior: Posterior

    def __call__(self, rows: Tensor, start: Start) -> Start:
        """Return the start of the rows with these indices."""
        family = cast(GaussianPosterior, self.posterior.family)
        mean, scale = family.mean_and_scale(self.posterior.parameters[rows])
        return replace(start, mean=mean, scale=scale)
