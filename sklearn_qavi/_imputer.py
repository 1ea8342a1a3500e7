"""QAVIImputer: tables in and out. What it shares with other estimators is in `_base`."""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from numbers import Real
from typing import TYPE_CHECKING, ClassVar, Literal, Self, cast, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, clone
from sklearn.utils import Tags
from sklearn.utils.validation import (
    FLOAT_DTYPES,
    check_is_fitted,
    has_fit_parameter,
    validate_data,
)
from torch import nn

from ._base import (
    BaseQAVI,
    check_can_hide,
    check_hides_some,
    checked_count,
    checked_level,
    checked_sizes,
    hide_some,
)
from ._checks import plain, refuse_number
from ._expected_error import MOST_SCORED_ROWS, error_by_column, with_several_masks
from ._interrupts import all_or_nothing
from ._model_units import ModelUnits
from ._random import seed_from
from ._row_inference import RowInference, Rows
from ._sklearn_compat import (
    BaseImputer,
    HasMethods,
    Interval,
    StrOptions,
    check_feature_names_in,
    check_sample_weight,
    fit_context,
    get_output_config,
)
from ._summaries import CategoryProbabilities, Limits, Point, PointAndDraws
from ._typing import Container, ScoreDetails, ScoresOfRows, Table
from .generative import TabularVAE
from .inference import InferenceMethod
from .preprocessing import (
    Categories,
    EncodedTable,
    Frame,
    ImageBatch,
    TableEncoder,
    as_frame,
    check_unique_names,
    known_container,
    rows_to_learn_from,
)
from .sampling import PooledPosterior

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["QAVIImputer"]

_N_DRAWS = 100  # that expected errors are estimated from


