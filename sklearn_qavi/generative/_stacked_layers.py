"""M fully connected networks of the same hidden sizes in as few calls as it takes."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ._layers import Tanh

__all__ = ["Head", "apply_stacked"]

_N_OF_HEAD = 4


class Head(NamedTuple):
    """The last layer and the linear map beside the others of M' neighbours among M networks.

    Parameters
    ----------
    members : slice
        Which networks.
    skip, skip_bias, weight, bias : Tensors of shape (M', n_out, n_in) or (M', n_out)
        Of the linear map and of the last layer.
    """

    members: slice
    skip: Tensor
    skip_bias: Tensor
    weight: Tensor
    bias: Tensor


def apply_stacked(
    x: Tensor,
    noise: Tensor | None,
    activation: nn.Module,
    hidden: Sequence[Tensor],
    heads: Sequence[Head],
) -> tuple[Tensor, ...]:
    """Return what `MLP` computes with a linear map beside the layers, for each of M networks.

    Parameters
    ----------
    x : Tensor of shape (M, B, n_in)
        Inputs.
    noise : Tensor of shape (M, B, n_in) or None
        Added to the input of the layers, but not to that of the linear map.
    activation : Module
        What follows each hidden layer.
    hidden : sequence of Tensors of shape (M, n_out, n_in) and (M, n_out)
        Slopes and constants of the hidden layers, in turn.
    heads : sequence of Head
        Their members are all networks, in order.

    Returns
    -------
    outputs : tuple of Tensors of shape (M', B, n_out)
        Of each head.
    """
    out = x if noise is None else x + noise
    if isinstance(activation, Tanh):
        weights = [weight for head in heads for weight in head[1:]]
        members = [head.members for head in heads]
        stacked: tuple[Tensor, ...] = _StackedTanh.apply(  # type: ignore[no-untyped-call]
            members, x, out, *hidden, *weights
        )
        return stacked
    for weight, bias in _layers(hidden):
        out = activation(torch.baddbmm(bias.unsqueeze(1), out, weight.mT))
    return tuple(_through(head, x, out) for head in heads)


class _StackedTanh(torch.autograd.Function):
    """Networks of tanh units with their gradient written down.

    Small networks spend most of their time between operations; autograd adds as many again.
    """

    @staticmethod
    def forward(
        ctx: Any, members: list[slice], x: Tensor, first: Tensor, *weights: Tensor
    ) -> tuple[Tensor, ...]:
        hidden, heads = _split(weights, members)
        values = [first]
        for weight, bias in _layers(hidden):
            value = torch.baddbmm(bias.unsqueeze(1), values[-1], weight.mT)
            values.append(value.mul_(2.0).sigmoid_().mul_(2.0).sub_(1.0))
        ctx.members, ctx.n_weights = members, len(weights)
        ctx.save_for_backward(x, *weights, *values)
        return tuple(_through(head, x, values[-1]) for head in heads)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, *rest = ctx.saved_tensors
        weights, values = rest[: ctx.n_weights], rest[ctx.n_weights :]
        hidden, heads = _split(weights, ctx.members)
        found: list[Tensor] = []
        for head, gradient in zip(heads, gradients, strict=True):
            of_bias = gradient.sum(1)
            found += [gradient.mT @ x[head.members], of_bias]
            found += [gradient.mT @ values[-1][head.members], of_bias]
        pairs = list(zip(heads, gradients, strict=True))
        of_x = None
        if ctx.needs_input_grad[1]:
            of_x = _cat([gradient @ head.skip for head, gradient in pairs])
        gradient = _cat([gradient @ head.weight for head, gradient in pairs])
        for i in reversed(range(1, len(values))):
            gradient.addcmul_(gradient * values[i], values[i], value=-1.0)
            found = [gradient.mT @ values[i - 1], gradient.sum(1), *found]
            if i > 1 or ctx.needs_input_grad[2]:
                gradient = gradient @ hidden[2 * i - 2]
        return None, of_x, gradient if ctx.needs_input_grad[2] else None, *found


def _through(head: Head, x: Tensor, value: Tensor) -> Tensor:
    """Return the outputs (M', B, n_out) of the last layer and of the linear map."""
    constants = (head.bias + head.skip_bias).unsqueeze(1)
    out = torch.baddbmm(constants, x[head.members], head.skip.mT)
    return torch.baddbmm(out, value[head.members], head.weight.mT)


def _split(
    weights: Sequence[Tensor], members: Sequence[slice]
) -> tuple[Sequence[Tensor], list[Head]]:
    """Return the weights of the hidden layers, and those of the heads."""
    n_hidden = len(weights) - _N_OF_HEAD * len(members)
    starts = range(n_hidden, len(weights), _N_OF_HEAD)
    heads = [Head(m, *weights[i : i + _N_OF_HEAD]) for m, i in zip(members, starts, strict=True)]
    return weights[:n_hidden], heads


def _layers(hidden: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
    return list(zip(hidden[::2], hidden[1::2], strict=True))


def _cat(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)
