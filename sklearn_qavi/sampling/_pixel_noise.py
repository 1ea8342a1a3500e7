"""Noise that neighbouring pixels share: a Gaussian copula of the pixels given the code."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from math import ceil

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.ndimage import maximum_filter
from torch import Tensor

from .._typing import HasUniforms

__all__ = ["PixelNoise"]

_TAPS = 3.0  # widths that the smoothing kernel reaches to each side
_REACH = 4.0  # widths over which a seen pixel tells of the noise: a correlation of 1/50 is left
_TILE = 16  # side of the squares whose missing pixels are worked on together
_HELD = 256  # such squares whose weights are held
_DRAWS = 16  # worked on at one time
_LEAST = 1e-4  # probability below and above which a seen value counts as no less likely
_DIGITS = 2.0**20  # what is behind so many of a uniform's digits is another one

Mask = NDArray[np.bool_]
Places = tuple[NDArray[np.intp], NDArray[np.intp]]


@dataclass(frozen=True)
class PixelNoise:
    """What is drawn of an image given its code, with noise that neighbours share.

    A likelihood of independent pixels draws each by a uniform of its own. Here the uniforms are
    those of a Gaussian field: a white field smoothed along both axes, and a share that each pixel
    has for itself. So a pixel's distribution given the code stays as it is, but pixels next to each
    other err alike. What was seen next to a missing part says how the decoder errs there, and the
    field in that part is drawn given this, by Matheron's rule.

    Parameters
    ----------
    image_shape : tuple of int
        Channels C, height H and width W.
    width : float
        Standard deviation of the smoothing kernel, in pixels.
    own : float
        Share of the field's variance that each pixel has for itself, above 0.

    References
    ----------
    .. [1] Song (2000), "Multivariate dispersion models generated from Gaussian copula".
    .. [2] Journel, Huijbregts (1978), "Mining Geostatistics", for draws given what was seen.
    """

    image_shape: tuple[int, int, int]
    width: float
    own: float

    @property
    def reach(self) -> int:
        """Distance in pixels, along rows and columns, that a seen pixel tells anything over."""
        return max(1, ceil(_REACH * self.width))

    def uniforms(
        self, likelihood: HasUniforms, params: Tensor, cell_u: Tensor, x: Tensor, observed: Tensor
    ) -> Tensor:
        """Return uniforms (S, B, D, 2) of the pixels of B images given what was seen of them.

        Parameters
        ----------
        likelihood : object
            Has ``prepare`` and ``uniforms_of``.
        params : Tensor of shape (S, B, P)
            What the codes are decoded to.
        cell_u : Tensor of shape (S, B or 1, D, 2)
            Independent uniforms, in double precision.
        x, observed : Tensor of shape (B, D)
            Values, and the mask of those that were seen.
        """
        n_draws, n_rows, n_cells = len(params), *observed.shape
        field = self.field(cell_u).expand(n_draws, n_rows, n_cells).clone()
        seen = self._whole_pixels(observed)
        if seen.any():
            first, last = likelihood.uniforms_of(params, likelihood.prepare(x))
            # any of the uniforms that give a value may have been behind it
            place = (cell_u[..., 0] * _DIGITS).frac()
            u = torch.lerp(first.to(place), last.to(place), place).clamp(_LEAST, 1.0 - _LEAST)
            self._correct(field, torch.special.ndtri(u) - field, seen, observed)
        return torch.stack([torch.special.ndtr(field), cell_u[..., 1].expand_as(field)], dim=-1)

    def field(self, cell_u: Tensor) -> Tensor:
        """Return standard normals (..., D) that neighbours share, from uniforms (..., D, 2)."""
        shared, own = torch.special.ndtri(cell_u.double()).unbind(-1)
        smooth = shared.unflatten(-1, self.image_shape)
        smooth = _smoothed(smooth, self.width).transpose(-1, -2)
        smooth = _smoothed(smooth, self.width).transpose(-1, -2).flatten(-3)
        field: Tensor = (1.0 - self.own) ** 0.5 * smooth + self.own**0.5 * own
        return field

    def reached(self, observed: Tensor) -> Tensor:
        """Return the missing cells (B, D) that a seen pixel tells of."""
        seen = self._whole_pixels(observed).unflatten(-1, self.image_shape)
        size = 2 * self.reach + 1
        near = maximum_filter(seen.cpu().numpy(), size=(1, 1, size, size), mode="constant")
        return torch.from_numpy(near).to(observed.device).flatten(1) & ~observed

    def _whole_pixels(self, observed: Tensor) -> Tensor:
        """Return the mask (B, D) of pixels seen in all channels."""
        by_channel = observed.unflatten(-1, self.image_shape)
        whole: Tensor = by_channel.all(1, keepdim=True).expand_as(by_channel).flatten(1)
        return whole

    def _correct(self, field: Tensor, residual: Tensor, seen: Tensor, observed: Tensor) -> None:
        """Add to fields (S, B, D) in missing pixels what the residuals of seen ones say."""
        _, height, width = self.image_shape
        seen_of = seen[:, : height * width].reshape(-1, height, width).cpu().numpy()
        missing_of = ~observed.reshape(-1, *self.image_shape).cpu().numpy()
        for row, planes in enumerate(missing_of):
            for channel, missing in enumerate(planes):
                start = channel * height * width
                for targets, sources, weight in self._weights(seen_of[row], missing):
                    to, of = start + targets.to(field.device), start + sources.to(field.device)
                    for part in torch.arange(len(field), device=field.device).split(_DRAWS):
                        told = residual[part, row][:, of].unsqueeze(1) * weight.to(field)
                        # sums and no product of matrices: the same bits for any number of draws
                        field[part.unsqueeze(1), row, to] += told.sum(-1)

    def _weights(self, seen: Mask, missing: Mask) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield positions of missing pixels, of seen ones, and the weights (m, n) of these."""
        height, width = missing.shape
        for y in range(0, height, _TILE):
            for x in range(0, width, _TILE):
                top, left = max(0, y - self.reach), max(0, x - self.reach)
                window = np.s_[top : y + _TILE + self.reach, left : x + _TILE + self.reach]
                tile = np.s_[y - top : y - top + _TILE, x - left : x - left + _TILE]
                targets = np.zeros_like(missing[window])
                targets[tile] = missing[window][tile]
                if targets.any():
                    near = maximum_filter(targets, size=2 * self.reach + 1, mode="constant")
                    sources = seen[window] & near
                    if sources.any():
                        bits = (np.packbits(mask).tobytes() for mask in (targets, sources))
                        yield _weights_of(self, (top, left), targets.shape, *bits)


