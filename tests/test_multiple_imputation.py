"""Meta-estimators against the same analysis by hand, exact imputers, and scikit-learn's tools."""

import pickle
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from numpy.typing import NDArray
from scipy import stats
from sklearn import config_context
from sklearn.base import BaseEstimator, clone
from sklearn.compose import make_column_transformer
from sklearn.exceptions import NotFittedError
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, SimpleImputer
from sklearn.linear_model import (
    BayesianRidge,
    LinearRegression,
    LogisticRegression,
    Ridge,
    RidgeClassifier,
)
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils.estimator_checks import parametrize_with_checks

from _factories import quick_imputer, quick_table_model
from _linear_gaussian import LinearGaussian
from sklearn_qavi import (
    MultipleImputationClassifier,
    MultipleImputationRegressor,
    QAVIImputer,
)
from sklearn_qavi.generative import PretrainedDecoder
from sklearn_qavi.pooling import fit_pooled

Array = NDArray[np.float64]


def chained(**options: Any) -> IterativeImputer:
    return IterativeImputer(sample_posterior=True, max_iter=2, tol=0, **options)


class NormalDraws(BaseEstimator):
    """Draws missing cells from a normal distribution given the second column; knows no outputs."""

    def __init__(self, random_state: int | None = None) -> None:
        self.random_state = random_state

    def fit(self, X: Array, y: None = None) -> "NormalDraws":
        self.width_ = X.shape[1]
        return self

    def sample(self, X: Array, n: int) -> Array:
        rng = np.random.default_rng(self.random_state)
        draws = np.repeat(X[None], n, axis=0)
        return np.where(np.isnan(draws), draws[..., 1:2] + rng.normal(size=draws.shape), draws)


class ExactDraws(BaseEstimator):
    """Draws missing cells from their exact distribution given the row's observed ones."""

    def __init__(self, model: LinearGaussian, random_state: int | None = None) -> None:
        self.model = model
        self.random_state = random_state

    def fit(self, X: Array, y: None = None) -> "ExactDraws":
        return self

    def sample(self, X: Array, n: int) -> Array:
        rng = np.random.default_rng(self.random_state)
        draws = np.repeat(X[None], n, axis=0)
        for i in np.flatnonzero(np.isnan(X).any(axis=1)):
            missing = np.isnan(X[i])
            mean, covariance = self.model.missing_given_observed(np.nan_to_num(X[i]), ~missing)
            draws[:, i, missing] = rng.multivariate_normal(mean, covariance, size=n)
        return draws


def exact_imputer(model: LinearGaussian, random_state: int = 0) -> QAVIImputer:
    """Return an imputer whose decoder is that of the rows."""
    decoder = PretrainedDecoder(
        model.decoder(), "gaussian", n_features=model.n_features, latent_dim=model.latent_dim
    )
    return QAVIImputer(generative_model=decoder, random_state=random_state)


def gaussian_rows(n_rows: int, seed: int = 0) -> tuple[Array, Array, LinearGaussian]:
    """Return X with half of its first column missing, y, and the model of X with y.

    Given the code both columns are independent, and y hangs on both.
    """
    weight = np.array([[1.0, 0.0], [0.5, 0.9], [1.5, -0.6]])
    model = LinearGaussian(weight, np.zeros(3), np.array([0.3, 0.3, 0.4]))
    table = model.draw_rows(n_rows, seed=seed)
    X, y = table[:, :2].copy(), table[:, 2]
    X[np.random.default_rng(seed + 1).random(n_rows) < 0.5, 0] = np.nan
    return X, y, model


def true_slopes(model: LinearGaussian) -> Array:
    covariance = model.weight @ model.weight.T + np.diag(model.noise_scale**2)
    return np.linalg.solve(covariance[:2, :2], covariance[:2, 2])


