"""What the estimators share: parameters of inference, what they stand for, saving and loading."""

import json
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted
from torch import nn

from ._checks import plain
from ._device import resolve_device
from ._persistence import describe_imputer, read_imputer, restore_imputer, write_imputer
from ._random import derive_seed, seed_from
from ._row_inference import RowInference, Rows
from ._sklearn_compat import Interval, StrOptions, clone_parametrized
from ._summaries import KeyedDraws
from ._typing import Decoder, HasLayers
from .baselines import BASELINES
from .exceptions import ModelFormatError
from .generative import GenerativeModel
from .generative._checkpoint import PlainState
from .generative._network import TabularNetwork
from .inference import POSTERIORS, Context, InferenceMethod
from .sampling import DecoderPool
from .sampling._pixel_noise import PixelNoise

__all__ = [
    "BaseQAVI",
    "check_can_hide",
    "check_hides_some",
    "checked_count",
    "checked_level",
    "checked_sizes",
    "hide_some",
]

_METHODS: dict[str | None, type[InferenceMethod]] = dict([*POSTERIORS.items(), *BASELINES.items()])
_HIDDEN_SHARE = 0.3  # of the observed cells, in `score`
_LARGE_NETWORK = 1_000_000  # weights
_PARTS = {"model": 0, "inference": 1, "draws": 2, "score": 3, "method": 4}  # purposes of seeds


