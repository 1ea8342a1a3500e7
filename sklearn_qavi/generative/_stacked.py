"""Networks of tables side by side: weights with a leading axis in one vector, and single again."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import cast

import torch
from torch import Tensor, nn

from ._code import draw_code
from ._inputs import EncoderInputs
from ._layers import Tanh
from ._likelihoods import ColumnLikelihoods
from ._likelihoods._columns import Prepared
from ._network import TabularNetwork, root_of_rows
from ._stacked_layers import Head, apply_stacked

__all__ = ["StackedNetwork", "keep_members", "split_weights"]


@dataclass(eq=False)
class _Part:
    """One weight of neighbouring networks."""

    weight: nn.Parameter
    members: range

    @property
    def shape(self) -> tuple[int, ...]:
        return len(self.members), *self.weight.shape[1:]


class StackedNetwork(nn.Module):
    """M networks that compute side by side, for inputs (M, B, ...).

    A sum of the members' losses trains each of them as if it were alone, with one call of every
    kernel for all. What the families of columns decide, the last layer of the decoder and the
    likelihood, is computed kind by kind: a kind is a run of neighbours with the same families.

    All weights are views of one vector. What is done to them alike, such as a step of an optimiser,
    is done to the vector: a call for each of many small weights would take longer than the
    arithmetic.

    Parameters
    ----------
    networks : sequence of TabularNetwork
        With the same columns and sizes but for the decoders' outputs; those of the same families
        may differ in their weights only. They are copied.

    Attributes
    ----------
    weights : Tensor of shape (P,)
        All weights, one after the other, each of all its networks.
    likelihoods : ModuleList of ColumnLikelihoods
        Of each kind.
    """

    def __init__(self, networks: Sequence[TabularNetwork]) -> None:
        super().__init__()
        self.parts = nn.ParameterList()  # before the likelihoods: parameters come in this order
        first = networks[0]
        self.latent_dim = first.latent_dim
        layers = first.decoder.layers
        self.activation = layers[1] if len(layers) > 1 else Tanh()
        self.inputs = _stacked_inputs([network.inputs for network in networks])
        self.score_column = torch.stack([network.score_column for network in networks])
        runs = _runs(networks)
        common = _stacked(networks, range(len(networks)), own=False)
        self._by_kind = [{**common, **_stacked(networks, run, own=True)} for run in runs]
        self.likelihoods = nn.ModuleList(
            _with_weights(networks[run.start].likelihood, parts)
            for run, parts in zip(runs, self._by_kind, strict=True)
        )
        self._set(torch.cat([part.weight.detach().flatten() for part in self._parts()]))

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """Shapes (M', ...) of the weights, in the order in which they follow each other."""
        return [part.shape for part in self._parts()]

    @property
    def kinds(self) -> list[slice]:
        """Which networks are of each kind."""
        runs = [parts["decoder.skip.weight"].members for parts in self._by_kind]
        return [slice(run.start, run.stop) for run in runs]

    def draw_code(
        self, inputs: Tensor, visible: Tensor, input_noise: Tensor, code_noise: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return what `TabularNetwork.draw_code` does, (M, B, L) and (M, B).

        ``inputs`` (M, B, n_inputs) is what the encoders read of the rows.
        """
        noise = self.inputs.noise_of(input_noise)
        members = slice(0, len(visible))
        hidden, head = self._layers("encoder", self._by_kind[0], members)
        (raw,) = apply_stacked(inputs, noise, self.activation, hidden, [head])
        information = self._by_kind[0]["information"].weight
        root = root_of_rows(information, visible, self.score_column, inputs.dtype)
        return draw_code(raw, root, code_noise)

    def decode(self, z: Tensor) -> tuple[Tensor, ...]:
        """Return the likelihoods' parameters (M', B, P) of each kind, for codes (M, B, L)."""
        layers = [
            self._layers("decoder", parts, members)
            for parts, members in zip(self._by_kind, self.kinds, strict=True)
        ]
        heads = [head for _, head in layers]
        return apply_stacked(z, None, self.activation, layers[0][0], heads)

    def reconstruction(
        self, params: Sequence[Tensor], prepared: Sequence[Prepared], scored: Tensor
    ) -> Tensor:
        """Return what training maximises of the cells under the mask ``scored``, (M, B)."""
        by_kind = zip(self.likelihoods, params, prepared, strict=True)
        by_cell = [cast(ColumnLikelihoods, of).training_log_prob(p, q) for of, p, q in by_kind]
        return torch.where(scored, torch.cat(by_cell), 0.0).sum(-1)

    def smooth(self, smoothing: Tensor) -> None:
        """Change the smoothing of histograms, one number (M,) for each network."""
        for likelihood, members in zip(self.likelihoods, self.kinds, strict=True):
            cast(ColumnLikelihoods, likelihood).smooth(smoothing[members])

    def take_gradient(self) -> Tensor:
        """Return the gradient of the weights, (P,), and forget it."""
        gradients = []
        for part in self._parts():
            weight = part.weight
            gradients.append(torch.zeros_like(weight) if weight.grad is None else weight.grad)
            weight.grad = None
        return torch.cat([gradient.flatten() for gradient in gradients])

    def select(self, kept: Tensor) -> list[Tensor]:
        """Go on with the networks under a mask (M,).

        Returns
        -------
        masks : list of Tensors of shape (M',)
            Which networks each weight is kept of, see `keep_members`; kinds of which none is left
            are gone.
        """
        parts = self._parts()
        masks = [kept[part.members.start : part.members.stop] for part in parts]
        weights = keep_members(self.weights, self.shapes, masks)
        left = [bool(kept[members].any()) for members in self.kinds]
        self._by_kind = [parts for parts, stays in zip(self._by_kind, left, strict=True) if stays]
        self.likelihoods = nn.ModuleList(
            likelihood for likelihood, stays in zip(self.likelihoods, left, strict=True) if stays
        )
        before = [0, *kept.cumsum(0).tolist()]  # of each network, how many stay before it
        for part in parts:
            part.members = range(before[part.members.start], before[part.members.stop])
        self._set(weights)
        kept = kept.to(self.score_column.device)
        self.score_column = self.score_column[kept]
        for name in self.inputs.state_dict():
            setattr(self.inputs, name, self.inputs.get_buffer(name)[kept])
        return masks

    def copy_to(self, weights: Tensor, place: int, network: TabularNetwork) -> None:
        """Give a single network those of the weights (P,) that belong to a place."""
        parts = self._parts()
        values = dict(zip(parts, split_weights(weights, self.shapes), strict=True))
        kind = next(k for k, run in enumerate(self.kinds) if place < run.stop)
        with torch.no_grad():
            for name, weight in network.named_parameters():
                part = self._by_kind[kind][name]
                weight.copy_(values[part][place - part.members.start].view_as(weight))

    def _parts(self) -> list[_Part]:
        """Return all weights in their order; the kinds share most of them."""
        return list(dict.fromkeys(part for parts in self._by_kind for part in parts.values()))

    def _set(self, weights: Tensor) -> None:
        self.weights = weights
        parts = self._parts()
        for part, values in zip(parts, split_weights(weights, self.shapes), strict=True):
            part.weight.data = values
            part.weight.grad = None
        self.parts = nn.ParameterList(part.weight for part in parts)

    def _layers(
        self, name: str, parts: dict[str, _Part], members: slice
    ) -> tuple[list[Tensor], Head]:
        """Return the hidden layers of encoder or decoder, and the rest of it for some networks."""
        prefix = f"{name}.layers."
        weights = [part.weight for name, part in parts.items() if name.startswith(prefix)]
        skip = (parts[f"{name}.skip.{leaf}"].weight for leaf in ("weight", "bias"))
        return list(weights[:-2]), Head(members, *skip, *weights[-2:])


def split_weights(weights: Tensor, shapes: Sequence[tuple[int, ...]]) -> list[Tensor]:
    """Return views of a vector (P,) of these shapes, one after the other."""
    sizes = [torch.Size(shape).numel() for shape in shapes]
    parts = weights.split(sizes)
    return [part.view(shape) for part, shape in zip(parts, shapes, strict=True)]


def keep_members(
    weights: Tensor, shapes: Sequence[tuple[int, ...]], masks: Sequence[Tensor]
) -> Tensor:
    """Return what is left of a vector of weights when networks leave.

    Parameters
    ----------
    weights : Tensor of shape (P,)
        Weights, or numbers that go with them.
    shapes : sequence of tuple of int
        Shape (M', ...) of each weight.
    masks : sequence of bool Tensors of shape (M',)
        Which networks each weight is kept of.

    Returns
    -------
    weights : Tensor of shape (P',)
        Those that are kept.
    """
    parts = split_weights(weights, shapes)
    return torch.cat(
        [part[mask.to(part.device)].flatten() for part, mask in zip(parts, masks, strict=True)]
    )


def _runs(networks: Sequence[TabularNetwork]) -> list[range]:
    """Return the runs of neighbours with the same families."""
    runs, first = [], 0
    for _, run in groupby(networks, key=lambda network: network.likelihood.families):
        n = len(list(run))
        runs.append(range(first, first + n))
        first += n
    return runs


def _stacked(networks: Sequence[TabularNetwork], run: range, *, own: bool) -> dict[str, _Part]:
    """Return weights of some networks by name: those that depend on the families, or the others."""
    states = [dict(networks[k].named_parameters()) for k in run]
    last = f"decoder.layers.{len(networks[0].decoder.layers) - 1}."
    of_families = ("likelihood.", "decoder.skip.", last)
    parts = {}
    for name in states[0]:
        if name.startswith(of_families) is not own:
            continue
        together = torch.stack([state[name].detach() for state in states])
        if name.startswith("likelihood."):
            together = together.unsqueeze(1)  # one number for all rows
        parts[name] = _Part(nn.Parameter(together), run)
    return parts


def _stacked_inputs(inputs: Sequence[EncoderInputs]) -> EncoderInputs:
    """Return the encoders' inputs with M as the first axis of what was fitted."""
    stacked = copy.deepcopy(inputs[0])
    for name in stacked.state_dict():
        setattr(stacked, name, torch.stack([one.get_buffer(name) for one in inputs]))
    return stacked


def _with_weights(likelihood: ColumnLikelihoods, parts: dict[str, _Part]) -> ColumnLikelihoods:
    """Return a copy of a likelihood with the weights of several networks."""
    stacked = copy.deepcopy(likelihood)
    for name in [name for name, _ in likelihood.named_parameters()]:
        path, _, leaf = name.rpartition(".")
        setattr(stacked.get_submodule(path), leaf, parts[f"likelihood.{name}"].weight)
    return stacked
