"""Truth, missing part and several completions of images, side by side."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence, Sized
from itertools import islice
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator

from .._checks import plain
from .._typing import Table
from ._axes import Panels, panel_axes, say_below, size_of_text
from ._tables import missing_values_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.typing import ColorType

__all__ = ["InpaintingDisplay"]

Array = NDArray[np.float64]

_PANEL = (1.1, 1.1)  # inches
_SLACK = 1e-6  # by which observed pixels may differ between draws and images


class InpaintingDisplay:
    """Incomplete images and what may be in their missing parts.

    One row per image: the truth if it is known, the image with its missing pixels in a colour of
    their own, several draws side by side, and their mean if asked for. Draws that look alike say
    that the rest of the image tells what is missing; draws that differ are the completions that it
    leaves open. Build one with `from_estimator` or `from_draws`.

    Parameters
    ----------
    images : ndarray of shape (n_images, H, W, C)
        Pixels from 0 to 1 of one channel (grey) or three (red, green, blue).
    missing : ndarray of bool of shape (n_images, H, W)
        True where a pixel, or a channel of it, is missing.
    draws : ndarray of shape (n_draws, n_images, H, W, C)
        Completed images.
    truth : ndarray of shape (n_images, H, W, C), default=None
        The complete images.
    mean : ndarray of shape (n_images, H, W, C), default=None
        Mean over completions.
    n_given : int, default=None
        Number of draws that those shown were taken from; None says these are all, or unknown.

    Attributes
    ----------
    axes_ : ndarray of matplotlib.axes.Axes of shape (n_images, n_columns)
        Axes of the pictures, after `plot`.
    ax_ : matplotlib.axes.Axes
        The first of them.
    figure_ : matplotlib.figure.Figure
        Figure with the axes, after `plot`.

    See Also
    --------
    sklearn_qavi.QAVIInpainter : Completes images.
    CellDisplay : What may be in one cell of a table.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_qavi.plotting import InpaintingDisplay
    >>> image = np.full((1, 4, 4), 0.5)
    >>> image[:, :, 2:] = np.nan
    >>> draws = np.stack([np.nan_to_num(image, nan=grey) for grey in (0.2, 0.5, 0.9)])
    >>> display = InpaintingDisplay.from_draws(image, draws)
    >>> [ax.get_title() for ax in display.axes_[0]]
    ['image', 'draw 1', 'draw 2', 'draw 3']
    """

    def __init__(
        self,
        *,
        images: Array,
        missing: NDArray[np.bool_],
        draws: Array,
        truth: Array | None = None,
        mean: Array | None = None,
        n_given: int | None = None,
    ) -> None:
        self.images = images
        self.missing = missing
        self.draws = draws
        self.truth = truth
        self.mean = mean
        self.n_given = n_given

    @classmethod
    def from_estimator(
        cls,
        estimator: BaseEstimator,
        X: Table,
        mask: ArrayLike | None = None,
        truth: Table | None = None,
        n_draws: int = 5,
        *,
        mean: bool = False,
        pixel_noise: bool = True,
        ax: Panels = None,
        **plot_options: Any,
    ) -> Self:
        """Draw completions of images and plot them.

        Parameters
        ----------
        estimator : fitted QAVIInpainter
            What completes the images.
        X : array-like of images
            As the inpainter takes them; each becomes a row of the picture.
        mask : array-like of bool, default=None
            True where a pixel is missing, as the inpainter takes it.
        truth : array-like of images, default=None
            The complete images, in the layout and type of X.
        n_draws : int, default=5
            Draws of each image.
        mean : bool, default=False
            Show the mean over all completions as well, as ``transform`` with ``strategy="mean"``
            returns it. Infers the images a second time.
        pixel_noise : bool, default=True
            False shows the decoder's mean at each drawn code instead of a draw of each pixel, see
            `QAVIInpainter.sample`.
        ax : matplotlib.axes.Axes or array of axes, default=None
            Where to draw; None makes a figure. Axes are divided, an array has to hold one for each
            panel.
        **plot_options : dict
            Options of `plot`, such as ``cmap`` and ``missing_color``.

        Returns
        -------
        display : InpaintingDisplay
            The display, plotted.

        Raises
        ------
        ValueError
            If the images have neither one nor three channels, or images, mask and truth do not
            fit together.
        ImportError
            If matplotlib is not installed.
        """
        _check_count(n_draws)
        draws = estimator.sample(X, n=n_draws, mask=mask, pixel_noise=pixel_noise)
        if mean:
            # a copy, because the estimator may be set to another strategy
            averaging = copy.copy(estimator).set_params(strategy="mean", sample_posterior=False)
        return cls._from_draws(
            X,
            draws,
            mask,
            truth,
            averaging.transform(X, mask=mask) if mean else None,
            n_draws=n_draws,
            image_shape=estimator.image_shape,
            data_format=estimator.data_format,
            missing_values=missing_values_of(estimator),
            ax=ax,
            **plot_options,
        )

    @classmethod
    def from_draws(
        cls,
        X: Table,
        draws: Iterable[Table],
        mask: ArrayLike | None = None,
        truth: Table | None = None,
        mean: Table | None = None,
        *,
        n_draws: int = 5,
        image_shape: Sequence[int] | None = None,
        data_format: str = "channels_first",
        ax: Panels = None,
        **plot_options: Any,
    ) -> Self:
        """Plot completions that you have, from whatever method.

        Parameters
        ----------
        X : array-like of shape (n_images, H, W), (n_images, C, H, W), (n_images, H, W, C) or \
                (n_images, n_features)
            Images of one or three channels, as floats from 0 to 1 with NaN where missing, or uint8.
        draws : array-like of shape (n, \\*X.shape) or iterable of arrays
            Completed images, such as `QAVIInpainter.sample` returns.
        mask : array-like of bool, default=None
            True where missing; of shape (H, W), (n_images, H, W) or that of X.
        truth : array-like, default=None
            The complete images, in the layout and type of X.
        mean : array-like, default=None
            Images to show as the mean over completions, in the layout and type of X.
        n_draws : int, default=5
            How many draws to show; fewer if there are fewer.
        image_shape : sequence of int, default=None
            (H, W), or (C, H, W) in the order of ``data_format``, for flat rows.
        data_format : {"channels_first", "channels_last"}, default="channels_first"
            Where the channels of arrays with four axes stand, and how flat rows are ordered.
        ax : matplotlib.axes.Axes or array of axes, default=None
            Where to draw; None makes a figure. Axes are divided, an array has to hold one for each
            panel.
        **plot_options : dict
            Options of `plot`, such as ``cmap`` and ``missing_color``.

        Returns
        -------
        display : InpaintingDisplay
            The display, plotted.

        Raises
        ------
        ValueError
            If the images have neither one nor three channels, or images, mask, draws, truth and
            mean do not fit together.
        ImportError
            If matplotlib is not installed.
        """
        return cls._from_draws(
            X,
            draws,
            mask,
            truth,
            mean,
            n_draws=n_draws,
            image_shape=image_shape,
            data_format=data_format,
            missing_values=np.nan,
            ax=ax,
            **plot_options,
        )

    @classmethod
    def _from_draws(
        cls,
        X: Table,
        draws: Iterable[Table],
        mask: ArrayLike | None,
        truth: Table,
        mean: Table,
        *,
        n_draws: int,
        image_shape: Sequence[int] | None,
        data_format: str,
        missing_values: object,
        ax: Panels,
        **plot_options: Any,
    ) -> Self:
        _check_count(n_draws)
        layout = _Layout(X, image_shape, data_format)
        hidden = layout.hidden(missing_values, mask)
        images = layout.pixels(layout.array, "X", known=~hidden)
        shown = [layout.pixels(draw, "each of draws") for draw in islice(draws, n_draws)]
        if not shown:
            raise ValueError("draws are empty; pass e.g. inpainter.sample(X, n=5, mask=mask).")
        for draw in shown:
            _check_observed(draw, images, hidden)
        return cls(
            images=np.where(hidden, np.nan, images),
            missing=_any_channel(hidden),
            draws=np.stack(shown),
            truth=None if truth is None else layout.pixels(truth, "truth"),
            mean=None if mean is None else layout.pixels(mean, "mean"),
            n_given=len(draws) if isinstance(draws, Sized) else None,
        ).plot(ax=ax, **plot_options)

    def plot(
        self,
        ax: Panels = None,
        *,
        missing_color: ColorType = "C0",
        cmap: str | Colormap = "gray",
        outline: bool = True,
    ) -> Self:
        """Draw the picture.

        Parameters
        ----------
        ax : matplotlib.axes.Axes or array of axes, default=None
            Where to draw; None makes a figure. Axes are divided, an array has to hold one for each
            panel.
        missing_color : color, default="C0"
            Colour of missing pixels, and of their outline in what is filled.
        cmap : str or Colormap, default="gray"
            Colours of images of one channel, from 0 to 1; "gray_r" is ink on paper.
        outline : bool, default=True
            Whether to draw a line around what is filled in draws and mean.

        Returns
        -------
        display : InpaintingDisplay
            Itself, with ``axes_``, ``ax_`` and ``figure_``.

        Raises
        ------
        ValueError
            If an array of axes has not one for each panel.
        ImportError
            If matplotlib is not installed.
        """
        columns = self._columns()
        shape = (len(self.images), len(columns))
        axes = panel_axes(type(self).__name__, ax, shape[0] * shape[1], shape[1], _PANEL)
        self.axes_ = np.array(axes, dtype=object).reshape(shape)
        self.ax_, self.figure_ = axes[0], axes[0].figure
        longest = max(len(title) for title, *_ in columns) + 2
        size = 0.9 * size_of_text(self.ax_, longest)
        for j, (title, pictures, is_filled) in enumerate(columns):
            for i, panel in enumerate(self.axes_[:, j]):
                panel.imshow(_colours(pictures[i], missing_color, cmap), interpolation="nearest")
                panel.set(xticks=[], yticks=[])
                panel.spines[:].set_visible(False)
                if is_filled and outline:
                    _outline(panel, self.missing[i], missing_color)
            self.axes_[0, j].set_title(title, fontsize=size)
        if len(self.draws) < (self.n_given or 0):
            last_draw = self.axes_[-1, -1 if self.mean is None else -2]
            say_below(last_draw, f"{len(self.draws)} of {self.n_given} draws shown")
        return self

    def _columns(self) -> list[tuple[str, Array, bool]]:
        """Return title and images of each column, and whether they are filled in."""
        columns = [] if self.truth is None else [("truth", self.truth, False)]
        columns.append(("image", self.images, False))
        columns += [(f"draw {m + 1}", draw, True) for m, draw in enumerate(self.draws)]
        return columns if self.mean is None else [*columns, ("mean", self.mean, True)]


class _Layout:
    """Where height, width and channels of images stand, as their first array says."""

    def __init__(self, X: Table, image_shape: Sequence[int] | None, data_format: str) -> None:
        if data_format not in ("channels_first", "channels_last"):
            raise ValueError(
                "data_format must be 'channels_first' or 'channels_last', got "
                f"{plain(data_format)}."
            )
        self.array = _as_pixels(X, "X")
        self.last = data_format == "channels_last"
        sizes = self.array.shape[1:] if self.array.ndim > 2 else tuple(image_shape or ())
        if len(sizes) not in (2, 3) or np.prod(sizes) != np.prod(self.array.shape[1:]):
            raise ValueError(
                f"X has shape {self.array.shape}, expected (n, H, W), (n, C, H, W), (n, H, W, C) "
                "with data_format='channels_last', or flat rows with an image_shape of as many "
                f"cells, got image_shape={plain(image_shape)}. A single image is X[None]."
            )
        self.channel_axis = None if len(sizes) == 2 else (3 if self.last else 1)
        self.sizes = tuple(int(size) for size in sizes)
        n_channels = 1 if len(sizes) == 2 else sizes[2 if self.last else 0]
        if n_channels not in (1, 3):
            raise ValueError(
                f"X has shape {self.array.shape}, so images of {n_channels} channels with "
                f"data_format={plain(data_format)}; one (grey) or three (red, green, blue) can "
                "be shown."
            )
        if not len(self.array):
            raise ValueError("X holds no image to show.")

    def arranged(self, array: NDArray[np.generic]) -> NDArray[np.generic]:
        """Return an array in the layout of X as (n, H, W, C)."""
        array = array.reshape(-1, *self.sizes)
        if self.channel_axis is None:
            return array[..., None]
        return np.moveaxis(array, self.channel_axis, -1)

    def pixels(self, given: Table, name: str, known: NDArray[np.bool_] | None = None) -> Array:
        """Return images like X as (n, H, W, C) from 0 to 1, all finite where they are known."""
        array = _as_pixels(given, name)
        if array.shape != self.array.shape:
            raise ValueError(
                f"{name} must have the shape {self.array.shape} of X, got {array.shape}."
            )
        scale = 255.0 if array.dtype == np.uint8 else 1.0
        pixels = self.arranged(array).astype(np.float64) / scale
        seen = pixels if known is None else pixels[known]
        if not ((seen >= -_SLACK) & (seen <= 1.0 + _SLACK)).all():
            raise ValueError(
                f"{name} must hold floats from 0 to 1 or uint8, got {seen.min():g} to "
                f"{seen.max():g}{' in observed pixels' if name == 'X' else ''}."
            )
        return pixels

    def hidden(self, missing_values: object, mask: ArrayLike | None) -> NDArray[np.bool_]:
        """Return which cells (n, H, W, C) are missing, by their value or by the mask."""
        images = self.arranged(self.array)
        if self.array.dtype == np.uint8:
            hidden = np.zeros(images.shape, dtype=bool)
        else:
            hidden = np.isnan(images) | (images == missing_values)
        return hidden if mask is None else hidden | self._arranged_mask(np.asarray(mask))

    def _arranged_mask(self, mask: NDArray[np.generic]) -> NDArray[np.bool_]:
        n, height, width, _ = self.arranged(self.array).shape
        if mask.dtype == bool and mask.shape == self.array.shape:
            return self.arranged(mask).astype(bool, copy=False)
        one = (n, height, width, 1) if self.last else (n, 1, height, width)
        if mask.dtype != bool or mask.shape not in ((height, width), (n, height, width), one):
            raise ValueError(
                "mask must be boolean, True where a pixel is missing, and of shape "
                f"{(height, width)}, {(n, height, width)} or {self.array.shape}, got dtype "
                f"{mask.dtype} and shape {mask.shape}."
            )
        return mask.reshape(-1, height, width, 1).astype(bool, copy=False)


def _as_pixels(given: Table, name: str) -> NDArray[np.generic]:
    array = np.asarray(given)
    if array.dtype.kind != "f" and array.dtype != np.uint8:
        raise ValueError(
            f"{name} must hold floats from 0 to 1 or uint8 from 0 to 255, got dtype {array.dtype}."
        )
    return array


def _any_channel(cells: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return for which pixels (..., H, W) it holds in a channel of theirs (..., H, W, C)."""
    return np.asarray(cells.any(axis=-1))


