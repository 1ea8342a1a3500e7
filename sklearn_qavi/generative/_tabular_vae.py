"""TabularVAE: a variational autoencoder for numeric tables, trained with imputation in mind."""

import warnings
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import validate_data
from torch import Tensor

from .._caching import taken_from_cache
from .._checks import plain, refuse_infinity
from .._device import resolve_device
from .._interrupts import all_or_nothing
from .._random import seed_from
from .._sklearn_compat import HasMethods, Interval, StrOptions, check_sample_weight, fit_context
from .._spread import Spread
from ._checkpoint import SavedModel
from ._ensemble import TrainedMember
from ._layers import ACTIVATIONS
from ._likelihoods import LIKELIHOODS, ColumnLikelihoods
from ._network import TabularNetwork
from ._table_training import Candidate, TableTrainer, atoms_of

__all__ = ["TabularVAE"]

_MIN_ROWS = 5
_MIN_ROWS_TO_SPLIT = 20
_MAX_VALIDATION_ROWS = 512
_CONTINUOUS = ["student_t", "histogram"]
_ENOUGH_FOR_RANDOM = 500  # rows from which networks may learn all that is linear as well
_OF_NUMBERS = sorted(set(LIKELIHOODS) - {"categorical"})
_CONSTANTS_OF_COLUMNS = ["mean", "scale", "spread", "deviation", "pull"]  # that are saved


