"""Mixtures of discretized logistics whose channels depend on each other."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import softplus

from ..._checks import plain
from ..._plan import pixels_summed_over
from ._base import broadcast_shape
from ._image import ImageLikelihood
from ._levels import Levels
from ._logistic_sums import Channel, log_sum_over_gaps

__all__ = ["LogisticMixtureLikelihood"]

_LOG_SCALES = (-7.0, 7.0)
_GRID = {1: 256, 2: 32}  # most values a missing channel is summed over, by how many are missing
_COARSE_GRID = 8
_VECTOR = 16  # numbers that processors work on at one time, at most
_NODES, _MORE_NODES = 13, 55  # quantiles behind means, for up to three channels and for more
_GOLDEN_RATIO = 0.5 * (5**0.5 - 1)


@dataclass(frozen=True)
class _Mixture:
    """Parameters of pixels: logits (..., M, *), the others with one axis more for channels."""

    logits: Tensor
    mean: list[Tensor]
    log_scale: list[Tensor]
    coefficient: list[list[Tensor]]
    levels: Levels

    def location(self, channel: int, earlier: Sequence[Tensor]) -> Tensor:
        """Return the components' locations given the pixel's earlier channels."""
        location = self.mean[channel]
        for coefficient, value in zip(self.coefficient[channel], earlier, strict=False):
            location = location + coefficient * value
        return location

    def log_mass(self, channel: int, values: Sequence[Tensor]) -> Tensor:
        """Return the components' log masses of a channel's value given the earlier ones."""
        location = self.location(channel, values)
        return _log_mass(values[channel], location, self.log_scale[channel], self.levels)

    def map(self, function: Callable[[Tensor], Tensor]) -> "_Mixture":
        """Return the mixture with every tensor changed."""
        return _Mixture(
            function(self.logits),
            [function(t) for t in self.mean],
            [function(t) for t in self.log_scale],
            [[function(t) for t in row] for row in self.coefficient],
            self.levels,
        )


class LogisticMixtureLikelihood(ImageLikelihood):
    """Masses that a mixture of logistics gives to the 256 levels of each pixel.

    The channels of a pixel share the component, and the location of a component in a later channel
    moves linearly with the earlier channels.

    Parameters
    ----------
    image_shape : tuple of int
        Channels C, height H and width W.
    n_components : int, default=5
        Number M of logistics per pixel.
    n_bits : int, default=8
        Bits of a pixel. With 5 its 256 bytes count as 32 levels of 8 each; draws and means are in
        the middles of levels.
    masses : {"exact", "published"}, default="exact"
        "published" are those of the very deep VAEs of 5 bits, which do not sum to one: the mass of
        a level reaches 1/31 to each side, where half of the distance of two levels is 4/127.5, and
        the last level, 248 to 255, does not take the tail above it. Pixels with some channels
        missing keep the exact masses, which can be summed over.

    Raises
    ------
    ValueError
        If ``n_bits`` or ``masses`` is something else.

    Notes
    -----
    The decoder gives maps of the image's size, in this order: M logits; for each channel M
    locations; for each channel M logarithms of scales, cut off at -7 and 7; for each pair of a
    channel and an earlier one, (1, 0), (2, 0), (2, 1), ..., M coefficients before ``tanh``. Pixels
    count from -1 to 1 there.

    `log_prob` is by the chain rule: a cell given the earlier channels of its pixel. Where some
    channels of a pixel are missing, `log_prob_observed` leaves out those after the last observed
    one. A missing channel before an observed one is summed over all of its levels, which is exact;
    two are summed over 32 groups of levels each, and more over 8, with the exact mass of a group at
    its middle. The sum over all values of the observed channels is one in each case.

    `mean` is that of logistics cut off at the first and the last level, averaged over evenly spread
    points in the quantiles of the earlier channels, 13 for up to three channels and 55 for more;
    rounding to levels moves it by less than half a level.

    References
    ----------
    .. [1] Salimans, Karpathy, Chen, Kingma (2017), "PixelCNN++: improving the PixelCNN with
       discretized logistic mixture likelihood and other modifications".
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        n_components: int = 5,
        n_bits: int = 8,
        masses: str = "exact",
    ) -> None:
        super().__init__(image_shape, None, "logistic_mixture")
        if not 1 <= n_bits <= 8:
            raise ValueError(f"Pixels have 1 to 8 bits, got n_bits={plain(n_bits)}.")
        if masses not in ("exact", "published"):
            raise ValueError(f"masses must be 'exact' or 'published', got {plain(masses)}.")
        self.levels = Levels(n_bits, masses == "published")
        self.masses = masses
        self.n_components = n_components
        self.n_channels, height, width = self.image_shape
        self.n_pixels = height * width
        n_pairs = self.n_channels * (self.n_channels - 1) // 2
        self.n_maps = n_components * (1 + 2 * self.n_channels + n_pairs)

    @property
    def n_outputs(self) -> int:
        """Number of decoder outputs P."""
        return self.n_maps * self.n_pixels

    @property
    def options(self) -> dict[str, dict[str, object]]:
        """Arguments of the family by its name."""
        options: dict[str, object] = {
            "n_components": self.n_components,
            "n_bits": self.levels.n_bits,
            "masses": self.masses,
        }
        return {self.name: options}

    def prepare(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the levels of values (B, D) on the scale from -1 to 1, (B, C, 1, H * W)."""
        scaled = self.levels.of_values(x)
        return (scaled.unflatten(-1, (self.n_channels, 1, self.n_pixels)),)

    def log_prob(self, params: Tensor, prepared: tuple[Tensor, ...]) -> Tensor:
        """Return the log mass of each cell given its pixel's earlier channels, (..., B, D)."""
        mixture, (y,) = self._by_map(params), prepared
        values = y.unbind(-3)
        joint = mixture.logits.log_softmax(-2)
        before: Tensor | float = 0.0
        cells = []
        for c in range(len(values)):
            joint = joint + mixture.log_mass(c, values)
            total = joint.logsumexp(-2)
            cells.append(total - before)
            before = total
        return torch.cat(cells, dim=-1)

    def log_prob_observed(
        self, params: Tensor, prepared: tuple[Tensor, ...], observed: Tensor
    ) -> Tensor:
        """Return the log mass of the observed cells together, (..., B), in nats."""
        return self.fit_of_decoded(prepared, observed)(params)

    def fit_of_decoded(
        self, prepared: tuple[Tensor, ...], observed: Tensor
    ) -> Callable[[Tensor], Tensor]:
        """Return `log_prob_observed` of rows as a function of what is decoded.

        Where their pixels have gaps is found once: the host waits for that.
        """
        (y,) = prepared
        values = y.unbind(-3)
        seen = observed.unflatten(-1, (self.n_channels, self.n_pixels))
        rows, pixels = _with_gaps(seen).nonzero(as_tuple=True)

        def fit(params: Tensor) -> Tensor:
            mixture = self._by_map(params)
            joint = mixture.logits.log_softmax(-2)
            for c in range(len(values)):
                log_mass = mixture.log_mass(c, values)
                joint = joint + torch.where(seen[..., c, :].unsqueeze(-2), log_mass, 0.0)
            by_pixel = joint.logsumexp(-2)
            if len(rows):
                marginal = self._log_marginals(params, y, seen, rows, pixels)
                by_pixel = by_pixel.clone()
                by_pixel[..., rows, pixels] = marginal
            return by_pixel.sum(-1)

        return fit

    def mean(self, params: Tensor) -> Tensor:
        """Return the mean of every cell given the code, (..., D)."""
        mixture = self._by_map(params)
        weight = mixture.logits.softmax(-2)
        n_points = _NODES if self.n_channels <= 3 else _MORE_NODES
        quantiles = _points(n_points, self.n_channels - 1).to(params)
        wide = mixture.map(partial(torch.unsqueeze, dim=-1))  # an axis for the points at the end
        nodes: list[Tensor] = []
        cells = []
        for c in range(self.n_channels):
            location, scale = wide.location(c, nodes), _scale(wide.log_scale[c])
            expected = _clipped_mean(location, scale, self.levels.last).mean(-1)
            cells.append((weight * expected).sum(-2))
            if c < self.n_channels - 1:
                value = location + scale * torch.logit(quantiles[c])
                nodes.append(value.clamp(-1.0, self.levels.last))
        return self.levels.to_values(torch.cat(cells, dim=-1))

    def mean_given(self, params: Tensor, x: Tensor, observed: Tensor) -> Tensor:
        """Return the means (..., B, D) given the code and the pixel's observed channels."""
        mean = self.mean(params)
        return self._replace_partial(mean, params, x, observed, None, self._means_of_pixels)

    def sample(self, params: Tensor, uniform: Tensor) -> Tensor:
        """Return values (..., D) from two uniforms per cell, (..., D, 2)."""
        u = uniform.unflatten(-2, (self.n_channels, self.n_pixels)).movedim(-2, -3)
        drawn = _draw(self._parse(self._pixels(params)), u, [])
        return self.levels.to_values(drawn.transpose(-1, -2).flatten(-2))

    def sample_given(self, params: Tensor, uniform: Tensor, x: Tensor, observed: Tensor) -> Tensor:
        """Return values (..., B, D) of missing channels given their pixel's observed ones."""
        drawn = self.sample(params, uniform)
        return self._replace_partial(drawn, params, x, observed, uniform, self._draw_pixels)

    def uniforms_of(self, params: Tensor, prepared: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """Return the first and last uniform that `sample` turns into each value, (..., B, D).

        A cell's are those given the earlier channels of its pixel.
        """
        mixture, (y,) = self._by_map(params), prepared
        values, half = y.unbind(-3), self.levels.half
        joint = mixture.logits.log_softmax(-2)
        cells = []
        for c in range(len(values)):
            weight, value = joint.softmax(-2), values[c]
            location, precision = mixture.location(c, values), 1.0 / _scale(mixture.log_scale[c])
            below, above = (
                (weight * torch.sigmoid((value + to - location) * precision)).sum(-2)
                for to in (-half, half)
            )
            is_first, is_last = _ends(value.squeeze(-2), self.levels)
            cells.append((torch.where(is_first, 0.0, below), torch.where(is_last, 1.0, above)))
            joint = joint + mixture.log_mass(c, values)
        first, last = (torch.cat(part, dim=-1) for part in zip(*cells, strict=True))
        return first, last

    def entropy(self, params: Tensor) -> Tensor:
        """Raise: the entropy of a mixture has no closed form."""
        raise NotImplementedError("The entropy of a mixture of logistics has no closed form.")

    @property
    def _exact(self) -> Levels:
        """Levels whose masses sum to one."""
        return replace(self.levels, overlapping=False)

    def _by_map(self, params: Tensor) -> _Mixture:
        """Return the mixture with pixels on the last axis: logits (..., M, N)."""
        return self._parse(params.unflatten(-1, (self.n_maps, self.n_pixels)), -2)

    def _parse(self, maps: Tensor, dim: int = -1) -> _Mixture:
        return _parse(maps, self.n_channels, self.levels, dim)

    def _pixels(self, params: Tensor) -> Tensor:
        """Return parameters by pixel, (..., N, n_maps)."""
        maps: Tensor = params.unflatten(-1, (self.n_maps, self.n_pixels)).transpose(-1, -2)
        return maps

    def _log_marginals(
        self, params: Tensor, y: Tensor, seen: Tensor, rows: Tensor, pixels: Tensor
    ) -> Tensor:
        """Return the log mass (..., n) of what is observed of n pixels."""
        maps = self._pixels(params).expand(*params.shape[:-2], len(seen), -1, -1)
        table, values = maps[..., rows, pixels, :], y.squeeze(-2)[rows, :, pixels]
        patterns = seen[rows, :, pixels]
        out = table.new_empty(table.shape[:-1])
        for pattern in patterns.unique(dim=0):
            mine = (patterns == pattern).all(-1).nonzero().squeeze(1)
            # whole vectors, so that a pixel's last bit does not depend on how many there are
            whole = torch.cat([mine, mine[-1:].expand(-len(mine) % _VECTOR)])
            total = _log_marginal(
                table[..., whole, :], values[whole], pattern.tolist(), self._exact
            )
            out[..., mine] = total[..., : len(mine)]
        return out

    def _replace_partial(
        self,
        out: Tensor,
        params: Tensor,
        x: Tensor,
        observed: Tensor,
        uniform: Tensor | None,
        function: Callable[..., Tensor],
    ) -> Tensor:
        """Replace the cells (..., B, D) of pixels that are observed in part."""
        shape = (self.n_channels, self.n_pixels)
        seen = observed.unflatten(-1, shape)
        rows, pixels = (seen.any(-2) & ~seen.all(-2)).nonzero(as_tuple=True)
        if len(rows) == 0:
            return out
        n_rows = len(seen)
        maps = self._pixels(params).expand(*out.shape[:-2], n_rows, -1, -1)
        table = maps[..., rows, pixels, :]
        values = self.prepare(x)[0].squeeze(-2)[rows, :, pixels]
        u = None
        if uniform is not None:
            u = uniform.unflatten(-2, shape).expand(*out.shape[:-2], n_rows, *shape, 2)
            u = u.movedim(-2, -3)[..., rows, pixels, :, :]
        by_pixel = out.unflatten(-1, shape).transpose(-1, -2).clone()
        patterns = seen[rows, :, pixels]
        for pattern in patterns.unique(dim=0):
            mine = (patterns == pattern).all(-1)
            new = function(
                table[..., mine, :],
                values[mine],
                pattern.tolist(),
                None if u is None else u[..., mine, :, :],
            )
            by_pixel[..., rows[mine], pixels[mine], :] = self.levels.to_values(new)
        by_cell: Tensor = by_pixel.transpose(-1, -2).flatten(-2)
        return by_cell

    def _means_of_pixels(
        self, table: Tensor, values: Tensor, pattern: list[bool], u: None
    ) -> Tensor:
        out = values.expand(*table.shape[:-1], -1).clone()
        for c in range(self.n_channels):
            if not pattern[c]:
                probability = _level_probabilities(table, values, pattern, c, self._exact)
                out[..., c] = (probability * self.levels.all(table)).sum(-1)
        return out

    def _draw_pixels(self, table: Tensor, values: Tensor, pattern: list[bool], u: Tensor) -> Tensor:
        known, y = list(pattern), values.expand(*table.shape[:-1], -1).clone()
        last = max(c for c, seen in enumerate(pattern) if seen)
        for c in range(last):
            if not known[c]:
                cumulative = _level_probabilities(table, y, known, c, self._exact).cumsum(-1)
                place = (cumulative < u[..., c, :1] * cumulative[..., -1:]).sum(-1)
                y[..., c] = self.levels.all(table)[place.clamp(max=self.levels.n - 1)]
                known[c] = True
        earlier = list(y[..., : last + 1].unbind(-1))
        return _draw(self._parse(table), u, earlier)


def _parse(maps: Tensor, n_channels: int, levels: Levels, dim: int = -1) -> _Mixture:
    """Split maps along an axis, which becomes that of the components."""
    n_pairs = n_channels * (n_channels - 1) // 2
    n_components = maps.shape[dim] // (1 + 2 * n_channels + n_pairs)
    logits, *rest = maps.split(n_components, dim=dim)
    mean, log_scale = rest[:n_channels], rest[n_channels : 2 * n_channels]
    pairs = [torch.tanh(t) for t in rest[2 * n_channels :]]
    first = [c * (c - 1) // 2 for c in range(n_channels + 1)]
    coefficient = [pairs[first[c] : first[c + 1]] for c in range(n_channels)]
    return _Mixture(logits, mean, log_scale, coefficient, levels)


def _with_gaps(seen: Tensor) -> Tensor:
    """Return which pixels (B, N) have a missing channel before an observed one, of (B, C, N)."""
    return (seen & ~seen.to(torch.uint8).cumprod(-2).bool()).any(-2)


def _scale(log_scale: Tensor) -> Tensor:
    return log_scale.clamp(*_LOG_SCALES).exp()


def _log_mass(y: Tensor, location: Tensor, log_scale: Tensor, levels: Levels) -> Tensor:
    """Return the log mass that a logistic gives to levels y; the end levels take the tails.

    ``F(b) - F(a) = (1 - exp(a - b)) F(b) F(-a)``, so nothing cancels.
    """
    precision = (-log_scale.clamp(*_LOG_SCALES)).exp()
    middle, reach = (y - location) * precision, levels.reach * precision
    is_first, is_last = _ends(y, levels)
    is_last = is_last & levels.takes_upper_tail
    below = torch.where(is_last, 0.0, -softplus(-middle - reach))
    above = torch.where(is_first, 0.0, -softplus(middle - reach))
    between = torch.log(-torch.expm1(-2.0 * reach))
    return below + above + torch.where(is_first | is_last, 0.0, between)


def _ends(y: Tensor, levels: Levels) -> tuple[Tensor, Tensor]:
    """Return which levels are the first and which the last one."""
    return y < -1.0 + levels.half, y > levels.last - levels.half


def _points(n: int, n_dims: int) -> Tensor:
    """Return n points in the unit cube, (n_dims, n): each coordinate has the middles of n parts.

    In two dimensions, and 13 points, they are a Fibonacci lattice.
    """
    i = torch.arange(n, dtype=torch.float64)
    step = torch.arange(n_dims, dtype=torch.float64).unsqueeze(1) * _GOLDEN_RATIO
    rank = (i * step).frac().argsort(dim=-1, stable=True).argsort(dim=-1)
    return (rank.to(i) + 0.5) / n


def _clipped_mean(location: Tensor, scale: Tensor, last: float) -> Tensor:
    """Return the mean of logistics cut off at -1 and the last level."""
    above, below = softplus((last - location) / scale), softplus((-1.0 - location) / scale)
    return last - scale * (above - below)


def _log_marginal(table: Tensor, y: Tensor, pattern: list[bool], levels: Levels) -> Tensor:
    """Return the log mass of the observed channels of pixels, (..., n).

    Parameters (..., n, n_maps), values (..., n, C) and which of the C channels are observed.
    Missing channels before the last observed one are summed over a grid.
    """
    shape = broadcast_shape(table.shape[:-1], y.shape[:-1])
    size = pixels_summed_over(shape[:-1].numel(), table.shape[-1], _VECTOR)
    y = y.expand(*y.shape[:-2], shape[-1], -1)
    parts = zip(table.split(size, dim=-2), y.split(size, dim=-2), strict=True)
    return torch.cat([_log_marginal_of_part(*part, pattern, levels) for part in parts], dim=-1)


def _log_marginal_of_part(table: Tensor, y: Tensor, pattern: list[bool], levels: Levels) -> Tensor:
    first = pattern.index(False) if False in pattern else len(pattern)
    last = max(c for c, seen in enumerate(pattern) if seen)
    mixture, values = _parse(table, len(pattern), levels), [v.unsqueeze(-1) for v in y.unbind(-1)]
    joint = mixture.logits.log_softmax(-1)
    for c in range(min(first, last + 1)):
        joint = joint + mixture.log_mass(c, values)
    if first > last:
        return joint.logsumexp(-1)
    grid = min(_GRID.get(last + 1 - sum(pattern), _COARSE_GRID), levels.n)
    # the middle of a group as wide as 137 of the narrowest scales needs larger exponents
    dtype = torch.float64 if grid == _COARSE_GRID else joint.dtype
    shape = broadcast_shape(joint.shape, values[0].shape)

    def flat(t: Tensor) -> Tensor:
        return t.expand(*shape[:-1], -1).flatten(0, -2).to(dtype)

    channels = []
    for c in range(first, last + 1):
        location, slopes = mixture.mean[c], []
        for j, coefficient in enumerate(mixture.coefficient[c]):
            if pattern[j]:
                location = location + coefficient * values[j]
            else:
                slopes.append(flat(coefficient))
        value = flat(values[c]).squeeze(-1) if pattern[c] else None
        log_scale = mixture.log_scale[c].clamp(*_LOG_SCALES)
        channels.append(Channel(flat(location), flat(log_scale), slopes, value))
    total = log_sum_over_gaps(flat(joint), channels, grid, levels)
    by_shape: Tensor = total.to(joint.dtype).unflatten(0, shape[:-1])
    return by_shape


def _level_probabilities(
    table: Tensor, y: Tensor, pattern: list[bool], channel: int, levels: Levels
) -> Tensor:
    """Return the probabilities (..., n, n_levels) of a channel's levels given the observed ones."""
    known = [*pattern]
    known[channel] = True
    shape = broadcast_shape(table.shape[:-1], y.shape[:-1])
    candidates = y.expand(levels.n, *shape, -1).clone()
    candidates[..., channel] = levels.all(table).reshape(-1, *[1] * (candidates.ndim - 2))
    log_p = _log_marginal(table.unsqueeze(0), candidates, known, levels)
    return log_p.softmax(0).movedim(0, -1)


def _draw(mixture: _Mixture, u: Tensor, earlier: list[Tensor]) -> Tensor:
    """Return all channels of pixels, (..., n, C), from uniforms (..., n, C, 2).

    The first channels are known. Each other one is the lowest level up to which the mixture, given
    the channels before it, has as much mass as the first uniform says: it grows with that.
    """
    joint = mixture.logits.log_softmax(-1)
    values = [value.unsqueeze(-1) for value in earlier]
    for c in range(len(mixture.mean)):
        if c >= len(earlier):
            values.append(_quantile(mixture, c, values, joint.softmax(-1), u[..., c, 0]))
        if c < len(mixture.mean) - 1:
            joint = joint + mixture.log_mass(c, values)
    shape = values[-1].shape
    return torch.cat([value.expand(shape) for value in values], dim=-1)


def _quantile(
    mixture: _Mixture, channel: int, earlier: list[Tensor], weight: Tensor, u: Tensor
) -> Tensor:
    """Return levels of a channel, (..., n, 1), for probabilities (..., n), by bisection."""
    levels = mixture.levels
    location = mixture.location(channel, earlier)
    precision = 1.0 / _scale(mixture.log_scale[channel])
    shape = broadcast_shape(location.shape[:-1], u.shape)
    low, high = u.new_zeros(shape), u.new_full(shape, levels.n - 1.0)
    for _ in range(levels.n_bits):
        middle = ((low + high) * 0.5).floor()
        end = (middle * levels.spacing - 1.0 + levels.half).unsqueeze(-1)
        mass = (weight * torch.sigmoid((end - location) * precision)).sum(-1)
        is_above = mass < u
        low, high = torch.where(is_above, middle + 1.0, low), torch.where(is_above, high, middle)
    return (high * levels.spacing - 1.0).unsqueeze(-1)
