"""Curves of scores against what ``score_missing`` says."""

import copy
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from _linear_gaussian import LinearGaussian
from _linear_images import LinearImages, smooth_model
from sklearn_qavi import QAVIImputer, QAVIInpainter, _chunks
from sklearn_qavi.baselines import PseudoGibbs
from sklearn_qavi.exceptions import InferenceConvergenceWarning
from sklearn_qavi.generative import PretrainedDecoder
from sklearn_qavi.inference import Gaussian
from sklearn_qavi.plotting import ScoreCurveDisplay
from sklearn_qavi.sampling import DecoderPool, PooledPosterior

MODEL = LinearGaussian.orthogonal()
X = MODEL.draw_rows(6, seed=3)
MISSING = np.tile([[False, True, False, True, False], [True, False, False, False, False]], (3, 1))
N_CELLS = 9


def imputer(**params) -> QAVIImputer:
    decoder = PretrainedDecoder(
        MODEL.decoder(), "gaussian", MODEL.n_features, encoder=MODEL.encoder()
    )
    return QAVIImputer(generative_model=decoder, random_state=0, **params).fit(X)


def lines(display: ScoreCurveDisplay) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    return {line.get_label(): line.get_data() for line in display.ax_.lines}


@pytest.mark.parametrize("metric", ["iwae", "predictive", "minimum_nrmse"])
def test_curves_against_draws_are_means_of_the_scores(metric: str) -> None:
    methods = {"one": imputer(), "wide": imputer(beta=3.0)}
    display = ScoreCurveDisplay.from_estimators(
        methods, X, MISSING, metric=metric, n_draws=[100, 10]
    )
    assert list(lines(display)) == ["one", "wide"]
    for name, (at, values) in lines(display).items():
        np.testing.assert_array_equal(at, [10, 100])
        for n, value in zip(at, values, strict=True):
            scores = methods[name].score_missing(X, MISSING, n_draws=int(n))[metric]
            mean = scores.mean() if metric == "minimum_nrmse" else scores.sum() / N_CELLS
            assert value == pytest.approx(mean, rel=1e-9)
    assert display.ax_.get_xscale() == "log"
    unit = "RMSE" if metric == "minimum_nrmse" else "nats per cell"
    assert unit in display.ax_.get_ylabel()


def test_rows_without_a_hidden_cell_do_not_count() -> None:
    missing = np.concatenate([MISSING, np.zeros_like(MISSING)])
    both = [
        ScoreCurveDisplay.from_estimators({"m": imputer()}, x, mask, n_draws=50).scores["m"]
        for x, mask in ((X, MISSING), (np.concatenate([X, X]), missing))
    ]
    np.testing.assert_allclose(*both)


def test_cost_rises_to_that_of_converged_rows_and_nothing_is_changed() -> None:
    fitted = imputer(tol=1e-4)
    before = copy.deepcopy(fitted.get_params())
    display = ScoreCurveDisplay.from_estimators(
        {"m": fitted}, X, MISSING, x="evaluations", n_draws=200
    )
    at, values = display.x_values["m"], display.scores["m"]
    assert len(at) > 2
    assert (np.diff(at) > 0).all()
    scores, details = fitted.score_missing(X, MISSING, n_draws=200, return_details=True)
    assert at[-1] == details["n_evaluations"].mean()
    assert values[-1] == pytest.approx(scores["iwae"].sum() / N_CELLS)
    limited = copy.copy(fitted).set_params(max_iter=1)
    with pytest.warns(InferenceConvergenceWarning):
        scores, details = limited.score_missing(X, MISSING, n_draws=200, return_details=True)
    assert at[0] == details["n_evaluations"].mean()
    assert values[0] == pytest.approx(scores["iwae"].sum() / N_CELLS)
    after = fitted.get_params()
    assert {k: v for k, v in after.items() if k != "generative_model"} == {
        k: v for k, v in before.items() if k != "generative_model"
    }
    assert display.ax_.get_xlabel() == "decoder evaluations per row"


def test_limits_on_the_steps_may_be_chosen() -> None:
    steps_alone = imputer(tol=0.0, posterior=Gaussian(covariance="diagonal"))
    display = ScoreCurveDisplay.from_estimators(
        {"m": steps_alone}, X, MISSING, x="evaluations", n_draws=20, max_iter=[5, 2]
    )
    at = display.x_values["m"]
    n_points = at[0] / 2
    np.testing.assert_array_equal(at, [2 * n_points, 5 * n_points])


