"""Networks of tables that are trained together: one stacked network, one step for all of them."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Self

import numpy as np
import torch
from skorch.callbacks import Callback, EpochTimer
from torch import Tensor
from torch.utils.data import Dataset

from .._random import derive_seed, torch_generator
from ..exceptions import TrainingDivergedError
from ._data import TableData
from ._likelihoods import ColumnLikelihoods, Prepared
from ._network import TabularNetwork
from ._stacked import copy_member, select_members, stack_networks
from ._training import EpochLoop, OwnLoss

__all__ = ["EnsembleNet", "KeepBestOfEach", "Recipe", "TrainedMember", "train_together"]

_AVERAGED_SHARE = 10  # of all steps so far, about the last tenth is averaged
_BETAS = (0.9, 0.99)  # a short memory of squares: one odd batch cannot start a divergence
_FIRST_LOOKS = 50  # steps between two looks, which then grow
_GROWTH = 1.25


@dataclass(frozen=True)
class Recipe:
    """How the networks of a table are trained.

    Parameters
    ----------
    learning_rate : float
        Largest step size of Adam.
    batch_size : int
        Rows per step.
    max_steps : int
        Largest number of steps.
    input_noise, mask_rate, beta : float
        As in `TabularVAE`.
    warmup : int
        Steps over which the step size rises.
    constant_until : int
        Step from which the step size falls, in proportion to ``1 / sqrt(step)``.
    """

    learning_rate: float = 1e-2
    batch_size: int = 256
    max_steps: int = 3000
    input_noise: float = 0.2
    mask_rate: float = 0.0
    beta: float = 1.0
    warmup: int = 100
    constant_until: int = 400

    def step_size(self, step: int) -> float:
        """Return the step size of Adam at this step, counted from 0."""
        fall = min(1.0, (self.constant_until / max(step, 1)) ** 0.5)
        return self.learning_rate * min(1.0, (step + 1) / self.warmup) * fall

    def looks(self) -> list[int]:
        """Return the steps after which validation cells are scored, increasing."""
        looks, step = [], 0
        while step < self.max_steps:
            step = min(max(step + _FIRST_LOOKS, round(step * _GROWTH)), self.max_steps)
            looks.append(step)
        return looks


@dataclass
class TrainedMember:
    """What training leaves of one network.

    Parameters
    ----------
    network : TabularNetwork
        With the weights of its best look.
    score : float
        Their score on validation cells.
    best_step : int
        Steps that they took.
    settled : bool
        Whether later steps no longer improved it.
    history : list of dict
        By look the loss, the score, steps and seconds.
    """

    network: TabularNetwork
    score: float = np.inf
    best_step: int = 0
    settled: bool = False
    history: list[dict[str, float]] = field(default_factory=list)


class EnsembleNet(EpochLoop):
    """skorch net that trains M networks in one pass; an epoch lies between two looks.

    Parameters
    ----------
    module : TabularNetwork
        Stacked, see `stack_networks`.
    recipe : Recipe
        Step sizes, rows per step, noise.
    rows : Tensor of shape (M, R)
        Which rows each network learns from.
    looks : list of int
        Steps at which epochs end.
    seed : int
        Seed of batches and noise.
    """

    def __init__(
        self,
        module: TabularNetwork,
        *,
        recipe: Recipe,
        rows: Tensor,
        looks: list[int],
        seed: int,
        callbacks: list[tuple[str, Callback]],
        device: torch.device,
    ) -> None:
        self.recipe, self.rows, self.looks, self.seed = recipe, rows, looks, seed
        super().__init__(
            module,
            criterion=OwnLoss,
            optimizer=torch.optim.Adam,
            optimizer__betas=_BETAS,
            optimizer__fused=device.type in ("cpu", "cuda"),
            lr=recipe.learning_rate,
            max_epochs=len(looks),
            train_split=None,
            callbacks=callbacks,
            device=device,
            verbose=0,
        )

    @property
    def _default_callbacks(self) -> list[tuple[str, Callback]]:
        return [("epoch_timer", EpochTimer())]

    def initialize_module(self) -> Self:
        self.generator_ = torch_generator(self.seed)
        self.n_steps_ = 0
        self.order_ = torch.empty(len(self.rows), 0, dtype=torch.long)
        super().initialize_module()
        self.average_ = copy.deepcopy(self.module_).eval().requires_grad_(False)
        return self

    def get_iterator(self, dataset: TableData, training: bool = False) -> "_Table":
        """Return the rows where the networks are, with what their likelihood reads of them."""
        return _Table.of(dataset, self.module_.likelihood, torch.device(self.device))

    def run_single_epoch(self, iterator: "_Table", *args: object, **kwargs: object) -> None:
        """Train until the next look."""
        n = self.looks[len(self.history) - 1] - self.n_steps_
        self.module_.train()
        total = sum((self.step(iterator) for _ in range(n)), torch.zeros(()))
        self.history.record("train_loss", (total / n).tolist())
        self.history.record("steps", self.n_steps_)

    def step(self, table: "_Table") -> Tensor:
        """Take one step of all networks, and return their losses (M,)."""
        recipe, generator = self.recipe, self.generator_
        index = self._next_rows()
        x, observed, weight, prepared = table.at(index)
        visible = observed
        if recipe.mask_rate:
            visible = observed & ~self._hide(observed.shape).to(observed.device)
        noise = torch.randn(*x.shape, generator=generator).to(x.device)
        code = torch.randn(*x.shape[:-1], self.module_.latent_dim, generator=generator)
        fit, kl = self.module_(
            x, observed, visible, recipe.input_noise * noise, code.to(x.device), prepared
        )
        loss = (weight * (recipe.beta * kl - fit)).mean(-1)
        optimizer = self.optimizer_
        optimizer.zero_grad()
        loss.sum().backward()
        optimizer.param_groups[0]["lr"] = recipe.step_size(self.n_steps_)
        optimizer.step()
        self.n_steps_ += 1
        share = (_AVERAGED_SHARE - 1) / (_AVERAGED_SHARE + self.n_steps_)
        with torch.no_grad():
            torch._foreach_lerp_(
                list(self.average_.parameters()), list(self.module_.parameters()), share
            )
        return loss.detach()

    def select(self, members: list[int]) -> None:
        """Go on with some of the networks, by their indices."""
        index = torch.tensor(members)
        self.rows, self.order_ = self.rows[index], self.order_[index]
        of_device = index.to(next(self.module_.parameters()).device)
        select_members(self.module_, of_device)
        select_members(self.average_, of_device)
        for state in self.optimizer_.state.values():
            for name in ("exp_avg", "exp_avg_sq"):
                state[name] = state[name][of_device]

    def _next_rows(self) -> Tensor:
        """Return the next rows of each network, (M, B), each passing through its own in turn."""
        n_members, n_rows = self.rows.shape
        n = min(self.recipe.batch_size, n_rows)
        if self.order_.shape[1] < n:
            shuffled = torch.stack(
                [torch.randperm(n_rows, generator=self.generator_) for _ in range(n_members)]
            )
            self.order_ = self.rows.gather(1, shuffled)
        index, self.order_ = self.order_[:, :n], self.order_[:, n:]
        return index

    def _hide(self, shape: torch.Size) -> Tensor:
        rate = self.recipe.mask_rate * torch.rand(*shape[:-1], 1, generator=self.generator_)
        return torch.rand(*shape, generator=self.generator_) < rate


@dataclass(frozen=True)
class _Table:
    """All rows with what likelihoods read of them, to be asked for by index."""

    x: Tensor
    observed: Tensor
    weight: Tensor
    prepared: Prepared

    @classmethod
    def of(cls, data: TableData, likelihood: ColumnLikelihoods, device: torch.device) -> Self:
        x = data.x.to(device)
        return cls(x, data.observed.to(device), data.weight.to(device), likelihood.prepare(x))

    def at(self, index: Tensor) -> tuple[Tensor, Tensor, Tensor, Prepared]:
        """Return rows (M, B, ...) at an index (M, B)."""
        index = index.to(self.x.device)
        prepared = tuple(tuple(part[index] for part in group) for group in self.prepared)
        return self.x[index], self.observed[index], self.weight[index], prepared


class KeepBestOfEach(Callback):
    """Keep each network as it was at its best look; end those that settle or fall behind.

    Parameters
    ----------
    members : list of TrainedMember
        One for each network, filled in.
    score : callable
        ``score(network, index)`` is a number that is lower for better weights.
    starts_at : list of bool
        Which networks are worth a look before the first step.
    compare : bool
        Whether networks that are far behind the best are given up.
    on_steps : callable
        Told the number of steps after each look.
    """

    def __init__(
        self,
        members: list[TrainedMember],
        score: Callable[[TabularNetwork, int], float],
        starts_at: Sequence[bool],
        compare: bool,
        on_steps: Callable[[int], None],
    ) -> None:
        self.members, self.score, self.starts_at = members, score, starts_at
        self.compare, self.on_steps = compare, on_steps

    @property
    def settled_(self) -> bool:
        """Whether no network is left to train."""
        return not self.going_

    def on_train_begin(self, net: EnsembleNet, **kwargs: object) -> None:
        self.going_ = list(range(len(self.members)))
        self.scratch_ = [copy.deepcopy(member.network) for member in self.members]
        for place, index in enumerate(self.going_):
            if self.starts_at[index]:
                self._look(net, place, index, 0)

    def on_epoch_end(self, net: EnsembleNet, **kwargs: object) -> None:
        step, losses = net.n_steps_, net.history[-1, "train_loss"]
        for place, index in enumerate(self.going_):
            if not np.isfinite(losses[place]):
                raise TrainingDivergedError(
                    f"The training loss became {losses[place]} within {step} steps. Lower "
                    f"learning_rate (now {net.recipe.learning_rate:g}), or check the columns for "
                    "values so extreme that they overflow."
                )
            score = self._look(net, place, index, step)
            record = {"train_loss": losses[place], "valid_crps": score, "steps": float(step)}
            self.members[index].history.append(record)
        net.history.record("valid_crps", [m.history[-1]["valid_crps"] for m in self.members])
        self.on_steps(step)
        stay = [place for place, index in enumerate(self.going_) if self._goes_on(index, step)]
        if len(stay) < len(self.going_):
            self.going_ = [self.going_[place] for place in stay]
            if stay:
                net.select(stay)

    def _look(self, net: EnsembleNet, place: int, index: int, step: int) -> float:
        """Score the averaged weights of a network, and keep them if they are the best so far."""
        member, scratch = self.members[index], self.scratch_[index]
        copy_member(net.average_, place, scratch)
        score = self.score(scratch, index)
        if score < member.score:
            member.score, member.best_step = score, step
            member.network.load_state_dict(scratch.state_dict())
        return score

    def _goes_on(self, index: int, step: int) -> bool:
        member = self.members[index]
        if step - member.best_step >= patience(member.best_step):
            member.settled = True
            return False
        best = min(other.score for other in self.members)
        return not self.compare or member.score <= tolerance(step) * best


def patience(best_step: int) -> int:
    """Return the steps without a better score after which a network has settled."""
    return 150 + best_step // 2


def tolerance(step: int) -> float:
    """Return the ratio of a network's score to the best one at which it is given up.

    Networks from random weights overtake those from a linear start late, if they do.
    """
    if step < 300:
        return np.inf
    return 1.15 if step < 600 else 1.05


def train_together(
    networks: Sequence[TabularNetwork],
    data: TableData,
    rows: Tensor,
    score: Callable[[TabularNetwork, int], float],
    recipe: Recipe,
    *,
    seed: int,
    starts_at: Sequence[bool],
    compare: bool,
    on_steps: Callable[[int], None],
    device: torch.device,
) -> list[TrainedMember]:
    """Train networks of one shape in one pass, and keep each as it was at its best look.

    Parameters
    ----------
    networks : sequence of TabularNetwork
        With initial weights; they are changed in place.
    data : TableData
        All rows.
    rows : Tensor of shape (M, R)
        Which of them each network learns from.
    score, starts_at, compare, on_steps : callable, sequence of bool, bool, callable
        See `KeepBestOfEach`.
    recipe : Recipe
        Step sizes, rows per step, noise.
    seed : int
        Seed of batches and noise.
    device : torch.device
        Where to train.

    Returns
    -------
    members : list of TrainedMember
        In the order of the networks.
    """
    members = [TrainedMember(network.to(device)) for network in networks]
    best = KeepBestOfEach(members, score, starts_at, compare, on_steps)
    net = EnsembleNet(
        stack_networks([member.network for member in members]),
        recipe=recipe,
        rows=rows,
        looks=recipe.looks(),
        seed=seed,
        callbacks=[("best", best)],
        device=device,
    )
    net.fit(data, None)
    return members
