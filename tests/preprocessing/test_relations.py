"""Exact linear relations: which are found, what they leave one value for, and what is moved."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from sklearn_qavi.preprocessing._relations import Relations, find_relations

Array = NDArray[np.float64]

NAMES = ["a", "b", "c", "celsius", "fahrenheit", "total", "other"]


def complete(n: int = 300) -> Array:
    """Return amounts with their total, a temperature in two units, and a column apart."""
    rng = np.random.default_rng(0)
    a, b, c = rng.lognormal(3, 1, size=(3, n)).round(2)
    celsius = rng.normal(20, 8, n).round(1)
    total = a + b + c
    return np.column_stack([a, b, c, celsius, 1.8 * celsius + 32, total, rng.normal(size=n)])


def gaps(shape: tuple[int, ...], rate: float = 0.3) -> NDArray[np.bool_]:
    return np.random.default_rng(1).random(shape) < rate


def found_in(X: Array, whole: bool = False) -> list[Relations]:
    return find_relations(X, range(X.shape[1]), [whole] * X.shape[1])


def relations_of(X: Array, whole: bool = False) -> Relations:
    """Return the only group of relations."""
    (relations,) = found_in(X, whole)
    return relations


def imposed(
    relations: Relations,
    drawn: Array,
    values: Array,
    observed: NDArray[np.bool_],
    *,
    whole: bool = True,
) -> Array:
    """Return drawn cells moved, without bounds."""
    n = drawn.shape[-1]
    bounds = np.full(n, -np.inf), np.full(n, np.inf)
    return relations.impose(drawn, values, observed, bounds, whole=whole)


def derive(groups: list[Relations], X: Array, missing: NDArray[np.bool_]) -> tuple[Array, Any]:
    values, derived = np.where(missing, np.nan, X), np.zeros(X.shape, dtype=bool)
    for relations in groups:
        values, more = relations.derive(values, ~missing)
        derived |= more
    return values, derived


@pytest.mark.parametrize("rate", [0.0, 0.3])
def test_sums_and_units_are_found_whatever_is_missing(rate: float) -> None:
    X = complete()
    groups = found_in(np.where(gaps(X.shape, rate), np.nan, X))
    texts = [relations.described(NAMES) for relations in groups]
    assert sorted(texts) == [["fahrenheit = 1.8 * celsius + 32"], ["total = a + b + c"]]
    for relations in groups:
        holds = np.abs(X[:, relations.columns] @ relations.matrix.T - relations.offset)
        assert (holds <= relations.tolerance).all()


def test_two_relations_of_the_same_columns_are_both_found() -> None:
    x, y = np.random.default_rng(0).normal(size=(2, 200))
    relations = relations_of(np.column_stack([x + y, x - y, x, y]))
    assert len(relations.matrix) == 2
    values, derived = relations.derive(
        np.array([[np.nan, np.nan, 1.5, 0.25], [1.75, 1.25, np.nan, np.nan]]),
        np.array([[False, False, True, True], [True, True, False, False]]),
    )
    np.testing.assert_allclose(values, [[1.75, 1.25, 1.5, 0.25]] * 2, rtol=1e-12)
    assert derived.sum() == 4


def test_a_relation_of_wide_incomplete_rows_is_found() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 40))
    X[:, 7] = X[:, [3, 11, 30]] @ [1.0, -2.0, 0.5]
    X[rng.random(X.shape) < 0.2] = np.nan
    assert np.isnan(X).any(axis=1).all()  # no complete row
    assert relations_of(X).described(list(range(40))) == ["3 = 7 + 2 * 11 - 0.5 * 30"]


def nearly(X: Array) -> Array:
    X[0, 5] += 1e-4 * X[:, 5].std()
    return X


def few_rows(X: Array) -> Array:
    return X[:19]


def rarely(X: Array) -> Array:
    """Return two indicators that agree, as both are rare, and their sum with another column."""
    flags = np.zeros((len(X), 2))
    flags[:5] = 1.0
    return np.column_stack([flags, X[:, 6]])


def twice(X: Array) -> Array:
    """Return categories as 0 and 1 that add up to one."""
    flags = np.zeros((len(X), 2))
    flags[::2, 0] = flags[1::2, 1] = 1.0
    return flags


@pytest.mark.parametrize("change", [nearly, few_rows, rarely, twice])
def test_what_is_not_exact_or_not_borne_out_is_no_relation(
    change: Callable[[Array], Array],
) -> None:
    X = complete()[:, [0, 1, 2, 6, 6, 5, 6]] if change is nearly else complete()
    X[:, 3:5] += np.random.default_rng(5).normal(size=(len(X), 2))  # no units left
    assert found_in(change(X)) == []


def test_columns_that_are_huge_or_hardly_known_are_left_out() -> None:
    """The rows that are searched may show nothing of a column; squares may be infinite."""
    rng = np.random.default_rng(0)
    X = np.full((30_000, 4), np.nan)
    X[:, 0] = rng.normal(size=len(X))
    X[1::15, 1] = 2 * X[1::15, 0]  # every fifteenth row from the first on is searched
    X[:, 2] = rng.normal(size=len(X)) * 1e200
    X[:, 3] = 3 * X[:, 2]
    with np.errstate(all="raise"):
        assert found_in(X) == []


def test_patterns_of_many_columns_are_told_apart() -> None:
    """Those of 70 columns whose first 64 are observed, among others."""
    n = 70
    X = np.random.default_rng(0).normal(size=(2 * n, n))
    X[:, 0] = -X[:, 1:].sum(axis=1)
    ones = np.ones(n)
    relations = Relations(
        np.arange(n), ones[None], np.zeros(1), ones, ones, np.full(1, 1e-9), np.zeros(n, dtype=bool)
    )
    missing = np.vstack([np.eye(n, dtype=bool), np.eye(n, dtype=bool)])
    values, derived = derive([relations], X, missing)
    np.testing.assert_array_equal(derived, missing)
    np.testing.assert_allclose(values, X, atol=1e-9)


def test_sums_of_single_precision_are_exact_up_to_its_rounding() -> None:
    X = complete().astype(np.float32)
    X[:, 5] = X[:, 0] + X[:, 1] + X[:, 2]
    texts = [relations.described(NAMES) for relations in found_in(X.astype(np.float64))]
    assert sorted(texts) == [["fahrenheit = 1.8 * celsius + 32"], ["total = a + b + c"]]


def test_cells_with_one_possible_value_get_it() -> None:
    X = complete()
    missing = gaps(X.shape)
    values, derived = derive(found_in(X), X, missing)
    of_total = missing[:, [0, 1, 2, 5]]
    expected = np.zeros(X.shape, dtype=bool)
    expected[:, [0, 1, 2, 5]] = of_total & (of_total.sum(axis=1, keepdims=True) == 1)
    expected[:, 3] = missing[:, 3] & ~missing[:, 4]
    expected[:, 4] = missing[:, 4] & ~missing[:, 3]
    np.testing.assert_array_equal(derived, expected)
    np.testing.assert_allclose(values[derived], X[derived], rtol=1e-11)
    np.testing.assert_array_equal(values[~missing], X[~missing])


def test_rows_that_contradict_a_relation_are_left_alone() -> None:
    """Of two relations for one missing cell, which then differ; and another relation holds."""
    x, y = np.random.default_rng(0).normal(size=(2, 200))
    groups = found_in(np.column_stack([x, 2 * x, x + 5, y, 3 * y]))
    assert len(groups) == 2
    row = np.array([[np.nan, 2.0, 7.0, np.nan, 3.0]])  # x is 1 or 2
    values, derived = derive(groups, row, np.isnan(row))
    np.testing.assert_array_equal(derived, [[False, False, False, True, False]])
    np.testing.assert_allclose(values, [[np.nan, 2.0, 7.0, 1.0, 3.0]])
    drawn = np.array([[1.3, 0.0, 0.0, 0.0, 0.0]])
    for relations in groups:
        kept = imposed(relations, drawn, values, ~np.isnan(row) | derived)
        assert kept[0, 0] == 1.3


def test_other_cells_move_as_little_as_makes_the_relations_hold() -> None:
    X = complete()
    missing = gaps(X.shape, 0.6)
    groups = found_in(X)
    values, derived = derive(groups, X, missing)
    observed = ~missing | derived
    moved = drawn = X + np.random.default_rng(2).normal(size=(4, *X.shape))
    for relations in groups:
        moved = imposed(relations, moved, values, observed)
    completed = np.where(observed, values, moved)
    np.testing.assert_allclose(completed[..., 5], completed[..., :3].sum(-1), rtol=1e-12)
    np.testing.assert_allclose(completed[..., 4], 1.8 * completed[..., 3] + 32, rtol=1e-12)
    # the shortest way to a plane is along its normal, in units of the columns' deviations
    scale = X.std(axis=0)
    step = (moved - drawn) / scale
    for columns, normal in (([0, 1, 2, 5], [1.0, 1.0, 1.0, -1.0]), ([3, 4], [1.8, -1.0])):
        away = np.where(observed[:, columns], 0.0, np.array(normal) * scale[columns])
        for draw in step[..., columns]:
            along = (draw * away).sum(-1, keepdims=True) / np.maximum((away**2).sum(-1), 1e-9)[
                :, None
            ]
            np.testing.assert_allclose(
                np.where(observed[:, columns], 0.0, draw), along * away, atol=1e-9
            )
    np.testing.assert_array_equal(moved[..., 6], drawn[..., 6])


def test_whole_numbers_stay_whole_and_add_up() -> None:
    rng = np.random.default_rng(0)
    parts = rng.poisson([20, 5, 9], size=(200, 3)).astype(float)
    X = np.column_stack([parts, parts.sum(axis=1)])
    relations = relations_of(X, whole=True)
    observed = np.tile([False, False, True, True], (200, 1))
    drawn = X + rng.normal(size=(20, *X.shape))
    moved = imposed(relations, drawn, X, observed)
    completed = np.where(observed, X, moved)
    np.testing.assert_array_equal(completed, np.round(completed))
    np.testing.assert_array_equal(completed[..., 3], completed[..., :3].sum(-1))
    # means need not be whole; from them to whole numbers it is half a step
    means = np.where(observed, X, imposed(relations, drawn, X, observed, whole=False))
    np.testing.assert_allclose(means[..., 3], means[..., :3].sum(-1), rtol=1e-12)
    assert (means != np.round(means)).any()
    assert np.abs(completed - means).max() <= 0.5 + 1e-9


def test_whole_numbers_without_a_whole_answer_stay_as_they_were() -> None:
    """Halves of pairs: y = x / 2 for even x alone, so an odd sum has no whole answer."""
    x = 2.0 * np.random.default_rng(0).integers(0, 50, size=200)
    z = np.random.default_rng(1).integers(0, 50, size=200).astype(float)
    X = np.column_stack([x, z, x / 2 + z / 2])
    (relations,) = find_relations(X, range(3), [True, True, False])
    values = np.array([[np.nan, np.nan, 3.3]])
    observed = np.array([[False, False, True]])
    drawn = np.array([[2.0, 4.0, 0.0]])
    np.testing.assert_array_equal(imposed(relations, drawn, values, observed), drawn)


def test_cells_stop_at_their_bounds_and_others_make_up_for_it() -> None:
    rng = np.random.default_rng(0)
    parts = rng.normal(size=(200, 3))
    relations = relations_of(np.column_stack([parts, parts.sum(axis=1)]))
    values = np.array([[np.nan, np.nan, np.nan, 6.0]] * 2)
    observed = ~np.isnan(values)
    bounds = np.array([0.0, 0.0, 0.0, -9.0]), np.array([1.0, 9.0, 9.0, 9.0])
    drawn = np.array([[3.0, 2.0, 4.0, 0.0], [1.0, 9.0, 1.0, 0.0]])
    moved = relations.impose(drawn, values, observed, bounds, whole=True)
    np.testing.assert_allclose(moved[:, :3].sum(axis=1), 6.0)
    for bound, above in zip(bounds, (1, -1), strict=True):
        assert (above * (moved - bound)[:, :3] >= 0).all()
    assert moved[0, 0] == 1.0
    impossible = np.zeros(4), np.ones(4)  # at most 3 in all
    kept = relations.impose(drawn, values, observed, impossible, whole=True)
    np.testing.assert_array_equal(kept, drawn)


def test_parts_that_do_not_fit_each_other_are_refused() -> None:
    relations = found_in(complete())[0]
    parts = dict(vars(relations))
    for name in parts:
        with pytest.raises(ValueError, match="relations"):
            Relations(**{**parts, name: parts[name][:-1]})