def test_seconds_are_of_inference_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    # a clock that stands still but for inference, which takes 12 seconds per step
    clock = SimpleNamespace(now=0.0)
    infer = DecoderPool.infer

    def slowly(self: DecoderPool, *args: Any, **kwargs: Any) -> PooledPosterior:
        pooled = infer(self, *args, **kwargs)
        clock.now += 12.0 * pooled.n_iter.max()
        return pooled

    monkeypatch.setattr(DecoderPool, "infer", slowly)
    monkeypatch.setattr(_chunks, "time", SimpleNamespace(perf_counter=lambda: clock.now))
    display = ScoreCurveDisplay.from_estimators(
        {"m": imputer(tol=0.0)}, X, MISSING, x="seconds", n_draws=20, max_iter=[1, 20]
    )
    np.testing.assert_allclose(display.x_values["m"], [12.0 / 6, 240.0 / 6])


def test_methods_without_steps_are_a_point_and_those_without_cost_a_line() -> None:
    gibbs = PseudoGibbs(n_burn_in=2, n_draws=8)
    methods = {
        "chain": imputer(posterior=gibbs),
        "named": imputer(posterior="pseudo_gibbs"),
        "at once": imputer(posterior="fill_zeros"),
    }
    display = ScoreCurveDisplay.from_estimators(
        methods, X, MISSING, x="evaluations", n_draws=20, max_iter=[1, 2]
    )
    assert {name: len(values) for name, values in display.scores.items()} == {
        "chain": 1,
        "named": 1,
        "at once": 1,
    }
    line = {one.get_label(): one for one in display.ax_.lines}["at once"]
    assert display.x_values["at once"][0] == 0
    assert line.get_linestyle() == "--"
    np.testing.assert_array_equal(line.get_ydata(), [display.scores["at once"][0]] * 2)


def test_images_are_scored_by_cell_with_pixels_left_out() -> None:
    exact = smooth_model((3, 4, 5))
    inpainter = QAVIInpainter(generative_model=LinearImages(exact, (3, 4, 5)), random_state=0).fit()
    images = exact.draw_rows(4, seed=1).clip(0, 1).reshape(4, 3, 4, 5)
    middle, away = np.zeros((4, 5), bool), np.zeros((4, 5), bool)
    middle[1:3, 1:4], away[0] = True, True
    display = ScoreCurveDisplay.from_estimators(
        {"m": inpainter}, images, middle, n_draws=[30], mask=away
    )
    scores = inpainter.score_missing(images, middle, mask=away, n_draws=30)["iwae"]
    assert display.scores["m"] == pytest.approx(scores.sum() / (4 * 6 * 3))
    for x in ("evaluations", "seconds"):
        cost = ScoreCurveDisplay.from_estimators(
            {"m": inpainter}, images, middle, x=x, n_draws=30, max_iter=[100], mask=away
        )
        assert cost.scores["m"] == pytest.approx(display.scores["m"])


def test_scores_from_elsewhere_are_drawn_as_they_are() -> None:
    scores = {"a": [-3.0, -2.0], "b": [-4.0, -1.0]}
    display = ScoreCurveDisplay.from_scores([1, 10], scores, metric="predictive")
    for name, (at, values) in lines(display).items():
        np.testing.assert_array_equal(at, [1, 10])
        np.testing.assert_array_equal(values, scores[name])
    assert display.ax_.get_ylabel().startswith("predictive")
    apart = ScoreCurveDisplay.from_scores(
        {"a": [1, 2], "b": 5.0}, {"a": [-3.0, -2.0], "b": -1.0}, x="seconds", ax=display.ax_
    )
    assert apart.figure_ is display.figure_
    assert len(display.ax_.lines) == 4
    assert [len(at) for at in apart.x_values.values()] == [2, 1]


def test_errors_say_what_was_expected() -> None:
    draw = ScoreCurveDisplay.from_estimators
    with pytest.raises(ValueError, match="x must be one of"):
        draw({"m": imputer()}, X, MISSING, x="steps")
    with pytest.raises(ValueError, match="metric must be one of"):
        draw({"m": imputer()}, X, MISSING, metric="rmse")
    with pytest.raises(ValueError, match="estimators is empty"):
        draw({}, X, MISSING)
    with pytest.raises(TypeError, match="has no score_missing"):
        draw({"m": object()}, X, MISSING)
    with pytest.raises(ValueError, match="max_iter is for curves of cost"):
        draw({"m": imputer()}, X, MISSING, max_iter=[3])
    with pytest.raises(ValueError, match="n_draws must be one number"):
        draw({"m": imputer()}, X, MISSING, x="seconds", n_draws=[3])
    for steps in ([], [0, 2], [1.5]):
        with pytest.raises(ValueError, match="max_iter must be whole numbers"):
            draw({"m": imputer()}, X, MISSING, x="seconds", max_iter=steps)
    with pytest.raises(ValueError, match=r"curves \['b'\], but scores of \['a'\]"):
        ScoreCurveDisplay.from_scores({"b": [1]}, {"a": [1]})
    with pytest.raises(ValueError, match="both have to be"):
        ScoreCurveDisplay.from_scores([1, 2], {"a": [1]})
    with pytest.raises(ValueError, match="finite and at least 0"):
        ScoreCurveDisplay.from_scores([-1], {"a": [1]})