@parametrize_with_checks(
    [
        MultipleImputationRegressor(imputer=chained(), n_draws=2),
        MultipleImputationClassifier(imputer=chained(), n_draws=2),
        MultipleImputationClassifier(
            RidgeClassifier(), imputer=chained(), n_draws=2, use_target=False
        ),
    ]
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
@pytest.mark.filterwarnings("ignore:.*IterativeImputer.*")
@pytest.mark.global_rng
def test_scikit_learn(estimator: Any, check: Any) -> None:
    check(estimator)


# Statistics


def test_the_target_in_the_imputation_model_removes_the_bias_of_slopes() -> None:
    X, y, model = gaussian_rows(3000)
    of_predictors = LinearGaussian(model.weight[:2], model.bias[:2], model.noise_scale[:2])
    with_target = MultipleImputationRegressor(imputer=ExactDraws(model), n_draws=10)
    without = MultipleImputationRegressor(
        imputer=ExactDraws(of_predictors), n_draws=10, use_target=False
    )
    truth = true_slopes(model)
    good, bad = (m.set_params(random_state=0).fit(X, y).pooled_ for m in (with_target, without))
    lower, upper = good.interval(0.99)
    assert (lower[1:] < truth).all()
    assert (truth < upper[1:]).all()
    # half of the column was drawn as if it told nothing of y beyond the other column
    assert bad.estimate[1] < 0.6 * truth[0]
    assert good.fraction_of_missing_information[1] > good.fraction_of_missing_information[2]


def test_new_rows_are_predicted_by_what_is_observed_of_them() -> None:
    X, y, model = gaussian_rows(3000)
    fitted = MultipleImputationRegressor(
        imputer=ExactDraws(model), n_draws=200, random_state=0
    ).fit(X, y)
    new = np.array([[np.nan, 1.0], [np.nan, -2.0], [1.0, 1.0]])
    expected = [model.missing_given_observed(np.append(row, 0), np.append(~np.isnan(row), False))
                for row in new]  # fmt: skip
    mean, std = fitted.predict(new, return_std=True)
    np.testing.assert_allclose(mean, [m[-1] for m, _ in expected], atol=0.15)
    np.testing.assert_allclose(std, [np.sqrt(c[-1, -1]) for _, c in expected], rtol=0.15)


def test_intervals_hold_the_outcomes_of_new_rows() -> None:
    X, y, model = gaussian_rows(2000)
    fitted = MultipleImputationRegressor(imputer=ExactDraws(model), random_state=0)
    fitted.fit(X[:1000], y[:1000])
    lower, upper = fitted.predict_interval(X[1000:], level=0.9)
    inside = (lower <= y[1000:]) & (y[1000:] <= upper)
    incomplete = np.isnan(X[1000:, 0])
    for rows in (incomplete, ~incomplete):
        assert inside[rows].mean() == pytest.approx(0.9, abs=0.04)
    width = upper - lower
    assert width[incomplete].mean() > 1.05 * width[~incomplete].mean()


def test_pooled_numbers_are_those_of_the_tables_taken_one_by_one() -> None:
    X, y, model = gaussian_rows(200)
    imputer = exact_imputer(model)
    fitted = MultipleImputationRegressor(imputer=imputer, n_draws=4, random_state=0).fit(X, y)
    tables = [t[:, :2] for t in clone(imputer).fit(np.column_stack([X, y])).sample(n=4)]
    by_hand = fit_pooled(LinearRegression(), tables, y)
    pd.testing.assert_frame_equal(fitted.pooled_.summary(), by_hand.summary())
    slopes = [LinearRegression().fit(t, y).coef_ for t in tables]
    np.testing.assert_allclose(fitted.coef_, np.mean(slopes, axis=0))
    assert fitted.intercept_ == pytest.approx(by_hand.estimate[0])
    m, between = 4, np.var(slopes, axis=0, ddof=1)
    np.testing.assert_allclose(by_hand.variance[1:] - by_hand.within[1:], (1 + 1 / m) * between)

    new = X[:9].copy()
    new_tables = clone(imputer).fit(np.column_stack([X, y])).sample(
        np.column_stack([new, np.full(9, np.nan)]), 4
    )[..., :2]  # fmt: skip
    predictions = [e.predict(t) for e, t in zip(fitted.estimators_, new_tables, strict=True)]
    mean, std = fitted.predict(new, return_std=True)
    np.testing.assert_allclose(mean, np.mean(predictions, axis=0))
    assert (std**2 > 1.25 * np.var(predictions, axis=0, ddof=1)).all()  # noise on top
    lower, upper = fitted.predict_interval(new)
    np.testing.assert_allclose((lower + upper) / 2, mean)
    reach = (upper - lower) / 2 / std
    assert (stats.t.ppf(0.975, 3) > reach).all()
    assert (reach > stats.t.ppf(0.975, 1000)).all()


def test_probabilities_are_means_over_tables() -> None:
    X, y, _ = gaussian_rows(200)
    labels = np.where(y > 0, "up", "down")
    fitted = MultipleImputationClassifier(imputer=NormalDraws(3), n_draws=3, random_state=0).fit(
        X, labels
    )
    drawn = NormalDraws(3).fit(X).sample(np.column_stack([X, np.full(200, np.nan)]), 3)[..., :2]
    by_hand = [e.predict_proba(t) for e, t in zip(fitted.estimators_, drawn, strict=True)]
    probability = fitted.predict_proba(X)
    np.testing.assert_allclose(probability, np.mean(by_hand, axis=0))
    np.testing.assert_array_equal(fitted.predict(X), fitted.classes_[probability.argmax(axis=1)])
    np.testing.assert_allclose(fitted.predict_log_proba(X), np.log(probability))
    assert not hasattr(fitted, "decision_function")


def test_decisions_and_votes_of_classifiers_without_probabilities() -> None:
    X, y, _ = gaussian_rows(200)
    labels = np.digitize(y, [-1, 1])
    ridge = MultipleImputationClassifier(
        RidgeClassifier(), imputer=chained(), n_draws=3, random_state=0
    ).fit(X, labels)
    decision = ridge.decision_function(X)
    assert decision.shape == (200, 3)
    np.testing.assert_array_equal(ridge.predict(X), decision.argmax(axis=1))
    assert not hasattr(ridge, "predict_proba")

    class Votes(DecisionTreeClassifier):
        predict_proba = property()  # as if there were none

    tree = MultipleImputationClassifier(
        Votes(max_depth=2),
        imputer=NormalDraws(0),
        n_draws=5,
        use_target=False,
        random_state=0,
    ).fit(X, labels)
    tables = NormalDraws(0).fit(X).sample(X, 5)
    votes = [e.predict(t) for e, t in zip(tree.estimators_, tables, strict=True)]
    np.testing.assert_array_equal(tree.predict(X), stats.mode(votes).mode)


def test_logistic_regression_without_penalty_has_standard_errors() -> None:
    X, y, model = gaussian_rows(300)
    imputer = exact_imputer(LinearGaussian(model.weight[:2], model.bias[:2], model.noise_scale[:2]))
    free = LogisticRegression(C=np.inf)
    fitted = MultipleImputationClassifier(
        free, imputer=imputer, n_draws=5, use_target=False, random_state=0
    ).fit(X, y > 0)
    by_hand = fit_pooled(free, clone(imputer).fit(X).iter_samples(n=5), y > 0)
    pd.testing.assert_frame_equal(fitted.pooled_.summary(), by_hand.summary())
    np.testing.assert_allclose(fitted.coef_[0], fitted.pooled_.estimate[1:])


# What is missing, and what is not


def test_complete_tables_give_the_complete_analysis() -> None:
    X, y, model = gaussian_rows(100)
    X = np.nan_to_num(X)
    fitted = MultipleImputationRegressor(
        imputer=exact_imputer(model), n_draws=3, random_state=0
    ).fit(X, y)
    alone = LinearRegression().fit(X, y)
    np.testing.assert_allclose(fitted.predict(X), alone.predict(X))
    assert fitted.pooled_.between == pytest.approx(0, abs=1e-20)
    np.testing.assert_allclose(fitted.pooled_.within, fitted.pooled_.variance)


def test_one_table_predicts_and_has_no_spread() -> None:
    X, y, _ = gaussian_rows(100)
    fitted = MultipleImputationRegressor(
        imputer=chained(), n_draws=1, random_state=0
    ).fit(X, y)  # fmt: skip
    assert fitted.predict(X).shape == (100,)
    with pytest.raises(ValueError, match=r"takes at least two.*n_draws"):
        fitted.predict(X, return_std=True)
    with pytest.raises(ValueError, match="takes at least two"):
        fitted.predict_interval(X)
    with pytest.raises(AttributeError, match=r"no pooled_: Pooling needs.*at least two"):
        fitted.pooled_  # noqa: B018


def test_why_there_are_no_standard_errors_is_said() -> None:
    X, y, _ = gaussian_rows(100)
    options = {"imputer": chained(), "n_draws": 2, "random_state": 0}
    ridge = MultipleImputationRegressor(Ridge(), **options).fit(X, y)
    with pytest.raises(AttributeError, match="standard errors of Ridge are unknown"):
        ridge.pooled_  # noqa: B018
    with pytest.raises(TypeError, match="Ridge does not state the variance"):
        ridge.predict_interval(X)
    _, std = ridge.predict(X, return_std=True)
    predictions = np.array(ridge._over_tables(X, lambda e, table, _: e.predict(table)))
    np.testing.assert_allclose(std, np.sqrt(1.5 * predictions.var(axis=0, ddof=1)))
    weighted = MultipleImputationRegressor(**options).fit(X, y, sample_weight=np.ones(100))
    assert not hasattr(weighted, "pooled_")
    bayes = MultipleImputationRegressor(BayesianRidge(), **options).fit(X, y)
    assert (bayes.predict_interval(X)[1] > bayes.predict(X)).all()
    nothing = MultipleImputationClassifier(GaussianNB(), **options).fit(X, y > 0)
    assert not hasattr(nothing, "coef_")
    with pytest.raises(NotFittedError):
        MultipleImputationRegressor().predict(X)


def test_what_cannot_work_is_refused() -> None:
    X, y, _ = gaussian_rows(50)
    for imputer in (SimpleImputer(), IterativeImputer()):
        with pytest.raises(ValueError, match="fills in the same values each time"):
            MultipleImputationRegressor(imputer=imputer, random_state=0).fit(X, y)
    with pytest.raises(ValueError, match="Input y contains NaN"):
        MultipleImputationRegressor(imputer=chained()).fit(X, X[:, 0])
    marked = chained(missing_values=-1)
    with pytest.raises(ValueError, match=r"target holds -1.*use_target=False"):
        MultipleImputationRegressor(imputer=marked, random_state=0).fit(
            np.nan_to_num(X), np.r_[y[1:], -1]
        )
    neighbours = MultipleImputationClassifier(KNeighborsClassifier(), imputer=chained())
    with pytest.raises(ValueError, match=r"KNeighborsClassifier\.fit takes no sample_weight"):
        neighbours.fit(X, y > 0, sample_weight=np.ones(50))


@pytest.mark.parametrize("use_target", [True, False])
def test_other_marks_of_missing_cells(use_target: bool) -> None:
    X, y, _ = gaussian_rows(80)
    options = {"n_draws": 2, "random_state": 0, "use_target": use_target}
    expected = MultipleImputationRegressor(imputer=chained(), **options).fit(X, y)
    marked = np.where(np.isnan(X), -99.0, X)
    other = MultipleImputationRegressor(imputer=chained(missing_values=-99), **options)
    np.testing.assert_allclose(other.fit(marked, y).predict(marked), expected.predict(X))


# In the company of scikit-learn


def test_predictions_repeat_and_survive_pickling() -> None:
    X, y, _ = gaussian_rows(100)
    model = MultipleImputationRegressor(imputer=chained(), n_draws=3, random_state=0)
    fitted = clone(model).fit(X, y)
    once = fitted.predict(X)
    np.testing.assert_array_equal(fitted.predict(X), once)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(fitted)).predict(X), once)
    np.testing.assert_array_equal(clone(model).fit(X, y).predict(X), once)
    np.testing.assert_array_equal(clone(model).set_params(n_jobs=2).fit(X, y).predict(X), once)
    assert not np.array_equal(clone(model).set_params(random_state=1).fit(X, y).predict(X), once)


