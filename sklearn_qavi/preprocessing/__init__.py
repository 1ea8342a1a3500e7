"""From a user's table to numbers with a mask, and back."""

from ._frames import Frame, as_frame, build_container, check_unique_names, is_dataframe
from ._rows import select_training_rows
from ._schema import ColumnSchema
from ._table import EncodedTable, TableEncoder

__all__ = [
    "ColumnSchema",
    "EncodedTable",
    "Frame",
    "TableEncoder",
    "as_frame",
    "build_container",
    "check_unique_names",
    "is_dataframe",
    "select_training_rows",
]
