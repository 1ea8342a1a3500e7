"""The mode of draws."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["half_sample_mode"]


def half_sample_mode(draws: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mode of draws along the first axis by the half-sample estimator.

    The densest half of the ordered draws is taken again and again until two are left; repeated
    values (atoms) win at once, since a run of them has no width.

    Parameters
    ----------
    draws : ndarray of shape (S, ...)
        At least one draw.

    Returns
    -------
    mode : ndarray of shape (...)
        In the unit of the draws.

    References
    ----------
    .. [1] Bickel, Fruehwirth (2006), "On a fast, robust estimator of the mode".
    """
    ordered = np.sort(draws, axis=0)
    while len(ordered) > 2:
        half = (len(ordered) + 1) // 2
        widths = ordered[half - 1 :] - ordered[: len(ordered) - half + 1]
        start = widths.argmin(axis=0)
        index = start[None] + np.arange(half).reshape(-1, *[1] * start.ndim)
        ordered = np.take_along_axis(ordered, index, axis=0)
    mode: NDArray[np.float64] = ordered.mean(axis=0)
    return mode
