"""What the estimators share: the choice of an inference method, rows in chunks, draws, scores.

An estimator turns its input into an `EncodedTable` and values back into its input's kind; what
lies between is here. Wiring only; the mathematics is elsewhere.
"""

import json
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from numbers import Integral, Real
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from joblib import effective_n_jobs
from numpy.typing import NDArray
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from ._checks import plain
from ._chunks import ChunkResult, ChunkTask, Summary, run_chunks
from ._device import resolve_device
from ._persistence import describe_imputer, read_imputer, restore_imputer, write_imputer
from ._progress import RowBar
from ._random import derive_seed, seed_from
from ._sklearn_compat import Interval, StrOptions, clone_parametrized
from .baselines import BASELINES
from .exceptions import InferenceConvergenceWarning, UnreliablePosteriorWarning
from .generative import GenerativeModel
from .generative._checkpoint import PlainState
from .inference import POSTERIORS, Context, InferenceMethod
from .preprocessing import EncodedTable
from .sampling import DecoderPool, PooledPosterior, half_sample_mode

__all__ = [
    "N_SUMMARY_DRAWS",
    "BaseQAVI",
    "Query",
    "checked_count",
    "checked_level",
    "interval_limits",
]

N_SUMMARY_DRAWS = 256  # draws behind medians, modes and intervals
_DRAWS_BYTES = 2**26  # of draws that `iter_samples` holds
_HIDDEN_SHARE = 0.3  # of the observed cells, in `score`
_PARTS = {"model": 0, "inference": 1, "draws": 2, "score": 3, "method": 4}  # purposes of seeds
_UNRELIABLE_K = 0.7  # Pareto k above which importance weights have no useful variance


@dataclass(frozen=True)
class Query:
    """What one call asks to complete.

    Parameters
    ----------
    table : EncodedTable
        The rows as numbers with a mask.
    checked : Frame or ImageBatch
        The input after its checks, which values are put into.
    original : object, default=None
        Images as they came, whose container is given back.
    """

    table: EncodedTable
    checked: Any
    original: Any = None


