"""QAVIImputer: the contract with missing cells, bad input, pipelines, models handed in."""

import pickle
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import sklearn
import torch
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import get_tags

from _factories import (
    iris,
    quick_imputer,
    quick_table_model,
    tiny_imputer,
    tiny_table_model,
    with_missing,
)
from _linear_gaussian import LinearGaussian
from sklearn_qavi import QAVIImputer
from sklearn_qavi._chunks import Chunk, ChunkResult
from sklearn_qavi.exceptions import (
    ExtremeValueWarning,
    InferenceConvergenceWarning,
    InferenceDivergedError,
    TrainingDivergedError,
)
from sklearn_qavi.generative import PretrainedDecoder, TabularVAE
from sklearn_qavi.generative._table_training import TableTrainer
from sklearn_qavi.inference import Adam, Flow, Gaussian, Mixture
from sklearn_qavi.preprocessing import TableEncoder

Array = NDArray[np.float64]
POSTERIORS = ["gaussian", "mixture", "flow"]
UNRELIABLE = pytest.mark.filterwarnings(
    "ignore::sklearn_qavi.exceptions.UnreliablePosteriorWarning"
)
# these models are too short to settle, and rows may need more than the steps that a test allows
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture(scope="module")
def X() -> Array:  # noqa: N802
    return iris()


@pytest.fixture(scope="module")
def incomplete(X: Array) -> Array:
    incomplete = with_missing(X)
    incomplete[7] = np.nan  # a row without any observed cell
    return incomplete


@pytest.fixture(scope="module")
def fitted(incomplete: Array, iris_model: TabularVAE) -> dict[str, QAVIImputer]:
    """One trained model under each posterior."""
    chosen = {"gaussian": "gaussian", "mixture": Mixture(n_components=2), "flow": "flow"}
    return {
        name: quick_imputer(generative_model=iris_model, posterior=posterior).fit(incomplete)
        for name, posterior in chosen.items()
    }


@pytest.mark.parametrize("posterior", POSTERIORS)
class TestRowsStandAlone:
    """scikit-learn's row checks use complete rows; these have missing cells."""

    def test_a_subset_of_rows_gets_the_same_bits(
        self, fitted: dict[str, QAVIImputer], incomplete: Array, posterior: str
    ) -> None:
        imputer = fitted[posterior]
        completed = imputer.transform(incomplete)
        for rows in (slice(0, 1), slice(3, 40), slice(100, None)):
            np.testing.assert_array_equal(imputer.transform(incomplete[rows]), completed[rows])

    def test_the_order_of_rows_does_not_matter(
        self, fitted: dict[str, QAVIImputer], incomplete: Array, posterior: str
    ) -> None:
        imputer = fitted[posterior]
        order = np.random.default_rng(1).permutation(len(incomplete))
        completed = imputer.transform(incomplete)
        np.testing.assert_array_equal(imputer.transform(incomplete[order]), completed[order])

    def test_batch_size_n_jobs_and_repetition_do_not_matter(
        self, fitted: dict[str, QAVIImputer], incomplete: Array, posterior: str
    ) -> None:
        imputer, incomplete = fitted[posterior], incomplete[:70]
        completed, draws = imputer.transform(incomplete), imputer.sample(incomplete, n=3)
        np.testing.assert_array_equal(imputer.transform(incomplete), completed)
        for option, n in (({"batch_size": 1}, 12), ({"batch_size": 50}, 70), ({"n_jobs": 2}, 70)):
            other = pickle.loads(pickle.dumps(imputer)).set_params(**option)
            np.testing.assert_array_equal(other.transform(incomplete[:n]), completed[:n])
            np.testing.assert_array_equal(other.sample(incomplete[:n], n=3), draws[:, :n])

    def test_pickles_and_clones_agree(
        self, fitted: dict[str, QAVIImputer], incomplete: Array, posterior: str
    ) -> None:
        imputer, some = fitted[posterior], incomplete[:40]
        completed = imputer.transform(some)
        again = pickle.loads(pickle.dumps(imputer))
        np.testing.assert_array_equal(again.transform(some), completed)
        np.testing.assert_array_equal(clone(imputer).fit(incomplete).transform(some), completed)

    def test_observed_cells_are_bit_identical_in_every_draw(
        self, fitted: dict[str, QAVIImputer], incomplete: Array, posterior: str
    ) -> None:
        draws = fitted[posterior].sample(incomplete, n=100)
        assert draws.shape == (100, *incomplete.shape)
        observed = ~np.isnan(incomplete)
        for draw in draws:
            assert draw[observed].tobytes() == incomplete[observed].tobytes()
        assert np.isfinite(draws).all()
        # and the missing ones vary
        assert (draws.std(0)[~observed] > 0).mean() > 0.95


def test_training_twice_gives_the_same_answer(incomplete: Array) -> None:
    model = tiny_table_model(likelihood="auto", n_decoders=2)
    first, second, other = (
        tiny_imputer(generative_model=model, random_state=seed)
        .fit(incomplete)
        .transform(incomplete)
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, other)


def test_sample_without_a_table_completes_the_one_seen_in_fit(
    fitted: dict[str, QAVIImputer], incomplete: Array
) -> None:
    imputer = fitted["gaussian"]
    np.testing.assert_array_equal(imputer.sample(n=100), imputer.sample(incomplete, n=100))


def test_fewer_draws_are_the_first_of_more(
    fitted: dict[str, QAVIImputer], incomplete: Array
) -> None:
    imputer = fitted["gaussian"]
    np.testing.assert_array_equal(
        imputer.sample(incomplete, n=3), imputer.sample(incomplete, n=7)[:3]
    )


def test_no_draws_is_an_empty_array(fitted: dict[str, QAVIImputer], incomplete: Array) -> None:
    assert fitted["gaussian"].sample(incomplete, n=0).shape == (0, *incomplete.shape)


