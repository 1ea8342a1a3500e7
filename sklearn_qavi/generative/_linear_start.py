"""Where training starts: a factor analyser of the observed cells, put into the networks.

A factor analyser is the VAE whose networks are linear, and its maximum of the likelihood is found
in moments, also with missing cells; the networks start there and learn what is not linear. Columns
that are not Gaussian enter by scores (normal scores of bins, indicators of categories), of which
their logits are linear functions.
"""

from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ._code import MIN_SCALE
from ._factor_analyser import fit_factor_analyser
from ._layers import MLP
from ._likelihoods import MAX_SCORE
from ._network import TabularNetwork

__all__ = ["copy_linear_start", "start_linear"]

Array = NDArray[np.float64]

_MAX_ROWS = 4096  # more do not change a start
_RIDGE = 1e-3


def start_linear(
    network: TabularNetwork,
    x: Tensor,
    observed: Tensor,
    weight: Tensor,
    generator: np.random.Generator,
) -> None:
    """Set a network's weights to a factor analyser of the rows; its curved part starts at zero.

    Parameters
    ----------
    network : TabularNetwork
        With linear paths, changed in place.
    x : Tensor of shape (N, D)
        Standardized values.
    observed : bool Tensor of shape (N, D)
        True where the cell is observed.
    weight : Tensor of shape (N,)
        How much a row counts.
    generator : numpy Generator
        Chooses among many rows.
    """
    if len(x) > _MAX_ROWS:
        rows = torch.from_numpy(generator.choice(len(x), _MAX_ROWS, replace=False))
        x, observed, weight = x[rows], observed[rows], weight[rows]
    count = weight.double().numpy()
    values = np.where(observed.numpy(), x.double().numpy(), np.nan)
    scores = network.likelihood.linear_scores(values)
    model = fit_factor_analyser(scores, count, network.latent_dim)
    _set_linear(network.decoder, *network.likelihood.linear_head(values, model))
    inputs = network.inputs
    features = inputs.features(x).double().numpy().clip(-MAX_SCORE, MAX_SCORE)
    seen = observed[:, inputs.column].numpy()
    inputs.fill_with(fit_factor_analyser(np.where(seen, features, np.nan), count, inputs.rank))
    _set_linear(
        network.encoder, *_linear_encoder(inputs(x, observed), count, model.infer(scores)[0])
    )
    with torch.no_grad():
        spread = np.sqrt(model.noise)[:, None]
        network.information.copy_(torch.from_numpy(model.loadings / spread))


def copy_linear_start(source: TabularNetwork, target: TabularNetwork) -> None:
    """Give a network the linear start of another one with the same families."""
    for mlp, other in ((target.encoder, source.encoder), (target.decoder, source.decoder)):
        skip = cast(nn.Linear, other.skip)
        _set_linear(mlp, skip.weight, skip.bias)
    target.inputs.load_state_dict(source.inputs.state_dict())
    with torch.no_grad():
        target.information.copy_(source.information)
    for mine, theirs in zip(
        target.likelihood.parameters(), source.likelihood.parameters(), strict=True
    ):
        mine.data.copy_(theirs)


def _linear_encoder(inputs: Tensor, weight: Array, mean: Array) -> tuple[Array, Array]:
    """Return the linear map from encoder inputs to the codes' means, with scales of one."""
    extended = np.column_stack([inputs.double().numpy(), np.ones(len(inputs))])
    gram = (extended.T * weight) @ extended + _RIDGE * np.eye(extended.shape[1])
    solution = np.linalg.solve(gram, (extended.T * weight) @ mean)
    slopes = np.concatenate([solution[:-1].T, np.zeros((mean.shape[1], inputs.shape[1]))])
    raw_scale = np.full(mean.shape[1], np.log(np.expm1(1.0 - MIN_SCALE)))
    return slopes, np.concatenate([solution[-1], raw_scale])


def _set_linear(mlp: MLP, weight: Array | Tensor, bias: Array | Tensor) -> None:
    last, skip = cast(nn.Linear, mlp.layers[-1]), cast(nn.Linear, mlp.skip)
    with torch.no_grad():
        last.weight.zero_()
        last.bias.zero_()
        skip.weight.copy_(torch.as_tensor(weight))
        skip.bias.copy_(torch.as_tensor(bias))