def test_tables_drawn_by_separate_imputers_differ() -> None:
    X, y, _ = gaussian_rows(100)
    imputer = chained(random_state=5)  # one seed for all would make all tables the same
    fitted = MultipleImputationRegressor(imputer=imputer, n_draws=3, random_state=0).fit(X, y)
    assert len(fitted.imputer_) == 3
    assert len({e.coef_[0] for e in fitted.estimators_}) == 3
    assert imputer.random_state == 5
    in_pipeline = MultipleImputationRegressor(
        imputer=make_pipeline(StandardScaler(), chained()), n_draws=3, random_state=0
    ).fit(X, y)
    assert len({e.coef_[0] for e in in_pipeline.estimators_}) == 3
    assert np.isfinite(in_pipeline.predict(X)).all()


def test_searches_and_pipelines() -> None:
    X, y, model = gaussian_rows(90)
    labels = y > 0
    imputer = exact_imputer(LinearGaussian(model.weight[:2], model.bias[:2], model.noise_scale[:2]))
    classifier = MultipleImputationClassifier(
        LogisticRegression(), imputer=imputer, n_draws=3, use_target=False, random_state=0
    )
    search = GridSearchCV(
        classifier, {"imputer__beta": [0.5, 1.0], "estimator__C": [0.1, 10.0]}, cv=2
    ).fit(X, labels)
    assert search.best_score_ > 0.6
    assert {"imputer__beta", "estimator__C"} == set(search.best_params_)
    whole = make_pipeline(StandardScaler(), clone(classifier).set_params(imputer=chained()))
    assert cross_val_score(whole, X, labels, cv=2, scoring="roc_auc").mean() > 0.7


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_an_estimator_sees_the_dataframe_and_its_categories() -> None:
    rng = np.random.default_rng(0)
    n = 150
    size = rng.normal(size=n)
    kind = np.where(size + rng.normal(size=n) > 0, "big", "small").astype(object)
    y = 2 * size + (kind == "big") + 0.3 * rng.normal(size=n)
    frame = pd.DataFrame({"size": size, "kind": kind}, index=np.arange(n) + 7)
    frame.loc[frame.index[::5], "size"] = np.nan
    frame.loc[frame.index[2::5], "kind"] = None
    encode = make_column_transformer(
        (OneHotEncoder(categories=[["big", "small"]], drop="first"), ["kind"]),
        remainder="passthrough",
        verbose_feature_names_out=False,
    )
    imputer = quick_imputer(generative_model=quick_table_model(n_decoders=1))
    regressor = MultipleImputationRegressor(
        make_pipeline(encode, LinearRegression()), imputer=imputer, n_draws=3, random_state=0
    )
    y_named = pd.Series(y, index=frame.index, name="price")
    regressor.fit(frame, y_named)
    assert list(regressor.imputer_.feature_names_in_) == ["size", "kind", "price"]
    assert regressor.pooled_.names == ("intercept", "kind_small", "size")
    assert regressor.score(frame, y_named) > 0.5
    assert list(regressor.feature_names_in_) == ["size", "kind"]

    labels = np.where(y > 0, "dear", "cheap")
    classifier = MultipleImputationClassifier(
        make_pipeline(encode, LogisticRegression()),
        imputer=imputer,
        n_draws=2,
        random_state=0,
    )
    for table in (frame, pl.from_pandas(frame), frame.to_numpy(dtype=object)):
        if isinstance(table, np.ndarray):
            by_position = make_column_transformer(
                (OneHotEncoder(categories=[["big", "small"]]), [1]), remainder="passthrough"
            )
            classifier.set_params(estimator=make_pipeline(by_position, LogisticRegression()))
        classifier.fit(table, labels)
        assert classifier.score(table, labels) > 0.8
        assert classifier.imputer_.encoder_.schema_[-1].kind in ("nominal", "binary")


