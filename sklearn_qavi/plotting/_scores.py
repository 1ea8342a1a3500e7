"""Scores of hidden cells as curves: against the number of draws, and against what they cost."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator

from .._checks import plain
from .._typing import ScoreDetails, Table
from ..exceptions import InferenceConvergenceWarning
from ._axes import add_legend, faint, hide_frame, new_axes, readable, say_beside
from ._labels import as_entry

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["ScoreCurveDisplay"]

Array = NDArray[np.float64]

_X_LABELS = {
    "draws": "draws S",
    "evaluations": "decoder evaluations per row",
    "seconds": "seconds per row",
}
_SCORE_LABELS = {
    "iwae": "importance-weighted score\n(nats per cell)",
    "predictive": "predictive score\n(nats per cell)",
    "conditional": "conditional score\n(nats per cell)",
    "minimum_nrmse": "smallest RMSE among draws\n(model's unit)",
}
_N_DRAWS = (1, 3, 10, 30, 100, 300, 1000)
_STEPS = tuple(2**k for k in range(9))


class ScoreCurveDisplay:
    """Scores of hidden cells, one curve for each imputer.

    Against the number of draws the importance-weighted score rises, for every posterior of one
    decoder, towards the same limit; the sooner it is there, the better the posterior covers what
    is possible. Against decoder evaluations or seconds the curve says what inference costs, and
    where more of it gains nothing. A method whose inference takes none of them, such as an encoder
    that answers at once, is a dashed line. Build one with `from_estimators` or `from_scores`.

    Parameters
    ----------
    x_values : dict of ndarray of shape (K,)
        Number of draws, decoder evaluations or seconds, by name of the curve.
    scores : dict of ndarray of shape (K,)
        Scores there, by the same names.
    x : {"draws", "evaluations", "seconds"}, default="draws"
        What the scores are plotted against.
    metric : {"iwae", "predictive", "conditional", "minimum_nrmse"}, default="iwae"
        What the scores are; for the label.

    Attributes
    ----------
    ax_ : matplotlib.axes.Axes
        Axes with the picture, after `plot`.
    figure_ : matplotlib.figure.Figure
        Figure with the axes, after `plot`.

    See Also
    --------
    sklearn_qavi.metrics.iwae : The importance-weighted score.
    BoundTraceDisplay : How the bound of each row rose.

    References
    ----------
    .. [1] Agarwal, Hope, Younis, Sudderth (2023), "A Decoder Suffices for Query-Adaptive
       Variational Inference", UAI, equation 12, figures 4 and 8.

    Examples
    --------
    >>> from sklearn_qavi.plotting import ScoreCurveDisplay
    >>> scores = {"Gaussian": [-3.1, -2.2, -1.9], "mixture": [-2.7, -2.0, -1.8]}
    >>> display = ScoreCurveDisplay.from_scores([1, 10, 100], scores)
    >>> [line.get_label() for line in display.ax_.lines]
    ['Gaussian', 'mixture']
    """

    def __init__(
        self,
        *,
        x_values: dict[str, Array],
        scores: dict[str, Array],
        x: str = "draws",
        metric: str = "iwae",
    ) -> None:
        self.x_values = x_values
        self.scores = scores
        self.x = x
        self.metric = metric

    @classmethod
    def from_estimators(
        cls,
        estimators: Mapping[str, BaseEstimator],
        X_true: Table,
        missing: ArrayLike,
        *,
        x: str = "draws",
        metric: str = "iwae",
        n_draws: int | Sequence[int] | None = None,
        max_iter: Sequence[int] | None = None,
        mask: ArrayLike | None = None,
        ax: Axes | None = None,
    ) -> Self:
        """Hide cells whose values are known, infer them with each imputer, score and plot.

        Parameters
        ----------
        estimators : dict of fitted QAVIImputer or QAVIInpainter
            By the names of their curves. They are not changed, and their models are not trained
            again. Scores compare between methods on one model.
        X_true : array-like, dataframe or images
            What the imputers take; the hidden cells must hold their true values.
        missing : array-like of bool
            True for the cells to hide and to score, as ``score_missing`` takes it.
        x : {"draws", "evaluations", "seconds"}, default="draws"
            Plot against the number of draws of the score, or against the decoder evaluations or
            seconds that inference took, both a row.
        metric : {"iwae", "predictive", "conditional", "minimum_nrmse"}, default="iwae"
            What to plot, see `sklearn_qavi.metrics`. Logarithmic scores are divided by the number
            of hidden cells; the smallest RMSE is the mean over rows.
        n_draws : int or list of int, default=None
            Codes per row and decoder. With ``x="draws"`` the points of a curve, None for 1, 3, 10
            up to 1,000; otherwise one number, None for 1,000.
        max_iter : list of int, default=None
            Points of a curve of cost: rows are inferred anew with each of these limits on the
            steps. None doubles from 1 to 256 until all rows have converged. Where the limit makes
            no difference, as for most baselines, there is one point.
        mask : array-like of bool, default=None
            For images, True where a pixel is missing without being scored.
        ax : matplotlib.axes.Axes, default=None
            Where to draw; None makes a figure.

        Returns
        -------
        display : ScoreCurveDisplay
            The display, plotted.

        Raises
        ------
        TypeError
            If an imputer has no ``score_missing``.
        ValueError
            If an option is not as described, or the hidden cells cannot be scored.
        ImportError
            If matplotlib is not installed.
        """
        _check_names(x, metric)
        if not estimators:
            raise ValueError("estimators is empty; pass a dict from names to fitted imputers.")
        against_draws = x == "draws"
        if against_draws and max_iter is not None:
            raise ValueError("max_iter is for curves of cost; pass x='evaluations' or 'seconds'.")
        if not against_draws and np.asarray(n_draws).ndim:
            raise ValueError(f"n_draws must be one number with x={plain(x)}, got {plain(n_draws)}.")
        options = {} if mask is None else {"mask": mask}
        curves = {}
        for name, estimator in estimators.items():
            if not hasattr(estimator, "score_missing"):
                raise TypeError(f"{type(estimator).__name__} ({plain(name)}) has no score_missing.")
            if against_draws:
                sizes = np.sort(np.atleast_1d(_N_DRAWS if n_draws is None else n_draws))
                scored = estimator.score_missing(
                    X_true, missing, n_draws=sizes, return_details=True, **options
                )
                curves[name] = sizes.astype(np.float64), _mean_score(metric, *scored)
            else:
                options["n_draws"] = 1000 if n_draws is None else n_draws
                curves[name] = _cost_curve(estimator, X_true, missing, x, metric, max_iter, options)
        return cls(
            x_values={name: curve[0] for name, curve in curves.items()},
            scores={name: curve[1] for name, curve in curves.items()},
            x=x,
            metric=metric,
        ).plot(ax=ax)

    @classmethod
    def from_scores(
        cls,
        x_values: ArrayLike | Mapping[str, ArrayLike],
        scores: Mapping[str, ArrayLike],
        *,
        x: str = "draws",
        metric: str = "iwae",
        ax: Axes | None = None,
    ) -> Self:
        """Plot scores from anywhere.

        Parameters
        ----------
        x_values : array-like of shape (K,) or dict of them
            Number of draws, decoder evaluations or seconds; the same for all curves, or by name.
        scores : dict of array-like of shape (K,)
            Scores there, by name of the curve.
        x : {"draws", "evaluations", "seconds"}, default="draws"
            What the scores are plotted against.
        metric : {"iwae", "predictive", "conditional", "minimum_nrmse"}, default="iwae"
            What the scores are; for the label.
        ax : matplotlib.axes.Axes, default=None
            Where to draw; None makes a figure.

        Returns
        -------
        display : ScoreCurveDisplay
            The display, plotted.

        Raises
        ------
        ValueError
            If names or lengths of the curves differ, or a value of x is negative or not finite.
        ImportError
            If matplotlib is not installed.
        """
        _check_names(x, metric)
        if not isinstance(x_values, Mapping):
            x_values = dict.fromkeys(scores, x_values)
        if x_values.keys() != scores.keys():
            raise ValueError(
                f"x_values is of the curves {plain(sorted(x_values))}, but scores of "
                f"{plain(sorted(scores))}."
            )
        at, values = {}, {}
        for name in scores:
            at[name], values[name] = (
                np.atleast_1d(np.asarray(one, dtype=np.float64))
                for one in (x_values[name], scores[name])
            )
            if at[name].ndim != 1 or at[name].shape != values[name].shape:
                raise ValueError(
                    f"The curve {plain(name)} has x_values of shape {at[name].shape}, but scores "
                    f"of shape {values[name].shape}; both have to be (K,)."
                )
            if not np.isfinite(at[name]).all() or (at[name] < 0).any():
                raise ValueError(
                    f"x_values of the curve {plain(name)} must be finite and at least 0."
                )
        return cls(x_values=at, scores=values, x=x, metric=metric).plot(ax=ax)

    def plot(self, ax: Axes | None = None) -> Self:
        """Draw the picture.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, default=None
            Where to draw; None makes a figure.

        Returns
        -------
        display : ScoreCurveDisplay
            Itself, with ``ax_`` and ``figure_``.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        self.ax_ = new_axes(type(self).__name__, (6.5, 3.8)) if ax is None else ax
        self.figure_ = self.ax_.figure
        for k, (name, scores) in enumerate(self.scores.items()):
            at = self.x_values[name]
            style: dict[str, Any] = {
                "color": readable(f"C{k % 10}", self.ax_),
                "label": as_entry(name),
            }
            positive = at > 0
            if positive.any():
                self.ax_.plot(at[positive], scores[positive], "o-", markersize=4, **style)
            else:  # a logarithmic axis has no place for it
                self.ax_.axhline(scores[-1], linestyle="--", linewidth=1.2, **style)
        self.ax_.set(xscale="log", xlabel=_X_LABELS[self.x])
        say_beside(self.ax_, *_SCORE_LABELS[self.metric].split("\n"))
        self.ax_.grid(axis="y", color=faint(self.ax_), linewidth=0.8)
        hide_frame(self.ax_)
        add_legend(self.ax_)
        return self


