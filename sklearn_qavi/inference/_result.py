"""What a fit gives back."""

from dataclasses import dataclass

from torch import Tensor

from .posteriors import Posterior

__all__ = ["InferenceResult"]


@dataclass(frozen=True)
class InferenceResult:
    """Fitted posteriors of N rows and how each came about.

    Parameters
    ----------
    posterior : Posterior
        The fitted posteriors.
    bound : Tensor of shape (N,)
        The bound L_N over the row's last window, in nats on the model's own scale.
    n_iter : int Tensor of shape (N,)
        Steps that the row took.
    n_evaluations : int Tensor of shape (N,)
        Decoder evaluations that the row took, without the start (decoded once for a block).
    converged : bool Tensor of shape (N,)
        Whether the row stopped by itself.
    """

    posterior: Posterior
    bound: Tensor
    n_iter: Tensor
    n_evaluations: Tensor
    converged: Tensor
