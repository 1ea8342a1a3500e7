"""A log softmax at one entry, or averaged over entries, with its gradient written down."""

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..._device import may_hold
from ._base import broadcast_shape

__all__ = ["IMPROBABLE", "NEVER", "log_softmax_at", "mean_log_softmax", "without_unused"]

_LEAST = -80.0  # below, exp takes ten times as long, and what is so improbable counts as 0
IMPROBABLE = 2.0 * math.exp(_LEAST)  # counts as 0 in gradients; logarithms are taken with care
NEVER = -1e9  # a logit whose probability is exactly 0, and whose product with a share of 0 is 0


def without_unused(logits: Tensor, unused: Tensor) -> Tensor:
    """Return logits (..., d, K) that give no probability to the entries that do not exist.

    Parameters
    ----------
    logits : Tensor of shape (..., d, K)
        One line per column.
    unused : bool Tensor of shape (d, K)
        Entries that do not exist.

    Returns
    -------
    logits : Tensor of shape (..., d, K)
        By addition, which takes a tenth of the time of filling.
    """
    return logits + unused.to(logits) * NEVER if may_hold(unused) else logits


def log_softmax_at(logits: Tensor, unused: Tensor, index: Tensor) -> Tensor:
    """Return the log softmax of logits at one index per column.

    Parameters
    ----------
    logits : Tensor of shape (..., d, K)
        One line per column.
    unused : bool Tensor of shape (d, K)
        Entries that do not exist; they get no probability and no gradient.
    index : int Tensor of shape (..., d)
        Broadcasts with the leading axes of the logits.

    Returns
    -------
    log_probability : Tensor of shape (..., d)
        In nats.
    """
    picked: Tensor = _LogSoftmaxAt.apply(logits, unused, index)  # type: ignore[no-untyped-call]
    return picked


def mean_log_softmax(logits: Tensor, unused: Tensor, share: Tensor) -> Tensor:
    """Return the log softmax of logits, averaged with shares of the entries.

    Parameters
    ----------
    logits : Tensor of shape (..., d, K)
        One line per column.
    unused : bool Tensor of shape (d, K)
        Entries that do not exist; their shares must be 0.
    share : Tensor of shape (..., d, K)
        Shares that sum to one over the entries.

    Returns
    -------
    log_probability : Tensor of shape (..., d)
        In nats.
    """
    averaged: Tensor = _MeanLogSoftmax.apply(logits, unused, share)  # type: ignore[no-untyped-call]
    return averaged


class _MeanLogSoftmax(torch.autograd.Function):
    """Mean of the log softmax of logits (..., d, K) over entries, in few passes over memory."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, unused: Tensor, share: Tensor) -> Tensor:
        log_probability = torch.log_softmax(without_unused(logits, unused), dim=-1)
        ctx.save_for_backward(log_probability, share)
        return (log_probability * share).sum(-1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        log_probability, share = ctx.saved_tensors
        probability = _probability(log_probability)
        return (share - probability).mul_(gradient.unsqueeze(-1)), None, None


class _LogSoftmaxAt(torch.autograd.Function):
    """Log softmax of logits (..., d, K) at one index per column, without the other K - 1.

    The gradient is written down because the one that autograd puts together goes through memory
    more often, and histograms are most of the time of a row. For the same reason probabilities are
    computed once, for the value and for the gradient.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, unused: Tensor, index: Tensor) -> Tensor:
        logits = without_unused(logits, unused)
        probability = torch.softmax(logits, dim=-1)
        shape = broadcast_shape(logits.shape[:-1], index.shape)
        index = index.expand(shape).unsqueeze(-1)
        ctx.save_for_backward(probability, index)
        if shape != logits.shape[:-1]:  # the same logits for several values: fewer logarithms
            exact = torch.log_softmax(logits, dim=-1)
            return exact.expand(*shape, -1).gather(-1, index).squeeze(-1)
        picked = probability.gather(-1, index)
        improbable = picked < IMPROBABLE
        log_picked = picked.log()
        if may_hold(improbable):
            exact = torch.log_softmax(logits, dim=-1).gather(-1, index)
            log_picked = torch.where(improbable, exact, log_picked)
        return log_picked.squeeze(-1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        probability, index = ctx.saved_tensors
        gradient = gradient.unsqueeze(-1)
        # products with numbers near the smallest one take ten times as long
        out = torch.threshold(probability, IMPROBABLE, 0.0)
        if index.shape[:-1] != probability.shape[:-1]:  # the same logits for several values
            out = (out * -gradient).scatter_add_(-1, index, gradient)
            return out.sum_to_size(probability.shape), None, None
        return out.mul_(-gradient).scatter_add_(-1, index, gradient), None, None


def _probability(log_probability: Tensor) -> Tensor:
    probability = log_probability.clamp_min(_LEAST).exp_()
    return torch.threshold_(probability, IMPROBABLE, 0.0)