@pytest.mark.parametrize("n", [-1, 1.5, "3", None, True])
def test_a_wrong_number_of_draws_is_an_error(
    fitted: dict[str, QAVIImputer], incomplete: Array, n: Any
) -> None:
    with pytest.raises(ValueError, match="n must be a whole number of at least 0"):
        fitted["gaussian"].sample(incomplete, n=n)


def test_draws_spread_like_the_intervals_and_the_mean_is_their_middle(
    fitted: dict[str, QAVIImputer], X: Array, incomplete: Array
) -> None:
    imputer, missing = fitted["gaussian"], np.isnan(incomplete)
    draws = imputer.sample(incomplete, n=400)
    lower, upper = imputer.predict_interval(incomplete, level=0.8)
    inside = ((draws >= lower) & (draws <= upper)).mean(0)[missing]
    assert inside.mean() == pytest.approx(0.8, abs=0.03)
    np.testing.assert_array_equal(lower[~missing], incomplete[~missing])
    np.testing.assert_array_equal(upper[~missing], incomplete[~missing])
    error = (draws.mean(0) - imputer.transform(incomplete))[missing] / draws.std(0)[missing].clip(
        0.05
    )
    assert np.abs(error).mean() < 0.1


@pytest.mark.parametrize("strategy", ["mean", "median", "mode"])
def test_strategies_fill_in_what_they_name(
    fitted: dict[str, QAVIImputer], incomplete: Array, strategy: str
) -> None:
    imputer = clone(fitted["gaussian"]).set_params(strategy=strategy).fit(incomplete)
    completed, missing = imputer.transform(incomplete), np.isnan(incomplete)
    draws = imputer.sample(incomplete, n=600)
    if strategy == "mode":
        near = np.abs(draws - completed) < 0.25 * draws.std(0).clip(1e-6)
        far = np.abs(draws - (completed + 2 * draws.std(0))) < 0.25 * draws.std(0).clip(1e-6)
        assert near.mean(0)[missing].mean() > 2 * far.mean(0)[missing].mean()
    else:
        middle = {"mean": draws.mean(0), "median": np.median(draws, axis=0)}[strategy]
        error = np.abs(completed - middle)[missing] / draws.std(0)[missing].clip(0.05)
        assert error.mean() < 0.12


def test_sample_posterior_returns_the_first_draw(
    fitted: dict[str, QAVIImputer], incomplete: Array
) -> None:
    imputer = clone(fitted["gaussian"]).set_params(sample_posterior=True).fit(incomplete)
    for _ in range(2):  # the seed is an integer, so the draw stays
        np.testing.assert_array_equal(
            imputer.transform(incomplete), imputer.sample(incomplete, n=1)[0]
        )


def test_without_an_integer_as_seed_each_call_draws_anew(
    fitted: dict[str, QAVIImputer], incomplete: Array
) -> None:
    imputer = clone(fitted["gaussian"]).set_params(
        sample_posterior=True, random_state=np.random.RandomState(0)
    )
    first, second = (imputer.fit(incomplete).transform(incomplete), imputer.transform(incomplete))
    missing = np.isnan(incomplete)
    assert (first[missing] != second[missing]).mean() > 0.9
    np.testing.assert_array_equal(first[~missing], second[~missing])
    assert get_tags(imputer).non_deterministic
    np.testing.assert_array_equal(imputer.sample(incomplete, n=2), imputer.sample(incomplete, n=2))


class _Untrainable(TabularVAE):
    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Any:
        raise AssertionError("Nobody should have waited for this.")


def test_options_that_would_be_ignored_are_refused(
    fitted: dict[str, QAVIImputer], incomplete: Array
) -> None:
    for option in ({"beta": 1.0}, {"max_iter": 5}, {"tol": 0.1}):
        imputer = clone(fitted["gaussian"]).set_params(**{"max_iter": None, **option})
        with pytest.raises(ValueError, match=rf"{next(iter(option))} would be ignored.*n_burn_in"):
            imputer.set_params(posterior="pseudo_gibbs").fit(incomplete)
        with pytest.raises(ValueError, match="would be ignored"):  # before a model is trained
            imputer.set_params(generative_model=_Untrainable()).fit(incomplete)
    summary = clone(fitted["gaussian"]).set_params(strategy="median", sample_posterior=True)
    with pytest.raises(ValueError, match="strategy='median' would be ignored"):
        summary.fit(incomplete)


def test_parameters_of_what_a_string_is_short_for_can_be_set() -> None:
    imputer = QAVIImputer(posterior="mixture", random_state=0)
    imputer.set_params(posterior__n_components=3, generative_model__latent_dim=4, beta=2.0)
    assert imputer.posterior.n_components == 3
    assert imputer.generative_model.latent_dim == 4
    imputer.set_params(posterior="flow", posterior__n_layers=1)
    assert repr(imputer.posterior) == "Flow(n_layers=1)"
    with pytest.raises(ValueError, match="Invalid parameter 'n_components' for estimator Flow"):
        imputer.set_params(posterior__n_components=3)
    with pytest.raises(ValueError, match="Invalid parameter 'n_components' for estimator QAVI"):
        imputer.set_params(n_components=3)
    with pytest.raises(ValueError, match="posterior='auto' leaves open what is chosen"):
        QAVIImputer().set_params(posterior__n_components=3)


def test_options_of_an_optimizer_need_an_optimizer() -> None:
    imputer = QAVIImputer(posterior=Gaussian())
    with pytest.raises(ValueError, match=r"n_draws cannot be set, because optimizer=None.*Newton"):
        imputer.set_params(posterior__optimizer__n_draws=64)
    imputer.set_params(posterior__optimizer=Adam(), posterior__optimizer__n_draws=64)
    assert imputer.posterior.optimizer.n_draws == 64


