"""A table of numbers in the units of a model and back, a part of the table at a time."""

import warnings
from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ._plan import row_slices
from ._summaries import CurvedColumn
from .exceptions import ExtremeValueWarning, InferenceDivergedError
from .generative import GenerativeModel
from .preprocessing import EncodedTable, Frame, TableEncoder

__all__ = ["ModelUnits"]

_FAR = 100.0  # standard deviations beyond which an observed value is taken as this far


@dataclass(frozen=True)
class ModelUnits:
    """What a table looks like to a trained model.

    Parameters
    ----------
    encoder : TableEncoder
        What read the columns.
    model : GenerativeModel
        Has ``standardize`` and ``unstandardize``.
    """

    encoder: TableEncoder
    model: GenerativeModel

    def of_table(self, table: EncodedTable) -> NDArray[np.float64]:
        """Return numbers (N, D) in the model's units; those far out are taken as less far."""
        values = self._standardized(table)
        return np.where(self._far(values), np.copysign(_FAR, values), values)

    def warn_far(self, table: EncodedTable) -> None:
        """Warn of observed numbers that are taken as less far out than they are.

        Warns
        -----
        ExtremeValueWarning
            If there are any beyond those of `fit`.
        """
        unusual = _CellsFound(table.values.shape[1])
        for part in row_slices(*table.values.shape):
            some = table.take(part)
            unusual.add(self._far(self._standardized(some)) & ~self.encoder.was_seen(some))
        if unusual.n_rows:
            warnings.warn(
                f"Column(s) {self._names_of(unusual)} have observed values more than "
                f"{_FAR:.0f} standard deviations from the training mean, in "
                f"{unusual.n_rows} row(s). Inference takes them as {_FAR:.0f}; they "
                "are returned unchanged. Check their units.",
                ExtremeValueWarning,
                stacklevel=5,
            )

    def original(
        self,
        values: NDArray[np.float64],
        table: EncodedTable,
        *,
        whole: bool,
        move: bool = True,
    ) -> NDArray[np.float64]:
        """Return the model's values (..., N, D) for missing cells in original units.

        ``whole`` rounds columns of whole numbers, ``move`` makes relations between columns hold.
        """
        imputed = self.encoder.from_model(self.model.unstandardize(values), whole=whole)
        return self.encoder.keep_relations(imputed, table, whole=whole, move=move)

    def fill(
        self,
        values: NDArray[np.float64],
        table: EncodedTable,
        frame: Frame,
        *,
        whole: bool,
        move: bool,
    ) -> None:
        """Put values (N, D) of the model into original units, in place.

        ``frame`` is what the table was read from, whose types say what is too large.

        Raises
        ------
        InferenceDivergedError
            If a value of a missing cell is not finite in the column's type.
        """
        bad, missing = _CellsFound(values.shape[1]), table.missing
        for part in row_slices(len(values), values.shape[1]):
            with np.errstate(over="ignore"):  # what overflows is named below
                values[part] = self.original(values[part], table.take(part), whole=whole, move=move)
            bad.add(self.encoder.overflows(frame, values[part], missing[part]))
        if bad.n_rows:
            raise InferenceDivergedError(
                f"Imputed values of column(s) {self._names_of(bad)} are not finite in "
                f"{bad.n_rows} row(s). Set min_value and max_value, or check the "
                "decoder's output for these rows."
            )

    def curved_columns(self) -> list[CurvedColumn]:
        """Return the columns whose mean is not the model's mean in original units."""
        model, n = self.model, len(self.encoder.modelled)
        location = model.unstandardize(np.zeros(n))
        scale = model.unstandardize(np.ones(n)) - location
        return [
            CurvedColumn(j, column, float(location[j]), float(scale[j]))
            for j, column in enumerate(self.encoder.modelled)
            if not column.is_linear
        ]

    def _standardized(self, table: EncodedTable) -> NDArray[np.float64]:
        with np.errstate(over="ignore", invalid="ignore"):
            values: NDArray[np.float64] = self.model.standardize(table.values)
        return values

    def _far(self, values: NDArray[np.float64]) -> NDArray[np.bool_]:
        is_number = np.array([n is None for n in self.encoder.n_categories_], dtype=bool)
        return is_number & (np.abs(values) > _FAR)

    def _names_of(self, found: "_CellsFound") -> list[Hashable]:
        """Return the names of the modelled columns that have one of these cells."""
        return [self.encoder.modelled[j].name for j in np.flatnonzero(found.columns)]


class _CellsFound:
    """In which columns, and in how many rows, cells were found; told part by part."""

    def __init__(self, n_columns: int) -> None:
        self.columns = np.zeros(n_columns, dtype=bool)
        self.n_rows = 0

    def add(self, cells: NDArray[np.bool_]) -> None:
        """Add the cells (N, D) of other rows."""
        self.columns |= cells.any(axis=0)
        self.n_rows += int(cells.any(axis=1).sum())
