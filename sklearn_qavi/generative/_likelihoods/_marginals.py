"""Logits that are linear in the code, with the right share of each category over all codes."""

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import ndtri

from ..._random import sobol_uniform

__all__ = ["marginal_offsets"]

Array = NDArray[np.float64]

_N_CODES = 512
_N_ROUNDS = 100
_TOL = 1e-3
_TINY = np.finfo(np.float64).tiny


def marginal_offsets(slope: Array, share: Array) -> Array:
    """Return offsets of logits with which categories have given shares under the prior.

    Parameters
    ----------
    slope : ndarray of shape (d, K, L)
        Change of the logits of K categories of d columns with the code.
    share : ndarray of shape (d, K)
        ``E_z[softmax(slope z + offset)]`` for codes z ~ N(0, I); 0 for categories that a column
        lacks.

    Returns
    -------
    offset : ndarray of shape (d, K)
        Finite; 0 for categories that a column lacks.
    """
    codes = ndtri(sobol_uniform(_N_CODES, slope.shape[-1], seed=0).numpy())
    used = share > 0
    log_share = np.log(np.where(used, share, 1.0))
    logits = np.where(used, np.einsum("nl,dkl->ndk", codes, slope), -np.inf)
    # exact for bins of a normal variable, whose squared slopes are their squared scores
    offset = log_share - 0.5 * np.square(slope).sum(-1)
    unshifted = torch.from_numpy(logits)
    for _ in range(_N_ROUNDS):
        mean = torch.softmax(unshifted + torch.from_numpy(offset), dim=-1).mean(0).numpy()
        change = np.where(used, log_share - np.log(np.maximum(mean, _TINY)), 0.0)
        offset = offset + change
        if np.abs(change).max() < _TOL:
            break
    offset = offset - (share * offset).sum(axis=1, keepdims=True)
    return np.where(used, offset, 0.0)
