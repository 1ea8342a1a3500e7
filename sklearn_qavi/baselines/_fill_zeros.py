"""Fill-Zeros: pretend that missing cells hold the column's mean and ask the encoder."""

from collections.abc import Callable
from typing import ClassVar, cast

import torch
from torch import Tensor

from .._typing import Decoder, Encodes, Progress
from ..inference import (
    Context,
    GaussianPosterior,
    InferenceMethod,
    InferenceResult,
)
from ..inference._blocks import row_blocks
from ..inference._methods import encode_completed

__all__ = ["FillZeros", "gaussian_result"]


class FillZeros(InferenceMethod):
    """The encoder's posterior for the row with zeros in its missing cells.

    On standardized columns zero is the mean. The encoder takes the zeros for observations, so the
    posterior is too narrow and pulled towards rows that are average in the missing columns.

    References
    ----------
    .. [1] Nazabal, Olmos, Ghahramani, Valera (2020), "Handling incomplete heterogeneous data
       using VAEs".

    Examples
    --------
    >>> from sklearn_qavi import QAVIImputer
    >>> from sklearn_qavi.baselines import FillZeros
    >>> QAVIImputer(posterior=FillZeros()).posterior
    FillZeros()
    """

    needs: ClassVar[type | None] = Encodes

    def infer(
        self, decoder: Decoder, state: object, x: Tensor, observed: Tensor, context: Context
    ) -> InferenceResult:
        """Return the posteriors of rows under one decoder, see `InferenceMethod`."""
        filled = torch.where(observed, x, 0.0)
        return gaussian_result(
            lambda rows: encode_completed(cast(Encodes, decoder), filled[rows]),
            x,
            decoder.latent_dim,
            context.progress,
        )


def gaussian_result(
    encode: Callable[[Tensor], tuple[Tensor, Tensor]],
    x: Tensor,
    latent_dim: int,
    progress: Progress | None,
) -> InferenceResult:
    """Return Gaussian posteriors whose mean and scale an encoder gives at once.

    Parameters
    ----------
    encode : callable
        Maps row indices (B,) to mean and scale, both (B, L).
    x : Tensor of shape (N, D)
        The rows, for their number and device.
    latent_dim : int
        Size L of the latent code.
    progress : callable or None
        Called with the number of rows just finished.

    Returns
    -------
    result : InferenceResult
        With NaN for the bound, which nothing maximised.
    """
    means, scales = [], []
    with torch.no_grad():
        for rows, n in row_blocks(len(x), x.device):
            mean, scale = encode(rows)
            means.append(mean[:n])
            scales.append(scale[:n])
            if progress is not None:
                progress(n)
    count = torch.zeros(len(x), dtype=torch.long, device=x.device)
    return InferenceResult(
        GaussianPosterior.posterior(torch.cat(means), torch.cat(scales)),
        bound=torch.full_like(x[:, 0], torch.nan),
        n_iter=count,
        n_evaluations=count,
        converged=torch.ones_like(count, dtype=torch.bool),
    )
