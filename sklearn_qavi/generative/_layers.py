"""Network blocks whose initial weights come from a generator, never from torch's global one."""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

__all__ = ["ACTIVATIONS", "MLP", "linear"]

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
}


def linear(n_in: int, n_out: int, generator: torch.Generator | None) -> nn.Linear:
    """Return a linear layer with torch's usual initial weights; uninitialised without generator."""
    layer: nn.Linear = nn.utils.skip_init(nn.Linear, n_in, n_out)
    if generator is not None:
        bound = 1.0 / math.sqrt(max(n_in, 1))
        with torch.no_grad():
            layer.weight.uniform_(-bound, bound, generator=generator)
            layer.bias.uniform_(-bound, bound, generator=generator)
    return layer


class MLP(nn.Module):
    """Fully connected network.

    Parameters
    ----------
    sizes : sequence of int
        Sizes of the input, the hidden layers and the output.
    activation : {"tanh", "relu", "gelu", "silu"}
        What follows every layer but the last.
    generator : torch.Generator or None
        Source of the initial weights.
    skip : bool
        Add a linear map from the input to the output.
    """

    def __init__(
        self,
        sizes: list[int],
        activation: str,
        generator: torch.Generator | None,
        *,
        skip: bool = False,
    ) -> None:
        super().__init__()
        self.skip = linear(sizes[0], sizes[-1], generator) if skip else None
        layers: list[nn.Module] = []
        for n_in, n_out in pairwise(sizes):
            layers += [linear(n_in, n_out, generator), ACTIVATIONS[activation]()]
        self.layers = nn.Sequential(*layers[:-1])

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layers(x)
        return out if self.skip is None else out + self.skip(x)