@pytest.mark.parametrize("columns", [["a", "target"], [10, 20], ["x__target", "b"]])
def test_the_target_never_gets_in_the_way_of_a_column(columns: list) -> None:
    X, y, _ = gaussian_rows(60)
    frame = pd.DataFrame(X, columns=columns)
    options = {"imputer": chained(), "n_draws": 2, "random_state": 0}
    by_name = MultipleImputationRegressor(**options).fit(frame, y)
    by_position = MultipleImputationRegressor(**options).fit(X, y)
    assert all(e.n_features_in_ == 2 for e in by_name.estimators_)
    np.testing.assert_allclose(by_name.predict(frame), by_position.predict(X))
    assert list(frame.columns) == columns


def test_indicators_and_empty_columns_stay_with_the_predictors() -> None:
    X, y, _ = gaussian_rows(60)
    X = np.column_stack([X, np.full(60, np.nan)])
    imputer = chained(add_indicator=True)
    for table in (X, pd.DataFrame(X, columns=list("abc")), pl.DataFrame(X, schema=list("abc"))):
        fitted = MultipleImputationRegressor(imputer=imputer, n_draws=2, random_state=0)
        with pytest.warns(UserWarning, match="without any observed values"):
            fitted.fit(table, y)
        assert fitted.estimators_[0].n_features_in_ == 4  # two columns and two indicators
        with pytest.warns(UserWarning, match="without any observed values"):
            predicted = fitted.predict(table)
        assert np.corrcoef(predicted, y)[0, 1] > 0.5


