"""A decoder that someone else trained, as a generative model."""

import copy
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import softplus

from ._likelihoods import LIKELIHOODS, ColumnLikelihoods

__all__ = ["PretrainedDecoder", "find_latent_dim"]

_NEEDS_COLUMNS = ("categorical", "histogram")
_MIN_SCALE = 1e-3


class _Member(nn.Module):
    def __init__(self, decoder: nn.Module, likelihood: ColumnLikelihoods, latent_dim: int) -> None:
        super().__init__()
        self.decoder, self.likelihood, self.latent_dim = decoder, likelihood, latent_dim

    def decode(self, z: Tensor) -> Tensor:
        # a stranger's module may want (batch, latent) and nothing else
        return self.decoder(z.flatten(0, -2)).unflatten(0, z.shape[:-1])


class _MemberWithEncoder(_Member):
    def __init__(
        self,
        decoder: nn.Module,
        likelihood: ColumnLikelihoods,
        latent_dim: int,
        encoder: nn.Module,
    ) -> None:
        super().__init__(decoder, likelihood, latent_dim)
        self.encoder = encoder

    def encode(self, x: Tensor, visible: Tensor) -> tuple[Tensor, Tensor]:
        out = self.encoder(torch.where(visible, x, 0.0).flatten(0, -2)).unflatten(0, x.shape[:-1])
        mean, raw_scale = out.chunk(2, dim=-1)
        return mean, softplus(raw_scale) + _MIN_SCALE


class PretrainedDecoder:
    """Impute with a decoder trained elsewhere; nothing is trained and its weights stay as they are.

    Parameters
    ----------
    module : torch.nn.Module
        Maps codes (n, L) to the likelihood's parameters (n, P). A copy in evaluation mode is
        used, so the module keeps its mode, weights and gradient flags.
    likelihood : {"gaussian", "student_t", "bernoulli"} or list of str
        Family of all columns, or of each. The parameters of one family stand together, families
        in alphabetical order: for "gaussian" and "student_t" the D locations, then D raw scales
        (the scale is ``softplus(raw) + 0.001``); for "bernoulli" the D log odds of 1 against 0.
    n_features : int
        Number of columns D.
    latent_dim : int, default=None
        Size L of the code. None reads ``module.latent_dim``, else the inputs of the first
        linear layer.
    encoder : torch.nn.Module, default=None
        Maps rows (n, D), 0 where a cell is missing, to the L means and then the L raw scales of
        the code (the scale is ``softplus(raw) + 0.001``). Only ``posterior="feature"`` and the
        methods in `sklearn_qavi.baselines` ask for it.
    mean, scale : array-like of shape (n_features,), default=None
        The decoder's units: it models ``(X - mean) / scale``. None means original units.

    Attributes
    ----------
    members_ : list of torch.nn.Module
        The one decoder.
    n_features_in_ : int
        Number of columns D.

    Raises
    ------
    ValueError
        If the likelihood is unknown, the latent size cannot be read, or the module returns the
        wrong number of parameters; the message says how many were expected and came.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> from sklearn_qavi import QAVIImputer
    >>> from sklearn_qavi.generative import PretrainedDecoder
    >>> linear = torch.nn.Linear(1, 4)  # two columns, both equal to the code
    >>> with torch.no_grad():
    ...     _ = linear.weight.copy_(torch.tensor([[1.0], [1.0], [0.0], [0.0]]))
    ...     _ = linear.bias.copy_(torch.tensor([0.0, 0.0, -2.0, -2.0]))
    >>> model = PretrainedDecoder(linear, "gaussian", n_features=2)
    >>> imputer = QAVIImputer(generative_model=model, random_state=0)
    >>> imputer.fit_transform(np.array([[1.0, np.nan], [np.nan, -1.0]])).round(1)
    array([[ 1.,  1.],
           [-1., -1.]])
    """

    def __init__(
        self,
        module: nn.Module,
        likelihood: str | list[str],
        n_features: int,
        latent_dim: int | None = None,
        *,
        encoder: nn.Module | None = None,
        mean: Any = None,
        scale: Any = None,
    ) -> None:
        families = [likelihood] * n_features if isinstance(likelihood, str) else list(likelihood)
        _check_families(families, n_features)
        self.n_features_in_ = n_features
        self.mean_ = np.zeros(n_features) if mean is None else np.asarray(mean, dtype=np.float64)
        self.scale_ = np.ones(n_features) if scale is None else np.asarray(scale, dtype=np.float64)
        size = find_latent_dim(module) if latent_dim is None else latent_dim
        decoder = copy.deepcopy(module).eval().requires_grad_(False)
        columns = ColumnLikelihoods(families)
        member = _Member(decoder, columns, size)
        if encoder is not None:
            member = _MemberWithEncoder(decoder, columns, size, copy.deepcopy(encoder))
        self.members_: list[nn.Module] = [member.eval()]
        self.members_[0].requires_grad_(False)
        self._check_outputs()

    def standardise(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
        """Turn values in original units into the decoder's units."""
        return (X - self.mean_) / self.scale_

    def unstandardise(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Turn values in the decoder's units into original units."""
        return values * self.scale_ + self.mean_

    def _check_outputs(self) -> None:
        member: Any = self.members_[0]
        first = next(member.decoder.parameters(), torch.zeros(1))
        with torch.no_grad():
            out = member.decode(torch.zeros(1, 2, member.latent_dim, device=first.device))
        expected = member.likelihood.n_outputs
        if out.shape[-1] != expected:
            raise ValueError(
                f"The decoder returns {out.shape[-1]} numbers a row, but {self.n_features_in_} "
                f"columns under {sorted(set(member.likelihood.families))} take {expected}. Check "
                "n_features and likelihood against the decoder's last layer."
            )
        if isinstance(member, _MemberWithEncoder):
            x = torch.zeros(2, self.n_features_in_, device=first.device)
            with torch.no_grad():
                n_out = member.encoder(x).shape[-1]
            if n_out != 2 * member.latent_dim:
                raise ValueError(
                    f"The encoder returns {n_out} numbers a row, but a code of size "
                    f"{member.latent_dim} takes {2 * member.latent_dim}: means, then raw scales."
                )


def find_latent_dim(module: nn.Module) -> int:
    """Return ``module.latent_dim``, else the number of inputs of its first linear layer.

    Parameters
    ----------
    module : torch.nn.Module
        A decoder.

    Returns
    -------
    latent_dim : int
        Size L of its code.

    Raises
    ------
    ValueError
        If the module has neither.
    """
    if hasattr(module, "latent_dim"):
        return int(module.latent_dim)  # type: ignore[arg-type]
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            return layer.in_features
    raise ValueError(
        f"The latent size of {type(module).__name__} cannot be read: it has neither a latent_dim "
        "attribute nor a linear layer. Wrap it: PretrainedDecoder(module, likelihood, n_features, "
        "latent_dim=...)."
    )


def _check_families(families: list[str], n_features: int) -> None:
    allowed = sorted(set(LIKELIHOODS) - set(_NEEDS_COLUMNS))
    unknown = sorted(set(map(str, families)) - set(allowed))
    if unknown:
        raise ValueError(
            f"The likelihood of a pretrained decoder must be one of {allowed}, got {unknown}."
        )
    if len(families) != n_features:
        raise ValueError(
            f"likelihood names {len(families)} columns, but n_features is {n_features}."
        )
