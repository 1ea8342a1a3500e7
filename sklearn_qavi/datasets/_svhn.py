"""The Street View House Numbers, 32 x 32 pixels in colour."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.io import loadmat
from sklearn.datasets import fetch_openml

from .._checks import plain

__all__ = ["fetch_svhn"]

_SUBSETS = ("train", "test", "extra")
_OPENML_ID = 41081
_N_TRAIN, _N_TEST = 73_257, 26_032
_SIDE = 32


def fetch_svhn(
    folder: str | Path | None = None,
    *,
    subset: str = "train",
    data_home: str | Path | None = None,
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Load the house numbers of Google Street View.

    Parameters
    ----------
    folder : path-like, default=None
        Where ``train_32x32.mat`` and the like lie, as their authors publish them. None asks
        openml.org, through `sklearn.datasets.fetch_openml` and its cache.
    subset : {"train", "test", "extra"}, default="train"
        73,257, 26,032 or 531,131 images; "extra" only from a folder.
    data_home : path-like, default=None
        Folder of scikit-learn's cache, for openml.org.

    Returns
    -------
    images : uint8 ndarray of shape (n, 32, 32, 3)
        For ``QAVIInpainter(data_format="channels_last")``.
    labels : int64 ndarray of shape (n,)
        The digit in the middle, 0 to 9.

    Raises
    ------
    FileNotFoundError
        If the folder has no such file; the message says where it is published.
    ValueError
        If the subset is unknown, or a file does not hold 32 x 32 pixels in colour with a label from
        1 to 10 each.

    Notes
    -----
    From openml.org the first 73,257 images are taken as "train" and the rest as "test", in the
    order of pixels (row, column, channel). That order was not compared with the published files:
    look at an image first, and prefer a folder.

    References
    ----------
    .. [1] Netzer et al. (2011), "Reading digits in natural images with unsupervised feature
       learning". http://ufldl.stanford.edu/housenumbers

    Examples
    --------
    >>> from sklearn_qavi.datasets import fetch_svhn
    >>> images, labels = fetch_svhn("folder/of/svhn")  # doctest: +SKIP
    """
    if subset not in _SUBSETS:
        raise ValueError(f"subset must be one of {_SUBSETS}, got {plain(subset)}.")
    if folder is not None:
        return _from_folder(Path(folder), subset)
    if subset == "extra":
        raise ValueError(
            "openml.org has no subset 'extra'; pass the folder that holds extra_32x32.mat."
        )
    X, y = fetch_openml(
        data_id=_OPENML_ID,
        as_frame=False,
        return_X_y=True,
        parser="pandas",
        data_home=None if data_home is None else str(data_home),
    )
    if len(X) != _N_TRAIN + _N_TEST:
        raise ValueError(
            f"openml.org gave {len(X)} images, expected {_N_TRAIN + _N_TEST}; pass a folder."
        )
    part = slice(_N_TRAIN) if subset == "train" else slice(_N_TRAIN, None)
    pixels = np.asarray(X[part]).astype(np.uint8).reshape(-1, _SIDE, _SIDE, 3)
    return pixels, _as_digits(np.asarray(y[part]).astype(np.int64), "openml.org")


def _from_folder(folder: Path, subset: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    file = folder / f"{subset}_32x32.mat"
    if not file.exists():
        raise FileNotFoundError(
            f"{file} does not exist. It is published at http://ufldl.stanford.edu/housenumbers."
        )
    try:
        parts: dict[str, NDArray[np.integer]] = loadmat(file)
        X, y = parts["X"], parts["y"]
    except (KeyError, ValueError, TypeError, OSError, NotImplementedError) as error:
        raise ValueError(f"{file} is not a file of SVHN ({error}); fetch it again.") from error
    if X.ndim != 4 or X.shape[:3] != (_SIDE, _SIDE, 3) or X.dtype != np.uint8:
        raise ValueError(
            f"{file} holds images of shape {X.shape} and type {X.dtype}, expected uint8 of shape "
            f"({_SIDE}, {_SIDE}, 3, n)."
        )
    if y.size != X.shape[3]:
        raise ValueError(f"{file} holds {X.shape[3]} images but {y.size} labels.")
    return np.ascontiguousarray(X.transpose(3, 0, 1, 2)), _as_digits(y.reshape(-1), str(file))


def _as_digits(labels: NDArray[np.integer], where: str) -> NDArray[np.int64]:
    """Return labels 0 to 9; 10 stands for the digit 0."""
    digits = labels.astype(np.int64) % 10
    if not ((labels >= 0) & (labels <= 10)).all():
        raise ValueError(f"Labels in {where} must be 1 to 10, got {np.unique(labels)[:12]}.")
    return digits
