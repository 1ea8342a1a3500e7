"""Inference methods: from a decoder and incomplete rows to a posterior of each row.

QAVI over one latent code and over missing features is here, QAVI over the codes of many layers in
`_hierarchical`, and the methods it is compared with in `baselines`. All follow `InferenceMethod`,
so an imputer takes any of them as ``posterior``.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from numbers import Integral, Real
from typing import ClassVar, Self, cast

import torch
from sklearn.base import BaseEstimator
from torch import Tensor

from .._checks import plain
from .._random import sobol_uniform
from .._sklearn_compat import Interval, StrOptions, validate_parameters
from .._typing import Decoder, Encodes, EncodingDecoder, FeatureLikelihood
from ._blocks import row_blocks
from ._context import Context
from ._encoder_start import EncoderStart
from ._engine import fit_posterior
from ._objectives import feature_bound
from ._result import InferenceResult
from ._settings import MAX_FULL_CURVATURE, Newton, OptimizerSettings
from ._target import DecoderTarget, FeatureTarget
from .posteriors import (
    FeaturePosterior,
    FlowPosterior,
    FullGaussianPosterior,
    GaussianPosterior,
    MixturePosterior,
    Posterior,
    PosteriorFamily,
)

__all__ = [
    "QAVI",
    "Feature",
    "Flow",
    "Gaussian",
    "InferenceMethod",
    "Mixture",
    "encode_completed",
    "encoder_mixture",
]

_N_ENCODED = 64  # draws of the features whose encodings make up the code's distribution


class InferenceMethod(BaseEstimator, ABC):  # type: ignore[misc]
    """A way from incomplete rows to a posterior of each; its options are estimator parameters.

    A decoder is an object with ``decode``, ``likelihood`` and ``latent_dim``; one with an encoder
    also has ``encode(x, visible)``, which returns mean and scale, both (..., L), of the code of
    values (..., D) of which those under the mask ``visible`` are known.
    """

    needs: ClassVar[type | None] = None
    """What the decoder must have besides: `Encodes`, the encoder it was trained with, or
    `HasLayers`, stochastic layers."""

    reads: ClassVar[frozenset[str]] = frozenset()
    """Options of the imputer that the method reads, out of "beta", "max_iter" and "tol"."""

    has_trace: ClassVar[bool] = False
    """Whether the method can keep the bound after each optimisation step."""

    draws_are_spread: ClassVar[bool] = False
    """Whether draws are the model's, with what it learned of them from hidden cells: how far they
    spread around medians, see ``TabularVAE(calibrate=True)``, and what pixels share."""

    time_budget: float | None = None
    """Seconds that the inference of one call may take, for methods that can stop early."""

    _parameter_constraints: ClassVar[dict[str, list[object]]] = {}

    def check(self) -> None:
        """Raise ValueError if a parameter has a value that it cannot have."""
        validate_parameters(self)

    def learn(self, decoder: Decoder, x: Tensor, observed: Tensor, *, seed: int) -> object:
        """Train what the method needs for one decoder besides it, and return it.

        Parameters
        ----------
        decoder : object
            The trained decoder; it is not changed.
        x : Tensor of shape (N, D)
            Training rows in the decoder's standardized units, 0 where missing.
        observed : bool Tensor of shape (N, D)
            True where the cell is observed.
        seed : int
            Seed of everything random.

        Returns
        -------
        state : object
            Passed to `infer`; can be pickled. None where there is nothing to learn.
        """
        return None

    @abstractmethod
    def infer(
        self, decoder: Decoder, state: object, x: Tensor, observed: Tensor, context: Context
    ) -> InferenceResult:
        """Return the posteriors of rows under one decoder.

        Parameters
        ----------
        decoder : object
            The trained decoder.
        state : object
            What `learn` returned for this decoder.
        x : Tensor of shape (N, D)
            Rows in the decoder's standardized units; missing cells hold a finite number.
        observed : bool Tensor of shape (N, D)
            True where the cell is observed.
        context : Context
            Seed, batch size, and whatever else holds for the call.

        Returns
        -------
        result : InferenceResult
            In the order of the rows.
        """


class QAVI(InferenceMethod):
    """What the posteriors that are optimised row by row have in common."""

    reads: ClassVar[frozenset[str]] = frozenset({"beta", "max_iter", "tol"})
    has_trace: ClassVar[bool] = True

    _parameter_constraints: ClassVar[dict[str, list[object]]] = {
        "optimizer": [None, StrOptions({"paper"}), OptimizerSettings],
        "time_budget": [None, Interval(Real, 0, None, closed="neither")],
    }

    optimizer: OptimizerSettings | str | None

    def set_params(self, **params: object) -> Self:
        """Set parameters, also those of the optimiser if there is one.

        Parameters
        ----------
        **params : dict
            Such as ``time_budget=10.0`` or ``optimizer__n_draws=64``.

        Returns
        -------
        self : object
            The posterior.
        """
        optimizer = params.get("optimizer", self.optimizer)
        nested = [key for key in params if key.startswith("optimizer__")]
        if nested and not isinstance(optimizer, OptimizerSettings):
            raise ValueError(
                f"{nested[0]} cannot be set, because optimizer={plain(optimizer)} has no "
                "parameters. Pass optimizer=Newton() or optimizer=Adam() first, or with it."
            )
        return super().set_params(**params)  # type: ignore[no-any-return]

    def check(self) -> None:
        """Raise ValueError if a parameter has a value that it cannot have."""
        super().check()
        if isinstance(self.optimizer, OptimizerSettings):
            self.optimizer.check()

    def _settings(self, family: PosteriorFamily, context: Context) -> OptimizerSettings:
        """Return how to optimise, with what the imputer says of steps and tolerance put in."""
        settings = self.optimizer
        if settings is None:
            settings = family.default_optimizer(family.latent_dim)
        elif isinstance(settings, str):
            settings = family.paper_optimizer()
        return settings.with_options(max_iter=context.max_iter, tol=context.tol)


class _Latent(QAVI):
    """QAVI over one latent code, fitted through the decoder alone."""

    draws_are_spread = True

    _parameter_constraints: ClassVar[dict[str, list[object]]] = {
        **QAVI._parameter_constraints,
        "start": [StrOptions({"auto", "prior", "encoder", "best"})],
    }

    start: str

    @abstractmethod
    def family(self, latent_dim: int) -> PosteriorFamily:
        """Return what is fitted to each row, for a latent dimension."""

    def infer(
        self, decoder: Decoder, state: object, x: Tensor, observed: Tensor, context: Context
    ) -> InferenceResult:
        """Return the posteriors of rows under one decoder, see `InferenceMethod`."""
        target = DecoderTarget.of(decoder, x, observed)
        family = self.family(decoder.latent_dim)
        start = context.start if self.start == "auto" else self.start
        starter = None
        if start == "encoder" or (start == "best" and isinstance(decoder, Encodes)):
            starter = EncoderStart(
                cast(EncodingDecoder, decoder), x, observed, context.beta, start == "encoder"
            )
        return fit_posterior(
            target,
            family,
            optimizer=self._settings(family, context),
            beta=context.beta,
            seed=context.seed,
            batch_size=context.batch_size,
            progress=context.progress,
            deadline=context.deadline,
            starter=starter,
            trace=context.trace,
        )


class Gaussian(_Latent):
    """A Gaussian posterior over the latent code.

    Parameters
    ----------
    covariance : {"auto", "full", "diagonal"}, default="auto"
        Whether latent dimensions may depend on each other given a row's observed cells, as they do
        where cells are missing: a diagonal posterior, that of [1]_, is then too sure. "auto" takes
        the full one where Newton steps know it at no more cost, for up to 48 latent dimensions.
    optimizer : None, "paper", Newton or Adam, default=None
        How to optimise. None takes `Newton`, or `Adam` with a decaying learning rate for more
        than 48 latent dimensions. "paper" is the recipe of [1]_, about 100 times slower.
    start : {"auto", "prior", "encoder", "best"}, default="auto"
        Where rows start: at prior codes weighted by their likelihood; at the encoder's code of the
        row with its missing cells filled; or at the better of the two for each row, which without
        an encoder is "prior". "auto" is "best" for images and "prior" for tables.
    time_budget : float or None, default=None
        Seconds that the inference of one call may take. Steps are then rationed so that every row
        gets its share; a warning counts the rows that would have taken more. Each row is visited,
        however short the time, and drawing comes on top. Results then depend on the machine.

    See Also
    --------
    Mixture : For rows that leave several explanations open.
    Flow : For posteriors of other shapes.

    References
    ----------
    .. [1] Agarwal, Hope, Younis, Sudderth (2023), "A Decoder Suffices for Query-Adaptive
       Variational Inference", UAI, section 3.2, equation 8.

    Examples
    --------
    >>> from sklearn_qavi import QAVIImputer
    >>> from sklearn_qavi.inference import Gaussian
    >>> QAVIImputer(posterior=Gaussian(time_budget=10.0)).posterior
    Gaussian(time_budget=10.0)
    """

    _parameter_constraints: ClassVar[dict[str, list[object]]] = {
        **_Latent._parameter_constraints,
        "covariance": [StrOptions({"auto", "full", "diagonal"})],
    }

    def __init__(
        self,
        *,
        covariance: str = "auto",
        optimizer: OptimizerSettings | str | None = None,
        start: str = "auto",
        time_budget: float | None = None,
    ) -> None:
        self.covariance = covariance
        self.optimizer = optimizer
        self.start = start
        self.time_budget = time_budget

    def family(self, latent_dim: int) -> PosteriorFamily:
        """Return what is fitted to each row, for a latent dimension."""
        newton = self.optimizer is None or isinstance(self.optimizer, Newton)
        auto = newton and latent_dim <= MAX_FULL_CURVATURE
        if self.covariance == "full" or (self.covariance == "auto" and auto):
            return FullGaussianPosterior(latent_dim)
        return GaussianPosterior(latent_dim)


class Mixture(_Latent):
    """A mixture of Gaussians over the latent code, so that several explanations of a row survive.

    Parameters
    ----------
    n_components : int, default=5
        Number of components.
    gradient_estimator : {"stratified", "implicit"}, default="stratified"
        How gradients are estimated, see `MixturePosterior`; "implicit" is that of [1]_.
    optimizer : None, "paper" or Adam, default=None
        How to optimise; None takes `Adam` with settings for this posterior. "paper" is the recipe
        of [1]_.
    start : {"auto", "prior", "encoder", "best"}, default="auto"
        Where rows start, see `Gaussian`.
    time_budget : float or None, default=None
        Seconds that the inference of one call may take, see `Gaussian`.

    References
    ----------
    .. [1] Agarwal, Hope, Younis, Sudderth (2023), "A Decoder Suffices for Query-Adaptive
       Variational Inference", UAI, section 3.2.

    Examples
    --------
    >>> from sklearn_qavi import QAVIImputer
    >>> from sklearn_qavi.inference import Mixture
    >>> imputer = QAVIImputer(posterior=Mixture(n_components=10))
    >>> imputer.get_params()["posterior__n_components"]
    10
    """

    _parameter_constraints: ClassVar[dict[str, list[object]]] = {
        **_Latent._parameter_constraints,
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "gradient_estimator": [StrOptions({"stratified", "implicit"})],
    }

    def __init__(
        self,
        *,
        n_components: int = 5,
        gradient_estimator: str = "stratified",
        optimizer: OptimizerSettings | str | None = None,
        start: str = "auto",
        time_budget: float | None = None,
    ) -> None:
        self.n_components = n_components
        self.gradient_estimator = gradient_estimator
        self.optimizer = optimizer
        self.start = start
        self.time_budget = time_budget

    def family(self, latent_dim: int) -> MixturePosterior:
        """Return what is fitted to each row, for a latent dimension."""
        return MixturePosterior(latent_dim, self.n_components, self.gradient_estimator)


class Flow(_Latent):
    """An inverse autoregressive flow over the latent code, for posteriors of any shape.

    Parameters
    ----------
    n_layers : int, default=2
        Number of layers.
    hidden_size : int, default=16
        Hidden units of each layer.
    optimizer : None, "paper" or Adam, default=None
        How to optimise; None takes `Adam` with settings for this posterior. "paper" is the recipe
        of [1]_.
    start : {"auto", "prior", "encoder", "best"}, default="auto"
        Where rows start, see `Gaussian`.
    time_budget : float or None, default=None
        Seconds that the inference of one call may take, see `Gaussian`.

    References
    ----------
    .. [1] Agarwal, Hope, Younis, Sudderth (2023), "A Decoder Suffices for Query-Adaptive
       Variational Inference", UAI, section 3.2.

    Examples
    --------
    >>> from sklearn_qavi import QAVIImputer
    >>> from sklearn_qavi.inference import Flow
    >>> QAVIImputer(posterior=Flow(n_layers=3)).posterior
    Flow(n_layers=3)
    """

    _parameter_constraints: ClassVar[dict[str, list[object]]] = {
        **_Latent._parameter_constraints,
        "n_layers": [Interval(Integral, 1, None, closed="left")],
        "hidden_size": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self,
        *,
        n_layers: int = 2,
        hidden_size: int = 16,
        optimizer: OptimizerSettings | str | None = None,
        start: str = "auto",
        time_budget: float | None = None,
    ) -> None:
        self.n_layers = n_layers
        self.hidden_size = hidden_size
        self.optimizer = optimizer
        self.start = start
        self.time_budget = time_budget

    def family(self, latent_dim: int) -> FlowPosterior:
        """Return what is fitted to each row, for a latent dimension."""
        return FlowPosterior(latent_dim, self.n_layers, self.hidden_size)


class Feature(QAVI):
    """Feature QAVI: a posterior over the missing features, with the code left to the encoder.

    Parameters
    ----------
    gamma : float, default=1.0
        Weight of the entropy of the features' posterior ([1]_, equation 6).
    optimizer : None, "paper" or Adam, default=None
        How to optimise; None takes `Adam` with settings for this posterior. "paper" is the recipe
        of [1]_.
    time_budget : float or None, default=None
        Seconds that the inference of one call may take, see `Gaussian`.

    References
    ----------
    .. [1] Agarwal, Hope, Younis, Sudderth (2023), "A Decoder Suffices for Query-Adaptive
       Variational Inference", UAI, section 3.1, equations 6 and 7.

    Examples
    --------
    >>> from sklearn_qavi import QAVIImputer
    >>> from sklearn_qavi.inference import Feature
    >>> QAVIImputer(posterior=Feature(gamma=0.5)).posterior
    Feature(gamma=0.5)
    """

    needs: ClassVar[type | None] = Encodes

    _parameter_constraints: ClassVar[dict[str, list[object]]] = {
        **QAVI._parameter_constraints,
        "gamma": [Interval(Real, 0, None, closed="left")],
    }

    def __init__(
        self,
        *,
        gamma: float = 1.0,
        optimizer: OptimizerSettings | str | None = None,
        time_budget: float | None = None,
    ) -> None:
        self.gamma = gamma
        self.optimizer = optimizer
        self.time_budget = time_budget

    def infer(
        self, decoder: Decoder, state: object, x: Tensor, observed: Tensor, context: Context
    ) -> InferenceResult:
        """Return the posteriors of rows under one decoder, see `InferenceMethod`."""
        decoder = cast(EncodingDecoder, decoder)
        n_latent, n_features = decoder.latent_dim, x.shape[1]
        target = FeatureTarget(
            decoder.decode, decoder.likelihood, x, observed, n_latent, decoder.encode
        )
        family = FeaturePosterior(
            n_latent, n_features, decoder.decode, cast(FeatureLikelihood, decoder.likelihood)
        )
        objective: Callable[..., Tensor] = partial(feature_bound, gamma=self.gamma)
        result = fit_posterior(
            target,
            family,
            optimizer=self._settings(family, context),
            beta=context.beta,
            seed=context.seed,
            batch_size=context.batch_size,
            progress=context.progress,
            deadline=context.deadline,
            objective=objective,
            trace=context.trace,
        )
        return replace(result, codes=self._codes(decoder, result.posterior, x, observed))

    @staticmethod
    def _codes(decoder: Encodes, posterior: Posterior, x: Tensor, observed: Tensor) -> Posterior:
        """Return E_q(x_M)[q(z | x_O, x_M)] as a mixture over draws of x_M."""
        u = sobol_uniform(_N_ENCODED, posterior.family.n_noise, seed=2).unsqueeze(1)
        noise = posterior.family.noise_from_uniform(u).to(x)
        parts = []
        with torch.no_grad():
            for rows, n in row_blocks(len(x), x.device):
                values = posterior[rows].rsample(noise)
                completed = torch.where(observed[rows], x[rows], values)
                parts.append([t[:, :n] for t in encode_completed(decoder, completed)])
        mean, scale = (torch.cat(part, dim=1) for part in zip(*parts, strict=True))
        return encoder_mixture(mean, scale)


def encode_completed(decoder: Encodes, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the encoder's mean and scale, (..., L), for rows without a missing cell."""
    mean, scale = decoder.encode(x, torch.ones_like(x, dtype=torch.bool))
    return mean, scale


def encoder_mixture(mean: Tensor, scale: Tensor) -> Posterior:
    """Return the equally weighted mixture of the encoder's Gaussians (K, N, L) of each row."""
    return MixturePosterior.equally_weighted(mean, scale)