def test_several_classes_are_columns_of_zero_and_one_for_imputers_of_numbers() -> None:
    X, y, _ = gaussian_rows(120)
    labels = np.digitize(y, [-1, 1])
    fitted = MultipleImputationClassifier(imputer=NormalDraws(0), n_draws=2, random_state=0).fit(
        X, labels
    )
    assert fitted.imputer_.width_ == 4
    assert fitted.estimators_[0].n_features_in_ == 2


def test_weights_reach_estimator_and_imputer_as_routed() -> None:
    X, y, _ = gaussian_rows(100)
    weight = (np.arange(100) < 60).astype(float)
    options = {"imputer": NormalDraws(0), "n_draws": 2, "use_target": False}
    options["random_state"] = 0
    weighted = MultipleImputationRegressor(**options).fit(X, y, sample_weight=weight)
    tables = NormalDraws(0).fit(X).sample(X, 2)
    slopes = [LinearRegression().fit(t[:60], y[:60]).coef_ for t in tables]
    np.testing.assert_allclose(weighted.coef_, np.mean(slopes, axis=0))

    class Recorder(NormalDraws):
        def fit(self, X: Array, y: None = None, sample_weight: Any = None) -> "Recorder":
            self.weight_ = sample_weight
            return super().fit(X)

    with config_context(enable_metadata_routing=True):
        regression = LinearRegression().set_fit_request(sample_weight=True)
        routed = MultipleImputationRegressor(
            make_pipeline(StandardScaler().set_fit_request(sample_weight=False), regression),
            imputer=Recorder(0).set_fit_request(sample_weight=True),
            n_draws=2,
            use_target=False,
            random_state=0,
        ).fit(X, y, sample_weight=weight)
        np.testing.assert_array_equal(routed.imputer_.weight_, weight)
        np.testing.assert_allclose(routed.predict(X), weighted.predict(X))
        scores = cross_val_score(routed, X, y, params={"sample_weight": weight}, cv=2)
        assert np.isfinite(scores).all()


