"""Training of one VAE through skorch: noise and masks, the score on hidden cells, what is kept."""

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar, cast

import numpy as np
import skorch
import torch
from skorch.callbacks import Callback, EpochTimer, PassthroughScoring
from skorch.dataset import get_len
from torch import Tensor, nn
from torch.utils.data import DataLoader

from .._interrupts import heeding_interrupts
from .._plan import rows_scored_in_training
from .._random import derive_seed, torch_generator
from .._typing import Score
from ..exceptions import TrainingDivergedError
from ..inference import Adam, DecoderTarget, Gaussian, Posterior, fit_posterior
from ..inference._engine import Starter
from ..inference._settings import OptimizerSettings
from ..sampling import shared_draws
from ._data import Batches, TrainingData
from ._distributed import Processes
from ._network import VAENetwork
from ._resume import Checkpoint

__all__ = [
    "AverageWeights",
    "EpochLoop",
    "GuardSteps",
    "HiddenCells",
    "KeepBest",
    "LossOnRows",
    "OwnLoss",
    "ScoreOfHiddenCells",
    "TrainedNetwork",
    "VAENet",
    "crps_of_draws",
    "crps_of_hidden_cells",
    "draws_of_hidden_cells",
    "half_mean_distance",
    "least_in_turn",
    "risen",
    "train_network",
]

Candidate = TypeVar("Candidate")
Augment = Callable[[Tensor, Tensor, torch.Generator], tuple[Tensor, Tensor]]

QUICK = Adam(max_iter=32, window=8, n_draws=4, learning_rate=0.4, min_learning_rate=0.1)
_VALIDATION_DRAWS = 64
_KL_START = 0.1  # share of the KL's weight at the first step
_LOSS_ROWS = 64  # validation rows at one time


class HiddenCells:
    """Rows with some observed cells hidden, to score imputations on.

    Parameters
    ----------
    x : Tensor of shape (N, D)
        Standardized values, finite everywhere.
    visible, hidden : bool Tensors of shape (N, D)
        What inference may see and what is scored.
    weight : Tensor of shape (N,), default=None
        How much a row counts; None counts all alike.
    """

    def __init__(
        self, x: Tensor, visible: Tensor, hidden: Tensor, weight: Tensor | None = None
    ) -> None:
        self.x, self.visible, self.hidden = x, visible, hidden
        self.weight = torch.ones(len(x)) if weight is None else weight

    @classmethod
    def at_random(
        cls,
        x: Tensor,
        observed: Tensor,
        generator: torch.Generator,
        weight: Tensor | None = None,
        *,
        rate: float = 0.5,
    ) -> "HiddenCells":
        """Hide each observed cell with this probability, but at least one where a row has two."""
        u = torch.rand(x.shape, generator=generator).where(observed, torch.inf)
        lowest = torch.zeros_like(observed).scatter_(1, u.argmin(1, keepdim=True), True)
        hidden = observed & ((u < rate) | lowest)
        return cls(x, observed & ~hidden, hidden, weight)

    def first(self, n: int) -> "HiddenCells":
        """Return the first n rows."""
        return HiddenCells(self.x[:n], self.visible[:n], self.hidden[:n], self.weight[:n])

    def to(self, device: torch.device) -> "HiddenCells":
        """Return the same cells on a device."""
        parts = (self.x, self.visible, self.hidden, self.weight)
        return HiddenCells(*(part.to(device) for part in parts))


def crps_of_hidden_cells(network: VAENetwork, cells: HiddenCells, beta: float = 1.0) -> Tensor:
    """Return the CRPS of quick QAVI draws on hidden cells, summed and counted by column, (2, D).

    In standardized units, see `crps_of_draws`. ``beta`` is the weight of the KL in the bound that
    the posteriors maximise.
    """
    return _crps_of_pool([network], cells, beta)


def _crps_of_pool(networks: Sequence[VAENetwork], cells: HiddenCells, beta: float) -> Tensor:
    """Return what `crps_of_hidden_cells` does of the draws of all networks together."""
    draws = [draws_of_hidden_cells(network, cells, QUICK, beta=beta)[0] for network in networks]
    score = crps_of_draws(torch.cat(draws), cells.x, networks[0].likelihood.categorical_columns)
    hidden = cells.hidden * cells.weight.to(score.dtype).unsqueeze(1)
    return torch.stack([(score * hidden).sum(0), hidden.sum(0)])


