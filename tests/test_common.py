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

from sklearn_qavi import QAVIImputer
from sklearn_qavi.generative import TabularVAE

# ConvergenceWarning is right on twenty rows and ten epochs
pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore::sklearn_qavi.exceptions.ExtremeValueWarning"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning"),
    pytest.mark.global_rng,
]


def quick_model() -> TabularVAE:
    """Return a model that is trained for three epochs of two steps."""
    return TabularVAE(
        latent_dim=2,
        hidden_layer_sizes=(16,),
        histogram_smoothing=0.0,
        n_decoders=1,
        max_steps=6,
    )


def quick(posterior: str) -> QAVIImputer:
    """Return an imputer whose training is short; the contract does not depend on its length."""
    return QAVIImputer(
        generative_model=quick_model(),
        posterior=posterior,
        max_iter=None if posterior == "pseudo_gibbs" else 24,
    )


POSTERIORS = ["gaussian", "mixture", "flow", "feature", "pseudo_gibbs"]


@parametrize_with_checks([*map(quick, POSTERIORS), quick_model()])
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


@pytest.mark.parametrize("posterior", ["gaussian", "mixture", "flow"])
@pytest.mark.parametrize("check", EXTRA, ids=lambda check: check.__name__)
def test_scikit_learn_checks_that_check_estimator_leaves_out(posterior: str, check: Any) -> None:
    check("QAVIImputer", quick(posterior))


def test_docstring_of_every_parameter_is_a_constructor_argument() -> None:
    names = set(QAVIImputer().get_params(deep=False))
    assert names == set(QAVIImputer._parameter_constraints)
    assert np.all([name in (QAVIImputer.__doc__ or "") for name in names])
