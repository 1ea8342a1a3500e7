"""Networks of the same shape as one whose weights have a leading axis, and single ones again."""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ._network import TabularNetwork

__all__ = ["StackedNetwork", "stack_networks"]


def stack_networks(networks: Sequence[TabularNetwork]) -> TabularNetwork:
    """Return one network that computes what each of M networks does, for inputs (M, B, ...).

    Parameters
    ----------
    networks : sequence of TabularNetwork
        With the same columns, families and sizes; only their weights may differ.

    Returns
    -------
    stacked : TabularNetwork
        Its weights are copies with M as their first axis. A sum of the members' losses trains each
        of them as if it were alone, with one call of every kernel for all.
    """
    stacked = copy.deepcopy(networks[0])
    states = [dict(network.named_parameters()) for network in networks]
    for name in states[0]:
        together = torch.stack([state[name].detach() for state in states])
        if name.startswith("likelihood."):
            together = together.unsqueeze(1)  # one number for all rows
        path, _, leaf = name.rpartition(".")
        setattr(stacked.get_submodule(path), leaf, nn.Parameter(together))
    for name, buffer in networks[0].inputs.named_buffers():
        if name in networks[0].inputs.state_dict():
            others = [network.inputs.get_buffer(name) for network in networks]
            setattr(stacked.inputs, name, torch.stack(others).to(buffer))
    return stacked


class StackedNetwork:
    """M networks whose weights are the lines of one matrix.

    What is done to all weights alike, such as a step of an optimiser, is done to the matrix: a
    call for each of many small weights would take longer than the arithmetic.

    Parameters
    ----------
    networks : sequence of TabularNetwork
        See `stack_networks`.

    Attributes
    ----------
    network : TabularNetwork
        All of them; its weights are views of the matrix.
    weights : Tensor of shape (M, P)
        One line for each network.
    shapes : list of torch.Size
        Shapes of a network's weights, in the order in which they follow each other in a line.
    """

    def __init__(self, networks: Sequence[TabularNetwork]) -> None:
        self.network = stack_networks(networks)
        self._parameters = list(self.network.parameters())
        self.shapes = [weight.shape[1:] for weight in self._parameters]
        self._sizes = [shape.numel() for shape in self.shapes]
        self._set(torch.cat([weight.detach().flatten(1) for weight in self._parameters], dim=1))

    def _set(self, weights: Tensor) -> None:
        self.weights = weights
        parts = weights.split(self._sizes, dim=1)
        for weight, part, shape in zip(self._parameters, parts, self.shapes, strict=True):
            weight.data = part.unflatten(1, shape)
            weight.grad = None

    def take_gradient(self) -> Tensor:
        """Return the gradient of the weights, (M, P), and forget it."""
        parts = []
        for weight in self._parameters:
            parts.append(torch.zeros_like(weight) if weight.grad is None else weight.grad)
            weight.grad = None
        return torch.cat([part.flatten(1) for part in parts], dim=1)

    def select(self, members: Tensor) -> None:
        """Keep some networks, by index."""
        self._set(self.weights[members])
        inputs = self.network.inputs
        for name in inputs.state_dict():
            setattr(inputs, name, inputs.get_buffer(name)[members])

    def copy_to(self, line: Tensor, network: TabularNetwork) -> None:
        """Give a single network the weights of a line (P,)."""
        with torch.no_grad():
            for weight, part in zip(network.parameters(), line.split(self._sizes), strict=True):
                weight.copy_(part.view_as(weight))