class QAVIImputer(BaseQAVI, BaseImputer):
    """Complete a table with draws from a variational autoencoder's posterior.

    `fit` trains a variational autoencoder. `transform` and `sample` then fit a posterior over the
    latent code to each incomplete row, using only the decoder and the row's observed cells, and
    fill its missing cells from the decoder. Any pattern of missing cells works without retraining.

    Columns may be numbers, categories (text, categorical types, booleans) or times. Observed cells
    come back as they were. Imputed ones are values of the column's type: categories of the column,
    integers within the type's range, times no further out than a tenth of the observed range.

    Parameters
    ----------
    generative_model : None, TabularVAE or PretrainedDecoder, default=None
        None trains a `TabularVAE`; an unfitted one is cloned and trained. Its parameters can be set
        and searched as ``generative_model__latent_dim``. A fitted model is used as it is and not
        trained, in clones as well. With ``TabularVAE(bootstrap=True)`` each draw of a table comes
        from one decoder: draws then also differ by what the rows leave open about the decoder, as
        Rubin's rules ask [2]_, and tables drawn beyond the number of decoders take them in turn.
    posterior : str or InferenceMethod, default="auto"
        What is inferred for a row. "gaussian", which "auto" stands for, "mixture" and "flow" are
        posteriors over the latent code, fitted through the decoder alone; "feature" is a posterior
        over the missing values, fitted through encoder and decoder. A string is short for an
        object with its defaults, such as ``Mixture(n_components=5)``, whose options can be set and
        searched as ``posterior__n_components``, see `Gaussian`, `Mixture`, `Flow` and `Feature` in
        `sklearn_qavi.inference`. Methods to compare with, see `sklearn_qavi.baselines`:
        "fill_zeros", "pseudo_gibbs", "metropolis_within_gibbs", "retuned_encoder",
        "posterior_matching", or an object such as ``PosteriorMatching(masks=0.5)``.
    beta : float or None, default=None
        Weight of the divergence of the posterior from the prior; None is 1, Bayes' rule.
    max_iter : int or None, default=None
        Maximum number of optimisation steps per row; None leaves it to the posterior.
    tol : float or None, default=None
        Nats below which a row has converged, see `Newton` and `Adam` in `sklearn_qavi.inference`;
        None leaves it to the posterior.
    importance_resampling : bool, default=False
        Weigh 1,024 codes of each row's posterior by p(x_O, z) / q(z), smooth the weights and
        draw from 256 codes resampled by them: draws are then exact for the decoder, up to
        the number of codes, whatever the family. Costs 1,024 decoder evaluations per row.
    strategy : {"mean", "median", "mode"}, default="mean"
        What `transform` fills in: a summary of the posterior predictive of the missing value. Of
        categories, each summary is the most probable one. The mean is pulled towards the median as
        far as the squared error of hidden cells asks for, see ``calibrate`` of
        `sklearn_qavi.generative.TabularVAE`.
    sample_posterior : bool, default=False
        Whether `transform` fills in a draw instead. It is a new one at every call, unless
        ``random_state`` is an integer.
    missing_values : int, float, str, np.nan, None or pandas.NA, default=np.nan
        What marks a missing value, besides NaN, None, NaT and NA, which do so in any case, and the
        mask of a masked array.
    column_types : dict or None, default=None
        What columns hold, by name or position, where the type does not say it: "real",
        "positive" (modelled on a log scale), a pair ``(low, high)`` of limits (modelled on a logit
        scale), "integer", "count" (not negative), "nominal" for categories, "ordinal" for
        numbers as ordered categories, or a list of categories in order. Otherwise booleans, text
        and categories of pandas, polars and pyarrow are categories, ordered ones ordinal; numbers
        are "integer" or "count" if all are whole (of floats, at least ten), and "real" if not. Text
        that is declared to hold numbers is completed with text. In a dataframe, floats that are
        declared "integer" or "count" come back as integers.
    handle_unknown : {"missing", "error"}, default="missing"
        What to do with categories that `fit` did not see, such as identifiers of new rows. With
        "missing" inference ignores them, and they come back as they are.
    min_value, max_value : float, array-like of shape (n_features,) or dict
        Bounds of imputed numbers, in original units, none by default: for all columns, one for
        each (NaN is none; those of columns that hold no numbers do not matter), or by name.
    linear_relations : bool, default=True
        Keep exact linear relations between numbers that all rows of `fit` have, such as a total
        beside its parts, or one column in two units. What they leave only one value for is
        computed, before the model learns; other missing cells are moved as little as makes the
        relations hold, unless that takes them out of their bounds.
    add_indicator : bool, default=False
        Append the columns of a `MissingIndicator`.
    keep_empty_features : bool, default=False
        Keep columns without any value at `fit`, their missing values filled with 0, instead of
        dropping them with a warning.
    batch_size : int or "auto", default="auto"
        Rows in work at one time. Memory grows with it, results do not depend on it, on a GPU up to
        rounding. "auto" takes what suits the device: 64 on a CPU, thousands on a GPU.
    device : str, default="auto"
        Where to train and infer: "auto" takes a GPU when there is one.
    n_jobs : int or None, default=None
        Threads that share the rows, or workers of the backend that `joblib.parallel_config`
        chooses, a Dask cluster for one; results do not depend on it.
    random_state : int, RandomState instance or None, default=None
        Seed of training, inference and draws.
    verbose : int, default=0
        With 1, progress bars in `fit` and inference.

    Attributes
    ----------
    generative_model_ : TabularVAE or PretrainedDecoder
        The model whose decoders are used.
    history_ : list of list of dict
        Its training history, empty if it was not trained here.
    n_iter_ : int
        Most epochs that one of its decoders was trained for; 0 if unknown.
    n_nests_ : int or None
        With ``TabularVAE(bootstrap=True)`` the number of decoders, from which draws are taken in
        turn: what `sklearn_qavi.pooling.pool` asks for. Otherwise None.
    relations_ : list of str
        The linear relations that are kept, such as "total = first + second".
    encoder_ : TableEncoder
        Which columns are modelled, what they hold (``schema_``), and bounds of imputed values.
    indicator_ : MissingIndicator or None
        Present when ``add_indicator=True``.
    n_features_in_ : int
        Number of columns seen in `fit`.
    feature_names_in_ : ndarray of shape (n_features,)
        Their names, when all were strings.

    Warns
    -----
    ConvergenceWarning
        If training or the inference of some rows ran out of iterations.
    ExtremeValueWarning
        If observed values lie more than 100 standard deviations from the training mean, and
        outside of what `fit` saw.
    NumericTextWarning
        If a column of text reads as numbers; it is taken as text unless its type is declared.
    UserWarning
        If columns without any value are dropped.

    See Also
    --------
    sklearn.impute.IterativeImputer : Chained regressions.
    sklearn_qavi.generative.TabularVAE : The default model.

    Notes
    -----
    A row's answer depends on the row, the fitted model and ``random_state`` alone: not on the
    other rows, their order, ``batch_size`` or ``n_jobs``. `sample` is keyed by ``random_state`` and
    the row's position in the call.

    The posterior of row x maximises ``E_q[log p(x_O | z)] - beta KL(q(z) || p(z))`` over its
    observed features O. Cells are assumed missing at random.

    References
    ----------
    .. [1] Agarwal, Hope, Younis, Sudderth (2023), "A Decoder Suffices for Query-Adaptive
       Variational Inference", UAI, equation 8.
    .. [2] Rubin (1987), "Multiple Imputation for Nonresponse in Surveys", section 4.2.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_iris
    >>> from sklearn_qavi import QAVIImputer
    >>> X = load_iris().data.copy()
    >>> X[::2, 2] = np.nan
    >>> imputer = QAVIImputer(random_state=0).fit(X)
    >>> completed = imputer.transform(X)
    >>> bool(np.isnan(completed).any())
    False
    >>> imputer.sample(X, n=20).shape
    (20, 150, 4)
    """

    _parameter_constraints: ClassVar[dict[str, list[object]]] = {
        **BaseImputer._parameter_constraints,
        **BaseQAVI._parameter_constraints,
        "generative_model": [
            None,
            nn.Module,
            HasMethods(["fit"]),
            HasMethods(["standardize", "unstandardize"]),
        ],
        "column_types": [None, dict],
        "handle_unknown": [StrOptions({"error", "missing"})],
        "min_value": [None, Interval(Real, None, None, closed="both"), "array-like"],
        "max_value": [None, Interval(Real, None, None, closed="both"), "array-like"],
        "linear_relations": ["boolean"],
    }

    _models: ClassVar[Mapping[str | None, type[BaseEstimator]]] = {None: TabularVAE}

    _validation_rows: NDArray[np.intp]

    def __init__(
        self,
        *,
        generative_model: BaseEstimator | None = None,
        posterior: str | InferenceMethod = "auto",
        beta: float | None = None,
        max_iter: int | None = None,
        tol: float | None = None,
        importance_resampling: bool = False,
        strategy: str = "mean",
        sample_posterior: bool = False,
        missing_values: object = np.nan,
        column_types: dict[Hashable, object] | None = None,
        handle_unknown: str = "missing",
        min_value: float | ArrayLike | Mapping[Hashable, float] | None = -np.inf,
        max_value: float | ArrayLike | Mapping[Hashable, float] | None = np.inf,
        linear_relations: bool = True,
        add_indicator: bool = False,
        keep_empty_features: bool = False,
        batch_size: int | str = "auto",
        device: str = "auto",
        n_jobs: int | None = None,
        random_state: int | np.random.RandomState | None = None,
        verbose: int = 0,
    ) -> None:
        super().__init__(
            missing_values=missing_values,
            add_indicator=add_indicator,
            keep_empty_features=keep_empty_features,
        )
        self.generative_model = generative_model
        self.posterior = posterior
        self.beta = beta
        self.max_iter = max_iter
        self.tol = tol
        self.importance_resampling = importance_resampling
        self.strategy = strategy
        self.sample_posterior = sample_posterior
        self.column_types = column_types
        self.handle_unknown = handle_unknown
        self.min_value = min_value
        self.max_value = max_value
        self.linear_relations = linear_relations
        self.batch_size = batch_size
        self.device = device
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    @fit_context(prefer_skip_nested_validation=False)
    @all_or_nothing
    def fit(
        self, X: Table, y: ArrayLike | None = None, sample_weight: ArrayLike | None = None
    ) -> Self:
        """Train the generative model, or take the trained one.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
            Table with missing cells, in original units.
        y : None
            Ignored, present for the scikit-learn contract.
        sample_weight : array-like of shape (n_rows,), default=None
            How much each row counts in training, e.g. survey weights; rows of weight 0 are not
            learned from. None counts all alike.

        Returns
        -------
        self : QAVIImputer
            The fitted imputer.

        Raises
        ------
        ValueError
            If a column holds infinity, mixes types, or cannot be categories, or there are too few
            rows to learn from; the message names columns and remedy.
        TrainingDivergedError
            If the training loss is not finite.
        """
        self._check_before_training()
        checked = self._check_input(X, in_fit=True).copy()
        self.encoder_ = TableEncoder(
            missing_values=self.missing_values,
            keep_empty_features=self.keep_empty_features,
            min_value=self.min_value,
            max_value=self.max_value,
            column_types=self.column_types,
            handle_unknown=self.handle_unknown,
        ).fit(checked)
        self._fit_indicator(self.encoder_.missing(checked))
        self._seed = seed_from(self.random_state)
        table = self.encoder_.encode(checked)
        if self.linear_relations:
            self.encoder_.find_relations(table)
        table = self.encoder_.derive(table)
        self._validation_rows = np.array([], dtype=np.intp)
        self._take_model(self._trained_model(table, sample_weight))
        self._method_states = self._learn_method(
            self._rows(checked, warn=False), self.generative_model_.decoders_
        )
        self._fit_X = checked
        return self

    def transform(self, X: Table, *, row_offset: int = 0) -> Container:
        """Fill each missing cell with one value.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
            Table with missing cells, in original units.
        row_offset : int, default=0
            Position of the first row of X in the table it was cut from, for draws
            (``sample_posterior=True``) that do not depend on how the table was cut.

        Returns
        -------
        X_completed : ndarray of shape (n_rows, n_features_out)
            Observed cells are those of X. An array keeps its type, integers too, of which means
            are then rounded; a dataframe becomes an array of floats, or of objects where floats
            do not hold its cells exactly, and a dataframe with the types of X if `set_output` says
            so; a pyarrow table stays one. Types do not depend on which cells are missing.

        Raises
        ------
        InferenceDivergedError
            If a posterior or an imputed value is not finite; the message names the columns.

        Warns
        -----
        ConvergenceWarning
            If rows had not converged when the steps ran out.
        """
        check_is_fitted(self)
        row_offset = checked_count("row_offset", row_offset)
        rows = self._encode(X)
        summary = self._new_draw() if self.sample_posterior else self._point_summary()
        (values,) = self._inference().values(rows, summary, row_offset=row_offset)
        return self._decode(rows, values, whole=self.sample_posterior or self.strategy != "mean")

    def fit_transform(
        self, X: Table, y: ArrayLike | None = None, sample_weight: ArrayLike | None = None
    ) -> Container:
        """Fit on X and complete it.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
            Table with missing cells, in original units.
        y : None
            Ignored, present for the scikit-learn contract.
        sample_weight : array-like of shape (n_rows,), default=None
            As `fit` takes it.

        Returns
        -------
        X_completed : ndarray of shape (n_rows, n_features_out)
            What ``fit(X).transform(X)`` returns.
        """
        return self.fit(X, y, sample_weight=sample_weight).transform(X)

    @fit_context(prefer_skip_nested_validation=True)
    def sample(
        self, X: Table | None = None, n: int = 1, *, row_offset: int = 0
    ) -> Container | list[Container]:
        """Complete a table n times with independent draws: multiple imputation.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features), default=None
            Table with missing cells, in original units; None takes the table of `fit`.
        n : int, default=1
            Number of completed tables.
        row_offset : int, default=0
            Position of the first row of X in the table it was cut from: a part's draws are then
            those of the whole table.

        Returns
        -------
        draws : ndarray of shape (n, n_rows, n_features_out), or list of n dataframes
            Each is a completed table as `transform` returns it; a list of dataframes if
            `set_output` says so, and of pyarrow tables if X is one. The first draws of a larger n
            are those of a smaller n.

        Raises
        ------
        ValueError
            If n or row_offset is not a whole number of at least 0.
        InferenceDivergedError
            If a posterior or a draw is not finite; the message names the columns.
        """
        check_is_fitted(self)
        refuse_number(X, "sample(n={})")
        n, row_offset = checked_count("n", n), checked_count("row_offset", row_offset)
        rows = self._encode_or_fitted(X)
        values = self._inference().values(rows, self._draws(n), n, row_offset=row_offset)
        draws = list(values)
        completed = [self._decode(rows, draw) for draw in draws]
        dataframes = get_output_config("transform", self)["dense"] != "default"
        if dataframes or cast(Frame, rows.source).container == "pyarrow":
            return completed
        if n:
            in_place = all(one is draw for one, draw in zip(completed, draws, strict=True))
            return values if in_place else np.stack(completed)
        shape = (0, len(rows), len(self.get_feature_names_out()))
        return np.empty(shape, dtype=cast(Frame, rows.source).dtype)

    def iter_samples(
        self, X: Table | None = None, n: int = 1, *, row_offset: int = 0
    ) -> Iterator[Container]:
        """Yield the tables of `sample` one by one, so that they are never held together.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features), default=None
            Table with missing cells, in original units; None takes the table of `fit`.
        n : int, default=1
            Number of completed tables.
        row_offset : int, default=0
            Position of the first row of X in the table it was cut from.

        Returns
        -------
        draws : iterator of ndarray of shape (n_rows, n_features_out), or of dataframe
            Completed tables; the m-th is that of `sample`, bit for bit.

        Raises
        ------
        ValueError
            If n or row_offset is not a whole number of at least 0.

        Notes
        -----
        Rows are inferred once, when the first table is asked for. What is held is the posteriors,
        and as many draws at a time as fit into 64 MiB.
        """
        check_is_fitted(self)
        refuse_number(X, "iter_samples(n={})")
        n, row_offset = checked_count("n", n), checked_count("row_offset", row_offset)
        rows = self._encode_or_fitted(X)
        draws = self._inference().iter_draws(
            rows, n, self._seed_of("draws"), in_turn=self._in_turn, row_offset=row_offset
        )
        return (self._decode(rows, draw) for draw in draws)

    def predict_interval(
        self, X: Table | None = None, level: float = 0.95
    ) -> tuple[Container, Container]:
        """Return equal-tailed intervals of the posterior predictive of each missing cell.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features), default=None
            Table with missing cells, in original units; None takes the table of `fit`.
        level : float, default=0.95
            Probability inside of the interval, between 0 and 1.

        Returns
        -------
        lower, upper : ndarrays of shape (n_rows, n_features_out)
            In original units, from 256 draws; both equal the observed value on observed cells.
            Categories without order have no intervals: both limits are the most probable category,
            and `category_probabilities` says how sure it is. Dataframes if `set_output` says so.

        Raises
        ------
        ValueError
            If level is not between 0 and 1.
        """
        check_is_fitted(self)
        refuse_number(X, "predict_interval(level={})")
        level = checked_level(level)
        rows = self._encode_or_fitted(X)
        unordered = tuple(j for j, c in enumerate(self.encoder_.modelled) if c.is_unordered)
        limits = self._inference().values(rows, Limits(level, unordered), 2)
        lower, upper = (self._decode(rows, limit, move=False) for limit in limits)
        return lower, upper

    def category_probabilities(self, X: Table | None = None) -> dict[Hashable, Container]:
        """Return the probability of each category in each cell of the columns that hold categories.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features), default=None
            Table with missing cells, in original units; None takes the table of `fit`.

        Returns
        -------
        probabilities : dict of DataFrame of shape (n_rows, n_categories)
            By name of the column; one column per category, rows sum to 1. An observed cell has
            probability 1 at its category; one with a category that `fit` did not see has zeros.
            Empty if no column holds categories.
        """
        import pandas as pd

        check_is_fitted(self)
        rows = self._encode_or_fitted(X)
        table = rows.table
        categorical = [
            (j, c) for j, c in enumerate(self.encoder_.modelled) if isinstance(c, Categories)
        ]
        if not categorical:
            return {}
        sizes = [column.n_categories for _, column in categorical]
        (flat,) = self._inference().values(rows, CategoryProbabilities(), width=sum(sizes))
        parts = np.split(flat, np.cumsum(sizes)[:-1], axis=1)
        out = {}
        for (j, column), part in zip(categorical, parts, strict=True):
            observed = table.observed[:, j]
            part[~table.missing[:, j]] = 0.0  # also of a category that fit did not see
            part[observed] = np.eye(column.n_categories)[table.values[observed, j].astype(int)]
            columns = pd.Index(list(column.categories), tupleize_cols=False)
            out[column.name] = pd.DataFrame(
                part, columns=columns, index=cast(Frame, rows.source).index
            )
        return out

    def infer(self, X: Table | None = None, *, trace: bool = False) -> PooledPosterior:
        """Return the fitted posteriors of all rows and how the inference went.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features), default=None
            Table with missing cells, in original units; None takes the table of `fit`.
        trace : bool, default=False
            Keep the bound after each step in ``trace`` of the results; nothing else changes.

        Returns
        -------
        pooled : PooledPosterior
            Per row ``bound`` (nats, on standardized columns), ``n_iter``, ``n_evaluations``,
            ``converged``, and, computed from 1,024 importance weights when they are first read,
            ``pareto_k`` and ``effective_sample_size``; per decoder, in ``results``, the posteriors.

        Raises
        ------
        ValueError
            If a trace is asked for but the inference method climbs no bound.
        """
        check_is_fitted(self)
        self._check_trace(trace)
        return self._inference().posteriors(self._encode_or_fitted(X), trace=trace)

    def score(self, X: Table, y: ArrayLike | None = None) -> float:
        """Return the mean log predictive density of observed cells hidden at random.

        Three tenths of the observed cells are hidden (seeded by ``random_state``), inferred from
        the others and scored; so `GridSearchCV` works without a ground truth.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
            Table in original units, with or without missing cells.
        y : None
            Ignored, present for the scikit-learn contract.

        Returns
        -------
        score : float
            Nats per hidden cell, on standardized columns; higher is better. A histogram's density
            has point masses at its atoms, so scores compare between parameters, not between a
            histogram and a continuous likelihood.

        Raises
        ------
        ValueError
            If no row has two observed cells.
        """
        check_is_fitted(self)
        rows = self._rows(self._check_input(X, in_fit=False), derive=False)
        hidden = hide_some(rows.table.observed, self._seed_of("score"))
        check_can_hide(hidden)
        return self._inference().mean_log_density(rows, hidden)

    def expected_error(self, X: Table | None = None) -> "pd.DataFrame":
        """Estimate how far imputed values are from the truth, column by column.

        Three tenths of the observed cells of some rows are hidden (seeded by ``random_state``; in
        several ways where rows are few), inferred from the others, and compared with their values.
        So are the answers of simple imputers, which say whether this one pays on the table.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features), default=None
            Table in original units, of rows that `fit` did not see; of more than 512 rows so many
            are chosen at random. None takes those rows of the table of `fit` that the model was
            validated on but did not learn from; the decoders were chosen by them, so their errors
            are a little optimistic. Of fewer than 20 rows, which are all learned from, they are
            far too low.

        Returns
        -------
        errors : DataFrame
            One line for each column with a value, by its name:

            - "kind": what it holds, see ``column_types``;
            - "n_cells": how many of its cells were hidden; without any, the others are missing;
            - "error": the root mean squared error of what `transform` fills in, in the column's
              units (days or other units of ``encoder_`` for times); of categories the share of
              wrong ones;
            - "crps": the continuous ranked probability score of 100 draws, in the column's units;
              of categories half of the Brier score. For an imputer that gives one value it is the
              mean absolute error or the share of wrong categories, so all are compared by it;
            - "coverage": the share of values inside of 90% intervals, of numbers and times;
            - "error_mean", "error_neighbors", "error_linear", and "crps_mean", ...: the same of the
              mean or most frequent category, of `KNNImputer` and of `IterativeImputer`, which
              learned from the rows that are not scored, 2,000 at most;
            - "best": "qavi", "mean", "neighbors" or "linear", whose CRPS is lowest.

        Raises
        ------
        ValueError
            If no row that can be scored has two observed cells.

        Examples
        --------
        >>> from sklearn.datasets import load_wine
        >>> from sklearn_qavi import QAVIImputer
        >>> from sklearn_qavi.generative import TabularVAE
        >>> X = load_wine(as_frame=True).data.iloc[:, :5]
        >>> quick = TabularVAE(likelihood="gaussian", n_decoders=1)
        >>> imputer = QAVIImputer(generative_model=quick, random_state=0).fit(X)
        >>> errors = imputer.expected_error()
        >>> bool(errors.loc["alcohol", "crps"] < errors.loc["alcohol", "crps_mean"])
        True
        """
        check_is_fitted(self)
        rows = self._encode_or_fitted(X, derive=False)
        scored, learned = self._scored_and_learned(rows, of_fit=X is None)
        inference = self._inference() if X is not None else self._inference_of_validation(rows)
        hidden = hide_some(rows.table.observed[scored], self._seed_of("score"))
        if not hidden.any():
            raise ValueError(
                "expected_error hides observed cells, but no row that can be scored has two of "
                "them; pass rows with more as X."
            )
        table = rows.table.take(scored)
        encoder, whole = self.encoder_, self.strategy != "mean"
        shown = encoder.derive(EncodedTable(table.values, table.observed & ~hidden, table.unseen))
        summary = PointAndDraws(self._point_summary(), self._draws(_N_DRAWS))
        values = inference.values(
            self._rows_of(shown, rows.source, warn=False), summary, 1 + _N_DRAWS
        )
        return error_by_column(
            encoder.modelled,
            encoder.in_original_units(table.values),
            hidden,
            self._units.original(values[0], shown, whole=whole),
            self._units.original(values[1:], shown, whole=True),
            learned,
            self._seed_of("score"),
        )

    @overload
    def score_missing(
        self,
        X: Table,
        missing: ArrayLike,
        *,
        n_draws: int | Sequence[int] = ...,
        return_details: Literal[False] = ...,
    ) -> ScoresOfRows: ...

    @overload
    def score_missing(
        self,
        X: Table,
        missing: ArrayLike,
        *,
        n_draws: int | Sequence[int] = ...,
        return_details: Literal[True],
    ) -> tuple[ScoresOfRows, ScoreDetails]: ...

    def score_missing(
        self,
        X: Table,
        missing: ArrayLike,
        *,
        n_draws: int | Sequence[int] = 10_000,
        return_details: bool = False,
    ) -> ScoresOfRows | tuple[ScoresOfRows, ScoreDetails]:
        """Hide cells whose values are known, infer them, and score the posteriors row by row.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
            Table in original units; the hidden cells must hold their true values.
        missing : array-like of bool of shape (n_rows, n_features)
            True for the cells to hide and to score.
        n_draws : int or list of int, default=10000
            Codes per row and decoder. Of several numbers the smaller ones take the first codes of
            the largest, so that a curve costs no more than its last point.
        return_details : bool, default=False
            Whether to return what the inference took as well.

        Returns
        -------
        scores : dict of ndarray of shape (n_rows,), or (len(n_draws), n_rows)
            "iwae", "predictive" and "conditional" in nats per row on standardized columns and
            "minimum_nrmse" in standard deviations; NaN for rows without a hidden cell. What they
            mean is said in `sklearn_qavi.metrics`.
        details : dict
            With ``return_details``, by row: "n_cells" that were scored, "n_evaluations" of each
            decoder, NaN for rows without a hidden cell, and "converged"; and "seconds" that the
            inference of all of them took, without the scoring.

        Raises
        ------
        ValueError
            If the mask has another shape than X, hides nothing, or hides a cell without a value.
        """
        check_is_fitted(self)
        checked = self._check_input(X, in_fit=False)
        hidden = np.asarray(missing, dtype=bool)
        if hidden.shape != checked.shape:
            raise ValueError(f"missing has shape {hidden.shape}, but X has {checked.shape}.")
        if (hidden & self.encoder_.missing(checked)).any():
            raise ValueError(
                "missing marks cells that have no value in X, so they cannot be scored."
            )
        hidden = hidden[:, ~self.encoder_.is_empty_]
        rows = self._rows(checked, derive=False)
        if (hidden & ~rows.table.observed).any():
            raise ValueError(
                "missing marks cells with categories that fit did not see, so they cannot be "
                "scored. Fit on rows that have them, or leave them out of missing."
            )
        sizes = checked_sizes(n_draws)
        check_hides_some(hidden)
        scores, details = self._inference().scores(rows, hidden, sizes)
        return (scores, details) if return_details else scores

    def get_feature_names_out(self, input_features: ArrayLike | None = None) -> NDArray[np.object_]:
        """Return the names of the columns of the completed table.

        Parameters
        ----------
        input_features : array-like of str or None, default=None
            Names of the input columns; None takes those of `fit`, else ``x0``, ``x1``, ...

        Returns
        -------
        names : ndarray of str
            Without dropped empty columns, with the indicator's.
        """
        check_is_fitted(self)
        names = check_feature_names_in(self, input_features)
        kept = names if self.keep_empty_features else names[~self.encoder_.is_empty_]
        names_out: NDArray[np.object_] = self._concatenate_indicator_feature_names_out(kept, names)
        return names_out

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        tags.input_tags.categorical = tags.input_tags.string = True
        return tags

    def _check_input(self, X: Table, *, in_fit: bool) -> Frame:
        """Return the table by columns, after the checks that scikit-learn makes."""
        X = known_container(X)
        check_unique_names(X)
        frame = as_frame(X)
        if frame is None:
            dtype = "numeric" if isinstance(X, np.ndarray) else FLOAT_DTYPES
            array = validate_data(self, X, reset=in_fit, dtype=dtype, ensure_all_finite=False)
            return Frame.of_array(array)
        if 0 in frame.shape:
            axis = frame.shape.index(0)
            raise ValueError(
                f"Found array with 0 {['sample', 'feature'][axis]}(s) (shape={frame.shape}) while "
                "a minimum of 1 is required by QAVIImputer."
            )
        validate_data(self, X, reset=in_fit, skip_check_array=True)
        return frame

    def _encode(self, X: Table) -> Rows:
        """Return a table as inference takes it."""
        return self._rows(self._check_input(X, in_fit=False))

    def _encode_or_fitted(self, X: Table, *, derive: bool = True) -> Rows:
        """Return a table as inference takes it, None being that of `fit`."""
        if X is not None:
            return self._rows(self._check_input(X, in_fit=False), derive=derive)
        if self._fit_X is None:
            raise ValueError("The table of fit is not part of a saved imputer; pass a table X.")
        return self._rows(self._fit_X, derive=derive)

    def _rows(self, checked: Frame, *, warn: bool = True, derive: bool = True) -> Rows:
        """Return a checked table in the model's units; numbers far out are taken as less far.

        With ``derive`` cells that relations leave one value for count as observed.
        """
        table = self.encoder_.encode(checked)
        return self._rows_of(self.encoder_.derive(table) if derive else table, checked, warn=warn)

    def _rows_of(self, table: EncodedTable, source: Frame | ImageBatch, *, warn: bool) -> Rows:
        """Return an encoded table as inference takes it, with a warning of numbers far out."""
        if warn and len(table.incomplete_rows):
            self._units.warn_far(table)
        return Rows(table, self._units.of_table, source)

    @property
    def _units(self) -> ModelUnits:
        return ModelUnits(self.encoder_, self.generative_model_)

    def _scored_and_learned(
        self, rows: Rows, *, of_fit: bool
    ) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
        """Return positions of rows to score, and rows that simple imputers may learn from.

        The latter are in original units. Where it is unknown which rows the model has not learned
        from, or what the others are, halves of the rows stand for both.
        """
        order = np.random.default_rng(self._seed_of("score")).permutation(len(rows))
        if of_fit and len(self._validation_rows):
            scored = self._validation_rows
            others = np.setdiff1d(order, scored)
            learned = others if len(others) else order
        elif of_fit or self._fit_X is None:
            scored, learned = np.array_split(order, 2)
        else:
            fitted = self._rows(self._fit_X, warn=False)
            scored = with_several_masks(np.sort(order[:MOST_SCORED_ROWS]))
            return scored, self.encoder_.in_original_units(fitted.table.values)
        learned_from = self.encoder_.in_original_units(rows.table.values[learned])
        return with_several_masks(np.sort(scored[:MOST_SCORED_ROWS])), learned_from

    def _inference_of_validation(self, rows: Rows) -> RowInference:
        """Return what infers the validation rows of `fit`, without having learned from them."""
        if len(self._validation_rows) == 0:
            return self._inference()
        decoders = self.generative_model_.validated_decoders_
        states = self._learn_method(rows, decoders, without=self._validation_rows)
        return self._inference_by(decoders, states)

    def _decode(
        self, rows: Rows, values: NDArray[np.float64], *, whole: bool = True, move: bool = True
    ) -> Container:
        """Put values (N, D) of the model into the missing cells, and append the indicator.

        The values are overwritten, and become the table if it can be an array of floats.
        """
        frame, missing, encoder = cast(Frame, rows.source), rows.table.missing, self.encoder_
        self._units.fill(values, rows.table, frame, whole=whole, move=move)
        return encoder.decode(
            frame,
            values,
            missing,
            get_output_config("transform", self)["dense"],
            more=self._transform_indicator(encoder.missing(frame)),
            names=list(self.get_feature_names_out()),
        )

    def _trained_model(self, table: EncodedTable, sample_weight: ArrayLike | None) -> BaseEstimator:
        n_columns = table.values.shape[1]
        if n_columns == 0:
            raise ValueError("Every column is empty: there is no observed value to learn from.")
        model = self._trained_already(
            n_columns,
            wrapped=f"PretrainedDecoder(decoder, 'gaussian', n_features={n_columns})",
            known=f"columns, but X has {n_columns} columns with observed values",
        )
        if model is not None:
            known = getattr(model, "n_categories_", [None] * n_columns)
            if known != self.encoder_.n_categories_:
                names = [s.name for s in self.encoder_.modelled if s.n_categories]
                raise ValueError(
                    f"Column(s) {plain(names)} of X hold categories, but the trained generative "
                    "model knows other numbers of categories by column. Train it on codes of "
                    "these categories (TabularVAE's n_categories), or encode the columns as "
                    "numbers first."
                )
            return model
        model, values, weight = self._unfitted_model(), table.values, None
        counting = np.arange(len(values))
        if sample_weight is not None:
            if not has_fit_parameter(model, "sample_weight"):
                raise ValueError(f"{type(model).__name__} cannot learn with sample_weight.")
            weight = check_sample_weight(
                sample_weight, values, dtype=np.float64, ensure_non_negative=True
            )
            counting = np.flatnonzero(weight > 0)
        rows = counting[rows_to_learn_from(table.observed[counting])]
        if weight is None:
            model.fit(values[rows])
        else:
            model.fit(values[rows], sample_weight=weight[rows])
        if hasattr(model, "validation_rows_"):
            self._validation_rows = rows[model.validation_rows_]
        return model

    def _unfitted_model(self) -> BaseEstimator:
        given = self.generative_model
        model = self._models[None]() if given is None else clone(given)
        parameters = model.get_params(deep=False)
        if any(self.encoder_.n_categories_):
            if "n_categories" not in parameters:
                names = [s.name for s in self.encoder_.modelled if s.n_categories]
                raise ValueError(
                    f"Column(s) {plain(names)} hold categories, which {type(model).__name__} "
                    "cannot learn: it has no parameter n_categories. Encode them as numbers first."
                )
            model.set_params(n_categories=self.encoder_.n_categories_)
        if given is None:
            model.set_params(device=self.device, verbose=self.verbose)
        self._seed_model(model)
        return model

    @property
    def relations_(self) -> list[str]:
        """The linear relations that are kept, as text."""
        check_is_fitted(self)
        names = [column.name for column in self.encoder_.modelled]
        return [text for part in self.encoder_.relations_ for text in part.described(names)]

    @property
    def n_nests_(self) -> int | None:
        """Number of decoders that draws are taken from in turn; None if draws are alike."""
        check_is_fitted(self)
        return len(self.generative_model_.decoders_) if self._in_turn else None

    def _point_summary(self) -> Point:
        """Return the summary that ``strategy`` names."""
        categorical = tuple(j for j, n in enumerate(self.encoder_.n_categories_) if n is not None)
        curved = self._units.curved_columns() if self.strategy == "mean" else ()
        return Point(self.strategy, tuple(curved), categorical)
