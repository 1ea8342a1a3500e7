"""What fitted models say: coefficients and predictions, with their variances.

Models of scikit-learn and statsmodels are told apart by what they have, so that neither pipelines
nor results of statsmodels need a wrapper. Nothing else of this package is imported.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, clone, is_classifier
from sklearn.linear_model import (
    ARDRegression,
    BayesianRidge,
    LinearRegression,
    LogisticRegression,
    PoissonRegressor,
)
from sklearn.pipeline import Pipeline

from ._typing import Table

__all__ = ["Coefficients", "Subject", "fit_model", "predict_moments", "read_coefficients"]

Array = NDArray[np.float64]
Subject = Literal["mean", "outcome"]
"""What a variance is that of: the expected outcome of a row, or the outcome itself."""


@dataclass(frozen=True)
class Coefficients:
    """Coefficients (p,) of a fitted model, their variances (p,), and names if known.

    ``df`` are the degrees of freedom of the complete analysis, None if unknown. Linear models of
    scikit-learn have the covariance (p, p) as well, and the variance ``noise`` around the mean.
    """

    estimate: Array
    variance: Array
    df: float | None
    names: list[str] | None
    covariance: Array | None = None
    noise: float | None = None


def fit_model(
    model: BaseEstimator | Callable[..., object], table: Table, y: ArrayLike | None
) -> BaseEstimator:
    """Return a clone of an estimator fitted to a table, or what a callable makes of the table."""
    if hasattr(model, "get_params"):
        return clone(model).fit(table, y)
    return model(table) if y is None else model(table, y)


def read_coefficients(fitted: BaseEstimator, table: Table, y: ArrayLike | None) -> Coefficients:
    """Return the coefficients of a model with their variances; the intercept comes first.

    Of a pipeline, they are those of its last step, for the columns which that step was given.

    Raises
    ------
    TypeError
        If the variances are unknown.
    ValueError
        If rows are too few or columns collinear, so that coefficients have no variance.
    """
    if _is_statsmodels(fitted):
        names = list(fitted.params.index) if hasattr(fitted.params, "index") else None
        df = getattr(fitted, "df_resid", None)
        return Coefficients(np.asarray(fitted.params), np.square(fitted.bse), df, names)
    model = _last_step(fitted)
    if not _has_information(model):
        raise TypeError(f"The standard errors of {type(model).__name__} are unknown{_hint(model)}.")
    if y is None or np.ndim(y) != 1:
        raise ValueError("Coefficients are pooled for one target; got y of another dimension.")
    names = [*(["intercept"] if model.fit_intercept else []), *_names(fitted, table)]
    columns = _with_intercept(model, _last_input(fitted, table))
    df = len(columns) - columns.shape[1]
    if df <= 0:
        raise ValueError(
            f"{len(columns)} rows leave no degree of freedom for {columns.shape[1]} coefficients."
        )
    weight, noise = _information_weights(model, fitted, table, y, df)
    information = columns.T @ (columns * weight[:, None])
    if np.linalg.matrix_rank(columns) < columns.shape[1]:
        raise ValueError(
            "Columns are collinear, so that their coefficients are not determined. Drop some, "
            "e.g. one category of each column: OneHotEncoder(drop='first')."
        )
    scale = 1.0 if noise is None else noise
    covariance = np.asarray(scale * np.linalg.inv(information), dtype=np.float64)
    estimate = np.ravel(model.coef_)
    if model.fit_intercept:
        estimate = np.append(np.ravel(model.intercept_), estimate)
    return Coefficients(estimate, np.diag(covariance), float(df), names, covariance, noise)


def predict_moments(
    fitted: BaseEstimator, table: Table, subject: Subject, coefficients: Coefficients | None = None
) -> tuple[Array, Array]:
    """Return predictions of rows, (N,), or probabilities of classes, (N, C), and variances.

    Variances are NaN where the model states none. ``coefficients`` gives the variances of a
    `LinearRegression`. Other regressors are asked with ``return_std``; of what they state, only
    Bayesian linear models say how much is noise, so for others the subject makes no difference.
    """
    if _is_statsmodels(fitted):
        return _statsmodels_moments(fitted, table, subject)
    if is_classifier(fitted):
        mean = np.asarray(fitted.predict_proba(table))
        return mean, np.full_like(mean, np.nan)
    model = _last_step(fitted)
    if "return_std" in inspect.signature(model.predict).parameters:
        mean, std = model.predict(_last_input(fitted, table), return_std=True)
        is_noisy = isinstance(model, BayesianRidge | ARDRegression)
        noise = 1 / model.alpha_ if is_noisy and subject == "mean" else 0.0
        return mean, np.square(std) - noise
    mean = np.asarray(fitted.predict(table), dtype=np.float64)
    if coefficients is None or coefficients.noise is None or coefficients.covariance is None:
        return mean, np.full_like(mean, np.nan)
    columns = _with_intercept(model, _last_input(fitted, table))
    variance = np.einsum("np,pq,nq->n", columns, coefficients.covariance, columns)
    return mean, variance + (coefficients.noise if subject == "outcome" else 0.0)


def _is_statsmodels(fitted: BaseEstimator) -> bool:
    return hasattr(fitted, "params") and hasattr(fitted, "bse")


def _statsmodels_moments(
    fitted: BaseEstimator, table: Table, subject: Subject
) -> tuple[Array, Array]:
    if not hasattr(fitted, "get_prediction"):
        mean = np.asarray(fitted.predict(table))
        return mean, np.full_like(mean, np.nan)
    prediction = fitted.get_prediction(table)
    mean = np.asarray(prediction.predicted)
    error = prediction.se if subject == "mean" else getattr(prediction, "se_obs", None)
    return mean, np.full_like(mean, np.nan) if error is None else np.square(np.asarray(error))


def _last_step(fitted: BaseEstimator) -> BaseEstimator:
    return fitted[-1] if isinstance(fitted, Pipeline) else fitted


def _last_input(fitted: BaseEstimator, table: Table) -> Table:
    """Return the table as it reaches the last step."""
    return fitted[:-1].transform(table) if isinstance(fitted, Pipeline) else table


def _names(fitted: BaseEstimator, table: Table) -> list[str]:
    model = _last_step(fitted)
    names = getattr(model, "feature_names_in_", None)
    if names is None and isinstance(fitted, Pipeline):
        try:
            names = fitted[:-1].get_feature_names_out()
        except AttributeError:  # a step that knows no names
            names = None
    if names is None:
        names = [f"x{j}" for j in range(np.shape(model.coef_)[-1])]
    return [str(name) for name in names]


# Variance of an outcome by its mean, for models whose likelihood has no scale of its own.
_VARIANCES: dict[type, Callable[[Array], Array]] = {
    LogisticRegression: lambda mean: mean * (1 - mean),
    PoissonRegressor: lambda mean: mean,
}


def _has_information(model: BaseEstimator) -> bool:
    """Return whether a fitted model is a maximum of a likelihood that is known here."""
    if type(model) is LinearRegression:
        return not model.positive
    if type(model) is LogisticRegression:
        is_free = model.penalty is None or np.isinf(model.C)
        return is_free and model.class_weight is None and len(model.classes_) == 2
    return type(model) is PoissonRegressor and model.alpha == 0


def _hint(model: BaseEstimator) -> str:
    if type(model) is LogisticRegression:
        return " with a penalty, class weights or several classes (C=np.inf takes the penalty away)"
    return " with a penalty (alpha=0 takes it away)" if type(model) is PoissonRegressor else ""


def _with_intercept(model: BaseEstimator, columns: Table) -> Array:
    columns = columns.toarray() if hasattr(columns, "toarray") else columns
    X = np.asarray(columns, dtype=np.float64)
    return np.column_stack([np.ones(len(X)), X]) if model.fit_intercept else X


def _information_weights(
    model: BaseEstimator, fitted: BaseEstimator, table: Table, y: ArrayLike | None, df: int
) -> tuple[Array, float | None]:
    """Return the weight of each row in the information, and the variance of the noise if any."""
    if type(model) is LinearRegression:
        residual = np.asarray(y, dtype=np.float64) - fitted.predict(table)
        return np.ones(len(residual)), float(residual @ residual / df)
    is_logistic = type(model) is LogisticRegression
    mean = fitted.predict_proba(table)[:, 1] if is_logistic else fitted.predict(table)
    return _VARIANCES[type(model)](mean), None
