"""Factor analysis of a table with missing cells: the VAE whose networks are linear, solved."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["FactorAnalyser", "fit_factor_analyser"]

Array = NDArray[np.float64]

_MAX_ITER = 60
_TOL = 1e-4  # nats per row
_MIN_NOISE = 0.01  # share of a score's variance: a column may copy another


@dataclass(frozen=True)
class FactorAnalyser:
    """A linear-Gaussian model of F scores.

    Parameters
    ----------
    loadings : ndarray of shape (F, L)
        Orthogonal in units of the noise, so that codes are independent given a complete row.
    mean : ndarray of shape (F,)
        Means of the scores.
    noise : ndarray of shape (F,)
        Variances of the noise.
    """

    loadings: Array
    mean: Array
    noise: Array

    def part(self, first: int, last: int) -> "FactorAnalyser":
        """Return the model of some of the scores."""
        mine = slice(first, last)
        return FactorAnalyser(self.loadings[mine], self.mean[mine], self.noise[mine])

    def infer(self, scores: Array) -> tuple[Array, Array]:
        """Return mean (N, L) and covariance (N, L, L) of the codes given scores, NaN if missing."""
        mean, covariance, _ = self.explain(_Patterns.of(scores))
        return mean, covariance

    def log_prob(self, scores: Array) -> Array:
        """Return the log density of the observed scores of each row in nats, (N,)."""
        return self.explain(_Patterns.of(scores))[2]

    def explain(self, data: "_Patterns") -> tuple[Array, Array, Array]:
        """Return mean (N, L) and covariance (N, L, L) of the codes, and log densities (N,)."""
        precision = np.eye(self.loadings.shape[1]) + self._outer(data.patterns / self.noise)
        covariance = np.asarray(np.linalg.inv(precision), dtype=np.float64)
        centred = np.where(data.observed, data.filled - self.mean, 0.0)
        projected = (centred / self.noise) @ self.loadings
        of_row = covariance[data.place]
        mean: Array = (of_row @ projected[:, :, None])[:, :, 0]
        log_noise = data.patterns @ np.log(2 * np.pi * self.noise)
        by_pattern = log_noise + np.linalg.slogdet(precision)[1]
        squared = (centred**2 / self.noise).sum(axis=1) - (projected * mean).sum(axis=1)
        return mean, of_row, -0.5 * (by_pattern[data.place] + squared)

    def residuals(self, scores: Array) -> Array:
        """Return each score less what the row's others predict, in units of its spread, (N, F)."""
        mean, covariance = self.infer(scores)
        fitted = self.mean + mean @ self.loadings.T
        leverage = np.einsum("fi,nij,fj->nf", self.loadings, covariance, self.loadings)
        standardized: Array = (scores - fitted) / np.sqrt(
            self.noise * np.maximum(1.0 - leverage / self.noise, 1e-6)
        )
        return standardized

    def _outer(self, weight: Array) -> Array:
        """Return sum_f weight_f w_f w_f' for each line of weights (K, F)."""
        n_latent = self.loadings.shape[1]
        products = (self.loadings[:, :, None] * self.loadings[:, None, :]).reshape(-1, n_latent**2)
        return (weight @ products).reshape(-1, n_latent, n_latent)


@dataclass(frozen=True)
class _Patterns:
    """Scores (N, F), and which patterns of missing ones there are, (K, F), at which rows."""

    observed: NDArray[np.bool_]
    filled: Array
    patterns: Array
    place: NDArray[np.intp]

    @classmethod
    def of(cls, scores: Array) -> "_Patterns":
        observed = ~np.isnan(scores)
        patterns, place = np.unique(observed, axis=0, return_inverse=True)
        filled = np.where(observed, scores, 0.0)
        return cls(observed, filled, patterns.astype(np.float64), place.ravel())


