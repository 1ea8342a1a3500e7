"""Which rows a model learns from."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["select_training_rows"]

_MIN_ROWS = 5


def select_training_rows(observed: NDArray[np.bool_], training_rows: str) -> NDArray[np.bool_]:
    """Return the mask of the rows to train on.

    Parameters
    ----------
    observed : bool ndarray of shape (n_rows, n_features)
        True where a cell is observed.
    training_rows : {"auto", "complete", "all"}
        "auto" is "all", the rows with an observed cell: on the tables it was measured on they
        taught more than the complete ones even where those were most of the table.

    Returns
    -------
    rows : bool ndarray of shape (n_rows,)
        True for the rows to train on.

    Raises
    ------
    ValueError
        If fewer than five such rows exist.
    """
    count = observed.sum(axis=1)
    only_complete = training_rows == "complete"
    rows: NDArray[np.bool_] = count == observed.shape[1] if only_complete else count > 0
    if rows.sum() < _MIN_ROWS:
        kind = "complete rows" if only_complete else "rows with an observed cell"
        raise ValueError(
            f"Learning a model needs at least {_MIN_ROWS} {kind}, got {int(rows.sum())} "
            f"(n_samples = {len(observed)}). Fit on more rows"
            + (", or use training_rows='all'." if only_complete else ".")
        )
    return rows
