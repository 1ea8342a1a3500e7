"""Rubin's rules against formulas worked by hand, statsmodels, and simulated coverage."""

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy import stats
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from sklearn_qavi.pooling import fit_pooled, pool, pool_predictions, predict_pooled


def test_rules_worked_by_hand() -> None:
    pooled = pool([1.0, 2.0, 4.0, 5.0], [0.5, 0.7, 0.6, 0.6], df_complete=20)
    between = (4 + 1 + 1 + 4) / 3  # around the mean of 3
    total = 0.6 + 1.25 * between
    share = 1.25 * between / total
    old = 3 / share**2
    observed = 21 / 23 * 20 * (1 - share)
    df = old * observed / (old + observed)
    r = 1.25 * between / 0.6
    assert pooled.estimate == pytest.approx([3.0])
    assert pooled.variance == pytest.approx([total])
    assert pooled.df == pytest.approx([df])
    assert pooled.fraction_of_missing_information == pytest.approx([(r + 2 / (df + 3)) / (r + 1)])
    lower, upper = pooled.interval(0.9)
    reach = stats.t.ppf(0.95, df) * np.sqrt(total)
    assert (lower[0], upper[0]) == pytest.approx((3 - reach, 3 + reach))
    line = pooled.summary().iloc[0]
    assert line["p_value"] == pytest.approx(2 * stats.t.sf(3 / np.sqrt(total), df))


def test_agrees_with_statsmodels_on_many_tables() -> None:
    """statsmodels pools its own chained imputations; the same formulas, for large samples."""
    from statsmodels.imputation.mice import MICE, MICEData

    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(80, 2)), columns=["a", "b"])
    frame["y"] = frame["a"] - frame["b"] + rng.normal(size=80)
    frame.loc[::4, "a"] = np.nan
    state = np.random.get_state()  # noqa: NPY002 - statsmodels draws from the global generator
    mice = MICE("y ~ a + b", sm.OLS, MICEData(frame))
    result = mice.fit(5, 6)
    np.random.set_state(state)  # noqa: NPY002
    pooled = pool(
        [fit.params for fit in mice.results_list],
        [np.diag(fit.cov_params()) for fit in mice.results_list],
    )
    np.testing.assert_allclose(pooled.estimate, result.params)
    np.testing.assert_allclose(pooled.standard_error, result.bse, rtol=1e-10)


def test_tables_that_agree_leave_the_complete_analysis() -> None:
    pooled = pool([2.0, 2.0, 2.0], [0.25, 0.25, 0.25])
    assert pooled.standard_error == pytest.approx([0.5])
    assert np.isinf(pooled.df).all()
    assert pooled.fraction_of_missing_information == pytest.approx([0.0])
    small = pool([2.0, 2.0, 2.0], [0.25, 0.25, 0.25], df_complete=10)
    assert small.df == pytest.approx([11 / 13 * 10])


def test_degrees_of_freedom_grow_to_those_of_rubin_and_stay_below_the_complete_ones() -> None:
    rng = np.random.default_rng(0)
    estimates, variances = rng.normal(size=(5, 7)), rng.uniform(0.1, 2, size=(5, 7))
    unlimited = pool(estimates, variances)
    share = unlimited.share_due_to_missing
    np.testing.assert_allclose(unlimited.df, 4 / share**2)
    np.testing.assert_allclose(pool(estimates, variances, df_complete=1e12).df, unlimited.df)
    assert (pool(estimates, variances, df_complete=12).df < 12).all()


def test_intervals_cover_under_proper_imputation() -> None:
    """A normal mean with 40% missing, imputed from the exact posterior predictive."""
    rng = np.random.default_rng(0)
    n, n_seen, m, n_repeats = 30, 18, 10, 2000
    covered = 0
    for _ in range(n_repeats):
        seen = rng.normal(size=n_seen)
        variance = (n_seen - 1) * seen.var(ddof=1) / rng.chisquare(n_seen - 1, size=m)
        mean = seen.mean() + np.sqrt(variance / n_seen) * rng.normal(size=m)
        drawn = mean[:, None] + np.sqrt(variance)[:, None] * rng.normal(size=(m, n - n_seen))
        tables = np.hstack([np.tile(seen, (m, 1)), drawn])
        pooled = pool(tables.mean(1), tables.var(1, ddof=1) / n, df_complete=n - 1)
        lower, upper = pooled.interval()
        covered += lower[0] <= 0 <= upper[0]
    assert covered / n_repeats == pytest.approx(0.95, abs=4 * np.sqrt(0.95 * 0.05 / n_repeats))


