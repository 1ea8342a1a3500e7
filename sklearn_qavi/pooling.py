"""Rubin's rules: one answer, with its uncertainty, from the analyses of several completed tables.

It works on numbers and fitted models, whatever imputed the tables.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from sklearn.base import BaseEstimator

from ._analyses import Subject, fit_model, predict_moments, read_coefficients
from ._checks import plain
from ._shift import shift_imputed
from ._typing import Table

__all__ = [
    "PooledEstimate",
    "fit_pooled",
    "pool",
    "pool_predictions",
    "predict_pooled",
    "shift_imputed",
]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class PooledEstimate:
    """Estimates or predictions pooled over completed tables.

    Parameters
    ----------
    estimate : ndarray of shape (p,)
        Mean over the tables, in the unit of the quantity, as everything below. Probabilities of
        classes have shape (rows, classes), and so has everything below.
    within : ndarray of shape (p,)
        Mean of the variances of the single analyses; NaN where they state none, and then so are
        standard errors and intervals.
    between : ndarray of shape (p,)
        Variance of the estimates between tables, or of their means between nests; NaN for a single
        table.
    n_draws : int
        Number of tables m.
    df_complete : float
        Degrees of freedom that the analysis of a complete table has; infinite if unknown.
    names : tuple of str
        Names of the quantities: of coefficients, rows, or classes.
    n_nests : int, default=None
        Number of nests that the tables come in, see `pool`; None where each stands for itself.
    inside_nests : ndarray of shape (p,), default=None
        Variance of the estimates between the tables of one nest.

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
    n_draws: int
    df_complete: float
    names: tuple[str, ...]
    n_nests: int | None = None
    inside_nests: Array | None = None

    @property
    def variance(self) -> Array:
        """Total variance, (p,).

        ``within + (1 + 1/m) between``; of N tables in each of M nests ``within +
        (1 + 1/M) between + (1 - 1/N) inside_nests``.
        """
        return self.within + self._due_to_missing

    @property
    def _parts_due_to_missing(self) -> list[tuple[Array, int]]:
        """Parts of the variance that are due to missing cells, each with its degrees of freedom."""
        m = self.n_draws
        if self.n_nests is None or self.inside_nests is None:
            return [((1 + 1 / m) * self.between, m - 1)]
        nests = self.n_nests
        return [
            ((1 + 1 / nests) * self.between, nests - 1),
            ((1 - nests / m) * self.inside_nests, m - nests),
        ]

    @property
    def _due_to_missing(self) -> Array:
        total: Array = np.sum([part for part, _ in self._parts_due_to_missing], axis=0)
        return total

    @property
    def standard_error(self) -> Array:
        """Square root of the total variance, (p,)."""
        return np.sqrt(self.variance)

    @property
    def share_due_to_missing(self) -> Array:
        """Share lambda of the total variance that is due to the missing cells, (p,)."""
        spread = self._due_to_missing
        return np.divide(spread, self.variance, out=np.zeros_like(spread), where=self.variance != 0)

    @property
    def relative_increase(self) -> Array:
        """Relative increase r of the variance that is due to the missing cells, (p,)."""
        spread = self._due_to_missing
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(spread != 0, spread / self.within, 0.0)

    @property
    def df(self) -> Array:
        """Degrees of freedom of the t distribution of the estimate, (p,).

        Those of Barnard and Rubin (1999), which never exceed ``df_complete``; with infinite
        ``df_complete`` those of Rubin (1987), and of nests those of Rubin (2003).
        """
        share = self.share_due_to_missing
        with np.errstate(divide="ignore", invalid="ignore"):
            squares = [
                np.square(np.where(part != 0, part / self.variance, 0.0)) / df
                for part, df in self._parts_due_to_missing
                if df > 0
            ]
            old = 1 / np.sum(squares, axis=0) if squares else np.full_like(share, np.inf)
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

    def interval(self, level: float = 0.95) -> tuple[Array, Array]:
        """Return the limits of central confidence intervals.

        Parameters
        ----------
        level : float, default=0.95
            Probability inside of the intervals, between 0 and 1.

        Returns
        -------
        lower, upper : ndarray of shape (p,)
            In the unit of the quantity.

        Raises
        ------
        ValueError
            If level is not between 0 and 1.
        """
        if not 0 < level < 1:
            raise ValueError(f"level must be a number between 0 and 1, got {plain(level)}.")
        reach = stats.t.ppf(0.5 + level / 2, self.df) * self.standard_error
        return self.estimate - reach, self.estimate + reach

    def summary(self, level: float = 0.95) -> pd.DataFrame:
        """Return estimate, standard error, t, df, p value, interval and fmi, one line a quantity.

        Parameters
        ----------
        level : float, default=0.95
            Probability inside of the intervals, between 0 and 1.

        Returns
        -------
        table : DataFrame of shape (p, 8)
            The p value is that of a two-sided test against 0.

        Raises
        ------
        ValueError
            If the estimates are probabilities of classes, which are no list of quantities.
        """
        if self.estimate.ndim != 1:
            raise ValueError(
                f"Estimates of shape {self.estimate.shape} make no list; look at estimate itself."
            )
        lower, upper = self.interval(level)
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
    n_nests: int | None = None,
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
    n_nests : int, default=None
        Number M of nests: tables i, i + M, i + 2M, ... come from the same model and are not
        independent of each other. It is the number of decoders of a `QAVIImputer` with
        ``TabularVAE(bootstrap=True)``, its ``n_nests_``, which draws from them in turn. None, or
        M no smaller than m, takes each table for itself.

    Returns
    -------
    pooled : PooledEstimate
        With standard errors, intervals and the fraction of missing information.

    Raises
    ------
    ValueError
        If there are fewer than two tables, shapes differ, a number is not finite, a variance
        negative or ``df_complete`` not positive, or nests are not of the same size or only one.

    References
    ----------
    .. [1] Rubin (1987), "Multiple Imputation for Nonresponse in Surveys", section 3.3.
    .. [2] Barnard, Rubin (1999), "Small-sample degrees of freedom with multiple imputation".
    .. [3] Rubin (2003), "Nested multiple imputation of NMES via partially incompatible MCMC".

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
        raise ValueError(f"df_complete must be greater than 0, got {plain(df_complete)}.")
    names = tuple(names) if names is not None else tuple(f"x{i}" for i in range(estimate.shape[1]))
    if len(names) != estimate.shape[1]:
        raise ValueError(f"{len(names)} names were given for {estimate.shape[1]} estimates.")
    return _pooled(estimate, variance.mean(axis=0), df_complete, names, n_nests)


