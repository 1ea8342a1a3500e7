"""A decoder of tables or images that someone else trained, as a generative model."""

import copy

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn
from torch.nn.functional import softplus

from .._checks import plain
from ._likelihoods import (
    LIKELIHOODS,
    ColumnLikelihoods,
    ImageLikelihood,
    make_image_likelihood,
)
from ._wide_resnet import in_chunks

__all__ = ["PretrainedDecoder", "PretrainedImageDecoder", "find_latent_dim"]

_NEEDS_COLUMNS = ("categorical", "histogram")
_MIN_SCALE = 1e-3


class _Member(nn.Module):
    def __init__(
        self,
        decoder: nn.Module,
        likelihood: ColumnLikelihoods | ImageLikelihood,
        latent_dim: int,
    ) -> None:
        super().__init__()
        self.decoder, self.likelihood, self.latent_dim = decoder, likelihood, latent_dim

    def decode(self, z: Tensor) -> Tensor:
        # a stranger's module may want (batch, latent) and nothing else
        params: Tensor = self.decode_rows(z.flatten(0, -2)).unflatten(0, z.shape[:-1])
        return params

    def decode_rows(self, z: Tensor) -> Tensor:
        params: Tensor = self.decoder(z)
        return params


class _MemberWithEncoder(_Member):
    def __init__(
        self,
        decoder: nn.Module,
        likelihood: ColumnLikelihoods | ImageLikelihood,
        latent_dim: int,
        encoder: nn.Module,
    ) -> None:
        super().__init__(decoder, likelihood, latent_dim)
        self.encoder = encoder

    def encode(self, x: Tensor, visible: Tensor) -> tuple[Tensor, Tensor]:
        shown = torch.where(visible, x, 0.0)
        out = self.encode_rows(shown.flatten(0, -2)).unflatten(0, x.shape[:-1])
        mean, raw_scale = out.chunk(2, dim=-1)
        return mean, softplus(raw_scale) + _MIN_SCALE

    def encode_rows(self, x: Tensor) -> Tensor:
        codes: Tensor = self.encoder(x)
        return codes


class _ImageMember(_Member):
    def decode_rows(self, z: Tensor) -> Tensor:
        return in_chunks(self.decoder, z).flatten(1)


class _ImageMemberWithEncoder(_ImageMember, _MemberWithEncoder):
    def encode_rows(self, x: Tensor) -> Tensor:
        images = x.unflatten(1, self.likelihood.image_shape)
        return in_chunks(self.encoder, images).flatten(1)


class _Pretrained:
    """What decoders of tables and of images have in common."""

    decoders_: list[nn.Module]
    n_features_in_: int

    def _adopt(self, member: _Member) -> None:
        """Keep a member of copies, once it returns what the likelihood takes."""
        self.decoders_ = [member.eval().requires_grad_(False)]
        self._check_decoder(member)
        if isinstance(member, _MemberWithEncoder):
            self._check_encoder(member)

    def _check_decoder(self, member: _Member) -> None:
        first = next(member.decoder.parameters(), torch.zeros(1))
        z = torch.zeros(1, 2, member.latent_dim)
        z[:, 1] = torch.linspace(-1.0, 1.0, member.latent_dim)
        try:
            with torch.no_grad():
                out = member.decode(z.to(first))
        except RuntimeError as error:
            raise ValueError(
                f"The decoder cannot read codes of shape (n, {member.latent_dim}): {error}. Check "
                "latent_dim against the decoder's first layer."
            ) from error
        expected = member.likelihood.n_outputs
        if out.shape[-1] != expected:
            raise ValueError(
                f"The decoder returns {out.shape[-1]} numbers per row, but "
                f"{self._described(member.likelihood)} take {expected}. Check {self._size_name} "
                "and likelihood against the decoder's last layer."
            )
        if not torch.isfinite(out).all():
            raise ValueError(
                "The decoder returns numbers that are not finite for the codes "
                f"{z[0, 0, :3].tolist()}... and {z[0, 1, :3].tolist()}...; check its weights."
            )

    def _check_encoder(self, member: _MemberWithEncoder) -> None:
        first = next(member.encoder.parameters(), torch.zeros(1))
        x = torch.zeros(2, self.n_features_in_).to(first)
        with torch.no_grad():
            n_out = member.encode_rows(x).shape[-1]
        if n_out != 2 * member.latent_dim:
            raise ValueError(
                f"The encoder returns {n_out} numbers per row, but a code of size "
                f"{member.latent_dim} takes {2 * member.latent_dim}: means, then raw scales."
            )

    _size_name = "n_features"

    def _described(self, likelihood: ColumnLikelihoods | ImageLikelihood) -> str:
        return f"{self.n_features_in_} columns under {sorted(set(likelihood.families))}"


