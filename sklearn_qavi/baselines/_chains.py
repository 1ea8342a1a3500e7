"""Chains that alternate between code and missing cells: pseudo-Gibbs and Metropolis-within-Gibbs.

All rows of a call meet the same random numbers at the same step, so that a row's chain depends on
the row alone.
"""

from dataclasses import dataclass
from numbers import Integral
from typing import ClassVar, cast

import torch
from torch import Tensor

from .._interrupts import go_on
from .._random import derive_seed, torch_generator
from .._sklearn_compat import Interval
from .._typing import Decoder, Encodes, EncodingDecoder, JointLikelihood
from ..inference import (
    Context,
    InferenceMethod,
    InferenceResult,
    SampledCodes,
)
from ..inference._blocks import row_blocks
from ..inference._methods import encode_completed, encoder_mixture
from ..inference.posteriors._base import standard_normal_log_prob
from ..inference.posteriors._gaussian import diagonal_normal_log_prob

__all__ = ["MetropolisWithinGibbs", "PseudoGibbs"]

_EPS = 1e-6  # uniforms stay inside the open interval in single precision


@dataclass
class _State:
    """Where the chains (C of each of B rows) are."""

    values: Tensor  # (C, B, D), missing cells filled in
    code: Tensor  # (C, B, L)
    params: Tensor  # (C, B, P), the code decoded
    mean: Tensor  # (C, B, L), the encoder at the values the code was proposed from
    scale: Tensor
    accepted: Tensor  # (C, B)


@dataclass
class _Noise:
    """Random numbers that all rows share, drawn step by step."""

    generator: torch.Generator
    n_chains: int
    like: Tensor  # (N, D)

    def normal(self, size: int) -> Tensor:
        shape = (self.n_chains, 1, size)
        return torch.randn(shape, generator=self.generator).to(self.like)

    def uniform(self, *size: int) -> Tensor:
        shape = (self.n_chains, 1, *size)
        return torch.rand(shape, generator=self.generator).clamp(_EPS, 1 - _EPS).to(self.like)


