"""Other ways of training the same VAE on incomplete rows, to compare with.

Each is a `TabularVAE` with another bound; decoder, likelihood, input noise and validation are those
of the package. Decoders are trained one after another by constant steps of Adam, scored after each
epoch, and kept as they were in the best one. Axes: K importance samples, mixture components or
imputations of a row, N rows, D columns, L sizes of the code.

References
----------
.. [1] Mattei, Frellsen (2019), "MIWAE: Deep generative modelling and imputation of incomplete data
   sets".
.. [2] Simkus, Gutmann (2024), "Improving variational autoencoder estimation from incomplete data
   with mixture variational families".
.. [3] Roeder, Wu, Duvenaud (2017), "Sticking the landing: simple, lower-variance gradient
   estimators for variational inference".
"""

import math
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from sklearn_qavi._random import derive_seed, torch_generator
from sklearn_qavi.generative import TabularVAE
from sklearn_qavi.generative._data import TableData, as_tensors
from sklearn_qavi.generative._layers import MLP
from sklearn_qavi.generative._likelihoods import ColumnLikelihoods
from sklearn_qavi.generative._linear_start import start_linear
from sklearn_qavi.generative._network import TabularNetwork
from sklearn_qavi.generative._training import (
    HiddenCells,
    ScoreOfHiddenCells,
    VAENet,
    train_network,
)

__all__ = ["MIWAE", "DeMissVAE", "MissSIWAE", "MissSVAE"]

_LOG_2PI = math.log(2 * math.pi)
_LEARNING_RATE = 3e-3  # of constant steps


class Network(Protocol):
    """What a bound asks of a network; `TabularNetwork` has it."""

    likelihood: ColumnLikelihoods

    def encode(self, x: Tensor, visible: Tensor) -> tuple[Tensor, Tensor]: ...

    def decode(self, z: Tensor) -> Tensor: ...


class MixtureEncoder(Protocol):
    """What the bounds of a finite mixture ask of a network; `MixtureNetwork` has it."""

    likelihood: ColumnLikelihoods

    def encode_mixture(self, x: Tensor, visible: Tensor) -> tuple[Tensor, Tensor, Tensor]: ...

    def decode(self, z: Tensor) -> Tensor: ...


def log_normal(z: Tensor, mean: Tensor | float, scale: Tensor) -> Tensor:
    """Return log densities of a diagonal normal, summed over the last axis."""
    return (-0.5 * (((z - mean) / scale).square() + _LOG_2PI) - scale.log()).sum(-1)


def log_prior(z: Tensor) -> Tensor:
    """Return log p(z)."""
    return log_normal(z, 0.0, torch.ones_like(z))