def _tables(m: int = 4) -> tuple[list[np.ndarray], np.ndarray]:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 3))
    y = X @ [1.0, -2.0, 0.5] + 3 + rng.normal(size=60)
    return [X + 0.2 * rng.normal(size=X.shape) for _ in range(m)], y


def test_linear_regression_has_the_standard_errors_of_statsmodels() -> None:
    tables, y = _tables()
    ours = fit_pooled(LinearRegression(), iter(tables), y)
    theirs = fit_pooled(lambda X, y: sm.OLS(y, sm.add_constant(X)).fit(), tables, y)
    np.testing.assert_allclose(ours.estimate, theirs.estimate)
    np.testing.assert_allclose(ours.within, theirs.within)
    assert ours.df_complete == theirs.df_complete == 56
    assert ours.names == ("intercept", "x0", "x1", "x2")


def test_frames_name_the_coefficients() -> None:
    tables, y = _tables()
    frames = [pd.DataFrame(t, columns=["a", "b", "c"]).assign(y=y) for t in tables]
    pooled = fit_pooled(lambda f: sm.OLS.from_formula("y ~ a + b + c", f).fit(), frames)
    assert pooled.names == ("Intercept", "a", "b", "c")
    skl = fit_pooled(LinearRegression(), [f.drop(columns="y") for f in frames], y)
    np.testing.assert_allclose(skl.summary()["p_value"], pooled.summary()["p_value"])


