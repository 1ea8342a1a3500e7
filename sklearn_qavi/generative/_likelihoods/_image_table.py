"""The observation models of images by name."""

from collections.abc import Callable
from functools import partial
from math import prod

from ..._checks import plain
from ._base import ColumnLikelihood
from ._bernoulli import BernoulliLikelihood
from ._continuous_bernoulli import ContinuousBernoulliLikelihood
from ._image import ImageLikelihood
from ._location_scale import DiscretizedNormalLikelihood, GaussianLikelihood
from ._logistic_mixture import LogisticMixtureLikelihood

__all__ = ["IMAGE_LIKELIHOODS", "make_image_likelihood"]

Shape = tuple[int, int, int]


def _of_family(
    family: Callable[..., ColumnLikelihood], name: str, image_shape: Shape, **options: object
) -> ImageLikelihood:
    return ImageLikelihood(image_shape, family(prod(image_shape), **options), name)


def _with_scale(
    family: Callable[..., ColumnLikelihood], name: str, image_shape: Shape, scale: str = "channel"
) -> ImageLikelihood:
    n_scales = {"channel": image_shape[0], "pixel": prod(image_shape), "decoder": None}
    if scale not in n_scales:
        raise ValueError(f"scale must be one of {sorted(n_scales)}, got {plain(scale)}.")
    return ImageLikelihood(image_shape, family(prod(image_shape), n_scales[scale]), name)


IMAGE_LIKELIHOODS: dict[str, Callable[..., ImageLikelihood]] = {
    "bernoulli": partial(_of_family, BernoulliLikelihood, "bernoulli"),
    "continuous_bernoulli": partial(
        _of_family, ContinuousBernoulliLikelihood, "continuous_bernoulli"
    ),
    "gaussian": partial(_with_scale, GaussianLikelihood, "gaussian"),
    "discretized_normal": partial(_with_scale, DiscretizedNormalLikelihood, "discretized_normal"),
    "logistic_mixture": LogisticMixtureLikelihood,
}
"""Option string -> what makes the observation model of an image shape."""


def make_image_likelihood(
    name: str, image_shape: tuple[int, int, int], **options: object
) -> ImageLikelihood:
    """Make an observation model of images by its name.

    Parameters
    ----------
    name : {"bernoulli", "continuous_bernoulli", "gaussian", "discretized_normal", \
            "logistic_mixture"}
        "bernoulli" takes values above 1/2 for 1 and others for 0; the two next are densities on
        [0, 1] and on the line; the last two are masses of the levels 0, 1/255, ..., 1.
    image_shape : tuple of int
        Channels C, height H and width W.
    **options : object
        ``scale`` of "gaussian" and "discretized_normal": "channel" (default) and "pixel" learn one
        number for each channel or each cell, "decoder" has the decoder give it, as
        ``softplus(raw)`` plus a floor. ``max_logit`` of "continuous_bernoulli", default 50, where
        logits begin to grow as logarithms only, and its ``density``, "exact" (default) or "torch",
        what `torch.distributions.ContinuousBernoulli` computes. ``n_components`` of
        "logistic_mixture", default 5, and its ``n_bits``, default 8; with 5, eight bytes share a
        level; ``masses="published"`` are then those of the published very deep VAEs.

    Returns
    -------
    likelihood : ImageLikelihood
        The observation model.

    Raises
    ------
    ValueError
        If the name or an option is unknown.
    """
    if name not in IMAGE_LIKELIHOODS:
        raise ValueError(
            f"The likelihood of images must be one of {sorted(IMAGE_LIKELIHOODS)} or an "
            f"ImageLikelihood, got {plain(name)}."
        )
    try:
        return IMAGE_LIKELIHOODS[name](image_shape, **options)
    except TypeError as error:
        raise ValueError(
            f"{sorted(options)} are not the options of likelihood={plain(name)}: {error}"
        ) from error
