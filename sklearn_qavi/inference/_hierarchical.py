"""QAVI for hierarchical decoders: starts from filled images, and the posterior over all layers."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from numbers import Real
from typing import ClassVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import avg_pool2d

from .._plan import LayerPlan
from .._random import torch_generator
from .._sklearn_compat import Interval, StrOptions
from .._typing import Decoder, HasLayers, LayeredDecoder
from ._context import Context
from ._engine import fit_posterior
from ._methods import QAVI
from ._objectives import hierarchical_bound
from ._result import InferenceResult
from ._settings import OptimizerSettings
from ._target import DecoderTarget
from .posteriors import HierarchicalPosterior, Start
from .posteriors._hierarchical import WEIGHTS

__all__ = ["FILLS", "FilledImageStart", "Hierarchical", "fill_missing"]

_NOISE_SEED = 5
_MISSING_WEIGHT = 0.1  # first weight of the encoder's posterior where pixels are missing

Fill = Callable[[LayeredDecoder, Tensor, Tensor], Tensor]


def _with_mean(decoder: LayeredDecoder, images: Tensor, seen: Tensor) -> Tensor:
    """Fill with the mean of each channel's observed pixels."""
    count = seen.sum((-2, -1), keepdim=True)
    mean = (images * seen).sum((-2, -1), keepdim=True) / count.clamp(min=1)
    return torch.where(count > 0, mean, 0.5).expand_as(images)


def _with_noise(decoder: LayeredDecoder, images: Tensor, seen: Tensor) -> Tensor:
    """Fill with uniform noise, the same in every image."""
    noise = torch.rand(images.shape[1:], generator=torch_generator(_NOISE_SEED))
    return noise.to(images).expand_as(images)


def _with_blur(decoder: LayeredDecoder, images: Tensor, seen: Tensor) -> Tensor:
    """Fill with means of observed pixels near by, of ever wider windows where none is near."""
    known = seen.to(images.dtype)
    out, filled = images * known, known > 0
    radius = 1
    while radius < 2 * max(images.shape[-2:]):
        # twice, so that the window has no sharp edge
        total, count = (_box(_box(t, radius), radius) for t in (images * known, known))
        near = (count > 1e-6) & ~filled
        out = torch.where(near, total / count.clamp(min=1e-6), out)
        filled = filled | near
        radius *= 2
    return torch.where(filled, out, _with_mean(decoder, images, seen))


def _box(maps: Tensor, radius: int) -> Tensor:
    """Return means over squares around each pixel; what lies outside counts as zero."""
    rows, columns = (min(radius, n - 1) for n in maps.shape[-2:])
    return (
        avg_pool2d(maps, (2 * rows + 1, 2 * columns + 1), stride=1, padding=(rows, columns))
        if rows or columns
        else maps
    )


def _with_model(decoder: LayeredDecoder, images: Tensor, seen: Tensor) -> Tensor:
    """Fill with the decoder's mean image at the means of its priors."""
    code = torch.zeros(1, decoder.latent_dim).to(images)
    mean: Tensor = decoder.likelihood.mean(decoder.decode(code))
    return mean.view(1, *images.shape[1:]).expand_as(images)


FILLS: dict[str, Fill] = {
    "blur": _with_blur,
    "mean": _with_mean,
    "model": _with_model,
    "noise": _with_noise,
}
"""Option string -> what fills images (n, C, H, W) in before the encoder reads them."""


def fill_missing(
    decoder: LayeredDecoder, x: Tensor, observed: Tensor, fill: str | NDArray[np.float64]
) -> Tensor:
    """Return rows with something in their missing cells.

    Parameters
    ----------
    decoder : object
        Has ``image_shape``; "model" decodes with it.
    x : Tensor of shape (n, D)
        Rows, finite everywhere.
    observed : bool Tensor of shape (n, D)
        True where the cell is observed.
    fill : {"blur", "mean", "model", "noise"} or ndarray of shape (D,)
        See `Hierarchical`.

    Returns
    -------
    filled : Tensor of shape (n, D)
        Observed cells are as they were.

    Raises
    ------
    ValueError
        If an array is of another size than the rows.
    """
    if not isinstance(fill, str):
        given = torch.as_tensor(np.asarray(fill), device=x.device).to(x.dtype).flatten()
        if len(given) != x.shape[1]:
            raise ValueError(
                f"The image to fill with has {len(given)} cells, but rows have {x.shape[1]}."
            )
        return torch.where(observed, x, given)
    shape = decoder.image_shape
    filled = FILLS[fill](decoder, x.unflatten(1, shape), observed.unflatten(1, shape))
    return torch.where(observed, x, filled.flatten(1))


