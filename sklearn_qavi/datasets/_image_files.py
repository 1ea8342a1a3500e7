"""Image files of a folder, read when they are needed."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._checks import plain

__all__ = ["ImageFiles", "read_image", "write_image"]

_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
_MODES = {1: "L", 3: "RGB"}


class ImageFiles:
    """The images of a folder, in the order of their names, read when they are asked for.

    What `HierarchicalVAE.fit` and `WideResNetVAE.fit` take instead of an array when the images do
    not fit into memory.

    Parameters
    ----------
    folder : path-like
        It and its subfolders are searched for PNG, JPEG, BMP, TIFF and WebP files.
    n_channels : {1, 3}, default=3
        Grey or colour; files of the other kind are converted. Transparency is dropped.
    size : int, default=None
        Side of the square that images are brought to: the largest square in the middle, resized.
        None takes them as they are; they must then have one size.
    n_workers : int, default=0
        Processes that read batches ahead of training; 0 reads in training's own.

    Attributes
    ----------
    files : list of Path
        The files.
    image_shape : tuple of int
        Channels C, height H and width W.

    Raises
    ------
    ImportError
        If pillow is not installed.
    ValueError
        If there is no image, an image has another size than the first, or a file cannot be read.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from sklearn_qavi.datasets import ImageFiles, write_image
    >>> folder = tempfile.mkdtemp()
    >>> for i in range(3):
    ...     write_image(np.full((1, 8, 8), i / 2), f"{folder}/{i}.png")
    >>> images = ImageFiles(folder, n_channels=1)
    >>> len(images), images.image_shape, images[[0, 2]].mean(axis=(1, 2, 3)).tolist()
    (3, (1, 8, 8), [0.0, 1.0])
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        n_channels: int = 3,
        size: int | None = None,
        n_workers: int = 0,
    ) -> None:
        if n_channels not in _MODES:
            raise ValueError(f"n_channels must be 1 or 3, got {plain(n_channels)}.")
        if size is not None and size < 1:
            raise ValueError(f"size must be None or at least 1, got {plain(size)}.")
        self.folder, self.n_channels, self.size = Path(folder), n_channels, size
        self.n_workers = n_workers
        self.files = sorted(
            file
            for file in self.folder.rglob("*")
            if file.suffix.lower() in _SUFFIXES and file.is_file()
        )
        if not self.files:
            raise ValueError(f"{self.folder} holds no image file ({', '.join(_SUFFIXES)}).")
        self.image_shape: tuple[int, int, int] = self._read(self.files[0]).shape

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.files)

    def __getitem__(self, index: int | slice | NDArray[np.intp]) -> NDArray[np.float32]:
        """Return an image (C, H, W), or those of several indices or a slice (n, C, H, W).

        Values are from 0 to 1.
        """
        if isinstance(index, slice):
            index = np.arange(len(self))[index]
        if np.ndim(index) == 0:
            return self._read_checked(self.files[int(index)])
        chosen = np.asarray(index)
        if chosen.dtype == bool:
            chosen = np.flatnonzero(chosen)
        if not len(chosen):
            return np.empty((0, *self.image_shape), dtype=np.float32)
        return np.stack([self._read_checked(self.files[int(i)]) for i in chosen])

    def _read_checked(self, file: Path) -> NDArray[np.float32]:
        image = self._read(file)
        if image.shape != self.image_shape:
            raise ValueError(
                f"{file} has shape {image.shape}, but {self.files[0]} has {self.image_shape}; "
                "size= brings images to one size."
            )
        return image

    def _read(self, file: Path) -> NDArray[np.float32]:
        return read_image(file, self.n_channels, size=self.size)


def read_image(
    file: str | Path, n_channels: int = 3, *, size: int | None = None
) -> NDArray[np.float32]:
    """Read an image.

    Parameters
    ----------
    file : path-like
        PNG, JPEG, or what else pillow reads.
    n_channels : {1, 3}, default=3
        Grey or colour; a file of the other kind is converted. Transparency is dropped.
    size : int, default=None
        Side of the square that the image is brought to: the largest square in the middle, resized.
        None takes it as it is.

    Returns
    -------
    image : float32 ndarray of shape (C, H, W)
        Values from 0 to 1.

    Raises
    ------
    ImportError
        If pillow is not installed.
    ValueError
        If the file cannot be read as an image.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from sklearn_qavi.datasets import read_image, write_image
    >>> file = tempfile.mkdtemp() + "/grey.png"
    >>> write_image(np.full((1, 4, 6), 0.6), file)
    >>> read_image(file, n_channels=1, size=2).astype(float).round(3).tolist()
    [[[0.6, 0.6], [0.6, 0.6]]]
    """
    pillow = _pillow()
    try:
        with pillow.open(file) as opened:
            image = _eight_bits(opened, pillow).convert(_MODES[n_channels])
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(f"{file} cannot be read as an image ({error}).") from error
    if size is not None:
        side = min(image.size)
        left, upper = ((length - side) // 2 for length in image.size)
        image = image.crop((left, upper, left + side, upper + side))
        image = image.resize((size, size), pillow.Resampling.LANCZOS)
    pixels = np.asarray(image, dtype=np.float32) / np.float32(255.0)
    return np.ascontiguousarray(np.atleast_3d(pixels).transpose(2, 0, 1))


def write_image(image: ArrayLike, file: str | Path) -> None:
    """Write an image; the ending of the file's name says in which format.

    Parameters
    ----------
    image : array-like of shape (C, H, W)
        Values from 0 to 1, rounded to 256 levels; one channel or three.
    file : path-like
        Where to; its folder must exist.

    Raises
    ------
    ImportError
        If pillow is not installed.
    ValueError
        If the image has another shape, or values outside of [0, 1] or NaN.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from sklearn_qavi.datasets import ImageFiles, write_image
    >>> folder = tempfile.mkdtemp()
    >>> write_image(np.ones((3, 4, 4)), f"{folder}/white.png")
    >>> ImageFiles(folder)[0].min().item()
    1.0
    """
    values = np.asarray(image, dtype=np.float64)
    if values.ndim != 3 or values.shape[0] not in _MODES:
        raise ValueError(f"An image has shape (1 or 3, H, W), got {values.shape}.")
    if not ((values >= 0) & (values <= 1)).all():
        raise ValueError("The values of an image must lie from 0 to 1.")
    levels = np.rint(255 * values).astype(np.uint8).transpose(1, 2, 0)
    _pillow().fromarray(levels[..., 0] if levels.shape[2] == 1 else levels).save(file)


def _eight_bits(image: Any, pillow: Any) -> Any:
    """Return grey images of 16 bits with 8; pillow would clip them."""
    if image.mode == "I" or image.mode.startswith("I;16"):
        return pillow.fromarray((np.asarray(image).astype(np.int64) // 257).astype(np.uint8))
    return image


def _pillow() -> Any:
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError(
            "Image files are read by pillow: pip install 'sklearn-qavi[images]'."
        ) from error
    return Image
