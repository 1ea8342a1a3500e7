"""Randomness that never touches global state and never depends on a row's neighbours.

Seeds come from scikit-learn's ``random_state``; everything below works from an integer. Two kinds
of noise leave this module: noise shared by all rows (optimisation, summaries), which makes a row's
answer independent of its neighbours, and noise keyed by the position of a row in the call (draws).
"""

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import qmc
from sklearn.utils import check_random_state
from torch import Tensor

_MAX_SEED = np.iinfo(np.int32).max


def seed_from(random_state: int | np.random.RandomState | None) -> int:
    """Return an integer seed; ``None`` and ``RandomState`` instances are drawn from."""
    return int(check_random_state(random_state).randint(_MAX_SEED))


def derive_seed(seed: int, *words: int) -> int:
    """Return an independent seed for a named purpose, e.g. one member of an ensemble."""
    return int(np.random.SeedSequence([seed, *words]).generate_state(1)[0])


def torch_generator(seed: int, device: torch.device | str = "cpu") -> torch.Generator:
    """Return a generator of its own, so that torch's global one is left alone."""
    generator = torch.Generator(device=device)
    generator.manual_seed(seed)
    return generator


def sobol_uniform(n_draws: int, n_dims: int, seed: int, *, antithetic: bool = True) -> Tensor:
    """Return scrambled Sobol points in the open unit cube, (n_draws, n_dims), in float64.

    With ``antithetic=True`` the second half mirrors the first (``1 - u``). Sobol sequences are
    balanced for powers of two only, so that many are made and the first ones kept. Dimensions
    beyond those for which direction numbers are known are independent uniforms.
    """
    n_points = (n_draws + 1) // 2 if antithetic else n_draws
    if n_points == 0 or n_dims == 0:
        return torch.zeros(n_draws, n_dims, dtype=torch.float64)
    n_sobol = min(n_dims, qmc.Sobol.MAXDIM)
    sampler = qmc.Sobol(n_sobol, scramble=True, rng=np.random.default_rng(seed))
    u = sampler.random_base2(int(np.ceil(np.log2(max(n_points, 1)))))[:n_points]
    if n_sobol < n_dims:
        more = np.random.default_rng([seed, 1]).random((n_points, n_dims - n_sobol))
        u = np.concatenate([u, more], axis=1)
    if antithetic:
        u = np.concatenate([u, 1.0 - u])[:n_draws]
    return torch.from_numpy(np.clip(u, 1e-9, 1.0 - 1e-9))


def row_uniforms(
    seed: int, positions: NDArray[np.int64], n_draws: int, n_dims: int, *, first: int = 0
) -> NDArray[np.float64]:
    """Return uniforms keyed by (seed, position of the row), (n_rows, n_draws, n_dims).

    The stream of one row is read draw after draw, so a call that asks for more draws begins with
    the draws of a call that asks for fewer. ``first`` draws are passed over.
    """
    out = np.empty((len(positions), n_draws, n_dims))
    blocks, rest = divmod(first * n_dims, 4)  # Philox makes four numbers at a time
    for i, position in enumerate(positions):
        bits = np.random.Philox(key=np.array([seed, position], dtype=np.uint64))
        generator = np.random.Generator(bits.advance(blocks) if blocks else bits)
        generator.random(rest)
        generator.random(out=out[i])
    return np.clip(out, 1e-12, 1.0 - 1e-12)