def fit_factor_analyser(scores: Array, weight: Array, latent_dim: int) -> FactorAnalyser:
    """Fit a factor analyser to scores with missing cells by expectation and maximisation.

    Parameters
    ----------
    scores : ndarray of shape (N, F)
        NaN where missing.
    weight : ndarray of shape (N,)
        How much each row counts.
    latent_dim : int
        Size L of the code; loadings beyond the number of scores are zero.

    Returns
    -------
    model : FactorAnalyser
        Rotated to its principal axes.

    Notes
    -----
    Loadings have a prior that counts as one row at zero. Each round ends with the step of the
    parameter-expanded algorithm that gives codes a free covariance [2]_, which removes most of
    the slow last rounds.

    References
    ----------
    .. [1] Rubin, Thayer (1982), "EM algorithms for ML factor analysis".
    .. [2] Liu, Rubin, Wu (1998), "Parameter expansion to accelerate EM: the PX-EM algorithm".
    """
    n_latent = min(latent_dim, scores.shape[1])
    data = _Patterns.of(scores)
    filled = data.filled
    share = weight[:, None] * data.observed
    count = np.maximum(share.sum(axis=0), 1e-12)
    mean = (share * filled).sum(axis=0) / count
    variance = (share * (filled - mean) ** 2).sum(axis=0) / count
    floor = _MIN_NOISE * np.maximum(variance, 1e-6)
    model = _principal_start(np.where(data.observed, filled - mean, 0.0), mean, variance, n_latent)
    last = -np.inf
    for _ in range(_MAX_ITER):
        code, covariance, log_prob = model.explain(data)
        bound = float(weight @ log_prob / weight.sum())
        if bound - last < _TOL:
            break
        last = bound
        model = _maximise(code, covariance, filled, share, floor)
    return _rotated(model, latent_dim)


def _principal_start(centred: Array, mean: Array, variance: Array, n_latent: int) -> FactorAnalyser:
    scale = np.sqrt(np.maximum(variance, 1e-6))
    _, singular, axes = np.linalg.svd(centred / scale, full_matrices=False)
    size = np.sqrt(0.5) * singular[:n_latent] / np.sqrt(len(centred))
    loadings = np.zeros((len(mean), n_latent))
    loadings[:, : len(size)] = scale[:, None] * axes[:n_latent].T * size
    return FactorAnalyser(loadings, mean, 0.5 * scale**2)


def _maximise(
    code: Array, covariance: Array, filled: Array, share: Array, floor: Array
) -> FactorAnalyser:
    """Return the model that fits the moments of the codes best."""
    n_latent = code.shape[1]
    extended = np.column_stack([code, np.ones(len(code))])
    second = extended[:, :, None] * extended[:, None, :]
    second[:, :n_latent, :n_latent] += covariance
    gram = (share.T @ second.reshape(len(code), -1)).reshape(-1, n_latent + 1, n_latent + 1)
    prior = np.diag([1.0] * n_latent + [1e-9])
    cross = (share * filled).T @ extended
    solution = np.linalg.solve(gram + prior, cross[..., None])[..., 0]
    fitted = np.einsum("fi,fij,fj->f", solution, gram, solution)
    residual = (share * filled**2).sum(axis=0) - 2 * (solution * cross).sum(axis=1) + fitted
    noise = np.maximum((residual + 2 * floor) / (share.sum(axis=0) + 2), floor)
    total = share.max(axis=1)
    spread = np.tensordot(total, second[:, :n_latent, :n_latent], axes=1) / total.sum()
    loadings = solution[:, :n_latent] @ np.linalg.cholesky(spread)
    return FactorAnalyser(loadings, solution[:, n_latent], noise)


def _rotated(model: FactorAnalyser, latent_dim: int) -> FactorAnalyser:
    scaled = model.loadings / np.sqrt(model.noise)[:, None]
    _, _, axes = np.linalg.svd(scaled, full_matrices=False)
    loadings = np.zeros((len(model.mean), latent_dim))
    loadings[:, : axes.shape[0]] = model.loadings @ axes.T
    return FactorAnalyser(loadings, model.mean, model.noise)