def test_strings_are_short_for_objects_with_their_defaults(
    fitted: dict[str, QAVIImputer], incomplete: Array
) -> None:
    for name, posterior in {"auto": Gaussian(), "gaussian": Gaussian(), "flow": Flow()}.items():
        one, other = (
            clone(fitted["gaussian"])
            .set_params(posterior=p)
            .fit(incomplete)
            .transform(incomplete[:20])
            for p in (name, posterior)
        )
        np.testing.assert_array_equal(one, other)


@UNRELIABLE
def test_infer_reports_each_row(fitted: dict[str, QAVIImputer], incomplete: Array) -> None:
    pooled = fitted["gaussian"].infer(incomplete)
    for values in (pooled.bound, pooled.n_iter, pooled.n_evaluations, pooled.converged):
        assert values.shape == (len(incomplete),)
    # nothing observed: the bound on log p(nothing) = 0 is reached by the prior
    assert pooled.bound[7] == pytest.approx(0.0, abs=0.02)
    assert len(pooled.results) == 2
    with pytest.raises(NotFittedError):
        quick_imputer().infer(incomplete)


@UNRELIABLE
@pytest.mark.parametrize("name", ["gaussian", "mixture", "feature"])
def test_infer_keeps_a_trace_of_each_decoder_if_asked(
    fitted: dict[str, QAVIImputer], incomplete: Array, name: str
) -> None:
    model = fitted["gaussian"].generative_model_
    imputer = quick_imputer(generative_model=model, posterior=name).fit(incomplete)
    plain, traced = (imputer.infer(incomplete[:20], trace=trace) for trace in (False, True))
    np.testing.assert_array_equal(plain.bound, traced.bound)
    for without, member in zip(plain.results, traced.results, strict=True):
        assert without.trace is None
        kept = (~member.trace.isnan()).sum(1)
        assert member.trace[torch.arange(20), kept - 1].equal(member.bound)
        # it does not fall: rows end no worse than they start, but for the noise of the draws
        gain = member.bound - member.trace[:, 0]
        assert gain.mean() > -2.0 * gain.std() / len(gain) ** 0.5


def test_a_method_that_climbs_nothing_has_no_trace(
    fitted: dict[str, QAVIImputer], incomplete: Array
) -> None:
    model = fitted["gaussian"].generative_model_
    imputer = quick_imputer(generative_model=model, posterior="fill_zeros", max_iter=None).fit(
        incomplete
    )
    with pytest.raises(ValueError, match="'fill_zeros' optimises no bound"):
        imputer.infer(incomplete, trace=True)


def test_a_row_without_observed_cells_gets_draws_from_the_prior_predictive(
    fitted: dict[str, QAVIImputer], X: Array, incomplete: Array
) -> None:
    draws = fitted["gaussian"].sample(incomplete, n=2000)[:, 7]
    assert (np.abs(draws.mean(0) - X.mean(0)) < 0.5 * X.std(0)).all()
    assert (draws.std(0) > 0.5 * X.std(0)).all()


def test_imputation_learns_from_the_other_columns(X: Array) -> None:
    """Petal length is nearly a function of petal width: far better than the column's mean."""
    incomplete = X.copy()
    incomplete[::3, 2] = np.nan
    imputer = quick_imputer(generative_model=quick_table_model(n_decoders=1)).fit(incomplete)
    error = (imputer.transform(incomplete) - X)[::3, 2]
    assert np.sqrt((error**2).mean()) < 0.35 * X[:, 2].std()


def test_score_prefers_a_better_model(X: Array) -> None:
    untrained = tiny_table_model(linear_start=False)
    poor = quick_imputer(generative_model=untrained).fit(X)
    good = quick_imputer(generative_model=quick_table_model()).fit(X)
    assert good.score(X) > poor.score(X) + 0.2
    assert good.score(X) == good.score(X)
    with pytest.raises(ValueError, match="no row of X has two"):
        good.score(np.where(np.arange(4) == 0, X[:5], np.nan))