class PretrainedDecoder(_Pretrained):
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
    mean, scale : float or array-like of shape (n_features,), default=None
        The decoder's units: it models ``(X - mean) / scale``. None means original units.

    Attributes
    ----------
    decoders_ : list of torch.nn.Module
        The one decoder.
    n_features_in_ : int
        Number of columns D.

    Raises
    ------
    ValueError
        If the likelihood is unknown, the latent size cannot be read, mean or scale are not finite
        numbers or a scale is not positive, or the module returns the wrong number of parameters;
        the message says how many were expected and came.

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
        mean: ArrayLike | None = None,
        scale: ArrayLike | None = None,
    ) -> None:
        families = [likelihood] * n_features if isinstance(likelihood, str) else list(likelihood)
        _check_families(families, n_features)
        self.n_features_in_ = n_features
        self.mean_ = _of_columns("mean", 0.0 if mean is None else mean, n_features)
        self.scale_ = _of_columns("scale", 1.0 if scale is None else scale, n_features)
        _refuse_columns("scale", self.scale_, self.scale_ > 0, "positive")
        size = find_latent_dim(module) if latent_dim is None else latent_dim
        decoder = copy.deepcopy(module).eval().requires_grad_(False)
        columns = ColumnLikelihoods(families)
        member = _Member(decoder, columns, size)
        if encoder is not None:
            member = _MemberWithEncoder(decoder, columns, size, copy.deepcopy(encoder))
        self._adopt(member)

    def standardise(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
        """Turn values in original units into the decoder's units."""
        return (X - self.mean_) / self.scale_

    def unstandardise(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Turn values in the decoder's units into original units."""
        return values * self.scale_ + self.mean_


class PretrainedImageDecoder(_Pretrained):
    """Inpaint with a decoder trained elsewhere, whose weights stay as they are.

    Parameters
    ----------
    module : torch.nn.Module
        Maps codes (n, L) to the likelihood's parameters, as (n, P) or as maps (n, K, H, W). A copy
        in evaluation mode is used, so the module keeps its mode, weights and gradient flags.
    likelihood : str or ImageLikelihood
        Observation model of the pixels: a name that `make_image_likelihood` knows, or an object.
        The maps of a family with several parameters stand one after the other, each for all
        channels; a scale is ``softplus(raw)`` plus a floor.
    image_shape : tuple of int
        Channels C, height H and width W.
    latent_dim : int, default=None
        Size L of the code. None reads ``module.latent_dim``, else the inputs of the first linear
        layer.
    encoder : torch.nn.Module, default=None
        Maps images (n, C, H, W), 0 where missing, to the L means and then the L raw scales of the
        code (the scale is ``softplus(raw) + 0.001``). Only ``posterior="feature"`` and the methods
        in `sklearn_qavi.baselines` ask for it.
    likelihood_options : dict, default=None
        Options of a likelihood that is given by its name. Of "gaussian" and "discretised_normal"
        the scale comes from the decoder unless told otherwise.

    Attributes
    ----------
    decoders_ : list of torch.nn.Module
        The one decoder.
    image_shape_ : tuple of int
        Channels C, height H and width W.
    n_features_in_ : int
        Number of cells D of an image.

    Raises
    ------
    ValueError
        If the likelihood is unknown or for another image shape, the latent size cannot be read, or
        the module returns the wrong number of parameters or numbers that are not finite.
    TypeError
        If the likelihood is an object that lacks something; the message says what.

    See Also
    --------
    ImageLikelihood : To write an observation model of your own.
    WideResNetVAE : Trains a decoder.

    Examples
    --------
    >>> import torch
    >>> from sklearn_qavi.generative import PretrainedImageDecoder
    >>> decoder = torch.nn.Sequential(
    ...     torch.nn.Linear(2, 8 * 7 * 7),
    ...     torch.nn.Unflatten(1, (8, 7, 7)),
    ...     torch.nn.ConvTranspose2d(8, 1, 4, stride=4),
    ... )
    >>> model = PretrainedImageDecoder(decoder, "continuous_bernoulli", (1, 28, 28))
    >>> model.decoders_[0].decode(torch.zeros(5, 2)).shape
    torch.Size([5, 784])
    """

    _size_name = "image_shape"

    def __init__(
        self,
        module: nn.Module,
        likelihood: str | ImageLikelihood,
        image_shape: tuple[int, int, int],
        latent_dim: int | None = None,
        *,
        encoder: nn.Module | None = None,
        likelihood_options: dict[str, object] | None = None,
    ) -> None:
        if len(image_shape) != 3 or min(image_shape) < 1:
            raise ValueError(
                f"image_shape must be (channels, height, width), got {plain(tuple(image_shape))}."
            )
        channels, height, width = map(int, image_shape)
        self.image_shape_ = (channels, height, width)
        self.n_features_in_ = channels * height * width
        cells = _image_likelihood(likelihood, self.image_shape_, likelihood_options)
        size = find_latent_dim(module) if latent_dim is None else latent_dim
        decoder = copy.deepcopy(module)
        member: _Member = _ImageMember(decoder, cells, size)
        if encoder is not None:
            member = _ImageMemberWithEncoder(decoder, cells, size, copy.deepcopy(encoder))
        self._adopt(member)

    def standardise(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
        """Turn pixel values from 0 to 1 into the decoder's unit, which is the same."""
        return np.asarray(X, dtype=np.float64)

    def unstandardise(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Turn values in the decoder's unit into pixel values from 0 to 1."""
        return np.clip(values, 0.0, 1.0)

    def _described(self, likelihood: ColumnLikelihoods | ImageLikelihood) -> str:
        return f"images of shape {self.image_shape_} under {plain(likelihood.families[0])}"


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
        "attribute nor a linear layer. Name it: PretrainedDecoder(..., latent_dim=...), or "
        "PretrainedImageDecoder for images."
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


def _of_columns(name: str, values: ArrayLike, n_features: int) -> NDArray[np.float64]:
    """Return one finite number per column."""
    array = np.asarray(values, dtype=np.float64)
    if array.shape not in ((), (n_features,)):
        raise ValueError(
            f"{name} must be one number or one for each of the {n_features} columns, got shape "
            f"{array.shape}."
        )
    array = np.broadcast_to(array, n_features).copy()
    _refuse_columns(name, array, np.isfinite(array), "finite")
    return array


def _refuse_columns(
    name: str, values: NDArray[np.float64], good: NDArray[np.bool_], what: str
) -> None:
    if not good.all():
        bad = np.flatnonzero(~good)
        raise ValueError(
            f"{name} must be {what}, got {values[bad][:5].tolist()} for the column(s) at positions "
            f"{bad[:5].tolist()}."
        )


_LIKELIHOOD_NEEDS = (
    "categorical_columns",
    "families",
    "log_prob",
    "mean",
    "n_categories",
    "n_outputs",
    "prepare",
    "probabilities",
    "reparameterised",
    "sample",
)


def _image_likelihood(
    likelihood: str | ImageLikelihood,
    image_shape: tuple[int, int, int],
    options: dict[str, object] | None,
) -> ImageLikelihood:
    """Return the observation model by its name, or a copy of one that was written elsewhere."""
    if isinstance(likelihood, str):
        if likelihood in ("discretised_normal", "gaussian"):
            options = {"scale": "decoder", **(options or {})}
        return make_image_likelihood(likelihood, image_shape, **(options or {}))
    lacking = [name for name in _LIKELIHOOD_NEEDS if not hasattr(likelihood, name)]
    if lacking or not isinstance(likelihood, nn.Module):
        raise TypeError(
            "likelihood must be a name or an ImageLikelihood, got a "
            f"{type(likelihood).__name__}, which lacks {lacking or 'torch.nn.Module as a base'}."
        )
    if tuple(getattr(likelihood, "image_shape", image_shape)) != image_shape:
        raise ValueError(
            f"The likelihood is for images of shape {likelihood.image_shape}, but image_shape is "
            f"{image_shape}."
        )
    return copy.deepcopy(likelihood)
