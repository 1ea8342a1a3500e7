"""From images to features, with any network; Inception where it is installed."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from os import PathLike

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

Extractor = torch.nn.Module | Callable[..., ArrayLike | torch.Tensor]
"""What makes features (n, F) of images."""


def extract_features(
    images: ArrayLike, extractor: Extractor, *, batch_size: int = 256
) -> NDArray[np.float64]:
    """Compute the features of images that the perceptual scores compare.

    Parameters
    ----------
    images : array-like of shape (n_images, ...)
        Complete images, of floats or uint8.
    extractor : torch.nn.Module or callable
        From a batch of images to features, (batch, F) or anything that flattens to it. A module is
        called in evaluation mode, without gradients, with tensors on the device and in the
        floating type of its parameters; uint8 stays uint8, and grey images (n, H, W) come as
        (n, 1, H, W). It is left in the mode it was in. Any other callable is given arrays as they
        are, such as the ``transform`` of a fitted `sklearn.decomposition.PCA`.
    batch_size : int, default=256
        Images at a time, to bound the memory.

    Returns
    -------
    features : ndarray of shape (n_images, F)
        In float64, in the unit of the extractor.

    Raises
    ------
    ValueError
        If an image holds NaN or infinity, or the extractor does not return one line per image.

    See Also
    --------
    load_inception : The extractor of published scores.
    frechet_distance : Takes features, or images and an extractor.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> from sklearn_qavi.metrics import extract_features
    >>> images = np.ones((5, 8, 8))
    >>> pool = torch.nn.AvgPool2d(4)
    >>> extract_features(images, pool).shape
    (5, 4)
    """
    array = as_images("images", images)
    call = _on_arrays(extractor) if isinstance(extractor, torch.nn.Module) else extractor
    parts = [array[part] for part in batches(len(array), batch_size)]
    with evaluation(extractor):
        return np.concatenate([_flat(call(part), len(part)) for part in parts])


def load_inception(weights: str | PathLike[str] | None = None) -> torch.nn.Module:
    """Load Inception-v3 with the weights and the resizing that FID is defined with.

    Parameters
    ----------
    weights : str or path-like, default=None
        File with the state dict that torch-fidelity publishes. None takes it from the cache of
        `torch.hub`, or downloads it there (91 MB).

    Returns
    -------
    extractor : torch.nn.Module
        From images of one or three channels, (n, H, W) or (n, C, H, W), floats from 0 to 1 or
        uint8, to the 2048 pooled features. On the CPU; ``.to("cuda")`` moves it.

    Raises
    ------
    ImportError
        If torch-fidelity is not installed.
    pickle.UnpicklingError
        If the file holds anything but tensors.

    See Also
    --------
    extract_features : Apply it to many images.

    Notes
    -----
    The network of [1]_ in the version of torch-fidelity, which agrees with the original to
    rounding. Floats are rounded to 256 levels, grey images become three equal channels.

    References
    ----------
    .. [1] Heusel, Ramsauer, Unterthiner, Nessler, Hochreiter (2017), "GANs trained by a two
       time-scale update rule converge to a local Nash equilibrium", NeurIPS.
    """
    try:
        from torch_fidelity.utils import create_feature_extractor
    except ImportError as error:
        raise ImportError(
            "load_inception needs torch-fidelity, which is not installed; "
            "pip install 'sklearn-qavi[images]' brings it."
        ) from error
    if weights is not None:
        # torch-fidelity would unpickle whatever the file holds; this refuses all but tensors
        torch.load(weights, map_location="cpu", weights_only=True)
    network = create_feature_extractor(
        "inception-v3-compat",
        ["2048"],
        cuda=False,
        verbose=False,
        feature_extractor_weights_path=None if weights is None else str(weights),
    )
    return _Inception(network)


class _Inception(torch.nn.Module):
    """What torch-fidelity's network expects, from what this package's images look like."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        rgb = as_rgb(images)
        levels = rgb if rgb.dtype == torch.uint8 else (255 * rgb).round().to(torch.uint8)
        features: torch.Tensor = self.network(levels)[0]
        return features


def batches(n: int, size: int) -> list[slice]:
    """Return slices of n images, ``size`` at a time."""
    if size < 1:
        raise ValueError(f"batch_size must be at least 1, got {size}.")
    return [slice(start, start + size) for start in range(0, n, size)]


@contextmanager
def evaluation(network: object) -> Iterator[None]:
    """Switch a module to evaluation and back; anything else is left as it is."""
    parts = list(network.modules()) if isinstance(network, torch.nn.Module) else []
    modes = [part.training for part in parts]
    try:
        for part in parts:
            part.training = False
        yield
    finally:
        for part, mode in zip(parts, modes, strict=True):
            part.training = mode


def place_of(network: object) -> tuple[torch.device, torch.dtype | None]:
    """Return device and floating type of a network's parameters; None if it has none."""
    if isinstance(network, torch.nn.Module):
        for parameter in network.parameters():
            if parameter.is_floating_point():
                return parameter.device, parameter.dtype
    return torch.device("cpu"), None


def as_images(name: str, images: ArrayLike) -> NDArray[np.generic]:
    """Return finite images of floats or uint8, at least one."""
    array = np.asarray(images)
    if array.dtype != np.uint8 and not np.issubdtype(array.dtype, np.floating):
        raise ValueError(f"{name} must be floats or uint8, got {array.dtype}.")
    if array.ndim < 2 or array.size == 0:
        raise ValueError(
            f"{name} must be at least one image, (n_images, ...), got shape {array.shape}."
        )
    if not np.isfinite(array).all():
        bad = int((~np.isfinite(array.reshape(len(array), -1))).any(axis=1).sum())
        raise ValueError(
            f"{name} holds NaN or infinity in {bad} of {len(array)} images; complete them first."
        )
    return array


def as_rgb(images: torch.Tensor) -> torch.Tensor:
    """Return images (n, 3, H, W), of uint8 or of floats from 0 to 1."""
    if images.ndim == 3:
        images = images[:, None]
    if images.ndim != 4 or images.shape[1] not in (1, 3):
        raise ValueError(
            "Images must be (n, H, W) or (n, C, H, W) with one or three channels, got shape "
            f"{tuple(images.shape)}."
        )
    if images.is_floating_point():
        low, high = (float(limit) for limit in images.aminmax())
        if low < 0 or high > 1:
            raise ValueError(
                f"Images of floats must be from 0 to 1, got values from {low:.3g} to {high:.3g}; "
                "rescale them, or pass uint8."
            )
    return images.expand(-1, 3, -1, -1)


def _on_arrays(module: torch.nn.Module) -> Callable[[NDArray[np.generic]], torch.Tensor]:
    device, dtype = place_of(module)

    @torch.no_grad()
    def call(batch: NDArray[np.generic]) -> torch.Tensor:
        # copied: torch warns of arrays that may not be written to
        tensor = torch.tensor(batch, device=device)
        if dtype is not None and tensor.is_floating_point():
            tensor = tensor.to(dtype)
        features: torch.Tensor = module(tensor[:, None] if tensor.ndim == 3 else tensor)
        return features

    return call


def _flat(output: ArrayLike | torch.Tensor, n: int) -> NDArray[np.float64]:
    if isinstance(output, torch.Tensor):
        output = output.detach().cpu()
    features = np.asarray(output, dtype=np.float64)
    if features.ndim < 2 or len(features) != n:
        raise ValueError(
            f"The extractor must return one line of features per image, ({n}, F), got shape "
            f"{features.shape}."
        )
    return features.reshape(n, -1)
