"""From a user's table to numbers with a mask, and back."""

from ._rows import select_training_rows
from ._table import EncodedTable, TableEncoder, check_numeric_columns

__all__ = ["EncodedTable", "TableEncoder", "check_numeric_columns", "select_training_rows"]
