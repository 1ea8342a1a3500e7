"""Masses of logistic mixtures, summed over missing channels, with their gradient."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..._plan import plan_for
from ._levels import Levels

__all__ = ["Channel", "log_sum_over_gaps"]


@dataclass(frozen=True)
class Channel:
    """One channel of N pixels under M components.

    Parameters
    ----------
    location : Tensor of shape (N, M)
        Locations given the observed channels before.
    log_scale : Tensor of shape (N, M)
        Logarithms of the scales.
    slopes : sequence of Tensor of shape (N, M)
        What the location gains with the value of each missing channel before, in their order.
    value : Tensor of shape (N,), default=None
        The observed value; None where the channel is missing and is summed over.
    """

    location: Tensor
    log_scale: Tensor
    slopes: Sequence[Tensor]
    value: Tensor | None = None


def log_sum_over_gaps(
    log_weight: Tensor, channels: Sequence[Channel], grid: int, levels: Levels
) -> Tensor:
    """Return the log mass of the observed channels, (N,), in nats.

    Parameters
    ----------
    log_weight : Tensor of shape (N, M)
        Log probability of each component and of what does not depend on the missing channels.
    channels : sequence of Channel
        The first missing channel and those after it, up to the last observed one.
    grid : int
        Number of groups of levels that a missing channel is summed over. A group's mass is exact,
        and what depends on its value is taken at the middle; with as many groups as levels the sum
        is exact.
    levels : Levels
        What values a channel takes.

    Returns
    -------
    log_mass : Tensor of shape (N,)
        Its gradient is computed with it, a few pixels at a time: all terms of all pixels would
        not fit into memory, and those of a few stay in the cache.
    """
    values = torch.stack([c.value for c in channels if c.value is not None], dim=-1)
    parameters = [t for c in channels for t in (c.location, c.log_scale, *c.slopes)]
    plan = _Plan(grid, [c.value is None for c in channels], levels)
    wanted = torch.is_grad_enabled() and any(t.requires_grad for t in (log_weight, *parameters))
    total: Tensor = _GapSum.apply(  # type: ignore[no-untyped-call]
        plan, wanted, values, log_weight, *parameters
    )
    return total


@dataclass(frozen=True)
class _Plan:
    """Which of the channels are missing, and into how many groups their levels are put."""

    grid: int
    missing: list[bool]
    levels: Levels

    @property
    def half(self) -> float:
        """Half of the width of a group."""
        return self.levels.n * self.levels.half / self.grid

    def middles(self, like: Tensor) -> list[Tensor]:
        """Return the middles of the groups for each gap, along the gap's own axis."""
        steps = 2 * torch.arange(self.grid, device=like.device).to(like) + 1
        points = -1.0 - self.levels.half + self.half * steps
        n_gaps = sum(self.missing)
        return [points.reshape(-1, *[1] * (n_gaps - g - 1)) for g in range(n_gaps)]


