"""Coefficients, predictions and their variances, against statsmodels on the same table."""

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from sklearn.compose import make_column_transformer
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.linear_model import (
    BayesianRidge,
    LinearRegression,
    LogisticRegression,
    PoissonRegressor,
    Ridge,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from sklearn_qavi._analyses import predict_moments, read_coefficients


def table_and_noise() -> tuple[np.ndarray, np.random.Generator]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(200, 2)), rng


def test_logistic_regression_has_the_errors_of_statsmodels() -> None:
    X, rng = table_and_noise()
    y = (X @ [1.0, -0.5] + rng.logistic(size=200) > 0).astype(int)
    ours = read_coefficients(LogisticRegression(C=np.inf, tol=1e-10).fit(X, y), X, y)
    theirs = sm.Logit(y, sm.add_constant(X)).fit(disp=0)
    np.testing.assert_allclose(ours.estimate, theirs.params, rtol=1e-5)
    np.testing.assert_allclose(ours.variance, theirs.bse**2, rtol=1e-5)
    assert ours.df == theirs.df_resid == 197


def test_poisson_regression_has_the_errors_of_statsmodels() -> None:
    X, rng = table_and_noise()
    y = rng.poisson(np.exp(X @ [0.5, -0.3]))
    ours = read_coefficients(PoissonRegressor(alpha=0, tol=1e-10).fit(X, y), X, y)
    theirs = sm.GLM(y, sm.add_constant(X), family=sm.families.Poisson()).fit()
    np.testing.assert_allclose(ours.estimate, theirs.params, rtol=1e-5)
    np.testing.assert_allclose(ours.variance, theirs.bse**2, rtol=1e-5)


@pytest.mark.parametrize("subject", ["mean", "outcome"])
def test_predictions_of_a_linear_regression_have_the_errors_of_statsmodels(subject: str) -> None:
    X, rng = table_and_noise()
    frame = pd.DataFrame(X, columns=["a", "b"]).assign(y=X @ [1.0, 2.0] + rng.normal(size=200))
    new = frame.head(7)
    theirs = sm.OLS.from_formula("y ~ a + b", frame).fit()
    ours = make_pipeline(StandardScaler(), LinearRegression()).fit(frame[["a", "b"]], frame["y"])
    found = read_coefficients(ours, frame[["a", "b"]], frame["y"])
    mean, variance = predict_moments(ours, new[["a", "b"]], subject, found)
    prediction = theirs.get_prediction(new)
    error = prediction.se_mean if subject == "mean" else prediction.se_obs
    np.testing.assert_allclose(mean, prediction.predicted_mean)
    np.testing.assert_allclose(variance, error**2)
    for ours, expected in zip(predict_moments(theirs, new, subject), (mean, variance), strict=True):
        np.testing.assert_allclose(ours, expected)


def test_a_pipeline_names_the_columns_that_its_last_step_sees() -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"size": rng.normal(size=60), "kind": rng.choice(list("abc"), size=60)})
    y = frame["size"] + (frame["kind"] == "b") + 0.1 * rng.normal(size=60)
    encode = make_column_transformer(
        (OneHotEncoder(drop="first", sparse_output=True), ["kind"]), remainder="passthrough"
    )
    fitted = make_pipeline(encode, LinearRegression()).fit(frame, y)
    ours = read_coefficients(fitted, frame, y)
    theirs = sm.OLS.from_formula("y ~ kind + size", frame.assign(y=y)).fit()
    assert ours.names == [
        "intercept", "onehotencoder__kind_b", "onehotencoder__kind_c", "remainder__size"
    ]  # fmt: skip
    np.testing.assert_allclose(ours.variance, theirs.bse**2)


def test_collinear_columns_have_no_standard_errors() -> None:
    X, _ = table_and_noise()
    X = np.column_stack([X, X.sum(axis=1)])
    with pytest.raises(ValueError, match=r"collinear.*drop='first'"):
        read_coefficients(LinearRegression().fit(X, X[:, 0]), X, X[:, 0])
    with pytest.raises(ValueError, match="leave no degree of freedom"):
        read_coefficients(LinearRegression().fit(X[:3], X[:3, 0]), X[:3], X[:3, 0])


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (Ridge(), "Ridge are unknown"),
        (LinearRegression(positive=True), "LinearRegression are unknown"),
        (LogisticRegression(), r"with a penalty.*C=np.inf"),
        (LogisticRegression(C=np.inf, class_weight="balanced"), "class weights"),
        (PoissonRegressor(), "alpha=0"),
    ],
)
def test_penalties_and_constraints_leave_no_standard_errors(model, reason: str) -> None:
    X, rng = table_and_noise()
    y = rng.integers(0, 2, size=200)
    with pytest.raises(TypeError, match=reason):
        read_coefficients(model.fit(X, y), X, y)


def test_bayesian_ridge_tells_noise_from_uncertainty() -> None:
    X, rng = table_and_noise()
    model = BayesianRidge().fit(X, X @ [1.0, 2.0] + rng.normal(size=200))
    _, of_mean = predict_moments(model, X, "mean")
    _, of_outcome = predict_moments(model, X, "outcome")
    np.testing.assert_allclose(of_outcome - of_mean, 1 / model.alpha_)
    centred = X - X.mean(axis=0)
    np.testing.assert_allclose(of_mean, np.diag(centred @ model.sigma_ @ centred.T), rtol=1e-6)


def test_models_that_state_no_variance_have_none() -> None:
    X, rng = table_and_noise()
    y = rng.integers(0, 2, size=200)
    assert np.isnan(predict_moments(Ridge().fit(X, y), X, "mean")[1]).all()
    probability, variance = predict_moments(LogisticRegression().fit(X, y), X, "mean")
    assert probability.shape == variance.shape == (200, 2)
    assert np.isnan(variance).all()
    robust = sm.RLM(y, X).fit()
    mean, variance = predict_moments(robust, X, "mean")
    np.testing.assert_allclose(mean, X @ robust.params)
    assert np.isnan(variance).all()


def test_standard_deviations_that_a_regressor_states_are_taken() -> None:
    X, _ = table_and_noise()
    process = GaussianProcessRegressor(optimizer=None).fit(X[:20], X[:20, 0])
    _, variance = predict_moments(process, X[20:30], "outcome")
    np.testing.assert_allclose(variance, process.predict(X[20:30], return_std=True)[1] ** 2)
