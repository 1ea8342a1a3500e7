"""What the inference of rows gives back."""

from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from .._typing import Decoder
from .posteriors import Posterior

__all__ = ["InferenceResult"]


@dataclass(frozen=True)
class InferenceResult:
    """Posteriors of N rows and how each came about.

    Parameters
    ----------
    posterior : Posterior
        What imputations are drawn from.
    bound : Tensor of shape (N,)
        The bound that was maximised, over the row's last window, in nats on the model's own scale.
        NaN for a method that maximises none.
    n_iter : int Tensor of shape (N,)
        Steps that the row took.
    n_evaluations : int Tensor of shape (N,)
        Decoder evaluations that the row took, without the start (decoded once for a block).
    converged : bool Tensor of shape (N,)
        Whether the row stopped by itself.
    codes : Posterior, default=None
        Distribution of the latent code with a density, for importance weights, where
        ``posterior`` is none: that of a method that works on features or only gives draws.
    acceptance_rate : Tensor of shape (N,), default=None
        Share of the Metropolis proposals that were accepted.
    pareto_k, effective_sample_size : Tensor of shape (N,), default=None
        Reliability of the importance weights of draws from the code's posterior, if asked for.
    decoder : torch.nn.Module, default=None
        The decoder that the posterior's codes are of, where the method has tuned one of its own.
    trace : Tensor of shape (N, T), default=None
        If asked for, the bound of the answer that a row would have given after each step, in nats;
        of Adam after each window of steps. NaN after a row's last step.
    """

    posterior: Posterior
    bound: Tensor
    n_iter: Tensor
    n_evaluations: Tensor
    converged: Tensor
    codes: Posterior | None = None
    acceptance_rate: Tensor | None = None
    pareto_k: Tensor | None = None
    effective_sample_size: Tensor | None = None
    decoder: Decoder | None = None
    trace: Tensor | None = None

    @classmethod
    def concatenate(cls, parts: "list[InferenceResult]") -> "InferenceResult":
        """Return the results of the rows of all parts, which come from the same inference.

        Parameters
        ----------
        parts : list of InferenceResult
            At least one.
        """
        if len(parts) == 1:
            return parts[0]
        joined = {f.name: _joined([getattr(part, f.name) for part in parts]) for f in fields(cls)}
        return cls(**joined)

    @property
    def code_posterior(self) -> Posterior:
        """The distribution of the latent code that has a density."""
        return self.posterior if self.codes is None else self.codes


def _joined(values: list[Any]) -> Any:
    """Return posteriors or tensors of rows one after the other; other things are the same."""
    first = values[0]
    if isinstance(first, Posterior):
        parameters = torch.cat([posterior.parameters for posterior in values])
        return Posterior(first.family, parameters)
    if not isinstance(first, Tensor):
        return first
    if first.ndim == 2:  # traces, which end with the row that took the most steps
        width = max(value.shape[1] for value in values)
        values = [pad(value, (0, width - value.shape[1]), value=torch.nan) for value in values]
    return torch.cat(values)