class TestLikeIterativeImputer:
    """Options that both have behave the same way."""

    def _both(self, **options: Any) -> tuple[QAVIImputer, IterativeImputer]:
        return tiny_imputer(**options), IterativeImputer(max_iter=2, **options)

    @pytest.mark.filterwarnings("ignore:Skipping features without any observed:UserWarning")
    def test_empty_columns(self, incomplete: Array) -> None:
        incomplete = np.column_stack([incomplete, np.full(len(incomplete), np.nan)])
        for keep in (False, True):
            ours, theirs = self._both(keep_empty_features=keep)
            completed, expected = ours.fit_transform(incomplete), theirs.fit_transform(incomplete)
            assert completed.shape == expected.shape
            np.testing.assert_array_equal(
                ours.get_feature_names_out(), theirs.get_feature_names_out()
            )
            if keep:
                np.testing.assert_array_equal(completed[:, 4], expected[:, 4])

    @pytest.mark.filterwarnings("ignore:Skipping features without any observed:UserWarning")
    def test_a_column_that_was_empty_at_fit_stays_dropped(self, incomplete: Array) -> None:
        empty = np.column_stack([incomplete, np.full(len(incomplete), np.nan)])
        later = np.column_stack([incomplete, np.arange(len(incomplete), dtype=float)])
        ours = tiny_imputer().fit(empty)
        assert ours.transform(later).shape == (150, 4)
        assert ours.sample(later, n=2).shape == (2, 150, 4)

    def test_bounds(self, incomplete: Array, X: Array) -> None:
        low, high = [4.9, -np.inf, -np.inf, -np.inf], [np.inf, 3.0, np.inf, np.inf]
        imputer = tiny_imputer(min_value=low, max_value=high).fit(incomplete)
        missing = np.isnan(incomplete)
        for completed in imputer.sample(incomplete, n=5):
            assert (completed[missing[:, 0], 0] >= 4.9).all()
            assert (completed[missing[:, 1], 1] <= 3.0).all()
        # observed values out of bounds stay
        assert (imputer.transform(incomplete)[~missing[:, 0], 0] < 4.9).any()

    @pytest.mark.parametrize(
        ("low", "high", "message"),
        [(2.0, 1.0, "min_value >= max_value"), ([0.0, 1.0], np.inf, "should be of shape")],
    )
    def test_wrong_bounds(self, incomplete: Array, low: Any, high: Any, message: str) -> None:
        for imputer in self._both(min_value=low, max_value=high):
            with pytest.raises(ValueError, match=message):
                imputer.fit(incomplete)

    def test_indicator(self, incomplete: Array) -> None:
        frame = pd.DataFrame(incomplete, columns=list("abcd"))
        frame["full"] = 1.0 * np.arange(len(frame))
        ours, theirs = self._both(add_indicator=True)
        completed, expected = ours.fit_transform(frame), theirs.fit_transform(frame)
        np.testing.assert_array_equal(completed[:, 5:], expected[:, 5:])
        np.testing.assert_array_equal(ours.get_feature_names_out(), theirs.get_feature_names_out())
        np.testing.assert_array_equal(ours.sample(frame, n=2)[1][:, 5:], expected[:, 5:])

    def test_other_markers_of_missing_cells(self, incomplete: Array) -> None:
        marked = np.where(np.isnan(incomplete), -1.0, incomplete)
        with_nan = tiny_imputer().fit(incomplete).transform(incomplete)
        np.testing.assert_array_equal(
            tiny_imputer(missing_values=-1).fit(marked).transform(marked), with_nan
        )
        both = np.where(np.arange(len(incomplete))[:, None] % 2, incomplete, marked)  # NaN counts
        np.testing.assert_array_equal(
            tiny_imputer(missing_values=-1).fit(both).transform(both), with_nan
        )
        with pytest.raises(ValueError, match="expected to be both numerical"):
            tiny_imputer(missing_values="?").fit(incomplete)

    @pytest.mark.parametrize("container", ["pandas", "polars"])
    def test_set_output(self, incomplete: Array, container: str) -> None:
        frame = pd.DataFrame(incomplete, columns=list("abcd"), index=np.arange(150) + 1000)
        table = frame if container == "pandas" else pl.from_pandas(frame)
        imputer = tiny_imputer().set_output(transform=container).fit(table)
        completed = imputer.transform(table)
        draws = imputer.sample(table, n=3)
        again = imputer.sample(n=3)
        assert isinstance(draws, list)
        lower, upper = imputer.predict_interval(table)
        for part in [completed, *draws, *again, lower, upper]:
            assert type(part) is type(table)
            assert list(part.columns) == list("abcd")
        if container == "pandas":
            for part in [completed, *draws, *again]:
                assert part.index.equals(frame.index)
            assert draws[1].equals(again[1])

    def test_float32_stays_float32(self, incomplete: Array) -> None:
        table = incomplete.astype(np.float32)
        imputer = tiny_imputer().fit(table)
        assert imputer.transform(table).dtype == np.float32
        assert imputer.sample(table, n=1).dtype == np.float32


@pytest.fixture(scope="module")
def table() -> tuple[Array, NDArray[np.int64]]:
    data = load_breast_cancer()
    return with_missing(data.data[:120, :8], 0.2), data.target[:120]


class TestPipelines:
    def test_cross_val_score_with_a_flow(self, table: tuple[Array, NDArray[np.int64]]) -> None:
        pipe = Pipeline(
            [
                ("impute", quick_imputer(posterior="flow", max_iter=36)),
                ("scale", StandardScaler()),
                ("clf", LogisticRegression()),
            ]
        )
        assert cross_val_score(pipe, *table, cv=2).mean() > 0.85

    def test_grid_over_inference_parameters_trains_once_a_fold(
        self, table: tuple[Array, NDArray[np.int64]], tmp_path: Any, monkeypatch: Any
    ) -> None:
        trained = []
        run_all = TableTrainer.run_all

        def counted(self: TableTrainer, candidates: Any) -> Any:
            trained.append(len(self.values))
            return run_all(self, candidates)

        monkeypatch.setattr(TableTrainer, "run_all", counted)
        model = quick_table_model(memory=str(tmp_path), n_decoders=1)
        imputer = quick_imputer(generative_model=model, posterior="mixture", max_iter=24)
        pipe = Pipeline(
            [
                ("impute", imputer),
                ("clf", LogisticRegression(max_iter=5000)),
            ]
        )
        grid = {"impute__beta": [0.5, 1.0], "impute__posterior__n_components": [1, 2]}
        search = GridSearchCV(pipe, grid, cv=2).fit(*table)
        assert search.best_score_ > 0.8
        assert set(search.best_params_) == set(grid)
        assert len(trained) == 3  # two folds and the final fit

    def test_grid_of_the_imputer_alone(self, table: tuple[Array, NDArray[np.int64]]) -> None:
        imputer = quick_imputer(generative_model=quick_table_model(n_decoders=1))
        grid = {"beta": [1.0, 30.0], "generative_model__latent_dim": [2]}
        search = GridSearchCV(imputer, grid, cv=2).fit(table[0])
        assert search.best_params_["beta"] == 1.0


