"""Estimators that impute several times, fit a model to each completed table, and pool."""

from collections.abc import Callable, Hashable
from numbers import Integral
from typing import Any, ClassVar, Self, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn import get_config
from sklearn.base import (
    BaseEstimator,
    ClassifierMixin,
    MetaEstimatorMixin,
    RegressorMixin,
    is_classifier,
    is_regressor,
)
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.utils import Tags, get_tags
from sklearn.utils.metadata_routing import MetadataRouter, MethodMapping, process_routing
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import (
    assert_all_finite,
    check_consistent_length,
    check_is_fitted,
    column_or_1d,
    has_fit_parameter,
    validate_data,
)

from ._analyses import Coefficients, predict_moments, read_coefficients
from ._checks import refuse_infinity, refuse_number
from ._completions import Completed, Completions, TargetColumns, seeded_clone
from ._imputer import QAVIImputer
from ._interrupts import all_or_nothing
from ._random import derive_seed, seed_from
from ._sklearn_compat import HasMethods, Interval, available_if, fit_context
from ._typing import Container, Table
from .generative import TabularVAE
from .pooling import PooledEstimate, pool, pool_predictions
from .preprocessing import is_dataframe

__all__ = ["MultipleImputationClassifier", "MultipleImputationRegressor"]

Array = NDArray[np.float64]
T = TypeVar("T")
_N_DECODERS = 10  # of the default imputer
_PARTS = {"imputer": 0, "estimator": 1}  # purposes of seeds


def _estimator_has(method: str) -> Callable[[BaseEstimator], bool]:
    def check(self: BaseEstimator) -> bool:
        estimators = getattr(self, "estimators_", None)
        return hasattr(estimators[0] if estimators else self._chosen_estimator(), method)

    return check


def _decides_without_probabilities(self: BaseEstimator) -> bool:
    return _estimator_has("decision_function")(self) and not _estimator_has("predict_proba")(self)


