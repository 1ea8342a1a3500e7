"""scikit-learn's own checks, none of them expected to fail."""

from typing import Any

import numpy as np
import pytest
from sklearn.utils.estimator_checks import (
    check_dataframe_column_names_consistency,
    check_global_output_transform_pandas,
    check_global_set_output_transform_polars,
    check_param_validation,
    check_set_output_transform,
    check_set_output_transform_pandas,
    check_set_output_transform_polars,
    check_transformer_get_feature_names_out,
    check_transformer_get_feature_names_out_pandas,
    parametrize_with_checks,
)

from _factories import tiny_imputer, tiny_table_model
from sklearn_qavi import QAVIImputer

# ConvergenceWarning is right on twenty rows and ten epochs
pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore::sklearn_qavi.exceptions.ExtremeValueWarning"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning"),
    pytest.mark.global_rng,
]


def with_posterior(posterior: str) -> QAVIImputer:
    """Return an imputer whose training is short; the contract does not depend on its length."""
    max_iter = None if posterior == "pseudo_gibbs" else 24
    return tiny_imputer(posterior=posterior, max_iter=max_iter, random_state=None)


POSTERIORS = ["gaussian", "mixture", "flow", "feature", "pseudo_gibbs"]


@parametrize_with_checks(
    [*map(with_posterior, POSTERIORS), tiny_table_model(likelihood="auto", histogram_smoothing=0.0)]
)
def test_scikit_learn(estimator: Any, check: Any) -> None:
    check(estimator)


EXTRA = [
    check_dataframe_column_names_consistency,
    check_param_validation,
    check_set_output_transform,
    check_set_output_transform_pandas,
    check_set_output_transform_polars,
    check_global_output_transform_pandas,
    check_global_set_output_transform_polars,
    check_transformer_get_feature_names_out,
    check_transformer_get_feature_names_out_pandas,
]


@pytest.mark.parametrize("check", EXTRA, ids=lambda check: check.__name__)
def test_scikit_learn_checks_that_check_estimator_leaves_out(check: Any) -> None:
    """Names, containers and parameters, which no posterior sees."""
    check("QAVIImputer", with_posterior("gaussian"))


def test_docstring_of_every_parameter_is_a_constructor_argument() -> None:
    names = set(QAVIImputer().get_params(deep=False))
    assert names == set(QAVIImputer._parameter_constraints)
    assert np.all([name in (QAVIImputer.__doc__ or "") for name in names])