@dataclass(frozen=True)
class FilledImageStart:
    """Starts of a hierarchical posterior: the encoder's features of images filled in.

    Parameters
    ----------
    family : HierarchicalPosterior
        Whose parameters are made.
    x : Tensor of shape (N, D)
        Rows in the decoder's units.
    observed : bool Tensor of shape (N, D)
        True where the cell is observed.
    fill : {"blur", "mean", "model", "noise"} or ndarray of shape (D,)
        See `Hierarchical`.
    observed_weight, missing_weight : float
        First weights of the encoder's posterior against the prior, see
        `Hierarchical`.
    """

    family: HierarchicalPosterior
    x: Tensor
    observed: Tensor
    fill: str | NDArray[np.float64]
    observed_weight: float
    missing_weight: float
    n_evaluations: ClassVar[int] = 1
    reads_codes: ClassVar[bool] = False

    def __call__(self, rows: Tensor, start: Start) -> Start:
        """Return the start of the rows with these indices."""
        decoder = self.family.decoder
        observed = self.observed[rows]
        with torch.no_grad():
            filled = fill_missing(decoder, self.x[rows], observed, self.fill)
            features = decoder.features(filled)
        weight: float | list[Tensor] = self.observed_weight
        if self.family.weights == "position":
            both = [self.missing_weight, self.observed_weight]
            first = torch.tensor(both, device=observed.device)
            weight = [first[seen.long()] for seen in decoder.observed_positions(observed)]
        return replace(start, parameters=self.family.pack(features, weight, weight))


class Hierarchical(QAVI):
    """A posterior over the codes of all layers of a hierarchical decoder.

    Each row gets features at every layer in the place of those that the encoder would read off the
    whole image, and weights of the encoder's posterior against the prior at every layer. They
    start from the image with its missing pixels filled and are optimised on the bound of the
    observed cells.

    Parameters
    ----------
    fill : {"blur", "mean", "model", "noise"} or array of shape (D,), default="blur"
        What stands in the missing pixels when the encoder reads an image for the start: means of
        observed pixels near by, their mean, the decoder's mean image, noise, or the cells of an
        image given as values from 0 to 1.
    weights : {"position", "layer"}, default="position"
        Whether the weights of the encoder's posterior against the prior belong to each position of
        a layer, so that q can follow the image where it is seen and the prior where it is missing,
        or to whole layers as in [1]_.
    observed_weight : float, default=0.9
        First weight of the encoder's posterior against the prior, between 0 and 1.
    missing_weight : float or None, default=None
        The same at positions that stand for missing pixels only, with ``weights="position"``;
        None is 0.1.
    checkpointing : bool, default=False
        Compute activations again for the gradient instead of keeping them: a third slower, in
        memory that no longer grows with the number of layers.
    optimizer : None, "paper" or Adam, default=None
        How to optimise; None takes `Adam` with settings for this posterior. "paper" is the recipe
        of [1]_, with its warm-up.
    time_budget : float or None, default=None
        Seconds that the inference of one call may take, see `Gaussian`.

    References
    ----------
    .. [1] Agarwal, Hope, Younis, Sudderth (2023), "A Decoder Suffices for Query-Adaptive
       Variational Inference", section 3.2, equations 9 to 11.

    Examples
    --------
    >>> from sklearn_qavi import QAVIInpainter
    >>> from sklearn_qavi.inference import Hierarchical
    >>> posterior = Hierarchical(fill="mean", checkpointing=True)
    >>> inpainter = QAVIInpainter(generative_model="hierarchical", posterior=posterior)
    """

    draws_are_spread = True

    needs: ClassVar[type | None] = HasLayers

    _parameter_constraints: ClassVar[dict[str, list[object]]] = {
        **QAVI._parameter_constraints,
        "fill": [StrOptions(set(FILLS)), "array-like"],
        "weights": [StrOptions(set(WEIGHTS))],
        "observed_weight": [Interval(Real, 0, 1, closed="neither")],
        "missing_weight": [None, Interval(Real, 0, 1, closed="neither")],
        "checkpointing": ["boolean"],
    }

    def __init__(
        self,
        *,
        fill: str | NDArray[np.float64] = "blur",
        weights: str = "position",
        observed_weight: float = 0.9,
        missing_weight: float | None = None,
        checkpointing: bool = False,
        optimizer: OptimizerSettings | str | None = None,
        time_budget: float | None = None,
    ) -> None:
        self.fill = fill
        self.weights = weights
        self.observed_weight = observed_weight
        self.missing_weight = missing_weight
        self.checkpointing = checkpointing
        self.optimizer = optimizer
        self.time_budget = time_budget

    def check(self) -> None:
        """Raise ValueError if a parameter has a value that it cannot have."""
        super().check()
        if self.weights == "layer" and self.missing_weight is not None:
            raise ValueError(
                "missing_weight is for weights='position': with weights='layer' all positions of a "
                "layer have the same weight."
            )

    def infer(
        self, decoder: Decoder, state: object, x: Tensor, observed: Tensor, context: Context
    ) -> InferenceResult:
        """Return the posteriors of rows under one decoder, see `InferenceMethod`.

        ``batch_size`` bounds the images, one per row and draw, whose gradients are computed
        together; without, they take about a gigabyte.
        """
        family = HierarchicalPosterior(
            cast(LayeredDecoder, decoder), checkpointing=self.checkpointing, weights=self.weights
        )
        images = context.batch_size
        if images is None:
            images = LayerPlan(family.decoder).images_with_gradient
        family.draws_at_a_time = max(1, images // (family.slots or 1))
        target = DecoderTarget.of(decoder, x, observed)
        missing_weight = _MISSING_WEIGHT if self.missing_weight is None else self.missing_weight
        return fit_posterior(
            target,
            family,
            optimizer=self._settings(family, context),
            beta=context.beta,
            seed=context.seed,
            progress=context.progress,
            objective=hierarchical_bound,
            deadline=context.deadline,
            trace=context.trace,
            starter=FilledImageStart(
                family, x, observed, self.fill, self.observed_weight, missing_weight
            ),
        )
