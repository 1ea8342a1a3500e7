"""Rubin's rules: one answer, with its uncertainty, from the analyses of several completed tables.

A leaf: it works on numbers and fitted models, and imports nothing else of this package.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from sklearn.base import clone
from sklearn.linear_model import LinearRegression

__all__ = ["PooledEstimate", "fit_pooled", "pool"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class PooledEstimate:
    """Estimates pooled over completed tables.

    Parameters
    ----------
    estimate : ndarray of shape (p,)
        Mean over the tables, in the unit of the quantity, as everything below.
    within : ndarray of shape (p,)
        Mean of the variances of the single analyses.
    between : ndarray of shape (p,)
        Variance of the estimates between tables.
    n_imputations : int
        Number of tables m.
    df_complete : float
        Degrees of freedom that the analysis of a complete table has; infinite if unknown.
    names : tuple of str
        Names of the quantities.

    Examples
    --------
    >>> from sklearn_qavi.pooling import pool
    >>> pooled = pool([1.0, 1.2, 1.1], [0.04, 0.05, 0.03])
    >>> pooled.estimate.round(3), pooled.standard_error.round(3)
    (array([1.1]), array([0.231]))
    """

    estimate: Array
    within: Array
    between: Array
    n_imputations: int
    df_complete: float
    names: tuple[str, ...]

    @property
    def variance(self) -> Array:
        """Total variance ``within + (1 + 1/m) between``, (p,)."""
        return self.within + (1 + 1 / self.n_imputations) * self.between

    @property
    def standard_error(self) -> Array:
        """Square root of the total variance, (p,)."""
        return np.sqrt(self.variance)

    @property
    def share_due_to_missing(self) -> Array:
        """Share lambda of the total variance that is due to the missing cells, (p,)."""
        spread = (1 + 1 / self.n_imputations) * self.between
        return np.divide(spread, self.variance, out=np.zeros_like(spread), where=self.variance > 0)

    @property
    def relative_increase(self) -> Array:
        """Relative increase r of the variance that is due to the missing cells, (p,)."""
        spread = (1 + 1 / self.n_imputations) * self.between
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(spread > 0, spread / self.within, 0.0)

    @property
    def df(self) -> Array:
        """Degrees of freedom of the t distribution of the estimate, (p,).

        Those of Barnard and Rubin (1999), which never exceed ``df_complete``; with infinite
        ``df_complete`` those of Rubin (1987).
        """
        share = self.share_due_to_missing
        with np.errstate(divide="ignore"):
            old = np.where(share > 0, (self.n_imputations - 1) / np.square(share), np.inf)
        if np.isinf(self.df_complete):
            return old
        complete = self.df_complete
        observed = (complete + 1) / (complete + 3) * complete * (1 - share)
        with np.errstate(divide="ignore"):
            return 1 / (1 / old + 1 / observed)

    @property
    def fraction_of_missing_information(self) -> Array:
        """Fraction of the information on the quantity that is missing, (p,)."""
        r = self.relative_increase
        with np.errstate(invalid="ignore"):
            return np.where(np.isinf(r), 1.0, (r + 2 / (self.df + 3)) / (r + 1))

    def interval(self, alpha: float = 0.05) -> tuple[Array, Array]:
        """Return the limits of central confidence intervals.

        Parameters
        ----------
        alpha : float, default=0.05
            Mass outside; 0.05 gives 95% intervals.

        Returns
        -------
        lower, upper : ndarray of shape (p,)
            In the unit of the quantity.

        Raises
        ------
        ValueError
            If alpha is not between 0 and 1.
        """
        if not 0 < alpha < 1:
            raise ValueError(f"alpha must be a number between 0 and 1, got {alpha!r}.")
        reach = stats.t.ppf(1 - alpha / 2, self.df) * self.standard_error
        return self.estimate - reach, self.estimate + reach

    def summary(self, alpha: float = 0.05) -> pd.DataFrame:
        """Return estimate, standard error, t, df, p value, interval and fmi, one line a quantity.

        Parameters
        ----------
        alpha : float, default=0.05
            Mass outside of the intervals.

        Returns
        -------
        table : DataFrame of shape (p, 8)
            The p value is that of a two-sided test against 0.
        """
        lower, upper = self.interval(alpha)
        with np.errstate(divide="ignore", invalid="ignore"):
            t = self.estimate / self.standard_error
        columns = {
            "estimate": self.estimate,
            "standard_error": self.standard_error,
            "t": t,
            "df": self.df,
            "p_value": 2 * stats.t.sf(np.abs(t), self.df),
            "lower": lower,
            "upper": upper,
            "fmi": self.fraction_of_missing_information,
        }
        return pd.DataFrame(columns, index=list(self.names))


def pool(
    estimates: ArrayLike,
    variances: ArrayLike,
    *,
    df_complete: float | None = None,
    names: Iterable[str] | None = None,
) -> PooledEstimate:
    """Pool estimates over completed tables by Rubin's rules.

    Parameters
    ----------
    estimates : array-like of shape (m,) or (m, p)
        Estimates from m completed tables.
    variances : array-like of the same shape
        Their squared standard errors.
    df_complete : float, default=None
        Degrees of freedom that the analysis of a complete table has, e.g. rows less coefficients;
        None means many.
    names : iterable of str, default=None
        Names of the quantities; None takes ``x0``, ``x1``, ...

    Returns
    -------
    pooled : PooledEstimate
        With standard errors, intervals and the fraction of missing information.

    Raises
    ------
    ValueError
        If there are fewer than two tables, shapes differ, or a number is not finite, a variance
        negative or ``df_complete`` not positive.

    References
    ----------
    .. [1] Rubin (1987), "Multiple Imputation for Nonresponse in Surveys", section 3.3.
    .. [2] Barnard, Rubin (1999), "Small-sample degrees of freedom with multiple imputation".

    Examples
    --------
    >>> from sklearn_qavi.pooling import pool
    >>> pooled = pool([[1.0], [1.2], [1.1]], [[0.04], [0.05], [0.03]], df_complete=50)
    >>> pooled.summary().round(2)[["estimate", "standard_error", "df", "fmi"]]
        estimate  standard_error     df   fmi
    x0       1.1            0.23  16.96  0.33
    """
    estimate, variance = (_as_columns(a) for a in (estimates, variances))
    if estimate.shape != variance.shape:
        raise ValueError(
            f"estimates have shape {estimate.shape}, variances {variance.shape}; pass a variance "
            "for each estimate: the squared standard error."
        )
    m = len(estimate)
    if m < 2:
        raise ValueError(
            f"Pooling needs the estimates of at least two completed tables, got {m}. Draw more, "
            "e.g. imputer.sample(X, n=20)."
        )
    if not (np.isfinite(estimate).all() and np.isfinite(variance).all()):
        raise ValueError("An estimate or a variance is not finite: did a model fail on a table?")
    if (variance < 0).any():
        raise ValueError("A variance is negative; pass squared standard errors.")
    if df_complete is not None and not df_complete > 0:
        raise ValueError(f"df_complete must be greater than 0, got {df_complete!r}.")
    names = tuple(names) if names is not None else tuple(f"x{i}" for i in range(estimate.shape[1]))
    if len(names) != estimate.shape[1]:
        raise ValueError(f"{len(names)} names were given for {estimate.shape[1]} estimates.")
    return PooledEstimate(
        estimate.mean(axis=0),
        variance.mean(axis=0),
        estimate.var(axis=0, ddof=1),
        m,
        np.inf if df_complete is None else float(df_complete),
        names,
    )


def fit_pooled(
    model: Any,
    tables: Iterable[Any],
    y: Any = None,
    *,
    extract: Callable[[Any, Any, Any], tuple[ArrayLike, ArrayLike]] | None = None,
) -> PooledEstimate:
    """Fit a model to each completed table and pool its coefficients.

    Parameters
    ----------
    model : callable or estimator
        A function ``model(table)`` (``model(table, y)`` if y is given) that returns a fitted
        model: results of statsmodels (anything with ``params``, ``bse`` and ``df_resid``), or
        what ``extract`` understands. Or a scikit-learn estimator, which is cloned and fitted to
        each table: `LinearRegression` is understood, others need ``extract``.
    tables : iterable
        Completed tables, e.g. ``imputer.sample(X, n=20)`` or ``imputer.iter_samples(X, n=20)``;
        read one by one.
    y : array-like of shape (n_rows,), default=None
        Target, the same for each table.
    extract : callable, default=None
        ``extract(fitted, table, y)`` returns estimates (p,) and their variances (p,).

    Returns
    -------
    pooled : PooledEstimate
        The coefficients; of `LinearRegression` the intercept comes first.

    Raises
    ------
    ValueError
        If there are fewer than two tables.
    TypeError
        If the standard errors of the fitted model are unknown, so that ``extract`` is needed.

    See Also
    --------
    pool : Pools numbers that you computed yourself.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import LinearRegression
    >>> from sklearn_qavi.pooling import fit_pooled
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(100, 2))
    >>> y = X @ [1.0, 2.0] + rng.normal(size=100)
    >>> tables = [X + 0.1 * rng.normal(size=X.shape) for _ in range(5)]
    >>> fit_pooled(LinearRegression(), tables, y).summary().shape
    (3, 8)
    """
    estimates, variances, df, names = [], [], None, None
    for table in tables:
        if hasattr(model, "get_params"):
            fitted = clone(model).fit(table, y)
        else:
            fitted = model(table) if y is None else model(table, y)
        if extract is not None:
            estimate, variance = extract(fitted, table, y)
        elif hasattr(fitted, "params") and hasattr(fitted, "bse"):
            estimate, variance = fitted.params, np.square(fitted.bse)
            names = list(fitted.params.index) if hasattr(fitted.params, "index") else None
            df = getattr(fitted, "df_resid", None)
        elif type(fitted) is LinearRegression:
            estimate, variance, df = _least_squares(fitted, table, y)
            columns = getattr(fitted, "feature_names_in_", None)
            if columns is None:
                columns = [f"x{j}" for j in range(len(fitted.coef_))]
            names = [*(["intercept"] if fitted.fit_intercept else []), *columns]
        else:
            raise TypeError(
                f"The standard errors of {type(fitted).__name__} are unknown. Pass "
                "extract=lambda fitted, table, y: (estimates, variances), or a model of "
                "statsmodels, whose results have params and bse."
            )
        estimates.append(np.asarray(estimate, dtype=np.float64))
        variances.append(np.asarray(variance, dtype=np.float64))
    if not estimates:
        raise ValueError("tables is empty: there is nothing to pool.")
    return pool(np.stack(estimates), np.stack(variances), df_complete=df, names=names)


def _least_squares(fitted: LinearRegression, table: Any, y: Any) -> tuple[Array, Array, float]:
    """Return coefficients, their classical variances, and the residuals' degrees of freedom."""
    X = np.asarray(table, dtype=np.float64)
    residual = np.asarray(y, dtype=np.float64) - fitted.predict(table)
    if residual.ndim != 1:
        raise ValueError("fit_pooled takes one target at a time; got y of more than one dimension.")
    coefficients = np.atleast_1d(fitted.coef_)
    if fitted.fit_intercept:
        X = np.column_stack([np.ones(len(X)), X])
        coefficients = np.append(fitted.intercept_, coefficients)
    df = len(X) - X.shape[1]
    if df <= 0:
        raise ValueError(f"{len(X)} rows leave no degree of freedom for {X.shape[1]} coefficients.")
    noise = residual @ residual / df
    return coefficients, noise * np.diag(np.linalg.pinv(X.T @ X)), float(df)


def _as_columns(values: ArrayLike) -> Array:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim == 1:
        array = array[:, None]
    if array.ndim != 2:
        raise ValueError(f"Expected an array of shape (m,) or (m, p), got {array.shape}.")
    return array