class _BaseMultipleImputation(MetaEstimatorMixin, BaseEstimator):
    """What regressor and classifier share."""

    _parameter_constraints: ClassVar[dict[str, list[object]]] = {
        "estimator": [None, HasMethods(["fit", "predict"])],
        "imputer": [None, HasMethods(["fit"])],
        "n_draws": [Interval(Integral, 1, None, closed="left")],
        "use_target": ["boolean"],
        "n_jobs": [None, Integral],
        "random_state": ["random_state"],
    }

    _refused: ClassVar[dict[Callable[[BaseEstimator], bool], str]]
    """What tells estimators that are not taken, and who takes them."""

    def __init__(
        self,
        estimator: BaseEstimator | None = None,
        *,
        imputer: BaseEstimator | None = None,
        n_draws: int = 20,
        use_target: bool = True,
        n_jobs: int | None = None,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.estimator = estimator
        self.imputer = imputer
        self.n_draws = n_draws
        self.use_target = use_target
        self.n_jobs = n_jobs
        self.random_state = random_state

    @fit_context(prefer_skip_nested_validation=False)
    @all_or_nothing
    def fit(
        self, X: Table, y: ArrayLike, sample_weight: ArrayLike | None = None, **fit_params: object
    ) -> Self:
        """Fit the imputer, draw completed tables, and fit a clone of the estimator to each.

        Parameters
        ----------
        X : array-like or dataframe of shape (n_rows, n_features)
            Table with missing cells.
        y : array-like of shape (n_rows,)
            Target, without missing values.
        sample_weight : array-like of shape (n_rows,), default=None
            Weights of the rows. They reach the estimator; with metadata routing, the imputer as
            well if it requests them.
        **fit_params : dict
            Further parameters of the estimator's ``fit``, or by metadata routing.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If the imputer does not draw, the estimator is for the other class, the target has
            missing values, or a column holds infinity.
        """
        if y is None:
            raise ValueError(
                f"{type(self).__name__} requires y to be passed, but the target y is None."
            )
        self._check_estimator()
        name = getattr(y, "name", None)
        X, target = self._checked_table(X, reset=True), self._checked_target(y)
        check_consistent_length(X, target)
        imputer_params, estimator_params = self._routed(sample_weight, fit_params)
        seed = seed_from(self.random_state)
        imputer, estimator = self._chosen_imputer(), self._chosen_estimator()
        completions = Completions(imputer, self.n_draws, derive_seed(seed, _PARTS["imputer"]))
        columns = self._target_columns(imputer, X, target, name)
        fitted = Parallel(n_jobs=self.n_jobs)(
            delayed(_fit_to_table)(
                task,
                seeded_clone(estimator, derive_seed(seed, _PARTS["estimator"], m)),
                target,
                estimator_params,
            )
            for m, task in enumerate(completions.fit_tasks(X, target, columns, imputer_params))
        )
        imputers, self.estimators_, analyses = map(list, zip(*fitted, strict=True))
        if isinstance(completions.imputer_, list):
            completions.imputer_ = imputers  # those that were fitted, maybe in other processes
        self._completions = completions
        self.imputer_ = completions.imputer_
        self._pool_coefficients(analyses, is_weighted="sample_weight" in estimator_params)
        return self

    @property
    def coef_(self) -> Array:
        """Mean of the estimators' ``coef_``."""
        return self._mean_attribute("coef_")

    @property
    def intercept_(self) -> Array:
        """Mean of the estimators' ``intercept_``."""
        return self._mean_attribute("intercept_")

    @property
    def pooled_(self) -> PooledEstimate:
        """Coefficients with standard errors by Rubin's rules."""
        check_is_fitted(self)
        if self._pooled is None:
            raise AttributeError(f"{type(self).__name__} has no pooled_: {self._why_not_pooled}")
        return self._pooled

    def get_metadata_routing(self) -> MetadataRouter:
        """Return how metadata reach imputer and estimator.

        Returns
        -------
        routing : MetadataRouter
            Parameters of ``fit`` go to the ``fit`` of both, as each requests.
        """
        mapping = MethodMapping().add(caller="fit", callee="fit")
        return MetadataRouter(owner=self).add(
            estimator=self._chosen_estimator(),
            imputer=self._chosen_imputer(),
            method_mapping=mapping,
        )

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        of_imputer = get_tags(self._chosen_imputer()).input_tags
        tags.input_tags.allow_nan = True
        tags.input_tags.categorical = of_imputer.categorical
        tags.input_tags.string = of_imputer.string
        tags.input_tags.sparse = False
        return tags

    def _check_estimator(self) -> None:
        """Raise if the estimator does the other class's work."""
        estimator = self._chosen_estimator()
        for is_one, remedy in self._refused.items():
            if is_one(estimator):
                raise ValueError(
                    f"estimator={type(estimator).__name__} is not for {type(self).__name__}: "
                    f"{remedy}."
                )

    def _chosen_imputer(self) -> BaseEstimator:
        if self.imputer is None:
            model = TabularVAE(bootstrap=True, n_decoders=_N_DECODERS)
            return QAVIImputer(generative_model=model, importance_resampling=True)
        return self.imputer

    def _checked_table(self, X: Table, *, reset: bool) -> Container:
        if is_dataframe(X):
            validate_data(self, X, reset=reset, skip_check_array=True)
        else:
            X = validate_data(self, X, reset=reset, dtype=None, ensure_all_finite=False)
        refuse_infinity(X)
        return X

    def _target_columns(
        self, imputer: BaseEstimator, X: Table, y: ArrayLike, name: Hashable
    ) -> TargetColumns:
        classes = getattr(self, "classes_", None)
        if not self.use_target or (classes is not None and len(classes) == 1):
            return TargetColumns([], [], None, False, np.nan)
        return TargetColumns.plan(imputer, X, y, classes, name)

    def _routed(
        self, sample_weight: ArrayLike | None, fit_params: dict[str, object]
    ) -> tuple[dict[str, object], dict[str, object]]:
        """Return the parameters of ``fit`` for the imputer and for the estimator."""
        given = {} if sample_weight is None else {"sample_weight": sample_weight}
        if get_config()["enable_metadata_routing"]:
            routed = process_routing(self, "fit", **given, **fit_params)
            return routed.imputer.fit, routed.estimator.fit
        if given and not has_fit_parameter(self._chosen_estimator(), "sample_weight"):
            raise ValueError(
                f"{type(self._chosen_estimator()).__name__}.fit takes no sample_weight. Parts of "
                "a pipeline get it by metadata routing."
            )
        return {}, {**given, **fit_params}

    def _pool_coefficients(self, analyses: list[Coefficients | str], *, is_weighted: bool) -> None:
        """Keep the coefficients by table, and pooled ones or why there are none."""
        self._coefficients: list[Coefficients] | None = None
        self._pooled = None
        found = [a for a in analyses if isinstance(a, Coefficients)]
        failure = next((a for a in analyses if not isinstance(a, Coefficients)), None)
        if is_weighted:
            failure = "what weights mean for standard errors depends on where they come from."
        if failure is not None:
            self._why_not_pooled = str(failure)
            return
        if len({len(a.estimate) for a in found}) > 1:
            self._why_not_pooled = "coefficients are other ones on some tables."
            return
        self._coefficients = found
        try:
            self._pooled = pool(
                np.stack([a.estimate for a in found]),
                np.stack([a.variance for a in found]),
                df_complete=found[0].df,
                names=found[0].names,
                n_nests=self._n_nests,
            )
        except ValueError as error:  # a single table
            self._why_not_pooled = str(error)

    @property
    def _n_nests(self) -> int | None:
        """Number of nests of the tables, if they are of the same size."""
        n_nests = getattr(self.imputer_, "n_nests_", None)
        return n_nests if n_nests and self.n_draws % n_nests == 0 else None

    def _mean_attribute(self, name: str) -> Array:
        check_is_fitted(self)
        values = [getattr(estimator, name) for estimator in self.estimators_]
        if len({np.shape(value) for value in values}) > 1:
            raise AttributeError(f"{name} has other shapes on some tables, so there is no mean.")
        mean: Array = np.mean(values, axis=0)
        return mean

    def _over_tables(self, X: Table, function: Callable[..., T], *arguments: object) -> list[T]:
        """Return ``function(estimator, its table, its coefficients, *arguments)`` by estimator."""
        check_is_fitted(self)
        X = self._checked_table(X, reset=False)
        unknown: list[Coefficients | None] = [None] * len(self.estimators_)
        results: list[T] = Parallel(n_jobs=self.n_jobs)(
            delayed(_apply)(task, function, estimator, found, *arguments)
            for task, estimator, found in zip(
                self._completions.tasks(X),
                self.estimators_,
                self._coefficients or unknown,
                strict=True,
            )
        )
        return results


class MultipleImputationRegressor(RegressorMixin, _BaseMultipleImputation):
    """Regress on several completed tables, and pool coefficients and predictions.

    `fit` learns an imputation model, draws completed tables, and fits a clone of the estimator to
    each. `predict` completes new rows as often, lets each estimator predict its own table, and
    returns the mean.

    Parameters
    ----------
    estimator : estimator, default=None
        Is cloned and fitted to each completed table, which is of the type of X: a dataframe if X
        is one, with its names and types. None takes `LinearRegression`.
    imputer : estimator, default=None
        Draws the tables: an imputer with ``iter_samples(X, n)`` or ``sample(X, n)``, such as
        `QAVIImputer`, or one with ``sample_posterior=True``, such as scikit-learn's
        `IterativeImputer`, which is then fitted once per table. None takes a `QAVIImputer` with
        ``TabularVAE(bootstrap=True, n_decoders=10)`` and ``importance_resampling=True``: Rubin's
        rules ask for draws as wide as
        the posterior, which also differ by what the rows leave open about the imputation model.
    n_draws : int, default=20
        Number of completed tables, and of fitted estimators.
    use_target : bool, default=True
        Whether the imputer learns from the target as well, as a column of numbers appended to X.
        In `fit` the target is observed, so that imputed predictors go with it as observed ones do;
        in `predict` it is missing. With False, imputed predictors are drawn as if they told
        nothing of the target beyond what the others do, and their coefficients are biased to 0.
        What the imputer is told about all columns by position needs an entry for the target, last.
    n_jobs : int or None, default=None
        Jobs that fit and predict.
    random_state : int, RandomState instance or None, default=None
        Seed of imputer and estimators, where they have none of their own.

    Attributes
    ----------
    estimators_ : list of estimator
        The fitted clones, one per table.
    imputer_ : estimator or list of estimator
        The fitted imputer; a list, one per table, if it draws by ``sample_posterior=True`` alone.
    coef_, intercept_ : ndarray, float
        Means of the estimators' coefficients, if they have them.
    pooled_ : PooledEstimate
        Coefficients with standard errors, degrees of freedom and the fraction of missing
        information, if `fit_pooled` understands the estimator, for at least two tables and
        without ``sample_weight``. The intercept comes first.
    n_features_in_ : int
        Number of columns seen in `fit`.
    feature_names_in_ : ndarray of shape (n_features,)
        Their names, when all were strings.

    See Also
    --------
    MultipleImputationClassifier : The same for classes.
    sklearn_qavi.pooling.fit_pooled : For models that are no estimators, e.g. of statsmodels.

    Notes
    -----
    Draws of a row depend on its position in the call, as those of the imputer do, so that the
    prediction for an incomplete row may change a little with the rows before it.

    Imputing a missing predictor by a *fixed* value computed with the target would leak the target
    into the predictors. Draws do not: they restore the joint distribution, and leaving the target
    out biases them [2]_.

    References
    ----------
    .. [1] Rubin (1987), "Multiple Imputation for Nonresponse in Surveys", chapter 3.
    .. [2] D'Agostino McGowan, Lotspeich, Hepler (2024), "The 'Why' behind including 'Y' in your
       imputation model", Statistical Methods in Medical Research.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.experimental import enable_iterative_imputer
    >>> from sklearn.impute import IterativeImputer
    >>> from sklearn_qavi import MultipleImputationRegressor
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(300, 2)) @ [[1.0, 0.8], [0.0, 0.6]]
    >>> y = X @ [1.0, -1.0] + 0.5 * rng.normal(size=300)
    >>> X[rng.random(X.shape) < 0.2] = np.nan
    >>> imputer = IterativeImputer(sample_posterior=True, max_iter=5, tol=0)
    >>> model = MultipleImputationRegressor(imputer=imputer, n_draws=5, random_state=0)
    >>> model.fit(X, y).pooled_.summary()[["estimate", "standard_error"]].shape
    (3, 2)
    >>> mean, std = model.predict([[1.0, 1.0], [1.0, np.nan]], return_std=True)
    >>> bool(std[1] > std[0])
    True
    """

    _refused: ClassVar[dict[Callable[[BaseEstimator], bool], str]] = {
        is_classifier: "it is a classifier; use MultipleImputationClassifier"
    }

    def predict(self, X: Table, return_std: bool = False) -> Array | tuple[Array, Array]:
        """Return the mean of the estimators' predictions, each for its own completed table.

        Parameters
        ----------
        X : array-like or dataframe of shape (n_rows, n_features)
            Rows, with or without missing cells.
        return_std : bool, default=False
            Whether to return standard deviations as well.

        Returns
        -------
        mean : ndarray of shape (n_rows,)
            Predictions in the unit of the target.
        std : ndarray of shape (n_rows,)
            Only with ``return_std=True``: square root of the total variance by Rubin's rules, of
            the outcome itself, noise included. It holds the variance within tables only for
            estimators that state it (`LinearRegression` fitted without weights, and those with
            ``return_std``); for others it is what the predictions differ by between tables.

        Raises
        ------
        ValueError
            If ``return_std=True`` and there is only one table to compare.
        """
        if not return_std:
            return pool_predictions(self._over_tables(X, _predict)).estimate
        pooled = self._pooled_predictions(X)
        between = (1 + 1 / pooled.n_draws) * pooled.between
        return pooled.estimate, np.sqrt(np.nan_to_num(pooled.within) + between)

    def predict_interval(self, X: Table, level: float = 0.95) -> tuple[Array, Array]:
        """Return intervals that hold the outcome of a row with probability ``level``.

        Parameters
        ----------
        X : array-like or dataframe of shape (n_rows, n_features)
            Rows, with or without missing cells.
        level : float, default=0.95
            Probability inside of the interval, between 0 and 1.

        Returns
        -------
        lower, upper : ndarray of shape (n_rows,)
            In the unit of the target: t intervals by Rubin's rules.

        Raises
        ------
        TypeError
            If the estimator does not state how far outcomes vary around its predictions.
        ValueError
            If level is not between 0 and 1, or there is only one table.
        """
        refuse_number(X, "predict_interval(X, level={})")
        pooled = self._pooled_predictions(X)
        if np.isnan(pooled.within).any():
            raise TypeError(
                f"{type(self._chosen_estimator()).__name__} does not state the variance of its "
                "predictions. Use LinearRegression without sample_weight, or a regressor with "
                "return_std, such as BayesianRidge."
            )
        return pooled.interval(level)

    def _pooled_predictions(self, X: Table) -> PooledEstimate:
        check_is_fitted(self)
        if len(self.estimators_) < 2:
            raise ValueError(
                "How far predictions differ between tables takes at least two: fit with "
                "n_draws=20, or any number above 1."
            )
        means, variances = zip(*self._over_tables(X, _predict_moments), strict=True)
        df = self._coefficients[0].df if self._coefficients else None
        return pool_predictions(means, variances, df_complete=df, n_nests=self._n_nests)

    def _chosen_estimator(self) -> BaseEstimator:
        return LinearRegression() if self.estimator is None else self.estimator

    def _checked_target(self, y: ArrayLike) -> Array:
        target: Array = column_or_1d(y, dtype=np.float64, warn=True)
        assert_all_finite(target, input_name="y")
        return target


class MultipleImputationClassifier(ClassifierMixin, _BaseMultipleImputation):
    """Classify on several completed tables, and pool coefficients and probabilities.

    `fit` learns an imputation model, draws completed tables, and fits a clone of the estimator to
    each. `predict_proba` completes new rows as often, lets each estimator judge its own table, and
    returns the mean of their probabilities.

    Parameters
    ----------
    estimator : estimator, default=None
        Is cloned and fitted to each completed table, which is of the type of X: a dataframe if X
        is one, with its names and types. None takes `LogisticRegression`, whose penalty leaves no
        standard errors; with ``LogisticRegression(C=np.inf)`` two classes have them.
    imputer : estimator, default=None
        Draws the tables: an imputer with ``iter_samples(X, n)`` or ``sample(X, n)``, such as
        `QAVIImputer`, or one with ``sample_posterior=True``, such as scikit-learn's
        `IterativeImputer`, which is then fitted once per table. None takes a `QAVIImputer` with
        ``TabularVAE(bootstrap=True, n_decoders=10)`` and ``importance_resampling=True``: Rubin's
        rules ask for draws as wide as
        the posterior, which also differ by what the rows leave open about the imputation model.
    n_draws : int, default=20
        Number of completed tables, and of fitted estimators.
    use_target : bool, default=True
        Whether the imputer learns from the target as well, appended to X: as a column of categories
        for imputers that take them, otherwise as columns of 0 and 1, one a class but the first. In
        `fit` the target is observed, so that imputed predictors go with it as observed ones do;
        in `predict` it is missing. With False, imputed predictors are drawn as if they told
        nothing of the target beyond what the others do, and their coefficients are biased to 0.
        What the imputer is told about all columns by position needs entries for the target, last.
    n_jobs : int or None, default=None
        Jobs that fit and predict.
    random_state : int, RandomState instance or None, default=None
        Seed of imputer and estimators, where they have none of their own.

    Attributes
    ----------
    estimators_ : list of estimator
        The fitted clones, one per table.
    imputer_ : estimator or list of estimator
        The fitted imputer; a list, one per table, if it draws by ``sample_posterior=True`` alone.
    classes_ : ndarray of shape (n_classes,)
        The classes, sorted.
    coef_, intercept_ : ndarray
        Means of the estimators' coefficients, if they have them.
    pooled_ : PooledEstimate
        Coefficients with standard errors, degrees of freedom and the fraction of missing
        information, if `fit_pooled` understands the estimator, for at least two tables and
        without ``sample_weight``. The intercept comes first.
    n_features_in_ : int
        Number of columns seen in `fit`.
    feature_names_in_ : ndarray of shape (n_features,)
        Their names, when all were strings.

    See Also
    --------
    MultipleImputationRegressor : The same for numbers; its notes say more on the target.
    sklearn_qavi.pooling.fit_pooled : For models that are no estimators, e.g. of statsmodels.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.experimental import enable_iterative_imputer
    >>> from sklearn.impute import IterativeImputer
    >>> from sklearn_qavi import MultipleImputationClassifier
    >>> from sklearn_qavi.datasets import make_missing
    >>> X, y = load_iris(return_X_y=True)
    >>> X_missing, _ = make_missing(X, rate=0.2, random_state=0)
    >>> imputer = IterativeImputer(sample_posterior=True, max_iter=5, tol=0)
    >>> model = MultipleImputationClassifier(imputer=imputer, n_draws=5, random_state=0)
    >>> model.fit(X_missing, y).predict_proba(X_missing).shape
    (150, 3)
    """

    _refused: ClassVar[dict[Callable[[BaseEstimator], bool], str]] = {
        is_regressor: "it is a regressor; use MultipleImputationRegressor"
    }

    def predict(self, X: Table) -> NDArray[np.generic]:
        """Return the class with the largest mean probability.

        Parameters
        ----------
        X : array-like or dataframe of shape (n_rows, n_features)
            Rows, with or without missing cells.

        Returns
        -------
        labels : ndarray of shape (n_rows,)
            Of estimators without probabilities, by the mean of their decisions, or by votes.
        """
        check_is_fitted(self)
        if _estimator_has("predict_proba")(self):
            chosen = self.predict_proba(X).argmax(axis=1)
        elif _decides_without_probabilities(self):
            decision = self.decision_function(X)
            chosen = (decision > 0).astype(int) if decision.ndim == 1 else decision.argmax(axis=1)
        else:
            votes = np.stack(self._over_tables(X, _predict))
            chosen = (votes[..., None] == self.classes_).sum(axis=0).argmax(axis=1)
        classes: NDArray[np.generic] = self.classes_[chosen]
        return classes

    @available_if(_estimator_has("predict_proba"))
    def predict_proba(self, X: Table) -> Array:
        """Return the mean of the estimators' probabilities, each for its own completed table.

        Parameters
        ----------
        X : array-like or dataframe of shape (n_rows, n_features)
            Rows, with or without missing cells.

        Returns
        -------
        probabilities : ndarray of shape (n_rows, n_classes)
            In the order of ``classes_``.
        """
        return pool_predictions(self._over_tables(X, _predict, "predict_proba")).estimate

    @available_if(_estimator_has("predict_proba"))
    def predict_log_proba(self, X: Table) -> Array:
        """Return the logarithm of `predict_proba`.

        Parameters
        ----------
        X : array-like or dataframe of shape (n_rows, n_features)
            Rows, with or without missing cells.

        Returns
        -------
        log_probabilities : ndarray of shape (n_rows, n_classes)
            In nats, in the order of ``classes_``.
        """
        log_probabilities: Array = np.log(self.predict_proba(X))
        return log_probabilities

    @available_if(_decides_without_probabilities)
    def decision_function(self, X: Table) -> Array:
        """Return the mean of the decision functions of estimators that have no probabilities.

        Parameters
        ----------
        X : array-like or dataframe of shape (n_rows, n_features)
            Rows, with or without missing cells.

        Returns
        -------
        decision : ndarray of shape (n_rows,) or (n_rows, n_classes)
            As the estimator returns it.
        """
        return pool_predictions(self._over_tables(X, _predict, "decision_function")).estimate

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        of_estimator = get_tags(self._chosen_estimator()).classifier_tags
        if of_estimator is not None:
            tags.classifier_tags.multi_class = of_estimator.multi_class
        return tags

    def _chosen_estimator(self) -> BaseEstimator:
        return LogisticRegression() if self.estimator is None else self.estimator

    def _checked_target(self, y: ArrayLike) -> NDArray[np.generic]:
        target: NDArray[np.generic] = column_or_1d(y, warn=True)
        assert_all_finite(target, input_name="y")
        check_classification_targets(target)
        self.classes_ = np.unique(target)
        return target


# What is done with one table; functions of the module, so that they reach other processes.


def _fit_to_table(
    task: Callable[[], Completed], estimator: BaseEstimator, y: ArrayLike, params: dict[str, object]
) -> tuple[BaseEstimator | None, BaseEstimator, Coefficients | str]:
    """Return the table's own imputer if any, the fitted estimator, and its coefficients.

    Instead of coefficients without standard errors stands the reason.
    """
    imputer, table = task()
    estimator.fit(table, y, **params)
    try:
        return imputer, estimator, read_coefficients(estimator, table, y)
    except (TypeError, ValueError) as error:
        return imputer, estimator, str(error)


def _apply(
    task: Callable[[], Completed],
    function: Callable[..., T],
    estimator: BaseEstimator,
    coefficients: Coefficients | None,
    *arguments: object,
) -> T:
    return function(estimator, task()[1], coefficients, *arguments)


def _predict(
    estimator: BaseEstimator,
    table: Table,
    coefficients: Coefficients | None,
    method: str = "predict",
) -> Any:
    return getattr(estimator, method)(table)


def _predict_moments(
    estimator: BaseEstimator, table: Table, coefficients: Coefficients | None
) -> tuple[Array, Array]:
    return predict_moments(estimator, table, "outcome", coefficients)