class BaseQAVI(PlainState):
    """Inference parameters and what they stand for, for an estimator that has them as its own.

    A subclass calls `_take_model` in `fit`. Its other methods encode what came as `Rows`, ask
    `_inference` for what they want to know of them, and decode the answer.
    """

    _parameter_constraints: ClassVar[dict[str, list[object]]] = {
        "posterior": [StrOptions({"auto", *_METHODS}), InferenceMethod],
        "beta": [None, Interval(Real, 0, None, closed="left")],
        "max_iter": [None, Interval(Integral, 1, None, closed="left")],
        "tol": [None, Interval(Real, 0, None, closed="left")],
        "importance_resampling": ["boolean"],
        "strategy": [StrOptions({"mean", "median", "mode"})],
        "sample_posterior": ["boolean"],
        "batch_size": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
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
    batch_size: int | str
    device: str
    n_jobs: int | None
    random_state: int | np.random.RandomState | None
    verbose: int
    generative_model: BaseEstimator

    generative_model_: BaseEstimator
    history_: list[list[dict[str, float]]]
    n_iter_: int
    _seed: int
    _method_states: list[object]

    def save(self, folder: str | Path) -> None:
        """Write the fitted imputer as safetensors weights and readable JSON, without pickle.

        What `fit` saw is not written, apart from the categories and ranges of a table's columns.

        Parameters
        ----------
        folder : path-like
            Where to; made if need be.

        Raises
        ------
        ModelFormatError
            If a part cannot be written without pickle: a decoder that does not say where its code
            is imported from, categories of foreign types, or the networks of a posterior that
            trains its own.
        ValueError
            If the folder cannot be written to.
        """
        check_is_fitted(self)
        write_imputer(self, folder)

    @classmethod
    def load(cls, folder: str | Path, *, trusted: Sequence[str] = ()) -> Self:
        """Read an imputer that `save` wrote; nothing is unpickled.

        Parameters
        ----------
        folder : path-like
            Where from.
        trusted : sequence of str, default=()
            The ``source`` of a `PretrainedDecoder` whose code may be imported and called; without
            a name here no code is run.

        Returns
        -------
        imputer : object
            Fitted; it gives the numbers that the saved one gave, to the bit.

        Raises
        ------
        ModelFormatError
            If a file is missing, was changed in any byte, is of a newer version, or does not fit
            its description, or if the code of a decoder is not trusted.
        """
        imputer: Self = read_imputer(cls, folder, trusted=trusted)
        return imputer

    def set_params(self, **params: object) -> Self:
        """Set parameters, also those of the posterior and of the generative model.

        Parameters
        ----------
        **params : dict
            Such as ``beta=2`` or ``posterior__n_components=3``. A string, or None for the model,
            becomes the object that it is short for when a parameter of that object is set.

        Returns
        -------
        self : object
            The estimator.
        """
        for name, objects in (("posterior", _METHODS), ("generative_model", self._models)):
            value = params.get(name, getattr(self, name))
            nested = any(key.startswith(f"{name}__") for key in params)
            if not nested or not (value is None or isinstance(value, str)):
                continue
            if value not in objects:
                raise ValueError(
                    f"{name}={plain(value)} leaves open what is chosen, so it has no parameters to "
                    f"set. Choose one of {sorted(filter(None, objects))}."
                )
            params = {**params, name: objects[value]()}
        changed: Self = super().set_params(**params)
        return changed

    def __sklearn_clone__(self) -> Self:
        """Keep a trained model: cross-validation clones, and must not train it again."""
        copied: Self = clone_parametrized(self)
        if isinstance(self.generative_model, GenerativeModel):
            copied.generative_model = self.generative_model
        return copied

    def __sklearn_tags__(self) -> Tags:
        tags: Tags = super().__sklearn_tags__()
        budget = getattr(self.posterior, "time_budget", None)
        tags.non_deterministic = budget is not None or (
            self.sample_posterior and not isinstance(self.random_state, Integral)
        )
        return tags

    def _plain_state(self) -> dict[str, object]:
        config, model = describe_imputer(self), self.generative_model_
        if not isinstance(model, PlainState):
            raise ModelFormatError(
                f"A {type(model).__name__} cannot be saved as arrays and text alone: the code of "
                "its decoder is not ours. Use save, and load with trusted=."
            )
        return {"config": json.dumps(config), "model": model}

    def _restore_state(self, state: dict[str, Any]) -> None:
        restore_imputer(self, json.loads(state["config"]), state["model"], "its state")

    _models: ClassVar[Mapping[str | None, type[BaseEstimator]]]
    """What strings, and None, as ``generative_model`` are short for."""

    _start: ClassVar[str] = "prior"
    """Where posteriors over the code start, see `Gaussian`."""

    @property
    def _in_turn(self) -> bool:
        """Whether the m-th draws of all rows are from one decoder."""
        model = self.generative_model_
        return len(model.decoders_) > 1 and bool(getattr(model, "bootstrap", False))

    # The model and how it is asked

    def _take_model(self, model: BaseEstimator) -> None:
        """Keep a trained model and its history."""
        self.generative_model_ = model
        self.history_ = getattr(model, "history_", [])
        self.n_iter_ = getattr(model, "n_iter_", 0)

    def _check_before_training(self) -> None:
        """Raise for what can be seen before anybody waits for a model: devices and options."""
        if self.posterior != "auto":
            self._checked(self.posterior)
        resolve_device(self.device)
        model = self.generative_model
        if hasattr(model, "get_params") and not isinstance(model, GenerativeModel):
            resolve_device(model.get_params(deep=False).get("device", "cpu"))

    def _trained_already(self, n_cells: int, *, wrapped: str, known: str) -> BaseEstimator | None:
        """Return the trained model that was handed in, None if one has to be trained.

        Messages say how a bare decoder is to be ``wrapped``, and what is ``known`` of the data.
        """
        model = self.generative_model
        if isinstance(model, nn.Module):
            raise ValueError(
                "A decoder module does not say what its output means. Pass "
                f"generative_model={wrapped}, or another likelihood."
            )
        if not isinstance(model, GenerativeModel):
            return None
        if model.n_features_in_ != n_cells:
            raise ValueError(f"The generative model is of {model.n_features_in_} {known}.")
        return model

    def _seed_model(self, model: BaseEstimator) -> None:
        """Seed a model to be trained, unless it has a seed of its own."""
        if model.get_params(deep=False).get("random_state", 0) is None:
            model.set_params(random_state=derive_seed(self._seed, _PARTS["model"]) % 2**31)

    def _method(self) -> InferenceMethod:
        """Return the inference method, after all checks of whether it can do what is asked."""
        name, model = self.posterior, self.generative_model_
        layered = is_layered(model)
        if name == "auto":
            name = "hierarchical" if layered else "gaussian"
        method = self._checked(name)
        if method.needs is None or all(isinstance(d, method.needs) for d in model.decoders_):
            return method
        kind = type(model).__name__
        if method.needs is HasLayers:
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
                "PretrainedDecoder, or choose posterior='gaussian', 'mixture' or 'flow', "
                "which need the decoder alone."
            )
        raise ValueError(f"posterior={plain(self.posterior)} {message}")

    def _checked(self, name: str | InferenceMethod) -> InferenceMethod:
        """Return the inference method of this name, unless an option is wrong or ignored."""
        method: InferenceMethod = _METHODS[name]() if isinstance(name, str) else name
        method.check()
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
        return method

    @property
    def _reads_max_iter(self) -> bool:
        """Whether posteriors are optimised in steps, which ``max_iter`` limits."""
        return "max_iter" in self._method().reads

    def _check_trace(self, trace: bool) -> None:
        if trace and not self._method().has_trace:
            raise ValueError(
                f"posterior={plain(self.posterior)} optimises no bound row by row, so there is no "
                "trace to keep. posterior='gaussian', 'mixture', 'flow' and 'feature' do."
            )

    def _context(self, method: InferenceMethod) -> Context:
        """Return what the inference method is told besides the rows."""
        beta = self.beta
        if beta is None:
            beta = float(getattr(self.generative_model_, "inference_beta_", 1.0))
        return Context(
            seed=derive_seed(self._seed, _PARTS["inference"]),
            batch_size=None if isinstance(self.batch_size, str) else self.batch_size,
            beta=beta,
            max_iter=self.max_iter,
            tol=self.tol,
            start=self._start,
        )

    def _learn_method(
        self, rows: Rows | None, decoders: Sequence[Decoder], without: ArrayLike = ()
    ) -> list[object]:
        """Train what the inference method needs besides each decoder; often nothing.

        It learns from all rows but those at the positions ``without``.
        """
        method = self._method()
        if type(method).learn is InferenceMethod.learn:
            return [None] * len(decoders)
        if rows is None:
            raise ValueError(f"posterior={plain(self.posterior)} has to be trained: pass X to fit.")
        seen = np.setdiff1d(np.flatnonzero(rows.table.observed.any(axis=1)), without)
        x, observed = rows.take(seen)
        return [
            method.learn(decoder, x, observed, seed=derive_seed(self._seed, _PARTS["method"], k))
            for k, decoder in enumerate(decoders)
        ]

    def _inference(self) -> RowInference:
        """Return what infers rows, with the parameters of now."""
        return self._inference_by(self.generative_model_.decoders_, self._method_states)

    def _inference_by(self, decoders: Sequence[Decoder], states: Sequence[object]) -> RowInference:
        """Return what infers rows by some decoders, with what the method learned for each."""
        method = self._method()
        if type(method).learn is not InferenceMethod.learn and None in states:
            raise ValueError(
                f"posterior={plain(self.posterior)} has to be trained, but was chosen after fit; "
                "call fit again."
            )
        # the fitted model stays on the CPU, where it is pickled and saved
        model = self.generative_model_
        # resampled draws are those of the decoder, whatever was learned of others
        is_spread = method.draws_are_spread and not self.importance_resampling
        spread = getattr(model, "spread", None) if is_spread else None
        noise = self._pixel_noise() if method.draws_are_spread else None
        return RowInference(
            DecoderPool(decoders, method, states, self._context(method), spread, noise),
            self.device,
            self.n_jobs,
            self.importance_resampling,
            method.time_budget,
            self.verbose,
            all(map(_is_small, decoders)),
        )

    def _pixel_noise(self) -> PixelNoise | None:
        """Return what neighbouring pixels share given the code; cells of tables share nothing."""
        return None

    def _seed_of(self, part: str) -> int:
        """Return the seed of a purpose."""
        return derive_seed(self._seed, _PARTS[part])

    def _draws(self, n: int, seed: int | None = None) -> KeyedDraws:
        """Return the summary of n draws."""
        seed = self._seed_of("draws") if seed is None else derive_seed(seed, _PARTS["draws"])
        return KeyedDraws(n, seed, self._in_turn)

    def _new_draw(self) -> KeyedDraws:
        """Return the summary of a draw that differs from call to call, unless the seed is given."""
        fixed = isinstance(self.random_state, Integral)
        return self._draws(1, None if fixed else seed_from(self.random_state))


