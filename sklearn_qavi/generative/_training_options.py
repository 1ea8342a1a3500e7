"""Options of the training of image models, as plain data."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator
from torch import Tensor

from .._sklearn_compat import Interval, StrOptions, validate_parameters

__all__ = ["Augmentation", "Training"]

Augmentation = str | Callable[[Tensor, torch.Generator], Tensor] | None

_COUNT = Interval(Integral, 1, None, closed="left")
_POSITIVE = Interval(Real, 0, None, closed="neither")
_NOT_NEGATIVE = Interval(Real, 0, None, closed="left")
_LIMIT = Interval(Real, 0, None, closed="right")  # infinity as well
_INFINITE = "inf"  # JSON has no number for it


@dataclass(kw_only=True, repr=False)
class Training(BaseEstimator):
    """How an image model is trained: steps, batches, validation, noise and augmentation.

    Options at None take the model's own values, which its docstring names.

    Parameters
    ----------
    learning_rate : float, default=None
        Step size of Adam.
    learning_rate_warmup : int, default=None
        Steps over which the step size rises to ``learning_rate``; 0 for none. Adam's first step
        moves every weight by the whole step size, which may throw a network to where it does not
        come back from.
    batch_size : int, default=None
        Images per training step.
    steps_per_epoch : int or None, default=None
        Steps between two looks at the validation images; None takes as many as show each training
        image once, but between 100 and 500.
    patience : int, default=None
        Epochs without a better validation score after which training stops.
    validation_fraction : float, default=0.1
        Share of the images that are used for validation, up to a limit of the model's. With fewer
        than 20 images training images are used for both.
    validation_beta : float, default=None
        Weight of the KL when validation images are inferred, for models that score how a hidden
        half is completed.
    kl_warmup : int, default=None
        Steps over which the weight of the KL rises from a tenth of ``beta`` to ``beta``; 0 for
        none. At first codes say nothing, and a KL of full weight keeps it so for long. Until then
        the training losses of the history have the smaller weight too.
    weight_decay : float, default=None
        Decoupled weight decay of the optimiser.
    average_decay : float, default=None
        Share of the averaged weights that stays at each step.
    clip_norm : float, default=None
        Gradients with a larger norm are shortened to it, see Notes; infinity for no limit.
    skip_norm : float, default=None
        Steps whose gradient has a larger norm, or one that is not finite, are left out, see Notes.
        With both limits infinite no step is.
    augmentation : "flip" or callable, default=None
        Change of the training images: "flip" mirrors each left to right with probability 1/2; a
        callable ``augmentation(images, generator)`` gets a tensor (n, C, H, W), NaN where missing,
        and a `torch.Generator`, and returns the like. None leaves them as they are.
    input_noise : float, default=0.0
        Standard deviation of the noise added to the encoder's input; pixels run from 0 to 1.
    mask_rate : float, default=0.0
        Each training image hides a share of its cells from the encoder that is uniform on
        [0, mask_rate].

    See Also
    --------
    WideResNetVAE : A model with one code per image.
    HierarchicalVAE : A model with codes at many layers.

    Notes
    -----
    Norms of gradients are those of the loss in nats per cell, as in [1]_: what is optimised is the
    loss of an image, whose gradients are as many times larger as the image has cells. Adam's steps
    do not depend on that.

    References
    ----------
    .. [1] Child (2021), "Very deep VAEs generalize autoregressive models and can outperform them
       on images", ICLR.

    Examples
    --------
    >>> from sklearn_qavi.generative import Training, WideResNetVAE
    >>> vae = WideResNetVAE(training=Training(learning_rate=1e-3, augmentation="flip"))
    >>> vae.set_params(training__patience=20)
    WideResNetVAE(training=Training(augmentation='flip', learning_rate=0.001, patience=20))
    """

    learning_rate: float | None = None
    learning_rate_warmup: int | None = None
    batch_size: int | None = None
    steps_per_epoch: int | None = None
    patience: int | None = None
    validation_fraction: float = 0.1
    validation_beta: float | None = None
    kl_warmup: int | None = None
    weight_decay: float | None = None
    average_decay: float | None = None
    clip_norm: float | None = None
    skip_norm: float | None = None
    augmentation: Augmentation = None
    input_noise: float = 0.0
    mask_rate: float = 0.0

    _parameter_constraints: ClassVar[dict[str, list[object]]] = {
        "learning_rate": [None, _POSITIVE],
        "learning_rate_warmup": [None, Interval(Integral, 0, None, closed="left")],
        "batch_size": [None, _COUNT],
        "steps_per_epoch": [None, _COUNT],
        "patience": [None, _COUNT],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "validation_beta": [None, _NOT_NEGATIVE],
        "kl_warmup": [None, Interval(Integral, 0, None, closed="left")],
        "weight_decay": [None, _NOT_NEGATIVE],
        "average_decay": [None, Interval(Real, 0, 1, closed="left")],
        "clip_norm": [None, _LIMIT],
        "skip_norm": [None, _LIMIT],
        "augmentation": [None, StrOptions({"flip"}), callable],
        "input_noise": [_NOT_NEGATIVE],
        "mask_rate": [Interval(Real, 0, 1, closed="both")],
    }

    def check(self) -> None:
        """Raise ValueError if an option has a value that it cannot have."""
        validate_parameters(self)

    def filled(self, own: Self) -> Self:
        """Return a copy in which a model's own values stand for None."""
        options = self.get_params().items()
        return replace(self, **{k: getattr(own, k) for k, value in options if value is None})

    def described(self) -> dict[str, object]:
        """Return the options as JSON can hold them; a function is left out."""
        options = {k: None if callable(v) else v for k, v in self.get_params().items()}
        return {k: _INFINITE if v == np.inf else v for k, v in options.items()}

    @classmethod
    def restored(cls, described: Mapping[str, object]) -> Self:
        """Return the options that `described` wrote."""
        options: dict[str, Any] = dict(described)
        infinite = {k for k, value in options.items() if value == _INFINITE}
        return cls(**(options | dict.fromkeys(infinite, np.inf)))