def _check_names(x: str, metric: str) -> None:
    for name, value, known in (("x", x, _X_LABELS), ("metric", metric, _SCORE_LABELS)):
        if value not in known:
            raise ValueError(f"{name} must be one of {sorted(known)}, got {plain(value)}.")


def _mean_score(metric: str, scores: dict[str, Array], details: ScoreDetails) -> Array:
    """Return the mean over cells, or over rows for errors, of scores (..., n_rows)."""
    values = scores[metric]
    if metric == "minimum_nrmse":
        mean: Array = np.nanmean(values, axis=-1)
    else:
        mean = np.nansum(values, axis=-1) / details["n_cells"].sum()
    return mean


def _cost_curve(
    estimator: BaseEstimator,
    X_true: Table,
    missing: ArrayLike,
    x: str,
    metric: str,
    max_iter: Sequence[int] | None,
    options: Mapping[str, object],
) -> tuple[Array, Array]:
    """Return what inference costs per row, and its score, for each limit on the steps."""

    def scored(limit: int | None) -> tuple[dict[str, Array], ScoreDetails]:
        limited = copy.copy(estimator)  # shares what was fitted
        if limit is not None:
            limited.set_params(max_iter=limit)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", InferenceConvergenceWarning)  # cut off on purpose
            result: tuple[dict[str, Array], ScoreDetails] = limited.score_missing(
                X_true, missing, return_details=True, **options
            )
        return result

    limits = _limits(estimator, max_iter)
    if x == "seconds":
        scored(limits[0])  # the first call of a process is slower than the others
    points: dict[float, tuple[float, float]] = {}  # by decoder evaluations
    for limit in limits:
        scores, details = scored(limit)
        evaluations = float(np.nanmean(details["n_evaluations"]))
        seconds = details["seconds"] / (details["n_cells"] > 0).sum()
        cost = {"evaluations": evaluations, "seconds": seconds}[x]
        points.setdefault(evaluations, (cost, float(_mean_score(metric, scores, details))))
        if details["converged"].all():
            break
    at, values = np.array([points[evaluations] for evaluations in sorted(points)]).T
    return at, values


def _limits(estimator: BaseEstimator, max_iter: Sequence[int] | None) -> list[int | None]:
    """Return limits on the steps, ascending; None leaves the estimator as it is."""
    if max_iter is not None:
        steps = np.unique(np.asarray(max_iter))
        if len(steps) == 0 or steps.dtype.kind not in "iu" or steps[0] < 1:
            raise ValueError(
                f"max_iter must be whole numbers of at least 1, got {plain(max_iter)}."
            )
        chosen: list[int | None] = steps.tolist()
    else:
        chosen = list(_STEPS)
    # a method that is not optimised row by row has no steps to limit
    return chosen if getattr(estimator, "_reads_max_iter", True) else [None]
