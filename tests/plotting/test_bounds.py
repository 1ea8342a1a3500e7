"""Lines of bounds against the trace that an inference keeps."""

import numpy as np
import pytest
import torch

from sklearn_qavi.inference import (
    FunctionTarget,
    GaussianPosterior,
    MixturePosterior,
    fit_posterior,
)
from sklearn_qavi.plotting import BoundTraceDisplay


def target(n=12):
    center = torch.linspace(-3.0, 3.0, n).unsqueeze(1).expand(n, 2)
    return FunctionTarget(lambda z, rows: -4.0 * (z - center[rows]).abs().sum(-1), n, 2)


@pytest.fixture(scope="module")
def result():
    return fit_posterior(target(), GaussianPosterior(2), trace=True)


def lines(display):
    return {line.get_label(): line for line in display.ax_.lines}


def test_lines_are_the_bounds_and_end_with_the_row(result):
    display = BoundTraceDisplay.from_inference(result, rows=[2, 7])
    drawn = lines(display.plot(relative=False))
    assert list(drawn) == ["row 2", "row 7"]
    for row in (2, 7):
        line, n = drawn[f"row {row}"], int(result.n_iter[row])
        np.testing.assert_array_equal(line.get_xdata(), np.arange(1, n + 1))
        np.testing.assert_allclose(line.get_ydata(), result.trace[row, :n])
        assert line.get_ydata()[-1] == pytest.approx(float(result.bound[row]))


def test_relative_lines_end_at_zero(result):
    for line in BoundTraceDisplay.from_inference(result).ax_.lines:
        assert line.get_ydata()[-1] == 0.0


def test_steps_are_counted_in_windows():
    result = fit_posterior(target(), MixturePosterior(2, 2), trace=True)
    for row, line in enumerate(BoundTraceDisplay.from_inference(result).ax_.lines):
        assert line.get_xdata()[-1] == int(result.n_iter[row])


def test_rows_that_ran_out_are_crossed(result):
    bounds = result.trace.numpy()[:3].astype(float)
    display = BoundTraceDisplay(
        bounds=bounds,
        steps=np.arange(1, bounds.shape[1] + 1),
        rows=np.arange(3),
        converged=np.array([True, False, True]),
    ).plot(relative=False)
    (cross,) = display.ax_.collections
    kept = bounds[1][~np.isnan(bounds[1])]
    np.testing.assert_allclose(cross.get_offsets(), [[len(kept), kept[-1]]])
    assert "1 not converged" in display.ax_.get_title()


def test_many_rows_have_one_colour_and_no_legend():
    result = fit_posterior(target(40), GaussianPosterior(2), trace=True)
    ax = BoundTraceDisplay.from_inference(result).ax_
    assert len(ax.lines) == 40
    assert {line.get_color() for line in ax.lines} == {"C0"}
    assert ax.get_legend() is None


def test_errors_say_what_was_expected(result):
    with pytest.raises(ValueError, match="pass trace=True"):
        BoundTraceDisplay.from_inference(fit_posterior(target(), GaussianPosterior(2)))
    with pytest.raises(ValueError, match="decoder must be from 0 to 0"):
        BoundTraceDisplay.from_inference(result, decoder=1)
    for rows in ([], [0.5], [[1]]):
        with pytest.raises(ValueError, match="rows must be a list of positions"):
            BoundTraceDisplay.from_inference(result, rows=rows)
    with pytest.raises(ValueError, match="positions from 0 to 11"):
        BoundTraceDisplay.from_inference(result, rows=[12])