def log_mixture(z: Tensor, log_share: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
    """Return log densities (S, N) of codes (S, N, L) in a mixture of each row.

    Shares (K, N) or numbers, means and scales (K, N, L).
    """
    by_component = log_normal(z.unsqueeze(1), mean, scale) + log_share
    return by_component.logsumexp(1)


def log_joint(network: Any, z: Tensor, x: Tensor, observed: Tensor) -> Tensor:
    """Return log p(x_O, z) of codes (S, N, L), (S, N), in nats."""
    by_cell = network.likelihood.training_log_prob(network.decode(z), network.likelihood.prepare(x))
    return torch.where(observed, by_cell, 0.0).sum(-1) + log_prior(z)


def importance_weighted_bound(
    network: Network, x: Tensor, observed: Tensor, input_noise: Tensor, code_noise: Tensor
) -> Tensor:
    """Return the bound of MIWAE [1]_ on log p(x_O) of each row, (N,).

    The encoder reads expectations or zeros where a cell is missing, and the mask. ``input_noise``
    (N, D) is added to what it reads; ``code_noise`` (K, N, L) makes the samples.
    """
    mean, scale = network.encode(x + input_noise, observed)
    z = mean + scale * code_noise
    log_weight = log_joint(network, z, x, observed) - log_normal(z, mean, scale)
    return log_weight.logsumexp(0) - math.log(len(z))


def stratified_bound(
    network: MixtureEncoder,
    x: Tensor,
    observed: Tensor,
    input_noise: Tensor,
    code_noise: Tensor,
    *,
    importance: bool,
) -> Tensor:
    """Return a bound on log p(x_O) from one code of each component of a mixture [2]_, (N,).

    The mean of the log weights, weighted by the components' shares, is the stratified bound
    (MissSVAE); the log of the weighted mean is its importance-weighted form (MissSIWAE). As there,
    the density of a code is not differentiated with respect to the posterior's parameters [3]_.
    """
    log_share, mean, scale = network.encode_mixture(x + input_noise, observed)
    z = mean + scale * code_noise
    log_q = log_mixture(z, log_share.detach(), mean.detach(), scale.detach())
    log_weight = log_joint(network, z, x, observed) - log_q
    if importance:
        return (log_share + log_weight).logsumexp(0)
    return (log_share.exp() * log_weight).sum(0)


def decomposed_bound(
    network: Network,
    x: Tensor,
    observed: Tensor,
    imputed: Tensor,
    input_noise: Tensor,
    code_noise: Tensor,
) -> Tensor:
    """Return the bound of DeMissVAE [2]_ on log p(x_O), (N,), with the gradients of both its parts.

    The posterior is the mixture over imputations (K, N, D) of the encoder's posterior of the
    completed row. The decoder's gradient is that of the bound under this mixture; the encoder's is
    that of the usual bound on the completed rows, whose maximum does not ask it to mix.
    """
    n_draws = len(imputed)
    mean, scale = network.encode(imputed + input_noise, torch.ones_like(imputed, dtype=torch.bool))
    z = mean + scale * code_noise
    code = z.detach().requires_grad_()  # where the gradients of decoder and encoder part
    likelihood = network.likelihood
    by_cell = likelihood.training_log_prob(
        network.decode(code.flatten(0, 1)), likelihood.prepare(imputed.flatten(0, 1))
    ).unflatten(0, (n_draws, -1))
    (gradient,) = torch.autograd.grad(by_cell.sum(), code, retain_graph=True)
    kl = (0.5 * (mean.square() + scale.square() - 1.0) - scale.log()).sum(-1)
    for_encoder = ((gradient * z).sum(-1) - kl).mean(0)
    with torch.no_grad():
        log_ratio = log_prior(z) - log_mixture(z, _even(n_draws), mean, scale)
    for_decoder = (torch.where(observed, by_cell, 0.0).sum(-1) + log_ratio).mean(0)
    return for_decoder + (for_encoder - for_encoder.detach())


@torch.no_grad()
def draw_imputations(
    network: Network,
    x: Tensor,
    observed: Tensor,
    imputed: Tensor,
    code_noise: Tensor,
    uniform: Tensor,
    uniform_of_cells: Tensor,
) -> Tensor:
    """Return new imputations (K, N, D) by a step of importance resampling from the old ones [2]_.

    Codes are proposed by the encoder from each imputation and once from the prior, weighted against
    the mixture of all proposals, and K resampled; the decoder fills in the missing cells.

    Parameters
    ----------
    network : Network
        The model at present.
    x, observed : Tensors of shape (N, D)
        Rows and where they are observed.
    imputed : Tensor of shape (K, N, D)
        Completed rows.
    code_noise : Tensor of shape (K + 1, N, L)
        Normal noise of the proposals.
    uniform : Tensor of shape (K, K + 1, N)
        Uniforms that resample.
    uniform_of_cells : Tensor of shape (K, N, D, 2)
        Uniforms that make the cells.
    """
    mean, scale = network.encode(imputed, torch.ones_like(imputed, dtype=torch.bool))
    mean = torch.cat([mean, torch.zeros_like(mean[:1])])
    scale = torch.cat([scale, torch.ones_like(scale[:1])])
    z = mean + scale * code_noise
    log_q = log_mixture(z, _even(len(z)), mean, scale)
    log_weight = log_joint(network, z, x, observed) - log_q
    # the largest of log weights with Gumbel noise is a draw in proportion to the weights
    chosen = (log_weight - (-uniform.log()).log()).argmax(1)
    z = z.gather(0, chosen.unsqueeze(-1).expand(-1, -1, z.shape[-1]))
    cells = network.likelihood.sample(network.decode(z), uniform_of_cells)
    return torch.where(observed, x, cells)


def _even(n: int) -> Tensor:
    return torch.tensor(-math.log(n))


class MixtureNetwork(TabularNetwork):
    """A VAE whose encoder gives a mixture of diagonal normals.

    A second network of the encoder's size says how each component differs from what the encoder
    gives, and the components' shares.
    """

    n_components = 5

    def __init__(
        self,
        likelihood: ColumnLikelihoods,
        latent_dim: int,
        hidden_layer_sizes: tuple[int, ...],
        activation: str,
        generator: torch.Generator | None,
    ) -> None:
        super().__init__(likelihood, latent_dim, hidden_layer_sizes, activation, generator)
        n_outputs = self.n_components * (2 * latent_dim + 1)
        sizes = [self.inputs.n_inputs, *hidden_layer_sizes[::-1], n_outputs]
        self.components = MLP(sizes, activation, generator, skip=True)

    def encode_mixture(self, x: Tensor, visible: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return log shares (K, N), means and scales (K, N, L)."""
        inputs = self.inputs(x, visible)
        out = self.components(inputs).unflatten(-1, (self.n_components, -1)).movedim(-2, 0)
        logit, shift = out[..., 0], out[..., 1:]
        mean, raw_scale = (self.encoder(inputs) + shift).chunk(2, dim=-1)
        return logit.log_softmax(0), mean, torch.nn.functional.softplus(raw_scale) + 1e-3


class _BoundNet(VAENet):
    """Maximises a bound of each row that a subclass gives."""

    def infer(self, x: dict[str, Tensor], **fit_params: Any) -> Tensor:
        return self.bound(x["x"].to(self.device), x["observed"].to(self.device), x)

    def bound(self, x: Tensor, observed: Tensor, row: dict[str, Tensor]) -> Tensor:
        """Return the bound of each row, (N,), in nats."""
        raise NotImplementedError

    def get_loss(
        self, y_pred: Tensor, y_true: Any, X: Any = None, training: bool = False
    ) -> Tensor:
        return -(X["weight"].to(y_pred) * y_pred).mean()

    def _input_noise(self, shape: tuple[int, ...]) -> Tensor:
        noise = self.input_noise * self._normal(shape)
        numbers = self.module_.inputs.numbers
        return torch.zeros_like(noise).index_copy(-1, numbers, noise[..., numbers])

    def _uniform(self, *shape: int) -> Tensor:
        u = torch.rand(shape, generator=self.noise_generator_)
        return u.clamp(1e-6, 1 - 1e-6).to(self.device)


class _ImportanceNet(_BoundNet):
    n_samples = 20

    def bound(self, x: Tensor, observed: Tensor, row: dict[str, Tensor]) -> Tensor:
        code_noise = self._normal((self.n_samples, len(x), self.module_.latent_dim))
        return importance_weighted_bound(
            self.module_, x, observed, self._input_noise(x.shape), code_noise
        )


class _StratifiedNet(_BoundNet):
    importance = False

    def bound(self, x: Tensor, observed: Tensor, row: dict[str, Tensor]) -> Tensor:
        network = self.module_
        code_noise = self._normal((network.n_components, len(x), network.latent_dim))
        return stratified_bound(
            network,
            x,
            observed,
            self._input_noise(x.shape),
            code_noise,
            importance=self.importance,
        )


class _StratifiedImportanceNet(_StratifiedNet):
    importance = True


class _IndexedRows(TableData):
    """Rows that know their position."""

    def __getitem__(self, index: Any) -> tuple[dict[str, Tensor], Tensor]:
        row, target = super().__getitem__(index)
        return {**row, "index": index}, target


class _DecomposedNet(_BoundNet):
    n_draws = 5

    def on_train_begin(self, net: Any, X: Any = None, y: Any = None, **kwargs: Any) -> None:
        super().on_train_begin(net, X, y, **kwargs)
        self.imputed_ = self._from_columns(X)

    def get_iterator(self, dataset: Any, training: bool = False) -> Any:
        rows = _IndexedRows(dataset.x, dataset.observed, dataset.weight)
        return super().get_iterator(rows, training)

    def bound(self, x: Tensor, observed: Tensor, row: dict[str, Tensor]) -> Tensor:
        network, k, index = self.module_, self.n_draws, row["index"]
        imputed = draw_imputations(
            network,
            x,
            observed,
            self.imputed_[:, index].to(self.device),
            self._normal((k + 1, len(x), network.latent_dim)),
            self._uniform(k, k + 1, len(x)),
            self._uniform(k, *x.shape, 2),
        )
        self.imputed_[:, index] = imputed.to(self.imputed_)
        code_noise = self._normal((k, len(x), network.latent_dim))
        noise = self._input_noise(imputed.shape)
        return decomposed_bound(network, x, observed, imputed, noise, code_noise)

    def _from_columns(self, rows: TableData) -> Tensor:
        """Return rows completed with random observed values of their columns, (K, N, D)."""
        imputed = rows.x.expand(self.n_draws, -1, -1).clone()
        generator = self.noise_generator_
        for j, (values, observed) in enumerate(zip(rows.x.T, rows.observed.T, strict=True)):
            known, shape = values[observed], (self.n_draws, int((~observed).sum()))
            if len(known) > 0:  # else all its values are among the validation rows
                which = torch.randint(len(known), shape, generator=generator)
                imputed[:, ~observed, j] = known[which]
        return imputed


class _OneByOne(TabularVAE):
    """Trains each decoder on its own with another bound, in epochs, and keeps its best epoch."""

    _net_class: type[VAENet]

    def _train(self, values: Any, weight: Any, seed: int) -> list[Any]:
        x, observed = as_tensors(values)
        weights = torch.from_numpy(weight).to(torch.float32)
        train, validation = self._split(len(values), derive_seed(seed, 0))
        generator = torch_generator(derive_seed(seed, 1))
        cells = HiddenCells.at_random(
            x[validation], observed[validation], generator, weights[validation]
        )
        data = TableData(x[train], observed[train], weights[train])
        n_steps = min(max(len(data) // 8, 10), 100)
        candidate, runs = self._candidates(values)[0], []
        for i in range(self.n_decoders):
            of_this = derive_seed(seed, 2, i)
            options = {"histogram": {"smoothing": candidate.smoothing}}
            likelihood = ColumnLikelihoods(candidate.families, options, self.n_categories_)
            network = self._network(likelihood.fit_columns(values), torch_generator(of_this))
            if candidate.linear:
                start_linear(
                    network, data.x, data.observed, data.weight, np.random.default_rng(of_this)
                )
            trained = train_network(
                network,
                data,
                ScoreOfHiddenCells(cells),
                average_decay=0.99,
                patience=15,
                weight_decay=0.0,
                on_epoch=lambda: None,
                input_noise=self.input_noise,
                mask_rate=self.mask_rate,
                beta=self.beta,
                steps_per_epoch=n_steps,
                seed=of_this,
                lr=_LEARNING_RATE,
                batch_size=self.batch_size,
                max_epochs=max(self.max_steps // n_steps, 1),
                device="cpu",
                net_class=self._net_class,
            )
            runs.append(trained)
        return runs


class MIWAE(_OneByOne):
    """Maximises the importance-weighted bound on the observed cells, 20 samples."""

    _net_class = _ImportanceNet


class MissSVAE(_OneByOne):
    """Maximises the stratified bound of an encoder with five components."""

    _net_class: Any = _StratifiedNet

    def _network(
        self, likelihood: ColumnLikelihoods, generator: torch.Generator | None
    ) -> MixtureNetwork:
        sizes = tuple(self.hidden_layer_sizes)
        return MixtureNetwork(likelihood, self.latent_dim, sizes, self.activation, generator)


class MissSIWAE(MissSVAE):
    """Maximises the importance-weighted form of the stratified bound."""

    _net_class = _StratifiedImportanceNet


class DeMissVAE(_OneByOne):
    """Learns from a mixture over five imputations of each row.

    They are updated by one step of importance resampling each time a row is in a batch. The authors
    take ten, with tables so large that a row waits a thousand times longer for its next turn.
    """

    _net_class = _DecomposedNet