def draws_of_hidden_cells(
    network: VAENetwork,
    cells: HiddenCells,
    optimizer: OptimizerSettings,
    *,
    beta: float = 1.0,
    n_draws: int = _VALIDATION_DRAWS,
    starter: Starter | None = None,
    covariance: str = "diagonal",
) -> tuple[Tensor, Posterior]:
    """Return draws (S, N, D) of rows with hidden cells, and the Gaussian posteriors behind them."""
    with torch.no_grad():
        target = DecoderTarget.of(network, cells.x, cells.visible)
        family = Gaussian(covariance=covariance, optimizer=optimizer).family(network.latent_dim)
        posterior = fit_posterior(
            target,
            family,
            optimizer=optimizer,
            beta=beta,
            batch_size=_rows_in_work(network),
            starter=starter,
        ).posterior
        return shared_draws(network, posterior, n_draws, cells.x.shape[1]), posterior


def _rows_in_work(network: VAENetwork) -> int:
    """Return how many rows are inferred at a time: fewer where a decoder has many outputs."""
    n_outputs = getattr(network.likelihood, "n_outputs", 1)
    return rows_scored_in_training(_VALIDATION_DRAWS, n_outputs)


def crps_of_draws(draws: Tensor, truth: Tensor, categorical: Sequence[int]) -> Tensor:
    """Return the CRPS of draws (S, N, D) at the truth (N, D), cell by cell, (N, D).

    The estimator is the fair one: mean distance to the truth minus half of the mean distance
    between different draws. Categories are at distance 1 from each other, which makes it half of
    the Brier score.
    """
    score = _fair_crps(draws, truth)
    for j in categorical:
        score[:, j] = _fair_crps_of_categories(draws[..., j], truth[:, j])
    return score


def _fair_crps(draws: Tensor, truth: Tensor) -> Tensor:
    return (draws - truth).abs().mean(0) - half_mean_distance(draws)


def least_in_turn(
    candidates: Iterable[Candidate], score: Callable[[Candidate], float]
) -> Candidate:
    """Return the first of some candidates, or a later one: they are tried until one does worse."""
    remaining = iter(candidates)
    best = next(remaining)
    least = score(best)
    for candidate in remaining:
        found = score(candidate)
        if not found < least:
            break
        best, least = candidate, found
    return best


def half_mean_distance(draws: Tensor) -> Tensor:
    """Return half of the mean distance between different draws (S, N, D), cell by cell, (N, D)."""
    n = len(draws)
    ordered = draws.sort(dim=0).values
    rank = torch.arange(1, n + 1, device=draws.device).to(draws) * 2 - n - 1
    return (ordered * rank.view(-1, 1, 1)).sum(0) / (n * (n - 1))


def _fair_crps_of_categories(draws: Tensor, truth: Tensor) -> Tensor:
    """Return the same for categories (S, N) and true ones (N,), any two of them at distance 1."""
    n = len(draws)
    agreement = ((draws.unsqueeze(0) == draws.unsqueeze(1)).sum((0, 1)) - n) / (n * (n - 1))
    return (draws != truth).to(truth).mean(0) - 0.5 * (1 - agreement)


@dataclass(frozen=True)
class ScoreOfHiddenCells:
    """What training keeps the best epoch by: the CRPS of hidden validation cells.

    Parameters
    ----------
    cells : HiddenCells
        Validation rows with hidden cells, on the device of training.
    beta : float
        Weight of the KL when the rows are inferred.
    """

    cells: HiddenCells
    beta: float = 1.0
    name: ClassVar[str] = "valid_crps"

    def __call__(self, network: VAENetwork) -> float:
        """Return the mean over all hidden cells."""
        return self.of_pool([network])

    def of_pool(self, networks: Sequence[VAENetwork]) -> float:
        """Return the same for the pooled draws of several networks."""
        totals = _crps_of_pool(networks, self.cells, self.beta)
        return float(totals[0].sum() / totals[1].sum())


