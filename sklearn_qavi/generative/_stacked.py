"""Networks of the same shape as one whose weights have a leading axis, and single ones again."""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ._network import TabularNetwork

__all__ = ["copy_member", "select_members", "stack_networks"]


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
        module, leaf = _owner(stacked, name)
        setattr(module, leaf, nn.Parameter(together))
    for name, buffer in networks[0].inputs.named_buffers():
        if name in networks[0].inputs.state_dict():
            others = [network.inputs.get_buffer(name) for network in networks]
            setattr(stacked.inputs, name, torch.stack(others).to(buffer))
    return stacked


def copy_member(stacked: TabularNetwork, index: int, network: TabularNetwork) -> None:
    """Give a network the weights of one member of a stacked one."""
    weights = dict(stacked.named_parameters())
    with torch.no_grad():
        for name, weight in network.named_parameters():
            weight.copy_(weights[name][index].view_as(weight))


def select_members(stacked: TabularNetwork, members: Tensor) -> None:
    """Keep some members of a stacked network, by index; parameters stay the same objects."""
    for weight in stacked.parameters():
        weight.data = weight.data[members]
        weight.grad = None
    for name in stacked.inputs.state_dict():
        setattr(stacked.inputs, name, stacked.inputs.get_buffer(name)[members])


def _owner(module: nn.Module, name: str) -> tuple[nn.Module, str]:
    path, _, leaf = name.rpartition(".")
    return module.get_submodule(path), leaf
