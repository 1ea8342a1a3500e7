"""Partial encoders: networks that read what is observed and the mask, trained beforehand."""

import warnings
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, ClassVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor, nn
from torch.nn.functional import softplus

from .._checks import plain
from .._random import derive_seed, torch_generator
from .._sklearn_compat import Interval
from .._typing import Decoder, Encodes, EncodingDecoder, HasCategories, Masks
from ..generative._data import TableData
from ..generative._inputs import EncoderInputs
from ..generative._layers import MLP
from ..generative._training import VAENet, train_network
from ..inference import (
    Context,
    InferenceMethod,
    InferenceResult,
)
from ..inference._methods import encode_completed
from ..inference._target import log_prob_observed
from ..inference.posteriors._gaussian import diagonal_normal_log_prob
from ._fill_zeros import gaussian_result

__all__ = ["PosteriorMatching", "RetunedEncoder"]

MIN_ROWS = 5
VALIDATION_SHARE = 0.15
_MAX_VALIDATION_ROWS = 512
_MIN_SCALE = 1e-3
_MASK_NAMES = ("generic",)


class PartialEncoder(nn.Module):
    """Mean and scale of the code from observed values (0 where missing) and the mask."""

    def __init__(
        self,
        n_categories: Sequence[int | None],
        latent_dim: int,
        hidden: tuple[int, ...],
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.inputs = EncoderInputs(n_categories)
        sizes = [self.inputs.n_inputs, *hidden, 2 * latent_dim]
        self.network = MLP(sizes, "tanh", generator, skip=True)

    def forward(self, x: Tensor, observed: Tensor) -> tuple[Tensor, Tensor]:
        out = self.network(self.inputs(x, observed))
        mean, raw_scale = out.chunk(2, dim=-1)
        return mean, softplus(raw_scale) + _MIN_SCALE


class _Amortised(InferenceMethod):
    """A partial encoder trained under artificial masks, then asked once per row."""

    needs: ClassVar[type | None] = Encodes

    _parameter_constraints: ClassVar[dict[str, list[object]]] = {
        "masks": [str, Interval(Real, 0, 1, closed="both"), callable, "array-like"],
        "hidden_layer_sizes": [tuple, list],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "max_epochs": [Interval(Integral, 1, None, closed="left")],
        "patience": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self,
        *,
        masks: Masks = "generic",
        hidden_layer_sizes: tuple[int, ...] = (128, 128),
        learning_rate: float = 3e-3,
        batch_size: int = 128,
        max_epochs: int = 120,
        patience: int = 15,
    ) -> None:
        self.masks = masks
        self.hidden_layer_sizes = hidden_layer_sizes
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.max_epochs = max_epochs
        self.patience = patience

    @abstractmethod
    def _loss(
        self,
        decoder: EncodingDecoder,
        encoded: tuple[Tensor, Tensor],
        x: Tensor,
        masks: tuple[Tensor, Tensor],
        noise: Tensor,
    ) -> Tensor:
        """Return the loss of each row in nats, (B,); masks are of known and of shown cells."""

    def learn(self, decoder: Decoder, x: Tensor, observed: Tensor, *, seed: int) -> nn.Module:
        """Train the partial encoder for one decoder, see `InferenceMethod`."""
        decoder = cast(EncodingDecoder, decoder)
        check_masks(self.masks, x.shape[1])
        if len(x) < MIN_ROWS:
            raise ValueError(
                f"{type(self).__name__} trains an encoder and needs at least {MIN_ROWS} rows, got "
                f"{len(x)}. Fit on more rows."
            )
        generator = torch_generator(derive_seed(seed, 0))
        hidden = tuple(self.hidden_layer_sizes)
        encoder = PartialEncoder(
            cast(HasCategories, decoder.likelihood).n_categories,
            decoder.latent_dim,
            hidden,
            generator,
        )
        order = torch.randperm(len(x), generator=generator)
        n_validation = min(max(1, round(VALIDATION_SHARE * len(x))), _MAX_VALIDATION_ROWS)
        held, train = order[:n_validation], order[n_validation:]
        trained = train_network(
            encoder,
            TableData(x[train], observed[train]),
            self._validation(decoder, x[held], observed[held], seed),
            average_decay=0.99,
            patience=self.patience,
            weight_decay=1e-3,
            on_epoch=lambda: None,
            net_class=_PartialEncoderNet,
            method=self,
            decoder=decoder,
            masks=self.masks,
            steps_per_epoch=int(np.clip(len(train) // 8, 10, 100)),
            seed=derive_seed(seed, 4),
            lr=self.learning_rate,
            batch_size=self.batch_size,
            max_epochs=self.max_epochs,
        )
        if not trained.settled:
            warnings.warn(
                f"{type(self).__name__} still improved after max_epochs={self.max_epochs} epochs. "
                "Increase max_epochs.",
                ConvergenceWarning,
                stacklevel=2,
            )
        network: nn.Module = trained.network
        return network

    def infer(
        self, decoder: Decoder, state: object, x: Tensor, observed: Tensor, context: Context
    ) -> InferenceResult:
        """Return the posteriors of rows under one decoder, see `InferenceMethod`."""
        encoder = cast(PartialEncoder, state)
        return gaussian_result(
            lambda rows: encoder(x[rows], observed[rows]), x, decoder.latent_dim, context.progress
        )

    def _validation(
        self, decoder: EncodingDecoder, x: Tensor, observed: Tensor, seed: int
    ) -> "_LossUnderMasks":
        """Return the mean loss of an encoder on these rows."""
        rng = np.random.default_rng(derive_seed(seed, 2))
        generator = torch_generator(derive_seed(seed, 3))
        repeats = max(1, 256 // len(x))
        x, observed = x.repeat(repeats, 1), observed.repeat(repeats, 1)
        shown = observed & ~draw_masks(self.masks, rng, *x.shape)
        noise = torch.randn(len(x), decoder.latent_dim, generator=generator)
        return _LossUnderMasks(self, decoder, x, (observed, shown), noise)


class RetunedEncoder(_Amortised):
    """An encoder of the zero-filled row and its mask, tuned on the bound of what it is shown.

    The decoder stays as it is; cells are hidden by artificial masks and neither read nor scored.
    Its posterior for a pattern of missing cells is as good as training on such patterns made it.

    Parameters
    ----------
    masks : "generic", float, callable or array-like of bool, default="generic"
        Which cells are hidden in training. "generic" hides cells independently at a rate that is
        uniform on [0, 1] for each row; a number is the rate of all rows; a callable
        ``masks(rng, n_rows, n_features)`` returns them (True for hidden), rng being a
        `numpy.random.Generator`; from an array of shape (n, n_features) rows are drawn.
    hidden_layer_sizes : tuple of int, default=(128, 128)
        Hidden layers of the encoder.
    learning_rate : float, default=3e-3
        Step size of Adam.
    batch_size : int, default=128
        Rows a training step.
    max_epochs : int, default=120
        Largest number of epochs.
    patience : int, default=15
        Epochs without a better loss of validation rows after which training stops.

    References
    ----------
    .. [1] Collier, Nazabal, Williams (2020), "VAEs in the presence of missing data".

    Examples
    --------
    >>> from sklearn_qavi.baselines import RetunedEncoder
    >>> RetunedEncoder(masks=0.5)
    RetunedEncoder(masks=0.5)
    """

    def _loss(
        self,
        decoder: EncodingDecoder,
        encoded: tuple[Tensor, Tensor],
        x: Tensor,
        masks: tuple[Tensor, Tensor],
        noise: Tensor,
    ) -> Tensor:
        mean, scale = encoded
        params = decoder.decode(mean + scale * noise)
        prepared = decoder.likelihood.prepare(x)
        fit = log_prob_observed(decoder.likelihood, params, prepared, masks[1])
        kl = (0.5 * (mean.square() + scale.square() - 1.0) - scale.log()).sum(-1)
        return kl - fit


class PosteriorMatching(_Amortised):
    """A partial encoder matched to the full one: it predicts the code of the row unmasked.

    Maximises E_enc(z | x)[log r(z | x_O)] over masks, so r averages the encoder over what the
    hidden cells may be. It needs complete rows, or takes what is known of a row for all of it,
    inherits the encoder's errors, and suits the masks that it was trained on.

    Parameters
    ----------
    masks : "generic", float, callable or array-like of bool, default="generic"
        Which cells are hidden in training. "generic" hides cells independently at a rate that is
        uniform on [0, 1] for each row; a number is the rate of all rows; a callable
        ``masks(rng, n_rows, n_features)`` returns them (True for hidden), rng being a
        `numpy.random.Generator`; from an array of shape (n, n_features) rows are drawn.
    hidden_layer_sizes : tuple of int, default=(128, 128)
        Hidden layers of the encoder.
    learning_rate : float, default=3e-3
        Step size of Adam.
    batch_size : int, default=128
        Rows a training step.
    max_epochs : int, default=120
        Largest number of epochs.
    patience : int, default=15
        Epochs without a better loss of validation rows after which training stops.

    References
    ----------
    .. [1] Strauss, Oliva (2022), "Posterior matching for arbitrary conditioning", NeurIPS.

    Examples
    --------
    >>> from sklearn_qavi.baselines import PosteriorMatching
    >>> PosteriorMatching(masks=0.5)
    PosteriorMatching(masks=0.5)
    """

    def _loss(
        self,
        decoder: EncodingDecoder,
        encoded: tuple[Tensor, Tensor],
        x: Tensor,
        masks: tuple[Tensor, Tensor],
        noise: Tensor,
    ) -> Tensor:
        with torch.no_grad():
            mean, scale = encode_completed(decoder, torch.where(masks[0], x, 0.0))
            code = mean + scale * noise
        return -diagonal_normal_log_prob(code, *encoded)


class MaskedNet(VAENet):
    """skorch net whose masks are drawn from a distribution that the method names."""

    def __init__(self, module: nn.Module, *, masks: Masks, **kwargs: Any) -> None:
        self.masks = masks
        super().__init__(module, **kwargs)

    def initialize(self) -> "MaskedNet":
        self.mask_rng_ = np.random.default_rng(derive_seed(self.seed, 6))
        super().initialize()
        return self

    def _hide(self, observed: Tensor) -> Tensor:
        return draw_masks(self.masks, self.mask_rng_, *observed.shape).to(self.device)


class _PartialEncoderNet(MaskedNet):
    """skorch net that trains a partial encoder of a decoder that stays as it is."""

    def __init__(
        self, module: nn.Module, *, method: _Amortised, decoder: EncodingDecoder, **kwargs: Any
    ) -> None:
        self.method = method
        self.decoder = decoder
        super().__init__(module, **kwargs)

    def infer(self, x: dict[str, Tensor], **fit_params: object) -> Tensor:
        values, observed = x["x"], x["observed"]
        shown = observed & ~self._hide(observed)
        noise = self._normal((len(values), self.decoder.latent_dim))
        encoded = self.module_(values, shown)
        return self.method._loss(self.decoder, encoded, values, (observed, shown), noise)

    def get_loss(
        self, y_pred: Tensor, y_true: object, X: object = None, training: bool = False
    ) -> Tensor:
        return y_pred.mean()


@dataclass(frozen=True)
class _LossUnderMasks:
    """What training keeps the best epoch by: the loss under masks and noise that stay."""

    method: _Amortised
    decoder: EncodingDecoder
    x: Tensor
    masks: tuple[Tensor, Tensor]
    noise: Tensor
    name: ClassVar[str] = "valid_loss"

    def __call__(self, encoder: nn.Module) -> float:
        """Return the mean over rows, in nats."""
        with torch.no_grad():
            encoded = encoder(self.x, self.masks[1])
            loss = self.method._loss(self.decoder, encoded, self.x, self.masks, self.noise)
        return float(loss.mean())


def draw_masks(masks: Masks, rng: np.random.Generator, n_rows: int, n_features: int) -> Tensor:
    """Return a mask of hidden cells, bool (n_rows, n_features), from a mask distribution.

    Parameters
    ----------
    masks : "generic", float, callable or array-like of bool
        See `PosteriorMatching`.
    rng : numpy.random.Generator
        Source of the masks.
    n_rows, n_features : int
        Shape of the mask.

    Returns
    -------
    hidden : bool Tensor of shape (n_rows, n_features)
        True for a hidden cell.

    Raises
    ------
    ValueError
        If a callable returns another shape.
    """
    if callable(masks):
        hidden: NDArray[np.bool_] = np.asarray(masks(rng, n_rows, n_features), dtype=bool)
        if hidden.shape != (n_rows, n_features):
            raise ValueError(
                f"masks(rng, {n_rows}, {n_features}) returned shape {hidden.shape}, expected "
                f"({n_rows}, {n_features})."
            )
    elif isinstance(masks, str):
        hidden = rng.random((n_rows, n_features)) < rng.random((n_rows, 1))
    elif np.ndim(masks) == 0:
        hidden = rng.random((n_rows, n_features)) < float(np.asarray(masks))
    else:
        table = np.asarray(masks, dtype=bool)
        hidden = table[rng.integers(len(table), size=n_rows)]
    return torch.from_numpy(hidden)


def check_masks(masks: Masks, n_features: int) -> None:
    if callable(masks):
        return
    if isinstance(masks, str):
        if masks not in _MASK_NAMES:
            raise ValueError(
                "masks must be 'generic', a rate from 0 to 1, a callable or an "
                f"array of masks, got {plain(masks)}."
            )
    elif np.ndim(masks) == 0:
        if not 0.0 <= float(np.asarray(masks)) <= 1.0:
            raise ValueError(f"A rate of hidden cells lies from 0 to 1, got masks={plain(masks)}.")
    elif np.ndim(masks) != 2 or np.shape(masks)[1] != n_features or np.shape(masks)[0] == 0:
        raise ValueError(
            f"masks has shape {np.shape(masks)}, expected rows of {n_features} columns: the "
            "columns of the table that have observed values."
        )