class TestModelsHandedIn:
    def test_a_trained_model_is_not_trained_again(self, X: Array, incomplete: Array) -> None:
        model = tiny_table_model(random_state=3).fit(X)
        before = [p.clone() for p in model.decoders_[0].parameters()]
        imputer = QAVIImputer(generative_model=model, random_state=0).fit(incomplete)
        assert imputer.generative_model_ is model
        assert np.isfinite(imputer.transform(incomplete)).all()
        after = list(model.decoders_[0].parameters())
        assert all(a.equal(b) for a, b in zip(before, after, strict=True))

    def test_nor_is_it_in_clones(self, X: Array, incomplete: Array, monkeypatch: Any) -> None:
        model = tiny_table_model(random_state=3).fit(X)
        monkeypatch.setattr(TabularVAE, "fit", None)
        imputer = QAVIImputer(generative_model=model, random_state=0, max_iter=24)
        assert clone(imputer).fit(incomplete).generative_model_ is model
        search = GridSearchCV(imputer, {"beta": [0.5, 1.0]}, cv=2, refit=False).fit(X)
        assert np.isfinite(search.cv_results_["mean_test_score"]).all()

    def test_an_unfitted_model_is_cloned(self, incomplete: Array) -> None:
        model = tiny_table_model(latent_dim=3)
        imputer = tiny_imputer(generative_model=model).fit(incomplete)
        assert not hasattr(model, "decoders_")
        assert imputer.generative_model_.latent_dim == 3

    def test_a_bare_decoder_reaches_the_exact_conditional(
        self, linear_gaussian: LinearGaussian
    ) -> None:
        model = linear_gaussian
        decoder = model.decoder().train()
        x = model.draw_rows(30, seed=3)
        incomplete = with_missing(x, 0.4, seed=4)
        pretrained = PretrainedDecoder(decoder, "gaussian", model.n_features)
        imputer = QAVIImputer(generative_model=pretrained, posterior="flow", random_state=0)
        completed = imputer.fit(incomplete).transform(incomplete)
        for i in np.flatnonzero(np.isnan(incomplete).any(1)):
            mean, covariance = model.missing_given_observed(x[i], ~np.isnan(incomplete[i]))
            error = np.abs(completed[i, np.isnan(incomplete[i])] - mean)
            assert (error < 0.2 * np.sqrt(np.diag(covariance))).all()
        assert decoder.training
        assert imputer.n_iter_ == 0

    def test_a_bare_decoder_keeps_its_gradient_flags(self, X: Array) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            decoder = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.Linear(8, 8))
        model = PretrainedDecoder(decoder, "gaussian", 4)
        imputer = QAVIImputer(generative_model=model, random_state=0)
        imputer.fit(X).transform(with_missing(X[:20]))
        assert all(p.requires_grad and p.grad is None for p in decoder.parameters())

    def test_a_bare_module_has_to_be_wrapped(self, X: Array) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            decoder = torch.nn.Linear(2, 8)
        with pytest.raises(ValueError, match=r"PretrainedDecoder\(decoder, .*n_features=4\)"):
            QAVIImputer(generative_model=decoder, random_state=0).fit(X)

    def test_a_model_of_other_columns_is_refused(self, X: Array) -> None:
        model = tiny_table_model(random_state=0).fit(X)
        with pytest.raises(ValueError, match=r"of 4 columns, but X has 3"):
            QAVIImputer(generative_model=model, random_state=0).fit(X[:, :3])

    def test_an_imputed_value_that_overflows_is_an_error_that_names_its_column(
        self, X: Array
    ) -> None:
        class Huge(torch.nn.Module):
            latent_dim = 1

            def forward(self, z: torch.Tensor) -> torch.Tensor:
                out = 0.0 * z.expand(-1, 8)
                return out + torch.tensor([0.0, 1e30, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0])

        model = PretrainedDecoder(Huge(), "gaussian", 4, scale=[1.0, 1e300, 1.0, 1.0])
        incomplete = X.copy()
        incomplete[0, 1] = np.nan
        with pytest.raises(InferenceDivergedError, match=r"\['x1'\] are not finite in 1 row"):
            QAVIImputer(generative_model=model, random_state=0).fit(X).transform(incomplete)

    def test_a_decoder_that_returns_nan_is_an_error_that_names_rows(self, X: Array) -> None:
        class Broken(torch.nn.Module):
            latent_dim = 1

            def forward(self, z: torch.Tensor) -> torch.Tensor:
                # finite at the codes that the model is tried on
                return torch.where(z > 0.2, torch.nan, z).expand(-1, 8)

        incomplete = X.copy()
        incomplete[3, 1] = np.nan
        model = PretrainedDecoder(Broken(), "gaussian", 4)
        with pytest.raises(InferenceDivergedError, match=r"of 1 row\(s\) is not finite"):
            QAVIImputer(generative_model=model, random_state=0).fit(X).transform(incomplete)


