"""Network blocks whose initial weights come from a generator, never from torch's global one."""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import linear as apply_linear
from torch.nn.functional import pad

__all__ = ["ACTIVATIONS", "MLP", "linear"]

_TILE = 16

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
        out = x
        for layer in self.layers:
            out = _in_whole_tiles(layer, out) if isinstance(layer, nn.Linear) else layer(out)
        return out if self.skip is None else out + _in_whole_tiles(self.skip, x)


def _in_whole_tiles(layer: nn.Linear, x: Tensor) -> Tensor:
    """Apply a layer with narrow sizes padded by zeros.

    With some sizes below 16 (10 to 4 forwards, 128 to 10 backwards) BLAS treats odd and even rows
    differently, so that a row's last bit would depend on its place in the block.
    """
    n_out, n_in = layer.weight.shape
    more_out, more_in = max(_TILE - n_out, 0), max(_TILE - n_in, 0)
    if more_out == more_in == 0:
        out: Tensor = layer(x)
        return out
    weight = pad(layer.weight, (0, more_in, 0, more_out))
    return apply_linear(pad(x, (0, more_in)), weight, pad(layer.bias, (0, more_out)))[..., :n_out]