@lru_cache(maxsize=_HELD)
def _weights_of(
    noise: PixelNoise, corner: tuple[int, int], shape: tuple[int, int], *masks: bytes
) -> tuple[Tensor, Tensor, Tensor]:
    """Return positions of missing and of seen pixels, and what the latter tell of the former.

    They are those of two masks of a window with this corner and shape.
    """
    places = []
    for mask in masks:
        bits = np.unpackbits(np.frombuffer(mask, np.uint8), count=shape[0] * shape[1])
        y, x = divmod(np.flatnonzero(bits), shape[1])
        places.append((corner[0] + y, corner[1] + x))
    to, of = places
    factor = cho_factor(_covariance(noise, of, of), lower=True, overwrite_a=True)
    weight = cho_solve(factor, _covariance(noise, of, to)).T
    targets, sources = (torch.from_numpy(y * noise.image_shape[2] + x) for y, x in places)
    return targets, sources, torch.from_numpy(np.ascontiguousarray(weight))


def _covariance(noise: PixelNoise, first: Places, second: Places) -> NDArray[np.float64]:
    """Return the covariances of a field between rows and columns (m,) and others (n,), (m, n)."""
    _, height, width = noise.image_shape
    rows, columns = (_covariance_along(n, noise.width) for n in (height, width))
    shared = rows[np.ix_(first[0], second[0])] * columns[np.ix_(first[1], second[1])]
    same = np.equal.outer(first[0], second[0]) & np.equal.outer(first[1], second[1])
    covariance: NDArray[np.float64] = (1.0 - noise.own) * shared + noise.own * same
    return covariance


@lru_cache(maxsize=8)
def _covariance_along(n: int, width: float) -> NDArray[np.float64]:
    """Return the covariances (n, n) of n numbers that were smoothed."""
    smoothing = _smoothing(n, width)
    covariance: NDArray[np.float64] = smoothing @ smoothing.T
    return covariance


def _smoothing(n: int, width: float) -> NDArray[np.float64]:
    """Return what smooths n numbers, (n, n), with lines of length one."""
    distance = np.abs(np.subtract.outer(np.arange(n), np.arange(n)))
    kernel = np.exp(-0.5 * (distance / width) ** 2) * (distance <= ceil(_TAPS * width))
    scaled: NDArray[np.float64] = kernel / np.sqrt((kernel**2).sum(axis=1, keepdims=True))
    return scaled


def _smoothed(values: Tensor, width: float) -> Tensor:
    """Return images (..., H, W) smoothed along their columns, number by number.

    Not by a product of matrices, whose last bits may depend on how many images there are.
    """
    height, taps = values.shape[-2], ceil(_TAPS * width)
    kernel = torch.from_numpy(_smoothing(height, width)).to(values)
    padded = torch.nn.functional.pad(values, (0, 0, taps, taps))
    wide = torch.nn.functional.pad(kernel, (taps, taps))
    total = torch.zeros_like(values)
    for shift in range(2 * taps + 1):
        weight = torch.diagonal(wide, offset=shift).unsqueeze(-1)
        total = total + weight * padded[..., shift : shift + height, :]
    return total
