"""Networks of tables that are trained together: one stacked network, one step for all of them."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Self, cast

import numpy as np
import torch
from numpy.typing import NDArray
from skorch.callbacks import Callback, EpochTimer
from torch import Tensor

from .._plan import plan_for
from .._random import torch_generator
from ..exceptions import InferenceDivergedError, TrainingDivergedError
from ._data import TableData
from ._likelihoods import ColumnLikelihoods
from ._likelihoods._columns import Prepared
from ._network import TabularNetwork
from ._soap import StackedSoap
from ._stacked import StackedNetwork, keep_members
from ._training import EpochLoop, OwnLoss, risen

__all__ = ["EnsembleNet", "KeepBestOfEach", "Recipe", "TrainedMember", "follow", "race"]

_AVERAGED_SHARE = 10  # of all steps so far, about the last tenth is averaged
_BETAS = (0.9, 0.99)  # a short memory of squares: one odd batch cannot start a divergence
_SMOOTHED_EVERY = 10
_FIRST_LOOKS = 50  # steps between two looks, which then grow
_GROWTH = 1.4
_FAMILIES_SHOW, _FAR_BEHIND = 100, 1.15  # step from which families that far behind go
_NETWORKS_SHOW = 400  # step from which no more networks go on than are wanted
_LOOKS_AHEAD = 3
_WAITS_FOR_OTHERS = 1.2  # ratio to the steps of the best network


@dataclass(frozen=True)
class Recipe:
    """How the networks of a table are trained.

    Parameters
    ----------
    learning_rate : float
        Largest step size.
    batch_size : int
        Rows per step.
    max_steps : int
        Largest number of steps.
    input_noise, mask_rate, beta : float
        As in `TabularVAE`.
    warmup : int
        Steps over which the step size rises.
    kl_start, kl_warmup : float, int
        Share of ``beta`` at the first step of networks from random weights, and steps over which
        it rises to one.
    constant_until : int
        Step from which the step size falls, in proportion to ``1 / sqrt(step)``.
    smooth_until : int
        Step from which the smoothing falls where it anneals.
    widest_basis : int
        Up to how many entries a side of a weight has a basis of its own, see `StackedSoap`.
    """

    learning_rate: float = 2e-2
    batch_size: int = 128
    max_steps: int = 3000
    input_noise: float = 0.2
    mask_rate: float = 0.0
    beta: float = 1.0
    warmup: int = 30
    kl_start: float = 0.1
    kl_warmup: int = 200
    constant_until: int = 100
    smooth_until: int = 100
    widest_basis: int = 128

    def step_size(self, step: int) -> float:
        """Return the step size at this step, counted from 0."""
        fall = min(1.0, (self.constant_until / max(step, 1)) ** 0.5)
        rate: float = self.learning_rate * min(1.0, (step + 1) / self.warmup) * fall
        return rate

    def kl_weight(self, step: int) -> float:
        """Return the weight of the KL at this step for networks from random weights.

        At first codes say nothing, and a KL of full weight would keep it so for long.
        """
        return self.beta * risen(self.kl_start, step, self.kl_warmup)

    def remaining(self, step: int) -> float:
        """Return the share of the smoothing that is left at this step where it anneals."""
        return 1.0 / (1.0 + max(step - self.smooth_until, 0) / (2 * self.smooth_until))

    def looks(self) -> list[int]:
        """Return the steps after which validation cells are scored, increasing."""
        looks, step = [], 0
        while step < self.max_steps:
            step = min(max(step + _FIRST_LOOKS, round(step * _GROWTH)), self.max_steps)
            looks.append(step)
        return looks


@dataclass(frozen=True)
class LastSteps(Recipe):
    """A few more steps of networks that are trained: steps of Adam whose size falls to nothing."""

    widest_basis: int = 0  # what gradients have in common takes longer to learn

    def step_size(self, step: int) -> float:
        """Return the step size at this step, counted from 0."""
        return self.learning_rate * (1.0 - step / self.max_steps)


@dataclass(eq=False)
class TrainedMember:
    """A network that is trained beside others.

    Parameters
    ----------
    network : TabularNetwork
        Initial weights, later those of its best look.
    rows : Tensor of shape (R,)
        Which rows it learns from.
    smoothing : float, default=0.0
        Spread of the targets of histograms, in bins.
    anneals : bool, default=False
        Whether that spread falls to nothing in training.
    has_start : bool, default=False
        Whether the initial weights are worth a look.
    clear_gain : float, default=0.99
        Ratio to the last score under which a lower one is a clear gain.
    validation : ndarray of int, default=empty
        Which rows it is scored on; none where that is not known.

    Attributes
    ----------
    score : float
        The lowest score on validation cells.
    best_step : int
        Steps after which it was reached.
    last_gain, last_score : int, float
        Steps after which it last became clearly lower, and to what.
    settled : bool
        Whether it ended before the steps ran out, as they no longer improved it or it fell behind.
    history : list of dict
        By look the loss, the score and the steps.
    """

    network: TabularNetwork
    rows: Tensor
    smoothing: float = 0.0
    anneals: bool = False
    has_start: bool = False
    clear_gain: float = 0.99
    validation: NDArray[np.intp] = field(default_factory=lambda: np.array([], dtype=np.intp))
    score: float = field(default=np.inf, init=False)
    best_step: int = field(default=0, init=False)
    last_gain: int = field(default=0, init=False)
    last_score: float = field(default=np.inf, init=False)
    settled: bool = field(default=False, init=False)
    history: list[dict[str, float]] = field(default_factory=list, init=False)

    def outlook(self, n_looks: int) -> float:
        """Return the score so many looks ahead, if it goes on improving as in the last two."""
        scores = [look["valid_crps"] for look in self.history[-3:]]
        slope = (scores[-1] - scores[0]) / max(len(scores) - 1, 1)
        return self.score + n_looks * min(slope, 0.0)

    @property
    def families(self) -> list[str]:
        """The family of each column."""
        families: list[str] = self.network.likelihood.families
        return families


class EnsembleNet(EpochLoop):
    """skorch net that trains M networks in one pass; an epoch lies between two looks.

    Parameters
    ----------
    stack : StackedNetwork
        The networks.
    recipe : Recipe
        Step sizes, rows per step, noise.
    members : list of TrainedMember
        What is known of each network.
    seed : int
        Seed of batches and noise.
    """

    def __init__(
        self,
        stack: StackedNetwork,
        *,
        recipe: Recipe,
        members: list[TrainedMember],
        seed: int,
        callbacks: list[tuple[str, Callback]],
        device: torch.device,
    ) -> None:
        self.stack, self.recipe, self.members, self.seed = stack, recipe, members, seed
        self.looks = recipe.looks()
        super().__init__(
            stack,
            criterion=OwnLoss,
            optimizer=StackedSoap,
            lr=recipe.learning_rate,
            max_epochs=len(self.looks),
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
        self.rows_ = torch.stack([member.rows for member in self.members])
        self.smoothing_ = torch.tensor([member.smoothing for member in self.members])
        self.anneals_ = torch.tensor([member.anneals for member in self.members])
        has_start = [[member.has_start] for member in self.members]
        self.has_start_ = torch.tensor(has_start, device=self.device)
        self.order_ = self.rows_[:, :0]
        self.inputs_: Tensor | None = None
        self.drawn_: list[tuple[Tensor, ...]] = []
        super().initialize_module()
        self.average_ = self.stack.weights.clone()
        return self

    def initialize_optimizer(self) -> Self:
        stack, widest = self.stack, self.recipe.widest_basis
        self.optimizer_ = StackedSoap(stack.weights, stack.shapes, _BETAS, widest)
        return self

    def get_iterator(self, dataset: TableData, training: bool = False) -> "_Table":
        """Return the rows where the networks are, with what their likelihood reads of them."""
        if not hasattr(self, "table_"):
            device = torch.device(self.device)
            self.table_ = _Table.of(dataset, self.stack, device)
        return self.table_

    def run_single_epoch(self, iterator: "_Table", *args: object, **kwargs: object) -> None:
        """Train until the next look."""
        n = self.looks[len(self.history) - 1] - self.n_steps_
        self.module_.train()
        total = sum((self.step(iterator) for _ in range(n)), torch.zeros(()))
        losses = (total / n).cpu().tolist()
        for loss in losses:
            if not np.isfinite(loss):
                raise _diverged(f"The training loss became {loss}", self)
        self.history.record("train_loss", losses)
        self.history.record("steps", self.n_steps_)

    def step(self, table: "_Table") -> Tensor:
        """Take one step of all networks, and return their losses (M,)."""
        recipe, stack = self.recipe, self.stack
        if self.n_steps_ % _SMOOTHED_EVERY == 0:
            self._smooth()
        index, noise, code, *masks = self._next_draws(table)
        x, observed, weight, prepared = table.at(index, stack.kinds)
        visible = observed
        if masks:
            visible = observed & ~masks[0]
            inputs = stack.inputs(x, visible)
        else:
            inputs = self._inputs_at(table, index)
        z, kl = stack.draw_code(inputs, visible, noise, code)
        fit = stack.reconstruction(stack.decode(z), prepared, observed)
        beta = torch.where(self.has_start_, recipe.beta, recipe.kl_weight(self.n_steps_))
        loss = (weight * (beta * kl - fit)).mean(-1)
        loss.sum().backward()
        step_size = recipe.step_size(self.n_steps_)
        self.optimizer_.step(stack.weights, stack.take_gradient(), step_size)
        self.n_steps_ += 1
        share = (_AVERAGED_SHARE - 1) / (_AVERAGED_SHARE + self.n_steps_)
        self.average_.lerp_(stack.weights, share)
        detached: Tensor = loss.detach()
        return detached

    def select(self, kept: Tensor) -> None:
        """Go on with the networks under a mask (M,)."""
        for name in ("rows_", "order_", "smoothing_", "anneals_", "has_start_"):
            of_members = getattr(self, name)
            setattr(self, name, of_members[kept.to(of_members.device)])
        if self.inputs_ is not None:
            self.inputs_ = self.inputs_[kept.to(self.inputs_.device)]
        if hasattr(self, "table_"):
            self.table_ = self.table_.of_kinds([bool(kept[k].any()) for k in self.stack.kinds])
        shapes = self.stack.shapes
        masks = self.stack.select(kept)
        self.average_ = keep_members(self.average_, shapes, masks)
        self.optimizer_.select(masks)
        self._smooth()

    def _inputs_at(self, table: "_Table", index: Tensor) -> Tensor:
        """Return what the encoders read of rows (M, B): the same at every step, so kept."""
        if self.inputs_ is None:
            n_members = len(self.rows_)
            with torch.no_grad():
                x, observed = (t.expand(n_members, *t.shape) for t in (table.x, table.observed))
                self.inputs_ = self.stack.inputs(x, observed)
        n_rows = self.inputs_.shape[1]
        first = torch.arange(0, len(index) * n_rows, n_rows, device=index.device).unsqueeze(1)
        return _rows_at(self.inputs_.flatten(0, 1), index + first)

    def _smooth(self) -> None:
        """Spread the targets of histograms as they are to be at this step."""
        share = torch.where(self.anneals_, self.recipe.remaining(self.n_steps_), 1.0)
        self.stack.smooth(self.smoothing_ * share)

    def _next_draws(self, table: "_Table") -> tuple[Tensor, ...]:
        """Return what a step draws by chance: rows, two kinds of noise, perhaps what is hidden.

        Drawn on the CPU, so that every device learns from the same, and sent for several steps at
        a time, never beyond the next look, after which there may be fewer networks.
        """
        if not self.drawn_:
            until = next(look for look in self.looks if look > self.n_steps_)
            n_steps = min(until - self.n_steps_, plan_for(table.x.device).steps_drawn)
            drawn = [self._draw(table.x.shape[1]) for _ in range(n_steps)]
            if n_steps == 1:
                self.drawn_ = [tuple(t.to(table.x.device) for t in drawn[0])]
            else:
                sent = [torch.stack(part).to(table.x.device) for part in zip(*drawn, strict=True)]
                self.drawn_ = list(zip(*sent, strict=True))
        return self.drawn_.pop(0)

    def _draw(self, n_columns: int) -> tuple[Tensor, ...]:
        recipe, generator = self.recipe, self.generator_
        index = self._next_rows()
        masks = [self._hide((*index.shape, n_columns))] if recipe.mask_rate else []
        noise = recipe.input_noise * torch.randn(*index.shape, n_columns, generator=generator)
        code = torch.randn(*index.shape, self.stack.latent_dim, generator=generator)
        return index, noise, code, *masks

    def _next_rows(self) -> Tensor:
        """Return the next rows of each network, (M, B), each passing through its own in turn."""
        n_members, n_rows = self.rows_.shape
        n = min(self.recipe.batch_size, n_rows)
        if self.order_.shape[1] < n:
            shuffled = torch.stack(
                [torch.randperm(n_rows, generator=self.generator_) for _ in range(n_members)]
            )
            self.order_ = self.rows_.gather(1, shuffled)
        index, self.order_ = self.order_[:, :n], self.order_[:, n:]
        return index

    def _hide(self, shape: tuple[int, ...]) -> Tensor:
        rate = self.recipe.mask_rate * torch.rand(*shape[:-1], 1, generator=self.generator_)
        return torch.rand(*shape, generator=self.generator_) < rate


@dataclass(frozen=True)
class _Table:
    """All rows with what the likelihoods of each kind read of them, to be asked for by index."""

    x: Tensor
    observed: Tensor
    weight: Tensor
    prepared: list[Prepared]

    @classmethod
    def of(cls, data: TableData, stack: StackedNetwork, device: torch.device) -> Self:
        x = data.x.to(device)
        prepared = [cast(ColumnLikelihoods, of_kind).prepare(x) for of_kind in stack.likelihoods]
        return cls(x, data.observed.to(device), data.weight.to(device), prepared)

    def at(
        self, index: Tensor, kinds: Sequence[slice]
    ) -> tuple[Tensor, Tensor, Tensor, list[Prepared]]:
        """Return rows (M, B, ...) at an index (M, B), and (M', B, ...) prepared for each kind."""
        prepared = [
            tuple(tuple(_rows_at(part, index[members]) for part in group) for group in of_kind)
            for of_kind, members in zip(self.prepared, kinds, strict=True)
        ]
        x, observed, weight = (_rows_at(t, index) for t in (self.x, self.observed, self.weight))
        return x, observed, weight, prepared

    def of_kinds(self, left: Sequence[bool]) -> Self:
        """Return the same without what was prepared for kinds that are gone."""
        prepared = [part for part, stays in zip(self.prepared, left, strict=True) if stays]
        return replace(self, prepared=prepared)


def _rows_at(table: Tensor, index: Tensor) -> Tensor:
    """Return rows (M, B, ...) of a table (N, ...) at an index (M, B): ``table[index]``, faster."""
    rows: Tensor = table.index_select(0, index.flatten()).unflatten(0, index.shape)
    return rows


class KeepBestOfEach(Callback):
    """Keep each network as it was at its best look.

    Parameters
    ----------
    members : list of TrainedMember
        One for each network, filled in.
    score : callable
        ``score(network, member)`` is a number that is lower for better weights.
    """

    def __init__(
        self, members: list[TrainedMember], score: Callable[[TabularNetwork, TrainedMember], float]
    ) -> None:
        self.members, self.score = members, score

    @property
    def settled_(self) -> bool:
        """Whether no network is left to train."""
        return not self.going_

    def on_train_begin(self, net: EnsembleNet, **kwargs: object) -> None:
        self.going_ = list(self.members)
        self.scratch_ = [copy.deepcopy(member.network) for member in self.members]
        for place, member in enumerate(self.going_):
            if member.has_start:
                self._look(net, place, member, 0)

    def on_epoch_end(self, net: EnsembleNet, **kwargs: object) -> None:
        step, losses = net.n_steps_, net.history[-1, "train_loss"]
        for place, (member, loss) in enumerate(zip(self.going_, losses, strict=True)):
            score = self._look(net, place, member, step)
            record = {"train_loss": loss, "valid_crps": score, "steps": float(step)}
            member.history.append(record)

    def leave(self, net: EnsembleNet, gone: Sequence[TrainedMember]) -> None:
        """Go on without some of the networks."""
        kept = torch.tensor([member not in gone for member in self.going_])
        if kept.all():
            return
        stay = kept.nonzero().squeeze(1).tolist()
        self.going_ = [self.going_[place] for place in stay]
        self.scratch_ = [self.scratch_[place] for place in stay]
        if stay:
            net.select(kept)

    def _look(self, net: EnsembleNet, place: int, member: TrainedMember, step: int) -> float:
        """Score the averaged weights of a network, and keep them if they are the best so far."""
        scratch = self.scratch_[place]
        net.stack.copy_to(net.average_, place, scratch)
        try:
            score = self.score(scratch, member)
        except InferenceDivergedError as error:
            raise _diverged("The network's output overflowed", net) from error
        if score < member.score:
            if score < member.clear_gain * member.last_score:
                member.last_score, member.last_gain = score, step
            member.score, member.best_step = score, step
            member.network.load_state_dict(scratch.state_dict())
        return score


def _diverged(what: str, net: EnsembleNet) -> TrainingDivergedError:
    return TrainingDivergedError(
        f"{what} within {net.n_steps_} steps. Lower learning_rate (now "
        f"{net.recipe.learning_rate:g}), or check the columns for values so extreme that they "
        "overflow."
    )


def race(
    members: Sequence[TrainedMember],
    data: TableData,
    score: Callable[[TabularNetwork, TrainedMember], float],
    recipe: Recipe,
    *,
    seed: int,
    n_wanted: int,
    on_look: Callable[[int, int], None],
    device: torch.device,
) -> None:
    """Train networks side by side until each has settled or fallen behind.

    Parameters
    ----------
    members : sequence of TrainedMember
        Networks with initial weights. What training finds is written into them.
    data : TableData
        All rows.
    score : callable
        See `KeepBestOfEach`.
    recipe : Recipe
        Step sizes, rows per step, noise.
    seed : int
        Seed of batches and noise.
    n_wanted : int
        How many of the best are wanted.
    on_look : callable
        Told at each look the number of steps, and at which training is expected to end.
    device : torch.device
        Where to train.
    """
    members = _by_family(members)
    best = KeepBestOfEach(members, score)
    net = _net_of(members, recipe, seed, device, [("best", best)])
    net.notify("on_train_begin", X=data, y=None)
    for step in recipe.looks():
        net.fit_loop(data, epochs=1)
        for member in members:
            if step - member.last_gain >= patience(len(member.rows), member.last_gain):
                member.settled = True
        gone = [member for member in members if member.settled]
        going = [member for member in best.going_ if not member.settled]
        lowest = min(member.score for member in members)
        behind = _fallen_behind(going, lowest, step, n_wanted) + _too_late(members, step)
        for member in behind:
            member.settled = True  # more steps would not help it
        gone += behind
        best.leave(net, gone)
        ends = [m.last_gain + patience(len(m.rows), m.last_gain) for m in best.going_]
        on_look(step, min(max(ends, default=step), recipe.max_steps))
        if not best.going_:
            break


def follow(
    members: Sequence[TrainedMember],
    data: TableData,
    recipe: Recipe,
    *,
    seed: int,
    on_look: Callable[[int, int], None],
    device: torch.device,
) -> None:
    """Train networks side by side to the last step of a recipe, without a look at other rows.

    Parameters
    ----------
    members : sequence of TrainedMember
        Networks with initial weights. The averaged last weights are written into them.
    data : TableData
        All rows.
    recipe : Recipe
        Step sizes, rows per step, noise.
    seed : int
        Seed of batches and noise.
    on_look : callable
        Told the number of steps now and then, and the last one.
    device : torch.device
        Where to train.
    """
    members = _by_family(members)
    net = _net_of(members, recipe, seed, device)
    for step in recipe.looks():
        net.fit_loop(data, epochs=1)
        losses = net.history[-1, "train_loss"]
        for member, loss in zip(members, losses, strict=True):
            member.history.append({"train_loss": loss, "steps": float(step)})
        on_look(step, recipe.max_steps)
    for place, member in enumerate(members):
        net.stack.copy_to(net.average_, place, member.network)
        member.settled = True


def _by_family(members: Sequence[TrainedMember]) -> list[TrainedMember]:
    """Return networks of the same families side by side, so that they are of one kind."""
    return sorted(members, key=lambda member: member.families)


def _net_of(
    members: list[TrainedMember],
    recipe: Recipe,
    seed: int,
    device: torch.device,
    callbacks: Sequence[tuple[str, Callback]] = (),
) -> EnsembleNet:
    """Return a net that is ready to train."""
    net = EnsembleNet(
        StackedNetwork([member.network.to(device) for member in members]),
        recipe=recipe,
        members=members,
        seed=seed,
        callbacks=list(callbacks),
        device=device,
    )
    net.initialize()
    return net


def _fallen_behind(
    going: Sequence[TrainedMember], lowest: float, step: int, n_wanted: int
) -> list[TrainedMember]:
    """Return the networks that are given up after so many steps.

    All of a family go early if none of it is near the best. Later only as many as are wanted go
    on, those that will be best a few looks ahead if they go on as they did: what improves slowly
    for long, such as a network from random weights, has then had its chance.
    """
    if step < _FAMILIES_SHOW:
        return []
    by_family: dict[tuple[str, ...], float] = {}
    for member in going:
        key = tuple(member.families)
        by_family[key] = min(by_family.get(key, np.inf), member.score)
    gone = [m for m in going if by_family[tuple(m.families)] > _FAR_BEHIND * lowest]
    if step >= _NETWORKS_SHOW:
        stay = sorted((m for m in going if m not in gone), key=lambda m: m.outlook(_LOOKS_AHEAD))
        gone += stay[n_wanted:]
    return gone


def _too_late(everyone: Sequence[TrainedMember], step: int) -> list[TrainedMember]:
    """Return the networks that are not waited for, as the best one settled some time ago."""
    best = min(everyone, key=lambda member: member.score)
    if not best.settled or step < _WAITS_FOR_OTHERS * best.history[-1]["steps"]:
        return []
    return [m for m in everyone if not m.settled and m.outlook(1) > best.score]


def patience(n_rows: int, last_gain: int) -> int:
    """Return the steps after the last clear gain after which a network has settled.

    From a linear start, networks of many rows may seem to have settled before they improve again.
    """
    return min(max(n_rows // 5, 100), 200) + last_gain // 4