def checked_count(name: str, value: object) -> int:
    """Return a whole number of at least 0."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < 0:
        raise ValueError(f"{name} must be a whole number of at least 0, got {plain(value)}.")
    return int(value)


def checked_sizes(n_draws: int | Sequence[int]) -> int | list[int]:
    """Return one number of draws or several, each at least 1."""
    values = np.asarray(n_draws)
    if values.ndim > 1 or values.size == 0 or values.dtype.kind not in "iu" or (values < 1).any():
        raise ValueError(
            "n_draws must be a whole number of at least 1, or a list of them, got "
            f"{plain(n_draws)}."
        )
    sizes: int | list[int] = values.tolist()
    return sizes


def checked_level(level: float) -> float:
    """Return a number between 0 and 1."""
    if not isinstance(level, int | float | np.number) or not 0.0 < level < 1.0:
        raise ValueError(f"level must be a number between 0 and 1, got {plain(level)}.")
    return level


def check_can_hide(hidden: NDArray[np.bool_]) -> None:
    """Raise if `score` found nothing to hide."""
    if not hidden.any():
        raise ValueError(
            "score hides observed cells, but no row of X has two of them; pass rows with more."
        )


def check_hides_some(hidden: NDArray[np.bool_]) -> None:
    """Raise if a mask of `score_missing` hides nothing."""
    if not hidden.any():
        raise ValueError("missing hides no cell: there is nothing to score.")


def is_layered(model: GenerativeModel) -> bool:
    """Return whether every decoder of a model has stochastic layers."""
    return all(isinstance(decoder, HasLayers) for decoder in model.decoders_)


def _is_small(decoder: Decoder) -> bool:
    """Return whether a decoder is a network of tables whose products keep no two cores busy."""
    if not isinstance(decoder, TabularNetwork):
        return False
    n_weights = sum(weight.numel() for weight in decoder.parameters())
    return n_weights < _LARGE_NETWORK


def hide_some(observed: NDArray[np.bool_], seed: int) -> NDArray[np.bool_]:
    """Hide observed cells at random, but at least one and not all in rows with two or more."""
    u = np.random.default_rng(seed).random(observed.shape)
    u[~observed] = np.inf
    order = u.argsort(axis=1).argsort(axis=1)
    count = observed.sum(axis=1, keepdims=True)
    n_hidden = np.where(count > 1, np.maximum(np.round(_HIDDEN_SHARE * count), 1), 0)
    return observed & (order < n_hidden)
