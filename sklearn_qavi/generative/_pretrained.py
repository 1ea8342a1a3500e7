"""A decoder of tables or images that someone else trained, as a generative model."""

import copy
import math
from collections.abc import Sequence
from numbers import Real
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn
from torch.nn.functional import softplus

from .._checks import plain
from ..exceptions import ModelFormatError
from ._base import GenerativeModel
from ._checkpoint import load_strictly, read_folder, write_folder
from ._likelihoods import (
    LIKELIHOODS,
    ColumnLikelihoods,
    ImageLikelihood,
    make_image_likelihood,
)
from ._reference import check_reference, made_by
from ._wide_resnet import in_chunks

__all__ = ["PretrainedDecoder", "find_latent_dim"]

_NEEDS_COLUMNS = ("categorical", "histogram")
_WITH_SCALE = ("discretized_normal", "gaussian", "student_t")
_MIN_SCALE = 1e-3

Cells = ColumnLikelihoods | ImageLikelihood


class _Member(nn.Module):
    def __init__(self, decoder: nn.Module, likelihood: Cells, latent_dim: int) -> None:
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
        self, decoder: nn.Module, likelihood: Cells, latent_dim: int, encoder: nn.Module
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


class PretrainedDecoder:
    """Complete tables or images with a decoder trained elsewhere, whose weights stay as they are.

    With ``n_features`` it is a model of tables, for `QAVIImputer`; with ``image_shape`` one of
    images, for `QAVIInpainter`. Everything else is the same for both.

    Parameters
    ----------
    module : torch.nn.Module
        The decoder alone: codes (n, L) to the likelihood's parameters, as (n, P), or for images as
        maps (n, K, H, W). A copy in evaluation mode is used, so the module keeps its mode, weights
        and gradient flags.
    likelihood : str, list of str or ImageLikelihood
        What the output means. Of tables "gaussian", "student_t" or "bernoulli", for all columns or
        for each: the parameters of one family stand together, families in alphabetical order. Of
        images a name that `make_image_likelihood` knows, or an object. "gaussian", "student_t" and
        "discretized_normal" take D locations, then D raw scales (the scale is
        ``softplus(raw) + 0.001``); "bernoulli" the D log odds of 1 against 0;
        "continuous_bernoulli" the D logits.
    n_features : int, default=None
        Number of columns D of a table.
    latent_dim : int, default=None
        Size L of the code. None reads ``module.latent_dim``, else the inputs of the first linear
        layer.
    image_shape : tuple of int, default=None
        Channels C, height H and width W of images, D = C * H * W.
    likelihood_options : dict, default=None
        Options of a likelihood that is given by its name. ``{"scale": 0.1}`` is for decoders that
        return locations only, such as those trained by squared error: it is the scale of every
        cell in the decoder's unit. ``{"density": "torch"}`` of "continuous_bernoulli" is for those
        trained with torch's class of this name, see `make_image_likelihood`.
    encoder : torch.nn.Module, default=None
        Maps rows (n, D), or images (n, C, H, W), 0 where a cell is missing, to the L means and then
        the L raw scales of the code, one tensor (n, 2 L) (the scale is ``softplus(raw) + 0.001``).
        ``posterior="feature"`` and the methods in `sklearn_qavi.baselines` ask for it, and images
        start their inference there.
    mean, scale : float or array-like of shape (n_features,) or (C,), default=None
        The decoder's units: it models ``(X - mean) / scale``. None means original units, of images
        pixels from 0 to 1. ``mean=0.5, scale=0.5`` is for pixels from -1 to 1. Of images only a
        "gaussian" or a likelihood of your own has other units than 0 to 1.
    source : str, default=None
        ``"package.module:attribute"`` of a class or function that makes the untrained decoder
        without arguments, or the pair (decoder, encoder) if there is an encoder. Only `save` needs
        it.

    Attributes
    ----------
    decoders_ : list of torch.nn.Module
        The one decoder.
    n_features_in_ : int
        Number of columns, or cells of an image, D.
    image_shape_ : tuple of int
        Channels C, height H and width W, of images.

    Raises
    ------
    ValueError
        If the likelihood is unknown, the latent size cannot be read, a whole autoencoder was handed
        over, mean or scale are not finite numbers or a scale is not positive, or the module returns
        the wrong number of parameters or numbers that are not finite; the message says what would
        do.
    TypeError
        If what was handed over is no module, returns no tensor, or a likelihood is an object that
        lacks something.

    See Also
    --------
    ImageLikelihood : To write an observation model of your own.
    TabularVAE : Trains decoders of tables.
    WideResNetVAE : Trains decoders of images.

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

    A decoder of images of 28 x 28 pixels:

    >>> decoder = torch.nn.Sequential(
    ...     torch.nn.Linear(2, 8 * 7 * 7),
    ...     torch.nn.Unflatten(1, (8, 7, 7)),
    ...     torch.nn.ConvTranspose2d(8, 1, 4, stride=4),
    ... )
    >>> model = PretrainedDecoder(decoder, "continuous_bernoulli", image_shape=(1, 28, 28))
    >>> model.decoders_[0].decode(torch.zeros(5, 2)).shape
    torch.Size([5, 784])
    """

    def __init__(
        self,
        module: nn.Module,
        likelihood: str | list[str] | ImageLikelihood,
        n_features: int | None = None,
        latent_dim: int | None = None,
        *,
        image_shape: tuple[int, int, int] | None = None,
        likelihood_options: dict[str, object] | None = None,
        encoder: nn.Module | None = None,
        mean: ArrayLike | None = None,
        scale: ArrayLike | None = None,
        source: str | None = None,
    ) -> None:
        _check_module(module)
        self._is_image = image_shape is not None
        if (n_features is None) == (image_shape is None):
            raise ValueError(
                "Name either n_features, for a decoder of tables, or image_shape=(channels, "
                "height, width), for one of images."
            )
        cells: Cells
        if image_shape is not None:
            self.image_shape_ = _checked_shape(image_shape)
            self.n_features_in_ = math.prod(self.image_shape_)
            cells = _image_likelihood(likelihood, self.image_shape_, likelihood_options)
            _check_units(likelihood, mean, scale)
        else:
            assert n_features is not None
            self.n_features_in_ = int(n_features)
            cells = _column_likelihoods(likelihood, self.n_features_in_, likelihood_options)
        self.mean_ = self._of_cells("mean", 0.0 if mean is None else mean)
        self.scale_ = self._of_cells("scale", 1.0 if scale is None else scale)
        _refuse_columns("scale", self.scale_, self.scale_ > 0, "positive")
        size = latent_dim
        if size is None:
            size = find_latent_dim(module)
            _refuse_autoencoder(module, size, self.n_features_in_)
        self._source = source
        if source is not None:
            check_reference(source)
        self._given = {  # what JSON can hold, but for a likelihood that is an object
            "likelihood": likelihood,
            "n_features": n_features,
            "latent_dim": size,
            "image_shape": None if image_shape is None else list(self.image_shape_),
            "likelihood_options": likelihood_options,
            "mean": None if mean is None else self.mean_.tolist(),
            "scale": None if scale is None else self.scale_.tolist(),
            "source": source,
        }
        self._adopt(copy.deepcopy(module), cells, size, copy.deepcopy(encoder))

    def standardize(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
        """Turn values in original units, of images 0 to 1, into the decoder's units."""
        return (np.asarray(X, dtype=np.float64) - self.mean_) / self.scale_

    def unstandardize(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Turn values in the decoder's units into original units; pixels end at 0 and 1."""
        original = values * self.scale_ + self.mean_
        return np.clip(original, 0.0, 1.0) if self._is_image else original

    def save(self, folder: str | Path) -> None:
        """Write the weights as safetensors, and a JSON that names the code of the decoder.

        Parameters
        ----------
        folder : path-like
            Where to; made if need be. The code itself is not written: ``source`` says where it is
            imported from.

        Raises
        ------
        ModelFormatError
            If there is no ``source``, it cannot be imported or makes modules with other weights, or
            the likelihood is an object.
        ValueError
            If the folder cannot be written to.
        """
        source = self.check_saveable()
        tensors = nn.ModuleList(self.decoders_).state_dict()
        made = _built(self._given, trusted=[source])
        others = nn.ModuleList(made.decoders_).state_dict()
        if {k: v.shape for k, v in tensors.items()} != {k: v.shape for k, v in others.items()}:
            raise ModelFormatError(
                f"What source={plain(source)} makes has other weights than this decoder, by name "
                f"or shape, first {_first_difference(tensors, others)}."
            )
        write_folder(folder, type(self).__name__, self._given, tensors)

    def check_saveable(self) -> str:
        """Raise if `save` could not write this model.

        Returns
        -------
        source : str
            Where its code is imported from.

        Raises
        ------
        ModelFormatError
            If there is no ``source``, or the likelihood is an object.
        """
        if self._source is None:
            raise ModelFormatError(
                "A PretrainedDecoder cannot be saved without pickle unless it says where its code "
                "is imported from: pass source='package.module:attribute', what makes the "
                "untrained decoder without arguments."
            )
        if not isinstance(self._given["likelihood"], str | list):
            raise ModelFormatError(
                "A PretrainedDecoder whose likelihood is an object cannot be saved without pickle; "
                "only those given by their names can."
            )
        return self._source

    @classmethod
    def load(cls, folder: str | Path, *, trusted: Sequence[str] = ()) -> Self:
        """Read a model that `save` wrote.

        Parameters
        ----------
        folder : path-like
            Where from.
        trusted : sequence of str, default=()
            The ``source`` that may be imported and called. A folder names code to be run, so it is
            read only if you say that you know this code.

        Returns
        -------
        model : PretrainedDecoder
            With the saved weights.

        Raises
        ------
        ModelFormatError
            If a file is missing, was changed in any byte, is of a newer version or does not fit its
            description, or its code is not trusted or cannot be imported.
        """
        config, tensors = read_folder(folder, cls.__name__)
        model: Self = _built(config, trusted=trusted)  # type: ignore[assignment]
        load_strictly(nn.ModuleList(model.decoders_), tensors, folder)
        return model

    def _of_cells(self, name: str, values: ArrayLike) -> NDArray[np.float64]:
        """Return one finite number per column or cell."""
        array, n = np.asarray(values, dtype=np.float64), self.n_features_in_
        if self._is_image and array.shape == self.image_shape_[:1]:
            array = np.repeat(array, n // len(array))
        if array.shape not in ((), (n,)):
            kinds = "channels or cells" if self._is_image else "columns"
            raise ValueError(
                f"{name} must be one number or one for each of the {n} {kinds}, got shape "
                f"{array.shape}."
            )
        array = np.broadcast_to(array, n).copy()
        _refuse_columns(name, array, np.isfinite(array), "finite")
        return array

    def _adopt(
        self, decoder: nn.Module, cells: Cells, size: int, encoder: nn.Module | None
    ) -> None:
        """Keep a member, once it returns what the likelihood takes."""
        member: _Member
        if encoder is None:
            member = (_ImageMember if self._is_image else _Member)(decoder, cells, size)
        else:
            with_encoder = _ImageMemberWithEncoder if self._is_image else _MemberWithEncoder
            member = with_encoder(decoder, cells, size, encoder)
        self.decoders_: list[nn.Module] = [member.eval().requires_grad_(False)]
        self._check_decoder(member)
        if isinstance(member, _MemberWithEncoder):
            self._check_encoder(member)

    def _check_decoder(self, member: _Member) -> None:
        first = next(member.decoder.parameters(), torch.zeros(1))
        z = torch.zeros(1, 2, member.latent_dim)
        z[:, 1] = torch.linspace(-1.0, 1.0, member.latent_dim)
        try:
            with torch.no_grad():
                _check_tensor("decoder", member.decoder(z[0].to(first)))
                out = member.decode(z.to(first))
        except RuntimeError as error:
            raise ValueError(
                f"The decoder cannot read codes of shape (n, {member.latent_dim}): {error}. Check "
                "latent_dim against the decoder's first layer."
            ) from error
        expected = member.likelihood.n_outputs
        if out.shape[-1] != expected:
            size_name = "image_shape" if self._is_image else "n_features"
            hint = ""
            if out.shape[-1] == self.n_features_in_:
                hint = (
                    " A decoder that returns locations only, as of a training by squared error, "
                    "takes likelihood_options={'scale': ...}."
                )
            raise ValueError(
                f"The decoder returns {out.shape[-1]} numbers per row, but "
                f"{self._described(member.likelihood)} take {expected}. Check {size_name} and "
                f"likelihood against the decoder's last layer.{hint}"
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
            shown = x.unflatten(1, self.image_shape_) if self._is_image else x
            _check_tensor("encoder", member.encoder(shown))
            n_out = member.encode_rows(x).shape[-1]
        if n_out != 2 * member.latent_dim:
            raise ValueError(
                f"The encoder returns {n_out} numbers per row, but a code of size "
                f"{member.latent_dim} takes {2 * member.latent_dim}: means, then raw scales."
            )

    def _described(self, likelihood: Cells) -> str:
        if self._is_image:
            return f"images of shape {self.image_shape_} under {plain(likelihood.families[0])}"
        return f"{self.n_features_in_} columns under {sorted(set(likelihood.families))}"


def _built(config: dict[str, Any], *, trusted: Sequence[str]) -> PretrainedDecoder:
    """Return a model of the code that a description names, with weights of its own."""
    try:
        made = made_by(config["source"], trusted)
        decoder, encoder = made if isinstance(made, tuple) else (made, None)
        shape = config["image_shape"]
        options = {**config, "image_shape": None if shape is None else tuple(shape)}
        return PretrainedDecoder(decoder, encoder=encoder, **options)
    except ModelFormatError:
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise ModelFormatError(
            f"What source={plain(config.get('source'))} makes does not fit the description of the "
            f"model: {error}"
        ) from error


def _first_difference(a: dict[str, Tensor], b: dict[str, Tensor]) -> str:
    shapes = [{k: tuple(v.shape) for k, v in tensors.items()} for tensors in (a, b)]
    name = next(k for k in {**a, **b} if shapes[0].get(k) != shapes[1].get(k))
    return f"{name}: {shapes[1].get(name, 'absent')} instead of {shapes[0].get(name, 'absent')}"


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
        "attribute nor a linear layer. Name it: PretrainedDecoder(..., latent_dim=...)."
    )


def _check_module(module: nn.Module) -> None:
    """Raise if what was handed over is no decoder but a model, or a whole autoencoder."""
    kind = type(module).__name__
    if not isinstance(module, nn.Module):
        if isinstance(module, GenerativeModel) or hasattr(module, "fit"):
            raise TypeError(
                f"{kind} is a generative model already: pass it as generative_model of the "
                "estimator."
            )
        raise TypeError(f"module must be a torch.nn.Module from codes to parameters, got a {kind}.")
    encoder, decoder = (
        next((name for name in names if callable(getattr(module, name, None))), None)
        for names in (("encoder", "encode"), ("decoder", "decode"))
    )
    if encoder is None or decoder is None:
        return
    if isinstance(getattr(module, decoder), nn.Module):
        others = (
            f", encoder=model.{encoder}" if isinstance(getattr(module, encoder), nn.Module) else ""
        )
        advice = f"Hand over its decoder alone, PretrainedDecoder(model.{decoder}, ...{others})."
    else:
        advice = (
            f"Hand over its decoder alone: a torch.nn.Module whose forward takes codes (n, L) and "
            f"returns what model.{decoder} does, before any sigmoid if the likelihood takes logits."
        )
    raise ValueError(
        f"{kind} has both {encoder} and {decoder}: it is a whole autoencoder, which maps data to "
        f"data and not codes to parameters. {advice}"
    )


def _refuse_autoencoder(module: nn.Module, size: int, n_features: int) -> None:
    """Raise if a module reads as many numbers as there are features and narrows them."""
    inner = [layer.in_features for layer in module.modules() if isinstance(layer, nn.Linear)]
    if size == n_features and min(inner, default=size) < size:
        raise ValueError(
            f"{type(module).__name__} reads {size} numbers, as many as there are features, and has "
            f"a layer that reads {min(inner)}: it seems to be a whole autoencoder. Hand over the "
            f"part after its code; if codes of size {size} are meant, pass latent_dim={size}."
        )


def _check_tensor(part: str, out: object) -> None:
    if not isinstance(out, Tensor):
        what = (
            "the parameters of the likelihood in one tensor"
            if part == "decoder"
            else "the means and then the raw scales of the code in one tensor (n, 2 L); from "
            "log variances v the raw scales are log(expm1(exp(v / 2)))"
        )
        raise TypeError(
            f"The {part} returns a {type(out).__name__}, expected {what}. Wrap it in a module that "
            "returns this."
        )


def _checked_shape(image_shape: Sequence[int]) -> tuple[int, int, int]:
    if len(image_shape) != 3 or min(image_shape) < 1:
        raise ValueError(
            f"image_shape must be (channels, height, width), got {plain(tuple(image_shape))}."
        )
    channels, height, width = map(int, image_shape)
    return channels, height, width


def _check_units(likelihood: object, mean: ArrayLike | None, scale: ArrayLike | None) -> None:
    if isinstance(likelihood, str) and likelihood != "gaussian":
        given = [name for name, value in (("mean", mean), ("scale", scale)) if value is not None]
        if given:
            raise ValueError(
                f"{' and '.join(given)} cannot be used with likelihood={plain(likelihood)}, which "
                "is of pixels from 0 to 1. Only 'gaussian', or a likelihood of your own, has other "
                "units."
            )


def _column_likelihoods(
    likelihood: object, n_features: int, options: dict[str, object] | None
) -> ColumnLikelihoods:
    if not isinstance(likelihood, str | list | tuple | np.ndarray):
        raise TypeError(
            "likelihood of a table must be the name of a family or one for each column, got a "
            f"{type(likelihood).__name__}."
        )
    families = [likelihood] * n_features if isinstance(likelihood, str) else list(likelihood)
    _check_families(families, n_features)
    rest, scale = _without_scale(options)
    with_scale = sorted(set(families) & set(_WITH_SCALE))
    if rest or (scale is not None and not with_scale):
        raise ValueError(
            f"{sorted(options or {})} are not the options of likelihood={plain(likelihood)}: only "
            "'scale' of 'gaussian' and 'student_t' is, a number."
        )
    of_families = {} if scale is None else {name: {"n_scales": 1} for name in with_scale}
    cells = ColumnLikelihoods(families, of_families)
    if scale is not None:
        _fix_scale(cells, scale)
    return cells


def _without_scale(
    options: dict[str, object] | None,
) -> tuple[dict[str, object], float | None]:
    """Return options without a scale that is a number, and this number."""
    rest = dict(options or {})
    scale = rest.get("scale")
    if not isinstance(scale, Real) or isinstance(scale, bool):
        return rest, None
    if not _MIN_SCALE < float(scale) < math.inf:
        raise ValueError(f"scale must be a number above {_MIN_SCALE:g}, got {plain(scale)}.")
    del rest["scale"]
    return rest, float(scale)


def _fix_scale(cells: Cells, scale: float) -> None:
    """Give a number to all scales that the decoder does not return."""
    for part in cells.modules():
        raw = getattr(part, "raw_scale", None)
        if isinstance(raw, nn.Parameter):
            smallest = float(getattr(part, "min_scale", 0.0))
            above = scale - smallest
            if above <= 0.0:
                raise ValueError(f"scale must be above {smallest:g}, got {scale:g}.")
            raw.data.fill_(above + math.log(-math.expm1(-above)))


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


def _named_image_likelihood(
    name: str, image_shape: tuple[int, int, int], options: dict[str, object] | None
) -> ImageLikelihood:
    rest, scale = _without_scale(options)
    if name in _WITH_SCALE:
        rest = {"scale": "decoder" if scale is None else "channel", **rest}
        if scale is None and rest["scale"] in ("channel", "pixel"):
            raise ValueError(
                f"likelihood_options has scale={plain(rest['scale'])}, a scale to be learned, but "
                "nothing is trained here. Pass a number in the decoder's unit, or 'decoder'."
            )
    elif scale is not None:
        rest["scale"] = scale
    cells = make_image_likelihood(name, image_shape, **rest)
    if scale is not None:
        _fix_scale(cells, scale)
    return cells


def _image_likelihood(
    likelihood: object,
    image_shape: tuple[int, int, int],
    options: dict[str, object] | None,
) -> ImageLikelihood:
    """Return the observation model by its name, or a copy of one that was written elsewhere."""
    if isinstance(likelihood, str):
        return _named_image_likelihood(likelihood, image_shape, options)
    if options:
        raise ValueError("likelihood_options are of a likelihood that is given by its name.")
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
    own: ImageLikelihood = copy.deepcopy(likelihood)  # type: ignore[assignment]
    return own
