"""From a user's table or images to numbers with a mask, and back."""

from ._frames import Frame, as_frame, build_container, check_unique_names, is_dataframe
from ._images import ImageBatch, ImageEncoder, as_array, find_image_shape
from ._rows import select_training_rows
from ._schema import ColumnSchema
from ._table import EncodedTable, TableEncoder

__all__ = [
    "ColumnSchema",
    "EncodedTable",
    "Frame",
    "ImageBatch",
    "ImageEncoder",
    "TableEncoder",
    "as_array",
    "as_frame",
    "build_container",
    "check_unique_names",
    "find_image_shape",
    "is_dataframe",
    "select_training_rows",
]
