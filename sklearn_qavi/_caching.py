"""Train a model once for the same data and parameters, whoever asks and from how many processes."""

import hashlib
import math
import pickle
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from numbers import Integral
from pathlib import Path

import joblib
import numpy as np
import torch
from filelock import FileLock
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, clone
from sklearn.utils.validation import check_memory
from torch import nn

from ._files import ensure_folder
from ._typing import Memory

__all__ = ["fit_cached", "taken_from_cache"]


def taken_from_cache(
    model: BaseEstimator, X: NDArray[np.generic], weight: ArrayLike | None
) -> bool:
    """Let a model take what its ``memory`` holds of this training, which is made if need be.

    Parameters
    ----------
    model : estimator
        Has ``memory``; its fitted attributes are set.
    X : ndarray of shape (n_rows, n_features) or (n, n_channels, height, width)
        Training rows, or images.
    weight : ndarray of shape (n_rows,), default=None
        The ``sample_weight``, if any.

    Returns
    -------
    taken : bool
        False if the model has to be trained: without ``memory``, or without a seed that tells one
        training from another.
    """
    if model.memory is None or not isinstance(model.random_state, Integral):
        return False
    fitted = fit_cached(clone(model).set_params(memory=None), X, model.memory, weight)
    learned = {k: v for k, v in vars(fitted).items() if k not in fitted.get_params(deep=False)}
    learned.pop("feature_names_in_", None)
    vars(model).update(learned)
    return True


def fit_cached(
    model: BaseEstimator,
    X: NDArray[np.generic],
    memory: Memory,
    weight: ArrayLike | None = None,
) -> BaseEstimator:
    """Return the model trained on a table, from the cache if it was trained on it before.

    Parameters
    ----------
    model : estimator
        Unfitted; its parameters must be seeded, or every training is another one.
    X : ndarray of shape (n_rows, n_features) or (n, n_channels, height, width)
        Training rows, or images.
    memory : str, joblib.Memory or None
        The cache; None trains.
    weight : ndarray of shape (n_rows,), default=None
        The model's ``sample_weight``, if any.

    Returns
    -------
    fitted : estimator
        The trained model.

    Raises
    ------
    ValueError
        If files cannot be written to the cache's folder.

    Warns
    -----
    UserWarning
        If what the cache holds is no model for this table, or was changed; it is trained again and
        replaced.
    """
    location = memory if isinstance(memory, str) else getattr(memory, "location", None)
    if location is not None:
        ensure_folder(location, "memory")
    cache = check_memory(memory)
    if cache.location is None:
        return _train(model, X, weight, verbose=None)
    verbose = model.get_params().get("verbose")
    question = clone(model)
    if verbose is not None:
        question.set_params(verbose=0)  # how loud a training was does not make it another one
    # what another version trained is not used
    versions = f"sklearn-qavi {version('sklearn-qavi')}, torch {torch.__version__}"
    train = cache.cache(_train_sealed, ignore=["verbose"])
    asked = (question, X, weight, versions)
    with _lock(cache.location, asked):
        fitted = _unsealed(train(*asked, verbose=verbose))
        if not _is_fitted_to(fitted, question, X):
            warnings.warn(
                f"The cache in {cache.location} holds something else than the trained "
                f"{type(model).__name__} of this table; it is trained again.",
                UserWarning,
                stacklevel=5,
            )
            train.call_and_shelve(*asked, verbose=verbose).clear()
            fitted = _unsealed(train(*asked, verbose=verbose))
    if verbose is not None:
        fitted.set_params(verbose=verbose)
    return fitted


def _train(
    model: BaseEstimator,
    X: NDArray[np.generic],
    weight: ArrayLike | None,
    *,
    verbose: int | None,
) -> BaseEstimator:
    if verbose is not None:
        model = clone(model).set_params(verbose=verbose)
    return model.fit(X) if weight is None else model.fit(X, sample_weight=weight)


def _train_sealed(
    model: BaseEstimator,
    X: NDArray[np.generic],
    weight: ArrayLike | None,
    versions: str,
    *,
    verbose: int | None,
) -> tuple[str, bytes]:
    """Return the trained model's pickle behind its checksum, so that a flipped byte is noticed."""
    pickled = pickle.dumps(_train(model, X, weight, verbose=verbose))
    return hashlib.sha256(pickled).hexdigest(), pickled


def _unsealed(entry: object) -> BaseEstimator:
    """Return the model of an entry of the cache; None if the entry is not as it was written."""
    match entry:
        case (str() as seal, bytes() as pickled) if seal == hashlib.sha256(pickled).hexdigest():
            return pickle.loads(pickled)
    return None


@contextmanager
def _lock(location: str | Path, question: object) -> Iterator[None]:
    """Let one process at a time ask the cache this question: the others find it answered."""
    folder = Path(location) / "sklearn_qavi_locks"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / f"{joblib.hash(question)}.lock"):
        yield


def _is_fitted_to(fitted: BaseEstimator, question: object, X: NDArray[np.generic]) -> bool:
    """Return whether this is the question's model, trained on as many columns, and finite."""
    if type(fitted) is not type(question):
        return False
    if getattr(fitted, "n_features_in_", None) != math.prod(X.shape[1:]):
        return False
    members = getattr(fitted, "decoders_", [])
    return bool(members) and all(
        isinstance(member, nn.Module)
        and all(bool(torch.isfinite(p).all()) for p in member.parameters())
        for member in members
    )
