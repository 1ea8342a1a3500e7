"""log p(x_O | z) for rows of a table, from a decoder and an observed mask."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from .._plan import ROWS_MULTIPLE, ROWS_TRIED
from .._typing import Decoder, FitsRows, Likelihood, Observes, ScoresCodes

__all__ = ["DecoderTarget", "FeatureTarget", "FunctionTarget", "log_prob_observed"]

Decode = Callable[[Tensor], Tensor]
Encode = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
Observe = Callable[[Any, Tensor], Callable[[Tensor], Tensor]]


def log_prob_observed(
    likelihood: Likelihood, params: Tensor, prepared: object, observed: Tensor
) -> Tensor:
    """Return the log density of the observed features together, (..., B), in nats.

    Parameters
    ----------
    likelihood : object
        Whose ``log_prob_observed`` is asked where it has one, as it needs where features are not
        independent given the code; otherwise ``log_prob`` is summed over what is observed.
    params : Tensor of shape (..., P)
        The decoder's output.
    prepared : object
        What ``likelihood.prepare`` returned for the B rows.
    observed : bool Tensor of shape (B, D)
        True where the feature is observed.

    Returns
    -------
    log_prob : Tensor of shape (..., B)
        The missing features are marginalised.
    """
    hook = getattr(likelihood, "log_prob_observed", None)
    if hook is not None:
        total: Tensor = hook(params, prepared, observed)
        return total
    by_feature = likelihood.log_prob(params, prepared)
    # where() and not a product: 0 * inf would be NaN on a missing cell
    return torch.where(observed, by_feature, 0.0).sum(-1)


@dataclass(frozen=True)
class DecoderBlock:
    decode: Decode
    likelihood: Likelihood
    prepared: object
    observed: Tensor
    log_prob: Callable[[Tensor], Tensor] | None = field(default=None, kw_only=True)
    fit: Callable[[Tensor], Tensor] | None = field(default=None, kw_only=True)

    def __call__(self, z: Tensor) -> Tensor:
        if self.log_prob is not None and len(z) > 1:  # products of one line depend on their place
            return self.log_prob(z)
        return self.of_decoded(self.decode(z))

    def of_decoded(self, params: Tensor) -> Tensor:
        if self.fit is not None:
            return self.fit(params)
        return log_prob_observed(self.likelihood, params, self.prepared, self.observed)


@dataclass(frozen=True)
class DecoderTarget:
    """Rows of a table as a target: the missing features are marginalised by leaving the sum.

    Parameters
    ----------
    decode : callable
        Maps codes (..., L) to the likelihood's parameters (..., P).
    likelihood : object
        Has ``prepare(x)`` and ``log_prob(params, prepared)``, see ``generative``.
    x : Tensor of shape (N, D)
        Values in the model's own (standardized) units; what stands in missing cells is ignored
        but must be finite.
    observed : bool Tensor of shape (N, D)
        True where the cell is observed.
    latent_dim : int
        Size L of the latent code.
    observe : callable, default=None
        A decoder's faster way to the log likelihood: ``observe(prepared, observed)`` returns the
        function from codes (S, B, L) to log p(x_O | z) of B rows, (S, B).
    alone : bool, default=False
        Whether a code's output does not depend on how many others are decoded with it, to the bit.
        Rows that fill up a block are then left out.

    References
    ----------
    .. [1] Agarwal, Hope, Younis, Sudderth (2023), "A Decoder Suffices for Query-Adaptive
       Variational Inference", equation 8.
    """

    decode: Decode
    likelihood: Likelihood
    x: Tensor
    observed: Tensor
    latent_dim: int
    observe: Observe | None = field(default=None, kw_only=True)
    alone: bool = field(default=False, kw_only=True)

    @classmethod
    def of(cls, decoder: Decoder, x: Tensor, observed: Tensor) -> "DecoderTarget":
        """Return rows as a target under a decoder, in the fastest way that it knows.

        Parameters
        ----------
        decoder : object
            Has ``decode``, ``likelihood`` and ``latent_dim``, and maybe ``observe``.
        x : Tensor of shape (N, D)
            Values in the decoder's standardized units, finite everywhere.
        observed : bool Tensor of shape (N, D)
            True where the cell is observed.

        Returns
        -------
        target : DecoderTarget
            The rows.
        """
        on_cpu, observe = x.device.type == "cpu", None
        if on_cpu and isinstance(decoder, Observes):  # a GPU would wait for counts
            observe = decoder.observe
        return DecoderTarget(
            decoder.decode,
            decoder.likelihood,
            x,
            observed,
            decoder.latent_dim,
            observe=observe,
            alone=on_cpu and getattr(decoder, "decodes_alone", False),
        )

    @property
    def n_rows(self) -> int:
        """Number of rows N."""
        return self.x.shape[0]

    @property
    def device(self) -> torch.device:
        """Where the rows live and codes must live."""
        return self.x.device

    @property
    def dtype(self) -> torch.dtype:
        """Floating type of values and codes."""
        return self.x.dtype

    def block(self, rows: Tensor) -> DecoderBlock:
        """Return the log likelihood of the rows with these indices."""
        prepared, observed = self.likelihood.prepare(self.x[rows]), self.observed[rows]
        log_prob = None if self.observe is None else self.observe(prepared, observed)
        fit = None
        if isinstance(self.likelihood, FitsRows):
            fit = self.likelihood.fit_of_decoded(prepared, observed)
        return DecoderBlock(
            self.decode, self.likelihood, prepared, observed, log_prob=log_prob, fit=fit
        )

    def block_of_some(self, rows: Tensor, places: Tensor) -> "DecoderBlock | _BlockOfSome":
        """Return the log likelihood of these rows, which may be zero but at some places (n,)."""
        if not self.alone or len(places) in (0, len(rows)):
            return self.block(rows)
        return _BlockOfSome(self, rows, places)

    def score_codes(self, z: Tensor) -> Callable[[Tensor], Tensor]:
        """Return the function from row indices (B,) to log p(x_O | z), (K, B), for codes (K, L)."""
        with torch.no_grad():
            params = self.decode(z)
            scores = None
            if isinstance(self.likelihood, ScoresCodes):
                scores = self.likelihood.scores_of_codes(params)

        def score(rows: Tensor) -> Tensor:
            with torch.no_grad():
                prepared, observed = self.likelihood.prepare(self.x[rows]), self.observed[rows]
                if scores is not None:
                    return scores(prepared, observed)
                return log_prob_observed(self.likelihood, params.unsqueeze(1), prepared, observed)

        if not self.alone:
            return score

        def score_in_parts(rows: Tensor) -> Tensor:
            changes = (rows[1:] != rows[:-1]).nonzero()
            n_new = int(changes[-1]) + 2 if len(changes) else 1  # the last row fills up
            parts = [score(part) for part in rows.split(ROWS_TRIED)[: -(-n_new // ROWS_TRIED)]]
            scored = torch.cat(parts, dim=1)
            return torch.cat([scored, scored[:, -1:].expand(-1, len(rows) - scored.shape[1])], 1)

        return score_in_parts


class _BlockOfSome:
    """Rows some of which are padding, which is not decoded and has the log likelihood zero.

    So many rows are decoded that with their draws they are a multiple of ``ROWS_MULTIPLE``: vector
    kernels round differently at a ragged end.
    """

    def __init__(self, target: DecoderTarget, rows: Tensor, places: Tensor) -> None:
        self.target, self.rows, self.places = target, rows, places
        self.blocks: dict[int, DecoderBlock] = {}

    def __call__(self, z: Tensor) -> Tensor:
        n = len(self.places)
        multiple = ROWS_MULTIPLE // math.gcd(len(z), ROWS_MULTIPLE)
        kept = torch.cat([self.places, self.places[-1:].expand(-n % multiple)])
        if len(kept) not in self.blocks:
            self.blocks[len(kept)] = self.target.block(self.rows[kept])
        of_kept = self.blocks[len(kept)](z[:, kept])
        return z.new_zeros(z.shape[:2]).index_copy(1, self.places, of_kept[:, :n])


@dataclass(frozen=True)
class FeatureBlock(DecoderBlock):
    """B rows that can be completed with drawn values, encoded and decoded."""

    x: Tensor
    encode: Encode

    @property
    def missing(self) -> Tensor:
        """True where the cell is missing, (B, D)."""
        return ~self.observed

    def autoencode(self, values: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Return log p(x_O, x_M | z) and KL(enc || p) in nats, both (S, B).

        Parameters
        ----------
        values : Tensor of shape (S, B, D)
            Drawn values; observed cells are put in their place.
        noise : Tensor of shape (S, B or 1, L)
            Standard normal noise of the encoder's code.
        """
        completed = torch.where(self.observed, self.x, values)
        mean, scale = self.encode(completed, torch.ones_like(completed, dtype=torch.bool))
        prepared = self.likelihood.prepare(completed)
        fit = self.likelihood.log_prob(self.decode(mean + scale * noise), prepared).sum(-1)
        kl = (0.5 * (mean.square() + scale.square() - 1.0) - scale.log()).sum(-1)
        return fit, kl