@dataclass(frozen=True)
class LossOnRows:
    """What training keeps the best epoch by: the loss of validation rows, with noise that stays.

    Parameters
    ----------
    x : Tensor of shape (N, D)
        Rows in the model's units, finite everywhere.
    scored, visible : bool Tensors of shape (N, D)
        What the bound sums over and what the encoder sees.
    weight : Tensor of shape (N,)
        How much a row counts.
    seed : int
        Seed of the codes' noise.
    """

    x: Tensor
    scored: Tensor
    visible: Tensor
    weight: Tensor
    seed: int
    name: ClassVar[str] = "valid_loss"

    def __call__(self, network: VAENetwork) -> float:
        """Return the weighted mean over rows, in nats, computed where the network is."""
        generator, total = torch_generator(self.seed), 0.0
        device = next(network.parameters()).device
        columns = (self.x, self.scored, self.visible, self.weight)
        with torch.no_grad():
            for rows in zip(*(t.split(_LOSS_ROWS) for t in columns), strict=True):
                x, scored, visible, weight = (t.to(device) for t in rows)
                noise = torch.randn(len(x), network.latent_dim, generator=generator).to(x)
                prepared = network.likelihood.prepare(x)
                fit, kl = network(x, scored, visible, torch.zeros_like(x), noise, prepared)
                total += float((weight.to(fit) * (kl - fit)).sum())
        return total / float(self.weight.sum())


class OwnLoss:
    """What skorch is given for a criterion by nets that compute their loss themselves."""


class EpochLoop(skorch.NeuralNet):
    """skorch net whose training callbacks end by being ``settled_``, and a user by an interrupt.

    skorch takes `KeyboardInterrupt` for both: an interrupt would pass for a training that came to
    its end.
    """

    @property
    def settled_(self) -> bool:
        """Whether a callback has seen enough epochs."""
        return any(getattr(callback, "settled_", False) for _, callback in self.callbacks_)

    def partial_fit(
        self, X: TrainingData, y: None = None, classes: None = None, **fit_params: object
    ) -> Self:
        """Train from where the net is."""
        if not self.initialized_:
            self.initialize()
        self.notify("on_train_begin", X=X, y=y)
        self.fit_loop(X, y)
        self.notify("on_train_end", X=X, y=y)
        return self

    def fit_loop(
        self, X: TrainingData, y: None = None, epochs: int | None = None, **fit_params: object
    ) -> Self:
        """Train until there are as many epochs as wanted, or until a callback has settled."""
        self.check_data(X, y)
        dataset, _ = self.get_split_datasets(X, y)
        batches = self.get_iterator(dataset, training=True)
        last = self.max_epochs if epochs is None else len(self.history) + epochs
        with heeding_interrupts() as ask:
            while len(self.history) < last and not self.settled_:
                self.notify("on_epoch_begin", dataset_train=dataset, dataset_valid=None)
                self.run_single_epoch(
                    batches, training=True, prefix="train", step_fn=self.train_step
                )
                ask()
                self.notify("on_epoch_end", dataset_train=dataset, dataset_valid=None)
                ask()
        return self