def test_other_models_need_an_extractor() -> None:
    tables, y = _tables()
    with pytest.raises(TypeError, match=r"standard errors of Ridge are unknown.*extract"):
        fit_pooled(Ridge(), tables, y)
    pooled = fit_pooled(Ridge(), tables, y, extract=lambda f, X, y: (f.coef_, np.full(3, 0.01)))
    assert pooled.within == pytest.approx([0.01] * 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1.0], [0.1]), "at least two completed tables, got 1"),
        (([1.0, 2.0], [0.1]), r"shape \(2, 1\), variances \(1, 1\)"),
        (([1.0, np.nan], [0.1, 0.1]), "not finite"),
        (([1.0, 2.0], [0.1, -0.1]), "variance is negative"),
        ((np.zeros((2, 2, 2)), np.zeros((2, 2, 2))), "shape"),
    ],
)
def test_bad_numbers_are_refused(arguments: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pool(*arguments)
    with pytest.raises(ValueError, match="df_complete"):
        pool([1.0, 2.0], [0.1, 0.1], df_complete=0)
    with pytest.raises(ValueError, match="2 names were given for 1"):
        pool([1.0, 2.0], [0.1, 0.1], names=["a", "b"])
    with pytest.raises(ValueError, match="level"):
        pool([1.0, 2.0], [0.1, 0.1]).interval(1.5)
    with pytest.raises(ValueError, match="nothing to pool"):
        fit_pooled(LinearRegression(), [])


def test_predictions_of_a_linear_regression_follow_rubin() -> None:
    tables, y = _tables()
    new = [table[:5] + 1 for table in tables]
    pooled = predict_pooled(LinearRegression(), iter(tables), y, new_tables=iter(new))
    fits = [sm.OLS(y, sm.add_constant(table)).fit() for table in tables]
    answers = [
        fit.get_prediction(sm.add_constant(table, has_constant="add"))
        for fit, table in zip(fits, new, strict=True)
    ]
    means = np.array([answer.predicted_mean for answer in answers])
    within = np.mean([answer.se_mean**2 for answer in answers], axis=0)
    np.testing.assert_allclose(pooled.estimate, means.mean(0))
    np.testing.assert_allclose(pooled.variance, within + (1 + 1 / 4) * means.var(0, ddof=1))
    assert pooled.df_complete == 56
    by_hand = pool(means, [answer.se_mean**2 for answer in answers], df_complete=56)
    np.testing.assert_allclose(pooled.interval(), by_hand.interval())
    of_outcome = predict_pooled(LinearRegression(), tables, y, new_tables=new, of="outcome")
    noise = np.mean([fit.scale for fit in fits])
    np.testing.assert_allclose(of_outcome.variance - pooled.variance, noise)


def test_probabilities_are_averaged_over_tables() -> None:
    tables, y = _tables()
    labels = np.where(y > y.mean(), "high", "low")
    pooled = predict_pooled(LogisticRegression(), tables, labels)
    by_hand = [LogisticRegression().fit(t, labels).predict_proba(t) for t in tables]
    np.testing.assert_allclose(pooled.estimate, np.mean(by_hand, axis=0))
    np.testing.assert_allclose(pooled.between, np.var(by_hand, axis=0, ddof=1))
    assert pooled.names == ("high", "low")
    assert np.isnan(pooled.standard_error).all()
    with pytest.raises(ValueError, match=r"shape \(60, 2\) make no list"):
        pooled.summary()


def test_predictions_of_formulas_and_of_functions() -> None:
    tables, y = _tables()
    frames = [pd.DataFrame(t, columns=["a", "b", "c"]).assign(y=y) for t in tables]

    def fit(frame: pd.DataFrame):
        return sm.OLS.from_formula("y ~ a + b + c", frame).fit()

    stated = predict_pooled(fit, frames, new_tables=[f.head(3) for f in frames])
    ours = predict_pooled(LinearRegression(), tables, y, new_tables=[t[:3] for t in tables])
    np.testing.assert_allclose(stated.interval(), ours.interval())
    squared = predict_pooled(
        LinearRegression(), tables, y, predict=lambda f, t: (f.predict(t) ** 2, np.ones(len(t)))
    )
    by_hand = [LinearRegression().fit(t, y).predict(t) ** 2 for t in tables]
    np.testing.assert_allclose(squared.estimate, np.mean(by_hand, axis=0))
    np.testing.assert_allclose(squared.within, 1.0)
    plain = predict_pooled(LinearRegression(), tables, y, predict=lambda f, t: f.predict(t))
    assert np.isnan(plain.within).all()


def test_tables_are_read_one_by_one() -> None:
    tables, y = _tables(4)
    alive = []

    def one_by_one(name: str):
        for table in tables:
            alive.append(name)
            yield table

    predict_pooled(LinearRegression(), one_by_one("old"), y, new_tables=one_by_one("new"))
    assert alive == ["old", "new"] * 4


def test_a_single_table_is_its_own_mean_without_a_spread() -> None:
    pooled = pool_predictions([[1.0, 2.0]], [[0.1, 0.2]])
    assert pooled.estimate.tolist() == [1.0, 2.0]
    assert np.isnan(pooled.between).all()
    assert np.isnan(pooled.interval()).all()
    assert np.isnan(pooled.fraction_of_missing_information).all()


def test_predictions_that_do_not_fit_together_are_refused() -> None:
    tables, y = _tables()
    with pytest.raises(ValueError, match="new_tables has only 2"):
        predict_pooled(LinearRegression(), tables, y, new_tables=tables[:2])
    with pytest.raises(ValueError, match="tables has only 2"):
        predict_pooled(LinearRegression(), tables[:2], y, new_tables=tables)
    with pytest.raises(ValueError, match="predictions is empty"):
        predict_pooled(LinearRegression(), [], y)
    with pytest.raises(ValueError, match=r"same shape.*\(1,\), \(2,\)"):
        pool_predictions([[1.0], [1.0, 2.0]])
    with pytest.raises(ValueError, match=r"predictions have shape \(2, 1\), variances \(2, 2\)"):
        pool_predictions([[1.0], [1.0]], [[1.0, 2.0]] * 2)
    with pytest.raises(ValueError, match="not finite"):
        pool_predictions([[1.0], [np.nan]])
    with pytest.raises(ValueError, match="'mean' or 'outcome'"):
        predict_pooled(LinearRegression(), tables, y, of="row")


def test_categories_that_some_tables_lack_are_named() -> None:
    y = np.arange(8.0)
    tables = [pd.DataFrame({"a": list("xyzxyzxy")}), pd.DataFrame({"a": list("xyxyxyxy")})]
    model = make_pipeline(OneHotEncoder(drop="first"), LinearRegression())
    with pytest.raises(ValueError, match=r"other numbers of coefficients.*categories"):
        fit_pooled(model, tables, y)


class TestNests:
    """Tables i, i + M, i + 2M, ... of the same model."""

    def test_one_table_a_nest_is_rubins_rule(self) -> None:
        estimates, variances = np.random.default_rng(0).random((2, 6, 3))
        plain, nested = pool(estimates, variances), pool(estimates, variances, n_nests=6)
        np.testing.assert_array_equal(plain.variance, nested.variance)
        np.testing.assert_array_equal(plain.df, nested.df)

    def test_parts_are_those_of_the_definition(self) -> None:
        # two nests of three tables: (1, 2, 3) and (5, 7, 9), in turn
        pooled = pool([1.0, 5.0, 2.0, 7.0, 3.0, 9.0], [0.5] * 6, n_nests=2)
        assert pooled.estimate.item() == pytest.approx(4.5)
        between, inside = (2.0 - 7.0) ** 2 / 2, (1.0 + 4.0) / 2
        parts = np.array([1.5 * between, (2 / 3) * inside])
        total = 0.5 + parts.sum()
        assert pooled.variance.item() == pytest.approx(total)
        df = 1 / ((parts / total) ** 2 / [1, 4]).sum()
        assert pooled.df.item() == pytest.approx(df)
        assert pooled.share_due_to_missing.item() == pytest.approx(parts.sum() / total)

    def test_intervals_cover_where_tables_of_a_nest_go_together(self) -> None:
        """Each nest has an error of its own, as decoders of bootstrap samples have."""
        rng = np.random.default_rng(1)
        covered = {None: 0, 4: 0}
        for _ in range(1500):
            truth_off = rng.normal(0, 0.3)  # sampling error of the data
            nests = truth_off + rng.normal(0, 1.0, size=4)
            tables = np.tile(nests, 5) + rng.normal(0, 0.3, size=20)
            # an analysis of the data at hand would miss the truth by as much as a nest does
            truth = rng.normal(0, 1.0)
            for n_nests in covered:
                lower, upper = pool(tables, np.full(20, 0.09), n_nests=n_nests).interval()
                covered[n_nests] += bool(lower[0] <= truth <= upper[0])
        assert covered[4] / 1500 == pytest.approx(0.95, abs=0.02)
        assert covered[None] / 1500 < 0.93

    def test_no_difference_inside_or_between_is_no_error(self) -> None:
        pooled = pool([1.0, 2.0, 1.0, 2.0], [0.5] * 4, n_nests=2)
        assert pooled.variance.item() == pytest.approx(0.5 + 1.5 * 0.5)
        same = pool([1.0] * 4, [0.5] * 4, n_nests=2)
        assert same.variance.item() == 0.5
        assert np.isinf(same.df)

    @pytest.mark.parametrize("n_nests", [1, 4])
    def test_nests_that_do_not_divide_the_tables_are_refused(self, n_nests: int) -> None:
        with pytest.raises(ValueError, match=f"into n_nests={n_nests} nests"):
            pool([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [0.5] * 6, n_nests=n_nests)

    def test_predictions_and_models_pass_nests_on(self) -> None:
        rng = np.random.default_rng(2)
        X = rng.normal(size=(40, 2))
        y = X @ [1.0, 2.0] + rng.normal(size=40)
        tables = [X + 0.3 * rng.normal(size=X.shape) for _ in range(6)]
        assert fit_pooled(LinearRegression(), tables, y, n_nests=3).n_nests == 3
        assert predict_pooled(LinearRegression(), tables, y, n_nests=3).n_nests == 3
        assert pool_predictions(rng.random((6, 4)), n_nests=2).inside_nests.shape == (4,)