class BaseQAVI(PlainState):
    """Inference parameters and what they do, for an estimator that has them as its own.

    A subclass fills in `_original_units` and `_completed`, and in `fit` calls `_take_model`.
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "posterior": [StrOptions({"auto", *POSTERIORS, *BASELINES}), InferenceMethod],
        "beta": [None, Interval(Real, 0, None, closed="left")],
        "max_iter": [None, Interval(Integral, 1, None, closed="left")],
        "tol": [None, Interval(Real, 0, None, closed="left")],
        "importance_resampling": ["boolean"],
        "strategy": [StrOptions({"mean", "median", "mode"})],
        "sample_posterior": ["boolean"],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "device": [str],
        "n_jobs": [None, Integral],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    posterior: str | InferenceMethod
    beta: float | None
    max_iter: int | None
    tol: float | None
    importance_resampling: bool
    strategy: str
    sample_posterior: bool
    batch_size: int
    device: str
    n_jobs: int | None
    random_state: int | np.random.RandomState | None
    verbose: int
    generative_model: Any

    generative_model_: Any
    history_: list[list[dict[str, float]]]
    n_iter_: int
    _seed: int
    _method_states: list[Any]

    def save(self, folder: str | Path) -> None:
        """Write the fitted imputer as safetensors weights and readable JSON, without pickle.

        What `fit` saw is not written, apart from the levels and ranges of a table's columns.

        Parameters
        ----------
        folder : path-like
            Where to; made if need be.

        Raises
        ------
        ModelFormatError
            If a part cannot be written without pickle: a decoder or levels of foreign types, or
            the networks of a posterior that trains its own.
        ValueError
            If the folder cannot be written to.
        """
        check_is_fitted(self)
        write_imputer(self, folder)

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read an imputer that `save` wrote; nothing is unpickled.

        Parameters
        ----------
        folder : path-like
            Where from.

        Returns
        -------
        imputer : object
            Fitted; it gives the numbers that the saved one gave, to the bit.

        Raises
        ------
        ModelFormatError
            If a file is missing, was changed in any byte, is of a newer version, or does not fit
            its description.
        """
        return read_imputer(cls, folder)

    def __sklearn_clone__(self) -> Self:
        """Keep a trained model: cross-validation clones, and must not train it again."""
        copied = clone_parametrized(self)
        if isinstance(self.generative_model, GenerativeModel):
            copied.generative_model = self.generative_model
        return copied

    def __sklearn_tags__(self) -> Tags:
        tags: Tags = super().__sklearn_tags__()  # type: ignore[misc]
        budget = getattr(self.posterior, "time_budget", None)
        tags.non_deterministic = budget is not None or (
            self.sample_posterior and not isinstance(self.random_state, Integral)
        )
        return tags

    def _plain_state(self) -> dict[str, Any]:
        return {"config": json.dumps(describe_imputer(self)), "model": self.generative_model_}

    def _restore_state(self, state: dict[str, Any]) -> None:
        restore_imputer(self, json.loads(state["config"]), state["model"], "its state")

    # What a subclass says about its input

    _bring_your_own: ClassVar[str] = "PretrainedDecoder"

    def _original_units(self, values: NDArray[np.float64], *, whole: bool) -> NDArray[np.float64]:
        """Turn standardised values (..., D) into original units, rounded if ``whole``."""
        raise NotImplementedError

    def _completed(self, query: Query, imputed: NDArray[np.float64]) -> Any:
        """Return the input with values (N, D) in original units in its missing cells."""
        raise NotImplementedError

    def _tamed(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return standardised values with none too far out for inference."""
        return values

    def _warn_odd(self, table: EncodedTable) -> None:
        """Warn of observed values that inference will not take as they are."""

    @property
    def _in_turn(self) -> bool:
        """Whether the m-th draws of all rows are from one decoder."""
        return False

    _start: ClassVar[str] = "prior"
    """Where posteriors over the code start, see `Gaussian`."""

    # What calls are made of

    def _points(self, query: Query, row_offset: int = 0) -> NDArray[np.float64]:
        """Return one value for each missing cell, (N, D)."""
        return self._over_chunks(
            query.table,
            self._point_summary(),
            row_offset=row_offset,
            whole=self.sample_posterior or self.strategy != "mean",
        )[0]

    def _draws(self, query: Query, n: int, row_offset: int = 0) -> list[Any]:
        """Return the input completed n times."""
        draws = self._over_chunks(
            query.table, self._draw_summary(n), n_values=n, row_offset=row_offset
        )
        return [self._completed(query, draw) for draw in draws]

    def _iter_draws(self, query: Query, n: int, row_offset: int = 0) -> Iterator[Any]:
        """Yield what `_draws` returns, holding as many values as `_DRAWS_BYTES` says."""
        rows = query.table.incomplete_rows
        imputed = np.full(query.table.values.shape, np.nan)
        if len(rows) == 0:
            for _ in range(n):
                yield self._completed(query, imputed)
            return
        chunks = list(self._chunk_results(query.table, _keep, row_offset=row_offset))
        seed = derive_seed(self._seed, _PARTS["draws"])
        at_a_time = max(1, min(n, int(_DRAWS_BYTES / (8 * imputed.size))))
        for first in range(0, n, at_a_time):
            count = min(at_a_time, n - first)
            draws = np.full((count, *imputed.shape), np.nan)
            for chunk, result in chunks:
                drawn = result.values.keyed_draws(
                    count, rows[chunk] + row_offset, seed, first=first, in_turn=self._in_turn
                )
                draws[:, rows[chunk]] = self._original_units(drawn, whole=True)
            for draw in draws:
                yield self._completed(query, draw)

    def _posteriors(self, table: EncodedTable, *, trace: bool = False) -> PooledPosterior:
        """Return the posteriors of all rows, with the diagnostics of their weights."""
        pool = self._pool_here()
        if trace and not pool.method.has_trace:
            raise ValueError(
                f"posterior={plain(self.posterior)} optimises no bound row by row, so there is no "
                "trace to keep. posterior='gaussian', 'mixture', 'flow' and 'feature' do."
            )
        pool = replace(pool, context=replace(pool.context, trace=trace))
        with self._progress(len(table.values)) as progress:
            pooled = pool.infer(
                *self._tensors(table),
                progress.update,
                weigh=True,
                resample=self.importance_resampling,
                deadline=self._deadline(),
            )
        self._warn_unconverged(pooled.converged)
        self._warn_unreliable(pooled.pareto_k)
        return pooled

    def _score_of_hidden(self, table: EncodedTable) -> float:
        """Hide observed cells at random; return the mean log predictive density of a cell."""
        hidden = self._hide_observed(table.observed, derive_seed(self._seed, _PARTS["score"]))
        if not hidden.any():
            raise ValueError(
                "score hides observed cells, but no row of X has two of them; pass rows with more."
            )
        shown = EncodedTable(np.where(hidden, np.nan, table.values), table.observed & ~hidden)
        truth, _ = self._model_units(table)
        log_density = self._over_chunks(shown, partial(_log_density, truth), units=False)[0]
        return float(log_density[hidden].mean())

    def _hide_observed(self, observed: NDArray[np.bool_], seed: int) -> NDArray[np.bool_]:
        """Hide observed cells (N, D) at random, but at least one and not all in rows with more."""
        return hide_some(observed, seed)

    def _scores_of_missing(
        self,
        table: EncodedTable,
        hidden: NDArray[np.bool_],
        n_draws: int | Sequence[int],
        return_details: bool,
    ) -> Any:
        """Hide these cells (N, D), infer them, and score the posteriors row by row."""
        sizes = checked_sizes(n_draws)
        rows = np.flatnonzero(hidden.any(axis=1))
        if len(rows) == 0:
            raise ValueError("missing hides no cell: there is nothing to score.")
        pool = self._pool_here()
        x, observed = self._tensors(table.take(rows))
        scored = torch.from_numpy(hidden[rows]).to(x.device)
        visible = observed & ~scored
        start = time.perf_counter()
        with self._progress(len(rows)) as progress:
            pooled = pool.infer(
                x,
                visible,
                progress.update,
                resample=self.importance_resampling,
                deadline=self._deadline(),
            )
        details = {  # read from the device, which has then done its work
            "n_cells": hidden.sum(axis=1),
            "n_evaluations": _of_all(pooled.n_evaluations, rows, len(hidden)),
            "converged": _of_all(pooled.converged, rows, len(hidden), fill=True),
        }
        details["seconds"] = time.perf_counter() - start
        self._warn_unconverged(pooled.converged)
        scores = {
            name: _of_all(values, rows, len(hidden))
            for name, values in pooled.score_missing(x, visible, scored, sizes).items()
        }
        return (scores, details) if return_details else scores

    # The model and how it is asked

    def _take_model(self, model: Any, table: EncodedTable | None) -> None:
        """Keep a trained model, its history, and what the inference method learns beside it."""
        self.generative_model_ = model
        self.history_ = getattr(model, "history_", [])
        self.n_iter_ = getattr(model, "n_iter_", 0)
        self._method_states = self._learn_method(table)

    def _check_devices(self) -> None:
        """Raise if inference, or the training of the model, asks for a device that is not there."""
        resolve_device(self.device)
        model = self.generative_model
        if hasattr(model, "get_params") and not isinstance(model, GenerativeModel):
            resolve_device(model.get_params(deep=False).get("device", "cpu"))

    def _seed_model(self, model: Any) -> None:
        """Seed a model to be trained, unless it has a seed of its own."""
        if model.get_params(deep=False).get("random_state", 0) is None:
            model.set_params(random_state=derive_seed(self._seed, _PARTS["model"]) % 2**31)

    def _method(self) -> InferenceMethod:
        """Return the inference method, after all checks of whether it can do what is asked."""
        name, model = self.posterior, self.generative_model_
        layered = is_layered(model)
        if name == "auto":
            name = "hierarchical" if layered else "gaussian"
        methods: dict[str, Any] = {**POSTERIORS, **BASELINES}
        method = methods[name]() if isinstance(name, str) else name
        method.check()
        self._check_options(method)
        if method.needs is None or all(hasattr(m, method.needs) for m in model.members_):
            return method
        kind = type(model).__name__
        if method.needs == "descend":
            message = (
                f"needs a hierarchical model, but this {kind} has one code. Choose "
                "posterior='gaussian', 'mixture' or 'flow'."
            )
        elif layered:
            message = (
                f"needs an encoder of one code, but this {kind} has codes at many layers. Choose "
                "posterior='hierarchical'."
            )
        else:
            message = (
                f"needs the model's encoder, but this {kind} has none. Pass encoder= to "
                f"{self._bring_your_own}, or choose posterior='gaussian', 'mixture' or 'flow', "
                "which need the decoder alone."
            )
        raise ValueError(f"posterior={plain(self.posterior)} {message}")

    def _check_options(self, method: InferenceMethod) -> None:
        """Refuse options that would be ignored."""
        given = [name for name in ("beta", "max_iter", "tol") if getattr(self, name) is not None]
        unread = [name for name in given if name not in method.reads]
        if unread:
            kind = type(method).__name__
            own = ", ".join(method.get_params(deep=False)) or "none"
            raise ValueError(
                f"{' and '.join(unread)} would be ignored: posterior={plain(self.posterior)} is "
                f"not optimised row by row. Leave {' and '.join(unread)} at None; the options of "
                f"{kind} itself are: {own}."
            )
        if self.sample_posterior and self.strategy != "mean":
            raise ValueError(
                f"strategy={plain(self.strategy)} would be ignored: sample_posterior=True fills "
                "missing values with draws. Choose one of the two."
            )

    @property
    def _reads_max_iter(self) -> bool:
        """Whether posteriors are optimised in steps, which ``max_iter`` limits."""
        return "max_iter" in self._method().reads

    def _context(self, method: InferenceMethod) -> Context:
        """Return what the inference method is told besides the rows."""
        beta = self.beta
        if beta is None:
            beta = float(getattr(self.generative_model_, "inference_beta_", 1.0))
        return Context(
            seed=derive_seed(self._seed, _PARTS["inference"]),
            batch_size=self.batch_size,
            beta=beta,
            max_iter=self.max_iter,
            tol=self.tol,
            start=self._start,
        )

    @property
    def _time_budget(self) -> float | None:
        return getattr(self.posterior, "time_budget", None)

    def _learn_method(self, table: EncodedTable | None) -> list[Any]:
        """Train what the inference method needs besides each decoder; often nothing."""
        method, model = self._method(), self.generative_model_
        if type(method).learn is InferenceMethod.learn:
            return [None] * len(model.members_)
        if table is None:
            raise ValueError(f"posterior={plain(self.posterior)} has to be trained: pass X to fit.")
        x, observed = self._model_units(table.take(np.flatnonzero(table.observed.any(axis=1))))
        return [
            method.learn(decoder, x, observed, seed=derive_seed(self._seed, _PARTS["method"], k))
            for k, decoder in enumerate(model.members_)
        ]

    def _pool(self) -> DecoderPool:
        method, states = self._method(), self._method_states
        if type(method).learn is not InferenceMethod.learn and None in states:
            raise ValueError(
                f"posterior={plain(self.posterior)} has to be trained, but was chosen after fit; "
                "call fit again."
            )
        # the fitted model stays on the CPU, where it is pickled and saved
        decoders = self.generative_model_.members_
        return DecoderPool(decoders, method, states, self._context(method))

    def _pool_here(self) -> DecoderPool:
        """Return the pool on the device of inference."""
        return self._pool().on(resolve_device(self.device))

    def _deadline(self) -> float | None:
        budget = self._time_budget
        return None if budget is None else time.monotonic() + budget

    def _model_units(self, table: EncodedTable) -> tuple[Tensor, Tensor]:
        """Return standardised values, zero where missing, and the observed mask."""
        with np.errstate(over="ignore"):
            values = self.generative_model_.standardise(np.where(table.observed, table.values, 0.0))
        values = np.where(table.observed, self._tamed(values), 0.0)
        return torch.from_numpy(values).to(torch.float32), torch.from_numpy(table.observed)

    def _tensors(self, table: EncodedTable) -> tuple[Tensor, Tensor]:
        """Return what `_model_units` does, on the device of inference."""
        device = resolve_device(self.device)
        x, observed = self._model_units(table)
        return x.to(device), observed.to(device)

    def _over_chunks(
        self,
        table: EncodedTable,
        summary: Summary,
        n_values: int = 1,
        *,
        units: bool = True,
        whole: bool = True,
        width: int | None = None,
        row_offset: int = 0,
    ) -> NDArray[np.float64]:
        """Infer the incomplete rows chunk by chunk; return (n_values, N, D), NaN elsewhere.

        ``summary`` turns the posteriors of some rows, and their positions, into
        (n_values, rows, D) standardised values, or as many columns as ``width`` says; ``units``
        turns those into original units, rounded where a column is ``whole``.
        """
        rows = table.incomplete_rows
        out = np.full((n_values, len(table.values), width or table.values.shape[1]), np.nan)
        if len(rows) == 0 or n_values == 0:
            return out
        for chunk, result in self._chunk_results(table, summary, row_offset=row_offset):
            values = self._original_units(result.values, whole=whole) if units else result.values
            out[:, rows[chunk]] = values
        return out

    def _chunk_results(
        self, table: EncodedTable, summary: Any, *, row_offset: int
    ) -> Iterator[tuple[slice, ChunkResult]]:
        """Yield chunks of the incomplete rows and what ``summary`` makes of their posteriors."""
        rows = table.incomplete_rows
        self._warn_odd(table)
        n_workers, budget = effective_n_jobs(self.n_jobs), self._time_budget
        task = ChunkTask(
            self._pool(),
            self.device,
            summary,
            self.importance_resampling,
            None if budget is None else budget * n_workers / len(rows),
            alone=n_workers == 1,
        )
        converged, k_hat = [], []
        with self._progress(len(rows)) as progress:
            for chunk, result in run_chunks(
                task,
                *self._model_units(table.take(rows)),
                rows + row_offset,
                n_jobs=self.n_jobs,
                progress=progress.update,
            ):
                converged.append(result.converged)
                k_hat.append(result.pareto_k)
                yield chunk, result
        self._warn_unconverged(np.concatenate(converged))
        self._warn_unreliable(np.concatenate(k_hat))

    def _point_summary(self) -> Summary:
        return self._new_draw() if self.sample_posterior else _POINTS[self.strategy]

    def _draw_summary(self, n: int) -> Summary:
        return partial(_keyed_draws, n, derive_seed(self._seed, _PARTS["draws"]), self._in_turn)

    def _new_draw(self) -> Summary:
        """Return a draw that differs from call to call, unless the seed is an integer."""
        fixed = isinstance(self.random_state, Integral)
        seed = self._seed if fixed else seed_from(self.random_state)
        return partial(_keyed_draws, 1, derive_seed(seed, _PARTS["draws"]), self._in_turn)

    def _progress(self, n_rows: int) -> RowBar:
        """Return a bar of rows; called with rows under one decoder, one after the other."""
        n_decoders = len(self.generative_model_.members_)
        silent = not self.verbose
        return RowBar(n_rows, desc="inference", unit="row", silent=silent, n_parts=n_decoders)

    def _warn_unconverged(self, converged: NDArray[np.bool_]) -> None:
        n_unconverged = int((~converged).sum())
        if n_unconverged:
            ran_out, increase = "steps", "max_iter, or tol"
            if self._time_budget is not None:
                ran_out, increase = f"{self._time_budget:g} s", "time_budget"
            warnings.warn(
                f"The posteriors of {n_unconverged} of {len(converged)} incomplete rows had not "
                f"converged when the {ran_out} ran out. Increase {increase}.",
                InferenceConvergenceWarning,
                stacklevel=3,
            )

    def _warn_unreliable(self, k_hat: NDArray[np.float64]) -> None:
        n_unreliable = int((k_hat > _UNRELIABLE_K).sum())
        if n_unreliable:
            warnings.warn(
                f"The importance weights of {n_unreliable} of {len(k_hat)} incomplete rows are "
                f"unreliable (Pareto k above {_UNRELIABLE_K}): their posteriors miss part of what "
                "the decoder finds likely. posterior='mixture' or 'flow', or a larger max_iter, "
                "may help.",
                UnreliablePosteriorWarning,
                stacklevel=3,
            )


# What becomes of posteriors; functions of the module, so that they reach other processes.


def _mean(pooled: PooledPosterior, positions: NDArray[np.int64]) -> NDArray[np.float64]:
    return pooled.mean()[None]


def _median(pooled: PooledPosterior, positions: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.median(pooled.shared_draws(N_SUMMARY_DRAWS), axis=0)[None]


def _mode(pooled: PooledPosterior, positions: NDArray[np.int64]) -> NDArray[np.float64]:
    return half_sample_mode(pooled.shared_draws(N_SUMMARY_DRAWS))[None]


def _keep(pooled: PooledPosterior, positions: NDArray[np.int64]) -> PooledPosterior:
    return pooled


def interval_limits(
    level: float, pooled: PooledPosterior, positions: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the limits of central intervals of a mass, (2, rows, D)."""
    tail = (1.0 - level) / 2
    limits = [tail, 1.0 - tail]
    return np.quantile(pooled.shared_draws(N_SUMMARY_DRAWS), limits, axis=0)


def _keyed_draws(
    n: int, seed: int, in_turn: bool, pooled: PooledPosterior, positions: NDArray[np.int64]
) -> NDArray[np.float64]:
    return pooled.keyed_draws(n, positions, seed, in_turn=in_turn)


def _log_density(
    truth: Tensor, pooled: PooledPosterior, positions: NDArray[np.int64]
) -> NDArray[np.float64]:
    rows = truth[torch.from_numpy(positions)]
    return pooled.log_predictive(rows.to(pooled.members[0].bound.device))[None]


_POINTS: dict[str, Summary] = {"mean": _mean, "median": _median, "mode": _mode}


def checked_count(name: str, value: Any) -> int:
    """Return a whole number of at least 0."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < 0:
        raise ValueError(f"{name} must be a whole number of at least 0, got {plain(value)}.")
    return int(value)


def checked_sizes(n_draws: Any) -> int | list[int]:
    """Return one number of draws or several, each at least 1."""
    values = np.asarray(n_draws)
    if values.ndim > 1 or values.size == 0 or values.dtype.kind not in "iu" or (values < 1).any():
        raise ValueError(
            "n_draws must be a whole number of at least 1, or a list of them, got "
            f"{plain(n_draws)}."
        )
    sizes: int | list[int] = values.tolist()
    return sizes


def checked_level(level: Any) -> Any:
    """Return a number between 0 and 1."""
    if not isinstance(level, int | float | np.number) or not 0.0 < level < 1.0:
        raise ValueError(f"level must be a number between 0 and 1, got {plain(level)}.")
    return level


def is_layered(model: GenerativeModel) -> bool:
    """Return whether every decoder of a model has stochastic layers."""
    return all(hasattr(member, "descend") for member in model.members_)


def _of_all(
    values: NDArray[Any], rows: NDArray[np.intp], n_rows: int, fill: Any = np.nan
) -> NDArray[Any]:
    """Return the values (..., len(rows)) of some rows among those of all, (..., n_rows)."""
    out = np.full((*values.shape[:-1], n_rows), fill, dtype=values.dtype)
    out[..., rows] = values
    return out


def hide_some(observed: NDArray[np.bool_], seed: int) -> NDArray[np.bool_]:
    """Hide observed cells at random, but at least one and not all in rows with two or more."""
    u = np.random.default_rng(seed).random(observed.shape)
    u[~observed] = np.inf
    order = u.argsort(axis=1).argsort(axis=1)
    count = observed.sum(axis=1, keepdims=True)
    n_hidden = np.where(count > 1, np.maximum(np.round(_HIDDEN_SHARE * count), 1), 0)
    return observed & (order < n_hidden)