class TestBadInput:
    def test_nullable_and_object_numbers_work(self, incomplete: Array) -> None:
        frame = pd.DataFrame(incomplete, columns=list("abcd"))
        expected = tiny_imputer().fit(frame).transform(frame)
        nullable = frame.astype("Float64")
        np.testing.assert_array_equal(tiny_imputer().fit(nullable).transform(nullable), expected)
        objects = frame.astype(object).where(frame.notna(), None)
        np.testing.assert_array_equal(tiny_imputer().fit(objects).transform(objects), expected)
        integers = (frame * 10).round().astype("Int64")
        assert np.isfinite(tiny_imputer().fit(integers).transform(integers)).all()

    def test_infinity_text_sparse_and_one_dimension(self, incomplete: Array) -> None:
        import scipy.sparse

        infinite = incomplete.copy()
        infinite[3, 1] = np.inf
        for bad, message in [
            (infinite, "Column 'x1' holds infinity"),
            (pd.DataFrame(infinite, columns=list("abcd")), "Column 'b' holds infinity"),
            (incomplete[:, 0], "1D array"),
        ]:
            with pytest.raises(ValueError, match=message):
                tiny_imputer().fit(bad)
        with pytest.raises(TypeError, match=r"[Ss]parse"):
            tiny_imputer().fit(scipy.sparse.csr_matrix(np.eye(10)))

    def test_wrong_columns_at_transform(self, incomplete: Array) -> None:
        frame = pd.DataFrame(incomplete, columns=list("abcd"))
        imputer = tiny_imputer().fit(frame)
        with pytest.raises(ValueError, match="feature names"):
            imputer.transform(frame[list("badc")])
        with pytest.raises(ValueError, match="feature names"):
            imputer.transform(frame.rename(columns={"a": "z"}))
        with pytest.raises(ValueError, match="expecting 4 features"):
            imputer.transform(incomplete[:, :3])

    @pytest.mark.parametrize(
        "option",
        [
            {"posterior": "normalising"},
            {"beta": -1.0},
            {"max_iter": 0},
            {"tol": -0.1},
            {"strategy": "best"},
            {"batch_size": 0},
            {"handle_unknown": "guess"},
        ],
    )
    def test_wrong_parameters_are_named(self, incomplete: Array, option: dict[str, Any]) -> None:
        (name,) = option
        with pytest.raises(ValueError, match=f"'{name}' parameter of QAVIImputer"):
            tiny_imputer(**option).fit(incomplete)

    def test_a_device_that_is_not_there(self, incomplete: Array) -> None:
        with pytest.raises(ValueError, match="device='mps:3' cannot be used here"):
            tiny_imputer(device="mps:3", generative_model=None).fit(incomplete)

    def test_too_few_rows(self) -> None:
        with pytest.raises(ValueError, match=r"at least 5 .*n_samples = 1"):
            tiny_imputer().fit([[1.0, 2.0]])
        few = np.full((30, 3), np.nan)
        few[:4] = np.arange(12.0).reshape(4, 3)
        with pytest.raises(ValueError, match="at least 5 rows with an observed cell, got 4"):
            tiny_imputer().fit(few)

    def test_every_column_empty(self) -> None:
        with pytest.raises(ValueError, match="Every column is empty"):
            tiny_imputer().fit(np.full((10, 2), np.nan))

    def test_one_column(self) -> None:
        table = np.arange(40.0).reshape(-1, 1)
        table[::4] = np.nan
        completed = tiny_imputer().fit(table).transform(table)
        assert ((completed >= 0) & (completed <= 40)).all()

    def test_constant_columns_come_back_constant(self, incomplete: Array) -> None:
        for constant in (5.0, -1e9, 0.1 + 0.2):
            table = np.column_stack(
                [incomplete, np.where(np.isnan(incomplete[:, 0]), np.nan, constant)]
            )
            imputer = tiny_imputer().fit(table)
            np.testing.assert_allclose(imputer.sample(table, n=3)[:, :, 4], constant, rtol=1e-6)

    def test_complete_tables_come_back_at_once(
        self, fitted: dict[str, QAVIImputer], X: Array, monkeypatch: Any
    ) -> None:
        imputer = fitted["gaussian"]
        monkeypatch.setattr("sklearn_qavi.sampling.DecoderPool.infer", None)
        assert imputer.transform(X).tobytes() == X.tobytes()
        assert imputer.sample(X, n=2).shape == (2, *X.shape)

    def test_a_column_complete_at_fit_and_missing_later(self, X: Array) -> None:
        imputer = tiny_imputer().fit(X)
        incomplete = X.copy()
        incomplete[::2, 1] = np.nan
        assert np.isfinite(imputer.transform(incomplete)).all()

    @pytest.mark.parametrize("likelihood", ["auto", "student_t", "gaussian"])
    def test_values_far_out_are_returned_with_a_warning(self, X: Array, likelihood: str) -> None:
        imputer = tiny_imputer(generative_model=tiny_table_model(likelihood=likelihood)).fit(X)
        far = X[:5].copy()
        far[0, 0], far[1, 2] = 1e12 * X[:, 0].std(), -1e300
        far[:, 3] = np.nan
        with pytest.warns(ExtremeValueWarning, match=r"\['x0', 'x2'\].*in 2 row"):
            completed = imputer.transform(far)
        np.testing.assert_array_equal(completed[:, :3], far[:, :3])
        assert np.isfinite(completed).all()

    def test_training_that_diverges_says_what_to_do(self, X: Array) -> None:
        model = tiny_table_model(learning_rate=1e30, likelihood="gaussian")
        with pytest.raises(TrainingDivergedError, match="Lower learning_rate"):
            tiny_imputer(generative_model=model).fit(X)

    def test_input_is_not_written_to(
        self, fitted: dict[str, QAVIImputer], incomplete: Array
    ) -> None:
        table = incomplete.copy()
        table.flags.writeable = False
        fitted["gaussian"].transform(table)
        fitted["gaussian"].sample(table, n=2)
        np.testing.assert_array_equal(table, incomplete)


class TestLargeTables:
    """What is done part by part, so that few copies of a table are held."""

    def test_answers_do_not_depend_on_the_parts(
        self, incomplete: Array, related: QAVIImputer, with_gaps: pd.DataFrame, monkeypatch: Any
    ) -> None:
        plain = tiny_imputer().fit(incomplete)

        def answers() -> list[Any]:
            tables = [plain.transform(incomplete), *plain.predict_interval(incomplete)]
            tables += [plain.sample(incomplete, n=2), *plain.iter_samples(incomplete, n=2)]
            return [*tables, related.transform(with_gaps), related.sample(with_gaps, n=2)]

        whole = answers()
        monkeypatch.setattr("sklearn_qavi._plan._TABLE_CELLS", 28)
        for one, other in zip(whole, answers(), strict=True):
            np.testing.assert_array_equal(one, other)

    def test_few_copies_are_held(self, X: Array, monkeypatch: Any) -> None:
        imputer = tiny_imputer(generative_model=tiny_table_model(n_decoders=1)).fit(X)

        def at_once(task: Any, crew: Any, chunk: Chunk, progress: Any) -> ChunkResult:
            n = len(chunk)
            values = np.zeros((getattr(task.summary, "n", 1), *chunk.x.shape))
            return ChunkResult(values, np.ones(n, bool), np.zeros(n), np.zeros(n), 0.0)

        monkeypatch.setattr("sklearn_qavi._chunks._run", at_once)
        monkeypatch.setattr("sklearn_qavi._plan._TABLE_CELLS", 2**14)
        table = np.tile(X, (2000, 1))
        table[:, 1] = np.nan
        for work, n_copies in (
            (lambda: imputer.transform(table), 4),  # encoded, completed, masks and positions
            (lambda: imputer.sample(table, n=3), 6),  # and two completed tables more
        ):
            tracemalloc.start()
            try:
                work()
                _, peak = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
            assert peak < n_copies * table.nbytes


