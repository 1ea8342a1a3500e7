"""Images of several layouts and types as flat rows of cells with a mask, and back."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_array

from .._checks import plain
from .._sklearn_compat import get_mask
from ._table import EncodedTable

__all__ = ["ImageBatch", "ImageEncoder", "as_array", "find_image_shape"]

Shape = tuple[int, int, int]

_SLACK = 1e-6  # beyond 0 and 1, as resizing leaves it
_MIN_SIDE = 8  # pixels; what is longer and comes before an axis of three is no axis of channels


@dataclass(frozen=True)
class ImageBatch:
    """Images as they came, and as rows of D = C * H * W cells in the order (C, H, W).

    Parameters
    ----------
    array : ndarray
        As they came.
    table : EncodedTable
        Cells from 0 to 1, NaN where missing.
    shape : tuple of int
        Channels C, height H, width W.
    channels_last : bool
        Whether the channels are the last axis of ``array``, or the fastest one of flat rows.
    """

    array: NDArray[Any]
    table: EncodedTable
    shape: Shape
    channels_last: bool

    @property
    def images(self) -> NDArray[Any]:
        """Values (n, C, H, W) from 0 to 1, NaN where missing."""
        return self.table.values.reshape(-1, *self.shape)

    def cells(self, mask: Any) -> NDArray[np.bool_]:
        """Return a mask of these images as rows (n, D), see `full_mask`."""
        return full_mask(mask, self.array, self.shape, self.channels_last)

    def completed(self, imputed: NDArray[np.float64]) -> NDArray[Any]:
        """Return the images as they came, with cells (n, D) put where they are missing."""
        out = self.array.copy()
        missing = from_rows(~self.table.observed, out, self.shape, self.channels_last)
        values = from_rows(imputed, out, self.shape, self.channels_last)[missing].clip(0.0, 1.0)
        if out.dtype == np.uint8:
            values = np.rint(255.0 * values)
        out[missing] = values.astype(out.dtype)
        return out


@dataclass(frozen=True)
class ImageEncoder:
    """Turns images of one size into rows of cells, whatever layout and type they come in.

    Parameters
    ----------
    shape : tuple of int
        Channels C, height H, width W.
    data_format : {"channels_first", "channels_last"}
        Where the channels of arrays with four axes stand, and how flat rows are ordered.
    missing_values : number, default=nan
        What marks a missing pixel of floats.
    """

    shape: Shape
    data_format: str = "channels_first"
    missing_values: float = np.nan

    @property
    def n_cells(self) -> int:
        """Number of cells D of an image."""
        return int(np.prod(self.shape))

    def encode(self, X: Any, mask: Any = None) -> ImageBatch:
        """Return images with their missing cells, those marked and those under the mask.

        Parameters
        ----------
        X : array-like of shape (n, H, W), (n, C, H, W), (n, H, W, C) or (n, D)
            Floats from 0 to 1 or uint8.
        mask : array-like of bool, default=None
            True where missing, see `full_mask`.

        Raises
        ------
        ValueError
            If the images have another size, type or range, or the mask does not fit them.
        """
        array = as_array(X)
        self._check_shape(array)
        last = self.data_format == "channels_last"
        rows = to_rows(array, self.shape, last)
        missing = np.zeros(rows.shape, dtype=bool)
        if array.dtype == np.uint8:
            values = rows.astype(np.float32) / np.float32(255.0)
        else:
            missing |= get_mask(rows, self.missing_values)
            values = rows.astype(np.float64 if rows.dtype == np.float64 else np.float32)
        if mask is not None:
            missing |= full_mask(mask, array, self.shape, last)
        _check_range(values, ~missing, self.missing_values)
        values = np.where(missing, np.nan, values.clip(0.0, 1.0)).astype(values.dtype)
        return ImageBatch(array, EncodedTable(values, ~missing), self.shape, last)

    def _check_shape(self, array: NDArray[Any]) -> None:
        channels, height, width = self.shape
        last = self.data_format == "channels_last"
        axes = (height, width, channels) if last else self.shape
        if array.ndim == 2 and array.shape[1] != self.n_cells:
            raise ValueError(
                f"X has {array.shape[1]} features, but QAVIInpainter is expecting {self.n_cells} "
                f"features as input: flat images of {_said(self.shape)}."
            )
        if array.ndim == 3 and channels != 1:
            raise ValueError(
                f"X has shape {array.shape}, so images of one channel, but the model's have "
                f"{channels}; expected (n, {', '.join(map(str, axes))}). A single image is X[None]."
            )
        if (array.ndim == 3 and array.shape[1:] != (height, width)) or (
            array.ndim == 4 and array.shape[1:] != axes
        ):
            raise ValueError(
                f"X has shape {array.shape}, but the model is of images of {_said(self.shape)}; "
                f"expected (n, {', '.join(map(str, axes))}) with "
                f"data_format={plain(self.data_format)}. Resize the images, or fit again."
            )


def as_array(X: Any) -> NDArray[Any]:
    """Return images as an array of floats or of uint8 with two to four axes.

    Raises
    ------
    ValueError
        If they have another type, or another number of axes.
    """
    array = check_array(
        X, dtype="numeric", allow_nd=True, ensure_all_finite=False, estimator="QAVIInpainter"
    )
    if array.dtype.kind != "f" and array.dtype != np.uint8:
        raise ValueError(
            f"X has dtype {array.dtype}, but pixels must be floats from 0 to 1 or uint8 from 0 to "
            "255. Convert with X.astype(np.uint8), or divide by the largest level."
        )
    if array.ndim not in (2, 3, 4):
        raise ValueError(
            f"X has shape {array.shape}, expected (n, H, W), (n, C, H, W), (n, H, W, C) with "
            "data_format='channels_last', or flat rows (n, C * H * W) with image_shape. A single "
            "image is X[None]."
        )
    images: NDArray[Any] = array
    return images


def find_image_shape(X: Any, image_shape: Any, data_format: str, known: Shape | None) -> Shape:
    """Return channels, height and width, by what is declared, what a model knows, or the images.

    Parameters
    ----------
    X : array-like or None
        The images, if any.
    image_shape : tuple of int or None
        (H, W), or (C, H, W) in the order of ``data_format``.
    data_format : {"channels_first", "channels_last"}
        Where the channels stand.
    known : tuple of int or None
        The shape (C, H, W) of a trained model.

    Raises
    ------
    ValueError
        If the shape is not known, or is no shape, or differs from the model's.
    """
    declared = None if image_shape is None else _declared(image_shape, data_format)
    if declared is not None and known is not None and declared != known:
        raise ValueError(
            f"image_shape={plain(image_shape)} says {_said(declared)}, but the trained model is of "
            f"images of {_said(known)}."
        )
    shape = declared or known
    if shape is not None:
        return shape
    if X is None:
        raise ValueError(
            "Without images to fit to, the size of an image must be known: pass image_shape=(H, W) "
            "or (C, H, W), or a trained model that has image_shape_."
        )
    array = as_array(X)
    if array.ndim == 2:
        raise ValueError(
            f"X has shape {array.shape}, so flat rows; pass image_shape=(H, W) or (C, H, W) with "
            f"{array.shape[1]} cells, or the images as (n, H, W) or (n, C, H, W)."
        )
    if array.ndim == 3:
        return (1, *array.shape[1:])
    _, a, b, c = array.shape
    if data_format == "channels_last":
        return (c, a, b)
    if c in (1, 3) and a >= _MIN_SIDE and b >= _MIN_SIDE:
        raise ValueError(
            f"X has shape {array.shape}, which looks like (n, H, W, C); pass "
            "data_format='channels_last', or X.transpose(0, 3, 1, 2)."
        )
    return (a, b, c)


def to_rows(array: NDArray[Any], shape: Shape, channels_last: bool) -> NDArray[Any]:
    """Return an array of images in any layout as rows (n, D) in the order (C, H, W)."""
    channels, height, width = shape
    if channels_last and channels > 1:
        array = array.reshape(-1, height, width, channels).transpose(0, 3, 1, 2)
    return array.reshape(len(array), channels * height * width)


def from_rows(
    rows: NDArray[Any], like: NDArray[Any], shape: Shape, channels_last: bool
) -> NDArray[Any]:
    """Return rows (n, D) in the layout of another array."""
    channels, height, width = shape
    if channels_last and channels > 1:
        rows = rows.reshape(-1, channels, height, width).transpose(0, 2, 3, 1)
    return rows.reshape(like.shape)


def full_mask(
    mask: Any, array: NDArray[Any], shape: Shape, channels_last: bool
) -> NDArray[np.bool_]:
    """Return a mask of images as rows (n, D), True where a cell is missing.

    Parameters
    ----------
    mask : array-like of bool
        Of shape (H, W), the same pixels of all images; (n, H, W), whole pixels; or of the shape of
        the images, single channels.
    array : ndarray
        The images.
    shape : tuple of int
        Channels C, height H, width W.
    channels_last : bool
        Where the channels of the images stand.

    Raises
    ------
    ValueError
        If the mask is not boolean or has another shape; the message says which would do.
    """
    given, n, (channels, height, width) = np.asarray(mask), len(array), shape
    if given.dtype != bool:
        raise ValueError(
            f"mask must be boolean, True where a pixel is missing, got dtype {given.dtype}; "
            "compare it with a number, e.g. mask == 1."
        )
    if given.shape == array.shape:
        return to_rows(given, shape, channels_last)
    one = (n, height, width, 1) if channels_last else (n, 1, height, width)
    if given.shape == (height, width):
        given = np.broadcast_to(given, (n, height, width))
    elif given.shape not in ((n, height, width), one):
        choices = dict.fromkeys([(height, width), (n, height, width), array.shape])
        raise ValueError(
            f"mask has shape {given.shape}, but X has {array.shape}; expected "
            f"{', '.join(map(str, choices))}: the same pixels of all images, pixels of each image, "
            "or each cell."
        )
    pixels = given.reshape(n, 1, height * width)
    return np.broadcast_to(pixels, (n, channels, height * width)).reshape(n, -1)


def _check_range(values: NDArray[Any], observed: NDArray[np.bool_], missing_values: float) -> None:
    """Raise if an observed cell of rows (n, D) is not between 0 and 1."""
    if not observed.any():
        return
    infinite = np.flatnonzero((np.isinf(values) & observed).any(axis=1))
    if len(infinite):
        raise ValueError(
            f"X holds infinity in {len(infinite)} image(s), first at positions "
            f"{infinite[:5].tolist()}. Mark such pixels with NaN or a mask."
        )
    low, high = values[observed].min(), values[observed].max()
    if np.isnan(low):
        raise ValueError(
            f"X holds NaN, but missing_values={plain(missing_values)} marks missing pixels. Pass "
            "missing_values=np.nan, or hide them with a mask."
        )
    if low < -_SLACK or high > 1.0 + _SLACK:
        advice = "scale them, and mark missing pixels with NaN or a mask"
        if low >= 0 and 1.5 < high <= 255:
            advice = "divide by 255, or pass X.astype(np.uint8)"
        below = "Negative values in data: o" if low < -_SLACK else "O"
        raise ValueError(
            f"{below}bserved pixels of X go from {low:g} to {high:g}, but floats must lie between "
            f"0 and 1; {advice}."
        )


def _declared(image_shape: Any, data_format: str) -> Shape:
    try:
        sizes = tuple(int(size) for size in image_shape)
        exact = all(size == given for size, given in zip(sizes, image_shape, strict=True))
    except (TypeError, ValueError):
        sizes, exact = (), False
    if not exact or len(sizes) not in (2, 3) or min(sizes) < 1:
        raise ValueError(
            "image_shape must be (H, W), or (C, H, W) or (H, W, C) as data_format says, in whole "
            f"numbers of at least 1, got {plain(image_shape)}."
        )
    if len(sizes) == 2:
        return (1, sizes[0], sizes[1])
    if data_format == "channels_last":
        return (sizes[2], sizes[0], sizes[1])
    return (sizes[0], sizes[1], sizes[2])


def _said(shape: Shape) -> str:
    channels, height, width = shape
    return f"{height} x {width} pixels and {channels} channel{'s' if channels > 1 else ''}"