@dataclass(frozen=True)
class FeatureTarget(DecoderTarget):
    """Rows of a table as a target for a posterior over their missing features.

    Parameters
    ----------
    decode, likelihood, x, observed, latent_dim : object
        See `DecoderTarget`.
    encode : callable
        ``encode(x, visible)`` returns mean and scale of the code's Gaussian, both (..., L).
    observe, alone : object
        Not read: features are drawn, encoded and decoded.

    References
    ----------
    .. [1] Agarwal, Hope, Younis, Sudderth (2023), "A Decoder Suffices for Query-Adaptive
       Variational Inference", equation 6.
    """

    encode: Encode

    def block(self, rows: Tensor) -> FeatureBlock:
        """Return the rows with these indices."""
        return FeatureBlock(
            self.decode,
            self.likelihood,
            self.likelihood.prepare(self.x[rows]),
            self.observed[rows],
            self.x[rows],
            self.encode,
        )


@dataclass(frozen=True)
class _FunctionBlock:
    function: Callable[[Tensor, Tensor], Tensor]
    rows: Tensor

    def __call__(self, z: Tensor) -> Tensor:
        return self.function(z, self.rows)


@dataclass(frozen=True)
class FunctionTarget:
    """Any log likelihood as a target, for models that are not a decoder with independent features.

    Parameters
    ----------
    log_likelihood : callable
        ``log_likelihood(z, rows)`` maps codes (S, B, L) and row indices (B,) to nats (S, B).
    n_rows, latent_dim : int
        Number of rows N and size L of the latent code.
    device : torch.device, default=cpu
        Where codes are made.
    dtype : torch.dtype, default=torch.float32
        Floating type of codes.
    """

    log_likelihood: Callable[[Tensor, Tensor], Tensor]
    n_rows: int
    latent_dim: int
    device: torch.device = torch.device("cpu")
    dtype: torch.dtype = torch.float32

    def block(self, rows: Tensor) -> _FunctionBlock:
        """Return the log likelihood of the rows with these indices."""
        return _FunctionBlock(self.log_likelihood, rows)

    def score_codes(self, z: Tensor) -> Callable[[Tensor], Tensor]:
        """Return the function from row indices (B,) to log p(x_O | z), (K, B), for codes (K, L)."""

        def score(rows: Tensor) -> Tensor:
            with torch.no_grad():
                return self.log_likelihood(z.unsqueeze(1).expand(-1, len(rows), -1), rows)

        return score