class TestWarnings:
    def test_rows_that_did_not_converge_are_counted(
        self, fitted: dict[str, QAVIImputer], incomplete: Array
    ) -> None:
        imputer = clone(fitted["gaussian"]).set_params(max_iter=1).fit(incomplete)
        n_rows = int(np.isnan(incomplete).any(1).sum())
        with pytest.warns(InferenceConvergenceWarning, match=f"of {n_rows} of {n_rows} incomplete"):
            imputer.transform(incomplete)

    def test_training_that_did_not_settle_is_told(self, X: Array) -> None:
        with pytest.warns(ConvergenceWarning, match="Increase max_steps"):
            quick_table_model(max_steps=30, random_state=0).fit(X)


@UNRELIABLE
def test_optimizers_can_be_handed_in(fitted: dict[str, QAVIImputer], incomplete: Array) -> None:
    posterior = Gaussian(optimizer=Adam(max_iter=20, window=10, n_draws=1))
    imputer = clone(fitted["gaussian"]).set_params(posterior=posterior, max_iter=None)
    imputer.set_params(posterior__optimizer__n_draws=2).fit(incomplete)
    assert imputer.infer(incomplete).n_evaluations.max() <= 40


def test_verbose_shows_progress(incomplete: Array, capsys: Any) -> None:
    tiny_imputer(generative_model=tiny_table_model(verbose=1), verbose=1).fit(incomplete).transform(
        incomplete
    )
    shown = capsys.readouterr().err
    assert "training" in shown
    assert "inference" in shown


@pytest.mark.gpu
def test_gpu_and_cpu_agree(fitted: dict[str, QAVIImputer], incomplete: Array) -> None:
    imputer = fitted["gaussian"]
    on_gpu = clone(imputer).set_params(device="cuda").fit(incomplete).transform(incomplete)
    np.testing.assert_allclose(on_gpu, imputer.transform(incomplete), atol=0.05)


def test_draws_take_bootstrapped_decoders_in_turn(X: Array) -> None:
    incomplete = X.copy()
    incomplete[::3, 2] = np.nan
    imputer = tiny_imputer(generative_model=tiny_table_model(n_decoders=3, bootstrap=True)).fit(
        incomplete
    )
    assert imputer.n_nests_ == 3
    assert len(imputer.generative_model_.decoders_) == 3
    draws = imputer.sample(n=5)
    later = list(imputer.iter_samples(n=5))
    np.testing.assert_array_equal(draws, later)
    fitted = imputer.generative_model_
    np.testing.assert_array_equal(
        tiny_imputer(generative_model=fitted).fit(incomplete).sample(n=5), draws
    )
    assert tiny_imputer().fit(incomplete).n_nests_ is None


def test_weights_are_routed_through_a_pipeline(X: Array) -> None:
    incomplete = X.copy()
    incomplete[::3, 2] = np.nan
    weight = np.where(np.arange(len(X)) < 100, 1.0, 0.0)
    with sklearn.config_context(enable_metadata_routing=True):
        imputer = tiny_imputer(random_state=0).set_fit_request(sample_weight=True)
        scaler = StandardScaler().set_fit_request(sample_weight=False)
        pipeline = Pipeline([("impute", imputer), ("scale", scaler)])
        pipeline.fit(incomplete, sample_weight=weight)
    model = pipeline[0].generative_model_
    np.testing.assert_allclose(model.mean_, np.nanmean(incomplete[weight > 0], axis=0))


def test_weights_need_a_model_that_learns_with_them(X: Array) -> None:
    class NoWeights(TabularVAE):
        def fit(self, X: Any, y: Any = None) -> Any:
            return super().fit(X)

    with pytest.raises(ValueError, match="NoWeights cannot learn with sample_weight"):
        tiny_imputer(generative_model=NoWeights()).fit(X, sample_weight=np.ones(len(X)))


@pytest.fixture(scope="module")
def totals() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    n = 200
    first, second = rng.poisson(20, n), rng.poisson(5, n)
    celsius = rng.normal(20, 8, n).round(1)
    start = pd.Timestamp("2026-01-01") + pd.to_timedelta(rng.integers(0, 300, n), unit="D")
    days = rng.integers(1, 60, n)
    return pd.DataFrame(
        {
            "first": first,
            "second": second,
            "total": first + second,
            "celsius": celsius,
            "fahrenheit": (1.8 * celsius + 32).round(2),
            "start": start,
            "days": days,
            "end": start + pd.to_timedelta(days, unit="D"),
        }
    )


@pytest.fixture(scope="module")
def with_gaps(totals: pd.DataFrame) -> pd.DataFrame:
    gone = np.random.default_rng(1).random(totals.shape) < 0.3
    return totals.assign(**{c: totals[c].mask(gone[:, j]) for j, c in enumerate(totals)})


@pytest.fixture(scope="module")
def related(with_gaps: pd.DataFrame) -> QAVIImputer:
    return tiny_imputer().set_output(transform="pandas").fit(with_gaps)


