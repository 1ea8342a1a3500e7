"""Randomness that never touches global state and never depends on a row's neighbours.

Seeds come from scikit-learn's ``random_state``; everything below works from an integer. Two kinds
of noise leave this module: noise shared by all rows (optimisation, summaries), which makes a row's
answer independent of its neighbours, and noise keyed by the position of a row in the call (draws).
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import qmc
from sklearn.utils import check_random_state
from torch import Tensor

from ._plan import holds_points

_MAX_SEED = np.iinfo(np.int32).max

_ROUNDS = 10  # of Philox4x64, with the constants of its authors
_MULTIPLIERS = (0xD2E7470EE14C6C93, 0xCA5A826395121157)
_WEYL = (0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B)
_HALF = (1 << 32) - 1  # the lower half of 64 bits


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


class SobolPoints:
    """The points of `sobol_uniform`, part by part: few are held, many are made anew each time.

    Parameters
    ----------
    n_draws, n_dims : int
        Number of points and of their dimensions.
    seed : int
        Seed of the scrambling.
    antithetic : bool, default=True
        Whether the second half mirrors the first.
    """

    def __init__(self, n_draws: int, n_dims: int, seed: int, *, antithetic: bool = True) -> None:
        self.n_draws, self.n_dims, self.seed, self.antithetic = n_draws, n_dims, seed, antithetic
        self.held: Tensor | None = None
        if holds_points(n_draws * n_dims):
            self.held = sobol_uniform(n_draws, n_dims, seed, antithetic=antithetic)

    def __len__(self) -> int:
        """Return the number of points."""
        return self.n_draws

    def parts(self, size: int, cuts: Sequence[int] = ()) -> Iterator[Tensor]:
        """Yield the points in order, (n, n_dims), at most ``size`` at a time.

        A part never reaches across a number of points that is among the ``cuts``.
        """
        first, mirrored = _SobolStream(self), _SobolStream(self)
        n_points = (self.n_draws + 1) // 2 if self.antithetic else self.n_draws
        start = 0
        for end in sorted({*cuts, self.n_draws}):
            while start < end:
                stop = min(start + size, end)
                if self.held is not None:
                    yield self.held[start:stop]
                else:
                    n_first = max(min(stop, n_points) - start, 0)
                    n_mirrored = stop - start - n_first
                    u = np.concatenate([first.take(n_first), 1.0 - mirrored.take(n_mirrored)])
                    yield torch.from_numpy(np.clip(u, 1e-9, 1.0 - 1e-9))
                start = stop


class _SobolStream:
    """Scrambled Sobol points one after the other, with uniforms in the dimensions beyond them."""

    def __init__(self, points: SobolPoints) -> None:
        self.n_sobol = min(points.n_dims, qmc.Sobol.MAXDIM)
        self.n_more = points.n_dims - self.n_sobol
        self.seed = points.seed
        self.sampler: qmc.Sobol | None = None

    def take(self, n: int) -> NDArray[np.float64]:
        """Return the next n points."""
        if n == 0:
            return np.empty((0, self.n_sobol + self.n_more))
        parts = []
        if self.sampler is None:
            self.sampler = qmc.Sobol(
                self.n_sobol, scramble=True, rng=np.random.default_rng(self.seed)
            )
            self.more = np.random.default_rng([self.seed, 1])
            parts.append(self.sampler.random(1))  # scipy warns of first numbers that are odd
        parts.append(self.sampler.random(n - len(parts)))
        sobol = np.concatenate(parts)
        return np.concatenate([sobol, self.more.random((n, self.n_more))], axis=1)


def row_uniforms(
    seed: int,
    positions: NDArray[np.int64],
    n_draws: int,
    n_dims: int,
    *,
    first: int = 0,
    device: torch.device = torch.device("cpu"),
) -> Tensor:
    """Return uniforms keyed by (seed, position of the row), (n_rows, n_draws, n_dims), in float64.

    The stream of one row is read draw after draw, so a call that asks for more draws begins with
    the draws of a call that asks for fewer. ``first`` draws are passed over. Every device makes the
    same numbers: a CPU by numpy's generator row by row, others by `philox` for all rows at once,
    which would take four times as long on a CPU.
    """
    n = n_draws * n_dims
    blocks, rest = divmod(first * n_dims, 4)  # Philox makes four numbers at a time
    if device.type == "cpu":
        uniform = _uniforms_by_row(seed, positions, n, blocks, rest)
    else:
        keys = torch.as_tensor(positions).to(device)
        counter = torch.arange(blocks, blocks + -(-(n + rest) // 4), device=device)
        bits = philox(seed, keys, counter).flatten(1)[:, rest : rest + n]
        uniform = uniform_from_bits(bits)
    return uniform.reshape(len(positions), n_draws, n_dims).clamp_(1e-12, 1.0 - 1e-12)


def _uniforms_by_row(
    seed: int, positions: NDArray[np.int64], n: int, blocks: int, rest: int
) -> Tensor:
    """Return n uniforms of each row, (n_rows, n), after so many blocks of four and single ones."""
    out = np.empty((len(positions), n))
    bits = np.random.Philox(key=np.array([seed, 0], dtype=np.uint64))
    if blocks:
        bits = bits.advance(blocks)
    generator, state = np.random.Generator(bits), bits.state
    for i, position in enumerate(positions):  # another key costs less than another generator
        state["state"]["key"][1] = position
        bits.state = state
        if rest:
            generator.random(rest)
        generator.random(out=out[i])
    return torch.from_numpy(out)


def philox(seed: int, keys: Tensor, counter: Tensor) -> Tensor:
    """Return the bits of Philox4x64-10 for all keys and counters, (N, C, 4), as int64.

    They are those of ``numpy.random.Philox(key=[seed, key])`` after ``counter`` blocks of four, in
    integers that every device of torch has. Products wrap around as those of unsigned numbers do.

    Parameters
    ----------
    seed : int
        First half of the key, from 0 to 2^63 - 1.
    keys : int64 Tensor of shape (N,)
        Second half of the key of each stream.
    counter : int64 Tensor of shape (C,)
        Blocks, from 0.

    Returns
    -------
    bits : int64 Tensor of shape (N, C, 4)
        64 random bits each.

    References
    ----------
    .. [1] Salmon, Moraes, Dror, Shaw (2011), "Parallel random numbers: as easy as 1, 2, 3".
    """
    second = keys.unsqueeze(1)
    a = (counter + 1).expand(len(keys), len(counter))
    b = c = d = torch.zeros_like(a)
    for i in range(_ROUNDS):
        first_key, second_key = _signed(seed + i * _WEYL[0]), second + _signed(i * _WEYL[1])
        high_a, high_c = (_high_product(x, m) for x, m in zip((a, c), _MULTIPLIERS, strict=True))
        low_a, low_c = (x * _signed(m) for x, m in zip((a, c), _MULTIPLIERS, strict=True))
        a, b = high_c.bitwise_xor_(b).bitwise_xor_(first_key), low_c
        c, d = high_a.bitwise_xor_(d).bitwise_xor_(second_key), low_a
    return torch.stack([a, b, c, d], dim=-1)


def uniform_from_bits(bits: Tensor) -> Tensor:
    """Return the uniforms in [0, 1) of 64 bits each, in float64, as numpy makes them."""
    return ((bits >> 11) & ((1 << 53) - 1)).double().mul_(2.0**-53)


def _high_product(x: Tensor, multiplier: int) -> Tensor:
    """Return the upper 64 bits of the product of unsigned numbers of 64 bits."""
    low, high = x & _HALF, (x >> 32) & _HALF
    low_multiplier, high_multiplier = multiplier & _HALF, multiplier >> 32
    middle = high * low_multiplier + _upper(low * low_multiplier)
    carried = low.mul_(high_multiplier).add_(middle & _HALF)
    return high.mul_(high_multiplier).add_(_upper(middle)).add_(_upper(carried))


def _upper(x: Tensor) -> Tensor:
    """Return the upper 32 bits."""
    return (x >> 32).bitwise_and_(_HALF)


def _signed(x: int) -> int:
    """Return the number from -2^63 whose 64 bits are those of x."""
    x &= (1 << 64) - 1
    return x - (1 << 64) if x >> 63 else x
