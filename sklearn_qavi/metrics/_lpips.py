"""Perceptual distance of each completed image from the truth."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from .._checks import plain
from ._extractors import as_images, as_rgb, batches, evaluation, place_of

_NETWORKS = ("alex", "vgg", "squeeze")


def lpips(
    real: ArrayLike,
    completed: ArrayLike,
    *,
    network: str | Callable[[torch.Tensor, torch.Tensor], torch.Tensor] = "alex",
    batch_size: int = 64,
) -> float:
    """Learned perceptual distance between images and their completions.

    Parameters
    ----------
    real : array-like of shape (n, H, W) or (n, C, H, W)
        Real images of one or three channels, floats from 0 to 1 or uint8. AlexNet needs 31 pixels
        a side.
    completed : array-like of the same shape
        Their completions, in the same order.
    network : {"alex", "vgg", "squeeze"} or callable, default="alex"
        A network of torchmetrics, whose weights torchvision downloads when they are not in the
        cache of `torch.hub`; or what returns the distances of two batches (n, 3, H, W) of float32
        from -1 to 1, such as the module ``LPIPS`` of the package lpips.
    batch_size : int, default=64
        Pairs at a time, to bound the memory.

    Returns
    -------
    distance : float
        Mean over the pairs, 0 for equal images. Lower is better.

    Raises
    ------
    ImportError
        If a network is named and torchmetrics or torchvision is not installed.
    ValueError
        If shapes differ, the network is unknown, values are not finite or are out of range.

    See Also
    --------
    masked_rmse : Error of the missing pixels alone.
    p_ids : Whether completions look as real as the truth, which they need not resemble.

    Notes
    -----
    The distance of [1]_: squared differences of a network's normalised activations, weighted to
    agree with people's judgements. It compares with the truth: a completion that is as plausible
    but another one scores worse, so report a score of sets beside it.

    References
    ----------
    .. [1] Zhang, Isola, Efros, Shechtman, Wang (2018), "The unreasonable effectiveness of deep
       features as a perceptual metric", CVPR.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_qavi.metrics import lpips
    >>> def squared_error(a, b):
    ...     return ((a - b) ** 2).mean(dim=(1, 2, 3))
    >>> lpips(np.zeros((4, 8, 8)), np.full((4, 8, 8), 0.5), network=squared_error)
    1.0
    """
    truth, guess = as_images("real", real), as_images("completed", completed)
    if truth.shape != guess.shape:
        raise ValueError(
            f"completed has shape {guess.shape}, but real has {truth.shape}; pass the completed "
            "version of the same images."
        )
    distance = _named_network(network) if isinstance(network, str) else network
    device, _ = place_of(distance)
    distances = 0.0
    with evaluation(distance), torch.no_grad():
        for part in batches(len(truth), batch_size):
            a, b = (_as_input(images[part]).to(device) for images in (truth, guess))
            distances += float(distance(a, b).sum())
    return distances / len(truth)


def _named_network(name: str) -> torch.nn.Module:
    if name not in _NETWORKS:
        raise ValueError(
            f"network must be one of {sorted(_NETWORKS)} or a callable, got {plain(name)}."
        )
    try:
        import torchvision  # noqa: F401 - torchmetrics looks for it only when the network is made
        from torchmetrics.image import LearnedPerceptualImagePatchSimilarity
    except ImportError as error:
        raise ImportError(
            "lpips needs torchmetrics and torchvision, which are not installed; "
            "pip install 'sklearn-qavi[images]' brings them."
        ) from error
    network: torch.nn.Module = LearnedPerceptualImagePatchSimilarity(net_type=name, reduction="sum")
    return network


def _as_input(images: NDArray[np.generic]) -> torch.Tensor:
    """Return images (n, 3, H, W) of float32 from -1 to 1."""
    rgb = as_rgb(torch.tensor(images))
    unit = rgb / 255 if rgb.dtype == torch.uint8 else rgb
    return (2 * unit - 1).to(torch.float32)