class TestLinearRelations:
    """Totals beside their parts and dates beside durations, in whatever a row has of them."""

    @staticmethod
    def off(completed: pd.DataFrame) -> dict[str, float]:
        """Return by how much the relations are missed."""
        lasted = (completed.end - completed.start) / pd.Timedelta(1, "D")
        differences = {
            "total": completed["first"] + completed.second - completed.total,
            "fahrenheit": 1.8 * completed.celsius + 32 - completed.fahrenheit,
            "days": lasted - completed.days,
        }
        return {name: float(value.abs().max()) for name, value in differences.items()}

    def test_relations_are_named(self, related: QAVIImputer) -> None:
        assert related.relations_ == [
            "total = first + second",
            "fahrenheit = 1.8 * celsius + 32",
            "end = start + days",
        ]

    def test_draws_have_them_and_observed_cells_stay(
        self, related: QAVIImputer, with_gaps: pd.DataFrame
    ) -> None:
        for draw in related.sample(with_gaps, n=5):
            off = self.off(draw)
            assert off["total"] == off["days"] == 0.0
            assert off["fahrenheit"] < 1e-12 * 100
            seen = with_gaps.notna()
            pd.testing.assert_frame_equal(
                draw.where(seen), with_gaps.where(seen), check_dtype=False
            )
            assert (draw[["first", "second", "total"]] >= 0).all(axis=None)
        # a mean of whole numbers or dates is not whole, but the others add up
        off = self.off(related.transform(with_gaps))
        assert max(off["total"], off["fahrenheit"]) < 1e-12 * 100

    def test_what_others_leave_one_value_for_is_that_value(
        self, related: QAVIImputer, with_gaps: pd.DataFrame, totals: pd.DataFrame
    ) -> None:
        parts = {"total": ["first", "second"], "end": ["start", "days"], "fahrenheit": ["celsius"]}
        lower, upper = related.predict_interval(with_gaps)
        completed = related.transform(with_gaps)
        for name, others in parts.items():
            alone = with_gaps[name].isna() & with_gaps[others].notna().all(axis=1)
            assert alone.any()
            for answer in (completed, lower, upper):
                pd.testing.assert_series_equal(
                    answer.loc[alone, name], totals.loc[alone, name], check_dtype=False
                )

    def test_a_row_in_which_nothing_is_open_is_not_inferred(self, related: QAVIImputer) -> None:
        row = pd.DataFrame(
            {
                "first": [3.0],
                "second": [np.nan],
                "total": [10.0],
                "celsius": [100.0],
                "fahrenheit": [np.nan],
                "start": [pd.Timestamp("2026-03-01")],
                "days": [np.nan],
                "end": [pd.Timestamp("2026-03-08")],
            }
        )
        rows = related._encode(row)
        assert len(rows.table.incomplete_rows) == 0
        (completed,) = related.transform(row)[["second", "fahrenheit", "days"]].to_numpy()
        assert completed.tolist() == [7.0, 212.0, 7.0]

    def test_values_that_a_column_cannot_hold_are_drawn(self, related: QAVIImputer) -> None:
        """A total below its part would make the other part negative, which no count is."""
        row = pd.DataFrame({"first": [12.0], "second": [np.nan], "total": [10.0]})
        row = row.reindex(columns=related.feature_names_in_)
        completed = related.transform(row)
        assert completed.second.item() >= 0

    def test_bounds_of_the_user_are_kept(self, with_gaps: pd.DataFrame) -> None:
        bounded = (
            tiny_imputer(max_value={"total": 24.0}).set_output(transform="pandas").fit(with_gaps)
        )
        missing = with_gaps.total.isna()
        for draw in bounded.sample(with_gaps, n=3):
            assert draw.total[missing].max() <= 24.0

    def test_a_model_learns_from_what_is_known_of_missing_cells(
        self, related: QAVIImputer, with_gaps: pd.DataFrame
    ) -> None:
        plain = tiny_imputer(linear_relations=False).fit(with_gaps)
        assert plain.relations_ == []
        n_derived = related._rows(related._fit_X).table.derived.sum()
        assert n_derived > 0
        observed = [i._rows(i._fit_X).table.observed.sum() for i in (plain, related)]
        assert observed[1] == observed[0] + n_derived
        off = self.off(plain.set_output(transform="pandas").sample(with_gaps)[0])
        assert min(off.values()) > 0

    def test_scores_of_the_model_do_not_know_them(
        self, related: QAVIImputer, with_gaps: pd.DataFrame
    ) -> None:
        """Otherwise a hidden cell would be seen in one that was derived from it."""
        asked: list[Any] = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(TableEncoder, "derive", lambda *args: asked.append(args) or args[1])
            related.score(with_gaps)
            related.score_missing(
                with_gaps, with_gaps.notna() & (with_gaps.columns == "days"), n_draws=2
            )
        assert not asked

    def test_expected_errors_are_those_with_relations(
        self, totals: pd.DataFrame, with_gaps: pd.DataFrame
    ) -> None:
        """Of two columns that determine each other, half of the hidden cells or so are exact."""
        columns = ["celsius", "fahrenheit", "first"]
        exact, drawn = (
            tiny_imputer(linear_relations=relations).fit(totals[columns]).expected_error()
            for relations in (True, False)
        )
        assert exact.loc["celsius", "crps"] < 0.7 * drawn.loc["celsius", "crps"]

    def test_they_are_saved(
        self, related: QAVIImputer, with_gaps: pd.DataFrame, tmp_path: Path
    ) -> None:
        related.save(tmp_path / "imputer")
        loaded = QAVIImputer.load(tmp_path / "imputer")
        assert loaded.relations_ == related.relations_
        pd.testing.assert_frame_equal(loaded.transform(with_gaps), related.transform(with_gaps))
