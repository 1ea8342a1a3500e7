"""Exact linear relations between columns: a total beside its parts, one column in two units."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import qr

from ._columns import Array

__all__ = ["Relations", "find_relations"]

Mask = NDArray[np.bool_]

_MOST_TERMS = 8  # of a relation, besides the column that it gives
_SEARCHED_ROWS = 2000
_LEAST_ROWS = 20  # that bear a relation out, in each of its columns
_LEAST_VALUES = 3  # distinct ones of a column: indicators may agree by chance
_LARGEST = 1e100  # number whose square, and the squares' sum, are no infinities
_EPSILON, _EPSILON_SINGLE = 1e-10, 1e-6  # what rounding may do to sums, as a share of their terms
_DIGITS = 13  # of what is computed, from the largest value of its column on
_CLOSE = 1e-12  # share of a coefficient that rounding may change
_SOLVED = 1e-9  # how far from one the share of a cell is that the others give
_ROUNDS = 3  # in which cells stop at their bounds
_SMALL = 1e-6  # share of a term that counts as none

_Found: TypeAlias = tuple[dict[int, float], float, float]
"""Coefficients by column, what they add up to, and what rounding may change that by."""


@dataclass(frozen=True)
class Relations:
    """Relations that all rows of `fit` have, ``matrix @ x = offset``, which share columns.

    Parameters
    ----------
    columns : ndarray of int of shape (K,)
        Positions of the columns that take part, among all D.
    matrix : ndarray of shape (R, K)
        Coefficients. The largest term of each line is about one.
    offset : ndarray of shape (R,)
        What the terms add up to.
    scale : ndarray of shape (K,)
        Standard deviations of the columns.
    size : ndarray of shape (K,)
        Largest absolute values of the columns.
    tolerance : ndarray of shape (R,)
        What rounding may change a sum by.
    is_whole : bool ndarray of shape (K,)
        Columns of whole numbers.
    """

    columns: NDArray[np.intp]
    matrix: Array
    offset: Array
    scale: Array
    size: Array
    tolerance: Array
    is_whole: Mask

    def __post_init__(self) -> None:
        of_columns, of_lines = self.columns.shape, self.offset.shape
        shapes = [self.scale.shape, self.size.shape, self.is_whole.shape]
        if shapes != [of_columns] * 3 or self.matrix.shape != of_lines + of_columns:
            raise ValueError("the parts of the relations do not fit each other")
        if self.tolerance.shape != of_lines:
            raise ValueError("relations need a tolerance each")

    def derive(self, values: Array, observed: Mask) -> tuple[Array, Mask]:
        """Return what the observed cells of a row leave only one value for.

        Parameters
        ----------
        values : ndarray of shape (N, D)
            In original units.
        observed : bool ndarray of shape (N, D)
            Which of them are known.

        Returns
        -------
        values : ndarray of shape (N, D)
            With the derived ones.
        derived : bool ndarray of shape (N, D)
            Where they are.
        """
        out, derived = values.copy(), np.zeros(values.shape, dtype=bool)
        for rows, seen in _patterns(observed[:, self.columns]):
            part, scale = self.matrix[:, ~seen], self.scale[~seen]
            inverse = np.linalg.pinv(part * scale, rcond=_SOLVED)
            share = np.einsum("kr,rk->k", inverse, part * scale)
            single = np.abs(share - 1.0) < _SOLVED  # cells that all solutions agree on
            if not single.any():
                continue
            known = values[np.ix_(rows, self.columns[seen])]
            sums = self.offset - known @ self.matrix[:, seen].T
            x = _least(part, scale, sums)
            fits = (np.abs(sums - x @ part.T) <= self.tolerance).all(axis=1)
            cells = np.ix_(rows[fits], self.columns[~seen][single])
            out[cells] = _rounded(x[fits][:, single], self.size[~seen][single])
            derived[cells] = True
        return out, derived

    def impose(
        self,
        drawn: Array,
        values: Array,
        observed: Mask,
        bounds: tuple[Array, Array],
        *,
        whole: bool,
    ) -> Array:
        """Return drawn cells moved as little as makes the relations hold.

        The distance is that of standardized columns. Cells that would leave their bounds stop
        there, and the others make up for it. Rows whose observed cells contradict the relations
        stay as they are, and so do those for which a few rounds find no answer.

        Parameters
        ----------
        drawn : ndarray of shape (..., N, D)
            Values of the missing cells, in original units; what stands elsewhere is ignored.
        values : ndarray of shape (N, D)
            Values of the observed cells.
        observed : bool ndarray of shape (N, D)
            Which those are. What they leave only one value for is among them, see `derive`.
        bounds : tuple of ndarray of shape (D,)
            What missing cells stay within.
        whole : bool
            Round columns of whole numbers.
        """
        mine, shape = self.columns, (*drawn.shape[:-1], len(self.columns))
        known = np.broadcast_to(values[:, mine], shape).reshape(-1, len(mine))
        seen = np.broadcast_to(observed[:, mine], shape).reshape(-1, len(mine))
        lower, upper = (part[mine] for part in bounds)
        if whole:
            lower = np.where(self.is_whole, np.ceil(lower), lower)
            upper = np.where(self.is_whole, np.floor(upper), upper)
        before = drawn[..., mine].reshape(-1, len(mine))
        after, holds = self._moved(before, known, seen, (lower, upper), whole, _ROUNDS)
        out = drawn.copy()
        out[..., mine] = np.where(holds[:, None], after, before).reshape(shape)
        return out

    def _moved(
        self,
        drawn: Array,
        values: Array,
        observed: Mask,
        bounds: tuple[Array, Array],
        whole: bool,
        rounds: int,
    ) -> tuple[Array, Mask]:
        """Return rows (n, K) of the columns with drawn cells moved, and for which that worked."""
        out, holds = np.where(observed, values, drawn), np.zeros(len(drawn), dtype=bool)
        for rows, seen in _patterns(observed):
            part, known = self.matrix[:, ~seen], out[rows]
            sums = self.offset - known[:, seen] @ self.matrix[:, seen].T
            before = known[:, ~seen]
            after = before + _least(part, self.scale[~seen], sums - before @ part.T)
            is_whole = self.is_whole[~seen] & whole
            if is_whole.any():
                after = _whole(after, part, sums, is_whole)
            fits = (np.abs(sums - after @ part.T) <= self.tolerance).all(axis=1)
            clipped = np.clip(after, *(bound[~seen] for bound in bounds))
            inside = clipped == after
            holds[rows] = fits & inside.all(axis=1)
            out[np.ix_(rows, ~seen)] = after
            again = fits & ~inside.all(axis=1)
            if not again.any() or not rounds:
                continue
            left, stopped = rows[again], observed[rows[again]]
            stopped[:, ~seen] = ~inside[again]
            fixed = values[left]
            fixed[:, ~seen] = clipped[again]
            out[left], holds[left] = self._moved(
                drawn[left], fixed, stopped, bounds, whole, rounds - 1
            )
        return out, holds

    def described(self, names: Sequence[object]) -> list[str]:
        """Return the relations as text, each for the column that gives the plainest one."""
        lines = []
        for matrix, offset in zip(self.matrix, self.offset, strict=True):
            places = np.flatnonzero(matrix)
            texts = []
            for first in places:
                terms = [
                    (-float(matrix[k] / matrix[first]), str(names[self.columns[k]]))
                    for k in places
                    if k != first
                ]
                total = _sum([*terms, (float(offset / matrix[first]), "")])
                texts.append(f"{names[self.columns[first]]} = {total}")
            lines.append(min(texts, key=lambda text: (text.count("-"), len(text))))
        return lines


def _patterns(observed: Mask) -> Iterator[tuple[NDArray[np.intp], Mask]]:
    """Yield the rows (n,) that have the same cells observed, and which these are."""
    incomplete = np.flatnonzero(~observed.all(axis=1))
    if len(incomplete) == 0:
        return
    packed = np.packbits(observed[incomplete], axis=1)
    packed = np.pad(packed, ((0, 0), (0, -packed.shape[1] % 8))).view(np.uint64)
    _, first, place = np.unique(packed, axis=0, return_index=True, return_inverse=True)
    order = np.argsort(place.ravel(), kind="stable")
    ends = np.bincount(place.ravel()).cumsum()
    for k, rows in zip(first, np.split(incomplete[order], ends[:-1]), strict=True):
        yield rows, observed[incomplete[k]]


def _least(part: Array, scale: Array, sums: Array) -> Array:
    """Return the x (..., K) of least size, in units of a scale (K,), with sums (..., R).

    ``part`` are the coefficients, (R, K).
    """
    inverse = np.linalg.pinv(part * scale, rcond=_SOLVED)
    solution: Array = (sums @ inverse.T) * scale
    return solution


def _whole(x: Array, part: Array, sums: Array, is_whole: Mask) -> Array:
    """Return x (..., K) with sums (..., R), whole where it is to be; some have no such answer."""
    # what rounding changes is made up for by as many columns as there are relations
    order = qr(part * np.where(is_whole, _SMALL, 1.0), mode="r", pivoting=True)[1]
    rest, free = np.sort(order[: len(part)]), np.sort(order[len(part) :])
    out = x.copy()
    out[..., free] = np.where(is_whole[free], np.round(x[..., free]), x[..., free])
    left = sums - out[..., free] @ part[:, free].T
    out[..., rest] = left @ np.linalg.pinv(part[:, rest], rcond=_SOLVED).T
    rounded = np.round(out[..., rest]) + 0.0
    out[..., rest] = np.where(is_whole[rest], rounded, out[..., rest])
    return out


def find_relations(
    values: Array, columns: Sequence[int], is_whole: Sequence[bool]
) -> list[Relations]:
    """Return the exact linear relations between some columns, those that share columns together.

    For each column, terms are added one by one, each time the column that goes best with what the
    others leave over, until nothing is left over. A relation has to hold in all rows that have its
    columns, and has to be borne out by 20 rows of each column that are not at its usual value.

    Parameters
    ----------
    values : ndarray of shape (N, D)
        In original units, NaN where missing.
    columns : sequence of int
        Those that may take part.
    is_whole : sequence of bool
        For each of them whether it holds whole numbers.
    """
    searched = values[:: max(1, len(values) // _SEARCHED_ROWS)]
    able = [j for j in columns if _varies(searched[:, j])]
    z = searched[:, able]
    z = (z - np.nanmean(z, axis=0)) / np.nanstd(z, axis=0)
    found: list[_Found] = []
    left = _suspects(z)
    correlation = _correlation(z) if left else z
    for target in list(left):
        others = [k for k in left if k != target]
        chosen = _terms_of(z, correlation, target, others)
        relation = None if chosen is None else _checked(values, able, target, chosen)
        if relation is not None:
            found.append(relation)
            left.remove(target)
    whole = dict(zip(columns, is_whole, strict=True))
    return [_together(part, values, whole) for part in _sharing(found)]


def _sharing(found: Sequence[_Found]) -> list[list[_Found]]:
    """Return relations in groups that share columns."""
    groups: list[list[_Found]] = []
    for relation in found:
        mine = [
            group for group in groups if any(not relation[0].keys().isdisjoint(r[0]) for r in group)
        ]
        groups = [group for group in groups if group not in mine]
        groups.append([*(r for group in mine for r in group), relation])
    return groups


def _together(found: Sequence[_Found], values: Array, whole: Mapping[int, bool]) -> Relations:
    """Return relations that share columns."""
    places = sorted({j for terms, *_ in found for j in terms})
    matrix = np.array([[terms.get(j, 0.0) for j in places] for terms, *_ in found])
    scale = np.nanstd(values[:, places], axis=0)
    unit = np.abs(matrix * scale).max(axis=1)  # so that no relation is small beside others
    return Relations(
        columns=np.array(places, dtype=np.intp),
        matrix=matrix / unit[:, None],
        offset=np.array([offset for _, offset, _ in found]) / unit,
        scale=scale,
        size=np.nanmax(np.abs(values[:, places]), axis=0),
        tolerance=np.array([tolerance for *_, tolerance in found]) / unit,
        is_whole=np.array([whole[j] for j in places], dtype=bool),
    )


def _sum(terms: Sequence[tuple[float, str]]) -> str:
    """Return the sum of numbers and multiples of what is named as text, without what is zero."""
    text = ""
    for factor, name in terms:
        if factor == 0:
            continue
        sign = ("-" if factor < 0 else "") if not text else (" - " if factor < 0 else " + ")
        size = f"{abs(factor):.9g}"
        term = f"{size} * {name}" if name and size != "1" else name or size
        text += sign + term
    return text or "0"


def _varies(column: Array) -> bool:
    """Return whether enough rows have another value than the most frequent one."""
    distinct, counts = np.unique(column[~np.isnan(column)], return_counts=True)
    if len(counts) < _LEAST_VALUES or int(counts.sum() - counts.max()) < _LEAST_ROWS:
        return False
    return bool(max(abs(distinct[0]), abs(distinct[-1])) < _LARGEST)


def _suspects(z: Array) -> list[int]:
    """Return the columns that may have a part in a relation: all, if too few rows are complete."""
    n_columns = z.shape[1]
    if n_columns < 2:
        return []
    complete = z[~np.isnan(z).any(axis=1)]
    if len(complete) < 2 * n_columns + _LEAST_ROWS:
        return list(range(n_columns))
    centred = complete - complete.mean(axis=0)
    _, singular, directions = np.linalg.svd(centred, full_matrices=False)
    constant = directions[singular <= _EPSILON_SINGLE * singular[0]]
    return np.flatnonzero((np.abs(constant) > _SMALL).any(axis=0)).tolist()


def _correlation(z: Array) -> Array:
    """Return the correlation of each two columns over the rows that have both, (K, K)."""
    seen = (~np.isnan(z)).astype(np.float64)
    filled = np.where(seen > 0, z, 0.0)
    count = np.maximum(seen.T @ seen, 1.0)
    product, square = filled.T @ filled, (filled**2).T @ seen
    mean = filled.T @ seen / count  # of the first column, over the rows that have the second too
    variance = square / count - mean**2
    covariance = product / count - mean * mean.T
    correlation: Array = covariance / np.sqrt(np.maximum(variance * variance.T, 1e-300))
    return correlation


def _terms_of(z: Array, correlation: Array, target: int, others: Sequence[int]) -> list[int] | None:
    """Return columns that the target may be an exact sum of, None if there seem to be none."""
    seen = ~np.isnan(z)
    chosen: list[int] = []
    rows = seen[:, target]
    candidates = list(others)
    for _ in range(min(_MOST_TERMS, len(others))):
        match = correlation[candidates, target]
        if chosen:
            among = correlation[chosen][:, chosen]
            of_chosen = np.linalg.lstsq(among, correlation[chosen, target], rcond=_SMALL)[0]
            match = match - correlation[candidates][:, chosen] @ of_chosen
        chosen.append(candidates.pop(int(np.abs(match).argmax())))
        rows = rows & seen[:, chosen[-1]]
        if rows.sum() < _LEAST_ROWS + len(chosen):
            return None
        design = np.column_stack([z[rows][:, chosen], np.ones(rows.sum())])
        weights = np.linalg.lstsq(design, z[rows, target], rcond=None)[0]
        if np.abs(z[rows, target] - design @ weights).max() <= _EPSILON_SINGLE:
            return [k for k, w in zip(chosen, weights, strict=False) if abs(w) > _SMALL]
    return None


def _checked(
    values: Array, able: Sequence[int], target: int, chosen: Sequence[int]
) -> _Found | None:
    """Return coefficients by column, their sum and what rounding may do to it, if all rows agree.

    None if they do not.
    """
    columns = [able[target], *(able[k] for k in chosen)]
    rows = ~np.isnan(values[:, columns]).any(axis=1)
    x = values[rows][:, columns]
    if not chosen or not all(_varies(column) for column in x.T):
        return None
    center, scale = x.mean(axis=0), x.std(axis=0)
    z = (x - center) / scale
    weights, *_ = np.linalg.lstsq(z[:, 1:], z[:, 0], rcond=None)
    single = _is_single(x)
    coefficients = _shortest(np.r_[1.0, -weights * scale[0] / scale[1:]], single)
    sums = x @ coefficients
    offset = float(np.median(sums))
    terms = (np.abs(x) * np.abs(coefficients)).max(axis=0)
    allowed = (_EPSILON_SINGLE if single else _EPSILON) * float(terms.sum())
    if np.abs(sums - offset).max() > allowed:
        return None
    offset = float(_snapped(_rounded(np.array([offset]), terms.max()), single)[0])
    if abs(offset) < allowed:
        offset = 0.0
    by_column = dict(zip(columns, coefficients.tolist(), strict=True))
    return by_column, offset, 2.0 * allowed


def _is_single(x: Array) -> bool:
    """Return whether numbers, not all of them whole, came in single precision."""
    with np.errstate(over="ignore"):
        return bool((x == x.astype(np.float32)).all() and (x != np.round(x)).any())


def _rounded(numbers: Array, size: Array) -> Array:
    """Return numbers without the digits that floats of a size leave open."""
    digits = _DIGITS - np.ceil(np.log10(np.maximum(size, 1e-300)))
    fine, coarse = 10.0 ** np.maximum(digits, 0.0), 10.0 ** np.maximum(-digits, 0.0)
    rounded: Array = np.rint(numbers * fine / coarse) * coarse / fine
    return rounded + 0.0  # no negative zero


def _shortest(coefficients: Array, single: bool) -> Array:
    """Return coefficients divided by the one that leaves the most of them short decimals."""
    quotients = coefficients / coefficients[:, None]
    snapped = _snapped(quotients, single)
    n_short = (snapped == _short(quotients, single)).sum(axis=1)
    best: Array = snapped[n_short.argmax()]
    return best


def _snapped(numbers: Array, single: bool) -> Array:
    """Return short decimals in place of numbers that are as near to them as rounding can tell."""
    short, allowed = _short(numbers, single), _EPSILON_SINGLE if single else _CLOSE
    return np.where(np.abs(short - numbers) <= allowed * np.abs(numbers), short, numbers)


def _short(numbers: Array, single: bool) -> Array:
    """Return numbers to some digits."""
    digits = 5 if single else 9
    short: Array = np.vectorize(lambda x: float(f"{x:.{digits}g}"), otypes=[np.float64])(numbers)
    return short
