"""Scores of sets of completed images: how their features differ from those of real images."""

import warnings
from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.svm import LinearSVC

from .._checks import plain
from ._extractors import Extractor, extract_features


def frechet_distance(
    real: ArrayLike,
    completed: ArrayLike,
    *,
    extractor: Extractor | None = None,
    batch_size: int = 256,
) -> float:
    """Fréchet distance between the features of two sets of images; FID with Inception's.

    Parameters
    ----------
    real : array-like of shape (n_real, F), or images of shape (n_real, ...)
        Features of real images, or the images if an extractor is given. Two at least.
    completed : array-like of shape (n_completed, F), or images of shape (n_completed, ...)
        The same of completed images, not necessarily as many.
    extractor : torch.nn.Module or callable, default=None
        From images to features, see `extract_features`; `load_inception` makes it the FID. None
        takes ``real`` and ``completed`` for features.
    batch_size : int, default=256
        Images that the extractor sees at a time.

    Returns
    -------
    distance : float
        In the squared unit of the features, 0 or more. Lower is better.

    Raises
    ------
    ValueError
        If the sets have different numbers of features, fewer than two images, or values that are
        not finite.

    See Also
    --------
    u_ids : Whether a linear classifier tells the sets apart.
    extract_features : Compute features once for several scores.

    Notes
    -----
    ``||m - m'||^2 + tr(S + S' - 2 (S S')^(1/2))`` with means m and covariances S of the features
    ([1]_): the squared Wasserstein distance of two normal distributions. The trace of the root is
    the sum of the singular values of ``A A'^T``, with A the centred features over the root of
    ``n - 1``, so that no covariance is formed and fewer images than features do no harm.

    The distance of two finite samples of the same images is not 0: it falls as one over their
    number. Compare it for equal numbers only.

    References
    ----------
    .. [1] Heusel, Ramsauer, Unterthiner, Nessler, Hochreiter (2017), "GANs trained by a two
       time-scale update rule converge to a local Nash equilibrium", NeurIPS.

    Examples
    --------
    >>> from sklearn_qavi.metrics import frechet_distance
    >>> frechet_distance([[0.0, 0.0], [2.0, 2.0]], [[3.0, 0.0], [5.0, 2.0]])
    9.0
    """
    real, completed = _two_sets(real, completed, extractor, batch_size)
    shift = ((real.mean(axis=0) - completed.mean(axis=0)) ** 2).sum()
    a, b = _covariance_root(real), _covariance_root(completed)
    common = np.linalg.svd(a @ b.T, compute_uv=False).sum()
    return max(0.0, float(shift + (a**2).sum() + (b**2).sum() - 2 * common))


