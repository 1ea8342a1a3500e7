"""Which rows a model learns from."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["rows_to_learn_from"]

_MIN_ROWS = 5


def rows_to_learn_from(observed: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the mask of the rows with an observed value.

    Incomplete rows teach as well: on the tables it was measured on, all rows were better than the
    complete ones alone, even where those were most of the table.

    Parameters
    ----------
    observed : bool ndarray of shape (n_rows, n_features)
        True where the cell is observed.

    Returns
    -------
    rows : bool ndarray of shape (n_rows,)
        True for the rows to train on.

    Raises
    ------
    ValueError
        If fewer than five such rows exist.
    """
    rows: NDArray[np.bool_] = np.any(observed, axis=1)
    if rows.sum() < _MIN_ROWS:
        raise ValueError(
            f"Learning a model needs at least {_MIN_ROWS} rows with an observed cell, got "
            f"{int(rows.sum())} (n_samples = {len(observed)}). Fit on more rows."
        )
    return rows