class VAENet(EpochLoop):
    """skorch net that maximises a VAE's bound under input noise and random masks.

    Parameters
    ----------
    module : VAENetwork
        The networks, already initialised.
    input_noise : float
        Standard deviation of the noise added to the encoder's input, in standard deviations of
        the columns.
    mask_rate : float
        Each row hides a share of its observed cells from the encoder that is drawn uniformly from
        [0, mask_rate].
    reconstruct : {"observed", "visible"}
        Whether the bound also scores the observed cells that the mask hid.
    beta : float
        Weight of the KL.
    kl_warmup : int
        Steps over which that weight rises from a tenth of it; 0 for none.
    lr_warmup : int
        Steps over which the step size rises from nothing; 0 for none.
    steps_per_epoch : int
        Batches between two looks at the validation cells.
    seed : int
        Seed of batches, noise and masks.
    augment : callable, default=None
        ``augment(x, observed, generator)`` returns rows and masks changed at random.
    processes : Processes, default=None
        Those that train together; None for this one alone.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        input_noise: float = 0.2,
        mask_rate: float = 0.5,
        reconstruct: str = "observed",
        beta: float = 1.0,
        kl_warmup: int = 0,
        lr_warmup: int = 0,
        steps_per_epoch: int = 100,
        seed: int = 0,
        augment: Augment | None = None,
        processes: Processes | None = None,
        **kwargs: Any,
    ) -> None:
        self.processes = processes or Processes()
        self.augment = augment
        self.input_noise = input_noise
        self.mask_rate = mask_rate
        self.reconstruct = reconstruct
        self.beta = beta
        self.kl_warmup = kl_warmup
        self.lr_warmup = lr_warmup
        self.steps_per_epoch = steps_per_epoch
        self.seed = seed
        super().__init__(module, criterion=OwnLoss, train_split=None, **kwargs)

    @property
    def _default_callbacks(self) -> list[tuple[str, Callback]]:
        return [
            ("epoch_timer", EpochTimer()),
            ("train_loss", PassthroughScoring(name="train_loss", on_train=True)),
        ]

    def initialize_module(self) -> "VAENet":
        self.order_generator_ = torch_generator(derive_seed(self.seed, 0))
        rank = self.processes.rank
        more = (rank,) if rank else ()  # others' images need other noise
        self.noise_generator_ = torch_generator(derive_seed(self.seed, 1, *more))
        super().initialize_module()
        return self

    @property
    def network_(self) -> VAENetwork:
        """The network itself, without what processes that train together wrap around it."""
        network: VAENetwork = self.processes.bare(self.module_)
        return network

    def random_states(self) -> list[tuple[Tensor, Tensor]]:
        """Return the states of the generators of order and noise, process by process."""
        states = self.order_generator_.get_state(), self.noise_generator_.get_state()
        return self.processes.gathered(states)

    def set_random_states(self, states: list[tuple[Tensor, Tensor]]) -> None:
        """Put the generators into states that `random_states` returned."""
        order, noise = states[self.processes.rank]
        self.order_generator_.set_state(order)
        self.noise_generator_.set_state(noise)

    def get_iterator(self, dataset: TrainingData, training: bool = False) -> DataLoader[Any]:
        return Batches(
            dataset,
            self.batch_size,
            self.steps_per_epoch,
            self.order_generator_,
            rank=self.processes.rank,
            world_size=self.processes.world_size,
        ).loader()

    def run_single_epoch(
        self,
        iterator: Iterable[Any],
        training: bool,
        prefix: str,
        step_fn: Callable[..., dict[str, Any]],
        **fit_params: Any,
    ) -> None:
        """Pass through the batches as skorch does; what a GPU computed is read once, at the end."""
        waiting = []
        for batch in iterator:
            self.notify("on_batch_begin", batch=batch, training=training)
            for group in self.optimizer_.param_groups:
                group["lr"] = self.lr * risen(0.0, self._step + 1, self.lr_warmup)
            step = step_fn(batch, **fit_params)
            loss = step["loss"].detach()
            if loss.device.type == "cpu":
                self.history.record_batch(f"{prefix}_loss", loss.item())
            else:
                waiting.append(loss)
            self.history.record_batch(f"{prefix}_batch_size", get_len(batch[0]))
            self.notify("on_batch_end", batch=batch, training=training, **step)
        batches = self.history[-1]["batches"]
        if waiting:
            for record, number in zip(batches, torch.stack(waiting).cpu().tolist(), strict=True):
                record[f"{prefix}_loss"] = number
        self.history.record(f"{prefix}_batch_count", len(batches))

    def infer(self, x: dict[str, Tensor], **fit_params: Any) -> Any:
        values, observed = x["x"], x["observed"]
        if self.augment is not None:
            values, observed = self.augment(values, observed, self.noise_generator_)
        network = self.network_
        device = next(network.parameters()).device
        hidden = self._hide(observed).to(device)
        values, observed = values.to(device), observed.to(device)
        visible = observed & ~hidden
        scored = observed if self.reconstruct == "observed" else visible
        return self.module_(
            values,
            scored,
            visible,
            self.input_noise * self._normal(values.shape).to(device),
            self._normal((len(values), network.latent_dim)).to(device),
            network.likelihood.prepare(values),
        )

    def get_loss(self, y_pred: Any, y_true: Any, X: Any = None, training: bool = False) -> Tensor:
        fit, kl = y_pred
        loss: Tensor = (X["weight"].to(kl) * (self._kl_weight() * kl - fit)).mean()
        return loss

    def _kl_weight(self) -> float:
        """Return the weight of the KL at the step that is being taken."""
        return self.beta * risen(_KL_START, self._step, self.kl_warmup)

    @property
    def _step(self) -> int:
        """Number of the step that is being taken, from 0."""
        n_done: int = self.steps_per_epoch * (len(self.history) - 1)
        return n_done + len(self.history[-1, "batches"]) - 1

    def _hide(self, observed: Tensor) -> Tensor:
        generator = self.noise_generator_
        rate = self.mask_rate * torch.rand(len(observed), 1, generator=generator)
        return torch.rand(observed.shape, generator=generator) < rate

    def _normal(self, shape: tuple[int, ...] | torch.Size) -> Tensor:
        return torch.randn(shape, generator=self.noise_generator_)


def risen(start: float, step: int, n_steps: int) -> float:
    """Return what has grown evenly from ``start`` to 1 at this of so many steps."""
    return min(1.0, start + (1.0 - start) * step / n_steps) if n_steps else 1.0


def bare_network(net: Any) -> Any:
    """Return the network of a skorch net, without what training together wraps around it."""
    return getattr(net, "network_", net.module_)


class AverageWeights(Callback):
    """Keep an exponential moving average of the weights; it is what is scored and kept.

    Parameters
    ----------
    decay : float
        Share of the average that stays at each step, once enough steps were taken.
    """

    def __init__(self, decay: float) -> None:
        self.decay = decay

    def on_train_begin(self, net: VAENet, **kwargs: object) -> None:
        self.network_ = copy.deepcopy(bare_network(net)).eval().requires_grad_(False)
        self.n_steps_ = 0

    def on_batch_end(self, net: VAENet, training: bool = False, **kwargs: object) -> None:
        if not training:
            return
        self.n_steps_ += 1
        # a young average must forget the random initial weights
        decay = min(self.decay, (1 + self.n_steps_) / (10 + self.n_steps_))
        with torch.no_grad():
            torch._foreach_lerp_(_averaged(self.network_), _averaged(bare_network(net)), 1 - decay)


def _averaged(network: nn.Module) -> list[Tensor]:
    """Return what is averaged over steps: weights, and the statistics that batch norms keep."""
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    statistics = [b for norm in norms for b in (norm.running_mean, norm.running_var)]
    return [*network.parameters(), *(b for b in statistics if b is not None)]


class GuardSteps(Callback):
    """Shorten large gradients, and leave out steps whose gradient is huge or not finite.

    Parameters
    ----------
    clip_norm : float
        Norm that gradients are shortened to.
    skip_norm : float
        Norm from which on a step is left out. If it is infinite nobody waits for norms: gradients
        that are not finite count as zero.
    """

    def __init__(self, clip_norm: float, skip_norm: float) -> None:
        self.clip_norm, self.skip_norm = clip_norm, skip_norm

    def on_train_begin(self, net: VAENet, **kwargs: object) -> None:
        self.n_skipped_ = 0

    def on_grad_computed(
        self, net: VAENet, named_parameters: Iterable[tuple[str, nn.Parameter]], **kwargs: object
    ) -> None:
        parameters = [p for _, p in named_parameters if p.grad is not None]
        norm = nn.utils.clip_grad_norm_(parameters, self.clip_norm)
        if np.isinf(self.skip_norm):
            for parameter in parameters:
                gradient = cast(Tensor, parameter.grad)
                parameter.grad = torch.where(norm.isfinite(), gradient, 0.0)
        elif not float(norm) < self.skip_norm:
            self.n_skipped_ += 1
            for parameter in parameters:
                parameter.grad = None  # optimisers pass over it


class KeepBest(Callback):
    """Score the weights after each epoch, keep the best, settle when they stop improving.

    Parameters
    ----------
    score : callable
        ``score(network)`` is a number that is lower for better weights; ``score.name`` is what the
        history calls it.
    average : AverageWeights
        Whose weights are scored.
    patience : int
        Epochs without a better score after which training stops.
    on_epoch : callable, default=None
        Called after each epoch, for a progress bar.
    """

    def __init__(
        self,
        score: Score,
        average: AverageWeights,
        patience: int,
        on_epoch: Callable[[], object] | None = None,
    ) -> None:
        self.score, self.average, self.patience = score, average, patience
        self.on_epoch = on_epoch

    def on_train_begin(self, net: VAENet, **kwargs: object) -> None:
        self.best_score_, self.best_epoch_, self.settled_ = np.inf, 0, False
        self._look(net, 0)  # a good start may be the best there is

    def on_epoch_end(self, net: VAENet, **kwargs: object) -> None:
        epoch = len(net.history)
        loss = net.processes.mean(net.history[-1, "train_loss"])
        net.history.record("train_loss", loss)
        if not np.isfinite(loss):
            raise TrainingDivergedError(
                f"The training loss became {loss} in epoch {epoch}. Lower learning_rate (now "
                f"{net.lr}), or check the columns for values so extreme that they overflow."
            )
        net.history.record(self.score.name, self._look(net, epoch))
        if self.on_epoch is not None:
            self.on_epoch()
        self.settled_ = epoch - self.best_epoch_ >= self.patience

    def _look(self, net: VAENet, epoch: int) -> float:
        """Score the averaged weights, and keep them if they are the best so far."""
        # rounding must not let processes disagree on when to stop
        score = net.processes.mean(float(self.score(self.average.network_)))
        if score < self.best_score_:
            self.best_score_, self.best_epoch_ = score, epoch
            self.network_ = copy.deepcopy(self.average.network_)
        return score


@dataclass(frozen=True)
class TrainedNetwork:
    """What one training leaves.

    Parameters
    ----------
    network : VAENetwork or torch.nn.Module
        The networks as they were in the best epoch.
    score : float
        Its validation score.
    settled : bool
        Whether later epochs no longer improved it.
    history : list of dict
        By epoch the loss, the score and seconds.
    """

    network: Any
    score: float
    settled: bool
    history: list[dict[str, float]]


def train_network(
    network: nn.Module,
    data: TrainingData,
    score: Score,
    *,
    average_decay: float,
    patience: int,
    weight_decay: float,
    on_epoch: Callable[[], object],
    net_class: type[VAENet] = VAENet,
    callbacks: Sequence[tuple[str, Callback]] = (),
    checkpoint: Path | None = None,
    processes: Processes | None = None,
    **options: Any,
) -> TrainedNetwork:
    """Train one network and keep its best epoch.

    Parameters
    ----------
    network : VAENetwork or torch.nn.Module
        With initial weights; what ``net_class`` trains.
    data : TrainingData
        Rows to learn from.
    score : callable
        What the best epoch is kept by, see `KeepBest`.
    average_decay, patience : float, int
        See `AverageWeights` and `KeepBest`.
    weight_decay : float
        Decoupled weight decay of AdamW.
    on_epoch : callable
        Called after each epoch.
    net_class : type, default=VAENet
        The loss that is trained on.
    callbacks : sequence of (str, skorch.callbacks.Callback), default=()
        Further callbacks.
    checkpoint : path-like, default=None
        Where the state of training is written after each epoch, see `Checkpoint`.
    processes : Processes, default=None
        Those that train together.
    **options : object
        Further arguments of the net.

    Returns
    -------
    trained : TrainedNetwork
        The best epoch.
    """
    average = AverageWeights(average_decay)
    best = KeepBest(score, average, patience, on_epoch)
    callbacks = [*callbacks, ("average", average), ("best", best)]
    if checkpoint is not None:
        callbacks.append(("checkpoint", Checkpoint(checkpoint, average, best)))
    processes = processes or Processes()
    kind, more = processes.net_class(net_class)
    net = kind(
        network,
        optimizer=torch.optim.AdamW,
        optimizer__weight_decay=weight_decay,
        callbacks=callbacks,
        verbose=0,
        processes=processes,
        **{**options, **more},
    )
    net.fit(data, None)
    history = _plain_history(net.history, score.name)
    return TrainedNetwork(best.network_, best.best_score_, best.settled_, history)


def _plain_history(history: Any, score_name: str) -> list[dict[str, float]]:
    keys = ("train_loss", score_name, "dur")
    return [{k: float(epoch[k]) for k in keys if k in epoch} for epoch in history]
