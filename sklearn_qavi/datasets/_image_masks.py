"""Masks of images, drawn at random: patches, halves, single pixels, strokes and boxes."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from numbers import Integral, Real
from typing import cast

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_random_state

from .._checks import plain

__all__ = ["make_image_masks"]

Mask = NDArray[np.bool_]
Random = np.random.RandomState

_MAX_DRAWS = 1000
_THINNEST = 1.5  # pixels; thinner strokes would have gaps


def make_image_masks(
    n: int,
    shape: tuple[int, int],
    *,
    kind: str = "random_patches",
    n_patches: int = 2,
    patch_size: int | tuple[int, int] | None = None,
    rate: float = 0.5,
    rate_range: tuple[float, float] = (0.0, 1.0),
    n_strokes: int = 20,
    n_boxes: tuple[int, int] = (10, 5),
    stroke_width: tuple[float, float] = (12 / 512, 48 / 512),
    n_vertices: tuple[int, int] = (4, 17),
    random_state: int | Random | None = None,
) -> Mask:
    """Draw masks of images.

    Parameters
    ----------
    n : int
        Number of masks.
    shape : tuple of int
        Height H and width W in pixels.
    kind : {"random_patches", "rotated_half", "random_pixels", "free_form"}, \
            default="random_patches"
        What is missing:

        - "random_patches": rectangles at random places, wholly inside of the image; they may
          overlap.
        - "rotated_half": what lies on one side of a line through the centre, at a uniform angle.
        - "random_pixels": each pixel with probability ``rate``, independently.
        - "free_form": strokes of a brush and boxes ([2]_), redrawn until the share that is missing
          lies in ``rate_range``.
    n_patches : int, default=2
        Rectangles of "random_patches".
    patch_size : int or tuple of int, default=None
        Side of a rectangle, or its height and width. None takes 10 of 28 pixels, and of other
        images 15 of 32 in proportion to the shorter side; these are the sizes of [1]_ for MNIST
        and SVHN.
    rate : float, default=0.5
        Share of missing pixels, for "random_pixels".
    rate_range : tuple of float, default=(0.0, 1.0)
        Share of missing pixels of "free_form": above the first number and below the second.
    n_strokes : int, default=20
        Fewer strokes than this are drawn, a uniform number from 0 on.
    n_boxes : tuple of int, default=(10, 5)
        Fewer boxes than these are drawn, a uniform number from 0 on: of up to half of the image's
        sides, and of up to its full sides. Boxes may reach beyond the image by half of their size.
    stroke_width : tuple of float, default=(12/512, 48/512)
        Thinnest and thickest stroke, in sides of the image.
    n_vertices : tuple of int, default=(4, 17)
        Fewest and most corners of a stroke.
    random_state : int, RandomState instance or None, default=None
        Seed of the masks.

    Returns
    -------
    masks : bool ndarray of shape (n, H, W)
        True where a pixel is missing.

    Raises
    ------
    ValueError
        If an option is out of its range, patches do not fit into the image, or ``rate_range``
        cannot be reached.

    See Also
    --------
    sklearn_qavi.QAVIInpainter : Fills them.

    Notes
    -----
    With a narrow ``rate_range`` low in [0, 1], strokes and boxes are fewer in proportion to the sum
    of its limits, as in [2]_, so that few draws are thrown away.

    References
    ----------
    .. [1] Agarwal, Hope, Younis, Sudderth (2023), "A Decoder Suffices for Query-Adaptive
       Variational Inference", section 4.1.
    .. [2] Zhao et al. (2021), "Large scale image completion via co-modulated generative
       adversarial networks", ICLR.

    Examples
    --------
    >>> from sklearn_qavi.datasets import make_image_masks
    >>> masks = make_image_masks(2, (28, 28), kind="rotated_half", random_state=0)
    >>> masks.shape
    (2, 28, 28)
    >>> make_image_masks(1, (3, 5), patch_size=2, n_patches=1, random_state=0).sum()
    np.int64(4)
    """
    n, shape = _whole("n", n, 0), _checked_shape(shape)
    rng = check_random_state(random_state)
    if kind == "random_patches":
        size = _checked_patch(patch_size, shape)
        return _random_patches(n, shape, _whole("n_patches", n_patches, 1), size, rng)
    if kind == "rotated_half":
        return _rotated_half(n, shape, rng)
    if kind == "random_pixels":
        if not isinstance(rate, Real) or not 0.0 <= rate <= 1.0:
            raise ValueError(
                f"rate must be a number from 0 to 1, got {plain(rate)}; 0.3 hides 30%."
            )
        return np.asarray(rng.random_sample((n, *shape)) < rate)
    if kind == "free_form":
        low, high = _pair("rate_range", rate_range, 0.0, 1.0)
        widths = _pair("stroke_width", stroke_width, 0.0, np.inf)
        few, many = (_whole("n_vertices", v, 2) for v in n_vertices)
        if low == high or few > many:
            raise ValueError(
                "rate_range and n_vertices must go from a smaller to a larger number, got "
                f"{plain(rate_range)} and {plain(n_vertices)}."
            )
        brush = _Brush(shape, widths, (few, many), rng)
        counts = [_whole("n_boxes", k, 0) for k in n_boxes] + [_whole("n_strokes", n_strokes, 0)]
        share = min(low + high, 1.0)
        counts = [int(k * share) for k in counts]
        return _in_range(n, (low, high), shape, lambda: _free_form(brush, counts))
    raise ValueError(
        "kind must be 'random_patches', 'rotated_half', 'random_pixels' or 'free_form', got "
        f"{plain(kind)}."
    )


def _random_patches(
    n: int, shape: tuple[int, int], n_patches: int, size: tuple[int, int], rng: Random
) -> Mask:
    inside = []
    for length, side in zip(shape, size, strict=True):
        start = rng.randint(length - side + 1, size=(n, n_patches, 1))
        place = np.arange(length)
        inside.append((place >= start) & (place < start + side))
    rows, columns = inside
    return np.asarray((rows[..., :, None] & columns[..., None, :]).any(axis=1))


def _rotated_half(n: int, shape: tuple[int, int], rng: Random) -> Mask:
    angle = rng.uniform(0.0, 2 * np.pi, size=(n, 1, 1))
    y, x = (np.arange(length) - (length - 1) / 2 for length in shape)
    side = np.cos(angle) * y[:, None] + np.sin(angle) * x
    return np.asarray(side > 0)


def _in_range(
    n: int, limits: tuple[float, float], shape: tuple[int, int], draw: Callable[[], Mask]
) -> Mask:
    """Draw masks until the share of the missing is within the limits, n times."""
    out = np.zeros((n, *shape), dtype=bool)
    for i in range(n):
        for _ in range(_MAX_DRAWS):
            mask = draw()
            if limits[0] < mask.mean() < limits[1]:
                break
        else:
            raise ValueError(
                f"No mask of {_MAX_DRAWS} had a share of missing pixels between {limits[0]:g} and "
                f"{limits[1]:g}; widen rate_range, or change n_strokes, n_boxes or stroke_width."
            )
        out[i] = mask
    return out


def _free_form(brush: "_Brush", counts: list[int]) -> Mask:
    shape, rng = brush.shape, brush.rng
    mask = np.zeros(shape, dtype=bool)
    for count, part in zip(counts[:2], (2, 1), strict=True):
        for _ in range(_below(count, rng)):
            _add_box(mask, tuple(max(side // part, 1) for side in shape), rng)
    for _ in range(_below(counts[2], rng)):
        mask |= brush.stroke()
    return np.asarray(mask[:: rng.choice([-1, 1]), :: rng.choice([-1, 1])])


def _add_box(mask: Mask, largest: tuple[int, ...], rng: Random) -> None:
    """Mark a box of uniform size that may reach over the edge by half of it."""
    spans = []
    for length, limit in zip(mask.shape, largest, strict=True):
        size = rng.randint(limit + 1)
        start = rng.randint(-(size // 2), length - size + size // 2 + 1)
        spans.append(slice(max(start, 0), max(start + size, 0)))
    mask[spans[0], spans[1]] = True


class _Brush:
    """Draws strokes: chains of thick segments with round ends, turning back and forth."""

    def __init__(
        self,
        shape: tuple[int, int],
        widths: tuple[float, float],
        n_vertices: tuple[int, int],
        rng: Random,
    ) -> None:
        self.shape, self.n_vertices, self.rng = shape, n_vertices, rng
        self.thinnest, self.thickest = (width * min(shape) for width in widths)
        self.step = float(np.hypot(*shape)) / 8

    def stroke(self) -> Mask:
        """Return the pixels nearer to a random chain than half of its width, (H, W)."""
        points = self._chain()
        radius = max(self.rng.uniform(self.thinnest, self.thickest), _THINNEST) / 2
        near = np.zeros(self.shape, dtype=bool)
        for start, end in pairwise(points):
            _add_segment(near, start, end, radius)
        return near

    def _chain(self) -> NDArray[np.float64]:
        """Return corners (V + 1, 2) inside of the image; turns alternate between two directions."""
        rng, limits = self.rng, np.array(self.shape, dtype=np.float64) - 1
        n_corners = rng.randint(self.n_vertices[0], self.n_vertices[1] + 1)
        spread = 2 * np.pi / 15
        low = 2 * np.pi / 5 - rng.uniform(0.0, spread)
        high = 2 * np.pi / 5 + rng.uniform(0.0, spread)
        angles = rng.uniform(low, high, size=n_corners)
        angles[::2] = 2 * np.pi - angles[::2]
        steps = np.clip(rng.normal(self.step, self.step / 2, size=n_corners), 0, 2 * self.step)
        points = [rng.uniform(0.0, limits)]
        for angle, step in zip(angles, steps, strict=True):
            move = step * np.array([np.sin(angle), np.cos(angle)])
            points.append(np.clip(points[-1] + move, 0.0, limits))
        return np.array(points)


def _add_segment(
    mask: Mask, start: NDArray[np.float64], end: NDArray[np.float64], radius: float
) -> None:
    """Mark the pixels within a radius of a segment."""
    low = np.floor(np.minimum(start, end) - radius).clip(0).astype(int)
    high = np.ceil(np.maximum(start, end) + radius).astype(int) + 1
    window = mask[low[0] : high[0], low[1] : high[1]]
    y, x = (np.arange(k) + first - s for k, first, s in zip(window.shape, low, start, strict=True))
    dy, dx = end - start
    share = (y[:, None] * dy + x * dx) / max(dy**2 + dx**2, 1e-12)
    share = share.clip(0.0, 1.0)
    window |= (y[:, None] - share * dy) ** 2 + (x - share * dx) ** 2 <= radius**2


def _below(count: int, rng: Random) -> int:
    return int(rng.randint(count)) if count else 0


def _whole(name: str, value: object, least: int) -> int:
    if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name} must be a whole number of at least {least}, got {plain(value)}.")
    return int(value)


def _pair(name: str, value: Sequence[float], low: float, high: float) -> tuple[float, float]:
    try:
        first, second = value
        fits = low <= first <= second <= high
    except (TypeError, ValueError):
        fits = False
    if not fits:
        raise ValueError(
            f"{name} must be two numbers in order, from {low:g} to {high:g}, got {plain(value)}."
        )
    return float(first), float(second)


def _checked_shape(shape: Sequence[int]) -> tuple[int, int]:
    try:
        height, width = shape
    except (TypeError, ValueError):
        raise ValueError(
            f"shape must be height and width of the images, got {plain(shape)}; masks of whole "
            "pixels do for images with channels."
        ) from None
    return _whole("The height in shape", height, 1), _whole("The width in shape", width, 1)


def _checked_patch(
    patch_size: int | Sequence[int] | None, shape: tuple[int, int]
) -> tuple[int, int]:
    if patch_size is None:
        side = min(shape)
        patch_size = 10 if side == 28 else max(1, round(15 * side / 32))
    whole = isinstance(patch_size, Integral)
    given = cast(Sequence[int], (patch_size, patch_size) if whole else patch_size)
    try:
        height, width = (_whole("patch_size", side, 1) for side in given)
    except TypeError:
        raise ValueError(
            f"patch_size must be a whole number or height and width, got {plain(patch_size)}."
        ) from None
    if height > shape[0] or width > shape[1]:
        raise ValueError(
            f"Patches of {height} x {width} pixels do not fit into images of {shape[0]} x "
            f"{shape[1]}; pass a smaller patch_size."
        )
    return height, width