def u_ids(
    real: ArrayLike,
    completed: ArrayLike,
    *,
    extractor: Extractor | None = None,
    cv: int | None = None,
    random_state: int = 0,
    batch_size: int = 256,
) -> float:
    """Unpaired inception discriminative score: how often a linear classifier errs.

    Parameters
    ----------
    real : array-like of shape (n_real, F), or images of shape (n_real, ...)
        Features of real images, or the images if an extractor is given.
    completed : array-like of shape (n_completed, F), or images of shape (n_completed, ...)
        The same of completed images. Where there are as many, row i is taken to be the completion
        of real image i; that matters with ``cv`` only.
    extractor : torch.nn.Module or callable, default=None
        From images to features, see `extract_features`. None takes ``real`` and ``completed`` for
        features.
    cv : int, default=None
        None scores the images that the classifier was trained on, as in the definition. A number
        of folds scores each image by a classifier that saw neither it nor its counterpart, which
        depends less on the number of images.
    random_state : int, default=0
        Seed of the division into folds.
    batch_size : int, default=256
        Images that the extractor sees at a time.

    Returns
    -------
    score : float
        From 0, told apart, to 0.5, not better than chance; with ``cv`` chance may go a little
        beyond. Higher is better.

    Raises
    ------
    ValueError
        If the sets have different numbers of features, fewer images than two or than folds, or
        values that are not finite.

    Warns
    -----
    UserWarning
        If ``cv=None`` and the images are so few that a linear classifier separates almost any.

    See Also
    --------
    p_ids : Of pairs of a real image and its completion.
    frechet_distance : Distance of the features' means and covariances.

    Notes
    -----
    A linear support vector machine f, `sklearn.svm.LinearSVC` of the features as they are, learns
    to give positive values to real images. The score of [1]_ is
    ``P(f(x) < 0) / 2 + P(f(x') > 0) / 2`` over the images x and x' it learned from; a value of 0
    counts one half. F features separate almost any ``F + 1`` images, and any random division of
    ``2 (F + 1)`` of them with probability one half ([2]_), so for few images the score is too low,
    down to 0 whatever they show. That is so for 1,000 images and Inception's 2,048 features.

    With ``cv=k`` image i of each set is in fold ``permutation[i] mod k``; f is trained on the
    other folds and judges this one. A real image and its completion, which resemble each other,
    are in the same fold. This score is 0.5 at chance for any number of images; where there is a
    difference, few images teach f little of it, and the score is too high. What very many images
    would give thus lies between the two, on average, and a wide gap between them says that there
    are too few.

    References
    ----------
    .. [1] Zhao, Cui, Sheng, Dong, Liang, Chang, Xu (2021), "Large scale image completion via
       co-modulated generative adversarial networks", ICLR.
    .. [2] Cover (1965), "Geometrical and statistical properties of systems of linear inequalities
       with applications in pattern recognition", IEEE Transactions on Electronic Computers.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_qavi.metrics import u_ids
    >>> rng = np.random.default_rng(0)
    >>> real, good = rng.normal(size=(2, 500, 8))
    >>> round(u_ids(real, good, cv=10), 1), u_ids(real, good + 9.0, cv=10)
    (0.5, 0.0)
    """
    real, completed = _two_sets(real, completed, extractor, batch_size)
    wrong_real, wrong_completed = np.empty(len(real)), np.empty(len(completed))
    for judge, r, c in _classifiers(real, completed, cv, random_state):
        # 0 where f is on the right side, 1 on the wrong one, 1/2 at zero
        wrong_real[r] = (1 - np.sign(judge.decision_function(real[r]))) / 2
        wrong_completed[c] = (1 + np.sign(judge.decision_function(completed[c]))) / 2
    return float(wrong_real.mean() + wrong_completed.mean()) / 2


def p_ids(
    real: ArrayLike,
    completed: ArrayLike,
    *,
    extractor: Extractor | None = None,
    cv: int | None = None,
    random_state: int = 0,
    batch_size: int = 256,
) -> float:
    """Paired inception discriminative score: share of completions that look more real than truth.

    Parameters
    ----------
    real : array-like of shape (n, F), or images of shape (n, ...)
        Features of real images, or the images if an extractor is given.
    completed : array-like of shape (n, F), or images of shape (n, ...)
        The same of their completions, in the same order.
    extractor : torch.nn.Module or callable, default=None
        From images to features, see `extract_features`. None takes ``real`` and ``completed`` for
        features.
    cv : int, default=None
        None scores the images that the classifier was trained on, as in the definition. A number
        of folds scores each pair by a classifier that did not see it, which depends less on the
        number of images.
    random_state : int, default=0
        Seed of the division into folds.
    batch_size : int, default=256
        Images that the extractor sees at a time.

    Returns
    -------
    score : float
        From 0, every real image looks more real than its completion, to 0.5, not better than
        chance; completions that look more typical than the truth may go beyond. Higher is better.

    Raises
    ------
    ValueError
        If the sets differ in shape, have fewer images than two or than folds, or values that are
        not finite.

    Warns
    -----
    UserWarning
        If ``cv=None`` and the images are so few that a linear classifier separates almost any.

    See Also
    --------
    u_ids : Of the two sets, without pairs; its notes say what ``cv`` does.

    Notes
    -----
    ``P(f(x') > f(x))`` over pairs of an image x and its completion x', with the f of `u_ids`
    ([1]_). A tie counts one half, so that completions equal to the truth score 0.5; in the
    definition it counts nothing.

    References
    ----------
    .. [1] Zhao, Cui, Sheng, Dong, Liang, Chang, Xu (2021), "Large scale image completion via
       co-modulated generative adversarial networks", ICLR.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_qavi.metrics import p_ids
    >>> real = np.random.default_rng(0).normal(size=(500, 8))
    >>> p_ids(real, real), p_ids(real, real - 0.1, cv=10)
    (0.5, 0.0)
    """
    real, completed = _two_sets(real, completed, extractor, batch_size)
    if len(real) != len(completed):
        raise ValueError(
            f"P-IDS compares each image with its completion, but there are {len(real)} real images "
            f"and {len(completed)} completed ones; u_ids needs no pairs."
        )
    gap = np.empty(len(real))
    for judge, pairs, _ in _classifiers(real, completed, cv, random_state):
        # of differences, so that equal images tie exactly
        gap[pairs] = (completed[pairs] - real[pairs]) @ judge.coef_[0]
    return float((1 + np.sign(gap)).mean()) / 2