def _pooled(
    estimate: Array,
    within: Array,
    df_complete: float | None,
    names: tuple[str, ...],
    n_nests: int | None,
) -> PooledEstimate:
    """Return estimates (m, ...) pooled, as single tables or in nests."""
    m = len(estimate)
    df = np.inf if df_complete is None else float(df_complete)
    if n_nests is None or n_nests >= m:
        spread = estimate.var(axis=0, ddof=1) if m > 1 else np.full_like(within, np.nan)
        return PooledEstimate(estimate.mean(axis=0), within, spread, m, df, names)
    if n_nests < 2 or m % n_nests:
        raise ValueError(
            f"{m} tables cannot be told apart into n_nests={n_nests} nests: pass two nests or "
            "more, and a multiple of so many tables."
        )
    by_nest = estimate.reshape(m // n_nests, n_nests, *estimate.shape[1:])
    return PooledEstimate(
        estimate.mean(axis=0),
        within,
        by_nest.mean(axis=0).var(axis=0, ddof=1),
        m,
        df,
        names,
        n_nests,
        by_nest.var(axis=0, ddof=1).mean(axis=0),
    )


def fit_pooled(
    model: BaseEstimator | Callable[..., object],
    tables: Iterable[Table],
    y: ArrayLike | None = None,
    *,
    extract: Callable[..., tuple[ArrayLike, ArrayLike]] | None = None,
    n_nests: int | None = None,
) -> PooledEstimate:
    """Fit a model to each completed table and pool its coefficients.

    Parameters
    ----------
    model : callable or estimator
        A function ``model(table)`` (``model(table, y)`` if y is given) that returns a fitted
        model: results of statsmodels (anything with ``params``, ``bse`` and ``df_resid``), or
        what ``extract`` understands. Or a scikit-learn estimator, which is cloned and fitted to
        each table: `LinearRegression`, and without penalty `PoissonRegressor` and
        `LogisticRegression` of two classes, are understood, also as the last step of a pipeline.
        Others need ``extract``.
    tables : iterable
        Completed tables, e.g. ``imputer.sample(X, n=20)`` or ``imputer.iter_samples(X, n=20)``;
        read one by one.
    y : array-like of shape (n_rows,), default=None
        Target, the same for each table.
    extract : callable, default=None
        ``extract(fitted, table, y)`` returns estimates (p,) and their variances (p,).
    n_nests : int, default=None
        Number of nests that the tables come in, see `pool`: ``imputer.n_nests_``.

    Returns
    -------
    pooled : PooledEstimate
        The coefficients; of models of scikit-learn the intercept comes first.

    Raises
    ------
    ValueError
        If there are fewer than two tables, or coefficients are not determined.
    TypeError
        If the standard errors of the fitted model are unknown, so that ``extract`` is needed.

    See Also
    --------
    pool : Pools numbers that you computed yourself.
    predict_pooled : Pools predictions.

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
        fitted = fit_model(model, table, y)
        if extract is not None:
            estimate, variance = extract(fitted, table, y)
        else:
            try:
                found = read_coefficients(fitted, table, y)
            except TypeError as error:
                raise TypeError(
                    f"{error} Pass extract=lambda fitted, table, y: (estimates, variances), or a "
                    "model of statsmodels, whose results have params and bse."
                ) from error
            estimate, variance, df, names = found.estimate, found.variance, found.df, found.names
        estimates.append(np.asarray(estimate, dtype=np.float64))
        variances.append(np.asarray(variance, dtype=np.float64))
    if not estimates:
        raise ValueError("tables is empty: there is nothing to pool.")
    if len({estimate.shape for estimate in estimates}) > 1:
        raise ValueError(
            "The model has other numbers of coefficients on some tables: did a category occur "
            "in some only? Name all, e.g. OneHotEncoder(categories=...)."
        )
    return pool(
        np.stack(estimates), np.stack(variances), df_complete=df, names=names, n_nests=n_nests
    )


def pool_predictions(
    predictions: Iterable[ArrayLike],
    variances: Iterable[ArrayLike] | None = None,
    *,
    df_complete: float | None = None,
    names: Iterable[str] | None = None,
    n_nests: int | None = None,
) -> PooledEstimate:
    """Pool the predictions for the same rows over completed tables.

    Parameters
    ----------
    predictions : iterable of array-like of shape (rows,) or (rows, classes)
        Predicted numbers, or probabilities of classes; one array a completed table.
    variances : iterable of array-like of the same shape, default=None
        Squared standard errors of the predictions; None, and NaN, if they are unknown.
    df_complete : float, default=None
        Degrees of freedom of the analysis of a complete table; None means many.
    names : iterable of str, default=None
        Names of rows, or of classes; None takes ``x0``, ``x1``, ...
    n_nests : int, default=None
        Number of nests that the tables come in, see `pool`.

    Returns
    -------
    pooled : PooledEstimate
        ``estimate`` is the mean over the tables. With variances, intervals follow Rubin's rules;
        without, ``between`` says how far the tables disagree. A single table is its own mean.

    Raises
    ------
    ValueError
        If there is no table, shapes differ, or a prediction is not finite.

    Examples
    --------
    >>> from sklearn_qavi.pooling import pool_predictions
    >>> pooled = pool_predictions([[[0.9, 0.1]], [[0.5, 0.5]]], names=["no", "yes"])
    >>> pooled.estimate
    array([[0.7, 0.3]])
    """
    stacked = _stacked(predictions, "predictions")
    if not np.isfinite(stacked).all():
        raise ValueError("A prediction is not finite: did a model fail on a table?")
    n_names = stacked.shape[-1]
    within = np.full(stacked.shape[1:], np.nan)
    if variances is not None:
        spread = _stacked(variances, "variances")
        if spread.shape != stacked.shape:
            raise ValueError(f"predictions have shape {stacked.shape}, variances {spread.shape}.")
        within = spread.mean(axis=0)
    names = tuple(names) if names is not None else tuple(f"x{i}" for i in range(n_names))
    return _pooled(stacked, within, df_complete, names, n_nests)


def predict_pooled(
    model: BaseEstimator | Callable[..., object],
    tables: Iterable[Table],
    y: ArrayLike | None = None,
    *,
    new_tables: Iterable[Table] | None = None,
    predict: Callable[..., ArrayLike | tuple[ArrayLike, ArrayLike | None]] | None = None,
    of: Subject = "mean",
    n_nests: int | None = None,
) -> PooledEstimate:
    """Fit a model to each completed table, predict rows by each, and pool the predictions.

    Parameters
    ----------
    model : callable or estimator
        As `fit_pooled` takes it. Any estimator will do: probabilities of a classifier are
        averaged, and so are the predictions of a regressor.
    tables : iterable
        Completed tables to fit to, read one by one.
    y : array-like of shape (n_rows,), default=None
        Target, the same for each table.
    new_tables : iterable, default=None
        Completed tables of the rows to predict, one for each of ``tables``, e.g.
        ``imputer.iter_samples(X_new, n=20)``; None predicts the rows that were fitted to.
    predict : callable, default=None
        ``predict(fitted, new_table)`` returns predictions, or a pair of predictions and their
        variances. None asks the model: `LinearRegression`, regressors with ``return_std`` and
        results of statsmodels state variances.
    of : {"mean", "outcome"}, default="mean"
        Whether the variances, and so the intervals, are those of the expected outcome of a row or
        of the outcome itself, which adds the noise. Models with ``return_std`` other than
        Bayesian linear ones state one variance only, which is taken for both.
    n_nests : int, default=None
        Number of nests that the tables come in, see `pool`.

    Returns
    -------
    pooled : PooledEstimate
        One quantity per row; of a classifier the mean probabilities, (rows, classes), with the
        classes as names. ``within`` is NaN where the model states no variance.

    Raises
    ------
    ValueError
        If there is no table, or there are not as many new ones.

    See Also
    --------
    fit_pooled : Pools coefficients.
    sklearn_qavi.MultipleImputationRegressor : Imputes, fits and pools in one estimator.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import LinearRegression
    >>> from sklearn_qavi.pooling import predict_pooled
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(100, 2))
    >>> y = X @ [1.0, 2.0] + rng.normal(size=100)
    >>> tables = [X + 0.1 * rng.normal(size=X.shape) for _ in range(5)]
    >>> pooled = predict_pooled(LinearRegression(), tables, y, new_tables=[[[1.0, 1.0]]] * 5)
    >>> pooled.estimate.round(1), pooled.standard_error.round(1)
    (array([2.9]), array([0.2]))
    """
    if of not in ("mean", "outcome"):
        raise ValueError(f"of must be 'mean' or 'outcome', got {plain(of)}.")
    predictions, variances, df, names = [], [], None, None
    for table, new in _pairs(tables, new_tables):
        fitted = fit_model(model, table, y)
        coefficients = None
        if predict is not None:
            answer = predict(fitted, new)
            mean, variance = answer if isinstance(answer, tuple) else (answer, None)
        else:
            try:
                coefficients = read_coefficients(fitted, table, y)
            except (TypeError, ValueError):  # then the predictions have no variances
                coefficients = None
            mean, variance = predict_moments(fitted, new, of, coefficients)
        mean = np.asarray(mean, dtype=np.float64)
        predictions.append(mean)
        variances.append(np.full_like(mean, np.nan) if variance is None else variance)
        df = None if coefficients is None else coefficients.df
        classes = getattr(fitted, "classes_", None)
        names = [str(c) for c in classes] if mean.ndim == 2 and classes is not None else None
    return pool_predictions(predictions, variances, df_complete=df, names=names, n_nests=n_nests)


def _pairs(
    tables: Iterable[Table], new_tables: Iterable[Table] | None
) -> Iterator[tuple[Table, Table]]:
    """Yield tables to fit to with tables to predict, one by one."""
    if new_tables is None:
        yield from ((table, table) for table in tables)
        return
    end = object()
    new = iter(new_tables)
    count = 0
    for table in tables:
        following = next(new, end)
        if following is end:
            raise ValueError(f"new_tables has only {count} table(s); pass one for each of tables.")
        yield table, following
        count += 1
    if next(new, end) is not end:
        raise ValueError(f"tables has only {count} table(s), and new_tables has more.")


def _stacked(arrays: Iterable[ArrayLike], name: str) -> Array:
    """Return arrays of one shape as one array with a further axis in front."""
    listed = [np.asarray(array, dtype=np.float64) for array in arrays]
    if not listed:
        raise ValueError(f"{name} is empty: there is nothing to pool.")
    if len({array.shape for array in listed}) > 1 or listed[0].ndim not in (1, 2):
        shapes = sorted({array.shape for array in listed})
        raise ValueError(
            f"Each of {name} must have the same shape, (rows,) or (rows, classes), got {shapes}."
        )
    return np.stack(listed)


def _as_columns(values: ArrayLike) -> Array:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim == 1:
        array = array[:, None]
    if array.ndim != 2:
        raise ValueError(f"Expected an array of shape (m,) or (m, p), got {array.shape}.")
    return array