class PseudoGibbs(InferenceMethod):
    """Encode, decode, encode again: the chain's codes after a burn-in are the posterior.

    Each step draws a code from the encoder for the completed row and new missing cells from the
    decoder for that code. The encoder stands in for p(z | x), so the chain's limit is
    p(x_M | x_O) only as far as the encoder is exact.

    Parameters
    ----------
    n_burn_in : int, default=100
        Steps before codes are kept.
    n_draws : int, default=64
        Codes that are kept of a row.
    n_chains : int, default=8
        Chains of a row, from different completions. Each keeps ``n_draws / n_chains`` codes.
    thin : int, default=5
        Steps between two kept codes of a chain.

    References
    ----------
    .. [1] Rezende, Mohamed, Wierstra (2014), "Stochastic backpropagation and approximate
       inference in deep generative models", appendix F.

    Examples
    --------
    >>> from sklearn_qavi.baselines import PseudoGibbs
    >>> PseudoGibbs(n_burn_in=500)
    PseudoGibbs(n_burn_in=500)
    """

    needs: ClassVar[type | None] = Encodes

    _parameter_constraints: ClassVar[dict[str, list[object]]] = {
        "n_burn_in": [Interval(Integral, 0, None, closed="left")],
        "n_draws": [Interval(Integral, 1, None, closed="left")],
        "n_chains": [Interval(Integral, 1, None, closed="left")],
        "thin": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self, *, n_burn_in: int = 100, n_draws: int = 64, n_chains: int = 8, thin: int = 5
    ) -> None:
        self.n_burn_in = n_burn_in
        self.n_draws = n_draws
        self.n_chains = n_chains
        self.thin = thin

    def infer(
        self, decoder: Decoder, state: object, x: Tensor, observed: Tensor, context: Context
    ) -> InferenceResult:
        """Return the posteriors of rows under one decoder, see `InferenceMethod`."""
        kept: list[list[Tensor]] = []
        n_steps = self._n_warm_up + self.n_burn_in + self.thin * -(-self.n_draws // self.n_chains)
        with torch.no_grad():
            for rows, n in row_blocks(len(x), x.device):
                parts = self._run(
                    cast(EncodingDecoder, decoder),
                    x[rows],
                    observed[rows],
                    derive_seed(context.seed, 5),
                )
                kept.append([part[:, :n] for part in parts])
                if context.progress is not None:
                    context.progress(n)
        codes, mean, scale, accepted = (torch.cat(p, dim=1) for p in zip(*kept, strict=True))
        count = torch.full((len(x),), n_steps, dtype=torch.long, device=x.device)
        return InferenceResult(
            SampledCodes.posterior(codes),
            bound=torch.full_like(x[:, 0], torch.nan),
            n_iter=count,
            n_evaluations=count * self.n_chains,
            converged=torch.ones_like(count, dtype=torch.bool),
            codes=encoder_mixture(mean, scale),
            acceptance_rate=self._acceptance_rate(accepted),
        )

    _n_warm_up = 0

    def _acceptance_rate(self, accepted: Tensor) -> Tensor | None:
        return None

    def _run(
        self, decoder: EncodingDecoder, x: Tensor, observed: Tensor, seed: int
    ) -> list[Tensor]:
        """Return codes, encoder means and scales (K, B, L), and acceptances (K, B)."""
        noise = _Noise(torch_generator(seed), self.n_chains, x)
        code = noise.normal(decoder.latent_dim).expand(-1, len(x), -1)
        params = decoder.decode(code)
        values = _complete(decoder, params, x, observed, noise)
        mean, scale = encode_completed(decoder, values)
        state = _State(values, code, params, mean, scale, torch.ones_like(code[..., 0]))
        for _ in range(self._n_warm_up):
            state = _gibbs_step(decoder, state, x, observed, noise)
        for _ in range(self.n_burn_in):
            state = self._step(decoder, state, x, observed, noise)
        kept = []
        for _ in range(-(-self.n_draws // self.n_chains)):
            accepted = torch.zeros_like(state.accepted)
            for _ in range(self.thin):
                state = self._step(decoder, state, x, observed, noise)
                accepted = accepted + state.accepted / self.thin
            kept.append((state.code, state.mean, state.scale, accepted))
        return [torch.cat(part)[: self.n_draws] for part in zip(*kept, strict=True)]

    def _step(
        self, decoder: EncodingDecoder, state: _State, x: Tensor, observed: Tensor, noise: _Noise
    ) -> _State:
        return _gibbs_step(decoder, state, x, observed, noise)


class MetropolisWithinGibbs(PseudoGibbs):
    """Pseudo-Gibbs whose codes are accepted or refused, so that its limit is exact.

    The encoder for the completed row proposes a code, which is accepted with the probability that
    makes p(z, x_M | x_O) the chain's stationary distribution, whatever the encoder. Where the
    encoder is narrow the chain hardly moves: look at ``acceptance_rate`` and at several chains.
    The chain starts with pseudo-Gibbs steps.

    Parameters
    ----------
    n_burn_in : int, default=100
        Steps before codes are kept, after as many pseudo-Gibbs steps as ``n_warm_up`` says.
    n_draws : int, default=64
        Codes that are kept of a row.
    n_chains : int, default=8
        Chains of a row, from different completions. Each keeps ``n_draws / n_chains`` codes.
    thin : int, default=5
        Steps between two kept codes of a chain.
    n_warm_up : int, default=20
        Pseudo-Gibbs steps at the start.

    References
    ----------
    .. [1] Mattei, Frellsen (2018), "Leveraging the exact likelihood of deep latent variable
       models", section 3.

    Examples
    --------
    >>> from sklearn_qavi.baselines import MetropolisWithinGibbs
    >>> MetropolisWithinGibbs(n_burn_in=1000)
    MetropolisWithinGibbs(n_burn_in=1000)
    """

    _parameter_constraints: ClassVar[dict[str, list[object]]] = {
        **PseudoGibbs._parameter_constraints,
        "n_warm_up": [Interval(Integral, 0, None, closed="left")],
    }

    def __init__(
        self,
        *,
        n_burn_in: int = 100,
        n_draws: int = 64,
        n_chains: int = 8,
        thin: int = 5,
        n_warm_up: int = 20,
    ) -> None:
        super().__init__(n_burn_in=n_burn_in, n_draws=n_draws, n_chains=n_chains, thin=thin)
        self.n_warm_up = n_warm_up

    @property
    def _n_warm_up(self) -> int:  # type: ignore[override]
        return self.n_warm_up

    def _acceptance_rate(self, accepted: Tensor) -> Tensor | None:
        return accepted.mean(0)

    def _step(
        self, decoder: EncodingDecoder, state: _State, x: Tensor, observed: Tensor, noise: _Noise
    ) -> _State:
        mean, scale = encode_completed(decoder, state.values)
        proposal = mean + scale * noise.normal(decoder.latent_dim)
        params = decoder.decode(proposal)
        prepared = decoder.likelihood.prepare(state.values)

        def log_weight(code: Tensor, code_params: Tensor) -> Tensor:
            log_joint = decoder.likelihood.log_prob(code_params, prepared).sum(-1)
            log_joint = log_joint + standard_normal_log_prob(code)
            return log_joint - diagonal_normal_log_prob(code, mean, scale)

        log_ratio = log_weight(proposal, params) - log_weight(state.code, state.params)
        accept = noise.uniform().log() < log_ratio
        code = torch.where(accept.unsqueeze(-1), proposal, state.code)
        params = torch.where(accept.unsqueeze(-1), params, state.params)
        values = _complete(decoder, params, x, observed, noise)
        return _State(values, code, params, mean, scale, accept.to(x.dtype))


def _gibbs_step(
    decoder: EncodingDecoder, state: _State, x: Tensor, observed: Tensor, noise: _Noise
) -> _State:
    mean, scale = encode_completed(decoder, state.values)
    code = mean + scale * noise.normal(decoder.latent_dim)
    params = decoder.decode(code)
    values = _complete(decoder, params, x, observed, noise)
    return _State(values, code, params, mean, scale, state.accepted)


def _complete(
    decoder: EncodingDecoder, params: Tensor, x: Tensor, observed: Tensor, noise: _Noise
) -> Tensor:
    go_on()
    uniform = noise.uniform(x.shape[-1], 2)
    if isinstance(decoder.likelihood, JointLikelihood):
        drawn = decoder.likelihood.sample_given(params, uniform, x, observed)
    else:
        drawn = decoder.likelihood.sample(params, uniform)
    return torch.where(observed, x, drawn)
