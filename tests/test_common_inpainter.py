"""scikit-learn's own checks of QAVIInpainter, none of them expected to fail.

The checks make tables of any width and range, but images have a size and values from 0 to 1. So
they are run on `InpainterOfTables`, which takes the cells of a row for the pixels of an image and
squeezes them into that range; all else is the inpainter's own.
"""

import pickle
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.sparse import csr_array
from sklearn.base import clone
from sklearn.exceptions import NotFittedError, SkipTestWarning
from sklearn.utils import get_tags
from sklearn.utils.estimator_checks import (
    check_dataframe_column_names_consistency,
    check_estimator,
    check_set_output_transform,
    check_set_output_transform_pandas,
    check_set_output_transform_polars,
    check_transformer_get_feature_names_out,
    check_transformer_get_feature_names_out_pandas,
    parametrize_with_checks,
)

from _factories import tiny_image_model, tiny_inpainter, with_missing
from _linear_images import LinearImages, smooth_model
from sklearn_qavi import QAVIImputer, QAVIInpainter
from sklearn_qavi.generative import HierarchicalVAE, WideResNetVAE, _wide_resnet_vae
from sklearn_qavi.inference import Gaussian
from sklearn_qavi.preprocessing import ImageEncoder, as_array

# ConvergenceWarning is right after one step
pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.global_rng,
]


class EncoderOfTables(ImageEncoder):
    """Squeezes numbers above 0 into (0, 1)."""

    def encode(self, X: Any, mask: Any = None) -> Any:
        array = as_array(X)
        if array.dtype.kind == "f":
            array = np.where(array > 0, array / (1 + abs(array)), array).astype(array.dtype)
        return super().encode(array, mask)


def in_floats(X: Any) -> Any:
    """Return an array of whole numbers as floats, and anything else as it is."""
    return X.astype(float) if isinstance(X, np.ndarray) and X.dtype.kind == "i" else X


class InpainterOfTables(QAVIInpainter):
    """An inpainter for which a row of D cells is an image of 1 x D pixels."""

    def _new_encoder(self, X: Any) -> EncoderOfTables:
        return EncoderOfTables((1, 1, as_array(in_floats(X)).shape[1]))

    def _encoded(self, X: Any, mask: Any = None, *, reset: bool = False) -> Any:
        return super()._encoded(in_floats(X), mask, reset=reset)


