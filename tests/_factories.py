"""Small models, estimators and data of many tests; how long they train is said here alone.

``tiny`` ones are hardly trained, for what holds whatever was learned. ``quick`` ones have learned
how columns or pixels go together. Options are those of the class; besides, models of images take
those of `Training`, ``rounds`` (from one look at the validation cells to the next), ``steps`` per
round, and ``patience`` in rounds.
"""

from dataclasses import fields
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits, load_iris

from sklearn_qavi import QAVIImputer, QAVIInpainter
from sklearn_qavi.generative import HierarchicalVAE, TabularVAE, Training, WideResNetVAE

Array = NDArray[np.float64]

LAYERS = {"encoder_layers": "8x1,8d2,4x1,4d4,1x1", "decoder_layers": "1x1,4m1,8m4", "widths": {}}


def training(
    rounds: int | None = None, steps: int | None = None, patience: int | None = None
) -> dict[str, int]:
    """Return the parameters of a method for a training this long, without those not named."""
    named = {"max_epochs": rounds, "steps_per_epoch": steps, "patience": patience}
    return {name: value for name, value in named.items() if value is not None}


def training_of_images(**length: int) -> dict[str, int]:
    """Return the same for `set_params` of an image model."""
    of_model = {"max_epochs": "max_epochs"}
    named = training(**length).items()
    return {of_model.get(name, f"training__{name}"): value for name, value in named}


def _with_training(options: dict[str, Any]) -> dict[str, Any]:
    """Put what is meant in place of ``rounds``, ``steps`` and options of `Training`."""
    length = {name: options.pop(name, None) for name in ("rounds", "steps", "patience")}
    options = {**options, **training(**length)}
    names = {field.name for field in fields(Training)} & set(options)
    nested = Training(**{name: options.pop(name) for name in names})
    return {**options, "training": nested}


def tiny_table_model(**options: Any) -> TabularVAE:
    """Return one small decoder of tables, trained for two steps."""
    shape = {"latent_dim": 2, "hidden_layer_sizes": (8,), "n_decoders": 1}
    return TabularVAE(**{**shape, "likelihood": "student_t", "max_steps": 2, **options})


def quick_table_model(**options: Any) -> TabularVAE:
    """Return two small decoders of tables that start from linear relations, and learn a little."""
    shape = {"latent_dim": 3, "hidden_layer_sizes": (32,), "n_decoders": 2}
    start = {"histogram_smoothing": 0.0, "linear_start": True}
    return TabularVAE(**{**shape, **start, "max_steps": 120, **options})


def tiny_imputer(**options: Any) -> QAVIImputer:
    """Return an imputer with a model that is hardly trained, and few steps of inference."""
    options = {"generative_model": tiny_table_model(), "max_iter": 4, **options}
    return QAVIImputer(**{"random_state": 0, **options})


def quick_imputer(**options: Any) -> QAVIImputer:
    """Return an imputer with a model that has learned a little."""
    options = {"generative_model": quick_table_model(), "max_iter": 60, **options}
    return QAVIImputer(**{"random_state": 0, **options})


def tiny_image_model(**options: Any) -> WideResNetVAE:
    """Return the smallest network of images, trained for a step; it takes images of one pixel."""
    shape = {"latent_dim": 2, "n_levels": 1, "width": 2, "patch_size": 1, "n_decoders": 1}
    cheap = {**shape, "likelihood": "continuous_bernoulli"}
    return WideResNetVAE(**_with_training({**cheap, "rounds": 1, "steps": 1, **options}))


def quick_image_model(**options: Any) -> WideResNetVAE:
    """Return a small network of images that learns a little."""
    shape = {"latent_dim": 4, "width": 8, "n_decoders": 1, "batch_size": 32, "random_state": 0}
    cheap = {**shape, "likelihood": "continuous_bernoulli"}
    return WideResNetVAE(**_with_training({**cheap, "rounds": 2, "steps": 20, **options}))


def tiny_layers(**options: Any) -> HierarchicalVAE:
    """Return a hierarchical model of images of 8 x 8 pixels, trained for a step."""
    shape = {**LAYERS, "width": 4, "random_state": 0}
    return HierarchicalVAE(**_with_training({**shape, "rounds": 1, "steps": 1, **options}))


def quick_layers(**options: Any) -> HierarchicalVAE:
    """Return a hierarchical model of images of 8 x 8 pixels that learns a little."""
    shape = {**LAYERS, "width": 16, "random_state": 0}
    length = {"rounds": 4, "steps": 20, "patience": 4}
    return HierarchicalVAE(**_with_training({**shape, **length, **options}))


def train_options(steps: int) -> list[str]:
    """Return options of the training program: a small hierarchical model of images in colour."""
    params = {**LAYERS, "width": 8, **training_of_images(steps=steps)}
    options = [f"{name}={value}" for name, value in params.items()]
    return ["--preset", "cifar10", "--device", "cpu", *(o for p in options for o in ("--param", p))]


def tiny_inpainter(**options: Any) -> QAVIInpainter:
    """Return an inpainter with a network that is hardly trained, and few steps of inference."""
    options = {"generative_model": tiny_image_model(), "max_iter": 2, **options}
    return QAVIInpainter(**{"random_state": 0, **options})


def with_missing(X: Array, rate: float = 0.3, seed: int = 0) -> Array:
    """Return a copy in which each cell is missing with probability ``rate``."""
    missing = np.random.default_rng(seed).random(X.shape) < rate
    return np.where(missing, np.nan, X)


def iris() -> Array:
    """Return the table of 150 flowers and four columns."""
    return load_iris().data


def digits(start: int = 0, stop: int | None = None) -> Array:
    """Return handwritten digits of 8 x 8 pixels from 0 to 1."""
    return load_digits().images[start:stop] / 16.0
