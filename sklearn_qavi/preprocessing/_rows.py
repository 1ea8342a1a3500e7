"""Which rows a model learns from."""

import warnings

import numpy as np
from numpy.typing import NDArray

from ..exceptions import IncompleteTrainingDataWarning

__all__ = ["select_training_rows"]

_MIN_ROWS = 5
_MIN_COMPLETE_ROWS = 100
_MIN_COMPLETE_SHARE = 0.5


def select_training_rows(observed: NDArray[np.bool_], training_rows: str) -> NDArray[np.bool_]:
    """Return the mask of the rows to train on.

    Parameters
    ----------
    observed : bool ndarray of shape (n_rows, n_features)
        True where a cell is observed.
    training_rows : {"auto", "complete", "all"}
        "auto" takes the complete rows where they are at least half of the table and at least
        100, or the whole table; otherwise all rows with an observed cell, with a warning.

    Returns
    -------
    rows : bool ndarray of shape (n_rows,)
        True for the rows to train on.

    Raises
    ------
    ValueError
        If fewer than five such rows exist.

    Warns
    -----
    IncompleteTrainingDataWarning
        If "auto" turned to incomplete rows.
    """
    n_rows = len(observed)
    count = observed.sum(axis=1)
    complete, some = count == observed.shape[1], count > 0
    n_complete = int(complete.sum())
    enough = n_complete >= max(_MIN_COMPLETE_ROWS, _MIN_COMPLETE_SHARE * n_rows)
    if training_rows == "complete":
        rows = complete
    elif training_rows == "all" or n_complete == n_rows:
        rows = some
    elif enough:
        rows = complete
    else:
        warnings.warn(
            f"{n_complete} of {n_rows} rows are complete, too few to learn from alone: the model "
            "is trained on all rows with an observed cell. Pass training_rows='all' to silence "
            "this, or 'complete' to insist on complete rows.",
            IncompleteTrainingDataWarning,
            stacklevel=4,
        )
        rows = some
    if rows.sum() < _MIN_ROWS:
        kind = "complete rows" if training_rows == "complete" else "rows with an observed cell"
        raise ValueError(
            f"Learning a model needs at least {_MIN_ROWS} {kind}, got {int(rows.sum())} "
            f"(n_samples = {n_rows}). Fit on more rows"
            + (", or use training_rows='all'." if training_rows == "complete" else ".")
        )
    return rows