def _check_count(n_draws: object) -> None:
    if isinstance(n_draws, bool) or not isinstance(n_draws, int | np.integer) or n_draws < 1:
        raise ValueError(f"n_draws must be a whole number of at least 1, got {plain(n_draws)}.")


def _check_observed(draw: Array, images: Array, hidden: NDArray[np.bool_]) -> None:
    if not np.allclose(draw[~hidden], images[~hidden], rtol=0.0, atol=_SLACK):
        raise ValueError(
            "draws differ from X in observed pixels: they must be completions of these images, of "
            "the same type, with the same pixels missing. If X holds the whole images, pass the "
            "mask."
        )


def _colours(image: Array, missing_color: ColorType, cmap: str | Colormap) -> Array:
    """Return an image as (H, W, 3) colours; pixels that hold NaN have the missing part's colour."""
    import matplotlib as mpl
    from matplotlib.colors import to_rgb

    missing = _any_channel(np.isnan(image))
    if image.shape[-1] == 1:
        grey = np.nan_to_num(image[..., 0]).clip(0.0, 1.0)
        colours = mpl.colormaps.get_cmap(cmap)(grey)[..., :3]
    else:
        colours = image.clip(0.0, 1.0)
    return np.where(missing[..., None], to_rgb(missing_color), colours)


def _outline(ax: Axes, missing: NDArray[np.bool_], color: ColorType) -> None:
    """Draw lines along the edges between missing and other pixels inside of an image."""
    rows, columns = np.nonzero(missing[1:] != missing[:-1])
    ax.hlines(rows + 0.5, columns - 0.5, columns + 0.5, color=color, linewidth=1.0)
    rows, columns = np.nonzero(missing[:, 1:] != missing[:, :-1])
    ax.vlines(columns + 0.5, rows - 0.5, rows + 0.5, color=color, linewidth=1.0)