class TabularVAE(SavedModel):
    """Variational autoencoder for numeric tables; an ensemble of them on request.

    Columns are standardized by the training rows. Training adds noise to the encoder's input and
    scores hidden cells of validation rows by fast QAVI at growing intervals: the weights with the
    best score are kept, averaged over about the last tenth of the steps. Networks are trained side
    by side, in one pass where they share a likelihood. On a CPU one thread does it, whatever
    torch's setting. Rows may have missing cells; the bound then sums over the observed ones.

    Parameters
    ----------
    latent_dim : int, default=10
        Size L of the latent code.
    hidden_layer_sizes : tuple of int, default=(64, 64)
        Hidden layers of the decoder, and in reverse of the encoder.
    activation : {"tanh", "relu", "gelu", "silu"}, default="tanh"
        Activation function of the hidden layers.
    likelihood : str or list of str, default="auto"
        Observation model of the columns: "student_t", "gaussian", "bernoulli", "histogram", a
        list with one of these per column, or "auto". "auto" takes "bernoulli" for columns of two
        values and decides between "student_t" and "histogram" for the others on hidden
        validation cells. Unless a list says otherwise, a column of one value is an atom of a
        histogram, so that draws of a constant are that constant.
    n_categories : list of (int or None), default=None
        For each column the number of its categories if it is categorical and holds their codes
        0, 1, ...; None for numbers. Categorical columns have a "categorical" likelihood, whatever
        ``likelihood`` says.
    histogram_smoothing : float or None, default=None
        Spread of the histogram's training targets, in bins. None trains networks with 1 and with
        1 that falls to nothing after 100 steps, and decides on hidden validation cells.
    n_decoders : int, default=3
        Decoders whose draws are pooled. A network for each open choice (likelihood, smoothing,
        start) is trained, side by side, and as many more as it takes. Those that fall behind on
        hidden validation cells are given up early. The pool is the best one and those that lower
        the CRPS of the pooled draws most; all have seen the same validation rows.
    bootstrap : bool, default=False
        Train each decoder on as many rows drawn with replacement, so that the decoders differ as
        much as the rows leave open. The open choices are made on the first sample, by the rows
        that are not in it; so is the number of steps, 200 at least.
    input_noise : float, default=0.2
        Standard deviation of the noise added to the input of the encoder's hidden layers in
        training, in standard deviations of the columns. Its linear path sees the values as they
        are, since noise there would weaken every relation that the decoder learns.
    mask_rate : float, default=0.0
        In training each row hides a share of its observed cells from the encoder that is uniform
        on [0, mask_rate].
    beta : float, default=1.0
        Weight of the KL in training.
    calibrate : bool, default=True
        Spread draws of numbers around the median of their cell by a factor that depends on the
        column and on how far apart the cell's draws are: the factors that serve hidden validation
        cells best, by CRPS and by the interval score of 90% intervals (``spread_``). They make up
        for decoders that are too sure or not sure enough. Values with a mass of their own
        (``atoms_``) stay. The means that `transform` fills in are pulled towards the medians as far
        as the squared error of those cells asks for (``pull_``), since means follow a few draws far
        out. Without effect with ``bootstrap``, fewer than 20 rows, and methods of inference to
        compare with.
    refit : bool, default=True
        After all choices are made, take 30 more steps on all rows, those of validation too.
        Without effect with ``bootstrap``, fewer than 20 rows, or where validation has less than a
        twentieth of the rows.
    learning_rate : float, default=2e-2
        Largest step size of the optimiser, SOAP [3]_; it rises over 30 steps, and falls after 100.
    batch_size : int, default=128
        Rows per optimisation step.
    max_steps : int, default=4000
        Largest number of optimisation steps of a decoder; most settle far earlier.
    validation_fraction : float, default=0.15
        Share of the rows whose cells are hidden for validation, at most 512 rows. With fewer than
        20 rows training rows are used for both.
    linear_start : bool or "auto", default="auto"
        Start training from a factor analyser, fitted to the observed cells by expectation and
        maximisation: linear relations, which incomplete rows hide from an encoder, need then not
        be learned by gradient steps. The start's own score on hidden validation cells counts as
        well. "auto" also trains networks from random weights if there are 500 rows or more; the
        best decoder is then one of those only if it is more than 3% better.
    memory : str, joblib.Memory or None, default=None
        Where to cache the trained model by its table and parameters, so that a search over
        inference parameters trains once per fold, also from several processes. A damaged or foreign
        entry is trained again. Needs an integer ``random_state``, here or of the imputer: without,
        every fit is another.
    device : str, default="auto"
        Where to train: "auto" takes a GPU when there is one.
    random_state : int, RandomState instance or None, default=None
        Seed of initial weights, splits, batches and noise.
    verbose : int, default=0
        With 1, a progress bar over optimisation steps.

    Attributes
    ----------
    decoders_ : list of torch.nn.Module
        The trained networks on the CPU.
    families_ : list of list of str
        For each decoder the observation model of each column.
    atoms_ : list of list of float
        For each column the values that draws take exactly, in original units.
    history_ : list of list of dict
        For each decoder and look at the validation cells the mean training loss since the last
        one ("train_loss", negative bound per row, in nats), the CRPS of hidden cells
        ("valid_crps", in standardized units) and the optimisation steps so far ("steps"). With
        ``bootstrap`` decoders but the first have no looks, so no "valid_crps". The last steps of
        ``refit`` are not counted.
    n_iter_ : int
        Most optimisation steps that a decoder was trained for.
    validation_rows_ : ndarray of int
        Positions of the rows whose hidden cells the decoders were chosen by; with ``bootstrap``
        those of the first decoder.
    validated_decoders_ : list of torch.nn.Module
        Decoders that have not learned from these rows, unless there were fewer than 20: those of
        before ``refit``, with ``bootstrap`` the first one. `QAVIImputer.expected_error` asks them.
        They are not saved.
    spread_ : ndarray of shape (2, n_features)
        What draws of each column are spread by around the median of their cell, in its surest and
        in its least sure cells; 1 leaves them as the decoders give them.
    deviation_ : ndarray of shape (2, n_features)
        Mean distance of the decoders' draws from the median of such cells, in standard deviations
        of the column. Between them the logarithm of the factor is linear in that of the distance.
    pull_ : ndarray of shape (n_features,)
        How far the means that are filled in are pulled towards the medians of their cells: 0
        leaves them, 1 would give the medians.
    mean_, scale_ : ndarray of shape (n_features,)
        Standardization of the columns; codes of categories are left as they are.
    n_categories_ : list of (int or None)
        Number of categories of each categorical column, None for numbers.
    n_features_in_ : int
        Number of columns D.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the columns, when all were strings.

    Raises
    ------
    ValueError
        If there are fewer than five rows, or a column has no observed value.
    TrainingDivergedError
        If the training loss is not finite.

    Warns
    -----
    ConvergenceWarning
        If the validation score still improved when the steps ran out.

    See Also
    --------
    sklearn_qavi.QAVIImputer : Completes tables with the decoders.
    PretrainedDecoder : Uses a decoder trained elsewhere.

    References
    ----------
    .. [1] Kingma, Welling (2014), "Auto-encoding variational Bayes".
    .. [2] Agarwal, Hope, Younis, Sudderth (2023), "A Decoder Suffices for Query-Adaptive
       Variational Inference", section 2.1.
    .. [3] Vyas, Morwani, Zhao, Kwun, Shapira, Brandfonbrener, Janson, Kakade (2025), "SOAP:
       Improving and Stabilizing Shampoo using Adam", ICLR.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn_qavi.generative import TabularVAE
    >>> X = load_iris().data
    >>> vae = TabularVAE(latent_dim=2, likelihood="student_t", n_decoders=1, random_state=0)
    >>> vae.fit(X).families_
    [['student_t', 'student_t', 'student_t', 'student_t']]
    >>> vae.decoders_[0].latent_dim
    2
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "latent_dim": [Interval(Integral, 1, None, closed="left")],
        "hidden_layer_sizes": [tuple, list],
        "activation": [StrOptions(set(ACTIVATIONS))],
        "likelihood": [StrOptions({"auto", *_OF_NUMBERS}), list],
        "n_categories": [None, list],
        "histogram_smoothing": [None, Interval(Real, 0, None, closed="left")],
        "n_decoders": [Interval(Integral, 1, None, closed="left")],
        "bootstrap": ["boolean"],
        "input_noise": [Interval(Real, 0, None, closed="left")],
        "mask_rate": [Interval(Real, 0, 1, closed="both")],
        "beta": [Interval(Real, 0, None, closed="left")],
        "calibrate": ["boolean"],
        "refit": ["boolean"],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "max_steps": [Interval(Integral, 1, None, closed="left")],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "linear_start": ["boolean", StrOptions({"auto"})],
        "memory": [None, str, HasMethods(["cache"])],
        "device": [str],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        *,
        latent_dim: int = 10,
        hidden_layer_sizes: tuple[int, ...] = (64, 64),
        activation: str = "tanh",
        likelihood: str | list[str] = "auto",
        n_categories: list[int | None] | None = None,
        histogram_smoothing: float | None = None,
        n_decoders: int = 3,
        bootstrap: bool = False,
        input_noise: float = 0.2,
        mask_rate: float = 0.0,
        beta: float = 1.0,
        calibrate: bool = True,
        refit: bool = True,
        learning_rate: float = 2e-2,
        batch_size: int = 128,
        max_steps: int = 4000,
        validation_fraction: float = 0.15,
        linear_start: bool | str = "auto",
        memory: Any = None,
        device: str = "auto",
        random_state: int | np.random.RandomState | None = None,
        verbose: int = 0,
    ) -> None:
        self.latent_dim = latent_dim
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.likelihood = likelihood
        self.n_categories = n_categories
        self.histogram_smoothing = histogram_smoothing
        self.n_decoders = n_decoders
        self.bootstrap = bootstrap
        self.input_noise = input_noise
        self.mask_rate = mask_rate
        self.beta = beta
        self.calibrate = calibrate
        self.refit = refit
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.max_steps = max_steps
        self.validation_fraction = validation_fraction
        self.linear_start = linear_start
        self.memory = memory
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    @fit_context(prefer_skip_nested_validation=True)
    @all_or_nothing
    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Train on a table.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
            Numbers in original units, NaN where missing.
        y : None
            Ignored, present for the scikit-learn contract.
        sample_weight : array-like of shape (n_rows,), default=None
            How much each row counts, in the bound, the standardization and validation; rows of
            weight 0 are left out. None counts all alike.

        Returns
        -------
        self : TabularVAE
            The trained model.
        """
        resolve_device(self.device)
        X = validate_data(
            self, X, dtype=np.float64, ensure_all_finite=False, ensure_min_samples=_MIN_ROWS
        )
        refuse_infinity(X, getattr(self, "feature_names_in_", None))
        if not all(isinstance(n, Integral) and n >= 1 for n in self.hidden_layer_sizes):
            raise ValueError(
                "hidden_layer_sizes must hold whole numbers of at least 1, got "
                f"{plain(self.hidden_layer_sizes)}."
            )
        if taken_from_cache(self, X, sample_weight):
            return self
        weight = check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        learned = np.flatnonzero(weight > 0)
        X, weight = X[learned], weight[learned]
        if len(X) < _MIN_ROWS:
            raise ValueError(
                f"{len(X)} rows have a sample_weight above 0; learning needs {_MIN_ROWS}."
            )
        weight = weight / weight.mean()
        self.n_categories_ = self._checked_categories(X)
        self._learn_standardization(X, weight)
        self.spread_, self.deviation_ = np.ones((2, X.shape[1])), np.ones((2, X.shape[1]))
        self.pull_ = np.zeros(X.shape[1])
        self.validation_rows_ = learned[:0]
        self.validated_decoders_: list[TabularNetwork] = []
        runs = self._train(self.standardize(X), weight, seed_from(self.random_state))
        self.validation_rows_ = learned[self.validation_rows_]
        self.decoders_ = [run.network.cpu() for run in runs]
        self.validated_decoders_ = [network.cpu() for network in self.validated_decoders_]
        self.families_ = [member.likelihood.families for member in self.decoders_]
        self.likelihood_options_ = [member.likelihood.options for member in self.decoders_]
        self.atoms_ = self._find_atoms(X)
        self.history_ = [run.history for run in runs]
        self.n_iter_ = max(_n_steps(history) for history in self.history_)
        self._warn_if_unsettled(runs)
        return self

    @property
    def spread(self) -> Spread | None:
        """How draws are spread around medians and means pulled, None where no column is changed."""
        if (self.spread_ == 1.0).all() and not self.pull_.any():
            return None
        return Spread(self.spread_, self.deviation_, self.pull_, atoms_of(self.decoders_))

    def standardize(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
        """Turn values in original units into standardized ones.

        Parameters
        ----------
        X : ndarray of shape (..., n_features)
            NaN stays NaN.

        Returns
        -------
        values : ndarray of shape (..., n_features)
            In standard deviations from the training mean.
        """
        standardized: NDArray[np.float64] = (X - self.mean_) / self.scale_
        return standardized

    def unstandardize(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Turn standardized values into original units.

        Parameters
        ----------
        values : ndarray of shape (..., n_features)
            In standard deviations from the training mean.

        Returns
        -------
        X : ndarray of shape (..., n_features)
            In original units; a draw of an atom is the training value itself, bit for bit.
        """
        X: NDArray[np.float64] = values * self.scale_ + self.mean_
        for j, atoms in enumerate(self.atoms_):
            if atoms:
                place, drawn = self._single(np.array(atoms), j), values[..., j].astype(np.float32)
                index = np.searchsorted(place, drawn).clip(max=len(atoms) - 1)
                X[..., j] = np.where(place[index] == drawn, np.array(atoms)[index], X[..., j])
        return X

    def _described(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        aside = {"memory", "random_state"}
        config = {
            "parameters": {k: v for k, v in self.get_params().items() if k not in aside},
            "families": self.families_,
            "likelihood_options": self.likelihood_options_,
            "atoms": self.atoms_,
            "history": self.history_,
            "validation_rows": self.validation_rows_.tolist(),
            "feature_names": getattr(self, "feature_names_in_", np.array([])).tolist(),
        }
        constants = {
            name: torch.from_numpy(getattr(self, f"{name}_")) for name in _CONSTANTS_OF_COLUMNS
        }
        return config, constants

    def _take(self, config: dict[str, Any], constants: dict[str, Tensor]) -> None:
        self.families_ = config["families"]
        self.likelihood_options_ = config["likelihood_options"]
        self.atoms_ = config["atoms"]
        self.history_ = config["history"]
        self.validation_rows_ = np.array(config["validation_rows"], dtype=np.intp)
        self.n_iter_ = max(_n_steps(history) for history in self.history_)
        for name in _CONSTANTS_OF_COLUMNS:
            setattr(self, f"{name}_", constants[name].numpy())
        self.n_features_in_ = len(self.mean_)
        self.n_categories_ = self.n_categories or [None] * self.n_features_in_
        if config["feature_names"]:
            self.feature_names_in_ = np.array(config["feature_names"], dtype=object)
        self.decoders_ = [
            self._network(ColumnLikelihoods(families, options, self.n_categories_), None)
            for families, options in zip(self.families_, self.likelihood_options_, strict=True)
        ]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags

    def _single(self, values: NDArray[np.float64], column: int) -> NDArray[np.float32]:
        """Return values of one column as the decoders know them, in single precision."""
        single: NDArray[np.float32] = ((values - self.mean_[column]) / self.scale_[column]).astype(
            np.float32
        )
        return single

    def _find_atoms(self, X: NDArray[np.float64]) -> list[list[float]]:
        """Return the values of each column that a decoder may draw exactly, in original units."""
        atoms: list[list[float]] = []
        for j, column in enumerate(X.T):
            distinct = np.unique(column[~np.isnan(column)])
            known = [member.likelihood.atoms(j).numpy() for member in self.decoders_]
            exact = np.isin(self._single(distinct, j), np.concatenate(known))
            atoms.append(distinct[exact].tolist())
        return atoms

    def _learn_standardization(self, X: NDArray[np.float64], weight: NDArray[np.float64]) -> None:
        observed = ~np.isnan(X)
        empty = np.flatnonzero(~observed.any(axis=0))
        if len(empty):
            names = getattr(self, "feature_names_in_", np.arange(X.shape[1]))
            raise ValueError(
                f"Column(s) {[str(names[j]) for j in empty]} have no observed value to learn from; "
                "drop them before fitting."
            )
        share = weight[:, None] * observed / (weight @ observed)
        # shares of the range lose no digits, whether values are huge, tiny or close together
        start = np.nanmin(X, axis=0)
        with np.errstate(over="ignore", invalid="ignore"):
            reach = np.nanmax(X, axis=0) - start
            if not np.isfinite(reach).all():
                raise ValueError("The columns' ranges overflow; rescale the table.")
            place = np.where(observed, (X - start) / np.where(reach > 0, reach, 1.0), 0.0)
        mean = (share * place).sum(axis=0)
        scale = reach * np.sqrt((share * np.square(place - mean)).sum(axis=0))
        self.mean_ = start + reach * mean
        # a value is not known better than to the next float
        scale = np.maximum(scale, np.spacing(np.abs(self.mean_)))
        self.scale_ = np.where(reach > 0, scale, 1.0)
        is_code = np.array([n is not None for n in self.n_categories_])
        self.mean_[is_code], self.scale_[is_code] = 0.0, 1.0

    def _checked_categories(self, X: NDArray[np.float64]) -> list[int | None]:
        """Return the number of categories of each column, None for numbers."""
        if self.n_categories is None:
            return [None] * X.shape[1]
        if len(self.n_categories) != X.shape[1]:
            raise ValueError(
                f"n_categories has {len(self.n_categories)} entries, but X has {X.shape[1]} "
                "columns."
            )
        for j, n in enumerate(self.n_categories):
            if n is None:
                continue
            codes = X[~np.isnan(X[:, j]), j]
            if n < 1 or not np.isin(codes, np.arange(n)).all():
                raise ValueError(
                    f"Column {j} is categorical with n_categories={n}, so its values must be whole "
                    f"numbers from 0 to {n - 1}; got {sorted(set(codes.tolist()))[:5]}, ..."
                )
        return list(self.n_categories)

    def _train(
        self, values: NDArray[np.float64], weight: NDArray[np.float64], seed: int
    ) -> list[TrainedMember]:
        """Return the trained decoders for standardized rows.

        Keeps how draws are spread, and validation rows with decoders that do not know them.
        """
        trainer = TableTrainer(self, values, weight, seed)
        runs = trainer.run_all(self._candidates(values))
        self.spread_, self.deviation_, self.pull_ = trainer.spread
        self.validation_rows_ = np.sort(runs[0].validation)
        self.validated_decoders_ = trainer.validated
        return runs

    def _candidates(self, values: NDArray[np.float64]) -> list[Candidate]:
        """Return the observation models to choose between, at least one."""
        n_features = values.shape[1]
        n_values = [len(np.unique(column[~np.isnan(column)])) for column in values.T]
        if isinstance(self.likelihood, list):
            if len(self.likelihood) != n_features or not set(self.likelihood) <= set(_OF_NUMBERS):
                raise ValueError(
                    f"likelihood must name one of {_OF_NUMBERS} for each of the "
                    f"{n_features} columns, got {plain(self.likelihood)}."
                )
            choices = [
                [
                    "categorical" if n is not None else name
                    for n, name in zip(self.n_categories_, self.likelihood, strict=True)
                ]
            ]
        else:
            auto = self.likelihood == "auto"
            fixed = [
                "categorical" if n_categories is not None else _family_of_few_values(n, auto)
                for n_categories, n in zip(self.n_categories_, n_values, strict=True)
            ]
            names = [self.likelihood] if not auto or None not in fixed else _CONTINUOUS
            choices = [[family or name for family in fixed] for name in names]
        candidates = []
        for families in choices:
            # atoms are never smoothed, so a histogram of a constant leaves nothing to decide
            smooth = any(
                f == "histogram" and n > 1 for f, n in zip(families, n_values, strict=True)
            )
            given = self.histogram_smoothing
            smoothings = [(0.0, False)]
            if smooth:
                smoothings = [(1.0, False), (1.0, True)] if given is None else [(given, False)]
            starts = [self.linear_start is not False]
            if self.linear_start == "auto" and len(values) >= _ENOUGH_FOR_RANDOM:
                starts.append(False)
            candidates += [Candidate(families, *s, start) for s in smoothings for start in starts]
        return candidates

    def _split(self, n_rows: int, seed: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Return rows to train on and rows to validate on."""
        rng = np.random.default_rng(seed)
        if self.bootstrap:
            drawn = rng.integers(n_rows, size=n_rows)
            left = rng.permutation(np.setdiff1d(np.arange(n_rows), drawn))
            enough = n_rows >= _MIN_ROWS_TO_SPLIT and len(left) > 0
            return drawn, left[:_MAX_VALIDATION_ROWS] if enough else drawn
        order = rng.permutation(n_rows)
        if n_rows < _MIN_ROWS_TO_SPLIT:
            return order, order
        n_validation = max(1, round(self.validation_fraction * n_rows))
        validation, train = np.split(order, [min(n_validation, _MAX_VALIDATION_ROWS)])
        return train, validation

    def _network(
        self, likelihood: ColumnLikelihoods, generator: torch.Generator | None
    ) -> TabularNetwork:
        return TabularNetwork(
            likelihood,
            int(self.latent_dim),
            tuple(map(int, self.hidden_layer_sizes)),
            self.activation,
            generator,
        )

    def _warn_if_unsettled(self, runs: list[TrainedMember]) -> None:
        n_unsettled = sum(not run.settled for run in runs)
        if n_unsettled:
            warnings.warn(
                f"{n_unsettled} of {len(runs)} decoder(s) still improved on hidden validation "
                f"cells when training stopped after max_steps={self.max_steps} steps. Increase "
                "max_steps.",
                ConvergenceWarning,
                stacklevel=3,
            )


def _n_steps(history: list[dict[str, float]]) -> int:
    return int(history[-1].get("steps", 0)) if history else 0


def _family_of_few_values(n_values: int, auto: bool) -> str | None:
    """Return the only sensible family of a column with one value, and with two if it is open."""
    if n_values == 1:
        return "histogram"  # one atom: draws of a constant are that constant
    return "bernoulli" if auto and n_values == 2 else None
