"""The only file that touches private names of scikit-learn."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
from sklearn.base import BaseEstimator, _fit_context
from sklearn.base import _clone_parametrized as clone_parametrized
from sklearn.impute._base import _BaseImputer as BaseImputer
from sklearn.utils._mask import _get_mask as get_mask
from sklearn.utils._missing import is_scalar_nan
from sklearn.utils._param_validation import (
    HasMethods,
    Interval,
    MissingValues,
    Options,
    StrOptions,
    validate_parameter_constraints,
)
from sklearn.utils._set_output import _get_output_config as get_output_config
from sklearn.utils._set_output import _wrap_data_with_container as wrap_in_container
from sklearn.utils.metaestimators import available_if as _available_if
from sklearn.utils.validation import _check_feature_names as check_feature_names
from sklearn.utils.validation import _check_feature_names_in as check_feature_names_in
from sklearn.utils.validation import _check_sample_weight as check_sample_weight

__all__ = [
    "BaseImputer",
    "HasMethods",
    "Interval",
    "MissingValues",
    "Options",
    "StrOptions",
    "available_if",
    "check_feature_names",
    "check_feature_names_in",
    "check_sample_weight",
    "clone_parametrized",
    "fit_context",
    "get_mask",
    "get_output_config",
    "is_scalar_nan",
    "validate_parameters",
    "wrap_in_container",
]

_Method = TypeVar("_Method", bound=Callable[..., Any])


def fit_context(*, prefer_skip_nested_validation: bool) -> Callable[[_Method], _Method]:
    """Return scikit-learn's decorator of methods that check parameters, which keeps their types."""
    decorator = _fit_context(prefer_skip_nested_validation=prefer_skip_nested_validation)
    return cast(Callable[[_Method], _Method], decorator)


def available_if(check: Callable[[Any], bool]) -> Callable[[_Method], _Method]:
    """Return scikit-learn's decorator of methods that some objects lack; it keeps their types."""
    return cast(Callable[[_Method], _Method], _available_if(check))


def validate_parameters(estimator: BaseEstimator) -> None:
    """Check an estimator's parameters against its constraints, but not those of its parts."""
    parameters = {
        name: value.item() if isinstance(value, np.generic) else value
        for name, value in estimator.get_params(deep=False).items()
    }
    validate_parameter_constraints(
        estimator._parameter_constraints, parameters, caller_name=type(estimator).__name__
    )
