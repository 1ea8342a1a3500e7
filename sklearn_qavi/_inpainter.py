"""QAVIInpainter: images in and out. What it shares with other estimators is in `_base`."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from numbers import Real
from typing import ClassVar, Literal, Self, cast, overload

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted
from torch import nn

from ._base import (
    BaseQAVI,
    check_can_hide,
    check_hides_some,
    checked_count,
    checked_level,
    checked_sizes,
    hide_some,
)
from ._checks import plain, refuse_number
from ._interrupts import all_or_nothing
from ._random import seed_from
from ._row_inference import Rows
from ._sklearn_compat import (
    HasMethods,
    Interval,
    MissingValues,
    StrOptions,
    available_if,
    check_feature_names,
    check_feature_names_in,
    fit_context,
    get_output_config,
    is_scalar_nan,
    wrap_in_container,
)
from ._summaries import Limits, Point
from ._typing import Container, Encodes, ScoreDetails, ScoresOfRows, Table
from .exceptions import InferenceDivergedError
from .generative import IMAGE_MODELS, GenerativeModel
from .generative._shared_noise import OWN_NOISE
from .inference import Feature, InferenceMethod
from .preprocessing import EncodedTable, ImageBatch, ImageEncoder, as_array, find_image_shape
from .sampling import PooledPosterior
from .sampling._pixel_noise import PixelNoise

__all__ = ["QAVIInpainter"]


def _is_flat(inpainter: "QAVIInpainter") -> bool:
    """Return whether images are flat rows, whose cells have names."""
    return inpainter.image_shape is not None


class QAVIInpainter(BaseQAVI, TransformerMixin, BaseEstimator):
    """Complete images with draws from a variational autoencoder's posterior.

    `fit` trains a variational autoencoder on images, or takes a trained one. `transform` and
    `sample` then fit a posterior over the latent code to each incomplete image, using only the
    decoder and the image's observed pixels, and fill its missing part from the decoder. Masks of
    any shape work without retraining, single channels of a pixel among them, and where the missing
    part leaves several completions open, draws show them.

    Images come as arrays (n, H, W), (n, C, H, W), with ``data_format="channels_last"`` as
    (n, H, W, C), or as flat rows with ``image_shape``; as floats from 0 to 1 or as uint8 from 0 to
    255. They are returned as they came, observed pixels bit for bit. Missing pixels of floats are
    NaN; a boolean ``mask``, True where a pixel is missing, may go with each call, and is the only
    way for uint8. It has the shape (H, W) for one mask of all images, (n, H, W) for whole pixels,
    or that of the images for single channels.

    Parameters
    ----------
    generative_model : None, {"wide_resnet", "hierarchical"}, estimator or trained model, \
            default=None
        "wide_resnet", or None, trains a `WideResNetVAE`, "hierarchical" a `HierarchicalVAE`. An
        unfitted model is cloned and trained. Its parameters can be set and searched as
        ``generative_model__latent_dim``. A trained model, such as a `PretrainedDecoder`, is
        used as it is and not trained, in clones as well; `fit` then needs no images.
    posterior : str or InferenceMethod, default="auto"
        What is inferred for an image. "gaussian", "mixture" and "flow" are posteriors over the
        latent code, fitted through the decoder alone; "hierarchical" is one over the codes of all
        layers of a hierarchical model; "feature" is a posterior over the missing pixels, fitted
        through encoder and decoder. "auto" is "hierarchical" for a hierarchical model and
        "gaussian" for others. A string is short for an object with its defaults, whose options
        can be set and searched as ``posterior__n_components``, see `Gaussian`, `Mixture`, `Flow`,
        `Feature` and `Hierarchical` in `sklearn_qavi.inference`. The recipe of [1]_ is
        ``QAVIInpainter(beta=20, posterior=Gaussian(optimizer="paper", start="prior"))``. Methods to
        compare with, see `sklearn_qavi.baselines`: "fill_zeros", "pseudo_gibbs",
        "metropolis_within_gibbs", "retuned_encoder", "posterior_matching",
        "hierarchical_posterior_matching", "hierarchical_vaeac", or an object of one.
    beta : float or None, default=None
        Weight of the divergence of the posterior from the prior; 1 is Bayes' rule. A decoder of
        many pixels is far too sure of them, and a larger weight then completes better: [1]_ takes
        20 for images. None takes the weight with which a `WideResNetVAE` completed validation
        images best, its ``inference_beta_``, and 1 for models that have none.
    max_iter : int or None, default=None
        Maximum number of optimisation steps per image; None leaves it to the posterior.
    tol : float or None, default=None
        Nats below which an image has converged, see `Newton` and `Adam` in
        `sklearn_qavi.inference`; None leaves it to the posterior.
    importance_resampling : bool, default=False
        Weigh 1,024 codes of each image's posterior by p(x_O, z) / q(z), smooth the weights and
        draw from 256 codes resampled by them. Costs 1,024 decoder evaluations per image.
    noise_width : float or None, default=None
        How far neighbouring pixels share the noise that a draw has beside its code: the standard
        deviation of a kernel, in pixels. The noise of missing pixels then goes on where what was
        seen beside them differs from what the code says. 0 draws each pixel on its own, which is
        what the decoder was trained for. None takes what a `WideResNetVAE` learned from validation
        images, its ``noise_width_``, and 0 for models that have none. Scores (`score`,
        `score_missing`) are those of pixels on their own.
    strategy : {"mean", "median", "mode"}, default="mean"
        What `transform` fills in: a summary of the posterior predictive of each missing cell. A
        mean over several completions is blurred; a draw is not.
    sample_posterior : bool, default=False
        Whether `transform` fills in a draw instead. It is a new one at every call, unless
        ``random_state`` is an integer.
    missing_values : float, default=np.nan
        What marks a missing pixel of floats. In uint8 no value is free to mark one.
    image_shape : tuple of int, default=None
        (H, W), or (C, H, W) in the order of ``data_format``. Needed for flat rows of H * W * C
        features.
    data_format : {"channels_first", "channels_last"}, default="channels_first"
        Where the channels of arrays with four axes stand, and how flat rows are ordered.
    batch_size : int or "auto", default="auto"
        Images in work at one time; with a hierarchical model images, one for each draw, whose
        gradients are computed together. Memory grows with it, results do not depend on it, on a GPU
        up to rounding. "auto" takes what suits the device: 64 on a CPU, fewer of large hierarchical
        networks, as many as fit on a GPU.
    device : str, default="auto"
        Where to train and infer: "auto" takes a GPU when there is one.
    n_jobs : int or None, default=None
        Threads that share the images, or workers of the backend that `joblib.parallel_config`
        chooses; results do not depend on it.
    random_state : int, RandomState instance or None, default=None
        Seed of training, inference and draws.
    verbose : int, default=0
        With 1, progress bars in `fit` and inference.

    Attributes
    ----------
    generative_model_ : object
        The model whose decoders are used.
    history_ : list of list of dict
        Its training history, empty if it was not trained here.
    n_iter_ : int
        Most epochs that one of its decoders was trained for; 0 if unknown.
    image_shape_ : tuple of int
        Channels C, height H and width W.
    encoder_ : ImageEncoder
        From images to rows of cells and back.
    n_features_in_ : int
        Number of cells C * H * W.
    feature_names_in_ : ndarray of shape (n_features,)
        Their names, if `fit` saw flat rows with names.

    Warns
    -----
    ConvergenceWarning
        If training or the inference of some images ran out of iterations.

    See Also
    --------
    QAVIImputer : The same for tables.
    sklearn_qavi.datasets.make_image_masks : Masks to try it with.

    Notes
    -----
    An image's answer depends on the image, the fitted model and ``random_state`` alone: not on the
    other images, their order, ``batch_size`` or ``n_jobs``. With a hierarchical model the last two
    hold up to rounding: how torch sums in its networks depends on how many draws go through them
    at once and, on a CPU, on the number of threads, which is one a job where there are several.
    `sample` is keyed by ``random_state`` and the image's position in the call. An image without an
    observed pixel gets draws of the prior.

    References
    ----------
    .. [1] Agarwal, Hope, Younis, Sudderth (2023), "A Decoder Suffices for Query-Adaptive
       Variational Inference", UAI, equation 8.

    Examples
    --------
    A decoder from elsewhere, whose two codes are the brightness of the upper and the lower half:

    >>> import numpy as np
    >>> import torch
    >>> from sklearn_qavi import QAVIInpainter
    >>> from sklearn_qavi.generative import PretrainedDecoder
    >>> linear = torch.nn.Linear(2, 32)  # 16 means and 16 scales
    >>> with torch.no_grad():
    ...     half = (torch.arange(16) < 8).float()
    ...     weight = torch.stack([0.2 * half, 0.2 * (1 - half)], dim=1)
    ...     _ = linear.weight.copy_(torch.cat([weight, torch.zeros(16, 2)]))
    ...     _ = linear.bias.copy_(torch.cat([0.5 * torch.ones(16), -3 * torch.ones(16)]))
    >>> model = PretrainedDecoder(linear, "gaussian", n_features=16)
    >>> inpainter = QAVIInpainter(generative_model=model, image_shape=(4, 4), random_state=0)
    >>> image = np.full((1, 4, 4), 0.3)
    >>> image[:, 2:] = 0.8
    >>> image[:, :, 2:] = np.nan
    >>> inpainter.fit().transform(image).round(1)[0]
    array([[0.3, 0.3, 0.3, 0.3],
           [0.3, 0.3, 0.3, 0.3],
           [0.8, 0.8, 0.8, 0.8],
           [0.8, 0.8, 0.8, 0.8]])
    >>> inpainter.sample(image, n=5).shape
    (5, 1, 4, 4)
    """

    _parameter_constraints: ClassVar[dict[str, list[object]]] = {
        **BaseQAVI._parameter_constraints,
        "generative_model": [
            None,
            StrOptions(set(IMAGE_MODELS)),
            nn.Module,
            HasMethods(["fit"]),
            HasMethods(["standardize", "unstandardize"]),
        ],
        "image_shape": [None, tuple, list, np.ndarray],
        "data_format": [StrOptions({"channels_first", "channels_last"})],
        "missing_values": [MissingValues(numeric_only=True)],
        "noise_width": [None, Interval(Real, 0, None, closed="left")],
    }

    _models: ClassVar[Mapping[str | None, type[BaseEstimator]]] = {
        None: IMAGE_MODELS["wide_resnet"],
        "hierarchical": IMAGE_MODELS["hierarchical"],
        "wide_resnet": IMAGE_MODELS["wide_resnet"],
    }

    def __init__(
        self,
        *,
        generative_model: str | BaseEstimator | None = None,
        posterior: str | InferenceMethod = "auto",
        beta: float | None = None,
        max_iter: int | None = None,
        tol: float | None = None,
        importance_resampling: bool = False,
        noise_width: float | None = None,
        strategy: str = "mean",
        sample_posterior: bool = False,
        missing_values: float = np.nan,
        image_shape: tuple[int, ...] | None = None,
        data_format: str = "channels_first",
        batch_size: int | str = "auto",
        device: str = "auto",
        n_jobs: int | None = None,
        random_state: int | np.random.RandomState | None = None,
        verbose: int = 0,
    ) -> None:
        self.generative_model = generative_model
        self.posterior = posterior
        self.beta = beta
        self.max_iter = max_iter
        self.tol = tol
        self.importance_resampling = importance_resampling
        self.noise_width = noise_width
        self.strategy = strategy
        self.sample_posterior = sample_posterior
        self.missing_values = missing_values
        self.image_shape = image_shape
        self.data_format = data_format
        self.batch_size = batch_size
        self.device = device
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    @fit_context(prefer_skip_nested_validation=False)
    @all_or_nothing
    def fit(
        self, X: Table | None = None, y: ArrayLike | None = None, *, mask: ArrayLike | None = None
    ) -> Self:
        """Train the generative model, or take the trained one.

        Parameters
        ----------
        X : array-like of images, default=None
            Complete or with missing pixels. May be left out with a trained model, where it only
            says what the images' size is.
        y : None
            Ignored, present for the scikit-learn contract.
        mask : array-like of bool, default=None
            True where a pixel is missing.

        Returns
        -------
        self : QAVIInpainter
            The fitted inpainter.

        Raises
        ------
        ValueError
            If images have a type, range or size that cannot be used, the mask does not fit them,
            or the decoder does not fit its likelihood or returns NaN; the message says what would
            do.
        TrainingDivergedError
            If the training loss is not finite.
        """
        self._check_before_training()
        self.encoder_ = self._new_encoder(X)
        self.image_shape_ = self.encoder_.shape
        self.n_features_in_ = self.encoder_.n_cells
        if X is None and hasattr(self, "feature_names_in_"):
            del self.feature_names_in_
        batch = None if X is None else self._encoded(X, mask, reset=True)
        self._seed = seed_from(self.random_state)
        self._take_model(self._trained_model(batch))
        self._method_states = self._learn_method(
            None if batch is None else self._rows(batch), self.generative_model_.decoders_
        )
        return self

    def transform(
        self, X: Table, *, mask: ArrayLike | None = None, row_offset: int = 0
    ) -> Container:
        """Fill each missing pixel with one value.

        Parameters
        ----------
        X : array-like of images
            Of the size seen in `fit`.
        mask : array-like of bool, default=None
            True where a pixel is missing.
        row_offset : int, default=0
            Position of the first image of X in the set it was cut from, for draws
            (``sample_posterior=True``) that do not depend on how the set was cut.

        Returns
        -------
        X_completed : ndarray
            Of the shape, layout and type of X, whose observed pixels it holds bit for bit.

        Raises
        ------
        ValueError
            If the images have another size, type or range, or the mask does not fit them.
        InferenceDivergedError
            If a posterior or a filled pixel is not finite.

        Warns
        -----
        ConvergenceWarning
            If images had not converged when the steps ran out.
        """
        check_is_fitted(self)
        row_offset = checked_count("row_offset", row_offset)
        rows = self._encode(X, mask)
        summary = self._new_draw() if self.sample_posterior else Point(self.strategy)
        (values,) = self._inference().values(rows, summary, row_offset=row_offset)
        return self._completed(rows, values)

    def fit_transform(
        self, X: Table, y: ArrayLike | None = None, *, mask: ArrayLike | None = None
    ) -> Container:
        """Fit on X and complete it.

        Parameters
        ----------
        X : array-like of images
            With missing pixels.
        y : None
            Ignored, present for the scikit-learn contract.
        mask : array-like of bool, default=None
            True where a pixel is missing.

        Returns
        -------
        X_completed : ndarray
            What ``fit(X, mask=mask).transform(X, mask=mask)`` returns.
        """
        return self.fit(X, y, mask=mask).transform(X, mask=mask)

    @fit_context(prefer_skip_nested_validation=True)
    def sample(
        self,
        X: Table,
        n: int = 1,
        *,
        mask: ArrayLike | None = None,
        row_offset: int = 0,
        pixel_noise: bool = True,
    ) -> Container | list[Container]:
        """Complete images n times with independent draws.

        Parameters
        ----------
        X : array-like of images
            Of the size seen in `fit`.
        n : int, default=1
            Number of completions of each.
        mask : array-like of bool, default=None
            True where a pixel is missing.
        row_offset : int, default=0
            Position of the first image of X in the set it was cut from: a part's draws are then
            those of the whole set.
        pixel_noise : bool, default=True
            Whether each pixel is drawn given the drawn code, so that draws are those of the
            posterior predictive. False fills in the decoder's mean at the same codes: completions
            to be looked at, as papers show them, whose spread is that of the code alone.

        Returns
        -------
        draws : ndarray of shape (n, \\*X.shape), or list of n dataframes
            Each is completed as `transform` returns it; dataframes of flat rows if `set_output`
            says so. The first draws of a larger n are those of a smaller n.

        Raises
        ------
        ValueError
            If n or row_offset is not a whole number of at least 0, X and mask cannot be used, or
            ``pixel_noise=False`` meets a posterior over the pixels themselves.
        InferenceDivergedError
            If a posterior or a draw is not finite.
        """
        check_is_fitted(self)
        refuse_number(X, "sample(X, n={})")
        n, row_offset = checked_count("n", n), checked_count("row_offset", row_offset)
        rows = self._encode(X, mask)
        draw = replace(self._draws(n), pixel_noise=self._noise_or_means(pixel_noise))
        draws = self._inference().values(rows, draw, n, row_offset=row_offset)
        completed = [self._decode(rows, draw) for draw in draws]
        if self._container != "default":
            return completed
        array = cast(ImageBatch, rows.source).array
        return np.stack(completed) if n else np.empty((0, *array.shape), dtype=array.dtype)

    def iter_samples(
        self,
        X: Table,
        n: int = 1,
        *,
        mask: ArrayLike | None = None,
        row_offset: int = 0,
        pixel_noise: bool = True,
    ) -> Iterator[Container]:
        """Yield the completions of `sample` one by one, so that they are never held together.

        Parameters
        ----------
        X : array-like of images
            Of the size seen in `fit`.
        n : int, default=1
            Number of completions of each.
        mask : array-like of bool, default=None
            True where a pixel is missing.
        row_offset : int, default=0
            Position of the first image of X in the set it was cut from.
        pixel_noise : bool, default=True
            As of `sample`.

        Returns
        -------
        draws : iterator of ndarray, or of dataframe
            All images completed once; the m-th is that of `sample`, bit for bit.

        Raises
        ------
        ValueError
            If n or row_offset is not a whole number of at least 0, X and mask cannot be used, or
            ``pixel_noise=False`` meets a posterior over the pixels themselves.
        """
        check_is_fitted(self)
        refuse_number(X, "iter_samples(X, n={})")
        n, row_offset = checked_count("n", n), checked_count("row_offset", row_offset)
        rows = self._encode(X, mask)
        draws = self._inference().iter_draws(
            rows,
            n,
            self._seed_of("draws"),
            in_turn=self._in_turn,
            row_offset=row_offset,
            pixel_noise=self._noise_or_means(pixel_noise),
        )
        return (self._decode(rows, draw) for draw in draws)

    def predict_interval(
        self, X: Table, level: float = 0.95, *, mask: ArrayLike | None = None
    ) -> tuple[Container, Container]:
        """Return equal-tailed intervals of the posterior predictive of each missing cell.

        Parameters
        ----------
        X : array-like of images
            Of the size seen in `fit`.
        level : float, default=0.95
            Probability inside of the interval, between 0 and 1.
        mask : array-like of bool, default=None
            True where a pixel is missing.

        Returns
        -------
        lower, upper : ndarrays
            Of the shape and type of X, from 256 draws; both equal the observed value on observed
            pixels.

        Raises
        ------
        ValueError
            If level is not between 0 and 1, or X and mask cannot be used.
        """
        check_is_fitted(self)
        refuse_number(X, "predict_interval(X, level={})")
        level = checked_level(level)
        rows = self._encode(X, mask)
        limits = self._inference().values(rows, Limits(level), 2)
        lower, upper = (self._decode(rows, limit) for limit in limits)
        return lower, upper

    def infer(
        self, X: Table, *, mask: ArrayLike | None = None, trace: bool = False
    ) -> PooledPosterior:
        """Return the fitted posteriors of all images and how the inference went.

        Parameters
        ----------
        X : array-like of images
            Of the size seen in `fit`.
        mask : array-like of bool, default=None
            True where a pixel is missing.
        trace : bool, default=False
            Keep the bound after each step in ``trace`` of the results; nothing else changes.

        Returns
        -------
        pooled : PooledPosterior
            Per image ``bound`` (nats), ``n_iter``, ``n_evaluations``, ``converged``, and, computed
            from 1,024 importance weights when they are first read, ``pareto_k`` and
            ``effective_sample_size``; per decoder, in ``results``, the posteriors.
        """
        check_is_fitted(self)
        self._check_trace(trace)
        return self._inference().posteriors(self._rows(self._encoded(X, mask)), trace=trace)

    def score(
        self, X: Table, y: ArrayLike | None = None, *, mask: ArrayLike | None = None
    ) -> float:
        """Return the mean log predictive density of observed pixels hidden at random.

        Three tenths of the observed pixels, with all channels, are hidden (seeded by
        ``random_state``), inferred from the others and scored; so `GridSearchCV` works without a
        ground truth.

        Parameters
        ----------
        X : array-like of images
            With or without missing pixels.
        y : None
            Ignored, present for the scikit-learn contract.
        mask : array-like of bool, default=None
            True where a pixel is missing.

        Returns
        -------
        score : float
            Nats per hidden cell, in the model's unit; higher is better.

        Raises
        ------
        ValueError
            If no image has two observed pixels.
        """
        check_is_fitted(self)
        rows = self._rows(self._encoded(X, mask))
        hidden = self._hide_pixels(rows.table.observed)
        check_can_hide(hidden)
        return self._inference().mean_log_density(rows, hidden)

    @overload
    def score_missing(
        self,
        X: Table,
        missing: ArrayLike,
        *,
        mask: ArrayLike | None = None,
        n_draws: int | Sequence[int] = ...,
        return_details: Literal[False] = ...,
    ) -> ScoresOfRows: ...

    @overload
    def score_missing(
        self,
        X: Table,
        missing: ArrayLike,
        *,
        mask: ArrayLike | None = None,
        n_draws: int | Sequence[int] = ...,
        return_details: Literal[True],
    ) -> tuple[ScoresOfRows, ScoreDetails]: ...

    def score_missing(
        self,
        X: Table,
        missing: ArrayLike,
        *,
        mask: ArrayLike | None = None,
        n_draws: int | Sequence[int] = 10_000,
        return_details: bool = False,
    ) -> ScoresOfRows | tuple[ScoresOfRows, ScoreDetails]:
        """Hide pixels whose values are known, infer them, and score the posteriors image by image.

        Parameters
        ----------
        X : array-like of images
            The hidden pixels must hold their true values.
        missing : array-like of bool
            True for the pixels to hide and to score; of the shapes of a mask.
        mask : array-like of bool, default=None
            True where a pixel is missing without being scored.
        n_draws : int or list of int, default=10000
            Codes per image and decoder. Of several numbers the smaller ones take the first codes of
            the largest, so that a curve costs no more than its last point.
        return_details : bool, default=False
            Whether to return what the inference took as well.

        Returns
        -------
        scores : dict of ndarray of shape (n,), or (len(n_draws), n)
            "iwae", "predictive" and "conditional" in nats per image and "minimum_nrmse" in the
            model's unit; NaN for images without a hidden pixel. What they mean is said in
            `sklearn_qavi.metrics`.
        details : dict
            With ``return_details``, by image: "n_cells" that were scored, "n_evaluations" of each
            decoder, NaN for images without a hidden pixel, and "converged"; and "seconds" that the
            inference of all of them took, without the scoring.

        Raises
        ------
        ValueError
            If a mask does not fit X, or hides nothing, or hides a pixel without a value.
        """
        check_is_fitted(self)
        batch = self._encoded(X, mask)
        hidden = batch.cells(missing)
        if (hidden & ~batch.table.observed).any():
            raise ValueError(
                "missing marks cells that have no value in X, so they cannot be scored."
            )
        sizes = checked_sizes(n_draws)
        check_hides_some(hidden)
        scores, details = self._inference().scores(self._rows(batch), hidden, sizes)
        return (scores, details) if return_details else scores

    def _sample_and_score(
        self,
        X: Table,
        n: int,
        *,
        mask: ArrayLike,
        n_draws: int,
        row_offset: int,
        pixel_noise: bool,
    ) -> tuple[list[Container], ScoresOfRows, ScoreDetails]:
        """Return what `sample` and `score_missing` do, from one inference.

        X holds the true values of the pixels under the mask, which hides at least one.
        """
        complete, incomplete = self._rows(self._encoded(X)), self._encode(X, mask)
        hidden = complete.table.observed & ~incomplete.table.observed
        draws = replace(self._draws(n), pixel_noise=self._noise_or_means(pixel_noise))
        drawn, scores, details = self._inference().draws_and_scores(
            complete, hidden, draws, n_draws, row_offset=row_offset
        )
        return [self._decode(incomplete, draw) for draw in drawn], scores, details

    @available_if(_is_flat)
    def get_feature_names_out(self, input_features: ArrayLike | None = None) -> NDArray[np.object_]:
        """Return the names of the cells, for flat rows with ``image_shape``.

        Parameters
        ----------
        input_features : array-like of str or None, default=None
            Names of the input columns; None takes those of `fit`, else ``x0``, ``x1``, ...

        Returns
        -------
        names : ndarray of str
            Those of the input.
        """
        check_is_fitted(self)
        names_in: NDArray[np.object_] = check_feature_names_in(self, input_features)
        return names_in

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        try:
            shape = find_image_shape(None, self.image_shape, self.data_format, self._known_shape)
        except ValueError:
            shape = None  # left to the images, or refused by fit
        tags.input_tags.two_d_array = shape is not None
        tags.input_tags.three_d_array = shape is None or shape[0] == 1
        tags.input_tags.allow_nan = is_scalar_nan(self.missing_values)
        tags.input_tags.positive_only = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32", "float16", "uint8"]
        return tags

    @property
    def _known_shape(self) -> tuple[int, int, int] | None:
        """Shape (C, H, W) of a trained model's images, None if it is not known."""
        model = self.generative_model
        return getattr(model, "image_shape_", None) if isinstance(model, GenerativeModel) else None

    def _new_encoder(self, X: Table) -> ImageEncoder:
        shape = find_image_shape(X, self.image_shape, self.data_format, self._known_shape)
        return ImageEncoder(shape, self.data_format, self.missing_values)

    _start: ClassVar[str] = "best"

    def _pixel_noise(self) -> PixelNoise | None:
        model, width = self.generative_model_, self.noise_width
        if width is None:
            width = getattr(model, "noise_width_", 0.0)
        if not width:
            return None
        if not all(getattr(d.likelihood, "shares_noise", False) for d in model.decoders_):
            raise ValueError(
                f"noise_width={plain(width)} needs to know which noise an observed pixel had, and "
                "the likelihood of this model does not tell: leave noise_width at None, or give "
                "the likelihood of images by its name (a PretrainedDecoder takes image_shape) or "
                "a method uniforms_of."
            )
        own = getattr(model, "own_noise_", OWN_NOISE)
        return PixelNoise(self.image_shape_, float(width), own)

    def _checked(self, name: str | InferenceMethod) -> InferenceMethod:
        method = super()._checked(name)
        if self.noise_width is not None and not method.draws_are_spread:
            raise ValueError(
                f"noise_width would be ignored: posterior={plain(self.posterior)} draws pixels as "
                "its own method says. Leave noise_width at None."
            )
        return method

    def _noise_or_means(self, pixel_noise: bool) -> bool:
        """Return the option, if the posterior has codes whose means can be taken."""
        if not pixel_noise and isinstance(self._method(), Feature):
            raise ValueError(
                f"posterior={plain(self.posterior)} draws pixels and no codes, so there is no mean "
                "given a code: leave pixel_noise at True, or choose 'gaussian', 'mixture' or "
                "'flow'."
            )
        return bool(pixel_noise)

    @property
    def _container(self) -> str:
        """What `set_output` asks for; arrays if images are not flat rows."""
        return get_output_config("transform", self)["dense"] if _is_flat(self) else "default"

    def _encoded(
        self, X: Table, mask: ArrayLike | None = None, *, reset: bool = False
    ) -> ImageBatch:
        array = as_array(X)
        if array.ndim == 2:
            check_feature_names(self, X, reset=reset)
        return self.encoder_.encode(array, mask)

    def _encode(self, X: Table, mask: ArrayLike | None) -> Rows:
        """Return images as inference takes them, if they can be returned as asked for."""
        batch = self._encoded(X, mask)
        if self._container != "default" and batch.array.ndim != 2:
            raise ValueError(
                f"set_output asks for dataframes, which hold flat rows, but X has shape "
                f"{batch.array.shape}. Pass X.reshape(len(X), -1), or call "
                "set_output(transform='default')."
            )
        return self._rows(batch, X)

    def _rows(self, batch: ImageBatch, original: Table | None = None) -> Rows:
        """Return images as inference takes them."""
        return Rows(batch.table, self._in_model_units, batch, original)

    def _in_model_units(self, table: EncodedTable) -> NDArray[np.float64]:
        values: NDArray[np.float64] = self.generative_model_.standardize(table.values)
        return values

    def _method(self) -> InferenceMethod:
        method, model = super()._method(), self.generative_model_
        start = getattr(method, "start", None)
        if start == "encoder" and not all(isinstance(d, Encodes) for d in model.decoders_):
            raise ValueError(
                f"start='encoder' needs the model's encoder, but this {type(model).__name__} has "
                "none. Pass encoder= to PretrainedDecoder, or start='best'."
            )
        return method

    def _trained_model(self, batch: ImageBatch | None) -> BaseEstimator:
        model = self._trained_already(
            self.n_features_in_,
            wrapped=(
                "PretrainedDecoder(decoder, 'continuous_bernoulli', "
                f"image_shape={self.image_shape_})"
            ),
            known=f"cells, but an image of shape {self.image_shape_} has {self.n_features_in_}",
        )
        if model is not None:
            for member in model.decoders_:
                _check_member(member, self.n_features_in_)
            return model
        if batch is None:
            raise ValueError(
                "There are no images to train the generative model on: pass X to fit, or a trained "
                "generative_model."
            )
        seen = batch.table.observed.any(axis=1)
        if not seen.any():
            raise ValueError("Every pixel of every image is missing: there is nothing to learn.")
        images = batch.images[seen].astype(np.float32)
        return self._unfitted_model().fit(images)

    def _unfitted_model(self) -> BaseEstimator:
        model = self.generative_model
        if model is None or isinstance(model, str):
            model = self._models[model]()
            model.set_params(device=self.device, verbose=self.verbose)
        else:
            model = clone(model)
        self._seed_model(model)
        return model

    def _hide_pixels(self, observed: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Hide whole observed pixels: the other channels would give a hidden one away."""
        by_channel = observed.reshape(len(observed), self.image_shape_[0], -1)
        hidden = hide_some(np.any(by_channel, axis=1), self._seed_of("score"))
        return (by_channel & hidden[:, None]).reshape(observed.shape)

    def _completed(self, rows: Rows, values: NDArray[np.float64]) -> NDArray[np.generic]:
        """Put values (N, D) of the model into the missing pixels."""
        imputed = self.generative_model_.unstandardize(values)
        bad = ~np.isfinite(imputed) & ~rows.table.observed
        if bad.any():
            images = np.flatnonzero(bad.any(axis=1))
            raise InferenceDivergedError(
                f"Filled pixels of {len(images)} image(s) are not finite, first at positions "
                f"{images[:5].tolist()}. Check the decoder's output for these images."
            )
        completed: NDArray[np.generic] = cast(ImageBatch, rows.source).completed(imputed)
        return completed

    def _decode(self, rows: Rows, values: NDArray[np.float64]) -> Container:
        """Return what `_completed` does in the container of `set_output`."""
        return wrap_in_container("transform", self._completed(rows, values), rows.original, self)


def _check_member(member: BaseEstimator, n_cells: int) -> None:
    """Decode two codes, and check that as many finite numbers come as the likelihood takes."""
    parameter = next(member.parameters(), torch.zeros(1))
    codes = torch.zeros(1, 2, member.latent_dim, device=parameter.device, dtype=torch.float32)
    codes[0, 1] = 1.0
    with torch.no_grad():
        params = member.decode(codes)
        expected = getattr(member.likelihood, "n_outputs", params.shape[-1])
        if params.shape[-1] != expected:
            raise ValueError(
                f"The decoder returns {params.shape[-1]} numbers per image, but its likelihood "
                f"takes {expected} for {n_cells} cells. Check the decoder's last layer."
            )
        mean = member.likelihood.mean(params)
    if mean.shape[-1] != n_cells:
        raise ValueError(
            f"The decoder's likelihood is of {mean.shape[-1]} cells, but an image has {n_cells}."
        )
    if not torch.isfinite(mean).all():
        raise ValueError(
            "The decoder returns NaN or infinity for ordinary codes; check its weights."
        )