def test_a_trained_model_is_shared_and_left_alone() -> None:
    X, y, model = gaussian_rows(60)
    imputer = exact_imputer(model).set_params(random_state=None)
    fitted = MultipleImputationRegressor(imputer=imputer, n_draws=2, random_state=0)
    fitted.fit(X, y)
    assert fitted.imputer_.generative_model is imputer.generative_model
    assert imputer.random_state is None
    assert fitted.imputer_.random_state is not None


def test_the_default_imputer_draws_for_inference() -> None:
    chosen = MultipleImputationRegressor()._chosen_imputer()
    assert isinstance(chosen, QAVIImputer)
    assert chosen.generative_model.bootstrap
    assert chosen.importance_resampling


@pytest.mark.parametrize(
    ("estimator", "refused_by", "taken_by"),
    [
        (LogisticRegression(), MultipleImputationRegressor, "MultipleImputationClassifier"),
        (LinearRegression(), MultipleImputationClassifier, "MultipleImputationRegressor"),
        (
            make_pipeline(StandardScaler(), LogisticRegression()),
            MultipleImputationRegressor,
            "MultipleImputationClassifier",
        ),
        (
            GridSearchCV(Ridge(), {"alpha": [1.0]}),
            MultipleImputationClassifier,
            "MultipleImputationRegressor",
        ),
    ],
)
def test_estimators_of_the_other_class_are_refused(
    estimator: Any, refused_by: Any, taken_by: str
) -> None:
    X, y = np.zeros((6, 2)), np.array([0, 1] * 3)
    with pytest.raises(ValueError, match=f"{type(estimator).__name__}.*use {taken_by}"):
        refused_by(estimator).fit(X, y)


def test_estimators_of_no_declared_kind_are_taken() -> None:
    class Mean(BaseEstimator):
        def fit(self, X: Any, y: Any) -> "Mean":
            self.mean_ = np.mean(y)
            return self

        def predict(self, X: Any) -> np.ndarray:
            return np.full(len(X), self.mean_)

    imputer = IterativeImputer(sample_posterior=True, max_iter=2, tol=0)
    model = MultipleImputationRegressor(Mean(), imputer=imputer, n_draws=2, random_state=0)
    rng = np.random.default_rng(0)
    X = np.where(rng.random((20, 2)) < 0.2, np.nan, rng.normal(size=(20, 2)))
    np.testing.assert_allclose(model.fit(X, np.arange(20.0)).predict(X), 9.5)