def _classifiers(
    real: NDArray[np.float64], completed: NDArray[np.float64], cv: int | None, seed: int
) -> Iterator[tuple[LinearSVC, NDArray[np.intp], NDArray[np.intp]]]:
    """Yield classifiers, and which real and which completed images each one judges."""
    if cv is None:
        _warn_of_few(len(real) + len(completed), real.shape[1])
        yield _fitted(real, completed), np.arange(len(real)), np.arange(len(completed))
        return
    fewest = min(len(real), len(completed))
    if not 2 <= cv <= fewest:
        raise ValueError(
            f"cv must be None or a number of folds from 2 to that of the images, {fewest}, got "
            f"{plain(cv)}."
        )
    r, c = _folds(len(real), cv, seed), _folds(len(completed), cv, seed)
    for fold in range(cv):
        judge = _fitted(real[r != fold], completed[c != fold])
        yield judge, np.flatnonzero(r == fold), np.flatnonzero(c == fold)


def _fitted(real: NDArray[np.float64], completed: NDArray[np.float64]) -> LinearSVC:
    is_real = np.repeat([1, 0], [len(real), len(completed)])
    features = np.concatenate([real, completed])
    # weights are 1 for sets of the same size; the primal draws nothing, the dual its order;
    # solved so far that rounding, which differs between processors, turns no sign
    judge = LinearSVC(dual=False, tol=1e-6, class_weight="balanced", random_state=0)
    if len(features) < features.shape[1]:
        # the same optimum in a tenth of the time, unless pairs are so alike that it is not reached
        dual = clone(judge).set_params(dual=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            dual.fit(features, is_real)
        if dual.n_iter_ < dual.max_iter:
            return dual
    return judge.fit(features, is_real)


def _folds(n: int, cv: int, seed: int) -> NDArray[np.intp]:
    """Return the fold of each of n images: the same for sets of the same size."""
    return np.random.default_rng(seed).permutation(n) % cv


def _warn_of_few(n_images: int, n_features: int) -> None:
    capacity = 2 * (n_features + 1)
    if n_images <= capacity:
        warnings.warn(
            f"{n_images} images are few for {n_features} features: a linear classifier separates "
            f"up to about {capacity} of them whatever they show, so this score is low for any "
            "completions. Pass cv=10 to score images that the classifier has not seen.",
            UserWarning,
            stacklevel=4,
        )


def _covariance_root(features: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return R with R^T R = covariance, of as few rows as possible."""
    centred = (features - features.mean(axis=0)) / np.sqrt(len(features) - 1)
    if len(centred) <= centred.shape[1]:
        return np.asarray(centred)
    return np.asarray(np.linalg.qr(centred, mode="r"))


def _two_sets(
    real: ArrayLike,
    completed: ArrayLike,
    extractor: Extractor | None,
    batch_size: int,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the features (n, F) and (m, F) of both sets."""
    sets = {"real": real, "completed": completed}
    if extractor is not None:
        sets = {
            name: extract_features(images, extractor, batch_size=batch_size)
            for name, images in sets.items()
        }
    a, b = (_as_features(name, values) for name, values in sets.items())
    if a.shape[1] != b.shape[1]:
        raise ValueError(
            f"real has {a.shape[1]} features, but completed has {b.shape[1]}; both must come from "
            "the same extractor."
        )
    return a, b


def _as_features(name: str, features: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(features, dtype=np.float64)
    if array.ndim != 2:
        raise ValueError(
            f"{name} must be features (n_images, F), got shape {array.shape}; for images pass an "
            "extractor as well."
        )
    if len(array) < 2 or array.shape[1] == 0:
        raise ValueError(
            f"{name} must have at least two images and one feature, got shape {array.shape}."
        )
    if not np.isfinite(array).all():
        bad = int((~np.isfinite(array)).any(axis=1).sum())
        raise ValueError(
            f"{name} has NaN or infinite features in {bad} of {len(array)} images; look at the "
            "extractor and its input."
        )
    return array