class _GapSum(torch.autograd.Function):
    """The sum, and while its terms are at hand also what they say of the gradient."""

    @staticmethod
    def forward(ctx: Any, plan: _Plan, wanted: bool, values: Tensor, *parameters: Tensor) -> Tensor:
        n_pixels, n_components = parameters[0].shape
        n_terms = n_components * plan.grid ** sum(plan.missing)
        size = 16 * max(1, plan_for(values.device).terms // (16 * n_terms))
        parts = [
            _sum_terms(plan, wanted, values[k : k + size], [p[k : k + size] for p in parameters])
            for k in range(0, n_pixels, size)
        ]
        if wanted:
            gradients = zip(*(gradient for _, gradient in parts), strict=True)
            ctx.save_for_backward(*(torch.cat(one) for one in gradients))
        return torch.cat([total for total, _ in parts])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        gradient = gradient.unsqueeze(-1)
        return None, None, None, *(gradient * saved for saved in ctx.saved_tensors)


def _sum_terms(
    plan: _Plan, wanted: bool, values: Tensor, parameters: list[Tensor]
) -> tuple[Tensor, list[Tensor]]:
    """Return log masses (n,) and, if wanted, their derivatives by the parameters, each (n, M).

    Terms have the axes (n, M, grid, ..., grid), one grid a gap.
    """
    middles = plan.middles(parameters[0])
    joint, *rest = (p.reshape(*p.shape, *[1] * len(middles)) for p in parameters)
    observed = iter(values.reshape(*values.shape, *[1] * (1 + len(middles))).unbind(1))
    gaps = iter(middles)
    factors: list[_Factor] = []
    product = torch.ones_like(joint)
    for missing in plan.missing:
        before = [f.value for f in factors if f.is_gap]
        location, log_scale, *slopes = rest[: 2 + len(before)]
        rest = rest[2 + len(before) :]
        value, half = (next(gaps), plan.half) if missing else (next(observed), plan.levels.half)
        factor = _Factor(value, half, missing, location, log_scale, slopes, before, plan.levels)
        joint = factor.add_to(joint)
        product = product * factor.poly
        factors.append(factor)
    joint = joint.sub_(product.log_())
    top = joint.flatten(1).amax(1)
    share = joint.sub_(_like(top, joint)).exp_()
    total = share.flatten(1).sum(1)
    if not wanted:
        return top + total.log(), []
    share = share.div_(_like(total, share))
    gradients = [_over_grid(share)]
    for factor in factors:
        gradients += factor.gradients(share)
    return top + total.log(), gradients


class _Factor:
    """Log masses of one channel, term by term, and what they add to the gradient.

    With t the distance of a value from the location and r the reach of its level, both in scales,
    the mass between two edges is ``sinh(r) / (cosh(r) + cosh(t))``; the first and the last level,
    which take the tails, have ``1 / (1 + exp(-s))`` and ``1 / (1 + exp(s))``, s being the distance
    of their one edge. Each is ``c - h |s| - k s - log(1 + a u + b u^2)`` with ``u = exp(-|s|)``,
    where s is t between two edges: one exponential a term, one logarithm for all channels
    together, and nothing cancels or overflows.
    """

    def __init__(
        self,
        value: Tensor,
        half: float,
        is_gap: bool,
        location: Tensor,
        log_scale: Tensor,
        slopes: list[Tensor],
        before: list[Tensor],
        levels: Levels,
    ) -> None:
        self.value, self.is_gap, self.before = value, is_gap, before
        self.precision = (-log_scale).exp()
        self.reach = half * self.precision
        first = value - half < -1.0 - 0.5 * levels.half
        last = value + half > levels.last + 0.5 * levels.half
        self.inner = ~(first | last)
        self.b = self.inner.to(value)
        self.h = 0.5 + 0.5 * self.b
        self.k = 0.5 * (last.to(value) - first.to(value))
        s = (value - location) * self.precision - 2.0 * self.k * self.reach
        for slope, earlier in zip(slopes, before, strict=True):
            s = torch.addcmul(s, slope * self.precision, earlier, value=-1.0)
        self.s, self.size = s, s.abs()
        self.u = self.size.neg().exp_()
        a = torch.where(self.inner, 2.0 * self.reach.cosh(), 1.0)
        self.poly = torch.addcmul(a, self.u, self.b).mul_(self.u).add_(1.0)

    def add_to(self, joint: Tensor) -> Tensor:
        """Return log weights with the log masses added, but for the logarithm of ``poly``."""
        c = (-torch.expm1(-2.0 * self.reach)).log() + self.reach
        joint = joint + torch.where(self.inner, c, 0.0)
        joint = torch.addcmul(joint, self.size, self.h, value=-1.0)
        return joint.addcmul_(self.s, self.k, value=-1.0)

    def gradients(self, share: Tensor) -> list[Tensor]:
        """Return derivatives (n, M) by location, log scale and slopes.

        ``share`` holds the terms' shares of the sum.
        """
        # a channel before later gaps has the same mass whatever fills them
        later = [d for d in range(2, share.ndim) if self.s.shape[d] != share.shape[d]]
        share = share.sum(later, keepdim=True) if later else share
        ratio = share / self.poly
        by_s = (self.u * self.u).mul_(self.b).neg_().add_(1.0).mul_(ratio)
        by_s.addcmul_(share, self.h - 1.0).mul_(self.s.sign()).addcmul_(share, self.k).neg_()
        r = self.reach
        by_reach = torch.where(self.inner, r / r.tanh(), 0.0) * share
        push = torch.where(self.inner, 2.0 * r * r.sinh(), 0.0)
        by_reach.addcmul_(push, ratio.mul_(self.u), value=-1.0)
        scale = self.precision.flatten(1)
        moments = [_over_grid(by_s), *(_over_grid(by_s * earlier) for earlier in self.before)]
        by_location, *by_slopes = (-scale * moment for moment in moments)
        by_log_scale = -_over_grid(by_reach.addcmul_(by_s, self.s))
        return [by_location, by_log_scale, *by_slopes]


def _like(by_pixel: Tensor, terms: Tensor) -> Tensor:
    return by_pixel.reshape(-1, *[1] * (terms.ndim - 1))


def _over_grid(terms: Tensor) -> Tensor:
    return terms.flatten(2).sum(2)