@pytest.fixture(autouse=True)
def one_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let training try one weight of the KL and not six, which is most of what it takes here."""
    monkeypatch.setattr(_wide_resnet_vae, "_INFERENCE_BETAS", (1.0,))


def of_tables() -> InpainterOfTables:
    return InpainterOfTables(generative_model=tiny_image_model(), image_shape=(1, 1), max_iter=2)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
@parametrize_with_checks([of_tables()])
def test_scikit_learn(estimator: Any, check: Any) -> None:
    check(estimator)


EXTRA = [
    check_dataframe_column_names_consistency,
    check_set_output_transform,
    check_set_output_transform_pandas,
    check_set_output_transform_polars,
    check_transformer_get_feature_names_out,
    check_transformer_get_feature_names_out_pandas,
]


@pytest.mark.parametrize("check", EXTRA, ids=lambda check: check.__name__)
def test_scikit_learn_checks_that_check_estimator_leaves_out(check: Any) -> None:
    check("InpainterOfTables", of_tables())


def test_images_of_unknown_size_are_no_tables() -> None:
    """check_estimator makes tables only, so that it leaves out what would fit."""
    inpainter = QAVIInpainter(generative_model=tiny_image_model())
    assert not get_tags(inpainter).input_tags.two_d_array
    with pytest.warns(SkipTestWarning, match="Can't test estimator"):
        results = check_estimator(inpainter)
    assert {result["status"] for result in results} == {"passed"}


def trained(shape: tuple[int, int, int]) -> LinearImages:
    return LinearImages(smooth_model(shape), shape)


DIGITS = np.random.default_rng(0).random((6, 4, 4))


@pytest.mark.parametrize(
    ("options", "tables", "grey"),
    [
        ({}, False, True),
        ({"image_shape": (4, 4)}, True, True),
        ({"image_shape": (1, 4, 4)}, True, True),
        ({"image_shape": (2, 2, 4)}, True, False),
        ({"image_shape": (4, 4, 1), "data_format": "channels_last"}, True, True),
        ({"generative_model": trained((1, 4, 4))}, True, True),
        ({"generative_model": trained((4, 2, 2))}, True, False),
    ],
)
def test_tags_say_which_axes_are_taken(options: dict[str, Any], tables: bool, grey: bool) -> None:
    inpainter = QAVIInpainter(**{"generative_model": tiny_image_model(), **options})
    tags = get_tags(inpainter).input_tags
    assert (tags.two_d_array, tags.three_d_array) == (tables, grey)
    for X, taken in ((DIGITS.reshape(6, 16), tables), (DIGITS, grey)):
        if taken:
            inpainter.fit(X)
        else:
            with pytest.raises(ValueError, match="X has shape"):
                inpainter.fit(X)


def test_tags_of_a_bad_size_are_there_and_fit_refuses_it() -> None:
    inpainter = QAVIInpainter(image_shape=(0, 4))
    assert get_tags(inpainter).input_tags.three_d_array
    with pytest.raises(ValueError, match="image_shape must be"):
        inpainter.fit(DIGITS)


@pytest.mark.parametrize("marker", [np.nan, 0.0])
def test_nan_is_allowed_where_it_marks_what_is_missing(marker: float) -> None:
    inpainter = QAVIInpainter(generative_model=trained((1, 4, 4)), missing_values=marker)
    X = DIGITS.copy()
    X[0, 0, 0] = np.nan
    allowed = get_tags(inpainter).input_tags.allow_nan
    assert allowed == np.isnan(marker)
    if allowed:
        inpainter.fit(X)
    else:
        with pytest.raises(ValueError, match="X holds NaN"):
            inpainter.fit(X)


@pytest.mark.parametrize("kind", [QAVIImputer, QAVIInpainter])
def test_results_within_a_time_budget_are_not_deterministic(kind: Any) -> None:
    assert not get_tags(kind()).non_deterministic
    assert get_tags(kind(posterior=Gaussian(time_budget=1.0))).non_deterministic


@pytest.mark.parametrize("model", [WideResNetVAE, HierarchicalVAE])
def test_models_of_images_take_images_from_0_on(model: Any) -> None:
    tags = get_tags(model()).input_tags
    assert (tags.two_d_array, tags.three_d_array, tags.positive_only) == (False, True, True)
    with pytest.raises(ValueError, match=r"\[0, 1\]|0 (and|to) 1"):
        model().fit(DIGITS - 0.5)


@pytest.fixture
def colours() -> NDArray[np.float64]:
    """Eight images of three channels with missing pixels."""
    rng = np.random.default_rng(1)
    return with_missing(rng.random((8, 3, 4, 4)), 0.2)


def test_images_of_four_axes_are_held_to_the_same_contract(colours: NDArray[np.float64]) -> None:
    inpainter = tiny_inpainter()
    before = inpainter.get_params(deep=False)
    with pytest.raises(NotFittedError):
        inpainter.transform(colours)
    X = colours.copy()
    X.flags.writeable = False
    first = inpainter.fit(X).transform(X)
    assert inpainter.n_features_in_ == 48
    np.testing.assert_array_equal(X, colours)
    assert not np.shares_memory(first, X)
    assert inpainter.get_params(deep=False) == before
    for again in (inpainter.fit(X), clone(inpainter).fit(X), pickle.loads(pickle.dumps(inpainter))):
        np.testing.assert_array_equal(again.transform(X), first)
    for part in (slice(3, 5), slice(None, None, -1)):
        np.testing.assert_allclose(inpainter.transform(X[part]), first[part], atol=1e-6)


@pytest.mark.parametrize("dtype", get_tags(QAVIInpainter()).transformer_tags.preserves_dtype)
def test_dtypes_of_images_are_preserved(dtype: str, colours: NDArray[np.float64]) -> None:
    missing = np.isnan(colours)
    X = (np.nan_to_num(colours) * (255 if dtype == "uint8" else 1)).astype(dtype)
    model = trained((3, 4, 4))
    completed = (
        QAVIInpainter(generative_model=model, random_state=0).fit().transform(X, mask=missing)
    )
    assert completed.dtype == X.dtype
    np.testing.assert_array_equal(completed[~missing], X[~missing])


@pytest.mark.parametrize(
    ("X", "error", "message"),
    [
        (DIGITS[:0], ValueError, r"Found array with 0 sample\(s\)"),
        (DIGITS[0, 0], ValueError, "Expected 2D array, got 1D array"),
        (DIGITS * 1j, ValueError, "Complex data not supported"),
        (csr_array(DIGITS.reshape(6, 16)), TypeError, "Sparse data was passed"),
        (DIGITS - 0.5, ValueError, "Negative values in data"),
    ],
)
@pytest.mark.parametrize("call", ["fit", "transform"])
def test_what_are_no_images_is_refused(X: Any, error: Any, message: str, call: str) -> None:
    inpainter = QAVIInpainter(generative_model=trained((1, 4, 4))).fit()
    with pytest.raises(error, match=message):
        getattr(inpainter, call)(X)
