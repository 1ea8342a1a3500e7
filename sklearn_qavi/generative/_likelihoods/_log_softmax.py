"""A log softmax at one entry, or averaged over entries, with its gradient written down."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = ["log_softmax_at", "mean_log_softmax"]


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
        total = torch.logsumexp(logits.masked_fill(unused, -torch.inf), dim=-1)
        ctx.save_for_backward(logits, unused, total, share)
        return (logits * share).sum(-1) - total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        logits, unused, total, share = ctx.saved_tensors
        probability = (logits - total.unsqueeze(-1)).exp_().masked_fill_(unused, 0.0)
        return (share - probability).mul_(gradient.unsqueeze(-1)), None, None


class _LogSoftmaxAt(torch.autograd.Function):
    """Log softmax of logits (..., d, K) at one index per column, without the other K - 1.

    The gradient is written down because the one that autograd puts together goes through memory
    six times as often, and histograms are most of the time of a row.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, unused: Tensor, index: Tensor) -> Tensor:
        logits = logits.masked_fill(unused, -torch.inf)
        total = torch.logsumexp(logits, dim=-1)
        shape = torch.broadcast_shapes(total.shape, index.shape)
        index = index.expand(shape).unsqueeze(-1)
        ctx.save_for_backward(logits, total, index)
        return logits.expand(*shape, -1).gather(-1, index).squeeze(-1) - total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        logits, total, index = ctx.saved_tensors
        probability = (logits - total.unsqueeze(-1)).exp_()
        gradient = gradient.unsqueeze(-1)
        if index.shape[:-1] != total.shape:  # the same logits for several values
            out = (probability * -gradient).scatter_add_(-1, index, gradient)
            return out.sum_to_size(logits.shape), None, None
        return probability.mul_(-gradient).scatter_add_(-1, index, gradient), None, None
